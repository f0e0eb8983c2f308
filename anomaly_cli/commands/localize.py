"""`localize`: write anomaly maps, heatmaps, overlays, masks and a manifest of images."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast

from anomaly_cli.commands.merge import merge_at
from anomaly_cli.commands.shards import (
    Part,
    cut_shard,
    open_shard_folder,
    other_run,
    whole_run,
)
from anomaly_cli.config.commands import LocalizeConfig
from anomaly_cli.config.toml import ResolvedSettings, write_settings
from anomaly_cli.config.values import Shard
from anomaly_cli.data.datasets import DATASETS
from anomaly_cli.data.mvtec import place_in_layout
from anomaly_cli.detector.prediction import KINDS, Prediction, place
from anomaly_cli.detector.reading import ordered_map
from anomaly_cli.detector.team import Team
from anomaly_cli.errors import ConfigError, DataError, OutputError, name_shortage
from anomaly_cli.files.address import Address
from anomaly_cli.files.destination import Destination
from anomaly_cli.files.images import (
    MANIFEST_FILE,
    ImageFile,
    RGBImage,
    output_stems,
    refuse_same,
    write_png,
)
from anomaly_cli.files.lists import expand_file_lists
from anomaly_cli.files.lock import lock_path, open_output_folder
from anomaly_cli.files.manifest import Record, open_manifest, read_manifest
from anomaly_cli.files.open_destination import open_destination
from anomaly_cli.files.read import read_image
from anomaly_cli.files.unread import find_and_tell_others, find_remote_and_tell, name_pages
from anomaly_cli.pictures.latents import SHEET_TILE, contact_sheet, latent_overlay
from anomaly_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from anomaly_cli.detector.detector import Detector
    from anomaly_cli.detector.latents import ImageLatents, LatentSelection
    from anomaly_cli.export.runtime import OnnxDetector

AnyDetector: TypeAlias = "Detector | OnnxDetector"

SCHEMA_VERSION = 1
SHEET_LATENTS = 8  # at most on a contact sheet, if all latents are requested


class LocalizationResult(NamedTuple):
    """The result of `localize`."""

    manifest: Path
    records: list[Record]  # in the order of the images
    failed: int  # images that could not be read

    @property
    def anomalous(self) -> int:
        """Number of images whose score exceeds the threshold."""
        return sum(bool(record.get("is_anomalous")) for record in self.records)


def run(
    config: LocalizeConfig, resolved: ResolvedSettings | None = None, progress: Progress = SILENT
) -> LocalizationResult:
    """Localize anomalies in every image, or those of a shard; write pictures and the manifest.

    An image that cannot be read is reported and skipped; the others are written.
    """
    with open_destination(config.output) as destination:
        return _run(config, destination, resolved, progress)


def _run(
    config: LocalizeConfig,
    destination: Destination,
    resolved: ResolvedSettings | None,
    progress: Progress,
) -> LocalizationResult:
    named = [] if config.dataset else _find_images(config, progress)
    config = replace(config, output=destination.folder)
    detector, selection = _open(config, progress)
    files = named or _find_test_images(config, detector)
    stems = _name_outputs(config, files)
    part = _find_part(config, files, detector)
    own = files[part.start : part.stop]
    if named and not config.is_in_bucket:  # objects are opened when it is their turn
        name_pages([file.path for file in own], progress)
    destination.pull(lambda name: config.resume and name in {part.manifest, MANIFEST_FILE})
    with _open_output(config, part):
        records = _read_done(config, part, own, detector) if config.resume else []
        writer = Writer(config, detector, stems[part.start : part.stop][len(records) :], selection)
        manifest = config.output / part.manifest
        with open_manifest(manifest, [*part.head, *records]) as lines, lock_path(manifest):
            write_settings(config.output, resolved)
            destination.publish()
            rest = _localize_rest(own, len(records), writer, destination, progress)
            with _publishing(destination):
                for record in rest:
                    records.append(record)
                    lines.add(record)
                    destination.publish(is_due=False)
    return _result(destination.final(manifest), records)


@contextmanager
def _publishing(destination: Destination) -> Iterator[None]:
    """Publish the manifest at the end, also after an error that is not the destination's own."""
    try:
        yield
    except OutputError:
        raise
    except BaseException:
        destination.publish()
        raise
    destination.publish()


