r"""What was integrated out of a Gaussian likelihood, given the data: exact draws and moments.

y - mu = sum_k A_k u_k + X b + e, u_k ~ N(0, M_k) (:mod:`pm_gaussgrad.cov.protocol.latent`), b flat,
and e of the other summands; Sigma that of all but b, o the observed entries. With draws u_k* and e*
of all of these, b* = 0, y* = sum_k A_k u_k* + e*, s = (y - mu - y*)_o, and everything of Sigma_oo,

    b = G^-1 X'Sigma^-1 s,    alpha = Sigma^-1 (s - X b),    u_k = u_k* + M_k A_k'alpha,
    G = X'Sigma^-1 X,

are one draw of all of them together from their distribution given y. (b* cancels: s less X b* has
the b less b*.) Means are those of s = (y - mu)_o without the draws; variances diag(G^-1), and
M_k - M_k A_k'P A_k M_k with P = Sigma^-1 - Sigma^-1 X G^-1 X'Sigma^-1.

Sources: Chiles and Delfiner (2012), Geostatistics, 2nd ed., section 7.3.1 (draws, after Matheron);
Robinson (1991), That BLUP is a good thing; Harville (1976), Extension of the Gauss-Markov theorem
to include the estimation of random effects.
"""

from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov.protocol.latent import is_flat, known_latent, latent_of
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.posterior.draws import evaluated_size, white_noise
from pm_gaussgrad.posterior.predict.component import entries_of, observed_alpha
from pm_gaussgrad.posterior.predict.parted import finest_parts, parted_into


@dataclass(frozen=True)
class Recovered:
    """Symbolic, of one draw of the parameters.

    Attributes
    ----------
    latents : dict of str to Latent
    draws, means, variances : dict of str to TensorVariable, shape (*rows, *latent.shape)
        The moments are empty unless they were asked for.
    noise : tuple of TensorVariable
        White noise that the draws are a function of.
    """

    latents: dict
    draws: dict
    means: dict
    variances: dict
    noise: tuple


def conditional_latents(owner, likelihood, latents=None, cov=None, moments=False) -> Recovered:
    """Draws of latents of a likelihood from their joint distribution given its data.

    Parameters
    ----------
    owner : str
        The function that asks, for messages.
    likelihood : Likelihood
    latents : dict of str to Covariance, optional
        Summands of its covariance, by the name of what they are made of. By default all that are
        made of something.
    cov : Covariance, optional
        The covariance with its summands, where the model does not know them.
    moments : bool
        Whether conditional means and variances are wanted, too.

    Raises
    ------
    ValueError
        If the summands are not known, or a latent is none of them.
    """
    entries = entries_of(owner, likelihood, None, cov, None)
    n = entries.missing.shape[-1]
    latents = default_latents(entries.cov) if latents is None else latents
    own, others = parted_into(owner, latents.values(), entries.cov, "latents")
    parts = [of_size(reduce(add, covs), n) for covs in own]
    found = {name: _known(latent_of(x)) for name, x in zip(latents, parts, strict=True)}
    flat = [x for x in found.values() if x.prior is None]
    others = [of_size(part, n) for cov in others for part in finest_parts(of_size(cov, n))]
    beside = [x for x in map(known_latent, others) if x is not None and x.prior is None]
    errors = [x for x in others if not is_flat(x)]
    proper = [x for x in parts if not is_flat(x)] + errors
    solver = Solver(replace(entries, cov=reduce(add, proper)), [*flat, *beside])
    drawn, noise = {}, []
    for name, latent in found.items():
        if latent.prior is not None:
            drawn[name] = _drawn(latent.prior, latent.size, entries, noise)
    rows = [found[name].seen(x) for name, x in drawn.items()]
    rows += [_drawn(x, n, entries, noise) for x in errors]
    residual = entries.residual
    alpha, coefficients = solver.solve(residual - sum(rows, start=pt.zeros_like(residual)))
    draws = _put(found, drawn, alpha, coefficients)
    means, variances = {}, {}
    if moments:
        means = _put(found, {}, *solver.solve(residual))
        variances = _variances(found, solver)
    arranged = (_arranged(found, x, residual) for x in (draws, means, variances))
    return Recovered(found, *arranged, tuple(noise))


def default_latents(cov) -> dict:
    """The summands that are made of something, by the names of their kinds."""
    found = [x for x in finest_parts(cov) if known_latent(x) is not None]
    names = [x.label.partition(" ")[0].rpartition(".")[2].lower() for x in found]
    several = {name for name in names if names.count(name) > 1}
    return {
        f"{name}_{names[:i].count(name) + 1}" if name in several else name: x
        for i, (name, x) in enumerate(zip(names, found, strict=True))
    }


