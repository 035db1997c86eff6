"""Parallel rollouts on Ray: env workers that never wait for each other, a driver that replaces the dead.

A worker is an actor that plays one episode a call. An episode is not idempotent half-way, so nothing is retried
by Ray itself: the driver gives the episode of a dead worker back to the schedule and counts the attempt.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError, RayTaskError

from rdvla_bench.arithmetic import worker_env
from rdvla_bench.errors import InfraFault, RdvlaBenchError, UsageError
from rdvla_bench.limits import Limits
from rdvla_bench.phase import PhaseFile, Status
from rdvla_bench.ray_policy import PolicyClient, PolicyServer
from rdvla_bench.record import Execution, Record, Result
from rdvla_bench.rollout import Phase
from rdvla_bench.schedule import Schedule
from rdvla_bench.suite import Suite
from rdvla_bench.types import Culprit, Episode, Outcome
from rdvla_bench.worker import Greeting, Job, Played

POLL_S = 0.5
"""How often the watchdog looks; also the longest a finished episode waits for the ledger."""

_STARTS = 3
"""Starts of a local Ray that may be too slow before a run gives up."""

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LP_NUM_THREADS": "1"}
"""One core a worker: more threads cost CPU and gain nothing in the simulator (OMP) and its rasteriser (LP)."""


class WorkerDied(RdvlaBenchError):
    """Workers cannot be kept alive."""


class RayWorker:
    """The actor around a ``Worker``; ``status`` answers from a thread of its own."""

    def __init__(self, job: Job, name: str, server: Any | None) -> None:
        """Keep the arguments; the policy is loaded in ``greet``, on the thread that plays."""
        self._arguments = (job, name, server)
        self._phase = PhaseFile()

    def greet(self, suites: Sequence[Suite]) -> tuple[Greeting, str]:
        """Load the policy; return the greeting and the path of the phase file."""
        job, name, server = self._arguments
        self._worker = job.make_worker(name, PolicyClient(server) if server is not None else None)
        return [self._worker.greet(suite) for suite in suites][-1], self._phase.path

    def play(self, episode: Episode) -> Played:
        """Play one episode."""
        return self._worker.play(episode, on_phase=self._phase.write)

    def status(self) -> Status:
        """Return the current phase and how long it lasts."""
        return self._phase.read()


@dataclass
class Hand:
    """The driver's view of one worker."""

    name: str
    actor: Any
    work: Any  # the pending reference: a greeting first, then one episode after another
    episode: Episode | None = None
    status: Any | None = None  # a pending status reference
    phase_file: PhaseFile | None = None  # of a worker on this host
    phase: Phase = "env"
    phase_began: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    assigned: float = field(default_factory=time.monotonic)


