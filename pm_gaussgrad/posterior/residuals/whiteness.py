r"""What white noise looks like: its order statistics within a simultaneous band, its lags.

Band of order statistics: of n independent uniform numbers the i-th smallest, :math:`U_{(i)}`, is
Beta(i, n + 1 - i). All of them lie between their quantiles at :math:`\gamma/2` and
:math:`1-\gamma/2` with a probability that decreases in the local level :math:`\gamma`, which is
chosen for it to be 95 %. With :math:`N(t)` the number of :math:`U \le t`,

    U_(i) >= a_i  is  N(a_i) <= i - 1,        U_(i) <= b_i  is  N(b_i) >= i.

Given N(1) = n a Poisson process of rate n is such an N, so that the probability follows from a
recursion over the a_i and b_i in their order: convolve the distribution of N with the Poisson
distribution of the increment, then drop the counts that leave the band.

Lags: with z white, :math:`\sum_t z_t z_{t+k} / \sum_t z_t^2` is independent of its denominator,
has mean zero and variance P/(N (N + 2)) for P pairs of N numbers.

Sources: Aldor-Noiman, S. et al. (2013), The power to see: a new graphical test of normality, The
American Statistician 67, 249-260; Saeilynoja, T., Buerkner, P.-C. and Vehtari, A. (2022), Graphical
test for discrete uniformity and its applications, Statistics and Computing 32, 32; Moscovich, A.
and Nadler, B. (2017), Fast calculation of boundary crossing probabilities for Poisson processes,
Statistics and Probability Letters 123, 177-182; Ljung, G. M. and Box, G. E. P. (1978), On a measure
of lack of fit in time series models, Biometrika 65, 297-303.
"""

from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv, gammaln, ndtr, ndtri

# Order statistics that a band is about: all of so many, else these, evenly spread in normal scores.
MOST = 1000


@lru_cache(maxsize=64)
def normal_order_band(n, prob):
    """Band that holds the order statistics of n standard normal numbers with probability prob.

    Parameters
    ----------
    n : int
    prob : float

    Returns
    -------
    ranks : array of int, shape (k)
        Which order statistics, 1 to n: all up to n = 1,000, else at most so many.
    median, lower, upper : array, shape (k)
    """
    ranks = _ranks(n)

    def excess(log_level):
        level = np.exp(log_level)
        lower, upper = _quantiles(n, ranks, level / 2), _quantiles(n, ranks, 1 - level / 2)
        return order_probability(n, ranks, lower, upper) - prob

    # Between a level that all order statistics share and that of a single one.
    level = np.exp(brentq(excess, np.log((1 - prob) / ranks.size) - 1, np.log(1 - prob) + 1e-9))
    tails = (0.5, level / 2, 1 - level / 2)
    return ranks, *(ndtri(_quantiles(n, ranks, tail)) for tail in tails)


def _ranks(n):
    if n <= MOST:
        return np.arange(1, n + 1)
    extreme = ndtri(0.5 / n)
    scores = ndtr(np.linspace(extreme, -extreme, MOST))
    return np.unique(np.clip(np.rint(scores * n + 0.5), 1, n).astype(int))


def _quantiles(n, ranks, probability):
    return betaincinv(ranks, n + 1 - ranks, probability)


def order_probability(n, ranks, lower, upper):
    """Probability that order statistics of n uniform numbers lie between two increasing bounds."""
    times = np.concatenate([lower, upper])
    order = np.argsort(times)
    is_lower = order < ranks.size
    rank = np.concatenate([ranks, ranks])[order]
    # Counts that are possible at each time: below the next rank that has to wait, and not less
    # than the last that has been due.
    waiting = np.where(is_lower, rank - 1, n)
    highest = np.minimum.accumulate(waiting[::-1])[::-1]
    lowest = np.maximum.accumulate(np.where(is_lower, 0, rank))
    steps = np.diff(times[order], prepend=0.0, append=1.0) * n
    increments = _poisson(steps)
    state, first = np.ones(1), 0
    for low, high, increment in zip(lowest, highest, increments[:-1], strict=True):
        state = np.convolve(state, increment)[max(low - first, 0) : high - first + 1]
        first = max(low, first)
        if not state.size:
            return 0.0
    remaining = n - first - np.arange(state.size)
    last = steps[-1]
    final = np.exp(remaining * np.log(last) - last - gammaln(remaining + 1))
    return float(state @ final / np.exp(n * np.log(n) - n - gammaln(n + 1)))


def _poisson(means):
    """Poisson probabilities of each mean, as far as they matter."""
    means = np.maximum(means, 1e-300)
    count = np.arange(int(means.max() + 12 * np.sqrt(means.max()) + 25))
    table = np.exp(count * np.log(means)[:, None] - means[:, None] - gammaln(count + 1))
    lengths = np.minimum(means + 10 * np.sqrt(means) + 20, count.size).astype(int)
    return [row[:length] for row, length in zip(table, lengths, strict=True)]


def autocorrelation(z, max_lag):
    """Autocorrelations of rows of known mean zero, pooled; NaN is missing.

    Parameters
    ----------
    z : array, shape (..., m, n)
    max_lag : int

    Returns
    -------
    values : array, shape (..., max_lag)
        At the lags 1, 2, ...
    sd : array, shape (max_lag)
        Their standard deviations if z is white noise; NaN at a lag without pairs.
    """
    observed = ~np.isnan(z).any(axis=tuple(range(z.ndim - 2)))
    z = np.where(observed, z, 0)
    total, n = observed.sum(), z.shape[-1]
    products = [(z[..., : n - k] * z[..., k:]).sum(axis=(-2, -1)) for k in range(max_lag + 1)]
    pairs = np.array(
        [(observed[:, : n - k] & observed[:, k:]).sum() for k in range(1, max_lag + 1)]
    )
    sd = np.sqrt(np.where(pairs, pairs, np.nan) / (total * (total + 2)))
    values = np.stack(products[1:], axis=-1) / products[0][..., None]
    return np.where(pairs, values, np.nan), sd
