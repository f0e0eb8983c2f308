"""Weights of a ResNet18 trained before, from files made here; the network alone is faked."""

import io
import os
from collections.abc import Iterator, Mapping
from email.message import Message
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import ResNet18_Weights, resnet18, resnet34

from anomaly_cli.errors import CheckpointError, ConfigError
from anomaly_cli.training.pretrained import load_encoder_weights
from models.config import VAEConfig
from models.resnet import ResNet18Encoder

URL = ResNet18_Weights.IMAGENET1K_V1.url
State = dict[str, Tensor]
KINDS = {
    "x.pth": "is no state dictionary, or is damaged",
    "x.safetensors": "is no safetensors file, or is damaged",
}


def numbered(state: Mapping[str, Tensor]) -> State:
    """Return tensors of these names and shapes, each a single number; the file is tiny."""
    return {
        name: torch.tensor(i, dtype=tensor.dtype).expand(tensor.shape)
        for i, (name, tensor) in enumerate(state.items())
    }


@pytest.fixture(scope="module")
def trained() -> State:
    """Return the state dictionary of torchvision's ResNet18 with random weights and statistics."""
    generator = torch.Generator().manual_seed(0)
    state = resnet18().state_dict()
    for name, tensor in state.items():
        if tensor.ndim > 1:
            tensor.normal_(0, tensor[0].numel() ** -0.5, generator=generator)
        elif tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5, generator=generator)
        else:
            state[name] = torch.tensor(7)  # batches that batch norm has seen
    return state


@pytest.fixture(scope="module")
def full_files(
    trained: State, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Path]]:
    """Save weights in every format, with the classifier and without; 45 MB each."""
    folder = tmp_path_factory.mktemp("weights")
    backbone = {name: tensor for name, tensor in trained.items() if not name.startswith("fc.")}
    files = {
        "with fc": folder / "resnet18.pth",
        "without fc": folder / "backbone.pt",
        "safetensors with fc": folder / "resnet18.safetensors",
        "safetensors without fc": folder / "backbone.safetensors",
    }
    torch.save(trained, files["with fc"])
    torch.save(backbone, files["without fc"])
    save_file(trained, files["safetensors with fc"])
    save_file(backbone, files["safetensors without fc"])
    yield files
    for path in files.values():
        path.unlink()


@pytest.fixture
def encoder() -> ResNet18Encoder:
    return ResNet18Encoder(VAEConfig(image_size=32, latent_dim=4))


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a torch hub with an empty cache and no network; return the folder of its files."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def refuse(*_args: object, **_options: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def heads(encoder: ResNet18Encoder) -> State:
    return {
        name: t for name, t in encoder.state_dict().items() if name.startswith(("mu", "logvar"))
    }


def clone(state: Mapping[str, Tensor]) -> State:
    return {name: tensor.clone() for name, tensor in state.items()}


def assert_loaded(encoder: ResNet18Encoder, state: Mapping[str, Tensor]) -> None:
    own = {name: t for name, t in encoder.state_dict().items() if name not in heads(encoder)}
    assert own.keys() == {name for name in state if not name.startswith("fc.")}
    for name, tensor in own.items():
        assert torch.equal(tensor, state[name]), name


# Files


@pytest.mark.parametrize(
    "kind", ["with fc", "without fc", "safetensors with fc", "safetensors without fc"]
)
def test_encoder_has_the_tensors_of_the_file(
    encoder: ResNet18Encoder, full_files: dict[str, Path], trained: State, kind: str
) -> None:
    """All 120 of them, counters of batch norm included; the heads keep their fresh weights."""
    before = clone(heads(encoder))
    load_encoder_weights(encoder, str(full_files[kind]))
    assert len(trained) - 2 == 120
    assert_loaded(encoder, trained)
    assert all(torch.equal(tensor, before[name]) for name, tensor in heads(encoder).items())


def test_encoder_computes_what_torchvision_does(
    encoder: ResNet18Encoder, full_files: dict[str, Path]
) -> None:
    """A head that hands on the first four pooled features shows that they are torchvision's."""
    reference = resnet18().eval()
    reference.fc = torch.nn.Identity()
    reference.load_state_dict(torch.load(full_files["without fc"], weights_only=True))
    load_encoder_weights(encoder, str(full_files["with fc"]))
    torch.nn.init.eye_(encoder.mu.weight)
    torch.nn.init.zeros_(encoder.mu.bias)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    preset = ResNet18_Weights.IMAGENET1K_V1.transforms()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preset.mean, preset.std))
    with torch.no_grad():
        expected = reference((images - mean) / std)[:, :4]
        assert expected.std() > 0.1
        torch.testing.assert_close(encoder.eval()(images).mu, expected)


