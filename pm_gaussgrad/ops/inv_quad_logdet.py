r"""The one differentiable primitive: quadratic forms and log determinant of a structure.

For residual rows R (m, n) that share one covariance Sigma(theta)::

    quad_i = r_i' Sigma^-1 r_i        logdet = log |Sigma|        alpha = R Sigma^-1

With cotangents q = quad_bar, l = logdet_bar, the cotangent of Sigma (its entries regarded
as independent) and of the residuals is

    Sigma_bar = - alpha' diag(q) alpha + l Sigma^-1        R_bar = 2 diag(q) alpha

A structure never forms Sigma_bar: its pullback kernel applies the adjoint of theta -> Sigma
to that sum of a low-rank part and an inverse. R_bar is the same for all and is done here.

The output alpha can be differentiated too, with the same kernels. With alpha_bar = B and
C = B Sigma^-1, the cotangents are R_bar = C and Sigma_bar = -(C' alpha + alpha' C) / 2, by
polarisation (:mod:`pm_gaussgrad.ops.polarisation`) those of the quadratic forms of the rows C + A
and C - A with weights 1/4 and -1/4.
"""

from itertools import chain

import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType, disconnected_grad, grad
from pytensor.graph.basic import Apply
from pytensor.tensor.type import discrete_dtypes

from pm_gaussgrad.ops.compiled_op import CompiledOp
from pm_gaussgrad.ops.definition import is_disconnected, pullback_by_definition
from pm_gaussgrad.ops.form import as_form
from pm_gaussgrad.ops.polarisation import WEIGHTS, balance, polarise, rejected, weighted
from pm_gaussgrad.ops.signature import Signature, common_float


def _add_cotangents(old, new):
    """Sums entry by entry, where None is an absent cotangent."""
    return [b if a is None else a if b is None else a + b for a, b in zip(old, new, strict=True)]


