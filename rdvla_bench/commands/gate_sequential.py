"""``gate --sequential``: feed the paired differences to the test in an order drawn by chance, and stop when it knows.

Episodes are played in slices: the next ones of the order, each slice a quarter of what was played before, so that
workers have several episodes to share and at most a fifth of all is played for nothing. Within a slice they are sorted
by task, since a change of task rebuilds the simulator. The ledger of the run folder is all the state there is: the same
command again reads it and goes on, slices ending where they would have ended, and an ordinary run into the same folder
plays the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rdvla_bench.commands.gate_options import Options, ceilings
from rdvla_bench.commands.run_arguments import RunArguments, make_plans
from rdvla_bench.commands.run_execution import execute, one_cluster, unfinished
from rdvla_bench.commands.run_folder import RunFolder
from rdvla_bench.errors import UsageError
from rdvla_bench.leaderboards.baseline import Baseline, check_errors, freeze, frozen
from rdvla_bench.leaderboards.gate import Gate, check_comparable, check_sequential, common, notes, task_rows
from rdvla_bench.leaderboards.margin import Margin
from rdvla_bench.leaderboards.noninferiority import NotComparable, chain_length
from rdvla_bench.leaderboards.run_folder import read_run
from rdvla_bench.leaderboards.sequential import SequentialTest, fewest_episodes, order
from rdvla_bench.ledger import Ledger
from rdvla_bench.limits import Limits
from rdvla_bench.plan import Plan
from rdvla_bench.seeding import generator
from rdvla_bench.types import Episode, Outcome

if TYPE_CHECKING:
    from rdvla_bench.record import Record

SMALLEST_SLICE = 16
GROWTH = 4  # a slice is at least what was played before, divided by this


class Comparison:
    """The baseline's episodes in the order of the test, and the test, fed as far as the run has got."""

    def __init__(self, baseline: Baseline, options: Options, margin: Margin) -> None:
        """Draw the order."""
        known = baseline.find()
        self._known = known
        self.sequence = order(sorted(known), generator("gate order", options.order, baseline.seed))
        self._is_length = margin.is_length
        self.test = SequentialTest(
            margin.value,
            options.alpha,
            bound=max(baseline.n_instructions.values()) if margin.is_length else 1,
            population=len(known) if options.claim == "episodes" else None,
        )

    def feed(self, records: Mapping[str, Record]) -> None:
        """Give the test every next episode that is there, until one is missing or it has decided."""
        while self.test.verdict == "undecided" and self.test.n < len(self.sequence):
            episode = self.sequence[self.test.n]
            record = records.get(episode.id)
            if record is None or record.result.outcome is Outcome.ERROR:
                return
            was, now = self._known[episode], frozen(record)
            value = chain_length(now) - chain_length(was) if self._is_length else int(now.success) - int(was.success)
            self.test.observe(np.array([value]))

    def slices(self) -> Iterator[list[Episode]]:
        """Yield the next episodes to play, by task, while the test is undecided."""
        end = 0
        while self.test.verdict == "undecided" and self.test.n < len(self.sequence):
            while end <= self.test.n:
                end += max(SMALLEST_SLICE, end // GROWTH)
            yield sorted(self.sequence[self.test.n : end])


def decide(options: Options, baseline: Baseline, margin: Margin) -> Gate:
    """Read, or play, as many episodes as it takes.

    Raises:
        UsageError: a wrong name, another protocol card, an ERROR among the episodes.
    """
    if options.policy is not None:
        baseline = _restrict(baseline, options)
    comparison = Comparison(baseline, options, margin)
    folder = options.run if options.run is not None else _play(options, baseline, comparison)
    run = read_run(folder)
    check_errors(folder, run)
    here = freeze(run)
    check_comparable(baseline, here)
    if baseline.seed != here.seed:
        raise NotComparable(f"--sequential needs common episodes: seed {baseline.seed} there, {here.seed} here")
    comparison.feed({record.episode.id: record for record in run.records})
    if not comparison.test.n:
        raise NotComparable(f"{folder} lacks {comparison.sequence[0].id}, the first episode of --order {options.order}")
    check = check_sequential(comparison.test, margin, len(comparison.sequence))
    seen = set(comparison.sequence[: comparison.test.n])
    pairs = [(a, b) for a, b in common(baseline, here) if a.episode(baseline.seed) in seen]
    rows = task_rows(pairs, baseline, margin)
    return Gate(baseline, here, (check, *ceilings(options, here)), notes(baseline, here), tasks=rows)


def _restrict(baseline: Baseline, options: Options) -> Baseline:
    """Return the part of the baseline that is to be played."""
    from rdvla_bench.registry import load_suite

    suites = [name.strip() for name in options.suite.split(",")] if options.suite else list(baseline.tasks)
    foreign = [name for name in suites if name not in baseline.tasks]
    if foreign:
        raise UsageError(f"--suite {foreign[0]}: the baseline has only {', '.join(baseline.tasks)}")
    tasks = {}
    for name in suites:
        wanted = load_suite(name).task_ids(options.tasks) if options.tasks else baseline.tasks[name]
        tasks[name] = tuple(wanted)
        lacking = sorted(set(wanted) - set(baseline.tasks[name]))
        if lacking:
            raise UsageError(f"--tasks {options.tasks}: the baseline has no episode of {name} task {lacking[0]}")
    kept = tuple(e for e in baseline.episodes if e.task in tasks.get(e.suite, ()))
    return replace(baseline, tasks=tasks, episodes=kept)


def _plan(options: Options, baseline: Baseline) -> tuple[RunArguments, Plan]:
    arguments = RunArguments(
        policy=str(options.policy),
        suite=",".join(baseline.tasks),
        episodes=baseline.episodes_per_task,
        seed=baseline.seed,
        protocol=baseline.protocol["name"],
        set=options.set,
        env=options.env,
        workers=options.workers,
        retry_errors=options.retry_errors,
    )
    (only,) = make_plans(arguments)  # a baseline is of one run, and so of one benchmark
    plan = replace(only, tasks=baseline.tasks)
    if plan.protocol.hash != baseline.protocol["hash"]:
        raise NotComparable(
            f"{plan.protocol.name} is {plan.protocol.hash} here, {baseline.protocol['hash']} in the baseline: "
            f"the card has changed. Freeze a new baseline"
        )
    return arguments, plan


def _play(options: Options, baseline: Baseline, comparison: Comparison) -> Path:
    """Play slices into the run folder until the test decides, all is played, or one is an ERROR; return the folder."""
    from rdvla_bench.commands.progress import make_progress
    from rdvla_bench.leaderboards.statistics import wilson

    if options.workers < 0:
        raise UsageError(f"--workers {options.workers}: expected 0 (this process) or more")
    arguments, plan = _plan(options, baseline)
    needed = fewest_episodes(comparison.test)
    if len(comparison.sequence) < needed:
        raise UsageError(
            f"the baseline's {len(comparison.sequence)} episodes cannot pass this margin at alpha {options.alpha:g} "
            f"even if nothing changed: {needed} are needed. Widen --margin, or freeze a baseline of more episodes"
        )
    folder = RunFolder(plan, options.out or Path(plan.default_out))
    folder.open()
    planned = {suite: sum(e.suite == suite for e in baseline.episodes) for suite in baseline.tasks}
    with Ledger(folder.out) as ledger, make_progress(planned, wilson) as progress:
        for episode in comparison.sequence:
            if episode.id in ledger.records:
                progress.add(ledger.records[episode.id], fresh=False)
        comparison.feed(ledger.records)
        with one_cluster(arguments, needed=comparison.test.verdict == "undecided"):
            for part in comparison.slices():
                todo = unfinished(ledger, part, retry_errors=options.retry_errors)
                with closing(execute(arguments, plan, Limits(), todo, folder.greet)) as stream:
                    for played in stream:
                        ledger.append(played.record, played.actions)
                        progress.add(played.record)
                if _errors(ledger, part):
                    break
                comparison.feed(ledger.records)
        is_whole = len(ledger.records) == len(plan.episodes())
        folder.save("complete" if is_whole else "stopped")
    return folder.out


def _errors(ledger: Ledger, part: Sequence[Episode]) -> bool:
    return any(ledger.records[episode.id].result.outcome is Outcome.ERROR for episode in part)
