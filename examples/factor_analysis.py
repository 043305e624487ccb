"""Factor analysis of the chemistry of 178 wines, the factors integrated out.

Thirteen constituents were measured in wines of three cultivars (Aeberhard and Forina, 1992; see
data/README.md). Three unobserved factors explain how they vary together:

    x_i = mu + U f_i + noise,   f_i ~ N(0, I),   noise ~ N(0, diag(psi))
    x_i ~ N(mu, U U' + diag(psi))

The scores f_i, 3 x 178 numbers, are integrated out; the cultivar is not told to the model. U
could be rotated without a change of the likelihood. It is pinned down by three constituents, put
first, whose rows of U are lower triangular with a positive diagonal: flavanoids load on factor 1
alone, colour on 1 and 2, the alcalinity of the ash on all three.

The script compares the gradient with dense automatic differentiation and finite differences, and
the maximum-likelihood fit with scikit-learn's, samples the posterior, recovers the scores and saves
one picture, factor_analysis.png, beside itself.

    python examples/factor_analysis.py          needs matplotlib besides the package
"""

from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.blocking import DictToArrayBijection, RaveledVars
from scipy.optimize import minimize

import pm_gaussgrad as gg

HERE = Path(__file__).parent
SEED = 19860713
INTERPRETED = "FAST_COMPILE"  # for what runs too seldom to be worth compiling
ANCHORS = ["flavanoids", "color", "alcalinity_of_ash"]
FACTORS = ["phenols", "colour and alcohol", "ash"]

# scikit-learn 1.9.1, FactorAnalysis(3, tol=1e-14, svd_method="lapack") on standardised columns
SKLEARN_LOG_LIKELIHOOD = -2684.284457
SKLEARN_NOISE = {
    "alcohol": 0.387510,
    "malic_acid": 0.726532,
    "ash": 0.521634,
    "alcalinity_of_ash": 0.072848,
    "magnesium": 0.837219,
    "total_phenols": 0.198643,
    "flavanoids": 0.068936,
    "nonflavanoid_phenols": 0.657730,
    "proanthocyanins": 0.555140,
    "color": 0.246137,
    "hue": 0.502541,
    "od280_od315": 0.251875,
    "proline": 0.384093,
}


def load_data():
    """Standardised constituents, one row a wine, anchors first; and the cultivars."""
    table = pd.read_csv(HERE / "data" / "wine.csv")
    cultivar = table.pop("cultivar")
    table = table[ANCHORS + [name for name in table if name not in ANCHORS]]
    return (table - table.mean()) / table.std(ddof=0), cultivar


def build_model(data):
    """Build the model with a lower triangular matrix of loadings."""
    below = np.tril_indices(len(data.columns), -1, len(FACTORS))
    below_names = [f"{data.columns[i]}, {j + 1}" for i, j in zip(*below, strict=True)]
    coords = {
        "wine": data.index,
        "constituent": data.columns,
        "factor": FACTORS,
        "anchor": ANCHORS,
        "below": below_names,
    }
    with pm.Model(coords=coords) as model:
        mu = pm.Normal("mu", 0, 1, dims="constituent")
        diagonal = pm.HalfNormal("diagonal", 1, dims="anchor")
        rest = pm.Normal("rest", 0, 1, dims="below")
        psi = pm.HalfNormal("psi", 1, dims="constituent")  # variances, in units of the data's
        loadings = pt.zeros((len(data.columns), len(FACTORS)))
        loadings = loadings[np.diag_indices(len(FACTORS))].set(diagonal)
        loadings = loadings[below].set(rest)
        pm.Deterministic("loadings", loadings, dims=("constituent", "factor"))
        cov = gg.cov.LowRank(loadings) + gg.cov.Diagonal(psi)
        gg.MvNormal("x", mu, cov, observed=data, dims=("wine", "constituent"))
    return model


def maximum_likelihood(model):
    """Maximise the likelihood alone, priors left out, with its gradient."""
    variables = model.value_vars
    likelihood = [model.datalogp, *pt.grad(model.datalogp, variables)]
    likelihood = model.compile_fn(likelihood, inputs=variables, mode=INTERPRETED)
    start = DictToArrayBijection.map(model.initial_point())

    def to_point(x):
        return DictToArrayBijection.rmap(RaveledVars(x, start.point_map_info))

    def objective(x):
        value, *gradient = likelihood(to_point(x))
        return -value, -np.concatenate([np.ravel(g) for g in gradient])

    best = minimize(objective, start.data, jac=True, method="BFGS", options={"gtol": 1e-5})
    names = [variable.name for variable in model.unobserved_value_vars]
    values = model.compile_fn(model.unobserved_value_vars, inputs=variables, mode=INTERPRETED)
    return -best.fun, dict(zip(names, values(to_point(best.x)), strict=True))


