r"""The one differentiable primitive: quadratic forms and log determinant of a structure.

For residual rows R (m, n) that share one covariance Sigma(theta)::

    quad_i = r_i' Sigma^-1 r_i        logdet = log |Sigma|        alpha = R Sigma^-1

With cotangents q = quad_bar, l = logdet_bar, the cotangent of Sigma (its entries regarded
as independent) and of the residuals is

    Sigma_bar = - alpha' diag(q) alpha + l Sigma^-1        R_bar = 2 diag(q) alpha

A structure never forms Sigma_bar: its pullback kernel applies the adjoint of theta -> Sigma
to that sum of a low-rank part and an inverse. R_bar is the same for all and is done here.

The output alpha can be differentiated too, with the same kernels. With alpha_bar = B and
C = B Sigma^-1, the cotangents are R_bar = C and Sigma_bar = -(C' alpha + alpha' C) / 2; and since

    c a' + a c' = ((c + a)(c + a)' - (c - a)(c - a)') / 2,

that is a quadratic-form pullback with the rows c + a and c - a and weights 1/4 and -1/4.
"""

from itertools import chain

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType, disconnected_grad
from pytensor.gradient import grad as symbolic_grad
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.replace import clone_replace
from pytensor.tensor.type import discrete_dtypes

from pm_gaussgrad.ops.compiled import compiled_kernel, kernel_arguments
from pm_gaussgrad.ops.signature import Signature, common_float


def is_disconnected(cotangent) -> bool:
    """Whether nothing flows back through an output."""
    return isinstance(cotangent.type, DisconnectedType)


def _add_cotangents(old, new):
    """Sums entry by entry, where None is an absent cotangent."""
    return [b if a is None else a if b is None else a + b for a, b in zip(old, new, strict=True)]


