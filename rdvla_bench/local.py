"""``--workers 0``: play the episodes one after another in this process, without Ray."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from rdvla_bench.errors import EnvFault, PolicyFault
from rdvla_bench.limits import Limits
from rdvla_bench.rollout import Phase
from rdvla_bench.suite import Suite
from rdvla_bench.types import Episode
from rdvla_bench.worker import Greeting, Job, Played


@contextmanager
def alarm(limits: Limits) -> Iterator[Callable[[Phase], None]]:
    """Yield an ``on_phase`` that raises in the phase that outlasts its limit.

    Non-obvious:
    - Works in the main thread of a POSIX process only; elsewhere it limits nothing.
    - Interrupts Python code and system calls; a hang inside a native library needs ``--workers 1``, whose
      worker process can be killed.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield lambda phase: None
        return
    current: list[Phase] = ["env"]

    def on_alarm(number: int, frame: FrameType | None) -> None:
        del number, frame
        fault = PolicyFault if current[0] == "policy" else EnvFault
        raise fault(limits.message(current[0]))

    def on_phase(phase: Phase) -> None:
        current[0] = phase
        signal.setitimer(signal.ITIMER_REAL, limits.of(phase))

    before = signal.signal(signal.SIGALRM, on_alarm)
    try:
        yield on_phase
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def play_locally(
    job: Job,
    suites: Iterable[Suite],
    episodes: Iterable[Episode],
    limits: Limits,
    on_greeting: Callable[[Greeting], None],
) -> Generator[Played]:
    """Yield each episode as it ends, in order."""
    worker = job.make_worker()
    try:
        greeting = None
        for suite in suites:
            greeting = worker.greet(suite)
            on_greeting(greeting)
        for episode in episodes:
            with alarm(limits) as on_phase:
                played = worker.play(episode, on_phase=on_phase)
            yield played
    finally:
        worker.close()