def compare_with_sklearn(data, model):
    """Maximum likelihood beside scikit-learn's: what a rotation leaves alone; and our loadings."""
    log_likelihood, estimate = maximum_likelihood(model)
    ours = pd.Series(estimate["psi"], data.columns)
    rows = {"log likelihood": (log_likelihood, SKLEARN_LOG_LIKELIHOOD)}
    rows |= {f"psi[{name}]": (ours[name], value) for name, value in SKLEARN_NOISE.items()}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["pm_gaussgrad", "scikit-learn"])
    table["difference"] = table["pm_gaussgrad"] - table["scikit-learn"]
    return table, estimate["loadings"]


def worst_of_audit(model):
    """The gradient audit, of each variable the entry that differs most from the dense one."""
    with pytensor.config.change_flags(mode=INTERPRETED):
        table = gg.gradient.audit(model)
    variable = table.index.str.partition("[").get_level_values(0)
    return table.loc[table["minus_dense"].abs().groupby(variable, sort=False).idxmax()]


def stacked(posterior, name):
    """Draws of a parameter, chains one after another, as an array (draws, ...)."""
    return posterior[name].stack(sample=("chain", "draw")).transpose("sample", ...).to_numpy()


def factor_scores(data, posterior, rng, thin=10):
    """Draws of the scores that were integrated out, shape (draws, wines, factors).

    Given the data, f_i is normal with precision M = I + U' Psi^-1 U and mean
    M^-1 U' Psi^-1 (x_i - mu).
    """
    mu, U, psi = (stacked(posterior, name)[::thin] for name in ("mu", "loadings", "psi"))
    weighted = U / psi[:, :, None]
    M = np.eye(U.shape[-1]) + U.swapaxes(1, 2) @ weighted
    mean = np.linalg.solve(M, ((data.to_numpy() - mu[:, None]) @ weighted).swapaxes(1, 2))
    noise = rng.standard_normal(mean.shape)
    spread = np.linalg.solve(np.linalg.cholesky(M).swapaxes(1, 2), noise)
    return (mean + spread).swapaxes(1, 2)


def plot_loadings(axes, data, posterior, estimate):
    """One panel a factor: posterior intervals of the loadings, maximum likelihood as ticks."""
    draws = stacked(posterior, "loadings")
    order = np.arange(len(data.columns))[::-1]
    for j, axis in enumerate(axes):
        low, middle, high = np.percentile(draws[:, :, j], [5, 50, 95], axis=0)
        axis.axvline(0, color="#bbbbbb", lw=0.8)
        axis.hlines(order, low, high, color="#22577a", lw=2.2)
        axis.plot(middle, order, "o", color="#22577a", ms=3.5)
        axis.plot(estimate[:, j], order, "|", color="#b5442e", ms=9, mew=1.4)
        axis.set(title=f"factor {j + 1}: {FACTORS[j]}", xlabel="loading", xlim=(-1.25, 1.25))
        axis.set_yticks(order, data.columns if j == 0 else [])


def plot_scores(axes, scores, cultivar):
    """Mean scores of the wines, coloured by the cultivar that the model has not seen."""
    mean = scores.mean(axis=0)
    for axis, other in zip(axes, (1, 2), strict=True):
        for number, color in zip((1, 2, 3), ("#9e4770", "#38a3a5", "#e09f3e"), strict=True):
            group = mean[cultivar == number]
            axis.plot(group[:, 0], group[:, other], "o", color=color, ms=4, alpha=0.85)
            axis.plot([], [], "o", color=color, label=f"cultivar {number}")
        sd = scores.std(axis=0).mean(axis=0)
        axis.errorbar(-2.6, 3, sd[other], sd[0], color="#1a1a1a", lw=1)
        axis.text(-2.25, 3.1, "mean ± sd of one wine", fontsize=7, va="bottom")
        axis.set(
            xlabel=f"score on factor 1, {FACTORS[0]}",
            ylabel=f"score on factor {other + 1}, {FACTORS[other]}",
            xlim=(-3.3, 3.3),
            ylim=(-3.8, 4.2),
        )
    axes[0].legend(frameon=False, loc="lower right")


