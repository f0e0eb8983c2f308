"""Device choice, seeding and determinism."""

import os

import torch
from torch.utils import deterministic

from anomaly_cli.errors import DeviceError


def resolve_device(name: str) -> torch.device:
    """Find the device of a name; "auto" is the first of CUDA, MPS and CPU that is available.

    Raises:
        DeviceError: the name is unknown, or the device is not available.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(
            f"--device {name} is unknown; use auto, cpu, cuda, cuda:N or mps"
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"--device {name} is not there: {torch.cuda.device_count()} CUDA devices found"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("--device mps is not there on this machine")
    if device.type not in {"cpu", "cuda", "mps"}:
        raise DeviceError(f"--device {name} is not supported; use auto, cpu, cuda, cuda:N or mps")
    return device


def is_fast_in_bfloat16(device: torch.device) -> bool:
    """Check whether the device multiplies bfloat16 faster than float32, and does not emulate it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # Private in torch, but no public function tests this in all versions since 2.6.
        instructions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, lambda: False)() for name in instructions)
    return False


def seed_everything(seed: int) -> None:
    """Seed the initial weights and all random numbers of torch; choose deterministic kernels."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # makes cuBLAS deterministic
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling fresh memory with NaN finds bugs of kernels, not of this code, and costs 2% of a step.
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
