"""Normal images of a category, split and ready for training. The test split is never read."""

from pathlib import Path
from typing import NamedTuple

from anomaly_cli.config.names import CHANNELS
from anomaly_cli.config.train import TrainConfig
from anomaly_cli.data.datasets import DATASETS
from anomaly_cli.data.defects import DefectPainter, TrainingPainter
from anomaly_cli.data.photographs import load_donors
from anomaly_cli.data.samples import spread
from anomaly_cli.training.augmentation import select_augmentation
from anomaly_cli.training.images import NormalImages
from anomaly_cli.training.painted import PaintedImage, draw_validation
from anomaly_cli.training.split import FEW, NormalSplit, group_twins, share_normal, split_normal

DONORS = 64  # normal images from which the painter cuts pieces


class TrainingSet(NamedTuple):
    """Images of a category that a training uses."""

    split: NormalSplit  # the files
    fit: NormalImages  # augmented
    held_out: NormalImages
    painter: TrainingPainter | None  # draws defects from pieces of `fit`; None: no defects
    validation: list[PaintedImage]  # images of `held_out`, with and without a synthetic defect
    half: "TrainingSet | None" = None  # all at half the side, if training begins with that

    @property
    def own_numbers(self) -> range | None:
        """Numbers of the held-out images among those that are fitted; None: they are others."""
        return range(len(self.held_out)) if self.split.is_few else None


def list_training_images(config: TrainConfig) -> list[Path]:
    """List the files of the normal images of `config.category`, without reading them.

    Raises:
        DataError: there are too few images.
    """
    paths = DATASETS[config.dataset].training_images(config.data, config.category)
    return spread(paths, config.limit)


def split_training_images(config: TrainConfig) -> NormalSplit:
    """Split the training images; photographs of one part stay together.

    With a memory, fewer than `FEW` images are not split.

    The images are read to find such photographs.

    Raises:
        DataError: there are too few images, or one cannot be read.
    """
    paths = list_training_images(config)
    # Digits, and frames of a video, are all alike. The paper's experiments split them anyway.
    are_parts = config.dataset not in CHANNELS
    groups = group_twins(paths, DATASETS[config.dataset].read_image) if are_parts else None
    if config.model.has_memory and len(paths) < FEW:
        return share_normal(paths, groups)
    return split_normal(paths, held_out=config.held_out, seed=config.seed, groups=groups)


def open_training_set(config: TrainConfig) -> TrainingSet:
    """Read and split the normal images of `config.category`.

    Raises:
        ConfigError: there is no such augmentation.
        DataError: there are too few images, or one cannot be read.
    """
    split = split_training_images(config)
    size = config.model.image_size
    images = _read(config, split, size)
    return images._replace(half=_read(config, split, size // 2)) if config.half_size else images


def _read(config: TrainConfig, split: NormalSplit, size: int) -> TrainingSet:
    dataset = DATASETS[config.dataset]
    augmentation = select_augmentation(config.augmentation, config.category)
    fit = NormalImages(split.fit, size, augmentation, config.seed, dataset.read_image)
    held_out = NormalImages(split.held_out, size, read=dataset.read_image)
    if config.dataset in CHANNELS:
        # Synthetic defects are made for photographs, and 28 pixels are few: they choose nothing.
        return TrainingSet(split, fit, held_out, None, [])
    donor_indices = range(0, len(fit), -(-len(fit) // DONORS))
    # A photograph that `sample` cut the images from must not be pasted into them.
    donors = load_donors(config.category)
    natural = DefectPainter([fit.plain(index) for index in donor_indices], donors)
    validation = draw_validation(held_out, natural, seed=config.seed)
    return TrainingSet(split, fit, held_out, TrainingPainter(natural), validation)
