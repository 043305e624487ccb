"""What a structure with kernels declares: facts, integers, repeated arrays, and what is wrong."""

import cloudpickle
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numba.core.errors import TypingError
from numpy.testing import assert_allclose
from registry import BACKENDS, interpreted

from pm_gaussgrad.cov.protocol.leaf import Leaf
from pm_gaussgrad.ops import InvQuadLogdet


def _forward(residual, weights, order):
    total = 0.0
    powers = np.empty((order, 2), residual.dtype)
    for k in range(order):
        total += weights[k]
        powers[k, 0], powers[k, 1] = k, weights[k]
    quad = (residual**2).sum(axis=1) / total
    return quad, residual.shape[1] * np.log(total), residual / total, powers


def _pullback(residual, powers, order, quad_bar, logdet_bar):
    total = powers[:, 1].sum()
    through_quad = (quad_bar * (residual**2).sum(axis=1)).sum() / total**2
    return (np.full(order, logdet_bar * residual.shape[1] / total - through_quad),)


class Shares(Leaf):
    """The identity times a sum of as many weights as a fact says."""

    facts = ("order",)
    parameter_shapes = {"weights": "order"}
    saved_shapes = {"powers": "order 2"}
    forward = staticmethod(_forward)
    pullback = staticmethod(_pullback)

    def __init__(self, weights, order):
        self.parameters, self.order = (pt.as_tensor(weights),), order


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("order", [2, 3])
def test_facts_are_arguments_and_dimensions(backend, order, rng):
    weights, residual = pt.vector("weights"), rng.normal(size=(2, 4))
    logp = Shares(weights, order).logp(residual).sum()
    function = pytensor.function([weights], [logp, pt.grad(logp, weights)], mode=BACKENDS[backend])
    values = rng.uniform(0.5, 1.0, size=order)
    value, slope = function(values)
    total, square = values.sum(), (residual**2).sum()
    assert_allclose(value, -0.5 * (square / total + 8 * np.log(2 * np.pi * total)), rtol=1e-13)
    assert_allclose(slope, np.full(order, 0.5 * (square / total - 8) / total), rtol=1e-12)
    with pytest.raises(ValueError, match=rf"`weights`.*\({order}\)"):
        function(np.ones(order + 1))


def test_known_sizes_are_checked_when_a_graph_is_made():
    with pytest.raises(ValueError, match=r"`weights` has shape \(3,\) for \(2\), expected 2"):
        Shares(np.ones(3), 2).logp(np.zeros(4))


def test_structures_with_different_facts_are_different():
    two, three = Shares(np.ones(2), 2), Shares(np.ones(3), 3)
    assert two.structure != three.structure
    assert two.structure == Shares(np.zeros(2), 2).structure
    assert InvQuadLogdet(two.structure) == InvQuadLogdet(Shares(pt.vector(), 2).structure)
    copied = cloudpickle.loads(cloudpickle.dumps(two))
    assert (copied.order, copied.structure.__name__) == (2, "Shares(order=2)")
    assert two.structure.from_parameters(*two.parameters).order == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"parameter_shapes": {"weights": "order!"}}, "dimension 'order!'"),
        ({"parameter_shapes": {"residual": "order"}}, "`residual` is a name that kernels have"),
        ({"saved_shapes": {"weights": "2"}}, "`weights` is declared twice"),
        ({"saved_shapes": {"2 powers": "2"}}, "`2 powers` is no identifier"),
        ({"saved_shapes": {"powers": "ordre 2"}}, "no parameter has the dimension ordre"),
        ({"constant_parameters": frozenset({"wieghts"})}, "constant_parameters has 'wieghts'"),
        ({"repeated": {"weights": "number"}}, "repeated has 'number'"),
        ({"facts": ()}, "no parameter has the dimension|`forward` has 'order'"),
        ({"forward": staticmethod(lambda residual, wieghts: ())}, "`forward` has 'wieghts'"),
        ({"pullback": staticmethod(lambda cotangent: ())}, "`pullback` has 'cotangent'"),
        ({"pullback_jax": staticmethod(lambda powres: ())}, "`pullback_jax` has 'powres'"),
        ({"row_transforms": {"color": "n"}}, "there is no static function `color_kernel`"),
        ({"overwrites": {"powers": "weights"}}, "'powers', which `forward` does not take"),
        ({"overwrites": {"powers": "wieghts"}}, "overwrites has 'wieghts'"),
        ({"overwrites": {"quad": "residual"}}, "overwrites has 'quad'"),
    ],
    ids=[
        "dimension",
        "reserved",
        "twice",
        "no name",
        "unbound",
        "constant",
        "repeated",
        "no fact",
        "forward",
        "pullback",
        "pullback_jax",
        "row transform",
        "in place",
        "in place of nothing",
        "no output",
    ],
)
def test_a_wrong_declaration_fails_when_the_class_is_made(wrong, message):
    with pytest.raises(TypeError, match=f"class Wrong: .*({message})"):
        type("Wrong", (Shares,), wrong)


