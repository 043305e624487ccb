"""The primitive itself: shapes, errors, witnesses of its gradient, second derivatives, caching."""

import os
import subprocess
import sys

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pytensor.compile.mode import Mode
from pytensor.gradient import DisconnectedType
from registry import (
    AS_WRITTEN,
    BACKENDS,
    CASES,
    INTERPRETED,
    LEAVES,
    each,
    interpreted,
    positive_definite,
)

import pm_gaussgrad as gg
from pm_gaussgrad.kernels.symmetric import rows_dot
from pm_gaussgrad.ops import InvQuadLogdet, InvQuadLogdetPullback
from pm_gaussgrad.ops.reach import fingerprint, reachable_functions

CASE, LEAF = each(CASES), each(LEAVES)
# numba's linker runs the machine code that Python calls; test_memory.py rejects points in it.
BACKEND = pytest.mark.parametrize("backend", ["py", "jax"])


def _node(case, m=None, n=None):
    """The primitive applied to a residual and to the parameters of a structure."""
    residual, tensors = pt.tensor("r", shape=(m, n)), case.tensors(n=n)
    cov = case.build(n or residual.shape[-1], *tensors)
    return [residual, *tensors], InvQuadLogdet(cov.structure).make_node(residual, *cov.parameters)


@LEAF
def test_static_shapes_follow_the_declaration(case):
    _, node = _node(case, 4, 3)
    assert [x.type.shape for x in node.outputs[:3]] == [(4,), (), (4, 3)]
    quad, logdet, _, *saved = node.outputs
    bars = node.op.pullback(
        node.inputs, node.outputs, [quad, logdet, *[DisconnectedType()()] * (1 + len(saved))]
    )
    connections = [True, *node.op.differentiable]
    for bar, x, connected in zip(bars, node.inputs, connections, strict=True):
        assert isinstance(bar.type, DisconnectedType) != connected
        assert not connected or bar.type.shape == x.type.shape


@pytest.mark.parametrize("batch", [(), (2,)])
def test_size_is_the_length_of_the_axis_named_n(batch):
    class Loadings(gg.cov.Covariance):
        parameter_shapes = {"loadings": "k n"}

    assert Loadings.from_parameters(np.zeros((*batch, 3, 5))).size == 5


@LEAF
def test_infer_shape_does_not_compute(case):
    """Shapes of all outputs come from the inputs: the Op itself is not in the graph."""
    inputs, node = _node(case)
    function = interpreted(inputs, [x.shape for x in node.outputs], on_unused_input="ignore")
    assert not any(isinstance(a.op, InvQuadLogdet) for a in function.maker.fgraph.apply_nodes)
    values = case.values(np.random.default_rng(0), 3)
    shapes = [tuple(s) for s in function(np.zeros((4, 3)), *values)]
    assert shapes[:3] == [(4,), (), (4, 3)]


@LEAF
def test_rank_and_static_size_errors(case):
    _, node = _node(case, 4, 3)
    residual, *parameters = node.inputs
    with pytest.raises(TypeError, match=r"`residual` has 1 dimension.*expected 2"):
        node.op.make_node(residual[0], *parameters)
    if case.sized:
        with pytest.raises(ValueError, match="expected n = 5"):
            node.op.make_node(pt.tensor("r", shape=(4, 5)), *parameters)


@each([case for case in LEAVES if case.sized])
@BACKEND
def test_sizes_that_disagree_at_run_time(case, backend):
    """An error that names the argument, and no access out of bounds."""
    inputs, node = _node(case)
    function = pytensor.function(inputs, node.outputs[:2], mode=BACKENDS[backend])
    with pytest.raises(ValueError, match=r"disagree in n|expected n = 3"):
        function(np.zeros((2, 3)), *case.values(np.random.default_rng(0), 4))


