"""Sums of structures: what they come to, in any order and anywhere, errors about two of them."""

import itertools
import pickle

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from natural_sums import AT, BASIS, SUMS, VISIT, Y, densities, expected
from natural_sums import N as MANY
from numpy.testing import assert_allclose
from registry import AS_WRITTEN, BACKENDS, CASES, interpreted

import pm_gaussgrad as gg
from pm_gaussgrad.cov.matrices.dense import Dense
from pm_gaussgrad.cov.protocol.sum import Sum
from pm_gaussgrad.ops import InvQuadLogdet

N = 4


def _of(case, seed):
    values = case.draw(np.random.default_rng(seed), N)
    return case.build(N, *map(pt.constant, values))


@pytest.mark.parametrize(
    ("left", "right"), itertools.combinations_with_replacement(CASES, 2), ids=str
)
def test_every_pair(left, right):
    """The sum of the matrices, in both orders; or an error about these two and nothing else."""
    a, b = _of(left, 1), _of(right, 1)
    try:
        total, swapped = (a + b).resolved, (b + a).resolved
    except TypeError as error:
        message = str(error)
        assert "gg.cov.Dense(" in message
        assert len(message) < 800
        with pytest.raises(TypeError):
            (b + a).plan()
        return
    dense = [x.to_dense() for x in (a, b, total, swapped)]
    x, y, *sums = (z.eval(mode=AS_WRITTEN) for z in dense)
    for both in sums:
        assert_allclose(both, x + y, rtol=1e-12, atol=1e-12)


# Those in which most structures are within one another. What the others come to are rows of the
# registry, of which numba has each.
ON_NUMBA = ["LowRank + Kronecker + Diagonal", "RepeatedMeasures + LowRank"]


def _natural_sums():
    """All in one function, but for numba, which takes minutes to compile it."""
    whole = [pytest.param(backend, tuple(SUMS), id=backend) for backend in ("py", "jax")]
    for name in ON_NUMBA:
        group = pytest.mark.xdist_group(f"test_natural_sums {name}")
        whole.append(pytest.param("numba", (name,), id=f"numba-{name}", marks=group))
    return pytest.mark.parametrize(("backend", "names"), whole)


@_natural_sums()
def test_natural_sums(backend, names):
    """What people write, against dense algebra."""
    parameters, logps, slopes = densities(names)
    function = pytensor.function([parameters], [logps, slopes], mode=BACKENDS[backend])
    for name, logp, slope in zip(names, *map(np.asarray, function(AT)), strict=True):
        value, gradient = expected(name)
        assert_allclose(logp, value, rtol=1e-10, err_msg=name)
        assert_allclose(slope, gradient, rtol=1e-9, atol=1e-12, err_msg=name)


def built(name):
    return SUMS[name].build(*map(pt.constant, AT))


def test_the_order_does_not_matter():
    """Of up to four summands, whatever is added first."""
    for name in ("kinship, intercept, noise", "three LowRanks + Toeplitz"):
        whole = built(name)
        logps = []
        for summands in itertools.permutations(whole.summands):
            left, right, *others = summands
            swapped = sum(others, right) + left
            assert swapped.resolved.structure == whole.resolved.structure
            logps.append(gg.logp(Y, 0.0, swapped))
        found = interpreted([], pt.stack(logps))()
        assert_allclose(found, expected(name)[0], rtol=1e-12)


