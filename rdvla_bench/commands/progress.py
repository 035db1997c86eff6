"""What a run shows while it goes: a live table on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from rdvla_bench.record import Record
from rdvla_bench.types import Outcome

LINE_EVERY_S = 30.0
"""How often a log gets a line."""


@dataclass
class Tally:
    """One suite so far."""

    planned: int
    done: int = 0
    successes: int = 0
    errors: int = 0
    solved: int = 0  # instructions of chains
    is_chain: bool = False

    def add(self, record: Record) -> None:
        """Count one episode."""
        self.done += 1
        self.successes += record.result.outcome is Outcome.SUCCESS
        self.errors += record.result.outcome is Outcome.ERROR
        if record.result.solved is not None and record.result.outcome is not Outcome.ERROR:
            self.is_chain, self.solved = True, self.solved + record.result.solved


Interval = Callable[[int, int], tuple[float, float]]


class _Tallies:
    def __init__(self, planned: Mapping[str, int], interval: Interval) -> None:
        self.tallies = {suite: Tally(n) for suite, n in planned.items()}
        self._interval = interval
        self._begun = time.monotonic()
        self._fresh = 0  # episodes of this session, for the ETA

    def count(self, record: Record, *, fresh: bool, of: str) -> str:
        """Count one episode and return its row; one of an earlier session says nothing about speed."""
        self._fresh += fresh
        row = f"{of} {record.episode.suite}".strip()
        self.tallies[row].add(record)
        return row

    def rate(self, tally: Tally) -> str:
        """Return ``"success 92.0 % [81.2, 96.8]"``; errors are left out, not counted as failures."""
        played = tally.done - tally.errors
        if not played:
            return "-"
        if tally.is_chain:
            return f"average chain length {tally.solved / played:.2f}"
        low, high = self._interval(tally.successes, played)
        return f"success {100 * tally.successes / played:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"

    def eta(self) -> str:
        """Return the time left at this session's speed."""
        left = sum(t.planned - t.done for t in self.tallies.values())
        if not left:
            return "done"
        if not self._fresh:
            return "?"
        seconds = int(left * (time.monotonic() - self._begun) / self._fresh)
        hours, rest = divmod(seconds, 3600)
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


class LiveProgress:
    """A table that is redrawn in place."""

    def __init__(self, console: Console, planned: Mapping[str, int], interval: Interval) -> None:
        """Prepare the table."""
        self._all = _Tallies(planned, interval)
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=4, transient=True)

    def _table(self) -> Table:
        table = Table(
            "suite", "done", "result [95 %]", "errors", title=f"time left {self._all.eta()}", title_justify="left"
        )
        for suite, tally in self._all.tallies.items():
            errors = f"[bold red]{tally.errors}[/]" if tally.errors else "0"
            table.add_row(suite, f"{tally.done}/{tally.planned}", self._all.rate(tally), errors)
        return table

    def add(self, record: Record, *, fresh: bool = True, of: str = "") -> None:
        """Take note of one finished episode, ``of`` a run of a sweep."""
        self._all.count(record, fresh=fresh, of=of)

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self._live.console.print(text, highlight=False)

    def __enter__(self) -> Self:
        """Show the table."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the table."""
        self._live.stop()


class LineProgress:
    """A line now and then, for logs."""

    def __init__(self, planned: Mapping[str, int], interval: Interval) -> None:
        """Prepare; the first line comes with the first episode."""
        self._all = _Tallies(planned, interval)
        self._last = float("-inf")

    def add(self, record: Record, *, fresh: bool = True, of: str = "") -> None:
        """Take note of one finished episode, ``of`` a run of a sweep; print a line if one is due or a suite is done."""
        row = self._all.count(record, fresh=fresh, of=of)
        tally = self._all.tallies[row]
        if fresh and (time.monotonic() - self._last >= LINE_EVERY_S or tally.done == tally.planned):
            self._last = time.monotonic()
            self.say(
                f"{row}: {tally.done}/{tally.planned} episodes, {self._all.rate(tally)}, "
                f"{tally.errors} errors, time left {self._all.eta()}"
            )

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, flush=True)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        sys.stdout.flush()


def make_progress(planned: Mapping[str, int], interval: Interval) -> LiveProgress | LineProgress:
    """Return the live table on a terminal, lines elsewhere."""
    console = Console()
    return LiveProgress(console, planned, interval) if console.is_terminal else LineProgress(planned, interval)
