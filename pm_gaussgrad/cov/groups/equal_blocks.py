"""Blocks of one structure and size, evaluated together: a graph that does not grow with them.

Equal blocks with the same parameters are rows of one covariance; with parameters of their own they
are a batch of it. What blocks have in common is seen in the parameters themselves, which are the
tensors of the graph.
"""

from dataclasses import dataclass
from functools import cached_property

import pytensor.tensor as pt
from pytensor.graph.replace import vectorize_graph

from pm_gaussgrad.cov.protocol.base import Covariance
from pm_gaussgrad.cov.protocol.composite import Composite
from pm_gaussgrad.ops.form import Form
from pm_gaussgrad.ops.stacking import common, same_value, stacked


@dataclass(frozen=True)
class EqualForm:
    """What remains of :class:`EqualBlocks` when the tensors are taken away.

    Attributes
    ----------
    block : Form
        Of each block.
    count, size : int
        How many blocks, and the observations of one.
    own : tuple of bool
        Of each parameter whether there is one of each block.
    """

    block: Form
    count: int
    size: int
    own: tuple[bool, ...]

    @property
    def label(self) -> str:
        """The name that users know the structure by."""
        return self.block.label

    @property
    def __name__(self) -> str:
        return f"{self.count} {self.block.__name__}"

    @cached_property
    def parameter_shapes(self) -> dict[str, str]:
        """Core shapes, those of each block with their number ahead."""
        shapes = zip(self.block.parameter_shapes.items(), self.own, strict=True)
        return {name: f"count {dims}".strip() if own else dims for (name, dims), own in shapes}

    @property
    def constant_parameters(self) -> frozenset[str]:
        """Names of the parameters without a gradient."""
        return self.block.constant_parameters

    def from_parameters(self, *parameters, size=None) -> "EqualBlocks":
        """Rebuild the structure from its tensors."""
        return EqualBlocks(self, parameters)


