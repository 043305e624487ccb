"""Small Ops: selections and products of matrices, sums of entries; numbers in graphs for numba."""

import itertools

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_array_equal
from pytensor.compile.mode import Mode
from pytensor.gradient import verify_grad
from pytensor.graph.rewriting.db import RewriteDatabaseQuery
from pytensor.link.numba.linker import NumbaLinker
from pytensor.tensor.basic import Alloc, ScalarFromTensor
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.math import Dot, Sum
from registry import BACKENDS, INTERPRETED

import pm_gaussgrad as gg
from pm_gaussgrad.ops import among_zeros, entries_at, inner_products, matrix_product
from pm_gaussgrad.ops.entry_sums import EntrySums
from pm_gaussgrad.ops.matrix_product import MatrixProduct

POSITIONS = [[0, 2, 5], [4], [], list(range(6)), list(range(1, 6))]
# The graphs that numba's linker is given, interpreted.
AS_NUMBA = Mode(
    "py", RewriteDatabaseQuery(["fast_run", "numba"], exclude=NumbaLinker.incompatible_rewrites)
)
BACKEND = pytest.mark.parametrize("backend", list(BACKENDS))


@BACKEND
@pytest.mark.parametrize("positions", POSITIONS, ids=len)
@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (0,)], ids=str)
def test_selections(lead, positions, backend, rng):
    x, at = rng.normal(size=(*lead, 6)), np.array(positions, dtype=int)
    of_all, of_some = pt.tensor(shape=(*lead, 6)), pt.tensor(shape=(*lead, at.size))
    outputs = [entries_at(of_all, pt.constant(at)), among_zeros(of_some, pt.constant(at), 6)]
    some, spread = pytensor.function([of_all, of_some], outputs, mode=BACKENDS[backend])(
        x, x[..., at]
    )
    expected = np.zeros_like(x)
    expected[..., at] = x[..., at]
    assert_array_equal(some, x[..., at])
    assert_array_equal(spread, expected)


def test_more_entries_than_fit_into_a_byte(rng):
    x = rng.normal(size=300)
    at = pt.vector("at", dtype="int64")
    evaluate = pytensor.function([at], entries_at(pt.as_tensor(x), at), mode=INTERPRETED)
    assert_array_equal(evaluate(np.arange(0, 300, 2)), x[::2])


SIZES = [(3, 4, 2), (1, 1, 1), (2, 3, 0), (0, 2, 3), (1, 3, 2), (3, 1, 2), (1, 2, 0), (2, 1, 0)]
TRANSPOSED = list(itertools.product([False, True], repeat=2))


