"""Functions of many draws: interpreted or compiled, by what a draw takes and how many there are."""

from itertools import islice

import arviz as az
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pytensor import scan
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.raise_op import Assert
from registry import AS_WRITTEN, CASES, is_index
from test_after_sampling import FUNCTIONS, numbers

import pm_gaussgrad as gg
from pm_gaussgrad.posterior.evaluation import cost
from pm_gaussgrad.posterior.evaluation.adaptive import AdaptiveFunction
from pm_gaussgrad.posterior.evaluation.interpreted import INTERPRETED
from pm_gaussgrad.posterior.evaluation.loops import Loops
from pm_gaussgrad.posterior.leave_out.moment_match import moment_match_functions
from pm_gaussgrad.posterior.leave_out.terms import leave_out_terms
from pm_gaussgrad.posterior.likelihood import gaussian_likelihood

QUIET = {"progressbar": False}
N = 4
MANY = 3000


@pytest.fixture
def eager(monkeypatch):
    """Loops are compiled once they have been timed, whatever it costs, also of 3 x 3 matrices."""
    for constant in ("LEAST", "LOOP_SECONDS", "OPERATION_SECONDS"):
        monkeypatch.setattr(cost, constant, 0.0)
    monkeypatch.setattr(cost, "LARGE", (N - 1) ** 2)
    for constant in ("WHOLE_SECONDS", "LEAST_FOR_BLOCKS"):
        monkeypatch.setattr(cost, constant, np.inf)


@pytest.fixture
def one_at_a_time(monkeypatch):
    monkeypatch.setattr(cost, "LEAST_FOR_BLOCKS", np.inf)


@pytest.fixture
def in_blocks(monkeypatch):
    """Two draws at once, as soon as one has been timed, whatever it costs."""
    for constant in ("LEAST", "WORTH"):
        monkeypatch.setattr(cost, constant, np.inf)
    monkeypatch.setattr(cost, "LEAST_FOR_BLOCKS", 0.0)
    monkeypatch.setattr(cost, "MOST_DRAWS", 2)


@pytest.fixture
def compiled(monkeypatch):
    """A one for each function whose loops have been compiled."""
    found, compile_loops = [], Loops.compile

    def recorded(self, inputs):
        found.append(1)
        return compile_loops(self, inputs)

    monkeypatch.setattr(Loops, "compile", recorded)
    return found


def slow(n=300, passes=12):
    """An expression of a scalar that takes NumPy some passes over an n x n matrix."""
    x = pt.dscalar("x")
    lags = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) / n
    matrix = pt.exp(-x * lags)
    for i in range(passes):
        matrix = pt.cos(matrix) + i * pt.sqrt(1 + matrix)
    return x, matrix


def called(function, times, rounds=MANY, point=0.5, fixed=((),)):
    """The outputs at the first of many draws of one input."""

    def values(start, stop):
        return [np.stack([point + 0.1 * i for i in range(start, stop)])]

    return list(islice(function.over(rounds, values, fixed), times))


# The choice


@pytest.mark.compiled
def test_few_calls_are_interpreted():
    x, matrix = slow()
    function = AdaptiveFunction([x], [matrix.sum()])
    called(function, 10, rounds=10)
    assert function.way == "interpreted"


@pytest.mark.compiled
def test_many_slow_calls_have_compiled_loops():
    x, matrix = slow()
    function = AdaptiveFunction([x], [matrix, matrix.sum(axis=0)])
    expected = AdaptiveFunction([x], [matrix, matrix.sum(axis=0)])
    assert expected.way == "interpreted"
    for found, outputs in zip(called(function, 6), called(expected, 6, rounds=6), strict=True):
        for a, b in zip(found, outputs, strict=True):
            assert_allclose(a, b, rtol=1e-13)
            assert a.dtype == b.dtype
    assert (function.way, expected.way) == ("loops", "interpreted")


@pytest.mark.compiled
def test_many_calls_of_small_steps_are_compiled_as_a_whole(one_at_a_time):
    """Where calling NumPy takes the time, not its work, there are no loops to compile."""
    x = pt.dvector("x")
    y = x
    for i in range(30):
        y = pt.cos(y[::-1]) + i
    function, expected = AdaptiveFunction([x], [y]), AdaptiveFunction([x], [y])
    found = called(function, 5, rounds=10**6, point=np.arange(3.0))
    assert function.way == "compiled"
    assert_allclose(found, called(expected, 5, rounds=5, point=np.arange(3.0)), rtol=1e-13)


