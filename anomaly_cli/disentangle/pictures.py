"""Pictures of latents: attention maps, traversals, and mutual information with the factors."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from anomaly_cli.disentangle.dsprites import FACTOR_SIZES, FACTORS, SpriteImages
from anomaly_cli.disentangle.runs import Run
from anomaly_cli.disentangle.training import attention_maps, to_tensor
from anomaly_cli.files.images import RGBImage
from anomaly_cli.pictures.colours import heat_levels, overlay
from anomaly_cli.pictures.layout import (
    HEADING,
    SMALL,
    TITLE,
    below,
    beside,
    captioned,
    colour_bar,
    framed,
    margin,
    pad,
    paragraph,
    text_line,
)
from models.activations import activate
from models.losses import kl_divergence

STEPS = tuple(np.linspace(-2, 2, 9).tolist())  # of a traversal, in standard deviations of the prior
TILE = 112  # pixels
ENTROPIES = np.log(FACTOR_SIZES)  # nats, of each factor
_BLUE = np.array((11, 98, 196))
_LABEL = 190  # pixels, width of the words before a row
_CPU = torch.device("cpu")


class SeenImage(NamedTuple):
    """One image and the two latents that respond most to it."""

    image: NDArray[np.uint8]  # (H, W), 0 or 1
    latents: tuple[int, int]  # the strongest first
    shares: tuple[float, float]  # of the sum of the maps of all latents
    maps: NDArray[np.float32]  # (2, h, w)


def choose_examples(sprites: SpriteImages, count: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Choose the indices of images to show, one shape after the other; equal for all models."""
    per_shape = len(sprites) // FACTOR_SIZES[0]
    drawn = np.random.default_rng([seed, 0]).integers(0, per_shape, count)
    return drawn + per_shape * (np.arange(count) % FACTOR_SIZES[0])


def see_images(run: Run, images: NDArray[np.uint8]) -> list[SeenImage]:
    """Find the two latents of each image (B, H, W) whose attention maps have the largest sums."""
    encoder = run.vae.encoder
    activation = activate(encoder, to_tensor(images, _CPU), encoder.layers[-1])  # type: ignore[arg-type, index]
    maps = attention_maps(activation).detach().numpy()
    seen = []
    for image, of_image in zip(images, maps, strict=True):
        sums = of_image.sum(axis=(1, 2))
        first, second = (int(latent) for latent in np.argsort(-sums, kind="stable")[:2])
        total = float(sums.sum()) or 1.0
        shares = float(sums[first]) / total, float(sums[second]) / total
        seen.append(SeenImage(image, (first, second), shares, of_image[[first, second]]))
    return seen


def attention_figure(runs: Sequence[Run], images: NDArray[np.uint8]) -> RGBImage:
    """Draw Figure 8 of the paper: images (B, H, W) and attention maps of their two highest latents.

    The colours of a model run from zero to the largest value of its maps in this figure.
    """
    columns = [_image_column(images)] + [_attention_columns(run, images) for run in runs]
    scale = colour_bar("attention, one scale for each model", [(0, "0"), (1, "largest")], width=300)
    return _sheet(
        "Where the two highest latents look",
        "A row is an image. Under each map: the latent and its share of the attention of all "
        "latents. Highest means the largest sum of the map in this image.",
        [beside(columns, gap=28), scale],
        width=sum(column.shape[1] for column in columns),
    )


def _sheet(
    title: str, text: str, rows: Sequence[RGBImage], *, width: int | None = None
) -> RGBImage:
    """Stack rows under a title and a text, which has the width of the first row by default."""
    words = paragraph(text, SMALL, width=width or rows[0].shape[1])
    return margin(below([text_line(title, TITLE), words, *rows]))


def _image_column(images: NDArray[np.uint8]) -> RGBImage:
    titles = text_line(" ", HEADING), text_line("image", SMALL)
    return below([*titles, *(captioned(_tile(image), "", width=TILE) for image in images)])


def _attention_columns(run: Run, images: NDArray[np.uint8]) -> RGBImage:
    rows = see_images(run, images)
    top = max(float(max(row.maps.max() for row in rows)), 1e-12)
    columns = []
    for place, title in enumerate(("highest", "next")):
        pieces = [
            captioned(
                _overlay(row.image, row.maps[place], top),
                f"z{row.latents[place]}, {row.shares[place]:.0%}",
                width=TILE,
            )
            for row in rows
        ]
        columns.append(below([text_line(title, SMALL), *pieces]))
    return below([text_line(run.name, HEADING), beside(columns)])


