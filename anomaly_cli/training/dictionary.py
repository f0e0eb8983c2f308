"""Fit the feature dictionary: one pass over the normal images, then PCA and k-means.

Napoletano et al. 2018; see `models.dictionary`.
"""

import math
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly_cli.config.train import TrainConfig
from anomaly_cli.detector.together import in_shares
from anomaly_cli.errors import ConfigError, TrainingError
from anomaly_cli.training.dataset import TrainingSet
from anomaly_cli.training.loop import EpochStats, StepStats, clone_weights
from anomaly_cli.training.objectives import HeldOutLosses
from anomaly_cli.training.pretrained import load_encoder_weights, load_features
from models.config import DictionaryConfig, VAEConfig
from models.dictionary import STRIDE, FeatureDictionary
from models.resnet import ResNet18Encoder

PATCHES = 50_000  # of all images that PCA and k-means use at most: 77 MB of ResNet18's features
VARIANCE = 0.95  # share that the components of PCA keep; from the paper
_ROUNDS = 100  # of k-means at most
_CHUNK = 4096  # patches at once, which bounds the memory of their distances from all centres
_LEAST_SCALE = 1e-6  # keeps maps finite where all normal patches are alike


def start_dictionary(
    config: TrainConfig, images: TrainingSet, device: torch.device
) -> "DictionaryTrainer":
    """Make a trainer of a dictionary, with the weights of its encoder."""
    return DictionaryTrainer(make_dictionary(config).to(device), images, config, device)


def make_dictionary(config: TrainConfig) -> FeatureDictionary:
    """Build the dictionary of `config.model`, with the weights of its encoder and nothing fitted.

    Raises:
        ConfigError: ResNet18 has no `--weights`, or weights are not installed or no file.
        CheckpointError: weights cannot be fetched or read, or belong to another network.
    """
    model = cast("DictionaryConfig", config.model)
    dictionary = FeatureDictionary(model)
    if model.encoder == "efficientnet-lite0":
        dictionary.load_backbone(load_features().state_dict())
        return dictionary
    if config.weights == "none":
        raise ConfigError(
            "--encoder resnet18 needs --weights imagenet, or a file, for a dictionary of features: "
            "random features mean nothing"
        )
    # With the stage above the dictionary's features, which a file of weights holds as well.
    whole = ResNet18Encoder(VAEConfig(image_size=model.image_size, latent_dim=1))
    load_encoder_weights(whole, config.weights)
    dictionary.load_backbone(whole.state_dict())
    return dictionary


