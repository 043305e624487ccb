"""JAX: the primitive as a ``jax.custom_vjp``; importing it imports jax.

JAX samplers differentiate the JAX form of a graph, and never call ``Op.pullback``: the
rule must travel with the function. A structure with a JAX pair of its own runs on any
device; one without goes through ``jax.pure_callback`` to the compiled kernel, on the CPU.
"""

import warnings
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from pytensor.link.jax.dispatch import jax_funcify

from pm_gaussgrad.kernels import patterned_rows_jax, semidefinite_jax, woodbury_jax
from pm_gaussgrad.ops.factor_product import FactorProduct
from pm_gaussgrad.ops.gaps import ConditionOnObserved
from pm_gaussgrad.ops.information import InformationByKernel
from pm_gaussgrad.ops.inv_quad_logdet import InvQuadLogdet, InvQuadLogdetPullback, RowTransform
from pm_gaussgrad.ops.inverse_diagonal import InverseDiagonal
from pm_gaussgrad.ops.matrix_product import MatrixProduct
from pm_gaussgrad.ops.partition import Partition
from pm_gaussgrad.ops.patterned_rows import PatternedRows, PatternedRowsPullback
from pm_gaussgrad.ops.polarisation import WEIGHTS, balance, polarise, rejected, weighted
from pm_gaussgrad.ops.recurrence import LinearRecurrence
from pm_gaussgrad.ops.remembered import Remembered
from pm_gaussgrad.ops.select import Select
from pm_gaussgrad.ops.semidefinite import SemidefiniteRoot
from pm_gaussgrad.ops.sparse_solve import SparseSolve
from pm_gaussgrad.ops.woodbury import FactorCotangent, TakeOutFactors


def _zero_cotangent(primal):
    if jnp.issubdtype(primal.dtype, jnp.floating):
        return jnp.zeros_like(primal)
    return np.zeros(primal.shape, jax.dtypes.float0)


def _array_function(op, jax_kernel):
    """The Op as a function of jax arrays, by its JAX kernel or by callback, without a rule."""

    def by_callback(*inputs):
        shapes = op.signature.concrete_outputs(inputs)
        dtype = _named(op, inputs)[op.signature.dtype_from].dtype
        return jax.pure_callback(
            lambda *arrays: op.evaluate(*(np.asarray(x) for x in arrays)),
            tuple(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes),
            *inputs,
            vmap_method="sequential",
        )

    def by_jax(*inputs):
        op.signature.concrete_outputs(inputs)
        return op.signature.call(jax_kernel, _named(op, inputs))

    return by_callback if jax_kernel is None else by_jax


def _named(op, inputs) -> dict:
    return dict(zip((name for name, _ in op.signature.inputs), inputs, strict=True))


def _pullback_function(op):
    """The pullback Op, with zero gradients where the cotangents vanish, of all or of a row."""
    function = _array_function(op, op.structure.pullback_jax)
    by_row = [dims[:1] == ("m",) for _, dims in op.signature.inputs]

    def pullback(*inputs):
        weights = inputs[-2]
        inputs = [
            jnp.where(weights.reshape(-1, *[1] * (x.ndim - 1)) == 0, 0, x) if rows else x
            for rows, x in zip(by_row, inputs, strict=True)
        ]
        rejected = jnp.all(weights == 0) & (inputs[-1] == 0)
        return tuple(jnp.where(rejected, 0, bar) for bar in function(*inputs))

    return pullback


def _alpha_pullback(primitive, pull, residual, parameters, alpha, alpha_bar):
    """Cotangents through alpha (see :mod:`pm_gaussgrad.ops.inv_quad_logdet`)."""
    solved = primitive(alpha_bar, *parameters)[2]
    unused = rejected(jnp, jnp.abs(alpha_bar).sum(axis=-1, keepdims=True), solved)
    scale = jax.lax.stop_gradient(balance(jnp, solved, alpha))
    rows = jnp.concatenate(polarise(alpha_bar, residual, scale))
    _, logdet, both, *saved = primitive(rows, *parameters)
    weights = jnp.concatenate([jnp.where(unused, 0, w)[:, 0] for w in WEIGHTS])
    bars = pull(rows, *parameters, both, *saved, weights.astype(rows.dtype), jnp.zeros_like(logdet))
    return jnp.where(unused, 0, solved), bars


