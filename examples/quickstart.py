"""Quickstart: a mixed model with its random effects integrated out, on real data.

Eighteen subjects slept three hours a night; their reaction time was measured on ten days
(Belenky et al., 2003; see data/README.md). Each subject has an intercept and a slope of its
own, drawn from N(beta, G). Integrated over these, the ten measurements y_i of subject i are

    y_i ~ N(Z beta, Z G Z' + sigma^2 I),        Z = [1, days]  (10 x 2)

one row of a multivariate normal a subject, with six parameters instead of 6 + 2 x 18.

The script compares the gradients with dense automatic differentiation, finite differences and
pm.MvNormal's speed, compares the maximum-likelihood fit with lme4's, samples the posterior,
recovers the subjects' own lines and saves one picture, quickstart.png, beside itself.

    python examples/quickstart.py               needs matplotlib besides the package
"""

import os
import timeit
from pathlib import Path

# Small matrices: more threads make them slower, and four chains would compete for the cores.
# Before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
from pymc.blocking import DictToArrayBijection, RaveledVars
from scipy.optimize import minimize

import pm_gaussgrad as gg

HERE = Path(__file__).parent
SEED = 20030312
PARAMETERS = ["beta", "tau", "rho", "sigma"]

# lme4 1.1.31, lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = FALSE)
LME4 = {
    "log likelihood": -875.969672,
    "beta[intercept]": 251.405105,
    "beta[slope]": 10.467286,
    "tau[intercept]": 23.780571,
    "tau[slope]": 5.716834,
    "rho": 0.081320,
    "sigma": 25.591816,
}


def load_data():
    """Reaction times in ms: one row a subject, one column a day."""
    table = pd.read_csv(HERE / "data" / "sleepstudy.csv")
    return table.pivot(index="Subject", columns="Days", values="Reaction")


def design(data):
    """Z, the columns of a straight line over the days."""
    days = data.columns.to_numpy(float)
    return np.column_stack([np.ones_like(days), days])


def build_model(data, library=gg):
    """Build the model with ``library.MvNormal``, of pm_gaussgrad or of PyMC."""
    days = design(data)[:, 1]
    coords = {"effect": ["intercept", "slope"], "subject": data.index, "day": data.columns}
    with pm.Model(coords=coords) as model:
        beta = pm.Normal("beta", mu=[250, 10], sigma=[50, 10], dims="effect")  # ms, ms a day
        tau = pm.HalfNormal("tau", sigma=[50, 20], dims="effect")  # sd between subjects
        rho = pm.Uniform("rho", -1, 1)  # correlation of intercepts and slopes
        sigma = pm.HalfNormal("sigma", sigma=50)  # ms, sd of one measurement

        # Z G Z' + sigma^2 I, entry by entry; with Z @ G @ Z.T it takes longer to compile.
        G = tau[0] ** 2, tau[0] * tau[1] * rho, tau[1] ** 2
        cov = G[0] + G[1] * (days[:, None] + days) + G[2] * days[:, None] * days
        cov = cov + sigma**2 * np.eye(len(days))
        mu = beta[0] + beta[1] * days
        library.MvNormal("reaction", mu, cov, observed=data, dims=("subject", "day"))
    return model


def maximum_likelihood(model):
    """Maximise the likelihood alone, priors left out, with its gradient."""
    variables = model.value_vars
    likelihood = [model.datalogp, *pt.grad(model.datalogp, variables)]
    likelihood = model.compile_fn(likelihood, inputs=variables)
    start = DictToArrayBijection.map(model.initial_point())

    def to_point(x):
        return DictToArrayBijection.rmap(RaveledVars(x, start.point_map_info))

    def objective(x):
        value, *gradient = likelihood(to_point(x))
        return -value, -np.concatenate([np.ravel(g) for g in gradient])

    best = minimize(objective, start.data, jac=True, method="BFGS", options={"gtol": 1e-6})
    names = [variable.name for variable in model.unobserved_value_vars]
    values = model.compile_fn(model.unobserved_value_vars, inputs=variables)(to_point(best.x))
    return -best.fun, dict(zip(names, values, strict=True))


