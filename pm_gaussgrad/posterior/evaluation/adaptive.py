"""A function that is interpreted at first, and compiled where going on would take longer."""

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import pytensor
from pytensor.compile.mode import get_default_mode
from pytensor.link.numba.linker import NumbaLinker

from pm_gaussgrad.posterior.evaluation import cost
from pm_gaussgrad.posterior.evaluation.interpreted import INTERPRETED
from pm_gaussgrad.posterior.evaluation.loops import Loops

# Rounds of calls of which the quicker counts: a machine may be busy.
TIMED = 2


@dataclass(frozen=True)
class Plan:
    """A way to evaluate a function: seconds until it can be called, and of a call."""

    way: str
    set_up: float
    a_call: float
    build: Callable

    def seconds(self, calls) -> float:
        """Of that many calls, with what they need beforehand."""
        return self.set_up + calls * self.a_call


class AdaptiveFunction:
    """An expression as a function, evaluated in the way that takes least for the calls to come.

    The numbers are the same up to rounding, whichever way. What numba cannot compile, or runs in
    object mode only, stays interpreted.

    Parameters
    ----------
    inputs, outputs : list of TensorVariable
    compile_kwargs : dict, optional
        For ``pytensor.function``, once and for all; nothing is timed.
    again : bool
        Whether as many calls are to be expected as there were, beside those announced.

    Attributes
    ----------
    way : str
        How it is evaluated: "interpreted"; "loops", where elementwise operations on large arrays
        are compiled; "compiled"; or "given", by ``compile_kwargs``.
    """

    def __init__(self, inputs, outputs, compile_kwargs=None, again=False):
        self._inputs, self._outputs, self._again = inputs, outputs, again
        options = {"mode": INTERPRETED, "on_unused_input": "ignore", **(compile_kwargs or {})}
        self._function = pytensor.function(inputs, outputs, **options)
        self._called, self._last, self._a_round = 0, 0, 1
        self._timed, self._nodes, self._plans = [], None, None
        self.way = "given" if compile_kwargs else "interpreted"
        self._deciding = not compile_kwargs and compiles_by_default()

    def announce(self, rounds, calls=1):
        """Say how many rounds are to come, of how many calls each, which may differ in size."""
        self._last, self._a_round = self._called + rounds * calls, calls

    def __call__(self, *values):
        # What compiles or loads kernels is the first round.
        if self._deciding and self._called >= self._a_round:
            outputs = self._deciding_call(values)
        else:
            outputs = self._function(*values)
        self._called += 1
        return outputs

    def _deciding_call(self, values):
        if len(self._timed) < TIMED * self._a_round:
            outputs, nodes = cost.timed_call(self._function, values)
            self._timed.append(nodes)
            return outputs
        if self._nodes is None:
            self._nodes = cost.summary(self._timed, TIMED)
        to_come = self._last - self._called
        if self._again:
            to_come = max(to_come, self._called)
        while (plan := self._best(to_come)) is not None:
            try:
                with _compiling():
                    function = plan.build()
                    outputs = function(*values)
            except Exception:
                # What has no compiled form; an error of the expression itself is raised below.
                self._plans.remove(plan)
                continue
            self._function, self.way, self._deciding = function, plan.way, False
            return outputs
        return self._function(*values)

    def _best(self, calls):
        """The plan that takes least for these calls; None where that is to go on."""
        now = Plan("interpreted", 0.0, cost.interpreted(self._nodes), None)
        if now.seconds(calls) < cost.LEAST:
            return None
        if self._plans is None:
            self._plans = self._found_plans(self._nodes)
        best = min(self._plans, key=lambda plan: plan.seconds(calls), default=now)
        return best if best.seconds(calls) < cost.WORTH * now.seconds(calls) else None

    def _found_plans(self, nodes):
        with _compiling():
            loops = Loops(self._function, {x.node for x in nodes if x.is_large_loop})
        fused = [x for x in nodes if x.node in loops.fused]
        return [
            Plan("loops", *cost.of_loops(nodes, fused, loops.sizes), self._build(loops)),
            Plan("compiled", *cost.of_whole(nodes), self._whole),
        ]

    def _whole(self):
        return pytensor.function(self._inputs, self._outputs, on_unused_input="ignore")

    def _build(self, loops):
        return lambda: loops.compile(self._inputs)


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