@pytest.mark.parametrize("transposed", TRANSPOSED, ids=str)
@BACKEND
def test_products_of_plain_and_transposed_matrices(transposed, backend, rng):
    left, right = pt.dmatrices("left", "right")
    of_left, of_right = transposed
    product = matrix_product(left.T if of_left else left, right.T if of_right else right)
    assert product.owner.inputs == [left, right]
    evaluate = pytensor.function([left, right], product, BACKENDS[backend])
    for p, q, k in SIZES:
        a, b = rng.normal(size=(p, k)), rng.normal(size=(k, q))
        for order in "CF":
            stored = [
                np.array(x.T if turned else x, order=order)
                for x, turned in zip((a, b), transposed, strict=True)
            ]
            np.testing.assert_allclose(evaluate(*stored), a @ b, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("size", SIZES[:4], ids=str)
@BACKEND
def test_inner_products(size, backend, rng):
    (p, q, k), (left, right) = size, pt.dmatrices("left", "right")
    a, b = rng.normal(size=(p, k)), rng.normal(size=(q, k))
    evaluate = pytensor.function([left, right], inner_products(left, right), BACKENDS[backend])
    np.testing.assert_allclose(evaluate(a, b), a @ b.T, rtol=1e-14, atol=1e-14)


DESIGNS = {
    "plain": lambda x: x,
    "transposed": lambda x: np.array(x.T, order="C").T,
    "strided": lambda x: np.repeat(np.repeat(x, 2, axis=0), 2, axis=1)[::2, ::2],
    "integers": lambda x: (x > 0).astype(int),
    "single": lambda x: x.astype("float32"),
}


@pytest.mark.parametrize("held", [pt.constant, pytensor.shared], ids=["constant", "shared"])
@pytest.mark.parametrize("stored", DESIGNS.values(), ids=DESIGNS)
def test_products_of_others_beside_a_likelihood(stored, held, rng):
    """A regression: numba does not meet PyTensor's product, however the design is stored."""
    design, slopes, scale = stored(rng.normal(size=(6, 2))), pt.dvector("slopes"), pt.dscalar("s")
    y = rng.normal(size=6)
    logp = pm.logp(gg.MvNormal.dist(held(design) @ slopes, gg.cov.AR1(scale, 0.5)), y)
    outputs = [logp, pt.grad(logp, slopes)]
    evaluate = pytensor.function([slopes, scale], outputs, AS_NUMBA)
    ops = [node.op for node in evaluate.maker.fgraph.apply_nodes]
    assert sum(isinstance(op, MatrixProduct) for op in ops) == 2
    assert not any(isinstance(op, Dot) for op in ops)
    expected = pytensor.function([slopes, scale], outputs, INTERPRETED)
    at = np.array([0.3, -0.7]), 1.3
    for got, wanted in zip(evaluate(*at), expected(*at), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_products_of_others_beside_draws(rng):
    design, slopes = rng.normal(size=(6, 2)), pt.dvector("slopes")
    draws = gg.MvNormal.dist(pt.constant(design) @ slopes, gg.cov.AR1(1.0, 0.5))
    evaluate = pytensor.function([slopes], draws, AS_NUMBA)
    assert not any(isinstance(node.op, Dot) for node in evaluate.maker.fgraph.apply_nodes)
    assert evaluate(np.array([0.3, -0.7])).shape == (6,)


def test_products_without_a_likelihood_are_left_alone():
    x, y = pt.dmatrices("x", "y")
    [node] = pytensor.function([x, y], x @ y, AS_NUMBA).maker.fgraph.apply_nodes
    assert isinstance(node.op, Dot)


def test_derivatives(rng):
    """Of each, and of its gradient: they are one another's."""
    at = pt.constant(np.array([0, 2, 3]))
    x, y = rng.normal(size=(2, 5)), rng.normal(size=(3, 5))

    def slope(function):
        return lambda *inputs: pt.concatenate(
            [g.ravel() for g in pt.grad((function(*inputs) ** 3).sum(), list(inputs))]
        )

    for function, point in (
        (lambda x: entries_at(x, at), [x]),
        (lambda x: among_zeros(x, at, 6), [x[:, :3]]),
        (inner_products, [x, y]),
        (matrix_product, [x, y.T]),
        (lambda x, y: matrix_product(x.T, y), [x.T, y.T]),
        (lambda x, y: matrix_product(x.T, y.T), [x.T, y]),
    ):
        verify_grad(function, point, rng=rng, mode=INTERPRETED)
        verify_grad(slope(function), point, rng=rng, mode=INTERPRETED)


@pytest.mark.parametrize("axes", [(0, 3), (0, 1), (1, 2), (2, 3), (0, 2), (1, 3)], ids=str)
@BACKEND
def test_sums_of_entries(axes, backend, rng):
    if backend == "jax":
        pytest.skip("graphs for numba have this Op, and no others")
    x = pt.dtensor3("x")
    evaluate = pytensor.function([x], EntrySums(3, *axes)(x), BACKENDS[backend])
    for shape in [(2, 3, 4), (1, 5, 1), (2, 0, 3), (3, 7, 1)]:
        for order in "CF":
            entries = np.array(rng.normal(size=shape), order=order)
            expected = entries.sum(axis=tuple(range(*axes)))
            np.testing.assert_allclose(evaluate(entries), expected, rtol=1e-13, atol=1e-13)


def _for_numba(inputs, output):
    """Value and gradient as numba's linker is given them, and as they are."""
    outputs = [output, *pt.grad(output, inputs)]
    return [pytensor.function(inputs, outputs, mode) for mode in (AS_NUMBA, INTERPRETED)]


def test_sums_of_others_beside_a_likelihood(rng):
    """A regression: numba took ten seconds for the gradient of a number in a matrix."""
    scale, matrix = pt.dscalar("scale"), np.array([[2.0, 0.5], [0.5, 1.0]])
    cov = gg.cov.RepeatedMeasures(scale + pt.as_tensor(matrix), [0, 0, 1], [0, 1, 1])
    logp = gg.logp(rng.normal(size=3), 0.0, cov)
    evaluate, expected = _for_numba([scale], logp)
    ops = [node.op for node in evaluate.maker.fgraph.apply_nodes]
    assert sum(isinstance(op, EntrySums) for op in ops) == 1
    assert not any(isinstance(op, Sum) for op in ops)
    np.testing.assert_allclose(evaluate(1.3), expected(1.3), rtol=1e-12)


def test_numbers_beside_a_likelihood(rng):
    """Neither are views of views left, nor numbers in constants, nor tensors that are broadcast."""
    scale, lasting = pt.dscalars("scale", "lasting")
    grid = gg.cov.Kronecker(scale * np.eye(2), np.eye(3)) + gg.cov.Diagonal(1 - lasting)
    y = rng.normal(size=6)
    y[2] = np.nan
    evaluate, expected = _for_numba([scale, lasting], gg.logp(y, 0.0, grid))
    for node in evaluate.maker.fgraph.apply_nodes:
        [x, *_] = [*node.inputs, None]
        if isinstance(node.op, DimShuffle):
            assert x.owner is None or not isinstance(x.owner.op, DimShuffle)
        if isinstance(node.op, ScalarFromTensor):
            assert not isinstance(x, pt.TensorConstant)
        if isinstance(node.op, Alloc):
            assert x.type.ndim > 0
    np.testing.assert_allclose(evaluate(1.3, 0.2), expected(1.3, 0.2), rtol=1e-12)
