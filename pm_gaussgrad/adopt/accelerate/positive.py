"""Which vectors of a graph have no negative entries."""

import numpy as np
import pytensor.scalar as ps
from pymc.distributions.transforms import _default_transform, log
from pymc.logprob.abstract import ValuedRV
from pytensor.compile.ops import ViewOp
from pytensor.graph.basic import Constant
from pytensor.tensor.basic import Alloc, Join, MakeVector
from pytensor.tensor.elemwise import CAReduce, DimShuffle, Elemwise
from pytensor.tensor.random.basic import UniformRV
from pytensor.tensor.random.op import RNGConsumerOp
from pytensor.tensor.reshape import JoinDims, SplitDims
from pytensor.tensor.shape import Reshape, SpecifyShape
from pytensor.tensor.subtensor import AdvancedSubtensor, Subtensor

# Never negative, whatever they are of.
_NEVER = ps.Exp | ps.Sqr | ps.Abs | ps.Sqrt | ps.Softplus | ps.Sigmoid
# Not negative, where what they are of is not.
_KEEPS = ps.Add | ps.Mul | ps.TrueDiv | ps.Pow | ps.Identity | ps.Cast | ps.Reciprocal
_OF_FIRST = (
    DimShuffle | Reshape | SpecifyShape | JoinDims | SplitDims | Subtensor | AdvancedSubtensor
) | (Alloc | ViewOp | ValuedRV)


def is_never_negative(x) -> bool:
    """Whether a tensor is proved to have no negative entries."""
    if isinstance(x, Constant):
        return bool(np.all(np.asarray(x.data) >= 0))
    op = None if x.owner is None else x.owner.op
    if isinstance(op, RNGConsumerOp):
        return _is_of_positive(op, x)
    if isinstance(op, _OF_FIRST):
        return is_never_negative(x.owner.inputs[0])
    if isinstance(op, Join | MakeVector):
        return all(map(is_never_negative, x.owner.inputs))
    if isinstance(op, Elemwise | CAReduce):
        keeps = isinstance(op.scalar_op, _KEEPS) and all(map(is_never_negative, x.owner.inputs))
        return keeps or isinstance(op.scalar_op, _NEVER)
    return False


def _is_of_positive(op, rv):
    """Whether the support of a random variable has no negative numbers."""
    if isinstance(op, UniformRV):
        return is_never_negative(op.dist_params(rv.owner)[0])
    return _default_transform(op, rv) is log
