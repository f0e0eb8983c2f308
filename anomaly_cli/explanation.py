"""What the latents see, as pictures: the contact sheet of one image, the figure of several."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.files.images import AnomalyMap, ColourRange, RGBImage, resize_image, resize_map
from anomaly_cli.latents import STEPS, ImageLatents, latent_stretch
from anomaly_cli.localization import LocalizedImage, Localizer
from anomaly_cli.masks import Threshold, anomaly_mask
from anomaly_cli.rendering import heat_levels, overlay
from anomaly_cli.sheets import (
    GAP,
    HEADING,
    SMALL,
    TITLE,
    below,
    beside,
    captioned,
    colour_bar,
    fit,
    framed,
    grid,
    margin,
    pad,
    paragraph,
    text_line,
)

SHEET_TILE = (256, 384)  # height and width in pixels that no picture exceeds
SHEET_COLUMNS = 6  # at most
FIGURE_TILE = (176, 264)
FRAME = (112, 168)  # of a traversal
CAPTION = 176  # pixels that a caption has at least, under the narrowest picture
BAR = 320  # width of a colour bar in pixels

FOOTNOTE = (
    "A latent's picture shows where in the image the map finds it at work; without colour it is "
    "nothing unusual. Under it stand the latent's value z and how many standard deviations (sd) "
    "that lies from the mean of the normal images. The same colour means the same in all pictures."
)
TRAVERSAL = (
    "What each latent stands for: how the decoder draws the mean of the normal images when this "
    "latent alone is moved. The last row shows where its first and last picture differ; black is "
    "the largest difference of these latents, {largest:.1%} of full brightness."
)


class Scale(NamedTuple):
    """What colours mean: one for all pictures of a model."""

    threshold: Threshold  # of the anomaly map
    colour_range: ColourRange
    latent_colour_range: ColourRange
    latent_kinds: tuple[str, ...] = ()  # of drawn defect that each latent answers to most

    def name(self, latent: int) -> str:
        """Such as `z7 scratch`."""
        return f"z{latent} {self.latent_kinds[latent]}" if self.latent_kinds else f"z{latent}"


class ExplainedImage(NamedTuple):
    """An image, small enough to be drawn beside others, and what was found in it."""

    name: str
    tile: RGBImage  # (H, W, 3)
    anomaly_map: AnomalyMap  # (S, S)
    score: float
    latents: ImageLatents


def scale_of(localizer: Localizer) -> Scale:
    """The colours of a model's pictures."""
    return Scale(
        localizer.threshold,
        localizer.colour_range,
        localizer.latent_colour_range,
        localizer.loaded.record.latent_kinds,
    )


def shrink(name: str, result: LocalizedImage, box: tuple[int, int]) -> ExplainedImage:
    """An image with its latents, scaled to fit into a box (height, width)."""
    assert result.latents is not None  # noqa: S101 - it was localized with them
    tile = fit(result.image, *box)
    return ExplainedImage(name, tile, result.anomaly_map, result.score, result.latents)


def latent_overlay(
    image: RGBImage, latent_map: AnomalyMap, side: int, colour_range: ColourRange
) -> RGBImage:
    """An image (H, W, 3) under the map (h, w) of one latent.

    Enlarged in two steps by way of the network's side, as the anomaly map is.
    """
    height, width = image.shape[:2]
    enlarged = resize_map(resize_map(latent_map, side, side), height, width)
    return overlay(image, heat_levels(enlarged, colour_range))


