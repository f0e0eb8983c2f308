"""The trust in each part of a fused map: what drawn defects say that it can tell."""

import numpy as np
import pytest
from numpy.typing import NDArray

from anomaly_cli.data.defects import DefectKind
from anomaly_cli.data.painted import PaintedImage
from anomaly_cli.fusion import (
    CONTEXT_WEIGHT,
    DISTANCE_FLOOR,
    ERROR_FLOOR,
    ERROR_WEIGHT,
    Fusion,
    MapSettings,
    Trust,
    by_image,
    finish_map,
    finish_parts,
)
from anomaly_cli.maps import MapSpec
from anomaly_cli.reached import reach
from anomaly_cli.score_scales import ScoreScale
from anomaly_cli.witnesses import SHARPNESS, by_distances, trust_parts

SPEC = MapSpec("fused", "neck")
IMAGES, SIDE = 24, 16
ONES = np.ones((1, 1), np.float32)
SETTINGS = MapSettings(0.0, {"fused": Fusion(*(ScoreScale(0 * ONES, ONES) for _ in range(4)))})


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


def draw(*shifts: float) -> dict[MapSpec, NDArray[np.float32]]:
    """Maps whose z-scores are normal noise, shifted in defects; the error's count half."""
    masks = np.stack([image.mask for image in validation()])
    floors = (*[DISTANCE_FLOOR] * 3, ERROR_FLOOR)
    drawn = {}
    for place, (part, shift, floor) in enumerate(zip(SPEC.parts, shifts, floors, strict=True)):
        scores = np.random.default_rng(place).normal(size=masks.shape) + shift * masks
        drawn[part] = (np.exp(scores) - floor).astype(np.float32)
    return drawn


def trust(*shifts: float) -> Trust:
    return trust_parts(draw(*shifts), SPEC, SETTINGS, validation())


def test_equal_witnesses_are_trusted_alike() -> None:
    assert trust(3, 3, 3, 3) == pytest.approx((1, 1, 1, 1), abs=0.15)


def test_trust_is_the_ratio_of_the_distances() -> None:
    """Of pixels 1.5 after 3; of maxima less. The error may be half as good, as it counts half."""
    part = trust(3, 1.5, 1.5, 1.5)
    assert part.attention == 1.0
    assert 0.2 < part.appearance < 0.55
    assert part.context == pytest.approx(part.appearance / CONTEXT_WEIGHT, abs=0.3)
    assert part.reconstruction == pytest.approx(part.appearance / ERROR_WEIGHT, abs=0.3)


def test_error_that_tells_as_much_as_appearance_is_trusted_twice_as_much() -> None:
    """The same scores for both, and those of the error are halved before."""
    drawn = draw(3, 1.3, 0, 0)
    _attention, appearance, _context, error = SPEC.parts
    drawn[error] = drawn[appearance] + DISTANCE_FLOOR - ERROR_FLOOR
    part = trust_parts(drawn, SPEC, SETTINGS, validation())
    assert 0 < part.appearance < ERROR_WEIGHT
    assert part.reconstruction == pytest.approx(part.appearance / ERROR_WEIGHT, rel=1e-3)


def test_witness_that_tells_nothing_or_the_reverse_is_not_heard() -> None:
    assert trust(3, -2, -2, -2) == Trust(1.0, 0.0, 0.0, 0.0)


def test_appearance_that_tells_more_than_attention_counts_more() -> None:
    part = trust(2, 5, 0, 0)
    assert 0.2 < part.attention < 0.6
    assert part.appearance == 1.0


def test_context_and_error_count_in_full_at_most() -> None:
    assert trust(2, 2, 5, 0).context == 1.0
    assert trust(2, 2, 2, 5).reconstruction == 1.0


def test_attention_that_tells_nothing_is_not_heard() -> None:
    assert trust(-3, 4, -2, -2) == Trust(0.0, 1.0, 0.0, 0.0)


