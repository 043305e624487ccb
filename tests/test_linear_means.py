"""Means of rows that are linear in what the rows share: few rows of the same scatter."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pymc.pytensorf import rewrite_pregrad
from registry import interpreted, positive_definite
from scipy.stats import multivariate_normal

import pm_gaussgrad as gg
from pm_gaussgrad.ops import InvQuadLogdet

M, N, P, G = 60, 3, 2, 5
RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(M, P)), RNG.normal(size=(M, N)) + 20
GROUP, OFFSET = RNG.integers(G, size=M), RNG.normal(size=(M, N))
SLOPES, EFFECTS = pt.tensor("slopes", shape=(P, N)), pt.tensor("effects", shape=(G, N))
COMMON, COLUMN = pt.tensor("common", shape=(N,)), pt.tensor("column", shape=(P,))
SCALE, LEVEL = pt.scalar("scale"), pt.tensor("level", shape=(G,))
MATRIX = pt.tensor("matrix", shape=(N, N))
VARIABLES = [SLOPES, EFFECTS, COMMON, COLUMN, SCALE, LEVEL, MATRIX]
VALUES = [
    *(RNG.normal(size=x.type.shape) for x in VARIABLES[:-1]),
    positive_definite(RNG, N),
]
VALUES[4] = np.asarray(0.7)


def means_of(x, offset, group):
    """Linear means of a design, numbers and groups of rows, and how many rows stand for all."""
    return {
        "design": (x @ SLOPES, N + P),
        "design and intercept": (COMMON + x @ SLOPES, N + P + 1),
        "transposed": ((SLOPES.T @ x.T).T, N + P),
        "offset": (offset - x @ SLOPES, N + P),
        "column": ((x @ COLUMN)[:, None] + COMMON, N + P + 1),
        "column alone": (x @ COLUMN[:, None], N + P),
        "outer": (x[:, :1] * COMMON, N + 1),
        "scaled design": ((SCALE * x) @ SLOPES, N + P),
        "scaled": (SCALE * (x @ SLOPES) / 3 + pt.exp(COMMON), N + P + 1),
        "scaled offset": (SCALE * offset, 2 * N),
        "weights of entries": (offset * COMMON, 2 * N),
        "own regressors of entries": (pt.as_tensor(offset) * SCALE + COMMON, 2 * N + 1),
        "divided": (x @ SLOPES / (1 + COMMON**2), N + P),
        "effects": (EFFECTS[group], N + G),
        "effects and design": (EFFECTS[group] + x @ SLOPES, N + P + G),
        "effects and all": (2 + EFFECTS[group] + COMMON - x @ SLOPES, N + P + G + 1),
        "negative effects": (COMMON - EFFECTS[group] / 2, N + G + 1),
        "stacked": (
            pt.stack([SCALE + x @ COLUMN, LEVEL[group], pt.as_tensor(offset[:, 0])], axis=1),
            N + 1 + P + G,
        ),
        "side by side": (
            pt.concatenate([x @ SLOPES[:, :1], EFFECTS[:, :2][group]], axis=1),
            N + P + G,
        ),
        "levels": (LEVEL[group][:, None] + COMMON, N + G + 1),
        "slopes of groups": (x[:, :1] * EFFECTS[group] + EFFECTS[group], N + 2 * G),
        "positions from the end": (EFFECTS[group - G], N + G),
        "softplus of effects": (pt.softplus(EFFECTS)[group], N + G),
        "outer of a column": (
            (x @ COLUMN)[:, None] * pt.outer(pt.as_tensor(x[:, 0]), COMMON),
            N + P,
        ),
        "design with a column for all": ((pt.as_tensor(x) + SCALE) @ SLOPES, N + P + 1),
        "columns that are one": ((x[:, :1] * SCALE + x) @ SLOPES, N + P + 1),
        "filled": (pt.full((M, N), COMMON) + x @ SLOPES, N + P + 1),
    }


MEANS = means_of(X, OFFSET, GROUP)
OTHERS = {
    "nonlinear": pt.exp(X @ SLOPES),
    "rounded": (X @ SLOPES).astype("int64"),
    "product": (X @ SLOPES) * (X @ COLUMN)[:, None],
}


def _row_count(graph):
    rows = {
        v.owner.inputs[0].type.shape[0]
        for v in pytensor.graph.traversal.ancestors([graph])
        if v.owner and isinstance(v.owner.op, InvQuadLogdet)
    }
    [count] = rows
    return count


def _used(mean):
    inputs = set(pytensor.graph.traversal.explicit_graph_inputs([mean])) | {MATRIX}
    wrt = [x for x in VARIABLES if x in inputs]
    return wrt, [VALUES[VARIABLES.index(x)] for x in wrt]


def _check(mean, y=Y):
    """Value and gradient are those of rows that are variables; the number of rows is returned."""
    wrt, values = _used(mean)
    total, rows = gg.logp(y, mean, MATRIX).sum(), pt.tensor("y", shape=y.shape)
    rewritten = rewrite_pregrad(total)
    plain = gg.logp(rows, mean, MATRIX).sum()
    outputs = [[x, *pt.grad(x, wrt, disconnected_inputs="ignore")] for x in (rewritten, plain)]
    got = interpreted(wrt, outputs[0], on_unused_input="ignore")(*values)
    expected = interpreted([rows, *wrt], outputs[1], on_unused_input="ignore")(y, *values)
    scale = np.abs(expected[0])
    for ours, theirs in zip(got, expected, strict=True):
        assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12 * scale)
    return _row_count(rewritten)


@pytest.mark.parametrize("name", MEANS)
def test_linear_means_become_few_rows(name):
    mean, count = MEANS[name]
    assert _check(mean) == count


@pytest.mark.parametrize("name", OTHERS)
def test_other_means_keep_their_rows(name):
    assert _check(OTHERS[name]) == M


def test_against_scipy():
    mean = EFFECTS[GROUP] + X @ SLOPES
    wrt, values = _used(mean)
    got = interpreted(wrt, gg.logp(Y, mean, MATRIX).sum())(*values)
    slopes, effects, matrix = values
    rows = Y - effects[GROUP] - X @ slopes
    assert_allclose(got, multivariate_normal(np.zeros(N), matrix).logpdf(rows).sum(), rtol=1e-12)


def test_no_digits_are_lost():
    """Outcomes far from zero, regressors far from zero and nearly collinear: as good as rows."""
    x = np.column_stack([np.ones(M), 1e4 + X[:, 0], 1e4 + X[:, 0] + 1e-6 * X[:, 1]])
    slopes, rows = pt.tensor("slopes", shape=(3, N)), pt.tensor("y", shape=(M, N))
    y = 1e6 + RNG.normal(size=(M, N))
    few = interpreted([slopes], gg.logp(y, x @ slopes, np.eye(N)).sum())
    plain = interpreted([rows, slopes], gg.logp(rows, x @ slopes, np.eye(N)).sum())
    fitted = np.linalg.lstsq(x, y)[0]
    for b in (fitted, fitted * (1 + 1e-12), fitted + np.array([[1.0], [0.0], [0.0]])):
        residual = y.astype("longdouble") - x.astype("longdouble") @ b.astype("longdouble")
        exact = -float((residual**2).sum()) / 2 - M * N / 2 * np.log(2 * np.pi)
        error = abs(plain(y, b) - exact)
        assert abs(few(b) - exact) <= 2 * error + 1e-12 * abs(exact)


def test_singular_designs():
    assert _check(np.column_stack([X, X[:, 0]]) @ pt.concatenate([SLOPES, SLOPES[:1]])) == N + 3


def test_groups_without_rows():
    assert _check(EFFECTS[GROUP % 2]) == N + 2


def test_a_group_without_rows_says_nothing():
    mean = EFFECTS[GROUP % 2] * X[:, :1]
    values = [np.vstack([VALUES[1][:2], np.full((G - 2, N), np.nan)]), VALUES[-1]]
    total = rewrite_pregrad(gg.logp(Y, mean, MATRIX).sum())
    for number in interpreted([EFFECTS, MATRIX], [total, *pt.grad(total, [EFFECTS, MATRIX])])(
        *values
    ):
        assert np.isfinite(number).all()


@pytest.mark.parametrize("weights", [1.0, X[:, :1]], ids=["one", "by row"])
@pytest.mark.parametrize("code", [G, -G - 1])
def test_positions_that_are_none_are_an_error(code, weights):
    codes = GROUP.copy()
    codes[7] = code
    total = gg.logp(Y, weights * EFFECTS[codes], np.eye(N)).sum()
    with pytest.raises(IndexError, match="out of bounds"):
        interpreted([EFFECTS], total)(VALUES[1])


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_more_groups_than_the_codes_can_count(dtype):
    effects = pt.tensor("effects", shape=(300, N))
    codes = RNG.integers(100, size=M).astype(dtype)
    numbers = RNG.normal(size=(300, N))
    total = interpreted([effects], gg.logp(Y, effects[codes], np.eye(N)).sum())(numbers)
    expected = multivariate_normal(np.zeros(N)).logpdf(Y - numbers[codes]).sum()
    assert_allclose(total, expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(20, 1, N), (1, 20, N)])
def test_a_mean_that_may_repeat_the_rows(shape):
    """Of a length that only the run time tells."""
    y, count = RNG.normal(size=shape), pt.iscalar("count")
    copies = (count, N) if shape[1] == 1 else (count, 20, N)
    rows = gg.logp(y, pt.alloc(COMMON, *copies), np.eye(N))
    total, each = interpreted([COMMON, count], [rewrite_pregrad(rows.sum()), rows])(VALUES[2], 4)
    assert each.size == 80
    assert_allclose(total, each.sum(), rtol=1e-12)


@pytest.mark.filterwarnings("error")
def test_factors_that_are_not_finite_keep_their_rows():
    by_entry, by_row = np.array([1.0, 0.0, 1.0]), np.where(X[:, :1] > 0, 0.0, 1.0)
    for mean in ((X @ SLOPES) / by_entry, EFFECTS[GROUP] / by_row, SCALE / pt.constant(by_row)):
        total = rewrite_pregrad(gg.logp(Y, mean, MATRIX).sum())
        assert _row_count(total) == M
    assert _check(EFFECTS[GROUP] * np.zeros((M, 1))) == N + G


def test_few_rows_stay():
    """As many parameters as rows: nothing is gained."""
    assert _check((X @ SLOPES)[: N + P], Y[: N + P]) == N + P
    assert _check(EFFECTS[np.arange(G)], Y[:G]) == G


def test_every_structure_that_takes_rows(rng):
    for cov in (gg.cov.CompoundSymmetry(SCALE, 0.3), gg.cov.Cholesky(pt.linalg.cholesky(MATRIX))):
        mean = X @ SLOPES
        total = gg.logp(Y, mean, cov).sum()
        dense = gg.logp(
            Y,
            mean,
            cov.to_dense() if cov.size else gg.cov.CompoundSymmetry(SCALE, 0.3, size=N).to_dense(),
        ).sum()
        wrt = [x for x in VARIABLES if x in pytensor.graph.traversal.explicit_graph_inputs([total])]
        values = [VALUES[VARIABLES.index(x)] for x in wrt]
        got, expected = interpreted(wrt, [total, dense])(*values)
        assert_allclose(got, expected, rtol=1e-10)


def test_a_model_has_rows_and_few_rows(rng):
    """Its log density is reduced; the rows stay available to what comes after sampling."""
    with pm.Model() as model:
        slopes = pm.Normal("slopes", shape=(P, N))
        chol, *_ = pm.LKJCholeskyCov("chol", eta=2, n=N, sd_dist=pm.Exponential.dist(1.0))
        gg.MvNormal("y", X @ slopes, chol=chol, observed=Y)
    assert _row_count(rewrite_pregrad(model.logp(vars=[model["y"]]))) == N + P
    [rows] = model.logp(vars=[model["y"]], sum=False)
    point = model.initial_point()
    values = model.compile_fn(rows, inputs=model.value_vars, point_fn=True)(point)
    assert values.shape == (M,)
    assert_allclose(values.sum(), model.compile_logp(vars=[model["y"]])(point), rtol=1e-12)


TERMS = [mean for mean, _ in MEANS.values()]
FACTORS = [2.0, -0.5, X[:, :1], X[:, 1:], SCALE, COMMON, np.array([0.5, 1.0, 2.0]), 1 + SCALE**2]


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_random_expressions(data):
    """Sums of multiples of terms, some of which are nonlinear: the same density in any case."""
    terms = data.draw(st.lists(st.sampled_from(range(len(TERMS))), min_size=1, max_size=3))
    total = 0
    for i in terms:
        factors = data.draw(st.lists(st.sampled_from(range(len(FACTORS))), max_size=2))
        term = TERMS[i]
        for j in factors:
            term = FACTORS[j] * term
        total = total + term if data.draw(st.booleans()) else term - total
    assert _check(total) <= M
