"""A panel of short irregular series: 312 patients, each on a random walk of a speed of its own.

Bilirubin in the blood of patients with primary biliary cholangitis (Murtaugh et al., 1994; see
data/README.md), 1,945 visits, 1 to 16 of each, at irregular times. Its logarithm is a trend that
all share, the level of the patient, a random walk from there, and the error of a measurement,

    CompoundSymmetry(level^2, 1, group=patient) + Wiener(speed, time, group=patient)
        + Diagonal(noise^2),

one covariance for all series in one call, in time that grows as the number of visits does. Some
patients walk slowly and others run away. How fast is a parameter, in one of three ways:

    one       all walk at one speed,
    each      each at one of its own, of which the others' say nothing,
    shared    each at one of its own, from a distribution that is estimated.

The last visit of all who have three or more is kept back, NaN in ``observed``, and drawn after
sampling. The script compares the three by what they say of these visits, checks the density
against one of each patient alone, and saves one picture, panel.png, beside itself. Residuals under
one speed have long tails; under shared speeds they are normal.

    python examples/panel.py                        needs matplotlib besides the package
"""

from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
from scipy.stats import multivariate_normal

import pm_gaussgrad as gg

HERE = Path(__file__).parent
SEED = 19940101
INTERPRETED = "FAST_COMPILE"  # for what runs too seldom to be worth compiling
TIMES = 60  # of a patient, in the picture
NUMBERS = ["start", "trend", "level", "noise"]
SPEEDS = ["one", "each", "shared"]
COLORS = {"one": "#8c8c8c", "each": "#b5442e", "shared": "#22577a"}
BLACK, WIDE = "#1a1a1a", 1.5  # the spread of speeds that say nothing of one another


def load_data():
    """One row a visit; the last of all who have three or more is kept back."""
    table = pd.read_csv(HERE / "data" / "pbc.csv")
    table["years"], table["y"] = table["day"] / 365.25, np.log(table["bilirubin"])
    table["number"] = pd.factorize(table["patient"])[0]
    visits = table.groupby("patient")["day"]
    last = (visits.transform("max") == table["day"]) & (visits.transform("size") >= 3)
    table["seen"] = table["y"].mask(last)
    return table


def speeds(kind, patients):
    """Standard deviation of a year's walk, one or of each; of logarithms, as all that follows."""
    typical = pm.LogNormal("typical", np.log(0.3), 0.5)
    if kind == "one":
        return pm.Deterministic("speed", typical)
    spread = WIDE if kind == "each" else pm.HalfNormal("spread", 1)
    own = pm.Normal("own", dims="patient", shape=patients)
    return pm.Deterministic("speed", typical * pt.exp(spread * own), dims="patient")


def likelihood(table, start, trend, level, noise, speed):
    """Mean and covariance of any visits of any patients, and what the latter consists of."""
    years, number = table["years"].to_numpy(), table["number"]
    levels = gg.cov.CompoundSymmetry(level**2, 1.0, group=number)
    walk = gg.cov.Wiener(speed, years, group=number)
    return start + trend * years, levels + walk + gg.cov.Diagonal(noise**2)


def build_model(table, kind):
    """All series in one likelihood."""
    patients = table["patient"].unique()
    with pm.Model(coords={"visit": table.index, "patient": patients}) as model:
        start, trend = pm.Normal("start", 0.5, 1), pm.Normal("trend", 0, 0.5)
        level, noise = pm.HalfNormal("level", 2), pm.HalfNormal("noise", 0.5)
        mu, cov = likelihood(table, start, trend, level, noise, speeds(kind, len(patients)))
        gg.MvNormal("y", mu, cov, observed=table["seen"], dims="visit")
    return model


def sample(kind, model):
    """Posterior draws, and whether the chains have converged."""
    with model:
        idata = pm.sample(250, tune=300, chains=4, random_seed=SEED)
    shared = [name for name in idata.posterior if "patient" not in idata.posterior[name].dims]
    summary = az.summary(idata, var_names=shared, round_to="none")
    columns = ["mean", "sd", "r_hat", "ess_bulk", "ess_tail"]
    show(f"Posterior, {kind}", summary[columns], "{:.3g}")
    return idata


