"""Weights of the parts of a fused map: how well each finds synthetic defects."""

import numpy as np
import pytest
from numpy.typing import NDArray

from anomaly_cli.data.defects import DefectKind
from anomaly_cli.detector.fusion import (
    MapSettings,
    Weights,
    by_image,
    finish_map,
    finish_parts,
)
from anomaly_cli.detector.maps import DEFINITIONS, PARTS, MapSpec
from anomaly_cli.detector.scales import ScoreScale
from anomaly_cli.training.painted import PaintedImage
from anomaly_cli.training.scoring import score_maps
from anomaly_cli.training.selection import POWERS, choose_weights, weights_by_distance

SPEC = MapSpec("fused", "neck")
HALVED = {"context", "reconstruction"}
IMAGES, SIDE = 24, 16
ONES = np.ones((1, 1), np.float32)
NAMES = DEFINITIONS["fused"].parts
SETTINGS = MapSettings(0.0, {"fused": dict.fromkeys(NAMES, ScoreScale(0 * ONES, ONES))})


def validation() -> list[PaintedImage]:
    """Twelve images with a defect in a place of its own, and twelve without."""
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    images = []
    for number in range(IMAGES):
        mask = np.zeros((SIDE, SIDE), bool)
        if number < IMAGES // 2:
            mask[number : number + 4, 4:8] = True
        images.append(PaintedImage(picture, picture, mask, DefectKind.HOLE if mask.any() else None))
    return images


def make_maps(*shifts: float) -> dict[MapSpec, NDArray[np.float32]]:
    """Make maps of each part whose scores are normal noise, shifted within the defects."""
    masks = np.stack([image.mask for image in validation()])
    maps = {}
    for place, (name, part, shift) in enumerate(zip(NAMES, SPEC.parts, shifts, strict=True)):
        scores = np.random.default_rng(place).normal(size=masks.shape) + shift * masks
        maps[part] = (np.exp(scores) - PARTS[name].floor).astype(np.float32)
    return maps


def weights_of(*values: float) -> Weights:
    return dict(zip(NAMES, values, strict=True))


def choose(maps: dict[MapSpec, NDArray[np.float32]]) -> Weights:
    return choose_weights(maps, SPEC, SETTINGS, validation())


def to_the_power(power: int, maps: dict[MapSpec, NDArray[np.float32]]) -> Weights:
    parts = [finish_parts(each, SPEC, SETTINGS) for each in by_image(maps, SPEC)]
    distances = [score_maps(each, validation()).distance for each in zip(*parts, strict=True)]
    return weights_by_distance(dict(zip(NAMES, distances, strict=True)), power)


def test_equally_good_parts_have_equal_weights() -> None:
    assert choose(make_maps(3, 3, 3, 3)) == pytest.approx(weights_of(1, 1, 1, 1), abs=0.15)


def test_weights_are_ratios_of_distances() -> None:
    """1.5 to 3 for pixels, and less for maxima; context and error are doubled."""
    weights = choose(make_maps(3, 1.5, 1.5, 1.5))
    appearance = weights["appearance"]
    assert weights["attention"] == 1.0
    assert 0.2 < appearance < 0.55
    for name in HALVED:
        assert weights[name] == pytest.approx(appearance / 0.5, abs=0.3)


def test_context_and_error_are_halved_before_they_are_weighed() -> None:
    assert {name for name, part in PARTS.items() if part.weight == 0.5} == HALVED
    assert {name for name, part in PARTS.items() if part.weight == 1} == PARTS.keys() - HALVED


@pytest.mark.parametrize("name", sorted(HALVED))
def test_context_or_error_as_good_as_appearance_has_twice_its_weight(name: str) -> None:
    """Both have the same scores, and those of context and error are halved before."""
    maps = make_maps(3, 1.3, 0, 0)
    _attention, appearance, *_others = SPEC.parts
    shift = PARTS["appearance"].floor - PARTS[name].floor
    maps[MapSpec(name)] = maps[appearance] + np.float32(shift)
    weights = choose(maps)
    assert 0 < weights["appearance"] < 0.5
    assert weights[name] == pytest.approx(weights["appearance"] / 0.5, rel=1e-3)


