"""What was integrated out, drawn given the data: means and covariances of draws, against algebra.

Draws are affine in their white noise, so that both are found exactly, from unit noise.
"""

import pickle
from functools import cache

import arviz as az
import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose
from registry import interpreted
from scipy.linalg import block_diag

import pm_gaussgrad as gg
from pm_gaussgrad.posterior.likelihood import gaussian_likelihood
from pm_gaussgrad.posterior.recover.conditional import conditional_latents

N = 7
RNG = np.random.default_rng(8)
X = np.stack([np.ones(N), RNG.normal(size=N)], axis=1)
Z = np.stack([np.ones(N), np.arange(N) / 3], axis=1)
GROUP = np.array(list("abcabca"))
G = np.array([[1.0, 0.3], [0.3, 0.5]])
WEIGHTS = np.eye(N, 4) + 0.5 * np.eye(N, 4, k=1)
FACTOR = RNG.normal(size=(N, 1))
NOISE = RNG.uniform(0.3, 1.0, N)
PEDIGREE = np.array([[1.5, 0.5, -1.0], [0.5, 1.5, -1.0], [-1.0, -1.0, 2.0]])
EDGES = [[0, 1], [1, 2]]
Y = RNG.normal(size=(2, N))


def members(cases, n=N):
    """Indicators of the groups of GROUP, times columns."""
    return np.stack([np.where(x == GROUP, c, 0) for x in "abc" for c in cases.T], axis=1)


def walk():
    return gg.cov.AR1(1.2, 0.6, size=4)


@cache
def walk_matrix():
    return walk().to_dense().eval()


def kernel():
    lag = np.subtract.outer(np.arange(N), np.arange(N))
    return np.exp(-0.5 * lag**2)


# A latent: the structure, what it is seen through, and the covariance of it; None where it is flat.
LATENTS = {
    "flat": (lambda: gg.cov.Linear(X, "flat"), X, None),
    "one variance": (lambda: gg.cov.Linear(X, 0.7), X, 0.7 * np.eye(2)),
    "variances": (lambda: gg.cov.Linear(X, [2.0, 0.5]), X, np.diag([2.0, 0.5])),
    "matrix": (lambda: gg.cov.Linear(X, G), X, G),
    "intercepts": (lambda: gg.cov.Effects(GROUP, 1.5), members(np.ones((N, 1))), 1.5 * np.eye(3)),
    "slopes": (lambda: gg.cov.Effects(GROUP, G, Z), members(Z), np.kron(np.eye(3), G)),
    "related": (
        lambda: gg.cov.Effects(GROUP, G, Z, precision=PEDIGREE, levels=list("bac")),
        members(Z)[:, [2, 3, 0, 1, 4, 5]],
        np.kron(np.linalg.inv(PEDIGREE), G),
    ),
    "twice": (lambda: 2.0 * gg.cov.Effects(GROUP, 1.5), members(np.ones((N, 1))), 3 * np.eye(3)),
    "field": (lambda: gg.cov.Projected(sp.csr_array(WEIGHTS), walk()), WEIGHTS, walk_matrix()),
    "sums to zero": (
        lambda: gg.cov.Projected(WEIGHTS[:, 1:], gg.cov.ICAR(EDGES, 1.1, n=3)),
        WEIGHTS[:, 1:],
        1.21 * np.linalg.pinv([[1.0, -1, 0], [-1, 2, -1], [0, -1, 1]]),
    ),
    "factors": (lambda: gg.cov.LowRank(FACTOR), FACTOR, np.eye(1)),
    "process": (lambda: gg.cov.Dense(kernel()), np.eye(N), kernel()),
}
MODELS = [
    ("one variance",),
    ("flat",),
    ("matrix", "slopes"),
    ("flat", "slopes", "intercepts"),
    ("flat", "related", "field"),
    ("variances", "sums to zero"),
    ("twice", "flat", "process"),
    ("factors", "intercepts"),
]
GAPS = {
    "whole": np.zeros(Y.shape, bool),
    "one pattern": np.arange(N) == np.full((2, 1), 3),
    "rows that differ": np.eye(2, N, k=2, dtype=bool),
}


def model_of(summands, y):
    with pm.Model() as model:
        cov = sum(summands) + gg.cov.Diagonal(NOISE)
        gg.MvNormal("y", 0.3, cov, observed=y)
    return model


def moments_of_draws(model, latents):
    """Means and covariances of all latents together for each row, and what is symbolic."""
    likelihood = gaussian_likelihood("test", model)
    found = conditional_latents("test", likelihood, latents, moments=True)
    rows = Y.shape[0]
    joined = [
        pt.concatenate([x.reshape((rows, -1)) for x in part.values()], axis=-1)
        for part in (found.draws, found.means, found.variances)
    ]
    function = interpreted(list(found.noise), joined)
    zeros = [np.zeros(z.type.shape) for z in found.noise]
    center, mean, variance = function(*zeros)
    columns = []
    for i, z in enumerate(zeros):
        for j in range(z.shape[-1]):
            unit = [x.copy() for x in zeros]
            unit[i][:, j] = 1
            columns.append(function(*unit)[0] - center)
    root = np.stack(columns, axis=-1)
    return center, root @ root.mT, mean, variance


