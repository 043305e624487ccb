"""The audit of a model's gradient: three witnesses side by side, and what they say."""

from functools import reduce

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
from pymc.blocking import DictToArrayBijection
from pymc.distributions.multivariate import KroneckerNormalRV
from pymc.model.fgraph import fgraph_from_model, model_from_fgraph
from pytensor.graph.rewriting.basic import in2out, node_rewriter

from pm_gaussgrad.distributions.normal import MvNormal, MvNormalRV
from pm_gaussgrad.distributions.student import MvStudentTRV

# 4th-order central differences: truncation h^4, rounding eps / h.
_STEP = float(np.finfo("float64").eps ** 0.2)
_OFFSETS, _WEIGHTS = np.array([-2, -1, 1, 2]), np.array([1, -8, 8, -1]) / 12


@node_rewriter([MvStudentTRV])
def _densify_student(fgraph, node):
    """A structured Student-t as the ``pm.MvStudentT`` with the same dense scale matrix."""
    rng, size, nu, mu, *parameters = node.inputs
    scale = node.op.structure.from_parameters(*parameters, size=mu.shape[-1]).to_dense()
    dense = pm.MvStudentT.dist(nu, mu=mu, scale=scale, size=size, rng=rng, return_next_rng=True)
    return list(dense)


@node_rewriter([MvNormalRV, KroneckerNormalRV])
def _densify(fgraph, node):
    """A structured normal as the ``pm.MvNormal`` with the same dense covariance.

    Of coefficients with a flat prior, which have none, beside a dense matrix in place of the rest.
    """
    rng, size, mu, *parameters = node.inputs
    if isinstance(node.op, MvNormalRV):
        cov = node.op.structure.from_parameters(*parameters, size=mu.shape[-1])
        if hasattr(cov, "proper"):
            return MvNormal.dist(mu, cov.beside_dense(), size=size, rng=rng).owner.outputs
        cov = cov.to_dense()
    else:
        sigma, *factors = parameters
        cov = reduce(pt.linalg.kron, factors)
        cov = cov + sigma**2 * pt.eye(cov.shape[-1])
    return list(pm.MvNormal.dist(mu, cov, size=size, rng=rng, return_next_rng=True))


def densified(model: pm.Model) -> pm.Model:
    """The same model with every structured normal or Student-t written as PyMC's dense one."""
    fgraph, _ = fgraph_from_model(model)
    in2out(_densify, _densify_student, ignore_newtrees=True).rewrite(fgraph)
    return model_from_fgraph(fgraph, mutate_fgraph=True)


def _finite_differences(logp, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """4th-order central differences, and the rounding error to expect of each."""
    derivative, noise = np.empty_like(x), np.empty_like(x)
    for i in range(x.size):
        step = _STEP * max(1.0, abs(x[i]))
        values = np.empty(4)
        for j, offset in enumerate(_OFFSETS):
            moved = x.copy()
            moved[i] += offset * step
            values[j] = logp(moved)
        derivative[i] = _WEIGHTS @ values / step
        noise[i] = 10 * np.finfo(float).eps * np.abs(values).max() / step
    return derivative, noise


def _verdict(gradient, dense, finite, noise) -> str:
    """Which of the three disagree, in words."""
    scale = max(1.0, abs(finite)) if np.isfinite(finite) else 1.0

    def agree(a, b, tolerance):
        return bool(np.isfinite([a, b]).all() and abs(a - b) <= tolerance)

    exact = agree(gradient, dense, 1e-6 * scale)
    model_fd = agree(gradient, finite, 1e-5 * scale + noise)
    dense_fd = agree(dense, finite, 1e-5 * scale + noise)
    if exact and model_fd:
        return "agree"
    if dense_fd:
        found = f"is {gradient}" if not np.isfinite(gradient) else "disagrees"
        return f"model gradient {found}; dense autodiff and finite differences agree"
    if model_fd:
        return "dense autodiff disagrees; model gradient and finite differences agree"
    if exact:
        return "finite differences disagree; model gradient and dense autodiff agree"
    return "no two of the three agree"


def audit(model: pm.Model, point: dict | None = None) -> pd.DataFrame:
    """The model's gradient beside dense autodiff and finite differences.

    Parameters
    ----------
    model : pymc.Model
        Any model with continuous free variables. ``gg.MvNormal`` and ``pm.KroneckerNormal`` in it
        are also evaluated as dense ``pm.MvNormal``, and ``gg.MvStudentT`` as dense
        ``pm.MvStudentT``: the second witness.
    point : dict, optional
        Values of the model's value variables (unconstrained, as ``model.initial_point()``, which is
        the default).

    Returns
    -------
    pandas.DataFrame
        One row a scalar parameter (index ``parameter``), with columns ``gradient`` (the
        model's), ``dense_autodiff``, ``finite_difference`` (4th order), ``minus_dense`` and
        ``minus_finite`` (the model's gradient less each witness), and ``verdict``, which says
        in words which of them disagree.

    Notes
    -----
    Compiles the function that samplers use, interprets the dense witness, and evaluates the log
    density four times a parameter: for checking a model, not for sampling it.

    Examples
    --------
    >>> import pymc as pm
    >>> import pm_gaussgrad as gg
    >>> with pm.Model() as model:
    ...     sigma = pm.HalfNormal("sigma")
    ...     y = gg.MvNormal("y", 0.0, gg.cov.Diagonal(sigma**2), observed=[0.5, -0.2, 0.1])
    >>> gg.gradient.audit(model).verdict.to_dict()
    {'sigma_log__': 'agree'}
    """
    point = model.initial_point() if point is None else point
    variables = model.continuous_value_vars
    function = model.logp_dlogp_function(ravel_inputs=True, initial_point=point)
    twin = densified(model)
    # A rebuilt model may list its variables in another order.
    same_order = [twin.rvs_to_values[twin[model.values_to_rvs[v].name]] for v in variables]
    # Evaluated once: interpreted, which needs no compilation.
    witness = twin.logp_dlogp_function(
        same_order, ravel_inputs=True, initial_point=point, mode="FAST_COMPILE"
    )
    x = DictToArrayBijection.map({v.name: np.asarray(point[v.name]) for v in variables}).data
    x = x.astype("float64")
    gradient, dense = np.asarray(function(x)[1]), np.asarray(witness(x)[1])
    finite, noise = _finite_differences(lambda at: float(function(at)[0]), x)
    names = [
        f"{v.name}[{', '.join(map(str, index))}]" if index else v.name
        for v in variables
        for index in np.ndindex(np.shape(point[v.name]))
    ]
    return pd.DataFrame(
        {
            "gradient": gradient,
            "dense_autodiff": dense,
            "finite_difference": finite,
            "minus_dense": gradient - dense,
            "minus_finite": gradient - finite,
            "verdict": [_verdict(*row) for row in zip(gradient, dense, finite, noise, strict=True)],
        },
        index=pd.Index(names, name="parameter"),
    )