def test_parts_that_find_nothing_or_the_reverse_have_no_weight() -> None:
    assert choose(make_maps(3, -2, -2, -2)) == weights_of(1, 0, 0, 0)


def test_appearance_has_more_weight_than_worse_attention() -> None:
    weights = choose(make_maps(2, 5, 0, 0))
    assert 0.2 < weights["attention"] < 0.6
    assert weights["appearance"] == 1.0


def test_context_and_error_have_a_weight_of_at_most_one() -> None:
    assert choose(make_maps(2, 2, 5, 0))["context"] == 1.0
    assert choose(make_maps(2, 2, 2, 5))["reconstruction"] == 1.0


def test_attention_that_finds_nothing_has_no_weight() -> None:
    assert choose(make_maps(-3, 4, -2, -2)) == weights_of(0, 1, 0, 0)


def test_all_parts_have_full_weight_where_attention_and_appearance_find_nothing() -> None:
    assert choose(make_maps(-3, -3, 1, 1)) == weights_of(1, 1, 1, 1)


def test_weights_are_squared_where_that_finds_more() -> None:
    """Attention has one extreme pixel in three normal images: too much for the plain sum."""
    maps = make_maps(3, 3.5, -2, -2)
    maps[SPEC.parts[0]][-3:, 0, 0] = np.exp(30)
    weights = choose(maps)
    assert weights == to_the_power(POWERS[1], maps)
    plain = to_the_power(1, maps)["attention"]
    assert weights["attention"] == pytest.approx(plain ** POWERS[1])


def test_context_of_full_weight_is_turned_down_with_the_others() -> None:
    """Its distance is more than half the best, and it has an extreme pixel in two normal images."""
    maps = make_maps(-2, 3, 4, -2)
    maps[SPEC.parts[2]][-2:, 0, 0] = np.exp(30)
    assert to_the_power(1, maps)["context"] == 1.0
    weights = choose(maps)
    assert weights["appearance"] == 1.0
    assert weights["context"] < 0.5


def test_weights_are_not_squared_where_that_finds_hardly_more() -> None:
    """In the second case the squares are better, by less than the margin."""
    for shifts in ((3, 2, -2, 1), (2, 0.8, -2, 0.4)):
        maps = make_maps(*shifts)
        assert choose(maps) == to_the_power(1, maps)


def test_a_part_that_finds_pixels_but_not_images_has_little_weight() -> None:
    """Appearance marks the defects, but every normal image has a pixel that is as high."""
    maps = make_maps(3, 3, 3, 3)
    maps[SPEC.parts[1]][:, 0, 0] = np.exp(30)
    assert choose(maps)["appearance"] < 0.3


def test_a_fused_map_is_the_weighted_sum_of_its_parts() -> None:
    maps = {part: own[0] for part, own in make_maps(3, 2, 2, 1).items()}
    plain = finish_parts(maps, SPEC, SETTINGS)
    values = (1.0, 0.25, 0.125, 0.5)
    weighed = SETTINGS._replace(weights={"fused": weights_of(*values)})
    for part, full, weight in zip(finish_parts(maps, SPEC, weighed), plain, values, strict=True):
        assert part.dtype == np.float32
        np.testing.assert_allclose(part, weight * full, rtol=1e-6)
    expected = plain[0] + 0.25 * plain[1] + 0.125 * plain[2] + 0.5 * plain[3]
    np.testing.assert_allclose(finish_map(maps, SPEC, weighed), expected, rtol=1e-5)


def test_weights_of_another_map_change_nothing() -> None:
    maps = {part: own[0] for part, own in make_maps(3, 2, 2, 1).items()}
    other = SETTINGS._replace(weights={"fused_scales": weights_of(1, 0, 0, 0)})
    np.testing.assert_array_equal(finish_map(maps, SPEC, other), finish_map(maps, SPEC, SETTINGS))
