"""Every structure against its dense twin: values, gradients, draws, whitening, on every backend.

The twin is ``to_dense()`` factored and differentiated symbolically by PyTensor.
"""

import functools
import itertools

import numba
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pytensor.graph.traversal import ancestors
from registry import (
    AS_WRITTEN,
    BACKENDS,
    CASES,
    LEAVES,
    REPRESENTATIVES,
    each,
    interpreted,
    is_index,
)

import pm_gaussgrad as gg
from pm_gaussgrad.ops import InvQuadLogdet, InvQuadLogdetPullback

# Composites are graphs of leaves' primitives and have no kernels to test.
CASE, LEAF = each(CASES), each(LEAVES)
ON_EACH_BACKEND = each(CASES, BACKENDS)
# (n, rows): general, one observation of one row, no rows; one row, one observation, many rows.
# JAX compiles anew for each; tests of one structure on JAX share the first.
SIZES = {"jax": [(5, 3), (1, 1), (4, 0)]}
SIZES["py"] = SIZES["numba"] = [*SIZES["jax"], (5, 1), (1, 2), (2, 9)]


def _objective(quad, logdet, solved, weights, z):
    """A scalar in which all three outputs matter, unequally; the last alone without weights."""
    return (weights * (quad + 0.3 * logdet)).sum() + (z * solved).sum()


def _primitive_outputs(case, residual, z, weights, parameters):
    """What comes from the custom Op."""
    cov = case.build(residual.shape[-1], *parameters)
    quad, logdet = cov.quad_logdet(residual)
    solved = cov.solve(residual)
    wrt = [residual, *case.differentiable(parameters)]
    gradient = pt.grad(_objective(quad, logdet, solved, weights, z), wrt)
    return {
        "quad": quad,
        "logdet": logdet,
        "logdet alone": cov.logdet(),
        "logp": cov.logp(residual),
        "solve": solved,
        **{f"gradient {i}": g for i, g in enumerate(gradient)},
    }


def _graph_outputs(case, residual, z, weights, parameters):
    """What is written in PyTensor's own Ops."""
    cov = case.build(residual.shape[-1], *parameters)
    return {
        "diagonal": cov.diagonal(),
        "inverse diagonal": cov.inverse_diagonal(),
        "color": cov.color(z),
        "whitened norm": (cov.whiten(residual) ** 2).sum(axis=-1),
        "whitened colored": cov.whiten(cov.color(z)),
    }


def _outputs(*arguments):
    return _primitive_outputs(*arguments) | _graph_outputs(*arguments)


def _own_outputs(*arguments):
    """All but what PyTensor's Ops do alone, which on numba take longest to compile."""
    graphs = {
        name: x
        for name, x in _graph_outputs(*arguments).items()
        if any(_is_own(a.owner.op) for a in ancestors([x]) if a.owner)
    }
    return _primitive_outputs(*arguments) | graphs


def _is_own(op):
    return type(getattr(op, "core_op", op)).__module__.startswith(gg.__name__)


def _outputs_on(backend):
    return _own_outputs if backend == "numba" else _outputs


def _twin_outputs(case, residual, z, weights, parameters):
    dense = case.build(residual.shape[-1], *parameters).to_dense()
    factor = pt.linalg.cholesky((dense + dense.mT) / 2)
    inverse = pt.linalg.inv(dense)
    solved = residual @ inverse
    quad = (solved * residual).sum(axis=-1)
    logdet = 2 * pt.log(pt.diagonal(factor)).sum()
    wrt = [residual, *case.differentiable(parameters)]
    gradient = pt.grad(_objective(quad, logdet, solved, weights, z), wrt)
    return {
        "dense": dense,
        "quad": quad,
        "logdet": logdet,
        "logdet alone": logdet,
        "logp": -0.5 * (quad + logdet + residual.shape[-1] * np.log(2 * np.pi)),
        "solve": solved,
        "diagonal": pt.diagonal(dense),
        "inverse diagonal": pt.diagonal(inverse),
        "whitened norm": quad,
        **{f"gradient {i}": g for i, g in enumerate(gradient)},
    }


