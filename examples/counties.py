"""A map of a hundred counties: spatial and independent effects, integrated out.

Sudden infant deaths in the counties of North Carolina, 1974 to 1978 (Cressie and Chan, 1989; see
data/README.md). The Freeman-Tukey transform of the rate of a county with b births has the variance
1000 / b, whatever the rate is. What counties have beyond it, and beyond the share of births that
are not white, is partly like that of their neighbours and partly their own:

    rate = mean + slope * share + spatial + own + noise

The covariance of the hundred rates is BYM2(W, sigma, rho) + Diagonal(1000 / b). Both kinds of
effects are integrated out, four parameters are sampled, and the effects come back after sampling,
exactly, from what is known of them given the data. Two counties of these neighbourhoods have no
neighbours; their effects are their own, with the same variance.

The script samples the model, prints the posterior and the counties with the largest spatial
effects, and saves one picture, counties.png, beside itself.

    python examples/counties.py          needs matplotlib besides the package
"""

import time
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import scipy.sparse as sp
from matplotlib.collections import PolyCollection

import pm_gaussgrad as gg

HERE = Path(__file__).parent
SEED = 19740101
NAMES = ["mean", "slope", "sigma", "rho"]


def load_data():
    """One row a county: the transformed rate and share, and the variance that is known."""
    data = pd.read_csv(HERE / "data" / "nc_sids.csv", keep_default_na=False)
    births = data["births"]
    data["rate"] = freeman_tukey(data["deaths"], births)
    share = freeman_tukey(data["nonwhite_births"], births)
    data["share"] = share - share.mean()
    data["variance"] = 1000 / births
    return data


def freeman_tukey(count, births):
    """Of a rate for 1000 births, with a variance of 1000 / births."""
    return np.sqrt(1000 / births) * (np.sqrt(count) + np.sqrt(count + 1))


def neighbourhoods(data):
    """A one where two counties are neighbours."""
    number = pd.Series(data.index, data["fips"].astype(str))
    pairs = [(i, number[j]) for i, row in data["neighbours"].items() for j in row.split()]
    first, second = np.transpose(pairs)
    return sp.csr_array((np.ones(first.size), (first, second)), shape=(len(data), len(data)))


def areal_model(data, weights):
    """Spatial and own effects are a covariance."""
    with pm.Model(coords={"county": data["county"]}) as model:
        mean, slope = pm.Normal("mean", 3, 2), pm.Normal("slope", 0, 0.2)
        sigma, rho = pm.HalfNormal("sigma", 1), pm.Beta("rho", 1, 1)
        effects = gg.cov.BYM2(weights, sigma, rho)
        cov = effects + gg.cov.Diagonal(data["variance"])
        mu = mean + slope * data["share"].to_numpy()
        gg.MvNormal("rate", mu, cov, observed=data["rate"], dims="county")
    return model, effects, cov


def spatial_effects(model, effects, idata):
    """Draws of the spatial effects given the data."""
    predicted = gg.predict(
        idata, model=model, component=effects.structured, random_seed=SEED, progressbar=False
    )
    return predicted["predictions"]["rate_component"]


def outlines():
    """Of each county its polygons."""
    table = pd.read_csv(HERE / "data" / "nc_outlines.csv")
    parts = table.groupby(["fips", "part"], sort=False)[["longitude", "latitude"]]
    return [(fips, part.to_numpy()) for (fips, _), part in parts]


def draw_map(axis, data, values, title, **style):
    """Counties in the colours of their values."""
    shapes = outlines()
    by_fips = pd.Series(np.asarray(values), data["fips"])
    polygons = PolyCollection(
        [shape for _, shape in shapes],
        array=by_fips[[fips for fips, _ in shapes]].to_numpy(),
        edgecolor="#444444",
        lw=0.3,
        **style,
    )
    axis.add_collection(polygons)
    axis.autoscale_view()
    axis.set(title=title, xticks=[], yticks=[], aspect=1.25)
    axis.set_frame_on(False)
    axis.figure.colorbar(polygons, ax=axis, shrink=0.75)


def plot(data, weights, spatial, idata, path):
    """The data, the spatial effects and how sure they are, and the posterior of both scales."""
    residual = data["rate"] - float(idata.posterior["mean"].mean())
    mean, sd = spatial.mean(("chain", "draw")), spatial.std(("chain", "draw"))
    limit = float(abs(mean).max())
    with plt.rc_context({"font.size": 8.5, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = plt.subplots(2, 2, figsize=(11, 4.6), layout="constrained")
        draw_map(axes[0, 0], data, residual, "transformed rate less the mean", cmap="RdBu_r",
                 clim=(-2, 2))  # fmt: skip
        draw_map(axes[0, 1], data, mean, "spatial effects, posterior mean", cmap="RdBu_r",
                 clim=(-limit, limit))  # fmt: skip
        draw_map(axes[1, 0], data, sd, "posterior standard deviation", cmap="viridis")
        axes[1, 1].plot(*(idata.posterior[x].to_numpy().ravel() for x in ("sigma", "rho")), ".",
                        ms=2, color="#22577a", alpha=0.4)  # fmt: skip
        axes[1, 1].set(xlabel="sigma, of a county", ylabel="rho, the share that is spatial")
        figure.savefig(path, dpi=150)
    plt.close(figure)


def main():
    """Sample, predict, draw."""
    data = load_data()
    weights = neighbourhoods(data)
    alone = data["county"][weights.sum(axis=1) == 0].to_list()
    print(f"{weights.nnz // 2} pairs of neighbours; without any: {', '.join(alone)}")
    model, effects, cov = areal_model(data, weights)
    print(cov.plan())
    print("Compiling takes most of the time of a first run.", flush=True)
    start = time.perf_counter()
    with model:
        idata = pm.sample(
            500, tune=500, chains=4, cores=1, target_accept=0.9, random_seed=SEED, progressbar=False
        )
    elapsed = time.perf_counter() - start
    print(f"{idata.posterior.attrs['sampling_time']:.1f} s sampling, {elapsed:.0f} s in all")
    print(az.summary(idata, var_names=NAMES, round_to=3).to_string())
    spatial = spatial_effects(model, effects, idata)
    means = pd.Series(spatial.mean(("chain", "draw")), data["county"]).sort_values()
    print("\nLargest spatial effects, on the scale of the transformed rate")
    print(pd.concat([means.head(3), means.tail(3)]).to_string(float_format="{:.2f}".format))
    path = HERE / "counties.png"
    plot(data, weights, spatial, idata, path)
    print(f"\nPicture: {path}")


if __name__ == "__main__":
    main()
