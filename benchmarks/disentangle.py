"""Cost of the attention disentanglement loss, and of a FactorVAE step over a bare loop.

    python benchmarks/disentangle.py [--quick]

Ratios of steps that are taken in turns, so that noise hits both alike; the median of the repeats.
Bars: 1.10 for a step of ad-factor-vae over one of factor-vae, 0.80 for the throughput of a
factor-vae step (images drawn, statistics kept) over a bare loop with the same networks, layout and
optimisers on images that are there already, and 10% of a step for drawing the images. Without a
bar: the same loss by double backward, and a bare loop in PyTorch's default layout and optimiser.
"""

import argparse
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from measure import Table, Work, add_options, paired_seconds
from torch import Tensor

from anomaly_cli.config.disentangle import DisentangleConfig
from anomaly_cli.detector.device import resolve_device, seed_everything
from anomaly_cli.disentangle.dsprites import SpriteImages, open_dsprites
from anomaly_cli.disentangle.training import Trainer
from models.activations import Activation
from models.conv import conv_vae
from models.discriminator import Discriminator, permute_dims
from models.losses import attention_disentanglement_loss, latent_pairs


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
) -> tuple[Trainer, Work]:
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
    add_options(parser)
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
    print(f"{device}, {torch.get_num_threads()} threads, batch {batch}, median of {repeats}")
    table = Table("disentangle", ("ratio", "median", "bar", "verdict"), options.json)

    def report(name: str, work: Work, base: Work, bar: str = "") -> None:
        found = paired_seconds(work, base, repeats).ratio
        limit = float(bar.rsplit(maxsplit=1)[-1]) if bar else 0.0
        is_met = found.median >= limit if bar.startswith(">=") else found.median <= limit
        table.add(name, found, bar, ("ok" if is_met else "missed") if bar else "")

    for pairs in ("random", "all"):
        closed, double = steps[Trainer, pairs], steps[DoubleBackward, pairs]
        report(f"ad-factor-vae / factor-vae, {pairs} pairs", closed, plain_step, "<= 1.10")
        report(f"by double backward / factor-vae, {pairs} pairs", double, plain_step)
        report(f"by double backward / closed form, {pairs} pairs", double, closed)
    bare = BareLoop(plain, is_plain=False)
    report("throughput of factor-vae / bare loop", bare, plain_step, ">= 0.80")
    bare = BareLoop(plain, is_plain=True)
    name = "throughput of factor-vae / bare loop, default layout and Adam"
    report(name, bare, plain_step)
    report("drawing the images / step", partial(plain.draw, 1), plain_step, "<= 0.10")
    table.save()


if __name__ == "__main__":
    main()
