"""Set-up of the test session: one BLAS thread a worker, and seeds."""

import gc
import os

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numba
import numpy as np
import pytensor
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(20240917)


# Where a variable was made, which only messages of PyTensor tell, is a third of building a graph.
pytensor.config.traceback__limit = 0


@pytest.fixture(autouse=True)
def compilation(request, monkeypatch):
    """Compile for tests that ask for it: by a mark (or ``sampling``), or by the parameter numba.

    For the others graphs and kernels are interpreted, which is what takes no time where arrays are
    small. Each kernel is compiled by some test. ``KERNELS=compiled`` compiles the kernels of all.
    """
    marked = any(request.node.get_closest_marker(name) for name in ("compiled", "sampling"))
    call = getattr(request.node, "callspec", None)
    if marked or (call and any(isinstance(x, str) and x == "numba" for x in call.params.values())):
        yield
        return
    if os.environ.get("KERNELS") != "compiled":
        monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    with pytensor.config.change_flags(linker="py", cxx=""):
        yield


@pytest.fixture(autouse=True)
def jax_compilation(request):
    """JAX compiles most functions of the tests for one call: what they are is tested, not how fast.

    Samplers and reference cases run what XLA makes of them by default.
    """
    call = getattr(request.node, "callspec", None)
    if not (call and any(isinstance(x, str) and x == "jax" for x in call.params.values())):
        yield
        return
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def pytest_collection_finish():
    """Graphs are many small objects, and hardly a cycle in them is garbage before their test ends.

    By default Python looks for it so often that it takes a tenth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests of one module share compiled functions: one worker runs them (``--dist loadgroup``)."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    if "PYTEST_XDIST_WORKER" in os.environ:
        # What takes longest comes first, so that no worker waits for another in the end.
        items.sort(key=lambda item: item.get_closest_marker("sampling") is None)
