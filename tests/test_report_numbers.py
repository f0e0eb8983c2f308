"""Numbers as text: what is printed of a range is never narrower than the range."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_cli.files.numbers import difference, number, plus_minus, range_text, with_interval

SHARES = st.floats(0, 1)


def test_range_is_rounded_outward() -> None:
    assert range_text((0.123456, 0.123464)) == "0.12345 to 0.12347"
    assert range_text((0.123456, 0.123457), joint="-") == "0.12345-0.12346"
    assert range_text((0.123456, 0.123456)) == "0.12346", "a point is rounded as ever"
    assert plus_minus(0.000011) == "± 0.00002"


@given(SHARES, SHARES)
def test_printed_range_holds_the_range(one: float, other: float) -> None:
    low, high = sorted((one, other))
    if low < high:
        begin, end = map(float, range_text((low, high)).split(" to "))
        assert begin <= low + 1e-15
        assert high <= end + 1e-15
        assert end - begin <= high - low + 2e-5 + 1e-12


def test_undefined_is_named_or_left_out() -> None:
    assert number(math.nan) == number(None) == range_text((math.nan, math.nan)) == "n/a"
    assert difference(math.nan, 0.5) == "n/a"
    assert with_interval(0.5, (math.nan, math.nan)) == "0.500"
    assert plus_minus(math.nan) == plus_minus(0.0) == ""


@pytest.mark.parametrize(("value", "text"), [(0.03, "+0.030"), (-0.43, "-0.430")])
def test_difference_has_its_sign(value: float, text: str) -> None:
    assert difference(0.5 + value, 0.5) == text