@pytest.mark.compiled
def test_inputs_that_are_no_arrays(eager):
    """Of groups of observations by positions, whose indices have slices: they have a cost, too."""
    y = np.random.default_rng(0).normal(size=30)
    with pm.Model() as model:
        rho = pm.Uniform("rho", -1, 1)
        gg.MvNormal("y", 0.0, gg.cov.AR1(1.0, rho), observed=y)
    draws = {"rho": np.random.default_rng(1).uniform(-0.9, 0.9, size=(1, 400))}
    found, interpreted = (
        gg.loo_log_likelihood(
            az.from_dict({"posterior": draws}),
            model,
            group=np.arange(30) // 4,
            progressbar=False,
            compile_kwargs=options,
        ).log_likelihood["y"]
        for options in (None, {"mode": INTERPRETED})
    )
    assert_allclose(found, interpreted, rtol=1e-10)


@pytest.mark.compiled
def test_what_is_machine_code_is_left_alone():
    """However many draws: a factorisation takes compiled code as long."""
    x, matrix = pt.dscalar("x"), np.eye(400) + 1
    function = AdaptiveFunction([x], [pt.linalg.cholesky(matrix + x).sum()])
    called(function, 5, rounds=3000)
    assert function.way == "interpreted"


@pytest.mark.compiled
def test_rounds_of_unequal_calls():
    """The first calls are the small ones; what counts are whole rounds."""
    draw, n = pt.dscalar("draw"), pt.lscalar("n")
    x = pt.exp(-draw * pt.arange(n).astype("float64")[:, None] / (1 + pt.arange(n)))
    for _ in range(8):
        x = pt.cos(x) + pt.sqrt(1 + x)
    function, expected = (AdaptiveFunction([draw, n], [x.sum(axis=0)], fixed=1) for _ in range(2))
    sizes = [(2,), (3,), (500,)]
    found = called(function, 4, fixed=sizes)
    assert (function.way, np.shape(found)) == ("loops", (4, 1, 505))
    assert_allclose(found, called(expected, 4, rounds=4, fixed=sizes), rtol=1e-13)


@pytest.mark.compiled
def test_calls_without_an_end(eager, monkeypatch):
    """Of what was called often, as many calls are to be expected: then compiling has paid."""
    monkeypatch.setattr(cost, "LEAST", 0.2)
    x, matrix = slow()
    known, again = (AdaptiveFunction([x], [matrix.sum()], again=again) for again in (False, True))
    for function in (known, again):
        for _ in range(30):
            called(function, 1, rounds=1)
    assert (known.way, again.way) == ("interpreted", "loops")


def test_nothing_is_compiled_where_pytensor_does_not(eager):
    x, matrix = slow(20)
    function = AdaptiveFunction([x], [matrix.sum()])
    called(function, 6)
    assert function.way == "interpreted"


@pytest.mark.compiled
def test_a_given_mode_is_obeyed(eager):
    x, matrix = slow(20)
    function = AdaptiveFunction([x], [matrix.sum()], {"mode": INTERPRETED})
    called(function, 6)
    assert function.way == "given"


# What has no compiled form


class Doubled(Op):
    """Twice a vector, in Python only."""

    __props__ = ()

    def make_node(self, x):
        return Apply(self, [x], [x.type()])

    def perform(self, node, inputs, output_storage):
        output_storage[0][0] = 2 * inputs[0]


@pytest.mark.compiled
@pytest.mark.filterwarnings("error")
def test_an_operation_without_a_compiled_form(eager, monkeypatch):
    monkeypatch.setattr(cost, "WHOLE_SECONDS", 0.0)
    monkeypatch.setattr(cost, "NODE_SECONDS", 0.0)
    monkeypatch.setattr(cost, "LARGE", np.inf)
    x = pt.dvector("x")
    y = Doubled()(x)
    for _ in range(20):
        y = pt.cos(y[::-1]) + 1
    function, expected = AdaptiveFunction([x], [y]), AdaptiveFunction([x], [y])
    found = called(function, 6, point=np.arange(3.0))
    assert function.way == "interpreted"
    assert_array_equal(found, called(expected, 6, rounds=6, point=np.arange(3.0)))


