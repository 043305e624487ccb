"""A regular time series: trend, cycle and activity in 309 yearly sunspot numbers.

The square roots y of the yearly sunspot numbers (see data/README.md) are a straight line and a
stationary series whose covariance is a function of the lag k in years, written down as it is
thought of: a cycle that loses its phase, and an activity that comes and goes,

    t_k = amplitude^2 exp(-k / memory) cos(2 pi k / period) + activity^2 exp(-k / span).

At equal steps the covariance matrix is Toeplitz, and gg.cov.Toeplitz needs its first column only:
the exact likelihood and its gradient cost O(n^2) and no matrix.

The script compares the gradient with dense automatic differentiation and finite differences,
samples the posterior, forecasts 40 years and saves one picture, regular_series.png, beside itself.

    python examples/regular_series.py               needs matplotlib besides the package
"""

from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
from scipy.linalg import solve_toeplitz, toeplitz

import pm_gaussgrad as gg

HERE = Path(__file__).parent
SEED = 17000101
AHEAD = 40  # years of forecast
INTERPRETED = "FAST_COMPILE"  # for what runs too seldom to be worth compiling
PARAMETERS = ["level", "slope", "amplitude", "period", "memory", "activity", "span"]


def load_data():
    """Square roots of the yearly sunspot numbers, by year."""
    table = pd.read_csv(HERE / "data" / "sunspots.csv", index_col="Year")
    return np.sqrt(table["Sunspots"])


def centuries(years):
    """Time in centuries from the middle of the data."""
    return (np.asarray(years, float) - 1854) / 100


def autocovariance(lag, amplitude, period, memory, activity, span, exp=np.exp, cos=np.cos):
    """t_k for lags in years; parameters are numbers, columns of draws, or tensors."""
    cycle = amplitude**2 * exp(-lag / memory) * cos(2 * np.pi * lag / period)
    return cycle + activity**2 * exp(-lag / span)


def build_model(data):
    """Build the model with a Toeplitz structure."""
    lag = np.arange(len(data))
    with pm.Model(coords={"year": data.index.to_numpy()}) as model:
        level = pm.Normal("level", mu=6, sigma=3)
        slope = pm.Normal("slope", mu=0, sigma=1)  # a century
        amplitude = pm.HalfNormal("amplitude", sigma=5)
        period = pm.LogNormal("period", mu=np.log(11), sigma=0.2)  # years
        memory = pm.LogNormal("memory", mu=np.log(20), sigma=1)  # years
        activity = pm.HalfNormal("activity", sigma=3)
        span = pm.LogNormal("span", mu=np.log(15), sigma=1)  # years

        mu = level + slope * centuries(data.index)
        column = autocovariance(lag, amplitude, period, memory, activity, span, pt.exp, pt.cos)
        gg.MvNormal("y", mu, gg.cov.Toeplitz(column), observed=data, dims="year")
    return model


def audit(model):
    """Gradient of the log posterior at the initial point, with its two witnesses."""
    with pytensor.config.change_flags(mode=INTERPRETED):
        return gg.gradient.audit(model)


def sample(model):
    """Draw from the posterior, then one new series for each draw."""
    with model:
        idata = pm.sample(1000, tune=1000, chains=4, random_seed=SEED)
        pm.sample_posterior_predictive(
            idata,
            random_seed=SEED,
            extend_inferencedata=True,
            compile_kwargs={"mode": INTERPRETED},
        )
    return idata


def posterior_draws(idata, every=10):
    """Draws of each parameter, thinned, as arrays."""
    draws = idata.posterior.dataset.stack(sample=("chain", "draw"))
    return {name: draws[name].to_numpy()[::every] for name in PARAMETERS}


def forecast(data, draws, rng):
    """The years ahead given the data, one path for each draw, shape (draws, AHEAD).

    With S and T the covariances of the data and of both together, a Toeplitz matrix again, the
    years ahead are normal with mean mu + C' S^-1 r and covariance T_22 - C' S^-1 C, C = T_12.
    """
    n = len(data)
    time = centuries(np.arange(data.index[0], data.index[-1] + 1 + AHEAD))
    paths = []
    for level, slope, *kernel in zip(*draws.values(), strict=True):
        column = autocovariance(np.arange(n + AHEAD), *kernel)
        mean = level + slope * time
        cross = toeplitz(column)[:n, n:]
        gain = solve_toeplitz(column[:n], cross)
        cov = toeplitz(column[:AHEAD]) - cross.T @ gain
        center = mean[n:] + (data.to_numpy() - mean[:n]) @ gain
        paths.append(center + np.linalg.cholesky(cov) @ rng.standard_normal(AHEAD))
    return np.array(paths)


