"""``BlockDiagonal``: composition, nesting, sums, sizes, and life inside PyMC's graphs."""

from itertools import chain

import cloudpickle
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pymc.pytensorf import rewrite_pregrad
from pytensor.graph.replace import vectorize_graph
from registry import (
    AS_WRITTEN,
    BACKENDS,
    INTERPRETED,
    LEAVES,
    each,
    interpreted,
    is_index,
    positive_definite,
)

import pm_gaussgrad as gg
from pm_gaussgrad.cov.groups.equal_blocks import EqualBlocks
from pm_gaussgrad.ops import InvQuadLogdet, assemble, partition


def _nested(v, rho, chol):
    """Nine observations: an autoregression of 3, a block-diagonal of 2 + 2, noise for 2."""
    inner = gg.cov.BlockDiagonal(gg.cov.Cholesky(chol), 2 * gg.cov.Cholesky(chol))
    noise = gg.cov.Diagonal(v, size=2)
    return gg.cov.BlockDiagonal(gg.cov.AR1(v, rho, size=3), inner, noise)


@pytest.fixture(scope="module")
def nested():
    """The nested structure, its tensors and numbers for them."""
    v, rho = pt.dscalars("v", "rho")
    chol = pt.tensor("chol", shape=(2, 2), dtype="float64")
    return _nested(v, rho, chol), [v, rho, chol], [1.3, -0.4, np.array([[1.2, 0], [0.5, 0.8]])]


def test_structure_is_a_hashable_fact(nested):
    cov, tensors, _ = nested
    structure = cov.structure
    assert structure == _nested(*tensors).structure
    assert hash(structure) == hash(_nested(*tensors).structure)
    assert cloudpickle.loads(cloudpickle.dumps(structure)) == structure
    assert structure.__name__ == ("BlockDiagonal(AR1, BlockDiagonal(2 Cholesky), ScalarDiagonal)")
    assert structure.parameter_shapes == {
        "block_0_variance": "",
        "block_0_correlation": "",
        "block_1_block_0_chol": "count_0_1 n_0_1 n_0_1",
    }  # the noise shares its variance with the first block
    assert structure.places == (0, 1, 2, 0)
    assert structure.constant_parameters == frozenset()
    assert cov.size == 9


def test_nested_blocks_against_the_dense_matrix(nested, rng):
    cov, tensors, values = nested
    y = rng.normal(size=(2, 9))
    logps = gg.logp(y, 0.1, cov), gg.logp(y, 0.1, cov.to_dense())
    outputs = [x for logp in logps for x in (logp, *pt.grad(logp.sum(), tensors))]
    first, second = np.split(np.arange(8), 2)
    got = interpreted(tensors, outputs)(*values)
    for i, j in zip(first, second, strict=True):
        np.testing.assert_allclose(got[i], got[j], rtol=1e-12, atol=1e-12)


def test_one_block_outside_its_domain_is_minus_infinity(nested, rng):
    cov, tensors, [v, _, chol] = nested
    logp = gg.logp(rng.normal(size=9), 0.0, cov)
    value, *gradient = interpreted(tensors, [logp, *pt.grad(logp, tensors)])(v, 1.5, chol)
    assert value == -np.inf
    assert all(np.all(g == 0) for g in gradient)


def test_constant_blocks_are_factored_when_the_graph_is_compiled(rng):
    matrix = positive_definite(rng, 3)
    v, y = pt.dscalar("v"), pt.dvector("y")
    cov = gg.cov.BlockDiagonal(matrix, gg.cov.Diagonal(v, size=2))
    function = interpreted([v, y], gg.logp(y, 0.0, cov))
    primitives = [
        n.op for n in function.maker.fgraph.apply_nodes if isinstance(n.op, InvQuadLogdet)
    ]
    assert {op.structure.__name__ for op in primitives} == {"Cholesky", "ScalarDiagonal"}


def test_rows_are_replaced_by_their_scatter(nested, rng):
    cov, tensors, values = nested
    rows = rng.normal(size=(50, 9))
    total = gg.logp(rows, 0.5, cov).sum()
    function = interpreted(tensors, total)
    longest = max(
        n.inputs[0].type.shape[0] or 0
        for n in function.maker.fgraph.apply_nodes
        if isinstance(n.op, InvQuadLogdet)
    )
    assert longest <= 10
    each = interpreted(tensors, gg.logp(rows, 0.5, cov))(*values)
    np.testing.assert_allclose(function(*values), each.sum(), rtol=1e-12)


