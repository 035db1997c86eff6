"""Claims about where demonstrations start: nowhere that the benchmarks do, and in scenes that vary."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdvla_bench.errors import UsageError
from rdvla_bench.registry import load_suite


@pytest.mark.calvin
def test_calvin_chains_show_all_tasks_about_equally_often_and_can_be_done_in_order() -> None:
    from collections import Counter

    from rdvla_bench.envs.calvin.demo_starts import can_follow, words
    from rdvla_bench.envs.calvin.suites import TASKS

    counts: Counter[str] = Counter()
    for suite in ("calvin_a", "calvin_b", "calvin_c"):
        for number in range(68):
            start = load_suite(suite).demo_start(0, 0, number)
            state: Any = words(suite[-1].upper(), start["scene_obs"])
            for task in start["tasks"]:
                state = can_follow(state, task)
                assert state is not None
            counts.update(start["tasks"])
    assert set(counts) == set(TASKS)
    assert min(counts.values()) > 0.4 * np.median(list(counts.values()))
    assert max(counts.values()) < 2.5 * np.median(list(counts.values()))


@pytest.mark.calvin
def test_a_calvin_demonstration_depends_on_its_number_alone() -> None:
    suite = load_suite("calvin_b")
    late = suite.demo_start(0, 3, 41)
    code = (
        "from rdvla_bench.registry import load_suite\n"
        "s = load_suite('calvin_b').demo_start(0, 3, 41)\n"
        "print(s['tasks'], s['scene_obs'].tolist(), s['look'])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == f"{late['tasks']} {late['scene_obs'].tolist()} {late['look']}"


@pytest.mark.calvin
def test_three_of_four_calvin_demonstrations_show_woods_of_their_own() -> None:
    looks = [
        load_suite(s).demo_start(0, seed, n).get("look")
        for s in ("calvin_a", "calvin_b")
        for seed in (0, 1)
        for n in range(8)
    ]
    assert [look is None for look in looks] == [n % 4 == 0 for n in range(32)]
    shown = [look for look in looks if look is not None]
    assert len(set(shown)) == len(shown)
    assert load_suite("calvin_b").demo_start(0, 1, 7)["look"] == looks[-1]


@pytest.mark.calvin
def test_calvins_button_is_drawn_elsewhere_where_nothing_presses_it_and_never_makes_a_table_like_ds() -> None:
    drawn: dict[str, list[float]] = {"calvin_a": [], "calvin_b": []}
    for suite, found in drawn.items():
        for number in range(120):
            start = load_suite(suite).demo_start(0, 0, number)
            free = "look" in start and not {"turn_on_led", "turn_off_led"} & set(start["tasks"])
            assert ("button" in start) == free
            if free:
                found.append(start["button"])
                blocks = start["scene_obs"][6:].reshape(3, 6)[:, :2]
                assert np.linalg.norm(blocks - [found[-1], -0.12], axis=1).min() > 0.08
    assert all(min(found) < -0.2 and max(found) > 0.2 for found in drawn.values())
    assert min(abs(x + 0.12) for x in drawn["calvin_a"]) > 0.06  # D is A's door and switch with a button there
    assert min(abs(x + 0.12) for x in drawn["calvin_b"]) < 0.06


@pytest.mark.calvin
def test_calvins_drawer_is_drawn_elsewhere_where_no_task_needs_it() -> None:
    drawn = []
    for number in range(120):
        start = load_suite("calvin_b").demo_start(0, 0, number)
        assert ("drawer" in start) == ("look" in start and "drawer" not in " ".join(start["tasks"]))
        drawn += [start["drawer"]] if "drawer" in start else []
    assert len(drawn) > 10
    assert min(drawn) < -0.1 < 0.1 < max(drawn) <= 0.2


@pytest.mark.calvin
def test_calvins_doors_start_anywhere_from_which_their_tasks_are_possible() -> None:
    from rdvla_bench.envs.calvin.demo_starts import words
    from rdvla_bench.envs.calvin.scenes import DRAWER_RANGE, SCENES
    from rdvla_bench.envs.calvin.starts import DRAWER, SLIDE, random_start

    low, high = SCENES["B"].slide_range
    starts = [load_suite("calvin_b").demo_start(0, 0, number)["scene_obs"] for number in range(68)]
    for scene_obs in starts:
        left = words("B", scene_obs).slider == "left"
        assert (scene_obs[SLIDE] - low if left else high - scene_obs[SLIDE]) > 0.15
        is_open = words("B", scene_obs).drawer == "open"
        assert (scene_obs[DRAWER] if is_open else DRAWER_RANGE[1] - scene_obs[DRAWER]) > 0.12
    at_ends = [scene_obs[SLIDE] in (low, high) and scene_obs[DRAWER] in DRAWER_RANGE for scene_obs in starts]
    assert at_ends == [number % 4 == 1 for number in range(68)]
    assert words("B", random_start("B", np.random.default_rng(0))[1]).slider in ("left", "right")


@pytest.mark.calvin
def test_a_put_away_block_lies_on_the_open_side_and_fills_it() -> None:
    from rdvla_bench.envs.calvin.demo_starts import can_follow
    from rdvla_bench.envs.calvin.sequences import State

    holding = State(0, 0, "right", "closed", "grasped", "table", "slider_right", 1)
    after = can_follow(holding, "place_in_slider")
    assert after is not None
    assert after.red_block == "slider_left"
    assert can_follow(after, "lift_red_block_slider") is not None
    assert can_follow(holding._replace(pink_block="slider_left"), "place_in_slider") is None


@pytest.fixture(scope="module")
def cabinet() -> Any:
    """A task with drawers, whose samplers are the list that upstream lets grow."""
    pytest.importorskip("libero")
    from rdvla_bench.envs.libero.env import LiberoEnv

    env = LiberoEnv("libero_10", 3, cameras=())
    yield env
    env.close()


def _placed(env: Any, number: int) -> tuple[str, bytes]:
    env.reset(options={"placement": number})
    return env.scene_digest(), env.get_state().tobytes()


@pytest.mark.libero
def test_a_placement_depends_on_nothing_that_ran_before(cabinet: Any) -> None:
    first = [_placed(cabinet, k) for k in (0, 1)]
    cabinet.reset(seed=5, options={"init_state": 7})
    cabinet.step_chunk(np.full((9, 7), 0.3, np.float32))
    cabinet.reset()
    assert [_placed(cabinet, k) for k in (1, 0)] == first[::-1]
    code = (
        "from rdvla_bench.envs.libero.env import LiberoEnv\n"
        "env = LiberoEnv('libero_10', 3, cameras=())\n"
        "env.reset(seed=9, options={'placement': 1})\n"
        "print(env.scene_digest(), env.get_state().tobytes().hex())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == [first[1][0], first[1][1].hex()]


@pytest.mark.libero
@pytest.mark.parametrize(("suite", "task"), [("libero_10", 3), ("libero_object", 2)])
def test_no_placement_is_an_init_state_of_the_benchmark(suite: str, task: int) -> None:
    pytest.importorskip("libero")
    from rdvla_bench.envs.libero.env import LiberoEnv

    env = LiberoEnv(suite, task, cameras=())
    saved = env.scene.init_states[:, 1 + 9 : 1 + env.scene.model.nq]  # time, then arm and fingers, then objects
    robots = env.scene.init_states[:, 1:8]
    for k in range(5):
        env.reset(options={"placement": k})
        placed = env.scene.placed
        assert np.abs(saved - placed[9:]).max(axis=1).min() > 1e-4
        assert np.abs(robots - placed[:7]).max(axis=1).min() > 1e-3
        assert np.abs(robots.mean(axis=0) - placed[:7]).max() < 0.1
    env.close()


@pytest.mark.libero
def test_placement_and_init_state_exclude_each_other(cabinet: Any) -> None:
    from rdvla_bench.errors import UnknownName

    with pytest.raises(UsageError, match="'init_state' and 'placement' exclude each other"):
        cabinet.reset(options={"init_state": 0, "placement": 0})
    with pytest.raises(UsageError, match="placement -1 is outside"):
        cabinet.reset(options={"placement": -1})
    with pytest.raises(UnknownName, match="Did you mean 'placement'"):
        cabinet.reset(options={"placemnt": 0})


@pytest.mark.libero
@pytest.mark.parametrize(("suite", "task"), [("libero_10", 3), ("libero_spatial", 5), ("libero_object", 2)])
def test_a_spread_moves_what_lies_on_the_table_and_nothing_else(suite: str, task: int) -> None:
    pytest.importorskip("libero")
    from rdvla_bench.envs.libero.env import LiberoEnv

    env = LiberoEnv(suite, task, cameras=())
    names = {int(env.scene.model.joint(o.joints[-1]).qposadr[0]): n for n, o in env.scene.env.objects_dict.items()}
    stacked = {"akita_black_bowl_1": "glazed_rim_porcelain_ramekin_1", "akita_black_bowl_2": "cookies_1"}
    seen = []
    for k in range(4):
        env.reset(options={"placement": k})
        usual = env.scene.placed
        env.reset(options={"placement": k, "spread": 0.05})
        moved = env.scene.placed - usual
        shifts = {name: moved[address : address + 2].copy() for address, name in names.items()}
        for address in names:
            assert not moved[address + 2 : address + 7].any()  # no height, no turn
            moved[address : address + 2] = 0.0
        assert not moved.any()  # no arm, drawer or knob
        seen.append(np.abs(list(shifts.values())))
        if suite == "libero_spatial":
            assert all(np.allclose(shifts[top], shifts[base]) for top, base in stacked.items())
    assert np.max(seen) <= 0.05
    assert (np.max(seen, axis=0) > 0.01).all()
    env.close()


@pytest.mark.libero
def test_a_spread_lets_nothing_touch_that_did_not_before() -> None:
    pytest.importorskip("libero")
    from rdvla_bench.envs.libero.scene import Scene, stream

    scene = Scene("libero_spatial", load_suite("libero_spatial").tasks[0].name)
    model, data = scene.model, scene.data
    bodies = {model.body(o.root_body).id for o in scene.env.objects_dict.values()}

    def touching(k: int, spread: float) -> set[tuple[int, ...]]:
        scene.place(stream(k), spread)
        pairs = model.body_rootid[model.geom_bodyid[data.contact.geom]].reshape(-1, 2)
        return {tuple(sorted(pair)) for pair in pairs.tolist() if bodies.issuperset(pair) and pair[0] != pair[1]}

    for k in range(20):
        usual = touching(k, 0.0)  # the bowl between plate and ramekin may be on the plate's rim
        assert touching(k, 0.1) <= usual
    scene.close()


@pytest.mark.libero
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init_state": 0, "spread": 0.03}, "'spread' goes with 'placement' alone"),
        ({"spread": 0.03}, "'spread' goes with 'placement' alone"),
        ({"placement": 0, "spread": 0.3}, "spread 0.3: expected 0 to 0.1 m"),
        ({"placement": 0, "spread": float("nan")}, "spread nan: expected 0 to 0.1 m"),
    ],
)
def test_a_spread_that_cannot_be_is_refused(cabinet: Any, options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cabinet.reset(options=options)


def test_a_suite_without_spread_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from rdvla_bench.demos import main

    assert main(["--out", str(tmp_path), "--suite", "calvin_a", "--spread", "0.03"]) == 2
    assert "the starts of suite 'calvin_a' have no spread: record it without --spread" in capsys.readouterr().err
    assert main(["--out", str(tmp_path), "--suite", "libero_goal", "--spread", "3"]) == 2
    assert "spread 3.0: expected 0 to 0.1 m" in capsys.readouterr().err
    assert load_suite("libero_goal").demo_start(2, 1, 4, 0.03) == {"placement": 1_000_004, "spread": 0.03}
    assert load_suite("libero_goal").demo_start(2, 1, 4) == {"placement": 1_000_004}
