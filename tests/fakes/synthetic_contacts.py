"""Contacts made up for the runs of ``synthetic_runs``, kept as a replay keeps them. Never a result."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

from rdvla_bench.commands.curves_contacts import CONTACTS, SCHEMA
from rdvla_bench.ledger import read_records

Holds = Callable[[float], bool]  # part of the episode that lies behind -> whether the fingers touch something


def carried(fraction: float) -> bool:
    """Return whether the made-up gripper holds its thing: from where it grasps until after it placed."""
    return 0.37 <= fraction < 0.92


def write(folder: Path, holds: Holds = carried) -> Path:
    """Write ``contacts.json`` of a synthetic run, whose episodes have no hashes."""
    rows = {}
    for name, record in read_records(folder).items():
        befores = list(accumulate(record.result.horizons, initial=0))[:-1]
        marks = ["01"[holds(before / record.result.steps)] for before in befores]
        rows[name] = {"of": " ", "contact": "".join(marks)}
    (folder / CONTACTS).write_text(json.dumps({"schema": SCHEMA, "episodes": rows}))
    return folder


if __name__ == "__main__":  # the picture of docs/curves.md, after synthetic_runs.py: synthetic_contacts.py RUN ...
    import sys

    for run in sys.argv[1:]:
        write(Path(run))
