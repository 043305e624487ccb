"""Structures with two kernels of their own."""

from collections.abc import Callable
from typing import ClassVar

import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from pm_gaussgrad.cov.protocol.base import Covariance, as_parameter, check_size
from pm_gaussgrad.cov.protocol.constants import check_kernel
from pm_gaussgrad.cov.protocol.declaration import check_declaration
from pm_gaussgrad.cov.protocol.plan import Plan
from pm_gaussgrad.kernels.substitution import SHORT
from pm_gaussgrad.ops import quad_logdet_alpha, transform_rows


class Leaf(Covariance):
    """A structure with two kernels of its own for the primitive ``InvQuadLogdet``.

    Attributes
    ----------
    saved_shapes : dict of str to str
        Core shapes of the arrays that ``forward`` saves for ``pullback``.
    forward, pullback : static functions
        ``forward(residual, *parameters) -> quad, logdet, alpha, *saved`` and
        ``pullback(residual, *parameters, alpha, *saved, quad_bar, logdet_bar)
        -> (*parameters_bar,)``; NumPy code that numba compiles. Arguments go by name, and a
        kernel may leave out those that it does not read.
    forward_jax, pullback_jax : static functions, optional
        The same in ``jax.numpy``.
    overwrites : dict of str to str, optional
        Outputs that may take the memory of an input, as ``{output: input}``. The kernel that
        computes the output has an argument of its name, memory of its shape that it writes to and
        returns: that of the input, where nothing else needs it, or new.
    row_transforms : dict of str to str, optional
        Maps of rows that need a recursion, as ``{name: dimension of a row}``, for
        ``transform_rows`` of :mod:`pm_gaussgrad.ops`; ``<name>_kernel(rows, *parameters)`` is the
        kernel and ``<name>_kernel_jax`` its JAX form. Those called color and whiten are the members
        of these names.
    constant_form : static function, optional
        ``constant_form(*arrays) -> structure, arrays``: a cheaper structure for the same
        constant covariance, to which graphs with constant parameters are rewritten.
    of_short_rows : type, optional
        A subclass whose kernels are made for many rows of few entries, where that is known.
    """

    saved_shapes: ClassVar[dict[str, str]] = {}
    forward: ClassVar[Callable]
    pullback: ClassVar[Callable]
    forward_jax: ClassVar[Callable | None] = None
    pullback_jax: ClassVar[Callable | None] = None
    overwrites: ClassVar[dict[str, str]] = {}
    row_transforms: ClassVar[dict[str, str]] = {}
    constant_form: ClassVar[Callable | None] = None
    of_short_rows: ClassVar[type | None] = None

    def __init_subclass__(cls):
        super().__init_subclass__()
        if hasattr(cls, "forward"):
            check_declaration(cls)

    def check_constants(self, n=None):
        check_kernel(self, self.size if isinstance(self.size, int) else n)

    def plan(self):
        if self.constant_form and all(isinstance(p, Constant) for p in self.parameters):
            return Plan(self.label, f"constant: {self.how}, once, and n^2 a row")
        return super().plan()

    def quad_logdet(self, residual):
        quad, logdet, _ = self._apply(residual)
        return quad, logdet

    def solve(self, b):
        return self._apply(b)[2]

    def logdet(self):
        no_rows = pt.zeros((0, *[1] * self.batch_ndim, self.size), dtype=self.parameters[0].dtype)
        return self._apply(no_rows)[1]

    def color(self, z):
        return self._transformed("color", z)

    def whiten(self, residual):
        return self._transformed("whiten", residual)

    def _transformed(self, member, rows):
        """A member that is a row transform of the structure."""
        if member not in self.row_transforms:
            raise self._undefined(member)
        return transform_rows(self, member, rows)

    def _apply(self, residual):
        residual = as_parameter(self.label, "residual", residual, 1)
        check_size(self, "residual", residual)
        if self.of_short_rows is not None and _are_short(residual, self.size):
            return self.of_short_rows.from_parameters(*self.parameters)._apply(residual)
        return quad_logdet_alpha(self.structure, residual, self.parameters)


def _are_short(rows, n) -> bool:
    """Whether rows are known to have few entries, and not to be a single one."""
    *lead, length = rows.type.shape
    n = n if isinstance(n, int) else length
    return n is not None and n <= SHORT and any(m != 1 for m in lead)


class ScalarLeaf(Leaf):
    """A leaf of scalars, which do not say what n is: the residual does, or ``size``."""

    _size = None

    @classmethod
    def from_parameters(cls, *parameters, size=None):
        """As for every structure; the size is not one of the tensors."""
        rebuilt = super().from_parameters(*parameters)
        rebuilt._size = size
        return rebuilt

    @property
    def size(self):
        return self._size

    def known_size(self):
        """The size, or a ValueError where nothing says it."""
        if self.size is None:
            # Of a sum what a user calls is the first summand.
            called = self.label.split(" + ")[0]
            raise ValueError(
                f"{self.label}: scalar parameters do not say how many observations there are; pass "
                f"size=, as in {called}(..., size=n)."
            )
        return self.size

    def logdet(self):
        self.known_size()
        return super().logdet()

    def _count(self):
        """The size as a number to calculate with."""
        return pt.as_tensor(self.known_size()).astype(self.parameters[0].dtype)
