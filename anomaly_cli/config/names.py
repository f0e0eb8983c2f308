"""Names that settings take, and names of files that the tool writes. Loads no torch."""

from collections.abc import Mapping
from typing import Literal

MODEL_FILE = "model.safetensors"
STATE_FILE = "training_state.pt"
DATA_VARIABLE = "ANOMALY_CLI_DATA"  # environment variable: root of the data sets

DOWNLOADS = ("mnist", "ucsd", "mvtec", "dsprites", "weights")  # what `download` fetches

DatasetName = Literal["mvtec", "mnist", "ucsd", "folder"]
# Channels of the convolutions, by data set with a plain convolutional network of its own. Sides
# of the activations: 28, 14 and 7 pixels for MNIST; 100, 50, 25 and 12 for UCSD.
CHANNELS: Mapping[str, tuple[int, ...]] = {"mnist": (64, 128), "ucsd": (64, 128, 256)}

# Categories that are textures, by name; all others are objects.
TEXTURES = frozenset({"carpet", "grid", "leather", "tile", "wood", "grass", "gravel"})

Guidance = Literal["synthetic", "none"]
Speed = Literal["fast", "default", "thorough"]  # of a training
MapSource = Literal[
    "attention",
    "appearance",
    "memory",
    "reconstruction",
    "ssim",
    "centre_prior",
    "fused",
]
FUSED: MapSource = "fused"  # memory, appearance and attention, in standard deviations
APPEARANCE = "appearance"  # how unusual brightness, contrast, edges and colour are
MEMORY = "memory"  # distance from the nearest normal patch, in features of ImageNet
RECONSTRUCTION = "reconstruction"  # |x - x^|, error of the image that the decoder has rebuilt
SSIM = "ssim"  # 1 - structural similarity of x and x^
CENTRE_PRIOR = "centre_prior"  # a Gaussian in the middle, the same for all images
BASELINES = (APPEARANCE, RECONSTRUCTION, SSIM, CENTRE_PRIOR)

Scores = Literal["raw", "global", "position"]
Layout = Literal["mirror", "mvtec"]
MaskResizing = Literal["nearest", "area"]  # of a ground-truth mask to the network's size
Resolution = Literal["network", "original"]  # at which maps and masks are compared
Counting = Literal["exact", "streaming"]  # of pixels, for their metrics

ExportFormat = Literal["onnx", "torch"]
Engine = Literal["torch", "onnxruntime"]  # that computes maps
ONNX_SUFFIX = ".onnx"
EXPORT_SUFFIXES: Mapping[ExportFormat, str] = {"onnx": ONNX_SUFFIX, "torch": ".pt2"}