def test_none_leaves_the_encoder_as_it_is(encoder: ResNet18Encoder) -> None:
    before = clone(encoder.state_dict())
    load_encoder_weights(encoder, "none")
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_weights_of_before_batch_counters_are_taken(
    encoder: ResNet18Encoder, tmp_path: Path
) -> None:
    """The file resnet18-5c106cde.pth of torchvision has 102 tensors, none of them a counter."""
    state = numbered(resnet18().state_dict())
    old = {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    load_encoder_weights(encoder, str(tmp_path / "old.pth"))
    assert len(old) == 102
    for name, tensor in encoder.state_dict().items():
        if name in old:
            assert torch.equal(tensor, old[name]), name


# Files that do not fit


def refused(encoder: ResNet18Encoder, path: Path) -> str:
    """Return the error message, and make sure that the encoder kept its weights."""
    before = clone(encoder.state_dict())
    with pytest.raises(CheckpointError) as caught:
        load_encoder_weights(encoder, str(path))
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_missing_tensor_is_named(encoder: ResNet18Encoder, tmp_path: Path) -> None:
    state = numbered(resnet18().state_dict())
    del state["layer3.1.conv2.weight"]
    torch.save(state, tmp_path / "x.pth")
    message = refused(encoder, tmp_path / "x.pth")
    assert message.endswith(
        "do not fit ResNet18: 1 tensors are missing, such as layer3.1.conv2.weight"
    )


def test_tensor_of_another_network_is_named(encoder: ResNet18Encoder, tmp_path: Path) -> None:
    """All of ResNet18 is in ResNet34, so only what is too much gives it away."""
    torch.save(numbered(resnet34().state_dict()), tmp_path / "x.pth")
    message = refused(encoder, tmp_path / "x.pth")
    assert message.endswith("96 tensors are not ResNet18's, such as layer1.2.bn1.bias")


def test_tensor_of_another_shape_is_named_with_both_shapes(
    encoder: ResNet18Encoder, tmp_path: Path
) -> None:
    """A network for grey images has one input channel."""
    state = numbered(resnet18().state_dict()) | {"conv1.weight": torch.zeros(64, 1, 7, 7)}
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"conv1\.weight: .*\[64, 1, 7, 7\].*\[64, 3, 7, 7\]"):
        load_encoder_weights(encoder, str(tmp_path / "x.pth"))


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {"conv1.weight": torch.zeros(1)}},
        {"epoch": 3, "lr": 0.1},
        {0: torch.zeros(1)},
        {},
    ],
    ids=["nested", "numbers", "unnamed", "empty"],
)
def test_dictionary_of_other_things_lacks_all_tensors(
    encoder: ResNet18Encoder, tmp_path: Path, content: object
) -> None:
    torch.save(content, tmp_path / "x.pth")
    assert "100 tensors are missing, such as bn1.bias" in refused(encoder, tmp_path / "x.pth")


@pytest.mark.parametrize(
    "content", [torch.zeros(3, 4), [1, 2], "text", resnet18], ids=["tensor", "list", "str", "code"]
)
def test_file_that_holds_no_dictionary_is_refused(
    encoder: ResNet18Encoder, tmp_path: Path, content: object
) -> None:
    torch.save(content, tmp_path / "x.pth")
    assert refused(encoder, tmp_path / "x.pth").endswith("is no state dictionary, or is damaged")


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"hello, this is a text", b"\x89PNG\r\n\x1a\n" + b"\0" * 99]
)
def test_file_of_another_kind_is_refused(
    encoder: ResNet18Encoder, tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    assert KINDS[name] in refused(encoder, tmp_path / name)


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_truncated_file_is_refused(encoder: ResNet18Encoder, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    state = {"conv1.weight": torch.rand(64, 3, 7, 7)}
    torch.save(state, path) if name == "x.pth" else save_file(state, path)
    path.write_bytes(path.read_bytes()[:20000])
    assert KINDS[name] in refused(encoder, path)


def test_code_in_a_file_is_not_run(encoder: ResNet18Encoder, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "harm"),)

    torch.save({"conv1.weight": Evil()}, tmp_path / "x.pth")
    assert "is no state dictionary" in refused(encoder, tmp_path / "x.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("name", ["missing.pth", "ImageNet", "."])
def test_what_is_no_file_is_refused_with_what_could_be_given(
    encoder: ResNet18Encoder, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    with pytest.raises(
        ConfigError, match=rf"--weights {path} is neither none, imagenet nor a file"
    ):
        load_encoder_weights(encoder, str(path))


# ImageNet


def test_imagenet_without_network_says_what_to_fetch_and_give(
    encoder: ResNet18Encoder, no_network: Path
) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_encoder_weights(encoder, "imagenet")
    message = str(caught.value)
    assert "could not be fetched" in message
    assert "Name or service not known" in message
    assert f"download {URL} and give the file" in message
    assert list(no_network.iterdir()) == []


def test_imagenet_weights_that_were_fetched_before_need_no_network(
    encoder: ResNet18Encoder, no_network: Path
) -> None:
    state = numbered(resnet18().state_dict())
    torch.save(state, no_network / URL.rpartition("/")[2])
    load_encoder_weights(encoder, "imagenet")
    assert_loaded(encoder, state)


def test_download_that_arrives_damaged_is_refused_and_not_kept(
    encoder: ResNet18Encoder, no_network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A captive portal answers everything with its own page: the hash in the name differs."""

    class Portal(io.BytesIO):
        def info(self) -> Message:
            return Message()

    monkeypatch.setattr(torch.hub, "urlopen", lambda *_a, **_o: Portal(b"<html>Log in</html>"))
    with pytest.raises(CheckpointError, match=r"could not be fetched \(invalid hash value"):
        load_encoder_weights(encoder, "imagenet")
    assert list(no_network.iterdir()) == []
