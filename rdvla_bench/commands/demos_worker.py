"""The worker that records demonstrations: scripted expert, simulator and the network's image transform put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rdvla_bench.demo_counterfactual import ask_otherwise
from rdvla_bench.demo_file import save
from rdvla_bench.demo_noise import NoiseRecipe
from rdvla_bench.demo_record import Demonstrator, FrameRule, Take, demonstrate, record
from rdvla_bench.demo_recovery import RecoveryRecipe, Relay, patience_of, recover
from rdvla_bench.env import BenchEnv
from rdvla_bench.errors import MissingExtra, UsageError
from rdvla_bench.policy import Policy
from rdvla_bench.protocol import protocol
from rdvla_bench.protocol_card import ProtocolCard
from rdvla_bench.provenance import versions
from rdvla_bench.record import Execution, Record
from rdvla_bench.registry import load_policy, load_suite
from rdvla_bench.rollout import Phase
from rdvla_bench.suite import Suite
from rdvla_bench.types import Episode, Outcome
from rdvla_bench.worker import Greeting, Job, Played, Worker, check_cameras, runtime_of


@dataclass(frozen=True)
class Driver:
    """The policy that plays before the expert does."""

    policy: str
    settings: Mapping[str, str]  # --driver-set texts
    card: str  # hash of its policy card
    recipe: RecoveryRecipe  # with nothing left open


@dataclass(frozen=True)
class DemoJob(Job):
    """What a recording worker needs to know."""

    out: Path = Path()  # absolute
    noise: NoiseRecipe = field(default_factory=NoiseRecipe)
    rule: FrameRule = field(default_factory=lambda: FrameRule(chunk=8))
    image_size: int = 64
    counterfactuals: int = 0
    spread: float = 0.0
    driver: Driver | None = None

    @property
    def patience(self) -> float:
        """Return the step cap of an episode, in the benchmark's own."""
        return self.driver.recipe.patience if self.driver else patience_of(self.benchmark)

    def make_worker(self, name: str = "local", policy: Policy | None = None) -> Worker:
        """Return a recorder."""
        return Recorder(self, name, policy)


