r"""``Effects``: random effects of groups, crossed and nested by adding them.

Definition: Sigma_ij = K_gh z_i' G z_j, i of group g and j of h, with z_i = ``design[i]`` (k), and
G = ``covariance`` (k, k) that of the coefficients of a group. K is the identity, or a known
relationship between groups, as its sparse inverse. With independent noise it is a
``SparseLatents``, where costs and sources are.
"""

from functools import partial

import numpy as np
import pandas as pd
import pytensor.tensor as pt
import scipy.sparse as sp

from pm_gaussgrad.cov.graphs.latents import Latents
from pm_gaussgrad.cov.graphs.level_precision import as_level_precision
from pm_gaussgrad.cov.graphs.stacked_terms import of_effects
from pm_gaussgrad.cov.protocol.arguments import as_constant
from pm_gaussgrad.cov.protocol.base import as_parameter
from pm_gaussgrad.cov.protocol.constants import check_semidefinite, check_variance
from pm_gaussgrad.cov.protocol.labels import as_labels
from pm_gaussgrad.cov.protocol.latent import Latent, SparseLoadings
from pm_gaussgrad.cov.protocol.triangular import symmetric_from_lower

NAME = "gg.cov.Effects"


class Effects(Latents):
    r"""Random effects of groups, :math:`\Sigma_{ij} = K_{gh} z_i^\top G z_j`: a summand.

    Observation i is of group g and j of h. Groups are independent, K the identity, unless their
    relationship is given: the animal model, phylogenetic models, neighbouring regions.

    Parameters
    ----------
    group : array_like, shape (n), in units of labels
        Constant: the group, subject, item or site that each observation belongs to, in any order.
    covariance : tensor_like, shape () or (..., k, k), in units of [y]^2 / [design]^2
        Covariance G of the k coefficients of a group; of a single one its variance. Zero variances
        and singular matrices are ordinary points.
    design : array_like, shape (n, k), in units of [design], optional
        Constant: what the coefficients of a group are multiplied by, one column each. By default a
        column of ones, random intercepts.
    precision : scipy.sparse matrix or array_like, shape (l, l), in units of 1, optional
        Constant, symmetric and positive definite: the inverse of K, sparse in any format; of a
        pedigree the inverse of the relationship matrix. Levels without observations, as parents,
        are ordinary.
    relationship : array_like or scipy.sparse matrix, shape (l, l), in units of 1, optional
        K itself, in place of ``precision``: kinship, a phylogenetic covariance. It is inverted
        when the structure is made.
    levels : array_like, shape (l), in units of labels, optional
        The label of each row of that matrix, in any order. By default the index of a pandas table,
        else labels are the numbers of rows, 0, 1, ...

    Raises
    ------
    TypeError
        If ``group`` or ``design`` is symbolic, or ``covariance`` is not of the shape of the design;
        if ``precision`` and ``relationship`` are both given.
    ValueError
        If a label is missing, there are not as many rows of the design as labels, or a constant
        covariance is negative, not symmetric or not positive semidefinite; if the matrix of the
        levels is not symmetric or not positive definite, or a label has no row.
    NotImplementedError
        If a log density, an inverse or a determinant is asked for before noise was added.

    Notes
    -----
    ``Effects(subject, G, design) + Effects(item, v) + Diagonal(variance)`` is a mixed model with
    all effects integrated out, as fitted by lme4. It is evaluated in relative form: with a factor
    of each :math:`G = \Lambda \Lambda^\top`, by a sparse Cholesky factor of
    :math:`I + \Lambda^\top Z^\top D^{-1} Z \Lambda`, of the size of all coefficients, whose pattern
    is analysed once. The pullback is
    :math:`\bar G = \sum_g \bar\ell\,(Z^\top \Sigma^{-1} Z)_{gg} - \sum_i \bar q_i w_{ig}
    w_{ig}^\top` with :math:`w = Z^\top \alpha`. A covariance that is not positive semidefinite
    gives a log density of -inf; its lower triangle is read.

    Of related levels the identity is replaced by the precision, and the pullback is
    :math:`\bar G = \sum_{gh} K_{gh} (\bar\ell\,(Z^\top \Sigma^{-1} Z)_{gh} - \sum_i \bar q_i
    w_{ig} w_{ih}^\top)`, of which K is not formed. The log determinant of the precision is found
    once.

    References
    ----------
    Bates, D., Maechler, M., Bolker, B. and Walker, S. (2015). Fitting linear mixed-effects models
    using lme4. Journal of Statistical Software 67(1), eq. 34 to 54.

    Henderson, C. R. (1976). A simple method for computing the inverse of a numerator relationship
    matrix used in prediction of breeding values. Biometrics 32, 69-83.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> cov = gg.cov.Effects(["a", "b", "a"], 2.0) + gg.cov.Diagonal(0.5)
    >>> cov.to_dense().eval()
    array([[2.5, 0. , 2. ],
           [0. , 2.5, 0. ],
           [2. , 0. , 2.5]])

    A child and one of its parents, related by a half:

    >>> pedigree = [[1.5, 0.5, -1.0], [0.5, 1.5, -1.0], [-1.0, -1.0, 2.0]]
    >>> levels = ["mother", "father", "child"]
    >>> cov = gg.cov.Effects(["child", "mother"], 1.0, precision=pedigree, levels=levels)
    >>> cov.to_dense().eval()
    array([[1. , 0.5],
           [0.5, 1. ]])
    """

    label = NAME
    # What it is flattened into is not what users pass.
    parameter_shapes = {}

    def __init__(
        self, group, covariance, design=None, precision=None, relationship=None, levels=None
    ):
        numbers, labels = as_labels(NAME, "group", group)
        columns = list(design.columns) if isinstance(design, pd.DataFrame) else None
        arranged = () if design is None else (columns,)  # one number for a level, or several
        design = np.ones((numbers.size, 1)) if design is None else _as_design(design, numbers.size)
        covariance = _as_matrix(covariance, design.shape[1])
        between, rows = as_level_precision(NAME, labels, precision, relationship, levels)
        self._terms = of_effects(covariance, rows[numbers], design, between)
        names = np.arange(between.size).astype(object)
        names[rows] = labels
        names = names if levels is None else np.asarray(levels)
        self.latent = partial(
            _as_latent, covariance, rows[numbers], design, between, (names, *arranged)
        )


