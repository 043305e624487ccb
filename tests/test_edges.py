"""Edges of every structure: nothing to observe, no batch, one number, scales, kinds of numbers."""

import contextlib
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from registry import AS_WRITTEN, CASES, LEAVES, each, interpreted, is_index, positive_definite

import pm_gaussgrad as gg
from pm_gaussgrad.cov.grids.kronecker_pair import KroneckerPair
from pm_gaussgrad.cov.protocol.base import as_parameter
from pm_gaussgrad.cov.protocol.products import rows_times

EMPTY = np.zeros((0, 0))
NOTHING = {
    "Dense": lambda: gg.cov.Dense(EMPTY),
    "Cholesky": lambda: gg.cov.Cholesky(EMPTY),
    "Precision": lambda: gg.cov.Precision(EMPTY),
    "Diagonal": lambda: gg.cov.Diagonal(np.zeros(0)),
    "ScalarDiagonal": lambda: gg.cov.Diagonal(1.0, size=0),
    "LowRank": lambda: gg.cov.LowRank(np.zeros((0, 2))) + gg.cov.Diagonal(np.zeros(0)),
    "Projected": lambda: (
        gg.cov.Projected(np.zeros((0, 3)), gg.cov.AR1(1.0, 0.5)) + gg.cov.Diagonal(np.zeros(0))
    ),
    "AR1": lambda: gg.cov.AR1(1.0, 0.5, size=0),
    "CompoundSymmetry": lambda: gg.cov.CompoundSymmetry(1.0, 0.5, size=0),
    "ComponentSymmetry": lambda: gg.cov.CompoundSymmetry.from_components(1.0, 0.5, size=0),
    "Toeplitz": lambda: gg.cov.Toeplitz(np.zeros(0)),
    "Eigenbasis": lambda: gg.cov.Eigenbasis(EMPTY, np.zeros(0)),
    "Kronecker": lambda: gg.cov.Kronecker(EMPTY, np.eye(2)),
    "NoisyKronecker": lambda: gg.cov.Kronecker(np.eye(2), EMPTY) + gg.cov.Diagonal(1.0, size=0),
    "KroneckerPair": lambda: KroneckerPair.from_parameters(
        np.eye(2), EMPTY, np.ones((2, 2)), EMPTY
    ),
    "BlockDiagonal": lambda: gg.cov.BlockDiagonal(EMPTY, gg.cov.AR1(1.0, 0.5, size=0)),
}


@pytest.mark.parametrize("build", NOTHING.values(), ids=NOTHING)
def test_no_observations(build):
    """The density of nothing is one, and everything else is empty, in as many rows as given."""
    cov, rows = build(), np.zeros((2, 0))
    outputs = [
        gg.logp(rows, 0.0, cov),
        cov.solve(rows),
        cov.color(rows),
        cov.whiten(rows),
        cov.diagonal(),
        cov.inverse_diagonal(),
        cov.to_dense(),
        cov.logdet(),
        pt.grad(cov.logdet(), list(cov.parameters)[-1], disconnected_inputs="ignore").sum(),
    ]
    logp, *others, logdet, gradient = interpreted([], outputs, AS_WRITTEN)()
    assert_array_equal(logp, np.zeros(2))
    assert [x.shape for x in others] == [*[(2, 0)] * 3, (0,), (0,), (0, 0)]
    assert logdet == gradient == 0


@each(LEAVES)
def test_no_covariances(case, rng):
    """A batch of length zero: empty arrays, in the Python linker, too."""
    tensors = case.tensors(batch_ndim=1)
    residual = pt.tensor("residual", shape=(None, None))
    logp = case.build(3, *tensors).logp(residual)
    gradient = pt.grad(logp.sum(), case.differentiable(tensors))
    function = interpreted([residual, *tensors], [logp, *gradient], AS_WRITTEN)
    values = [v if is_index(v) else v[:0] for v in case.values(rng, 3, batch=(1,))]
    logp, *gradient = function(np.zeros((0, 3)), *values)
    assert logp.shape == (0,)
    assert [g.shape for g in gradient] == [v.shape for v in case.differentiable(values)]


