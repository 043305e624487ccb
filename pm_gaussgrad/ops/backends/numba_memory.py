"""What :class:`~pm_gaussgrad.ops.remembered.Remembered` remembers in machine code; imports numba.

One table a process, of copies of data and of what became of them. Machine code compares; data that
are in no entry are handed to Python, by the address of a function that has a name in every process,
and Python, which owns the table, writes. Readers count themselves in and out by atomic operations;
a writer takes what nobody reads, or goes without. Nobody waits, so that nothing can block: at worst
a statistic is computed once more. Of a function that is gone the entries go with the next writer.
"""

import ctypes
import os
import weakref
from collections import Counter

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.core.extending import intrinsic, register_jitable

from pm_gaussgrad.ops.linked import as_argument
from pm_gaussgrad.ops.remembered import entries_for

_WORD, _WRITER = ir.IntType(64), 1 << 40
# The head of the table is its lock. An entry: a key, a state, the address of numbers, their count;
# then addresses and shapes of the data, as they are passed, and shapes of outputs.
HEAD, ENTRY, TABLE = 8, 128, 64
END = HEAD + TABLE * ENTRY
_STATE, _NUMBERS, _COUNT, _REST = 1, 2, 3, 4
REDUCED, PLAIN = 1, 2
# Instead of keys, which are large; and what is raised.
ADDRESS, KEEP, DROP = 0, 1, 2
NO_POSITION, DISAGREE = -1, 0

_NAME = "pm_gaussgrad_remembered"
evaluate = types.ExternalFunction(_NAME, types.int64(*[types.int64] * 4))
_table = np.zeros(END, np.int64)
_kept, _pending, _registered, _alive = {}, {}, {}, Counter()


def register(op, inputs) -> int:
    """The number by which compiled code names an Op, the same in every process."""
    key = int(op.key()[:15], 16) + DROP + 1
    # Of its own, as code may outlive the Op.
    _registered[key] = op.__deepcopy__({}), [(np.dtype(x.dtype), x.ndim) for x in inputs]
    _alive[key] += 1
    weakref.finalize(op, _alive.subtract, [key])
    return key


@ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)
def _evaluate(key, state, arguments, result):
    """Evaluate a registered Op: where its numbers are, how many, of what shapes; what is now known.

    For the key KEEP or DROP, write them into the table, which is locked, or forget them.
    """
    if key == ADDRESS:
        return _table.ctypes.data
    if key == DROP:
        del _pending[state]
        return DROP
    if key == KEEP:
        _write(*_pending.pop(state), arguments)
        return KEEP
    op, kinds = _registered[key]
    passed = _array(arguments, (sum(1 + ndim for _, ndim in kinds),), np.dtype("int64"))
    inputs, words = [], passed.tolist()
    for dtype, ndim in kinds:
        inputs.append(_array(words[0], words[1 : 1 + ndim], dtype).copy())
        words = words[1 + ndim :]
    try:  # of the copies, to which the results belong whatever happens to the data
        outputs = None if state == PLAIN else op.reduced(inputs)
        code, outputs = (PLAIN, op.as_is(inputs)) if outputs is None else (REDUCED, outputs)
    except IndexError:
        return NO_POSITION
    except ValueError:
        return DISAGREE
    numbers = np.concatenate([*(x.ravel().astype("float64") for x in outputs), [0.0]])
    shapes = [size for x in outputs for size in x.shape]
    found = [numbers.ctypes.data, numbers.size - 1, *shapes]
    _array(result, (len(found),), np.dtype("int64"))[:] = found
    _pending[found[0]] = key, code, inputs[: op.watched], numbers, shapes
    return code


def _array(address, shape, dtype):
    count = int(np.prod(shape, dtype=int))
    if count == 0:
        return np.empty(shape, dtype)
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return np.frombuffer(memory, dtype).reshape(shape)


