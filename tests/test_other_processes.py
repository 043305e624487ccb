"""Compiled functions in other processes: kernels come along, nothing runs in object mode."""

import multiprocessing
import subprocess
import sys

import cloudpickle
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pytensor.graph.basic import Constant

import pm_gaussgrad as gg
from pm_gaussgrad.ops.held import Held

pytestmark = pytest.mark.compiled

LARGE = np.linspace(0, 1, 10_000)
OBJECT_MODE = "error:Numba will use object mode:UserWarning"
# Nothing is imported that the pickle does not ask for.
EVALUATE = """
import pickle, sys, warnings
import numpy as np
with open(sys.argv[1], "rb") as file, warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    function = pickle.load(file)
    value, gradient = function(np.array([0.3, 0.6]))
assert not [w for w in caught if "object mode" in str(w.message)], caught
print(repr(np.asarray(value).item()), *map(repr, np.asarray(gradient).tolist()))
"""


def _function(mode):
    """Value and gradient: kernels, their pullbacks, blocks cut and joined, a large constant."""
    theta = pt.dvector("theta")
    cov = gg.cov.BlockDiagonal(
        gg.cov.AR1(theta[1], theta[0], size=2), gg.cov.Diagonal(theta[1], size=1)
    )
    value = gg.logp([0.3, -0.2, 1.0], 0.0, cov) + pt.exp(theta[0] * LARGE).mean()
    return pytensor.function([theta], [value, pt.grad(value, theta)], mode=mode)


def _numbers(function):
    value, gradient = function(np.array([0.3, 0.6]))
    return [np.asarray(value).item(), *np.asarray(gradient).tolist()]


@pytest.mark.parametrize("backend", ["NUMBA", "JAX"])
def test_unpickled_in_a_process_that_has_imported_nothing(backend, tmp_path):
    function = _function(backend)
    file = tmp_path / "function.pickle"
    file.write_bytes(cloudpickle.dumps(function))
    done = subprocess.run(
        [sys.executable, "-c", EVALUATE, str(file)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert_allclose(list(map(float, done.stdout.split())), _numbers(function), rtol=1e-12)


def _evaluate_pickled(pickled):
    return _numbers(cloudpickle.loads(pickled))


def test_large_constants_are_not_compiled_in():
    """numba would keep no function on disk that they are embedded in."""
    function = _function("NUMBA")
    nodes = function.maker.fgraph.toposort()
    assert any(isinstance(node.op, Held) for node in nodes)
    assert not any(
        isinstance(x, Constant) and x.data.size == LARGE.size for node in nodes for x in node.inputs
    )
    assert_allclose(_numbers(function), _numbers(_function("FAST_COMPILE")), rtol=1e-12)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_start_methods(method, monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", OBJECT_MODE)
    function = _function("NUMBA")
    with multiprocessing.get_context(method).Pool(1) as pool:
        numbers = pool.apply(_evaluate_pickled, [cloudpickle.dumps(function)])
    assert_allclose(numbers, _numbers(function), rtol=1e-12)


@pytest.mark.sampling
def test_chains_in_spawned_processes(monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", OBJECT_MODE)
    with pm.Model():
        sigma = pm.HalfNormal("sigma")
        gg.MvNormal("y", 0.0, sigma**2 * (np.eye(3) + 0.2), observed=[0.5, -0.2, 0.1])
        idata = pm.sample(
            draws=20,
            tune=20,
            chains=2,
            cores=2,
            mp_ctx="spawn",
            nuts_sampler="pymc",
            random_seed=1,
            progressbar=False,
            compute_convergence_checks=False,
        )
    assert np.isfinite(idata.posterior["sigma"]).all()


UNREWRITTEN = """
import pytensor, pytensor.tensor as pt, pm_gaussgrad as gg
from pytensor.compile.mode import Mode
v = pt.dscalar("v")
quad, logdet = gg.cov.Diagonal(v, size=2).quad_logdet([1.0, 2.0])
mode = Mode(linker="numba", optimizer=None)
print(pytensor.function([v], [quad, logdet], mode=mode)(2.0)[0])
"""


def test_rules_are_found_without_rewrites():
    """The linkers ask for what they need, whatever else a mode leaves out."""
    done = subprocess.run(
        [sys.executable, "-W", OBJECT_MODE, "-c", UNREWRITTEN], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == 2.5
