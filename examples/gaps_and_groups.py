"""Gaps and groups: one covariance, AR(1) with noise, for a trial and for a long series, real data.

A process of variance sigma^2 whose correlation dies out with the time between two observations,
and the noise of each of them,

    Cov(y_i, y_j) = sigma^2 rho^|t_i - t_j| + noise^2 [i = j]    within a group, 0 between groups,

is gg.cov.AR1 + gg.cov.Diagonal. Value and gradient cost O(n), whatever is missing.

    A trial      depression scores of 100 patients at 0, 2, 4, 6 and 8 months, of whom only half
                 stay to the end. As a wide table, a row a patient and NaN where there is no score,
                 and as a long one, a row a score with its patient and month: the same density.
    A series     44 years of weekly CO2 at Mauna Loa, of which 59 weeks are missing: a curved
                 trend, seasons, and what is left is the process. The last year is kept back.

The script compares value and gradient of the two layouts, samples both posteriors, draws what is
missing, forecasts the year kept back and saves one picture, gaps_and_groups.png, beside itself.

    python examples/gaps_and_groups.py              needs matplotlib besides the package
"""

from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

import pm_gaussgrad as gg

HERE = Path(__file__).parent
SEED = 19580329
AHEAD = 52  # weeks of the series that are kept back
INTERPRETED = "FAST_COMPILE"  # for what runs too seldom to be worth compiling
# The means of the trial in a vector: one before treatment, four after it in each arm.
CELL = np.array([[0, 1, 2, 3, 4], [0, 5, 6, 7, 8]])
RED, BLUE = "#b5442e", "#22577a"


def load_trial():
    """One row a score."""
    table = pd.read_csv(HERE / "data" / "beat_the_blues.csv")
    table["arm"] = (table["treatment"] == "BtheB").astype(int)
    table["visit"] = np.unique(table["month"], return_inverse=True)[1]
    return table


def load_series():
    """Weekly CO2, ppm, by date; NaN where there was none."""
    path = HERE / "data" / "mauna_loa_co2.csv"
    return pd.read_csv(path, index_col="date", parse_dates=True)["co2"]


def trial_model(table, layout):
    """The trial as a wide or as a long table."""
    wide = table.pivot(index="patient", columns="month", values="bdi")
    arm = table.groupby("patient")["arm"].first()
    coords = {"cell": range(9), "patient": wide.index, "month": wide.columns, "score": table.index}
    with pm.Model(coords=coords) as model:
        means = pm.Normal("means", [25] + 8 * [20], 10, dims="cell")
        sigma, noise = pm.HalfNormal("sigma", 15), pm.HalfNormal("noise", 10)
        rho = pm.Uniform("rho", 0, 1)  # at a distance of one month
        if layout == "wide":  # columns are two months apart
            cov = gg.cov.AR1(sigma**2, rho**2) + gg.cov.Diagonal(noise**2)
            gg.MvNormal("bdi", means[CELL[arm]], cov, observed=wide, dims=("patient", "month"))
        else:
            process = gg.cov.AR1(sigma**2, rho, time=table["month"], group=table["patient"])
            mu, cov = means[CELL[table["arm"], table["visit"]]], process + gg.cov.Diagonal(noise**2)
            gg.MvNormal("bdi", mu, cov, observed=table["bdi"], dims="score")
    return model


def compare_layouts(models):
    """Log posterior and its gradient, at two points."""
    start = models["long"].initial_point()
    points = [start, {name: value + 0.3 for name, value in start.items()}]
    rows = []
    for layout in ("wide", "long"):
        both = [models[layout].logp(), models[layout].dlogp()]
        function = models[layout].compile_fn(both, mode=INTERPRETED)
        rows.append(np.array([np.hstack(function(point)) for point in points]))
    wide, long = rows
    table = {
        "log posterior, wide": wide[:, 0],
        "log posterior, long": long[:, 0],
        "largest slope": np.abs(long[:, 1:]).max(axis=1),
        "largest difference of slopes": np.abs(wide - long)[:, 1:].max(axis=1),
    }
    return pd.DataFrame(table, index=["start", "elsewhere"]).T


