"""Statistics of rows in shared data (``pm.Data``): as fast as of arrays, and never stale."""

import copy
import ctypes
import functools
import pickle
import subprocess
import sys
import threading

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pymc.model.transform.optimization import freeze_dims_and_data
from pymc.pytensorf import rewrite_pregrad
from pytensor.graph.replace import clone_replace
from registry import BACKENDS, INTERPRETED, interpreted
from scipy.stats import norm
from test_linear_means import (
    COMMON,
    EFFECTS,
    GROUP,
    MATRIX,
    MEANS,
    OFFSET,
    SCALE,
    SLOPES,
    VALUES,
    VARIABLES,
    G,
    M,
    N,
    P,
    X,
    Y,
    means_of,
)

import pm_gaussgrad as gg
from pm_gaussgrad.likelihood.data import mark_data
from pm_gaussgrad.ops.remembered import Remembered


def _shared(**arrays):
    """As pm.Data are."""
    containers = [pytensor.shared(value.copy(), name) for name, value in arrays.items()]
    mark_data(*containers)
    return containers


def _remembering(function):
    """The Ops of a compiled function that remember."""
    return [n.op for n in function.maker.fgraph.apply_nodes if isinstance(n.op, Remembered)]


def _rows_remembered(function):
    """How many rows stand for all, of the data that were seen last."""
    [op] = _remembering(function)
    _, _, of_rows, *groups = op._entries[0].outputs
    return len(of_rows) + (len(groups[-1]) if groups else 0)


def _sums(total, wrt, **kwargs):
    """Value and gradient, of the graph as PyMC rewrites it."""
    rewritten = rewrite_pregrad(total)
    gradient = pt.grad(rewritten, wrt, disconnected_inputs="ignore")
    return interpreted(wrt, [rewritten, *gradient], on_unused_input="ignore", **kwargs)


def _used(mean):
    inputs = set(pytensor.graph.traversal.graph_inputs([mean])) | {MATRIX}
    wrt = [x for x in VARIABLES if x in inputs]
    return wrt, [VALUES[VARIABLES.index(x)] for x in wrt]


@pytest.mark.parametrize("name", MEANS)
def test_linear_means_of_data_become_few_rows(name):
    """Also when the data have changed, and their number."""
    arrays = {"y": Y, "x": X, "offset": OFFSET, "group": GROUP}
    # Of known widths: PyTensor broadcasts no others.
    data = [pytensor.shared(v, k, shape=(None, *v.shape[1:])) for k, v in arrays.items()]
    mark_data(*data)
    y, *of_mean = data
    mean, count = means_of(*of_mean)[name]
    wrt, values = _used(mean)
    few = _sums(gg.logp(y, mean, MATRIX).sum(), wrt)
    rows = pt.matrix("rows")
    total = gg.logp(rows, mean, MATRIX).sum()
    gradient = pt.grad(total, wrt, disconnected_inputs="ignore")
    plain = interpreted([rows, *wrt], [total, *gradient], on_unused_input="ignore")
    for m in (M, M if name == "filled" else 2 * M // 3):
        for x in data:
            x.set_value(x.get_value()[::-1][:m])
        expected = plain(y.get_value(), *values)
        for _ in range(3):
            for ours, theirs in zip(few(*values), expected, strict=True):
                assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12 * abs(expected[0]))
        assert _rows_remembered(few) <= count


