"""Several runs side by side: which may share a table, and which of those may be ranked.

Non-obvious:
- Runs share a table only under one protocol card (name and hash), on one suite, with the same tasks and the same
  number of episodes a task. Anything else would rank the tasks, not the policies.
- A run with errors, missing episodes or mixed appearances, and a privileged policy, stand in the table without a rank.
- Ranks follow the rate, or the average chain length, alone; whether a difference is more than chance is not said here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rdvla_bench.leaderboards.board import Board, Cost, Score


@dataclass(frozen=True)
class Entry:
    """One run on one suite."""

    run: str  # as the user named its folder
    board: Board
    score: Score
    cost: Cost

    @property
    def standing(self) -> str:
        """Return why this entry has no rank, "" if it has one."""
        return self.board.standing(self.score)

    @property
    def value(self) -> float | None:
        """Return what is ranked: the average chain length, or the rate of a suite of single tasks."""
        return self.score.chain.length if self.score.chain else self.score.rate


@dataclass(frozen=True)
class Group:
    """Entries that may share a table, the best rate first, unranked ones last."""

    protocol: str
    protocol_hash: str
    suite: str
    tasks: tuple[int, ...]
    n_episodes: int  # a task
    entries: tuple[Entry, ...]

    @property
    def title(self) -> str:
        """Return what the entries have in common."""
        which = f"task {self.tasks[0]}" if len(self.tasks) == 1 else f"tasks {_ranges(self.tasks)}"
        return f"{self.suite}, {which}, {self.n_episodes} episodes a task, {self.protocol} ({self.protocol_hash})"

    @property
    def ranks(self) -> tuple[int | None, ...]:
        """Return one rank an entry, equal values sharing theirs; None for an unranked entry."""
        values = [e.value for e in self.entries if not e.standing and e.value is not None]
        return tuple(
            1 + sum(other > e.value for other in values) if not e.standing and e.value is not None else None
            for e in self.entries
        )

    @property
    def notes(self) -> list[str]:
        """Return what differs between the runs although it may change a result."""
        manifests = [e.board.manifest for e in self.entries]
        said = []
        for name in sorted({name for m in manifests for name in m["versions"]}):
            found = dict.fromkeys(m["versions"].get(name, "absent") for m in manifests)
            if len(found) > 1:
                said.append(f"{name} differs: {', '.join(found)}")
        for label, values in (
            ("GL renderer", dict.fromkeys((m["gl"] or {}).get("renderer") or "none used" for m in manifests)),
            ("git commit", dict.fromkeys(m["git_commit"] or "unknown" for m in manifests)),
            (
                "appearance",
                dict.fromkeys(" and ".join(e.score.appearances) for e in self.entries if e.score.appearances),
            ),
        ):
            if len(values) > 1:
                said.append(f"{label} differs: {', '.join(values)}")
        return said


def group_runs(boards: Iterable[tuple[str, Board]]) -> list[Group]:
    """Return the groups of ``(run, board)`` pairs, in order of protocol card, then suite, then tasks."""
    found: dict[tuple[str, str, str, tuple[int, ...], int], list[Entry]] = {}
    for run, board in boards:
        config = board.manifest["config"]
        for score, cost in zip(board.suite_scores, board.suite_costs, strict=True):
            tasks = tuple(config["tasks"][score.suite])
            key = (config["protocol"], board.manifest["protocol_hash"], score.suite, tasks, config["episodes"])
            found.setdefault(key, []).append(Entry(run, board, score, cost))
    return [Group(*key, tuple(sorted(entries, key=_order))) for key, entries in sorted(found.items())]


def _order(entry: Entry) -> tuple[bool, float, str]:
    return bool(entry.standing), -(entry.value or 0.0), entry.run


def _ranges(numbers: tuple[int, ...]) -> str:
    """Return ``0-3,7`` for (0, 1, 2, 3, 7)."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
