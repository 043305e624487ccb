r"""``CARMA``: a stationary autoregressive moving-average process in continuous time.

Definition: A(D) y = sigma_w B(D) dW / dt, D = d/dt, A(s) = s^p + a_{p-1} s^{p-1} + ... + a_0,
B(s) = 1 + b_1 s + ... + b_q s^q, q < p; Sigma_ij is the covariance of y at t_i and t_j of a group.
Storage, cost and pullback are those of :mod:`pm_gaussgrad.cov.series.state_space`, with p states.

The state is Schwarz's: z, A(D) z being white noise, is the first of a chain in which each state is
coupled to its neighbours and the last is damped and driven,

    dx_1 = s_1 x_2,  dx_i = s_i x_{i+1} - s_{i-1} x_{i-1},  dx_p = -s_{p-1} x_{p-1} - d x_p + noise.

All states have the variance of z and are independent at one time. With R_k the first column of
Routh's array of A, R_0 = 1, R_1 = a_{p-1} and so on,

    d = R_1,    s_{p-k+1}^2 = R_k / R_{k-2}, k = 2 to p.

These are positive where A is stable and only there, and no equation is solved for the stationary
covariance; equal roots are ordinary points. y = c'x, c' = sum_k b_k e_1' F^k, and a reflection Q
of c / |c| to the first axis makes y the first state: F becomes Q F Q, the covariance of the state
remains a multiple of I. The variance of y is |c|^2 sigma_w^2 / (2 a_0 R_{p-1}).

Sources: Schwarz (1956), Ein Verfahren zur Stabilitaetsfrage bei Matrizen-Eigenwertproblemen; Parks
(1962), A new proof of the Routh-Hurwitz stability criterion using the second method of Liapunov
(the form and its covariance); Brockwell (2001), Levy-driven CARMA processes, section 2; Kelly,
Becker, Sobolewska, Siemiginowska and Uttley (2014), ApJ 788:33, eqs. 1 and 3 (the parameters).
"""

import functools
import operator

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov.protocol.base import as_parameter
from pm_gaussgrad.cov.protocol.constants import check_finite, check_positive, constant_value
from pm_gaussgrad.cov.protocol.scales import as_positive, nan_unless, times_scale
from pm_gaussgrad.cov.series.process import Process
from pm_gaussgrad.kernels.state_space.processes import EXPONENTIAL, LINEAR, OSCILLATOR


