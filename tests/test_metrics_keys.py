import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from anomaly_cli.metrics.keys import key_scores, score_keys

scores = st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=30)


@given(scores)
def test_keys_compare_as_the_scores_do(values: list[float]) -> None:
    array = np.array(values, np.float32)
    keys = score_keys(array)
    np.testing.assert_array_equal(keys[:, None] < keys, array[:, None] < array)
    np.testing.assert_array_equal(keys[:, None] == keys, array[:, None] == array)


@given(scores)
def test_scores_come_back_from_their_keys(values: list[float]) -> None:
    array = np.array(values, np.float32)
    np.testing.assert_array_equal(key_scores(score_keys(array)), array)


def test_keys_at_the_joints() -> None:
    values = np.array([-np.inf, -1e-45, -0.0, 0.0, 1e-45, np.inf], np.float32)
    expected = [0x007FFFFF, 0x7FFFFFFE, 0x80000000, 0x80000000, 0x80000001, 0xFF800000]
    assert score_keys(values).tolist() == expected


def test_keys_of_a_transposed_map_keep_its_shape() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3).T
    np.testing.assert_array_equal(key_scores(score_keys(values)), values)
