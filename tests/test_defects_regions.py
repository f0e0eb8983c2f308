"""Regions and strokes of every form lie where they were asked for and end inside their box."""

import numpy as np
import pytest

from anomaly_cli.data.defects.regions import (
    draw_band,
    draw_blob,
    draw_cluster,
    draw_fragments,
    draw_region,
    draw_shard,
)
from anomaly_cli.data.defects.shapes import Box, box_around
from anomaly_cli.data.defects.strokes import draw_cracks, draw_strokes

SHAPE = (200, 260)  # pixels, high and wide
CENTRE = (130.0, 100.0)
FORMS = pytest.mark.parametrize(
    "form", [draw_blob, draw_cluster, draw_fragments, draw_shard, draw_band]
)


def outer_ring(box: Box, field: np.ndarray) -> np.ndarray:
    """Values of the pixels along the sides of a box that are no side of the image."""
    sides = [
        field[0] if box.top > 0 else [],
        field[-1] if box.bottom < SHAPE[0] else [],
        field[:, 0] if box.left > 0 else [],
        field[:, -1] if box.right < SHAPE[1] else [],
    ]
    return np.concatenate(sides)


@FORMS
@pytest.mark.parametrize("softness", [1.0, 6.0, 40.0])
def test_cover_ends_inside_the_box_however_soft(form: object, softness: float) -> None:
    """Else a defect would show the straight edge of its box."""
    for seed in range(60):
        generator = np.random.default_rng(seed)
        region = form(SHAPE, CENTRE, generator.uniform(2, 40), generator)
        assert region.distance.shape == region.box.shape
        np.testing.assert_array_equal(outer_ring(region.box, region.cover(softness)), 0)


@FORMS
def test_area_is_about_that_of_a_disc_of_the_radius(form: object) -> None:
    shares = []
    for seed in range(60):
        region = form(SHAPE, CENTRE, 12.0, np.random.default_rng(seed))
        shares.append(np.count_nonzero(region.distance > 0) / (np.pi * 12**2))
    assert 0.4 < np.median(shares) < 1.6


@FORMS
def test_region_lies_about_the_place_that_was_asked_for(form: object) -> None:
    for seed in range(30):
        region = form(SHAPE, CENTRE, 8.0, np.random.default_rng(seed))
        rows, columns = np.nonzero(region.distance > 0)
        assert abs(rows.mean() + region.box.top - CENTRE[1]) < 20
        assert abs(columns.mean() + region.box.left - CENTRE[0]) < 20


@pytest.mark.parametrize("centre", [(0.0, 0.0), (259.0, 199.0), (259.0, 0.0)])
def test_region_in_a_corner_is_cut_at_the_edge_of_the_image(centre: tuple[float, float]) -> None:
    for seed in range(40):
        box, distance, _radius = draw_region(SHAPE, centre, np.random.default_rng(seed))
        assert 0 <= box.top < box.bottom <= SHAPE[0]
        assert 0 <= box.left < box.right <= SHAPE[1]
        assert distance.shape == box.shape


def test_strokes_and_cracks_end_inside_their_box() -> None:
    for seed in range(40):
        generator = np.random.default_rng(seed)
        for marks in (
            draw_strokes(SHAPE, CENTRE, 2, generator),
            draw_cracks(SHAPE, CENTRE, generator),
        ):
            assert 0.3 < marks.strength.max() <= 1
            np.testing.assert_array_equal(outer_ring(marks.box, marks.strength), 0)


def test_box_is_cut_at_the_edges_and_never_empty() -> None:
    assert box_around((10, 20), (-3.5, 2.2), (4.1, 30.0)) == Box(2, 0, 10, 6)
    assert box_around((10, 20), (50.0, 50.0), (60.0, 60.0)) == Box(8, 18, 10, 20)
    x, y = Box(2, 5, 4, 8).offsets((6.0, 3.0))
    np.testing.assert_array_equal(x, [[-1, 0, 1]])
    np.testing.assert_array_equal(y, [[-1], [0]])
