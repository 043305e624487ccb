"""A covariance written as it is said: random intercept + AR(1) + noise, a scale for each visit.

Depression scores of 100 patients of a trial (Proudfoot et al., 2003; see data/README.md), before
treatment and after 2, 4, 6 and 8 months, of which half of the patients miss some. Why are two
scores of a patient alike? Because patients differ, for good; because a depression waxes and wanes
over some months; and a score is noisy. And patients may differ more at the end than at the start,
where all had to be depressed to be in the trial. All of that is

    within = Scaled(CompoundSymmetry(a, 1) + AR1(b, rho) + Diagonal(c), sd),    a + b + c = 1

with a standard deviation sd for each visit, which RepeatedMeasures takes for the patients' common
5 x 5 matrix. Two simpler ones stand beside it:

    compound symmetry               the intercept and the noise
    intercept + AR(1) + noise       all three, with one standard deviation

The script prints what these sums are evaluated by, samples the three posteriors, compares them by
leaving out one patient at a time, prints the components and saves one picture, composition.png,
beside itself: the fitted correlations and the components that they add up of.

    python examples/composition.py              needs matplotlib besides the package
"""

from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import pytensor

import pm_gaussgrad as gg

HERE = Path(__file__).parent
SEED = 20030218
VISITS = 5
MONTHS = np.array([0, 2, 4, 6, 8])
# The means in a vector: one before treatment, four after it in each arm.
CELL = np.array([[0, 1, 2, 3, 4], [0, 5, 6, 7, 8]])
COLORS = ["#22577a", "#b5442e", "#8d99a6"]


def load_data():
    """One row a score; ``visit`` numbers the months 0, 2, 4, 6, 8."""
    table = pd.read_csv(HERE / "data" / "beat_the_blues.csv")
    table["visit"] = np.unique(table["month"], return_inverse=True)[1]
    table["arm"] = (table["treatment"] == "BtheB").astype(int)
    return table


def compound_symmetry():
    """An intercept of each patient, and noise."""
    sd, share = pm.HalfNormal("sd", 20), pm.Uniform("share", 0, 1)
    return sd**2 * (gg.cov.CompoundSymmetry(share, 1.0, size=VISITS) + gg.cov.Diagonal(1 - share))


def components():
    """The three parts of a correlation."""
    reliability = pm.Uniform("reliability", 0, 1)  # what is no noise
    lasting = pm.Uniform("lasting", 0, 1)  # how much of that is for good
    rho = pm.Uniform("rho", 0, 1)  # from visit to visit
    return (
        gg.cov.CompoundSymmetry(reliability * lasting, 1.0)
        + gg.cov.AR1(reliability * (1 - lasting), rho, size=VISITS)
        + gg.cov.Diagonal(1 - reliability)
    )


def one_scale():
    """The sum of the three."""
    return pm.HalfNormal("sd", 20) ** 2 * components()


def scale_by_visit():
    """The sum of the three with a standard deviation for each visit."""
    return gg.cov.Scaled(components(), pm.HalfNormal("sd", 20, dims="month"))


COVARIANCES = {
    "compound symmetry": compound_symmetry,
    "intercept + AR(1) + noise": one_scale,
    "the same, scaled by visit": scale_by_visit,
}


def build_model(data, covariance):
    """The trial under one of the covariances."""
    coords = {"month": MONTHS, "cell": range(9), "score": data.index}
    with pm.Model(coords=coords) as model:
        means = pm.Normal("means", [25] + 8 * [20], 10, dims="cell")
        within = covariance()
        cov = gg.cov.RepeatedMeasures(within, data["patient"], data["visit"])
        mu = means[CELL[data["arm"], data["visit"]]]
        gg.MvNormal("bdi", mu, cov, observed=data["bdi"], dims="score")
    return model, within


def sample(data):
    """Posterior draws under each covariance, with densities of patients left out."""
    draws, diagnostics = {}, {}
    for name, covariance in COVARIANCES.items():
        model, within = build_model(data, covariance)
        print(f"\n{name}\n{within.plan()}", flush=True)
        with model, pytensor.config.change_flags(cxx=""):
            idata = pm.sample(500, tune=500, chains=4, target_accept=0.95, random_seed=SEED)
        thinned = idata.isel(draw=slice(None, None, 4))
        gg.loo_log_likelihood(thinned, model, group=True, progressbar=False)
        idata["log_likelihood"] = thinned["log_likelihood"]
        summary = az.summary(idata, round_to="none")
        draws[name] = idata
        diagnostics[name] = {
            "largest r_hat": summary["r_hat"].max(),
            "smallest ess_bulk": summary["ess_bulk"].min(),
            "divergences": int(idata.sample_stats["diverging"].sum()),
        }
    show("Convergence", pd.DataFrame.from_dict(diagnostics, orient="index"), "{:.4g}")
    return draws


