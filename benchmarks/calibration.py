"""Simulation-based calibration of models, from prior to posterior.

    pip install -e ".[bench]"
    python -m benchmarks.calibration                     # from the project's root; 15 minutes
    python -m benchmarks.calibration --simulations 100   # fewer, hence a weaker test
    python -m benchmarks.calibration --model gp grid     # some of the models

Parameters are drawn from their prior, data given the parameters by the likelihood's own random
draws, and NUTS samples the posterior given the data. Where draws, likelihood, gradient and
sampler agree, the rank of a parameter among its posterior draws is uniform (Talts et al. 2020,
theorem 1). So is that of the log likelihood, which sees what the parameters' own ranks do not: a
likelihood that ignores its data returns the prior, and the prior is calibrated (Modrák et al.
2023). The models:

- ``gp``: Gaussian process at 24 points, exponentiated quadratic kernel and noise, ``Dense``;
- ``visits``: 15 subjects, each at some of 4 visits, AR(1) and noise, ``RepeatedMeasures``;
- ``grid``: Gaussian process on a 5 x 6 grid and noise, ``Kronecker + Diagonal``;
- ``series``: 40 times, a quarter of them NaN, ``AR1``;
- ``panel``: a wide table of 15 subjects and 5 visits, a fifth of it NaN, ``AR1 + Diagonal``;
- ``subjects``: 12 subjects at irregular times of their own, ``AR1(time=, group=) + Diagonal``;
- ``processes``: 60 irregular times, a tenth of them NaN, ``SHO + Matern32 + Diagonal``;
- ``intercepts``: 40 times, a fifth of them NaN, ``LowRank + AR1 + Diagonal``;
- ``trend``: 30 times, ``LowRank + Toeplitz + Diagonal``;
- ``areas``: 31 areas of two islands and one alone, four of them NaN, ``BYM2 + Diagonal``;
- ``crossed``: 60 rows of 12 subjects, with slopes, and 8 items, ``Effects + Effects + Diagonal``.

Ranks are tested by the largest excursion of their empirical distribution function, the test
whose acceptance region is the simultaneous band of Säilynoja, Bürkner and Vehtari (2022). The
table has a p-value for each scalar. The exit status is 1 when one is below LEVEL divided by the
number of tests (Bonferroni), 0 otherwise; the pictures show the bands of this level and of 5 %.

Ranks need posterior draws that are nearly independent: they are thinned, and the table has the
effective sample size of those kept relative to their number. ``simuk`` makes a new model of each
data set, and compiling that takes ten times as long as sampling it; here the model is compiled
once, with the data as an input.

References
----------
Modrák, M., Moon, A. H., Kim, S., Bürkner, P., Huurre, N., Faltejsková, K., Gelman, A. and
Vehtari, A. (2023). Simulation-based calibration checking for Bayesian computation: The choice of
test quantities shapes sensitivity. arXiv:2211.02383.

Säilynoja, T., Bürkner, P.-C. and Vehtari, A. (2022). Graphical test for discrete uniformity and
its applications in goodness-of-fit evaluation and multiple sample comparison. Statistics and
Computing 32, 32, section 2.

Talts, S., Betancourt, M., Simpson, D., Vehtari, A. and Gelman, A. (2020). Validating Bayesian
inference algorithms with simulation-based calibration. arXiv:1804.06788.
"""

import argparse
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import nutpie
import pymc as pm
import pytensor.tensor as pt
import simuk
import xarray as xr
from arviz_stats.base import array_stats
from rich.console import Console
from rich.table import Table
from scipy.stats import binom

import pm_gaussgrad as gg

SEED = 20260101
LEVEL = 0.01
TUNE, DRAWS, THIN = 1000, 1000, 10
REFERENCE_SAMPLES = 20_000
WIDTH = 100


@dataclass(frozen=True)
class Calibration:
    """Ranks of a model's parameters, and how the sampling went."""

    ranks: xr.Dataset
    efficiency: dict
    divergences: int
    seconds: float

    @property
    def pits(self) -> xr.Dataset:
        """Ranks with a uniform draw added, over their number: exactly uniform on (0, 1)."""
        rng = np.random.default_rng(SEED)
        kept = DRAWS // THIN
        return self.ranks.map(lambda ranks: (ranks + rng.uniform(size=ranks.shape)) / (kept + 1))


