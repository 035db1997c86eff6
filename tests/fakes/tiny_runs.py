"""Run folders of a few episodes, written as a run writes them, without a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rdvla_bench.ledger import EPISODES, write_run
from rdvla_bench.policy import PolicyCard
from rdvla_bench.record import Record, Result
from rdvla_bench.types import Culprit, Episode, Outcome

_OUTCOMES = {"s": Outcome.SUCCESS, "t": Outcome.TIMEOUT, "e": Outcome.ERROR}


def outcomes(text: str, *, task: int = 0, suite: str = "libero_object") -> list[Record]:
    """Return one episode a letter: s(uccess), t(imeout), e(rror); depths 8 and 6."""
    return [
        Record(
            Episode(suite, task, start, 0, 0),
            Result(_OUTCOMES[letter], depths=(8, 6), horizons=(8, 8), culprit=Culprit.ENV if letter == "e" else None),
        )
        for start, letter in enumerate(text)
    ]


def write_folder(
    folder: Path,
    records: Iterable[Record],
    *,
    tasks: Mapping[str, Sequence[int]] | None = None,
    episodes: int = 4,
    n_instructions: int = 1,
    privileged: bool = False,
) -> Path:
    """Write ``run.json`` and the ledger."""
    tasks = tasks or {"libero_object": [0]}
    run = {
        "schema": 1,
        "status": "complete",
        "config": {"policy": "tiny", "settings": {}, "suites": list(tasks), "tasks": tasks, "episodes": episodes,
                   "seed": 0, "protocol": "libero/paired@1"},
        "policy_card": PolicyCard("tiny", "none", privileged=privileged).to_json(),
        "protocol_card": {"name": "libero/paired@1"},
        "policy_hash": "0123456789ab",
        "protocol_hash": "ba9876543210",
        "planned": episodes * sum(map(len, tasks.values())),
        "versions": {},
        "gl": {},
        "task_names": {},
        "n_instructions": dict.fromkeys(tasks, n_instructions),
        "started": "2026-01-01T00:00:00+00:00",
        "git_commit": "",
    }  # fmt: skip
    folder.mkdir(parents=True)
    write_run(folder, run)
    (folder / EPISODES).write_text("".join(json.dumps(record.to_json()) + "\n" for record in records))
    return folder
