"""Missing values integrated out, against missing values sampled: effective draws a second.

    python -m benchmarks.missing [--n 200] [--fraction 0.15] [--structure AR1]

One series with gaps and an exponential covariance; mean, scale and length scale are unknown. Ours
integrates the gaps out; the peer is pm.MvNormal with NaN in its data, which PyMC makes parameters.
Both are sampled by PyMC's NUTS in one process. Printed are effective draws (bulk) a second of
sampling, the least over the parameters, and differences of posterior means and standard deviations
in units of their Monte Carlo errors: of the parameters, and of the missing values, which ours
draws afterwards.
"""

import argparse
import os
import warnings

STRUCTURES = ("AR1", "Toeplitz", "Dense")
PARAMETERS = ("mean", "sigma", "lengthscale")


def simulate(n, fraction, seed):
    """Observations with gaps, from known parameters."""
    import numpy as np

    rng = np.random.default_rng(seed)
    lags = np.arange(n)
    cov = 1.5**2 * np.exp(-np.abs(lags[:, None] - lags) / 5)
    y = 1 + np.linalg.cholesky(cov + 1e-10 * np.eye(n)) @ rng.standard_normal(n)
    y[rng.choice(n, size=round(fraction * n), replace=False)] = np.nan
    return y


def model(y, structure=None):
    """The model with ``gg.MvNormal`` of a structure, or with ``pm.MvNormal``."""
    import numpy as np
    import pymc as pm
    import pytensor.tensor as pt

    import pm_gaussgrad as gg

    n = len(y)
    lags = np.arange(n)
    with pm.Model() as built:
        mean = pm.Normal("mean", 0, 3)
        sigma = pm.HalfNormal("sigma", 3)
        lengthscale = pm.InverseGamma("lengthscale", 3, 10)
        if structure == "AR1":
            cov = gg.cov.AR1(sigma**2, pt.exp(-1 / lengthscale), size=n)
            gg.MvNormal("y", mean, cov, observed=y)
        elif structure == "Toeplitz":
            column = sigma**2 * pt.exp(-lags / lengthscale)
            gg.MvNormal("y", mean, gg.cov.Toeplitz(column), observed=y)
        else:
            dense = sigma**2 * pt.exp(-np.abs(lags[:, None] - lags) / lengthscale)
            likelihood = gg.MvNormal if structure == "Dense" else pm.MvNormal
            likelihood("y", mean * np.ones(n), cov=dense, observed=y)
    return built


def sample(built, options):
    """Draws, and seconds of sampling without compilation."""
    import pymc as pm

    with built, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyMC's remark about imputation
        idata = pm.sample(
            options.draws,
            tune=options.tune,
            chains=2,
            cores=1,
            nuts_sampler="pymc",
            random_seed=options.seed,
            progressbar=False,
        )
    return idata, float(idata["posterior"].attrs["sampling_time"])


def differences(ours, peer):
    """Differences of means and standard deviations, in units of their Monte Carlo errors."""
    import arviz as az
    import numpy as np

    found = []
    for name, kind in (("mean", "mean"), ("std", "sd")):
        errors = [az.mcse(x, method=kind) for x in (ours, peer)]
        moments = [getattr(x, name)(("chain", "draw")) for x in (ours, peer)]
        found.append((moments[0] - moments[1]) / np.sqrt(errors[0] ** 2 + errors[1] ** 2))
    return found


def run(options):
    """Sample both and print."""
    import arviz as az
    import numpy as np

    import pm_gaussgrad as gg

    y = simulate(options.n, options.fraction, options.seed)
    missing = np.isnan(y)
    built = model(y, options.structure)
    ours, ours_seconds = sample(built, options)
    peer, peer_seconds = sample(model(y), options)
    print(f"n = {options.n}, {missing.sum()} missing; 2 chains of {options.draws} draws")
    rates = []
    for label, idata, seconds in (
        (f"gg.cov.{options.structure}", ours, ours_seconds),
        ("pm.MvNormal", peer, peer_seconds),
    ):
        ess = min(float(az.ess(idata["posterior"][name])) for name in PARAMETERS)
        rates.append(ess / seconds)
        print(f"  {label:16} {seconds:7.1f} s, least ESS {ess:6.0f}, {rates[-1]:8.1f} a second")
    print(f"  ratio {rates[0] / rates[1]:.1f}")
    for name in PARAMETERS:
        mean, sd = differences(ours["posterior"][name], peer["posterior"][name])
        print(f"  {name:12} differs by {float(mean):5.2f} (mean), {float(sd):5.2f} (sd) errors")
    gg.impute(ours, model=built, random_seed=options.seed, progressbar=False)
    imputed = ours["posterior_predictive"]["y_imputed"][..., missing]
    sampled = peer["posterior"]["y_unobserved"].to_numpy()
    mean, sd = differences(imputed, imputed.copy(data=sampled))
    print(
        f"  {missing.sum()} missing values: root mean square difference "
        f"{float(np.sqrt((mean**2).mean())):.2f} (mean), {float(np.sqrt((sd**2).mean())):.2f} (sd)"
        " errors"
    )


def parse(arguments=None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.missing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--fraction", type=float, default=0.15, help="of the values is missing")
    parser.add_argument("--structure", choices=STRUCTURES, default="AR1")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--tune", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=20260101)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    for library in ("OPENBLAS", "OMP", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS")
    run(parse())