def compare_with_lme4(model):
    """Maximum-likelihood estimates beside lme4's."""
    log_likelihood, estimate = maximum_likelihood(model)
    flat = np.concatenate([np.ravel(estimate[name]) for name in PARAMETERS[:2]])
    ours = [log_likelihood, *flat, float(estimate["rho"]), float(estimate["sigma"])]
    table = pd.DataFrame({"pm_gaussgrad": ours, "lme4": LME4.values()}, index=list(LME4))
    table["difference"] = table["pm_gaussgrad"] - table["lme4"]
    return table


def gradient_call(model):
    """Log posterior and gradient at the initial point, compiled, as a call without arguments."""
    function = model.logp_dlogp_function(ravel_inputs=True)
    x = DictToArrayBijection.map(model.initial_point()).data
    return lambda: function(x)


def compare_times(data, repeats=7):
    """Median time per gradient with this package and with PyMC's own distribution.

    The two take turns, so that a disturbance hits both; microseconds, after compilation.
    """
    libraries = {"gg.MvNormal": gg, "pm.MvNormal": pm}
    timers = [timeit.Timer(gradient_call(build_model(data, lib))) for lib in libraries.values()]
    loops = [timer.autorange()[0] for timer in timers]
    seconds = [
        [t.timeit(n) / n for t, n in zip(timers, loops, strict=True)] for _ in range(repeats)
    ]
    table = pd.DataFrame({"microseconds": 1e6 * np.median(seconds, axis=0)}, index=list(libraries))
    table["ratio"] = table["microseconds"] / table["microseconds"].iloc[0]
    return table


def sample(model):
    """Draw from the posterior, then one new subject's data for each draw and subject."""
    with model:
        idata = pm.sample(1000, tune=1000, chains=4, random_seed=SEED)
        pm.sample_posterior_predictive(idata, random_seed=SEED, extend_inferencedata=True)
    return idata


def subject_lines(data, posterior, rng):
    """Each subject's own line, one for each draw, shape (draws, subjects, days).

    The random effects b_i that were integrated out are normal given the data and theta, with
    mean G Z' Sigma^-1 (y_i - Z beta) and covariance G - G Z' Sigma^-1 Z G.
    """
    draws = posterior.stack(draw_index=("chain", "draw")).transpose("draw_index", ...)
    beta, tau, rho, sigma = (draws[name].to_numpy() for name in PARAMETERS)
    Z = design(data)
    G = tau[:, :, None] * tau[:, None, :]
    G[:, [0, 1], [1, 0]] *= rho[:, None]
    cov = Z @ G @ Z.T + sigma[:, None, None] ** 2 * np.eye(len(Z))
    gain = np.linalg.solve(cov, Z @ G)  # Sigma^-1 Z G, (draws, days, 2)
    residual = data.to_numpy() - (beta @ Z.T)[:, None, :]
    spread = np.linalg.cholesky(G - G @ Z.T @ gain)
    noise = rng.standard_normal((len(beta), len(data), 2))
    b = residual @ gain + noise @ spread.swapaxes(1, 2)
    return (beta[:, None, :] + b) @ Z.T


def band(axis, days, draws, probability, **style):
    """Shade the central interval of the draws, one a row."""
    tail = 50 * (1 - probability)
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    return axis.fill_between(days, low, high, linewidth=0, **style)