@jax_funcify.register(InvQuadLogdet)
def jax_funcify_InvQuadLogdet(op, node=None, **kwargs):
    """The primitive with its rule."""
    structure = op.structure
    forward = _array_function(op, structure.forward_jax)
    differentiable = op.differentiable
    pull = (
        _pullback_function(InvQuadLogdetPullback(structure))
        if any(differentiable)
        else lambda *inputs: ()
    )

    primitive = jax.custom_vjp(forward)

    def with_residuals(*inputs):
        inputs = [x.value for x in inputs]  # symbolic_zeros passes each with its perturbed flag
        outputs = forward(*inputs)
        return outputs, (inputs, outputs)

    def backward(saved_for_backward, cotangents):
        (residual, *parameters), (_, _, alpha, *saved) = saved_for_backward
        quad_bar, logdet_bar, alpha_bar, *_ = cotangents
        alpha_connected = not isinstance(alpha_bar, jax.custom_derivatives.SymbolicZero)
        quad_bar, logdet_bar = (
            jnp.zeros(bar.shape, bar.dtype)
            if isinstance(bar, jax.custom_derivatives.SymbolicZero)
            else bar
            for bar in (quad_bar, logdet_bar)
        )
        weights = quad_bar[:, None]
        residual_bar = 2 * weighted(jnp, weights, alpha)
        bars = pull(residual, *parameters, alpha, *saved, quad_bar, logdet_bar)
        if alpha_connected:
            solve_bar, more = _alpha_pullback(
                primitive, pull, residual, parameters, alpha, alpha_bar
            )
            residual_bar = residual_bar + solve_bar
            bars = [a + b for a, b in zip(bars, more, strict=True)]
        remaining = iter(bars)
        parameters_bar = [
            next(remaining) if has_gradient else _zero_cotangent(parameter)
            for has_gradient, parameter in zip(differentiable, parameters, strict=True)
        ]
        return (residual_bar, *parameters_bar)

    primitive.defvjp(with_residuals, backward, symbolic_zeros=True)

    def inv_quad_logdet(*inputs):
        return primitive(*(jnp.asarray(x) for x in inputs))

    return inv_quad_logdet


@jax_funcify.register(InvQuadLogdetPullback)
def jax_funcify_InvQuadLogdetPullback(op, node=None, **kwargs):
    """The pullback where PyTensor took the gradient."""
    pull = _pullback_function(op)
    single = len(op.signature.outputs) == 1

    def inv_quad_logdet_pullback(*inputs):
        bars = pull(*(jnp.asarray(x) for x in inputs))
        return bars[0] if single else bars

    return inv_quad_logdet_pullback


@jax_funcify.register(LinearRecurrence)
def jax_funcify_LinearRecurrence(op, node=None, **kwargs):
    """Compositions of affine maps x -> a x + u, by a parallel prefix scan."""

    def compose(first, second):
        return first[0] * second[0], second[0] * first[1] + second[1]

    def linear_recurrence(coefficient, increment):
        return jax.lax.associative_scan(compose, (coefficient, increment), axis=1)[1]

    return linear_recurrence


@jax_funcify.register(Partition)
def jax_funcify_Partition(op, node=None, **kwargs):
    """Slices; constants and lengths of arrays are concrete while JAX traces."""

    def partition(x, *sizes):
        x = jnp.asarray(x)
        blocks = [x[..., a:b] for a, b in pairwise(op.bounds(x, sizes))]
        return blocks[0] if len(blocks) == 1 else tuple(blocks)

    return partition