class Recorder(Worker):
    """Records demonstrations into the job's folder; holds two environments of one task, one of them with cameras."""

    job: DemoJob

    def __init__(self, job: DemoJob, name: str, policy: Policy | None) -> None:
        """Load the expert and the image transform.

        Raises:
            MissingExtra: the model's packages are not installed.
        """
        try:
            from rdvla_bench.policies.rdvla.stored_images import shrink
        except ModuleNotFoundError as error:
            raise MissingExtra("the network's image transform", "model", error) from error
        super().__init__(job, name, policy)
        self._shrink = partial(shrink, size=job.image_size)
        self._drawn: BenchEnv | None = None
        self._driver = _load(job.driver, job.benchmark) if job.driver else None

    def greet(self, suite: Suite) -> Greeting:
        """Return the expert's card, and the renderer of the second pass."""
        greeting = super().greet(suite)
        if self.job.driver and self._driver:
            check_cameras(self.job.driver.policy, self._driver, suite)
        runtime = runtime_of(suite)
        return Greeting(
            policy_card=greeting.policy_card,
            policy_hash=greeting.policy_hash,
            versions=versions(),
            gl=runtime.describe() if runtime else {},
            arithmetic=greeting.arithmetic,
            host=greeting.host,
            pid=greeting.pid,
        )

    def play(self, episode: Episode, *, on_phase: Callable[[Phase], None] = lambda phase: None) -> Played:
        """Record one demonstration and store it, unless it ended in an error."""
        suite = load_suite(episode.suite)
        begun, cpu = time.perf_counter(), time.process_time()
        self._build_cpu_s = 0.0
        options = suite.demo_start(episode.task, episode.seed, episode.start, self.job.spread)
        take = self._first_pass(suite, episode, options, on_phase)
        demonstration = record(
            lambda: self._seeing(suite, episode.task),
            take, episode, _to_last_success(options, take), self.job.rule, self._shrink, on_phase,
        )  # fmt: skip
        if self.job.counterfactuals:
            demonstration = ask_otherwise(
                lambda: self._environment(suite, episode.task),
                self.policy, demonstration, suite.alternatives(options), self.job.counterfactuals, on_phase,
            )  # fmt: skip
        result = demonstration.take.result
        if result.outcome is Outcome.ERROR:
            self.close_env()
        else:
            save(self.job.out, demonstration)
        execution = Execution(
            worker=self.name,
            wall_s=time.perf_counter() - begun,
            cpu_s=time.process_time() - cpu - self._build_cpu_s,
            build_cpu_s=self._build_cpu_s,
        )
        return Played(Record(episode, result, execution), take.executed)

    def _first_pass(
        self, suite: Suite, episode: Episode, options: dict[str, Any], on_phase: Callable[[Phase], None]
    ) -> Take:
        noise, chunk = self.job.noise, self.job.rule.chunk

        def unseen() -> BenchEnv:
            return self._environment(suite, episode.task)

        if not self.job.driver or not self._driver:
            return demonstrate(unseen, self.policy, episode, options, noise, chunk, on_phase)
        card = protocol(suite.default_protocol)
        demonstrator = Demonstrator(self.policy, noise, chunk)
        cap = card.max_steps[suite.name]
        relay = Relay(self._driver, demonstrator, self.job.driver.recipe, cap, card.max_horizon)
        return recover(unseen, lambda: self._seeing(suite, episode.task), relay, episode, options, on_phase)

    def _environment(self, suite: Suite, task: int) -> BenchEnv:
        """Return the environment of the first pass."""
        self._turn_to(suite, task)
        if self._env is None:
            self._env = self._build(suite, task, cameras=(), privileged=True)
        return self._env

    def _seeing(self, suite: Suite, task: int) -> BenchEnv:
        """Return the environment of the second pass."""
        self._turn_to(suite, task)
        if self._drawn is None:
            self._drawn = self._build(suite, task, cameras=None, privileged=False)
        return self._drawn

    def _turn_to(self, suite: Suite, task: int) -> None:
        """Close what was built for another task."""
        if self._task != (suite.name, task):
            self.close_env()
            self._task = (suite.name, task)

    def _build(self, suite: Suite, task: int, *, cameras: tuple[str, ...] | None, privileged: bool) -> BenchEnv:
        cpu = time.process_time()
        card = patient(protocol(suite.default_protocol), self.job.patience)
        try:
            return suite.make_env(task, card, cameras=cameras, privileged=privileged, settings=self.job.env)
        except ModuleNotFoundError as error:
            raise MissingExtra(f"suite '{suite.name}'", suite.extra, f"no module '{error.name}'") from error
        finally:
            self._build_cpu_s += time.process_time() - cpu

    def close_env(self) -> None:
        """Free both simulators."""
        if self._drawn is not None:
            self._drawn.close()
        self._drawn = None
        super().close_env()


def patient(card: ProtocolCard, patience: float) -> ProtocolCard:
    """Return the card with the step caps that an expert has whom noise may hold up."""
    return replace(card, max_steps={suite: int(patience * steps) for suite, steps in card.max_steps.items()})


def _load(driver: Driver, benchmark: str) -> Policy:
    policy = load_policy(driver.policy, driver.settings, benchmark)
    if policy.card.hash != driver.card:
        raise UsageError(
            f"--driver {driver.policy}: its card is {policy.card.hash} in this worker, but {driver.card} where the "
            f"recording began: did its weights change meanwhile?"
        )
    return policy


def _to_last_success(options: dict[str, Any], take: Take) -> dict[str, Any]:
    """Return the start with a chain cut after the last subtask that was solved."""
    solved = take.result.solved
    return options if solved is None else {**options, "tasks": tuple(options["tasks"])[:solved]}