@pytest.mark.compiled
def test_loops_beside_such_an_operation(eager):
    x, matrix = slow(30)
    y = Doubled()(matrix[0]) + pt.cos(matrix).sum(axis=0)
    function = AdaptiveFunction([x], [y])
    expected = pytensor.function([x], y, mode=AS_WRITTEN)
    for i, [found] in enumerate(called(function, 6)):
        assert_allclose(found, expected(0.5 + 0.1 * i), rtol=1e-13)
    assert function.way == "loops"


@pytest.mark.compiled
def test_errors_of_an_expression_are_its_own(eager):
    x = pt.dscalar("x")
    y = pt.cos(x) + pt.sqrt(1 + x * np.ones((N, N)))
    function = AdaptiveFunction([x], [Assert("too large")(y, x < 0.95)])
    with pytest.raises(AssertionError, match="too large"):
        called(function, 6)


# Several draws in a call

POINTS = 8


def equal_in_blocks(inputs, outputs, draws, fixed=((),), **tolerance):
    """The outputs at each of some draws, in blocks: as from draw to draw."""
    count, options = len(draws[0]), {"fixed": len(fixed[0])}
    functions = [
        AdaptiveFunction(inputs, outputs, compile_kwargs, **options)
        for compile_kwargs in (None, {"mode": INTERPRETED})
    ]
    found, expected = (
        list(function.over(count, lambda start, stop: [x[start:stop] for x in draws], fixed))
        for function in functions
    )
    assert (functions[0].way, len(found)) == ("blocks", count)
    for a, b in zip(found, expected, strict=True):
        for x, y in zip(a, b, strict=True):
            assert (x.dtype, x.shape) == (y.dtype, np.shape(y))
            assert_allclose(x, y, **{"rtol": 1e-12, "atol": 1e-13, **tolerance})
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_structure_in_blocks(case, in_blocks):
    """Single entries given the others, white noise from residuals and back; and log densities,
    also where there is no covariance."""
    rng, n = np.random.default_rng(0), 6
    tensors, draws = case.tensors(n=n), [case.values(rng, n) for _ in range(POINTS)]
    index = {i for i, x in enumerate(tensors) if is_index(x)}
    varying = [x for i, x in enumerate(tensors) if i not in index]
    fixed = [tuple(draws[0][i] for i in index)]
    values = [np.stack(x) for i, x in enumerate(zip(*draws, strict=True)) if i not in index]
    cov = case.build(n, *tensors)
    residual = pt.dvector("residual", shape=(n,))
    z = pt.dvector("z", shape=(int(cov.noise_size(n)),))
    inputs = [*varying, residual, z, *(tensors[i] for i in index)]
    values += [rng.normal(size=(POINTS, *x.type.shape)) for x in (residual, z)]
    outputs = [cov.solve(residual), cov.inverse_diagonal(), cov.whiten(residual), cov.draw(z)]
    equal_in_blocks(inputs, outputs, values, fixed)
    for x in values[:-2]:
        x[4:6] = np.nan
    found = equal_in_blocks(inputs, [gg.logp(residual, 0.0, cov)], values, fixed)
    assert_array_equal(np.ravel(found) == -np.inf, np.isin(range(POINTS), [4, 5]))


def test_shapes_and_reductions_in_blocks(in_blocks):
    """What is done for all draws together, beside constants and what no draw changes."""
    x, k, fixed = pt.dmatrix("x", shape=(2, 3)), pt.lscalar("k"), pt.dmatrix("fixed")
    row = x[0, ::-1]
    outputs = [
        x.sum(),
        x.max(axis=0) + fixed,
        (x > 0).all(axis=1),
        (x.T[:, None] * row[:2]).sum(axis=(0, 1)),
        pt.diagonal(x, offset=1),
        pt.diagonal(x.dimshuffle(1, "x", 0), axis1=2, axis2=0),
        pt.exp(x.astype("float32")).prod(axis=-1),
        x[:, k],
        x[k, 1:].argmax(),
        fixed + 1.0,
        x,
        pt.cumsum(x, axis=1)[np.array([1, 0, 1])],
        scan(lambda a, b: a * b, sequences=[row], outputs_info=[k + 0.5], return_updates=False),
    ]
    rng = np.random.default_rng(0)
    draws = [rng.normal(size=(POINTS, 2, 3)), np.arange(POINTS) % 2]
    inputs, pieces = [x, k, fixed], [(np.ones((1, 3)),)]
    [first, *_] = equal_in_blocks(inputs, outputs, draws, pieces, rtol=1e-6)
    assert_array_equal(first[9], [[2.0, 2.0, 2.0]])