@jax_funcify.register(FactorProduct)
def jax_funcify_FactorProduct(op, node=None, **kwargs):
    """The sizes are those of the arrays, known when JAX traces."""

    def factor_product(rows, matrix):
        (m, n), (t, s) = rows.shape, matrix.shape
        product = rows.reshape(m, n // s, s) @ matrix.T
        return product.swapaxes(1, 2).reshape(m, n // s * t)

    return factor_product


@jax_funcify.register(RowTransform)
def jax_funcify_RowTransform(op, node=None, **kwargs):
    """Draws and whitening."""
    function = _array_function(op, op.kernel_jax)

    def row_transform(*inputs):
        return function(*(jnp.asarray(x) for x in inputs))[0]

    return row_transform


@jax_funcify.register(SparseSolve)
@jax_funcify.register(InformationByKernel)
def jax_funcify_by_callback(op, node=None, **kwargs):
    """What has compiled kernels alone."""
    function = _array_function(op, None)

    def by_callback(*inputs):
        return function(*(jnp.asarray(x) for x in inputs))[0]

    return by_callback


@jax_funcify.register(InverseDiagonal)
def jax_funcify_InverseDiagonal(op, node=None, **kwargs):
    """Squared norms of the columns of the inverse."""

    def inverse_diagonal(factor):
        identity = jnp.eye(factor.shape[0], dtype=factor.dtype)
        inverse = jax.scipy.linalg.solve_triangular(factor, identity, lower=True)
        return (inverse**2).sum(axis=0)

    return inverse_diagonal


@jax_funcify.register(ConditionOnObserved)
def jax_funcify_ConditionOnObserved(op, node=None, **kwargs):
    """The same with unit rows in place of positions."""

    def condition_on_observed(residual, solved, missing):
        residual, solved, missing = map(jnp.asarray, (residual, solved, missing))
        n, k = residual.shape[1], missing.shape[0]
        unit_rows = (jnp.arange(n) == missing[:, None]).astype(residual.dtype)
        real = missing < n
        block = jnp.where(real, solved @ unit_rows.T, 0) + jnp.diag(
            jnp.where(real, 0, 1).astype(residual.dtype)
        )
        factor = jax.lax.linalg.cholesky(block, symmetrize_input=False)
        identity = jnp.eye(k, dtype=residual.dtype)
        inverse = jax.scipy.linalg.solve_triangular(factor, identity, lower=True)
        observed = jnp.where(unit_rows.sum(axis=0) > 0, 0, residual)
        means = observed @ solved.T @ inverse.T @ inverse
        half_logdet = jnp.log(jnp.diag(factor)).sum()
        return observed - means @ unit_rows, half_logdet, inverse @ unit_rows

    return condition_on_observed


@jax_funcify.register(MatrixProduct)
def jax_funcify_MatrixProduct(op, node=None, **kwargs):
    """A matrix product."""

    def matrix_product(left, right):
        return (left.T if op.left_transposed else left) @ (
            right.T if op.right_transposed else right
        )

    return matrix_product


@jax_funcify.register(Select)
def jax_funcify_Select(op, node=None, **kwargs):
    """Indexing, of rows with a zero for what has no source."""

    def select(rows, source, inverse):
        with_zero = jnp.pad(rows, ((0, 0), (0, 1)))  # for -1, the last
        return with_zero[:, jnp.asarray(source)]

    return select


@jax_funcify.register(PatternedRows)
def jax_funcify_PatternedRows(op, node=None, **kwargs):
    """Stacks of factors, with the rule of the pullback Op."""

    def patterned_rows(residual, matrix, entries, pattern):
        residual, matrix, entries, pattern = map(jnp.asarray, (residual, matrix, entries, pattern))
        return _patterned_rows(residual, matrix, entries, pattern)

    return patterned_rows


_patterned_rows = jax.custom_vjp(patterned_rows_jax.forward)


def _patterned_rows_forward(*inputs):
    inputs = [x.value for x in inputs]
    outputs = patterned_rows_jax.forward(*inputs)
    return outputs, (inputs, outputs[2:])


def _patterned_rows_backward(saved, cotangents):
    (residual, matrix, *index), (alpha, factors) = saved
    known = [not isinstance(bar, jax.custom_derivatives.SymbolicZero) for bar in cotangents]
    quad_bar, logdet_bar, *of_solved = (
        bar if is_known else jnp.zeros(bar.shape, bar.dtype)
        for is_known, bar in zip(known, cotangents, strict=True)
    )
    weights = quad_bar[:, None]
    bars = [
        2 * weighted(jnp, weights, alpha),
        patterned_rows_jax.pullback(*index, alpha, factors, quad_bar, logdet_bar),
    ]
    if any(known[2:]):
        _, pull = jax.vjp(
            lambda *free: patterned_rows_jax.forward(*free, *index)[2:], residual, matrix
        )
        bars = [a + b for a, b in zip(bars, pull(tuple(of_solved)), strict=True)]
    return (*bars, *map(_zero_cotangent, index))


_patterned_rows.defvjp(_patterned_rows_forward, _patterned_rows_backward, symbolic_zeros=True)


@jax_funcify.register(PatternedRowsPullback)
def jax_funcify_PatternedRowsPullback(op, node=None, **kwargs):
    """The pullback where PyTensor took the gradient."""

    def patterned_rows_pullback(*inputs):
        return patterned_rows_jax.pullback(*map(jnp.asarray, inputs))

    return patterned_rows_pullback


def _without_rejected(function):
    """A function whose derivatives are zero where those of all its outputs are.

    JAX multiplies them, at points that are rejected, by what is not finite.
    """
    whole = jax.custom_vjp(function)

    def backward(pull, cotangents):
        unused = jnp.all(jnp.array([jnp.all(bar == 0) for bar in cotangents]))
        return tuple(jnp.where(unused, 0, bar) for bar in pull(cotangents))

    whole.defvjp(lambda *inputs: jax.vjp(function, *inputs), backward)
    return whole


_take_out_factors = _without_rejected(woodbury_jax.take_out_factors)


@jax_funcify.register(TakeOutFactors)
def jax_funcify_TakeOutFactors(op, node=None, **kwargs):
    """Written in operations that JAX differentiates."""

    def without_factors(*inputs):
        return _take_out_factors(*map(jnp.asarray, inputs))

    return without_factors


@jax_funcify.register(SemidefiniteRoot)
def jax_funcify_SemidefiniteRoot(op, node=None, **kwargs):
    """A loop over the few columns."""
    return _without_rejected(semidefinite_jax.semidefinite_root)


@jax_funcify.register(FactorCotangent)
def jax_funcify_FactorCotangent(op, node=None, **kwargs):
    """Where PyTensor took the gradient."""

    def cotangent_of_factor(*inputs):
        return woodbury_jax.factor_cotangent(*map(jnp.asarray, inputs))

    return cotangent_of_factor


@jax_funcify.register(Remembered)
def jax_funcify_Remembered(op, node=None, **kwargs):
    """The plain graph: a function of JAX has nowhere to remember what its data were."""
    warnings.warn(
        "JAX was handed data that may change, and goes through all of their rows at each "
        "evaluation. If they do not change, compile "
        "pymc.model.transform.optimization.freeze_dims_and_data(model), which takes the few "
        "numbers that the log density depends on once.",
        stacklevel=2,
    )
    kwargs.pop("storage_map", None)
    return jax_funcify(op.graph, **kwargs)
