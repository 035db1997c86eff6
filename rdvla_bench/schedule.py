"""Which episode a free worker plays next: stay with its task, for a change of task rebuilds the simulator."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from rdvla_bench.types import Episode

TaskKey = tuple[str, int]


def task_of(episode: Episode) -> TaskKey:
    """Return what an environment is built for."""
    return episode.suite, episode.task


class Schedule:
    """Hands out episodes, each once, unless it is given back."""

    def __init__(self, episodes: Iterable[Episode]) -> None:
        """Queue ``episodes`` in their order, by task."""
        self._waiting: dict[TaskKey, deque[Episode]] = {}
        self._at: dict[str, TaskKey] = {}  # worker -> the task its environment is built for
        for episode in episodes:
            self._waiting.setdefault(task_of(episode), deque()).append(episode)

    def __len__(self) -> int:
        """Return how many episodes wait."""
        return sum(map(len, self._waiting.values()))

    def take(self, worker: str) -> Episode | None:
        """Return the next episode of ``worker``, or None when nothing waits.

        Its own task first; else the task with the most waiting episodes for each worker that is at it.
        """
        own = self._at.get(worker)
        if own is None or not self._waiting.get(own):
            busy = list(self._at.values())
            own = max(
                (task for task, queue in self._waiting.items() if queue),
                key=lambda task: len(self._waiting[task]) / (1 + busy.count(task)),
                default=None,
            )
            if own is None:
                self._at.pop(worker, None)
                return None
            self._at[worker] = own
        return self._waiting[own].popleft()

    def give_back(self, episode: Episode) -> None:
        """Queue ``episode`` again, as the next of its task."""
        self._waiting.setdefault(task_of(episode), deque()).appendleft(episode)

    def forget(self, worker: str) -> None:
        """Drop what is known of a worker that died: its environment is gone."""
        self._at.pop(worker, None)
