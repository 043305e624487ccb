"""``BlockDiagonal``: composition, nesting, sums, sizes, and life inside PyMC's graphs."""

import cloudpickle
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pymc.pytensorf import rewrite_pregrad
from pytensor.graph.replace import vectorize_graph
from registry import BACKENDS, INTERPRETED, interpreted, positive_definite

import pm_gaussgrad as gg
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
    assert structure.__name__ == (
        "BlockDiagonal(AR1, BlockDiagonal(Cholesky, Cholesky), ScalarDiagonal)"
    )
    assert structure.parameter_shapes == {
        "block_0_variance": "",
        "block_0_correlation": "",
        "block_1_block_0_chol": "n_0_1 n_0_1",
        "block_1_block_1_chol": "n_1_1 n_1_1",
    }  # the noise shares its variance with the first block
    assert structure.places == (0, 1, 2, 3, 0)
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
    function = interpreted(wrt, [logp, *pt.grad(logp, wrt)])
    return len(function.maker.fgraph.apply_nodes)


def test_the_graph_does_not_grow_with_equal_blocks():
    v, r = pt.scalar("v"), pt.scalar("r")
    few, many = (_nodes([gg.cov.AR1(v, r, size=3)] * k, [v, r]) for k in (2, 200))
    assert many == few
    kernels = [gg.cov.Dense(v * np.eye(2) + k) for k in range(40)]
    alone = _nodes(kernels[:1], [v])
    # A matrix each: its own expression, and no more.
    assert _nodes(kernels, [v]) < alone + 40 * 8


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