class StructureOp(Op):
    """What the forward and the pullback Op share: shapes, ``perform``, the compiled kernel."""

    __props__: tuple[str, ...] = ("structure", "inplace")
    zero_inputs: tuple[str, ...] = ()

    def __init__(self, structure, inplace: bool = False):
        self.structure = structure
        self.inplace = inplace
        self.signature = self._declare()
        self.gufunc_signature = self.signature.gufunc
        if inplace:
            self.destroy_map = self._overwritten()

    def _declare(self) -> Signature:
        raise NotImplementedError

    @property
    def kernel(self):
        """The array function; its arguments are inputs of the signature, by name."""
        raise NotImplementedError

    @property
    def parameters(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        shapes = self.structure.parameter_shapes.items()
        return tuple((name, tuple(dims.split())) for name, dims in shapes)

    @property
    def saved(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        shapes = self.structure.saved_shapes.items()
        return tuple((name, tuple(dims.split())) for name, dims in shapes)

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

    def infer_shape(self, node, input_shapes):
        return self.signature.infer_outputs(input_shapes)

    def compiled(self):
        """The numba function and its cache key."""
        return compiled_kernel(self.kernel, self.signature, self.zero_inputs)

    def evaluate(self, *inputs) -> tuple[np.ndarray, ...]:
        """Outputs from concrete arrays, by the compiled kernel."""
        function, _ = self.compiled()
        outputs = function(*inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def perform(self, node, inputs, output_storage):
        for storage, value in zip(output_storage, self.evaluate(*inputs), strict=True):
            storage[0] = value

    def _overwritten(self) -> dict[int, list[int]]:
        """The destroy map of the in-place form, from the structure's declaration."""
        inputs = [name for name, _ in self.signature.inputs]
        outputs = [name for name, _ in self.signature.outputs]
        return {
            outputs.index(output): [inputs.index(name)]
            for output, name in self.structure.overwrites.items()
            if output in outputs and name in inputs
        }

    def inplace_on_inputs(self, allowed_inplace_inputs):
        overwritten = self._overwritten()
        if not overwritten or any(i not in allowed_inplace_inputs for [i] in overwritten.values()):
            return self
        return type(self)(**self._props_dict() | {"inplace": True})

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
        return Signature(self.structure.label, inputs, outputs, "residual")

    @property
    def kernel(self):
        return self.structure.forward_inplace if self.inplace else self.structure.forward

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
            # A rejected point has zero cotangents and NaN in alpha: its gradient is zero.
            weights = quad_bar[:, None]
            residual_bar += pt.switch(pt.eq(weights, 0), 0, 2 * weights * alpha)
            parameters_bar = self._pull(residual, parameters, alpha, saved, quad_bar, logdet_bar)
        if not is_disconnected(alpha_bar):
            solve_bar, through_alpha = self._pull_alpha(residual, parameters, alpha_bar)
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

    def _pull_alpha(self, residual, parameters, alpha_bar):
        """The cotangents that reach the inputs through alpha (module docstring)."""
        norm = pt.sqrt((residual**2).sum(axis=-1) / (alpha_bar**2).sum(axis=-1))
        usable = pt.isfinite(norm) & pt.gt(norm, 0)
        # Rows of equal length lose the least to cancellation; the scale is not differentiated.
        scale = disconnected_grad(pt.sqrt(pt.switch(usable, norm, 1)))[:, None]
        residual_bar, parameters_bar = 0, None
        for sign in (1, -1):
            rows = alpha_bar * scale + sign * residual / scale
            quad, logdet, alpha, *saved = self.make_node(rows, *parameters).outputs
            weights = pt.full_like(quad, sign * 0.25)
            bars = self._pull(rows, parameters, alpha, saved, weights, logdet.zeros_like())
            residual_bar += alpha / (2 * scale)
            parameters_bar = _add_cotangents(parameters_bar or [None] * len(bars), bars)
        return residual_bar, parameters_bar


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

    def __init__(self, structure, inplace: bool = False, trimmed: bool = False):
        self.trimmed = trimmed
        super().__init__(structure, inplace)

    def _declare(self):
        alpha = ("alpha", ("m", "n"))
        cotangents = (("quad_bar", ("m",)), ("logdet_bar", ()))
        inputs = (("residual", ("m", "n")), *self.parameters, alpha, *self.saved, *cotangents)
        if self.trimmed:
            kernels = filter(None, (self.structure.pullback, self.structure.pullback_jax))
            read = {*self.zero_inputs, *chain.from_iterable(map(kernel_arguments, kernels))}
            inputs = tuple((name, dims) for name, dims in inputs if name in read)
        constant = self.structure.constant_parameters
        outputs = tuple((f"{k}_bar", dims) for k, dims in self.parameters if k not in constant)
        return Signature(f"{self.structure.label} (pullback)", inputs, outputs, "quad_bar")

    @property
    def kernel(self):
        return self.structure.pullback_inplace if self.inplace else self.structure.pullback

    def connection_pattern(self, node):
        n_saved = len(self.saved)
        depends = [True, *self.differentiable, False, *[False] * n_saved, True, True]
        return [[d] * len(node.outputs) for d in depends]

    def pullback(self, inputs, outputs, cotangents):
        # alpha and saved are functions of the residual and the parameters, through which
        # the dense formula accounts for them; they are disconnected here.
        stop = 1 + len(self.parameters)
        wrt = [0, *(1 + i for i, d in enumerate(self.differentiable) if d), -2, -1]
        dummies = [x.type() for x in inputs]
        residual, *parameters = dummies[:stop]
        quad, logdet = dense_quad_logdet(self.structure, residual, parameters)
        value = (dummies[-2] * quad).sum() + dummies[-1] * logdet
        differentiable = [p for p, d in zip(parameters, self.differentiable, strict=True) if d]
        first = symbolic_grad(value, differentiable)
        bars = [
            x.type() if not is_disconnected(c) else None
            for x, c in zip(outputs, cotangents, strict=True)
        ]
        inner = sum((f * b).sum() for f, b in zip(first, bars, strict=True) if b is not None)
        second = symbolic_grad(inner, [dummies[i] for i in wrt], disconnected_inputs="ignore")
        given = dict(zip(dummies, inputs, strict=True))
        given |= {b: c for b, c in zip(bars, cotangents, strict=True) if b is not None}
        result = [DisconnectedType()() for _ in inputs]
        for i, derivative in zip(wrt, clone_replace(second, given), strict=True):
            result[i] = derivative
        return result


def dense_quad_logdet(structure, residual, parameters):
    """quad (m,) and logdet () from ``to_dense()`` by a symbolic Cholesky factorisation."""
    dense = structure.from_parameters(*parameters, size=residual.shape[-1]).to_dense()
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
        return Signature(self.structure.label, inputs, (("transformed", ("m", "n")),), "rows")

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
