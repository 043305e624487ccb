r"""Derivatives in forward mode: the product of a Jacobian matrix with a direction.

Reverse mode gives b' J, which is linear in the cotangent b; its own derivative with respect to b,
in reverse mode again, is J t. PyTensor's ``pushforward`` is this trick as well, but hands the
products b' J to its second pullback as outputs with given cotangents, in a dictionary: of the two
parameters of a plain sum v + w, for both of which b' J is b itself, one replaces the other, and a
product that another is computed from does not hear of it. Here the products are terms of one sum,
in which every occurrence counts.

Source: Towns (2017), A new trick for calculating Jacobian vector products.
"""

import pytensor.tensor as pt
from pytensor.gradient import grad
from pytensor.graph.replace import graph_replace


def forward_derivative(output, wrt, tangents):
    """The derivative of a tensor in one direction.

    Parameters
    ----------
    output : TensorVariable, shape (...)
        Of a floating type.
    wrt : list of TensorVariable
        In the graph of ``output``; one that is not has no part in it.
    tangents : list of TensorVariable
        The direction: for each of ``wrt``, of its shape.

    Returns
    -------
    TensorVariable, shape (...)
        In units of [output] [tangent] / [wrt].

    Raises
    ------
    NotImplementedError
        If an operation between has no second derivative.
    """
    cotangent = output.type("cotangent")
    bars = grad(
        (output * cotangent).sum(),
        wrt,
        disconnected_inputs="ignore",
        return_disconnected="none",
    )
    terms = [
        (bar * tangent).sum()
        for bar, tangent in zip(bars, tangents, strict=True)
        if bar is not None
    ]
    if not terms:
        return output.zeros_like()
    derivative = grad(sum(terms), cotangent, disconnected_inputs="ignore")
    # Of a linear function: any value will do. Not zero, which pullbacks of rejected points skip.
    return graph_replace([derivative], {cotangent: pt.ones_like(output)}, strict=False)[0]