class CARMA(Process):
    r"""A continuous-time autoregressive moving-average process, at any times.

    The stationary solution of

    .. math:: y^{(p)} + a_{p-1} y^{(p-1)} + \dots + a_0 y
              = \sigma_w \left(\dot W + b_1 \ddot W + \dots + b_q W^{(q+1)}\right)

    with white noise :math:`\dot W` and q < p, within a group; zero between groups. CARMA(1, 0) is a
    :class:`~pm_gaussgrad.cov.Matern12`, CARMA(2, 0) an :class:`~pm_gaussgrad.cov.SHO`, and with p
    equal roots of A and q = 0 it is a Matern process of smoothness p - 1/2.

    Parameters
    ----------
    sigma : tensor_like, shape () or (...), in units of [y]
        Standard deviation of the process itself, not of the noise that drives it, which is
        ``driving_noise``; with ``group`` also (..., g), one of each.
    ar : tensor_like, shape (..., p), in units of time^(k - p)
        Coefficients :math:`a_0, \dots, a_{p-1}` of ascending powers; that of the highest power, 1,
        is left out. With ``group`` also (..., g, p). For sampling see :meth:`from_factors`.
    ma : tensor_like, shape (..., q), in units of time^k, optional
        Coefficients :math:`b_1, \dots, b_q` of ascending powers; that of the lowest power, 1, is
        left out. With ``group`` also (..., g, q).
    time : array_like, shape (n), in units of time
        Constant: when each observation was made, in any order; finite numbers.
    group : array_like, shape (n), in units of labels, optional
        Constant: whose series each observation belongs to. Where groups have parameters of their
        own, the number of the group, 0 to g - 1.

    Attributes
    ----------
    driving_noise : TensorVariable, shape () or (..., g), in units of [y] time^(1/2 - p)
        The strength :math:`\sigma_w` that belongs to ``sigma``. It is proportional to it: with a
        prior for :math:`\sigma_w` write
        ``unit = gg.cov.CARMA(1.0, ar, ma, time)`` and ``(sigma_w / unit.driving_noise)**2 * unit``.

    Raises
    ------
    TypeError
        If an argument is not real, ``ar`` or ``ma`` is a scalar, a time is no number, or ``time``
        or ``group`` is symbolic.
    ValueError
        If the number of coefficients is not known, p is not 1 to 63, or q not below p; if a
        constant sigma is not positive, or a constant ``ar`` has a root whose real part is not
        negative; if a time or a label is missing, or there are not as many of one as of the other;
        and, where a density is built, if a group has two observations at one time and no noise.

    Notes
    -----
    Cost of value and gradient: O(n p^2) a row, by a Kalman filter with p states and its reverse
    sweep, and for p > 2 or q > 0 the exponential of a matrix (p, p) for each distinct step, O(p^3),
    where neighbouring steps that are equal share one. Pullback: that of the exponential's series,
    which is exact for equal roots; coefficients come in by Routh's array.

    Sums of processes at the same times, in the same groups, and of noise, ``+ Diagonal(...)``,
    are one filter with the states of all. The log density is -inf where sigma is not positive or A
    has a root whose real part is not negative.

    Parameters of other programs: ``alpha`` of tinygp's ``CARMA`` is ``ar``, and its ``beta`` is
    :math:`\sigma_w (1, b_1, \dots, b_q)`.

    References
    ----------
    Brockwell, P. J. (2001). Levy-driven CARMA processes. Annals of the Institute of Statistical
    Mathematics 53, 113-124, section 2.

    Kelly, B. C., Becker, A. C., Sobolewska, M., Siemiginowska, A. and Uttley, P. (2014). Flexible
    and scalable methods for quantifying stochastic variability in the era of massive time-domain
    astronomical data sets. The Astrophysical Journal 788:33, eqs. 1 and 3.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> process = gg.cov.CARMA(2.0, ar=[0.5, 2.0, 1.0], ma=[0.8], time=[0, 1, 3])
    >>> process.to_dense().eval().round(3)
    array([[4.   , 2.683, 0.305],
           [2.683, 4.   , 0.804],
           [0.305, 0.804, 4.   ]])
    """

    def __init__(self, sigma, ar, ma=None, time=None, group=None):
        ar = _coefficients(self.label, "ar", ar)
        ma = [] if ma is None else _coefficients(self.label, "ma", ma)
        self._build(sigma, ar, ma, time, group)

    @classmethod
    def from_factors(cls, sigma, ar, ma=None, time=None, group=None):
        r"""From quadratic factors of both polynomials, whose coefficients are any positive numbers.

        .. math:: A(s) = (s^2 + \theta_2 s + \theta_1) (s^2 + \theta_4 s + \theta_3) \cdots, \qquad
                  B(s) = (1 + \varphi_1 s + \varphi_2 s^2) (1 + \varphi_3 s + \varphi_4 s^2) \cdots

        with a last factor :math:`s + \theta_p` of odd p, and :math:`1 + \varphi_q s` of odd q. A is
        stable where all :math:`\theta` are positive and only there; with positive
        :math:`\varphi` no two B are of one covariance. The order of factors is arbitrary: give
        them different priors, or order them.

        Parameters
        ----------
        sigma, time, group
            As of :class:`~pm_gaussgrad.cov.CARMA`.
        ar : tensor_like, shape (..., p), in units of 1 / time^2 and 1 / time, in turn
            :math:`\theta`; with ``group`` also (..., g, p).
        ma : tensor_like, shape (..., q), in units of time and time^2, in turn, optional
            :math:`\varphi`; with ``group`` also (..., g, q).

        References
        ----------
        Kelly et al. (2014), The Astrophysical Journal 788:33, section 3.3.

        Jones, R. H. (1981). Fitting a continuous time autoregression to discrete data. Applied Time
        Series Analysis II, 651-682.

        Examples
        --------
        >>> import pm_gaussgrad as gg
        >>> process = gg.cov.CARMA.from_factors(2.0, ar=[1.9, 0.7, 0.3], time=[0, 1, 3])
        >>> process.to_dense().eval().round(3)
        array([[4.   , 3.024, 0.735],
               [3.024, 4.   , 1.407],
               [0.735, 1.407, 4.   ]])
        """
        ar = _coefficients(cls.label, "ar", ar)
        ma = [] if ma is None else _coefficients(cls.label, "ma", ma)
        for x in ar:
            check_positive(cls.label, "ar", x)
        for x in ma:
            check_finite(cls.label, "ma", x)
        usable, ar, ma = _usable(ar, ma)
        one = pt.ones((), dtype=ar[0].dtype)
        autoregressive, moving = [one], [one]
        for i in range(0, len(ar), 2):
            autoregressive = _product(autoregressive, [*ar[i : i + 2], one])
        for i in range(0, len(ma), 2):
            moving = _product(moving, [one, *ma[i : i + 2]])
        # A NaN in a product would be one in its slope.
        autoregressive[0] = nan_unless(usable, autoregressive[0])
        made = object.__new__(cls)
        made._build(sigma, autoregressive[:-1], moving[1:], time, group)
        return made

    def _build(self, sigma, ar, ma, time, group):
        if not len(ma) < len(ar) < 64:
            raise ValueError(
                f"{self.label}: {len(ar)} coefficients in `ar` and {len(ma)} in `ma`, expected p "
                "and q of q < p < 64; the leading 1 of `ar` and the first 1 of `ma` are left out."
            )
        if time is None:
            raise TypeError(f"{self.label}: `time` is missing, expected when observations are.")
        named = {f"ar[{i}]": x for i, x in enumerate(ar)}
        named |= {f"ma[{i}]": x for i, x in enumerate(ma)}
        (sigma, *values), place = self._read(time, group, sigma=sigma, **named)
        usable, ar, ma = _usable(values[: len(ar)], values[len(ar) :])
        stable, pivots = _routh(ar)
        self._check_stable(stable)
        variance = nan_unless(usable & stable, times_scale(sigma, sigma))
        system, square = _system(pivots, ar, ma)
        self._make([_process(variance, system, ar, ma)], place)
        driving = sigma * nan_unless(usable & stable, pt.sqrt(2 * ar[0] * pivots[-2] / square))
        self.driving_noise = driving[..., 0] if group is None else driving

    def _check(self, name, x):
        if name.startswith("ma"):
            check_finite(self.label, name, x)
        else:
            super()._check(name, x)

    def _check_stable(self, stable):
        known = constant_value(stable)
        if known is not None and not known.all():
            raise ValueError(
                f"{self.label}: the polynomial of `ar` has a root whose real part is not negative, "
                "expected a stationary process; CARMA.from_factors is one for all positive numbers."
            )