def test_a_pullback_is_needed_where_something_has_a_gradient():
    members = {"parameter_shapes": {"x": "n"}, "forward": staticmethod(lambda residual, x: ())}
    with pytest.raises(TypeError, match="there is no static function `pullback`"):
        type("Wrong", (Leaf,), members)
    type("Right", (Leaf,), members | {"constant_parameters": frozenset({"x"})})


def _instead(function, change):
    """A kernel with other results."""

    def forward(residual, weights, order):
        return change(*function(residual, weights, order))

    return {"forward": staticmethod(forward)}


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (
            _instead(_forward, lambda q, d, a, p: (q, d, a)),
            TypeError,
            "returns 3 results, expected",
        ),
        (
            _instead(_forward, lambda q, d, a, p: q),
            TypeError,
            "returns a ndarray, expected the tuple",
        ),
        (
            _instead(_forward, lambda q, d, a, p: (q, q, a, p)),
            TypeError,
            r"`logdet` of shape \(2,\)",
        ),
        (_instead(_forward, lambda q, d, a, p: (q, d, a, p[0])), TypeError, r"expected \(3, 2\)"),
        (
            _instead(_forward, lambda q, d, a, p: (q, d, a, p[1:])),
            ValueError,
            r"\(3, 2\) = \(3, 2\)",
        ),
        (
            {"pullback": staticmethod(lambda quad_bar: quad_bar.sum())},
            TypeError,
            r"pullback\): .* returns a float64, expected the tuple \(weights_bar,\)",
        ),
    ],
    ids=["fewer", "no tuple", "scalar", "rank", "size", "pullback"],
)
def test_interpreted_kernels_are_told_what_they_return(wrong, error, message):
    kind = type("Wrong", (Shares,), wrong)
    weights = pt.vector("weights")
    logp = kind(weights, 3).logp(np.ones((2, 4))).sum()
    function = interpreted([weights], [logp, pt.grad(logp, weights)])
    with pytest.raises(error, match=rf"gg.cov.Wrong.*{message}"):
        function(np.ones(3))


@pytest.mark.compiled
@pytest.mark.parametrize("backend", ["py", "numba"])
def test_kernels_that_numba_cannot_compile_are_named(backend):
    wrong = _instead(_forward, lambda q, d, a, p: (q, d, a))
    weights = pt.vector("weights")
    logp = type("Wrong", (Shares,), wrong)(weights, 3).logp(np.ones((2, 4))).sum()
    with pytest.raises(
        TypingError, match=r"gg\.cov\.Wrong: the kernel `forward`; NUMBA_DISABLE_JIT=1"
    ):
        pytensor.function([weights], logp, mode=BACKENDS[backend])(np.ones(3))


def test_what_an_instance_holds():
    with pytest.raises(TypeError, match=r"the fact `order` is 2\.0, expected an integer"):
        Shares(np.ones(2), 2.0).logp(np.ones(4))
    whole = Shares(np.ones(2), np.int64(2))
    assert whole.structure == Shares(np.ones(2), 2).structure
    whole.parameters *= 2
    with pytest.raises(TypeError, match=r"`parameters` holds 2 tensors, expected.*\['weights'\]"):
        whole.logp(np.ones(4))


@pytest.mark.parametrize(
    ("member", "arguments"),
    [("color", [0]), ("whiten", [0]), ("diagonal", []), ("inverse_diagonal", []), ("scaled", [2])],
)
def test_members_that_a_class_lacks(member, arguments):
    with pytest.raises(NotImplementedError, match=rf"gg.cov.Shares: .*{member}\(\).*gg.cov.Dense"):
        getattr(Shares(np.ones(2), 2), member)(*arguments)
