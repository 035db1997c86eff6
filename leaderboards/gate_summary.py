"""A gate as Markdown, for a job's summary page or a pull request."""

from __future__ import annotations

from collections.abc import Iterable

from rdvla_bench.leaderboards.gate import Gate, TaskRow
from rdvla_bench.leaderboards.margin import Margin

SIGNS = {"pass": "✅", "regression": "❌", "undecided": "⚠️"}
MOST_CHANGED = 50
"""Changed episodes that are listed."""


def summary(gate: Gate, margin: Margin) -> str:
    """Return the page."""
    run, baseline = gate.run, gate.baseline
    parts = [
        f"## {SIGNS[gate.verdict]} {_cell(run.policy['name'])}: {gate.verdict}",
        f"{_cell(run.protocol['name'])}, seed {run.seed}, policy card {run.policy['hash']}; "
        f"the baseline is {_cell(baseline.policy['name'])} {baseline.policy['hash']}"
        + (f" at {baseline.git_commit[:12]}" if baseline.git_commit else ""),
        _table(
            ("", "check", "found"),
            ((SIGNS[c.verdict], c.name, f"{c.line}{'; ' if c.advice else ''}{c.advice}") for c in gate.checks),
        ),
    ]
    if gate.changed:
        listed = [f"- {_cell(text)}" for text in gate.changed[:MOST_CHANGED]]
        more = len(gate.changed) - len(listed)
        parts += ["### Changed episodes", "\n".join(listed + ([f"- and {more} more"] if more else []))]
    if gate.tasks:
        parts += [f"### Tasks ({margin.what}; alone they decide nothing)", _tasks(gate.tasks, margin)]
    if gate.notes:
        parts += ["### Notes", "\n".join(f"- {_cell(note)}" for note in gate.notes)]
    return "\n\n".join(parts) + "\n"


def summary_of_refusal(message: str) -> str:
    """Return the page of a gate that could not be asked."""
    return f"## {SIGNS['undecided']} gate: not decided\n\n{_cell(message)}\n"


def _tasks(rows: Iterable[TaskRow], margin: Margin) -> str:
    return _table(
        ("suite", "task", "name", "episodes", "baseline", "run", "difference"),
        (
            (
                row.suite,
                str(row.task),
                row.name,
                str(row.n),
                margin.show_level(row.baseline),
                margin.show_level(row.run),
                margin.show(row.run - row.baseline),
            )
            for row in rows
        ),
    )


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
