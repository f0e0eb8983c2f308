"""Cost of each definition of attention at each layer, over the bare forward pass of the encoder.

    python benchmarks/attention.py [--quick]

256 px, 32 latents. Bars: 1.10 for every closed form; elsewhere 1.15 times the ratio of the
operations (one forward pass up to the heads, and backward through the part above the layer once
for each latent, or once for the definitions that take one sum). Below it the same maps by a naive
loop (one backward pass per latent through the whole encoder) and by jacobgil's pytorch-grad-cam
(`pip install grad-cam`), and the two ways of autograd that could serve.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import torch
from measure import Table, Work, add_options, paired, seconds
from torch import Tensor, nn

from anomaly_cli.detector.device import resolve_device, seed_everything
from anomaly_cli.detector.normal.appearance import (
    GRID,
    KINDS,
    NEAR,
    WIDE,
    NormalAppearance,
    PlaceAppearance,
    appearance_map,
)
from anomaly_cli.detector.normal.memory import (
    PATCHES,
    PatchMemory,
    patch_distances,
    patch_features,
)
from anomaly_cli.detector.normal.mixture import COMPONENTS, Mixture
from anomaly_cli.training.pretrained import load_features
from models.activations import activate, local_latents
from models.attention import anomaly_maps_of_layers
from models.config import EXACT, SUMMED, Attention, VAEConfig
from models.gradients import Weighting, signed_maps
from models.resnet import ResNet18Encoder, resnet18_vae
from models.statistics import AttentionStatistics, LatentStatistics, LocalStatistics
from models.vae import PooledHead, Posterior

# GFLOP of the encoder above each layer, and of the whole forward pass, at 256 px (torch's counter).
ABOVE = {"layer1": 3.221, "layer2": 2.147, "layer3": 1.074}
FORWARD = 4.737


def ratio(function: Work, base: Work, repeats: int) -> float:
    """Median of the ratio of two calls, taken in turns so that noise hits both alike."""
    return paired(lambda: seconds(function), lambda: seconds(base), repeats).ratio.median


def random_statistics(encoder: ResNet18Encoder, images: Tensor) -> AttentionStatistics:
    """Make statistics of the right shapes: speed does not depend on the values."""
    latents = encoder.mu.out_features
    one = torch.ones(latents, device=images.device)
    layer = encoder.layers[-1]
    activation = activate(encoder, images[:1], layer)
    local = _of_shape(local_latents(activation)[0])
    return AttentionStatistics(LatentStatistics(0 * one, one), local)


def _of_shape(latents: Tensor) -> LocalStatistics:
    ones = torch.ones_like(latents)
    one = ones[:, 0, 0]
    whitening = torch.eye(len(one), device=one.device).expand(*latents.shape[1:], -1, -1)
    return LocalStatistics(0 * ones, ones, 0 * one, one, whitening)


def bench_definitions(table: Table, config: VAEConfig, images: Tensor, repeats: int) -> None:
    """One row for each layer and definition that one shape of encoder has."""
    seed_everything(0)
    encoder: ResNet18Encoder = resnet18_vae(config).encoder.to(images.device).eval()  # type: ignore[assignment]
    bare = torch.no_grad()(lambda: encoder(images))
    all_statistics = random_statistics(encoder, images)
    layers = encoder.layers[::-1] if config.neck == "none" else encoder.layers[-1:]
    for layer in layers:
        head = encoder.closed_head(layer)
        for attention in Attention:
            if attention in EXACT and not isinstance(head, PooledHead):
                continue

            def draw(attention: Attention = attention, layer: str = layer) -> None:
                activation = activate(encoder, images, layer)
                anomaly_maps_of_layers([(activation, [attention])], all_statistics, (256, 256))

            products = 1 if attention in SUMMED else config.latent_dim
            floor = 1.0 if head is not None else 1 + products * ABOVE[layer] / FORWARD
            bar = (1.10 if head is not None else 1.15) * floor
            cost = ratio(draw, bare, repeats)
            verdict = "ok" if cost <= bar else "over"
            table.add(f"{attention}@{layer}", cost, floor, bar, verdict)


def bench_memory(table: Table, images: Tensor, repeats: int) -> None:
    """Time the distances from the nearest patch, in terms of the frozen encoder's forward pass."""
    encoder = load_features().to(images.device)
    features = patch_features(encoder(images))
    patches = torch.randn(PATCHES, features.shape[1], device=images.device)
    places = torch.zeros(PATCHES, dtype=torch.long, device=images.device)
    scale = torch.ones((), device=images.device)
    memory = PatchMemory(encoder, patches, places, places, places, scale)

    def find() -> Tensor:
        return patch_distances(patch_features(encoder(images)), memory)

    # 1024 places x 4000 patches x 152 products: 0.6 of the 0.97 GFLOP of the encoder.
    cost = ratio(find, lambda: encoder(images), repeats) - 1
    verdict = "ok" if cost <= 0.5 else "over"
    table.add("memory, over the frozen encoder", cost, 0.6, 0.5, verdict)


