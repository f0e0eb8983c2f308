"""Normal images as tensors: each epoch depends on the seed and its number alone."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from anomaly_cli.detector.predict import to_tensor
from anomaly_cli.errors import DataError
from anomaly_cli.files.images import write_png
from anomaly_cli.files.read import read_image
from anomaly_cli.files.resize import resize_image
from anomaly_cli.training import images as normal
from anomaly_cli.training.augmentation import NONE, Augmentation, augment
from anomaly_cli.training.images import NormalImages, batch_loader, collate_images, epoch_order

COUNT = 7
SIZE = 32
RANGES = Augmentation(rotation=20, translation=0.1, mirror_horizontally=True)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Seven noise images of other sizes than the network's, each with a brightness of its own."""
    generator = np.random.default_rng(0)
    for i in range(COUNT):
        image = generator.integers(30 * i, 30 * i + 40, (48, 40, 3), np.uint8)
        write_png(tmp_path / f"{i}.png", image)
    return sorted(tmp_path.glob("*.png"))


def load(
    images: NormalImages, *, epoch: int, batch_size: int = 3, workers: int = 0
) -> list[Tensor]:
    images.epoch = epoch
    batches = epoch_order(images, epoch, batch_size)
    return list(batch_loader(images, batches, collate_images, workers=workers))


def identify(batches: Iterable[Tensor], images: NormalImages) -> list[int]:
    """Find the number of each image of the batches, by its brightness."""
    levels = [images.plain(i).mean() / 255 for i in range(len(images))]
    shown = torch.cat(list(batches)).mean(dim=(1, 2, 3)).tolist()
    return [int(np.argmin(np.abs(np.array(levels) - level))) for level in shown]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


# Tensors


def test_bytes_become_floats_from_0_to_1_with_channels_first() -> None:
    images = np.zeros((2, 4, 5, 3), np.uint8)
    images[1, 2, 3] = (255, 51, 0)
    tensor = to_tensor(images)
    assert tensor.shape == (2, 3, 4, 5)
    assert tensor.dtype == torch.float32
    assert tensor[1, :, 2, 3].tolist() == pytest.approx([1.0, 0.2, 0.0])
    assert tensor.sum().item() == pytest.approx(1.2)
    assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_tensor_does_not_share_memory_with_the_cache() -> None:
    images = np.full((1, 2, 2, 3), 100, np.uint8)
    to_tensor(images).zero_()
    assert (images == 100).all()


# Plain images


def test_plain_images_are_the_files_at_the_size_of_the_network(paths: list[Path]) -> None:
    images = NormalImages(paths, SIZE, RANGES)
    assert len(images) == COUNT
    for i, path in enumerate(paths):
        expected = resize_image(read_image(path), SIZE, SIZE)
        np.testing.assert_array_equal(images.plain(i), expected)


