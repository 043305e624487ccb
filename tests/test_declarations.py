"""What a structure with kernels declares: facts, integers, repeated arrays, and what is wrong."""

import cloudpickle
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from registry import BACKENDS

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
        ({"parameter_shapes": {"residual": "order"}}, "`residual` is declared twice, reserved"),
        ({"saved_shapes": {"weights": "2"}}, "`weights` is declared twice"),
        ({"saved_shapes": {"powers": "ordre 2"}}, "no parameter has the dimension ordre"),
        ({"constant_parameters": frozenset({"wieghts"})}, "constant_parameters has 'wieghts'"),
        ({"repeated": {"weights": "number"}}, "repeated has 'number'"),
        ({"facts": ()}, "no parameter has the dimension|`forward` has 'order'"),
        ({"forward": staticmethod(lambda residual, wieghts: ())}, "`forward` has 'wieghts'"),
        ({"pullback": staticmethod(lambda cotangent: ())}, "`pullback` has 'cotangent'"),
        ({"pullback_jax": staticmethod(lambda powres: ())}, "`pullback_jax` has 'powres'"),
        ({"row_transforms": {"color": "n"}}, "there is no static function `color_kernel`"),
        ({"overwrites": {"powers": "weights"}}, "no static function `forward_inplace`"),
    ],
    ids=[
        "dimension",
        "reserved",
        "twice",
        "unbound",
        "constant",
        "repeated",
        "no fact",
        "forward",
        "pullback",
        "pullback_jax",
        "row transform",
        "in place",
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