@functools.cache
def _compiled(outputs_of, case, backend, batch_ndim=0, dtype="float64"):
    """One function an output set, structure, backend and rank; sizes are free."""
    residual, z, weights = (
        pt.tensor(name, shape=(None,) * (ndim + batch_ndim), dtype=dtype)
        for name, ndim in (("residual", 2), ("z", 2), ("weights", 1))
    )
    parameters = case.tensors(batch_ndim, dtype)
    outputs = outputs_of(case, residual, z, weights, parameters)
    function = pytensor.function(
        [residual, z, weights, *parameters],
        list(outputs.values()),
        mode=AS_WRITTEN if backend is None else BACKENDS[backend],
        on_unused_input="ignore",
    )
    return lambda *arguments: dict(zip(outputs, map(np.asarray, function(*arguments)), strict=True))


def _twin(case, *arguments):
    return _compiled(_twin_outputs, case, None)(*arguments)


def _arguments(case, rng, n, lead, batch=(), dtype="float64"):
    shape = (*lead, *batch)
    return [
        rng.normal(size=(*shape, n)).astype(dtype),
        rng.normal(size=(*shape, n)).astype(dtype),
        rng.uniform(0.5, 1.5, size=shape).astype(dtype),
        *case.values(rng, n, batch, dtype),
    ]


def _in_parameter_space(case, name, value):
    """The twin differentiates entry by entry where structures see one symmetric matrix."""
    if name.startswith("gradient") and name != "gradient 0":
        return case.project(int(name.removeprefix("gradient ")) - 1, value)
    return value


def _compare(case, got, expected, rtol):
    for name, value in expected.items():
        if name in got:
            # A gradient that vanishes identically comes with rounding errors from the twin.
            scale = np.abs(value).max(initial=1e-6)
            assert_allclose(
                got[name], _in_parameter_space(case, name, value), rtol, rtol * scale, err_msg=name
            )


@ON_EACH_BACKEND
def test_against_dense_twin(case, backend, rng):
    for n, m in SIZES[backend]:
        arguments = _arguments(case, rng, n, (m,))
        got = _compiled(_outputs_on(backend), case, backend)(*arguments)
        _compare(case, got, _twin(case, *arguments), 1e-10)
        if "whitened colored" in got:
            assert_allclose(got["whitened colored"], arguments[1], rtol=1e-10, atol=1e-10)


@pytest.mark.compiled
@CASE
def test_numba_knows_every_op(case):
    """None falls back to Python, of which PyTensor would warn."""
    _compiled(_outputs, case, "numba")


@ON_EACH_BACKEND
def test_gradient_through_solve_at_any_scale(case, backend, rng):
    """Residual and cotangent as unequal as 1e12: the gradient of their product stays as it is."""
    residual, z, weights, *parameters = _arguments(case, rng, 5, (3,))
    weights = np.zeros_like(weights)
    of = _compiled(_outputs_on(backend), case, backend)
    expected = of(residual, z, weights, *parameters)
    for scale in (1e-12, 1e-4, 1e8, 1e12):
        got = of(residual * scale, z / scale, weights, *parameters)
        for i in range(1, 1 + len(case.differentiable(parameters))):
            name = f"gradient {i}"
            bound = 1e-12 * np.abs(expected[name]).max(initial=0)
            assert_allclose(got[name], expected[name], rtol=1e-12, atol=bound, err_msg=name)


def _needs_no_batches(case, backend):
    """Loops over batches are PyTensor's; on numba they take long to compile: of one structure.

    JAX needs the lengths of batches known: with gaps, rows that differ in test_missing.py.
    """
    other = case.name != "AR1"
    gaps = case.name in {"Marginal", "SparseMarginal"}
    return (backend == "numba" and other) or (backend == "jax" and gaps)


@each(CASES, BACKENDS, unless=_needs_no_batches)
def test_batches_of_parameters(case, backend, rng):
    """Parameters (4, ...) against residuals (3, 4, n): the 3 are rows of each of the 4."""
    arguments = _arguments(case, rng, 3, lead=(3,), batch=(4,))
    got = _compiled(_primitive_outputs, case, backend, 1)(*arguments)
    # Elsewhere slow to compile, and the same PyTensor Ops as without batches.
    if backend == "py" or (backend == "jax" and case.name in REPRESENTATIVES):
        got |= _compiled(_graph_outputs, case, backend, 1)(*arguments)
    for b in range(4):
        of_batch = {name: _of_batch(name, value, b) for name, value in got.items()}
        of_parameters = [p if is_index(p) else p[b] for p in arguments[3:]]
        single = [*(x[:, b] for x in arguments[:3]), *of_parameters]
        _compare(case, of_batch, _twin(case, *single), 1e-10)


