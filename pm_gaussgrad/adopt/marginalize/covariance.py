"""The covariance of a likelihood out of which variables were integrated, chosen by cost.

Groups of more than a few levels are effects, by a sparse factor; other maps of few columns are a
factor beside the noise; where there are as many columns as observations the matrix is formed.
"""

from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import pytensor.tensor as pt

from pm_gaussgrad.adopt.marginalize.flat import design_of, of_flat
from pm_gaussgrad.adopt.marginalize.latent import of_latent
from pm_gaussgrad.adopt.marginalize.linear.pieces import LARGEST, TooLargeError
from pm_gaussgrad.adopt.marginalize.noise import independent, noise_of
from pm_gaussgrad.adopt.marginalize.parts import (
    EffectsPart,
    FactorPart,
    VariancePart,
    distinct,
    of_rows,
    of_white,
)
from pm_gaussgrad.adopt.marginalize.walk import of_steps
from pm_gaussgrad.cov import Covariance, Dense, Effects, LowRank
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.cov.protocol.sums import has_algorithm

# With at most as many levels effects are the columns of a factor.
_FEW_LEVELS = 8
# Coefficients of groups that are the same, at most.
_MOST_TOGETHER = 32


@dataclass(frozen=True, eq=False)
class Chosen:
    """A covariance, and how it came about.

    Attributes
    ----------
    cov : Covariance
    noise : Covariance
        That of the likelihood before.
    proper : Covariance
        Without coefficients that have a flat prior.
    flat : tuple
        These, bases and designs (n, m).
    how : dict of str to str
        For each variable what it became.
    constants : bool
        Whether anything had to be constant.
    """

    cov: Covariance
    noise: Covariance
    proper: Covariance
    flat: tuple
    how: dict
    constants: bool

    def with_constants(self):
        """The same, of constants."""
        return replace(self, constants=True)


def covariance_of(found) -> Chosen:
    """The covariance of what was found, observations given what stays."""
    [n] = found.known.shape(found.rv)
    noise = noise_of(found.rv, found.known, n)
    parts, own, flat = _parts(found, n)
    effects = _merged([part for part in parts if isinstance(part, EffectsPart)])
    others = [part for part in parts if not isinstance(part, EffectsPart)]
    beside = [noise, *own.values()]
    # Maps that end as factors need not be constant.
    single = any(isinstance(part, VariancePart) for part in others)
    for sparse in (True, False):
        if sparse and max((part.levels for part in effects), default=0) <= _FEW_LEVELS:
            continue
        constants = sparse or single or bool(own)
        summands, how = _summands(effects if sparse else _as_factors(effects), others, n)
        proper = reduce(add, [*summands, *beside])
        if has_algorithm(proper):
            how |= {owner: _name(x) for owner, x in own.items()}
            break
    else:
        if n**2 > LARGEST:
            raise TooLargeError(found.bases[-1].owner)
        proper = Dense(reduce(add, (of_size(x, n).to_dense() for x in [*summands, *beside])))
        how, constants = dict.fromkeys((x.owner for x in found.bases), "a dense matrix"), True
    how |= dict.fromkeys((x.owner for x, _ in flat), "coefficients with a flat prior")
    cov = reduce(add, [proper, *of_flat(flat)])
    return Chosen(cov, noise, proper, tuple(flat), how, constants)


def _parts(found, n):
    """Parts, covariances of their own of variables that have one, and what is flat."""
    parts, own, flat = [], {}, []
    for base in found.bases:
        pieces = [piece for piece in found.affine.pieces if piece.base is base]
        if not pieces:
            continue
        if base.flat:
            flat.append((base, design_of(pieces)))
            continue
        cov = of_steps(pieces) if base.cov is None else of_latent(base, pieces, n)
        if cov is not None:
            own[base.owner] = own[base.owner] + cov if base.owner in own else cov
        elif base.cov is None:
            parts.append(of_white(base, pieces, n))
        else:
            parts.append(of_rows(base, pieces, n))
    return parts, own, flat


def _merged(effects):
    """Effects of the same groups together."""
    groups = {}
    for part in effects:
        groups.setdefault(part.group.tobytes(), []).append(part)
    merged = []
    for same in groups.values():
        whole = same[0]
        for part in same[1:]:
            if whole.design.shape[1] + part.design.shape[1] <= _MOST_TOGETHER:
                whole = _together(whole, part)
            else:
                merged.append(whole)
                whole = part
        merged.append(whole)
    return merged


def _together(left, right):
    design, rows = distinct([*left.design.T, *right.design.T])
    k, width = left.design.shape[1], left.width
    loadings = [(rows[row], column, x) for row, column, x in left.loadings]
    loadings += [(rows[k + row], width + column, x) for row, column, x in right.loadings]
    owners = (*left.owners, *right.owners)
    return EffectsPart(left.group, design, loadings, width + right.width, owners)


def _as_factors(effects):
    return [FactorPart(part.factor(), part.owners, part.levels * part.width) for part in effects]


def _summands(parts, others, n):
    """Structures, and for each variable which of them it is in."""
    parts = [*parts, *others]
    summands, how = [], {}
    for part in parts:
        if isinstance(part, EffectsPart):
            cov = Effects(part.group, part.covariance(), part.design)
            k = part.design.shape[1]
            size = f"{k} coefficients each" if k > 1 else "an intercept each"
            text = f"effects of {part.levels} groups, {size}"
        elif isinstance(part, VariancePart):
            cov, text = independent(part.variance, n), "a variance of single observations"
        else:
            continue
        summands.append(cov)
        how |= dict.fromkeys(part.owners, text)
    factors = [part for part in parts if isinstance(part, FactorPart)]
    width = sum(part.width for part in factors)
    if factors:
        low = width < n
        if not low and n**2 > LARGEST:
            raise TooLargeError(max(factors, key=lambda part: part.width).owners[0])
        factor = pt.concatenate([part.factor for part in factors], axis=1)
        summands.append(LowRank(factor) if low else Dense(factor @ factor.T))
        text = f"a factor of {width} columns" if low else f"a dense matrix, of {width} columns"
        how |= dict.fromkeys((name for part in factors for name in part.owners), text)
    return summands, how


def _name(cov):
    return cov.label.removeprefix("gg.cov.")