def plot_correlations(axis, data, posterior):
    """All pairwise correlations: of the data, and as three factors reproduce them."""
    U, psi = stacked(posterior, "loadings")[::10], stacked(posterior, "psi")[::10]
    cov = U @ U.swapaxes(1, 2)
    cov[:, np.arange(len(data.columns)), np.arange(len(data.columns))] += psi
    sd = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
    pairs = np.tril_indices(len(data.columns), -1)
    model = (cov / sd[:, :, None] / sd[:, None, :])[:, *pairs]
    low, middle, high = np.percentile(model, [5, 50, 95], axis=0)
    observed = np.corrcoef(data.to_numpy().T)[pairs]
    axis.plot([-1, 1], [-1, 1], color="#bbbbbb", lw=0.8)
    axis.vlines(observed, low, high, color="#22577a", lw=0.8, alpha=0.6)
    axis.plot(observed, middle, "o", color="#22577a", ms=2.8)
    limits = (-0.75, 0.95)
    axis.set(xlabel="observed correlation", ylabel="of the model, 90 %", xlim=limits, ylim=limits)


def plot_traces(axes, posterior):
    """Chains of some parameters."""
    panels = [("diagonal", "anchor", ANCHORS[0]), ("psi", "constituent", ANCHORS[0])]
    panels.append(("psi", "constituent", ANCHORS[2]))
    colors = ["#22577a", "#38a3a5", "#e09f3e", "#9e4770"]
    for axis, (name, dim, label) in zip(axes, panels, strict=True):
        chains = posterior[name].sel({dim: label}).transpose("chain", "draw").to_numpy()
        for chain, color in zip(chains, colors, strict=True):
            axis.plot(chain, color=color, lw=0.35, alpha=0.7)
        axis.set(title=f"{name}[{label}]", xlabel="draw", xlim=(0, chains.shape[1]))


def plot(data, cultivar, idata, estimate, path):
    """Save loadings, scores, correlations and traces."""
    posterior = idata.posterior.dataset
    scores = factor_scores(data, posterior, np.random.default_rng(SEED))
    style = {
        "font.size": 8,
        "axes.titlesize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#666666",
        "axes.linewidth": 0.6,
    }
    with plt.rc_context(style):
        figure = plt.figure(figsize=(12, 10.5), layout="constrained")
        top, middle, bottom = figure.subfigures(3, 1, height_ratios=[1.25, 1.35, 0.6])
        top.suptitle("Loadings: posterior, 90 % (red ticks: maximum likelihood)", fontsize=11)
        plot_loadings(top.subplots(1, 3), data, posterior, estimate)
        middle.suptitle("Scores of 178 wines; correlations of 13 constituents", fontsize=11)
        *pair, last = middle.subplots(1, 3)
        plot_scores(pair, scores, cultivar.to_numpy())
        plot_correlations(last, data, posterior)
        bottom.suptitle("Posterior draws of four chains", fontsize=11)
        plot_traces(bottom.subplots(1, 3), posterior)
        figure.savefig(path, dpi=150)
    plt.close(figure)


def show(heading, table, number_format="{:.6g}"):
    """Print a table under a heading."""
    print(f"\n{heading}\n{'-' * len(heading)}")
    print(table.to_string(float_format=number_format.format), flush=True)


def main():
    """Audit, compare, sample, summarise, draw."""
    data, cultivar = load_data()
    model = build_model(data)
    print(f"{len(data)} wines, {len(data.columns)} constituents, {len(FACTORS)} factors")
    print("Compiling takes most of the time of a first run.", flush=True)

    show("Gradient audit, the worst entry of each variable", worst_of_audit(model))
    table, estimate = compare_with_sklearn(data, model)
    show("Maximum likelihood", table, "{:z.6f}")
    print()
    with model:
        idata = pm.sample(1500, tune=1000, chains=4, random_seed=SEED)
    show("Posterior", az.summary(idata, var_names=["mu", "diagonal", "rest", "psi"]))

    path = HERE / "factor_analysis.png"
    plot(data, cultivar, idata, estimate, path)
    print(f"\nPicture: {path}")


if __name__ == "__main__":
    main()
