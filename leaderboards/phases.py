"""Depth by what the gripper does: free motion before the first contact, contact, free motion after it.

Contact means that a finger touches something that can move, at the query's state; carrying is contact. Phases are told
apart within an episode, or within each subtask of a chain.

Non-obvious:
- What a subtask before left between the fingers is contact, but counts as a subtask's first contact only where it has
  no other: who lets go of the last handle to take the next block is still on the way there.
- Intervals redraw episodes, not queries, as everywhere.
- The contacts come from a replay (``rdvla_bench.contact``); episodes without them are left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rdvla_bench.leaderboards.curve_runs import Entry, kind_of, names_of
from rdvla_bench.leaderboards.profiles import MIN_EPISODES, Depth
from rdvla_bench.leaderboards.resampling import Estimate, Floats, Resampling, episode_keys, percentiles
from rdvla_bench.leaderboards.tables import NOTHING, Table
from rdvla_bench.types import Outcome

Contacts = Mapping[str, Sequence[bool]]  # episode id -> one a query: whether the fingers touch something then


class Phase(StrEnum):
    """A part of an episode, or of a subtask."""

    BEFORE = "free, before contact"
    CONTACT = "contact"
    AFTER = "free, after contact"


@dataclass(frozen=True)
class PhaseProfile:
    """Where one run thinks, by phase, on one suite."""

    run: str
    series: str
    label: str
    suite: str
    depths: tuple[Depth, ...]  # named by phase, in its order; those that enough episodes have
    shares: Mapping[str, float]  # phase -> of all queries
    difference: Estimate | None  # mean depth in contact minus that in all free motion
    n_left_out: int  # scored episodes without contacts


def phases(contact: Sequence[bool], *, begins_held: bool = False) -> list[Phase]:
    """Return the phase of each query of one episode or subtask; ``begins_held``: a subtask before left a contact."""
    first = next((i for i, touches in enumerate(contact) if touches), len(contact))
    if begins_held and first == 0:
        released = next((i for i, touches in enumerate(contact) if not touches), len(contact))
        first = next((i for i in range(released, len(contact)) if contact[i]), 0)
    return [
        Phase.CONTACT if touches else Phase.BEFORE if i < first else Phase.AFTER for i, touches in enumerate(contact)
    ]


def phase_profiles(entries: Sequence[Entry], contacts: Mapping[str, Contacts]) -> list[PhaseProfile]:
    """Return one profile a suite of each run in ``contacts`` (run -> its episodes) whose depth varies."""
    names, resampling = names_of(entries), Resampling()
    return [
        _profile(entry, names[entry.run], suite, contacts[entry.run], resampling)
        for entry in entries
        if entry.run in contacts and kind_of(entry.board) == "adaptive"
        for suite in entry.board.manifest["config"]["suites"]
    ]


def _profile(
    entry: Entry, name: tuple[str, str], suite: str, contacts: Contacts, resampling: Resampling
) -> PhaseProfile:
    results = entry.board.results
    scored = results[(results["suite"] == suite) & (results["outcome"] != Outcome.ERROR.value)]
    rows = scored[scored["id"].isin(list(contacts))]
    sums, sizes = _sums(rows, contacts)
    keys, total = episode_keys(rows), max(float(sizes.sum()), 1.0)
    drawn = resampling.ratios(keys, sums, sizes)
    depths = [
        Depth(
            phase.value,
            float(i),
            float(sums[:, i].sum() / sizes[:, i].sum()),
            *percentiles(drawn[:, i]),
            int(sizes[:, i].sum()),
            n_episodes,
        )
        for i, phase in enumerate(Phase)
        if (n_episodes := int((sizes[:, i] > 0).sum())) >= MIN_EPISODES
    ]
    shares = {phase.value: float(sizes[:, i].sum()) / total for i, phase in enumerate(Phase)}
    difference = _difference(keys, sums, sizes, resampling)
    return PhaseProfile(entry.run, *name, suite, tuple(depths), shares, difference, len(scored) - len(rows))


def _difference(keys: tuple[Any, ...], sums: Floats, sizes: Floats, resampling: Resampling) -> Estimate | None:
    """Return contact minus free motion, both free phases together; None where too few episodes have either."""
    is_contact = np.array([phase is Phase.CONTACT for phase in Phase])
    over = np.array([is_contact, ~is_contact], np.float64).T  # (phase, 2)
    total, n = sums @ over, sizes @ over  # (N, 2)
    if ((n > 0).sum(axis=0) < MIN_EPISODES).any():
        return None
    drawn = resampling.ratios(keys, total, n)
    contact, free = total.sum(axis=0) / n.sum(axis=0)
    return Estimate(float(contact - free), *percentiles(drawn[:, 0] - drawn[:, 1]))


def _sums(rows: pd.DataFrame, contacts: Contacts) -> tuple[Floats, Floats]:
    """Return iterations and queries, (N, phases) each."""
    order = {phase: i for i, phase in enumerate(Phase)}
    sums, sizes = np.zeros((len(rows), len(order))), np.zeros((len(rows), len(order)))
    columns = ["id", "depths", "horizons", "subtask_steps"]
    for row, (name, depths, horizons, spent) in enumerate(rows[columns].itertuples(index=False)):
        found = _phases_of_episode(contacts[name], horizons, spent)
        for depth, phase in zip(depths, found, strict=True):
            sums[row, order[phase]] += depth
            sizes[row, order[phase]] += 1
    return sums, sizes


def _phases_of_episode(contact: Sequence[bool], horizons: Sequence[int], spent: Sequence[int]) -> Iterator[Phase]:
    """Yield the phase of each query; of a chain, ``spent`` are the control steps of each subtask."""
    before = list(accumulate(horizons, initial=0))[: len(horizons)]
    ends = np.array(list(accumulate(spent)))
    subtask: NDArray[np.int64] = np.searchsorted(ends, before, side="right")  # of each query
    last = len(ends) - 1
    groups = np.minimum(subtask, last) if len(ends) else np.zeros(len(before), np.int64)
    for group in sorted(set(groups.tolist())):
        chosen = [touches for touches, of in zip(contact, groups, strict=True) if of == group]
        yield from phases(chosen, begins_held=group > 0)


def phase_rows(profiles: Sequence[PhaseProfile]) -> list[dict[str, Any]]:
    """Return one flat row a run, suite and phase, and one for contact minus free motion."""
    rows = []
    for p in profiles:
        of = {"run": p.run, "series": p.series, "label": p.label, "suite": p.suite}
        for depth in p.depths:
            row = {key: value for key, value in asdict(depth).items() if key not in ("name", "at")}
            rows.append({**of, "phase": depth.name, **row, "share": p.shares[depth.name], "left_out": p.n_left_out})
        if p.difference:
            d = p.difference
            row = {"mean": d.value, "low": d.low, "high": d.high, "n_queries": None, "n_episodes": None}
            rows.append({**of, "phase": "contact minus free", **row, "share": None, "left_out": p.n_left_out})
    return rows


LEGEND = (
    "Iterations a query, with 95 % bootstrap interval over episodes, and the share of all queries. Contact: a finger "
    "touches something that can move."
)


def phase_tables(profiles: Sequence[PhaseProfile]) -> list[Table]:
    """Return one table a suite."""
    suites = dict.fromkeys(profile.suite for profile in profiles)
    return [
        Table(
            f"mean depth by phase, {suite}",
            ("run", *(phase.value for phase in Phase), "contact minus free"),
            tuple(_cells(profile) for profile in profiles if profile.suite == suite),
            legend=LEGEND,
        )
        for suite in suites
    ]


def phase_notes(profiles: Sequence[PhaseProfile]) -> list[str]:
    """Return one line a run and suite of which episodes are left out."""
    return [
        f"{p.run} on {p.suite}: {p.n_left_out} scored episodes are in no phase, their replay differs from the recording"
        for p in profiles
        if p.n_left_out
    ]


def _cells(profile: PhaseProfile) -> tuple[str, ...]:
    found = {depth.name: depth for depth in profile.depths}
    title = profile.series if profile.series == profile.label else f"{profile.series} {profile.label}"
    d = profile.difference
    return (
        title,
        *(
            f"{x.mean:.2f} [{x.low:.2f}, {x.high:.2f}] {100 * profile.shares[phase]:.0f} %"
            if (x := found.get(phase.value))
            else NOTHING
            for phase in Phase
        ),
        f"{d.value:+.2f} [{d.low:+.2f}, {d.high:+.2f}]" if d else NOTHING,
    )
