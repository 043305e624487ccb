"""What a call of an interpreted function takes, node by node, and what compiling would."""

import sys
import time
from dataclasses import dataclass

import numpy as np
from pytensor.graph.basic import Apply, Constant
from pytensor.link.utils import gc_helper
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.math import Dot

# Seconds of processor time to compile, with an empty cache: a loop and each operation in it; a
# whole graph, each of its nodes, and once more for each kind of factorisation or solve, and of
# matrix product, which takes numba longest. Measured on eight functions of draws, which took 0.5 to
# 1.7 times as long as this says, and their loops 0.9 to 1.2 times.
LOOP_SECONDS, OPERATION_SECONDS = 0.8, 0.02
WHOLE_SECONDS, NODE_SECONDS, ALGEBRA_SECONDS, PRODUCT_SECONDS = 2.0, 0.12, 2.5, 22.0
# Of a call of an Op from Python.
CALL_SECONDS = 15e-6
# What remains, compiled, of the time that Python and NumPy take.
LOOP_SHARE = 0.15
# Modules whose Ops are calls of machine code, of LAPACK, of BLAS and of kernels.
LAPACK, BLAS, KERNELS = "pytensor.tensor.linalg", "pytensor.tensor.blas", "pm_gaussgrad.ops"
# Nothing is compiled for less than this, nor to save less than a tenth.
LEAST, WORTH = 1.0, 0.9
# To make a function of several draws, and each of its nodes; what takes less goes draw by draw.
BLOCK_SECONDS, BLOCK_NODE_SECONDS, LEAST_FOR_BLOCKS = 0.01, 5e-4, 0.05
# Draws at once, and entries of an array that has all of them: a megabyte, which caches hold.
MOST_DRAWS, MOST_ENTRIES = 64, 2**17
# Entries from which on a pass over memory takes longer than calling NumPy.
LARGE = 2_000

# Processor time, as that to compile: a machine may be busy. On Windows it moves in steps.
_clock = time.perf_counter if sys.platform == "win32" else time.thread_time


@dataclass
class Timed:
    """A node of a graph: seconds of processor time that it takes, and entries of its outputs."""

    node: Apply
    seconds: float
    entries: int

    @property
    def is_large_loop(self) -> bool:
        """Whether it is an elementwise operation on a large array."""
        return isinstance(self.node.op, Elemwise) and self.entries >= LARGE


def timed_call(function, values):
    """Outputs of an interpreted function, evaluated node by node, and what each node takes.

    Parameters
    ----------
    function : pytensor.compile.executor.Function
        With the Python linker.
    values : sequence
        Of its inputs.

    Returns
    -------
    outputs : list of array
    nodes : list of Timed
    """
    graph = function.maker.fgraph
    inputs = zip(graph.inputs, function.input_storage, strict=True)
    storage = {x: [container.storage[0]] for x, container in inputs}
    for x, value in zip(graph.inputs, values, strict=False):
        storage[x] = [x.type.filter(value, allow_downcast=True)]
    storage |= {x: [x.data] for x in graph.variables if isinstance(x, Constant)}
    order, nodes = graph.toposort(), []
    _, last_user = gc_helper(order)
    for node in order:
        storage |= {x: [None] for x in node.outputs}
        computed = {x: [True] for x in node.inputs} | {x: [False] for x in node.outputs}
        thunk = node.op.make_thunk(node, storage, computed, [], impl="py")
        start = _clock()
        thunk()
        seconds = _clock() - start
        nodes.append(Timed(node, seconds, sum(np.size(storage[x][0]) for x in node.outputs)))
        for x in set(node.inputs) - set(graph.outputs):
            if last_user[x] is node:
                del storage[x]
    return [storage[x][0] for x in graph.outputs], nodes


def summary(calls, rounds):
    """What each node takes in the mean of the calls of a round, the quicker one of these.

    Parameters
    ----------
    calls : list of list of Timed
        As many for each round.
    rounds : int
    """
    a_round = len(calls) // rounds
    seconds = np.array([[x.seconds for x in nodes] for nodes in calls])
    seconds = seconds.reshape(rounds, a_round, -1).mean(axis=1).min(axis=0)
    entries = np.mean([[x.entries for x in nodes] for nodes in calls], axis=0)
    nodes = [x.node for x in calls[0]]
    return [Timed(*x) for x in zip(nodes, seconds, entries, strict=True)]


def interpreted(nodes) -> float:
    """Seconds of a call as it was timed."""
    return sum(x.seconds for x in nodes)


def at_once(nodes) -> int:
    """How many draws a call is to have."""
    largest = max((x.entries for x in nodes), default=0)
    return int(min(max(MOST_ENTRIES // max(largest, 1), 1), MOST_DRAWS))


def of_blocks(nodes, together, at_once):
    """Seconds to make a function of several draws, and of each draw.

    Of the nodes that are evaluated for all draws together the call from Python is shared.
    """
    shared = sum(min(x.seconds, CALL_SECONDS) for x in together)
    set_up = BLOCK_SECONDS + BLOCK_NODE_SECONDS * len(nodes)
    return set_up, interpreted(nodes) - (1 - 1 / at_once) * shared


def of_loops(nodes, fused, sizes):
    """Seconds to compile the loops of these numbers of operations, and of a call with them."""
    saved = (1 - LOOP_SHARE) * interpreted(fused)
    return LOOP_SECONDS * len(sizes) + OPERATION_SECONDS * sum(sizes), interpreted(nodes) - saved


def of_whole(nodes):
    """Seconds to compile a whole graph, and of a call of it."""
    set_up = WHOLE_SECONDS + NODE_SECONDS * len(nodes)
    kinds = {(x.node.op, *(getattr(i.type, "ndim", None) for i in x.node.inputs)) for x in nodes}
    set_up += ALGEBRA_SECONDS * sum(_module(op).startswith(LAPACK) for op, *_ in kinds)
    set_up += PRODUCT_SECONDS * sum(_is_product(op) for op, *_ in kinds)
    return set_up, sum(_compiled_seconds(x) for x in nodes)


def _module(op) -> str:
    return type(op).__module__


def _is_product(op) -> bool:
    return isinstance(op, Dot) or _module(op).startswith(BLAS)


def _compiled_seconds(timed) -> float:
    """What a node takes in compiled code: machine code as before, without its call from Python."""
    op = timed.node.op
    if _is_product(op) or _module(op).startswith((LAPACK, KERNELS)):
        return max(0.0, timed.seconds - CALL_SECONDS)
    return timed.seconds * LOOP_SHARE