class StructureOp(CompiledOp):
    """What the forward and the pullback Op share: shapes, ``perform``, the compiled kernel."""

    __props__: tuple[str, ...] = ("structure", "inplace")

    def __init__(self, structure, inplace: tuple[str, ...] = ()):
        self.structure = as_form(structure)
        self.inplace = inplace
        self.signature = self._declare()
        if inplace:
            overwritten = self._overwritten()
            self.destroy_map = {i: overwritten[i] for i in map(self._position, inplace)}

    def _declare(self) -> Signature:
        raise NotImplementedError

    @property
    def parameters(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        shapes = self.structure.parameter_shapes.items()
        return tuple((name, tuple(dims.split())) for name, dims in shapes)

    @property
    def saved(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        shapes = self.structure.saved_shapes.items()
        return tuple((name, tuple(dims.split())) for name, dims in shapes)

    def _signature(self, owner, inputs, outputs, dtype_from, results) -> Signature:
        """A signature with what the structure says of its kernels' arguments."""
        form, names = self.structure, {name for name, _ in inputs}
        together = ((name, form.members(name)) for name in form.repeated)
        together = tuple((name, members) for name, members in together if {*members} <= names)
        memory = tuple((name, form.overwrites[name]) for name in self.inplace)
        return Signature(owner, inputs, outputs, dtype_from, together, results, form.facts, memory)

    @property
    def differentiable(self) -> list[bool]:
        """For each parameter, whether it has a gradient (index data has none)."""
        constant = self.structure.constant_parameters
        return [name not in constant for name in self.structure.parameter_shapes]

    def make_node(self, *inputs):
        constant = self.structure.constant_parameters
        names = [name for name, _ in self.signature.inputs]
        if len(inputs) != len(names):
            raise TypeError(f"{self}: expected {len(names)} inputs {names}, found {len(inputs)}.")
        inputs = [pt.as_tensor_variable(x) for x in inputs]
        is_index = [
            name in constant and x.dtype in discrete_dtypes
            for name, x in zip(names, inputs, strict=True)
        ]
        floats = iter(
            common_float(*(x for x, index in zip(inputs, is_index, strict=True) if not index))
        )
        inputs = [x if index else next(floats) for x, index in zip(inputs, is_index, strict=True)]
        dtype = inputs[names.index(self.signature.dtype_from)].dtype
        outputs = [
            pt.tensor(dtype=dtype, shape=shape) for shape in self.signature.static_outputs(inputs)
        ]
        return Apply(self, inputs, outputs)

    def _overwritten(self) -> dict[int, list[int]]:
        """The destroy map of all that may be overwritten, from the structure's declaration."""
        inputs = [name for name, _ in self.signature.inputs]
        outputs = [name for name, _ in self.signature.outputs]
        return {
            outputs.index(output): [inputs.index(name)]
            for output, name in self.structure.overwrites.items()
            if output in outputs and name in inputs
        }

    def inplace_on_inputs(self, allowed_inplace_inputs):
        overwritten = self._overwritten().items()
        names = [name for name, _ in self.signature.outputs]
        inplace = tuple(names[o] for o, [i] in overwritten if i in allowed_inplace_inputs)
        return type(self)(**self._props_dict() | {"inplace": inplace}) if inplace else self

    def _position(self, output: str) -> int:
        return [name for name, _ in self.signature.outputs].index(output)

    def __str__(self):
        return f"{type(self).__name__}{{{self.structure.__name__}}}"


class InvQuadLogdet(StructureOp):
    """``(residual (m, n), *parameters) -> quad (m,), logdet (), alpha (m, n), *saved``.

    Where Sigma is not positive definite or not finite, ``logdet`` is not finite; the Op
    never raises for the values of its inputs.
    """

    def _declare(self):
        outputs = (("quad", ("m",)), ("logdet", ()), ("alpha", ("m", "n")), *self.saved)
        inputs = (("residual", ("m", "n")), *self.parameters)
        results = (
            "quad",
            "logdet",
            "alpha",
            *self.structure.results(self.structure.kind.saved_shapes),
        )
        return self._signature(self.structure.label, inputs, outputs, "residual", results)

    @property
    def kernel(self):
        return self.structure.forward

    def connection_pattern(self, node):
        return [[d] * len(node.outputs) for d in (True, *self.differentiable)]

    def pullback(self, inputs, outputs, cotangents):
        residual, *parameters = inputs
        quad, logdet, alpha, *saved = outputs
        quad_bar, logdet_bar, alpha_bar, *saved_bar = cotangents
        if not all(map(is_disconnected, saved_bar)):
            raise NotImplementedError(
                f"{self}: the saved factors have no gradient; use quad, logdet and alpha."
            )
        residual_bar = residual.zeros_like()
        parameters_bar = [None] * len(parameters)
        if not (is_disconnected(quad_bar) and is_disconnected(logdet_bar)):
            quad_bar = quad.zeros_like() if is_disconnected(quad_bar) else quad_bar
            logdet_bar = logdet.zeros_like() if is_disconnected(logdet_bar) else logdet_bar
            weights = quad_bar[:, None]
            residual_bar += 2 * weighted(pt, weights, alpha)
            parameters_bar = self._pull(residual, parameters, alpha, saved, quad_bar, logdet_bar)
        if not is_disconnected(alpha_bar):
            solve_bar, through_alpha = self._pull_alpha(residual, parameters, alpha, alpha_bar)
            residual_bar += solve_bar
            parameters_bar = _add_cotangents(parameters_bar, through_alpha)
        return [
            residual_bar,
            *(DisconnectedType()() if bar is None else bar for bar in parameters_bar),
        ]

    def _pull(self, residual, parameters, alpha, saved, quad_bar, logdet_bar):
        """Cotangents of the parameters, None for index data."""
        if not any(self.differentiable):
            return [None] * len(parameters)
        op = InvQuadLogdetPullback(self.structure)
        bars = op.make_node(residual, *parameters, alpha, *saved, quad_bar, logdet_bar).outputs
        remaining = iter(bars)
        return [next(remaining) if d else None for d in self.differentiable]

    def _pull_alpha(self, residual, parameters, alpha, alpha_bar):
        """The cotangents that reach the inputs through alpha (module docstring)."""
        solved = self.make_node(alpha_bar, *parameters).outputs[2]
        unused = rejected(pt, pt.abs(alpha_bar).sum(axis=-1, keepdims=True), solved)
        # The form does not depend on the scale, which is not differentiated.
        scale = disconnected_grad(balance(pt, solved, alpha))
        rows = pt.concatenate(polarise(alpha_bar, residual, scale))
        _, logdet, both, *saved = self.make_node(rows, *parameters).outputs
        weights = pt.concatenate([pt.where(unused, 0, w)[:, 0] for w in WEIGHTS])
        bars = self._pull(
            rows, parameters, both, saved, weights.astype(rows.dtype), logdet.zeros_like()
        )
        return pt.where(unused, 0, solved), bars


class InvQuadLogdetPullback(StructureOp):
    """``(residual, *parameters, alpha, *saved, quad_bar (m,), logdet_bar ()) -> *parameters_bar``.

    Consumes the factors that :class:`InvQuadLogdet` saved. Its own pullback, hence second
    derivatives of a log density, differentiates the ``to_dense()`` formula symbolically:
    exact, at dense cost. The ``trimmed`` form, which compiled graphs end with, has as inputs
    only what the kernel reads, and keeps nothing else alive.
    """

    __props__ = ("structure", "inplace", "trimmed")
    __str__ = StructureOp.__str__
    zero_inputs = ("quad_bar", "logdet_bar")

    def __init__(self, structure, inplace: tuple[str, ...] = (), trimmed: bool = False):
        self.trimmed = trimmed
        super().__init__(structure, inplace)

    def _declare(self):
        form, alpha = self.structure, ("alpha", ("m", "n"))
        cotangents = (("quad_bar", ("m",)), ("logdet_bar", ()))
        inputs = (("residual", ("m", "n")), *self.parameters, alpha, *self.saved, *cotangents)
        constant = form.constant_parameters
        outputs = tuple((f"{k}_bar", dims) for k, dims in self.parameters if k not in constant)
        declared = [x for x in form.kind.parameter_shapes if x not in form.kind.constant_parameters]
        results = tuple(
            f"{x}_bar" if isinstance(x, str) else tuple(f"{member}_bar" for member in x)
            for x in form.results(declared)
        )
        signature = self._signature(
            f"{form.label} (pullback)", inputs, outputs, "quad_bar", results
        )
        if not self.trimmed:
            return signature
        kernels = filter(None, (form.pullback, form.pullback_jax))
        read = {*self.zero_inputs, *chain.from_iterable(map(signature.reads, kernels))}
        inputs = tuple((name, dims) for name, dims in inputs if name in read)
        return self._signature(signature.owner, inputs, outputs, "quad_bar", results)

    @property
    def kernel(self):
        return self.structure.pullback

    def connection_pattern(self, node):
        n_saved = len(self.saved)
        depends = [True, *self.differentiable, False, *[False] * n_saved, True, True]
        return [[d] * len(node.outputs) for d in depends]

    def pullback(self, inputs, outputs, cotangents):
        # alpha and saved are functions of the residual and the parameters, through which
        # the dense formula accounts for them; they are disconnected here.
        free = [1 + i for i, d in enumerate(self.differentiable) if d]

        def bars(*copies):
            residual, *parameters = copies[: 1 + len(self.parameters)]
            quad, logdet = dense_quad_logdet(self.structure, residual, parameters)
            value = (copies[-2] * quad).sum() + copies[-1] * logdet
            return grad(value, [copies[i] for i in free])

        wrt = [0, *free, len(inputs) - 2, len(inputs) - 1]
        result = [DisconnectedType()() for _ in inputs]
        for i, bar in zip(wrt, pullback_by_definition(bars, inputs, cotangents, wrt), strict=True):
            # Of parameters in which the definition is linear.
            result[i] = inputs[i].zeros_like() if is_disconnected(bar) else bar
        return result


def dense_quad_logdet(structure, residual, parameters):
    """quad (m,) and logdet () from ``to_dense()`` by a symbolic Cholesky factorisation.

    Or by a definition of the structure's own, where the log determinant is a parameter.
    """
    cov = structure.from_parameters(*parameters, size=residual.shape[-1])
    if hasattr(cov, "dense_quad_logdet"):
        return cov.dense_quad_logdet(residual)
    dense = cov.to_dense()
    factor = pt.linalg.cholesky((dense + dense.mT) / 2, lower=True)
    white = pt.linalg.solve_triangular(factor, residual.T, lower=True, b_ndim=2)
    return (white**2).sum(axis=0), 2 * pt.log(pt.diagonal(factor)).sum()


class RowTransform(StructureOp):
    """``(rows (m, k), *parameters) -> (m, n)``: draws from white noise, and whitening.

    For structures whose square root needs a recursion. ``transform`` is a name in their
    ``row_transforms``, which says what k is, and ``<transform>_kernel`` the kernel. The Op has no
    gradient.
    """

    __props__ = ("structure", "transform")
    __str__ = StructureOp.__str__

    def __init__(self, structure, transform: str):
        self.transform = transform
        super().__init__(structure)

    def _declare(self):
        width = self.structure.row_transforms[self.transform]
        inputs = (("rows", ("m", width)), *self.parameters)
        outputs = (("transformed", ("m", "n")),)
        return self._signature(self.structure.label, inputs, outputs, "rows", ("transformed",))

    @property
    def kernel(self):
        return getattr(self.structure, f"{self.transform}_kernel")

    @property
    def kernel_jax(self):
        """The kernel in ``jax.numpy``, or None."""
        return getattr(self.structure, f"{self.transform}_kernel_jax", None)

    def pullback(self, inputs, outputs, cotangents):
        raise NotImplementedError(
            f"{self.structure.label}: {self.transform}() has no gradient; for one, write "
            "gg.cov.Cholesky(pt.linalg.cholesky(cov.to_dense())), at dense cost."
        )
