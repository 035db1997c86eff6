"""The values that cross a seam: observation, action chunk, compute, episode, outcome.

Letters: K actions in a chunk, A action width, P proprioception width, H x W image height and width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.seeding import derive_seed

Array = NDArray[Any]


class Observation(TypedDict):
    """What a policy sees at one query."""

    images: dict[str, NDArray[np.uint8]]  # camera -> (H, W, 3) RGB, upright
    proprio: NDArray[np.float32]  # (P,), meaning fixed per suite
    instruction: str
    privileged: NotRequired[Mapping[str, Any]]  # simulator state, only for policies whose card asks for it


@dataclass(frozen=True)
class Compute:
    """What one query cost.

    ``depth``, ``exit_trace`` and ``flops`` are results (functions of the query alone); the rest are circumstances
    of this execution and are stored apart from results. Seconds of work done for several queries at once are each
    one's equal share.
    """

    depth: int = 0  # iterations of the recurrent core; 0 for a policy without one
    exit_trace: tuple[float, ...] = ()  # the exit criterion's value after each iteration that evaluated it
    flops: float | None = None  # analytic, multiply and add counted apart; None where unknown
    model_s: float = 0.0  # seconds inside the model
    batch_size: int = 1
    backbone_s: float | None = None  # the part of ``model_s`` before the head; None where not measured apart
    head_s: float | None = None  # the part of ``model_s`` that grows with depth
    peak_memory_bytes: int | None = None  # of the accelerator, since the process began; None where not measured


@dataclass(frozen=True, eq=False)
class ActionChunk:
    """The K actions that one query returns, in the env's own convention, and what they cost."""

    actions: NDArray[np.float32]  # (K, A)
    compute: Compute = field(default_factory=Compute)


@dataclass(frozen=True, order=True)
class Episode:
    """The unit of work. With a protocol card and a policy card it determines its result completely."""

    suite: str
    task: int
    start: int  # index of the benchmark's init state (LIBERO) or chain (CALVIN)
    repetition: int
    seed: int  # the run's seed

    @property
    def id(self) -> str:
        """Return the name used in the ledger, in file names and on the command line."""
        return f"{self.suite}-t{self.task:02d}-s{self.start:03d}-r{self.repetition}"

    @property
    def env_seed(self) -> int:
        """Return the 32-bit seed handed to ``env.reset``."""
        return derive_seed("env", self.seed, self.suite, self.task, self.start, self.repetition, bits=32)

    def query_seed(self, query: int) -> int:
        """Return the seed of every random draw the policy makes in query number ``query``."""
        return derive_seed("query", self.seed, self.suite, self.task, self.start, self.repetition, query)


class Outcome(StrEnum):
    """How an episode ended. ERROR is no failure of the policy to solve the task and is never averaged in."""

    SUCCESS = "success"
    TIMEOUT = "timeout"
    ERROR = "error"


class Culprit(StrEnum):
    """Whose fault an ERROR is."""

    POLICY = "policy"
    ENV = "env"
    INFRA = "infra"
