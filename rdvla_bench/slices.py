"""What ``--suite`` may name: suites of any benchmarks, short names for several, and the quick slice.

A run has one protocol card and so one benchmark; suites of several benchmarks make one run each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rdvla_bench.errors import UnknownName, UsageError
from rdvla_bench.registry import SUITES, entries, load_suite
from rdvla_bench.suite import Suite

GROUPS: Mapping[str, tuple[str, ...]] = {
    "libero": ("libero_spatial", "libero_object", "libero_goal", "libero_10"),  # the four that papers average
    "libero_val": ("libero_spatial_val", "libero_object_val", "libero_goal_val", "libero_10_val"),  # to choose settings
    "calvin": ("calvin_d",),  # ABC -> D: evaluation is in scene D
}
"""Short name -> suites."""

FULL = "libero,calvin"
"""The suites of the full benchmark, which is these with ``--episodes full``."""

QUICK = "quick"


@dataclass(frozen=True)
class Cut:
    """A fixed part of one benchmark."""

    suites: tuple[str, ...]
    tasks: str | None  # as --tasks takes it
    n_episodes: int  # a task


QUICK_CUTS: tuple[Cut, ...] = (
    Cut(GROUPS["libero"], "0,3,6,9", 1),  # 16 episodes
    Cut(GROUPS["calvin"], None, 12),  # 12 chains
)
"""The quick slice: all that decides how long the default run takes, chosen to end within 5 minutes on 2 cores."""


@dataclass(frozen=True)
class Part:
    """What is played of one benchmark."""

    suites: tuple[Suite, ...]  # of one benchmark
    tasks: Mapping[str, tuple[int, ...]]  # suite -> task indices
    n_episodes: int | Literal["full"]  # a task


def parts_of(suite: str, tasks: str | None, episodes: int | Literal["full"] | None) -> tuple[Part, ...]:
    """Return one part a benchmark, in the order in which ``suite`` first names them.

    Raises:
        UnknownName: no such suite.
        UsageError: a suite is named twice, or the quick slice is to be something else.
    """
    names = [name.strip() for name in suite.split(",")]
    if QUICK not in names:
        suites = [load_suite(_known(one)) for name in names for one in GROUPS.get(name, (name,))]
        if len({one.name for one in suites}) < len(suites):
            raise UsageError(f"--suite {suite} names a suite twice")
        return tuple(_part(one, tasks, 1 if episodes is None else episodes) for one in _by_benchmark(suites))
    if len(names) > 1:
        raise UsageError(f"--suite {suite}: '{QUICK}' is a fixed slice and stands alone; leave it out, or name it only")
    for flag, value in (("--tasks", tasks), ("--episodes", episodes)):
        if value is not None:
            raise UsageError(
                f"{flag} {value} beside --suite {QUICK} (the default), which fixes its tasks and episodes: "
                f"name suites too, such as --suite {FULL} {flag} {value}"
            )
    return tuple(
        _part(one, cut.tasks, cut.n_episodes)
        for cut in QUICK_CUTS
        for one in _by_benchmark([load_suite(name) for name in cut.suites])
    )


def _known(name: str) -> str:
    known = [*entries(SUITES), *GROUPS, QUICK]
    if name not in known:
        raise UnknownName("suite", name, known, f"rdvla-bench list suites; also {', '.join((QUICK, *GROUPS))}")
    return name


def _by_benchmark(suites: list[Suite]) -> list[tuple[Suite, ...]]:
    benchmarks = dict.fromkeys(suite.benchmark for suite in suites)
    return [tuple(suite for suite in suites if suite.benchmark == benchmark) for benchmark in benchmarks]


def _part(suites: tuple[Suite, ...], tasks: str | None, n_episodes: int | Literal["full"]) -> Part:
    return Part(suites, {suite.name: suite.task_ids(tasks) for suite in suites}, n_episodes)