def _as_latent(covariance, level, design, between, labels):
    """The coefficients of all levels, and how observations see them."""
    n, k = design.shape
    each, unit = np.repeat(np.arange(between.size), k), np.tile(np.eye(k), (between.size, 1))
    prior = Latents.of(of_effects(covariance, each, unit, between))
    columns = level[:, None] * k + np.arange(k)
    positions = np.stack([np.repeat(np.arange(n), k), columns.ravel()])
    matrix = SparseLoadings((n, between.size * k), positions, design.ravel())
    shape = (between.size,) if len(labels) == 1 else (between.size, k)
    return Latent(prior, matrix, shape, labels)


def _as_design(design, n):
    design = design.toarray() if sp.issparse(design) else as_constant(NAME, "design", design)
    if design.ndim != 2 or len(design) != n:
        remedy = "; of a single column pass design[:, None]" if design.ndim == 1 else ""
        raise ValueError(
            f"{NAME}: `design` has shape {design.shape}, expected ({n}, k): a row for each of the "
            f"labels, a column for each coefficient of a group{remedy}."
        )
    broken = np.count_nonzero(~np.isfinite(design))
    if broken:
        raise ValueError(
            f"{NAME}: `design` has {broken} entries that are not finite, expected numbers."
        )
    return design.astype(np.float64)


def _as_matrix(covariance, k):
    """The covariance of the coefficients of a group, (..., k, k)."""
    covariance = as_parameter(NAME, "covariance", covariance, 0)
    shape = covariance.type.shape
    if covariance.type.ndim == 0 and k == 1:
        check_variance(NAME, "covariance", covariance)
        return covariance[None, None]
    if covariance.type.ndim < 2 or any(s not in (None, k) for s in shape[-2:]):
        raise TypeError(f"{NAME}: `covariance` has shape {shape}, {_expected(covariance, k)}.")
    remedy = "none of its correlations may be beyond -1 and 1, as D @ R @ D of a correlation matrix"
    check_semidefinite(NAME, "covariance", covariance, f"{remedy} R has them")
    covariance = pt.specify_shape(covariance, (*[None] * (len(shape) - 2), k, k))
    return symmetric_from_lower(covariance)


def _expected(covariance, k) -> str:
    if k == 1:
        return (
            "expected a scalar, the variance of one coefficient for each group; a batch of "
            "variances is (..., 1, 1), and for coefficients of several regressors pass design="
        )
    expected = f"expected ({k}, {k}), the covariance of the {k} columns of the design"
    if covariance.type.ndim == 0:
        return f"{expected}; of independent ones of one variance v, v * np.eye({k})"
    if covariance.type.ndim == 1:
        return f"{expected}; of independent ones write pt.diag(variances)"
    return expected
