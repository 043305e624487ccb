r"""``SparsePrecision``: a Markov field, by its sparse precision matrix.

Definition: Sigma = Q^-1, Q symmetric positive definite, zero but on a constant pattern: of two
nodes that are no neighbours each is independent of the other given the rest. Storage, cost and
pullback: :mod:`pm_gaussgrad.cov.graphs.sparse_matrix`. The pattern is analysed once, when the
structure is made.

Sources: Rue and Held (2005), Gaussian Markov Random Fields, sections 2.2 to 2.4; Besag (1974),
Spatial interaction and the statistical analysis of lattice systems.
"""

from pm_gaussgrad.cov.graphs.markov_field import MarkovField
from pm_gaussgrad.cov.graphs.pattern import check_diagonal, lower_triangle
from pm_gaussgrad.cov.graphs.terms import sum_of_terms
from pm_gaussgrad.cov.protocol.base import as_parameter

NAME = "gg.cov.SparsePrecision"


class SparsePrecision(MarkovField):
    r"""A covariance given by its sparse inverse, :math:`\Sigma = Q^{-1}`.

    Parameters
    ----------
    values : tensor_like, shape (..., q), in units of [y]^-2
        Entries of the lower triangle of Q, those of a column after one another, rows ascending: as
        ``scipy.sparse.tril(pattern, format="csc")`` has them.
    pattern : array_like or scipy.sparse matrix, shape (n, n), in units of 1
        Constant: which entries of Q are not zero, in any format of ``scipy.sparse``; stored zeros
        are such entries. Of a dense array those that are not zero. Symmetric, and with the whole
        diagonal; the numbers in it do not matter.

    Other Parameters
    ----------------
    column_starts : tensor of int, shape (n), in units of entries
        In place of ``pattern`` in :attr:`parameters`: where in ``values`` each column begins, with
        its entry of the diagonal. This and what follows are the index data that the constructor
        makes.
    row_indices : tensor of int, shape (q), in units of nodes
        The row of each entry.
    analysis : tensor of int, shape (a), in units of 1
        The order of elimination, and where things are in the factor.
    height : tensor of int, shape (h), in units of 1
        As long as columns of the factor are high on average.

    Raises
    ------
    TypeError
        If ``pattern`` is symbolic, or one of both is not real.
    ValueError
        If ``pattern`` is not square, not symmetric or has no entry at some node's diagonal;
        if there are not as many ``values`` as entries; if constants are not finite or one on the
        diagonal is negative; and, where a density is built, if constants are not positive definite.

    Notes
    -----
    Cost of value and gradient: a sparse Cholesky factor in an order of minimum degree and the
    entries of :math:`Q^{-1}` on the pattern: with the n nodes of a planar graph about
    :math:`n^{3/2}` flops and :math:`n \log n` numbers. A row adds as many products as Q has
    entries.

    The pullback is :math:`\bar v = \sum_i \bar q_i\, r_i r_i^\top - \bar l\, Q^{-1}` on the
    pattern, where an entry below the diagonal stands for two and counts twice. Work is in double
    precision, whatever that of the data. Where Q is not positive definite, or singular up to
    rounding as of an intrinsic autoregression, the log density is -inf.

    Gaps leave no sparse precision on a part of the pattern: the missing entries are taken out by
    the factor of their own precision, at the cost of the engine, and whatever their number.

    ``innovations`` eliminates nodes in the order of the table, which fills more: as many entries a
    node as the first and the last of neighbours are apart. Fisher information takes p + 1
    triangular solves a node, and no matrix of n x n.

    References
    ----------
    Rue, H. and Held, L. (2005). Gaussian Markov Random Fields, sections 2.2 to 2.4.

    Besag, J. (1974). Spatial interaction and the statistical analysis of lattice systems. Journal
    of the Royal Statistical Society B 36, 192-236.

    Erisman, A. M. and Tinney, W. F. (1975). On computing certain elements of the inverse of a
    sparse matrix. Communications of the ACM 18, 177-179.

    Examples
    --------
    >>> import numpy as np
    >>> import pm_gaussgrad as gg
    >>> neighbours = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    >>> cov = gg.cov.SparsePrecision([2.0, -1.0, 2.0, -1.0, 2.0], neighbours + np.eye(3))
    >>> cov.to_dense().eval()
    array([[0.75, 0.5 , 0.25],
           [0.5 , 1.  , 0.5 ],
           [0.25, 0.5 , 0.75]])

    The same as :math:`2 I - W`:

    >>> cov = gg.cov.SparsePrecision.from_terms([(2.0, np.eye(3)), (-1.0, neighbours)])
    >>> cov.diagonal().eval()
    array([0.75, 1.  , 0.75])
    """

    def __init__(self, values, pattern):
        triangle = lower_triangle(NAME, "pattern", pattern, numbers=False)
        check_diagonal(NAME, "pattern", triangle)
        values = as_parameter(NAME, "values", values, 1)
        found, expected = values.type.shape[-1], triangle.indices.size
        if found not in (None, expected):
            raise ValueError(
                f"{NAME}: `values` has {found} entries, expected {expected}: those of the lower "
                "triangle of `pattern` by columns, scipy.sparse.tril(Q, format='csc').data."
            )
        self._set(values, triangle)

    @classmethod
    def from_terms(cls, terms):
        r"""A precision :math:`Q = \sum_k \theta_k M_k` of constant sparse matrices.

        Parameters
        ----------
        terms : list of pairs
            :math:`\theta_k`, tensor_like of shape () or (...), and the constant symmetric
            :math:`M_k`, (n, n), in any format of ``scipy.sparse`` or dense. Units of the products:
            [y]^-2.

        Returns
        -------
        SparsePrecision
            On the union of the patterns of the terms.

        Raises
        ------
        TypeError
            If ``terms`` is no list of pairs, or a matrix is symbolic or not real.
        ValueError
            If there are no terms, a matrix is not symmetric, not finite or of another size than
            the first, or all are zero at some node's diagonal.

        Notes
        -----
        Cost: the entries of all terms, once an evaluation. The derivative by
        :math:`\theta_k` is :math:`\langle M_k, \bar Q \rangle`.

        Examples
        --------
        A proper conditional autoregression, :math:`\tau (D - \alpha W)`:

        >>> import numpy as np
        >>> import pm_gaussgrad as gg
        >>> W = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
        >>> D = np.diag(W.sum(axis=1))
        >>> tau, alpha = 2.0, 0.5
        >>> cov = gg.cov.SparsePrecision.from_terms([(tau, D), (-tau * alpha, W)])
        >>> cov.inverse_diagonal().eval()
        array([2., 4., 2.])
        """
        pattern, values = sum_of_terms(terms)
        made = object.__new__(cls)
        made._set(values, pattern)
        return made
