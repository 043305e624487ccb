"""Repeated measures with drop-out: a depression trial under three covariances, on real data.

A hundred patients were randomised to treatment as usual or to "Beat the Blues", and their
depression was scored before treatment and after 2, 4, 6 and 8 months (Proudfoot et al., 2003;
see data/README.md). Only half of them stayed to the end. A patient's scores y_i, at the visits
v_i that there are, follow

    y_i ~ N(mu[treatment, v_i], W[v_i, v_i])

with a common mean before treatment. This uses all 380 scores as they are: nothing is imputed and
nobody is left out, which is right where drop-out depends on the scores seen before it (missing at
random). What a patient who left says about later visits is decided by the correlations in W,
so three models of W (5 x 5) are compared:

    compound symmetry   one variance, one correlation
    AR(1)               one variance, correlation rho^lag
    unstructured        five variances, ten correlations (LKJ prior)

The script samples the three posteriors, compares them by leave-one-patient-out cross-validation,
prints the effect of the treatment and saves one picture, repeated_measures.png, beside itself.

    python examples/repeated_measures.py        needs matplotlib besides the package
"""

from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import xarray as xr

import pm_gaussgrad as gg

HERE = Path(__file__).parent
SEED = 20030217
INTERPRETED = "FAST_COMPILE"  # for what runs too seldom to be worth compiling
ARMS = {"TAU": "treatment as usual", "BtheB": "Beat the Blues"}
COLORS = {"TAU": "#22577a", "BtheB": "#b5442e"}


def load_data():
    """One row a score; ``visit`` numbers the months 0, 2, 4, 6, 8."""
    table = pd.read_csv(HERE / "data" / "beat_the_blues.csv")
    table["visit"] = np.unique(table["month"], return_inverse=True)[1]
    table["arm"] = (table["treatment"] == "BtheB").astype(int)
    return table


def compound_symmetry(n_visits):
    """One variance, one correlation."""
    sigma = pm.HalfNormal("sigma", sigma=20)
    return gg.cov.CompoundSymmetry(sigma**2, pm.Uniform("rho", 0, 1), size=n_visits)


def ar1(n_visits):
    """One variance; correlations die out with the lag."""
    sigma = pm.HalfNormal("sigma", sigma=20)
    return gg.cov.AR1(sigma**2, pm.Uniform("rho", 0, 1), size=n_visits)


def unstructured(n_visits):
    """Any covariance matrix."""
    sd = pm.HalfNormal.dist(sigma=20, shape=n_visits)
    packed = pm.LKJCholeskyCov("chol", n=n_visits, eta=1, sd_dist=sd, compute_corr=False)
    chol = pm.math.expand_packed_triangular(n_visits, packed)
    # chol @ chol.T, which takes 10 s to compile
    return gg.cov.Dense((chol[:, None, :] * chol).sum(axis=-1))


COVARIANCES = {
    "compound symmetry": compound_symmetry,
    "AR(1)": ar1,
    "unstructured": unstructured,
}


def build_model(data, covariance):
    """The trial under one of the covariances."""
    months = np.unique(data["month"])
    # The means in a vector: one before treatment, four after it in each arm.
    cell = np.array([[0, 1, 2, 3, 4], [0, 5, 6, 7, 8]])
    coords = {"arm": list(ARMS), "month": months, "cell": range(9), "score": data.index}
    with pm.Model(coords=coords) as model:
        means = pm.Normal("means", [25] + 8 * [20], 10, dims="cell")
        pm.Deterministic("mean", means[cell], dims=("arm", "month"))

        within = covariance(len(months))
        pm.Deterministic("within", within.to_dense())
        cov = gg.cov.RepeatedMeasures(within, data["patient"], data["visit"])
        mu = means[cell[data["arm"], data["visit"]]]
        gg.MvNormal("bdi", mu, cov, observed=data["bdi"], dims="score")
    return model