def check_density(table, idata):
    """The log density of all series at once, and the sum of their own, at the posterior means."""
    at = {name: float(idata.posterior[name].mean()) for name in (*NUMBERS, "speed")}
    seen = table[table["seen"].notna()]
    with pytensor.config.change_flags(mode=INTERPRETED):
        at_once = gg.logp(seen["seen"].to_numpy(), *likelihood(seen, **at)).eval()
    alone = 0.0
    for _, own in seen.groupby("patient"):
        time = own["years"].to_numpy()
        matrix = at["speed"] ** 2 * np.minimum.outer(time, time) + at["level"] ** 2
        matrix += at["noise"] ** 2 * np.eye(len(time))
        alone += multivariate_normal.logpdf(own["seen"], at["start"] + at["trend"] * time, matrix)
    print(f"\nLog density in one call {at_once:.9f}, patient by patient {alone:.9f}", flush=True)


def kept_back_scores(table, kind, idata, model):
    """Of each visit that is kept back: score of what is said of it, and whether it is inside."""
    kept_back = np.flatnonzero(table["seen"].isna())
    filled = gg.impute(
        idata.isel(draw=slice(None, None, 2)), model, random_seed=SEED, progressbar=False,
        extend_inferencedata=False,
    )["y_imputed"]  # fmt: skip
    draws = filled.isel(visit=kept_back).stack(i=("chain", "draw")).transpose("i", ...).to_numpy()
    own = table.iloc[kept_back]
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    return pd.DataFrame(
        {
            "kind": kind,
            "visits": table.groupby("patient")["seen"].count()[own["patient"]].to_numpy(),
            "CRPS": ranked_score(draws, own["y"].to_numpy()),
            "inside": (low < own["y"].to_numpy()) & (own["y"].to_numpy() < high),
            "width": high - low,
        }
    )


def ranked_score(draws, truth):
    """Continuous ranked probability score of draws, (draws, n): less is better."""
    ranked, n = np.sort(draws, axis=0), len(draws)
    weights = (2 * np.arange(1, n + 1) - n - 1)[:, None]
    return np.abs(draws - truth).mean(axis=0) - (weights * ranked).sum(axis=0) / (n * (n - 1))


def compare(scores):
    """The three by visits that were kept back."""
    few = scores[scores["visits"] <= 3]
    table = pd.DataFrame(
        {
            "mean CRPS": scores.groupby("kind")["CRPS"].mean(),
            "of two or three visits seen": few.groupby("kind")["CRPS"].mean(),
            "in intervals of 90 %": scores.groupby("kind")["inside"].mean(),
            "median width": scores.groupby("kind")["width"].median(),
        }
    )
    show("Visits kept back, log bilirubin", table.loc[SPEEDS], "{:.3f}")


def new_visits(table, patients):
    """Times at which four patients' next measurements are predicted, a row each."""
    rows = []
    for patient in patients:
        own = table[table["patient"] == patient]
        every = np.linspace(0, own["years"].max() + 1, TIMES)
        rows.append(own.iloc[[0] * TIMES].assign(years=every))
    return pd.concat(rows, ignore_index=True)


