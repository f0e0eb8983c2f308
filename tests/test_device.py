"""The device is the one that was asked for, or an error; the same seed gives the same numbers."""

import os
from collections.abc import Iterator

import pytest
import torch

from anomaly_cli.detector.device import is_fast_in_bfloat16, resolve_device, seed_everything
from anomaly_cli.errors import DeviceError

CUDA = torch.cuda.device_count()
has_mps = torch.backends.mps.is_available()


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Global settings of torch as other tests expect them."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    state = torch.get_rng_state()
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory
    benchmark = torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(is_deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = fills
    torch.backends.cudnn.benchmark = benchmark
    torch.set_rng_state(state)


def test_cpu_is_always_there() -> None:
    assert resolve_device("cpu") == torch.device("cpu")


def test_auto_is_the_fastest_device_that_is_there() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    assert resolve_device("auto").type == expected


@pytest.mark.parametrize("name", ["", "gpu", "cuda:x", "cuda:-1", "CPU"])
def test_unknown_name_is_refused_with_those_that_are_known(name: str) -> None:
    message = rf"--device {name} is unknown; use auto, cpu, cuda, cuda:N or mps"
    with pytest.raises(DeviceError, match=message):
        resolve_device(name)


@pytest.mark.parametrize("name", ["meta", "xpu"])
def test_device_that_torch_knows_and_this_tool_does_not_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match=f"--device {name} is not supported; use auto, cpu"):
        resolve_device(name)


def test_missing_cuda_device_is_refused_with_the_number_of_those_there_are() -> None:
    with pytest.raises(DeviceError, match=rf"cuda:{CUDA} is not there: {CUDA} CUDA devices found"):
        resolve_device(f"cuda:{CUDA}")


@pytest.mark.skipif(CUDA > 0, reason="there is a CUDA device")
def test_cuda_without_a_cuda_device_is_refused() -> None:
    with pytest.raises(DeviceError, match="--device cuda is not there: 0 CUDA devices found"):
        resolve_device("cuda")


@pytest.mark.skipif(CUDA == 0, reason="there is no CUDA device")
@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_cuda_device_is_taken(name: str) -> None:
    assert resolve_device(name) == torch.device(name)


@pytest.mark.skipif(has_mps, reason="there is an MPS device")
def test_missing_mps_is_refused() -> None:
    with pytest.raises(DeviceError, match="--device mps is not there on this machine"):
        resolve_device("mps")


def test_device_error_has_its_exit_code() -> None:
    with pytest.raises(DeviceError) as caught:
        resolve_device("gpu")
    assert caught.value.exit_code == 6


@pytest.mark.usefixtures("restored")
def test_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    weights = []
    for seed in (1, 1, 2):
        seed_everything(seed)
        weights.append(torch.nn.Linear(4, 3).weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.usefixtures("restored")
def test_kernels_are_deterministic_where_there_are_such_and_memory_is_not_filled() -> None:
    torch.backends.cudnn.benchmark = True
    seed_everything(0)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert not torch.backends.cudnn.benchmark


@pytest.mark.usefixtures("restored")
def test_workspace_of_cublas_is_fixed_unless_the_user_fixed_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seed_everything(0)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    seed_everything(0)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_bfloat16_is_fast_where_the_processor_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert not is_fast_in_bfloat16(cpu)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert is_fast_in_bfloat16(cpu)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")  # as in another version
    assert not is_fast_in_bfloat16(cpu)
    assert not is_fast_in_bfloat16(torch.device("mps"))
