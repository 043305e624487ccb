r"""Expected (Fisher) information of a Gaussian model, by the formula of Slepian and Bangs.

For y ~ N(mu(theta), Sigma(theta)), P = Sigma^-1, and m independent rows of y with one Sigma,

    I_ab = sum over rows of dmu_a' P dmu_b + m / 2 tr(P dS_a P dS_b).

Derivatives of mu, and of the *parameters of the structure* in place of the matrix Sigma, come in
forward mode; what a structure makes of them is in :mod:`pm_gaussgrad.cov.protocol.information`.
"""

from itertools import accumulate, pairwise

import pytensor.tensor as pt
from pytensor.gradient import grad
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.replace import vectorize_graph

from pm_gaussgrad.cov.protocol.arguments import as_size
from pm_gaussgrad.cov.protocol.base import as_parameter, length
from pm_gaussgrad.cov.protocol.information import count_directions, total_size
from pm_gaussgrad.likelihood.density import as_covariance
from pm_gaussgrad.ops import among_zeros, inner_products
from pm_gaussgrad.ops.tangents import forward_derivative

NAME = "gg.fisher_information"


def fisher_information(mu, cov, parameters, rows=None):
    r"""Expected information of the parameters of a Gaussian model (Slepian-Bangs).

    .. math::
        I_{ab} = \sum_{i=1}^m \partial_a\mu_i^\top \Sigma^{-1} \partial_b\mu_i
        + \frac m2 \operatorname{tr}\bigl(\Sigma^{-1} \partial_a\Sigma\,
        \Sigma^{-1} \partial_b\Sigma\bigr),

    the covariance of the score :math:`\partial_a \log p(y \mid \theta)` and
    :math:`-E[\partial_a \partial_b \log p(y \mid \theta)]`, for y distributed as the model says.

    Parameters
    ----------
    mu : tensor_like, shape (), (n,) or (..., n), in units of [y]
        Mean. Its leading dimensions are rows: independent observations that share the
        covariance.
    cov : tensor_like, shape (n, n), or gg.cov structure, in units of [y]^2
        Covariance, without batch dimensions.
    parameters : TensorVariable, or list or tuple of them, of any shapes
        Tensors in the graphs of ``mu`` and ``cov``. Those in neither have rows and columns of
        zeros.
    rows : int or scalar tensor, optional
        The number m of rows where ``mu`` does not say it, being of shape () or (n,) and common to
        all. By default that of ``mu``, 1 if it has no leading dimensions.

    Returns
    -------
    TensorVariable, shape (p, p)
        Of the parameters raveled and joined in their order; entry (a, b) in units of
        1 / ([theta_a] [theta_b]). NaN where the covariance is not positive definite.

    Raises
    ------
    TypeError
        If a parameter is not a floating tensor, or ``cov`` has batch dimensions.
    ValueError
        If sizes disagree, no argument says what n is, ``rows`` is given with a mean that has
        rows, or there is no parameter or one twice.
    NotImplementedError
        If a structure of a user's has neither a form of its own nor one of its rows: nothing is
        made dense unasked.

    Notes
    -----
    Cost for the p directions in which the covariance depends on parameters, beside p m solves
    for the mean at the structure's cost: that of the structure's own form,
    ``cov.information(tangents)``, which is p times that of the log density or less (the guide has
    a table). To it add p^2 inner products of what is p times as large as the structure.

    ``gg.cov.marginal`` of a series, grid or factor with gaps has no such form, and neither has a
    structure of a user's that brings none. It takes n solves and their gradients for each
    direction, in strips of 64 rows, or as many as the structure's own memory would hold; beside
    p^2 numbers a strip, nothing is larger.

    Matrices that are read as symmetric have their information with respect to their symmetric
    part, which is what their gradient is with respect to.

    JAX compiles it where the shapes of parameters and structures are known, as they are in models.

    References
    ----------
    Slepian, D. (1954). Estimation of signal parameters in the presence of noise. Transactions of
    the IRE Professional Group on Information Theory 3, 68-89.

    Bangs, W. J. (1971). Array Processing with Generalized Beamformers. PhD thesis, Yale
    University.

    Kay, S. M. (1993). Fundamentals of Statistical Signal Processing: Estimation Theory, eq. 3.31.

    Examples
    --------
    The variance of four independent observations has the information n / (2 v^2):

    >>> import pytensor.tensor as pt
    >>> import pm_gaussgrad as gg
    >>> mean, v = pt.scalar("mean"), pt.scalar("v")
    >>> information = gg.fisher_information(mean, gg.cov.Diagonal(v, size=4), [mean, v])
    >>> information.eval({mean: 0.0, v: 2.0})
    array([[2. , 0. ],
           [0. , 0.5]])
    """
    parameters = _as_parameters(parameters)
    mu, cov = as_parameter(NAME, "mu", mu, 0), as_covariance(cov)
    cov = _as_single(cov.resolved_for(length(mu) if mu.type.ndim else None))
    mu, cov, m = _with_rows(mu, cov, rows)
    information = 0
    connected = _connected([mu], parameters)
    if any(connected):
        [dmu] = _tangents([mu], parameters, connected)
        n = mu.shape[-1]
        solved = cov.solve(dmu.reshape((-1, n)))
        p = count_directions(dmu)
        own = inner_products(dmu.reshape((p, -1)), solved.reshape((p, -1)))
        own = (own + own.T) / 2
        information += _embed(own if mu.type.ndim > 1 else m * own, parameters, connected)
    connected = _connected(_free(cov), parameters)
    if any(connected):
        own = _of_covariance(cov, parameters, connected)
        information += _embed(m * own, parameters, connected)
    if isinstance(information, int):
        total = sum(map(total_size, parameters))
        return pt.zeros((total, total), dtype=mu.dtype)
    return information


