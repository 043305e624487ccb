"""Random linear models: what is integrated out has the density of the dense integral.

Twenty-five of them run with the suite. For others:

    RANDOM_MODELS=1000 RANDOM_START=100 pytest -n 4 tests/test_random_linear_models.py

A failing model is repeated by its seed, ``RANDOM_MODELS=1 RANDOM_START=7``.
"""

import os
import re

import numpy as np
import pytest
from dense_integrals import dense_integral, depends, is_normal, some_point
from random_linear_models import random_linear_model

import pm_gaussgrad as gg

START, COUNT = (
    int(os.environ.get(name, d)) for name, d in (("RANDOM_START", 0), ("RANDOM_MODELS", 25))
)


@pytest.mark.parametrize("seed", range(START, START + COUNT))
def test_model(seed):
    model = random_linear_model(seed)
    new = gg.marginalize(model)
    report = gg.marginalization_report(new)
    point = some_point(new, np.random.default_rng(seed))
    normal = {rv.name for rv in model.free_RVs} - set(report.not_normal)
    assert normal == {*report.integrated, *report.declined}
    rng = np.random.default_rng(seed)
    for name, reason in report.declined.items():
        if "does not enter" in reason:
            assert not depends(model, "y", name, point), report
        elif found := re.search("the prior of '(.*)', which stays", reason):
            assert depends(model, found[1], name, point), report
        else:
            assert not is_normal(model, [*report.integrated, name], point, rng), report
    if not report.integrated:
        return
    density = new.compile_fn(
        new.logp(vars=new.observed_RVs), inputs=new.value_vars, on_unused_input="ignore"
    )(point)
    expected, _, precision = dense_integral(model, report.integrated, point)
    scale = 1 + np.abs(expected) + np.linalg.cond(precision) * 1e-6
    assert abs(density - expected) <= 1e-9 * scale, report