def _observe(mu, cov, missing):
    """The likelihood, of data that each simulation replaces, and its value, to be ranked."""
    data = pm.Data("data", np.zeros(missing.shape))
    # Afterwards: pm.Data itself does not take NaN.
    data.set_value(np.where(missing, np.nan, 0.0))
    gg.MvNormal("y", mu, cov, observed=data)
    pm.Deterministic("log_likelihood", gg.logp(data, mu, cov).sum())


def gp():
    """Dense: exponentiated quadratic kernel and noise."""
    x = np.linspace(0, 1, 24)
    squares = (x[:, None] - x) ** 2
    with pm.Model() as model:
        mean = pm.Normal("mean")
        eta = pm.Gamma("eta", 8, 8)
        lengthscale = pm.InverseGamma("lengthscale", 8, 1.6)
        sigma = pm.Gamma("sigma", 8, 20)
        kernel = eta**2 * pt.exp(-squares / (2 * lengthscale**2))
        cov = gg.cov.Dense(kernel + sigma**2 * np.eye(x.size))
        _observe(mean * np.ones(x.size), cov, np.zeros(x.size, bool))
    return model


def visits():
    """Repeated measures in two arms of a trial, a fifth of the visits missing."""
    present = np.random.default_rng(SEED).uniform(size=(15, 4)) > 0.2
    subject, visit = np.nonzero(present)
    lags = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    with pm.Model() as model:
        mean = pm.Normal("mean", shape=4)
        effect = pm.Normal("effect")
        sigma = pm.Gamma("sigma", 8, 8)
        rho = pm.Beta("rho", 4, 2)
        tau = pm.Gamma("tau", 8, 16)
        within = sigma**2 * rho**lags + tau**2 * np.eye(4)
        cov = gg.cov.RepeatedMeasures(within, subject, visit)
        _observe(mean[visit] + effect * (subject % 2), cov, np.zeros(subject.size, bool))
    return model


def grid():
    """Kronecker with noise: exponential kernels on the two axes of a grid."""
    axes = np.linspace(0, 1, 5), np.linspace(0, 1, 6)
    with pm.Model() as model:
        mean = pm.Normal("mean")
        lengthscale = pm.InverseGamma("lengthscale", 8, 3, shape=2)
        eta = pm.Gamma("eta", 8, 8)
        sigma = pm.Gamma("sigma", 8, 20)
        first, second = (
            pt.exp(-np.abs(x[:, None] - x) / lengthscale[i]) for i, x in enumerate(axes)
        )
        cov = gg.cov.Kronecker(eta**2 * first, second) + gg.cov.Diagonal(sigma**2)
        _observe(mean * np.ones(30), cov, np.zeros(30, bool))
    return model


def series():
    """AR(1) with missing values, which are integrated out."""
    missing = np.random.default_rng(SEED).uniform(size=40) < 0.25
    with pm.Model() as model:
        mean = pm.Normal("mean")
        sigma = pm.Gamma("sigma", 8, 8)
        rho = pm.Uniform("rho", 0, 1)
        cov = gg.cov.AR1(sigma**2, rho, size=missing.size)
        _observe(mean * np.ones(missing.size), cov, missing)
    return model


def panel():
    """Rows of a wide table that miss different entries."""
    missing = np.random.default_rng(SEED).uniform(size=(15, 5)) < 0.2
    with pm.Model() as model:
        mean = pm.Normal("mean", shape=5)
        sigma = pm.Gamma("sigma", 8, 8)
        rho = pm.Uniform("rho", 0, 1)
        tau = pm.Gamma("tau", 8, 16)
        cov = gg.cov.AR1(sigma**2, rho, size=5) + gg.cov.Diagonal(tau**2, size=5)
        _observe(mean, cov, missing)
    return model


