"""Integer keys of float32 scores that have the order of the scores, for sorting and counting.

The bits of a non-negative float, read as an integer, rise with its value; those of a negative
float fall. If the sign bit of the former is set and all bits of the latter are flipped, the
unsigned integers are in the order of the scores, from -inf to +inf, including denormals.
"""

import numpy as np
from numpy.typing import NDArray

_SIGN_BIT = 0x80000000
_KEY_OF_MINUS_ZERO = 0x7FFFFFFF  # one below the key of +0.0


def score_keys(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Convert scores to keys in the same order, of the same shape.

    Args:
        scores: any shape, without NaN; -0.0 and 0.0 get the same key.
    """
    bits = np.ascontiguousarray(scores).view(np.int32)
    sign = bits >> 31  # all ones where negative
    keys = (bits ^ (sign | np.int32(-(2**31)))).view(np.uint32)
    keys += keys == _KEY_OF_MINUS_ZERO
    return keys


def key_scores(keys: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Convert keys back to scores, of the same shape; the inverse of `score_keys`."""
    bits = np.where(keys >= _SIGN_BIT, keys ^ np.uint32(_SIGN_BIT), ~keys)
    return bits.view(np.float32)
