"""One model under every sampler and inference method of PyMC: the same posterior."""

import warnings

import arviz as az
import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from registry import INTERPRETED

import pm_gaussgrad as gg

pytestmark = pytest.mark.sampling

SAMPLERS = {
    "pymc": {"nuts_sampler": "pymc"},
    "nutpie-numba": {"nuts_sampler": "nutpie", "nuts_sampler_kwargs": {"backend": "numba"}},
    "nutpie-jax": {
        "nuts_sampler": "nutpie",
        "nuts_sampler_kwargs": {"backend": "jax", "gradient_backend": "jax"},
    },
    "numpyro": {"nuts_sampler": "numpyro", "nuts_sampler_kwargs": {"chain_method": "vectorized"}},
    "blackjax": {"nuts_sampler": "blackjax", "nuts_sampler_kwargs": {"chain_method": "vectorized"}},
}


def _data():
    rng = np.random.default_rng(11)
    x = np.linspace(0, 3, 12)
    y = 1.0 + np.sin(2 * x) + 0.2 * rng.normal(size=12)
    return x, y, rng.normal(size=(9, 2)) @ np.array([[1.0, 0.0], [0.8, 0.6]]).T


@pytest.fixture(scope="module")
def model():
    """A Gaussian process, many correlated rows and a latent vector, in one model."""
    x, y, rows = _data()
    with pm.Model() as model:
        mean = pm.Normal("mean", 0, 2)
        amplitude = pm.HalfNormal("amplitude", 2)
        length = pm.InverseGamma("length", 5, 5)
        noise = pm.HalfNormal("noise", 0.5)
        kernel = amplitude**2 * pt.exp(-0.5 * (x[:, None] - x) ** 2 / length**2)
        gg.MvNormal("gp", mean, kernel + noise**2 * np.eye(12), observed=y)
        rho = pm.Uniform("rho", -1, 1)
        latent = gg.MvNormal("latent", np.zeros(2), gg.cov.Diagonal(np.array([1.0, 4.0])))
        chol = pt.stack([pt.stack([1.0, 0.0]), pt.stack([rho, pt.sqrt(1 - rho**2)])])
        gg.MvNormal("rows", latent, chol=chol, observed=rows)
    return model


@pytest.fixture(scope="module")
def reference(model):
    with model:
        return pm.sample(
            2000,
            tune=1000,
            chains=2,
            cores=1,
            random_seed=1,
            progressbar=False,
            nuts_sampler="nutpie",
        )


def _silent_about_this_package():
    """Escalate every warning that names this package, or that numba's object mode raises."""
    warnings.filterwarnings("error", message=".*(object mode|InvQuadLogdet|gaussgrad).*")


def _assert_same_posterior(got, expected):
    """Means within four Monte Carlo standard errors of the difference."""
    for name in ("mean", "amplitude", "length", "noise", "rho", "latent"):
        a, b = got.posterior[name], expected.posterior[name]
        difference = a.mean(("chain", "draw")) - b.mean(("chain", "draw"))
        error = np.hypot(az.mcse(a).to_numpy(), az.mcse(b).to_numpy())
        assert (np.abs(difference) < 4 * error).all(), (name, difference.values, error)


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if s != "nutpie-numba"])
def test_same_posterior(model, reference, sampler):
    if sampler != "pymc":
        pytest.importorskip(sampler.partition("-")[0])
        pytest.importorskip("jax")
    with model, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _silent_about_this_package()
        idata = pm.sample(
            1000,
            tune=1000,
            chains=2,
            cores=1,
            random_seed=2,
            progressbar=False,
            **SAMPLERS[sampler],
        )
    _assert_same_posterior(idata, reference)
    assert float(idata.sample_stats["diverging"].mean()) < 0.02


def test_threads_draw_what_one_thread_draws(model):
    """Four nutpie chains at once or one at a time, with the same seeds: identical draws."""
    pytest.importorskip("nutpie")
    runs = []
    for cores in (4, 1):
        with model:
            runs.append(
                pm.sample(
                    100,
                    tune=200,
                    chains=4,
                    cores=cores,
                    random_seed=3,
                    progressbar=False,
                    nuts_sampler="nutpie",
                )
            )
    for name in ("mean", "rho", "latent"):
        first, second = (run.posterior[name].sortby("chain").to_numpy() for run in runs)
        np.testing.assert_array_equal(first, second)


def test_find_map(model):
    with model:
        point = pm.find_MAP(progressbar=False, compile_kwargs={"mode": INTERPRETED})
    gradient = model.compile_dlogp(jacobian=False, mode=INTERPRETED)(
        {v.name: point[v.name] for v in model.value_vars}
    )
    assert np.abs(gradient).max() < 1e-2


def test_variational(model, reference):
    with model:
        fit = pm.fit(15_000, method="advi", random_seed=4, progressbar=False)
        idata = fit.sample(1000, random_seed=4)
    for name in ("mean", "rho"):
        expected = reference.posterior[name]
        assert abs(float(idata.posterior[name].mean() - expected.mean())) < float(expected.std())


def test_sequential_monte_carlo(model, reference):
    with model, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _silent_about_this_package()
        idata = pm.sample_smc(500, chains=2, cores=1, random_seed=5, progressbar=False)
    for name in ("mean", "noise", "rho"):
        a, b = idata.posterior[name], reference.posterior[name]
        # SMC particles are correlated within a chain: the tolerance is a fraction of the sd.
        assert abs(float(a.mean() - b.mean())) < 0.25 * float(b.std())
