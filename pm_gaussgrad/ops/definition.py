"""The pullback of an Op by a symbolic definition of what it computes."""

from pytensor.gradient import DisconnectedType, grad
from pytensor.graph.replace import graph_replace
from pytensor.tensor.basic import tensor_copy


def is_disconnected(cotangent) -> bool:
    """Whether nothing flows back through an output."""
    return isinstance(cotangent.type, DisconnectedType)


def pullback_by_definition(definition, inputs, cotangents, wrt):
    """Cotangents of some inputs, by PyTensor's gradient of a definition.

    Parameters
    ----------
    definition : callable
        ``definition(*inputs) -> list of outputs``, in PyTensor's operations or others.
    inputs : sequence of TensorVariable
        Of the Op.
    cotangents : sequence of Variable
        Of the outputs of the definition.
    wrt : sequence of int
        Positions of the inputs that are differentiated.

    Returns
    -------
    list of Variable
        Of a ``DisconnectedType`` where nothing flows back to an input.
    """
    # On copies: one input may be computed from another, to which only its own share must flow.
    copies = [x.type() for x in inputs]
    flowing = [
        (output, bar, bar.type())
        for output, bar in zip(definition(*copies), cotangents, strict=True)
        if not is_disconnected(bar)
    ]
    gradients = grad(
        None,
        wrt=[copies[i] for i in wrt],
        # Of copies: where one output is computed from another, what is known of this is a part.
        known_grads={tensor_copy(output): copy for output, _, copy in flowing},
        disconnected_inputs="ignore",
        return_disconnected="disconnected",
    )
    # The inputs themselves take the place of their copies. Clones of them would not be found by a
    # derivative with respect to an input that is itself computed, which would then be zero.
    given = dict(zip(copies, inputs, strict=True)) | {copy: bar for _, bar, copy in flowing}
    connected = [x for x in gradients if not is_disconnected(x)]
    written = iter(graph_replace(connected, given, strict=False) if connected else [])
    return [x if is_disconnected(x) else next(written) for x in gradients]
