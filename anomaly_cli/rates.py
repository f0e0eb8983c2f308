"""How far the rate of one model's threshold may lie from what its rule promises on average."""

from scipy.special import betaincinv

COVERAGE = 0.9  # of a range of rates


def rate_range(mean: float, parts: int) -> tuple[float, float]:
    """The shares of new normal images between which a threshold calls, with 90% probability.

    A rank among N maxima keeps its rate over all draws of N images; that of one draw follows a beta
    distribution (Vovk 2012, "Conditional validity of inductive conformal predictors"). Photographs
    of one part are not N images: the distribution is that of as many images as there are parts.

    Args:
        mean: the rate that is kept on average, in (0, 1).
        parts: held-out images, photographs of one part counted once; at least one.

    Returns:
        The low and the high end, in [0, 1].
    """
    above, below = mean * (parts + 1), (1 - mean) * (parts + 1)
    tail = (1 - COVERAGE) / 2
    return float(betaincinv(above, below, tail)), float(betaincinv(above, below, 1 - tail))