def _write(key, state, data, numbers, shapes, first):
    """Write an entry over the one at ``first`` if it is of this key, or where there is room."""
    passed = [word for x in data for word in (x.ctypes.data, *x.shape)]
    entry = [key, state, numbers.ctypes.data, numbers.size, *passed, *shapes]
    if len(entry) > ENTRY:
        return
    if state != REDUCED:
        numbers = None
    for place in [place for place, (of, *_) in _kept.items() if _alive[of] <= 0]:
        _forget(place)
    own = [place for place, (of, *_) in _kept.items() if of == key]
    if first in own:
        _forget(first)
    elif len(own) >= entries_for(data):
        _forget(own[0])
    elif len(_kept) == TABLE:
        _forget(next(iter(_kept)))
    place = next(p for p in range(HEAD, END, ENTRY) if p not in _kept)
    _kept[place] = key, data, numbers
    _table[place : place + len(entry)] = entry


def _forget(place):
    _table[place : place + ENTRY] = 0
    del _kept[place]


def _unlock():
    """In a child process, where no other thread goes on."""
    _table[0] = 0


llvm.add_symbol(_NAME, ctypes.cast(_evaluate, ctypes.c_void_p).value)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


@intrinsic
def _static(typing_context):
    """The address of a word of the code's own, zero when it is loaded in any process."""

    def codegen(context, builder, signature, arguments):
        word = cgutils.add_global_variable(builder.module, _WORD, _NAME + "_table")
        word.linkage, word.initializer = "internal", ir.Constant(_WORD, 0)
        return builder.ptrtoint(word, _WORD)

    return types.int64(), codegen


@intrinsic
def _as_pointer(typing_context, address, kind):
    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(kind.dtype)(types.int64, kind), codegen


