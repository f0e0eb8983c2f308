"""Image scores: the maximum, or the mean of the highest values."""

import numpy as np
import pytest

from anomaly_cli.config.values import parse_image_score
from anomaly_cli.detector.scores import score_image
from anomaly_cli.errors import ConfigError

RAMP = np.arange(100, dtype=np.float32).reshape(10, 10)


@pytest.mark.parametrize(
    ("text", "score"),
    [("max", 99.0), ("top:0.01", 99.0), ("top:0.05", 97.0), ("top:0.041", 97.0), ("top:1", 49.5)],
)
def test_score_is_the_mean_of_the_highest_share(text: str, score: float) -> None:
    """The highest 5 of 0 to 99 are 95 to 99; 4.1 pixels are rounded up to 5."""
    assert score_image(RAMP, parse_image_score(text)) == score


@pytest.mark.parametrize("text", ["max", "top:0.01"])
def test_score_prints_as_it_was_typed(text: str) -> None:
    assert str(parse_image_score(text)) == text


@pytest.mark.parametrize("text", ["mean", "top", "top:0", "top:1.5", "top:nan", "top:x", ""])
def test_other_scores_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be max or top:SHARE"):
        parse_image_score(text)
