"""A board in the form in which the Hugging Face Hub keeps evaluation results: ``.eval_results/NAME.yaml``.

The fields are those of huggingface/hub-docs, ``docs/hub/eval-results.md`` at commit 064c754: a list of entries with
``dataset.id`` and ``dataset.task_id`` (required), ``value`` (required), and ``date``, ``source``, ``notes``.

Non-obvious:
- ``dataset.id`` must be a dataset that the Hub has registered as a benchmark, and ``task_id`` a task of its
  ``eval.yaml``. No such benchmark is known to us for LIBERO or CALVIN, so the caller names the dataset.
- Only what may be ranked is exported: with errors, missing episodes, mixed appearances or a privileged policy there
  is no result to publish.
- The values are JSON texts, which YAML reads as they are; no YAML library is needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from rdvla_bench.errors import UsageError
from rdvla_bench.leaderboards.board import Board, Score

_DATASET = re.compile(r"[\w.-]+/[\w.-]+")
Entry = Mapping[str, object]


def eval_results(board: Board, dataset: str, source: str = "") -> str:
    """Return one entry a suite as YAML: its success rate in percent, or its average chain length.

    Raises:
        UsageError: ``dataset`` is no id of the Hub, ``source`` no address, or a suite may not be ranked.
    """
    if not _DATASET.fullmatch(dataset):
        raise UsageError(f"--dataset '{dataset}': expected the id of a benchmark dataset on the Hub, OWNER/NAME")
    if source and not source.startswith(("https://", "http://")):
        raise UsageError(f"--source '{source}': expected an address that begins with https://")
    return "".join(_yaml(_entry(board, score, dataset, source)) for score in board.suite_scores)


def _entry(board: Board, score: Score, dataset: str, source: str) -> Entry:
    reason = score.unranked or ("privileged policy" if board.is_privileged else "")
    if reason or score.rate is None:
        raise UsageError(f"{score.suite} may not be published: {reason or 'no episodes'}. Finish the run first")
    manifest = board.manifest
    entry: dict[str, object] = {
        "dataset": {"id": dataset, "task_id": score.suite},
        "value": round(score.chain.length if score.chain else 100 * score.rate, 4),
    }
    if "started" in manifest:
        entry["date"] = str(manifest["started"])[:10]
    if source:
        entry["source"] = {"url": source, "name": "Run folder"}
    return entry | {"notes": _notes(board, score)}


def _notes(board: Board, score: Score) -> str:
    """Return what the value alone does not say: the measure, its interval, the rules and the compute."""
    config = board.manifest["config"]
    if score.chain:
        measure = f"average chain length, 95 % interval [{score.chain.low:.3f}, {score.chain.high:.3f}]"
    else:
        low, high = score.low or 0.0, score.high or 0.0
        measure = f"success rate in percent, 95 % interval [{100 * low:.1f}, {100 * high:.1f}]"
    parts = [measure, f"{score.scored} episodes", f"protocol {config['protocol']}", f"seed {config['seed']}"]
    if score.depth is not None:
        parts.append(f"mean depth {score.depth:.2f}")
    return "; ".join([*parts, f"policy {config['policy']} {board.manifest['policy_hash']}", "rdvla-bench"])


def _yaml(entry: Entry) -> str:
    lines = []
    for key, value in entry.items():
        if isinstance(value, Mapping):
            lines += [f"{key}:", *(f"  {name}: {json.dumps(text)}" for name, text in value.items())]
        else:
            lines.append(f"{key}: {json.dumps(value)}")
    return "- " + "\n  ".join(lines) + "\n"
