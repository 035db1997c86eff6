"""``python -m rdvla_bench.demos --suite NAMES --episodes N --out DIR``: scripted demonstrations for training."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from rdvla_bench.commands.cli import command
from rdvla_bench.demo_noise import NoiseRecipe
from rdvla_bench.demo_record import FrameRule
from rdvla_bench.demo_recovery import RecoveryRecipe, patience_of
from rdvla_bench.errors import MissingExtra, UsageError
from rdvla_bench.limits import Limits
from rdvla_bench.policies.rdvla.config import named_config
from rdvla_bench.protocol import protocol
from rdvla_bench.registry import load_policy, load_suite, parse_settings, policy_factory
from rdvla_bench.suite import Suite
from rdvla_bench.types import Episode, Outcome

if TYPE_CHECKING:
    from rdvla_bench.commands.demos_folder import DemoFolder
    from rdvla_bench.commands.demos_worker import DemoJob
    from rdvla_bench.policy import PolicyCard
    from rdvla_bench.worker import Greeting, Played

INTERRUPTED = 130
"""Exit code after Ctrl-C, as a shell reports SIGINT."""


@dataclass(frozen=True)
class DemosArguments:
    """Record demonstrations of the scripted expert, with noise on what it executes and its own action as the label.

    They start from states drawn anew, never from the benchmark's. The same command again resumes; later calls may add
    episodes, tasks and suites to the folder, and its data set holds them all.
    """

    out: Path
    """Folder of the demonstrations and of the data set for rdvla-bench train --data."""
    suite: str = "libero_spatial,libero_object,libero_goal,libero_10"
    """Suites of one benchmark, separated by commas (rdvla-bench list suites)."""
    tasks: str | None = None
    """Tasks of each suite: "0,3", "0-4" or names; all by default."""
    episodes: int = 50
    """Episodes a task; of CALVIN, chains of five tasks a scene."""
    seed: int = 0
    """Start states and noise derive from it."""
    expert: str = "expert"
    """The policy that demonstrates, one action a query (rdvla-bench list policies)."""
    lerobot: Path | None = None
    """Also export the demonstrations to this folder, as a LeRobotDataset with every control step rendered."""
    workers: int = 2
    """Parallel workers on Ray; 0 records in this process without Ray."""
    model: str = "nano"
    """The model to train: its image size and chunk length are what is stored."""
    image_size: int | None = None
    """Side of the stored images in pixels; by default the model's."""
    stride: int = 4
    """Control steps between kept frames; every second step is kept around the gripper's opening and closing."""
    noise: Annotated[NoiseRecipe, tyro.conf.arg(name="noise")] = field(default_factory=NoiseRecipe)
    """The noise on what is executed."""
    spread: float = 0.0
    """Metres by which things may lie further from where the task places them, in any direction (LIBERO)."""
    counterfactuals: int = 0
    """Frames of each episode that are stored once more under another task's instruction, with what the expert would
    do then (CALVIN); at most, and 0 for none."""
    driver: str | None = None
    """A policy that plays first, for recovery demonstrations: the expert takes over from where it has got to."""
    driver_set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """KEY=VALUE of the driver's settings, such as checkpoint=runs/x/model.safetensors; may be repeated."""
    recovery: Annotated[RecoveryRecipe, tyro.conf.arg(name="recovery")] = field(default_factory=RecoveryRecipe)
    """When the expert takes over from the driver; without effect where there is none."""


@dataclass(frozen=True)
class DemoPlan:
    """What a call asks for, names resolved."""

    suites: tuple[Suite, ...]
    tasks: dict[str, tuple[int, ...]]  # suite -> task indices
    n_episodes: int  # a task
    seed: int
    expert: str
    noise: NoiseRecipe
    rule: FrameRule
    image_size: int
    spread: float
    counterfactuals: int
    driver: str | None
    driver_settings: dict[str, str]
    recovery: RecoveryRecipe  # with nothing left open

    def episodes(self) -> list[Episode]:
        """Return every episode, in the order of the data set."""
        return [
            Episode(suite.name, task, number, 0, self.seed)
            for suite in self.suites
            for task in self.tasks[suite.name]
            for number in range(self.n_episodes)
        ]

    def identity(self, driver: PolicyCard | None = None) -> dict[str, Any]:
        """Return what every demonstration in one folder shares."""
        driven = {
            "driver": driver.name,
            "driver_card": driver.hash,
            "driver_weights": driver.weights,
            "driver_weights_sha256": driver.weights_sha256,
            "recovery": self.recovery.describe(),
        } if driver else {}  # fmt: skip
        spread = {"spread": self.spread} if self.spread else {}
        return {
            **driven,
            **spread,
            "expert": self.expert,
            "benchmark": self.suites[0].benchmark,
            "protocol": protocol(self.suites[0].default_protocol).hash,
            "patience": self.recovery.patience if driver else patience_of(self.suites[0].benchmark),
            "seed": self.seed,
            "noise": self.noise.describe(),
            "frames": asdict(self.rule),
            "image_size": self.image_size,
            "counterfactuals": self.counterfactuals,
        }