def seasons_and_trend(dates):
    """Regressors of the mean of the series, a column each."""
    year = np.asarray((dates - pd.Timestamp(1980, 1, 1)) / pd.Timedelta(days=365.25))
    trend = np.polynomial.legendre.legvander(year / 22, 3)  # 22 years to either side
    angle = 2 * np.pi * year[:, None] * [1, 2, 3]
    return np.hstack([trend, np.sin(angle), np.cos(angle)])


def series_model(series):
    """The series up to the year that is kept back, and what is to be predicted with it."""
    seen, ahead = series[:-AHEAD], series[-AHEAD:]
    design = seasons_and_trend(series.index)
    with pm.Model(coords={"week": seen.index, "ahead": ahead.index}) as model:
        beta = pm.Normal("beta", [340, 25, 0, 0] + 6 * [0], [20, 15, 5, 5] + 6 * [5])
        sigma, noise = pm.HalfNormal("sigma", 2), pm.HalfNormal("noise", 1)
        memory = pm.LogNormal("memory", np.log(20), 1)  # weeks
        process = gg.cov.AR1(sigma**2, pt.exp(-1 / memory))
        cov = process + gg.cov.Diagonal(noise**2)
        gg.MvNormal("co2", design[:-AHEAD] @ beta, cov, observed=seen, dims="week")
    everything = {"mu": pt.dot(design, beta), "cov": cov, "new": np.arange(len(series))[-AHEAD:]}
    return model, everything


def sample(name, model):
    """Posterior draws, and whether the chains have converged."""
    print(f"\n{name}", flush=True)
    with model, pytensor.config.change_flags(cxx=""):
        idata = pm.sample(500, tune=400, chains=4, random_seed=SEED)
    summary = az.summary(idata, round_to="none")[["mean", "sd", "r_hat", "ess_bulk", "ess_tail"]]
    show(f"Posterior, {name}", summary, "{:.4g}")
    return idata


def fill_in(idata, model, every=5, **forecast):
    """Draws of what is missing, and of what is ahead."""
    thinned = idata.isel(draw=slice(None, None, every))
    gg.impute(thinned, model, random_seed=SEED, progressbar=False)
    if forecast:
        forecast |= {"name": "forecast", "dims": "ahead", "random_seed": SEED + 1}
        gg.predict(thinned, **forecast, model=model, progressbar=False)
    return thinned


def bands(axis, x, draws, color, label):
    """Mean and central intervals of draws whose last dimension is x."""
    draws = draws.stack(i=("chain", "draw")).transpose("i", ...).to_numpy()
    for probability, alpha in ((0.9, 0.22), (0.5, 0.4)):
        low, high = np.quantile(draws, [0.5 - probability / 2, 0.5 + probability / 2], axis=0)
        axis.fill_between(x, low, high, color=color, alpha=alpha, lw=0)
    axis.plot(x, draws.mean(axis=0), color=color, lw=1.4, label=label)


def plot_patients(axes, table, filled):
    """Four patients who leave, with draws of what they would have scored."""
    last = table.groupby("patient")["month"].max()
    means = filled.posterior["means"].mean(("chain", "draw")).to_numpy()
    for axis, arm, month, k in zip(axes, (0, 1, 1, 0), (0, 2, 4, 6), (0, 1, 2, 0), strict=True):
        leaving = last.index[last == month].intersection(table["patient"][table["arm"] == arm])
        own = table[table["patient"] == leaving[k]]
        scores = filled.posterior_predictive["bdi_imputed"].sel(patient=leaving[k])
        axis.plot(scores.month, means[CELL[arm]], "--", color="#666666", lw=1, label="mean of arm")
        after = scores.sel(month=scores.month >= month)
        bands(axis, after.month, after, RED, "drawn: mean, 50 %, 90 %")
        axis.plot(own["month"], own["bdi"], "o-", color="#1a1a1a", ms=4, lw=1, label="seen")
        axis.set(title=f"patient {leaving[k]}, {own['treatment'].iloc[0]}", xticks=[0, 2, 4, 6, 8])
        axis.set_xlabel("months")
    axes[0].set_ylabel("Beck Depression Inventory")
    axes[0].legend(frameon=False, loc="upper left", fontsize=7.5)