def expected_moments(names, row):
    """Of all latents given an observed row, by a projection where coefficients are flat."""
    seen = ~np.isnan(row)
    designs, priors = zip(*(LATENTS[name][1:] for name in names), strict=True)
    proper = [None if p is None else m @ p @ m.T for m, p in zip(designs, priors, strict=True)]
    sigma = sum((x for x in proper if x is not None), start=np.diag(NOISE))[np.ix_(seen, seen)]
    inverse, residual = np.linalg.inv(sigma), row[seen] - 0.3
    flat = [m[seen] for m, p in zip(designs, priors, strict=True) if p is None]
    flat = np.concatenate([np.empty((seen.sum(), 0)), *flat], axis=1)
    inner = np.linalg.inv(flat.T @ inverse @ flat)
    best = inner @ flat.T @ inverse
    # u = gain (r - X b), b = best r + error of variance inner.
    parts = [
        (None, np.eye(len(inner)), best, np.zeros(inner.shape))
        if p is None
        else (p, -p @ m[seen].T @ inverse @ flat, p @ m[seen].T @ inverse, p @ m[seen].T)
        for m, p in zip(designs, priors, strict=True)
    ]
    rest = np.eye(seen.sum()) - flat @ best
    means = [g @ residual if p is None else g @ rest @ residual for p, _, g, _ in parts]
    given = [
        [
            inner * 0
            if a[0] is None and b[0] is None
            else np.zeros((len(a[1]), len(b[1])))
            if a[0] is None or b[0] is None
            else (a[0] if i == j else np.zeros((len(a[0]), len(b[0])))) - a[3] @ inverse @ b[3].T
            for j, b in enumerate(parts)
        ]
        for i, a in enumerate(parts)
    ]
    loadings = np.concatenate([x[1] for x in parts])
    return np.concatenate(means), np.block(given) + loadings @ inner @ loadings.T


@pytest.mark.parametrize("gaps", GAPS)
@pytest.mark.parametrize("names", MODELS, ids=" + ".join)
def test_draws_are_exact_and_joint(names, gaps):
    y = np.where(GAPS[gaps], np.nan, Y)
    summands = {name: LATENTS[name][0]() for name in names}
    center, covariance, mean, variance = moments_of_draws(model_of(summands.values(), y), summands)
    for row, *found in zip(y, center, covariance, mean, variance, strict=True):
        expected, spread = expected_moments(names, row)
        assert_allclose(found[0], expected, rtol=1e-8, atol=1e-10)
        assert_allclose(found[1], spread, rtol=1e-8, atol=1e-10)
        assert_allclose(found[2], expected, rtol=1e-8, atol=1e-10)
        assert_allclose(found[3], np.diag(spread), rtol=1e-8, atol=1e-10)


def test_moments_by_henderson():
    """The mixed model equations, of the same model."""
    design = np.append(X, members(Z), axis=1)
    prior = block_diag(np.zeros((2, 2)), np.kron(np.eye(3), np.linalg.inv(G)))
    system = design.T @ (design / NOISE[:, None]) + prior
    mean, spread = expected_moments(("flat", "slopes"), Y[0])
    assert_allclose(mean, np.linalg.solve(system, design.T @ ((Y[0] - 0.3) / NOISE)), rtol=1e-9)
    assert_allclose(spread, np.linalg.inv(system), rtol=1e-9, atol=1e-12)


def test_all_but_some_are_marginal():
    """One of two latents, the other flat."""
    summands = {name: LATENTS[name][0]() for name in ("flat", "slopes")}
    model = model_of(summands.values(), Y)
    only = {"slopes": summands["slopes"]}
    center, covariance, *_ = moments_of_draws(model, only)
    expected, spread = expected_moments(("flat", "slopes"), Y[0])
    assert_allclose(center[0], expected[2:], rtol=1e-8)
    assert_allclose(covariance[0], spread[2:, 2:], rtol=1e-8, atol=1e-10)


def posterior(**values):
    return az.from_dict({"posterior": values})


def mixed(observed=None, coords=None, **levels):
    table = pd.DataFrame(X, columns=["level", "slope"])
    with pm.Model(coords=coords) as model:
        v = pm.HalfNormal("v")
        line = gg.cov.Linear(table, "flat")
        own = gg.cov.Effects(GROUP, v * G, pd.DataFrame(Z, columns=["base", "trend"]), **levels)
        y = Y[0] if observed is None else observed
        gg.MvNormal("y", 0.3, line + own + gg.cov.Diagonal(NOISE), observed=y)
    return model, line, own


IDATA = posterior(v=np.array([[1.0, 1.0, 1.5], [2.0, 1.0, 0.5]]))


