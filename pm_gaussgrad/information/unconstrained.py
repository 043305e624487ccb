r"""A model's posterior as a function of one unconstrained vector, with its information matrix.

For x, the raveled value variables, the information is the exact Hessian of -log p(y, x), by one
Hessian-vector product a column; or for Gaussian likelihoods their Fisher information, and the
Hessian of what remains.
"""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.backends.base import MultiTrace
from pymc.backends.ndarray import NDArray
from pymc.distributions.multivariate import PrecisionMvNormalRV
from pymc.pytensorf import rewrite_pregrad
from pytensor.tensor.random.basic import MvNormalRV as PlainMvNormalRV

from pm_gaussgrad.cov import Dense, Precision, marginal
from pm_gaussgrad.distributions.normal import MvNormalRV
from pm_gaussgrad.information.fisher import fisher_information
from pm_gaussgrad.likelihood.missing import missing_entries

_KINDS = ("observed", "expected")


class Unconstrained:
    """A model's posterior as a function of one vector: its value variables raveled in order."""

    def __init__(self, model, owner, compile_kwargs):
        if model.discrete_value_vars:
            names = ", ".join(v.name for v in model.discrete_value_vars)
            raise TypeError(
                f"{owner}: the model has discrete variables ({names}), expected continuous ones; "
                "sum over them in the likelihood, or fix them by pm.do."
            )
        if not model.value_vars:
            raise ValueError(f"{owner}: the model has no free variables.")
        self.model, self.owner = model, owner
        # Evaluated so few times that compiling PyTensor's own Ops would take longer.
        defaults = {"mode": "FAST_COMPILE", "on_unused_input": "ignore"}
        self.compile_kwargs = defaults | (compile_kwargs or {})
        self.variables = list(model.value_vars)
        self.point = model.initial_point()
        self.shapes = [np.shape(self.point[v.name]) for v in self.variables]
        self.splits = np.cumsum([np.prod(shape, dtype=int) for shape in self.shapes])[:-1]
        self.names = [
            f"{v.name}[{', '.join(map(str, index))}]" if index else v.name
            for v, shape in zip(self.variables, self.shapes, strict=True)
            for index in np.ndindex(shape)
        ]
        logp = rewrite_pregrad(model.logp())
        slopes = pt.grad(logp, self.variables, disconnected_inputs="ignore")
        self._value_and_slope = self._compile([logp, _join(slopes)])
        self._informations = {}

    def _compile(self, outputs, extra=()):
        """A function of the raveled vector and further inputs."""
        function = pm.compile([*self.variables, *extra], outputs, **self.compile_kwargs)
        return lambda x, *more: function(*self.split(x), *more)

    def split(self, x):
        parts = zip(np.split(x, self.splits), self.shapes, self.variables, strict=True)
        return [part.reshape(shape).astype(v.dtype) for part, shape, v in parts]

    def ravel(self, point, argument):
        missing = [v.name for v in self.variables if v.name not in point]
        if missing:
            raise ValueError(
                f"{self.owner}: `{argument}` lacks {', '.join(missing)}, expected a value for each "
                "of the model's value variables, in their unconstrained space, as "
                "model.initial_point() has them."
            )
        parts = [np.asarray(point[v.name], dtype="float64") for v in self.variables]
        found = {v.name: p.shape for v, p in zip(self.variables, parts, strict=True)}
        expected = dict(zip(found, self.shapes, strict=True))
        if found != expected:
            raise ValueError(
                f"{self.owner}: `{argument}` has the shapes {found}, expected {expected}."
            )
        return np.concatenate([part.ravel() for part in parts])

    def value(self, x):
        return float(self._value_and_slope(x)[0])

    def descent(self, x):
        """The negative log density and its gradient, for minimisers."""
        value, slope = self._value_and_slope(x)
        return -float(value), -np.asarray(slope, dtype="float64")

    def check(self, kind):
        if kind not in _KINDS:
            raise ValueError(
                f"{self.owner}: information is {kind!r}, expected one of {', '.join(_KINDS)}."
            )

    def information(self, x, kind):
        """The information matrix (d, d) at a point."""
        self.check(kind)
        if kind not in self._informations:
            self._informations[kind] = self._informations_of(kind)
        product, expected = self._informations[kind]
        columns = [product(x, unit) for unit in np.eye(x.size)]
        matrix = np.array(columns, dtype="float64") + (expected(x) if expected else 0)
        return (matrix + matrix.T) / 2

    def _informations_of(self, kind):
        """The function (x, u) -> H u of terms by their Hessian, and that of the others, or None."""
        terms, expected = None, None
        if kind == "expected":
            gaussian = [rv for rv in self.model.observed_RVs if _is_gaussian(rv)]
            if not gaussian:
                raise ValueError(
                    f'{self.owner}: information="expected" needs a Gaussian likelihood, '
                    "gg.MvNormal or pm.MvNormal; found none among the observed variables. Use "
                    'information="observed".'
                )
            total = sum(_expected_information(self.owner, self.model, rv) for rv in gaussian)
            expected = self._compile(total)
            others = (*self.model.free_RVs, *self.model.observed_RVs, *self.model.potentials)
            terms = [x for x in others if x not in gaussian]
        logp = rewrite_pregrad(self.model.logp(vars=terms))
        direction = pt.vector("direction", dtype="float64")
        slope = _join(pt.grad(logp, self.variables, disconnected_inputs="ignore"))
        bent = pt.grad((slope * direction).sum(), self.variables, disconnected_inputs="ignore")
        return self._compile(-_join(bent), [direction]), expected

    def factor(self, matrix):
        """The Cholesky factor, or an error that names the direction in which there is none."""
        if not np.isfinite(matrix).all():
            bad = [name for name, row in zip(self.names, matrix, strict=True) if not _finite(row)]
            raise RuntimeError(
                f"{self.owner}: the information is not finite for {', '.join(bad)}. Pass another "
                "point, or check that the log density has two derivatives there."
            )
        scale = np.sqrt(np.abs(np.diag(matrix)))
        scale[scale == 0] = 1
        values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
        if values[0] <= 10 * len(matrix) * np.finfo("float64").eps:
            direction = vectors[:, 0] / scale
            largest = np.argsort(-np.abs(vectors[:, 0]))[:3]
            named = ", ".join(f"{direction[i]:.2g} {self.names[i]}" for i in largest)
            raise RuntimeError(
                f"{self.owner}: the information is not positive definite: its smallest eigenvalue, "
                f"on a scale where the diagonal is one, is {values[0]:.3g}, in the direction "
                f"{named}. The point is no mode, or the data and the priors do not determine that "
                'direction. Start elsewhere, narrow the priors, or use information="expected".'
            )
        return np.linalg.cholesky(matrix)

    def to_datatree(self, x):
        """Draws (chain, draw, d) in the constrained space, as a sampler returns them."""
        outputs = self.model.unobserved_value_vars
        function = pm.compile(self.variables, outputs, **self.compile_kwargs)
        traces = []
        for chain, draws in enumerate(x):
            trace = NDArray(model=self.model, vars=outputs, fn=function)
            trace.setup(len(draws), chain)
            for draw in draws:
                values = dict(zip((v.name for v in self.variables), self.split(draw), strict=True))
                trace.record(values, in_warmup=False)
            traces.append(trace)
        idata = pm.to_inference_data(MultiTrace(traces), model=self.model)
        del idata["sample_stats"]  # of no sampler
        return idata