@each(CASES)
@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("batch_ndim", [0, 1])
def test_matrix_of_known_size_knows_its_shape(case, n, batch_ndim):
    """PyTensor forgets sizes of one; a product or a panel asks its parts for them."""
    cov = case.build(n, *case.tensors(batch_ndim, n=n))
    assert cov.size == n
    matrix = cov.to_dense()
    assert matrix.type.shape[-2:] == (n, n)
    if batch_ndim == 0:
        assert gg.cov.Dense(matrix).size == n
        assert gg.cov.Kronecker(np.eye(3), cov).size == 3 * n
        assert gg.cov.RepeatedMeasures(cov, np.zeros(n), np.arange(n)).size == n


def test_gaps_of_a_product_with_a_single_number():
    chol = pt.tensor("L", shape=(1, 1))
    cov = gg.cov.Kronecker(np.eye(3), gg.cov.Cholesky(chol))
    logp = interpreted([chol], gg.logp([np.nan, 1.0, 1.0], 0.0, cov), AS_WRITTEN)
    assert_allclose(logp(np.eye(1)), -1 - np.log(2 * np.pi), rtol=1e-14)


@each(CASES)
@pytest.mark.parametrize("exponent", [-440, 440])
def test_standardised_numbers_do_not_depend_on_the_scale(case, exponent, rng):
    """Powers of two change no digit: variances of 1e-265 and 1e265."""
    n, factor = 4, pt.dscalar("factor")
    residual = pt.dmatrix("residual")
    values = case.values(rng, n)
    tensors = [pt.constant(v) for v in values]
    cov = case.build(n, *tensors) * factor
    outputs = [*cov.leave_one_out(residual), cov.whiten(residual), cov.quad_logdet(residual)[0]]
    with contextlib.suppress(NotImplementedError):  # nothing is made dense unasked
        outputs += cov.innovations(residual)
    function = interpreted([factor, residual], outputs, AS_WRITTEN)
    rows, scale = rng.normal(size=(2, n)), 2.0**exponent
    got, expected = function(scale**2, scale * rows), function(1.0, rows)
    log_scales = {1, 5}
    for i, (found, wanted) in enumerate(zip(got, expected, strict=True)):
        shift = exponent * np.log(2) if i in log_scales else 0
        assert_allclose(found, wanted + shift, rtol=1e-11, atol=1e-11, err_msg=i)


def test_random_intercept_one_step_ahead(rng):
    """A sum's own class: what t observations know of what they share."""
    t, s = pt.scalars("t", "s")
    cov = gg.cov.CompoundSymmetry(t, 1.0) + gg.cov.Diagonal(s, size=5)
    rows = rng.normal(size=(2, 5))
    white, log_scales = interpreted([t, s], cov.innovations(rows))(2.0, 0.7)
    factor = np.linalg.cholesky(2.0 * np.ones((5, 5)) + 0.7 * np.eye(5))
    assert_allclose(white, np.linalg.solve(factor, rows.T).T, rtol=1e-12)
    assert_allclose(log_scales, np.log(np.diag(factor)) + np.zeros((2, 5)), rtol=1e-12)


@pytest.mark.parametrize("rows", [(3,), (2, 2), (2, 1, 2)])
def test_no_factors_and_many_rows(rows, rng):
    factor = pt.tensor("U", shape=(2, 0))
    cov = gg.cov.LowRank(factor) + gg.cov.Diagonal(4.0, size=2)
    residual = rng.normal(size=(*rows, 2))
    outputs = [cov.whiten(residual), cov.color(residual), cov.inverse_diagonal()]
    # As compiled functions are: what fails is a rewrite of products of many rows.
    white, colored, precision = interpreted([factor], outputs)(np.zeros((2, 0)))
    assert_allclose(white, residual / 2, rtol=1e-15)
    assert_allclose(colored, 2 * residual, rtol=1e-15)
    assert_allclose(precision, [0.25, 0.25], rtol=1e-15)


KINDS = {
    "big-endian": lambda x: x.astype(">f8"),
    "objects": lambda x: x.astype(object),
    "decimals": lambda x: np.vectorize(Decimal, otypes=[object])(x),
    "fractions": lambda x: np.vectorize(Fraction, otypes=[object])(x),
    "long double": lambda x: x.astype(np.longdouble),
    "lists": lambda x: x.tolist(),
    "Fortran order": np.asfortranarray,
    "reversed view": lambda x: x[::-1].copy()[::-1] if x.ndim else x,
    "not writeable": lambda x: np.broadcast_to(x, x.shape),
}


