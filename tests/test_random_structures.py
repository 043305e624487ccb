"""Random structures, data, gaps, scales, shapes and layouts against NumPy, a case a seed.

A hundred cases run with the suite. For thousands of others:

    RANDOM_CASES=5000 RANDOM_START=1000 pytest -n 4 tests/test_random_structures.py

A failing case is repeated by its seed, ``pytest "tests/test_random_structures.py::test_case[17]"``.
"""

import os
from dataclasses import dataclass, replace

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
import random_structures
from random_structures import Structure, random_gaps, random_structure
from registry import AS_WRITTEN

import pm_gaussgrad as gg
from pm_gaussgrad.cov.protocol.sized import of_size

START, COUNT = (
    int(os.environ.get(name, d)) for name, d in (("RANDOM_START", 0), ("RANDOM_CASES", 100))
)
# Errors in units of the condition number and of what is added up.
UNIT = 1e-13


@dataclass
class Trial:
    """One case: a structure, its numbers for each entry of a batch, and data."""

    structure: Structure
    batch: tuple
    numbers: list
    value: np.ndarray
    scale: float
    tensors: list
    cov: gg.cov.Covariance

    @property
    def arrays(self):
        """The numbers of all entries of the batch, stacked."""
        return [
            np.reshape(x, (*self.batch, *np.shape(x[0]))) for x in zip(*self.numbers, strict=True)
        ]

    def entries(self):
        """Of each entry of the batch, its position, numbers, matrix and rows of data."""
        rows = self.value.reshape(-1, max(len(self.numbers), 1), self.structure.n)
        for b, numbers in enumerate(self.numbers):
            yield b, numbers, self.scale**2 * self.structure.matrix(*numbers), rows[:, b]


def random_trial(rng):
    structure = random_structure(rng)
    batch = (int(rng.integers(1, 3)),) if rng.uniform() < 0.25 else ()
    numbers = [structure.draw() for _ in range(int(np.prod(batch)))]
    lead = [(), (1,), (3,), (2, 2), (0,)][rng.choice(5, p=[0.3, 0.15, 0.3, 0.2, 0.05])]
    scale = 2.0 ** rng.choice([0, 0, 0, -240, 240, 20])
    value = scale * rng.normal(size=(*lead, *batch, structure.n))
    known = rng.uniform() < 0.5
    tensors = [
        pt.tensor(f"p{i}", shape=(*batch, *x.shape) if known else (None,) * (len(batch) + x.ndim))
        for i, x in enumerate(numbers[0])
    ]
    cov = structure.build(*tensors)
    cov = cov if scale == 1 else cov * scale**2
    return Trial(structure, batch, numbers, value, scale, tensors, cov)


def laid_out(rng, x):
    """The same numbers in another memory layout or byte order."""
    views = [
        lambda x: x,
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
        lambda x: x[::-1].copy()[::-1],
    ]
    return views[rng.integers(len(views))](x) if x.ndim else x


def compiled(trial, outputs, rng):
    given = [laid_out(rng, x) for x in trial.arrays]
    function = pytensor.function(
        trial.tensors, list(outputs.values()), mode=AS_WRITTEN, on_unused_input="ignore"
    )
    return dict(zip(outputs, function(*given), strict=True))


def expected_logp(matrix, rows):
    """Log densities of rows (m, n), NaN where nothing is observed, and what was added up."""
    logps, sizes = np.zeros(len(rows)), np.zeros(len(rows))
    for i, row in enumerate(rows):
        seen = ~np.isnan(row)
        inner, r = matrix[np.ix_(seen, seen)], row[seen]
        quad, logdet = r @ np.linalg.solve(inner, r), np.linalg.slogdet(inner)[1]
        logps[i] = -0.5 * (quad + logdet + seen.sum() * np.log(2 * np.pi))
        sizes[i] = 1 + quad + abs(logdet)
    return logps, sizes


def expected_slope(trial, numbers, matrix, rows, steps):
    """The derivative of the sum of log densities along steps of the parameters, and its terms."""
    shifted = [x + 1e-30j * step for x, step in zip(numbers, steps, strict=True)]
    change = trial.scale**2 * np.imag(trial.structure.matrix(*shifted)) / 1e-30
    slope, size = 0.0, 0.0
    for row in rows:
        seen = ~np.isnan(row)
        at = np.ix_(seen, seen)
        inverse, inner = np.linalg.inv(matrix[at]), change[at]
        alpha = inverse @ row[seen]
        slope += 0.5 * (alpha @ inner @ alpha - (inverse * inner).sum())
        size += np.abs(alpha) @ np.abs(inner) @ np.abs(alpha) + np.abs(inverse * inner).sum()
    return slope, size


