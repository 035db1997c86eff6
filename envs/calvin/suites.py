"""CALVIN's four suites as pure data: one per scene, each with the same 34 tasks and the same 1000 chains.

An episode is one chain, so a suite has a single task whose start states are the chains.

Non-obvious:
    * The order of ``TASKS`` is load-bearing: the chains are drawn by index into it.
    * Instructions are the validation sentences word for word, three capital letters included: language models see
      them.
    * Left and right are those of someone who faces the table: right is +x, and a turn to the right is clockwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from rdvla_bench.suite import Suite, Task

INSTRUCTIONS: Mapping[str, str] = {
    "rotate_red_block_right": "take the red block and rotate it to the right",
    "rotate_red_block_left": "take the red block and rotate it to the left",
    "rotate_blue_block_right": "take the blue block and rotate it to the right",
    "rotate_blue_block_left": "take the blue block and rotate it to the left",
    "rotate_pink_block_right": "take the pink block and rotate it to the right",
    "rotate_pink_block_left": "take the pink block and rotate it to the left",
    "push_red_block_right": "go push the red block right",
    "push_red_block_left": "go push the red block left",
    "push_blue_block_right": "go push the blue block right",
    "push_blue_block_left": "go push the blue block left",
    "push_pink_block_right": "go push the pink block right",
    "push_pink_block_left": "go push the pink block left",
    "move_slider_left": "push the sliding door to the left side",
    "move_slider_right": "push the sliding door to the right side",
    "open_drawer": "pull the handle to open the drawer",
    "close_drawer": "push the handle to close the drawer",
    "lift_red_block_table": "grasp and lift the red block",
    "lift_red_block_slider": "lift the red block from the sliding cabinet",
    "lift_red_block_drawer": "Take the red block from the drawer",
    "lift_blue_block_table": "grasp and lift the blue block",
    "lift_blue_block_slider": "lift the blue block from the sliding cabinet",
    "lift_blue_block_drawer": "Take the blue block from the drawer",
    "lift_pink_block_table": "grasp and lift the pink block",
    "lift_pink_block_slider": "lift the pink block from the sliding cabinet",
    "lift_pink_block_drawer": "Take the pink block from the drawer",
    "place_in_slider": "store the grasped block in the sliding cabinet",
    "place_in_drawer": "store the grasped block in the drawer",
    "stack_block": "stack the grasped block",
    "unstack_block": "remove the stacked block",
    "turn_on_lightbulb": "use the switch to turn on the light bulb",
    "turn_off_lightbulb": "use the switch to turn off the light bulb",
    "turn_on_led": "press the button to turn on the led light",
    "turn_off_led": "press the button to turn off the led light",
    "push_into_drawer": "slide the block that it falls into the drawer",
}
"""Task -> its only validation sentence: mees/calvin@fa03f01
calvin_models/conf/annotations/new_playtable_validation.yaml."""

TASKS: tuple[str, ...] = tuple(INSTRUCTIONS)
"""In the order of mees/calvin@fa03f01 calvin_agent/evaluation/multistep_sequences.py ``tasks``."""

N_CHAINS = 1000  # mees/calvin@fa03f01 calvin_agent/evaluation/evaluate_policy.py NUM_SEQUENCES
CHAIN_LENGTH = 5  # the same file: five instructions in a row

_PROPRIO = (
    "tcp x, m, world frame",
    "tcp y, m, world frame",
    "tcp z, m, world frame",
    "tcp euler x, rad, extrinsic xyz, world frame",
    "tcp euler y, rad, extrinsic xyz, world frame",
    "tcp euler z, rad, extrinsic xyz, world frame",
    "gripper width, m, sum of both fingers",
    *(f"arm joint {i}, rad" for i in range(1, 8)),
    "last gripper action, +1 open, -1 close",
)
_ACTIONS = (
    "target dx, 1 = 0.02 m, world frame",
    "target dy, 1 = 0.02 m, world frame",
    "target dz, 1 = 0.02 m, world frame",
    "target euler dx, 1 = 0.05 rad, extrinsic xyz added componentwise, world frame",
    "target euler dy, 1 = 0.05 rad, extrinsic xyz added componentwise, world frame",
    "target euler dz, 1 = 0.05 rad, extrinsic xyz added componentwise, world frame",
    "gripper, +1 open, -1 close (> 0 counts as open)",
)


def _suite(scene: Literal["A", "B", "C", "D"]) -> Suite:
    return Suite(
        name=f"calvin_{scene.lower()}",
        benchmark="calvin",
        tasks=(Task("chain", "five instructions in a row"),),
        n_starts=N_CHAINS,
        start_option="chain",
        env_id=f"rdvla_bench/Calvin{scene}-v0",
        env_entry="rdvla_bench.envs.calvin.env:CalvinEnv",
        cameras={"static": (200, 200), "gripper": (84, 84)},  # mees/calvin_env@797142c conf/cameras
        proprio=_PROPRIO,
        actions=_ACTIONS,
        default_protocol="calvin/procedural@1",
        extra="calvin",
        runtime="rdvla_bench.envs.calvin.runtime",
        settings={"assets": "path", "backend": "text"},
        n_instructions=CHAIN_LENGTH,
        control_hz=30,  # mees/calvin_env@797142c conf/env/play_table_env.yaml control_freq
        demo_starts="" if scene == "D" else "rdvla_bench.envs.calvin.demo_starts:demo_start",  # D is for evaluation
        demo_alternatives="rdvla_bench.envs.calvin.demo_alternatives:Alternatives",
    )


CALVIN_A = _suite("A")
CALVIN_B = _suite("B")
CALVIN_C = _suite("C")
CALVIN_D = _suite("D")

SUITES: dict[str, Suite] = {suite.name: suite for suite in (CALVIN_A, CALVIN_B, CALVIN_C, CALVIN_D)}
SCENE_OF: Mapping[str, str] = {CALVIN_A.name: "A", CALVIN_B.name: "B", CALVIN_C.name: "C", CALVIN_D.name: "D"}
"""Suite -> scene."""
