"""Tensors with a JSON header in one safetensors file: never a pickle, complete or absent."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from anomaly_cli.files.atomic import atomic_write


def write_tensor_file(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any], *, kind: str
) -> None:
    """Write tensors of any device and layout. The same content gives the same bytes.

    Args:
        path: the file to write.
        tensors: by name.
        header: plain JSON values.
        kind: what the file is, so that another kind of file is told apart.

    Raises:
        OutputError: the file cannot be written.
    """
    # safetensors refuses tensors that share memory, and writes contiguous ones alone.
    owned = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    with atomic_write(path) as partial:
        try:
            save_file(owned, partial, metadata={kind: json.dumps(header, sort_keys=True)})
        except SafetensorError as error:  # how safetensors reports a full disk or a missing right
            raise OSError(str(error)) from error


def read_tensor_file(path: Path, *, kind: str) -> tuple[Any, dict[str, Tensor]]:
    """The header, None in a file of another kind, and the tensors on the CPU.

    Raises:
        SafetensorError, OSError, ValueError: it is no such file, or is damaged.
    """
    with safe_open(path, framework="pt") as stream:
        header = json.loads((stream.metadata() or {}).get(kind, "null"))
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - no mapping
    return header, tensors
