"""One torch module from images to maps, scores, verdicts and masks, with all that it takes inside.

It computes raw maps with the same code as `localize`. What `localize` does with OpenCV and NumPy
is done here with tensors: resizing, smoothing, fusion, scales, and the outlines of regions.
"""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from anomaly_cli.config.names import MEMORY, SSIM
from anomaly_cli.detector.detector import Detector
from anomaly_cli.detector.fusion import smooth
from anomaly_cli.detector.maps import PARTS, MapSpec
from anomaly_cli.detector.normal.memory import PatchMemory
from anomaly_cli.detector.scales import ScoreScale
from anomaly_cli.detector.vae_mapper import VAEMapper
from anomaly_cli.errors import ConfigError
from anomaly_cli.export.regions import anomaly_masks
from anomaly_cli.export.resizing import fit_maps, resize_images
from anomaly_cli.files.resize import resize_map
from models.anogan import AnoGAN
from models.attention import PER_LATENT
from models.config import EXACT, SUMMED
from models.gradients import Weighting
from models.vae import HiddenHead


class ExportedDetector(nn.Module):
    """A detector as a module without settings: images in, results out.

    Args:
        detector: on the CPU.

    Raises:
        ConfigError: its map cannot be computed in a graph; the message says why.
    """

    blur: Tensor | None  # (S, S): smooths the columns of a map

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        refuse_unsupported(detector)
        mapper = detector.view.mapper
        self.mapper, self.spec, self.threshold = mapper, detector.spec, detector.threshold
        # Registered, so that the exported program owns their weights.
        self.network = mapper.vae if isinstance(mapper, VAEMapper) else detector_network(detector)
        self.memory_encoder = None if mapper.memory is None else mapper.memory.encoder
        self.register_buffer("blur", _blur_matrix(mapper.size, mapper.settings.smoothing))
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the results of images (B, H, W, 3) uint8; H and W are free.

        Returns:
            `map` (B, H, W) float32, `score` (B,) float32, `verdict` (B,) bool, whether the score
            exceeds the threshold, `mask` (B, H, W) bool, and `network_map` (B, S, S) float32, the
            map at the network's size. A model with a memory also gives `nearest` (B, 3) int64,
            image, row and column of the normal patch nearest to the highest pixel, and `distance`
            (B,) float32 of it.
        """
        levels = resize_images(images, self.mapper.size)
        pixels = (levels / 255).contiguous(memory_format=torch.channels_last)
        raw = self.mapper.compute(pixels, self.spec.parts)
        parts = [self._finish(raw.maps[part], place) for place, part in enumerate(self.spec.parts)]
        network_map = parts[0]
        for part in parts[1:]:
            network_map = network_map + part
        if self.mapper.scale is not None:
            network_map = _score(network_map, self.mapper.scale)
        anomaly_map = fit_maps(network_map, images.shape[1], images.shape[2])
        score = network_map.flatten(1).amax(dim=1)
        results = {
            "map": anomaly_map,
            "score": score,
            "verdict": score.double() > self.threshold.value,
            "mask": anomaly_masks(anomaly_map, self.threshold),
            "network_map": network_map,
        }
        if raw.patches is None or self.mapper.memory is None:
            return results
        return results | _nearest(raw.patches, network_map, self.mapper.memory)

    def _finish(self, raw: Tensor, place: int) -> Tensor:
        """Smooth a raw map (B, S, S), and bring a part of a fused map to a common scale."""
        own = raw.float()
        if self.blur is not None:
            own = self.blur @ own @ self.blur.T
        if not self.spec.is_fused:
            return own
        name = self.spec.part_names[place]
        logarithm = torch.log(own + PARTS[name].floor)
        return PARTS[name].weight * _score(logarithm, self.mapper.settings.scales[name])


def output_names(detector: Detector) -> list[str]:
    """List the names of the results, in their order."""
    names = ["map", "score", "verdict", "mask", "network_map"]
    has_patches = any(part.source == MEMORY for part in detector.spec.parts)
    return [*names, "nearest", "distance"] if has_patches else names


def detector_network(detector: Detector) -> nn.Module:
    """Return the network of a detector that is no VAE."""
    return cast("nn.Module", detector.view.mapper.network)  # type: ignore[attr-defined]


def refuse_unsupported(detector: Detector) -> None:
    """Refuse a map that no graph can compute.

    Raises:
        ConfigError: the map needs gradients, or a function that is no part of torch.
    """
    mapper = detector.view.mapper
    if not isinstance(mapper, VAEMapper):
        if isinstance(detector_network(detector), AnoGAN):
            raise ConfigError(
                "AnoGAN searches for an image by gradients while it tests one, "
                "which an exported graph cannot do"
            )
        return
    for part in detector.spec.parts:
        if part.source == SSIM:
            raise ConfigError(f"the map {SSIM} of a VAE is computed by scikit-image: no export")
        if _needs_gradients(mapper, part):
            raise ConfigError(f"the map {part} needs gradients, which an exported graph cannot do")


def _needs_gradients(mapper: VAEMapper, part: MapSpec) -> bool:
    """Check whether attention has no closed form, see `models.gradients`."""
    attention = part.definition.attention
    if attention is None or part.layer is None or attention in EXACT:
        return False
    head = mapper.encoder.closed_head(part.layer)
    if head is None or attention in SUMMED:
        return True
    return isinstance(head, HiddenHead) and PER_LATENT[attention] is not Weighting.MEAN


def _blur_matrix(side: int, sigma: float) -> Tensor | None:
    """Compute the matrix (S, S) that smooths each column as `fusion.smooth` does."""
    if sigma == 0:
        return None
    # A map that is constant along its rows is only smoothed along its columns.
    units = np.eye(side, dtype=np.float32)
    columns = [smooth(np.tile(unit[:, None], side), sigma)[:, 0] for unit in units]
    return torch.from_numpy(np.stack(columns, axis=1))


def _score(values: Tensor, scale: ScoreScale) -> Tensor:
    """Score maps (B, S, S), as `ScoreScale` does for one."""
    mean, std = scale.mean, scale.std
    if mean.size > 1:
        mean, std = (resize_map(part, *values.shape[1:]) for part in scale)
    return (values - torch.from_numpy(mean)) / torch.from_numpy(std)


def _nearest(patches: Tensor, network_map: Tensor, memory: PatchMemory) -> dict[str, Tensor]:
    """Find the normal patch nearest to the highest pixel of each image.

    Args:
        patches: features of each place, (B, C, h, w).
        network_map: shape (B, S, S).
        memory: the normal patches.
    """
    side = network_map.shape[1]
    height, width = patches.shape[2:]
    place = network_map.flatten(1).argmax(dim=1)
    row, column = (place // side) * height // side, (place % side) * width // side
    index = (row * width + column)[:, None, None].expand(-1, patches.shape[1], 1)
    features = patches.flatten(2).gather(2, index)[:, :, 0]  # (B, C)
    middle = memory.patches.mean(dim=0)
    centred = memory.patches - middle
    # |x - p|^2 - |x|^2, multiplied out: one product of matrices.
    squares = centred.square().sum(dim=1) - 2 * ((features - middle) @ centred.T)  # (B, P)
    number = squares.argmin(dim=1)
    distance = (memory.patches[number] - features).square().sum(dim=1).sqrt()
    where = torch.stack([memory.image, memory.row, memory.column], dim=1)
    return {"nearest": where[number], "distance": distance / memory.scale}