@intrinsic
def _add(typing_context, address, number):
    """Atomically; the value before."""

    def codegen(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], _WORD.as_pointer())
        return builder.atomic_rmw("add", pointer, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def _exchange(typing_context, address, number):
    """Atomically zero by the number; whether it was zero."""

    def codegen(context, builder, signature, arguments):
        pointer, zero = builder.inttoptr(arguments[0], _WORD.as_pointer()), ir.Constant(_WORD, 0)
        found = builder.cmpxchg(pointer, zero, arguments[1], "seq_cst", "seq_cst")
        return builder.extract_value(found, 1)

    return types.boolean(types.int64, types.int64), codegen


@register_jitable
def array_at(address, count, dtype):
    """So many numbers at an address, as an array."""
    return carray(_as_pointer(address, dtype), count)


@register_jitable
def table_address():
    """Where the table is, which Python says once."""
    word = array_at(_static(), 1, np.int64)
    if word[0] == 0:
        word[0] = evaluate(ADDRESS, 0, 0, 0)
    return word[0]


@register_jitable
def enter(table):
    """Whether the table may be read, until it is left."""
    if _add(table, 1) < _WRITER:
        return True
    _add(table, -1)
    return False


@register_jitable
def leave(table):
    """The converse of :func:`enter`."""
    _add(table, -1)


@register_jitable
def store(table, ticket, first):
    """Let Python write what it found into the table, unless somebody reads it."""
    if _exchange(table, _WRITER):
        evaluate(KEEP, ticket, first, 0)
        _add(table, -_WRITER)
    else:
        evaluate(DROP, ticket, 0, 0)


@register_jitable
def are_at(bits, address):
    """Whether these unsigned integers are at an address, all of them; in blocks, for SIMD."""
    there = array_at(address, bits.size, bits.dtype)
    blocks, at = bits.size // 512, bits.size - bits.size % 512
    left, right = bits[:at].reshape(blocks, 512), there[:at].reshape(blocks, 512)
    for i in range(blocks):
        different = left[i, 0] ^ right[i, 0]
        for j in range(512):
            different |= left[i, j] ^ right[i, j]
        if different != 0:
            return False
    different = left.size != right.size
    for i in range(at, bits.size):
        different |= bits[i] != there[i]
    return not different


@register_jitable
def alive(arrays):
    """Of use to arrays until here, whose addresses alone were in use; numba frees what is not."""
    return arrays[0].size


@register_jitable
def fill(out, numbers, start):
    """Copy numbers from a position on; the position behind them."""
    flat = out.reshape(out.size)
    for i in range(flat.size):
        flat[i] = numbers[start + i]
    return start + flat.size


def source_of(key: int, inputs, watched: int, outputs) -> str:
    """Python source of ``remembered``, of the types of PyTensor of inputs and outputs."""
    names, passed, conditions, at = [], [], [f"memory[first] == {key}"], _REST
    lines = []
    for i, kind in enumerate(inputs):
        name, bits = f"input_{i}", f"np.uint{np.dtype(kind.dtype).itemsize * 8}"
        names.append(name)
        shape = [f"{name}.shape[{axis}]" for axis in range(kind.ndim)]
        passed += [f"{name}.ctypes.data", *shape]
        lines.append(f"    {name} = as_argument({name})")
        if i < watched:
            lines.append(f"    bits_{i} = {name}.reshape({name}.size).view({bits})")
            conditions += [f"memory[first + {at + 1 + j}] == {x}" for j, x in enumerate(shape)]
            conditions.append(f"are_at(bits_{i}, memory[first + {at}])")
            at += 1 + kind.ndim
    count = sum(x.ndim for x in outputs)
    taken = "array_at({0}[{1}], {0}[{2}], np.float64)"
    lines += [
        "    table, state, first = table_address(), 0, 0",
        "    if enter(table):",
        f"        memory, first = array_at(table, {END}, np.int64), {HEAD}",
        f"        while first < {END} and not ({' and '.join(conditions)}):",
        f"            first += {ENTRY}",
        f"        if first < {END}:",
        f"            state = memory[first + {_STATE}]",
        f"        if state == {REDUCED}:",
        f"            shapes = memory[first + {at} : first + {at + count}]",
        f"            numbers = {taken.format('memory[first:]', _NUMBERS, _COUNT)}",
        *_outputs(outputs, "            "),
        "            leave(table)",
        f"            return ({_listed(outputs)})",
        "        leave(table)",
        f"    passed = np.array(({', '.join(passed)},), np.int64)",
        f"    result = np.empty({2 + count}, np.int64)",
        f"    code = evaluate({key}, state, passed.ctypes.data, result.ctypes.data)",
        f"    alive((passed, result, {', '.join(names)},))",
        f"    if code == {NO_POSITION}:",
        "        raise IndexError('index out of bounds: a position of a group is none')",
        f"    if code == {DISAGREE}:",
        "        raise ValueError('the sizes of the data of a log density disagree')",
        f"    shapes, numbers = result[2:], {taken.format('result', 0, 1)}",
        *_outputs(outputs, "    "),
        "    store(table, result[0], first)",
        f"    return ({_listed(outputs)})",
    ]
    return "\n".join([f"def remembered({', '.join(names)}):", *lines]) + "\n"


def _listed(outputs):
    return "".join(f"output_{i}, " for i in range(len(outputs)))


def _outputs(outputs, indent):
    """Source of outputs that are copied from ``numbers``, of ``shapes``."""
    lines, at = [f"{indent}at = 0"], 0
    for i, kind in enumerate(outputs):
        shape = "".join(f"shapes[{j}], " for j in range(at, at + kind.ndim))
        lines.append(f"{indent}output_{i} = np.empty(({shape}), np.{kind.dtype})")
        lines.append(f"{indent}at = fill(output_{i}, numbers, at)")
        at += kind.ndim
    return lines


_CALLED = (table_address, array_at, enter, leave, store, are_at, alive, fill)
KNOWN = {
    "np": np,
    "as_argument": as_argument,
    "evaluate": evaluate,
    **{function.__name__: function for function in _CALLED},
}