@CASE
def test_pullback_by_dot_products(case, rng):
    """<gradient, direction> against 4th-order differences of the value along the direction."""
    n, m = 4, 3
    inputs = [pt.matrix("r"), *case.tensors()]
    cov = case.build(inputs[0].shape[-1], *inputs[1:])
    quad, logdet = cov.quad_logdet(inputs[0])
    value = (quad * np.array([0.3, -0.2, 0.7])).sum() - 0.6 * logdet
    wrt = [inputs[0], *case.differentiable(inputs[1:])]
    function = interpreted(inputs, [value, *pt.grad(value, wrt)])
    point = [rng.normal(size=(m, n)), *case.values(rng, n)]
    sizes = [np.shape(v) for x, v in zip(inputs, point, strict=True) if x in wrt]
    free = [rng.normal(size=size) for size in sizes]
    free[1:] = [case.project(i, d) for i, d in enumerate(free[1:])]
    remaining = iter(free)
    direction = [next(remaining) if x in wrt else None for x in inputs]
    gradient = function(*point)[1:]
    slope = sum((g * d).sum() for g, d in zip(gradient, free, strict=True))
    h = 1e-3
    values = [
        function(
            *(x if d is None else x + k * h * d for x, d in zip(point, direction, strict=True))
        )[0]
        for k in (-2, -1, 1, 2)
    ]
    assert_allclose(slope, np.dot(values, [1, -8, 8, -1]) / (12 * h), rtol=1e-8)


@CASE
def test_second_derivatives(case, rng):
    """Hessian of the log density, through the pullback's own pullback, against the twin's."""
    n = 3
    residual = pt.vector("r")
    parameters = case.tensors()
    scale = pt.dscalar("scale")
    differentiable = case.differentiable(parameters)
    scaled = [scale * p if p in differentiable else p for p in parameters]
    cov = case.build(residual.shape[-1], *scaled)
    dense = case.build(residual.shape[-1], *scaled).to_dense()
    inverse = pt.linalg.inv(dense)
    twin = -0.5 * (
        residual @ inverse @ residual
        + 2 * pt.log(pt.diagonal(pt.linalg.cholesky(dense))).sum()
        + n * np.log(2 * np.pi)
    )
    value = cov.logp(residual)
    outputs = []
    for f in (value, twin):
        first = pt.grad(f, [scale, residual])
        outputs += [pt.grad(first[0], scale), *pt.grad(first[1].sum(), [scale, residual])]
    function = interpreted([residual, scale, *parameters], outputs, mode=AS_WRITTEN)
    results = function(rng.normal(size=n), 1.3, *case.values(rng, n))
    for got, expected in zip(results[:3], results[3:], strict=True):
        assert_allclose(got, expected, rtol=1e-9, atol=1e-10)


@CASE
@BACKEND
def test_rejected_points_have_zero_gradient(case, backend):
    """A covariance that is not positive definite: logp -inf, and a gradient without NaN."""
    residual, parameters = pt.vector("r"), case.tensors()
    value = case.build(residual.shape[-1], *parameters).logp(residual)
    gradient = pt.grad(value, [residual, *case.differentiable(parameters)])
    function = pytensor.function(
        [residual, *parameters], [value, *gradient], mode=BACKENDS[backend]
    )
    for fill in (None, np.nan, np.inf):
        logp, *gradient = function(np.array([0.3, -0.2]), *case.no_covariance(fill))
        assert logp == -np.inf
        for g in gradient:
            np.testing.assert_array_equal(g, np.zeros_like(g))


@pytest.mark.compiled
@each(CASES[:1])
def test_c_linker(case, rng):
    """PyTensor's own Ops compiled in C, ours called by them."""
    residual, parameters = pt.vector("r"), case.tensors()
    value = case.build(residual.shape[-1], *parameters).logp(residual)
    outputs = [value, *pt.grad(value, [residual, *parameters])]
    inputs = [residual, *parameters]
    numbers = [rng.normal(size=4), *case.values(rng, 4)]
    in_c = pytensor.function(inputs, outputs, mode=Mode(linker="cvm", optimizer="fast_run"))
    for got, expected in zip(in_c(*numbers), interpreted(inputs, outputs)(*numbers), strict=True):
        assert_allclose(got, expected, rtol=1e-12)


def test_saved_factors_have_no_gradient():
    _, node = _node(CASES[0])
    with pytest.raises(NotImplementedError, match="saved factors have no gradient"):
        pt.grad(node.outputs[3].sum(), node.inputs[1])


def test_asymmetric_matrix_lower_triangle_is_read_and_has_the_gradient(rng):
    """Value and gradient are those of one function, whatever stands above the diagonal."""
    matrix, y = pt.matrix("S"), rng.normal(size=4)
    value = gg.logp(y, 0.0, gg.cov.Dense(matrix))
    function = interpreted([matrix], [value, pt.grad(value, matrix)])
    symmetric = positive_definite(rng, 4)
    garbage = np.tril(symmetric) + np.triu(rng.normal(size=(4, 4)), 1)
    (same, gradient), (expected, whole) = function(garbage), function(symmetric)
    assert_allclose(same, expected, rtol=1e-14)
    assert_allclose(whole, whole.T, rtol=1e-14)
    assert_allclose(gradient, np.tril(whole) + np.tril(whole, -1), rtol=1e-14)
    h, step = 1e-4, np.zeros((4, 4))
    step[2, 0] = h
    difference = function(garbage + step)[0] - function(garbage - step)[0]
    assert_allclose(gradient[2, 0], difference / (2 * h), rtol=1e-6)