def test_a_batch_of_one_block_and_not_of_the_other(rng):
    v, chol = pt.dvector("v"), pt.tensor("chol", shape=(2, 2), dtype="float64")
    cov = gg.cov.BlockDiagonal(gg.cov.Cholesky(chol), gg.cov.AR1(v, 0.5, size=2))
    y = rng.normal(size=(3, 4))
    dense = cov.to_dense()
    outputs = [cov.logp(y), cov.solve(y), cov.diagonal(), cov.color(y), dense]
    values = np.array([0.5, 1.0, 2.0]), np.linalg.cholesky(positive_definite(rng, 2))
    logp, solved, diagonal, colored, dense = interpreted([v, chol], outputs)(*values)
    np.testing.assert_allclose(solved, np.linalg.solve(dense, y[..., None])[..., 0])
    np.testing.assert_allclose(diagonal, np.diagonal(dense, axis1=-2, axis2=-1))
    roots = np.linalg.cholesky(dense)
    np.testing.assert_allclose(colored, (roots @ y[..., None])[..., 0])
    quad = (solved * y).sum(axis=-1)
    expected = -0.5 * (quad + np.linalg.slogdet(dense)[1] + 4 * np.log(2 * np.pi))
    np.testing.assert_allclose(logp, expected)


def test_vectorised_log_density(nested, rng):
    """PyMC vectorises graphs over draws of the parameters."""
    cov, tensors, [v, rho, chol] = nested
    y = rng.normal(size=9)
    logp = gg.logp(y, 0.0, cov)
    several = pt.dvector("several")
    batched = vectorize_graph(logp, {tensors[1]: several})
    rhos = np.array([rho, 0.0, 0.5])
    got = interpreted([tensors[0], several, tensors[2]], batched)(v, rhos, chol)
    one = interpreted(tensors, logp)
    np.testing.assert_allclose(got, [one(v, r, chol) for r in rhos], rtol=1e-13)


def test_gaps_leave_blocks(rng):
    """Each block by its own kind; one without observations is no block any more."""
    cov = gg.cov.BlockDiagonal(
        gg.cov.AR1(1.0, 0.5, size=4), gg.cov.Diagonal(2.0, size=2), gg.cov.Toeplitz([1.0, 0.3, 0.1])
    )
    observed = [0, 1, 3, 6, 8]
    kept = gg.cov.marginal(cov, observed)
    assert isinstance(kept, gg.cov.BlockDiagonal)
    assert kept.sizes == (3, 2)
    got, whole = interpreted([], [kept.to_dense(), cov.to_dense()])()
    assert_allclose(got, whole[np.ix_(observed, observed)])


def test_sums_close_block_by_block(rng):
    variances = rng.uniform(1, 2, size=5)
    first = gg.cov.BlockDiagonal(gg.cov.Diagonal(variances[:2]), gg.cov.Diagonal(0.5, size=3))
    dense = np.diag(np.append(variances[:2], np.full(3, 0.5)))
    series = gg.cov.BlockDiagonal(gg.cov.AR1(1.0, 0.5, size=2), gg.cov.Diagonal(variances[:3]))
    noisy = np.diag(np.append(np.ones(2), variances[:3])) + np.diag(variances)
    noisy[0, 1] = noisy[1, 0] = 0.5
    for cov, expected in (
        (first + gg.cov.Diagonal(variances), dense + np.diag(variances)),
        (gg.cov.Diagonal(0.7, size=5) + first, dense + 0.7 * np.eye(5)),
        (first + gg.cov.Diagonal(0.7), dense + 0.7 * np.eye(5)),
        (first + 2 * first, 3 * dense),
        (series + gg.cov.Diagonal(variances), noisy),
    ):
        assert isinstance(cov.resolved, gg.cov.BlockDiagonal)
        np.testing.assert_allclose(cov.to_dense().eval(mode=INTERPRETED), expected)


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        (
            lambda cov: gg.cov.Diagonal(np.ones(3)),
            TypeError,
            r"block 0: gg.cov.CompoundSymmetry \+ gg.cov.Diagonal\(vector\)",
        ),
        (lambda cov: gg.cov.Diagonal(0.5, size=4), ValueError, r"sizes \[3, 4\] disagree"),
        (lambda cov: gg.cov.Diagonal(np.ones(4)), ValueError, r"sizes \[3, 4\] disagree"),
        (lambda cov: gg.cov.BlockDiagonal(np.eye(3)), TypeError, r"sizes \(2, 1\) and \(3,\)"),
    ],
)
def test_sums_that_do_not_close(other, error, message):
    cov = gg.cov.BlockDiagonal(gg.cov.CompoundSymmetry(1.0, 0.5, size=2), np.eye(1))
    with pytest.raises(error, match=message):
        (cov + other(cov)).plan()


