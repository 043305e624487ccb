"""An irregular time series: 800,000 years of Antarctic temperature in 5,785 layers of ice.

Each sample of the core of EPICA Dome C is 55 cm of snow that fell in 8 years at the top and in
1,400 at the bottom, so that no two steps of time are equal. Temperature at time t, as a difference
from that of our days, is a mean and three processes, and to a layer is added the weather of its
years, averaged,

    SHO(100,000 years) + SHO(41,000 years) + Matern32(millennia) + Diagonal(noise^2 / years).

The two periods are those in which the orbit and the axis of the Earth change; amplitude and phase
of an oscillator drift, and how much is estimated. Value and gradient of the density take a filter
with six numbers as its state, in time that grows as the number of layers does.

The last 20,000 years, in which an ice age ended, are kept back and forecast, and so are 60,000
years to come. (Not for planning: the model knows no orbit, and no carbon dioxide.) The script
prints the posterior, exact leave-one-out predictions and how good the forecast is, takes the series
apart into its components, and saves one picture, irregular_series.png, beside itself. Residuals are
normal; those of neighbours have a correlation of 0.1 left: ice diffuses, and the model does not
know it.

    python examples/irregular_series.py             needs matplotlib besides the package
"""

from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm

import pm_gaussgrad as gg

HERE = Path(__file__).parent
SEED = 20070810
NOW, END = -20, 60  # thousand years: what is after the first is kept back
EVERY = 8  # of the layers that are kept back, those that are forecast
NAMES = ["mean", "sd", "period", "quality", "sd_fast", "lengthscale", "noise"]
RED, BLUE, GREEN, BLACK = "#b5442e", "#22577a", "#5b8c5a", "#1a1a1a"
COMPONENTS = {
    "ice ages": ("an oscillator, 100,000 years", BLUE),
    "obliquity": ("an oscillator, 41,000 years", GREEN),
    "millennia": ("what else lasts longer than a layer", RED),
}


def load_data():
    """One row a layer: when it fell and its years, in thousands, and the temperature."""
    table = pd.read_csv(HERE / "data" / "epica_dome_c.csv")
    table["time"] = -table["age"] / 1000
    table["years"] = -np.gradient(table["time"])
    return table.sort_values("time", ignore_index=True)


def parameters():
    """Mean, and of both oscillators, of what is faster and of a layer; kelvins and 1,000 years."""
    mean = pm.Normal("mean", -5, 5)
    sd = pm.HalfNormal("sd", 3, dims="cycle")
    period = pm.LogNormal("period", np.log([100, 41]), 0.15, dims="cycle")
    quality = pm.LogNormal("quality", np.log(4), 0.5, dims="cycle")
    fast = pm.HalfNormal("sd_fast", 2), pm.LogNormal("lengthscale", 0, 1)
    return mean, (sd, period, quality), fast, pm.HalfNormal("noise", 0.5)


def processes(cycles, fast, time):
    """The three summands without noise, at any times."""
    sd, period, quality = cycles
    oscillators = [gg.cov.SHO(sd[i], period[i], quality[i], time=time) for i in (0, 1)]
    return dict(zip(COMPONENTS, [*oscillators, gg.cov.Matern32(*fast, time=time)], strict=True))


def total(summands, noise, years):
    """The covariance of layers: their noise is that of a thousand years, averaged."""
    ice, obliquity, millennia = summands.values()
    return ice + obliquity + millennia + gg.cov.Diagonal(noise**2 / years)


def build_model(seen, later):
    """The model of the layers that are seen; its summands, and all of it at later times as well."""
    coords = {"cycle": list(COMPONENTS)[:2], "time": seen["time"], "later": later["time"]}
    with pm.Model(coords=coords) as model:
        mean, cycles, fast, noise = parameters()
        summands = processes(cycles, fast, seen["time"])
        cov = total(summands, noise, seen["years"].to_numpy())
        gg.MvNormal("temperature", mean, cov, observed=seen["temperature"], dims="time")
        every = pd.concat([seen, later])
        longer = total(processes(cycles, fast, every["time"]), noise, every["years"].to_numpy())
    new = np.arange(len(seen), len(every))
    return model, summands, {"mu": mean, "cov": longer, "new": new, "dims": "later"}


def split(table):
    """Layers that are seen, and times of the forecast: some that are not, and centuries to come."""
    seen, kept_back = table[table["time"] < NOW], table[table["time"] >= NOW]
    future = pd.DataFrame({"time": np.arange(0.5, END, 0.5), "years": 0.1})
    return seen, pd.concat([kept_back[::EVERY], future], ignore_index=True)


def predictions(idata, model, summands, ahead):
    """Draws of the components, and of layers to come."""
    options = {"model": model, "progressbar": False}
    for seed, (name, component) in enumerate(summands.items(), SEED):
        gg.predict(idata, component=component, name=name, random_seed=seed, **options)
    gg.predict(idata, **ahead, name="forecast", random_seed=SEED, **options)
    return idata.predictions