# The registry builds these from tensors.
OF_TENSORS = {
    "GroupedSymmetry",
    "IrregularAR1",
    "LowRankPlusScalar",
    "MixedEffects",
    "NoisyAR1",
    "NoisyKronecker",
    "RegularAR1",
    "RepeatedMeasures",
    "ScalarDiagonal",
    "SparseLatents",
    "SparseCovariance",
    "SparseMarginal",
    "SparsePrecision",
    "StateSpace",
}


@each(case for case in CASES if case.name not in OF_TENSORS)
@pytest.mark.parametrize("convert", KINDS.values(), ids=KINDS)
def test_kinds_of_numbers(case, convert, rng):
    values = case.values(rng, 4)
    converted = [v if is_index(v) else convert(v) for v in values]
    cov = case.build(4, *converted)
    for found, expected in zip(cov.parameters, values, strict=True):
        assert found.type.dtype == expected.dtype
        assert_array_equal(found.data, expected)


@pytest.mark.parametrize("convert", KINDS.values(), ids=KINDS)
def test_kinds_of_numbers_as_arguments(convert, rng):
    y, mu, matrix = rng.normal(size=3), rng.normal(size=3), positive_definite(rng, 3)
    wanted, got = gg.logp(y, mu, matrix), gg.logp(convert(y), convert(mu), convert(matrix))
    wanted, got = interpreted([], [wanted, got], AS_WRITTEN)()
    assert got == wanted


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (pd.Series([1, 2], dtype="Int64"), [1.0, 2.0]),
        (pd.array([1.5, 2.0], dtype="Float64"), [1.5, 2.0]),
        (pd.DataFrame({"a": [1.5], "b": [2]}).astype(object), [[1.5, 2.0]]),
        (np.array([1, 2], ">i2"), [1.0, 2.0]),
        (np.array([True, 2.5], object), [1.0, 2.5]),
        (np.array([0.5, 1.0], "float16"), [0.5, 1.0]),
    ],
)
def test_columns_of_tables(value, expected):
    x = as_parameter("gg.f", "x", value, 1)
    assert_array_equal(x.data if hasattr(x, "data") else x.eval(), expected)


def test_arrays_of_tensors():
    a, b = pt.dscalars("a", "b")
    x = as_parameter("gg.f", "x", np.array([[a, 0.0], [1, b]], dtype=object), 2)
    assert_array_equal(interpreted([a, b], x, AS_WRITTEN)(2.0, 3.0), [[2.0, 0.0], [1.0, 3.0]])


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (pd.Series([1, None], dtype="object"), ValueError, r"missing entries \(None\)"),
        (np.array([1.0, pd.NA], object), ValueError, r"missing entries \(<NA>\)"),
        (np.array(["1.0"], object), TypeError, "an entry that is a str"),
        (np.array(["1.0"]), TypeError, "dtype <U3, expected real numbers"),
        (np.zeros(2, [("a", "f8")]), TypeError, r"dtype \[\('a', '<f8'\)\], expected real"),
        (np.array(["2020"], "M8[D]"), TypeError, "dtype datetime64"),
        (np.array([1j], object), TypeError, "an entry that is a complex"),
        (lambda: 0, TypeError, "is a function, expected an array or a tensor"),
    ],
)
def test_what_is_no_numbers(value, error, message):
    with pytest.raises(error, match=message):
        as_parameter("gg.f", "x", value, 1)


@pytest.mark.parametrize("dtype", [">i4", ">i8", "uint8", object])
def test_kinds_of_index_data(dtype):
    subject, visit = np.array([3, 1, 3]), np.array([0, 1, 1])
    expected = gg.cov.RepeatedMeasures(np.eye(2), subject, visit).parameters
    found = gg.cov.RepeatedMeasures(np.eye(2), subject.astype(dtype), visit.astype(dtype))
    for a, b in zip(found.parameters, expected, strict=True):
        assert_array_equal(a.data, b.data)