def bench_appearance(table: Table, images: Tensor, repeats: int) -> None:
    """Time the maps that need no network, in terms of the encoder's forward pass."""
    seed_everything(0)
    encoder = resnet18_vae(VAEConfig()).encoder.to(images.device).eval()
    device = images.device

    def places(reaches: Sequence[int]) -> PlaceAppearance:
        count = len(KINDS) * len(reaches)
        whitening = torch.eye(count, device=device).expand(GRID, GRID, -1, -1)
        return PlaceAppearance(torch.zeros(count, GRID, GRID, device=device), whitening)

    def mixture(reaches: Sequence[int]) -> Mixture:
        count = len(KINDS) * len(reaches)
        whitening = torch.eye(count, device=device).expand(COMPONENTS, -1, -1)
        means = torch.randn(COMPONENTS, count, device=device)
        return Mixture(means, whitening, torch.zeros(COMPONENTS, device=device))

    def map_with(normal: NormalAppearance) -> Callable[[], Tensor]:
        return partial(appearance_map, images, normal)

    rows: dict[str, tuple[Callable[[], Tensor], float, float]] = {
        # 20 operations a pixel and 12 x 12 at each of 4096 places, of 4.8 GFLOP: bytes decide.
        "appearance": (map_with(places(NEAR)), 0.001, 0.15),
        "appearance, wide": (map_with(places(WIDE)), 0.002, 0.25),
        # 157 or 343 monomials of each place with 128 kinds of places: 0.16 and 0.36 GFLOP.
        "appearance, any place": (map_with(mixture(NEAR)), 0.035, 0.30),
        "appearance, any place, wide": (map_with(mixture(WIDE)), 0.076, 0.55),
    }
    bench_memory(table, images, repeats)
    bare = torch.no_grad()(lambda: encoder(images))
    for name, (draw, floor, bar) in rows.items():
        cost = ratio(draw, bare, repeats)
        verdict = "ok" if cost <= bar else "over"
        table.add(name, cost, floor, bar, verdict)


def naive_loop(encoder: ResNet18Encoder, images: Tensor, layer: str) -> list[Tensor]:
    """Grad-CAM of every latent as most code has it: one backward pass through the encoder each."""
    features = encoder.features(images, layer)
    features[-1].retain_grad()
    posterior = encoder.posterior(features, layer)
    maps = []
    for latent in range(posterior.mu.shape[1]):
        encoder.zero_grad()
        features[-1].grad = None
        posterior.mu[:, latent].sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
        weights = features[-1].grad.mean(dim=(2, 3), keepdim=True)  # type: ignore[attr-defined]
        maps.append((weights * features[-1]).sum(dim=1).relu().detach())
    return maps


class MeanOnly(nn.Module):
    """Images -> posterior means, as pytorch-grad-cam wants a model."""

    def __init__(self, encoder: ResNet18Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        """Posterior means (B, D)."""
        posterior: Posterior = self.encoder(images)
        return posterior.mu


def other_tool(encoder: ResNet18Encoder, images: Tensor, layer: str) -> Callable[[], object] | None:
    """Return a call of jacobgil's pytorch-grad-cam for these maps, if it is installed."""
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError:
        return None
    latents = encoder.mu.out_features
    tool = GradCAM(model=MeanOnly(encoder), target_layers=[getattr(encoder, layer)])

    def draw() -> None:
        for latent in range(latents):
            tool(input_tensor=images, targets=[ClassifierOutputTarget(latent)] * len(images))

    return draw


def batched_gradients(encoder: ResNet18Encoder, images: Tensor, layer: str) -> Tensor:
    """All latents at once by `is_grads_batched`."""
    activation = activate(encoder, images, layer)
    mu = activation.posterior.mu
    rows = torch.eye(mu.shape[1], device=mu.device)[:, None].expand(-1, len(mu), -1)
    (gradients,) = torch.autograd.grad(mu, activation.features, rows, is_grads_batched=True)
    weights = gradients.mean(dim=(3, 4))
    return torch.einsum("ibk,bkhw->bihw", weights, activation.features)


def bench_others(table: Table, images: Tensor, repeats: int) -> None:
    """Others' time over ours, all for the Grad-CAM maps of every latent."""
    seed_everything(0)
    encoder: ResNet18Encoder = resnet18_vae(VAEConfig()).encoder.to(images.device).eval()  # type: ignore[assignment]
    for layer in encoder.layers[::-1]:

        def ours(layer: str = layer) -> None:
            signed_maps(activate(encoder, images, layer), [Weighting.MEAN])

        tool = other_tool(encoder, images, layer)
        rows = [
            ratio(partial(naive_loop, encoder, images, layer), ours, repeats),
            ratio(tool, ours, repeats) if tool else float("nan"),
            ratio(partial(batched_gradients, encoder, images, layer), ours, repeats),
        ]
        table.add(layer, *rows)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    options = parser.parse_args()
    device = resolve_device(options.device)
    batch, repeats = (2, 1) if options.quick else (8, 3)
    images = torch.rand(batch, 3, 256, 256, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    print(f"{device}, {torch.get_num_threads()} threads, batch {batch}, median of {repeats}")
    columns = ("map", "time / forward", "operations / forward", "bar", "met")
    table = Table("attention", columns, options.json)
    bench_definitions(table, VAEConfig(), images, repeats)
    bench_definitions(table, VAEConfig(neck="fpn"), images, repeats)
    bench_appearance(table, images, repeats)
    table.save()
    others = ("layer", "naive loop / ours", "pytorch-grad-cam / ours", "is_grads_batched / ours")
    table = Table("gradients of latents", others, options.json)
    bench_others(table, images, 1)
    table.save()


if __name__ == "__main__":
    main()
