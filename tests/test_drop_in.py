"""In the place of PyMC's distributions: their keywords, and the code of PyMC that uses them."""

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from registry import positive_definite

import pm_gaussgrad as gg

N = 3
MU = np.array([1.0, -2.0, 0.5])
SIGMA = positive_definite(np.random.default_rng(1), N)
CHOL = np.linalg.cholesky(SIGMA)
Y = np.random.default_rng(2).normal(size=(2, N))


def _logp(dist):
    return pm.logp(dist, Y).eval(mode="FAST_COMPILE")


def test_keywords_of_pymc():
    """Each is accepted by both, and changes neither density."""
    for kwargs in (
        {"chol": CHOL, "lower": True},
        {"cov": SIGMA, "lower": False},
        {"cov": SIGMA, "method": "svd"},
        {"cov": SIGMA, "method": "eigh", "name": "x"},
        {"tau": np.linalg.inv(SIGMA), "method": "cholesky"},
    ):
        ours, theirs = (d.MvNormal.dist(MU, **kwargs) for d in (gg, pm))
        assert ours.name == theirs.name
        assert_allclose(_logp(ours), _logp(theirs), rtol=1e-12)


def test_keywords_of_the_student_t():
    expected = _logp(pm.MvStudentT.dist(4.0, mu=MU, scale=SIGMA))
    for kwargs in (
        {"Sigma": SIGMA},
        {"chol": CHOL, "lower": True},
        {"scale": SIGMA, "method": "svd"},
    ):
        assert_allclose(_logp(gg.MvStudentT.dist(4.0, mu=MU, **kwargs)), expected, rtol=1e-12)
    with pytest.warns(FutureWarning, match=r"`cov` is taken as the scale matrix"):
        dist = gg.MvStudentT.dist(4.0, mu=MU, cov=SIGMA)
    assert_allclose(_logp(dist), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"chol": CHOL, "lower": False}, ValueError, r"`lower` is False.*chol=upper\.mT"),
        ({"tau": SIGMA, "method": "lu"}, ValueError, r"`method` is 'lu', expected one of"),
        ({"covariance": SIGMA}, TypeError, r"no argument `covariance`; expected one of mu, "),
    ],
)
def test_keywords_that_ask_for_something_else(kwargs, error, message):
    with pytest.raises(error, match=rf"gg\.MvNormal: .*{message}"):
        gg.MvNormal.dist(MU, **kwargs)
    with pytest.raises(error, match=rf"gg\.MvStudentT: .*{message.replace('mu', 'nu')}"):
        gg.MvStudentT.dist(4.0, MU, **kwargs)


def test_two_names_of_the_scale_matrix():
    with pytest.raises(ValueError, match=r"scale and Sigma are names of one argument"):
        gg.MvStudentT.dist(4.0, MU, SIGMA, Sigma=SIGMA)


X = np.linspace(0, 2, 5)[:, None]
NEW = np.linspace(0.5, 3, 4)[:, None]


def _latent():
    gp = pm.gp.Latent(cov_func=pm.gp.cov.Matern52(1, ls=pm.HalfNormal("ls")))
    gp.prior("f", X, reparameterize=False)
    gp.conditional("new", NEW)


def _marginal():
    gp = pm.gp.Marginal(cov_func=pm.gp.cov.Matern52(1, ls=pm.HalfNormal("ls")))
    gp.marginal_likelihood("f", X, y=np.sin(X[:, 0]), sigma=pm.HalfNormal("sigma"))
    gp.conditional("new", NEW)


def _student():
    gp = pm.gp.TP(scale_func=pm.gp.cov.Matern52(1, ls=pm.HalfNormal("ls")), nu=5.0)
    gp.prior("f", X, reparameterize=False)
    gp.conditional("new", NEW)


@pytest.mark.parametrize("process", [_latent, _marginal, _student])
def test_gaussian_processes_of_pymc(process, monkeypatch):
    with pm.Model() as theirs:
        process()
    monkeypatch.setattr(pm, "MvNormal", gg.MvNormal)
    monkeypatch.setattr(pm, "MvStudentT", gg.MvStudentT)
    with pm.Model() as ours:
        process()
    kind = "MvStudentTRV" if process is _student else "MvNormalRV"
    structured = [rv for rv in ours.basic_RVs if hasattr(rv.owner.op, "structure")]
    assert [type(rv.owner.op).__name__ for rv in structured] == [kind] * 2
    point = theirs.initial_point()
    rng = np.random.default_rng(3)
    point = {k: 0.1 * rng.normal(size=np.shape(v)) for k, v in point.items()}
    assert_allclose(ours.compile_logp()(point), theirs.compile_logp()(point), rtol=1e-8)
    assert np.isfinite(pm.draw(ours["new"], random_seed=1)).all()