def band(axis, x, draws, probability, **style):
    """Shade the central interval of the draws, one a row."""
    tail = 50 * (1 - probability)
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    return axis.fill_between(x, low, high, linewidth=0, **style)


def plot_series(axis, data, draws, predictive, ahead):
    """Draw the data, the trend, the band of a new series and the forecast."""
    years = data.index.to_numpy()
    future = years[-1] + 1 + np.arange(AHEAD)
    trend = draws["level"][:, None] + draws["slope"][:, None] * centuries(years)
    band(axis, years, predictive, 0.9, color="#e3eaf0", label="a new series, 90 %")
    band(axis, years, predictive, 0.5, color="#b9c8d6", label="a new series, 50 %")
    band(axis, years, trend, 0.9, color="#22577a", alpha=0.35, label="trend, 90 %")
    axis.plot(years, data, color="#1a1a1a", lw=0.9, label="data")
    band(axis, future, ahead, 0.9, color="#b5442e", alpha=0.2, label="forecast, 90 %")
    band(axis, future, ahead, 0.5, color="#b5442e", alpha=0.35, label="forecast, 50 %")
    axis.plot(future, np.median(ahead, axis=0), color="#b5442e", lw=1.2)
    axis.set(xlim=(1700, future[-1]), xlabel="year", ylabel="square root of sunspot number")
    axis.set_title("Yearly sunspot numbers: a line, a damped cycle and a wandering activity")
    axis.legend(ncols=6, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.13))


def plot_covariance(axis, data, draws):
    """Draw the autocovariance by lag: posterior band, and averages of lagged products."""
    lag = np.arange(61)
    kernel = [draws[name][:, None] for name in PARAMETERS[2:]]
    residual = data.to_numpy() - np.polyval(np.polyfit(data.index, data, 1), data.index)
    empirical = [np.mean(residual[k:] * residual[: len(residual) - k]) for k in lag]
    curves = autocovariance(lag, *kernel)
    band(axis, lag, curves, 0.9, color="#22577a", alpha=0.25, label="posterior, 90 %")
    axis.plot(lag, np.median(curves, axis=0), color="#22577a", lw=1.4, label="posterior median")
    axis.plot(lag, empirical, ".", color="#1a1a1a", ms=4, label="lagged products of the data")
    axis.axhline(0, color="#666666", lw=0.6)
    axis.set(xlabel="lag (years)", ylabel="autocovariance", xlim=(-0.5, 60))
    axis.set_title("The first column of the covariance matrix")
    axis.legend(frameon=False)


def plot_parameters(axes, draws):
    """One histogram a kernel parameter."""
    labels = {
        "period": "period (years)",
        "memory": "memory of the cycle (years)",
        "amplitude": "amplitude of the cycle, sd",
        "activity": "activity, sd",
    }
    for axis, (name, label) in zip(axes.flat, labels.items(), strict=True):
        axis.hist(draws[name], bins=30, color="#b9c8d6", edgecolor="white", lw=0.3)
        axis.set(xlabel=label, yticks=[])


def plot(data, idata, path):
    """Save the series with its bands, the autocovariance and the parameters."""
    draws = posterior_draws(idata)
    ahead = forecast(data, draws, np.random.default_rng(SEED))
    predictive = idata.posterior_predictive["y"].to_numpy().reshape(-1, len(data))
    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context(style):
        figure = plt.figure(figsize=(12, 8), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=[1.15, 1])
        plot_series(top.subplots(), data, draws, predictive, ahead)
        left, right = bottom.subfigures(1, 2)
        plot_covariance(left.subplots(), data, draws)
        plot_parameters(right.subplots(2, 2), posterior_draws(idata, every=1))
        figure.savefig(path, dpi=150)
    plt.close(figure)


def show(heading, table, number_format="{:.6g}"):
    """Print a table under a heading."""
    print(f"\n{heading}\n{'-' * len(heading)}")
    print(table.to_string(float_format=number_format.format), flush=True)


def main():
    """Audit, compare, sample, summarise, forecast, draw."""
    data = load_data()
    model = build_model(data)
    print(f"{len(data)} years, {data.index[0]} to {data.index[-1]}")
    print("Compiling takes most of the time of a first run.", flush=True)

    show("Gradient audit, at the initial point", audit(model))
    print()
    idata = sample(model)
    show("Posterior", az.summary(idata, var_names=PARAMETERS))

    path = HERE / "regular_series.png"
    plot(data, idata, path)
    print(f"\nPicture: {path}")


if __name__ == "__main__":
    main()