def check_logp(trial, got, rng):
    """Log densities, and the gradient with respect to parameters along a random direction."""
    for b, numbers, matrix, rows in trial.entries():
        tolerance = UNIT * np.linalg.cond(matrix)
        logps, sizes = expected_logp(matrix, rows)
        found = got["logp"].reshape(-1, max(len(trial.numbers), 1))[:, b]
        assert (np.abs(found - logps) <= tolerance * sizes).all(), "logp"
        steps = [
            np.asarray(project(rng.normal(size=np.shape(x))))
            for project, x in zip(trial.structure.directions, numbers, strict=True)
        ]
        slope, size = expected_slope(trial, numbers, matrix, rows, steps)
        found = 0.0
        for i, step in enumerate(steps):
            terms = got[f"gradient {i}"].reshape(len(trial.numbers), *step.shape)[b] * step
            found, size = found + terms.sum(), size + np.abs(terms).sum()
        assert abs(found - slope) <= 10 * tolerance * size, "gradient"


def check_members(trial, got, kept):
    """What comes after the density, against the dense matrix."""
    for b, _, matrix, rows in trial.entries():
        cond, inverse = np.linalg.cond(matrix), np.linalg.inv(matrix)
        precision = np.diag(inverse)

        def close(name, expected, at=b, cond=cond):
            found = got[name].reshape(-1, max(len(trial.numbers), 1), *expected.shape[1:])
            scale = np.abs(expected).max(initial=0)
            error = np.abs(found[:, at] - expected).max(initial=0)
            assert error <= 100 * UNIT * cond * scale, name

        alpha = rows @ inverse
        close("solve", alpha)
        close("times", rows @ matrix)
        if "component" in got:
            summand = got["summand"].reshape(-1, *matrix.shape)
            close("component", alpha @ summand[b % len(summand)])
        close("leave-one-out", alpha / np.sqrt(precision))
        close("whitened norm", (rows * alpha).sum(axis=-1))
        close("whitened colored", rows / trial.scale)
        close("diagonal", np.diag(matrix)[None])
        close("inverse diagonal", precision[None])
        close("dense", matrix[None])
        if kept is not None:
            inner = matrix[np.ix_(kept, kept)]
            quad = (rows[:, kept] * np.linalg.solve(inner, rows[:, kept].T).T).sum(axis=-1)
            close("marginal", quad)


def members(trial, kept):
    cov, value = trial.cov, trial.value
    n = trial.structure.n
    outputs = {
        "solve": cov.solve(value),
        "leave-one-out": cov.leave_one_out(value)[0],
        "whitened norm": (cov.whiten(value) ** 2).sum(axis=-1),
        "whitened colored": cov.whiten(cov.color(value / trial.scale)),
        "diagonal": cov.diagonal() + pt.zeros((*trial.batch, n)),
        "inverse diagonal": cov.inverse_diagonal() + pt.zeros((*trial.batch, n)),
        "dense": cov.to_dense(),
        "times": cov.times(value),
    }
    if hasattr(cov, "summands"):
        first = of_size(cov.summands[0], n)
        outputs["summand"] = first.to_dense()
        outputs["component"] = first.times(cov.solve(value))
    if kept is not None:
        outputs["marginal"] = gg.cov.marginal(cov, kept).quad_logdet(value[..., kept])[0]
    return outputs


def test_what_is_added_changes_no_other_case(monkeypatch):
    def names():
        return [random_structure(np.random.default_rng(seed)).name for seed in range(200)]

    def added(rng, n):
        return replace(random_structures.diagonal(rng, n), name="added")

    before = names()
    monkeypatch.setattr(random_structures, "LEAVES", (*random_structures.LEAVES, added))
    changed = [b for a, b in zip(before, names(), strict=True) if a != b]
    assert changed
    assert all("added" in name for name in changed)


@pytest.mark.parametrize("seed", range(START, START + COUNT))
def test_case(seed):
    rng = np.random.default_rng(seed)
    trial = random_trial(rng)
    missing, kind = random_gaps(rng, trial.value.shape)
    if missing.any() and not isinstance(trial.cov.resolved.size, int):
        missing[:] = False  # gaps need a known size
    data = laid_out(rng, np.where(missing, np.nan, trial.value))
    logp = gg.logp(data, 0.0, trial.cov)
    gradient = pt.grad(logp.sum(), trial.tensors, disconnected_inputs="ignore")
    outputs = {"logp": logp, **{f"gradient {i}": g for i, g in enumerate(gradient)}}
    kept = None
    # PyTensor's own Ops in batches of length zero have no Python form.
    whole = not missing.any() and trial.value.size > 0
    if whole:
        n = trial.cov.resolved.size
        if isinstance(n, int) and n > 1:
            kept = np.sort(rng.permutation(n)[: -(-n // 2)])
        outputs |= members(trial, kept)
    try:
        got = compiled(trial, outputs, rng)
        assert got["logp"].shape == trial.value.shape[:-1]
        trial.value = np.where(missing, np.nan, trial.value)
        check_logp(trial, got, rng)
        if whole:
            check_members(trial, got, kept)
    except Exception as error:
        error.add_note(
            f"{trial.structure.name}, n = {trial.structure.n}, batch {trial.batch}, data "
            f"{trial.value.shape}, gaps: {kind}, scale {trial.scale:g}"
        )
        raise