def _as_parameters(parameters):
    parameters = list(parameters) if isinstance(parameters, list | tuple) else [parameters]
    for i, x in enumerate(parameters):
        found = type(x).__name__
        if isinstance(x, Variable) and not isinstance(x, Constant):
            found = f"tensor of {x.dtype}" if hasattr(x, "dtype") else found
            if getattr(x, "dtype", "").startswith("float"):
                continue
        raise TypeError(
            f"{NAME}: parameter {i} is a {found}, expected a floating tensor in the graph of `mu` "
            "or `cov`; build them from one, as theta = pytensor.tensor.vector('theta')."
        )
    if len({id(x) for x in parameters}) < max(len(parameters), 1):
        raise ValueError(
            f"{NAME}: found {len(parameters)} parameters, expected one or more, each once."
        )
    return parameters


def _as_single(cov):
    for (name, dims), x in zip(cov.structure.parameter_shapes.items(), cov.parameters, strict=True):
        if x.type.ndim > len(dims.split()):
            raise TypeError(
                f"{NAME}: `{name}` of {cov.label} has {x.type.ndim} dimensions, expected "
                f"{len(dims.split())}, one covariance; the information of independent batches is "
                "the sum of theirs: call it for each, or join them by gg.cov.BlockDiagonal."
            )
    return cov


def _with_rows(mu, cov, rows):
    """The mean with n in its last dimension, the structure of that size, the number of rows."""
    found = mu.type.shape[-1] if mu.type.ndim else 1
    if isinstance(cov.size, int) and found not in (1, None, cov.size):
        raise ValueError(
            f"{NAME}: `mu` has shape {mu.type.shape}, expected n = {cov.size} in the last "
            f"dimension, the size of `cov` ({cov.label})."
        )
    if cov.size is None and mu.type.ndim == 0:
        raise ValueError(
            f"{NAME}: neither `mu` nor {cov.label} says how many observations there are; pass a "
            "mean of shape (n,), or size= to the covariance."
        )
    n = mu.shape[-1] if cov.size is None else cov.size
    if rows is not None and mu.type.ndim > 1:
        raise ValueError(
            f"{NAME}: `mu` has shape {mu.type.shape} and thereby says how many rows there are; "
            "pass `rows` with a mean of shape () or (n,) only."
        )
    cov = _of_known_lengths(cov, n)
    if mu.type.ndim == 0 or found == 1 != cov.size:
        mu = pt.broadcast_to(mu, (*tuple(mu.shape)[:-1], n))
    m = pt.prod(mu.shape[:-1]) if rows is None else as_size(NAME, rows)
    return mu, cov, pt.as_tensor(m).astype(mu.dtype)