def report(forecast, later):
    """How good the forecast of the layers is that were kept back."""
    kept_back = later["temperature"].notna().to_numpy()
    truth = later["temperature"].to_numpy()[kept_back]
    drawn = forecast.isel(later=kept_back)
    low, high = drawn.quantile([0.05, 0.95], ("chain", "draw")).to_numpy()
    inside = np.mean((low < truth) & (truth < high))
    print(f"\nLayers of the last {-NOW},000 years in their intervals of 90 %: {inside:.0%}")
    print(f"Mean width of these intervals: {np.mean(high - low):.1f} K")
    print("That is one excursion, seen many times: each ice age ends in its own way.")


def bands(axis, x, draws, color, label):
    """Mean and central intervals of draws whose last dimension is x."""
    draws = draws.stack(i=("chain", "draw")).transpose("i", ...).to_numpy()
    for probability, alpha in ((0.9, 0.2), (0.5, 0.35)):
        low, high = np.quantile(draws, [0.5 - probability / 2, 0.5 + probability / 2], axis=0)
        axis.fill_between(x, low, high, color=color, alpha=alpha, lw=0)
    axis.plot(x, draws.mean(axis=0), color=color, lw=0.9, label=label)


def plot_series(axis, table, later, forecast):
    """Layers, and the forecast."""
    known = table["time"] < NOW
    for rows, color, label in ((known, BLACK, "layers"), (~known, "#8c8c8c", "kept back")):
        layers = table[rows]
        axis.plot(layers["time"], layers["temperature"], color=color, lw=0.4, label=label)
    bands(axis, later["time"], forecast, RED, "forecast: mean, 50 %, 90 %")
    axis.axvline(0, color="#666666", lw=0.6, ls=":")
    axis.set(ylabel="K", title="Temperature at Dome C, Antarctica, less that of our days")
    axis.legend(frameon=False, loc="upper center", ncols=3, bbox_to_anchor=(0.42, 1.04))


def plot_components(axes, time, predicted):
    """The series taken apart."""
    for axis, (name, (what, color)) in zip(axes, COMPONENTS.items(), strict=True):
        bands(axis, time, predicted[name], color, None)
        axis.axhline(0, color="#666666", lw=0.5)
        axis.set_ylabel("K")
        axis.set_title(f"{name}: {what}", loc="left", fontsize=9)
    axes[-1].set_xlabel("thousand years from 1950")


def plot_checks(axes, idata, residuals):
    """Residuals, and the periods."""
    gg.plot_residual_qq(residuals, ax=axes[0]).set_title("whitened residuals: quantiles")
    gg.plot_residual_acf(residuals, ax=axes[1]).set_title("whitened residuals: autocorrelation")
    for axis, i, name in zip(axes[2:], (0, 1), COMPONENTS, strict=False):
        draws = idata.posterior["period"].isel(cycle=i).to_numpy().ravel()
        axis.hist(draws, 40, color=COMPONENTS[name][1], alpha=0.6)
        axis.set(title=f"period of the {name}", xlabel="thousand years", yticks=[])
        axis.spines["left"].set_visible(False)


def plot(table, later, idata, residuals, path):
    """The series, its components and the checks, from above."""
    style = {"font.size": 8.5, "axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context(style):
        figure = plt.figure(figsize=(11, 10), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=[2.6, 1])
        axes = top.subplots(4, 1, sharex=True, height_ratios=[2, 1, 1, 1])
        predicted = idata.predictions
        plot_series(axes[0], table, later, predicted["forecast"])
        plot_components(axes[1:], idata.predictions["time"], predicted)
        axes[0].set_xlim(table["time"].iloc[0], END)
        plot_checks(bottom.subplots(1, 4, width_ratios=[1, 1.3, 0.8, 0.8]), idata, residuals)
        figure.savefig(path, dpi=150)
    plt.close(figure)


def show(heading, table, number_format="{:.4g}"):
    """Print a table under a heading."""
    print(f"\n{heading}\n{'-' * len(heading)}")
    print(table.to_string(float_format=number_format.format), flush=True)


def main():
    """Sample, check, take apart, forecast, draw."""
    table = load_data()
    seen, later = split(table)
    model, summands, ahead = build_model(seen, later)
    shortest, longest = 1000 * table["years"].min(), 1000 * table["years"].max()
    print(f"{len(seen)} layers of {len(table)}, of {shortest:.0f} to {longest:.0f} years")
    print("Compiling takes a part of the time of a first run.", flush=True)
    with model:
        idata = pm.sample(250, tune=300, chains=4, random_seed=SEED)
    summary = az.summary(idata, round_to="none")[["mean", "sd", "r_hat", "ess_bulk", "ess_tail"]]
    show("Posterior", summary)
    loo = gg.loo(idata.isel(draw=slice(None, None, 2)), model, progressbar=False)
    print(f"\nExact leave-one-out predictions\n{loo}")
    thinned = idata.isel(draw=slice(None, None, 5))
    residuals = gg.whitened_residuals(thinned, model, progressbar=False)
    predictions(thinned, model, summands, ahead)
    report(thinned.predictions["forecast"], later)
    path = HERE / "irregular_series.png"
    plot(table, later, thinned, residuals, path)
    print(f"\nPicture: {path}")


if __name__ == "__main__":
    main()