def subjects():
    """Irregular times of each subject, in no order, and measurement noise."""
    rng = np.random.default_rng(SEED)
    subject = rng.permutation(np.repeat(np.arange(12), rng.integers(2, 9, size=12)))
    time = rng.uniform(0, 6, size=subject.size)
    with pm.Model() as model:
        mean, effect = pm.Normal("mean"), pm.Normal("effect")
        sigma = pm.Gamma("sigma", 8, 8)
        rho = pm.Uniform("rho", 0, 1)
        tau = pm.Gamma("tau", 8, 16)
        cov = gg.cov.AR1(sigma**2, rho, time=time, group=subject) + gg.cov.Diagonal(tau**2)
        _observe(mean + effect * (subject % 2), cov, np.zeros(subject.size, bool))
    return model


def processes():
    """An oscillation, a smooth process and noise at irregular times, a tenth missing."""
    rng = np.random.default_rng(SEED)
    times, missing = np.sort(rng.uniform(0, 20, size=60)), rng.uniform(size=60) < 0.1
    with pm.Model() as model:
        mean = pm.Normal("mean")
        sigma, period = pm.Gamma("sigma", 8, 8), pm.LogNormal("period", np.log(3), 0.2)
        quality = pm.LogNormal("quality", 0, 0.5)
        smooth, lengthscale = pm.Gamma("smooth", 8, 12), pm.LogNormal("lengthscale", np.log(4), 0.3)
        noise = pm.Gamma("noise", 8, 16)
        cov = gg.cov.SHO(sigma, period, quality, time=times)
        cov += gg.cov.Matern32(smooth, lengthscale, time=times) + gg.cov.Diagonal(noise**2)
        _observe(mean * np.ones(60), cov, missing)
    return model


def intercepts():
    """Intercepts of five series that share one AR(1) and noise, a fifth missing."""
    rng = np.random.default_rng(SEED)
    missing = rng.uniform(size=40) < 0.2
    unit = np.eye(5)[np.arange(40) % 5]
    with pm.Model() as model:
        tau, sigma = pm.Gamma("tau", 8, 8), pm.Gamma("sigma", 8, 8)
        rho = pm.Uniform("rho", 0, 1)
        noise = pm.Gamma("noise", 8, 16)
        cov = gg.cov.LowRank(tau * unit) + gg.cov.AR1(sigma**2, rho, size=40)
        _observe(pm.Normal("mean") * np.ones(40), cov + gg.cov.Diagonal(noise**2), missing)
    return model


def trend():
    """A trend that is integrated out, beside a stationary process and noise."""
    x = np.linspace(0, 1, 30)
    basis = np.column_stack([np.ones(30), x, x**2])
    with pm.Model() as model:
        tau, eta = pm.Gamma("tau", 8, 8), pm.Gamma("eta", 8, 8)
        lengthscale = pm.InverseGamma("lengthscale", 8, 1.6)
        noise = pm.Gamma("noise", 8, 20)
        column = eta**2 * pt.exp(-(x**2) / (2 * lengthscale**2))
        cov = gg.cov.LowRank(tau * basis) + gg.cov.Toeplitz(column) + gg.cov.Diagonal(noise**2)
        _observe(np.zeros(30), cov, np.zeros(30, bool))
    return model


def areas():
    """Spatial and independent effects of areas of two islands, and of one alone, with noise."""
    island = np.array(
        [(i, i + 1) for i in range(15) if i % 4 < 3] + [(i, i + 4) for i in range(12)]
    )
    island = island[(island < 15).all(axis=1)]
    neighbours = np.concatenate([island, island + 15])
    missing = np.isin(np.arange(31), [2, 8, 20, 30])
    with pm.Model() as model:
        mean = pm.Normal("mean")
        sigma, rho = pm.Gamma("sigma", 8, 8), pm.Beta("rho", 2, 2)
        noise = pm.Gamma("noise", 8, 16)
        cov = gg.cov.BYM2(neighbours, sigma, rho, n=31) + gg.cov.Diagonal(noise**2)
        _observe(mean * np.ones(31), cov, missing)
    return model