def test_context_that_tells_as_much_as_appearance_is_trusted_twice_as_much() -> None:
    """The same scores for both, and those of the context are halved before."""
    drawn = draw(3, 1.3, 0, 0)
    drawn[SPEC.parts[2]] = drawn[SPEC.parts[1]]
    part = trust_parts(drawn, SPEC, SETTINGS, validation())
    assert 0 < part.appearance < CONTEXT_WEIGHT
    assert part.context == pytest.approx(part.appearance / CONTEXT_WEIGHT, rel=1e-3)


def test_where_neither_attention_nor_appearance_tells_anything_all_count_in_full() -> None:
    assert trust(-3, -3, 1, 1) == Trust(1.0, 1.0, 1.0, 1.0)


def to_the_power(power: int, drawn: dict[MapSpec, NDArray[np.float32]]) -> Trust:
    parts = [finish_parts(each, SPEC, SETTINGS) for each in by_image(drawn, SPEC)]
    distances = [reach(maps, validation()).distance for maps in zip(*parts, strict=True)]
    return by_distances(distances, power)


def test_far_better_witness_is_heard_still_more_where_that_finds_more() -> None:
    """Three normal images have a place where attention is beside itself: too much for the sum."""
    drawn = draw(3, 3.5, -2, -2)
    drawn[SPEC.parts[0]][-3:, 0, 0] = np.exp(30)
    part = trust_parts(drawn, SPEC, SETTINGS, validation())
    assert part == to_the_power(SHARPNESS[1], drawn)
    assert part.attention == pytest.approx(to_the_power(1, drawn).attention ** SHARPNESS[1])


def test_context_that_counts_in_full_is_turned_down_with_the_others() -> None:
    """Its distance is more than half the best, and in two normal images it is beside itself."""
    drawn = draw(-2, 3, 4, -2)
    drawn[SPEC.parts[2]][-2:, 0, 0] = np.exp(30)
    assert to_the_power(1, drawn).context == 1.0
    part = trust_parts(drawn, SPEC, SETTINGS, validation())
    assert part.appearance == 1.0
    assert part.context < 0.5


def test_weights_stay_as_they_are_where_powers_of_them_find_hardly_more() -> None:
    """In the second case the square of the weights is better by a hair."""
    for shifts in ((3, 2, -2, 1), (2, 0.8, -2, 0.4)):
        drawn = draw(*shifts)
        assert trust_parts(drawn, SPEC, SETTINGS, validation()) == to_the_power(1, drawn)


def test_witness_has_to_tell_where_and_whether() -> None:
    """Appearance marks the pixels, but normal images have a place that is as high."""
    drawn = draw(3, 3, 3, 3)
    looks = drawn[SPEC.parts[1]]
    looks[:, 0, 0] = np.exp(30)
    assert trust_parts(drawn, SPEC, SETTINGS, validation()).appearance < 0.3


def test_parts_are_weighed_by_their_trust() -> None:
    drawn = {part: maps[0] for part, maps in draw(3, 2, 2, 1).items()}
    plain = finish_parts(drawn, SPEC, SETTINGS)
    weighed = SETTINGS._replace(trusts={"fused": Trust(1.0, 0.25, 0.125, 0.5)})
    for part, full, weight in zip(
        finish_parts(drawn, SPEC, weighed), plain, (1, 0.25, 0.125, 0.5), strict=True
    ):
        assert part.dtype == np.float32
        np.testing.assert_allclose(part, weight * full, rtol=1e-6)
    expected = plain[0] + 0.25 * plain[1] + 0.125 * plain[2] + 0.5 * plain[3]
    np.testing.assert_allclose(finish_map(drawn, SPEC, weighed), expected, rtol=1e-5)


def test_trust_in_another_map_changes_nothing() -> None:
    drawn = {part: maps[0] for part, maps in draw(3, 2, 2, 1).items()}
    other = SETTINGS._replace(trusts={"fused_scales": Trust(1.0, 0.0, 0.0, 0.0)})
    np.testing.assert_array_equal(finish_map(drawn, SPEC, other), finish_map(drawn, SPEC, SETTINGS))