def _tile(image: NDArray[np.floating] | NDArray[np.uint8]) -> RGBImage:
    """Draw an image (H, W) in [0, 1] as a grey tile."""
    grey = np.round(255 * np.asarray(image, np.float32)).astype(np.uint8)
    grey = np.asarray(cv2.resize(grey, (TILE, TILE), interpolation=cv2.INTER_NEAREST))
    return np.repeat(grey[..., None], 3, axis=2)


def _overlay(image: NDArray[np.uint8], attention: NDArray[np.float32], top: float) -> RGBImage:
    enlarged = cv2.resize(attention, (TILE, TILE), interpolation=cv2.INTER_LINEAR)
    # A dim sprite, so that colours are visible on it and beside it.
    return overlay(
        _tile(image * np.float32(0.6)), heat_levels(np.asarray(enlarged, np.float32), (0.0, top))
    )


@torch.no_grad()
def traverse(run: Run, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Decode an image (H, W) while one latent at a time is set to each of STEPS.

    The other latents stay at the posterior mean.

    Returns:
        Decoded images (D, T, H, W) in [0, 1], and the KL of each latent (D,) in nats.
    """
    posterior = run.vae.encode(to_tensor(image[None], _CPU))
    divergence = kl_divergence(posterior.mu.T, posterior.logvar.T)  # latent by latent, (D,)
    frames = []
    for latent in range(posterior.mu.shape[1]):
        codes = posterior.mu.repeat(len(STEPS), 1)
        codes[:, latent] = torch.tensor(STEPS)
        frames.append(run.vae.decode(codes)[:, 0].numpy())
    return np.stack(frames), divergence.numpy()


def traversal_figure(run: Run, image: NDArray[np.uint8]) -> RGBImage:
    """Draw the traversal of each latent as a row, those with the largest KL first."""
    frames, divergence = traverse(run, image)
    header = [pad(text_line("", SMALL), 0, _LABEL)]
    header += [pad(text_line(f"{step:+.1f}", SMALL), 0, TILE + 2) for step in STEPS]
    rows = [beside(header)]
    for latent in np.argsort(-divergence, kind="stable"):
        label = below(
            [
                text_line(f"z{latent}", HEADING),
                text_line(f"KL {divergence[latent]:.2f} nats", SMALL),
                text_line(_most_told(run, int(latent)), SMALL),
            ]
        )
        tiles = [framed(_tile(frame)) for frame in frames[latent]]
        rows.append(beside([pad(label, 0, _LABEL, align=0), *tiles]))
    return _sheet(
        f"What each latent draws: {run.name}",
        "One latent at a time is set to the value above the column, in standard deviations of the "
        "prior; the others stay as the encoder sees one image. A latent with a KL near 0 carries "
        "nothing.",
        rows,
    )


def _most_told(run: Run, latent: int) -> str:
    """Describe the factor of whose entropy a latent explains the largest share."""
    shares = run.information[:, latent] / ENTROPIES
    return f"explains {shares.max():.0%} of {FACTORS[int(shares.argmax())]}"


def information_figure(run: Run) -> RGBImage:
    """Draw the mutual information of factors (rows) and latents (columns).

    A cell is coloured by its share of the factor's entropy.
    """
    side = 64
    rows = [
        beside(
            [
                pad(text_line("", SMALL), 0, _LABEL),
                *(
                    pad(text_line(f"z{latent}", SMALL), 0, side + 2)
                    for latent in range(run.information.shape[1])
                ),
            ]
        )
    ]
    for name, entropy, values in zip(FACTORS, ENTROPIES, run.information, strict=True):
        label = below([text_line(name, HEADING), text_line(f"entropy {entropy:.2f} nats", SMALL)])
        cells = [
            captioned(
                np.full((side // 2, side, 3), _shade(value / entropy)), f"{value:.2f}", width=side
            )
            for value in values
        ]
        rows.append(beside([pad(label, 0, _LABEL, align=0), *cells]))
    return _sheet(
        f"Information of each latent about each factor: {run.name}",
        "Mutual information in nats. A cell is the bluer, the larger its share of the factor's "
        "entropy. Where latents are disentangled, a factor has one blue cell, and so has a latent.",
        rows,
    )


def _shade(share: float) -> NDArray[np.uint8]:
    """Mix white (a share of 0) and blue (a share of 1)."""
    share = min(max(share, 0.0), 1.0)
    return np.round(255 * (1 - share) + share * _BLUE).astype(np.uint8)
