"""Dictionary of normal patch features, and the distance of each place of an image from it.

Napoletano et al. 2018, "Anomaly Detection in Nanofibrous Materials by CNN-Based Self-Similarity".
Patches are described by features that a network learned on ImageNet, reduced by PCA. k-means makes
a dictionary of the patches of normal images. A patch that is far from the nearest entries is
anomalous. docs/decisions/0024 tells how this differs from the paper.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import DictionaryConfig, VAEConfig
from models.efficientnet import CHANNELS, EfficientNetLite0
from models.patches import join_stages
from models.resnet import FEATURES, ResNet18Encoder

STRIDE = 8  # pixels from one place to the next
_RESNET_STAGES = ("layer2", "layer3")  # at strides 8 and 16
_LITE_STAGES = ("stride8", "stride16")


class FeatureDictionary(nn.Module):
    """A frozen encoder, the principal components of its features, and centres of k-means.

    It is always in eval mode, and no parameter needs a gradient. The C features of a place are
    those of the encoder at strides 8 and 16. All shapes depend on `config` alone.

    Args:
        config: encoder, and size of the dictionary.
    """

    mean: Tensor  # (C,) of the features of normal patches
    components: Tensor  # (C, C): a component in each row; those that PCA leaves out are zero
    centres: Tensor  # (K, C) in terms of the components
    scale: Tensor  # (), mean distance of held-out normal patches

    def __init__(self, config: DictionaryConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = EfficientNetLite0() if _is_lite(config) else _resnet18_below(config)
        if _is_lite(config):
            channels = sum(CHANNELS[name] for name in _LITE_STAGES)
        else:
            channels = sum(FEATURES[name] for name in _RESNET_STAGES)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("components", torch.zeros(channels, channels))
        self.register_buffer("centres", torch.zeros(config.centres, channels))
        self.register_buffer("scale", torch.ones(()))
        self.requires_grad_(requires_grad=False)
        self.eval()

    def train(self, mode: bool = True) -> "FeatureDictionary":  # noqa: ARG002
        """Stay in eval mode: the batch norms of the encoder must not change."""
        return super().train(False)

    def load_backbone(self, state: Mapping[str, Tensor]) -> None:
        """Load the weights of the encoder from those of the whole network.

        Args:
            state: of an `EfficientNetLite0` or a `ResNet18Encoder`; stages that the dictionary
                does not use are left out.
        """
        own = self.encoder.state_dict()
        self.encoder.load_state_dict({name: state[name] for name in own})

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Compute the features of each place: two stages, averaged with their neighbours.

        Args:
            images: shape (B, 3, S, S) in [0, 1].

        Returns:
            Shape (B, C, S/8, S/8).
        """
        images = images.contiguous(memory_format=torch.channels_last)
        if isinstance(self.encoder, EfficientNetLite0):
            stages = self.encoder(images)
            chosen = [stages[name] for name in _LITE_STAGES]
        else:
            chosen = self.encoder.features(images, _RESNET_STAGES[-1])[-len(_RESNET_STAGES) :]
        return join_stages(*chosen)

    @torch.no_grad()
    def distances(self, patches: Tensor) -> Tensor:
        """Compute the mean distance of each patch from the nearest centres, not scaled.

        Args:
            patches: features, shape (N, C).

        Returns:
            Shape (N,), in the unit of the features.
        """
        reduced = (patches - self.mean) @ self.components.T
        # Multiplied out, which is one product of matrices. As the mean is subtracted before,
        # rounding changes a usual distance by less than a ten-thousandth.
        squares = torch.addmm(self.centres.square().sum(dim=1), reduced, self.centres.T, alpha=-2)
        squares = squares + reduced.square().sum(dim=1, keepdim=True)
        all_distances = squares.clamp_min(0.0).sqrt()
        return all_distances.topk(self.config.nearest, dim=1, largest=False).values.mean(dim=1)

    @torch.no_grad()
    def distance_maps(self, images: Tensor) -> Tensor:
        """Compute the distances of all places of images (B, 3, S, S): (B, S/8, S/8), not scaled."""
        places = self.features(images).permute(0, 2, 3, 1)  # (B, h, w, C)
        return self.distances(places.flatten(0, 2)).reshape(places.shape[:3])

    @torch.no_grad()
    def anomaly_maps(self, images: Tensor) -> Tensor:
        """Compute how far each place is from the dictionary.

        Args:
            images: shape (B, 3, S, S) in [0, 1].

        Returns:
            Shape (B, S, S), not negative; 1 on average in normal images.
        """
        maps = self.distance_maps(images) / self.scale
        size = (images.shape[2], images.shape[3])
        return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]

    def expected(self, images: Tensor) -> None:
        """Return None: a dictionary rebuilds no images."""


def _is_lite(config: DictionaryConfig) -> bool:
    return config.encoder == "efficientnet-lite0"


def _resnet18_below(config: DictionaryConfig) -> ResNet18Encoder:
    """Build a ResNet18 without the stage and the heads above the features of the dictionary."""
    encoder = ResNet18Encoder(VAEConfig(image_size=config.image_size, latent_dim=1))
    del encoder.layer4, encoder.mu, encoder.logvar
    return encoder.to(memory_format=torch.channels_last)
