"""Cost of the attention disentanglement loss, and of a FactorVAE step over a bare loop.

    python benchmarks/disentangle.py [--quick]

Ratios of steps that are taken in turns, so that noise hits both alike; the median of the repeats.
Bars: 1.10 for a step of ad-factor-vae over one of factor-vae, 0.80 for the throughput of a
factor-vae step (images drawn, statistics kept) over a bare loop with the same networks, layout and
optimisers on images that are there already, and 10% of a step for drawing the images. Without a
bar: the same loss by double backward, and a bare loop in PyTorch's default layout and optimiser.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from anomaly_cli.config.disentangle import DisentangleConfig
from anomaly_cli.detector.device import resolve_device, seed_everything
from anomaly_cli.disentangle.dsprites import SpriteImages, open_dsprites
from anomaly_cli.disentangle.training import Trainer
from models.activations import Activation
from models.conv import conv_vae
from models.discriminator import Discriminator, permute_dims
from models.losses import attention_disentanglement_loss, latent_pairs

Step = Callable[[], object]


def seconds(function: Step) -> float:
    """Wall time of one call, the accelerator's queue included."""
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def ratio(function: Step, base: Step, repeats: int) -> float:
    """Median of the ratio of two calls, taken in turns; both are warmed up first."""
    function(), base()
    return statistics.median(seconds(function) / seconds(base) for _ in range(repeats))


class DoubleBackward(Trainer):
    """Computes the loss as most code does: derivatives are differentiated again."""

    def overlap(self, activation: Activation, draw: tuple[int, int]) -> Tensor:
        """Compute the attention disentanglement loss of each image, (B,)."""
        features, mu = activation.features, activation.posterior.mu
        is_random = self.objective.pairs == "random"
        maps = []
        for latent in draw if is_random else range(mu.shape[1]):
            (gradient,) = torch.autograd.grad(mu[:, latent].sum(), features, create_graph=True)
            maps.append((gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu())
        stacked = torch.stack(maps, dim=1)
        pairs = latent_pairs(stacked, self.objective.pairs, (0, 1) if is_random else draw)
        return attention_disentanglement_loss(stacked, pairs, self.objective.map_norm)


class BareLoop:
    """FactorVAE and nothing else, on one pair of batches that is there already."""

    def __init__(self, trainer: Trainer, *, is_plain: bool) -> None:
        layout = torch.contiguous_format if is_plain else torch.channels_last
        config = trainer.config
        self.vae = conv_vae(config.model).to(trainer.device).to(memory_format=layout)
        self.discriminator = Discriminator(config.latent_dim).to(trainer.device)
        batches = trainer.draw(1)
        self.images, self.others = batches.images, batches.others
        self.optimizers = [
            torch.optim.Adam(network.parameters(), lr=1e-4, betas=betas, fused=not is_plain)
            for network, betas in ((self.vae, (0.9, 0.999)), (self.discriminator, (0.5, 0.9)))
        ]

    def __call__(self) -> None:
        """One step of each network."""
        posterior = self.vae.encode(self.images)
        latents = posterior.sample()
        logits = self.vae.decoder(latents)
        misfit = F.binary_cross_entropy_with_logits(logits, self.images, reduction="sum")
        variance = posterior.logvar.exp()
        kl = 0.5 * (posterior.mu.square() + variance - 1 - posterior.logvar).sum()
        odds = self.discriminator(latents)
        loss = (misfit + kl) / len(latents) + 40 * (odds[:, 0] - odds[:, 1]).mean()
        self.optimizers[0].zero_grad()
        loss.backward(inputs=list(self.vae.parameters()))
        self.optimizers[0].step()
        with torch.no_grad():
            permuted = permute_dims(self.vae.encode(self.others).sample())
        logits = self.discriminator(torch.cat([latents.detach(), permuted]))
        targets = torch.arange(2, device=logits.device).repeat_interleave(len(latents))
        self.optimizers[1].zero_grad()
        F.cross_entropy(logits, targets).backward()  # type: ignore[no-untyped-call]
        self.optimizers[1].step()


def make_step(
    kind: type[Trainer], config: DisentangleConfig, sprites: SpriteImages, device: torch.device
) -> tuple[Trainer, Step]:
    """Make a trainer, and a call of its next step that draws the images too."""
    seed_everything(config.seed)
    trainer = kind(conv_vae(config.model), sprites, config.objective(config.method), config, device)

    def step() -> None:
        trainer.step += 1
        trainer.train_step(trainer.draw(trainer.step))

    return trainer, step


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller batch and fewer repeats")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = resolve_device(options.device)
    batch, repeats = (8, 3) if options.quick else (64, 15)
    sprites = open_dsprites(None)
    factor = DisentangleConfig(method="factor-vae", batch_size=batch)
    attention = replace(factor, method="ad-factor-vae")
    every = replace(attention, pairs="all")
    plain, plain_step = make_step(Trainer, factor, sprites, device)
    steps = {
        (kind, config.pairs): make_step(kind, config, sprites, device)[1]
        for kind in (Trainer, DoubleBackward)
        for config in (attention, every)
    }
    print(f"{device}, {torch.get_num_threads()} threads, batch {batch}, median of {repeats}\n")
    print("| ratio | median | bar | |\n| --- | --- | --- | --- |")

    def report(name: str, value: float, bar: float = 0.0, *, is_met: bool = True) -> None:
        verdict = ("ok" if is_met else "over") if bar else ""
        print(f"| {name} | {value:.3f} | {bar or ''} | {verdict} |", flush=True)

    for pairs in ("random", "all"):
        cost = ratio(steps[Trainer, pairs], plain_step, repeats)
        report(f"ad-factor-vae / factor-vae, {pairs} pairs", cost, 1.10, is_met=cost <= 1.10)
        cost = ratio(steps[DoubleBackward, pairs], plain_step, repeats)
        report(f"by double backward / factor-vae, {pairs} pairs", cost)
        cost = ratio(steps[DoubleBackward, pairs], steps[Trainer, pairs], repeats)
        report(f"by double backward / closed form, {pairs} pairs", cost)
    rate = ratio(BareLoop(plain, is_plain=False), plain_step, repeats)
    report("throughput of factor-vae / bare loop", rate, 0.80, is_met=rate >= 0.80)
    rate = ratio(BareLoop(plain, is_plain=True), plain_step, repeats)
    report("throughput of factor-vae / bare loop, default layout and Adam", rate)
    share = ratio(lambda: plain.draw(1), plain_step, repeats)
    report("drawing the images / step", share, 0.10, is_met=share <= 0.10)


if __name__ == "__main__":
    main()