def sample(data):
    """Posterior draws under each covariance, and whether its chains have converged."""
    draws, diagnostics = {}, {}
    for name, covariance in COVARIANCES.items():
        print(f"\n{name}", flush=True)
        # No C compiler: it would take 10 s for the starting point of the LKJ prior.
        with build_model(data, covariance) as model, pytensor.config.change_flags(cxx=""):
            parameters = [variable.name for variable in model.free_RVs]
            idata = pm.sample(600, tune=400, chains=4, random_seed=SEED, var_names=parameters)
            idata["posterior"] = pm.compute_deterministics(
                idata.posterior.to_dataset(),
                extend_dataset=True,
                progressbar=False,
                compile_kwargs={"mode": INTERPRETED},
            )
        summary = az.summary(idata, var_names=parameters, round_to="none")
        draws[name] = idata
        diagnostics[name] = {
            "largest r_hat": summary["r_hat"].max(),
            "smallest ess_bulk": summary["ess_bulk"].min(),
            "smallest ess_tail": summary["ess_tail"].min(),
            "divergences": int(idata.sample_stats["diverging"].sum()),
        }
    show("Convergence", pd.DataFrame.from_dict(diagnostics, orient="index"), "{:.4g}")
    return draws


def add_patient_log_likelihood(data, draws):
    """Log density of each patient's scores: patients, not scores, are independent."""
    mean, within = pt.dtensor3("mean"), pt.dtensor3("within")
    cov = gg.cov.RepeatedMeasures(within, data["patient"], data["visit"])
    residual = data["bdi"].to_numpy() - mean[:, data["arm"], data["visit"]]
    by_patient = pytensor.function([mean, within], cov.subject_logp(residual), mode=INTERPRETED)
    patients = pd.unique(data["patient"])
    for idata in draws.values():
        posterior = idata.posterior
        shape = posterior.sizes["chain"], posterior.sizes["draw"]
        means, withins = (posterior[k].to_numpy() for k in ("mean", "within"))
        logp = by_patient(*(x.reshape(-1, *x.shape[2:]) for x in (means, withins)))
        idata["log_likelihood"] = xr.Dataset(
            {"patient": (("chain", "draw", "number"), logp.reshape(*shape, -1))},
            coords={"number": patients},
        )


def treatment_effects(data, draws):
    """Difference of the means after eight months; first of those who are still there."""
    end = data[data["month"] == data["month"].max()]
    seen = [end.loc[end["treatment"] == arm, "bdi"] for arm in ("BtheB", "TAU")]
    sd = np.sqrt(sum(scores.var() / len(scores) for scores in seen))
    naive = seen[0].mean() - seen[1].mean()
    rows = {"those seen": [naive, sd, naive - 1.645 * sd, naive + 1.645 * sd, np.nan]}
    for name, idata in draws.items():
        last = idata.posterior["mean"].isel(month=-1)
        effect = (last.sel(arm="BtheB") - last.sel(arm="TAU")).to_numpy().ravel()
        low, high = np.quantile(effect, [0.05, 0.95])
        rows[name] = [effect.mean(), effect.std(), low, high, (effect < 0).mean()]
    return pd.DataFrame.from_dict(
        rows, orient="index", columns=["mean", "sd", "5 %", "95 %", "P(effect < 0)"]
    )


def correlations(idata):
    """Posterior mean of the correlation matrix."""
    within = idata.posterior["within"].to_numpy().reshape(-1, *idata.posterior["within"].shape[2:])
    sd = np.sqrt(np.diagonal(within, axis1=1, axis2=2))
    return (within / sd[:, :, None] / sd[:, None, :]).mean(axis=0)


