"""Normal priors: a variable as its mean and a linear function of bases."""

from functools import singledispatch

import pytensor.tensor as pt
from pymc.distributions.continuous import FlatRV
from pymc.distributions.distribution import SymbolicRandomVariable
from pymc.distributions.multivariate import MvNormal as PyMCMvNormal
from pymc.distributions.multivariate import ZeroSumNormalRV
from pymc.distributions.timeseries import RandomWalkRV
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.math import Dot
from pytensor.tensor.random.basic import NormalRV
from pytensor.tensor.random.op import RNGConsumerOp

from pm_gaussgrad.adopt.marginalize.linear.pieces import Base
from pm_gaussgrad.adopt.marginalize.linear.substitute import substitute
from pm_gaussgrad.cov import Dense
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.distributions.normal import MvNormalRV


class NotNormalError(Exception):
    """A prior is not normal, or in a way that is not known."""


def as_normal(rv, known):
    """A random variable as an expression of bases.

    Parameters
    ----------
    rv : TensorVariable
        Of a model.
    known : Known

    Returns
    -------
    expression : TensorVariable
        Of the variable's parameters and leaves of bases.
    bases : list of Base
    scales : list of TensorVariable
        Parameters that nothing linear may enter.

    Raises
    ------
    NotNormalError
        With the reason.
    """
    return _expressed(rv.owner.op, rv, rv.name, known)


@singledispatch
def _expressed(op, rv, owner, known):
    name = getattr(op, "_print_name", (type(op).__name__,))[0]
    raise NotNormalError(f"its prior is {name}, not normal")


@_expressed.register(NormalRV)
def _normal(op, rv, owner, known):
    mu, sigma = op.dist_params(rv.owner)
    shape = known.shape(rv)
    leaf = _leaf(owner, "white", shape, rv.dtype)
    expression = _plus(mu, shape, sigma * leaf)
    return expression, [Base(leaf, owner)], [sigma]


@_expressed.register(FlatRV)
def _flat(op, rv, owner, known):
    leaf = _leaf(owner, "flat", known.shape(rv), rv.dtype)
    return pt.specify_shape(leaf, leaf.type.shape), [Base(leaf, owner, flat=True)], []


@_expressed.register(PyMCMvNormal.rv_type)
def _multivariate(op, rv, owner, known):
    mu, cov = op.dist_params(rv.owner)
    cov = cov if cov.dtype == rv.dtype else cov.astype(rv.dtype)
    matrix = without_batch(cov)
    if matrix is None:
        raise NotNormalError("its rows have covariance matrices of their own")
    return _of_rows(rv, owner, known, mu, Dense(matrix), root_of(matrix))


@_expressed.register(MvNormalRV)
def _structured(op, rv, owner, known):
    mu, *parameters = op.dist_params(rv.owner)
    cov = of_size(op.structure.from_parameters(*parameters), known.shape(rv)[-1])
    if cov.batch_ndim:
        raise NotNormalError("its rows have covariances of their own")
    return _of_rows(rv, owner, known, mu, cov, None)


@_expressed.register(RandomWalkRV)
@_expressed.register(ZeroSumNormalRV)
def _composed(op, rv, owner, known):
    """By what they are made of, normal variables without a name."""
    expression = op.fgraph.bind(rv.owner.inputs)[rv.owner.outputs.index(rv)]
    replaced, bases, scales = {}, [], []
    for inner in drawn_first([expression]):
        if not inner.name:
            replaced[inner], more, fixed = _expressed(inner.owner.op, inner, owner, known)
            bases, scales = bases + more, scales + fixed
    return substitute([expression], replaced)[0], bases, scales


def drawn_first(expressions) -> list:
    """The random variables that expressions depend on directly."""
    found, waiting, seen = [], list(expressions), set()
    while waiting:
        x = waiting.pop()
        if x in seen or x.owner is None:
            continue
        seen.add(x)
        # What is made of draws, as a random walk, has these for inputs and no generator.
        if isinstance(x.owner.op, RNGConsumerOp | SymbolicRandomVariable):
            found.append(x)
        else:
            waiting += x.owner.inputs
    return found


def _of_rows(rv, owner, known, mu, cov, root):
    shape = known.shape(rv)
    leaf = _leaf(owner, "centred", shape, rv.dtype)
    base = Base(leaf, owner, of_size(cov, shape[-1]), root)
    return _plus(mu, shape, leaf), [base], [*cov.parameters]


def _plus(mu, shape, centred):
    centred = pt.specify_shape(centred, shape)
    return centred + mu if mu.type.ndim <= len(shape) else centred


def without_batch(matrix):
    """A matrix of which the leading dimensions have length one; None of any other."""
    while matrix.owner is not None and isinstance(matrix.owner.op, DimShuffle):
        if matrix.owner.op.new_order != ("x", *range(matrix.type.ndim - 1)):
            break
        matrix = matrix.owner.inputs[0]
    if any(length != 1 for length in matrix.type.shape[:-2]):
        return None
    return matrix.reshape(matrix.shape[-2:]) if matrix.type.ndim > 2 else matrix


def root_of(matrix):
    """L of a matrix that is written as L L'; None of any other."""
    node = matrix.owner
    op = node.op if node else None
    if isinstance(op.core_op if isinstance(op, Blockwise) else op, Dot):
        left, right = node.inputs
        transposed = right.owner
        op = transposed.op if transposed else None
        if isinstance(op, DimShuffle) and op.is_matrix_transpose and transposed.inputs[0] is left:
            return left
    return None


def _leaf(owner, kind, shape, dtype):
    """A new symbol for what a variable is made of."""
    leaf = pt.tensor(shape=shape, dtype=dtype)
    leaf.name = f"{owner}_{kind}"  # which as an argument may look like a dtype
    return leaf
