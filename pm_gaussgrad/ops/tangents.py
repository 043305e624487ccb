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
from pytensor.graph.basic import Constant
from pytensor.graph.replace import graph_replace, vectorize_graph


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


def forward_by_definition(definition, inputs, tangents):
    """Derivatives of several tensors in p directions of what they are defined by.

    Parameters
    ----------
    definition : callable
        ``definition(*inputs) -> list of outputs``.
    inputs : sequence of TensorVariable
        Each an argument by itself, also where one is computed from another.
    tangents : sequence of TensorVariable, each of shape (p, *shape); or None
        The directions; None where an input is held fixed.

    Returns
    -------
    list of TensorVariable, each of shape (p, *shape of the output)
    """
    free = [
        dx is not None and not isinstance(x, Constant)
        for x, dx in zip(inputs, tangents, strict=True)
    ]
    copies = [x.type() if moves else x for x, moves in zip(inputs, free, strict=True)]
    given = {copy: x for copy, x, moves in zip(copies, inputs, free, strict=True) if moves}
    moves = {copy: dx for copy, dx in zip(copies, tangents, strict=True) if copy in given}
    p, result = next(iter(moves.values())).shape[0], []
    for output in definition(*copies):
        if output in moves:
            result.append(moves[output])
            continue
        seeds = {copy: copy.type() for copy in moves}
        one = forward_derivative(output, list(moves), list(seeds.values()))
        several = vectorize_graph(one, {seeds[copy]: dx for copy, dx in moves.items()})
        if several.type.ndim == output.type.ndim:  # no direction is in it
            several = pt.broadcast_to(several, (p, *tuple(output.shape)))
        [several] = graph_replace([several], given, strict=False)
        result.append(several)
    return result
