"""Claims about CALVIN's world: it moves as the original does, and depends on nothing but its start and its actions.

``data/calvin/original.npz`` holds 24 episodes recorded from mees/calvin_env@797142c (pybullet 3.2.7, world reloaded
before each): for every episode the actions (T, 7), the start (24,), the oracle's events ("step:task"), the steps at
which its start was taken anew, and every fifth robot_obs and scene_obs with the final one (float32; ``at`` tells
after how many actions).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("pybullet")

import pybullet

from rdvla_bench.envs.calvin import table
from rdvla_bench.envs.calvin.look import PROCEDURAL
from rdvla_bench.envs.calvin.oracle import achieved
from rdvla_bench.envs.calvin.robot import NEUTRAL_JOINTS
from rdvla_bench.envs.calvin.scenes import SCENES
from rdvla_bench.envs.calvin.snapshot import BASE_LINK, PLANK_LINK, ROBOT, TABLE
from rdvla_bench.envs.calvin.world import World
from rdvla_bench.errors import UnknownName, UsageError

Floats = NDArray[np.float64]

RECORDED = np.load(Path(__file__).parent / "data" / "calvin" / "original.npz")
EPISODES = sorted({key.split("/")[0] for key in RECORDED.files if "/" in key})
START = RECORDED["reset_robot"]

FREE_M = 1e-5  # of the tcp, until the robot touches something; measured 2.2e-6
BLOCK_M = 2e-3  # of every block at the end; measured 1.1 mm
LOOSE_BLOCKS_M = {  # where small differences grow: measured
    "D_place_in_slider": 6e-3,  # 4 mm: falls onto the shelf
    "D_push_red_right": 60e-3,  # 31 mm: driven 20 cm by a finger; the original's own meshes give 52 mm here
    "D_switch_on": 60e-3,  # 32 mm: swept aside on the way
}
JOINTS_M = 5e-4  # of doors, button and switch at the end; measured 0.4 mm
EVENT_STEPS = 1  # measured: 0 in 25 of 26 events, else 1


@dataclass(frozen=True, eq=False)
class Replay:
    """An episode's actions in our world."""

    at: NDArray[np.int16]
    robot_obs: Floats  # (len(at), 15)
    scene_obs: Floats  # (len(at), 24)
    first_contact: int  # after so many actions the robot touched something
    events: dict[str, int]


@cache
def replay(episode: str) -> Replay:
    at = recorded(episode, "at")
    marks = set(recorded(episode, "marks").tolist())
    world = World(episode[0])
    world.reset(START, recorded(episode, "reset_scene"))
    start, first_contact, events = world.snapshot(), len(recorded(episode, "actions")) + 1, {}
    robot_obs, scene_obs = [world.robot_obs()], [world.scene_obs()]
    for step, action in enumerate(recorded(episode, "actions"), start=1):
        world.step(action)
        now = world.snapshot()
        if now.robot_contacts:
            first_contact = min(first_contact, step)
        for task in achieved(start, now):
            events.setdefault(task, step)
        start = now if step in marks else start
        if step in at:
            robot_obs.append(world.robot_obs())
            scene_obs.append(world.scene_obs())
    world.close()
    return Replay(at, np.array(robot_obs), np.array(scene_obs), first_contact, events)


def recorded(episode: str, what: str) -> NDArray[np.float64]:
    return RECORDED[f"{episode}/{what}"]


@pytest.fixture
def world() -> Iterator[World]:
    world = World("D")
    yield world
    world.close()


def scene_obs(scene: str = "D", *, lights: tuple[int, int] = (0, 0)) -> Floats:
    """Two blocks behind the door, one on the table."""
    obs = recorded(next(episode for episode in EPISODES if episode[0] == scene), "reset_scene").copy()
    obs[4:6] = lights
    return obs


def tumble(world: World, scene: Floats, *, seed: int, n_steps: int = 60) -> Floats:
    """Every full state along a ride that shoves things about."""
    rng = np.random.default_rng(seed)
    world.reset(START, scene)
    states = [world.full_state()]
    for i in range(n_steps):
        world.step(np.array([*rng.uniform(-1, 1, 2), -0.7, *rng.uniform(-1, 1, 3), 1.0 if i % 20 < 10 else -1.0]))
        states.append(world.full_state())
    return np.array(states)


@pytest.mark.parametrize("episode", EPISODES)
def test_the_free_arm_moves_as_the_originals(episode: str) -> None:
    ours = replay(episode)
    free = ours.at < ours.first_contact
    assert free.sum() > 1
    error = np.abs(ours.robot_obs - recorded(episode, "robot_obs"))[free, :3]
    assert error.max() < FREE_M


