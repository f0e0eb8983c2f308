"""EfficientNet-Lite0 up to stride 16, frozen: features of any image, learned on ImageNet.

Tan and Le 2019, "EfficientNet", without squeeze-and-excitation and with ReLU6 ("Lite", 2020). The
batch norms are folded into the convolutions, so the network has no state but its weights.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN, SCALE = 127 / 255, 128 / 255  # of the pixels that the network was trained on
_EPSILON = 1e-3  # of the batch norms


class Block(NamedTuple):
    """Shape of an inverted residual block: expand, convolve each channel, project."""

    inputs: int  # channels
    outputs: int  # channels
    kernel: int  # pixels
    stride: int
    expansion: int  # channels of the middle over those of the input


def _repeat(count: int, block: Block) -> list[Block]:
    rest = block._replace(inputs=block.outputs, stride=1)
    return [block, *[rest] * (count - 1)]


BLOCKS = (
    *_repeat(1, Block(32, 16, 3, 1, 1)),
    *_repeat(2, Block(16, 24, 3, 2, 6)),
    *_repeat(2, Block(24, 40, 5, 2, 6)),
    *_repeat(3, Block(40, 80, 3, 2, 6)),
    *_repeat(3, Block(80, 112, 5, 1, 6)),
)
STAGES: Mapping[str, int] = {"stride4": 2, "stride8": 4, "stride16": 10}  # last block of each
CHANNELS: Mapping[str, int] = {name: BLOCKS[index].outputs for name, index in STAGES.items()}


class SameConv(nn.Module):
    """A convolution with bias whose zero padding is TensorFlow's: more at the bottom and right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.stride, self.groups = stride, groups

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K, ceil(H / stride), ceil(W / stride))."""
        kernel, padding = self.weight.shape[2], 0
        if self.stride == 1:
            padding = kernel // 2
        else:
            sides = []
            for size in (images.shape[3], images.shape[2]):
                missing = max((-(-size // self.stride) - 1) * self.stride + kernel - size, 0)
                sides += [missing // 2, missing - missing // 2]
            images = F.pad(images, sides)
        return F.conv2d(images, self.weight, self.bias, self.stride, padding, 1, self.groups)


class InvertedResidual(nn.Module):
    """Expand the channels, convolve each on its own, project them; add the input where it fits."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        middle = block.inputs * block.expansion
        self.expand = None if block.expansion == 1 else SameConv(block.inputs, middle, 1, 1, 1)
        self.depthwise = SameConv(middle, middle, block.kernel, block.stride, middle)
        self.project = SameConv(middle, block.outputs, 1, 1, 1)
        self.is_residual = block.stride == 1 and block.inputs == block.outputs

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, K, h / stride, w / stride)."""
        middle = features if self.expand is None else F.relu6(self.expand(features))
        projected: Tensor = self.project(F.relu6(self.depthwise(middle)))
        return features + projected if self.is_residual else projected


class EfficientNetLite0(nn.Module):
    """Stages of the network at strides 4, 8 and 16; what lies above is left out.

    Its parameters need no gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, 32, 3, 2, 1)
        self.blocks = nn.ModuleList(InvertedResidual(block) for block in BLOCKS)
        self.requires_grad_(requires_grad=False)

    def stem_of(self, images: Tensor) -> Tensor:
        """Compute the input of the first block from images (B, 3, H, W) in [0, 1]."""
        return F.relu6(self.stem((images - MEAN) / SCALE))

    def run_stage(self, stage: str, below: Tensor) -> Tensor:
        """Compute a stage from the one below, or the first one from `stem_of`."""
        names = list(STAGES)
        place = names.index(stage)
        start = STAGES[names[place - 1]] + 1 if place else 0
        for block in self.blocks[start : STAGES[stage] + 1]:
            below = block(below)
        return below

    @torch.no_grad()
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the stages of images (B, 3, H, W) in [0, 1]: (B, C, H / stride, W / stride)."""
        features, stages = self.stem_of(images), {}
        for name in STAGES:
            features = stages[name] = self.run_stage(name, features)
        return stages


def fold_norms(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the published state dictionary: names of this module, batch norms folded.

    Args:
        state: of efficientnet-lite-pytorch, with `_conv_stem`, `_blocks` and their norms.

    Raises:
        KeyError: it belongs to another network.
    """
    layers = {"stem": ("_conv_stem", "_bn0")}
    for index, block in enumerate(BLOCKS):
        own = f"_blocks.{index}"
        if block.expansion != 1:
            layers[f"blocks.{index}.expand"] = (f"{own}._expand_conv", f"{own}._bn0")
        layers[f"blocks.{index}.depthwise"] = (f"{own}._depthwise_conv", f"{own}._bn1")
        layers[f"blocks.{index}.project"] = (f"{own}._project_conv", f"{own}._bn2")
    folded = {}
    for name, (conv, norm) in layers.items():
        spread = (state[f"{norm}.running_var"] + _EPSILON).sqrt()
        factor = state[f"{norm}.weight"] / spread
        folded[f"{name}.weight"] = state[f"{conv}.weight"] * factor[:, None, None, None]
        folded[f"{name}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * factor
    return folded