def _known(latent):
    """With the sizes that depend on data evaluated."""
    shape = tuple(map(evaluated_size, latent.shape))
    prior = latent.prior if latent.prior is None else of_size(latent.prior, int(np.prod(shape)))
    return replace(latent, shape=shape, prior=prior)


def _drawn(cov, size, entries, noise):
    """A draw for each row of the data, from white noise that is put to the others."""
    rows = entries.missing.shape[:-1]
    z = white_noise(rows, cov.noise_size(size), entries.residual.dtype)
    noise.append(z)
    return cov.draw_semidefinite(z)


class Solver:
    """Solutions with the covariance of the observed entries, flat coefficients taken out.

    Parameters
    ----------
    entries : Together
        With the covariance of all but the flat coefficients.
    flat : list of Latent
    """

    def __init__(self, entries, flat):
        self.entries, self.flat = entries, flat
        if flat:
            *rows, n = entries.missing.shape
            self.design = pt.concatenate([x.design for x in flat], axis=-1)
            columns = pt.expand_dims(self.design.T, tuple(range(1, 1 + len(rows))))
            shape = (columns.shape[0], *rows, n)
            self.solved = pt.moveaxis(self._alpha(pt.broadcast_to(columns, shape)), 0, -2)
            inner = self.solved @ self.design
            self.chol = pt.linalg.cholesky((inner + inner.mT) / 2, lower=True)

    def _alpha(self, rows):
        return observed_alpha(self.entries, rows)

    def solve(self, residual):
        """alpha (..., n), and the flat coefficients of each, a list."""
        alpha = self._alpha(residual[None])[0]
        if not self.flat:
            return alpha, []
        total = 0
        for _ in range(2):  # once more, for what rounding left of the columns in alpha
            scores = (alpha[..., None, :] @ self.design)[..., 0, :]
            step = self._coefficients(scores)
            alpha = alpha - (step[..., None, :] @ self.solved)[..., 0, :]
            total = total + step
        stops = np.cumsum([0, *(evaluated_size(x.matrix.shape[-1]) for x in self.flat)])
        ranges = pairwise(stops)
        return alpha, [total[..., start:stop] for start, stop in ranges]

    def _coefficients(self, scores):
        """G^-1 s, (..., p)."""
        inverse = self.inverse_root()
        white = inverse @ scores[..., None]
        return (inverse.mT @ white)[..., 0]

    def inverse_root(self):
        """L^-1, where G = L L'."""
        identity = pt.eye(self.chol.shape[-1], dtype=self.chol.dtype)
        identity = pt.broadcast_to(identity, self.chol.shape)
        return pt.linalg.solve_triangular(self.chol, identity, lower=True, b_ndim=2)

    def explained(self, columns):
        """c'P c of each row c, (p, ..., n) -> (..., p)."""
        *rows, n = self.entries.missing.shape
        absent = max(len(rows) - (columns.type.ndim - 2), 0)
        columns = pt.expand_dims(columns, tuple(range(1, 1 + absent)))
        columns = pt.broadcast_to(columns, (columns.shape[0], *rows, n))
        solved = self._alpha(columns)
        total = (columns * solved).sum(axis=-1)
        if self.flat:
            scores = pt.moveaxis(solved, 0, -2) @ self.design  # (..., p, f)
            white = scores @ self.inverse_root().mT
            total = pt.moveaxis(total, 0, -1) - (white**2).sum(axis=-1)
            return total
        return pt.moveaxis(total, 0, -1)


def _put(found, drawn, alpha, coefficients):
    """All latents from alpha, and from draws of those that have a prior."""
    coefficients = iter(coefficients)
    return {
        name: next(coefficients)
        if latent.prior is None
        else latent.mean(alpha) + drawn.get(name, 0)
        for name, latent in found.items()
    }


def _variances(found, solver):
    variances, start = {}, 0
    for name, latent in found.items():
        if latent.prior is None:
            of_all = (solver.inverse_root() ** 2).sum(axis=-2)
            variances[name] = of_all[..., start : start + latent.size]
            start += latent.size
        else:
            explained = solver.explained(latent.columns())
            variances[name] = latent.prior.diagonal() - explained
    return variances


def _arranged(found, values, residual):
    """In the shape that each latent has, for each row of the data."""
    rows = tuple(residual.shape)[:-1]
    return {
        name: pt.broadcast_to(x, (*rows, found[name].size)).reshape((*rows, *found[name].shape))
        for name, x in values.items()
    }
