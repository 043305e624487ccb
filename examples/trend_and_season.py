"""Trend and season of CO2 at Mauna Loa, with errors that remember: coefficients integrated out.

Weekly means, 1958 to 2001, with gaps (Keeling and Whorf, 2004; see data/README.md), by regression
on a cubic trend and four harmonics of the year. Errors of neighbouring weeks are alike: an
autoregression in continuous time, and noise of each week:

    co2 = X beta + AR(1) + noise,    beta flat

The twelve coefficients are integrated out with a flat prior, so that the likelihood is the
restricted one, and three parameters are sampled. The coefficients come back after sampling, and
with them what is computed of them: the growth in a year, the swing of the seasons. Least squares,
which takes errors for independent, has coefficients that are close, and of the trend standard
errors that are eight times too small.

The script samples the model, prints the posterior beside least squares, and saves one picture,
trend_and_season.png, beside itself.

    python examples/trend_and_season.py          needs matplotlib besides the package
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
SEED = 19580329
HARMONICS = 4


def load_data():
    """One row a week that has a mean; years are decimal, since 1980."""
    data = pd.read_csv(HERE / "data" / "mauna_loa_co2.csv", parse_dates=["date"]).dropna()
    days = (data["date"] - pd.Timestamp("1980-01-01")).dt.days
    return data.assign(year=days / 365.25)


def design(year):
    """A cubic trend, in decades, and harmonics of the year."""
    year = np.asarray(year)
    columns = {f"trend {k}": (year / 10) ** k for k in range(4)}
    for k in range(1, HARMONICS + 1):
        columns[f"cos {k}"] = np.cos(2 * np.pi * k * year)
        columns[f"sin {k}"] = np.sin(2 * np.pi * k * year)
    return pd.DataFrame(columns)


def build_model(data, X):
    """The model, and the summand of the coefficients."""
    with pm.Model() as model:
        sd = pm.HalfNormal("sd", 1)
        memory = pm.InverseGamma("memory", 3, 1)  # years
        noise = pm.HalfNormal("noise", 1)
        line = gg.cov.Linear(X, "flat")
        errors = gg.cov.AR1(sd**2, np.exp(-1 / memory), time=data["year"])
        gg.MvNormal("co2", 0, line + errors + gg.cov.Diagonal(noise**2), observed=data["co2"])
    return model, line


def least_squares(data, X):
    """Coefficients and standard errors of independent errors."""
    y = data["co2"].to_numpy()
    beta, rss, *_ = np.linalg.lstsq(X, y)
    variance = rss[0] / (len(y) - X.shape[1])
    return beta, np.sqrt(variance * np.diag(np.linalg.inv(X.T @ X)))


def plot(posterior, data):
    """The growth in a year, and the seasons, with 90 % intervals."""
    beta = posterior["beta"].stack(sample=("chain", "draw"))
    _, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    year = np.linspace(data["year"].min(), data["year"].max(), 100)
    slopes = [k * (year / 10) ** (k - 1) / 10 for k in range(1, 4)]
    trend = [f"trend {k}" for k in range(1, 4)]
    growth = np.transpose(slopes) @ beta.sel(coefficient=trend).to_numpy()
    month = np.linspace(0, 1, 100)
    season = design(month).filter(regex="cos|sin")
    cycle = season.to_numpy() @ beta.sel(coefficient=list(season.columns)).to_numpy()
    for axes, x, draws in ((left, 1980 + year, growth), (right, 12 * month, cycle)):
        low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95], axis=1)
        axes.fill_between(x, low, high, alpha=0.3)
        axes.plot(x, middle)
    left.set(title="Growth", xlabel="year", ylabel="ppm a year")
    right.set(title="Season", xlabel="month", ylabel="ppm")
    plt.savefig(HERE / "trend_and_season.png", dpi=150)


def main():
    """Sample, recover, compare."""
    data = load_data()
    X = design(data["year"])
    model, line = build_model(data, X)
    start = time.perf_counter()
    with model:
        idata = pm.sample(draws=500, tune=500, chains=2, cores=2, random_seed=SEED)
    print(f"{len(data)} weeks, sampled in {time.perf_counter() - start:.0f} s")
    idata = gg.recover(idata, model, {"beta": line}, dims={"beta": "coefficient"}, random_seed=SEED)
    print(az.summary(idata, var_names=["sd", "memory", "noise"]))
    beta, errors = least_squares(data, X)
    recovered = idata.posterior["beta"]
    table = {
        "mean": recovered.mean(("chain", "draw")).to_pandas(),
        "sd": recovered.std(("chain", "draw")).to_pandas(),
        "least squares": pd.Series(beta, X.columns),
        "standard error": pd.Series(errors, X.columns),
    }
    print(pd.DataFrame(table).round(3))
    plot(idata.posterior, data)


if __name__ == "__main__":
    main()