@pytest.mark.parametrize(
    ("blocks", "error", "message"),
    [
        ([], TypeError, "found no block"),
        ([gg.cov.AR1(1.0, 0.5)], ValueError, r"block 0 is a gg.cov.AR1 .*\(..., size=3\)"),
        (
            [gg.cov.CompoundSymmetry(1.0, 0.3) + gg.cov.AR1(1.0, 0.5)],
            ValueError,
            r"block 0 is a .* of unknown size.* as in gg.cov.CompoundSymmetry\(..., size=3\)",
        ),
        (
            [np.eye(2), gg.cov.Diagonal(1.0, size=pt.lscalar("n"))],
            ValueError,
            "block 1 is a gg.cov.Diagonal of unknown size",
        ),
        ([1.0], TypeError, "`block 0` has 0 dimension"),
        ([np.ones((2, 3))], ValueError, "expected .* square matrix"),
    ],
)
def test_blocks_that_cannot_be(blocks, error, message):
    with pytest.raises(error, match=message):
        gg.cov.BlockDiagonal(*blocks)


@pytest.mark.parametrize("backend", BACKENDS)
def test_sizes_that_do_not_sum(backend):
    x = pt.dvector("x")
    cov = gg.cov.BlockDiagonal(gg.cov.AR1(1.0, 0.5, size=2), gg.cov.AR1(1.0, 0.5, size=3))
    with pytest.raises(ValueError, match="expected n = 5"):
        gg.logp(np.ones(6), 0.0, cov)
    function = pytensor.function([x], cov.whiten(x), mode=BACKENDS[backend])
    with pytest.raises(ValueError, match=r"gg.cov.BlockDiagonal: the sizes .* do not sum"):
        function(np.ones(6))


@pytest.mark.parametrize("backend", BACKENDS)
def test_partition_and_assembly_are_inverse(backend, rng):
    """Also in their gradients, and with the length of an array as a size."""
    x, template = pt.dmatrix("x"), pt.dvector("template")
    blocks = partition("test", x, [2, template.shape[0], 0])
    again = assemble(blocks[::-1])
    weights = np.arange(10.0).reshape(2, 5)
    gradient = pt.grad((weights * again).sum(), x)
    function = pytensor.function([x, template], [again, gradient], mode=BACKENDS[backend])
    value = rng.normal(size=(2, 5))
    joined, pulled = function(value, np.zeros(3))
    np.testing.assert_array_equal(joined, np.roll(value, 3, axis=1))
    np.testing.assert_array_equal(pulled, np.roll(weights, -3, axis=1))


def test_draws_have_the_shape_and_survive_resizing(nested):
    cov = gg.cov.BlockDiagonal(gg.cov.AR1(2.0, 0.5, size=2), gg.cov.Diagonal(1e-20, size=1))
    draws = pm.draw(
        gg.MvNormal.dist(np.array([0.0, 0.0, 7.0]), cov, shape=(20_000, 3)),
        random_seed=1,
        mode=INTERPRETED,
    )
    np.testing.assert_allclose(draws[:, 2], 7)
    expected = np.array([[2.0, 1.0], [1.0, 2.0]])
    np.testing.assert_allclose(np.cov(draws[:, :2].T), expected, atol=0.08)


def _nodes(blocks, wrt):
    cov = gg.cov.BlockDiagonal(*blocks)
    logp = rewrite_pregrad(gg.logp(np.zeros(cov.size), 0.0, cov))  # as samplers do
    gradient = pt.grad(logp, wrt, disconnected_inputs="ignore")
    function = interpreted(wrt, [logp, *gradient], on_unused_input="ignore")
    return len(function.maker.fgraph.apply_nodes)


