"""Mixed models sampled by NUTS: effects integrated out, beside the same model with sampled effects.

    python -m benchmarks.effects_sampling               # all but the large one; some minutes
    python -m benchmarks.effects_sampling penicillin    # one of them
    python -m benchmarks.effects_sampling --draws 200   # fewer draws and tuning steps

Models are those of lme4's examples: ``penicillin`` (144 rows, 24 and 6 levels, crossed),
``crossed`` (3,000 rows, 200 and 60 levels, simulated), ``slopes`` (180 rows, intercepts and slopes
of 18 subjects, correlated) and ``insteval`` (73,421 rows, 2,972 and 1,128 levels, simulated, for
half an hour). Both sides have the same priors and the same sampler, nutpie with its defaults, one
chain, and are run in turn in one process; the effects of the peer are not centred.

Printed are the least bulk effective sample size of the standard deviations (and the correlation of
the slopes), the CPU seconds of sampling and of compilation with an empty cache, effective draws a
second without and with compilation, and the ratio of both with its bar.
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.__main__ import prepare_process

SEED = 20261127
DATA = Path(__file__).parent.parent / "examples" / "data"
CORRELATED = "correlation"


def penicillin():
    """Plates and samples, crossed."""
    import pandas as pd

    table = pd.read_csv(DATA / "penicillin.csv")
    groups = [pd.factorize(table[name])[0] for name in ("plate", "sample")]
    return table["diameter"].to_numpy(), groups, None


def crossed():
    """3,000 rows of 200 and 60 levels."""
    return _simulated(3000, (200, 60))


def insteval():
    """Of the size of lme4's InstEval."""
    return _simulated(73_421, (2972, 1128))


def _simulated(n, levels):
    import numpy as np

    rng = np.random.default_rng(SEED)
    groups = [rng.integers(count, size=n) for count in levels]
    y = 1 + rng.normal(size=n)
    for group, count, scale in zip(groups, levels, (0.3, 0.5), strict=True):
        y += scale * rng.normal(size=count)[group]
    return y, groups, None


def slopes():
    """Reaction times of the sleep study, 100 ms, by subject and day."""
    import pandas as pd

    table = pd.read_csv(DATA / "sleepstudy.csv")
    names = {name.lower(): name for name in table}
    y = table[names["reaction"]].to_numpy() / 100
    return y, [pd.factorize(table[names["subject"]])[0]], table[names["days"]].to_numpy(float)


def priors(groups, x):
    """Mean, slope or zero, standard deviations of the effects and the noise, in the model."""
    import pymc as pm

    mean, slope = pm.Normal("mean", 0, 20), 0 if x is None else pm.Normal("slope", 0, 2)
    scales = [pm.HalfNormal(f"sd_{i}", 3) for i in range(len(groups) if x is None else 2)]
    return mean, slope, scales, pm.HalfNormal("sd_noise", 3)


def integrated(y, groups, x):
    """Ours: one density."""
    import numpy as np
    import pymc as pm
    import pytensor.tensor as pt

    import pm_gaussgrad as gg

    with pm.Model() as model:
        mean, slope, scales, noise = priors(groups, x)
        if x is None:
            effects = [gg.cov.Effects(g, s**2) for g, s in zip(groups, scales, strict=True)]
        else:
            between = pm.Uniform(CORRELATED, -1, 1) * scales[0] * scales[1]
            matrix = pt.stack([scales[0] ** 2, between, between, scales[1] ** 2]).reshape((2, 2))
            effects = [gg.cov.Effects(groups[0], matrix, np.column_stack([np.ones(len(y)), x]))]
        cov = sum(effects[1:], effects[0]) + gg.cov.Diagonal(noise**2)
        gg.MvNormal("y", mean if x is None else mean + slope * x, cov, observed=y)
    return model


def sampled(y, groups, x):
    """The peer: effects that are not centred."""
    import pymc as pm
    import pytensor.tensor as pt

    with pm.Model() as model:
        mean, slope, scales, noise = priors(groups, x)
        mu = mean if x is None else mean + slope * x
        white = [
            pm.Normal(f"z_{i}", shape=int(groups[i if x is None else 0].max()) + 1)
            for i in range(len(scales))
        ]
        if x is None:
            for group, scale, z in zip(groups, scales, white, strict=True):
                mu = mu + (scale * z)[group]
        else:
            correlation, [group] = pm.Uniform(CORRELATED, -1, 1), groups
            turned = correlation * white[0] + pt.sqrt(1 - correlation**2) * white[1]
            mu = mu + (scales[0] * white[0])[group] + (scales[1] * turned)[group] * x
        pm.Normal("y", mu, noise, observed=y)
    return model


MODELS = {penicillin: 8, crossed: 8, slopes: 3, insteval: 1}


def measure(model, draws):
    """Least effective sample size, CPU seconds of compilation and of sampling."""
    import arviz as az
    import nutpie

    start = time.process_time()
    compiled = nutpie.compile_pymc_model(model)
    options = {"chains": 1, "cores": 1, "seed": SEED, "progress_bar": False}
    nutpie.sample(compiled, draws=1, tune=1, **options)  # some is compiled when it is called
    compilation, start = time.process_time() - start, time.process_time()
    trace = nutpie.sample(compiled, draws=draws, tune=draws, **options)
    sampling = time.process_time() - start
    names = [name for name in trace.posterior if name.startswith("sd_") or name == CORRELATED]
    effective = az.ess(trace, var_names=names, method="bulk")
    return min(float(effective[name]) for name in names), compilation, sampling


def report(build, bar, draws):
    """Print a line for each side, and the ratio."""
    import numpy as np

    rates = []
    print(f"{build.__name__}: {build.__doc__}")
    for side in (integrated, sampled):
        size, compilation, sampling = measure(side(*build()), draws)
        rates.append([size / sampling, size / (sampling + compilation)])
        print(
            f"  {side.__name__:10} ESS {size:5.0f}; sampling {sampling:6.1f} s, compilation "
            f"{compilation:5.1f} s; {rates[-1][0]:7.2f} a second, {rates[-1][1]:6.2f} with "
            "compilation",
            flush=True,
        )
    ratio = np.divide(*rates)
    print(f"  ratio {ratio[0]:.1f} ({bar}), with compilation {ratio[1]:.1f}", flush=True)


def main():
    """Print the table."""
    names = {build.__name__: build for build in MODELS}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.effects_sampling")
    parser.add_argument("models", nargs="*", choices=[*names, []], metavar="MODEL", help=f"{names}")
    parser.add_argument("--draws", type=int, default=500, help="as many tuning steps before them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gaussgrad_sampling_") as cache:
        prepare_process(cache)
        for name in options.models or [name for name in names if name != "insteval"]:
            report(names[name], MODELS[names[name]], options.draws)


if __name__ == "__main__":
    main()