def plot_weeks(axes, series, filled):
    """The longest gap, and the year kept back."""
    gap, start = series["1963-09":"1964-09"], series.index[-AHEAD]
    weeks = filled.posterior_predictive["co2_imputed"].sel(week=gap.index)
    # Lines between what is seen and what is drawn, none between what is seen.
    near = gap.isna() | gap.isna().shift(1) | gap.isna().shift(-1)
    bands(axes[0], gap.index, weeks.where(near.to_numpy()), RED, "drawn: mean, 50 %, 90 %")
    axes[0].plot(gap, "o", color="#1a1a1a", ms=3, label="seen")
    axes[0].set(title="the longest gap: 18 weeks of 1964", ylabel="CO2 (ppm)")
    forecast = filled.predictions["forecast"]
    bands(axes[1], forecast.ahead, forecast, BLUE, "forecast: mean, 50 %, 90 %")
    seen = series["1999-07":].iloc[:-AHEAD]
    axes[1].plot(seen, "o", color="#1a1a1a", ms=3, label="seen")
    axes[1].plot(series[start:], "o", mfc="none", mec="#1a1a1a", ms=3.5, label="kept back")
    axes[1].set(title="the last year, kept back")
    for axis in axes:
        locator = AutoDateLocator(maxticks=8)
        axis.xaxis.set(major_locator=locator, major_formatter=ConciseDateFormatter(locator))
        axis.legend(frameon=False, loc="upper left", fontsize=7.5)


def plot(table, series, filled, path):
    """Patients above, weeks below."""
    style = {"font.size": 8.5, "axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context(style):
        figure = plt.figure(figsize=(11, 7.6), layout="constrained")
        top, bottom = figure.subfigures(2, 1)
        plot_patients(top.subplots(1, 4, sharey=True), table, filled["trial"])
        top.suptitle("Groups: scores of patients who leave the trial", fontsize=12)
        plot_weeks(bottom.subplots(1, 2), series, filled["series"])
        bottom.suptitle("Gaps: weekly CO2 at Mauna Loa", fontsize=12)
        figure.savefig(path, dpi=150)
    plt.close(figure)


def report(forecast, kept_back):
    """How good the forecast is."""
    low, high = forecast.quantile([0.05, 0.95], ("chain", "draw")).to_numpy()
    error = np.sqrt(np.mean((forecast.mean(("chain", "draw")) - kept_back) ** 2))
    inside = np.mean((low < kept_back) & (kept_back < high))
    print(f"\nRoot mean square error of the forecast: {float(error):.2f} ppm")
    print(f"Weeks in its interval of 90 %: {inside:.0%}\n")


def show(heading, table, number_format="{:.6g}"):
    """Print a table under a heading."""
    print(f"\n{heading}\n{'-' * len(heading)}")
    print(table.to_string(float_format=number_format.format), flush=True)


def main():
    """Compare the layouts, sample, fill in, draw."""
    table, series = load_trial(), load_series()
    layouts = {layout: trial_model(table, layout) for layout in ("wide", "long")}
    show("One density of two layouts", compare_layouts(layouts), "{:.10g}")
    co2, everything = series_model(series)
    print("\nCompiling takes most of the time of a first run.", flush=True)
    trial_draws, series_draws = sample("trial", layouts["long"]), sample("series", co2)
    filled = {
        # The scores that are missing have a place in the wide table.
        "trial": fill_in(trial_draws, layouts["wide"]),
        "series": fill_in(series_draws, co2, **everything),
    }
    report(filled["series"].predictions["forecast"], series[-AHEAD:].to_numpy())
    path = HERE / "gaps_and_groups.png"
    plot(table, series, filled, path)
    print(f"Picture: {path}")


if __name__ == "__main__":
    main()
