"""Chooses the episodes of a suite that are filmed: by rule, never by eye."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from rdvla_bench.record import Record
from rdvla_bench.types import Outcome


class Shown(StrEnum):
    """What an episode is shown as."""

    SUCCESS = "success"
    LONGEST = "longest chain"  # in the place of a success that there is not
    FAILURE = "failure"


@dataclass(frozen=True)
class Choice:
    """What is filmed of one suite, and of how many episodes it was taken."""

    suite: str
    n_instructions: int  # an episode; above 1 it is a chain
    n_asked: int  # of successes, and of failures
    n_episodes: int  # errors left out
    n_successes: int
    n_errors: int
    shown: tuple[tuple[Shown, Record], ...]  # successes, longest chains, failures

    def count(self, shown: Shown) -> int:
        """Return how many episodes are shown as ``shown``."""
        return sum(kind is shown for kind, _ in self.shown)


def choose(
    suite: str, records: Iterable[Record], n: int, *, n_instructions: int = 1, is_spread: bool = False
) -> Choice:
    """Return the first ``n`` successes and the first ``n`` failures of ``suite`` in the order of the plan.

    A success of a chain is all its instructions; where there are fewer than ``n`` such chains, the longest others
    stand in. With ``is_spread`` one episode of every task comes before a second of any. An ERROR is never shown.
    """
    mine = sorted((r for r in records if r.episode.suite == suite), key=_place)
    successes = [r for r in mine if r.result.outcome is Outcome.SUCCESS]
    failures = [r for r in mine if r.result.outcome is Outcome.TIMEOUT]
    chosen = (_spread(successes) if is_spread else successes)[:n]
    far = sorted((r for r in failures if r.result.solved), key=lambda r: -(r.result.solved or 0))
    longest = far[: n - len(chosen)]
    others = [r for r in failures if r not in longest]
    failed = (_spread(others) if is_spread else others)[:n]
    return Choice(
        suite,
        n_instructions,
        n,
        n_episodes=len(successes) + len(failures),
        n_successes=len(successes),
        n_errors=len(mine) - len(successes) - len(failures),
        shown=(
            *((Shown.SUCCESS, r) for r in chosen),
            *((Shown.LONGEST, r) for r in longest),
            *((Shown.FAILURE, r) for r in failed),
        ),
    )


def _place(record: Record) -> tuple[int, int, int]:
    """Return an episode's place in its suite's plan, whatever the order in which workers ended."""
    return record.episode.task, record.episode.repetition, record.episode.start


def _spread(records: list[Record]) -> list[Record]:
    """Return the first of every task, then the second of every task, and so on."""
    seen: Counter[int] = Counter()
    turns = []
    for record in records:
        turns.append((seen[record.episode.task], record))
        seen[record.episode.task] += 1
    return [record for _, record in sorted(turns, key=lambda turn: turn[0])]
