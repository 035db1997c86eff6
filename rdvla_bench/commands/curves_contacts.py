"""What the fingers touched at each query of a recorded run: replayed once, without cameras, then kept in its folder.

Non-obvious:
- ``RUN/contacts.json`` keeps what was found, each episode beside the hash of the recorded state that it belongs to, so
  an episode played anew is replayed anew. Deleting the file is safe.
- Only episodes whose replay is equal to the recording count; others are left out, and tried again by the next call.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rdvla_bench.commands.replay import COMPARED
from rdvla_bench.contact import Felt
from rdvla_bench.errors import LedgerError, MissingExtra, UsageError
from rdvla_bench.ledger import ACTIONS, read_records, read_run, write_atomically
from rdvla_bench.policy import Policy
from rdvla_bench.protocol import protocol
from rdvla_bench.record import Record, Result
from rdvla_bench.registry import load_policy, load_suite
from rdvla_bench.rollout import play
from rdvla_bench.types import Outcome

CONTACTS = "contacts.json"
SCHEMA = 1  # of contacts.json, and of what counts as contact

_SAME = tuple(name for name in COMPARED if name != "frames_sha256")  # nothing is rendered
_SAY_EVERY_S = 20.0


@dataclass(frozen=True)
class Replayed:
    """One episode played again."""

    record: Record  # as recorded
    contact: tuple[bool, ...]  # one a query
    differs: str  # in what from the recording, "" if in nothing


def contacts_of(folder: Path) -> dict[str, tuple[bool, ...]]:
    """Return episode id -> whether the fingers touched something at each query, of all episodes without an error.

    Raises:
        UsageError: no actions were recorded, another edition of the protocol card, the benchmark is not installed, or
            no replay is equal to its recording.
        LedgerError: the folder cannot be read or written.
    """
    records = {r.episode.id: r for r in read_records(folder).values() if r.result.outcome is not Outcome.ERROR}
    known = _read(folder, records)
    missing = [record for name, record in records.items() if name not in known]
    if not missing:
        return known
    differing: list[Replayed] = []
    try:
        for replayed in _told(folder, len(missing), replay_all(folder, missing)):
            if replayed.differs:
                differing.append(replayed)
            else:
                known[replayed.record.episode.id] = replayed.contact
    finally:  # what was replayed before Ctrl-C is kept
        if len(known) + len(missing) > len(records):
            _write(folder, known, records)
    if not known:
        first = differing[0]
        raise UsageError(
            f"no episode of {folder} replays as it was recorded ({first.record.episode.id}: {first.differs}), so its "
            f"contacts are unknown. Draw it where it was run, with the versions in its run.json"
        )
    return known


def replay_all(folder: Path, records: Iterable[Record]) -> Iterator[Replayed]:
    """Replay recorded episodes without cameras, an environment a task.

    Raises:
        UsageError: as ``contacts_of``.
    """
    if not (folder / ACTIONS).is_dir():
        raise LedgerError(f"{folder} has no {ACTIONS}/: what its robot did was not kept, so it cannot be replayed")
    run = read_run(folder)
    card = protocol(run["config"]["protocol"])
    if card.hash != run["protocol_hash"]:
        raise UsageError(
            f"{folder} was played under another edition of {card.name}: {run['protocol_hash']}, here {card.hash}"
        )
    policy, settings = load_policy("replay", {"run": str(folder)}), run["config"].get("env", {})
    ordered = sorted(records, key=lambda r: r.episode)
    for (name, task), episodes in groupby(ordered, key=lambda r: (r.episode.suite, r.episode.task)):
        suite = load_suite(name)
        try:
            env = Felt(suite.make_env(task, card, cameras=(), privileged=True, settings=settings), f"suite '{name}'")
        except ModuleNotFoundError as error:
            raise MissingExtra(f"suite '{name}'", suite.extra, f"no module '{error.name}'") from error
        try:
            for record in episodes:
                yield _replay(record, env, policy, suite.start_option)
        finally:
            env.close()


def _replay(record: Record, env: Felt, policy: Policy, start_option: str) -> Replayed:
    result, _ = play(lambda: env, policy, record.episode, start_option=start_option, max_horizon=None)
    contact = tuple(bool(names) for names in env.touched[: len(record.result.horizons)])
    return Replayed(record, contact, _difference(record.result, result))


def _difference(recorded: Result, replayed: Result) -> str:
    """Return in what a replay differs from its recording, "" if in nothing."""
    if replayed.error:
        return replayed.error.strip().splitlines()[-1]
    names = [name for name in _SAME if getattr(recorded, name) != getattr(replayed, name)]
    return f"{', '.join(names)} differ" if names else ""


def _told(folder: Path, n: int, replays: Iterator[Replayed]) -> Iterator[Replayed]:
    """Pass replays on and say on stderr, now and then, how many are done."""
    print(
        f"replaying {n} episodes of {folder} without cameras; {CONTACTS} there keeps what they touch", file=sys.stderr
    )
    last = time.monotonic()
    for done, replayed in enumerate(replays, start=1):
        yield replayed
        if time.monotonic() - last >= _SAY_EVERY_S:
            last = time.monotonic()
            print(f"{folder}: {done}/{n} episodes replayed", file=sys.stderr, flush=True)


def _read(folder: Path, records: Mapping[str, Record]) -> dict[str, tuple[bool, ...]]:
    """Return what an earlier call found and what still belongs to the recording."""
    path = folder / CONTACTS
    try:
        stored = json.loads(path.read_text())
        if stored["schema"] != SCHEMA:
            return {}
        rows: dict[str, Any] = stored["episodes"]
        return {
            name: tuple(mark == "1" for mark in row["contact"])
            for name, row in rows.items()
            if name in records and row["of"] == _identity(records[name].result)
        }
    except FileNotFoundError:
        return {}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise LedgerError(
            f"{path} is garbled ({type(error).__name__}: {error}). Delete it: it is made again"
        ) from error


def _write(folder: Path, known: Mapping[str, tuple[bool, ...]], records: Mapping[str, Record]) -> None:
    rows = {
        name: {"of": _identity(records[name].result), "contact": "".join("01"[touches] for touches in known[name])}
        for name in sorted(known)
    }
    text = json.dumps({"schema": SCHEMA, "episodes": rows}, indent=1)
    write_atomically(folder / CONTACTS, f"{text}\n".encode())


def _identity(result: Result) -> str:
    """Return what tells a recording from any other of the same episode."""
    return f"{result.actions_sha256[:16]} {result.state_sha256[:16]}"