def _join(tensors):
    return pt.concatenate([x.reshape((-1,)).astype("float64") for x in tensors])


def _finite(row):
    return bool(np.isfinite(row).all())


def _is_gaussian(rv):
    return isinstance(rv.owner.op, MvNormalRV | PlainMvNormalRV | PrecisionMvNormalRV)


def _expected_information(owner, model, rv):
    """The Fisher information of a Gaussian likelihood, with respect to all value variables."""
    value = model.rvs_to_values[rv]
    op, (_, _, *inputs) = rv.owner.op, rv.owner.inputs
    mu, *parameters = model.replace_rvs_by_values(inputs)
    missing = missing_entries(value) if isinstance(op, MvNormalRV) else None
    n = value.shape[-1] if missing is None else missing.shape[-1]
    if isinstance(op, MvNormalRV):
        cov = op.structure.from_parameters(*parameters, size=n)
    else:
        [matrix] = parameters
        # PyMC gives a matrix dimensions of length one for the rows.
        matrix = matrix.squeeze(
            axis=[i for i, one in enumerate(matrix.type.broadcastable[:-2]) if one]
        )
        cov = (Precision if isinstance(op, PrecisionMvNormalRV) else Dense)(matrix)
    shapes = zip(cov.structure.parameter_shapes.values(), cov.parameters, strict=True)
    if any(x.type.ndim > len(dims.split()) for dims, x in shapes):
        raise NotImplementedError(
            f"{owner}: the covariance of {rv.name!r} has batch dimensions, of which the expected "
            'information is not implemented; use information="observed", or one likelihood for '
            "each covariance."
        )
    if missing is not None:
        return _of_observed_entries(pt.broadcast_to(mu, value.shape), cov, missing, model)
    if mu.type.ndim > 1:
        return fisher_information(pt.broadcast_to(mu, value.shape), cov, model.value_vars)
    return fisher_information(mu, cov, model.value_vars, rows=pt.prod(value.shape[:-1]))


def _of_observed_entries(mu, cov, missing, model):
    """That of data with gaps: the sum over patterns of what is missing, each with its rows."""
    n = missing.shape[-1]
    mu, missing, total = mu.reshape((-1, n)), missing.reshape(-1, n), 0.0
    for pattern in np.unique(missing, axis=0):
        rows, observed = np.flatnonzero((missing == pattern).all(axis=1)), np.flatnonzero(~pattern)
        if observed.size:
            mean = mu[rows][:, observed]
            total += fisher_information(mean, marginal(cov, observed), model.value_vars)
    return pt.as_tensor(total)
