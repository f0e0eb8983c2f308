"""Pictures of the maps of latents: a contact sheet of one image, and a figure of several."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly_cli.files.images import AnomalyMap, ColourRange, Mask, RGBImage
from anomaly_cli.files.resize import resize_image, resize_map
from anomaly_cli.pictures.colours import heat_levels, overlay
from anomaly_cli.pictures.layout import (
    GAP,
    HEADING,
    PAPER,
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
from anomaly_cli.pictures.patches import ComparedPatch

SHEET_TILE = (256, 384)  # largest height and width of an image on a contact sheet, in pixels
SHEET_COLUMNS = 6  # largest number of columns of a contact sheet
FIGURE_TILE = (176, 264)  # largest height and width of an image in a figure, in pixels
FRAME = (112, 168)  # largest height and width of a frame of a traversal, in pixels
CAPTION = 176  # least width of a caption in pixels
BAR = 320  # width of a colour bar in pixels
NOTE = 640  # least width of a note in pixels

FOOTNOTE = (
    "The picture of a latent shows where it differs from normal images; places without colour are "
    "normal. Below it: the value z of the latent, and its distance from the mean of the normal "
    "images in standard deviations (sd). A colour has the same meaning in all pictures."
)
COMPARED = (
    "Between the anomaly map and the latents: the place where the map is highest, and the place of "
    "a normal training image that resembles it most. A distance of 1 x is usual."
)
EXPECTED = (
    "Last column: what the model takes the image for, made of what it knows of normal images. The "
    "map compares the two."
)
TRAVERSAL = (
    "Meaning of each latent: the image that the decoder makes of the mean of the normal images "
    "when this latent alone is changed. The last row shows the difference between the first and "
    "the last image; black is the largest difference of these latents, {largest:.1%} of full "
    "brightness."
)


class Scale(NamedTuple):
    """Meaning of colours and names of latents, the same in all pictures of a model."""

    colour_range: ColourRange  # of the anomaly map
    latent_colour_range: ColourRange  # of the maps of latents
    stretch: float  # width of the latents' range in terms of the width of the anomaly map's
    latent_kinds: tuple[str, ...] = ()  # kind of synthetic defect that each latent responds to most

    def name(self, latent: int) -> str:
        """Name a latent by its number and kind of defect, such as `z7 scratch`."""
        return f"z{latent} {self.latent_kinds[latent]}" if self.latent_kinds else f"z{latent}"


class ExplainedImage(NamedTuple):
    """Image, shrunk to be drawn beside others, with its maps, score and latents."""

    name: str
    tile: RGBImage  # (H, W, 3)
    anomaly_map: AnomalyMap  # (H, W)
    mask: Mask  # (H, W), anomalous regions
    side: int  # of the network's input in pixels; maps are enlarged to this size first
    score: float
    is_anomalous: bool
    means: NDArray[np.float32]  # (D,), of the latents
    deviations: NDArray[np.float32]  # (D,), standard deviations from normal images
    shares: NDArray[np.float64]  # (D,), of the anomaly map's mass
    latent_maps: NDArray[np.float32]  # (D, h, w)
    compared: ComparedPatch | None = None  # of a map with a memory
    expected: RGBImage | None = None  # (H, W, 3), what a model without latents takes the image for


def latent_overlay(
    image: RGBImage, latent_map: AnomalyMap, side: int, colour_range: ColourRange
) -> RGBImage:
    """Overlay an image (H, W, 3) with the map (h, w) of one latent.

    The map is enlarged in two steps, first to the side of the network's input and then to the
    image, as the anomaly map is.
    """
    height, width = image.shape[:2]
    enlarged = resize_map(resize_map(latent_map, side, side), height, width)
    return overlay(image, heat_levels(enlarged, colour_range))


def contact_sheet(image: ExplainedImage, latents: Sequence[int], scale: Scale) -> RGBImage:
    """Draw an image, its anomaly map and the maps of latents, with the deviation under each."""
    tiles = _image_tiles(image, scale)
    for latent in latents:
        caption = f"{scale.name(latent)}  {_in_deviations(image.deviations[latent])}"
        tiles.append(_latent_tile(image, latent, scale, caption))
    count = -(-len(tiles) // SHEET_COLUMNS)  # rows, filled evenly
    columns = -(-len(tiles) // count)
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    return margin(below([grid(rows), _legend(scale)]))


def explanation_figure(
    images: Sequence[ExplainedImage],
    latents: Sequence[int],
    frames: NDArray[np.uint8],
    scale: Scale,
    steps: Sequence[float],
    *,
    title: str,
    subtitle: str,
) -> RGBImage:
    """Draw a figure like figure 1 of the paper, with a traversal of the decoder under each column.

    Args:
        images: one row each.
        latents: K latents, one column each; none for a model without latents.
        frames: images of the traversal of each latent, shape (K, T, S, S, 3).
        scale: meaning of the colours.
        steps: T steps of the traversal, in standard deviations of the normal images.
        title: of the figure.
        subtitle: line under the title.
    """
    heads = ["image", "anomaly map"]
    if images[0].compared is not None:
        heads += ["most unusual place", "nearest normal place"]
    heads += [f"latent {scale.name(latent)}" for latent in latents]
    if images[0].expected is not None:
        heads.append("what the model expects")
    rows = [[text_line(head, HEADING) for head in heads]]
    rows += [figure_row(image, latents, scale) for image in images]
    cell = max(piece.shape[1] for row in rows for piece in row)
    pictures = grid(rows, cell=cell)
    parts = [
        below([text_line(title, TITLE), text_line(subtitle, SMALL)], gap=0),
        _legend(scale, with_latents=bool(latents)),
        pictures,
    ]
    notes = [FOOTNOTE] if latents else []
    notes += [COMPARED] if images[0].compared is not None else []
    notes += [EXPECTED] if images[0].expected is not None else []
    if notes:
        parts.append(paragraph(" ".join(notes), SMALL, width=max(NOTE, pictures.shape[1])))
    if latents:
        parts += _traversal_parts(frames, steps, like=images[0].tile, cell=cell)
    return margin(below(parts, gap=2 * GAP))


def _traversal_parts(
    frames: NDArray[np.uint8], steps: Sequence[float], *, like: RGBImage, cell: int
) -> list[RGBImage]:
    """Draw the traversals of latents, with a sentence above.

    Args:
        frames: see `explanation_figure`.
        steps: see `explanation_figure`.
        like: has the proportions of the images.
        cell: width of the columns in pixels.
    """
    changes = abs(frames[:, -1].astype(float) - frames[:, 0]).mean(axis=-1) / 255  # (K, S, S)
    traversals = grid(_traversal_rows(frames, changes, steps, like=like), cell=cell)
    sentence = TRAVERSAL.format(largest=changes.max())
    return [paragraph(sentence, width=traversals.shape[1]), traversals]


def figure_row(image: ExplainedImage, latents: Sequence[int], scale: Scale) -> list[RGBImage]:
    """Draw an image, its anomaly map and the maps of latents, with value and deviation of each.

    With a memory, the most unusual place and the nearest normal one stand between them.
    """
    tiles = _image_tiles(image, scale)
    if image.compared is not None:
        tiles += _compared_tiles(image.compared)
    for latent in latents:
        mean, deviation = image.means[latent], image.deviations[latent]
        caption = f"z = {mean:+.2f}  ({_in_deviations(deviation)})"
        tiles.append(_latent_tile(image, latent, scale, caption))
    if image.expected is not None:
        tiles.append(captioned(image.expected, "", width=CAPTION))
    return tiles


def _traversal_rows(
    frames: NDArray[np.uint8],
    changes: NDArray[np.float64],
    steps: Sequence[float],
    like: RGBImage,
) -> list[list[RGBImage]]:
    """Draw a row for each step of a traversal, then the change, in the proportions of `like`."""
    height, width = fit(like, *FRAME).shape[:2]
    grey = 255 - np.rint(255 * changes / max(changes.max(), 1e-12)).astype(np.uint8)
    labels = [*(f"{step:+g} sd" if step else "mean" for step in steps), "difference"]
    pictures = [*frames.swapaxes(0, 1), np.repeat(grey[..., None], 3, axis=-1)]
    rows = []
    for label, of_latents in zip(labels, pictures, strict=True):
        left = [pad(text_line(text), height, CAPTION, align=1) for text in ("", label)]
        rows.append([*left, *(framed(resize_image(p, height, width)) for p in of_latents)])
    return rows


def _legend(scale: Scale, *, with_latents: bool = True) -> RGBImage:
    """Draw the colour bars of both kinds of maps, up to twice the distance of the threshold."""
    bars = [("Colours of the anomaly map", "threshold")]
    if with_latents:
        bars.append(("Colours of one latent", f"{scale.stretch:.2g} x stored threshold"))
    return beside(
        [
            colour_bar(title, [(0, "normal"), (0.5, middle), (1, "twice as far")], width=BAR)
            for title, middle in bars
        ],
        gap=6 * GAP,
    )


def _in_deviations(deviation: float) -> str:
    """Format a deviation, such as `+4.2 sd`; small ones have one more digit."""
    return f"{deviation:+.{1 if abs(deviation) >= 0.95 else 2}f} sd"


def _image_tiles(image: ExplainedImage, scale: Scale) -> list[RGBImage]:
    levels = heat_levels(image.anomaly_map, scale.colour_range)
    picture = overlay(image.tile, levels, image.mask)
    verdict = "anomalous" if image.is_anomalous else "normal"
    return [
        captioned(image.tile, image.name, width=CAPTION),
        captioned(picture, f"{verdict}: {image.score:.3g}", width=CAPTION),
    ]


def _compared_tiles(compared: ComparedPatch) -> list[RGBImage]:
    normal, caption = compared.normal, compared.name
    if normal is None:
        normal, caption = np.full_like(compared.own, PAPER), f"not found: {compared.name}"
    distance = f"{compared.distance:.3g} x the usual distance"
    return [
        captioned(compared.own, distance, width=CAPTION),
        captioned(normal, caption, width=CAPTION),
    ]


def _latent_tile(image: ExplainedImage, latent: int, scale: Scale, caption: str) -> RGBImage:
    latent_map = image.latent_maps[latent]
    picture = latent_overlay(image.tile, latent_map, image.side, scale.latent_colour_range)
    return captioned(picture, caption, width=CAPTION)