@pytest.mark.parametrize("structure", [gg.cov.Dense, gg.cov.Precision])
def test_gradients_work_in_place_but_values_are_kept(structure, rng):
    """The compiled gradient overwrites its own intermediates, and only those."""
    matrix, r = pt.matrix("S"), rng.normal(size=5)
    scaled = 2 * matrix
    value = structure(scaled).logp(r)
    gradient = pt.grad(value, matrix)
    reused = interpreted([matrix], [value, gradient, scaled])
    alone = interpreted([matrix], [value, gradient])
    ops = {
        type(node.op): node.op.inplace
        for node in alone.maker.fgraph.apply_nodes
        if isinstance(node.op, InvQuadLogdet | InvQuadLogdetPullback)
    }
    assert ops == {InvQuadLogdet: ("factor",), InvQuadLogdetPullback: ("matrix_bar",)}
    symmetric = positive_definite(rng, 5)
    for _ in range(2):
        *first, kept = reused(symmetric)
        assert_allclose(kept, 2 * symmetric)
        for got, expected in zip(alone(symmetric), first, strict=True):
            assert_allclose(got, expected, rtol=1e-13)


@pytest.mark.parametrize("m", [2, 130])
@pytest.mark.parametrize("backend", ["py", "jax"])
@pytest.mark.parametrize("structure", [gg.cov.Dense, gg.cov.Cholesky, gg.cov.Precision])
def test_many_rows_of_few_entries(structure, backend, m, rng):
    """Kernels that write over the residuals, against rows whose length is not known."""
    y, matrix, location = rng.normal(size=(m, 3)), positive_definite(rng, 3), rng.normal(size=3)
    matrix = np.linalg.cholesky(matrix) if structure is gg.cov.Cholesky else matrix
    weights = np.arange(m) - 1.0

    def value_and_gradient(n, mode):
        shift, parameter = pt.vector("shift", shape=(n,)), pt.matrix("matrix", shape=(n, n))
        mean = pt.tanh(np.linspace(-1, 1, m)[:, None] * shift)
        value = (weights * gg.logp(y, mean, structure(parameter))).sum()
        function = interpreted(
            [shift, parameter], [value, *pt.grad(value, [shift, parameter])], mode=mode
        )
        return function, function(location, matrix)

    function, found = value_and_gradient(3, INTERPRETED if backend == "py" else "JAX")
    _, expected = value_and_gradient(None, INTERPRETED)
    for got, other in zip(found, expected, strict=True):
        assert_allclose(got, other, rtol=1e-12, atol=1e-12)
    if backend == "py" and structure is not gg.cov.Precision:
        nodes = function.maker.fgraph.apply_nodes
        [inplace] = (x.op.inplace for x in nodes if isinstance(x.op, InvQuadLogdet))
        assert inplace[0] == "alpha"


def test_factored_once_and_inverted_only_for_gradients():
    matrix = pt.matrix("S")
    value = gg.cov.Dense(matrix).logp(np.ones(3))

    def ops(outputs):
        nodes = interpreted([matrix], outputs).maker.fgraph.apply_nodes
        return sorted(
            type(n.op).__name__
            for n in nodes
            if isinstance(n.op, InvQuadLogdet | InvQuadLogdetPullback)
        )

    both = ["InvQuadLogdet", "InvQuadLogdetPullback"]
    assert ops([value]) == ["InvQuadLogdet"]
    assert ops([value, pt.grad(value, matrix)]) == both
    # and so through the whole log density, with or without the rewrites of PyMC models
    value = gg.logp(np.ones((2, 3)), matrix[0], matrix).sum()
    assert ops([value, pt.grad(value, matrix)]) == both


