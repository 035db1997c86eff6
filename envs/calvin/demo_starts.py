"""Where demonstrations of CALVIN start and what they show: scenes A, B and C, random starts, random feasible chains.

Each shows the table in woods of its own, but for one in ``_PLAIN``, which shows its scene's. Where no task presses the
button, it and its led are drawn anywhere along the table, and the drawer where no task needs it: in three tables their
places would tell where door and switch are. Door and drawer stand near one of their ends, not at it but for one start
in ``_SHUT``: at six places in all, the door's handle would be known from the rest of the picture and never looked at.

Chains are drawn in blocks, task after task the one that the block has seen least, so that all 34 come up about
equally often although some (unstacking) are possible only after others.

Non-obvious: a block put behind the sliding door lies on the side that the door leaves open. The benchmark's own rules
say the door's side (``sequences``), and would here ask for blocks that cannot be reached.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Any

import numpy as np

from rdvla_bench.envs.calvin.scenes import DRAWER_RANGE, SCENES
from rdvla_bench.envs.calvin.sequences import BLOCKS, State, after
from rdvla_bench.envs.calvin.snapshot import Floats
from rdvla_bench.envs.calvin.starts import DRAWER, FIRST_POSE, LED, LIGHTBULB, SLIDE, TABLE_Z, random_start
from rdvla_bench.envs.calvin.suites import CHAIN_LENGTH, SCENE_OF, TASKS
from rdvla_bench.seeding import generator

_A_BLOCK = 34  # chains that share their counts
_PLAIN = 4  # demonstrations to one in the scene's own woods
_SHUT = 4  # demonstrations to one whose doors stand at their ends, as in the benchmark's chains
_PRESSING = {"turn_on_led", "turn_off_led"}
_ALONG = 0.3  # m from the middle of the table at most; the scenes have -0.28 to 0.28
_APART = 0.06  # m: a button's ring is 0.08 wide
_CLEAR = 0.09  # m from a block's middle
_ASIDE = 0.2  # m from the middle of the table at most, of the drawer; the scenes have 0.1 and 0.18
_WAY = {SLIDE: 0.19, DRAWER: 0.16}  # m that stay to be moved; 0.15 and 0.12 count: conf/tasks/new_playtable_tasks.yaml
_SAME_HEIGHT = 1e-4  # m; the shelf is 1e-3 above the table

Start = tuple[Floats, Floats, tuple[str, ...]]  # robot_obs (15,), scene_obs (24,), tasks


def demo_start(suite: str, task: int, seed: int, number: int) -> dict[str, Any]:
    """Return the reset options of demonstration ``number`` of a scene."""
    del task
    start = _start(suite, seed, number)
    if number % _PLAIN == 0:
        return start
    start["look"] = _look(suite, seed, number)
    if not _PRESSING & set(start["tasks"]):
        start["button"] = _button(suite, seed, number, start["scene_obs"])
    if not any("drawer" in task for task in start["tasks"]):
        start["drawer"] = float(generator("calvin-demonstration-drawer", suite, seed, number).uniform(-_ASIDE, _ASIDE))
    return start


def _button(suite: str, seed: int, number: int, scene_obs: Floats) -> float:
    """Return the x in m at which the button is drawn: the first of 100 places that is clear of the blocks, or the last.

    In scene A, whose door and switch are D's, it is never at D's.
    """
    rng = generator("calvin-demonstration-button", suite, seed, number)
    ds = SCENES["D"].button
    blocks = scene_obs[FIRST_POSE:].reshape(-1, 6)[:, :2]
    places = [x for x in rng.uniform(-_ALONG, _ALONG, 100) if SCENE_OF[suite] != "A" or abs(x - ds[0]) > _APART]
    clear = (x for x in places if np.linalg.norm(blocks - [x, ds[1]], axis=1).min() > _CLEAR)
    return float(next(clear, places[-1]))


def _look(suite: str, seed: int, number: int) -> int:
    """Return the number of a varied look."""
    return int(generator("calvin-demonstration-look", suite, seed, number).integers(2**31))


def _start(suite: str, seed: int, number: int) -> dict[str, Any]:
    robot_obs, scene_obs, tasks = _block(SCENE_OF[suite], seed, number // _A_BLOCK)[number % _A_BLOCK]
    if number % _SHUT != 1:
        scene_obs = ajar(SCENE_OF[suite], scene_obs, generator("calvin-demonstration-doors", suite, seed, number))
    return {"robot_obs": robot_obs.copy(), "scene_obs": scene_obs.copy(), "tasks": tasks}


def ajar(scene: str, scene_obs: Floats, rng: np.random.Generator) -> Floats:
    """Return the start with sliding door and drawer moved off their ends, each as far as its tasks allow at most."""
    moved = scene_obs.copy()
    for joint, (low, high) in ((SLIDE, SCENES[scene].slide_range), (DRAWER, DRAWER_RANGE)):
        inward = 1.0 if moved[joint] < (low + high) / 2 else -1.0
        moved[joint] += inward * rng.uniform(0.0, high - low - _WAY[joint])
    return moved


@lru_cache(maxsize=16)
def _block(scene: str, seed: int, block: int) -> tuple[Start, ...]:
    """Draw the starts and chains of one block."""
    rng = generator("calvin-demonstrations", scene, seed, block)
    counts: Counter[str] = Counter()
    drawn: list[Start] = []
    while len(drawn) < _A_BLOCK:
        robot_obs, scene_obs = random_start(scene, rng)
        tasks = _chain(words(scene, scene_obs), counts, rng)
        if len(tasks) == CHAIN_LENGTH:
            counts.update(tasks)
            drawn.append((robot_obs, scene_obs, tasks))
    return tuple(drawn)


def _chain(state: State, counts: Counter[str], rng: np.random.Generator) -> tuple[str, ...]:
    """Draw a chain, each task once at most: the feasible one with the lowest count, ties at random."""
    tasks: list[str] = []
    while len(tasks) < CHAIN_LENGTH:
        options = [task for task in TASKS if task not in tasks and can_follow(state, task) is not None]
        if not options:
            break
        lowest = min(counts[task] for task in options)
        task = str(rng.choice([task for task in options if counts[task] == lowest]))
        state = can_follow(state, task) or state
        tasks.append(task)
    return tuple(tasks)


def can_follow(state: State, task: str) -> State | None:
    """Return the state after ``task`` where it lies in reach, or None where the task is not possible."""
    then = after(state, TASKS.index(task))
    if then is None or task != "place_in_slider":
        return then
    block = next(name for name in BLOCKS if getattr(state, name) == "grasped")
    open_side = "slider_left" if state.slider == "right" else "slider_right"
    if open_side in (state.red_block, state.blue_block, state.pink_block):
        return None  # occupied
    words_after: dict[str, Any] = {block: open_side}
    return then._replace(**words_after)


def words(scene: str, scene_obs: Floats) -> State:
    """Return the state in words of a random start."""
    spec = SCENES[scene]
    places = {}
    for i, block in enumerate(spec.blocks):
        x, _, z = scene_obs[FIRST_POSE + 6 * i : FIRST_POSE + 6 * i + 3]
        left = spec.surfaces["slider_left"].x
        on_shelf = "slider_left" if left[0] <= x <= left[1] else "slider_right"
        places[block.colour] = "table" if abs(z - TABLE_Z) < _SAME_HEIGHT else on_shelf
    return State(
        led=int(scene_obs[LED]),
        lightbulb=int(scene_obs[LIGHTBULB]),
        slider="left" if scene_obs[SLIDE] > sum(spec.slide_range) / 2 else "right",
        drawer="open" if scene_obs[DRAWER] > sum(DRAWER_RANGE) / 2 else "closed",
        red_block=places["red"],
        blue_block=places["blue"],
        pink_block=places["pink"],
        grasped=0,
    )