def _coefficients(owner, name, value):
    """The entries of a vector, (..., k), as k tensors, (...); constant where they are."""
    value = as_parameter(owner, name, value, 1)
    count = value.type.shape[-1]
    if not count:
        raise ValueError(
            f"{owner}: `{name}` has shape {value.type.shape}, expected a known number of "
            "coefficients, at least one; give it a static shape, "
            f"pt.specify_shape({name}, (order,)), or leave ma= out."
        )
    known = constant_value(value)
    if known is not None:
        return [pt.constant(np.asarray(known[..., i], value.dtype)) for i in range(count)]
    return [value[..., i] for i in range(count)]


def _product(left, right):
    """Coefficients of the product of two polynomials."""
    found = [0] * (len(left) + len(right) - 1)
    for i, x in enumerate(left):
        for j, y in enumerate(right):
            found[i + j] += x * y
    return found


def _usable(ar, ma):
    """Where all coefficients are numbers and those of A positive; ones in place of others."""
    finite = [pt.isfinite(pt.ceil(x)) for x in (*ar, *ma)]
    safe = [pt.switch(ok, x, 1) for ok, x in zip(finite, (*ar, *ma), strict=True)]
    positive, numbers = map(list, zip(*map(as_positive, safe[: len(ar)]), strict=True))
    return functools.reduce(operator.and_, [*finite, *positive]), numbers, safe[len(ar) :]