def crossed():
    """Correlated intercepts and slopes of subjects, crossed with intercepts of items."""
    rng = np.random.default_rng(SEED)
    subject, item = rng.permutation(60) % 12, rng.permutation(60) % 8
    x = rng.uniform(-1, 1, size=60)
    with pm.Model() as model:
        mean, slope = pm.Normal("mean"), pm.Normal("slope")
        scales, correlation = pm.Gamma("scales", 8, 8, shape=2), pm.Uniform("correlation", -1, 1)
        items, noise = pm.Gamma("items", 8, 8), pm.Gamma("noise", 8, 16)
        between = correlation * scales[0] * scales[1]
        entries = [scales[0] ** 2, between, between, scales[1] ** 2]
        design = np.column_stack([np.ones(60), x])
        cov = gg.cov.Effects(subject, pt.stack(entries).reshape((2, 2)), design)
        cov += gg.cov.Effects(item, items**2) + gg.cov.Diagonal(noise**2)
        _observe(mean + slope * x, cov, np.zeros(60, bool))
    return model


MODELS = {
    build.__name__: build
    for build in (
        gp,
        visits,
        grid,
        series,
        panel,
        subjects,
        processes,
        intercepts,
        trend,
        crossed,
        areas,
    )
}


class CompiledOnce(simuk.SBC):
    """Calibration of a model by ``_observe``; the log likelihood is ranked with the parameters."""

    def __init__(self, model, **kwargs):
        super().__init__(model, **kwargs)
        self.divergences = 0
        self.missing = np.isnan(model["data"].get_value())
        self.compiled = nutpie.compile_pymc_model(model)
        self.parameters = list(self.var_names)
        self.log_likelihood = model.compile_fn(
            model["log_likelihood"],
            inputs=[model[name] for name in self.parameters],
            point_fn=False,
            on_unused_input="ignore",
        )
        self.var_names.append("log_likelihood")

    def _get_posterior_samples(self, replicated_data):
        """Condition on one data set; overrides the method that compiles it as a new model."""
        i = self._simulations_complete
        data = np.where(self.missing, np.nan, replicated_data["y"])
        self.model["data"].set_value(data)
        truth = [self.ref_params[name].values[..., i] for name in self.parameters]
        self.ref_params["log_likelihood"][i] = self.log_likelihood(*truth)
        trace = nutpie.sample(
            self.compiled.with_data(data=data),
            draws=DRAWS,
            tune=TUNE,
            chains=1,
            cores=1,
            target_accept=0.9,
            seed=int(self._seeds[i]),
            progress_bar=False,
        )
        self.divergences += int(trace["sample_stats"]["diverging"].sum())
        kept = trace.isel(draw=slice(None, None, THIN))
        return az.extract(kept, keep_dataset=True)


def calibrate(name: str, simulations: int) -> Calibration:
    """Run the simulations of one model."""
    start = time.perf_counter()
    sbc = CompiledOnce(MODELS[name](), num_simulations=simulations, seed=SEED)
    sbc.run_simulations()
    if sbc._simulations_complete < simulations:
        raise RuntimeError(f"{name}: simuk stopped early; its log has the error.")
    draws = {v: np.stack([p[v].values for p in sbc.posteriors]) for v in sbc.var_names}
    efficiency = {v: _efficiency(stacked) for v, stacked in draws.items()}
    seconds = time.perf_counter() - start
    ranks = sbc.simulations["prior_sbc"].to_dataset()
    return Calibration(ranks, efficiency, sbc.divergences, seconds)


def _efficiency(draws):
    """Mean over simulations of effective sample size over draws, (simulations, ..., draws)."""
    ess = array_stats.ess(draws, chain_axis=None, draw_axis=-1, method="mean")
    return ess.mean(axis=0) / draws.shape[-1]


class UniformityTest:
    r"""The ECDF test of n independent values on (0, 1), by simulation.

    The excursion of a sample is the least tail probability of the binomial counts
    :math:`\#\{u_i \le k/n\}`, over k = 1, ..., n - 1 and both tails.
    """

    def __init__(self, n):
        self.at = np.arange(1, n) / n
        counts = np.arange(n + 1)[:, None]
        cdf, sf = binom.cdf(counts, n, self.at), binom.sf(counts - 1, n, self.at)
        self.tails = np.minimum(cdf, sf)
        rng = np.random.default_rng(SEED)
        samples = (rng.uniform(size=n) for _ in range(REFERENCE_SAMPLES))
        self.excursions = np.sort([self._excursion(sample) for sample in samples])

    def counts(self, sample):
        """How many of the sample are at most k / n."""
        return np.searchsorted(np.sort(sample), self.at, side="right")

    def _excursion(self, sample):
        return self.tails[self.counts(sample), np.arange(self.at.size)].min()

    def p_value(self, sample):
        """The probability of an excursion like the sample's or farther."""
        farther = np.searchsorted(self.excursions, self._excursion(sample), side="right")
        return (1 + farther) / (1 + REFERENCE_SAMPLES)

    def band(self, level):
        """Least and largest counts that are no excursion at a level."""
        inside = self.tails >= np.quantile(self.excursions, level)
        return inside.argmax(axis=0), len(inside) - 1 - inside[::-1].argmax(axis=0)


