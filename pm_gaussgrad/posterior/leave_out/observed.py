"""The observed entries of a likelihood, in a form without missing ones."""

import numpy as np
import pandas as pd
import pytensor.tensor as pt
import xarray as xr

from pm_gaussgrad.cov import RepeatedMeasures, marginal
from pm_gaussgrad.cov.protocol.elliptical import gaussian_log_density
from pm_gaussgrad.cov.protocol.gaps import MissingEntries
from pm_gaussgrad.distributions.student import student_log_density
from pm_gaussgrad.likelihood.missing import common_pattern, missing_positions


class ObservedEntries:
    """What is observed, its covariance and its labels.

    Where all rows miss the same entries these are left out of the last dimension. Rows that differ
    are one long table without gaps, where they are short or of a structure that is closed under
    dropping observations. Others keep the shape of the data, and :meth:`select` takes what is
    observed out of expressions, along one dimension in place of all.

    Parameters
    ----------
    likelihood : Likelihood

    Attributes
    ----------
    cov : Covariance
    residual, value : TensorVariable, shape (..., n)
    nu : TensorVariable, shape (..., 1), or None
        Degrees of freedom of a Student-t.
    n : int
        Number of entries of the last dimension of the data, missing or not.
    data : array, shape (..., n)
        NaN where rows that differ miss an entry.
    labels : array, shape (n)
        Of the last dimension of the data.
    positions : array of int, shape (n)
        Those of the entries of the last dimension in that of the data.
    dims : tuple of str
        Of what :meth:`select` returns.
    coords : dict
    """

    def __init__(self, likelihood):
        self.name, self._missing, self._table = likelihood.name, None, None
        self.cov, self.residual, self.value = likelihood.cov, likelihood.residual, likelihood.value
        self._order = self.cov.time_order()
        self.data, self.dims = likelihood.data, likelihood.dims
        self.coords = dict(likelihood.coords)
        self.nu = None if likelihood.nu is None else likelihood.nu[..., None]
        self.n = self.data.shape[-1]
        self.labels = self.coords[self.dims[-1]]
        self.positions = np.arange(self.n)
        missing = likelihood.missing
        if missing is None:
            return
        pattern = common_pattern(missing)
        if pattern is None:
            self._missing = missing
            self._stack()
            if (apart := self._apart()) is not None:
                self._tabulate(apart)
        else:
            self._drop(np.flatnonzero(~pattern))

    def _drop(self, observed):
        self.cov, self.positions = marginal(self.cov, observed), observed
        self._order = self.cov.time_order()
        self.residual, self.value = (x[..., observed] for x in (self.residual, self.value))
        self.data = self.data[..., observed]
        self.coords[self.dims[-1]] = self.coords[self.dims[-1]][observed]

    def _stack(self):
        """One dimension, along which those of the data are coordinates."""
        stacked = f"{self.name}_observed"
        where = np.nonzero(~self._missing)
        self.coords = {
            dim: (stacked, self.coords[dim][index])
            for dim, index in zip(self.dims, where, strict=True)
        }
        self.coords[stacked] = np.arange(where[0].size)
        self.dims = (stacked,)

    def _apart(self):
        """The covariance of what is observed, row after row; None where there is no structure."""
        if self.cov.batch_ndim:
            return None
        observed = ~self._missing.reshape(-1, self.n)
        if self.n > self.cov.submatrices_up_to:
            return self.cov.rows_apart(observed)
        within = self.cov.to_dense()
        within = within[(0,) * (within.type.ndim - 2)]  # a batch of one
        return RepeatedMeasures(within, *np.nonzero(observed))

    def _tabulate(self, apart):
        """One row an observation: the rows of the data are its subjects."""
        self._table, self._missing, self.cov = self._missing, None, apart
        where = np.nonzero(~self._table)
        self._subject = np.ravel_multi_index(where[:-1], self._table.shape[:-1])
        self.residual, self.value = (x[where] for x in (self.residual, self.value))
        if self.nu is not None:
            self.nu = pt.broadcast_to(self.nu, (*self._table.shape[:-1], 1))[(*where[:-1], 0)]
        self.data = self.data[where]
        self.n = self.data.size
        self.labels, self.positions = self.coords[self.dims[0]], np.arange(self.n)

    def labels_of_entries(self, labels):
        """Where rows are subjects: labels of the data, or of entries within each row, by entry."""
        if self._table is None or labels.shape == self.data.shape:
            return labels
        where = np.nonzero(~self._table)
        if labels.shape == self._table.shape:
            return labels[where]
        if labels.shape != self._table.shape[-1:]:
            return labels
        within = pd.DataFrame({"row": self._subject, "label": labels[where[-1]]})
        return np.where(within["label"].isna(), None, within.astype(str).agg(": ".join, axis=1))

    @property
    def subject(self):
        """The row of the data that each entry is of, where rows are subjects; else None."""
        return None if self._table is None else self._subject

    def innovations(self):
        """As that of a covariance, in its order in time also where rows are subjects."""
        if self._table is None or self._order is None:
            return self.cov.innovations(self.residual)
        within, visit = self.cov.parameters[0], np.nonzero(~self._table)[-1]
        order = np.lexsort((np.argsort(self._order)[visit], self._subject))
        ordered = RepeatedMeasures(within, self._subject[order], visit[order])
        return [x[np.argsort(order)] for x in ordered.innovations(self.residual[order])]

    def cumulated(self, x):
        """Sums over the entries of a row up to each, in order of time."""
        if self._table is None:
            return self._along(pt.cumsum, x)
        where = np.nonzero(~self._table)
        rows = pt.zeros(self._table.shape, dtype=x.dtype)[where].set(x)
        return self._along(pt.cumsum, rows)[where]

    def place(self):
        """How many entries of its row there are up to each, (..., n)."""
        if self._table is None:
            return self._along(np.cumsum, np.ones(self.positions.size, int))
        return self._along(np.cumsum, ~self._table)[np.nonzero(~self._table)]

    def _along(self, cumulate, rows):
        """Cumulated over the last dimension in order of time."""
        if self._order is None:
            return cumulate(rows, axis=-1)
        return cumulate(rows[..., self._order], axis=-1)[..., np.argsort(self._order)]

    def count(self):
        """How many entries the row has that each is of: a number, or (n,)."""
        if self._table is None:
            return self.positions.size
        return np.bincount(self._subject)[self._subject]

    def check_common(self, owner, whole_rows=False):
        """Raise a NotImplementedError where rows miss different entries, or also whole rows."""
        if self._missing is not None and not (whole_rows and not self._gaps().any()):
            raise NotImplementedError(
                f"{owner}: the rows of {self.name!r} miss different entries, expected the same in "
                "all; write the data as one long table without gaps, with "
                "gg.cov.RepeatedMeasures(within, subject=row, visit=entry)."
            )

    def log_density(self, quad, logdet, size, total, count):
        """Of ``size`` entries given others, by their conditional quad and logdet under a normal.

        Under a Student-t their scale grows with what the others are surprising: quad of all
        ``count`` entries is ``total``. (Ding, 2016, On the conditional distribution of the
        multivariate t distribution, The American Statistician 70, 293-295.)
        """
        if self.nu is None:
            return gaussian_log_density(quad, logdet, size)
        size = pt.as_tensor(size).astype(quad.dtype)
        others = count - size
        degrees = self.nu + others
        growth = (self.nu + pt.maximum(total - quad, 0)) / degrees
        logdet = logdet + size * pt.log(growth)
        return student_log_density(quad / growth, logdet, size, degrees)

    def quad(self):
        """Of each row, shape (..., 1); of subjects that of each entry's, (n,)."""
        if self._table is None:
            return self.cov.quad_logdet(self.residual)[0][..., None]
        squares = self.cov.whiten(self.residual) ** 2
        of_subjects = pt.zeros(1 + self._subject.max(), dtype=squares.dtype)
        return of_subjects[self._subject].inc(squares)[self._subject]

    def leave_one_out(self):
        """As that of a covariance: two tensors of the shape of the data."""
        if self._missing is None:
            return self.cov.leave_one_out(self.residual)
        gaps = self._gaps()
        if not gaps.any():
            return self.cov.leave_one_out(self.residual)
        entries = MissingEntries(self.cov, pt.constant(missing_positions(gaps)), self.n)
        return entries.leave_one_out(self.residual)

    def _gaps(self):
        """What rows miss; those without any observation, which are not selected, miss nothing."""
        return self._missing & ~self._missing.all(axis=-1, keepdims=True)

    def select(self, x):
        """What is observed of a tensor or array of the shape of the data."""
        return x if self._missing is None else x[np.nonzero(~self._missing)]

    def labelled_data(self):
        """The observations as a DataArray."""
        return xr.DataArray(self.select(self.data), self.coords, self.dims, name=self.name)