def fans(table, new, kind, idata, model):
    """Draws of a measurement at new times of known patients, (draws, patients, times)."""
    together = pd.concat([table, new], ignore_index=True)
    with model:
        mu, cov, *_ = likelihood(together, *(model[name] for name in (*NUMBERS, "speed")))
        drawn = gg.predict(
            idata.isel(draw=slice(None, None, 4)),
            mu=mu,
            cov=cov,
            new=np.arange(len(table), len(together)),
            extend_inferencedata=False,
            random_seed=SEED,
            progressbar=False,
        )["y_new"]
    return drawn.to_numpy().reshape(-1, len(new) // TIMES, TIMES)


def plot_patients(axes, table, new, drawn):
    """Four patients, with what one speed and a speed of each say."""
    for i, axis in enumerate(axes):
        rows = new.iloc[i * TIMES : (i + 1) * TIMES]
        own = table[table["patient"] == rows["patient"].iloc[0]]
        for kind in ("one", "shared"):
            low, high = np.quantile(np.exp(drawn[kind][:, i]), [0.05, 0.95], axis=0)
            style = {"color": COLORS[kind], "alpha": 0.3, "lw": 0, "label": f"{kind}, 90 %"}
            axis.fill_between(rows["years"], low, high, **style)
        seen = own["seen"].notna()
        for which, face, label in ((seen, BLACK, "seen"), (~seen, "none", "kept back")):
            visits = own[which]
            style = {"mfc": face, "mec": BLACK, "ms": 4, "label": label}
            axis.plot(visits["years"], visits["bilirubin"], "o", **style)
        axis.set(yscale="log", title=f"patient {rows['patient'].iloc[0]}", xlabel="years")
        axis.yaxis.set(major_formatter="{x:g}", minor_formatter="")
    axes[0].set_ylabel("bilirubin (mg/dl)")
    axes[0].legend(frameon=False, loc="upper left", fontsize=7.5)


def plot_speeds(axis, table, fits):
    """Speeds of patients alone and with the others' help."""
    visits = table.groupby("patient", sort=False)["seen"].count().to_numpy()
    alone, helped = (np.exp(fits[kind][1].posterior["speed"].pipe(np.log).mean(("chain", "draw")))
                     for kind in ("each", "shared"))  # fmt: skip
    points = axis.scatter(alone, helped, c=visits, s=12, cmap="viridis_r", lw=0)
    ends = [0.9 * float(alone.min()), 1.1 * float(alone.max())]
    axis.plot(ends, ends, ":", color="#666666", lw=0.8)
    axis.set(xscale="log", yscale="log", xlabel="each alone", ylabel="shared")
    axis.set_title("speed of the walk, a patient (a year)")
    for which in (axis.xaxis, axis.yaxis):
        which.set(major_formatter="{x:g}", minor_formatter="")
    axis.figure.colorbar(points, ax=axis, label="visits seen")


def plot_checks(axes, fits):
    """Residuals of one speed and of shared speeds."""
    for axis, kind in zip(axes, ("one", "shared"), strict=True):
        model, idata = fits[kind]
        thinned = idata.isel(draw=slice(None, None, 8))
        residuals = gg.whitened_residuals(thinned, model, progressbar=False)
        gg.plot_residual_qq(residuals, ax=axis).set_title(f"{kind}: whitened residuals")


def plot(table, fits, path):
    """Four patients above; speeds and checks below."""
    patients = unlike_patients(table, fits["shared"][1])
    new = new_visits(table, patients)
    drawn = {kind: fans(table, new, kind, *fits[kind][::-1]) for kind in ("one", "shared")}
    style = {"font.size": 8.5, "axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context(style):
        figure = plt.figure(figsize=(11, 6.8), layout="constrained")
        top, bottom = figure.subfigures(2, 1)
        plot_patients(top.subplots(1, 4, sharey=True), table, new, drawn)
        axes = bottom.subplots(1, 3, width_ratios=[1.2, 1, 1])
        plot_speeds(axes[0], table, fits)
        plot_checks(axes[1:], fits)
        figure.savefig(path, dpi=150)
    plt.close(figure)


def unlike_patients(table, idata):
    """Of those with many visits, four from the slowest to the fastest."""
    visits = table.groupby("patient")["seen"].count()
    speeds = idata.posterior["speed"].median(("chain", "draw")).to_series()[visits >= 9]
    ranked = speeds.sort_values().index
    return ranked[[0, len(ranked) // 2, -3, -1]]


def show(heading, table, number_format="{:.6g}"):
    """Print a table under a heading."""
    print(f"\n{heading}\n{'-' * len(heading)}")
    print(table.to_string(float_format=number_format.format), flush=True)


def main():
    """Sample all three, compare, draw."""
    table = load_data()
    print(f"{len(table)} visits of {table['patient'].nunique()} patients; kept back "
          f"{table['seen'].isna().sum()}")  # fmt: skip
    print("Compiling takes a part of the time of a first run.", flush=True)
    fits, scores = {}, []
    for kind in SPEEDS:
        model = build_model(table, kind)
        idata = sample(kind, model)
        fits[kind] = model, idata
        scores.append(kept_back_scores(table, kind, idata, model))
    check_density(table, fits["one"][1])
    compare(pd.concat(scores))
    path = HERE / "panel.png"
    plot(table, fits, path)
    print(f"\nPicture: {path}")


if __name__ == "__main__":
    main()