DATES = pd.date_range("2024-02-27", periods=4)
TIMES = {
    "datetime64": DATES.to_numpy(),
    "index": DATES,
    "column": pd.Series(DATES, index=[3, 1, 2, 7]),
    "zone": DATES.tz_localize("UTC"),
    "column with a zone": pd.Series(DATES.tz_localize("Europe/Paris")),
    "Timestamps": list(DATES),
    "datetimes": list(DATES.to_pydatetime()),
    "dates": [date.date() for date in DATES],
    "strings": list(DATES.astype(str)),
    "timedelta64": (DATES - DATES[0]).to_numpy(),
    "Timedeltas": list(DATES - DATES[0]),
    "periods": DATES.to_period("D"),
}


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize(
    "build", [gg.cov.Matern12, gg.cov.AR1], ids=["a process", "an autoregression"]
)
def test_times_that_are_no_numbers(build, name):
    """An error whose remedy, as it is written, makes days of them."""
    with pytest.raises(TypeError, match=r"`time` is of .*, expected numbers, .*days") as raised:
        build(1.0, 0.5, time=TIMES[name])
    remedy = str(raised.value).split("for days write ")[1].removesuffix(".")
    days = eval(remedy, {"pd": pd, "time": TIMES[name]})
    assert_array_equal(np.diff(days), [1.0, 1.0, 1.0])
    build(1.0, 0.5, time=days)


@pytest.mark.parametrize(
    "time",
    [
        pd.Series([0, 1, 3], dtype="Int64"),
        pd.Series([0.0, 1.0, 3.0], dtype=object),
        [Decimal(0), Decimal(1), Decimal(3)],
        np.array([0, 1, 3], ">i4"),
        range(0, 4, 3),
    ],
    ids=["nullable", "objects", "decimals", "another byte order", "range"],
)
def test_times_of_any_kind_of_number(time):
    expected = gg.cov.Matern12(1.0, 2.0, np.array(list(map(float, time))))
    found = gg.cov.Matern12(1.0, 2.0, time)
    assert_array_equal(found.parameters[0].data, expected.parameters[0].data)


@pytest.mark.parametrize(
    ("time", "error", "message"),
    [
        ([1.0, None, 2.0], ValueError, "observation 1, in group 0, is nan.*drop this observation"),
        (np.ones((2, 3)), ValueError, r"shape \(2, 3\).*one long column.*group="),
        ([True, False], TypeError, "dtype bool"),
    ],
)
def test_times_that_are_missing_or_of_rows(time, error, message):
    with pytest.raises(error, match=message):
        gg.cov.Matern12(1.0, 2.0, time)


@pytest.mark.parametrize("shape", [(4, 0), (0, 3), (0, 0)])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_products_with_an_empty_matrix(lead, shape, rng):
    """Rows of rows, too, which PyTensor reshapes to (-1, 0) where it knows of nothing."""
    rows = pt.tensor("rows", shape=(None,) * (len(lead) + 1), dtype="float64")
    matrix = pt.tensor("matrix", shape=shape, dtype="float64")
    product = rows_times(rows, matrix)
    function = interpreted([rows, matrix], [product, pt.grad(product.sum(), rows)])
    got, slope = function(rng.normal(size=(*lead, shape[0])), np.empty(shape))
    assert_array_equal(got, np.zeros((*lead, shape[1])))
    assert_array_equal(slope, np.zeros((*lead, shape[0])))


def test_multiples_that_are_no_covariance(rng):
    """-inf and a gradient of zero where a factor is not positive, of every structure."""
    factor, y, n = pt.dscalar("factor"), rng.normal(size=4), 4
    covs = [case.build(n, *map(pt.constant, case.draw(rng, n))) for case in CASES]
    logps = [gg.logp(y, 0.0, factor * cov) for cov in covs]
    slopes = [pt.grad(logp, factor) for logp in logps]
    function = interpreted([factor], [pt.stack(logps), pt.stack(slopes)])
    for value in (-1.0, 0.0, np.nan):
        found, gradient = function(value)
        assert (found == -np.inf).all()
        assert (gradient == 0).all()
    for cov in covs:
        for constant in (-1.0, np.nan):
            with pytest.raises(ValueError, match=r"^scalar \* .*`scalar`"):
                constant * cov


def test_the_slope_at_no_random_effect(rng):
    """Of factors beside another covariance, a variance of zero is a point like others."""
    variance, y, n = pt.dscalar("variance"), rng.normal(size=5), 5
    outputs = []
    for other in (gg.cov.Diagonal(0.3), gg.cov.AR1(1.0, 0.5)):
        factors = gg.cov.LowRank(rng.normal(size=(n, 2)))
        unit = factors.to_dense()
        for cov in (variance * factors + other, other.sized(n).to_dense() + variance * unit):
            logp = gg.logp(y, 0.0, cov)
            outputs += [logp, pt.grad(logp, variance)]
    for value in (0.0, 1e-3):
        found = np.reshape(interpreted([variance], outputs)(value), (2, 2, 2))
        assert_allclose(found[:, 0], found[:, 1], rtol=1e-10)