def contact_sheet(image: ExplainedImage, latents: Sequence[int], scale: Scale) -> RGBImage:
    """The image, its anomaly map and the maps of latents, with the numbers under each."""
    tiles = _image_tiles(image, scale)
    for latent in latents:
        caption = f"{scale.name(latent)}  {_in_deviations(image.latents.deviations[latent])}"
        tiles.append(_latent_tile(image, latent, scale, caption))
    count = -(-len(tiles) // SHEET_COLUMNS)  # rows, filled evenly
    columns = -(-len(tiles) // count)
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    return margin(below([grid(rows), _legend(len(image.latents.means))]))


def explanation_figure(
    images: Sequence[ExplainedImage],
    latents: Sequence[int],
    frames: NDArray[np.uint8],
    scale: Scale,
    *,
    title: str,
    subtitle: str,
) -> RGBImage:
    """Figure 1 of the paper, with a traversal of the decoder under each column.

    Args:
        images: one row each.
        latents: one column each.
        frames: of the traversal of each latent at `latents.STEPS`, (K, T, S, S, 3).
        scale: of the colours.
        title: what it shows.
        subtitle: how it was made.
    """
    heads = ["image", "anomaly map", *(f"latent {scale.name(latent)}" for latent in latents)]
    rows = [[text_line(head, HEADING) for head in heads]]
    rows += [figure_row(image, latents, scale) for image in images]
    cell = max(piece.shape[1] for row in rows for piece in row)
    pictures = grid(rows, cell=cell)
    changes = abs(frames[:, -1].astype(float) - frames[:, 0]).mean(axis=-1) / 255  # (K, S, S)
    traversals = grid(_traversal_rows(frames, changes, like=images[0].tile), cell=cell)
    width = pictures.shape[1]
    parts = [
        below([text_line(title, TITLE), text_line(subtitle, SMALL)], gap=0),
        _legend(len(images[0].latents.means)),
        pictures,
        paragraph(FOOTNOTE, SMALL, width=width),
        paragraph(TRAVERSAL.format(largest=changes.max()), width=width),
        traversals,
    ]
    return margin(below(parts, gap=2 * GAP))


def figure_row(image: ExplainedImage, latents: Sequence[int], scale: Scale) -> list[RGBImage]:
    """The image, its anomaly map and the maps of latents, with the value of each under it."""
    tiles = _image_tiles(image, scale)
    for latent in latents:
        mean, deviation = image.latents.means[latent], image.latents.deviations[latent]
        caption = f"z = {mean:+.2f}  ({_in_deviations(deviation)})"
        tiles.append(_latent_tile(image, latent, scale, caption))
    return tiles


def _traversal_rows(
    frames: NDArray[np.uint8], changes: NDArray[np.float64], like: RGBImage
) -> list[list[RGBImage]]:
    """A row for each step, then the change; with the proportions of `like`, as images had."""
    height, width = fit(like, *FRAME).shape[:2]
    grey = 255 - np.rint(255 * changes / max(changes.max(), 1e-12)).astype(np.uint8)
    labels = [*(f"{step:+g} sd" if step else "mean" for step in STEPS), "difference"]
    pictures = [*frames.swapaxes(0, 1), np.repeat(grey[..., None], 3, axis=-1)]
    rows = []
    for label, of_latents in zip(labels, pictures, strict=True):
        left = [pad(text_line(text), height, CAPTION, align=1) for text in ("", label)]
        rows.append([*left, *(framed(resize_image(p, height, width)) for p in of_latents)])
    return rows


def _legend(latent_dim: int) -> RGBImage:
    """The colours of both kinds of maps; they run to twice the distance of the threshold."""
    of_latent = f"{latent_stretch(latent_dim):.2g} x stored threshold"
    bars = [("Colours of the anomaly map", "threshold"), ("Colours of one latent", of_latent)]
    return beside(
        [
            colour_bar(title, [(0, "normal"), (0.5, middle), (1, "twice as far")], width=BAR)
            for title, middle in bars
        ],
        gap=6 * GAP,
    )


def _in_deviations(deviation: float) -> str:
    """Such as `+4.2 sd`; small ones with one more digit."""
    return f"{deviation:+.{1 if abs(deviation) >= 0.95 else 2}f} sd"


def _image_tiles(image: ExplainedImage, scale: Scale) -> list[RGBImage]:
    height, width = image.tile.shape[:2]
    anomaly_map = resize_map(image.anomaly_map, height, width)
    levels = heat_levels(anomaly_map, scale.colour_range)
    picture = overlay(image.tile, levels, anomaly_mask(anomaly_map, scale.threshold))
    verdict = "anomalous" if image.score > scale.threshold.value else "normal"
    return [
        captioned(image.tile, image.name, width=CAPTION),
        captioned(picture, f"{verdict}: {image.score:.3g}", width=CAPTION),
    ]


def _latent_tile(image: ExplainedImage, latent: int, scale: Scale, caption: str) -> RGBImage:
    side, latent_map = len(image.anomaly_map), image.latents.maps[latent]
    picture = latent_overlay(image.tile, latent_map, side, scale.latent_colour_range)
    return captioned(picture, caption, width=CAPTION)
