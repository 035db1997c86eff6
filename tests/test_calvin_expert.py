"""Claims about CALVIN's scripted expert: its servo, its geometry, that it solves real tasks in all four scenes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pybullet")

from rdvla_bench.envs.calvin.env import CalvinEnv
from rdvla_bench.envs.calvin.sequences import chains
from rdvla_bench.envs.calvin.starts import initial_state
from rdvla_bench.policies.expert import expert, expert_noisy
from rdvla_bench.policies.expert.calvin import places
from rdvla_bench.policies.expert.calvin.blocks import footprint, grasp_yaws
from rdvla_bench.policies.expert.calvin.hand import Progress, act, advance
from rdvla_bench.policies.expert.calvin.move import CLOSED, OPEN, Move, action, correct, is_over, is_void
from rdvla_bench.policies.expert.calvin.reach import EASE, YAWS, euler_of, rotation, stretch, tool, yaw_of
from rdvla_bench.policies.expert.scripted import Expert
from rdvla_bench.policy import Policy
from rdvla_bench.types import Episode

pytestmark = pytest.mark.calvin
BASE = np.array([-0.34, -0.46, 0.24])
STATE = chains()[0].state._replace(
    led=0, lightbulb=0, slider="right", drawer="closed", red_block="table", blue_block="table", pink_block="slider_left"
)


def view(**changes: Any) -> dict[str, Any]:
    """A tool at rest over a table with one block, in the numbers of scene D."""
    block = {"pos": np.array([0.1, -0.1, 0.46]), "mat": np.eye(3), "half": np.array([0.04, 0.02, 0.02])}
    pose = {"pos": np.array([0.0, -0.2, 0.5]), "euler": np.array([np.pi, 0.0, EASE])}
    return {
        "benchmark": "calvin",
        "task": "lift_pink_block_table",
        "tcp_pos": pose["pos"],
        "tcp_euler": pose["euler"],
        "target_pos": pose["pos"].copy(),
        "target_euler": pose["euler"].copy(),
        "width": 0.08,
        "blocks": {"pink": {**block, "yaw": 0.0, "held": False, "on": ("table",)}},
        "joints": {
            "slide": {"value": 0.0, "lo": 0.0, "hi": 0.28},
            "drawer": {"value": 0.0, "lo": 0.0, "hi": 0.22},
            "button": {"value": 0.0, "lo": 0.0, "hi": 0.02},
            "switch": {"value": 0.0, "lo": 0.0, "hi": 0.088},
        },
        "lights": {"lightbulb": False, "led": False},
        "table": {
            "button": np.array([-0.12, -0.12, 0.46]),
            "switch": np.array([0.3, 0.061, 0.495]),
            "slide": np.array([-0.1, 0.075, 0.535]),
            "drawer": np.array([0.18, 0.0, 0.32]),
            "cupboard": np.array([-0.36, 0.16]),
            "base": BASE,
            "top": 0.44,
        },
        **changes,
    }


def test_the_servo_steers_the_target_and_not_the_arm() -> None:
    move = Move(np.array([0.01, -0.2, 0.5]), np.array([np.pi, 0.0, EASE]), OPEN)
    lagging = view(tcp_pos=np.array([-0.05, -0.2, 0.5]))
    assert action(lagging, move, np.zeros(6)) == pytest.approx([0.5, 0, 0, 0, 0, 0, 1], abs=1e-6)
    there = view(target_pos=move.pos.copy(), tcp_pos=np.array([-0.05, -0.2, 0.5]))
    assert action(there, move, np.zeros(6))[:6] == pytest.approx(np.zeros(6), abs=1e-6)


def test_the_target_never_runs_far_ahead_of_a_blocked_arm() -> None:
    move = Move(np.array([0.4, -0.2, 0.5]), np.array([np.pi, 0.0, EASE]), CLOSED)
    blocked = view()
    for _ in range(60):
        blocked["target_pos"] = blocked["target_pos"] + 0.02 * action(blocked, move, np.zeros(6))[:3]
    assert 0.0 < blocked["target_pos"][0] - blocked["tcp_pos"][0] <= 0.09 + 1e-6


def test_angles_take_the_short_way_and_yaw_stays_in_the_wrists_window() -> None:
    wrapped = view(target_euler=np.array([-np.pi + 0.02, 0.0, EASE]))
    move = Move(wrapped["tcp_pos"], np.array([np.pi, 0.0, EASE]), OPEN)
    assert action(wrapped, move, np.zeros(6))[3] == pytest.approx(-0.4, abs=1e-5)
    far = view(target_euler=np.array([np.pi, 0.0, YAWS[1] - 2 * np.pi]))
    assert action(far, replace(move, euler=np.array([np.pi, 0.0, YAWS[0]])), np.zeros(6))[5] == -1.0


def test_what_the_arm_leaves_builds_up_a_bounded_bias() -> None:
    move = Move(np.array([0.005, -0.2, 0.5]), np.array([np.pi, 0.0, EASE]), OPEN)
    bias = np.zeros(6)
    for _ in range(200):
        bias = correct(view(target_pos=move.pos + bias[:3]), move, bias)
    assert bias[0] == pytest.approx(0.025)


def test_a_move_waits_for_the_block_it_is_to_hold_until_its_limit() -> None:
    here = view()
    move = Move(here["tcp_pos"], here["tcp_euler"], CLOSED, hold="pink", limit=16)
    assert not is_over(here, move, 10)
    assert is_over(here, move, 16)
    here["blocks"]["pink"]["held"] = True
    assert is_over(here, move, 10)


def test_a_move_that_the_arm_cannot_end_is_over_once_nothing_moves() -> None:
    far, short = Move(np.array([0.5, -0.2, 0.5]), np.array([np.pi, 0.0, EASE]), OPEN), view()
    short["tcp_pos"] = far.pos - [0.04, 0.0, 0.0]
    now = Progress(task=short["task"], program=(far, far), bias=np.array([0.025, 0, 0, 0, 0, 0]))
    short["target_pos"] = far.pos + now.bias[:3]
    ended = []
    for _ in range(5):
        command, now = act(short, now)
        assert np.abs(command[:6]).max() < 0.01
        ended.append(now.index)
    assert ended == [0, 0, 0, 1, 1]
    waits = replace(far, hold="pink")
    now = Progress(task=short["task"], program=(waits, far), bias=now.bias)
    for _ in range(5):
        now = act(short, now)[1]
    assert now.index == 0


def test_a_program_is_void_once_its_block_lies_elsewhere() -> None:
    here = view()
    lay = np.array([[*here["blocks"]["pink"]["pos"], 0.0]])
    now = advance(here, Progress(task="lift_pink_block_table", start=lay))
    assert now.attempt == 0
    here["blocks"]["pink"]["pos"] = here["blocks"]["pink"]["pos"] + [0.03, 0, 0]
    assert is_void(here, now.program[0])
    again = advance(here, now)
    assert again.attempt == 0
    assert np.any([move.pos[0] > 0.12 for move in again.program])


@pytest.mark.parametrize("pitch", [0.0, 0.6])
def test_the_tool_leans_only_where_the_arm_would_be_straight(pitch: float) -> None:
    near, far = np.array([0.0, -0.2, 0.46]), np.array([0.42, 0.0, 0.46])
    assert rotation(tool(BASE, near, EASE, pitch))[:, 2] == pytest.approx([0, np.sin(pitch), -np.cos(pitch)], abs=1e-6)
    straight = rotation(np.array([np.pi, 0.0, EASE]))
    assert stretch(BASE, far, straight) > 0.7
    assert stretch(BASE, far, rotation(tool(BASE, far, EASE, pitch))) <= 0.676


def test_a_small_step_changes_the_lean_a_little() -> None:
    way = np.linspace([0.1, -0.2, 0.6], [0.42, 0.05, 0.6], 400)
    angles = np.array([tool(BASE, place, EASE, 0.4) for place in way])
    assert np.ptp(angles, axis=0).max() > 0.2
    assert np.abs(np.diff(angles, axis=0)).max() < 0.01  # rad, for less than 1 mm


def test_a_tool_leans_by_where_it_is_and_not_by_where_it_goes() -> None:
    far = np.array([0.42, 0.0, 0.46])
    move = Move(far, tool(BASE, far, EASE), CLOSED, lean=(EASE, 0.0))
    upright = {"target_euler": np.array([np.pi, 0.0, EASE])}
    near, there = view(**upright), view(tcp_pos=far, target_pos=far, **upright)
    assert action(near, move, np.zeros(6))[3:5] == pytest.approx(np.zeros(2), abs=1e-6)
    assert np.abs(action(there, move, np.zeros(6))[3:5]).max() == 1.0
    assert np.abs(action(near, replace(move, lean=None), np.zeros(6))[3:5]).max() == 1.0


def test_a_yaw_is_taken_up_where_the_block_is_seen_and_the_hand_comes_down_while_it_turns() -> None:
    over = next(move for move in advance(view(), Progress()).program if move.name == "over")
    above = next(move for move in advance(view(), Progress()).program if move.name == "above")
    assert abs(above.euler[2] - EASE) > 1.0  # the block lies across
    upright = {"tcp_euler": np.array([np.pi, 0.0, EASE]), "target_euler": np.array([np.pi, 0.0, EASE])}

    def turns(move: Move, aside: float) -> float:
        pos = above.pos + np.array([aside, 0.0, 0.06])
        return abs(float(action(view(tcp_pos=pos, target_pos=pos, **upright), move, np.zeros(6))[5]))

    assert turns(over, 0.15) == pytest.approx(0.0, abs=1e-6)
    assert 0.0 < turns(over, 0.0993) < 1.0
    assert turns(over, 0.04) == 1.0
    assert is_over(view(tcp_pos=over.pos, **upright), over, 1)  # not to be waited for up there

    heights = []
    for left in (1.2, 0.6, 0.3, 0.1, 0.0):
        turned = np.array([np.pi, 0.0, above.euler[2] + left])
        pos = above.pos + np.array([0.0, 0.0, 0.001])
        here = view(tcp_pos=pos, target_pos=pos, tcp_euler=turned, target_euler=turned)
        heights.append(0.001 + 0.02 * float(action(here, above, np.zeros(6))[2]))
    assert heights == sorted(heights, reverse=True)
    assert heights[-1] == pytest.approx(0.0, abs=1e-6)
    assert heights[2] == pytest.approx(0.018, abs=1e-3)


@pytest.mark.parametrize("seed", range(10))
def test_euler_angles_and_rotations_invert_each_other(seed: int) -> None:
    euler = np.random.default_rng(seed).uniform([-3.1, -1.5, -1.5], [3.1, 1.5, 4.7])
    assert euler_of(rotation(euler), euler[2] + 0.3) == pytest.approx(euler, abs=1e-9)
    assert -np.pi / 2 <= yaw_of(euler[2] + 7 * np.pi) < 3 * np.pi / 2


def test_a_long_block_is_taken_across_its_short_side() -> None:
    here = view()
    assert footprint(here, "pink").reach(np.array([1.0, 0.0])) == pytest.approx(0.04)
    yaws = grasp_yaws(here, "pink")
    assert yaws
    for yaw in yaws:
        assert abs(np.sin(yaw)) == pytest.approx(0.0, abs=1e-9)
        assert YAWS[0] <= yaw <= YAWS[1]


def test_from_afar_a_block_is_taken_alike_however_the_hand_is_turned() -> None:
    square = {
        "pos": np.array([0.1, -0.1, 0.46]),
        "mat": np.eye(3),
        "half": np.full(3, 0.02),
        "held": False,
        "on": ("table",),
    }

    def best(aside: float, yaw: float) -> float:
        pos, euler = np.array([0.1 + aside, -0.1, 0.5]), np.array([np.pi, 0.0, yaw])
        blocks = {"pink": {**square, "yaw": 0.0}}
        return grasp_yaws(view(blocks=blocks, tcp_pos=pos, target_euler=euler), "pink")[0]

    assert best(0.2, EASE) == best(0.2, EASE + 1.5) == pytest.approx(EASE)
    assert best(0.03, EASE + 1.5) != pytest.approx(EASE)


def hovering(aside: float, height: float, **changes: Any) -> dict[str, Any]:
    """The same tool beside and above the block, turned as its grasp asks."""
    pos = np.array([0.1 + aside, -0.1, height])
    grasp = next(move for move in advance(view(), Progress()).program if move.name == "down")
    return view(**{"tcp_pos": pos, "target_pos": pos.copy(), "tcp_euler": grasp.euler, **changes})


def names(scene: dict[str, Any]) -> list[str]:
    return [move.name for move in advance(scene, Progress()).program]


def test_a_hand_that_hovers_over_its_block_comes_down_instead_of_rising() -> None:
    far, near, around = (names(hovering(*place)) for place in ((0.2, 0.5), (0.04, 0.516), (0.005, 0.48)))
    assert far == ["rise", "over", "above", "down", "close", "lift"]
    assert near == ["over", "above", "down", "close", "lift"]
    assert around == ["down", "close", "lift"]
    over = advance(hovering(0.04, 0.54), Progress()).program[0]
    assert over.name == "over"
    assert over.pos[2] < 0.54


def test_a_hand_that_is_closed_or_turned_wrongly_does_not_come_straight_down() -> None:
    turned = np.array([np.pi, 0.0, EASE - 0.5])
    assert names(hovering(0.005, 0.48, width=0.02))[-4:] == ["above", "down", "close", "lift"]
    assert names(hovering(0.005, 0.48, tcp_euler=turned))[-4:] == ["above", "down", "close", "lift"]


def test_the_door_covers_what_its_joint_says() -> None:
    here = view()
    left, right = places.openings(here)
    assert left == pytest.approx((-0.36, -0.1))
    assert right[1] - right[0] <= 0.0
    here["joints"]["slide"]["value"] = 0.28
    left, right = places.openings(here)
    assert left[1] - left[0] <= 0.0
    assert right == pytest.approx((-0.1, 0.16))
    assert places.handle(here)[0] == pytest.approx(-0.24)


class Play:
    """Plays chains in one environment per scene, state only."""

    def __init__(self) -> None:
        self._envs: dict[str, CalvinEnv] = {}

    def env(self, scene: str) -> CalvinEnv:
        if scene not in self._envs:
            self._envs[scene] = CalvinEnv(f"calvin_{scene.lower()}", cameras=(), privileged=True)
        return self._envs[scene]

    def tasks(self, policy: Policy, tasks: list[str], state: Any, scene: str = "D", seed: int = 0) -> int:
        """Return how many of ``tasks`` were solved from a symbolic state."""
        robot_obs, scene_obs = initial_state(state, scene)
        env = self.env(scene)
        obs, info = env.reset(options={"robot_obs": robot_obs, "scene_obs": scene_obs, "tasks": tasks})
        episode = Episode(f"calvin_{scene.lower()}", 0, 0, 0, seed)
        progress = policy.initial_state(episode)
        solved, query, is_over = 0, 0, False
        while not is_over:
            chunk, progress = policy.act(
                {**obs, "privileged": info["privileged"]}, progress, np.random.default_rng(episode.query_seed(query))
            )
            obs, _, done, cut, info = env.step_chunk(chunk.actions)
            if info["subtask"] != solved:
                solved, progress = info["subtask"], policy.next_subtask(progress, episode)
            query, is_over = query + 1, done or cut
        return solved

    def chain(self, policy: Policy, number: int, scene: str = "D") -> int:
        """Return how many subtasks of one of the benchmark's chains were solved."""
        chain = chains()[number]
        return self.tasks(policy, list(chain.tasks), chain.state, scene)

    def close(self) -> None:
        for env in self._envs.values():
            env.close()


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    stage = Play()
    yield stage
    stage.close()


