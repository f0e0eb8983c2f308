"""Coarse defects, and the mixture that training sees."""

import numpy as np
import pytest
from test_defects_painter import difference, draw_bottle, draw_grass

from anomaly_cli.data.defects import DefectKind, DefectPainter, TrainingPainter
from anomaly_cli.data.defects.canvas import Sources
from anomaly_cli.data.defects.coarse import STROKE_SHARE, draw_coarse


@pytest.mark.parametrize("size", [32, 96, 256])
@pytest.mark.parametrize("draw", [draw_bottle, draw_grass], ids=["colour", "grey"])
def test_mask_is_where_the_image_changed(size: int, draw: object) -> None:
    image = draw(0, size=size)
    sources = Sources([draw_grass(1, size=size)], [image, draw(1, size=size)])
    generator = np.random.default_rng(0)
    before, kinds = image.copy(), []
    for _ in range(60):
        defect = draw_coarse(image, sources, generator)
        if defect is None:
            continue
        np.testing.assert_array_equal(defect.mask, difference(image, defect) > 0)
        assert defect.mask.any()
        kinds.append(defect.kind)
        if draw is draw_grass:
            np.testing.assert_array_equal(defect.image[..., 0], defect.image[..., 1])
    np.testing.assert_array_equal(image, before)
    assert len(kinds) > 30  # some lie outside, or are too faint
    assert set(kinds) == {DefectKind.SCRATCH, DefectKind.PATCH}
    assert abs(kinds.count(DefectKind.SCRATCH) / len(kinds) - STROKE_SHARE) < 0.25


def test_sizes_range_from_specks_to_a_third_of_the_image() -> None:
    image = draw_grass(0, size=128)
    sources = Sources([], [draw_grass(1, size=128)])
    generator = np.random.default_rng(0)
    defects = [draw_coarse(image, sources, generator) for _ in range(300)]
    areas = [defect.mask.mean() for defect in defects if defect is not None]
    assert min(areas) < 0.003
    assert max(areas) > 0.25
    assert 0.01 < np.median(areas) < 0.1


def test_without_donors_and_other_normals_pieces_come_from_the_image_itself() -> None:
    image = draw_bottle(0)
    generator = np.random.default_rng(0)
    assert any(draw_coarse(image, Sources(), generator) is not None for _ in range(10))


def test_training_sees_up_to_three_defects_and_the_mask_has_all_of_them() -> None:
    bottles = [draw_bottle(seed) for seed in range(4)]
    painter = TrainingPainter(DefectPainter(bottles))
    generator = np.random.default_rng(0)
    areas = []
    for _ in range(80):
        defect = painter(bottles[0], generator)
        np.testing.assert_array_equal(defect.mask, difference(bottles[0], defect) > 0)
        areas.append(defect.mask.mean())
    natural = [DefectPainter(bottles)(bottles[0], generator).mask.mean() for _ in range(80)]
    assert np.mean(areas) > 2 * np.mean(natural)
    again = painter(bottles[0], np.random.default_rng(5))
    same = painter(bottles[0], np.random.default_rng(5))
    np.testing.assert_array_equal(again.image, same.image)
