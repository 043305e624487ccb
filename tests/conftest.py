"""Set-up of the test session: one BLAS thread a worker, and seeds."""

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


@pytest.fixture
def uncompiled(request, monkeypatch):
    """Nothing is compiled by a test whose ``backend`` is not numba, not even kernels.

    Each kernel is compiled by other tests. ``KERNELS=compiled`` compiles them in all tests.
    """
    call = getattr(request.node, "callspec", None)
    if call and call.params.get("backend") == "numba":
        yield
        return
    if os.environ.get("KERNELS") != "compiled":
        monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    with pytensor.config.change_flags(linker="py"):
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests of one module share compiled functions: one worker runs them (``--dist loadgroup``)."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
