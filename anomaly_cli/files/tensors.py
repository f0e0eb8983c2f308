"""Files of tensors, complete or absent: models in safetensors, and states of training runs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from anomaly_cli.errors import CheckpointError
from anomaly_cli.files.atomic import atomic_write, write_bytes
from anomaly_cli.files.parse import parse_json


def write_tensor_file(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any], *, kind: str
) -> None:
    """Write tensors of any device and layout. Equal content gives equal bytes.

    Args:
        path: the file to write.
        tensors: by name.
        header: plain JSON values.
        kind: kind of file, by which a reader recognises it.

    Raises:
        OutputError: the file cannot be written.
    """
    # safetensors refuses tensors that share memory or are not contiguous.
    owned = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    # Its `save_file` writes to a hidden file of its own first, which a kill would leave for ever.
    write_bytes(path, save(owned, metadata={kind: json.dumps(header, sort_keys=True)}))


def read_tensor_file(path: Path, *, kind: str) -> tuple[Any, dict[str, Tensor]]:
    """Read the header (None in a file of another kind) and the tensors, on the CPU.

    Raises:
        SafetensorError, OSError, ValueError: the file is no safetensors file, or is damaged.
    """
    with safe_open(path, framework="pt") as stream:
        header = parse_json((stream.metadata() or {}).get(kind, "null"))
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - no mapping
    return header, tensors


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write the state of a training run; the file is complete or absent.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_write(path) as partial:
        try:
            torch.save(dict(state), partial)
        except RuntimeError as error:  # of a full disk
            raise OSError(f"{error}; is the disk full?") from error


def read_state(path: Path) -> dict[str, Any]:
    """Read a state that `write_state` wrote, without building any pickled object.

    Raises:
        CheckpointError: the file is missing, damaged, or no training state.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist, so there is nothing to resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return dict(state)
    # torch raises EOFError, KeyError, RuntimeError, UnicodeDecodeError, UnpicklingError and more.
    except Exception as error:
        raise CheckpointError(f"{path} is not a training state, or is damaged") from error