def _of_batch(name, value, b):
    per_batch = name in ("logdet", "logdet alone", "diagonal", "inverse diagonal")
    of_parameter = name.startswith("gradient") and name != "gradient 0"
    return value[b] if per_batch or of_parameter else value[:, b]


@CASE
def test_one_row_for_each_of_a_batch(case, rng):
    """Rows without dimensions of their own: parameters (3, ...) against (3, n)."""
    n = 4
    rows, values = rng.normal(size=(3, n)), case.values(rng, n, (3,))
    cov = case.build(n, *map(pt.constant, values))
    outputs = [cov.to_dense(), cov.whiten(cov.color(rows)), cov.whiten(rows), cov.solve(rows)]
    dense, again, white, solved = interpreted([], outputs, AS_WRITTEN)()
    expected = np.linalg.solve(dense, rows[..., None])[..., 0]
    assert_allclose(solved, expected, rtol=1e-10, atol=1e-12)
    assert_allclose(again, rows, rtol=1e-10, atol=1e-12)
    assert_allclose((white**2).sum(axis=-1), (rows * expected).sum(axis=-1), rtol=1e-10)


@each(CASES, ["py", "jax"])  # numba's agree with the whitening in the twin
def test_color_has_the_covariance(case, backend, rng):
    """The rows of color(I) are the columns of S; S S' must be Sigma, to rounding."""
    n, m = SIZES[backend][0]
    arguments = _arguments(case, rng, n, (m,))
    columns = []
    for rows in np.split(np.eye(2 * m, n), 2):  # the last are zeros
        arguments[1] = rows
        columns.append(_compiled(_outputs, case, backend)(*arguments)["color"])
    columns = np.concatenate(columns)
    dense = _twin(case, *arguments)["dense"]
    assert_allclose(columns.T @ columns, dense, rtol=1e-10, atol=1e-10)


@each(CASES, ["py", "jax"])  # numba's linker runs the same kernels
def test_float32(case, backend, rng):
    arguments = _arguments(case, rng, 4, (3,), dtype="float32")
    outputs = _outputs if backend == "py" else _primitive_outputs  # of which JAX's dtype is ours
    got = _compiled(outputs, case, backend, 0, "float32")(*arguments)
    if backend != "jax":  # PyTensor's JAX form of powers and sums widens on its own
        assert {name for name, value in got.items() if value.dtype != "float32"} == set()
    assert {got[name].dtype.name for name in ("quad", "logdet", "solve")} == {"float32"}
    expected = _twin(case, *(x if is_index(x) else x.astype("float64") for x in arguments))
    _compare(case, got, expected, 2e-4)


@pytest.mark.compiled
@LEAF
def test_compiled_in_any_memory_layout(case, rng, monkeypatch):
    """Compiled kernels give the numbers of interpreted ones, which the twin has tested.

    Also in Fortran order, reversed and strided.
    """
    structure = case.build(2, *case.tensors()).structure
    residual, _, weights, *parameters = _arguments(case, rng, 5, (3,))

    def results(*inputs):
        outputs = InvQuadLogdet(structure).evaluate(*inputs)
        return *outputs[:3], *_pull_trimmed(structure, inputs, outputs, weights)

    with monkeypatch.context() as patch:
        patch.setattr(numba.config, "DISABLE_JIT", True)
        expected = results(residual, *parameters)
    for view in (np.asarray, _fortran, _strided, _reversed):
        got = results(*map(view, (residual, *parameters)))
        for a, b in zip(got, expected, strict=True):
            assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def _pull_trimmed(structure, inputs, outputs, weights):
    """As compiled graphs call it: without what the kernel does not read."""
    whole = InvQuadLogdetPullback(structure)
    arrays = *inputs, *outputs[2:], weights, np.array(0.7)
    given = dict(zip((name for name, _ in whole.signature.inputs), arrays, strict=True))
    trimmed = InvQuadLogdetPullback(structure, trimmed=True)
    return trimmed.evaluate(*(given[name] for name, _ in trimmed.signature.inputs))


def _fortran(x):
    return x if x.ndim == 0 else np.asfortranarray(x)


def _strided(x):
    return x if x.ndim == 0 else np.repeat(x, 2, axis=-1)[..., ::2]


def _reversed(x):
    return x if x.ndim == 0 else x[::-1].copy()[::-1]