def test_batches_hold_all_images_in_order_unchanged_whatever_the_epoch(paths: list[Path]) -> None:
    images = NormalImages(paths, SIZE, RANGES)
    load(images, epoch=3)
    batches = list(images.batches(3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    expected = to_tensor(np.stack([images.plain(i) for i in range(COUNT)]))
    assert torch.equal(torch.cat(batches), expected)


def test_images_too_large_for_memory_give_the_same_tensors(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven images of 32 px take 21,504 bytes; with one less they are read each time."""
    cached = NormalImages(paths, SIZE, RANGES, seed=1)
    monkeypatch.setattr(normal, "CACHE_LIMIT", COUNT * SIZE * SIZE * 3 - 1)
    uncached = NormalImages(paths, SIZE, RANGES, seed=1)
    assert equal(list(cached.batches(3)), list(uncached.batches(3)))
    assert equal(load(cached, epoch=5), load(uncached, epoch=5))
    monkeypatch.setattr(normal, "CACHE_LIMIT", COUNT * SIZE * SIZE * 3)
    fitting = NormalImages(paths, SIZE, RANGES, seed=1)
    for path in paths:
        path.unlink()
    assert equal(list(cached.batches(3)), list(fitting.batches(3)))
    with pytest.raises(DataError, match="cannot read"):
        uncached.plain(0)


def test_cached_images_are_read_once(paths: list[Path]) -> None:
    images = NormalImages(paths, SIZE)
    before = list(images.batches(COUNT))
    for path in paths:
        path.unlink()
    assert equal(list(images.batches(COUNT)), before)


def test_broken_image_is_a_data_error_that_names_it_cached_or_not(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths[4].write_bytes(paths[4].read_bytes()[:100])
    with pytest.raises(DataError, match=r"cannot read .*4\.png"):
        NormalImages(paths, SIZE)
    monkeypatch.setattr(normal, "CACHE_LIMIT", 0)
    with pytest.raises(DataError, match=r"cannot read .*4\.png"):
        NormalImages(paths, SIZE).plain(4)


# Epochs


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_epoch_shows_whole_batches_of_different_images(paths: list[Path], epoch: int) -> None:
    """Two batches of three; the seventh image is left out, as batch norm would overweigh it."""
    images = NormalImages(paths, SIZE)
    batches = load(images, epoch=epoch)
    assert [batch.shape for batch in batches] == [(3, 3, SIZE, SIZE)] * 2
    assert len(set(identify(batches, images))) == 6


def test_image_left_out_changes_from_epoch_to_epoch(paths: list[Path]) -> None:
    images = NormalImages(paths, SIZE)
    everything = set(range(COUNT))
    left_out = {
        (everything - set(identify(load(images, epoch=epoch), images))).pop() for epoch in range(12)
    }
    assert len(left_out) >= 4


@pytest.mark.parametrize("batch_size", [7, 8, 100])
def test_batch_larger_than_the_set_is_the_whole_set(paths: list[Path], batch_size: int) -> None:
    images = NormalImages(paths, SIZE)
    batches = load(images, epoch=0, batch_size=batch_size)
    assert sorted(identify(batches, images)) == list(range(COUNT))
    assert len(batches) == 1


def test_without_augmentation_an_epoch_shows_the_plain_images(paths: list[Path]) -> None:
    images = NormalImages(paths, SIZE, NONE)
    batches = load(images, epoch=2)
    order = identify(batches, images)
    expected = to_tensor(np.stack([images.plain(i) for i in order]))
    assert torch.equal(torch.cat(batches), expected)


def test_epoch_is_a_function_of_seed_and_epoch_alone(paths: list[Path]) -> None:
    """Earlier draws and the global generators of torch and numpy change nothing."""
    torch.manual_seed(1)
    first = load(NormalImages(paths, SIZE, RANGES, seed=3), epoch=2)
    torch.manual_seed(2)
    images = NormalImages(paths, SIZE, RANGES, seed=3)
    for epoch in (9, 0, 2):
        again = load(images, epoch=epoch)
    assert equal(first, again)


def test_another_epoch_or_seed_changes_the_order_and_the_augmentation(paths: list[Path]) -> None:
    images = NormalImages(paths, SIZE, RANGES, seed=0)
    other_seed = NormalImages(paths, SIZE, RANGES, seed=1)
    orders = {
        tuple(identify(load(images, epoch=0), images)),
        tuple(identify(load(images, epoch=1), images)),
        tuple(identify(load(other_seed, epoch=0), other_seed)),
    }
    assert len(orders) == 3
    first = images[0]  # of epoch 1
    images.epoch = 2
    assert (images[0] != first).mean() > 0.5
    other_seed.epoch = 1
    assert (other_seed[0] != first).mean() > 0.5


def test_image_is_augmented_by_seed_epoch_and_index(paths: list[Path]) -> None:
    """Its place in the batch and the images before it do not matter."""
    images = NormalImages(paths, SIZE, RANGES, seed=3)
    images.epoch = 5
    for i in (4, 0, 4):
        expected = augment(images.plain(i), RANGES, np.random.default_rng([3, 5, i]))
        np.testing.assert_array_equal(images[i], expected)


def test_epoch_shows_its_own_augmentation(paths: list[Path]) -> None:
    images = NormalImages(paths, SIZE, RANGES, seed=3)
    batches = load(images, epoch=4)
    order = identify(batches, images)
    versions = [augment(images.plain(i), RANGES, np.random.default_rng([3, 4, i])) for i in order]
    assert torch.equal(torch.cat(batches), to_tensor(np.stack(versions)))


def test_workers_show_the_same_epoch(paths: list[Path]) -> None:
    images = NormalImages(paths, SIZE, RANGES, seed=3)
    alone = load(images, epoch=2, batch_size=2, workers=0)
    shared = load(images, epoch=2, batch_size=2, workers=2)
    assert len(alone) == 3
    assert equal(alone, shared)


def test_augmentation_does_not_change_the_cache(paths: list[Path]) -> None:
    images = NormalImages(paths, SIZE, RANGES)
    before = [images.plain(i).copy() for i in range(COUNT)]
    for epoch in range(3):
        load(images, epoch=epoch)
    for i in range(COUNT):
        np.testing.assert_array_equal(images.plain(i), before[i])
