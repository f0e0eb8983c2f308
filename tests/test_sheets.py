"""Pictures with words: sizes that hold, text that stays within its width and off the pictures."""

import numpy as np
import pytest

from anomaly_cli.detector.latents import STEPS, ImageLatents, Peak
from anomaly_cli.detector.predict import explain_prediction
from anomaly_cli.detector.prediction import Prediction
from anomaly_cli.detector.threshold import Threshold
from anomaly_cli.files.images import RGBImage
from anomaly_cli.pictures.colours import PALETTE
from anomaly_cli.pictures.latents import (
    CAPTION,
    FIGURE_TILE,
    SHEET_TILE,
    ExplainedImage,
    Scale,
    contact_sheet,
    explanation_figure,
)
from anomaly_cli.pictures.layout import (
    GAP,
    LINE,
    PAPER,
    SMALL,
    TEXT,
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

BLUE = (10, 20, 200)  # a colour that no other part of a sheet has


def block(height: int, width: int, colour: tuple[int, int, int] = BLUE) -> RGBImage:
    return np.full((height, width, 3), colour, np.uint8)


def ink_columns(picture: RGBImage) -> tuple[int, int]:
    """First and last column that is not paper."""
    columns = np.flatnonzero((picture != PAPER).any(axis=(0, 2)))
    return int(columns[0]), int(columns[-1])


def is_blue(picture: RGBImage) -> np.ndarray:
    return np.asarray((picture == BLUE).all(axis=2))


# Text


def test_lines_of_a_style_are_of_one_height() -> None:
    for style, height in ((TEXT, 21), (TITLE, 34)):
        assert {text_line(t, style).shape[0] for t in ("", "x", "gÅ|_", "z7  +4.2 sd")} == {height}


def test_longer_text_is_wider_and_ends_inside_its_picture() -> None:
    short, long = text_line("z7 +4.2 sd"), text_line("z7 +4.2 sd and more")
    assert short.shape[1] < long.shape[1]
    first, last = ink_columns(long)
    assert first <= 2
    assert last <= long.shape[1] - 1
    assert (long[[0, -1]] == PAPER).all()  # neither head nor foot of a letter is cut


@pytest.mark.parametrize("width", [40, 100, 176])
def test_text_is_shortened_in_its_middle_to_its_width(width: int) -> None:
    """The beginning and the end of a file name matter most."""
    name = "a/very/long/folder/and/then/an/image_000123.png"
    shown = text_line(name, width=width)
    assert shown.shape[1] <= width + 1
    whole = text_line(name)
    assert whole.shape[1] > width
    np.testing.assert_array_equal(shown[:, :8], whole[:, :8])


def test_text_that_fits_is_left_alone() -> None:
    np.testing.assert_array_equal(text_line("z7", width=200), text_line("z7"))


def test_control_characters_stay_in_the_line() -> None:
    np.testing.assert_array_equal(text_line("a\nb\x07"), text_line("a?b?"))


def test_paragraph_breaks_between_words_and_keeps_all_of_them() -> None:
    text = "one latent of many looks at the lower left part of the image"
    broken = paragraph(text, SMALL, width=150)
    height = text_line("", SMALL).shape[0]
    assert broken.shape[1] <= 150
    assert broken.shape[0] % height == 0
    assert broken.shape[0] >= 3 * height
    ink = (broken != PAPER).any(axis=2).sum()
    assert ink == pytest.approx((text_line(text, SMALL) != PAPER).any(axis=2).sum(), rel=0.02)


# Tiles


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(3000, 4000, (256, 341)), (20, 20, (256, 256)), (180, 600, (115, 384)), (640, 10, (256, 4)),
     (256, 256, (256, 256)), (1, 5000, (1, 384))],
)  # fmt: skip
def test_tiles_are_as_large_as_their_box_allows(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    tile = fit(block(height, width), *SHEET_TILE)
    assert tile.shape[:2] == expected
    assert is_blue(tile).all()


def test_padding_centres_and_never_cuts() -> None:
    padded = pad(block(2, 4), 6, 10)
    assert padded.shape == (6, 10, 3)
    assert is_blue(padded)[2:4, 3:7].all()
    assert is_blue(padded).sum() == 8
    assert is_blue(pad(block(2, 4), 0, 10, align=1))[:, 6:].all()
    assert pad(block(6, 4), 2, 2).shape == (6, 4, 3)


def test_frame_lies_around_the_picture() -> None:
    picture = framed(block(5, 6))
    assert picture.shape == (7, 8, 3)
    assert is_blue(picture)[1:-1, 1:-1].all()
    assert (picture[0] == LINE).all()


def test_caption_stands_under_the_picture_and_never_over_it() -> None:
    tile = captioned(block(50, 60), "z7  +4.2 sd", width=100)
    assert tile.shape[1] == 100
    assert is_blue(tile).sum() == 50 * 60
    assert is_blue(tile)[1:51, 20:80].all()
    first, last = ink_columns(tile[52:])
    assert first + last == pytest.approx(99, abs=3)  # centred


def test_long_caption_does_not_widen_the_tile() -> None:
    assert captioned(block(50, 60), "x" * 200, width=100).shape[1] == 100


# Arrangement


def test_pieces_below_and_beside_each_other_keep_their_gap() -> None:
    stack = below([block(2, 3), block(4, 5)], gap=7)
    assert stack.shape == (13, 5, 3)
    assert (stack[2:9] == PAPER).all()
    row = beside([block(2, 3), block(4, 5)], gap=7)
    assert row.shape == (4, 15, 3)
    assert (row[:, 3:10] == PAPER).all()
    assert is_blue(row).sum() == is_blue(stack).sum() == 6 + 20


def test_grid_gives_all_columns_the_width_of_the_widest() -> None:
    picture = grid([[block(2, 10), block(3, 4)], [block(5, 20)]])
    assert picture.shape == (3 + GAP + 5, 20 + GAP + 20, 3)
    assert is_blue(picture)[:2, 5:15].all()
    assert is_blue(picture)[:3, 36:40].all()
    assert grid([[block(2, 10)]], cell=50).shape == (2, 50, 3)


def test_margin_is_paper_all_around() -> None:
    picture = margin(block(4, 4))
    assert picture.shape == (4 + 4 * GAP, 4 + 4 * GAP, 3)
    assert is_blue(picture)[2 * GAP : -2 * GAP, 2 * GAP : -2 * GAP].all()
    assert is_blue(picture).sum() == 16


def test_colour_bar_shows_the_palette_from_end_to_end() -> None:
    bar = colour_bar("title", [(0, "normal"), (0.5, "threshold"), (1, "twice")], width=256)
    assert bar.shape[1] == 256
    row = text_line("").shape[0] + 2 + 8
    np.testing.assert_array_equal(bar[row], PALETTE)


def test_words_of_a_colour_bar_stay_within_its_ends() -> None:
    bar = colour_bar("title", [(0, "a long word"), (1, "another one")], width=256)
    words = bar[-text_line("", SMALL).shape[0] :]
    first, last = ink_columns(words)
    assert first <= 2
    assert last >= 250


# Contact sheets and figures


def predicted(
    anomaly_map: np.ndarray,
    threshold: Threshold,
    *,
    height: int = 40,
    width: int = 40,
    latents: int = 9,
) -> Prediction:
    """Predict a blue image; latent i has the value i everywhere, and so does its deviation."""
    values = np.arange(latents, dtype=np.float32)
    shares = values / values.sum()
    maps = np.ones((latents, 2, 2), np.float32) * values[:, None, None]
    return Prediction(
        height=height,
        width=width,
        load=lambda: block(height, width),
        network_map=anomaly_map,
        score=float(anomaly_map.max()),
        threshold=threshold,
        colour_range=(0.0, 8.0),
        latents=ImageLatents(values, values, shares, maps, Peak(0, 0, (), shares, {})),
    )


def explained(box: tuple[int, int] = SHEET_TILE, **shape: int) -> ExplainedImage:
    """Scale a blue image without anomalies to a box (height, width)."""
    nothing = predicted(np.zeros((8, 8), np.float32), Threshold(4.0, "given", 0), **shape)
    return explain_prediction(nothing, "folder/part.png", box)


SCALE = Scale(colour_range=(0.0, 8.0), latent_colour_range=(0.0, 8.0), stretch=3.0)


@pytest.mark.parametrize(
    ("count", "rows", "columns"), [(1, 1, 3), (4, 1, 6), (5, 2, 4), (8, 2, 5), (9, 2, 6)]
)
def test_sheet_fills_its_rows_evenly(count: int, rows: int, columns: int) -> None:
    sheet = contact_sheet(explained(), range(count), SCALE)
    tile = 258, 258 + 2 + 21  # a frame around 256 pixels; a line of text
    legend = 21 + 2 + 16 + 24
    assert sheet.shape[1] == max(columns * (tile[0] + GAP) - GAP, 2 * 320 + 6 * GAP) + 4 * GAP
    assert sheet.shape[0] == rows * (tile[1] + GAP) + legend + 4 * GAP


def test_sheet_of_a_large_image_stays_small() -> None:
    """Twelve megapixels become tiles of at most 256 x 384."""
    sheet = contact_sheet(explained(height=3000, width=4000), range(8), SCALE)
    assert sheet.shape[0] < 2 * 300 + 100
    assert sheet.shape[1] < 5 * 360 + 50


def test_contour_of_a_sheet_runs_along_the_outline() -> None:
    """A peak of 5 on a hill of 3, at a threshold of 4: the outline takes the hill in."""
    hill = np.zeros((8, 8), np.float32)
    hill[2:6, 2:6] = 3
    hill[3, 3] = 5
    thresholds = Threshold(4.0, "given", 0), Threshold(4.0, "given", 0, 2.0)
    images = [explain_prediction(predicted(hill, t), "part", SHEET_TILE) for t in thresholds]
    pictures = [contact_sheet(image, [0], SCALE) for image in images]
    rows, columns = np.nonzero((pictures[0] != pictures[1]).any(axis=2))
    left = 2 * GAP + 258 + GAP  # of the anomaly map; nothing else has changed
    assert left < columns.min() < columns.max() < left + 258
    # The hill is half of the picture, above and below its peak; the peak alone an eighth.
    assert np.ptp(rows) > 100
    assert np.ptp(columns) > 100


def test_pictures_of_a_sheet_are_free_of_text() -> None:
    """Pixels without heat are those of the image, exactly: in image, map, and latent 0."""
    sheet = contact_sheet(explained(), [0], SCALE)
    assert is_blue(sheet).sum() == 3 * 256 * 256


def test_same_value_has_the_same_colour_in_every_image() -> None:
    """Latent 3 at the value 3, beside others and among other images."""
    one = contact_sheet(explained(), [3], SCALE)
    two = contact_sheet(explained(latents=5)._replace(name="b"), [4, 3], SCALE)
    column = 2 * GAP + 2 * (258 + GAP) + 100
    np.testing.assert_array_equal(one[100, column], two[100, column + 258 + GAP])
    assert (one[100, column] != two[100, column]).any()


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 2)])
def test_figure_has_a_row_for_each_image_and_a_column_for_each_latent(
    rows: int, columns: int
) -> None:
    """Five steps and the difference stand under each column."""
    image = explained(FIGURE_TILE)
    frames = np.zeros((columns, len(STEPS), 8, 8, 3), np.uint8)
    frames[:] = BLUE
    figure = explanation_figure(
        [image] * rows, range(columns), frames, SCALE, STEPS, title="t", subtitle="s"
    )
    expected = rows * 3 * 176**2 + columns * len(STEPS) * 112**2
    # Latent 0 has the value 0 and leaves the image as it is; others tint it a little.
    assert is_blue(figure).sum() == expected
    width = (2 + columns) * (178 + GAP) - GAP
    assert figure.shape[1] == max(width, 2 * 320 + 6 * GAP) + 4 * GAP