@pytest.mark.compiled
def test_read_only_inputs_take_the_same_kernel(rng):
    """Constants may become read-only at any time; numba would compile once more, and round anew."""
    op = InvQuadLogdet(gg.cov.AR1)
    inputs = [rng.normal(size=(2, 7)), np.array(1.3), np.array(0.6)]
    expected = op.evaluate(*inputs)
    kernel = op.compiled().function
    before = len(kernel.signatures)
    symbolic = [pt.as_tensor(x).type() for x in inputs]
    graph = pytensor.function(symbolic, op.make_node(*symbolic).outputs, mode="NUMBA")
    for writeable in (False, True):
        for x in inputs:
            x.flags.writeable = writeable
        for function in (op.evaluate, graph):
            for got, same in zip(function(*inputs), expected, strict=True):
                np.testing.assert_array_equal(got, same)
    assert len(kernel.signatures) == before


@pytest.mark.compiled
def test_any_layout_takes_the_same_kernel(rng):
    """Slices and transposes are copied to the one layout that a kernel is compiled for."""
    op = InvQuadLogdet(gg.cov.Dense)
    matrix, residual = positive_definite(rng, 5), rng.normal(size=(6, 5))
    expected = op.evaluate(residual[::2], matrix)[:3]
    before = len(op.compiled().function.signatures)
    x, y = pt.dmatrices("x", "y")
    outputs = op.make_node(x[::2], y.T).outputs[:3]
    graph = pytensor.function([x, y], outputs, mode="NUMBA")
    for got in (op.evaluate(residual[::2], np.asfortranarray(matrix)), graph(residual, matrix)):
        for ours, same in zip(got[:3], expected, strict=True):
            np.testing.assert_array_equal(ours, same)
    assert len(op.compiled().function.signatures) == before


@pytest.mark.compiled
def test_errors_pass_through_compiled_code(rng):
    x, y = pt.dmatrices("x", "y")
    graph = pytensor.function(
        [x, y], InvQuadLogdet(gg.cov.Dense).make_node(x, y).outputs, mode="NUMBA"
    )
    with pytest.raises(ValueError, match="disagree in n"):
        graph(rng.normal(size=(2, 4)), np.eye(5))


COEFFICIENTS = np.array([1.0, 2.0])


def _kernel(residual):
    return _helper(residual) + COEFFICIENTS[0]


def _helper(residual, scale=2.0):
    return residual * scale


def _other_body(residual, scale=2.0):
    return residual + scale


def _other_default(residual, scale=3.0):
    return residual * scale


_other_body.__qualname__ = _other_default.__qualname__ = _helper.__qualname__


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("_helper", _other_body),
        ("_helper", _other_default),
        ("COEFFICIENTS", np.array([1.0, 3.0])),
        ("COEFFICIENTS", np.array([1.0, 2.0], dtype="float32")),
    ],
    ids=["body of a callee", "default of a callee", "array", "dtype"],
)
def test_fingerprint_covers_all_that_numba_compiles_in(name, changed, monkeypatch):
    """The disk cache must not return the numbers of an older kernel."""
    before = fingerprint(_kernel)
    assert _helper in reachable_functions(_kernel)
    monkeypatch.setitem(globals(), name, changed)
    assert fingerprint(_kernel) != before


def test_fingerprint_reaches_kernels_and_lapack():
    reached = reachable_functions(gg.cov.Dense.forward)
    assert rows_dot in reached
    assert "cholesky" in {f.__name__ for f in reached}


def test_trimmed_pullback_keeps_what_either_backend_reads():
    class Reading(gg.cov.Diagonal):
        parameter_shapes = {"variance": "n"}
        pullback_jax = staticmethod(lambda residual, quad_bar, logdet_bar: ())

    op = InvQuadLogdetPullback(Reading, trimmed=True)
    names = [name for name, _ in op.signature.inputs]
    assert names == ["residual", "variance", "alpha", "quad_bar", "logdet_bar"]


def _in_new_process(code, **environment):
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    return result.stdout.split()


def test_fingerprint_is_the_same_in_every_process():
    code = (
        "import pm_gaussgrad as gg\n"
        "from pm_gaussgrad.ops.compiled import _compiled, fingerprint\n"
        "print(fingerprint(gg.cov.Dense.forward), fingerprint(_compiled.__wrapped__))"
    )
    first, second = (_in_new_process(code, PYTHONHASHSEED=seed) for seed in ("1", "2"))
    assert first == second


@pytest.mark.parametrize("package", ["pymc", "pm_gaussgrad"])
def test_importing_loads_no_backend(package):
    """numba and jax are imported when a graph is compiled for them, not before."""
    code = f"import sys, {package}; print('numba' in sys.modules, 'jax' in sys.modules)"
    assert _in_new_process(code) == ["False", "False"]