def make_plan(arguments: DemosArguments) -> DemoPlan:
    """Resolve names; every wrong one is reported before anything is started.

    Raises:
        UsageError.
    """
    suites = tuple(load_suite(name.strip()) for name in arguments.suite.split(","))
    if len({suite.name for suite in suites}) < len(suites):
        raise UsageError(f"--suite {arguments.suite} names a suite twice")
    if len({suite.benchmark for suite in suites}) > 1:
        kinds = " and ".join(sorted({suite.benchmark for suite in suites}))
        raise UsageError(
            f"--suite {arguments.suite} mixes {kinds}, whose cameras and states differ: one --out for each"
        )
    for name in ("episodes", "stride"):
        if getattr(arguments, name) < 1:
            raise UsageError(f"--{name} {getattr(arguments, name)}: expected 1 or more")
    if arguments.counterfactuals < 0:
        raise UsageError(f"--counterfactuals {arguments.counterfactuals}: expected 0 or more")
    if arguments.counterfactuals and arguments.driver is not None:
        raise UsageError(
            f"--counterfactuals {arguments.counterfactuals} not together with --driver: which other tasks are possible "
            f"is known before the scene was touched, and a driver touches it"
        )
    policy_factory(arguments.expert)
    config = named_config(arguments.model)
    size = config.backbone.image_size if arguments.image_size is None else arguments.image_size
    if size < 1:
        raise UsageError(f"--image-size {size}: expected 1 or more pixels")
    plan = DemoPlan(
        suites=suites,
        tasks={suite.name: suite.task_ids(arguments.tasks) for suite in suites},
        n_episodes=arguments.episodes,
        seed=arguments.seed,
        expert=arguments.expert,
        noise=arguments.noise,
        rule=FrameRule(config.head.chunk, arguments.stride, min(2, arguments.stride)),
        image_size=size,
        spread=arguments.spread,
        counterfactuals=arguments.counterfactuals,
        driver=arguments.driver,
        driver_settings=_driver_settings(arguments),
        recovery=arguments.recovery.of(suites[0].benchmark),
    )
    for suite in suites:
        start = suite.demo_start(
            plan.tasks[suite.name][0], plan.seed, 0, plan.spread
        )  # refuses what is for evaluation alone
        if plan.counterfactuals:
            suite.alternatives(start)  # refuses where there are none
    return plan


def _driver_settings(arguments: DemosArguments) -> dict[str, str]:
    settings: dict[str, str] = {}
    for text in arguments.driver_set:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--driver-set {text}: expected KEY=VALUE")
        settings[key] = value
    if arguments.driver is None:
        if settings:
            raise UsageError(f"--driver-set {arguments.driver_set[0]} has no effect without --driver")
        return settings
    if arguments.lerobot is not None:
        raise UsageError("--lerobot exports whole demonstrations: not together with --driver, whose part is none")
    parse_settings(arguments.driver, settings)
    return settings


def driver_card(plan: DemoPlan) -> PolicyCard | None:
    """Return the card of the driver, which is built for it; its weights are released again."""
    if plan.driver is None:
        return None
    policy = load_policy(plan.driver, plan.driver_settings, plan.suites[0].benchmark)
    try:
        return policy.card
    finally:
        policy.close()


def _execute(
    job: DemoJob, plan: DemoPlan, episodes: list[Episode], workers: int, on_greeting: Callable[[Greeting], None]
) -> Generator[Played]:
    from rdvla_bench.worker import runtime_of

    if not episodes:
        return
    if workers == 0:
        from rdvla_bench.local import play_locally

        yield from play_locally(job, plan.suites, episodes, Limits(), on_greeting)
        return
    try:
        from rdvla_bench.ray_executor import play_on_ray
    except ModuleNotFoundError as error:
        raise MissingExtra("--workers above 0", "ray", f"no module '{error.name}'; --workers 0 needs none") from error
    runtimes = [runtime for suite in plan.suites if (runtime := runtime_of(suite))]
    env_vars = {key: value for runtime in runtimes for key, value in runtime.worker_env().items()}
    yield from play_on_ray(
        job, plan.suites, episodes, Limits(), on_greeting, workers=workers, env_vars=env_vars, shared_policy=False
    )


