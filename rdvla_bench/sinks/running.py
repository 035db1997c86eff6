"""The numbers of a run so far, suite by suite, as a tracker draws them against the episodes done."""

from __future__ import annotations

from dataclasses import dataclass

from rdvla_bench.record import Record
from rdvla_bench.types import Outcome


@dataclass
class _Sums:
    done: int = 0
    errors: int = 0
    successes: int = 0
    queries: int = 0
    depth: int = 0
    model_s: float = 0.0
    timed: int = 0  # queries with a model time
    chains: int = 0
    solved: int = 0


class Running:
    """Means over the episodes so far.

    As on a board, an ERROR is counted apart and enters no mean; depth and model time are means over queries. An
    episode that is played again replaces what it was before.
    """

    def __init__(self) -> None:
        """Begin with no episode."""
        self._sums: dict[str, _Sums] = {}
        self._seen: dict[str, Record] = {}

    @property
    def n_done(self) -> int:
        """Return the number of episodes so far."""
        return len(self._seen)

    def add(self, record: Record) -> dict[str, float]:
        """Count ``record``; return the values of its suite, such as ``libero_goal/rate``. Unknown ones are left out."""
        suite = record.episode.suite
        sums = self._sums.setdefault(suite, _Sums())
        before = self._seen.get(record.episode.id)
        if before is not None:
            _count(sums, before, -1)
        _count(sums, record, 1)
        self._seen[record.episode.id] = record
        return {f"{suite}/{name}": value for name, value in _values(sums).items()}


def _count(sums: _Sums, record: Record, sign: int) -> None:
    result = record.result
    sums.done += sign
    if result.outcome is Outcome.ERROR:
        sums.errors += sign
        return
    sums.successes += sign * (result.outcome is Outcome.SUCCESS)
    sums.queries += sign * len(result.depths)
    sums.depth += sign * sum(result.depths)
    sums.model_s += sign * sum(record.execution.model_s)
    sums.timed += sign * len(record.execution.model_s)
    if result.solved is not None:
        sums.chains += sign
        sums.solved += sign * result.solved


def _values(sums: _Sums) -> dict[str, float]:
    values = {"done": float(sums.done), "errors": float(sums.errors)}
    if sums.done > sums.errors:
        values["rate"] = sums.successes / (sums.done - sums.errors)
    if sums.depth:
        values["depth"] = sums.depth / sums.queries
    if sums.timed:
        values["model_ms"] = 1e3 * sums.model_s / sums.timed
    if sums.chains:
        values["chain_length"] = sums.solved / sums.chains
    return values
