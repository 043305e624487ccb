"""Where everything of y = A x + e belongs: the constants of sparse latents as one array.

The coefficients x are those of the *effects*, term by term, level by level, k of each level, and
then the nodes of the *fields*. A is given by its entries, row by row, columns ascending; where a
row has a coefficient of a level it has all k of them. Effects have in relative form a precision
that is constant: ones, or that *between* levels which are related, R (x) I. The array begins with a
header that says where each section begins:

====================  ==========================================================================
``PAIR``              for each two entries of a row of A, the second not before the first, where
                      their product goes in the values of H
``BETWEEN``           (u) where each entry of the precision between levels goes
``BETWEEN_ROW``       (u) the row of each of its entries, of the lower triangle by columns
``BETWEEN_COLUMN``    (u) the column of each
``FIELD``             (q) where each entry of the precision of the fields goes
``TERM_SIZE``         (t) the number k of coefficients of a level
``TERM_START``        (t + 1) the first coefficient of each term, and where the fields begin
``COLUMN_START``      (l + 1) where the columns of the precision begin
``NODE``              (q) the row of each of its entries, from 0 to l - 1
``SYSTEM``            the analysis of H
``PRIOR``             the analysis of the precision of the fields
====================  ==========================================================================
"""

import numpy as np

from pm_gaussgrad.kernels.sparse.analysis import SIMPLE, analyse, as_written
from pm_gaussgrad.kernels.sparse.elimination_tree import starts
from pm_gaussgrad.kernels.sparse.layout import FACTOR_SIZE

PAIR, BETWEEN, BETWEEN_ROW, BETWEEN_COLUMN, FIELD, TERM_SIZE = range(6)
TERM_START, COLUMN_START, NODE, SYSTEM, PRIOR, END = range(6, 12)
HEADER = 12


def arrange(n, entries, between, precision, terms, nodes, compiled=as_written):
    """The constants of n observations, and the lengths of the factors of H and of the precision.

    Parameters
    ----------
    n : int
    entries : array of int, shape (2, a)
        Row and column of each entry of A.
    between : array of int, shape (2, u)
        Row and column of each entry of the lower triangle of the precision between levels, by
        columns, with the diagonal.
    precision : array of int, shape (2, q)
        Row and column of each entry of the lower triangle of the precision of the fields, by
        columns, with the diagonal, as numbers of coefficients.
    terms : array of int, shape (2, t)
        Coefficients of a level, and levels, of each term of effects.
    nodes : int
        Of the fields.
    compiled : callable
        The compiled form of a function, for the analysis.
    """
    first = starts(terms.prod(axis=0))
    effects, p = first[-1], first[-1] + nodes
    one, other = _pairs(n, entries)
    keys = [
        entries[1, other] * p + entries[1, one],
        *(x[1] * p + x[0] for x in (between, precision)),
    ]
    found, places = np.unique(np.concatenate(keys), return_inverse=True)
    column, row = np.divmod(found, max(p, 1))
    system = analyse(
        starts(np.bincount(column, minlength=p)), row, compiled, without_supernodes=SIMPLE
    )
    node, columns = precision - effects
    columns = starts(np.bincount(columns, minlength=nodes))
    prior = analyse(columns, node, compiled, without_supernodes=SIMPLE)
    parts = np.split(places, np.cumsum([one.size, between.shape[1]]))
    sections = [*parts[:2], *between, parts[2], terms[0], first, columns, node, system, prior]
    header = HEADER + starts([x.size for x in sections])
    packed = np.concatenate([header, *sections]).astype(np.int64)
    return packed, system[FACTOR_SIZE], prior[FACTOR_SIZE]


def _pairs(n, entries):
    """Each two entries of one row, the second not after the first: positions, by row and first."""
    begin = starts(np.bincount(entries[0], minlength=n))[entries[0]]
    counts = np.arange(begin.size) - begin + 1
    one = np.repeat(np.arange(begin.size), counts)
    return one, np.arange(one.size) - np.repeat(starts(counts)[:-1] - begin, counts)
