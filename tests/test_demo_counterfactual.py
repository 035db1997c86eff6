"""Claims about frames under another instruction: the picture is the demonstration's, the way is the other task's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdvla_bench.demo_file import Stored, load, path_of
from rdvla_bench.registry import load_policy, load_suite
from rdvla_bench.seeding import generator
from rdvla_bench.types import Episode

pytest.importorskip("torch")

from rdvla_fake_arm import FakeAlternatives, FakeArm

from rdvla_bench.commands.demos import main
from rdvla_bench.policies.rdvla.training.shards import ShardedDataset


def demos(out: Path, *more: str, workers: int = 0) -> int:
    fake = ["--suite", "fake_arm", "--expert", "fake-expert", "--image-size", "8", "--episodes", "2"]
    fake += ["--noise.clean-share", "1", "--noise.mild-share", "0"]
    return main([*fake, "--workers", str(workers), "--out", str(out), *more])


def stored(folder: Path, task: int = 0, number: int = 0) -> Stored:
    return load(path_of(folder, f"fake_arm-t{task:02d}-s{number:03d}-r0"))


def target(number: int) -> Any:
    return np.random.default_rng(number).uniform(2, 6, 3)


def test_the_label_is_the_way_to_the_other_task_and_the_goal_where_the_gripper_then_closes(tmp_path: Path) -> None:
    assert demos(tmp_path, "--tasks", "can", "--counterfactuals", "5") == 0
    for number in range(2):
        of = stored(tmp_path, 0, number)
        rows, chunks = of.counterfactual("row"), of.counterfactual("chunk")
        assert 1 <= len(rows) <= 5
        assert set(of.about["counterfactual_instructions"]) == {"grab the cup"}
        cup = -target(number)
        for row, chunk, goal in zip(rows, chunks, of.counterfactual("goal"), strict=True):
            pos = of.arrays["proprio"][row, :3].astype(np.float64)
            for action in chunk:
                np.testing.assert_allclose(action[:3], np.clip(cup - pos, -0.4, 0.4), atol=1e-5)
                pos = pos + action[:3]
            assert np.linalg.norm(goal[:3] - cup) < 0.45 + 1e-5
            assert (chunk[:, 6] == -1).all()


def test_nothing_else_of_a_demonstration_changes_and_no_picture_is_drawn_for_it(tmp_path: Path) -> None:
    FakeArm.rendered.clear()
    demos(tmp_path / "plain")
    n_drawn = len(FakeArm.rendered)
    demos(tmp_path / "asked", "--counterfactuals", "3")
    assert len(FakeArm.rendered) == 2 * n_drawn
    n_asked = 0
    for task in range(3):
        plain, asked = stored(tmp_path / "plain", task), stored(tmp_path / "asked", task)
        for name, column in plain.arrays.items():
            np.testing.assert_array_equal(column, asked.arrays[name])
        assert {**asked.about, "counterfactual_instructions": 0} == {**plain.about, "counterfactual_instructions": 0}
        n_asked += len(asked.counterfactual("row"))
        assert (task == 0) == bool(len(asked.counterfactual("row")))
    assert 1 <= n_asked <= 3


def test_a_tasks_first_frame_is_asked_about_first_and_none_after_the_scene_has_changed(tmp_path: Path) -> None:
    demos(tmp_path / "one", "--tasks", "can", "--counterfactuals", "1")
    demos(tmp_path / "all", "--tasks", "can", "--counterfactuals", "99")
    for number in range(2):
        assert stored(tmp_path / "one", 0, number).counterfactual("row").tolist() == [0]
        of = stored(tmp_path / "all", 0, number)
        hands = of.arrays["proprio"][:, :3]
        error = np.linalg.norm(target(number) - hands, axis=1)
        assert sorted(of.counterfactual("row")) == np.flatnonzero(error > error[0] / 2).tolist()


def test_training_reads_them_after_the_demonstrations_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demos(tmp_path, "--tasks", "can", "--counterfactuals", "4")
    data, index, n_asked = ShardedDataset(tmp_path), 0, 0
    for number in range(2):
        of = stored(tmp_path, 0, number)
        index += of.n_frames
        for i, row in enumerate(of.counterfactual("row")):
            sample = data[index]
            np.testing.assert_array_equal(sample["images"]["cam"], of.arrays["image_cam"][row])
            np.testing.assert_array_equal(sample["proprio"], of.arrays["proprio"][row])
            np.testing.assert_array_equal(sample["chunk"], of.counterfactual("chunk")[i])
            np.testing.assert_array_equal(sample["goal"], of.counterfactual("goal")[i])
            assert sample["instruction"] == "grab the cup"
            index, n_asked = index + 1, n_asked + 1
    assert len(data) == index
    assert n_asked >= 2
    assert json.loads((tmp_path / "demos.json").read_text())["counterfactuals"] == {
        "fake_arm": {"grab the cup": n_asked}
    }
    assert f"{n_asked} frames under another instruction too" in capsys.readouterr().out


def test_the_same_bytes_from_any_number_of_calls(tmp_path: Path) -> None:
    demos(tmp_path / "once", "--counterfactuals", "4")
    for tasks in ("cup", "can", "jar"):
        demos(tmp_path / "thrice", "--counterfactuals", "4", "--tasks", tasks)
    once, thrice = ({p.name: p.read_bytes() for p in (tmp_path / n).rglob("*.npz")} for n in ("once", "thrice"))
    assert once == thrice


def test_an_error_on_the_way_is_the_demonstrations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeAlternatives, "cup", "broken")
    assert demos(tmp_path, "--tasks", "can", "--counterfactuals", "1") == 1
    assert "the cup is broken" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "libero_goal"], "suite 'libero_goal' does not say which other task a frame might be about"),
        (["--suite", "calvin_a", "--driver", "random"], "--counterfactuals 2 not together with --driver"),
        (["--suite", "calvin_a", "--counterfactuals", "-1"], "--counterfactuals -1: expected 0 or more"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["--out", str(tmp_path / "out"), "--counterfactuals", "2", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_without_them_takes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demos(tmp_path, "--tasks", "can")
    assert demos(tmp_path, "--tasks", "can", "--counterfactuals", "2") == 2
    assert "counterfactuals: 0 there, 2 here" in capsys.readouterr().err


@pytest.mark.calvin
def test_calvins_alternatives_are_possible_and_need_nothing_that_is_drawn_elsewhere() -> None:
    from rdvla_bench.envs.calvin.demo_starts import can_follow, words

    n_chains = n_held = 0
    for suite in ("calvin_a", "calvin_b", "calvin_c"):
        for number in range(40):
            start = load_suite(suite).demo_start(0, 0, number)
            alternatives = load_suite(suite).alternatives(start)
            state = words(suite[-1].upper(), start["scene_obs"])
            obs: Any = {"privileged": {"scene": start["scene_obs"]}}
            for subtask, own in enumerate(start["tasks"]):
                families = alternatives.families(subtask, obs, obs)
                tasks = [task for family in families for task in family]
                assert len(set(tasks)) == len(tasks)
                assert own not in tasks
                assert all(can_follow(state, task) is not None for task in tasks)
                assert not ("button" in start and any(task.endswith("led") for task in tasks))
                assert not ("drawer" in start and any("drawer" in task for task in tasks))
                assert bool(state.grasped) == (not tasks)
                n_held += bool(state.grasped)
                state = can_follow(state, own) or state
            n_chains += 1
    assert n_chains == 120
    assert n_held > 20


@pytest.mark.calvin
@pytest.mark.parametrize(
    ("place", "by", "is_asked"),
    [
        (0, 0.001, True),
        (0, 0.003, False),
        (1, 0.003, False),
        (4, 1, False),
        (5, 1, False),
        (6, 0.002, True),  # a block's x
        (13, 0.004, False),  # another's y
        (23, 0.5, True),  # the last one's yaw
    ],
)
def test_a_frame_of_a_touched_scene_is_about_nothing_else(place: int, by: float, is_asked: bool) -> None:
    suite = load_suite("calvin_b")
    start = suite.demo_start(0, 0, 4)
    now = start["scene_obs"].copy()
    now[place] += by
    then_obs, now_obs = ({"privileged": {"scene": scene}} for scene in (start["scene_obs"], now))
    assert bool(suite.alternatives(start).families(0, then_obs, now_obs)) == is_asked  # type: ignore[arg-type]


@pytest.mark.calvin
@pytest.mark.slow
def test_calvins_expert_solves_what_it_is_asked_instead_from_where_the_hand_is() -> None:
    pytest.importorskip("pybullet")
    from rdvla_bench.protocol import protocol

    suite, expert = load_suite("calvin_a"), load_policy("expert", {}, "calvin")
    env = suite.make_env(0, protocol(suite.default_protocol), cameras=(), privileged=True)
    episode, rng = Episode("calvin_a", 0, 12, 0, 0), generator("test")
    start = suite.demo_start(0, 0, 12)
    alternatives = suite.alternatives(start)
    obs, info = env.reset(options=start)
    then: Any = {**obs, "privileged": info["privileged"]}
    way = np.tile(np.array([0, 0, 0.5, 0, 0, 0, 1], np.float32), (6, 1))
    obs, _, _, _, info = env.step_chunk(way)
    now: Any = {**obs, "privileged": info["privileged"]}
    asked = [family[0] for family in alternatives.families(0, then, now)]
    assert len(asked) >= 5
    solved = []
    for task in asked:
        obs, info = env.reset(options=dict(alternatives.restart(now, task)))
        assert np.abs(obs["proprio"][:3] - now["proprio"][:3]).max() < 5e-3
        state, is_over = expert.initial_state(episode), False
        while not is_over:
            seen: Any = {**obs, "privileged": info["privileged"]}
            answer, state = expert.act(seen, state, rng)
            obs, _, terminated, truncated, info = env.step_chunk(answer.actions)
            is_over = terminated or truncated
        solved += [task] if terminated else []
    env.close()
    assert len(solved) >= len(asked) - 1