def scalars(found: Calibration):
    """Label, values and efficiency of each scalar: a vector's entries one by one."""
    for name, values in found.pits.items():
        rows = values.squeeze("chain").transpose(..., "draw").values
        for index in np.ndindex(rows.shape[:-1]):
            label = f"{name}[{', '.join(map(str, index))}]" if index else name
            yield label, rows[index], found.efficiency[name][index]


def table(calibrations: dict, test: UniformityTest, level: float) -> tuple[Table, bool]:
    """A line a scalar, and whether all of them are uniform at a level."""
    table = Table("model", "quantity", title="Uniformity of ranks")
    for name in ("p", "ESS / draw", "uniform"):
        table.add_column(name, justify="right")
    uniform = True
    for model, found in calibrations.items():
        for label, pits, efficiency in scalars(found):
            p = test.p_value(pits)
            verdict = "yes" if p >= level else "[red]no[/]"
            table.add_row(model, label, f"{p:.4f}", f"{efficiency:.2f}", verdict)
            uniform &= p >= level
    return table, bool(uniform)


def plot(found: Calibration, test: UniformityTest, level: float, file: Path) -> None:
    """Draw each ECDF less that of the uniform, with the band at a level and that at 5 %."""
    panels = list(scalars(found))
    columns = min(len(panels), 5)
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, sharex=True, sharey=True, squeeze=False,
        figsize=(2.4 * columns, 2.6 * rows), layout="constrained",
    )  # fmt: skip
    n = test.at.size + 1
    for axis, (label, pits, _) in zip(axes.flat, panels, strict=False):
        for at, shade in ((level, "0.9"), (0.05, "0.8")):
            low, high = (counts / n - test.at for counts in test.band(at))
            axis.fill_between(test.at, low, high, color=shade, linewidth=0)
        axis.plot(test.at, test.counts(pits) / n - test.at, linewidth=1)
        axis.set_title(label, fontsize="medium")
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.supxlabel("rank / number of draws")
    figure.supylabel("ECDF less uniform")
    figure.savefig(file, dpi=120)
    plt.close(figure)


def parse(arguments=None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.calibration", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--simulations", type=int, default=500, metavar="N", help="a model's")
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument(
        "--plots",
        type=Path,
        metavar="FOLDER",
        default=Path(__file__).parent,
        help="where to draw calibration_MODEL.png (default: benchmarks)",
    )
    options = parser.parse_args(arguments)
    if options.simulations < 2:
        parser.error("--simulations: expected at least 2, and hundreds for a test of any power")
    return options


def main() -> int:
    """Simulate, print, draw; 1 unless all ranks are uniform."""
    options = parse()
    plt.switch_backend("agg")
    # PyTensor's remark about its C backend, which nothing here uses.
    warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS")
    calibrations = {name: calibrate(name, options.simulations) for name in options.model}
    test = UniformityTest(options.simulations)
    count = sum(len(list(scalars(found))) for found in calibrations.values())
    lines, uniform = table(calibrations, test, LEVEL / count)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(lines)
    for name, found in calibrations.items():
        file = options.plots / f"calibration_{name}.png"
        plot(found, test, LEVEL / count, file)
        console.print(
            f"{name}: {options.simulations} simulations of {DRAWS // THIN} draws kept, "
            f"{found.divergences} divergences, {found.seconds:.0f} s; plot: {file}",
            highlight=False,
            soft_wrap=True,
        )
    verdict = "All ranks uniform" if uniform else "Ranks not uniform"
    console.print(f"{verdict} at {LEVEL:g} / {count}.", highlight=False)
    return 0 if uniform else 1


if __name__ == "__main__":
    sys.exit(main())