class DictionaryTrainer:
    """Fits a dictionary in one pass over the normal images, which counts as one epoch.

    The images are not augmented. A random sample of their patches, drawn by the seed, is kept for
    PCA and k-means; the held-out images give the scale of the distances. After an interruption,
    the pass begins anew.

    Args:
        network: has the weights of its encoder; its buffers are filled.
        images: normal images.
        config: settings of the training; epochs and learning rate are not used.
        device: where features are computed.

    Raises:
        ConfigError: there are fewer patches than centres.
    """

    # Of the losses; distances are in the unit of the features.
    names: tuple[str, ...] = ("distance",)

    def __init__(
        self,
        network: FeatureDictionary,
        images: TrainingSet,
        config: TrainConfig,
        device: torch.device,
    ) -> None:
        self.network: FeatureDictionary = network
        self.images = images
        self.config = config
        self.device = device
        self.steps = -(-len(images.fit) // config.batch_size)
        self.workers = 0  # reading an image costs little beside its features
        self.epoch = 0  # finished epochs: 0 or 1
        self.best_weights: dict[str, Tensor] = {}
        of_image = (images.fit.size // STRIDE) ** 2
        self._drawn = min(of_image, -(-PATCHES // len(images.fit)))  # patches of each image
        _require_enough(len(images.fit), self._drawn, images.fit.size, network.config.centres)

    def run(self) -> Iterator[StepStats | EpochStats]:
        """Fit the dictionary; yield the statistics of each batch of features, and of the result.

        Yields nothing if a restored state says that this is done.

        Raises:
            TrainingError: a feature is not finite.
        """
        if self.epoch:
            return
        start = time.perf_counter()
        sample: list[Tensor] = []
        yield from self._draw_patches(sample)
        rate = len(self.images.fit) / (time.perf_counter() - start)
        patches = torch.cat(sample)
        fit_dictionary(self.network, patches.numpy(), seed=self.config.seed)
        (held_out,) = self.evaluate().parts
        self.network.scale.fill_(max(held_out, _LEAST_SCALE))
        self.epoch = 1
        self.best_weights = clone_weights(self.network)
        yield EpochStats(
            epoch=1,
            losses=(self._distance_of(patches),),
            held_out=(held_out,),
            held_out_loss=held_out,
            gradient_norm=0.0,
            learning_rate=0.0,
            images_per_second=rate,
            image_size=self.images.fit.size,
            is_best=True,
        )

    def _draw_patches(self, sample: list[Tensor]) -> Iterator[StepStats]:
        """Add patches (N, C) of each image to `sample`; yield the statistics of each batch."""
        generator = torch.Generator().manual_seed(self.config.seed)
        mean = _RunningMean()
        batches = self.images.fit.batches(self.config.batch_size)

        def compute(batch: Tensor) -> Tensor:
            return self.network.features(batch.to(self.device)).flatten(2).mT.cpu()

        for step, features in enumerate(in_shares(compute, batches), start=1):
            drawn = [
                places[torch.randperm(len(places), generator=generator)[: self._drawn]]
                for places in features
            ]
            patches = torch.cat(drawn)
            sample.append(patches)
            distance = mean.add(patches)
            if not math.isfinite(distance):
                raise TrainingError(
                    f"features of the encoder are not finite; --weights {self.config.weights} "
                    f"are damaged, or do not fit"
                )
            size = self.images.fit.size
            yield StepStats(1, step, self.steps, len(features), size, (distance,), 0.0)

    def _distance_of(self, patches: Tensor) -> float:
        """Average the distances of patches (N, C) from the dictionary."""
        parts = torch.split(patches, _CHUNK)
        distances = [self.network.distances(part.to(self.device)) for part in parts]
        return float(torch.cat(distances).double().mean())

    def evaluate(self) -> HeldOutLosses:
        """Average the distances of all places of the held-out images."""
        batches = self.images.held_out.batches(self.config.batch_size)

        def compute(batch: Tensor) -> Tensor:
            return self.network.distance_maps(batch.to(self.device)).cpu()

        distance = float(torch.cat(list(in_shares(compute, batches))).double().mean())
        return HeldOutLosses((distance,), distance, self.images.held_out.size)

    def state_dict(self) -> dict[str, Any]:
        """List all that `run` needs to go on."""
        return {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`.

        Raises:
            KeyError, RuntimeError, ValueError: the state belongs to another network.
        """
        self.network.load_state_dict(state["network"])
        self.epoch = int(state["epoch"])
        self.best_weights = dict(state["best_weights"])


def fit_dictionary(network: FeatureDictionary, patches: NDArray[np.float32], *, seed: int) -> None:
    """Fit PCA and k-means with scikit-learn, and fill `mean`, `components` and `centres`.

    Args:
        network: its buffers are changed.
        patches: features of normal patches, shape (N, C), at least as many as there are centres.
        seed: of the first centres of k-means.
    """
    # Two seconds to import, and a trained model does without.
    from sklearn.cluster import KMeans  # noqa: PLC0415
    from sklearn.decomposition import PCA  # noqa: PLC0415
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415

    pca = PCA(VARIANCE, svd_solver="covariance_eigh").fit(patches.astype(np.float64))
    kept = len(pca.components_)
    reduced = pca.transform(patches.astype(np.float64))
    clusters = KMeans(network.config.centres, n_init=1, max_iter=_ROUNDS, random_state=seed % 2**32)
    with warnings.catch_warnings():
        # With fewer distinct patches than centres, some centres are the same.
        warnings.simplefilter("ignore", ConvergenceWarning)
        centres = clusters.fit(reduced.astype(np.float32)).cluster_centers_
    network.mean.copy_(torch.from_numpy(pca.mean_))
    network.components.zero_()[:kept] = torch.from_numpy(pca.components_).to(network.components)
    network.centres.zero_()[:, :kept] = torch.from_numpy(centres).to(network.centres)


class _RunningMean:
    """Mean of all patches so far: a dictionary of one entry, until k-means finds the others."""

    def __init__(self) -> None:
        self.total: Tensor | float = 0.0
        self.count = 0

    def add(self, patches: Tensor) -> float:
        """Add patches (N, C), and return their mean distance from the mean."""
        self.total = self.total + patches.double().sum(dim=0)
        self.count += len(patches)
        return float((patches - self.total / self.count).norm(dim=1).mean())


def _require_enough(images: int, of_image: int, size: int, centres: int) -> None:
    """Refuse more centres than there are patches."""
    patches = images * of_image
    if patches < centres:
        raise ConfigError(
            f"--centres {centres} needs at least {centres} normal patches, and {images} images of "
            f"{size} px give {patches}; use --centres {patches} or fewer, more images, or a larger "
            f"--image-size"
        )