@command
def main(argv: list[str] | None = None) -> int:
    """Record; 0 when every episode was played, 1 when some ended in an error, 130 after Ctrl-C."""
    arguments = tyro.cli(DemosArguments, args=argv, prog="python -m rdvla_bench.demos")
    if arguments.workers < 0:
        raise UsageError(f"--workers {arguments.workers}: expected 0 (this process) or more")
    plan = make_plan(arguments)

    from rdvla_bench.commands.demos_folder import DemoFolder

    driver = driver_card(plan)
    folder = DemoFolder(arguments.out, plan.identity(driver))
    try:
        with folder.claim():
            errors = _record(arguments, plan, folder, _job(arguments, plan, driver))
    except KeyboardInterrupt:
        print(f"interrupted; what is in {arguments.out} is safe")
        print(f"resume: {shlex.join(['python', '-m', 'rdvla_bench.demos', *(argv or sys.argv[1:])])}")
        return INTERRUPTED
    if errors:
        print(f"{errors} episodes ended in an error and are not stored: the same command plays them again")
    return 1 if errors else 0


def _record(arguments: DemosArguments, plan: DemoPlan, folder: DemoFolder, job: DemoJob) -> int:
    """Play what is missing, then assemble and export; return how many episodes ended in an error."""
    todo = folder.missing(plan.episodes())
    if len(todo) < (n_all := len(plan.episodes())):
        print(f"{n_all - len(todo)} of {n_all} episodes are in {arguments.out} already")
    errors = _play(todo, job, plan, arguments.workers, folder.greet)
    if errors:  # of hours of recording, a clock that ran out on a busy machine must not be the end
        print(f"{errors} episodes ended in an error and are played once more")
        errors = _play(folder.missing(todo), job, plan, arguments.workers, folder.greet)
    if errors:
        return errors
    if not folder.is_assembled():
        folder.assemble()
    _print_counts(folder)
    return 0 if arguments.lerobot is None else _export(arguments.lerobot, job, plan, folder, arguments.workers)


def _job(arguments: DemosArguments, plan: DemoPlan, driver: PolicyCard | None) -> DemoJob:
    from rdvla_bench.commands.demos_worker import DemoJob, Driver

    return DemoJob(
        policy=plan.expert,
        settings={},
        protocol=protocol(plan.suites[0].default_protocol),
        benchmark=plan.suites[0].benchmark,
        out=arguments.out.resolve(),
        noise=plan.noise,
        rule=plan.rule,
        image_size=plan.image_size,
        spread=plan.spread,
        counterfactuals=plan.counterfactuals,
        driver=Driver(plan.driver, plan.driver_settings, driver.hash, plan.recovery)
        if plan.driver and driver
        else None,
    )


def _play(
    episodes: list[Episode], job: DemoJob, plan: DemoPlan, workers: int, on_greeting: Callable[[Greeting], None]
) -> int:
    """Play the episodes and show how it goes; return how many ended in an error."""
    from rdvla_bench.commands.progress import make_progress
    from rdvla_bench.leaderboards.statistics import wilson

    waiting = Counter(episode.suite for episode in episodes)
    errors, last_error, cpu_s, build_cpu_s = 0, "", 0.0, 0.0
    stream = _execute(job, plan, episodes, workers, on_greeting)
    with make_progress(waiting, wilson) as progress, closing(stream):
        for played in stream:
            progress.add(played.record)
            execution = played.record.execution
            cpu_s, build_cpu_s = cpu_s + execution.cpu_s, build_cpu_s + execution.build_cpu_s
            if played.record.result.outcome is Outcome.ERROR:
                errors, last_error = errors + 1, played.record.result.error
    if episodes:
        each = cpu_s / len(episodes)
        print(f"{len(episodes)} episodes at {each:.1f} CPU s, and {build_cpu_s:.0f} CPU s for building environments")
    if last_error:
        print(f"the last error:\n{last_error}", file=sys.stderr)
    return errors


def _export(target: Path, job: DemoJob, plan: DemoPlan, folder: DemoFolder, workers: int) -> int:
    """Write the LeRobotDataset; return how many episodes ended in an error."""
    from rdvla_bench.commands.demos_lerobot import plan_export

    export = plan_export(job, folder.stored(), target, folder.about["data_sha256"])
    errors = _play(export.missing(), export.job, plan, workers, folder.check)
    if not errors:
        export.write_meta(plan.suites[0])
        print(f"LeRobotDataset: {target}")
    return errors


def _print_counts(folder: DemoFolder) -> None:
    for suite, tasks in folder.about["counts"].items():
        kept, dropped, frames = (sum(row[key] for row in tasks.values()) for key in ("kept", "dropped", "frames"))
        done = sum(row.get("solved_by_driver", 0) for row in tasks.values())
        by_driver = f", {done} solved by the driver" if done else ""
        print(f"{suite}: {kept} demonstrations of {len(tasks)} tasks, {frames} frames, {dropped} dropped{by_driver}")
        for name, row in tasks.items():
            if row["dropped"] >= row["kept"]:
                print(f"  {name}: {row['kept']} kept, {row['dropped']} dropped")
        if asked := sum(folder.about["counterfactuals"][suite].values()):
            print(f"  {asked} frames under another instruction too")
    print(f"data set: {folder.out} (SHA-256 {folder.about['data_sha256'][:12]})")
