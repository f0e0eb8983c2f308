"""Options that are addresses, such as s3://bucket/folder: commands see local folders instead."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from anomaly_cli.config.names import MODEL_FILE, ONNX_SUFFIX
from anomaly_cli.errors import CheckpointError, OutputError
from anomaly_cli.files.address import Address, is_address
from anomaly_cli.files.atomic import SETTINGS_FILE
from anomaly_cli.progress import Progress

Config = TypeVar("Config")

# Beside a model file; a folder of a training holds more, which is large.
_MODEL_FILES = (MODEL_FILE, "calibrations.safetensors", SETTINGS_FILE)


def with_local_inputs(config: Config, progress: Progress) -> Config:
    """Fetch what the settings name by address, and name its copy instead.

    Models, data sets, and images that are not read one by one are fetched. Nothing happens if there
    are no addresses.

    Raises:
        CheckpointError: there is no such model.
        DataError: there is no such object or folder.
        StorageError: the storage cannot be used.
    """
    local: dict[str, Any] = {
        name: _fetch(name, value, progress)
        for name in ("model", "runs", "data")
        if isinstance(value := getattr(config, name, None), Address)
    }
    images = getattr(config, "images", ())
    if any(map(is_address, images)) and not getattr(config, "is_in_bucket", False):
        local["images"] = tuple(_fetch_text(text, progress) for text in images)
    settings: Any = config
    return replace(settings, **local) if local else config


def _fetch(name: str, address: Address, progress: Progress) -> Path:
    from anomaly_cli.files.fetch import fetch

    if name == "runs":
        return fetch(address, progress, names=_MODEL_FILES, depth=2, kind=CheckpointError)
    if name == "data":
        return fetch(address, progress)
    if address.suffix == ONNX_SUFFIX:
        return fetch(address, progress, kind=CheckpointError)
    is_file = address.suffix == Path(MODEL_FILE).suffix
    folder = address.parent if is_file else address
    names = (address.name, *_MODEL_FILES) if is_file else _MODEL_FILES
    copy = fetch(folder, progress, names=names, depth=1, kind=CheckpointError)
    return copy / address.name if is_file else copy


def _fetch_text(text: str, progress: Progress) -> str:
    from anomaly_cli.files.fetch import fetch

    return str(fetch(Address(text), progress)) if is_address(text) else text


@contextmanager
def with_local_output(config: Config, *, keeps: str | None = None) -> Iterator[Config]:
    """Name a working folder instead of an address as output, and upload its files at the end.

    They are uploaded after an error, too, as a local folder would keep them. Those of a run that
    goes on with earlier files are also uploaded now and then.

    Args:
        config: settings with an `output`.
        keeps: folder in the output that the run goes on with, and so is brought to the working
            folder; empty: all of it. None: the run begins anew.

    Raises:
        OutputError: the bucket does not exist, or cannot be written.
        StorageError: the storage cannot be used.
    """
    settings: Any = config
    if not isinstance(settings.output, Address):
        yield config
        return
    from anomaly_cli.files.remote_output import open_bucket

    with open_bucket(settings.output) as destination:
        if keeps is None:
            destination.pull()
        else:
            destination.pull_all(keeps)
        meanwhile = nullcontext() if keeps is None else destination.publishing_meanwhile()
        try:
            with meanwhile:
                yield replace(settings, output=destination.folder)
        except OutputError:
            raise
        except BaseException:
            destination.publish_all()
            raise
        destination.publish_all()
