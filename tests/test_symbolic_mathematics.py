"""The formulas of the mathematics page, by a computer algebra system: exact, for n = 2 and 3.

Mean and covariance are any functions of two parameters.
"""

import pytest
import sympy as sp

THETA = sp.symbols("a b", real=True)


@pytest.fixture(scope="module", params=[2, 3])
def model(request):
    """The residual y - mu(theta), mu(theta), Sigma(theta) and its inverse."""
    n = request.param
    mean = sp.Matrix([sp.Function(f"m{i}")(*THETA) for i in range(n)])
    cov = sp.Matrix(n, n, lambda i, j: sp.Function(f"s{min(i, j)}{max(i, j)}")(*THETA))
    return sp.Matrix(sp.symbols(f"y:{n}")) - mean, mean, cov, cov.adjugate() / cov.det()


def _vanishes(expression):
    """Of a rational function of the entries and their derivatives."""
    entries = expression.atoms(sp.core.function.AppliedUndef, sp.Derivative)
    names = {x: sp.Dummy() for x in entries}
    numerator, _ = sp.fraction(sp.together(expression.xreplace(names)))
    return numerator == 0 or sp.Poly(numerator, *numerator.free_symbols).is_zero


def _inner(left, right):
    return sum(x * y for x, y in zip(left, right, strict=True))


@pytest.mark.parametrize("theta", THETA, ids=str)
def test_closed_forms(model, theta):
    """d log|Sigma| = tr(P dSigma) and d(u' P u) = 2 alpha' du - alpha' dSigma alpha."""
    residual, _, cov, inverse = model
    move, alpha = cov.diff(theta), inverse * residual
    assert _vanishes(sp.log(cov.det()).diff(theta) - (inverse * move).trace())
    quad = _inner(residual, alpha)
    closed = 2 * _inner(alpha, residual.diff(theta)) - _inner(alpha, move * alpha)
    assert _vanishes(quad.diff(theta) - closed)


@pytest.mark.parametrize("position", [0, 1])
def test_three_routes(model, position):
    """Frobenius products, Jacobian matrices and the pullback give d log p / d theta."""
    residual, mean, cov, inverse = model
    theta, alpha = THETA[position], inverse * residual
    log_p = -(_inner(residual, alpha) + sp.log(cov.det()) + len(mean) * sp.log(2 * sp.pi)) / 2
    derivative = log_p.diff(theta)
    g, G = alpha, (alpha * alpha.T - inverse) / 2
    frobenius = _inner(G, cov.diff(theta)) + _inner(g, mean.diff(theta))
    assert _vanishes(derivative - frobenius)
    J_mu, J_cov = mean.jacobian(THETA), cov.vec().jacobian(THETA)
    jacobian = J_cov.T * G.vec() + J_mu.T * g
    assert _vanishes(jacobian[position] - frobenius)
    # One row of the primitive: A = alpha', and the cotangents of its quad and logdet are -1/2.
    quad_bar = logdet_bar = -sp.Rational(1, 2)
    cov_bar = -quad_bar * alpha * alpha.T + logdet_bar * inverse
    residual_bar = 2 * quad_bar * alpha
    pullback = _inner(cov_bar, cov.diff(theta)) + _inner(residual_bar, residual.diff(theta))
    assert _vanishes(pullback - frobenius)
