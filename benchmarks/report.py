"""The table, and the bars that were missed."""

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Measured, Result

WIDTH = 150
COLUMNS = (
    "case", "n", "rows", "ours ms", "peer", "peer ms", "peer / ours", "ours / floor",
    "peak MB", "compile s", "exponent",
)  # fmt: skip


def _number(value: float | None, digits: int = 3) -> str:
    """Format a number with so many significant digits, never in scientific notation."""
    if value is None:
        return ""
    decimals = max(0, digits - len(str(int(abs(value))))) if abs(value) >= 1 else digits
    return f"{value:.{decimals}f}"


def _judged(value: float | None, bar: float | None, met: bool) -> str:
    """Format a ratio beside its bar, green where it is met."""
    if value is None or bar is None:
        return _number(value)
    colour = "green" if met else "red"
    return f"[{colour}]{_number(value)}[/] ({bar:g})"


def _meets(measured: Measured) -> tuple[bool, bool]:
    """Whether the bar and the floor bar are met; true where there is none."""
    at, ratio, above = measured.at, measured.ratio, measured.floor_ratio
    return (
        at.bar is None or ratio is None or ratio >= at.bar,
        at.floor_bar is None or above is None or above <= at.floor_bar,
    )


def _pair(ours, peer, digits: int = 2) -> str:
    """Ours and, in brackets, the peer's."""
    if ours is None:
        return ""
    return (
        _number(ours, digits)
        if peer is None
        else (f"{_number(ours, digits)} [dim]({_number(peer, digits)})[/]")
    )


def _megabytes(measured: Measured) -> str:
    ours, peer = (
        None if bytes_ is None else bytes_ / 1e6
        for bytes_ in (measured.memory, measured.peer_memory)
    )
    return _pair(ours, peer)


def _exponent(result: Result) -> str:
    """Beside the stated one, or beside the peer's where none is stated."""
    found, stated = result.exponent("ours"), result.case.exponent
    if stated is not None and found is not None:
        colour = "green" if result.scales_as_stated else "red"
        return f"[{colour}]{found:.2f}[/] ({stated:g})"
    return _pair(found, result.exponent("peer"))


def table(results: list[Result], compile_seconds: dict) -> Table:
    """One line a size; what belongs to the whole case is on its first line."""
    table = Table(*COLUMNS[:1], title="Value and gradient, medians, one thread")
    for name in COLUMNS[1:]:
        table.add_column(name, justify="left" if name == "peer" else "right", no_wrap=True)
    for result in results:
        case = result.case
        once = [
            _pair(*(compile_seconds.get(case.name) or (None, None))),
            _exponent(result),
        ]
        for i, measured in enumerate(result.sizes):
            at, (fast, near) = measured.at, _meets(measured)
            table.add_row(
                "" if i else case.name,
                f"{at.n:,}",
                f"{at.rows:,}",
                _number(1e3 * measured.ours),
                "" if i else case.peer,
                "" if measured.peer is None else _number(1e3 * measured.peer),
                _judged(measured.ratio, at.bar, fast),
                _judged(measured.floor_ratio, at.floor_bar, near),
                _megabytes(measured),
                *(["", ""] if i else once),
                end_section=i == len(result.sizes) - 1,
            )
    return table


def progress(result: Result) -> None:
    """One line a finished case."""
    Console(stderr=True).print(f"{result.case.name}: {len(result.sizes)} sizes", highlight=False)


def print_table(results: list[Result], compile_seconds: dict) -> None:
    """Print the table, its legend and a line a missed bar."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table(results, compile_seconds))
    console.print(
        "Ratios beside their bars: peer / ours at least, ours / floor at most. Peak memory, compile"
        " time and exponent: ours, the peer's in brackets, or the exponent that the structure has.",
        highlight=False,
    )
    judged = [(result, measured) for result in results for measured in result.sizes]
    missed = [(r.case.name, m.at) for r, m in judged if not all(_meets(m))]
    for name, at in missed:
        console.print(f"[red]missed[/]: {name}, n = {at.n}, rows = {at.rows}", highlight=False)
    astray = [r.case.name for r in results if not r.scales_as_stated]
    for name in astray:
        console.print(f"[red]missed[/]: {name}, exponent", highlight=False)
    if not missed and not astray:
        console.print("All bars met.")
