"""One fake env and one fake policy, found through entry points like any plug-in.

The env is a leaky bucket: its state is the sum of actions plus a start that depends on the seed. The policy can be
told to misbehave in one episode, given by 100 x task + start.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from rdvla_bench import ActionChunk, Compute, Episode, Policy, PolicyCard, Suite, Task
from rdvla_bench.errors import UsageError
from rdvla_bench.protocol import CARDS
from rdvla_bench.protocol_card import ProtocolCard

ACTIONS = ("x (1)", "y (1)")


class FakeEnv(gymnasium.Env[Any, Any]):
    """Succeeds when the sum of the first action value reaches 5."""

    appearance = "grey"

    def __init__(
        self,
        suite: str,
        task: int,
        protocol: ProtocolCard,
        cameras: tuple[str, ...] | None = None,
        *,
        privileged: bool = False,
    ) -> None:
        self.action_space, self.observation_space = spaces.Box(-1, 1, (2,), np.float32), spaces.Dict()
        self.task, self.max_steps = task, protocol.max_steps[suite]
        self.cameras = ("cam",) if cameras is None else cameras

    def _obs(self) -> dict[str, Any]:
        image = np.full((8, 8, 3), int(abs(self.state[0]) * 20) % 256, np.uint8)
        return {
            "images": dict.fromkeys(self.cameras, image),
            "proprio": self.state.astype(np.float32),
            "instruction": f"fill bucket {self.task}",
        }

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.start = (options or {})["start"]
        self.state = self.np_random.normal(size=2) + self.task
        self.steps = 0
        return self._obs(), {"steps": 0}

    def step_chunk(self, actions: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        for action in actions:
            time.sleep(float(os.environ.get("FAKE_STEP_S", "0")))
            self.state = 0.99 * self.state + action
            self.steps += 1
            done, capped = bool(self.state[0] >= 5), self.steps >= self.max_steps
            if done or capped:
                break
        return self._obs(), float(done), done, capped and not done, {"steps": self.steps}

    def get_state(self) -> np.ndarray:
        return self.state.copy()

    def scene_digest(self) -> str:
        return hashlib.sha256(self.state.tobytes()).hexdigest()


FAKE_SUITE = Suite(
    name="fake_suite",
    benchmark="fake",
    tasks=tuple(Task(f"bucket_{i}", f"fill bucket {i}") for i in range(3)),
    n_starts=10,
    start_option="start",
    env_id="rdvla_fakes/Fake-v0",
    env_entry="rdvla_fakes:FakeEnv",
    cameras={"cam": (8, 8)},
    proprio=("x", "y"),
    actions=ACTIONS,
    default_protocol="fake/fake@1",
    extra="libero",
)
CARD = replace(CARDS["libero/paired@1"], name="fake/fake@1", max_steps={"fake_suite": 40}, n_trials=10, pins={})
CARDS["fake/fake@1"] = CARD  # type: ignore[index]

PAIR = replace(  # of another benchmark
    FAKE_SUITE, name="fake_pair", benchmark="pair", tasks=FAKE_SUITE.tasks[:2], default_protocol="pair/pair@1"
)
CARDS["pair/pair@1"] = replace(CARD, name="pair/pair@1", max_steps={"fake_pair": 40}, n_trials=7)  # type: ignore[index]

Fault = Literal[
    "none",
    "nan",
    "shape",
    "range",
    "raise",
    "hang",
    "native-hang",
    "die",
    "die-once",
    "stop",
    "bad-camera",
    "env-hang-once",
]


class FakePolicy(Policy):
    """Pushes with noise; its depth is drawn from the query's seed."""

    def __init__(self, fault: Fault, at: int, marker: str, query_s: float) -> None:
        cameras = ("nose",) if fault == "bad-camera" else ()
        self.card = PolicyCard("fake", "none", cameras, chunk=4, config={"fault": fault, "at": at})
        self._fault, self._at, self._marker, self._query_s = fault, at, marker, query_s

    def initial_state(self, episode: Episode) -> int:
        return 100 * episode.task + episode.start

    def act(self, obs: Any, state: int, rng: np.random.Generator) -> tuple[ActionChunk, int]:
        time.sleep(self._query_s)
        actions = np.clip(0.2 + 0.3 * rng.normal(size=(4, 2)), -1, 1).astype(np.float32)
        depth = int(rng.integers(2, 9))
        if state == self._at and self._fault != "none":
            actions = self._misbehave(actions)
        if self._fault == "env-hang-once" and not Path(self._marker).exists():
            Path(self._marker).touch()
            os.environ["FAKE_STEP_S"] = "3600"
        return ActionChunk(actions, Compute(depth, tuple(1 / (1 + i) for i in range(depth)), 1e6 * depth)), state

    def _misbehave(self, actions: np.ndarray) -> np.ndarray:
        match self._fault:
            case "nan":
                actions[1, 1] = np.nan
            case "shape":
                return actions[:, :1]
            case "range":
                actions[2, 0] = 1.5
            case "raise":
                raise RuntimeError("the fake policy was told to raise")
            case "stop":
                raise StopIteration
            case "hang":
                time.sleep(3600)
            case "native-hang":  # a regular expression that backtracks for ever keeps the interpreter lock
                import re

                re.match(r"(a+)+$", "a" * 64 + "b")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "die-once":
                if not Path(self._marker).exists():
                    Path(self._marker).touch()
                    os.kill(os.getpid(), signal.SIGKILL)
        return actions


def fake(*, fault: Fault = "none", at: int = 1, marker: str = "", query_s: float = 0.0) -> Policy:
    """Fill the bucket, or misbehave in the episode ``at`` = 100 x task + start."""
    return FakePolicy(fault, at, marker, query_s)


def pair_hater(*, benchmark: str = "") -> Policy:
    """Fill the buckets of one benchmark only."""
    if benchmark == "pair":
        raise UsageError("this policy does not play pair")
    return FakePolicy("none", 1, "", 0.0)