@contextmanager
def cluster(workers: int, address: str | None) -> Iterator[None]:
    """Join the cluster at ``address``, use the one this process has joined, or start a local one."""
    if ray.is_initialized():
        yield
        return
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        else:
            _start_local(workers)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(f"no Ray cluster at '{address or 'this machine'}': {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _start_local(workers: int) -> None:
    """Start Ray on this machine, again where its node was too slow: ray 2.60's ``Node`` gives it 30 s, whatever is set.

    Ray kills what a start left behind when this process ends.

    Raises:
        RuntimeError: no start was in time.
    """
    for _ in range(_STARTS):
        try:
            ray.init(
                address="local",  # not whatever cluster happens to run on this machine
                num_cpus=workers + 1,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=256 << 20,
            )
        except Exception as error:
            if type(error) is not Exception:  # what Ray raises of a slow node has no class of its own
                raise
            ray.shutdown()
            late = error
        else:
            return
    raise RuntimeError(f"{late} Tried {_STARTS} times: is the machine overloaded? --workers 0 needs no Ray") from late


class Crew:
    """The workers of one run and the loop that keeps them busy."""

    def __init__(
        self,
        job: Job,
        suites: Sequence[Suite],
        schedule: Schedule,
        limits: Limits,
        env_vars: Mapping[str, str],
        *,
        shared: bool,
        max_batch: int | None = None,
    ) -> None:
        """Prepare; nothing is started yet."""
        self._job, self._suites, self._schedule, self._limits = job, list(suites), schedule, limits
        self._runtime_env = {"env_vars": {**_ONE_THREAD, **worker_env(), **env_vars}}
        self._server = self._start_server(max_batch) if shared else None
        self._hands: dict[str, Hand] = {}
        self._attempts: Counter[Episode] = Counter()
        self._stillborn = 0  # workers in a row that died before their greeting
        self._hired = 0

    def _start_server(self, max_batch: int | None) -> Any:
        gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
        options = {"num_cpus": 0 if gpus else 1, "num_gpus": gpus, "max_restarts": -1, "runtime_env": self._runtime_env}
        return ray.remote(PolicyServer).options(**options).remote(self._job, max_batch)

    def hire(self) -> None:
        """Start one worker."""
        self._hired += 1
        name = f"worker-{self._hired}"
        actor = (
            ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0, concurrency_groups={"status": 1})(RayWorker)
            .options(runtime_env=self._runtime_env)
            .remote(self._job, name, self._server)
        )
        self._hands[name] = Hand(name, actor, actor.greet.remote(self._suites))

    def run(self, workers: int, on_greeting: Callable[[Greeting], None]) -> Iterator[Played]:
        """Yield episodes as they end, in whatever order."""
        for _ in range(min(workers, len(self._schedule))):
            self.hire()
        while len(self._schedule) or any(hand.episode for hand in self._hands.values()):
            ready, _ = ray.wait([hand.work for hand in self._hands.values()], timeout=POLL_S)
            for hand in [h for h in self._hands.values() if h.work in ready]:
                yield from self._collect(hand, on_greeting)
            for hand in list(self._hands.values()):
                yield from self._watch(hand)
        for hand in self._hands.values():  # started too late to play
            ray.kill(hand.actor)

    def _collect(self, hand: Hand, on_greeting: Callable[[Greeting], None]) -> Iterator[Played]:
        try:
            value = ray.get(hand.work)
        except RayTaskError as error:
            if not isinstance(error.cause, InfraFault):
                raise error.cause from error
            yield from self._replace(hand, Culprit.INFRA, str(error.cause))
            return
        except RayActorError as error:
            yield from self._replace(hand, Culprit.INFRA, f"the worker process died: {error}")
            return
        if not isinstance(value, Played):
            greeting, path = value
            self._stillborn = 0
            on_greeting(greeting)
            if greeting.host == os.uname().nodename and Path(path).exists():
                hand.phase_file = PhaseFile(path)
        else:
            episode = value.record.episode
            execution = replace(value.record.execution, attempts=self._attempts[episode] + 1)
            yield Played(replace(value.record, execution=execution), value.actions)
        self._assign(hand)

    def _assign(self, hand: Hand) -> None:
        hand.episode = self._schedule.take(hand.name)
        if hand.episode is None:
            ray.kill(hand.actor)
            del self._hands[hand.name]
            return
        hand.phase, hand.status = "env", None
        hand.assigned = hand.phase_began = hand.heard = time.monotonic()
        hand.work = hand.actor.play.remote(hand.episode)

    def _watch(self, hand: Hand) -> Iterator[Played]:
        """Find out a busy worker's phase; replace it when the phase outlasts its limit."""
        if hand.episode is None or hand.name not in self._hands:
            return
        elapsed = self._elapsed(hand)
        if elapsed <= self._limits.of(hand.phase):
            return
        ray.kill(hand.actor)
        if hand.phase == "policy" and self._server is not None:
            ray.kill(self._server, no_restart=False)
        culprit = Culprit.POLICY if hand.phase == "policy" else Culprit.ENV
        yield from self._replace(hand, culprit, self._limits.message(hand.phase))

    def _elapsed(self, hand: Hand) -> float:
        """Return the seconds that the worker's current phase lasts; update ``hand.phase``."""
        now = time.monotonic()
        if hand.phase_file is not None:
            status = hand.phase_file.read()
            hand.phase = status.phase
            return min(status.elapsed_s, now - hand.assigned)
        if hand.status is None:
            hand.status = hand.actor.status.options(concurrency_group="status").remote()
        elif ray.wait([hand.status], timeout=0)[0]:
            try:
                answer: Status = ray.get(hand.status)
            except (RayActorError, RayTaskError):
                return 0.0  # its episode's reference tells the same, and is dealt with there
            hand.phase, hand.phase_began, hand.heard, hand.status = answer.phase, now - answer.elapsed_s, now, None
        silent = now - hand.heard > 5 * POLL_S  # a native call on another host that keeps the interpreter lock
        return now - max(hand.assigned, hand.heard if silent else hand.phase_began)

    def _replace(self, hand: Hand, culprit: Culprit, why: str) -> Iterator[Played]:
        """Hire a new worker in place of ``hand``; play its episode again, or write it down as an ERROR."""
        del self._hands[hand.name]
        self._schedule.forget(hand.name)
        episode = hand.episode
        if episode is None:
            self._stillborn += 1
            if self._stillborn >= self._limits.attempts:
                raise WorkerDied(f"{self._stillborn} workers in a row died before their first episode: {why}")
        else:
            self._attempts[episode] += 1
            if culprit is not Culprit.POLICY and self._attempts[episode] < self._limits.attempts:
                self._schedule.give_back(episode)
            else:
                result = Result(Outcome.ERROR, culprit=culprit, error=why)
                execution = Execution(attempts=self._attempts[episode], worker=hand.name)
                yield Played(Record(episode, result, execution), np.zeros((0, 0), np.float32))
        if len(self._schedule) > sum(other.episode is None for other in self._hands.values()):
            self.hire()


def play_on_ray(
    job: Job,
    suites: Sequence[Suite],
    episodes: Iterable[Episode],
    limits: Limits,
    on_greeting: Callable[[Greeting], None],
    *,
    workers: int,
    address: str | None = None,
    env_vars: Mapping[str, str] | None = None,
    shared_policy: bool | None = None,
    max_batch: int | None = None,
) -> Generator[Played]:
    """Yield each episode as it ends. ``shared_policy=None`` shares one policy iff the cluster has a GPU.

    ``max_batch`` is how many queries a shared policy answers together; None: several iff that changes no bit.
    """
    with cluster(workers, address):
        shared = shared_policy if shared_policy is not None else ray.cluster_resources().get("GPU", 0) >= 1
        crew = Crew(job, suites, Schedule(episodes), limits, env_vars or {}, shared=shared, max_batch=max_batch)
        yield from crew.run(workers, on_greeting)
