"""Expressions with variables in the place of others."""

from pytensor.graph.traversal import toposort


def substitute(outputs, replaced):
    """Expressions with variables in the place of others; what does not depend on these is shared.

    Parameters
    ----------
    outputs : list of Variable
    replaced : dict of Variable to Variable
    """
    new = dict(replaced)
    for node in toposort(outputs, blockers=[*replaced]):
        if any(x in new for x in node.inputs) and not any(x in replaced for x in node.outputs):
            copy = node.clone_with_new_inputs([new.get(x, x) for x in node.inputs])
            new |= dict(zip(node.outputs, copy.outputs, strict=True))
            for old, x in zip(node.outputs, copy.outputs, strict=True):
                x.name = old.name
    return [new.get(x, x) for x in outputs]
