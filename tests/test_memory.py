"""100,000 evaluations leave no memory behind."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest

import pm_gaussgrad as gg

pytestmark = pytest.mark.compiled


def _resident_kilobytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4


@pytest.mark.skipif(
    not __import__("os").path.exists("/proc/self/statm"), reason="needs the /proc file system"
)
def test_no_leak():
    """n = 20: one lost matrix an evaluation would be 320 MB."""
    x = np.linspace(0, 1, 20)
    with pm.Model() as model:
        length = pm.HalfNormal("length")
        kernel = pt.exp(-0.5 * (x[:, None] - x) ** 2 / length**2) + 0.1 * np.eye(20)
        gg.MvNormal("dense", 0.0, kernel, observed=np.sin(x))
        gg.MvNormal("chol", 0.0, chol=length * np.eye(20), observed=np.sin(x))
        gg.MvNormal("tau", 0.0, tau=kernel, observed=np.sin(x))
        gg.MvNormal("diagonal", 0.0, gg.cov.Diagonal(length), observed=np.sin(x))
    function = model.logp_dlogp_function(ravel_inputs=True)
    point, bad = np.array([-0.5]), np.array([np.nan])

    def evaluate(times):
        for _ in range(times):
            function(point)
            function(bad)

    evaluate(1000)
    before = _resident_kilobytes()
    evaluate(50_000)
    assert _resident_kilobytes() - before < 20_000