def parts(idata):
    """What the three components contribute to the correlations, posterior means."""
    names = ["reliability", "lasting", "rho"]
    reliability, lasting, rho = (idata.posterior[name].to_numpy().ravel() for name in names)
    lags = np.abs(np.subtract.outer(np.arange(VISITS), np.arange(VISITS)))
    return {
        "intercept": np.full((VISITS, VISITS), (reliability * lasting).mean()),
        "AR(1)": np.mean(reliability * (1 - lasting) * rho ** lags[..., None], axis=-1),
        "noise": (1 - reliability).mean() * np.eye(VISITS),
    }


def seen_correlations(data):
    """Standard deviations and correlations of those seen, about the means of their arms."""
    residual = data["bdi"] - data.groupby(["arm", "visit"])["bdi"].transform("mean")
    wide = data.assign(residual=residual).pivot(index="patient", columns="visit", values="residual")
    return wide.std().to_numpy(), wide.corr().to_numpy()


def plot_matrix(axis, matrix, title):
    """A matrix of correlations with its numbers."""
    axis.imshow(matrix, cmap="YlGnBu", vmin=0, vmax=1)
    for i, j in np.ndindex(*matrix.shape):
        color = "white" if matrix[i, j] > 0.6 else "#1a1a1a"
        axis.text(j, i, f"{matrix[i, j]:.2f}", ha="center", va="center", color=color, fontsize=7)
    axis.set(xticks=range(VISITS), yticks=range(VISITS), xticklabels=MONTHS, yticklabels=MONTHS)
    axis.set_title(title, fontsize=9)
    axis.set_xlabel("month")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)


def plot_scales(axis, data, idata):
    """Standard deviations by visit, and those of the scores seen."""
    sd = idata.posterior["sd"].stack(i=("chain", "draw")).transpose("i", "month").to_numpy()
    low, middle, high = np.percentile(sd, [5, 50, 95], axis=0)
    axis.errorbar(MONTHS, middle, [middle - low, high - middle], fmt="o", color="#22577a", ms=5)
    axis.plot(MONTHS, seen_correlations(data)[0], "x", color="#1a1a1a", label="of those seen")
    axis.set(
        title="Standard deviation by visit, 90 %", xlabel="month", xticks=MONTHS, ylim=(0, None)
    )
    axis.legend(frameon=False, loc="lower right")


def plot_lags(axis, data, idata):
    """What the components contribute at each lag, and the correlations of those seen."""
    lags, bottom = np.arange(VISITS), np.zeros(VISITS)
    for (name, matrix), color in zip(parts(idata).items(), COLORS, strict=True):
        axis.bar(2 * lags, matrix[0], 1.3, bottom, color=color, label=name, alpha=0.85)
        bottom = bottom + matrix[0]
    seen = seen_correlations(data)[1]
    rows, columns = np.triu_indices(VISITS, 1)
    axis.plot(
        2 * (columns - rows), seen[rows, columns], "o", mfc="white", mec="#1a1a1a", ms=4,
        label="pairs of visits, seen",
    )  # fmt: skip
    axis.set(title="Correlation by months apart", xlabel="months apart", xticks=2 * lags)
    axis.legend(frameon=False, fontsize=7.5)


def plot_comparison(axis, comparison):
    """Differences of the expected log predictive density of a patient left out."""
    place = np.arange(len(comparison))[::-1]
    axis.errorbar(comparison["elpd_diff"], place, xerr=comparison["dse"], fmt="o", color="#b5442e")
    axis.axvline(0, color="#8d99a6", lw=0.8)
    axis.set(
        title="elpd of patients left out, less the best", yticks=place, ylim=(-0.5, place[0] + 0.5)
    )
    axis.set_yticklabels([name.replace(" + noise", "\n+ noise") for name in comparison.index])


def plot(data, draws, comparison, path):
    """The fitted correlation and its components above, scales, lags and comparison below."""
    style = {"font.size": 8.5, "axes.spines.top": False, "axes.spines.right": False}
    full = draws["the same, scaled by visit"]
    with plt.rc_context(style):
        figure = plt.figure(figsize=(11, 6.6), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.05])
        matrices = {"fitted correlation": sum(parts(full).values()), **parts(full)}
        for axis, sign, name in zip(
            top.subplots(1, 4), ["", "= ", "+ ", "+ "], matrices, strict=True
        ):
            plot_matrix(axis, matrices[name], f"{sign}{name}")
        axes = bottom.subplots(1, 3)
        plot_scales(axes[0], data, full)
        plot_lags(axes[1], data, full)
        plot_comparison(axes[2], comparison)
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
    draws = sample(data)
    comparison = az.compare(draws, round_to="none")
    columns = ["elpd", "se", "p", "elpd_diff", "dse", "weight"]
    show("Leave-one-patient-out cross-validation", comparison[columns], "{:.2f}")
    full = draws["the same, scaled by visit"]
    names = ["reliability", "lasting", "rho", "sd"]
    show("Components and scales", az.summary(full, var_names=names, kind="stats", round_to="none"))
    path = HERE / "composition.png"
    plot(data, draws, comparison, path)
    print(f"\nPicture: {path}")


if __name__ == "__main__":
    main()
