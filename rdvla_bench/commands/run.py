"""``python -m rdvla_bench.run --policy NAME``: evaluate a policy, in parallel, resumably, and print its board."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from rdvla_bench.commands.cli import command
from rdvla_bench.errors import MissingExtra, RunMismatch, UsageError
from rdvla_bench.limits import Limits
from rdvla_bench.plan import Plan, differences
from rdvla_bench.protocol import protocol
from rdvla_bench.registry import load_suite, parse_settings
from rdvla_bench.sweep import SWEEP, Point, combinations, default_out, make_points, open_sweep, parse_axes
from rdvla_bench.types import Episode, Outcome

if TYPE_CHECKING:
    from rdvla_bench.leaderboards.board import Board
    from rdvla_bench.ledger import Ledger
    from rdvla_bench.worker import Greeting, Played

FOUR_SUITES = "libero_spatial,libero_object,libero_goal,libero_10"
INTERRUPTED = 130
"""Exit code after Ctrl-C, as a shell reports SIGINT."""


@dataclass(frozen=True)
class RunArguments:
    """Evaluate a policy on a benchmark. The same command again resumes; a finished run just prints its board."""

    policy: str
    """Name of the policy (rdvla-bench list policies)."""
    suite: str = FOUR_SUITES
    """Suites, separated by commas (rdvla-bench list suites)."""
    tasks: str | None = None
    """Tasks of each suite: "0,3", "0-4" or names; all by default."""
    episodes: Literal["full"] | int = 1
    """Episodes a task. 1 is a quick look; "full" is what the protocol card calls an evaluation."""
    seed: int = 0
    """Seed of the run: fixtures and every random draw of the policy derive from it."""
    protocol: str | None = None
    """Protocol card (rdvla-bench list protocols); the suite's default if not given."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """KEY=VALUE of the policy's settings; may be repeated."""
    sweep: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """KEY=VALUE,VALUE,... of a policy's setting: one run a value in one resumable folder; repeated, their product."""
    env: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """KEY=VALUE of the environment's settings, such as assets=PATH for CALVIN; may be repeated."""
    out: Path | None = None
    """Run folder, or the folder of a sweep's run folders; runs/POLICY-HASH by default."""
    workers: int = 2
    """Parallel workers on Ray; 0 plays in this process without Ray."""
    ray_address: str | None = None
    """Join this Ray cluster instead of starting one here."""
    policy_placement: Literal["auto", "worker", "shared"] = "auto"
    """One policy a worker, or one shared by all; auto shares iff the cluster has a GPU."""
    policy_batch: int | None = None
    """Queries a shared policy answers together. By default several iff that changes no bit; a number above 1 batches
    in any case, and results may then depend on which queries met."""
    retry_errors: bool = False
    """Play again the episodes that ended in an ERROR of the policy or the env (those of infra always are)."""
    log: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Also feed a tracker while the run goes: tensorboard, wandb or mlflow; may be repeated. None can fail the run."""
    policy_timeout: float = Limits.policy_s
    """Seconds the policy may take for one answer."""
    env_timeout: float = Limits.env_s
    """Seconds the simulator may take to be built and reset, or for one chunk."""


def make_plan(arguments: RunArguments, swept: Mapping[str, str] | None = None) -> Plan:
    """Resolve names; every wrong name is reported before anything is started. ``swept`` joins the settings.

    Raises:
        UsageError.
    """
    suites = tuple(load_suite(name.strip()) for name in arguments.suite.split(","))
    names = [suite.name for suite in suites]
    if len(set(names)) < len(names):
        raise UsageError(f"--suite {arguments.suite} names a suite twice")
    card = protocol(arguments.protocol or suites[0].default_protocol)
    settings = {**_settings(arguments), **(swept or {})}
    env = dict(_setting("--env", text) for text in arguments.env)
    parse_settings(arguments.policy, settings)
    return Plan(
        policy=arguments.policy,
        settings=settings,
        protocol=card,
        suites=suites,
        tasks={suite.name: suite.task_ids(arguments.tasks) for suite in suites},
        n_episodes=card.n_trials if arguments.episodes == "full" else int(arguments.episodes),
        seed=arguments.seed,
        env={key: value for suite in suites for key, value in suite.resolve_settings(env).items()},
    )


def make_runs(arguments: RunArguments) -> list[Point]:
    """Return the one run asked for, or every run of a sweep; a sweep's folder is written, or held against this call.

    Raises:
        UsageError.
    """
    if not arguments.sweep:
        plan = make_plan(arguments)
        return [Point("", plan, arguments.out or Path(plan.default_out))]
    settings = _settings(arguments)
    axes = parse_axes(arguments.policy, arguments.sweep, settings)
    base = replace(make_plan(arguments, next(combinations(axes))), settings=settings)
    out = arguments.out or default_out(base, axes)
    points = make_points(base, axes, out)
    open_sweep(base, axes, out)
    return points


def _settings(arguments: RunArguments) -> dict[str, str]:
    return dict(_setting("--set", text) for text in arguments.set)


def _setting(flag: str, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"{flag} {text}: expected KEY=VALUE")
    return key, value


@dataclass
class RunFolder:
    """run.json while a run goes: written with the first greeting, checked against every later one."""

    plan: Plan
    out: Path
    run: dict[str, Any] = field(default_factory=dict)

    def open(self) -> None:
        """Read run.json if there is one.

        Raises:
            RunMismatch: the folder belongs to another configuration.
            LedgerError: the folder cannot be read.
        """
        from rdvla_bench.ledger import EPISODES, RUN, read_run

        if (self.out / SWEEP).exists():
            raise UsageError(f"{self.out} holds a sweep: give its --sweep too, or choose another --out")
        if (self.out / RUN).exists():
            self.run = read_run(self.out)
            differs = differences(self.run["config"], self.plan.identity())
            if differs:
                raise RunMismatch(self.out, differs)
        elif (self.out / EPISODES).exists() and (self.out / EPISODES).stat().st_size:
            raise UsageError(
                f"{self.out} has a ledger but no run.json: it cannot be told what it is. Choose another --out"
            )
        elif self.out.exists() and not self.out.is_dir():
            raise UsageError(f"--out {self.out} is a file, expected a folder")

    def greet(self, greeting: Greeting) -> None:
        """Write run.json from the first worker's greeting; hold every other worker against it.

        Raises:
            RunMismatch: another policy card, renderer or decisive version than the run began with.
        """
        from rdvla_bench.provenance import DECISIVE, check_pins

        here = {
            "policy_card": greeting.policy_hash,
            "gl canary": greeting.gl.get("canary_sha256", ""),
            **{name: greeting.versions.get(name, "") for name in DECISIVE},
        }
        if not self.run:
            check_pins(self.plan.protocol)
            self._create(greeting)
            return
        there = {
            "policy_card": self.run["policy_hash"],
            "gl canary": self.run["gl"].get("canary_sha256", ""),
            **{name: self.run["versions"].get(name, "") for name in DECISIVE},
        }
        differs = differences(there, here)
        if differs:
            raise RunMismatch(self.out, [*differs, f"worker on {greeting.host}"])

    def _create(self, greeting: Greeting) -> None:
        from rdvla_bench.provenance import git_commit, machine
        from rdvla_bench.record import SCHEMA

        plan = self.plan
        self.run = {
            "schema": SCHEMA,
            "status": "running",
            "config": plan.identity(),
            "planned": len(plan.episodes()),
            "full": plan.n_episodes == plan.protocol.n_trials,
            "task_names": {s.name: {str(t): s.tasks[t].name for t in plan.tasks[s.name]} for s in plan.suites},
            "n_instructions": {s.name: s.n_instructions for s in plan.suites},
            "policy_card": greeting.policy_card,
            "policy_hash": greeting.policy_hash,
            "protocol_card": plan.protocol.to_json(),
            "protocol_hash": plan.protocol.hash,
            "versions": greeting.versions,
            "gl": greeting.gl,
            "machine": machine(),
            "git_commit": git_commit(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self.save("running")

    def save(self, status: str) -> None:
        """Write run.json with a new status."""
        from rdvla_bench.ledger import write_run

        if self.run:
            self.run["status"] = status
            write_run(self.out, self.run)


def unfinished(ledger: Ledger, episodes: list[Episode], *, retry_errors: bool) -> list[Episode]:
    """Return those of ``episodes`` that are still to be played, in their order."""
    from rdvla_bench.types import Culprit

    def is_final(episode: Episode) -> bool:
        record = ledger.records.get(episode.id)
        if record is None:
            return False
        if record.result.outcome is not Outcome.ERROR:
            return True
        return not retry_errors and record.result.culprit is not Culprit.INFRA

    return [episode for episode in episodes if not is_final(episode)]


def execute(
    arguments: RunArguments,
    plan: Plan,
    limits: Limits,
    episodes: list[Episode],
    on_greeting: Callable[[Greeting], None],
) -> Generator[Played]:
    """Yield ``episodes`` as they end, played in this process or on Ray."""
    if not episodes:
        return
    from rdvla_bench.worker import Job, runtime_of

    job = Job(plan.policy, plan.settings, plan.protocol, plan.env, plan.suites[0].benchmark)
    if arguments.workers == 0:
        from rdvla_bench.local import play_locally

        yield from play_locally(job, plan.suites, episodes, limits, on_greeting)
        return
    try:
        from rdvla_bench.ray_executor import play_on_ray
    except ModuleNotFoundError as error:
        raise MissingExtra("--workers above 0", "ray", f"no module '{error.name}'; --workers 0 needs none") from error
    env_vars: dict[str, str] = {}
    if not arguments.ray_address:  # the workers of other machines choose their renderers themselves
        for runtime in {suite.runtime: runtime_of(suite) for suite in plan.suites}.values():
            env_vars |= runtime.worker_env() if runtime else {}
    yield from play_on_ray(
        job,
        plan.suites,
        episodes,
        limits,
        on_greeting,
        workers=arguments.workers,
        address=arguments.ray_address,
        env_vars=env_vars,
        shared_policy={"auto": None, "worker": False, "shared": True}[arguments.policy_placement],
        max_batch=arguments.policy_batch,
    )


def one_cluster(arguments: RunArguments, *, needed: bool) -> AbstractContextManager[None]:
    """Return the Ray session that all runs of a sweep share; one run alone starts its own."""
    if not needed or arguments.workers == 0:
        return nullcontext()
    try:
        from rdvla_bench.ray_executor import cluster
    except ModuleNotFoundError as error:
        raise MissingExtra("--workers above 0", "ray", f"no module '{error.name}'; --workers 0 needs none") from error
    return cluster(arguments.workers, arguments.ray_address)


def _parse(argv: list[str] | None) -> RunArguments:
    arguments = tyro.cli(RunArguments, args=argv, prog="python -m rdvla_bench.run")
    if arguments.workers < 0:
        raise UsageError(f"--workers {arguments.workers}: expected 0 (this process) or more")
    if arguments.policy_batch is not None and arguments.policy_batch < 1:
        raise UsageError(f"--policy-batch {arguments.policy_batch}: expected 1 (each query alone) or more")
    return arguments


@command
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 when every episode was played, 1 when some ended in an ERROR."""
    arguments = _parse(argv)
    limits = Limits(policy_s=arguments.policy_timeout, env_s=arguments.env_timeout)
    points = make_runs(arguments)
    folders = [RunFolder(point.plan, point.out) for point in points]
    for folder in folders:
        folder.open()

    from rdvla_bench.commands.progress import make_progress
    from rdvla_bench.leaderboards.statistics import wilson
    from rdvla_bench.ledger import Ledger
    from rdvla_bench.sinks.feed import Feed

    feeds = [Feed.of(arguments.log, folder.out) for folder in folders]
    with ExitStack() as stack, make_progress(_planned(points), wilson) as progress:
        ledgers = [stack.enter_context(Ledger(folder.out)) for folder in folders]
        todos = []
        for point, ledger, feed in zip(points, ledgers, feeds, strict=True):
            episodes = point.plan.episodes()
            feed.recall(ledger.records.values())
            todo = unfinished(ledger, episodes, retry_errors=arguments.retry_errors)
            for episode in set(episodes).difference(todo):
                progress.add(ledger.records[episode.id], fresh=False, of=point.name)
            todos.append(todo)
        for line in _opening_lines(arguments, points, ledgers, todos):
            progress.say(line)
        folder, feed = folders[0], feeds[0]
        try:
            with one_cluster(arguments, needed=len(points) > 1 and any(todos)):
                for point, folder, ledger, feed, todo in zip(points, folders, ledgers, feeds, todos, strict=True):
                    with closing(execute(arguments, point.plan, limits, todo, folder.greet)) as stream:
                        for played in stream:
                            ledger.append(played.record, played.actions)
                            progress.add(played.record, of=point.name)
                            for warning in feed.add(folder.run, played.record):
                                progress.say(warning)
                    folder.save("complete")
        except KeyboardInterrupt:
            folder.save("interrupted")
            n_safe, n_all = sum(len(ledger.records) for ledger in ledgers), sum(f.plan.n_planned for f in folders)
            progress.say(f"interrupted; {n_safe} of {n_all} episodes are safe in {_whole(points)}")
            progress.say(f"resume: python -m rdvla_bench.run {shlex.join(argv or sys.argv[1:])}")
            if folder.run:
                for warning in feed.end(folder.run, None):
                    progress.say(warning)
            return INTERRUPTED
        records = [record for ledger in ledgers for record in ledger.records.values()]
    boards = _print_boards(points)
    if arguments.log:
        from rdvla_bench.leaderboards.render import all_rows

        for point, folder, feed, board in zip(points, folders, feeds, boards, strict=True):
            for warning in feed.end(folder.run, all_rows(point.out.name, board)):
                print(warning)
    return 1 if any(record.result.outcome is Outcome.ERROR for record in records) else 0


