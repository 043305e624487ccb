"""Crossed effects of the size of InstEval: 73,421 ratings of 1,128 lecturers by 2,972 students.

    python -m benchmarks.effects                  # half a minute

Value and gradient of a mixed model with two covariates, as a sampler calls them: CPU milliseconds
of one evaluation and the bar that they must not exceed, the sparse engine's part of it, CPU seconds
to analyse and to compile, by how much an evaluation raises the resident memory; and how far value
and gradient of the first rows are from dense algebra.
"""

import argparse
import tempfile
import time

from benchmarks.__main__ import prepare_process

SEED = 20261127
ROWS, STUDENTS, LECTURERS = 73_421, 2_972, 1_128
BAR_MS, BAR_MB = 120, 500


def data(rows):
    """Students, lecturers, two covariates and ratings, of simulated effects."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    student, lecturer = rng.integers(STUDENTS, size=ROWS), rng.integers(LECTURERS, size=ROWS)
    covariates = rng.normal(size=(ROWS, 2))
    ratings = 0.3 * rng.normal(size=STUDENTS)[student] + 0.5 * rng.normal(size=LECTURERS)[lecturer]
    ratings += covariates @ [0.2, -0.1] + rng.normal(size=ROWS)
    return student[:rows], lecturer[:rows], covariates[:rows], ratings[:rows]


POINT = (0.1, 0.2, 1.1, [0.3, -0.2])


def model(rows):
    """The compiled function of two variances, that of the noise, and two coefficients."""
    import pytensor
    import pytensor.tensor as pt

    import pm_gaussgrad as gg

    student, lecturer, covariates, ratings = data(rows)
    variances, coefficients = pt.dscalars("students", "lecturers", "noise"), pt.dvector("b")
    of_students, of_lecturers, noise = variances
    cov = gg.cov.Effects(student, of_students) + gg.cov.Effects(lecturer, of_lecturers)
    cov += gg.cov.Diagonal(noise)
    start = time.process_time()
    index = dict(zip(cov.structure.parameter_shapes, cov.parameters, strict=True))["index"].data
    analysed = time.process_time() - start
    logp = gg.logp(ratings, pt.dot(covariates, coefficients), cov)
    wrt = [*variances, coefficients]
    return pytensor.function(wrt, [logp, *pt.grad(logp, wrt)], mode="NUMBA"), index, analysed


def engine_ms(index, repetitions):
    """CPU milliseconds of the factorisation and of the inverse on the pattern alone."""
    import numpy as np

    from pm_gaussgrad.kernels.sparse.arrangement import PAIR, SYSTEM, UNIT
    from pm_gaussgrad.kernels.sparse.factorise import factorise
    from pm_gaussgrad.kernels.sparse.layout import ENTRY, section
    from pm_gaussgrad.kernels.sparse.selected_inverse import selected_inverse
    from pm_gaussgrad.ops.compiled import compiled_function

    analysis = section(index, SYSTEM).copy()
    values = np.zeros(section(analysis, ENTRY).size)
    np.add.at(values, section(index, UNIT), 1.0)
    np.add.at(values, section(index, PAIR), 0.1)
    factorise, selected_inverse = map(compiled_function, (factorise, selected_inverse))

    def both():
        selected_inverse(factorise(values, analysis), analysis)

    return milliseconds(both, repetitions)


def milliseconds(call, repetitions):
    """Median CPU time of a call."""
    import numpy as np

    call()
    taken = []
    for _ in range(repetitions):
        start = time.thread_time()
        call()
        taken.append(1e3 * (time.thread_time() - start))
    return np.median(taken)


def dense(rows):
    """Value and gradient by dense algebra."""
    import numpy as np

    student, lecturer, covariates, ratings = data(rows)
    of_students, of_lecturers, noise, coefficients = POINT
    same = [student[:, None] == student, lecturer[:, None] == lecturer]
    sigma = of_students * same[0] + of_lecturers * same[1] + noise * np.eye(rows)
    residual, inverse = ratings - covariates @ coefficients, np.linalg.inv(sigma)
    alpha = inverse @ residual
    logdet = np.linalg.slogdet(sigma)[1]
    value = -(residual @ alpha + logdet + rows * np.log(2 * np.pi)) / 2
    slopes = [(alpha @ x @ alpha - (inverse * x).sum()) / 2 for x in same]
    slopes.append((alpha @ alpha - np.trace(inverse)) / 2)
    return np.array([value, *slopes, *(covariates.T @ alpha)])


def main():
    """Print a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.effects")
    parser.add_argument("--repetitions", type=int, default=11)
    parser.add_argument("--check", type=int, default=1500, metavar="ROWS", help="beside dense")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gaussgrad_effects_") as cache:
        prepare_process(cache)
        import numpy as np

        from benchmarks.measure import peak_memory

        start = time.process_time()
        function, index, analysed = model(ROWS)
        function(*POINT)
        compiled = time.process_time() - start - analysed
        ms = milliseconds(lambda: function(*POINT), options.repetitions)
        engine = engine_ms(index, options.repetitions)
        memory = (peak_memory(lambda: function(*POINT)) or 0) / 2**20
        few, *_ = model(options.check)
        found, expected = np.hstack(few(*POINT)), dense(options.check)
        away = np.abs(found / expected - 1).max()
    print(
        f"value and gradient {ms:.0f} ms ({BAR_MS}), {engine:.0f} of them the engine's; analysis "
        f"{analysed:.1f} s, compilation {compiled:.0f} s; memory {memory:.0f} MB ({BAR_MB}); "
        f"{options.check} rows away from dense algebra by {away:.1e}"
    )


if __name__ == "__main__":
    main()