def test_labels_of_columns_and_levels():
    """By the tables that were given, or in the order of the model's coordinates."""
    model, line, own = mixed(coords={"subject": list("cab")})
    dims = {"beta": "regressor", "u": ("subject", "effect")}
    found = gg.recover(
        IDATA.copy(),
        model,
        {"beta": line, "u": own},
        moments=True,
        dims=dims,
        progressbar=False,
        random_seed=1,
    ).posterior
    assert found["beta"].dims == ("chain", "draw", "regressor")
    assert list(found["regressor"].values) == ["level", "slope"]
    assert found["u"].dims == ("chain", "draw", "subject", "effect")
    assert list(found["subject"].values) == list("cab")
    assert list(found["effect"].values) == ["base", "trend"]
    mean, spread = expected_moments(("flat", "slopes"), Y[0])
    first = found.isel(chain=0, draw=0)
    assert_allclose(first["beta_mean"], mean[:2], rtol=1e-8)
    for i, level in enumerate("abc"):
        part = slice(2 + 2 * i, 4 + 2 * i)
        assert_allclose(first["u_mean"].sel(subject=level), mean[part], rtol=1e-8)
        assert_allclose(first["u_variance"].sel(subject=level), np.diag(spread)[part], rtol=1e-8)
    assert "v" in found


def test_names_by_default():
    """In the order of the sum; the tree is left as it is where that is asked for."""
    model, *_ = mixed()
    options = {"progressbar": False, "random_seed": 3, "extend_inferencedata": False}
    found = gg.recover(IDATA, model, **options)
    assert set(found.data_vars) == {"linear", "effects"}
    assert list(IDATA.posterior.data_vars) == ["v"]
    assert found["effects"].dims == ("chain", "draw", "effects_dim_0", "effects_dim_1")
    again = gg.recover(IDATA, model, **options)
    assert_allclose(found["effects"], again["effects"])
    summands = [gg.cov.Effects(GROUP, 1.0), gg.cov.Effects(GROUP[::-1], 1.0)]
    twice = gg.recover(IDATA, model_of(summands, Y[0]), **options)
    assert set(twice.data_vars) == {"effects_1", "effects_2"}


def test_rows_of_data_have_their_own():
    model, line, own = mixed(observed=Y)
    found = gg.recover(IDATA.copy(), model, {"u": own, "b": line}, progressbar=False).posterior
    assert found["u"].dims == ("chain", "draw", "y_dim_0", "u_dim_1", "u_dim_2")
    assert found["b"].shape == (2, 3, 2, 2)


def test_labels_survive_pickling():
    cov = pickle.loads(pickle.dumps(gg.cov.Effects(GROUP, G, Z)))
    model = model_of([cov], Y[0])
    found = gg.recover(IDATA.copy(), model, {"u": cov}, progressbar=False).posterior
    assert list(found["u_dim_0"].values) == list("abc")


@pytest.mark.parametrize("name", ["intercepts", "flat", "matrix"])
def test_within_scales(name):
    """A latent of a sum that is scaled and a multiple, by what was put into it."""
    make, seen, prior = LATENTS[name]
    own, scale = make(), NOISE + 1
    with pm.Model() as model:
        whole = 2.0 * gg.cov.Scaled(own + gg.cov.Diagonal(NOISE), scale)
        gg.MvNormal("y", 0.0, whole, observed=Y[0])
    idata = gg.recover(IDATA.copy(), model, {"u": own}, moments=True, progressbar=False)
    # A prior as wide as this is flat but for a millionth.
    wide = 1e7 * np.eye(2) if prior is None else 2 * prior
    loadings = scale[:, None] * seen
    sigma = loadings @ wide @ loadings.T + 2 * np.diag(scale**2 * NOISE)
    expected = wide @ loadings.T @ np.linalg.solve(sigma, Y[0])
    rtol = 1e-5 if prior is None else 1e-9
    assert_allclose(idata.posterior["u_mean"][0, 0], expected, rtol=rtol)


def errors():
    model, _, own = mixed()
    other = model_of([gg.cov.AR1(1.0, 0.5)], Y[0])
    few, *_ = mixed(coords={"subject": ["a", "b"]})
    run = {"progressbar": False}
    return [
        (lambda: gg.recover(IDATA, model, [own], **run), TypeError, "expected a dict"),
        (lambda: gg.recover(IDATA, model, {"v": own}, **run), ValueError, r"names \['v'\]"),
        (lambda: gg.recover(IDATA, model, {"u": own, "w": own}, **run), ValueError, "`latents`"),
        (
            lambda: gg.recover(IDATA, model, {"u": own}, dims={"x": "d"}, **run),
            ValueError,
            "`dims`",
        ),
        (
            lambda: gg.recover(IDATA, model, {"u": own}, dims={"u": "d"}, **run),
            ValueError,
            "1 names",
        ),
        (
            lambda: gg.recover(IDATA, few, dims={"effects": ("subject", "x")}, **run),
            ValueError,
            "2 labels",
        ),
        (lambda: gg.recover(IDATA, other, **run), ValueError, "has no summand of coefficients"),
        (lambda: gg.recover(IDATA, model, {"u": gg.cov.AR1(1.0, 0.2)}, **run), ValueError, "AR1"),
    ]


@pytest.mark.parametrize("which", range(8))
def test_errors(which):
    make, kind, text = errors()[which]
    with pytest.raises(kind, match=text):
        make()
