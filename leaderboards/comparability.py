"""Which runs may be compared, why others may not, and what a reader must know of those that may."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rdvla_bench.arithmetic import arithmetic_of
from rdvla_bench.errors import UsageError
from rdvla_bench.leaderboards.paired import Pairing, pair, pair_repetitions
from rdvla_bench.leaderboards.run_folder import Run


@dataclass(frozen=True)
class Entry:
    """One run, its letter in the tables and its folder as the user named it."""

    letter: str
    name: str
    run: Run

    @property
    def policy_hash(self) -> str:
        """Return what says that two policies are one."""
        return self.run.manifest["policy_hash"]

    @property
    def seed(self) -> int:
        """Return the run's seed."""
        return self.run.manifest["config"]["seed"]


def common_episodes(a: Entry, b: Entry) -> Pairing:
    """Pair two runs; the same policy under two seeds pairs across them.

    Raises:
        UsageError: other protocol cards, other seeds of other policies, or no common episode.
    """
    _refuse_other_protocol(a, b)
    if a.seed != b.seed and a.policy_hash != b.policy_hash:
        raise UsageError(
            f"{a.name} has seed {a.seed}, {b.name} has seed {b.seed}: other scenes and draws, so their episodes do not "
            f"pair. Run one of them again with the --seed of the other"
        )
    pairing = pair(a.run.records, b.run.records, across_seeds=a.policy_hash == b.policy_hash)
    if not pairing.pairs:
        raise UsageError(f"{a.name} and {b.name} share no episodes{_why_none(a, b, pairing)}")
    return pairing


def own_repetitions(entry: Entry) -> Pairing:
    """Pair the first two repetitions of each start within one run.

    Raises:
        UsageError: no start was played twice.
    """
    pairing = pair_repetitions(entry.run.records)
    if not pairing.pairs:
        raise UsageError(
            f"{entry.name} plays no start twice, so alone it has nothing to be compared with. Name a second run, or "
            "give it more --episodes than the suite has starts"
        )
    return pairing


def refuse_errors(a: Entry, b: Entry, pairing: Pairing) -> None:
    """Refuse common episodes that ended in an error.

    Raises:
        UsageError: naming the first of them.
    """
    if pairing.errors:
        raise UsageError(
            f"{len(pairing.errors)} common episodes of {a.name} and {b.name} ended in an error: "
            f"{named(pairing.errors)}. Run them again (the same command resumes), or leave out --strict"
        )


def named(ids: Iterable[str], n_shown: int = 3) -> str:
    """Return the first few names and how many follow."""
    listed = list(ids)
    more = f" and {len(listed) - n_shown} more" if len(listed) > n_shown else ""
    return ", ".join(listed[:n_shown]) + more


def warnings(a: Entry, b: Entry) -> list[str]:
    """Return what may explain a difference although no policy does, or makes it no contest."""
    there, here = a.run.manifest, b.run.manifest
    said = []
    for a_is, b_is, one, other in ((True, False, a, b), (False, True, b, a)):
        if (_is_privileged(a), _is_privileged(b)) == (a_is, b_is):
            said.append(
                f"{one.letter} is privileged, it reads the simulator's state; {other.letter} does not. "
                "This is no contest of methods."
            )
        if (_is_untrained(a), _is_untrained(b)) == (a_is, b_is):
            said.append(f"{one.letter} was never trained, {other.letter} was. Its rates measure the harness.")
    for name in sorted({*there["versions"], *here["versions"]}):
        versions = [m["versions"].get(name, "absent") for m in (there, here)]
        if versions[0] != versions[1]:
            said.append(f"{name} differs: {versions[0]} in {a.letter}, {versions[1]} in {b.letter}.")
    calculated = [arithmetic_of(manifest) for manifest in (there, here)]
    if calculated[0] != calculated[1]:
        said.append(
            f"{a.letter} was calculated with {calculated[0]} arithmetic, {b.letter} with {calculated[1]}: the same "
            "network may play an episode otherwise."
        )
    seen = [sorted({r.result.appearance for r in entry.run.records} - {""}) for entry in (a, b)]
    if seen[0] and seen[1] and seen[0] != seen[1]:
        drawn = [f"{', '.join(values)} in {entry.letter}" for values, entry in zip(seen, (a, b), strict=True)]
        said.append(f"the pictures were drawn from other things: {'; '.join(drawn)}.")
    if a.run is not b.run and (a.policy_hash, a.seed) == (b.policy_hash, b.seed):
        said.append(
            "the same policy card and the same seed: results should be equal, any difference is the execution's."
        )
    return said


def _is_privileged(entry: Entry) -> bool:
    return bool(entry.run.manifest["policy_card"].get("privileged"))


def _is_untrained(entry: Entry) -> bool:
    return str(entry.run.manifest["policy_card"].get("weights")) == "untrained"


def _refuse_other_protocol(a: Entry, b: Entry) -> None:
    there, here = a.run.manifest, b.run.manifest
    if there["protocol_hash"] == here["protocol_hash"]:
        return
    fields = _differing(there["protocol_card"], here["protocol_card"]) or ["the hash, though in no field"]
    raise UsageError(
        f"{a.name} and {b.name} were played under different protocol cards, {there['config']['protocol']} and "
        f"{here['config']['protocol']}, so their episodes are not the same. They differ in: {'; '.join(fields)}"
    )


def _differing(a: Mapping[str, Any], b: Mapping[str, Any], under: str = "") -> list[str]:
    """Return ``field: there / here`` for each leaf in which two cards differ, but for what describes them."""
    said = []
    for key in sorted({*a, *b} - ({"name", "summary", "sources"} if not under else set())):
        one, other = a.get(key), b.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            said += _differing(one, other, f"{under}{key}.")
        elif one != other:
            said.append(f"{under}{key}: {json.dumps(one)} / {json.dumps(other)}")
    return said


def _why_none(a: Entry, b: Entry, pairing: Pairing) -> str:
    if pairing.errors:
        return f" without an error: {len(pairing.errors)} common ones ended in one ({named(pairing.errors)})"
    played = []
    for entry in (a, b):
        tasks: dict[str, set[int]] = {}
        for record in entry.run.records:
            tasks.setdefault(record.episode.suite, set()).add(record.episode.task)
        what = ", ".join(f"{suite} tasks {','.join(map(str, sorted(ids)))}" for suite, ids in sorted(tasks.items()))
        played.append(f"{entry.name} played {what or 'nothing yet'}")
    return f": {'; '.join(played)}. Give both the same --suite and --tasks"