@pytest.mark.parametrize(
    ("tasks", "changes"),
    [
        (["turn_on_led", "turn_off_led", "turn_on_lightbulb", "turn_off_lightbulb"], {}),
        (["open_drawer", "close_drawer", "move_slider_left", "move_slider_right"], {}),
        (["rotate_red_block_left", "push_red_block_right", "push_blue_block_left", "rotate_blue_block_right"], {}),
        (["lift_red_block_table", "stack_block", "unstack_block"], {}),
        (
            ["lift_pink_block_slider", "place_in_drawer", "lift_pink_block_drawer", "place_in_slider"],
            {"drawer": "open"},
        ),
        (["push_into_drawer"], {"drawer": "open", "blue_block": "slider_right"}),
    ],
)
def test_every_kind_of_task_is_solved(play: Play, tasks: list[str], changes: dict[str, Any]) -> None:
    assert play.tasks(expert(), tasks, STATE._replace(**changes)) == len(tasks)


def test_a_block_behind_the_door_is_lifted_after_the_door_is_moved(play: Play) -> None:
    hidden = STATE._replace(slider="left")
    assert play.tasks(expert(), ["lift_pink_block_slider"], hidden) == 1


@pytest.mark.parametrize("task", ["push_red_block_right", "push_red_block_left", "rotate_red_block_left"])
def test_a_block_is_pushed_and_turned_on_the_table_and_stays_in_the_hand(
    play: Play, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    policy, seen = expert(), []
    act = policy.act

    def watched(obs: Any, *rest: Any) -> Any:
        seen.append(obs["privileged"]["blocks"]["red"])
        return act(obs, *rest)

    monkeypatch.setattr(policy, "act", watched)
    assert play.tasks(policy, [task], STATE) == 1
    heights = [block["pos"][2] for block in seen]
    assert max(heights) - heights[0] < 0.005
    assert seen[-1]["held"]


def test_the_first_chains_of_the_benchmark_are_solved(play: Play) -> None:
    solved = [play.chain(expert(), number) for number in range(5)]
    assert np.mean(solved) >= 4.5  # 4.9 over the first 200


@pytest.mark.parametrize("scene", "ABC")
def test_nothing_is_tied_to_scene_d(play: Play, scene: str) -> None:
    assert play.chain(expert(), 4, scene) == 5


def test_noise_on_the_motion_is_made_good(play: Play) -> None:
    assert play.chain(expert_noisy(0.3), 2) == 5


def test_the_same_chain_gives_the_same_result_after_another_one(play: Play) -> None:
    first = Expert()
    env = play.env("D")

    def digest() -> Any:
        play.chain(first, 3)
        return env.world.scene_obs()

    once = digest()
    play.chain(first, 5)
    assert np.array_equal(once, digest())