@pytest.mark.parametrize("episode", EPISODES)
def test_blocks_end_where_the_originals_do(episode: str) -> None:
    error = np.abs(replay(episode).scene_obs - recorded(episode, "scene_obs"))[-1, 6:].reshape(3, 6)[:, :3]
    assert np.linalg.norm(error, axis=1).max() < LOOSE_BLOCKS_M.get(episode, BLOCK_M)


@pytest.mark.parametrize("episode", EPISODES)
def test_doors_switch_and_lights_end_as_the_originals(episode: str) -> None:
    ours, theirs = replay(episode).scene_obs[-1], recorded(episode, "scene_obs")[-1]
    np.testing.assert_allclose(ours[:4], theirs[:4], atol=JOINTS_M)
    np.testing.assert_array_equal(ours[4:6], theirs[4:6])


@pytest.mark.parametrize("episode", EPISODES)
def test_the_same_tasks_come_true_at_the_same_step(episode: str) -> None:
    pairs = (event.split(":") for event in recorded(episode, "events"))
    theirs = {task: int(step) for step, task in pairs}
    ours = replay(episode).events
    assert set(ours) == set(theirs)
    assert all(abs(ours[task] - theirs[task]) <= EVENT_STEPS for task in theirs)


@pytest.mark.parametrize("scene", sorted(SCENES))
def test_at_reset_a_block_touches_what_it_lies_on_and_nothing_else(scene: str) -> None:
    world = World(scene)
    obs = scene_obs(scene)
    world.reset(START, obs)
    blocks = world.snapshot().blocks
    for spec, height in zip(SCENES[scene].blocks, obs[8::6], strict=True):
        link = PLANK_LINK if height > 0.4605 else BASE_LINK
        assert blocks[spec.colour].contacts == {(TABLE, link)}
    world.close()


@pytest.mark.parametrize("scene", sorted(SCENES))
def test_bodies_and_links_carry_the_originals_numbers(scene: str) -> None:
    world = World(scene)
    names = [pybullet.getBodyInfo(body, physicsClientId=world.client)[1].decode() for body in range(7)]
    colours = [f"block_{block.colour}" for block in SCENES[scene].blocks]
    assert names[0] == "panda"
    assert names[2:] == [*colours, f"calvin_table_{scene}", "plane"]

    def links(body: int) -> list[str]:
        count = pybullet.getNumJoints(body, physicsClientId=world.client)
        return [pybullet.getJointInfo(body, i, physicsClientId=world.client)[12].decode() for i in range(count)]

    assert links(TABLE) == list(table.LINKS)
    assert links(ROBOT)[8:] == [
        "panda_hand",
        "panda_leftfinger",
        "finger_left_tip",
        "panda_rightfinger",
        "finger_right_tip",
        "panda_grasptarget",
        "gripper_cam",
        "tcp",
    ]
    world.close()


def test_a_run_does_not_depend_on_the_run_before(world: World) -> None:
    lit = scene_obs(lights=(1, 1))
    first = tumble(world, scene_obs(), seed=0)
    second = tumble(world, lit, seed=1)
    other = World("D")
    np.testing.assert_array_equal(tumble(other, lit, seed=1), second)
    np.testing.assert_array_equal(tumble(other, scene_obs(), seed=0), first)
    other.close()


def test_a_visible_world_moves_bit_for_bit_as_an_invisible_one(world: World) -> None:
    seen = World("D", PROCEDURAL)
    np.testing.assert_array_equal(tumble(seen, scene_obs(), seed=2), tumble(world, scene_obs(), seed=2))
    seen.close()


def test_asking_for_contacts_and_observations_changes_nothing(world: World) -> None:
    actions = recorded("D_lift_red_table", "actions")[:45]
    quiet = World("D")
    for each in (quiet, world):
        each.reset(START, scene_obs())
    for action in actions:
        quiet.step(action)
        world.step(action)
        world.snapshot()
        world.scene_obs()
    np.testing.assert_array_equal(world.full_state(), quiet.full_state())
    quiet.close()


def test_the_target_accumulates_and_an_absolute_action_leaves_it_alone(world: World) -> None:
    world.reset(START, scene_obs())
    position, euler = world.target_pos, world.target_euler
    world.step(np.array([1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]))
    world.step(np.array([1.0, 0.0, -0.5, 0.0, 0.0, 1.0, 1.0]))
    np.testing.assert_allclose(world.target_pos - position, [0.04, 0.0, -0.01], atol=1e-12)
    np.testing.assert_allclose(world.target_euler - euler, [0.0, 0.0, 0.1], atol=1e-12)
    before = world.target_pos
    world.step_absolute(position, euler, -1.0)
    np.testing.assert_array_equal(world.target_pos, before)