def _routh(ar):
    """Whether A is stable, and the first column of Routh's array, R_0 to R_p, positive."""
    falling = [pt.ones_like(ar[-1]), *ar[::-1]]
    above, row, stable, pivots = falling[::2], falling[1::2], [], [falling[0]]
    while row:
        positive, pivot = as_positive(row[0])
        stable, pivots = [*stable, positive], [*pivots, pivot]
        ratio = above[0] / pivot
        following = [
            x - ratio * row[j] if j < len(row) else x for j, x in enumerate(above[1:], start=1)
        ]
        above, row = [pivot, *row[1:]], following
    return functools.reduce(operator.and_, stable), pivots


def _system(pivots, ar, ma):
    """F by rows, numbers or tensors, in which what is seen is the first state, and |c|^2."""
    size = len(ar)
    couplings = [pt.sqrt(pivots[k] / pivots[k - 2]) for k in range(size, 1, -1)]
    chain = [[0] * size for _ in range(size)]
    for i, coupling in enumerate(couplings):
        chain[i][i + 1], chain[i + 1][i] = coupling, -coupling
    chain[-1][-1] = -pivots[1]
    if not ma:
        return chain, 1
    # c by powers of F; the last state is damped, and no power but the highest reaches it.
    row = [1, *[0] * (size - 1)]
    seen = row
    for x in ma:
        row = [_inner(row, column) for column in zip(*chain, strict=True)]
        seen = [y + x * moved for y, moved in zip(seen, row, strict=True)]
    square = _inner(seen, seen)
    return _reflected(chain, [y / pt.sqrt(square) for y in seen]), square


def _reflected(system, axis):
    """Q F Q, Q the reflection by which a unit vector becomes plus or minus the first axis.

    Q = I - v v' / k, v = c + e_1, or c - e_1 where c_1 < 0, k = v'v / 2 = 1 + |c_1|.
    """
    sign = pt.switch(pt.ge(axis[0], 0), 1, -1).astype(axis[0].dtype)
    normal = [axis[0] + sign, *axis[1:]]
    unit = [x / (1 + pt.abs(axis[0])) for x in normal]
    ahead = [_inner(row, normal) for row in system]
    back = [_inner(normal, column) for column in zip(*system, strict=True)]
    inner = _inner(unit, ahead)
    for_rows = [x - inner * y for x, y in zip(ahead, normal, strict=True)]
    return [
        [x - for_rows[i] * unit[j] - unit[i] * back[j] for j, x in enumerate(row)]
        for i, row in enumerate(system)
    ]


def _inner(left, right):
    """Of numbers and tensors; of a tensor with nothing, the number 0, no tensor."""
    pairs = zip(left, right, strict=True)
    return sum(x * y for x, y in pairs if not (_is_nothing(x) or _is_nothing(y)))


def _is_nothing(x):
    return isinstance(x, int) and x == 0


def _process(variance, system, ar, ma):
    """Kind, states and parameters; of low orders those that have a closed form."""
    size = len(ar)
    if size == 1:
        return EXPONENTIAL, 1, [variance, ar[0]]
    if size == 2 and not ma:
        frequency = pt.sqrt(ar[0])
        return OSCILLATOR, 2, [variance, frequency, ar[1] / (2 * frequency)]
    zero = pt.zeros_like(variance)
    values = [zero + x if isinstance(x, int) else x for row in system for x in row]
    return LINEAR, size, [*values, variance, *[zero] * (size - 1)]
