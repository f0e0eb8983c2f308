"""Layout of pictures with text: lines, tiles, captions and grids. Only this file uses fonts."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from anomaly_cli.files.images import RGBImage
from anomaly_cli.files.resize import resize_image
from anomaly_cli.pictures.colours import PALETTE

INK = (32, 32, 32)
PALE_INK = (112, 112, 112)
PAPER = 255
LINE = 200  # grey of frames
GAP = 8  # pixels between pieces


class Style(NamedTuple):
    """Size and colour of a line of text."""

    size: int = 15  # pixels
    colour: tuple[int, int, int] = INK


TEXT = Style()
TITLE = Style(24)
HEADING = Style(17)
SMALL = Style(14, PALE_INK)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def text_line(text: str, style: Style = TEXT, *, width: int | None = None) -> RGBImage:
    """Draw a line of text on paper, (H, W, 3), shortened in its middle to `width` pixels."""
    font = _font(style.size)
    shown = _shorten("".join(c if c.isprintable() else "?" for c in text), font, width)
    height = round(1.4 * style.size)  # the same for all lines of a style
    image = Image.new("RGB", (max(1, round(font.getlength(shown)) + 1), height), (PAPER,) * 3)
    ImageDraw.Draw(image).text((0, height // 2), shown, style.colour, font, anchor="lm")
    return np.asarray(image)


def _shorten(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int | None
) -> str:
    if width is None:
        return text
    kept, shown = len(text), text
    while kept > 0 and font.getlength(shown) >= width:
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
    return shown


def paragraph(text: str, style: Style = TEXT, *, width: int) -> RGBImage:
    """Draw text, broken between words into lines of at most `width` pixels."""
    font = _font(style.size)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) >= width:
            lines.append(word)
        else:
            lines[-1] = longer
    return below([text_line(line, style, width=width) for line in lines], gap=0)


def fit(image: RGBImage, height: int, width: int) -> RGBImage:
    """Resize an image to the largest size within (height, width) that keeps the proportions."""
    scale = min(height / image.shape[0], width / image.shape[1])
    rows, columns = (max(1, round(side * scale)) for side in image.shape[:2])
    return resize_image(image, rows, columns)


def pad(picture: RGBImage, height: int, width: int, *, align: float = 0.5) -> RGBImage:
    """Lay a picture on paper that is at least (height, width); `align` 0 is left, 1 right."""
    height, width = max(height, picture.shape[0]), max(width, picture.shape[1])
    padded = np.full((height, width, 3), PAPER, np.uint8)
    top = (height - picture.shape[0]) // 2
    left = round((width - picture.shape[1]) * align)
    padded[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return padded


def below(pieces: Sequence[RGBImage], *, gap: int = GAP) -> RGBImage:
    """Stack pieces from top to bottom, flush left."""
    width = max(piece.shape[1] for piece in pieces)
    space = np.full((gap, width, 3), PAPER, np.uint8)
    rows = [part for piece in pieces for part in (space, pad(piece, 0, width, align=0))]
    return np.concatenate(rows[1:])


def beside(pieces: Sequence[RGBImage], *, gap: int = GAP) -> RGBImage:
    """Line pieces up from left to right."""
    height = max(piece.shape[0] for piece in pieces)
    space = np.full((height, gap, 3), PAPER, np.uint8)
    columns = [part for piece in pieces for part in (space, pad(piece, height, 0))]
    return np.concatenate(columns[1:], axis=1)


def framed(picture: RGBImage) -> RGBImage:
    """Draw a line around a picture, so that a white one stands out from the paper."""
    return np.pad(picture, ((1, 1), (1, 1), (0, 0)), constant_values=LINE)


def captioned(picture: RGBImage, caption: str, *, width: int) -> RGBImage:
    """Frame a picture, and centre a line of text under it, at least `width` pixels wide."""
    width = max(width, picture.shape[1] + 2)
    parts = framed(picture), text_line(caption, width=width)
    return below([pad(part, 0, width) for part in parts], gap=2)


def grid(rows: Sequence[Sequence[RGBImage]], *, cell: int = 0) -> RGBImage:
    """Arrange pieces in rows and columns as wide as the widest piece, and at least `cell`."""
    width = max(cell, *(piece.shape[1] for row in rows for piece in row))
    return below([beside([pad(piece, 0, width) for piece in row]) for row in rows])


def margin(picture: RGBImage, size: int = 2 * GAP) -> RGBImage:
    """Add a margin of `size` pixels of paper around a picture."""
    return pad(picture, picture.shape[0] + 2 * size, picture.shape[1] + 2 * size)


def colour_bar(title: str, ticks: Sequence[tuple[float, str]], *, width: int) -> RGBImage:
    """Draw the colours from 0 to 1 under a title, with words at some places.

    Args:
        title: a line of text.
        ticks: (place in [0, 1], word), from left to right.
        width: of the bar in pixels.
    """
    levels = np.linspace(0, 255, width).round().astype(np.uint8)
    bar = np.repeat(PALETTE[levels][None], 16, axis=0)
    labels = np.full((round(1.4 * SMALL.size) + 4, width, 3), PAPER, np.uint8)
    for place, word in ticks:
        label = text_line(word, SMALL)
        column = round(place * (width - 1))
        left = min(max(0, column - label.shape[1] // 2), width - label.shape[1])
        labels[4:, left : left + label.shape[1]] = label
        labels[:4, max(0, column - 1) : column + 1] = PALE_INK
    return below([text_line(title, width=width), below([bar, labels], gap=0)], gap=2)
