"""A fake arm with LIBERO's action layout that demonstrations can be recorded of, and the expert that moves it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from rdvla_bench import ActionChunk, Episode, Policy, PolicyCard, Suite, Task
from rdvla_bench.protocol import CARDS
from rdvla_bench.types import Observation

SIDE = 16


class FakeArm:
    """Solved when the closed gripper has been at the target within the card's step cap; a jar is hopeless."""

    appearance = "grey"
    rendered: ClassVar[list[int]] = []  # the step of every picture drawn in this process

    def __init__(
        self,
        suite: str,
        task: int,
        protocol: Any,
        cameras: tuple[str, ...] | None = None,
        *,
        privileged: bool = False,
    ) -> None:
        self.cap = protocol.max_steps[suite]
        self.action_space, self.observation_space = spaces.Box(-1, 1, (7,), np.float32), spaces.Box(0, 1, (1,))
        self.task, self.privileged = task, privileged
        self.cameras = ("cam",) if cameras is None else cameras

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        del seed
        given = options or {}
        rng = np.random.default_rng(given["placement"])
        self.target, self.closed, self.steps = rng.uniform(2, 6, 3), 0, 0
        self.pos = np.array(given.get("at", np.zeros(3)), np.float64)
        self.told = self.task
        if "cup" in given:  # told to take the cup, which stands opposite of where it would be as a task of its own
            self.told, self.target = 2, -self.target
            if given["cup"] == "broken":
                raise RuntimeError("the cup is broken")
        return self._observe(), self._info()

    def step_chunk(self, actions: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        for action in actions:
            self.pos = self.pos + action[:3].astype(np.float64)
            is_there = np.linalg.norm(self.pos - self.target) < 0.5 and action[6] > 0 and self.task != 1
            self.closed, self.steps = self.closed + int(is_there), self.steps + 1
            if self.closed >= 5 or self.steps >= self.cap:
                break
        done = self.closed >= 5
        return self._observe(), float(done), done, self.steps >= self.cap and not done, self._info()

    def _observe(self) -> Any:
        if self.cameras:
            self.rendered.append(self.steps)
        pixels = np.add.outer(np.arange(SIDE) * 9, np.arange(SIDE) * 5)[..., None] + self.pos * 10
        return {
            "images": dict.fromkeys(self.cameras, pixels.astype(np.int64).astype(np.uint8)),
            "proprio": np.concatenate([self.pos, np.zeros(5)]).astype(np.float32),
            "instruction": f"grab the {('can', 'jar', 'cup')[self.told]}",
        }

    def _info(self) -> dict[str, Any]:
        seen = {"privileged": {"error": self.target - self.pos}} if self.privileged else {}
        return {"steps": self.steps, **seen}

    def get_state(self) -> np.ndarray:
        return np.concatenate([self.pos, self.target, [self.closed, self.steps]])

    def scene_digest(self) -> str:
        return hashlib.sha256(self.target.tobytes()).hexdigest()

    def close(self) -> None:
        return


def demo_start(suite: str, task: int, seed: int, number: int) -> dict[str, Any]:
    """Return the start of one demonstration."""
    del suite, task
    return {"placement": 1000 * seed + number}


class FakeAlternatives:
    """Where the can is wanted, the cup could be, until the hand is halfway there."""

    cup: ClassVar[object] = "whole"

    def __init__(self, suite: str, start: Mapping[str, Any]) -> None:
        del suite
        self._start = start

    def families(self, subtask: int, then: Observation, now: Observation) -> tuple[tuple[str, ...], ...]:
        assert subtask == 0
        far = np.linalg.norm(now["privileged"]["error"]) > np.linalg.norm(then["privileged"]["error"]) / 2
        return (("cup",),) if far and now["instruction"] == "grab the can" else ()

    def restart(self, now: Observation, task: str) -> dict[str, Any]:
        assert task == "cup"
        return {**self._start, "at": now["proprio"][:3], "cup": self.cup}


ARM = Suite(
    name="fake_arm",
    benchmark="fake_arm",
    tasks=(Task("can", "grab the can"), Task("jar", "grab the jar"), Task("cup", "grab the cup")),
    n_starts=10,
    start_option="start",
    env_id="rdvla_fakes/Arm-v0",
    env_entry="rdvla_fake_arm:FakeArm",
    cameras={"cam": (SIDE, SIDE)},
    proprio=("x",) * 8,
    actions=("x",) * 7,
    default_protocol="fake_arm/arm@1",
    extra="libero",
    demo_starts="rdvla_fake_arm:demo_start",
    demo_alternatives="rdvla_fake_arm:FakeAlternatives",
)
CARDS["fake_arm/arm@1"] = replace(  # type: ignore[index]
    CARDS["libero/paired@1"], name="fake_arm/arm@1", max_steps={"fake_arm": 40}, n_trials=10, pins={}
)


class FakeExpert(Policy):
    """Goes straight to the target and closes the gripper there."""

    card = PolicyCard("fake-expert", "none", privileged=True)

    def initial_state(self, episode: Episode) -> None:
        del episode

    def act(self, obs: Any, state: None, rng: np.random.Generator) -> tuple[ActionChunk, None]:
        del state, rng
        error = obs["privileged"]["error"]
        grip = 1.0 if np.linalg.norm(error) < 0.45 else -1.0
        action = np.concatenate([np.clip(error, -0.4, 0.4), np.zeros(3), [grip]])
        return ActionChunk(action.astype(np.float32)[None]), None


def fake_expert() -> Policy:
    """Grab the can."""
    return FakeExpert()


class FakeDriver(Policy):
    """Goes a way of its own by what the camera shows; it insists that the picture is of this very moment."""

    looked: ClassVar[list[int]] = []  # the step of every picture it was shown in this process

    def __init__(self, pace: float, weights_sha256: str = "") -> None:
        card = PolicyCard("fake-driver", "untrained", cameras=("cam",), chunk=4, config={"pace": pace})
        self.card = replace(card, weights_sha256=weights_sha256)

    def act(self, obs: Any, state: int | None, rng: np.random.Generator) -> tuple[ActionChunk, int]:
        assert "privileged" not in obs
        corner = obs["images"]["cam"][0, 0]
        np.testing.assert_array_equal(corner, (obs["proprio"][:3].astype(np.float64) * 10).astype(np.int64) % 256)
        self.looked.append(4 * (state or 0))
        way = np.concatenate([rng.uniform(0, self.card.config["pace"], 3), np.zeros(3), [-1]])
        return ActionChunk(np.tile(way, (4, 1)).astype(np.float32)), (state or 0) + 1


def fake_driver(*, pace: float = 0.3) -> Policy:
    """Wander off."""
    return FakeDriver(pace)


def fake_trained_driver(*, checkpoint: Path, pace: float = 0.3) -> Policy:
    """Wander off, with weights that are a file's."""
    return FakeDriver(pace, hashlib.sha256(checkpoint.read_bytes()).hexdigest())