def test_an_absolute_action_moves_as_the_relative_one_to_the_same_target(world: World) -> None:
    world.reset(START, scene_obs())
    position, euler = world.target_pos, world.target_euler
    action = np.array([0.3, -0.5, 0.2, 0.1, 0.4, -0.2, -1.0])
    world.step(action)
    relative = world.robot_obs()
    world.reset(START, scene_obs())
    world.step_absolute(position + 0.02 * action[:3], euler + 0.05 * action[3:6], -1.0)
    np.testing.assert_array_equal(world.robot_obs(), relative)


def test_an_action_array_is_not_written_to(world: World) -> None:
    world.reset(START, scene_obs())
    action = np.full(7, 1.0)
    world.step(action)
    np.testing.assert_array_equal(action, np.full(7, 1.0))


def test_a_reset_puts_joints_lights_and_blocks_where_it_is_told(world: World) -> None:
    obs = scene_obs(lights=(1, 1))
    obs[:4] = 0.28, 0.22, 0.0, 0.088
    world.reset(START, obs)
    np.testing.assert_allclose(world.scene_obs()[:6], obs[:6], atol=1e-4)
    np.testing.assert_allclose(world.scene_obs()[6:].reshape(3, 6)[:, :3], obs[6:].reshape(3, 6)[:, :3], atol=1e-3)
    np.testing.assert_allclose(world.robot_obs()[7:14], NEUTRAL_JOINTS, atol=1e-3)
    assert world.doors()["slide"] == pytest.approx(0.28, abs=1e-4)
    assert world.lights() == {"lightbulb": True, "led": True}


@pytest.mark.parametrize(("button", "led"), [("main", False), ("pinned", True)])
def test_the_first_press_on_a_lit_led_puts_it_out_in_main_only(button: str, led: bool) -> None:
    world = World("D", button=button)  # type: ignore[arg-type]
    world.reset(START, scene_obs(lights=(0, 1)))
    for action in recorded("D_led_on", "actions"):
        world.step(action)
    assert world.lights()["led"] is led
    world.close()


def test_a_block_thrown_to_nowhere_counts_as_divergence(world: World) -> None:
    world.reset(START, scene_obs())
    assert not world.has_diverged
    nowhere = (float("nan"), 0.0, 0.0)
    pybullet.resetBasePositionAndOrientation(
        world.block_ids[0], nowhere, (0.0, 0.0, 0.0, 1.0), physicsClientId=world.client
    )
    assert world.has_diverged


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (np.zeros(6), r"shape \(6,\)"),
        (np.array([0, 0, np.nan, 0, 0, 0, 1.0]), "not finite"),
        (np.zeros(7), "1 .open. and -1 .close."),
    ],
)
def test_an_action_out_of_the_rules_is_refused_and_moves_nothing(world: World, action: Floats, said: str) -> None:
    world.reset(START, scene_obs())
    before = world.full_state()
    with pytest.raises(UsageError, match=said):
        world.step(action)
    np.testing.assert_array_equal(world.full_state(), before)


def test_an_unknown_scene_is_named() -> None:
    with pytest.raises(UnknownName, match="no CALVIN scene 'E'"):
        World("E")


def test_closing_gives_back_client_and_files() -> None:
    world = World("A")
    folder = world._files["robot"][0].parent
    world.close()
    world.close()
    assert not folder.exists()
    assert not pybullet.isConnected(world.client)


def _table() -> str:
    """The comparison as docs/calvin-physics.md shows it."""
    rows = [
        "| episode | touches at | tcp before, µm | tcp after, mm "
        "| blocks at the end, mm | joints at the end, mm | events |",
        "|---|---|---|---|---|---|---|",
    ]
    for episode in EPISODES:
        ours, theirs = replay(episode), recorded(episode, "robot_obs")
        tcp = np.abs(ours.robot_obs - theirs)[:, :3].max(axis=1)
        scene = np.abs(ours.scene_obs - recorded(episode, "scene_obs"))[-1]
        blocks = np.linalg.norm(scene[6:].reshape(3, 6)[:, :3], axis=1).max()
        events = [(task, int(step)) for step, task in (event.split(":") for event in recorded(episode, "events"))]
        said = ", ".join(f"{task} {step} ({ours.events[task] - step:+d})" for task, step in events)
        before, after = tcp[ours.at < ours.first_contact].max(), tcp.max()
        rows.append(
            f"| {episode} | {ours.first_contact} | {1e6 * before:.1f} | {1e3 * after:.2f} | {1e3 * blocks:.2f} "
            f"| {1e3 * scene[:4].max():.2f} | {said} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    print(_table())
