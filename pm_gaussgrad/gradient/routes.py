r"""The gradient of a Gaussian log density by three routes that check one another.

With alpha = Sigma^-1 (y - mu) and the entries of Sigma regarded as independent,

    G = d logp / d Sigma = (alpha alpha' - Sigma^-1) / 2        g = d logp / d mu = alpha

and for parameters theta (p,) of the mean and the covariance

    frobenius   d logp / d theta_k = sum_ij G_ij dSigma_ij/dtheta_k + sum_i g_i dmu_i/dtheta_k
    jacobian    d logp / d theta   = J_Sigma' vec(G) + J_mu' g,  J_Sigma = d vec(Sigma) / d theta'
    pullback    reverse mode through the graph of theta -> Sigma; the route that samplers use

The map from G to d logp / d theta is a tensor contraction, not a matrix product: the three
functions compute the same vector. The first two take derivatives that the user supplies and
are dense by nature (n^3 + n^2 p); ``pullback`` costs what the structure costs.

References: Magnus and Neudecker (2019), Matrix Differential Calculus, 3rd ed., chapters 9 and
15 (vec, layouts, the Gaussian likelihood); Mardia and Marshall (1984), Biometrika 71, 135-146,
eq. 2.4.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant, Variable

from pm_gaussgrad.cov.matrices.dense import Dense
from pm_gaussgrad.cov.protocol.base import Covariance, as_parameter
from pm_gaussgrad.likelihood.density import as_covariance, logp
from pm_gaussgrad.ops import InvQuadLogdet, InvQuadLogdetPullback


def frobenius(value, mu, cov, dmu=None, dcov=None):
    r"""Gradient from explicit derivatives, by Frobenius inner products.

    .. math::
        \partial_k \log p
        = \langle G, \partial_k \Sigma\rangle_F + \langle g, \partial_k \mu\rangle

    Parameters
    ----------
    value : array_like or TensorVariable, shape (..., n), in units of [y]
        Observations; the log densities of several rows are summed.
    mu : array_like or TensorVariable, shape () or (..., n), in units of [y]
        Mean.
    cov : array_like, TensorVariable, shape (n, n), or gg.cov structure, in units of [y]^2
        Covariance, common to the rows.
    dmu : array_like or TensorVariable, shape (n, p) or (..., n, p), optional
        Derivatives of the mean; None where it does not depend on the parameters.
    dcov : array_like or TensorVariable, shape (n, n, p), optional
        Derivatives of the covariance; None where it does not depend on the parameters.

    Returns
    -------
    numpy.ndarray or TensorVariable, shape (p,)
        A tensor if any argument is one, else an array. NaN where the covariance is not
        positive definite.

    Raises
    ------
    TypeError
        If an argument has the wrong number of dimensions.
    ValueError
        If sizes disagree, or neither ``dmu`` nor ``dcov`` is given.

    Notes
    -----
    Cost: n^3 + n^2 p. Arrays are contracted slice by slice; no temporary is larger than (n, n).

    Examples
    --------
    >>> import numpy as np
    >>> import pm_gaussgrad as gg
    >>> dcov = np.eye(2)[:, :, None]  # Sigma = theta I, at theta = 1
    >>> gg.gradient.frobenius(np.array([1.0, 2.0]), 0.0, np.eye(2), dcov=dcov)
    array([1.5])
    """
    name = "gg.gradient.frobenius"
    value, mu, matrix, (dmu, dcov), symbolic = _arguments(
        name, value, mu, cov, {"dmu": dmu, "dcov": dcov}
    )
    n = matrix.type.shape[-1] if symbolic else matrix.shape[-1]
    _check_derivative(name, "dcov", dcov, (n, n, None), symbolic)
    _check_derivative(name, "dmu", dmu, (*[None] * (_ndim(dmu, 2) - 2), n, None), symbolic)
    alpha, inner = _score(value, mu, matrix, symbolic)
    terms = []
    if dcov is not None and symbolic:
        terms.append(pt.tensordot(inner, dcov, axes=[[0, 1], [0, 1]]))
    elif dcov is not None:
        slices = [np.einsum("ij,ij->", inner, dcov[:, :, k]) for k in range(dcov.shape[-1])]
        terms.append(np.array(slices))
    if dmu is not None:
        rows = alpha.sum(axis=0) if _ndim(dmu, 2) == 2 else alpha
        if symbolic:
            terms.append((rows[..., None] * dmu).sum(axis=tuple(range(dmu.type.ndim - 1))))
        else:
            terms.append(np.einsum("...i,...ik->k", rows.reshape(dmu.shape[:-1]), dmu))
    return _total(name, terms)


def jacobian(value, mu, cov, J_mu=None, J_cov=None, layout=None):
    r"""Gradient from Jacobian matrices, :math:`J_\Sigma^\top \operatorname{vec}(G) + J_\mu^\top g`.

    Parameters
    ----------
    value : array_like or TensorVariable, shape (..., n), in units of [y]
        Observations; the log densities of several rows are summed.
    mu : array_like or TensorVariable, shape () or (..., n), in units of [y]
        Mean.
    cov : array_like, TensorVariable, shape (n, n), or gg.cov structure, in units of [y]^2
        Covariance, common to the rows.
    J_mu : array_like or TensorVariable, shape (n, p), optional
        d mu / d theta'.
    J_cov : array_like or TensorVariable, shape (n^2, p), optional
        d vec(Sigma) / d theta', with the column-stacking vec: entry (i, j) of the covariance is
        row i + n j.
    layout : {None, "numerator", "denominator"}, optional
        Shape of the result: (p,), the row (1, p) or the column (p, 1).

    Returns
    -------
    numpy.ndarray or TensorVariable
        A tensor if any argument is one, else an array.

    Raises
    ------
    TypeError
        If an argument has the wrong number of dimensions.
    ValueError
        If sizes disagree, the layout is unknown, or neither Jacobian is given.

    Examples
    --------
    >>> import numpy as np
    >>> import pm_gaussgrad as gg
    >>> J_cov = np.eye(2).reshape(4, 1)  # Sigma = theta I, at theta = 1
    >>> gg.gradient.jacobian(np.array([1.0, 2.0]), 0.0, np.eye(2), J_cov=J_cov, layout="numerator")
    array([[1.5]])
    """
    name = "gg.gradient.jacobian"
    if layout not in (None, "numerator", "denominator"):
        raise ValueError(
            f'{name}: layout is {layout!r}, expected None, "numerator" or "denominator".'
        )
    value, mu, matrix, (J_mu, J_cov), symbolic = _arguments(
        name, value, mu, cov, {"J_mu": J_mu, "J_cov": J_cov}
    )
    n = matrix.type.shape[-1] if symbolic else matrix.shape[-1]
    _check_derivative(name, "J_cov", J_cov, (None if n is None else n * n, None), symbolic)
    _check_derivative(name, "J_mu", J_mu, (n, None), symbolic)
    alpha, inner = _score(value, mu, matrix, symbolic)
    terms = []
    if J_cov is not None:
        terms.append(J_cov.T @ inner.T.reshape((-1,)))
    if J_mu is not None:
        terms.append(J_mu.T @ alpha.sum(axis=0))
    gradient = _total(name, terms)
    if layout is None:
        return gradient
    return gradient[None, :] if layout == "numerator" else gradient[:, None]


def pullback(value, mu, cov, parameters):
    """Gradient by reverse mode through the graph, at the cost of the structure.

    Parameters
    ----------
    value : array_like or TensorVariable, shape (..., n), in units of [y]
        Observations; the log densities of several rows are summed.
    mu : array_like or TensorVariable, shape () or (..., n), in units of [y]
        Mean.
    cov : array_like, TensorVariable, shape (..., n, n), or gg.cov structure, in units of [y]^2
        Covariance.
    parameters : TensorVariable, array_like, or a sequence of them
        Tensors in the graph of ``value``, ``mu`` or ``cov``; with arrays, the very objects
        passed as ``value``, ``mu`` or ``cov``.

    Returns
    -------
    numpy.ndarray or TensorVariable, shape (p,)
        The gradients, raveled and joined in the order of ``parameters``; a tensor if the
        parameters are tensors, else an array.

    Raises
    ------
    TypeError
        If a parameter is an array that is none of the arguments.

    Examples
    --------
    >>> import pytensor.tensor as pt
    >>> import pm_gaussgrad as gg
    >>> theta = pt.constant(1.0)
    >>> gg.gradient.pullback([1.0, 2.0], 0.0, gg.cov.Diagonal(theta), theta).eval()
    array([1.5])
    """
    if not isinstance(parameters, list | tuple):
        parameters = [parameters]
    arguments = {"value": value, "mu": mu, "cov": cov}
    symbolic = any(isinstance(p, Variable) for p in parameters)
    tensors = {
        name: x if isinstance(x, Covariance) else as_parameter("gg.gradient.pullback", name, x, 0)
        for name, x in arguments.items()
    }
    wrt = []
    for parameter in parameters:
        if isinstance(parameter, Variable):
            wrt.append(parameter)
            continue
        names = [name for name, x in arguments.items() if x is parameter]
        if not names or isinstance(parameter, Covariance):
            raise TypeError(
                "gg.gradient.pullback: a parameter that is not a tensor must be the very array "
                f"passed as value, mu or cov; found a {type(parameter).__name__}. Build the "
                "covariance from tensors, e.g. theta = pytensor.tensor.vector('theta')."
            )
        wrt.append(tensors[names[0]])
    total = logp(tensors["value"], tensors["mu"], tensors["cov"]).sum()
    gradient = pt.concatenate([g.reshape((-1,)) for g in pt.grad(total, wrt)])
    return gradient if symbolic else gradient.eval()


def _is_tensor(x) -> bool:
    return isinstance(x, Variable) or (
        isinstance(x, Covariance) and not all(isinstance(p, Constant) for p in x.parameters)
    )


def _arguments(owner, value, mu, cov, derivatives):
    """Rows (m, n), mean, matrix (n, n) and derivatives: all arrays, or all tensors."""
    symbolic = any(_is_tensor(x) for x in (value, mu, cov, *derivatives.values()))
    if all(x is None for x in derivatives.values()):
        raise ValueError(f"{owner}: pass at least one of {' and '.join(derivatives)}.")
    cov = as_covariance(cov)
    matrix = cov.to_dense()
    if matrix.type.ndim != 2:
        raise TypeError(f"{owner}: `cov` has {matrix.type.ndim} dimensions, expected one (n, n).")
    value = as_parameter(owner, "value", value, 1)
    mu = as_parameter(owner, "mu", mu, 0)
    tensors = [None if x is None else as_parameter(owner, k, x, 0) for k, x in derivatives.items()]
    n = _agreed_size(owner, matrix, value, mu)
    if symbolic:
        return value, mu, matrix, tensors, True
    arrays = [None if x is None else x.data for x in tensors]
    data = matrix.data if isinstance(matrix, Constant) else matrix.eval()
    rows = np.broadcast_to(value.data, np.broadcast_shapes(value.data.shape, (n,)))
    return rows, mu.data, data, arrays, False


def _agreed_size(owner, matrix, value, mu):
    n = matrix.type.shape[-1]
    for name, x in (("value", value), ("mu", mu)):
        size = x.type.shape[-1] if x.type.ndim else 1
        if None not in (n, size) and size != n and not (name == "mu" and size == 1):
            raise ValueError(f"{owner}: `{name}` has shape {x.type.shape}, expected (..., {n}).")
    return n


def _ndim(x, default: int) -> int:
    return default if x is None else x.ndim


def _check_derivative(owner, name, x, expected, symbolic) -> None:
    if x is None:
        return
    shape = x.type.shape if symbolic else x.shape
    described = f"({', '.join('p' if e is None else str(e) for e in expected)})"
    if len(shape) != len(expected):
        raise TypeError(
            f"{owner}: `{name}` has {len(shape)} dimension(s), expected {len(expected)}: "
            f"{described}; the last dimension runs over the parameters."
        )
    if any(None not in (s, e) and s != e for s, e in zip(shape, expected, strict=True)):
        raise ValueError(f"{owner}: `{name}` has shape {tuple(shape)}, expected {described}.")


def _score(value, mu, matrix, symbolic):
    """alpha (m, n), and d logp / d Sigma summed over the rows, (n, n)."""
    if symbolic:
        residual = value - mu
        rows = residual.reshape((-1, residual.shape[-1])) if residual.type.ndim != 2 else residual
        op = InvQuadLogdet(Dense)
        quad, logdet, alpha, *saved = op.make_node(rows, matrix).outputs
        # Each row brings the log determinant once.
        weights = pt.full_like(quad, -0.5), -0.5 * rows.shape[0].astype(logdet.dtype)
        pull = InvQuadLogdetPullback(Dense).make_node(rows, matrix, alpha, *saved, *weights)
        return alpha, pull.outputs[0]
    rows = np.asarray(value - mu, dtype=matrix.dtype)
    rows = rows.reshape(-1, matrix.shape[-1])
    quad, logdet, alpha, *saved = InvQuadLogdet(Dense).evaluate(rows, matrix)
    weights = np.full_like(quad, -0.5), np.full_like(logdet, -0.5 * len(rows))
    (inner,) = InvQuadLogdetPullback(Dense).evaluate(rows, matrix, alpha, *saved, *weights)
    return alpha, inner


def _total(owner, terms):
    if len(terms) == 2 and not isinstance(terms[0], Variable) and terms[0].shape != terms[1].shape:
        raise ValueError(
            f"{owner}: the derivatives of the mean and of the covariance are for {len(terms[1])} "
            f"and {len(terms[0])} parameters; their last dimensions must agree."
        )
    return sum(terms[1:], start=terms[0])
