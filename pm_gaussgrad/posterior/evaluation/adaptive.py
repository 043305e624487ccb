"""A function of draws, evaluated in the way that takes least time for as many as there are."""

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytensor
from pytensor.compile.mode import get_default_mode
from pytensor.link.numba.linker import NumbaLinker

from pm_gaussgrad.posterior.evaluation import cost
from pm_gaussgrad.posterior.evaluation.blocks import Blocks
from pm_gaussgrad.posterior.evaluation.interpreted import INTERPRETED
from pm_gaussgrad.posterior.evaluation.loops import Loops

# Rounds of calls of which the quicker counts: a machine may be busy.
TIMED = 2


@dataclass(frozen=True)
class Plan:
    """A way to evaluate a function: seconds until it can be called, and of a call.

    What ``build`` returns has as first argument a number of draws, if these are ``at_once``.
    """

    way: str
    set_up: float
    a_call: float
    build: Callable
    at_once: int = 1

    def seconds(self, calls) -> float:
        """Of that many calls, with what they need beforehand."""
        return self.set_up + calls * self.a_call


class AdaptiveFunction:
    """An expression as a function of draws, evaluated in the way that takes least for all of them.

    The numbers are the same up to rounding, whichever way. What numba cannot compile, or runs in
    object mode only, stays interpreted.

    Parameters
    ----------
    inputs, outputs : list of TensorVariable
    compile_kwargs : dict, optional
        For ``pytensor.function``, once and for all; nothing is timed.
    again : bool
        Whether as many draws are to be expected as there were, beside those announced.
    fixed : int
        As many of the inputs, the last ones, do not differ between draws.

    Attributes
    ----------
    way : str
        How it is evaluated: "interpreted"; "blocks", several draws in a call; "loops", where
        elementwise operations on large arrays are compiled; "compiled"; or "given", by
        ``compile_kwargs``.
    """

    def __init__(self, inputs, outputs, compile_kwargs=None, again=False, fixed=0):
        self._inputs, self._outputs, self._again = inputs, outputs, again
        self._varying = len(inputs) - fixed
        options = {"mode": INTERPRETED, "on_unused_input": "ignore", **(compile_kwargs or {})}
        self._own = pytensor.function(inputs, outputs, **options)
        self._given = bool(compile_kwargs)
        self._rounds, self._timed, self._nodes, self._plans = 0, [], None, {}
        self._plan = self._function = None

    @property
    def way(self) -> str:
        if self._plan is None:
            return "given" if self._given else "interpreted"
        return self._plan.way

    def over(self, count, values, fixed=((),)):
        """Evaluate at each of some draws.

        Parameters
        ----------
        count : int
            Number of draws.
        values : callable
            Of two integers: those of the inputs for the draws from the first to that before the
            second, a list of arrays, draws first. Asked for in their order, each once.
        fixed : sequence of tuple
            Those of the other inputs. The outputs for each of these are joined along their last
            dimension.

        Yields
        ------
        list of array
            The outputs at a draw.
        """
        done = 0
        while done < count:
            self._choose(count - done, len(fixed))
            size = 1 if self._plan is None else min(self._plan.at_once, count - done)
            draws = values(done, done + size)
            found = self._by_plan(draws, size, fixed)
            yield from self._by_own(draws, size, fixed) if found is None else found
            done += size

    def _by_own(self, draws, size, fixed):
        """As the function was made; timed where that is to be found out."""
        for i in range(size):
            point = [x[i] for x in draws]
            # What compiles or loads kernels is the first round.
            is_timed = not self._given and 0 < self._rounds <= TIMED
            outputs = _joined([self._call(is_timed, [*point, *more]) for more in fixed])
            self._rounds += 1
            yield outputs

    def _call(self, is_timed, values):
        if not is_timed:
            return self._own(*values)
        outputs, nodes = cost.timed_call(self._own, values)
        self._timed.append(nodes)
        return outputs

    def _by_plan(self, draws, size, fixed):
        """As planned; None where there is no plan, or it fails."""
        if self._plan is None:
            return None
        try:
            if self._function is not None:
                return self._planned(draws, size, fixed)
            with _compiling():
                self._function = self._plan.build()
                return self._planned(draws, size, fixed)
        except Exception:
            # What has no compiled form; an error of the expression itself is raised by its own.
            self._plans[self._plan.way] = self._plan = self._function = None
            return None

    def _planned(self, draws, size, fixed):
        if self._plan.at_once == 1:
            return [_joined([self._function(*(x[0] for x in draws), *more) for more in fixed])]
        outputs = _joined([self._function(size, *draws, *more) for more in fixed])
        return [[x[i] for x in outputs] for i in range(size)]

    def _choose(self, rounds, calls):
        """Plan what takes least for so many more rounds, of so many calls each, where that pays."""
        if self._given or self._plan is not None or self._rounds <= TIMED:
            return
        if self._nodes is None:
            self._nodes = cost.summary(self._timed, TIMED)
        calls *= max(rounds, self._rounds) if self._again else rounds
        now = calls * cost.interpreted(self._nodes)
        best = min(self._possible(now), key=lambda plan: plan.seconds(calls), default=None)
        if best is not None and best.seconds(calls) < cost.WORTH * now:
            self._plan = best

    def _possible(self, seconds):
        """Plans to do better than in so many seconds."""
        if seconds >= cost.LEAST_FOR_BLOCKS and "blocks" not in self._plans:
            self._plans["blocks"] = self._in_blocks()
        if seconds >= cost.LEAST and "loops" not in self._plans and compiles_by_default():
            self._plans["loops"] = self._with_loops()
            self._plans["compiled"] = Plan("compiled", *cost.of_whole(self._nodes), self._whole)
        return [plan for plan in self._plans.values() if plan is not None]

    def _in_blocks(self):
        blocks, at_once = Blocks(self._own, self._varying), cost.at_once(self._nodes)
        if at_once == 1:
            return None
        together = [x for x in self._nodes if x.node in blocks.together]
        expected = cost.of_blocks(self._nodes, together, at_once)
        return Plan("blocks", *expected, blocks.compile, at_once)

    def _with_loops(self):
        with _compiling():
            loops = Loops(self._own, {x.node for x in self._nodes if x.is_large_loop})
        fused = [x for x in self._nodes if x.node in loops.fused]
        expected = cost.of_loops(self._nodes, fused, loops.sizes)
        return Plan("loops", *expected, lambda: loops.compile(self._inputs))

    def _whole(self):
        return pytensor.function(self._inputs, self._outputs, on_unused_input="ignore")


def compiles_by_default() -> bool:
    """Whether functions are compiled by numba unless asked otherwise."""
    from numba import config

    return isinstance(get_default_mode().linker, NumbaLinker) and not config.DISABLE_JIT


@contextmanager
def _compiling():
    """Without a word, but for object mode, which is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", "Numba will use object mode")
        yield


def _joined(parts):
    """The outputs for several pieces, each joined along its last dimension."""
    if len(parts) == 1:
        return parts[0]
    return [np.concatenate(values, axis=-1) for values in zip(*parts, strict=True)]
