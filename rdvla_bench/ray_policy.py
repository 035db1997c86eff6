"""One policy for all workers: a Ray actor that answers their queries, where a policy a worker would not fit.

Observations travel through Ray's shared-memory object store. Results are those of a policy a worker: every random
draw is the query's own, and queries are answered together only where that changes no bit, or where it was asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError, RayTaskError

from rdvla_bench.batching import Batcher, batching_for
from rdvla_bench.errors import InfraFault
from rdvla_bench.policy import HorizonRule, Policy, PolicyCard
from rdvla_bench.registry import load_policy
from rdvla_bench.types import ActionChunk, Episode, Observation
from rdvla_bench.worker import Job


class PolicyServer:
    """The actor that holds the policy; asynchronous, so that queries of several workers meet in it."""

    def __init__(self, job: Job, max_batch: int | None = None) -> None:
        """Load the policy; ``max_batch`` as in ``batching_for``."""
        self._policy = load_policy(job.policy, job.settings, job.benchmark)
        batching = batching_for(self._policy, max_batch)
        self._batcher = Batcher(self._policy, batching) if batching else None

    def describe(self) -> tuple[PolicyCard, HorizonRule]:
        """Return what a client answers without asking."""
        return self._policy.card, self._policy.horizon

    def initial_state(self, episode: Episode) -> Any:
        """Return the policy's state before the first query."""
        return self._policy.initial_state(episode)

    def next_subtask(self, state: Any, episode: Episode) -> Any:
        """Return the policy's state before the first query of a chain's next instruction."""
        return self._policy.next_subtask(state, episode)

    async def act(self, obs: Observation, state: Any, rng: np.random.Generator) -> tuple[ActionChunk, Any]:
        """Answer one query, alone or with those that others ask at the same time."""
        if self._batcher is None:
            return self._policy.act(obs, state, rng)
        return await self._batcher.act(obs, state, rng)


class PolicyClient(Policy):
    """Stands in for the shared policy inside a worker."""

    def __init__(self, server: Any) -> None:
        """Ask the server for its card and horizon rule."""
        self._server = server
        self.card, self.horizon = self._ask("describe")

    def initial_state(self, episode: Episode) -> Any:
        """Return the policy's state before the first query."""
        return self._ask("initial_state", episode)

    def next_subtask(self, state: Any, episode: Episode) -> Any:
        """Return the policy's state before the first query of a chain's next instruction."""
        return self._ask("next_subtask", state, episode)

    def act(self, obs: Observation, state: Any, rng: np.random.Generator) -> tuple[ActionChunk, Any]:
        """Answer one query through the server."""
        chunk: tuple[ActionChunk, Any] = self._ask("act", obs, state, rng)
        return chunk

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            return ray.get(getattr(self._server, method).remote(*arguments))
        except RayTaskError as error:
            raise error.cause from error
        except RayActorError as error:
            raise InfraFault(f"the shared policy's process is gone: {error}") from error