def test_pieces_in_blocks(in_blocks):
    x, positions = pt.dvector("x"), pt.lvector("positions")
    draws = [np.random.default_rng(0).normal(size=(POINTS, 5))]
    pieces = [(np.array([0, 3]),), (np.array([4]),)]
    [first, *_] = equal_in_blocks([x, positions], [pt.cos(x[positions])], draws, pieces)
    assert_allclose(first[0], np.cos(draws[0][0, [0, 3, 4]]))


def test_shapes_that_differ_between_draws(in_blocks):
    """They stay draw by draw, and so does everything beside them."""
    k, x = pt.lscalar("k"), pt.dscalar("x")
    function = AdaptiveFunction([k, x], [pt.cos(pt.arange(k)) + x])
    counts = np.arange(1, 9)
    values = function.over(8, lambda a, b: [counts[a:b], np.ones(b - a)])
    for count, [found] in zip(counts, values, strict=True):
        assert_allclose(found, 1 + np.cos(np.arange(count)))
    assert function.way == "interpreted"


def test_errors_at_a_draw_of_a_block(in_blocks):
    """The draws before it are evaluated, and it raises its own error."""
    x = pt.dscalar("x")
    function = AdaptiveFunction([x], [Assert("too large")(pt.cos(x), x < 0.85)])
    found = function.over(8, lambda start, stop: [0.5 + 0.1 * np.arange(start, stop)])
    assert_allclose([next(found)[0] for _ in range(4)], np.cos(0.5 + 0.1 * np.arange(4)))
    with pytest.raises(AssertionError, match="too large"):
        next(found)


def test_memory_of_blocks_is_bounded():
    """Of large arrays there are few at once, and of one that is large enough no more than one."""
    for entries, expected in ((1, cost.MOST_DRAWS), (10_000, 13), (cost.MOST_ENTRIES, 1)):
        nodes = [cost.Timed(None, 1e-5, 1), cost.Timed(None, 1e-5, entries)]
        assert cost.at_once(nodes) == expected


def test_blocks_where_they_pay():
    """Of many calls of small steps, not of few, nor where arrays are large."""
    x = pt.dscalar("x")
    small, large = (pt.cos(x * np.ones(n)) for n in (3, 2 * cost.MOST_ENTRIES))
    for _ in range(10):
        small, large = pt.sin(small) + 1, pt.sin(large)
    for output, rounds, way in (
        (small, 10**5, "blocks"),
        (small, 20, "interpreted"),
        (large, 10**5, "interpreted"),
    ):
        function = AdaptiveFunction([x], [output])
        called(function, 5, rounds)
        assert function.way == way


# The same numbers from every function of draws


def covariance(mean, size):
    """An expression whose loops may be compiled."""
    lags = np.abs(np.subtract.outer(range(size), range(size)))
    return pt.exp(pt.sin(mean) ** 2 - lags) + 0.1 * np.eye(size)


def fitted(y):
    with pm.Model() as model:
        mean = pm.Normal("mean")
        gg.MvNormal("y", pt.cos(mean + np.arange(N)), covariance(mean, N), observed=y)
    return model


def draws_by_positions(idata, model, **options):
    cov, new = covariance(model["mean"], N + 2), [N, N + 1]
    return gg.predict(idata, mu=0.0, cov=cov, new=new, model=model, random_seed=1, **options)


def draws_by_blocks(idata, model, **options):
    cov = covariance(model["mean"], N + 3)
    blocks = cov[:N, N:], cov[N:, N:]
    return gg.predict(idata, 0.0, *blocks, model=model, random_seed=1, **options)


OF_DRAWS = {
    **{name: FUNCTIONS[name] for name in FUNCTIONS if not name.startswith("predict")},
    "draws_by_positions": draws_by_positions,
    "draws_by_blocks": draws_by_blocks,
}


def many():
    return az.from_dict({"posterior": {"mean": np.linspace(-1, 1, 6)[None]}})


@pytest.mark.compiled
@pytest.mark.parametrize("function", OF_DRAWS)
def test_same_numbers_and_draws(function, eager, compiled):
    """Three draws are interpreted, the others not: as all are where that is asked for."""
    y = np.random.default_rng(0).normal(size=N)
    y[1] = np.nan
    model = fitted(y)
    found, expected = (
        numbers(OF_DRAWS[function](many(), model, **QUIET, compile_kwargs=chosen))
        for chosen in (None, {"mode": INTERPRETED})
    )
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        assert_allclose(a, b, rtol=1e-10, atol=1e-13)
        assert a.dtype == b.dtype
    assert compiled == [1]


