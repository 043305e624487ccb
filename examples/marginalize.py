"""A mixed model as it is usually written, marginalised by one line, and recovered.

Reaction times of 18 lorry drivers on days 0 to 9 of a night with three hours of sleep (Belenky et
al., 2003; see data/README.md). Each has a level and a slope of their own, correlated:

    reaction = (level + slope day) of all + (level + slope day) of the driver + noise

``gg.marginalize`` takes the 38 coefficients out of that model, which leaves four parameters: the
standard deviations of levels and slopes, their correlation, and the noise. ``gg.recover`` draws the
coefficients afterwards, under their own names.

The script samples both models by nutpie, compares all variables and effective draws a second, and
saves one picture, marginalize.png, beside itself.

    python examples/marginalize.py          needs nutpie and matplotlib besides the package
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
SEED = 20030301
SCALES = ["drivers_stds", "noise"]
COLORS = {"sampled": "#b5442e", "recovered": "#22577a"}


def load_data():
    """One row a driver and day."""
    return pd.read_csv(HERE / "data" / "sleepstudy.csv")


def written_model(data):
    """The model that a tutorial would have, not centred."""
    driver, drivers = pd.factorize(data["Subject"])
    days = data["Days"].to_numpy(float)
    coords = {"driver": drivers, "coefficient": ["level", "slope"], "row": data.index}
    with pm.Model(coords=coords) as model:
        of_all = pm.Normal("of_all", [250, 10], [50, 10], dims="coefficient")
        chol, _, _ = pm.LKJCholeskyCov(
            "drivers", n=2, eta=2, sd_dist=pm.HalfNormal.dist([50, 10], shape=2)
        )
        z = pm.Normal("z", dims=("driver", "coefficient"))
        of_driver = pm.Deterministic("of_driver", z @ chol.T, dims=("driver", "coefficient"))
        coefficients = of_all + of_driver[driver]
        mean = coefficients[:, 0] + coefficients[:, 1] * days
        noise = pm.HalfNormal("noise", 50)
        pm.Normal("reaction", mean, noise, observed=data["Reaction"], dims="row")
    return model


def sample(model):
    """Posterior draws, and seconds with and without compilation."""
    start = time.perf_counter()
    with model:
        idata = pm.sample(
            1000, tune=1000, chains=4, nuts_sampler="nutpie", random_seed=SEED, progressbar=False
        )
    return idata, time.perf_counter() - start, idata.posterior.attrs.get("sampling_time", np.nan)


def compare(runs, names):
    """Means and standard deviations of all variables in both."""
    columns = ["mean", "sd"]
    tables = {
        name: az.summary(idata, var_names=names, kind="stats", round_to="none")[columns]
        for name, (idata, *_) in runs.items()
    }
    return pd.concat(tables, axis=1)


def efficiency(runs):
    """Effective draws of the scale that has least, in all and a second."""
    table = {}
    for name, (idata, elapsed, seconds) in runs.items():
        ess = az.summary(idata, var_names=SCALES, round_to="none")["ess_bulk"].min()
        table[name] = {
            "smallest ess_bulk": ess,
            "seconds sampling": seconds,
            "with compilation": elapsed,
            "effective draws a second": ess / seconds,
        }
    return pd.DataFrame.from_dict(table, orient="index")


def plot(runs, path):
    """Levels and slopes of the drivers, in both."""
    with plt.rc_context({"font.size": 8.5, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
        for shift, (name, (idata, *_)) in zip((-0.15, 0.15), runs.items(), strict=True):
            drawn = idata.posterior["of_driver"].stack(sample=("chain", "draw"))
            for axis, coefficient in zip(axes, ("level", "slope"), strict=True):
                draws = drawn.sel(coefficient=coefficient).transpose("driver", "sample").to_numpy()
                low, middle, high = np.percentile(draws, [5, 50, 95], axis=1)
                axis.errorbar(
                    np.arange(len(middle)) + shift, middle, [middle - low, high - middle],
                    fmt="o", ms=3, color=COLORS[name], label=name,
                )  # fmt: skip
        axes[0].set(title="levels of the drivers, 90 % (ms)", xticks=[], xlabel="driver")
        axes[1].set(title="slopes, 90 % (ms a day)", xticks=[], xlabel="driver")
        axes[0].legend(frameon=False)
        figure.savefig(path, dpi=150)
    plt.close(figure)


def show(heading, table, number_format="{:.3g}"):
    """Print a table under a heading."""
    print(f"\n{heading}\n{'-' * len(heading)}")
    print(table.to_string(float_format=number_format.format), flush=True)


def main():
    """Marginalise, sample, recover, compare."""
    model = written_model(load_data())
    marginal = gg.marginalize(model)
    print(gg.marginalization_report(marginal), flush=True)
    runs = {"sampled": sample(model), "recovered": sample(marginal)}
    gg.recover(runs["recovered"][0], marginal, random_seed=SEED, progressbar=False)
    show("Posterior", compare(runs, ["of_all", *SCALES, "of_driver"]).head(9), "{:.2f}")
    show("Effective draws", efficiency(runs))
    path = HERE / "marginalize.png"
    plot(runs, path)
    print(f"\nPicture: {path}")


if __name__ == "__main__":
    main()