def test_the_graph_does_not_grow_with_equal_blocks():
    v, r = pt.scalar("v"), pt.scalar("r")
    few, many = (_nodes([gg.cov.AR1(v, r, size=3)] * k, [v, r]) for k in (2, 200))
    assert many == few
    kernels = [gg.cov.Dense(v * np.eye(2) + k) for k in range(40)]
    alone = _nodes(kernels[:1], [v])
    # A matrix each: its own expression, and no more.
    assert _nodes(kernels, [v]) < alone + 40 * 8


V, R, S = pt.vector("V", shape=(8,)), pt.vector("R"), pt.scalar("S")
TENSORS = [V, R, S]
NUMBERS = (
    np.array([0.5, 1.2, 0.8, 2.0, 0.7, 1.0, 1.5, 0.9]),
    np.array([0.3, 0.4, 0.99, 0.1, 0.9, 0.0, 0.5, 0.2]),
    0.7,
)
SIZES = (3, 1, 5, 2, 4, 3)


def _each(build, sizes=SIZES):
    return [build(i, n) for i, n in enumerate(sizes)]


# Blocks of one family, of many sizes or with parameters of their own, and what they become.
FAMILIES = {
    "AR1": (lambda: _each(lambda i, n: gg.cov.AR1(V[i] ** 2, -R[i], size=n)), "RegularAR1"),
    "AR1 with noise": (
        lambda: _each(lambda i, n: gg.cov.AR1(V[i], R[1], size=n) + gg.cov.Diagonal(S * V[7 - i])),
        "IrregularAR1",
    ),
    "AR1 with gaps, groups and noise": (
        lambda: [
            gg.cov.AR1(V[2], R[1], size=4) + gg.cov.Diagonal(V[:4]),
            gg.cov.AR1(V[:2], R[1], time=[0.5, 2.0, 0.1, 3], group=[0, 0, 1, 1]),
            gg.cov.marginal(gg.cov.AR1(S, R[2], size=6), [0, 1, 3, 5]),
            gg.cov.AR1(V[3], R[0], size=2) + gg.cov.Diagonal(0.2),
            gg.cov.AR1(S, 0.5, time=[1.0, 3.0]),
        ],
        "IrregularAR1",
    ),
    "CompoundSymmetry": (
        lambda: [
            *_each(lambda i, n: gg.cov.CompoundSymmetry(V[i], R[i], size=n)),
            gg.cov.CompoundSymmetry.from_components(S, V[0], group=[0, 1, 0]),
        ],
        "GroupedSymmetry",
    ),
    "Diagonal": (
        lambda: [
            *_each(lambda i, n: gg.cov.Diagonal(V[i], size=n)),
            gg.cov.Diagonal(V[2:4]),
            gg.cov.Diagonal(V[:2] * S),
        ],
        "Diagonal",
    ),
}


def _outputs(cov, rows):
    solved = cov.solve(rows)
    total = cov.logp(rows).sum() + (rows[0] * solved).sum()
    return [
        cov.logp(rows),
        cov.logp(rows[0]),
        cov.logdet(),
        solved,
        cov.diagonal(),
        cov.inverse_diagonal(),
        *cov.leave_one_out(rows),
        *pt.grad(total, TENSORS, disconnected_inputs="ignore"),
    ]


