"""The one abstraction: a covariance is a structure, a tuple of tensors and a definition."""

from typing import ClassVar

import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from pm_gaussgrad.cov.protocol.arguments import as_floats, as_multiple
from pm_gaussgrad.cov.protocol.elliptical import gaussian_log_density
from pm_gaussgrad.cov.protocol.entrywise import entrywise_product
from pm_gaussgrad.cov.protocol.plan import Plan
from pm_gaussgrad.cov.protocol.products import standardised_by
from pm_gaussgrad.cov.protocol.sized import with_known_shape, with_size
from pm_gaussgrad.cov.protocol.strips import by_strips, times_by_strips
from pm_gaussgrad.cov.protocol.sums import summed
from pm_gaussgrad.cov.protocol.terms import Inside, multiple
from pm_gaussgrad.ops import count_batch_dims
from pm_gaussgrad.ops.form import Form, named_parameters


def as_parameter(owner: str, name: str, value, core_ndim: int) -> TensorVariable:
    """A user's argument as a floating tensor of at least ``core_ndim`` dimensions."""
    if isinstance(value, Covariance):
        raise TypeError(
            f"{owner}: `{name}` is a {value.label}, expected an array or a tensor; "
            "pass it as `cov=` (`scale=` of a Student-t), or its dense matrix, `.to_dense()`."
        )
    tensor = as_floats(owner, name, value)
    if tensor.type.ndim < core_ndim:
        raise TypeError(
            f"{owner}: `{name}` has {tensor.type.ndim} dimension(s), expected at least "
            f"{core_ndim}; its last dimensions are the core shape, leading ones are batches."
        )
    return tensor


def length(x: TensorVariable):
    """The last dimension: an int where it is known, else a scalar tensor."""
    static = x.type.shape[-1]
    return x.shape[-1] if static is None else static


def check_size(cov, name: str, value: TensorVariable) -> None:
    """Raise a ValueError where the last dimension of a value is known not to be ``cov.size``."""
    found = value.type.shape[-1]
    if isinstance(cov.size, int) and found not in (None, cov.size):
        raise ValueError(
            f"{cov.label}: `{name}` has shape {value.type.shape}, expected n = {cov.size} in the "
            "last dimension, the size of the covariance."
        )


