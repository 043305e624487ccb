"""A two-way grid: correlated errors along the rows and the columns of a field, on real data.

In 1910 one acre of wheat at Rothamsted, treated alike everywhere, was harvested as 20 x 25 small
plots (Mercer and Hall, 1911; see data/README.md). Yields of neighbouring plots resemble each
other. The usual model of such trials is separable: the covariance of the plots (i, a) and (j, b)
is

    v rho_row^|i - j| rho_column^|a - b| + s [i = j, a = b]

or Sigma = v K_row x K_column + s I: smooth fertility and, in every plot, an error of its own. A
`gg.cov.Kronecker` never forms the 500 x 500 matrix: its work is the eigenvectors of a 20 x 20 and
of a 25 x 25 matrix.

The script compares the gradient with dense automatic differentiation and finite differences,
samples the posterior, separates fertility from error, draws fields from the posterior predictive
distribution and saves one picture, two_way_grid.png, beside itself.

    python examples/two_way_grid.py             needs matplotlib besides the package
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
SEED = 19110101
PARAMETERS = ["mean", "signal", "noise", "rho"]
INTERPRETED = "FAST_COMPILE"  # for what runs too seldom to be worth compiling
N_FIELDS = 100  # drawn from the posterior predictive distribution


def load_data():
    """Grain in pounds a plot: one row a row of the field, one column a column."""
    return pd.read_csv(HERE / "data" / "wheat_uniformity.csv", index_col="row")


def autoregression(rho, size):
    """Correlations rho^|i - j| of a first-order autoregression."""
    steps = np.arange(size)
    return rho ** np.abs(steps[:, None] - steps)


def build_model(field):
    """Build the model of the field, flattened row by row as Kronecker(rows, columns) orders it."""
    rows, columns = field.shape
    coords = {"direction": ["down", "across"], "plot": np.arange(field.size)}
    with pm.Model(coords=coords) as model:
        mean = pm.Normal("mean", 4, 1)  # pounds
        signal = pm.HalfNormal("signal", 0.5)  # sd of the fertility, pounds
        noise = pm.HalfNormal("noise", 0.5)  # sd of a plot's own error, pounds
        rho = pm.Uniform("rho", 0, 1, dims="direction")  # correlation of neighbours
        K_row, K_column = autoregression(rho[0], rows), autoregression(rho[1], columns)
        cov = gg.cov.Kronecker(signal**2 * K_row, K_column) + gg.cov.Diagonal(noise**2)
        y = field.to_numpy().ravel()
        gg.MvNormal("yield", mean, cov, observed=y, dims="plot")
        # The expected fertility given the yields: y less the expected error, s Sigma^-1 (y - mean).
        pm.Deterministic("fertility", y - noise**2 * cov.solve(y - mean), dims="plot")
    return model


def audit(model):
    """Gradient of the log posterior at the initial point, with its two witnesses."""
    with pytensor.config.change_flags(mode=INTERPRETED):
        return gg.gradient.audit(model)


def sample(model):
    """Draw from the posterior, then whole fields for a few of its draws."""
    with model:
        idata = pm.sample(500, tune=500, chains=4, random_seed=SEED)
        few = idata.posterior.dataset.isel(draw=slice(None, None, 500 * 4 // N_FIELDS))
        fields = pm.sample_posterior_predictive(
            few, random_seed=SEED, compile_kwargs={"mode": INTERPRETED}
        )
    return idata, fields.posterior_predictive["yield"].to_numpy()


def correlations(fields, axis, lags):
    """Correlation of plots so many steps apart along an axis, for each of several fields."""
    centred = fields - fields.mean(axis=(-2, -1), keepdims=True)
    centred = np.moveaxis(centred, axis, -1)
    variance = (centred**2).mean(axis=(-2, -1))
    products = [(centred[..., lag:] * centred[..., : centred.shape[-1] - lag]) for lag in lags]
    return np.stack([p.mean(axis=(-2, -1)) / variance for p in products], axis=-1)


def draw_fields(axes, figure, panels):
    """Maps of fields on one scale, one a panel."""
    limits = [np.percentile(panels["harvested"], q) for q in (1, 99)]
    for axis, (title, field) in zip(axes, panels.items(), strict=True):
        image = axis.imshow(field, cmap="YlGn", vmin=limits[0], vmax=limits[1], aspect="equal")
        axis.set_title(title)
        axis.set_axis_off()
    figure.colorbar(image, ax=axes, shrink=0.7, pad=0.01, label="pounds a plot", extend="both")


def draw_correlations(axis, direction, observed, replicated, lags):
    """Correlation against lag: observed, and the predictive band."""
    low, high = np.percentile(replicated, [5, 95], axis=0)
    axis.fill_between(lags, low, high, color="#b9c8d6", lw=0, label="predictive, 90 %")
    axis.plot(lags, observed, "o-", color="#1a1a1a", ms=3.5, lw=1, label="harvested")
    axis.axhline(0, color="#666666", lw=0.6)
    axis.set(title=f"correlation {direction} the field", xlabel="plots apart", ylim=(-0.35, 0.75))


def draw_densities(axis, title, draws):
    """Histograms of posterior draws, one a name."""
    for (name, values), color in zip(draws.items(), ["#b5442e", "#22577a"], strict=True):
        style = {"histtype": "stepfilled", "color": color, "alpha": 0.5}
        axis.hist(values, bins=40, density=True, label=name, **style)
    axis.set(title=title, yticks=[])
    axis.legend(frameon=False)


def plot(field, posterior, fields, path):
    """Save maps of the field, and below them the check of the model and its posterior."""
    harvested = field.to_numpy()
    fields = fields.reshape(-1, *field.shape)
    panels = {
        "harvested": harvested,
        "fertility, posterior mean": posterior["fertility"].mean(("chain", "draw")).to_numpy(),
        "a predictive draw": fields[0],
        "another": fields[-1],
    }
    panels = {title: np.reshape(panel, field.shape) for title, panel in panels.items()}
    lags = np.arange(1, 13)
    with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = plt.figure(figsize=(12, 6), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=[1.1, 1])
        draw_fields(top.subplots(1, 4), top, panels)
        axes = bottom.subplots(1, 4)
        for axis, direction, way in zip(axes, (0, 1), ("down", "across"), strict=False):
            replicated = correlations(fields, direction - 2, lags)
            observed = correlations(harvested, direction - 2, lags)
            draw_correlations(axis, way, observed, replicated, lags)
        axes[0].legend(frameon=False)
        rho = {
            way: posterior["rho"].sel(direction=way).values.ravel() for way in ("down", "across")
        }
        scales = {name: posterior[name].values.ravel() for name in ("signal", "noise")}
        draw_densities(axes[2], "correlation of neighbours' fertility", rho)
        draw_densities(axes[3], "standard deviations, pounds", scales)
        figure.savefig(path, dpi=150)
    plt.close(figure)


def show(heading, table, number_format="{:.6g}"):
    """Print a table under a heading."""
    print(f"\n{heading}\n{'-' * len(heading)}")
    print(table.to_string(float_format=number_format.format), flush=True)


def main():
    """Audit, sample, summarise, draw."""
    field = load_data()
    model = build_model(field)
    print(f"{field.shape[0]} x {field.shape[1]} plots of wheat")
    print("Compiling takes most of the time of a first run.", flush=True)
    show("Gradient audit, at the initial point", audit(model))
    print()
    idata, fields = sample(model)
    show("Posterior", az.summary(idata, var_names=PARAMETERS))

    path = HERE / "two_way_grid.png"
    plot(field, idata.posterior.dataset, fields, path)
    print(f"\nPicture: {path}")


if __name__ == "__main__":
    main()
