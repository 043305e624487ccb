"""Levels of groups beside processes in time."""

import numpy as np
import pytensor.tensor as pt
import pytest

import pm_gaussgrad as gg

RNG = np.random.default_rng(5)
N = 9
GROUP = np.array([2, 0, 1, 0, 2, 2, 1, 0, 0])
NAMES = np.array(["b", "c", "a"])[GROUP]
SAME = GROUP[:, None] == GROUP
TIMES, Y = RNG.uniform(0, 5, N), RNG.normal(size=N)
AT = np.array([1.2, 0.7, 0.9, 0.4, 0.8, 0.5])


def _walk(p):
    return gg.cov.Wiener(p[0], TIMES, group=NAMES)


def _matern(p):
    return gg.cov.Matern32(p[:3], p[3], TIMES, group=GROUP)


def _symmetric(p, same):
    return p[1] * ((1 - p[2]) * np.eye(N) + p[2] * same)


# A process, a level of each group, and the covariance of that.
SUMS = {
    "symmetry": (
        _walk,
        lambda p: gg.cov.CompoundSymmetry(p[1], p[2], group=NAMES),
        lambda p: _symmetric(p, SAME),
    ),
    "symmetry, numbered otherwise": (
        _matern,
        lambda p: gg.cov.CompoundSymmetry(p[1], p[2], group=NAMES),
        lambda p: _symmetric(p, SAME),
    ),
    "variances of groups": (
        _walk,
        lambda p: gg.cov.CompoundSymmetry.from_components(0, p[1:4], group=GROUP),
        lambda p: p[1:4][GROUP] * SAME,
    ),
    "effects": (_matern, lambda p: gg.cov.Effects(NAMES, p[1]), lambda p: p[1] * SAME),
    "one series": (
        lambda p: gg.cov.SHO(p[0], p[3], p[4], TIMES),
        lambda p: gg.cov.CompoundSymmetry(p[1], p[2]),
        lambda p: _symmetric(p, np.ones((N, N))),
    ),
    "one series, effects": (
        lambda p: gg.cov.SHO(p[0], p[3], p[4], TIMES),
        lambda p: gg.cov.Effects(np.zeros(N), p[1]),
        lambda p: p[1] * np.ones((N, N)),
    ),
}


def _value_and_gradient(y, cov, p):
    logp = gg.logp(y, 0.0, cov)
    return [x.eval({p: AT}) for x in (logp, pt.grad(logp, p))]


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("gaps", [False, True], ids=["complete", "gaps"])
def test_a_level_beside_a_process_is_one_filter(name, gaps):
    process, level, matrix = SUMS[name]
    p = pt.vector("p", shape=AT.shape)
    noise = gg.cov.Diagonal(p[5])
    y = np.where(gaps & np.isin(np.arange(N), [2, 6]), np.nan, Y)  # all of group 1
    dense = process(p).to_dense() + matrix(p) + p[5] * pt.eye(N)
    expected = _value_and_gradient(y, gg.cov.Dense(dense), p)
    for cov in (process(p) + level(p) + noise, noise + level(p) + process(p)):
        for ours, theirs in zip(_value_and_gradient(y, cov, p), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(cov.to_dense().eval({p: AT}), dense.eval({p: AT}), rtol=1e-13)


@pytest.mark.parametrize(
    "level",
    [
        gg.cov.Effects(GROUP // 2, 1.0),
        gg.cov.Effects(GROUP, np.eye(2), np.column_stack([np.ones(N), TIMES])),
        gg.cov.Effects(GROUP, 1.0, TIMES[:, None]),
        gg.cov.CompoundSymmetry(1.0, 0.5),
        gg.cov.CompoundSymmetry(1.0, 0.5, group=np.arange(N) // 3),
    ],
    ids=["coarser", "slopes", "design", "no groups", "others"],
)
def test_levels_of_other_groups_and_slopes_are_refused(level):
    with pytest.raises(TypeError, match=r"Wiener .*`group` differs, .*LowRank\(sd \* Z\)"):
        gg.logp(Y, 0.0, _walk(AT) + level + gg.cov.Diagonal(1.0))
