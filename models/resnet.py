"""VAE of the MVTec experiments: a ResNet18 encoder, and the decoder of `models.decoder`.

Bhattad, Liu et al. (CVPR 2020) do not specify stem, pooling and decoder; `docs/method.md` gives
the choices and their reasons.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from models.config import STAGES, Freeze, VAEConfig
from models.decoder import ConvDecoder
from models.stages import StagedEncoder
from models.vae import VAE

FEATURES = {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}  # channels of each stage

# Statistics of ImageNet, so that pretrained and fresh encoders see the same input.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


class ResNet18Encoder(StagedEncoder):
    """ResNet18 of torchvision, an optional neck, and an affine head for each posterior parameter.

    Parameter names are torchvision's, so its state dictionaries load as they are. Every stage ends
    in a ReLU whose output no later operation overwrites, so attention may read it.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: VAEConfig) -> None:
        # Imported here, as it loads torch's compiler: a third of the time to start `localize`.
        from torchvision.models import resnet18  # noqa: PLC0415

        backbone = resnet18(weights=None)
        super().__init__(config)
        self.conv1, self.bn1 = backbone.conv1, backbone.bn1
        self.relu, self.maxpool = backbone.relu, backbone.maxpool
        self.layer1, self.layer2 = backbone.layer1, backbone.layer2
        self.layer3, self.layer4 = backbone.layer3, backbone.layer4
        self.frozen: tuple[nn.Module, ...] = ()
        self.add_head(config, FEATURES)
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(1, 3, 1, 1), False)

    def stem(self, images: Tensor) -> Tensor:
        """Compute the input of `layer1` from images (B, 3, H, W) in [0, 1]."""
        hidden: Tensor = (images - self.pixel_mean) / self.pixel_std
        return cast("Tensor", self.maxpool(self.relu(self.bn1(self.conv1(hidden)))))

    def run_stage(self, stage: str, below: Tensor) -> Tensor:
        """Compute one of `layer1` to `layer4` from the one below."""
        return cast("Tensor", getattr(self, stage)(below))

    def load_backbone(self, state: Mapping[str, Tensor]) -> None:
        """Load convolutions and norms of a torchvision ResNet18; its classifier is left out.

        Raises:
            RuntimeError: a tensor is missing, is of another shape, or belongs to another network.
        """
        own = {
            name for name in self.state_dict() if name.split(".")[0] not in {"mu", "logvar", "neck"}
        }
        given = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
        # Weights from before PyTorch 0.4.1, such as torchvision's, have no counters of batches.
        counters = {name for name in own if name.endswith(".num_batches_tracked")}
        if missing := sorted(own - counters - given.keys()):
            raise RuntimeError(f"{len(missing)} tensors are missing, such as {missing[0]}")
        if unknown := sorted(given.keys() - own):
            raise RuntimeError(f"{len(unknown)} tensors are not ResNet18's, such as {unknown[0]}")
        self.load_state_dict(given, strict=False)

    def freeze(self, stage: Freeze) -> None:
        """Freeze weights and batch statistics up to and including a stage, permanently."""
        if stage == "none":
            return
        names = ["stem", *STAGES][: 1 + ["stem", *STAGES].index(stage)]
        stages = [getattr(self, name) for name in names[1:]]
        self.frozen = (self.conv1, self.bn1, *stages)
        for module in self.frozen:
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "ResNet18Encoder":
        """Set train mode, or eval mode; frozen modules stay in eval mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self


def resnet18_vae(config: VAEConfig) -> VAE:
    """Build the VAE of `config`, freshly initialised.

    Its memory format is channels_last, which is 2.3 times faster on CPU.
    """
    vae = VAE(ResNet18Encoder(config), ConvDecoder(config), rebuilt_size=config.rebuilt_size)
    return vae.to(memory_format=torch.channels_last)
