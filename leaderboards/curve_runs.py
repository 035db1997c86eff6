"""Which runs may share a curve, and which line and label each has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rdvla_bench.errors import UsageError
from rdvla_bench.leaderboards.board import Board

Kind = Literal["fixed", "adaptive", "plain"]


@dataclass(frozen=True)
class Entry:
    """One run to be drawn."""

    run: str  # as the user named its folder
    board: Board
    swept: tuple[str, ...] = ()  # settings that its sweep varies


def kind_of(board: Board) -> Kind:
    """Return how a policy spends depth, by its exit rule; without one, by whether its depth varies."""
    depths = {depth for row in board.results["depths"] for depth in row}
    if not any(depths):
        return "plain"
    rule = board.manifest["policy_card"].get("exit_rule", {}).get("rule")
    if rule is None:
        return "fixed" if len(depths) == 1 else "adaptive"
    return "fixed" if rule == "fixed-depth" else "adaptive"


def names_of(entries: Sequence[Entry]) -> dict[str, tuple[str, str]]:
    """Return run -> (series, label). A line follows the swept number, or what the exit rule is made of."""
    along, rest = {}, {}
    for entry in entries:
        config = entry.board.manifest["config"]
        settings = {key: str(value) for key, value in config["settings"].items()}
        numeric = [key for key in entry.swept if _is_number(settings.get(key, ""))]
        rule = entry.board.manifest["policy_card"].get("exit_rule", {})
        keys = numeric[:1] if entry.swept else [key for key in settings if key in rule]
        along[entry.run] = {key: settings[key] for key in keys if key in settings}
        rest[entry.run] = {key: value for key, value in settings.items() if key not in keys}
        rest[entry.run]["seed"] = str(config["seed"])
    names = {}
    for entry in entries:
        policy = entry.board.manifest["config"]["policy"]
        alike = [rest[e.run] for e in entries if e.board.manifest["config"]["policy"] == policy]
        varying = sorted({key for one in alike for key in one if len({other.get(key) for other in alike}) > 1})
        apart = [f"{key} {rest[entry.run].get(key, 'default')}" for key in varying]
        series = ", ".join([policy, *apart])
        depth = _fixed_depth(entry.board)
        label = f"depth {depth}" if depth else ", ".join(f"{k} {v}" for k, v in along[entry.run].items())
        names[entry.run] = (series, label or series)
    return names


def _fixed_depth(board: Board) -> int | None:
    depths = {depth for row in board.results["depths"] for depth in row}
    return depths.pop() if kind_of(board) == "fixed" and len(depths) == 1 else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def check(entries: Sequence[Entry]) -> None:
    """Refuse runs that cannot share a curve.

    Raises:
        UsageError: none, one without a scored episode, other protocol cards, other tasks, one given twice.
    """
    if not entries:
        raise UsageError("no run given. Name run folders, or the folder of a sweep: rdvla-bench curves runs/a")
    first, names = entries[0], [entry.run for entry in entries]
    for entry in entries:
        manifest, there = entry.board.manifest, first.board.manifest
        if names.count(entry.run) > 1:
            raise UsageError(f"{entry.run} is given twice")
        if not any(score.scored for score in entry.board.suite_scores):
            raise UsageError(f"{entry.run} has no scored episode yet: there is nothing to draw")
        if manifest["protocol_hash"] != there["protocol_hash"]:
            raise UsageError(
                f"{first.run} was run under {_card(there)} and {entry.run} under {_card(manifest)}: runs of different "
                f"protocol cards share no curve. Draw them apart"
            )
        mine, others = manifest["config"]["tasks"], there["config"]["tasks"]
        if mine != others:
            raise UsageError(
                f"{first.run} played {_tasks(others)} and {entry.run} {_tasks(mine)}: a curve over different tasks "
                f"would compare the tasks. Draw them apart"
            )
        for suite in manifest["config"]["suites"]:
            if not any(score.scored for score in entry.board.suite_scores if score.suite == suite):
                raise UsageError(f"{entry.run} has no scored episode of {suite} yet: finish it first")


def _card(manifest: Mapping[str, Any]) -> str:
    return f"{manifest['config']['protocol']} ({manifest['protocol_hash']})"


def _tasks(tasks: Mapping[str, Sequence[int]]) -> str:
    return "; ".join(f"{suite} {','.join(map(str, ids))}" for suite, ids in tasks.items())