def run_in_team(
    config: LocalizeConfig,
    team: Team,
    resolved: ResolvedSettings | None = None,
    progress: Progress = SILENT,
) -> LocalizationResult:
    """Localize a shard in each process of a launcher; the first merges the manifests.

    A team that was restarted goes on with what it has done.

    Returns:
        The result of all images in the first process, and that of the shard in the others.
    """
    if config.shard is not None:
        raise ConfigError(
            "--shard is for runs without a launcher, which gives each process its own"
        )
    config = replace(config, shard=Shard(team.rank + 1, team.size))
    if team.is_restarted:
        config = replace(config, resume=True, overwrite=False)
    result = run(config, resolved, progress)
    team.gather(None)  # waits for the other shards
    if team.rank > 0:
        return result
    with open_destination(config.output) as destination:
        merged = merge_at(destination).path
        return _result(destination.final(merged), read_manifest(merged))


def _result(manifest: Path, records: list[Record]) -> LocalizationResult:
    return LocalizationResult(manifest, records, sum("error" in r for r in records))


def _find_part(config: LocalizeConfig, files: Sequence[ImageFile], detector: "AnyDetector") -> Part:
    if config.shard is None:
        return whole_run(len(files))
    names = [file.relative.as_posix() for file in files]
    common = Writer(config, detector, [], None).common
    return cut_shard(config.shard, names, config.map.batch_size, common)


def _open_output(config: LocalizeConfig, part: Part) -> AbstractContextManager[None]:
    if config.shard is not None:
        return open_shard_folder(
            config.output, part, overwrite=config.overwrite, resume=config.resume
        )
    is_begun = config.resume and (config.output / part.manifest).is_file()
    return open_output_folder(config.output, overwrite=config.overwrite or is_begun)


def _open(
    config: LocalizeConfig, progress: Progress
) -> tuple["AnyDetector", "LatentSelection | None"]:
    """Open the model with the engine of the settings, and read the choice of latents."""
    if config.is_exported:
        from anomaly_cli.export.runtime import OnnxDetector  # noqa: PLC0415 - needs an extra

        return OnnxDetector.open(config.model, config.map), None
    # Loads torch, which takes a second, and which an exported model does without.
    from anomaly_cli.commands.models import open_model  # noqa: PLC0415

    detector = open_model(config.model, config.map, progress, latents=config.latents)
    return detector, None if config.latents is None else detector.select_latents(config.latents)


def _localize_rest(
    files: Sequence[ImageFile],
    done: int,
    writer: "Writer",
    destination: Destination,
    progress: Progress,
) -> Iterator[Record]:
    """Yield the lines of the manifest after the first `done`, and show how far it is."""
    rest = files[done:]
    records = _deliver(_localize_all([file.path for file in rest], writer), destination)
    with progress.bar("localizing", total=len(files), done=done) as bar:
        for file, record in zip(rest, records, strict=True):
            if "error" in record:
                progress.warn(f"skipped: {record['error']}")
            yield {"image": file.relative.as_posix()} | record | writer.common
            bar.advance()