class Covariance:
    """A covariance matrix Sigma (n, n) in its own parameters. Immutable and symbolic.

    Subclasses declare their parameters and implement the methods at the cost of their
    structure; ``to_dense`` is the definition that all of them must agree with.

    Attributes
    ----------
    parameter_shapes : dict of str to str
        Core shape of each parameter, in order, as space-separated dimension names.
    facts : tuple of str
        Attributes that are integers and no tensors, such as a number of states. Shapes may use
        them, and kernels take them as arguments.
    constant_parameters : frozenset of str
        Parameters without a gradient: constant index data.
    parameters : tuple of TensorVariable
        The parameters, each with its core shape behind optional batch dimensions.
    label : str
        The name that users know the structure by.
    summand : str
        The same where sums tell kinds of it apart.
    how : str
        Algorithm and cost of value and gradient, for :meth:`plan`.
    submatrices_up_to : int
        The largest n at which rows that miss different entries are worked on by submatrices of
        ``to_dense()``, a factor for each pattern, and not by solves for what each row misses.
    """

    parameter_shapes: ClassVar[dict[str, str]] = {}
    # Arrays that are declared once and repeated by a fact; see :mod:`pm_gaussgrad.ops.form`.
    repeated: ClassVar[dict[str, str]] = {}
    facts: ClassVar[tuple[str, ...]] = ()
    constant_parameters: ClassVar[frozenset[str]] = frozenset()
    label: ClassVar[str]
    how: ClassVar[str] = "by its own kernels"
    submatrices_up_to: ClassVar[int] = 32
    summand: ClassVar[str]
    inside: Inside | tuple[Inside, ...] | None = None
    flat = 0  # whether what sums to zero has a mean with a flat prior instead
    relative_precision = None  # v, R and log|R| if the sparse precision is R / v, R constant
    # NumPy scalars and arrays leave `*` and `+` to this class.
    __array_ufunc__ = None
    parameters: tuple[TensorVariable, ...]

    def __init_subclass__(cls):
        cls.label = cls.__dict__.get("label", f"gg.cov.{cls.__name__}")
        cls.summand = cls.__dict__.get("summand", cls.label)
        if "to_dense" in cls.__dict__:
            cls.to_dense = with_known_shape(cls.to_dense)

    @classmethod
    def from_parameters(cls, *parameters, size=None) -> "Covariance":
        """Rebuild from the tensors that :attr:`parameters` flattened it to."""
        rebuilt = object.__new__(cls)
        rebuilt.parameters = tuple(pt.as_tensor_variable(p) for p in parameters)
        return rebuilt

    @property
    def structure(self):
        """What remains when the tensors are taken away: hashable, with ``from_parameters``."""
        return Form(type(self), tuple((name, getattr(self, name)) for name in self.facts))

    @property
    def size(self):
        """Number of observations n: an int where it is known, else a scalar tensor."""
        for _, dims, parameter in named_parameters(self.structure, self.parameters):
            dims = dims.split()
            if "n" in dims:
                axis = parameter.type.ndim - len(dims) + dims.index("n")
                static = parameter.type.shape[axis]
                return parameter.shape[axis] if static is None else static
        return None

    @property
    def dtype(self) -> str:
        """That of the parameters, without index data."""
        return self.parameters[0].dtype

    @property
    def batch_ndim(self) -> int:
        """Number of leading dimensions of the parameters, less leading ones of length one."""
        return count_batch_dims(self.structure, self.parameters)

    def check_constants(self, n=None) -> None:
        """Raise a ValueError where constants are known to make no covariance with a density.

        What depends on symbolic parameters passes: there the log density is -inf. ``n`` is the
        number of observations, where :attr:`size` does not say it.
        """

    def _undefined(self, member):
        """The error of a member that each class is to have."""
        return NotImplementedError(
            f"{self.label}: the class does not define {member}(), which a structure has at its own "
            "cost; for another's, write gg.cov.Dense(cov.to_dense()), at a cost of n^3."
        )

    def to_dense(self) -> TensorVariable:
        """The matrix, shape (..., n, n). The definition; nothing calls it unasked."""
        raise NotImplementedError(f"{self.label} does not define to_dense().")

    def quad_logdet(self, residual):
        """r' Sigma^-1 r for each row, and log|Sigma|.

        Parameters
        ----------
        residual : tensor_like, shape (..., n), in units of [y]
            Residual rows. Leading dimensions that the parameters do not have are rows that
            share one factorisation.

        Returns
        -------
        quad : TensorVariable, shape (...)
        logdet : TensorVariable, shape of the parameters' batch dimensions
            Leading dimensions known to be of length one are dropped.
        """
        raise self._undefined("quad_logdet")

    def logp(self, residual):
        """Log density of residual rows, (..., n) -> (...); -inf where Sigma is no covariance."""
        residual = pt.as_tensor_variable(residual)
        quad, logdet = self.quad_logdet(residual)
        return gaussian_log_density(quad, logdet, residual.shape[-1])

    def solve(self, b):
        """Sigma^-1 b for each row of b, shape (..., n) -> (..., n); differentiable."""
        raise self._undefined("solve")

    def logdet(self):
        """log|Sigma|, differentiable.

        Its shape is that of the parameters' batch dimensions, less leading ones known to be of
        length one.
        """
        raise self._undefined("logdet")

    def color(self, z):
        """S z with S S' = Sigma: white noise (..., n) to draws (..., n)."""
        raise self._undefined("color")

    def noise_size(self, n):
        """How many white numbers :meth:`draw` takes for n observations."""
        return n

    def draw(self, z):
        """S z with S S' = Sigma, S possibly wider than high: white noise to draws (..., n)."""
        return self.color(z)

    def draw_semidefinite(self, z):
        """As :meth:`draw`, also of a singular matrix where the structure has a root of it."""
        return self.draw(z)

    def whiten(self, residual):
        """S^-1 r, the inverse of :meth:`color`: iid N(0, 1) entries under the model."""
        raise self._undefined("whiten")

    def diagonal(self):
        """Marginal variances, shape (..., n), in units of y squared."""
        raise self._undefined("diagonal")

    def inverse_diagonal(self):
        """diag(Sigma^-1), shape (..., n): reciprocals of the leave-one-out variances."""
        raise self._undefined("inverse_diagonal")

    def leave_one_out(self, residual):
        """Each observation given all others: (y_i - m_i) / s_i and log s_i, both (..., n).

        m_i and s_i are its conditional mean and standard deviation: with c = diag(Sigma^-1),
        alpha_i / sqrt(c_i) and -log(c_i) / 2.
        """
        return standardised_by(self.solve(residual), self.inverse_diagonal())

    def innovations(self, residual):
        """Each observation given those before it: (y_i - m_i) / s_i and log s_i, both (..., n)."""
        raise NotImplementedError(
            f"{self.label}: one observation given those before it has no closed form here, and "
            "nothing is made dense unasked; write gg.cov.Dense(cov.to_dense()), at a cost of n^3."
        )

    def keep(self, observed) -> "Covariance | None":
        """The covariance of the observations at constant increasing positions, (n_observed).

        None where they do not have the structure of the whole; see
        :func:`pm_gaussgrad.cov.marginal`.
        """
        return None

    def rows_apart(self, observed) -> "Covariance | None":
        """The covariance of the observed entries of independent rows, row after row.

        Parameters
        ----------
        observed : array of bool, shape (m, n)

        Returns
        -------
        Covariance
            Of as many observations as there are; None where rows that differ have no structure
            of their own, at the cost of one row.
        """
        return None

    def grouped_by(self) -> "type[Covariance] | None":
        """The class of one structure that several such are, independent, one after the other.

        It has a function ``side_by_side(blocks, sizes)`` of those that name it, and its results a
        method ``piece(start, stop)``, which takes one out again. None where there is none.
        """
        return None

    def conditional(self, missing):
        """Entries at constant positions given the others, where the structure has a way of its own.

        None by default: :class:`pm_gaussgrad.cov.protocol.gaps.MissingEntries` then takes as many
        solves with the whole as there are positions. Otherwise an object with its methods
        ``fill(residual)``, ``variances()`` and ``draw(residual, z)``.
        """
        return None

    def groups(self):
        """The name of the independent groups that the structure is made of, and n labels.

        A str, and an array or tensor of int, shape (n); None where it has none.
        """
        return None

    def time_order(self):
        """Positions in the order in which :meth:`innovations` goes on, an array of int, (n).

        None where that is the order of the table.
        """
        return None

    def rows(self, positions):
        """Sigma[positions], shape (c, n), in memory c n beside the structure's own.

        Parameters
        ----------
        positions : TensorVariable of int, shape (c,)
            From 0 to n - 1, in any order. The structure has no batch dimensions, and its size is
            known.

        Raises
        ------
        NotImplementedError
            If the structure has no form of its own, and no parameter of shape (n, n).
        """
        if "n n" in self.structure.parameter_shapes.values():
            return self.to_dense()[positions]  # no larger than the parameter
        raise NotImplementedError(
            f"{self.label}: rows of the covariance have no form of their own here, and nothing is "
            "made dense unasked. Define rows(positions) or information(tangents) in the class, or "
            "write gg.cov.Dense(cov.to_dense()), at a cost of n^3."
        )

    def times(self, rows):
        """Sigma r for each row r, (..., n) -> (..., n), which has no gradient everywhere.

        Without a way of its own by strips of :meth:`rows`: n^2 a row.
        """
        return times_by_strips(self, pt.as_tensor_variable(rows))

    def information(self, tangents):
        """Fisher information 1/2 tr(Sigma^-1 dS_a Sigma^-1 dS_b), shape (p, p).

        By strips of :meth:`rows` where a structure has no closed form.

        Parameters
        ----------
        tangents : list of TensorVariable
            Derivatives of :attr:`parameters` in p directions, (p, core shape); None for index
            data. The structure has no batch dimensions, and its size is known.
        """
        return by_strips(self, tangents)

    def scaled(self, factor) -> "Covariance":
        """``factor * Sigma`` as a structure of the same kind."""
        raise self._undefined("scaled")

    def sized(self, n) -> "Covariance":
        """The same covariance, which knows that its size is n."""
        return with_size(self, n)

    @property
    def resolved(self) -> "Covariance":
        """The structure by which this one is evaluated: itself, unless it is a sum."""
        return self

    def resolved_for(self, n) -> "Covariance":
        """:attr:`resolved` for n observations, which a sum may have to know."""
        return self.resolved

    def plan(self) -> Plan:
        """How log density and gradient are evaluated, in words, and what that costs."""
        return Plan(self.label, self.how)

    def precision_entries(self):
        """A sparse precision matrix: values (..., q), indptr (n + 1) and indices (q), constant.

        Of its lower triangle by columns, rows ascending, with the diagonal.
        """
        raise TypeError(
            f"{self.label} has no sparse precision matrix, expected a structure that has one, as "
            "an autoregression at equal steps, or one that defines precision_entries()."
        )

    def sums_to_zero(self):
        """Labels (n) of entries with the same that sum to zero, -1 of others; None for none."""
        return None

    def autocovariances(self):
        """Sigma_ij as a function of the lag, shape (..., n); None where it is none."""
        return None

    def __mul__(self, factor):
        if isinstance(factor, Covariance):
            return entrywise_product(self, factor)
        return multiple(self, as_multiple(f"scalar * {self.label}", factor, self.dtype))

    __rmul__ = __mul__

    def __add__(self, other):
        if not isinstance(other, Covariance):
            raise TypeError(
                f"{self.label} + {type(other).__name__}: expected another gg.cov structure; for "
                "independent noise add gg.cov.Diagonal(v), for a matrix gg.cov.Dense(matrix)."
            )
        return summed(self, other)

    def __radd__(self, other):
        # The built-in sum() starts from the integer 0.
        return self if isinstance(other, int) and other == 0 else self.__add__(other)

    def __reduce__(self):
        return _rebuild, (self.structure, self.parameters, self.size), {"inside": self.inside}

    def __repr__(self):
        described = ", ".join(
            f"{name}: ({', '.join('?' if s is None else str(s) for s in p.type.shape)})"
            for name, _, p in named_parameters(self.structure, self.parameters)
        )
        return f"{self.label}({described})"


def _rebuild(structure, parameters, size):
    """Unpickle: constructors interpret their arguments, ``from_parameters`` does not."""
    return structure.from_parameters(*parameters, size=size)