def plot_subjects(axes, data, lines, predictive):
    """Draw the data, each subject's own line and the predictive bands of a new subject."""
    days = data.columns.to_numpy(float)
    for i, (axis, subject) in enumerate(zip(axes.flat, data.index, strict=True)):
        own = lines[:, i]
        handles = [
            axis.plot(days, data.loc[subject], "o", color="#1a1a1a", ms=3.2, zorder=4)[0],
            axis.plot(days, np.median(own, axis=0), color="#b5442e", lw=1.6, zorder=3)[0],
            band(axis, days, own, 0.9, color="#b5442e", alpha=0.28, zorder=2),
            band(axis, days, predictive, 0.5, color="#b9c8d6", zorder=1),
            band(axis, days, predictive, 0.9, color="#e3eaf0", zorder=0),
        ]
        axis.text(0.04, 0.95, f"subject {subject}", transform=axis.transAxes, va="top")
        axis.set(xticks=[0, 3, 6, 9], yticks=[200, 300, 400], xlim=(-0.4, 9.4), ylim=(165, 490))
        axis.label_outer()
    for axis in axes[-1]:
        axis.set_xlabel("days")
    for axis in axes[:, 0]:
        axis.set_ylabel("reaction (ms)")
    return handles


def plot_traces(axes, posterior, estimates):
    """One panel a parameter: the chains, and lme4's estimate as a dashed line."""
    draws = {"beta": 2, "tau": 2, "rho": 0, "sigma": 0}
    panels = [(name, i) for name, size in draws.items() for i in (range(size) if size else [None])]
    colors = ["#22577a", "#38a3a5", "#e09f3e", "#9e4770"]
    for axis, (name, i), (label, value) in zip(axes.flat, panels, estimates, strict=True):
        chains = posterior[name] if i is None else posterior[name].isel(effect=i)
        for chain, color in zip(chains.transpose("chain", "draw").to_numpy(), colors, strict=True):
            axis.plot(chain, color=color, lw=0.35, alpha=0.7)
        axis.axhline(value, color="#1a1a1a", lw=1, ls=(0, (4, 2)))
        axis.set_title(label, fontsize=9)
        axis.set(xlabel="draw", xlim=(0, posterior.sizes["draw"]), xticks=[0, 500, 1000])


def plot(data, idata, path):
    """Save the subjects' panels and, below them, the traces."""
    lines = subject_lines(data, idata.posterior.dataset, np.random.default_rng(SEED))
    # All subjects have the same predictive distribution: one row of draws serves them all.
    predictive = idata.posterior_predictive["reaction"].to_numpy().reshape(-1, len(data.columns))
    style = {
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#666666",
        "axes.linewidth": 0.6,
    }
    with plt.rc_context(style):
        figure = plt.figure(figsize=(12, 9.6), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=[3.5, 1], hspace=0.02)
        handles = plot_subjects(
            top.subplots(3, 6, sharex=True, sharey=True), data, lines, predictive
        )
        labels = ["measured", "own line, median", "own line, 90 %"]
        labels += ["new subject, 50 %", "new subject, 90 %"]
        top.suptitle("Reaction time during sleep deprivation", fontsize=13)
        top.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
        estimates = [item for item in LME4.items() if item[0] != "log likelihood"]
        plot_traces(bottom.subplots(1, 6), idata.posterior.dataset, estimates)
        bottom.suptitle("Posterior draws of four chains (dashed: maximum likelihood, lme4)")
        figure.savefig(path, dpi=150)
    plt.close(figure)


def show(heading, table, number_format="{:.6g}"):
    """Print a table under a heading."""
    print(f"\n{heading}\n{'-' * len(heading)}")
    print(table.to_string(float_format=number_format.format), flush=True)


def main():
    """Audit, compare, sample, summarise, draw."""
    data = load_data()
    model = build_model(data)
    print(f"{len(data)} subjects, {len(data.columns)} days: {data.size} reaction times")
    print("Compiling takes most of the time of a first run.", flush=True)

    show("Gradient audit, at the initial point", gg.gradient.audit(model))
    show("Log posterior and gradient, time a call", compare_times(data), "{:.2f}")
    show("Maximum likelihood", compare_with_lme4(model), "{:z.6f}")
    print()
    idata = sample(model)
    show("Posterior", az.summary(idata, var_names=PARAMETERS))

    path = HERE / "quickstart.png"
    plot(data, idata, path)
    print(f"\nPicture: {path}")


if __name__ == "__main__":
    main()