def _read_done(
    config: LocalizeConfig, part: Part, files: Sequence[ImageFile], detector: "AnyDetector"
) -> list[Record]:
    """Read the lines of a run that was stopped, which has to be this one.

    Raises:
        OutputError: the images, the model or the settings of the map differ.
    """
    records = part.read_done(config.output)
    names = [file.relative.as_posix() for file in files[: len(records)]]
    common = Writer(config, detector, [], None).common
    is_same = all(
        record["image"] == name and all(record.get(key) == value for key, value in common.items())
        for record, name in zip(records, names, strict=False)
    )
    if len(names) < len(records) or not is_same:
        raise other_run(config.output / part.manifest)
    if len(records) == len(files):
        return records
    # Rounding depends on the other images of a batch, so the last batch is done again as a whole.
    return records[: len(records) // config.map.batch_size * config.map.batch_size]


def _find_test_images(config: LocalizeConfig, detector: "AnyDetector") -> list[ImageFile]:
    """List the test images of the model's category in a data set."""
    if config.dataset is None:
        return []
    if len(config.images) != 1:
        raise ConfigError(f"--dataset {config.dataset} takes one folder: the root of the data set")
    samples = DATASETS[config.dataset].test_samples(Path(config.images[0]), detector.category)
    return [ImageFile(sample.path, Path(sample.name)) for sample in samples]


def _find_images(config: LocalizeConfig, progress: Progress) -> list[ImageFile]:
    if config.is_in_bucket:
        return find_remote_and_tell(config.images, progress, exclude=config.output)
    # An output folder in a bucket is in no local folder of images.
    exclude = None if isinstance(config.output, Address) else config.output
    return find_and_tell_others(expand_file_lists(config.images), progress, exclude=exclude)


def _name_outputs(config: LocalizeConfig, files: Sequence[ImageFile]) -> list[Path]:
    if config.layout == "mirror":
        return output_stems(files)
    stems = [place_in_layout(file.path) for file in files]
    refuse_same(stems, [file.path for file in files])
    return stems


def _localize_all(paths: list[Path], writer: "Writer") -> Iterator[Record]:
    """Yield manifest lines in order; threads draw and write while the network computes on."""
    decode = _choose_reader(writer.config)
    if writer.selection is None:
        predictions = writer.detector.predict_all(paths, decode=decode)
    else:
        predictions = writer.trained.predict_all(paths, with_latents=True, decode=decode)
    settings = writer.config.map
    with ThreadPoolExecutor(settings.workers) as pool:
        yield from ordered_map(pool, writer.write, predictions, limit=2 * settings.batch_size)


def _deliver(records: Iterator[Record], destination: Destination) -> Iterator[Record]:
    """Yield each line of the manifest when its pictures are where they belong."""
    if not destination.threads:
        yield from records
        return

    def deliver(record: Record) -> Record:
        destination.deliver(record)
        return record

    with ThreadPoolExecutor(destination.threads) as pool:
        yield from ordered_map(pool, deliver, records, limit=2 * destination.threads)


def _choose_reader(config: LocalizeConfig) -> Callable[[Path], RGBImage]:
    if config.dataset is not None:
        return DATASETS[config.dataset].read_image
    if not config.is_in_bucket:
        return read_image
    from anomaly_cli.files.remote_images import read_remote_image  # noqa: PLC0415 - needs an extra

    return read_remote_image


@dataclass(frozen=True)
class Writer:
    """Writer of the output files of each image; threads may share it."""

    config: LocalizeConfig
    detector: "AnyDetector"
    stems: Sequence[Path]  # of the output files, one for each image
    selection: "LatentSelection | None"  # latents that are shown

    @property
    def trained(self) -> "Detector":
        """The detector, where latents are shown, which no exported one has."""
        return cast("Detector", self.detector)

    @cached_property
    def common(self) -> Record:
        """Values that are equal on all lines of the manifest."""
        detector = self.detector
        record = {
            "map": str(detector.spec),
            "scores": detector.scores,
            **detector.threshold.record(),
            "colour_range": list(detector.colour_range),
            "category": detector.category,
            "model_sha256": detector.sha256,
            "schema_version": SCHEMA_VERSION,
        }
        if self.config.latents is not None:
            record["latent_colour_range"] = list(self.trained.latent_colour_range)
        return record

    def write(self, result: Prediction | DataError) -> Record:
        """Write the outputs of one image.

        Returns:
            Its line of the manifest.
        """
        if isinstance(result, DataError):
            return {"error": str(result)}
        try:
            with name_shortage(f"{result.path}"):
                return self._write(result)
        except DataError as error:  # memory ran out, or the file has gone since it was read
            return {"error": str(error)}

    def _write(self, result: Prediction) -> Record:
        stem = self.stems[result.position]
        is_mirror = self.config.layout == "mirror"
        outputs = result.save(
            self.config.output,
            stem,
            kinds=[kind for kind in KINDS if getattr(self.config, kind)],
            map_place=None if is_mirror else f"{stem.as_posix()}.tiff",
        )
        record = result.record(outputs)
        if self.selection is not None and result.latents is not None:
            from anomaly_cli.detector.latents import strongest  # noqa: PLC0415 - loads torch

            deviations = abs(result.latents.deviations)
            chosen = strongest(self.selection.choose(deviations), deviations)
            outputs["sheet"] = self._write_sheet(result, chosen)
            record["peak"] = result.latents.peak.record()
            record["latents"] = self._write_latents(result, result.latents, chosen)
        return record

    def _write_sheet(self, result: Prediction, chosen: list[int]) -> str:
        from anomaly_cli.detector.predict import explain_prediction  # noqa: PLC0415 - loads torch

        stem = self.stems[result.position]
        shown = chosen[:SHEET_LATENTS] if self.config.latents == "all" else chosen
        image = explain_prediction(result, stem.as_posix(), SHEET_TILE)
        file = place("sheets", stem, ".png")
        write_png(self.config.output / file, contact_sheet(image, shown, self.trained.scale))
        return file

    def _write_latents(
        self, result: Prediction, latents: "ImageLatents", chosen: list[int]
    ) -> list[Record]:
        """Write an overlay of each latent, and list the numbers of the latents."""
        stem, detector = self.stems[result.position], self.trained
        records = []
        for latent in chosen:
            file = f"latents/{stem.as_posix()}/latent_{latent:02}.png"
            picture = latent_overlay(
                result.image,
                latents.maps[latent],
                detector.network.image_size,
                detector.latent_colour_range,
            )
            write_png(self.config.output / file, picture)
            kinds = detector.latent_kinds
            named = {"kind": kinds[latent]} if kinds else {}
            records.append({**latents.record(latent), **named, "overlay": file})
        return records