def _of_known_lengths(cov, n):
    """The structure with every length that is known said by every parameter that has it.

    PyTensor takes a length of one that is only half known for granted in some places and refuses
    to broadcast it in others.
    """
    shapes = [dims.split() for dims in cov.structure.parameter_shapes.values()]
    known = {"n": n} if isinstance(n, int) else {}
    for dims, x in zip(shapes, cov.parameters, strict=True):
        found = zip(dims, x.type.shape, strict=True)
        known |= {dim: length for dim, length in found if length is not None and dim not in known}
    parameters = [
        _with_lengths(x, [known.get(dim) for dim in dims])
        for dims, x in zip(shapes, cov.parameters, strict=True)
    ]
    return cov.structure.from_parameters(*parameters, size=n)


def _with_lengths(x, lengths):
    """The tensor with the lengths of its dimensions that are not None in its type."""
    pairs = zip(x.type.shape, lengths, strict=True)
    if any(own is None and length is not None for own, length in pairs):
        return pt.specify_shape(x, lengths)
    return x


def _connected(outputs, parameters):
    """For each parameter, whether it has a derivative in any output; a shape has none."""
    bars = grad(
        None,
        wrt=parameters,
        known_grads={x: x.zeros_like() for x in outputs},
        disconnected_inputs="ignore",
        return_disconnected="none",
    )
    return [bar is not None for bar in bars]


def _blocks(rows, columns):
    """The identity by blocks: the rows of some parameters, the columns of others."""
    return [
        [
            pt.eye(total_size(y), dtype=x.dtype)
            if x is y
            else pt.zeros((total_size(x), total_size(y)), dtype=x.dtype)
            for y in columns
        ]
        for x in rows
    ]


def _directions(wrt):
    """Unit tangents of the parameters: for each, (p, shape)."""
    columns = zip(*_blocks(wrt, wrt), strict=True)
    joined = [pt.concatenate(blocks, axis=0) for blocks in columns]
    return [u.reshape((count_directions(u), *x.shape)) for u, x in zip(joined, wrt, strict=True)]


def _tangents(outputs, parameters, connected):
    """Derivatives of each output in the p directions of the connected parameters, (p, shape)."""
    wrt = [x for x, c in zip(parameters, connected, strict=True) if c]
    directions = _directions(wrt)
    p = count_directions(directions[0])
    result = []
    for output in outputs:
        if not any(_connected([output], wrt)):
            result.append(pt.zeros((p, *tuple(output.shape)), dtype=output.dtype))
        elif output.type.ndim == 0:
            gradient = grad(output, wrt, disconnected_inputs="ignore")
            result.append(pt.concatenate([x.reshape((-1,)) for x in gradient]))
        else:
            seeds = [x.type() for x in wrt]
            one = forward_derivative(output, wrt, seeds)
            all_ = vectorize_graph(one, dict(zip(seeds, directions, strict=True)))
            if all_.type.ndim == output.type.ndim:  # constant: no direction is in it
                all_ = pt.broadcast_to(all_, (p, *tuple(output.shape)))
            result.append(_with_lengths(all_, (None, *output.type.shape)))
    return result


def _free(cov):
    """The parameters of the structure that have a gradient."""
    constant = getattr(cov.structure, "constant_parameters", frozenset())
    named = zip(cov.structure.parameter_shapes, cov.parameters, strict=True)
    return [x for name, x in named if name not in constant]


def _of_covariance(cov, parameters, connected):
    constant = getattr(cov.structure, "constant_parameters", frozenset())
    remaining = iter(_tangents(_free(cov), parameters, connected))
    tangents = [None if k in constant else next(remaining) for k in cov.structure.parameter_shapes]
    return cov.information(tangents)


def _embed(information, parameters, connected):
    """Rows and columns of zeros for the other parameters."""
    if all(connected):
        return information
    starts = [0, *accumulate(map(total_size, parameters))]
    own = [
        pt.arange(start, stop)
        for (start, stop), c in zip(pairwise(starts), connected, strict=True)
        if c
    ]
    place = pt.concatenate(own)
    rows = among_zeros(information, place, starts[-1])
    return among_zeros(rows.T, place, starts[-1])