def test_difference_of_a_traversal_is_black_where_it_is_largest() -> None:
    """Latent 0 changes nothing, latent 1 its upper half by 20 of 255."""
    frames = np.full((2, len(STEPS), 8, 8, 3), 100, np.uint8)
    frames[1, -1, :4] = 120
    image = explained(FIGURE_TILE)
    figure = explanation_figure([image], [0, 1], frames, SCALE, STEPS, title="t", subtitle="s")
    last = figure[-(2 * GAP + 114) : -2 * GAP]  # the row of differences
    black = (last == 0).all(axis=2)
    assert black.sum() == pytest.approx(112 * 112 / 2, rel=0.15)  # less the edge, which is soft
    left = 2 * GAP + 2 * (178 + GAP)
    assert not black[:, left : left + 178].any()
    assert black[10, left + 178 + GAP + 89]
    assert not black[100].any()


def test_figure_of_frames_that_do_not_change_is_drawn_without_a_warning() -> None:
    frames = np.zeros((1, len(STEPS), 8, 8, 3), np.uint8)
    figure = explanation_figure([explained()], [0], frames, SCALE, STEPS, title="t", subtitle="s")
    assert (figure[-(2 * GAP + 50), 2 * GAP + 2 * (CAPTION + GAP) :] >= LINE).all()
