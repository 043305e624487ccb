"""Crossed random effects, integrated out, beside the same model with sampled effects.

Six samples of penicillin were tried on 24 plates (Davies and Goldsmith, 1972; see data/README.md).
Plates differ and samples differ, each plate has each sample, and no grouping is inside the other:

    diameter = mean + plate + sample + noise

Usually the 30 effects are sampled with the standard deviations that they are drawn from. Here they
are integrated out: the covariance of the 144 diameters is

    Effects(plate, v) + Effects(sample, w) + Diagonal(s)

whose density takes one sparse factor of 30 rows, and four parameters remain to be sampled. The
effects come back after sampling, exactly, from what is known of them given the data.

The script samples both forms, compares them with lme4's estimates and by effective draws a second,
prints the effects of the samples and saves one picture, crossed_effects.png, beside itself.

    python examples/crossed_effects.py          needs matplotlib besides the package
"""

import time
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm

import pm_gaussgrad as gg

HERE = Path(__file__).parent
SEED = 19720606
NAMES = ["mean", "sd_plate", "sd_sample", "sd_noise"]
# lme4, maximum likelihood
LME4 = [22.9722, 0.8456, 1.7706, 0.5499]
COLORS = {"integrated out": "#22577a", "sampled": "#b5442e"}


def load_data():
    """One row a zone."""
    return pd.read_csv(HERE / "data" / "penicillin.csv")


def priors():
    """Mean and standard deviations, all in mm."""
    mean = pm.Normal("mean", 23, 5)
    return mean, *(pm.HalfNormal(name, 3) for name in NAMES[1:])


def integrated_model(data):
    """The effects are a covariance."""
    with pm.Model(coords={"zone": data.index}) as model:
        mean, sd_plate, sd_sample, sd_noise = priors()
        samples = gg.cov.Effects(data["sample"], sd_sample**2)
        cov = gg.cov.Effects(data["plate"], sd_plate**2) + samples + gg.cov.Diagonal(sd_noise**2)
        gg.MvNormal("diameter", mean, cov, observed=data["diameter"], dims="zone")
    return model, samples, cov


def sampled_model(data):
    """The same density with 30 variables more, not centred."""
    (plate, plates), (sample, samples) = (pd.factorize(data[x]) for x in ("plate", "sample"))
    with pm.Model(coords={"zone": data.index, "plates": plates, "samples": samples}) as model:
        mean, sd_plate, sd_sample, sd_noise = priors()
        of_plates = sd_plate * pm.Normal("z_plate", dims="plates")
        of_samples = pm.Deterministic(
            "of_samples", sd_sample * pm.Normal("z_sample", dims="samples"), dims="samples"
        )
        mu = mean + of_plates[plate] + of_samples[sample]
        pm.Normal("diameter", mu, sd_noise, observed=data["diameter"], dims="zone")
    return model


def sample(model):
    """Posterior draws, and the seconds that sampling itself took."""
    with model:
        idata = pm.sample(
            500, tune=500, chains=4, cores=1, target_accept=0.9, random_seed=SEED, progressbar=False
        )
    return idata, idata.posterior.attrs["sampling_time"]


def efficiency(runs):
    """Effective draws of the standard deviations, in all and a second."""
    table = {}
    for name, (idata, seconds, elapsed) in runs.items():
        ess = az.summary(idata, var_names=NAMES[1:], round_to="none")["ess_bulk"].min()
        table[name] = {
            "smallest ess_bulk": ess,
            "seconds sampling": seconds,
            "with compilation": elapsed,
            "effective draws a second": ess / seconds,
        }
    return pd.DataFrame.from_dict(table, orient="index")


def effects_of_samples(data, model, samples, idata):
    """Draws of the six effects given the data, at the first zone of each sample."""
    first = data.drop_duplicates("sample").index
    predicted = gg.predict(
        idata, model=model, component=samples, random_seed=SEED, progressbar=False
    )
    drawn = predicted["predictions"]["diameter_component"].isel(zone=first)
    return drawn.assign_coords(zone=data["sample"][first].to_numpy()).rename(zone="samples")


def plot(runs, effects, path):
    """Marginal posteriors of both forms, and the effects of the samples in both."""
    style = {"font.size": 8.5, "axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context(style):
        figure, axes = plt.subplots(1, 4, figsize=(11, 2.9), layout="constrained")
        for axis, name, estimate in zip(axes, NAMES[1:], LME4[1:], strict=False):
            for form, (idata, *_) in runs.items():
                draws = idata.posterior[name].to_numpy().ravel()
                axis.hist(draws, 40, density=True, histtype="step", color=COLORS[form], label=form)
            axis.axvline(estimate, color="#1a1a1a", lw=0.8, ls=":", label="lme4")
            axis.set(title=f"{name.replace('sd_', 'sd of ')} (mm)", yticks=[])
            axis.spines["left"].set_visible(False)
        axes[1].legend(frameon=False)
        forms = zip(COLORS.items(), effects.values(), (-0.12, 0.12), strict=True)
        for (form, color), drawn, shift in forms:
            draws = drawn.transpose("samples", ...).to_numpy().reshape(6, -1)
            low, middle, high = np.percentile(draws, [5, 50, 95], axis=1)
            axes[3].errorbar(
                np.arange(6) + shift, middle, [middle - low, high - middle], fmt="o", ms=4,
                color=color, label=form,
            )  # fmt: skip
        axes[3].set(title="effects of the samples, 90 % (mm)", xticks=range(6))
        axes[3].set_xticklabels(effects["sampled"]["samples"].to_numpy())
        figure.savefig(path, dpi=150)
    plt.close(figure)


def show(heading, table, number_format="{:.3g}"):
    """Print a table under a heading."""
    print(f"\n{heading}\n{'-' * len(heading)}")
    print(table.to_string(float_format=number_format.format), flush=True)


def main():
    """Sample, compare, draw."""
    data = load_data()
    print("Compiling takes most of the time of a first run.", flush=True)
    model, samples, cov = integrated_model(data)
    print(cov.plan())
    runs = {}
    for name, form in (("integrated out", model), ("sampled", sampled_model(data))):
        start = time.perf_counter()
        runs[name] = (*sample(form), time.perf_counter() - start)
    summaries = {
        name: az.summary(idata, var_names=NAMES, kind="stats", round_to="none")[["mean", "sd"]]
        for name, (idata, *_) in runs.items()
    }
    summaries["lme4"] = pd.DataFrame({"estimate": LME4}, index=NAMES)
    show("Posterior and lme4's estimates", pd.concat(summaries, axis=1), "{:.3f}")
    show("Effective draws", efficiency(runs), "{:.3g}")
    effects = {
        "integrated out": effects_of_samples(data, model, samples, runs["integrated out"][0]),
        "sampled": runs["sampled"][0].posterior["of_samples"],
    }
    means = {name: drawn.mean(("chain", "draw")).to_series() for name, drawn in effects.items()}
    show("Effects of the samples, mm", pd.DataFrame(means), "{:.3f}")
    path = HERE / "crossed_effects.png"
    plot(runs, effects, path)
    print(f"\nPicture: {path}")


if __name__ == "__main__":
    main()