@pytest.mark.parametrize(("blocks", "became"), FAMILIES.values(), ids=FAMILIES)
def test_blocks_of_a_family_are_one_structure(blocks, became, rng):
    """All that there is of it, of what it is rebuilt from, and of what it leaves and adds up to."""
    cov = gg.cov.BlockDiagonal(*blocks())
    assert [type(part).__name__ for part in cov.parts] == [became]
    rebuilt = cov.structure.from_parameters(*cov.parameters)
    assert rebuilt.structure == cov.structure
    rows, observed = rng.normal(size=(2, cov.size)), [0, 2, 3, 4, 6, 9, cov.size - 1]
    dense = gg.cov.Dense(cov.to_dense())
    twins = [
        [*_outputs(c, rows), gg.fisher_information(0.0, c, TENSORS), *c.innovations(rows)]
        for c in (dense, cov)
    ]
    others = [
        cov.to_dense(),
        rebuilt.to_dense(),
        (2 * rebuilt).logdet(),
        (rebuilt + gg.cov.Diagonal(0.3)).logdet(),
        gg.cov.marginal(cov, observed).to_dense(),
        gg.cov.marginal(rebuilt, observed).logdet(),
        cov.whiten(cov.color(rows)),
    ]
    function = interpreted(TENSORS, [*others, *chain(*twins)], AS_WRITTEN, on_unused_input="ignore")
    dense, again, doubled, noisy, kept, of_kept, restored, *found = function(*NUMBERS)
    assert_allclose(again, dense, rtol=1e-14)
    for ours, exact in zip(found[len(found) // 2 :], found[: len(found) // 2], strict=True):
        assert_allclose(ours, exact, rtol=1e-8, atol=1e-9)
    some = dense[np.ix_(observed, observed)]
    assert_allclose(doubled, np.linalg.slogdet(2 * dense)[1], rtol=1e-10)
    assert_allclose(noisy, np.linalg.slogdet(dense + 0.3 * np.eye(cov.size))[1], rtol=1e-10)
    assert_allclose(kept, some, rtol=1e-14)
    assert_allclose(of_kept, np.linalg.slogdet(some)[1], rtol=1e-10)
    assert_allclose(restored, rows, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["AR1", "AR1 with noise", "CompoundSymmetry", "Diagonal"])
def test_the_graph_does_not_grow_with_blocks_of_a_family(name):
    """Of many sizes, and with parameters of their own that are expressions of a user's loop."""
    kinds = {
        "AR1": lambda i, n: gg.cov.AR1(V[i % 8] ** 2, pt.tanh(R[i]), size=n),
        "AR1 with noise": lambda i, n: gg.cov.AR1(V[i % 8], R[i], size=n) + gg.cov.Diagonal(S),
        "CompoundSymmetry": lambda i, n: gg.cov.CompoundSymmetry(V[i % 8], R[i], size=n),
        "Diagonal": lambda i, n: gg.cov.Diagonal(pt.exp(R[i]) + V[i % 8], size=n),
    }
    for sizes in ((5, 3, 4, 2, 7, 6), (3,)):
        few, many = (
            _nodes([kinds[name](i, sizes[i % len(sizes)]) for i in range(k)], TENSORS)
            for k in (12, 120)
        )
        assert many == few


def test_parameters_with_names_are_not_seen_through():
    """A model replaces them, as pm.do does."""
    with pm.Model() as model:
        v = pm.HalfNormal("v", shape=3)
        named = [pm.Deterministic(f"v{i}", v[i] ** 2) for i in range(3)]
        cov = gg.cov.BlockDiagonal(*(gg.cov.AR1(x, 0.5, size=2) for x in named))
        gg.MvNormal("y", 0, cov)
    done = pm.do(model, {f"v{i}": 1e-18 for i in range(3)})
    assert np.abs(pm.draw(done["y"], mode=INTERPRETED, random_seed=1)).max() < 1e-6


def test_equal_blocks_with_parameters_of_their_own_do_not_grow():
    kernels = [gg.cov.Dense(V[i % 8] ** 2 * np.eye(2) + R[i] * np.ones((2, 2))) for i in range(60)]
    assert _nodes(kernels, TENSORS) == _nodes(kernels[:12], TENSORS)


@each(LEAVES)
def test_equal_blocks_of_every_structure(case, rng):
    """A batch of it has all that blocks have, by their own numbers."""
    values = [case.values(rng, 4) for _ in range(2)]
    own = [
        x if not is_index(x) else y for x, y in zip(values[1], values[0], strict=True)
    ]  # index data are common to all
    blocks = [case.build(4, *map(pt.constant, numbers)) for numbers in (values[0], own)]
    cov = gg.cov.BlockDiagonal(*blocks)
    [part] = cov.parts
    rows = rng.normal(size=(2, 8))
    halves = rows[:, :4], rows[:, 4:]
    each_way = [
        lambda c, r: c.solve(r),
        lambda c, r: c.leave_one_out(r)[0],
        lambda c, r: c.diagonal(),
        lambda c, r: c.inverse_diagonal(),
    ]
    ours = [way(part, rows) for way in each_way]
    theirs = [
        pt.concatenate([way(b, r) for b, r in zip(blocks, halves, strict=True)], axis=-1)
        for way in each_way
    ]
    whole = [part.to_dense(), cov.to_dense(), part.whiten(part.color(rows)), part.logp(rows)]
    dense_logp = gg.cov.Dense(cov.to_dense()).logp(rows)
    outputs = [*ours, *theirs, *whole, dense_logp]
    *results, dense, exact, restored, logp, wanted = interpreted([], outputs, AS_WRITTEN)()
    for got, expected in zip(results[:4], results[4:], strict=True):
        assert_allclose(got, expected, rtol=1e-10, atol=1e-12)
    assert_allclose(dense, exact, rtol=1e-13, atol=1e-14)
    assert_allclose(restored, rows, rtol=1e-9, atol=1e-10)
    assert_allclose(logp, wanted, rtol=1e-9)


def _has_information(case):
    kind = type(case.build(2, *case.tensors()))
    return kind.information is not gg.cov.Covariance.information


@each([case for case in LEAVES if _has_information(case)])
def test_information_of_equal_blocks(case, rng):
    """One graph for all of them."""
    first, second = (case.values(rng, 4) for _ in range(2))
    second = [x if is_index(x) else y for x, y in zip(first, second, strict=True)]
    blocks = [case.build(4, *map(pt.constant, numbers)) for numbers in (first, second)]
    part = EqualBlocks.of(blocks, 4)
    names, moves = part.structure.parameter_shapes, []
    for name, own, x in zip(names, part.form.own, blocks[0].parameters, strict=True):
        shape = (3, *[2] * own, *x.type.shape)
        constant = name in part.structure.constant_parameters
        moves.append(None if constant else pt.constant(rng.normal(size=shape)))
    each_moves = [
        [
            t if t is None or not own else t[:, i]
            for t, own in zip(moves, part.form.own, strict=True)
        ]
        for i in range(2)
    ]
    separate = sum(b.information(t) for b, t in zip(blocks, each_moves, strict=True))
    ours, theirs = interpreted([], [part.information(moves), separate], AS_WRITTEN)()
    assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)


def test_many_lengths_are_as_exact_as_one(rng):
    """Near one and minus one, as each AR1 by itself."""
    v, rho = pt.vector("v", shape=(6,)), pt.vector("rho", shape=(6,))
    sizes, numbers = (5, 1, 4, 7, 2, 3), 1 - np.array([1e-15, 1e-9, 1e-12, 2 - 1e-13, 0.4, 1e-3])
    y = rng.normal(size=sum(sizes))
    cov = gg.cov.BlockDiagonal(*(gg.cov.AR1(v[i], rho[i], size=n) for i, n in enumerate(sizes)))
    parts = np.split(y, np.cumsum(sizes)[:-1])
    alone = [gg.cov.AR1(v[i], rho[i], size=n).logp(parts[i]) for i, n in enumerate(sizes)]
    logps = cov.logp(y), sum(alone)
    outputs = [x for logp in logps for x in (logp, *pt.grad(logp, [v, rho]))]
    found = interpreted([v, rho], outputs)(rng.uniform(0.5, 2, 6), numbers)
    for got, expected in zip(found[:3], found[3:], strict=True):
        assert_allclose(got, expected, rtol=1e-14)


def test_draws_of_the_parameters_at_once(rng):
    """PyMC vectorises graphs over draws: of rows in common, of a batch, and of groups."""
    for blocks in (
        [gg.cov.AR1(S, R[1], size=2) for _ in range(3)],
        [gg.cov.Dense(V[i] * np.eye(2) + S) for i in range(3)],
        _each(lambda i, n: gg.cov.AR1(V[i], R[i], size=n)),
    ):
        cov = gg.cov.BlockDiagonal(*blocks)
        y = rng.normal(size=cov.size)
        logp = gg.logp(y, 0.0, cov)
        several = [pt.tensor(shape=(2, *x.type.shape), dtype=x.dtype) for x in TENSORS]
        batches = dict(zip(TENSORS, several, strict=True))
        batched, *parameters = vectorize_graph([logp, *cov.parameters], batches)
        batch = cov.structure.from_parameters(*parameters)
        numbers = [np.stack([np.asarray(x), np.asarray(x) * 0.9]) for x in NUMBERS]
        outputs = [batched, batch.logp(y), batch.diagonal()]
        got, direct, diagonal = interpreted(several, outputs, on_unused_input="ignore")(*numbers)
        one = interpreted(TENSORS, [logp, cov.diagonal()], on_unused_input="ignore")
        for i in range(2):
            expected, variances = one(*(x[i] for x in numbers))
            assert_allclose([got[i], direct[i]], [expected] * 2, rtol=1e-12)
            assert_allclose(diagonal[i], variances, rtol=1e-13)


def test_blocks_of_all_kinds_together(rng):
    """Equal and unequal, with parameters of their own, in common and in part, in any order."""
    v, r, w = pt.scalar("v"), pt.scalar("r"), pt.vector("w", shape=(4,))
    cov = gg.cov.BlockDiagonal(
        gg.cov.AR1(v, r, size=3),
        gg.cov.AR1(v, 0.2, size=2),
        gg.cov.AR1(v, r, size=3),
        gg.cov.Diagonal(w),
        gg.cov.AR1(w[1], r, size=2),
        gg.cov.Diagonal(w),
        np.eye(2) * 2,
        gg.cov.RepeatedMeasures(np.eye(2) + v, [0, 0, 1], [0, 1, 0]),
        gg.cov.Diagonal(w * 2),
        np.eye(2) * 3,
        gg.cov.RepeatedMeasures(np.eye(2) + r, [0, 0, 1], [0, 1, 0]),
        gg.cov.RepeatedMeasures(np.eye(2) + r, [0, 1, 1], [0, 0, 1]),
    )
    rows, wrt = rng.normal(size=(5, cov.size)), [v, r, w]

    def outputs(cov):
        solved = cov.solve(rows)
        total = cov.logp(rows).sum() + (rows[0] * solved).sum()
        return [
            cov.logp(rows),
            cov.logp(rows[0]),
            cov.logdet(),
            solved,
            cov.diagonal(),
            cov.inverse_diagonal(),
            (cov.whiten(rows) ** 2).sum(axis=-1),
            *cov.leave_one_out(rows),
            *pt.grad(total, wrt),
        ]

    dense = gg.cov.Dense(cov.to_dense())
    again = cov.whiten(cov.color(rows))
    function = interpreted(wrt, [*outputs(cov), *outputs(dense), again])
    *both, again = function(1.3, 0.4, np.array([1.0, 2.0, 0.5, 1.5]))
    for ours, twin in zip(both[: len(both) // 2], both[len(both) // 2 :], strict=True):
        assert_allclose(ours, twin, rtol=1e-11, atol=1e-12)
    assert_allclose(again, rows, rtol=1e-12, atol=1e-13)


def test_blocks_that_share_parameters_have_them_once(rng):
    """What a random variable or a density holds does not grow with equal blocks."""
    v, rho = pt.dscalars("v", "rho")

    def build(count):
        return gg.cov.BlockDiagonal(*[gg.cov.AR1(v, rho, size=2) for _ in range(count)])

    assert build(100).parameters == (v, rho)
    rebuilt = build(5).structure.from_parameters(v + 0, rho)
    twin = gg.cov.Dense(build(5).to_dense())
    y = rng.normal(size=10)
    logps = [gg.logp(y, 0, cov) for cov in (build(5), rebuilt, twin)]
    outputs = [x for logp in logps for x in (logp, *pt.grad(logp, [v, rho]))]
    found = np.reshape(interpreted([v, rho], outputs)(1.3, 0.4), (3, 3))
    assert_allclose(found, np.tile(found[2], (3, 1)), rtol=1e-12)
    information = interpreted([v, rho], gg.fisher_information(0.0, build(5), [v, rho]))(1.3, 0.4)
    expected = interpreted([v, rho], gg.fisher_information(0.0, twin, [v, rho]))(1.3, 0.4)
    assert_allclose(information, expected, rtol=1e-9)


def test_gaps_in_a_block_whose_parameters_do_not_say_its_size(rng):
    """The noise says it, and what the sum comes to has no place for it."""
    first, second = pt.dmatrix("first"), pt.dmatrix("second")
    product = gg.cov.Kronecker(first, second) + gg.cov.Diagonal(0.5, size=6)
    cov = gg.cov.BlockDiagonal(product, gg.cov.AR1(1.0, 0.5, size=2))
    observed = np.array([0, 2, 3, 7])
    kept, y = gg.cov.marginal(cov, observed), rng.normal(size=4)
    outputs = kept.to_dense(), kept.quad_logdet(y)[0], cov.to_dense()
    got, quad, whole = interpreted([first, second], outputs)(np.eye(2) + 0.3, np.eye(3) + 0.2)
    expected = whole[np.ix_(observed, observed)]
    assert_allclose(got, expected)
    assert_allclose(quad, y @ np.linalg.solve(expected, y))