@pytest.mark.compiled
@LEAF
@pytest.mark.parametrize("m", [1, 3])
def test_outputs_are_arrays_of_their_own(case, m, rng):
    """Compiled graphs overwrite what they no longer need: no output may be another, or an input."""
    structure = case.build(2, *case.tensors()).structure
    residual, _, weights, *parameters = _arguments(case, rng, 5, (m,))
    inputs = [residual, *parameters]
    outputs = InvQuadLogdet(structure).evaluate(*inputs)
    bars = _pull_trimmed(structure, inputs, outputs, weights)
    arrays = [*inputs, *outputs, weights, *bars]
    for a, b in itertools.combinations(arrays, 2):
        assert not np.shares_memory(a, b)


@LEAF
@pytest.mark.parametrize("logdet_bar", [0.0, 1.0, -0.5])
def test_pullback_is_linear_in_its_cotangents(case, logdet_bar, rng):
    """What is skipped where a cotangent vanishes is skipped for no other number."""
    structure = case.build(2, *case.tensors()).structure
    residual, _, weights, *parameters = _arguments(case, rng, 5, (3,))
    outputs = InvQuadLogdet(structure).evaluate(residual, *parameters)

    def bars(factor):
        cotangents = factor * weights, np.array(factor * logdet_bar)
        pull = InvQuadLogdetPullback(structure)
        return pull.evaluate(residual, *parameters, *outputs[2:], *cotangents)

    for bar, of_multiple in zip(bars(1.0), bars(0.7), strict=True):
        assert_allclose(of_multiple, 0.7 * bar, rtol=1e-12, atol=1e-13)


@LEAF
@pytest.mark.parametrize("residual_scale", [1e160, 1e300])
def test_a_row_that_overflows_leaves_the_others_alone(case, residual_scale, rng):
    """Neither in the value nor in the gradient, where its log density of -inf has no weight."""
    structure = case.build(2, *case.tensors()).structure
    forward, pullback = InvQuadLogdet(structure), InvQuadLogdetPullback(structure)
    rows, _, weights, *parameters = _arguments(case, rng, 5, (3,))
    overflowing = rows.copy()
    overflowing[0, 2] = residual_scale
    weights[0] = 0

    def results(rows, weights):
        outputs = forward.evaluate(rows, *parameters)
        bars = pullback.evaluate(rows, *parameters, *outputs[2:], weights, np.array(0.7))
        return outputs[0][-2:], outputs[1], outputs[2][-2:], *bars

    got, expected = results(overflowing, weights), results(rows[1:], weights[1:])
    for a, b in zip(got, expected, strict=True):
        assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.compiled
@ON_EACH_BACKEND
def test_inputs_are_left_alone(case, backend, rng):
    """Kernels may overwrite intermediate results, never what the user passed."""
    n, m = SIZES[backend][0]
    arguments = _arguments(case, rng, n, (m if backend == "jax" else 1,))
    before = [x.copy() for x in arguments]
    _compiled(_outputs_on(backend), case, backend)(*arguments)
    for x, original in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(x, original)


@CASE
def test_scalar_multiple(case, rng):
    n = 3
    [*parameters] = case.values(rng, n)
    cov = case.build(n, *map(pt.constant, parameters))
    for scaled in (
        2.5 * cov,
        cov * np.float64(2.5),
        pt.constant(2.5) * cov,
        cov * pt.constant(2.5),
    ):
        assert type(scaled) is type(cov)
        assert_allclose(_interpret(scaled), 2.5 * _interpret(cov), rtol=1e-12)


def _interpret(cov):
    return cov.to_dense().eval(mode=AS_WRITTEN)


@CASE
def test_flatten_and_rebuild(case, rng):
    import cloudpickle

    n = 3
    cov = case.build(n, *map(pt.constant, case.values(rng, n)))
    for rebuilt in (
        cov.structure.from_parameters(*cov.parameters, size=cov.size),
        cloudpickle.loads(cloudpickle.dumps(cov)),
    ):
        assert type(rebuilt) is type(cov)
        assert rebuilt.size == cov.size == n
        assert_allclose(_interpret(rebuilt), _interpret(cov))


@CASE
def test_repr_names_the_structure(case, rng):
    cov = case.build(3, *map(pt.constant, case.values(rng, 3)))
    assert repr(cov).startswith(f"{cov.label}(")