@pytest.mark.parametrize("function", OF_DRAWS)
def test_same_numbers_and_draws_in_blocks(function, in_blocks, monkeypatch):
    """Also of the noise, whichever draws are together."""
    ways = []
    y = np.random.default_rng(0).normal(size=N)
    y[1] = np.nan
    model, over = fitted(y), AdaptiveFunction.over

    def recorded(self, *args):
        yield from over(self, *args)
        ways.append(self.way)

    monkeypatch.setattr(AdaptiveFunction, "over", recorded)
    found, expected = (
        numbers(OF_DRAWS[function](many(), model, **QUIET, compile_kwargs=chosen))
        for chosen in (None, {"mode": INTERPRETED})
    )
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        assert_allclose(a, b, rtol=1e-12, atol=1e-14)
        assert a.dtype == b.dtype
    assert ways == ["blocks", "given"]


@pytest.mark.compiled
def test_same_numbers_with_shared_data(eager, compiled):
    """What the expression depends on beside the draws is what it is at the time."""
    with pm.Model() as model:
        mean = pm.Normal("mean")
        scale, y = pm.Data("scale", 1.0), pm.Data("y", np.arange(4.0))
        gg.MvNormal("z", 0, scale * covariance(mean, N), observed=y)
    for value in (1.0, 4.0):
        with model:
            pm.set_data({"scale": value, "y": value * np.arange(4.0)})
        found, expected = (
            gg.whitened_residuals(many(), model, **QUIET, compile_kwargs=chosen)
            for chosen in (None, {"mode": INTERPRETED})
        )
        assert_allclose(found, expected, rtol=1e-12)
    assert compiled == [1, 1]


@pytest.mark.compiled
def test_same_numbers_from_moment_matching(eager):
    model = fitted(np.array([0.5, -0.2, 0.1, 0.4]))
    terms = leave_out_terms("test", gaussian_likelihood("test", model), None)
    adaptive, interpreted = (
        moment_match_functions("test", terms, many(), chosen)
        for chosen in (None, {"mode": INTERPRETED})
    )
    upars = adaptive[2]
    assert_array_equal(upars, interpreted[2])
    assert_allclose(adaptive[0](upars), interpreted[0](upars), rtol=1e-12)
    for i in range(N):
        assert_allclose(adaptive[1](upars, i), interpreted[1](upars, i), rtol=1e-12)


@pytest.mark.compiled
def test_same_numbers_whole(monkeypatch, one_at_a_time):
    """A function of draws that is compiled whole after its first draws."""
    for constant in ("LEAST", "WHOLE_SECONDS", "NODE_SECONDS"):
        monkeypatch.setattr(cost, constant, 0.0)
    with pm.Model() as model:
        mean = pm.Normal("mean")
        gg.MvNormal("y", mean, gg.cov.Diagonal(pt.exp(mean), size=N), observed=np.arange(4.0))
    found, expected = (
        gg.whitened_residuals(many(), model, **QUIET, compile_kwargs=chosen)
        for chosen in (None, {"mode": INTERPRETED})
    )
    assert_allclose(found, expected, rtol=1e-12)


# The interpreted mode


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (lambda x: pt.clip(x, -1, 2), [-3.0, -1.0, 0.5, 2.0, 5.0, np.nan, np.inf]),
        (lambda x: pt.clip(x, 2, -1), [-3.0, 0.5, 5.0]),
        (pt.softplus, [-800.0, -37.5, -1.0, 0.0, 17.9, 18.1, 33.2, 33.4, 800.0, np.nan]),
        (pt.log1mexp, [-800.0, -0.7, -0.69, -1e-10, 0.0]),
    ],
)
def test_operations_that_numpy_lacks(function, x):
    """Written out, with the values of PyTensor's own Python form."""
    v = pt.dvector("v")
    y = function(v)
    f = pytensor.function([v], y, mode=INTERPRETED)
    names = {
        type(getattr(node.op, "scalar_op", None)).__name__ for node in f.maker.fgraph.toposort()
    }
    assert not names & {"Clip", "Softplus", "Log1mexp"}
    assert_array_equal(f(np.array(x)), pytensor.function([v], y, mode=AS_WRITTEN)(np.array(x)))
