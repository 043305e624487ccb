"""Measurements: agreement, time, peak memory, compile time."""

import ctypes
import multiprocessing
import os
import shutil
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pymc as pm
import pytensor

from benchmarks.case import At, Case

SECONDS_A_REPETITION = 0.01  # calls are repeated until a repetition takes as long
SECONDS_A_SIZE = 5.0
REPETITIONS = (9, 41)


@dataclass(frozen=True)
class Measured:
    """One size of one case: median seconds a call, and peak memory in bytes where it is known."""

    at: At
    ours: float
    peer: float | None
    floor: float | None
    memory: int | None
    peer_memory: int | None

    @property
    def ratio(self) -> float | None:
        """How many times as long the peer takes."""
        return None if self.peer is None else self.peer / self.ours

    @property
    def floor_ratio(self) -> float | None:
        """How many times the floor we take."""
        return None if self.floor is None else self.ours / self.floor


@dataclass
class Result:
    """All sizes of one case."""

    case: Case
    sizes: list[Measured] = field(default_factory=list)

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Sizes (those that vary: n or rows) and times of ``ours``, ``peer`` or ``floor``."""
        variable = "n" if len({at.n for at in self.case.sizes}) > 1 else "rows"
        points = [(getattr(s.at, variable), getattr(s, name)) for s in self.sizes]
        points = [(size, seconds) for size, seconds in points if seconds is not None]
        sizes, seconds = np.array(points, dtype=float).reshape(-1, 2).T
        return sizes, seconds

    def exponent(self, name: str) -> float | None:
        """Slope of log time against log size.

        Over the two decades of size below the largest where the case states an exponent, else
        over the three largest sizes.
        """
        sizes, seconds = self.curve(name)
        if len(sizes) < 2:
            return None
        used = slice(-3, None) if self.case.exponent is None else sizes >= 0.0099 * sizes[-1]
        return float(np.polyfit(np.log(sizes[used]), np.log(seconds[used]), 1)[0])

    @property
    def scales_as_stated(self) -> bool:
        """Whether the measured exponent is within 0.3 of the stated one, if there is one."""
        stated, found = self.case.exponent, self.exponent("ours")
        # The sizes of a quick run are too small to tell.
        told = stated is not None and len(self.sizes) == len(self.case.sizes)
        return not told or abs(found - stated) <= 0.3


def check_agreement(case: Case, at: At, ours, peer) -> None:
    """Raise unless value and gradients agree: a wrong fast answer is an error."""
    names = ["value", *(f"gradient {i}" for i in range(1, len(ours)))]
    if len(ours) != len(peer):
        raise ArithmeticError(f"{case.name}: {len(ours)} results of ours, {len(peer)} of the peer.")
    for name, a, b in zip(names, ours, peer, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        rtol = case.value_rtol if name == "value" else case.gradient_rtol
        # Entries that cancel to nearly nothing are judged by the largest of their array.
        allowed = rtol * (np.abs(b) + 1e-2 * np.abs(b).max())
        if a.shape != b.shape or not np.isfinite(b).all() or (np.abs(a - b) > allowed).any():
            raise ArithmeticError(
                f"{case.name}, n = {at.n}, rows = {at.rows}: the {name} differs from that of "
                f"{case.peer} by {np.max(np.abs(a - b)):.3g}, allowed {np.min(allowed):.3g}."
            )


def medians(calls: list, quick: bool) -> list[float]:
    """Median seconds of each of several calls; their repetitions take turns."""
    loops = []
    for call in calls:
        start = time.perf_counter()
        call()
        once = time.perf_counter() - start
        loops.append(max(1, round(SECONDS_A_REPETITION / once)))
    seconds = [[] for _ in calls]
    least, most = (3, 5) if quick else REPETITIONS
    begun = time.perf_counter()
    while len(seconds[0]) < least or (
        len(seconds[0]) < most and time.perf_counter() - begun < SECONDS_A_SIZE
    ):
        for call, n_loops, times in zip(calls, loops, seconds, strict=True):
            start = time.perf_counter()
            for _ in range(n_loops):
                call()
            times.append((time.perf_counter() - start) / n_loops)
    return [float(np.median(times)) for times in seconds]


def _status(field_name: str) -> int:
    """Read a field of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field_name}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {field_name}")


def peak_memory(call) -> int | None:
    """Bytes by which one call raises the resident memory at its peak; None where unknown."""
    try:
        # Memory that earlier calls freed but malloc kept would hide what this one needs.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak becomes the present size
        before = _status("VmRSS")
        call()
        return max(0, _status("VmHWM") - before)
    except (OSError, AttributeError):
        return None


def run_size(case: Case, at: At, quick: bool) -> Measured:
    """Compile, compare and measure one size."""
    problem = case.build(at.n, at.rows)
    functions = [problem.ours(), *([problem.peer()] if at.peer else [])]
    calls = [partial(function, *problem.arguments) for function in functions]
    if at.peer:
        check_agreement(case, at, *(call() for call in calls))
    n_answers = len(calls)
    if problem.floor is not None:
        calls.append(problem.floor())
    for call in calls:
        call()
    seconds = medians(calls, quick)
    memory = [peak_memory(call) for call in calls[:n_answers]]
    floor = seconds.pop() if problem.floor is not None else None
    return Measured(
        at=at,
        ours=seconds[0],
        peer=seconds[1] if at.peer else None,
        floor=floor,
        memory=memory[0],
        peer_memory=memory[1] if at.peer else None,
    )


def run_case(case: Case, quick: bool) -> Result:
    """Measure all sizes of a case, or the two smallest."""
    result = Result(case)
    for at in case.sizes[:2] if quick else case.sizes:
        result.sizes.append(run_size(case, at, quick))
    return result


def _compile_cold(case: Case, side: str, seconds) -> None:
    """In a child: time the building of the graph, its compilation and the first call."""
    at = case.sizes[0]
    problem = case.build(at.n, at.rows)
    start = time.perf_counter()
    function = getattr(problem, side)()
    function(*problem.arguments)
    seconds.value = time.perf_counter() - start


def compile_seconds(case: Case) -> tuple[float, float] | None:
    """Seconds to the first result of ours and of the peer, without any cache.

    Each is compiled in a fork of this process, which has imported everything, has compiled
    nothing of the case and is left as it was; the cache on disk is emptied before. None where
    the system cannot fork.
    """
    if not hasattr(os, "fork"):
        return None
    _warm_up()
    context = multiprocessing.get_context("fork")
    answer = []
    cache = Path(pytensor.config.base_compiledir) / "numba"
    kept = cache.with_name("kept")
    c_modules = Path(pytensor.config.compiledir)
    loaded = set(c_modules.glob("tmp*"))
    for side in ("ours", "peer"):
        shutil.copytree(cache, kept, dirs_exist_ok=True)
        for entry in cache.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        seconds = context.Value("d", np.nan)
        child = context.Process(target=_compile_cold, args=(case, side, seconds))
        child.start()
        child.join()
        for entry in set(c_modules.glob("tmp*")) - loaded:
            shutil.rmtree(entry)
        answer.append(seconds.value)
    shutil.copytree(kept, cache, dirs_exist_ok=True)  # the timings need not compile again
    return tuple(answer)


def _warm_up() -> None:
    """Do once what a process does at its first compilation, whatever it compiles."""
    pytensor.config.blas__ldflags  # noqa: B018  (a search with a C compiler)
    with pm.Model() as model:
        pm.Normal("x")
    model.logp_dlogp_function(ravel_inputs=True)(np.zeros(1))