class EqualBlocks(Composite):
    """Independent blocks of one form and size, one after the other."""

    label = "gg.cov.BlockDiagonal"

    def __init__(self, form, parameters):
        self.form, self.sizes = form, (form.size,)
        self._tensors = tuple(pt.as_tensor_variable(p) for p in parameters)

    @classmethod
    def of(cls, blocks, size) -> "EqualBlocks":
        """From blocks of one :func:`kind`."""
        each = list(zip(*(block.parameters for block in blocks), strict=True))
        same = [common(of_blocks) for of_blocks in each]
        form = EqualForm(blocks[0].structure, len(blocks), size, tuple(x is None for x in same))
        pairs = zip(each, same, strict=True)
        return cls(form, [stacked(xs) if x is None else x for xs, x in pairs])

    @property
    def parameters(self):
        """Those of the form."""
        return self._tensors

    @property
    def structure(self):
        """Hashable, with ``from_parameters``."""
        return self.form

    @property
    def size(self):
        return self.form.count * self.form.size

    def _cores(self):
        return [len(dims.split()) for dims in self.form.block.parameter_shapes.values()]

    @cached_property
    def parts(self):
        """One: that of each block, a batch or what all have in common."""
        parameters = self.parameters
        if any(self.form.own) or self.batch_ndim:
            pairs = zip(parameters, self.form.own, self._cores(), strict=True)
            parameters = [
                p if own or not _varies(p) else pt.expand_dims(p, p.type.ndim - core)
                for p, own, core in pairs
            ]
        return (self.form.block.from_parameters(*parameters, size=self.form.size),)

    @property
    def _cov(self):
        return self.parts[0]

    def blocks(self):
        """Each block by itself."""
        parameters = [
            [p[(..., i, *[slice(None)] * core)] if own else p for i in range(self.form.count)]
            for p, own, core in zip(self.parameters, self.form.own, self._cores(), strict=True)
        ]
        form, size = self.form.block, self.form.size
        return [form.from_parameters(*own, size=size) for own in zip(*parameters, strict=True)]

    def _apart(self, rows):
        """The rows of each: (..., count size) -> (..., count, size)."""
        return pt.split_dims(rows, (self.form.count, self.form.size), axis=-1)

    def _joined(self, rows):
        """The way back; what is the same for all may lack their dimension."""
        count, size = self.form.count, self.form.size
        if rows.type.ndim == 1:
            return pt.tile(rows, count)
        if rows.type.shape[-2] == 1:
            lead = [rows.shape[i] for i in range(rows.type.ndim - 2)]
            rows = pt.broadcast_to(rows, (*lead, count, size))
        return pt.join_dims(rows, start_axis=rows.type.ndim - 2, n_axes=2)

    def _total(self, logdet):
        """The sum over blocks of what may lack their dimension."""
        if logdet.type.ndim == 0:
            return self.form.count * logdet
        return self.form.count * logdet[..., 0] if logdet.type.shape[-1] == 1 else logdet.sum(-1)

    def to_dense(self):
        dense = self._cov.to_dense()
        count = self.form.count
        apart = pt.eye(count, dtype="bool")[:, None, :, None]
        dense = dense if dense.type.ndim > 2 else dense[None]
        blocks = pt.switch(apart, dense[..., :, :, None, :], 0)
        return blocks.reshape((*blocks.shape[:-4], self.size, self.size), ndim=blocks.ndim - 2)

    def quad_logdet(self, residual):
        quad, logdet = self._cov.quad_logdet(self._apart(residual))
        return quad.sum(axis=-1), self._total(logdet)

    def logdet(self):
        return self._total(self._cov.logdet())

    def solve(self, b):
        return self._of_rows("solve", b)

    def color(self, z):
        return self._of_rows("color", z)

    def whiten(self, residual):
        return self._of_rows("whiten", residual)

    def times(self, rows):
        return self._of_rows("times", rows)

    def leave_one_out(self, residual):
        return self._of_rows("leave_one_out", residual)

    def innovations(self, residual):
        return self._of_rows("innovations", residual)

    def _of_rows(self, method, rows):
        found = getattr(self._cov, method)(self._apart(pt.as_tensor_variable(rows)))
        return tuple(map(self._joined, found)) if isinstance(found, tuple) else self._joined(found)

    def diagonal(self):
        return self._joined(self._cov.diagonal())

    def inverse_diagonal(self):
        return self._joined(self._cov.inverse_diagonal())

    def scaled(self, factor):
        return EqualBlocks.of([block.scaled(factor) for block in self.blocks()], self.form.size)

    def information(self, tangents):
        if not any(self.form.own):
            return self.form.count * self._cov.information(tangents)
        if self.form.block.kind.information is Covariance.information:  # by loops
            return sum(self._of_block(i, tangents) for i in range(self.form.count))
        return self._of_all(tangents)

    def _of_block(self, i, tangents):
        moves = zip(tangents, self.form.own, strict=True)
        moves = [t[:, i] if own and t is not None else t for t, own in moves]
        return self.blocks()[i].information(moves)

    def _of_all(self, tangents):
        """The sum over blocks, by the graph of one of them."""
        parameters, moves, batches = list(self.parameters), list(tangents), {}
        for i, (p, t, own) in enumerate(zip(parameters, moves, self.form.own, strict=True)):
            if not own:
                continue
            parameters[i] = pt.tensor(dtype=p.dtype, shape=p.type.shape[1:])
            batches[parameters[i]] = p
            if t is not None:
                moves[i] = pt.tensor(dtype=t.dtype, shape=(t.type.shape[0], *t.type.shape[2:]))
                batches[moves[i]] = pt.moveaxis(t, 1, 0)
        block = self.form.block.from_parameters(*parameters, size=self.form.size)
        return vectorize_graph(block.information(moves), batches).sum(axis=0)


def _varies(parameter) -> bool:
    """Whether blocks may differ in a parameter: not in index data."""
    return parameter.dtype.startswith("float")


def kind(part, size):
    """What blocks have in common that are evaluated together; None for a block by itself."""
    form = part.structure
    if not _alone_of_known_shape(part, size):
        return None
    index = (same_value(p) for p in part.parameters if not _varies(p))
    return form, size, tuple(p.type for p in part.parameters), tuple(index)


def _alone_of_known_shape(part, size) -> bool:
    """Whether a block is a leaf with observations, of one covariance, and all sizes are known."""
    form = part.structure
    if not isinstance(form, Form) or not isinstance(size, int) or size == 0:
        return False
    shapes = zip(form.parameter_shapes.values(), part.parameters, strict=True)
    return all(p.type.ndim == len(dims.split()) and None not in p.type.shape for dims, p in shapes)
