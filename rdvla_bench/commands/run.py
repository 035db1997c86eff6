"""``python -m rdvla_bench.run --policy NAME``: evaluate a policy, in parallel, resumably, and print its board."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rdvla_bench.commands.cli import command
from rdvla_bench.commands.run_arguments import RunArguments, make_runs, parse
from rdvla_bench.commands.run_boards import show_boards
from rdvla_bench.commands.run_execution import check_all_can_start, execute, one_cluster, unfinished
from rdvla_bench.commands.run_folder import RunFolder
from rdvla_bench.limits import Limits
from rdvla_bench.run_set import Point, Runs
from rdvla_bench.types import Episode, Outcome

if TYPE_CHECKING:
    from rdvla_bench.commands.progress import LineProgress, LiveProgress
    from rdvla_bench.leaderboards.board import Board
    from rdvla_bench.ledger import Ledger
    from rdvla_bench.sinks.feed import Feed

INTERRUPTED = 130
"""Exit code after Ctrl-C, as a shell reports SIGINT."""


@dataclass(frozen=True)
class OpenRun:
    """One run while the call goes on: its folder, whoever listens, and what is still to be played."""

    point: Point
    folder: RunFolder
    feed: Feed
    ledger: Ledger
    todo: list[Episode]


@command
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 when every episode was played, 1 when some ended in an ERROR."""
    arguments = parse(argv)
    limits = Limits(policy_s=arguments.policy_timeout, env_s=arguments.env_timeout)
    runs = make_runs(arguments)
    folders = [RunFolder(point.plan, point.out) for point in runs.points]
    for folder in folders:
        folder.open()
    if not arguments.ray_address:  # a cluster's driver need not have what its workers have
        new = {folder.plan.benchmark: folder.plan for folder in reversed(folders) if not folder.run}
        check_all_can_start(list(reversed(new.values())))

    from rdvla_bench.commands.progress import make_progress
    from rdvla_bench.leaderboards.statistics import wilson
    from rdvla_bench.sinks.feed import Feed

    feeds = [Feed.of(arguments.log, folder.out) for folder in folders]
    with ExitStack() as stack, make_progress(_planned(runs), wilson) as progress:
        opened = _open(arguments, runs, folders, feeds, stack, progress)
        for line in _opening_lines(arguments, runs, opened):
            progress.say(line)
        current = opened[0]
        try:
            with one_cluster(arguments, needed=len(opened) > 1 and any(run.todo for run in opened)):
                for current in opened:
                    _play(arguments, limits, current, progress)
        except KeyboardInterrupt:
            current.folder.save("interrupted")
            for line in _closing_lines(runs, opened, argv or sys.argv[1:]):
                progress.say(line)
            if current.folder.run:
                for warning in current.feed.end(current.folder.run, None):
                    progress.say(warning)
            return INTERRUPTED
        records = [record for run in opened for record in run.ledger.records.values()]
    _end_feeds(opened, show_boards(arguments, runs), is_logged=bool(arguments.log))
    return 1 if any(record.result.outcome is Outcome.ERROR for record in records) else 0


def _open(
    arguments: RunArguments,
    runs: Runs,
    folders: Sequence[RunFolder],
    feeds: Sequence[Feed],
    stack: ExitStack,
    progress: LineProgress | LiveProgress,
) -> list[OpenRun]:
    """Lock every ledger until ``stack`` ends, and count what they hold."""
    from rdvla_bench.ledger import Ledger

    ledgers = [stack.enter_context(Ledger(folder.out)) for folder in folders]
    opened = []
    for point, folder, feed, ledger in zip(runs.points, folders, feeds, ledgers, strict=True):
        episodes = point.plan.episodes()
        feed.recall(ledger.records.values())
        todo = unfinished(ledger, episodes, retry_errors=arguments.retry_errors)
        for episode in set(episodes).difference(todo):
            progress.add(ledger.records[episode.id], fresh=False, of=point.name)
        opened.append(OpenRun(point, folder, feed, ledger, todo))
    return opened


def _play(arguments: RunArguments, limits: Limits, run: OpenRun, progress: LineProgress | LiveProgress) -> None:
    with closing(execute(arguments, run.point.plan, limits, run.todo, run.folder.greet)) as stream:
        for played in stream:
            run.ledger.append(played.record, played.actions)
            progress.add(played.record, of=run.point.name)
            for warning in run.feed.add(run.folder.run, played.record):
                progress.say(warning)
    run.folder.save("complete")


def _end_feeds(opened: Sequence[OpenRun], boards: Sequence[Board], *, is_logged: bool) -> None:
    if not is_logged:
        return
    from rdvla_bench.leaderboards.render import all_rows

    for run, board in zip(opened, boards, strict=True):
        for warning in run.feed.end(run.folder.run, all_rows(run.point.out.name, board)):
            print(warning)


def _planned(runs: Runs) -> dict[str, int]:
    """Return how many episodes each row of the progress has: a suite, or a suite of one run of a sweep."""
    return {
        f"{point.name} {suite.name}".strip(): len(point.plan.tasks[suite.name]) * point.plan.n_episodes
        for point in runs.points
        for suite in point.plan.suites
    }


def _opening_lines(arguments: RunArguments, runs: Runs, opened: Sequence[OpenRun]) -> Iterator[str]:
    recovered = sum(run.ledger.recovered for run in opened)
    n_todo, n_all = sum(len(run.todo) for run in opened), sum(point.plan.n_planned for point in runs.points)
    if recovered:
        yield f"dropped a torn last line of {recovered} bytes; its episode is played again"
    if 0 < n_todo < n_all:
        yield f"resuming {runs.out}: {n_all - n_todo} of {n_all} episodes are done"
    if n_todo:
        where = f"{arguments.workers} workers on Ray" if arguments.workers else "this process"
        of = f" of {len(opened)} runs" if len(opened) > 1 else ""
        cards = " and ".join(part[0].plan.protocol.name for part in runs.parts)
        yield f"{arguments.policy} under {cards}: {n_todo} episodes{of} to play by {where}, into {runs.out}"


def _closing_lines(runs: Runs, opened: Sequence[OpenRun], argv: Sequence[str]) -> Iterator[str]:
    n_safe = sum(len(run.ledger.records) for run in opened)
    n_all = sum(point.plan.n_planned for point in runs.points)
    yield f"interrupted; {n_safe} of {n_all} episodes are safe in {runs.out}"
    yield f"resume: python -m rdvla_bench.run {shlex.join(argv)}"