DESIGNS = {
    "standardised": lambda x: (x - x.mean(axis=0)) / x.std(axis=0),
    "some columns": lambda x: x[:, :P],
    "with an intercept": lambda x: pt.concatenate([pt.ones((x.shape[0], 1)), x[:, 1:]], axis=1),
    "functions": lambda x: pt.stack([pt.exp(x[:, 0]), x[:, 0] ** 2], axis=1),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_designs_that_are_computed_from_data(name):
    x, y = _shared(x=X, y=Y)
    few = interpreted([SLOPES], gg.logp(pt.log1p(y**2), DESIGNS[name](x) @ SLOPES, np.eye(N)).sum())
    for _ in range(2):
        design = DESIGNS[name](pt.constant(x.get_value())).eval(mode=INTERPRETED)
        residual = np.log1p(y.get_value() ** 2) - design @ VALUES[0]
        for _ in range(3):
            assert_allclose(few(VALUES[0]), norm.logpdf(residual).sum(), rtol=1e-10)
        assert _rows_remembered(few) <= N + P
        x.set_value(np.vstack([x.get_value(), 1 + X[:9]])), y.set_value(np.vstack([Y, Y[:9]]))


def test_constants_beside_data():
    for y, x in ((Y, *_shared(x=X)), (*_shared(y=Y), X)):
        few = interpreted([SLOPES], gg.logp(y, pt.as_tensor(x) @ SLOPES, np.eye(N)).sum())
        for _ in range(3):
            assert_allclose(few(VALUES[0]), norm.logpdf(Y - X @ VALUES[0]).sum(), rtol=1e-12)
        assert _rows_remembered(few) == N + P


def test_leading_dimensions_of_data():
    [y] = _shared(y=Y.reshape(4, -1, N))
    few = interpreted([COMMON], gg.logp(y, COMMON, np.eye(N)).sum())
    for _ in range(3):
        assert_allclose(few(VALUES[2]), norm.logpdf(Y - VALUES[2]).sum(), rtol=1e-12)
    assert _rows_remembered(few) == N + 1


def _write(x, y, group):
    y.get_value(borrow=True)[7, 1] += 100


def _flip_signs(x, y, group):
    y.get_value(borrow=True)[:] *= -1


def _sign_of_zero_and_swap(x, y, group):
    values = x.get_value(borrow=True)
    values[[0, 1]] = values[[1, 0]]


def _other_groups(x, y, group):
    codes = group.get_value(borrow=True)
    codes[:] = (codes + 1) % G


def _set_and_write_later(x, y, group):
    mine = np.array(Y[:50])
    for container, values in ((x, X[:50].copy()), (group, GROUP[:50].copy()), (y, mine)):
        container.set_value(values, borrow=True)
    mine[3] = -5


def _same_object_by_the_book(x, y, group):
    values = x.get_value(borrow=True)
    values += 1
    x.set_value(values, borrow=True)


def _memory_again(x, y, group):
    """Freed, and most likely handed out again for the same size."""
    for _ in range(20):
        y.set_value(
            np.random.default_rng().normal(size=y.get_value(borrow=True).shape), borrow=True
        )


def _fewer_rows(x, y, group):
    for container in (x, y, group):
        container.set_value(container.get_value()[5:25])


def _more_rows(x, y, group):
    for container in (x, y, group):
        container.set_value(np.concatenate([container.get_value()] * 3))


def _two_rows(x, y, group):
    for container in (x, y, group):
        container.set_value(container.get_value()[:2])


def _other_layout(x, y, group):
    y.set_value(np.asfortranarray(y.get_value()[::-1]), borrow=True)


def _behind_the_back(x, y, group):
    y.container.storage[0] = 2 * y.container.storage[0]


def _back(x, y, group):
    x.set_value(X), y.set_value(Y), group.set_value(GROUP)


def _not_finite(x, y, group):
    values = y.get_value()
    values[0, 0] = np.inf
    y.set_value(values)


CHANGES = [
    _write,
    _flip_signs,
    _sign_of_zero_and_swap,
    _other_groups,
    _set_and_write_later,
    _same_object_by_the_book,
    _memory_again,
    _fewer_rows,
    _more_rows,
    _two_rows,
    _other_layout,
    _behind_the_back,
    _not_finite,
    _back,
]


def _summed(x, y, group):
    mean = x @ SLOPES + EFFECTS[group]
    return gg.logp(y, mean, gg.cov.Diagonal(SCALE**2)).sum()


ARGUMENTS = [SLOPES, EFFECTS, SCALE]
POINT = VALUES[0], VALUES[1], VALUES[4]


def _expected(x, y, group):
    slopes, effects, scale = POINT
    residual = y - x @ slopes - effects[group]
    if not np.isfinite(residual).all():
        return -np.inf
    return norm.logpdf(residual, scale=scale).sum()


def _are_up_to_date(function, containers):
    expected = _expected(*(container.get_value() for container in containers))
    for _ in range(3):
        assert_allclose(function(*POINT)[0], expected, rtol=1e-12)


@functools.cache
def _watched(backend):
    containers = _shared(x=X, y=Y, group=GROUP)
    total = rewrite_pregrad(_summed(*containers))
    return pytensor.function(ARGUMENTS, [total], mode=BACKENDS[backend]), containers


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("backend", ["py", "numba"])
def test_statistics_follow_the_data(backend, change):
    """At each evaluation, however the data were changed."""
    if (backend, change) == ("numba", _other_layout):
        pytest.skip("numba compiles once more for a layout, which takes long")
    function, containers = _watched(backend)
    _back(*containers)
    _are_up_to_date(function, containers)
    change(*containers)
    _are_up_to_date(function, containers)


@pytest.mark.parametrize("backend", ["py", "numba"])
def test_an_update_of_the_data(backend):
    function, containers = _watched(backend)
    _back(*containers)
    _are_up_to_date(function, containers)
    doubled = interpreted([], [], updates={containers[1]: 2 * containers[1]})
    for _ in range(2):
        doubled()
        _are_up_to_date(function, containers)


def _with_bare_arrays(function):
    """The function of data as ``nutpie`` calls it, which takes the machine code."""
    names = [x.name for x in function.get_shared()]

    def call(**data):
        return function.vm.jit_fn(*POINT, *(data[name] for name in names))

    return call


@pytest.mark.compiled
def test_other_data_at_the_same_address():
    function, _ = _watched("numba")
    call, rng = _with_bare_arrays(function), np.random.default_rng(1)
    x, y, group = X.copy(), Y.copy(), GROUP.copy()
    for k in range(20):
        x[:], y[:], group[:] = rng.normal(size=(M, P)), rng.normal(size=(M, N)), (group + k) % G
        for m in (M, M, M // 2):
            got = call(x=x[:m], y=y[:m], group=group[:m])[0]
            assert_allclose(got, _expected(x[:m], y[:m], group[:m]), rtol=1e-12)


@pytest.mark.compiled
def test_any_entry_is_compared():
    """Of more than a block of them, in the last digit."""
    function, _ = _watched("numba")
    call, rng, m = _with_bare_arrays(function), np.random.default_rng(2), 700
    x, y, group = rng.normal(size=(m, P)), rng.normal(size=(m, N)), rng.integers(G, size=m)
    for entry in (0, 1, 511, 512, 1023, 1024, 2047, 2048, m * N - 1):
        before = call(x=x, y=y, group=group)[0]
        y.flat[entry] += 1e-9
        after = call(x=x, y=y, group=group)[0]
        assert after != before
        assert_allclose(after, _expected(x, y, group), rtol=1e-12)


@pytest.mark.compiled
def test_threads_with_data_of_their_own():
    """Also while others write; they are more than what is remembered at a time."""
    function, _ = _watched("numba")
    call, failures = _with_bare_arrays(function), []

    def work(seed):
        y = Y + seed
        for k in range(60):
            y += k % 3 == 0
            got = call(x=X, y=y, group=GROUP)[0]
            if not np.isclose(got, _expected(X, y, GROUP), rtol=1e-12, atol=0):
                failures.append((seed, k))

    threads = [threading.Thread(target=work, args=[seed / 7]) for seed in range(8)]
    for step in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            step(thread)
    assert not failures


def _log_density_by_nutpie(compiled, point):
    """What the sampler calls: machine code, with the bare addresses of the data."""
    out, logp = np.empty(point.size), np.empty(1)
    arrays = [x.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for x in (point, out, logp)]
    data = ctypes.c_void_p(compiled.user_data.ctypes.data)
    assert compiled.compiled_logp_func.ctypes(point.size, *arrays, data) == 0
    return logp[0]


@pytest.mark.compiled
def test_nutpie_with_other_data(rng):
    """Data of the same size are most likely where the ones before them were."""
    nutpie = pytest.importorskip("nutpie")
    with pm.Model() as model:
        mean = pm.Normal("mean", shape=N)
        gg.MvNormal("y", mean, gg.cov.Diagonal(1.0), observed=pm.Data("data", Y))
    compiled, point = nutpie.compile_pymc_model(model), rng.normal(size=N)

    def check(compiled, values):
        expected = norm.logpdf(point).sum() + norm.logpdf(values - point).sum()
        for _ in range(3):
            assert_allclose(_log_density_by_nutpie(compiled, point), expected, rtol=1e-12)

    for m in [M] * 20 + [M // 2, 2 * M, 1]:
        values = rng.normal(size=(m, N))
        check(compiled.with_data(data=values), values)
        check(compiled, Y)


_ELSEWHERE = """
import pickle, sys
import pytensor
with pytensor.config.change_flags(linker="py", cxx=""):
    with open(sys.argv[1], "rb") as file:
        function, point = pickle.load(file)
    [y] = [x for x in function.get_shared() if x.name == "y"]
    for _ in range(3):
        print(float(function(*point)[0]))
    y.set_value(y.get_value() + 1)
    for _ in range(3):
        print(float(function(*point)[0]))
"""


@pytest.mark.parametrize("backend", ["py", "numba"])
def test_functions_in_another_process(backend, tmp_path):
    """As chains that are spawned have them: what they remember is their own."""
    function, containers = _watched(backend)
    _back(*containers)
    _are_up_to_date(function, containers)
    path = tmp_path / "function"
    path.write_bytes(pickle.dumps((function, POINT)))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ELSEWHERE, path],
        capture_output=True,
        text=True,
        check=True,
    )
    got = np.array(done.stdout.split(), dtype=float)
    expected = np.repeat([_expected(X, Y, GROUP), _expected(X, Y + 1, GROUP)], 3)
    assert_allclose(got, expected, rtol=1e-12)


def test_copies_of_functions():
    function, containers = _watched("py")
    _back(*containers)
    _are_up_to_date(function, containers)
    [op] = _remembering(function)
    for other in (copy.deepcopy(op), pickle.loads(pickle.dumps(op))):
        assert other == op
        assert not other._entries
    clone = pickle.loads(pickle.dumps(function))
    theirs = {x.name: x for x in clone.get_shared()}
    theirs["y"].get_value(borrow=True)[:] += 3
    _are_up_to_date(function, containers)
    _are_up_to_date(clone, [theirs[x.name] for x in containers])


def test_another_variable_in_the_place_of_the_data():
    containers = _, y, _ = _shared(x=X, y=Y, group=GROUP)
    given, other = pt.matrix("given"), Y[::-1] + 1
    total = _summed(*containers)
    functions = [
        interpreted([given, *ARGUMENTS], total, givens={y: given}),
        interpreted([given, *ARGUMENTS], clone_replace(rewrite_pregrad(total), {y: given})),
        interpreted([given, *ARGUMENTS], clone_replace(total, {y: given})),
    ]
    for function in functions:
        for values in (Y, other, other, other, Y, Y):
            assert_allclose(function(values, *POINT), _expected(X, values, GROUP), rtol=1e-12)


def _model(y=Y, x=X, group=GROUP):
    with pm.Model(coords={"entry": range(N)}) as model:
        y, x = pm.Data("data", y, dims=("row", "entry")), pm.Data("x", x)
        slopes = pm.Normal("slopes", shape=(P, N))
        effects = pm.Normal("effects", shape=(G, N))
        mean = x @ slopes + effects[pm.Data("group", group)]
        cov = gg.cov.Diagonal(pm.HalfNormal("scale") ** 2)
        gg.MvNormal("y", mean, cov, observed=y, dims=("row", "entry"))
    return model


def _logp_of(model):
    """The log density of the observed at the point of the module."""
    compiled = model.compile_logp(vars=model["y"], mode=INTERPRETED)
    assert _remembering(compiled.f)
    slopes, effects, scale = POINT
    point = {"slopes": slopes, "effects": effects, "scale_log__": np.log(scale)}
    return lambda: [compiled(point) for _ in range(3)]


def test_a_model_whose_data_are_set():
    """Its log density follows, as do draws, and the rows by themselves."""
    model = _model()
    logp = _logp_of(model)
    assert_allclose(logp(), _expected(X, Y, GROUP), rtol=1e-12)
    new = {"data": Y[:20] + 1, "x": X[:20] - 1, "group": GROUP[:20]}
    pm.set_data(new, model=model)
    assert_allclose(logp(), _expected(X[:20] - 1, Y[:20] + 1, GROUP[:20]), rtol=1e-12)
    [rows] = model.logp(vars=[model["y"]], sum=False)
    assert model.compile_fn(rows, mode=INTERPRETED)(model.initial_point()).shape == (20,)
    assert pm.draw(model["y"], mode=INTERPRETED).shape == (20, N)
    assert not any(isinstance(v.owner and v.owner.op, Remembered) for v in _ancestors(model["y"]))


def _ancestors(*variables):
    return pytensor.graph.traversal.ancestors(variables)


@pytest.mark.parametrize(
    "again",
    [
        lambda model: model.copy(),
        copy.deepcopy,
        lambda model: pm.do(model, {"x": X + 1}),
        lambda model: pm.observe(model, {"scale": 1.0}),
        freeze_dims_and_data,
    ],
    ids=["copy", "deepcopy", "do", "observe", "freeze"],
)
def test_copies_of_models(again):
    """The data of either may change; neither sees those of the other."""
    model = _model()
    logp = _logp_of(model)
    assert_allclose(logp(), _expected(X, Y, GROUP), rtol=1e-12)
    other = again(model)
    slopes, effects, scale = POINT
    point = {"slopes": slopes, "effects": effects, "scale_log__": np.log(scale)}
    compiled = other.compile_logp(vars=other["y"], mode=INTERPRETED)
    theirs = {x.name: x for x in other.data_vars}
    pm.set_data({"data": Y + 2}, model=model)
    assert_allclose(logp(), _expected(X, Y + 2, GROUP), rtol=1e-12)
    read = {k: x.data if hasattr(x, "data") else x.get_value() for k, x in theirs.items()}
    if again.__name__ == "<lambda>" and "scale" in [x.name for x in other.observed_RVs]:
        point.pop("scale_log__")
        scale = 1.0
    residual = read["data"] - read["x"] @ slopes - effects[read["group"]]
    for _ in range(3):
        assert_allclose(compiled(point), norm.logpdf(residual, scale=scale).sum(), rtol=1e-12)


def test_functions_of_data_have_names_of_their_own():
    """By which compiled code finds them."""
    containers = x, y, group = _shared(x=X, y=Y, group=GROUP)
    totals = [
        _summed(*containers),
        _summed(2 * x, y, group),
        _summed(x, y, group % 2),
        _summed(x, y - np.arange(N), group),
        _summed(x, y - 1, group),
        gg.logp(y, COMMON, np.eye(N)).sum(),
    ]
    arguments = [*ARGUMENTS, COMMON]
    functions = [interpreted(arguments, total, on_unused_input="ignore") for total in totals]
    keys = [op.key() for function in functions for op in _remembering(function)]
    assert len(set(keys)) == len(totals)
    again = interpreted(arguments, _summed(*containers), on_unused_input="ignore")
    assert [op.key() for op in _remembering(again)] == keys[:1]


def test_models_that_share_data():
    containers = _shared(x=X, y=Y, group=GROUP)
    functions = [interpreted(ARGUMENTS, [_summed(*containers) + k]) for k in range(2)]
    for k, function in enumerate(functions):
        for _ in range(2):
            _write(*containers)
            expected = _expected(*(container.get_value() for container in containers))
            for _ in range(3):
                assert_allclose(function(*POINT)[0], expected + k, rtol=1e-12)


@pytest.mark.parametrize("backend", ["py", "numba"])
def test_numbers_do_not_depend_on_what_is_remembered(backend):
    """To the last digit, so that chains are reproducible; not finite is not, whatever it was."""
    function, containers = _watched(backend)
    _back(*containers)
    values = [Y + k / 7 for k in range(6)] * 3
    values[4] = np.where(Y < 20, np.nan, Y)
    found = {}
    for new in values:
        containers[1].set_value(new)
        got = {function(*POINT)[0].tobytes() for _ in range(3)}
        assert got == found.setdefault(new.tobytes(), got)
        assert len(got) == 1


def test_parameters_in_shared_variables_are_no_data():
    """PyMC's steps put the values of other steps' parameters there."""
    group = pt.ivector("group")
    total = gg.logp(Y, EFFECTS[group], np.eye(N)).sum()
    shared = pytensor.shared(GROUP.astype("int32"), "group_shared")
    function = interpreted([EFFECTS], clone_replace(total, {group: shared}))
    assert not _remembering(function)


def test_shared_coefficients_are_no_data():
    """Of an optimiser, say: the design is reduced, and its coefficients are left alone."""
    slopes = pytensor.shared(VALUES[0], "slopes")
    function = interpreted([], gg.logp(pytensor.shared(Y), X @ slopes, np.eye(N)).sum())
    [op] = _remembering(function)
    assert op.watched == 1
    for k in range(4):
        slopes.set_value(VALUES[0] + k)
        assert_allclose(function(), norm.logpdf(Y - X @ (VALUES[0] + k)).sum(), rtol=1e-12)
    assert len(op._entries) == 1


def test_derivatives_by_data_are_of_the_rows():
    containers = _shared(x=X, y=Y, group=GROUP)
    total = _summed(*containers)
    gradient = interpreted(ARGUMENTS, pt.grad(total, containers[1]))(*POINT)
    slopes, effects, scale = POINT
    assert_allclose(gradient, (X @ slopes + effects[GROUP] - Y) / scale**2, rtol=1e-12)
    with pytest.raises(pytensor.gradient.NullTypeGradError, match="before rewrites"):
        pt.grad(rewrite_pregrad(total), containers[1])


@pytest.mark.parametrize("backend", ["py", "numba"])
@pytest.mark.parametrize("code", [G, -G - 1])
def test_positions_that_are_none_are_an_error(backend, code):
    function, containers = _watched(backend)
    _back(*containers)
    _are_up_to_date(function, containers)
    containers[2].get_value(borrow=True)[7] = code
    for _ in range(3):
        with pytest.raises(IndexError, match="out of bounds"):
            function(*POINT)


@pytest.mark.parametrize("backend", ["py", "numba"])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_numbers_of_rows_that_disagree_are_an_error(backend, which):
    function, containers = _watched(backend)
    for m in (40, 1):
        _back(*containers)
        containers[which].set_value(containers[which].get_value()[:m])
        for _ in range(3):
            with pytest.raises((ValueError, AssertionError)):
                function(*POINT)


def test_no_digits_of_data_are_lost():
    """Outcomes and regressors far from zero, which are nearly collinear."""
    rng = np.random.default_rng(1)
    design = np.column_stack([np.ones(M), 1e4 + X[:, 0], 1e4 + X[:, 0] + 1e-6 * X[:, 1]])
    x, y = _shared(x=design, y=1e6 + rng.normal(size=(M, N)))
    slopes = pt.tensor("slopes", shape=(3, N))
    few = interpreted([slopes], gg.logp(y, x @ slopes, np.eye(N)).sum())
    of_arrays = interpreted([slopes], gg.logp(y.get_value(), design @ slopes, np.eye(N)).sum())
    fitted = np.linalg.lstsq(design, y.get_value())[0]
    for _ in range(3):
        assert_allclose(few(fitted), of_arrays(fitted), rtol=1e-14)


def test_large_data_say_what_they_cost():
    y, x = _shared(y=np.zeros((90_000, N)), x=np.zeros((90_000, P)))
    with pytest.warns(UserWarning, match=r"shared data x, y .* 4 MB .*freeze_dims_and_data"):
        rewrite_pregrad(gg.logp(y, x @ SLOPES, np.eye(N)).sum())


def test_jax_says_that_it_goes_through_all_rows():
    containers = _shared(x=X, y=Y, group=GROUP)
    with pytest.warns(UserWarning, match="freeze_dims_and_data"):
        function = pytensor.function(ARGUMENTS, [_summed(*containers)], mode=BACKENDS["jax"])
    for change in (_back, _write, _other_groups):
        change(*containers)
        _are_up_to_date(function, containers)


def test_few_rows_of_long_series_stay():
    y = pytensor.shared(np.zeros((3, 50)), "y")
    assert not _remembering(interpreted([], gg.logp(y, 0.0, gg.cov.AR1(1.0, 0.5)).sum()))