def _planned(points: Sequence[Point]) -> dict[str, int]:
    """Return how many episodes each row of the progress has: a suite, or a suite of one run of a sweep."""
    return {
        f"{point.name} {suite.name}".strip(): len(point.plan.tasks[suite.name]) * point.plan.n_episodes
        for point in points
        for suite in point.plan.suites
    }


def _whole(points: Sequence[Point]) -> Path:
    """Return the folder that the user knows: of the run, or of the sweep."""
    return points[0].out.parent if points[0].name else points[0].out


def _print_boards(points: Sequence[Point]) -> list[Board]:
    """Write every run's board; print it, or a sweep's runs side by side; return them."""
    from rdvla_bench.leaderboards.render import write_all
    from rdvla_bench.leaderboards.terminal import print_board

    boards = [(point.name, write_all(point.out)) for point in points]
    if not points[0].name:
        print_board(boards[0][1])
        return [boards[0][1]]
    from rdvla_bench.leaderboards.ranking import group_runs
    from rdvla_bench.leaderboards.terminal import print_groups

    print_groups(group_runs(boards))
    print(f"curves: python -m rdvla_bench.curves {shlex.quote(str(_whole(points)))} --out curves")
    return [board for _, board in boards]


def _opening_lines(
    arguments: RunArguments, points: Sequence[Point], ledgers: Sequence[Ledger], todos: Sequence[Sequence[Episode]]
) -> Iterator[str]:
    recovered = sum(ledger.recovered for ledger in ledgers)
    n_todo, n_all = sum(map(len, todos)), sum(point.plan.n_planned for point in points)
    plan, out = points[0].plan, _whole(points)
    if recovered:
        yield f"dropped a torn last line of {recovered} bytes; its episode is played again"
    if 0 < n_todo < n_all:
        yield f"resuming {out}: {n_all - n_todo} of {n_all} episodes are done"
    if n_todo:
        where = f"{arguments.workers} workers on Ray" if arguments.workers else "this process"
        of = f" of {len(points)} runs" if len(points) > 1 else ""
        yield f"{plan.policy} under {plan.protocol.name}: {n_todo} episodes{of} to play by {where}, into {out}"