def plot_profiles(axes, data, mean):
    """Each patient's scores, and the arms' means with bands; circles where patients leave."""
    months = np.unique(data["month"])
    for axis, (arm, title) in zip(axes, ARMS.items(), strict=True):
        own = data[data["treatment"] == arm]
        for _, patient in own.groupby("patient"):
            axis.plot(patient["month"], patient["bdi"], color=COLORS[arm], lw=0.6, alpha=0.35)
        last = own.loc[own.groupby("patient")["month"].idxmax()]
        left = last[last["month"] < months[-1]]
        axis.plot(left["month"], left["bdi"], "o", ms=4, mfc="white", color=COLORS[arm], zorder=3)
        draws = mean.sel(arm=arm).stack(i=("chain", "draw")).transpose("i", "month").to_numpy()
        low, middle, high = np.percentile(draws, [5, 50, 95], axis=0)
        axis.fill_between(months, low, high, color=COLORS[arm], alpha=0.3, linewidth=0, zorder=4)
        axis.plot(months, middle, color=COLORS[arm], lw=2.4, zorder=5)
        raw = own.groupby("month")["bdi"].mean()
        axis.plot(raw.index, raw, "x", color="#1a1a1a", ms=6, mew=1.4, zorder=6)
        counts = own.groupby("month").size()
        labels = [f"{month}\n{counts[month]}" for month in months]
        axis.set(title=title, xticks=months, xticklabels=labels, ylim=(-2, 63))
        axis.set_xlabel("months, and patients seen")
    axes[0].set_ylabel("Beck Depression Inventory")
    handles = [
        plt.Line2D([], [], color="#666666", lw=0.8),
        plt.Line2D([], [], color="#666666", marker="o", mfc="white", ms=4, ls=""),
        plt.Line2D([], [], color="#666666", lw=2.4),
        plt.Rectangle((0, 0), 1, 1, color="#666666", alpha=0.3, lw=0),
        plt.Line2D([], [], color="#1a1a1a", marker="x", ms=6, mew=1.4, ls=""),
    ]
    labels = ["patient", "leaves the trial", "mean", "90 %", "mean of those seen"]
    axes[1].legend(handles, labels, frameon=False, fontsize=7.5, loc="upper right")


def plot_correlations(axes, draws, comparison):
    """The three fitted correlation matrices, in the order of the comparison."""
    for axis, name in zip(axes, comparison.index, strict=True):
        matrix = correlations(draws[name])
        image = axis.imshow(matrix, cmap="YlGnBu", vmin=0, vmax=1)
        for i, j in np.ndindex(*matrix.shape):
            color = "white" if matrix[i, j] > 0.6 else "#1a1a1a"
            text = f"{matrix[i, j]:.2f}"
            axis.text(j, i, text, ha="center", va="center", color=color, fontsize=7.5)
        months = [0, 2, 4, 6, 8]
        axis.set_title(f"{name}\nelpd {comparison.loc[name, 'elpd']:.1f}", fontsize=9)
        axis.set(xticks=range(5), yticks=range(5), xticklabels=months, yticklabels=months)
        axis.set_xlabel("month")
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
    return image


def plot(data, draws, comparison, path):
    """Profiles above, correlations below."""
    style = {"font.size": 8.5, "axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context(style):
        figure = plt.figure(figsize=(10, 8.6), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=[1.25, 1])
        best = comparison.index[0]
        plot_profiles(top.subplots(1, 2, sharey=True), data, draws[best].posterior["mean"])
        top.suptitle(f"Depression during a trial with drop-out ({best} covariance)", fontsize=12)
        axes = bottom.subplots(1, 3)
        image = plot_correlations(axes, draws, comparison)
        bottom.colorbar(image, ax=axes, shrink=0.8, label="correlation")
        bottom.suptitle("Correlations within a patient, posterior means", fontsize=12)
        figure.savefig(path, dpi=150)
    plt.close(figure)


def show(heading, table, number_format="{:.3g}"):
    """Print a table under a heading."""
    print(f"\n{heading}\n{'-' * len(heading)}")
    print(table.to_string(float_format=number_format.format), flush=True)


def main():
    """Sample, compare, draw."""
    data = load_data()
    seen = data.groupby(["treatment", "month"]).size().unstack()
    show("Patients seen, by month", seen)
    print("\nCompiling takes most of the time of a first run.", flush=True)
    draws = sample(data)
    add_patient_log_likelihood(data, draws)
    comparison = az.compare(draws, var_name="patient", round_to="none")
    columns = ["elpd", "se", "p", "elpd_diff", "dse", "weight"]
    show("Leave-one-patient-out cross-validation", comparison[columns], "{:.2f}")
    show("Effect of Beat the Blues on the score after eight months", treatment_effects(data, draws))
    path = HERE / "repeated_measures.png"
    plot(data, draws, comparison, path)
    print(f"\nPicture: {path}")


if __name__ == "__main__":
    main()