def _constants(n=MANY):
    """Summands by a short name."""
    return {
        "ar1": gg.cov.AR1(1.0, 0.5),
        "symmetry": gg.cov.CompoundSymmetry(1.0, 0.3),
        "toeplitz": gg.cov.Toeplitz(0.5 ** np.arange(n)),
        "factors": gg.cov.LowRank(np.ones((n, 2))),
        "noise": gg.cov.Diagonal(0.1),
        "noises": gg.cov.Diagonal(np.linspace(1, 2, n)),
        "constant": gg.cov.Dense(np.eye(n)),
        "dense": gg.cov.Dense(pt.exp(pt.scalar("x")) * np.eye(n)),
        "grid": gg.cov.Kronecker(np.eye(3), np.eye(n // 3)),
        "chol": gg.cov.Cholesky(np.eye(n)),
        "basis": gg.cov.Eigenbasis(np.eye(n), np.ones(n)),
    }


WOODBURY = "Woodbury's identity: n k^2 for k factors, and twice k + 1 rows of the other summand"
FILTER = "gg.cov.AR1 + gg.cov.Diagonal: Kalman filter and its reverse sweep, n"
PLANS = {
    "ar1 noise": FILTER,
    "noise ar1 noise": "gg.cov.Diagonal + gg.cov.AR1 + gg.cov.Diagonal: Kalman filter and its "
    "reverse sweep, n",
    "factors noise factors": "gg.cov.LowRank + gg.cov.Diagonal + gg.cov.LowRank: Woodbury's "
    "identity, n k^2 for k factors",
    "ar1 symmetry toeplitz noise": "gg.cov.AR1 + gg.cov.CompoundSymmetry + gg.cov.Toeplitz + "
    "gg.cov.Diagonal: Levinson-Durbin recursion, n^2 in memory n",
    "factors ar1 noise factors": "gg.cov.LowRank + gg.cov.AR1 + gg.cov.Diagonal + gg.cov.LowRank: "
    f"{WOODBURY}\n    {FILTER}",
    "dense noises ar1": "gg.cov.Dense + gg.cov.Diagonal + gg.cov.AR1: Cholesky factorisation, n^3",
    "dense factors": "gg.cov.Dense + gg.cov.LowRank: Cholesky factorisation, n^3",
    "constant factors": f"gg.cov.Dense + gg.cov.LowRank: {WOODBURY}\n    gg.cov.Dense: constant: "
    "Cholesky factorisation, n^3, once, and n^2 a row",
}


def _sum(names):
    found = _constants()
    return sum(found[name] for name in names.split())


@pytest.mark.parametrize("names", PLANS)
def test_plans(names):
    assert str(_sum(names).plan()) == PLANS[names]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_structure_says_how(case):
    found = _of(case, 1).plan()
    assert found.how != gg.cov.Covariance.how


def test_a_constant_matrix_stays_factored():
    """Beside factors that are not constant: no factorisation of it in the compiled graph."""
    scale = pt.dscalar("scale")
    cov = gg.cov.Dense(np.eye(3) + 1) + gg.cov.LowRank(scale * np.ones((3, 1)))
    logp = gg.logp(np.arange(3.0), 0.0, cov)
    function = interpreted([scale], [logp, pt.grad(logp, scale)])
    ops = [node.op for node in function.maker.fgraph.apply_nodes]
    forms = [op.structure for op in ops if isinstance(op, InvQuadLogdet)]
    assert forms
    assert all(form.kind is not Dense for form in forms)


TROUBLES = {
    # The sum, and the two that do not combine.
    "ar1 chol": "gg.cov.AR1 + gg.cov.Cholesky has",
    "ar1 chol factors": "gg.cov.AR1 + gg.cov.Cholesky has",
    "factors noise ar1 chol": "gg.cov.Diagonal(scalar) + gg.cov.Cholesky has",
    "grid noises": "gg.cov.Kronecker + gg.cov.Diagonal(vector) has",
    "grid noise noises": "gg.cov.Kronecker + gg.cov.Diagonal(vector) has",
    "toeplitz basis noise": "gg.cov.Toeplitz + gg.cov.Eigenbasis has",
    # Not about those that do, by whatever way.
    "ar1 symmetry chol": "gg.cov.AR1 + gg.cov.Cholesky has",
    "symmetry toeplitz noises": "gg.cov.CompoundSymmetry + gg.cov.Diagonal(vector) has",
}


@pytest.mark.parametrize("names", TROUBLES)
def test_the_error_is_about_two_summands(names):
    with pytest.raises(TypeError) as error:
        gg.logp(Y, 0.0, _sum(names))
    assert str(error.value).startswith(TROUBLES[names])


def test_a_common_part_beside_noise_by_observation():
    """The error says how the same is written, and it is the same."""
    v, rho, noise = 1.5, 0.4, np.arange(1.0, 4)
    symmetry = gg.cov.CompoundSymmetry(v, rho, size=3)
    with pytest.raises(TypeError, match=r"With common = v \* rho >= 0 it is gg.cov.L"):
        gg.logp(np.zeros(3), 0.0, gg.cov.Diagonal(noise) + symmetry)
    common = v * rho
    written = gg.cov.LowRank(np.sqrt(common) * np.ones((3, 1)))
    written = written + gg.cov.Diagonal(v - common + noise)
    expected = (symmetry.to_dense() + np.diag(noise)).eval(mode=AS_WRITTEN)
    assert_allclose(written.to_dense().eval(mode=AS_WRITTEN), expected, rtol=1e-14)


def test_plans_name_the_noise_of_what_is_beside_factors():
    factors, noise = gg.cov.LowRank(np.ones((4, 1))), gg.cov.Diagonal(0.3)
    for base, name in (
        (gg.cov.Toeplitz(0.5 ** np.arange(4.0)), "gg.cov.Toeplitz"),
        (gg.cov.CompoundSymmetry(1.0, 0.5), "gg.cov.CompoundSymmetry"),
        (gg.cov.Kronecker(np.eye(2), np.eye(2)), "gg.cov.Kronecker"),
    ):
        for total in (base + factors + noise, 2.0 * (base + factors + noise)):
            [part] = total.plan().parts
            assert part.label == f"{name} + gg.cov.Diagonal"


LAGS = {
    "ar1": lambda v, rho: gg.cov.AR1(v, rho),
    "symmetry": lambda v, rho: gg.cov.CompoundSymmetry(v, rho),
}
GAPS = {"none": [], "one pattern": [(0, 1), (1, 1), (2, 1)], "several": [(0, 1), (1, 3), (2, 2)]}


@pytest.mark.parametrize("gaps", GAPS)
@pytest.mark.parametrize("n", [5, 40])
def test_parameters_that_are_not_finite(n, gaps, rng):
    """-inf, and a gradient of zero, of sums of structures, whichever parameter it is."""
    y = rng.normal(size=(3, n))
    for row, entry in GAPS[gaps]:
        y[row, entry] = np.nan
    parameters = [pt.dscalar() for _ in range(4)]
    outputs = []
    for left, right in itertools.product(LAGS, repeat=2):
        cov = LAGS[left](*parameters[:2]) + LAGS[right](*parameters[2:])
        logp = gg.logp(y, 0.0, cov).sum()
        outputs += [logp, pt.stack(pt.grad(logp, parameters))]
    function = interpreted(parameters, outputs)
    for i in range(4):
        for bad in (np.nan, np.inf):
            found = function(*np.where(np.arange(4) == i, bad, [1.0, 0.3, 0.8, 0.2]))
            for value, gradient in zip(found[::2], found[1::2], strict=True):
                assert value == -np.inf
                assert_allclose(gradient, 0)


# What has inverses of sparse matrices in its matrix; and multiples as a user may write them.
NOT_IN_MATRICES = {"SparsePrecision", "SparseMarginal", "SparseLatents"}
NOT_IN_MATRICES |= {"MixedEffects", "RandomWalk"}


@pytest.mark.parametrize("case", [x for x in CASES if x.name not in NOT_IN_MATRICES], ids=str)
def test_a_number_that_is_not_finite_in_what_is_made_of_it(case, rng):
    """-inf, and gradients of zero: of multiples, of scales, of sums with a matrix, with gaps."""
    values, tensors = case.draw(rng, N), case.tensors(n=N)
    free = case.differentiable(tensors)
    scale, matrix, own = pt.dvector("scale"), pt.dmatrix("matrix"), case.build(N, *tensors)
    made = [gg.cov.Scaled(scale[0] * own, scale), own + gg.cov.Dense(matrix)]
    y, with_gaps = rng.normal(size=(3, N)), rng.normal(size=(3, N))
    with_gaps[0, 1] = with_gaps[1, 0] = with_gaps[1, 3] = np.nan
    logps = [gg.logp(y, 0.0, cov).sum() for cov in made]
    logps.append(gg.logp(with_gaps, 0.0, own).sum())
    inputs, gradients = [scale, matrix, *tensors], []
    for logp in logps:
        gradients += pt.grad(logp, [scale, matrix, *free], disconnected_inputs="ignore")
    function = interpreted(inputs, [*logps, *gradients], on_unused_input="ignore")
    for bad in (x for x in free if values[tensors.index(x)].size):
        numbers = [np.ones(N), np.eye(N), *values]
        numbers[inputs.index(bad)] = np.full_like(numbers[inputs.index(bad)], np.nan)
        found = function(*numbers)
        assert_allclose(found[: len(logps)], -np.inf)
        for gradient in found[len(logps) :]:
            assert_allclose(gradient, 0)


def test_a_subclass_is_of_the_family():
    """What a structure closes with, its subclass does, until it has a rule of its own."""

    class Noise(gg.cov.Diagonal):
        pass

    noise = Noise.from_parameters(np.ones(N))
    total = gg.cov.LowRank(np.ones((N, 1))) + noise
    assert_allclose(total.to_dense().eval(mode=AS_WRITTEN), np.ones((N, N)) + np.eye(N))


def test_the_error_says_what_each_does_combine_with():
    total = gg.cov.AR1(1.0, 0.5, size=2) + gg.cov.Cholesky(np.eye(2))
    with pytest.raises(TypeError) as error:
        gg.logp(np.zeros(2), 0.0, total)
    assert str(error.value) == (
        "gg.cov.AR1 + gg.cov.Cholesky has no algorithm here, and nothing is made dense unasked. "
        "gg.cov.AR1 combines with gg.cov.Diagonal(scalar), gg.cov.Diagonal(vector), processes "
        "like gg.cov.SHO, functions of the lag like gg.cov.Toeplitz, gg.cov.Effects beside a "
        "gg.cov.Diagonal. gg.cov.Cholesky combines with nothing by itself. "
        "gg.cov.LowRank and gg.cov.Dense can be added to anything. For the dense sum, at a cost of "
        "n^3, write gg.cov.Dense((a + b).to_dense())."
    )
    assert_allclose(total.diagonal().eval(mode=AS_WRITTEN), [2.0, 2.0])
    assert_allclose((3 * total).to_dense().eval(mode=AS_WRITTEN)[0, 0], 6.0)


def test_random_intercepts_beside_a_series():
    group = np.repeat([0, 1], 3)
    intercepts = gg.cov.CompoundSymmetry.from_components(0.1, 1.0, group=group)
    with pytest.raises(TypeError, match=r"^gg\.cov\.AR1 \+ .*gg\.cov\.LowRank\(sd \* Z\)"):
        (gg.cov.AR1(1.0, 0.5, group=np.arange(6) % 2) + intercepts).plan()


def test_the_same_is_not_said_twice():
    with pytest.raises(TypeError) as error:
        (gg.cov.Cholesky(np.eye(3)) + gg.cov.Cholesky(2 * np.eye(3))).plan()
    assert str(error.value).count("gg.cov.Cholesky combines with") == 1


def test_unknown_length():
    """The data say it; where nothing does, the error says that it is what is missing."""
    total = gg.cov.AR1(1.0, 0.5) + gg.cov.CompoundSymmetry(1.0, 0.3)
    with pytest.raises(TypeError, match="pass `size=`"):
        total.plan()
    dense = gg.cov.Dense(total.sized(MANY).to_dense())
    rows = np.stack([Y, -2 * Y])
    with pm.Model() as model:
        gg.MvNormal("normal", 0.0, total, observed=rows)
        gg.MvStudentT("student", 4.0, 0.0, total, observed=rows)
    pairs = [
        *(
            (gg.logp(rows, 0.0, cov), gg.student_t_logp(rows, 4.0, 0.0, cov))
            for cov in (total, dense)
        ),
        model.logp(sum=False),
    ]
    found = interpreted([], [logp for pair in pairs for logp in pair])()
    (normal, student), *others = np.split(np.array(found), 3)
    for other in others:
        assert_allclose(other, [normal, student], rtol=1e-10)
    noise = pt.dscalar("noise")
    known = [
        gg.fisher_information(np.zeros(3), cov + gg.cov.Diagonal(noise), noise)
        for cov in (total, total.sized(3))
    ]
    found, wanted = interpreted([noise], known)(0.3)
    assert_allclose(found, wanted, rtol=1e-12)


def test_a_vector_of_unknown_length():
    """Noise and scales by covariates that are shared data."""
    v, values = pt.dvector("v"), np.linspace(1, 2, MANY)
    series, noise = gg.cov.AR1(1.0, 0.5), gg.cov.Diagonal(0.1)
    rows = pt.constant(np.stack([Y, -2 * Y]))
    outputs = []
    for x, data in ((v, pt.specify_shape(rows, (2, None))), (v, rows), (values, rows)):
        for cov in (
            series + gg.cov.Diagonal(x),
            series + gg.cov.Diagonal(x) + noise,
            gg.cov.Scaled(series, x) + noise,
            gg.cov.LowRank(x[:, None]) + series + gg.cov.Diagonal(x),
        ):
            logp = gg.logp(data, 0.0, cov)
            outputs += [logp, pt.grad(logp.sum(), v) if x is v else logp]
    found = interpreted([v], outputs)(values)
    for logps, again, known in zip(found[:8:2], found[8:16:2], found[16::2], strict=True):
        assert_allclose(logps, known, rtol=1e-12)
        assert_allclose(again, known, rtol=1e-12)
    for slopes, again in zip(found[1:8:2], found[9:16:2], strict=True):
        assert_allclose(slopes, again, rtol=1e-12)


@pytest.mark.parametrize(
    "short",
    [gg.cov.Diagonal(1.0, size=3), gg.cov.Diagonal(np.ones(3)), gg.cov.AR1(1.0, 0.5, size=3)],
    ids=repr,
)
def test_sizes_that_disagree(short):
    total = _sum("ar1 factors noise")
    with pytest.raises(ValueError, match=r"LowRank \+ gg.cov.*the sizes \[12, 3\] disagree"):
        total + short


def test_pickled():
    """With its summands, of which components are made."""
    total = _sum("factors ar1 noise")
    again = pickle.loads(pickle.dumps(total))
    assert isinstance(again, Sum)
    assert str(again.plan()) == str(total.plan())
    both = [cov.to_dense().eval(mode=AS_WRITTEN) for cov in (again, total)]
    assert_allclose(*both, rtol=1e-15)


def test_scalars_and_what_is_no_covariance():
    total = _sum("factors ar1 noise")
    twice = 2 * total
    assert len(twice.summands) == 3
    both = [cov.to_dense().eval(mode=AS_WRITTEN) for cov in (twice, total)]
    assert_allclose(both[0], 2 * both[1], rtol=1e-14)
    with pytest.raises(TypeError, match=r"gg\.cov\.Scaled\(cov, scale\)"):
        np.ones(MANY) * total
    with pytest.raises(TypeError, match=r"gg\.cov\.Dense\(matrix\)"):
        total + np.eye(MANY)


def test_formed_where_small_matrices_are():
    """In ``within`` and in factors also sums that have no algorithm."""
    inner = gg.cov.AR1(1.0, 0.5, size=4) + gg.cov.Cholesky(np.eye(4))
    small = 0.5 ** np.abs(np.subtract.outer(np.arange(4), np.arange(4))) + np.eye(4)
    subject = np.repeat(np.arange(3), 4)
    scale = np.linspace(1, 2, 4)
    scaled, larger = 2 * gg.cov.Scaled(inner, scale), 2 * scale[:, None] * small * scale
    for part, matrix in ((inner, small), (scaled, larger)):
        covs = gg.cov.RepeatedMeasures(part, subject, VISIT), gg.cov.Kronecker(np.eye(3), part)
        for cov in covs:
            whole = cov.to_dense().eval(mode=AS_WRITTEN)
            assert_allclose(whole, np.kron(np.eye(3), matrix), rtol=1e-14)
    beside = (gg.cov.Dense(np.eye(4)) + scaled).resolved.to_dense().eval(mode=AS_WRITTEN)
    assert_allclose(beside, np.eye(4) + larger, rtol=1e-14)
    for build in (gg.MvNormal.dist, lambda mu, cov: (cov + gg.cov.Diagonal(1.0)).plan()):
        with pytest.raises(TypeError, match=r"gg.cov.AR1 \+ gg.cov.Cholesky has no algorithm"):
            build(np.zeros(4), scaled)


def test_blocks_are_resolved_as_sums_are():
    block = gg.cov.LowRank(np.ones((3, 1))) + gg.cov.AR1(1.0, 0.5)
    cov = gg.cov.BlockDiagonal(block, gg.cov.AR1(1.0, 0.2, size=2)) + gg.cov.Diagonal(0.1)
    assert WOODBURY in str(cov.plan())
    assert FILTER in str(cov.plan())
    others = gg.cov.BlockDiagonal(gg.cov.Cholesky(np.eye(3)), gg.cov.Diagonal(1.0, size=2))
    with pytest.raises(TypeError, match=r"block 0: gg\.cov\.AR1 \+ gg\.cov\.Cholesky has no"):
        (cov + others).plan()


def test_what_was_summed_in_a_part_combines_as_its_summands_do():
    """Blocks and what is scaled are sums that have been resolved."""
    found = _constants()
    noisy = {name: found[name] + found["noise"] for name in ("ar1", "factors")}
    scale = pt.constant(np.linspace(1, 2, MANY))
    covs = [
        gg.cov.Scaled(noisy["ar1"], scale) + gg.cov.Scaled(found["symmetry"], scale),
        gg.cov.Scaled(noisy["factors"], scale) + found["ar1"],
        *(
            gg.cov.BlockDiagonal(noisy[name].sized(MANY)) + gg.cov.BlockDiagonal(found["toeplitz"])
            for name in noisy
        ),
    ]
    for cov in covs:
        dense = sum(x.sized(MANY).to_dense() for x in cov.summands)
        both = [x.eval(mode=AS_WRITTEN) for x in (cov.resolved.to_dense(), dense)]
        assert_allclose(*both, rtol=1e-12)


def test_scaled_sums_are_resolved_as_sums_are():
    """Of the very same scale, and what they are plus noise or factors."""
    scale = pt.constant(np.linspace(1, 2, MANY))

    def scaled(*names):
        return gg.cov.Scaled(sum(_constants()[name] for name in names), scale)

    found = _constants()
    for cov, inner in (
        (scaled("ar1") + scaled("toeplitz"), "gg.cov.Toeplitz"),
        (scaled("ar1", "factors") + found["noise"], WOODBURY),
        (scaled("ar1", "toeplitz") + found["factors"], WOODBURY),
    ):
        assert inner in str(cov.plan())
        dense = sum(x.sized(MANY).to_dense() for x in cov.summands)
        both = [x.eval(mode=AS_WRITTEN) for x in (cov.resolved.to_dense(), dense)]
        assert_allclose(*both, rtol=1e-12)


@pytest.fixture(scope="module")
def rows():
    """Rows of data that miss nothing, the same entries, and different ones."""
    draws = np.random.default_rng(3).normal(size=(3, MANY))
    whole, common, apart = draws, draws.copy(), draws.copy()
    common[:, [1, 7]] = np.nan
    apart[0, 3], apart[1, [0, 5, 6]] = np.nan, np.nan
    return {"whole": whole, "common": common, "apart": apart}


COMPOSED = ["LowRank + AR1", "LowRank + Kronecker + Diagonal", "RepeatedMeasures + LowRank"]


@pytest.mark.parametrize("name", COMPOSED)
def test_rows_and_gaps(name, rows):
    cov, sigma = built(name), SUMS[name].matrix(*AT)
    found = interpreted([], [gg.logp(data, 0.0, cov) for data in rows.values()])()
    for data, logps in zip(rows.values(), found, strict=True):
        for row, logp in zip(data, logps, strict=True):
            seen = ~np.isnan(row)
            own = gg.cov.Dense(sigma[np.ix_(seen, seen)])
            assert_allclose(logp, own.logp(row[seen]).eval(mode=AS_WRITTEN), rtol=1e-10)


def test_batches():
    """A batch of factors beside one series, and factors beside a batch of series."""
    v, t = pt.constant([1.0, 2.0, 0.5]), np.array([0.5, 1.0, 2.0])
    factors = t[:, None, None] * BASIS
    pairs = [
        (gg.cov.LowRank(factors), gg.cov.AR1(1.3, 0.6)),
        (gg.cov.LowRank(BASIS), gg.cov.AR1(v, 0.6)),
        (gg.cov.LowRank(factors), gg.cov.AR1(v, 0.6)),
    ]
    data = np.random.default_rng(4).normal(size=(2, 3, MANY))
    for left, right in pairs:
        total = left + right
        dense = gg.cov.Dense(left.to_dense() + right.sized(MANY).to_dense())
        found, wanted = interpreted([], [gg.logp(data, 0.0, cov) for cov in (total, dense)])()
        assert found.shape == (2, 3)
        assert_allclose(found, wanted, rtol=1e-10)


def test_distributions():
    """In models, with names and draws, as any structure."""
    cov = built("RepeatedMeasures + LowRank")
    with pm.Model() as model:
        shift = pm.Normal("shift")
        gg.MvNormal("normal", shift, cov, observed=Y)
        gg.MvStudentT("student", 5.0, shift, cov, observed=Y)
    found = interpreted(model.value_vars, model.logp(sum=False))(0.0)
    value = expected("RepeatedMeasures + LowRank")[0]
    student = gg.student_t_logp(Y, 5.0, 0.0, gg.cov.Dense(cov.to_dense())).eval(mode=AS_WRITTEN)
    assert_allclose(found[1:], [value, student], rtol=1e-10)
    draws = pm.draw(gg.MvNormal.dist(0, cov, size=4000), random_seed=1, mode=AS_WRITTEN)
    white = interpreted([], cov.whiten(draws))()
    assert_allclose(np.cov(white.T), np.eye(MANY), atol=0.1)
