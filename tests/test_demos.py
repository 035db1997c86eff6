"""Claims about demonstrations: what is kept, what it is labelled with, and that nothing of the benchmark gets in."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdvla_bench.demo_file import Stored, load, path_of
from rdvla_bench.demo_noise import Bursts, NoiseRecipe, advance, begin
from rdvla_bench.demo_record import FrameRule, Take, kept_frames
from rdvla_bench.errors import PolicyFault
from rdvla_bench.limits import Limits
from rdvla_bench.record import Result
from rdvla_bench.registry import load_suite
from rdvla_bench.types import Outcome

pytest.importorskip("torch")

from rdvla_fake_arm import FakeArm, FakeExpert

from rdvla_bench.commands.demos import main
from rdvla_bench.commands.demos_folder import DemoFolder, goal_rows
from rdvla_bench.policies.rdvla.config import NANO
from rdvla_bench.policies.rdvla.stored_images import shrink
from rdvla_bench.policies.rdvla.trained import TrainedInterface
from rdvla_bench.policies.rdvla.training.shards import ShardedDataset

RULE = FrameRule(chunk=4, stride=4, contact_stride=2)


def demos(out: Path, *more: str, workers: int = 0) -> int:
    fake = ["--suite", "fake_arm", "--expert", "fake-expert", "--image-size", "8"]
    return main([*fake, "--workers", str(workers), "--out", str(out), *more])


def contents(folder: Path) -> dict[str, bytes]:
    """Everything that must not depend on how it was made."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.suffix == ".npz"}


def take(
    n: int, *, noisy: tuple[int, ...] = (), closes_at: int = -1, segments: tuple[tuple[int, int], ...] = ()
) -> Take:
    labels = np.zeros((n, 7), np.float32)
    labels[:, 0] = np.arange(n)
    labels[:, 6] = np.where((closes_at >= 0) & (np.arange(n) >= closes_at), 1.0, -1.0)
    clean = ~np.isin(np.arange(n), noisy)
    segments = segments or ((0, n),)
    return Take(Result(Outcome.SUCCESS, steps=n), labels, labels, clean, segments, ("do it",) * len(segments))


def steps_kept(of: Take) -> list[int]:
    return [step for step, _ in kept_frames(of, RULE)]


def test_every_fourth_frame_is_kept_and_every_second_around_the_gripper() -> None:
    assert steps_kept(take(20)) == [0, 4, 8, 12, 16]
    assert steps_kept(take(40, closes_at=24)) == [0, 4, 8, 12, 16, *range(18, 33, 2), 36]


def test_no_label_holds_an_action_that_was_executed_with_noise() -> None:
    noisy = (9, 10)
    kept = steps_kept(take(30, noisy=noisy))
    assert kept == [0, 4, 11, 15, 19, 23, 27]
    assert not any(step <= bad < step + RULE.chunk for step in kept for bad in noisy)


def test_each_subtask_starts_with_a_frame_and_no_label_reaches_into_the_next() -> None:
    chunks = dict(kept_frames(take(12, segments=((0, 6), (6, 12))), RULE))
    assert list(chunks) == [0, 4, 6, 10]
    assert chunks[4][:, 0].tolist() == [4, 5, 5, 5]
    assert chunks[4][:, 6].tolist() == [-1] * 4


def test_after_the_end_a_label_goes_on_with_the_last_action() -> None:
    whole = take(10, closes_at=7)
    chunks = dict(kept_frames(whole, RULE))
    last = chunks[max(chunks)]
    assert last[-1].tolist() == whole.labels[9].tolist()
    assert last[-1, 0] == 9
    assert last[-1, 6] == 1


def test_noise_moves_the_arm_alone_and_is_weaker_near_objects() -> None:
    recipe = NoiseRecipe(jitter=0.0)
    burst = Bursts(rate=0.1, left=5, direction=np.ones(6, np.float32))
    fast, slow = np.array([1, 0, 0, 0, 0, 0, -1], np.float32), np.array([0.1, 0, 0, 0, 0, 0, -1], np.float32)
    at_speed, after = advance(recipe, burst, fast, np.random.default_rng(0))
    near, _ = advance(recipe, burst, slow, np.random.default_rng(0))
    assert at_speed.tolist() == [1] * 6
    assert near.tolist() == [0.5] * 6
    assert after.left == 4


def test_the_recipe_decides_how_many_episodes_are_clean_and_begin_with_a_burst() -> None:
    kinds = [begin(NoiseRecipe(), 8, np.random.default_rng(i)) for i in range(2000)]
    assert np.mean([kind.rate == 0 for kind in kinds]) == pytest.approx(0.15, abs=0.03)
    assert np.mean([kind.rate == 0.035 for kind in kinds]) == pytest.approx(0.60, abs=0.04)
    assert np.mean([kind.left > 0 for kind in kinds]) == pytest.approx(0.425, abs=0.04)
    assert {kind.quiet for kind in kinds if kind.rate and not kind.left} == {8}


def test_an_episode_that_does_not_begin_with_a_burst_begins_with_a_clean_chunk() -> None:
    recipe, label = NoiseRecipe(clean_share=0, start_share=0, mild_rate=1, strong_rate=1), np.ones(7, np.float32)
    now, clean = begin(recipe, 8, np.random.default_rng(0)), []
    for i in range(10):
        noise, now = advance(recipe, now, label, np.random.default_rng(i))
        clean.append(not noise.any())
    assert clean == [True] * 8 + [False] * 2


def test_labels_are_the_experts_own_actions_from_where_the_noise_took_it(tmp_path: Path) -> None:
    assert demos(tmp_path, "--tasks", "can", "--episodes", "8", "--noise.clean-share", "0") == 0
    differing = 0
    for number in range(8):
        stored = load(path_of(tmp_path, f"fake_arm-t00-s{number:03d}-r0")).arrays
        same = (stored["labels"] == stored["executed"]).all(axis=1)
        assert same[stored["clean"]].all()
        differing += int((~stored["clean"] & ~same).sum())
        for step, chunk in zip(stored["frames"], stored["chunk"], strict=True):
            n = min(8, len(stored["labels"]) - step)
            np.testing.assert_array_equal(chunk[:n], stored["executed"][step : step + n])
    assert differing > 10


def test_only_kept_frames_are_rendered(tmp_path: Path) -> None:
    FakeArm.rendered.clear()
    demos(tmp_path, "--tasks", "can", "--episodes", "1")
    stored = load(path_of(tmp_path, "fake_arm-t00-s000-r0"))
    assert set(FakeArm.rendered) - {0, stored.about["steps"]} == set(stored.arrays["frames"].tolist()) - {0}


def test_training_reads_the_folder(tmp_path: Path) -> None:
    demos(tmp_path, "--tasks", "can", "--episodes", "2")
    data, first = ShardedDataset(tmp_path), load(path_of(tmp_path, "fake_arm-t00-s000-r0"))
    about = json.loads((tmp_path / "demos.json").read_text())
    sample = data[0]
    assert sample["images"]["cam"].shape == (8, 8, 3)
    np.testing.assert_array_equal(sample["images"]["cam"], first.arrays["image_cam"][0])
    np.testing.assert_array_equal(sample["chunk"], first.arrays["chunk"][0])
    assert sample["instruction"] == "grab the can"
    assert about["data_sha256"] == data.fingerprint
    assert about["counts"]["fake_arm"]["can"]["frames"] == len(data)
    assert {"config", "versions", "git_commits", "machine", "gl"} <= about.keys()


def test_the_same_bytes_from_any_number_of_calls(tmp_path: Path) -> None:
    demos(tmp_path / "whole", "--tasks", "can", "--episodes", "3")
    demos(tmp_path / "grown", "--tasks", "can", "--episodes", "1")
    demos(tmp_path / "grown", "--tasks", "can", "--episodes", "3")
    assert contents(tmp_path / "whole") == contents(tmp_path / "grown")


@pytest.mark.ray
def test_the_same_bytes_from_workers_and_after_a_loss(tmp_path: Path) -> None:
    demos(tmp_path / "here", "--tasks", "can", "--episodes", "4")
    demos(tmp_path / "there", "--tasks", "can", "--episodes", "4", workers=2)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
    path_of(tmp_path / "there", "fake_arm-t00-s002-r0").unlink()
    (tmp_path / "there" / "manifest.json").unlink()  # as after a kill
    demos(tmp_path / "there", "--tasks", "can", "--episodes", "4")
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_a_killed_recording_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    many = ["--tasks", "can", "--episodes", "80", "--workers", "0"]
    fake = ["--suite", "fake_arm", "--expert", "fake-expert", "--image-size", "8", "--out", str(tmp_path / "killed")]
    process = subprocess.Popen([sys.executable, "-m", "rdvla_bench.demos", *fake, *many], stdout=subprocess.DEVNULL)
    while len(list((tmp_path / "killed").glob("episodes/*.npz"))) < 5:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    assert demos(tmp_path / "killed", "--tasks", "can", "--episodes", "80") == 0
    demos(tmp_path / "whole", "--tasks", "can", "--episodes", "80")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_later_call_adds_to_the_folder(tmp_path: Path) -> None:
    demos(tmp_path / "once", "--tasks", "can,jar", "--episodes", "2")
    demos(tmp_path / "twice", "--tasks", "can", "--episodes", "2")
    demos(tmp_path / "twice", "--tasks", "jar", "--episodes", "2")
    assert contents(tmp_path / "once") == contents(tmp_path / "twice")


def test_another_seed_has_other_starts_and_other_noise(tmp_path: Path) -> None:
    for seed in "01":
        demos(tmp_path / seed, "--tasks", "can", "--episodes", "1", "--seed", seed)
    one, other = (load(path_of(tmp_path / seed, "fake_arm-t00-s000-r0")).about["scene_sha256"] for seed in "01")
    assert one != other


def test_failed_episodes_are_dropped_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demos(tmp_path, "--episodes", "2") == 0
    counts = json.loads((tmp_path / "demos.json").read_text())["counts"]["fake_arm"]
    assert (counts["can"]["kept"], counts["can"]["dropped"]) == (2, 0)
    assert (counts["jar"]["kept"], counts["jar"]["dropped"], counts["jar"]["frames"]) == (0, 2, 0)
    assert "jar: 0 kept, 2 dropped" in capsys.readouterr().out
    assert {sample["instruction"] for sample in map(ShardedDataset(tmp_path).__getitem__, range(4))} == {"grab the can"}


def hang(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the expert of the first ``times`` episodes be ended by the watchdog."""
    left, act = [times], FakeExpert.act

    def slow(self: FakeExpert, *args: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise PolicyFault(Limits().message("policy"))
        return act(self, *args)

    monkeypatch.setattr(FakeExpert, "act", slow)


def test_an_episode_whose_clock_ran_out_is_played_once_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hang(monkeypatch, 1)
    assert demos(tmp_path / "hung", "--tasks", "can", "--episodes", "3") == 0
    assert "1 episodes ended in an error and are played once more" in capsys.readouterr().out
    demos(tmp_path / "whole", "--tasks", "can", "--episodes", "3")
    assert contents(tmp_path / "hung") == contents(tmp_path / "whole")


def test_an_episode_that_errs_twice_is_not_stored_and_the_call_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hang(monkeypatch, 2)
    assert demos(tmp_path, "--tasks", "can", "--episodes", "1") == 1
    said = capsys.readouterr()
    assert "1 episodes ended in an error and are not stored" in said.out
    assert "gave no answer within 120 s" in said.err
    assert not (tmp_path / "manifest.json").exists()


def test_an_expert_that_always_fails_leaves_no_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demos(tmp_path, "--tasks", "jar", "--episodes", "2") == 2
    assert "the expert failed in all 2 episodes" in capsys.readouterr().err
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "calvin_d"], "suite 'calvin_d' is for evaluation alone"),
        (["--suite", "calvin_a,libero_goal"], "mixes calvin and libero"),
        (["--suite", "libero_gaol"], "Did you mean 'libero_goal'?"),
        (["--episodes", "0"], "--episodes 0: expected 1 or more"),
        (["--image-size", "0"], "--image-size 0: expected 1 or more pixels"),
        (["--workers", "-1"], "--workers -1"),
        (["--noise.mild-share", "0.9"], "noise.mild_share 0.9: expected at most 1 - clean_share"),
        (["--noise.burst-steps", "5", "2"], "noise.burst_steps (5, 2): expected two numbers of steps"),
        (["--expert", "exprt"], "Did you mean 'expert'?"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_configuration_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demos(tmp_path / "demos", "--tasks", "can", "--episodes", "1")
    assert demos(tmp_path / "demos", "--tasks", "can", "--episodes", "1", "--stride", "5") == 2
    assert "frames:" in capsys.readouterr().err
    (tmp_path / "notes.txt").touch()
    assert demos(tmp_path) == 2
    assert "is not empty and has no demos.json" in capsys.readouterr().err


def test_a_folder_has_one_writer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demos"
    wanted = ("--tasks", "can", "--episodes", "1")
    with DemoFolder(out, {}).claim():
        assert demos(out, *wanted) == 2
        assert "is in use by another process" in capsys.readouterr().err
        assert not list(out.iterdir())
    assert demos(out, *wanted) == 0


def test_a_damaged_demonstration_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demos(tmp_path, "--tasks", "can", "--episodes", "1")
    path_of(tmp_path, "fake_arm-t00-s000-r0").write_bytes(b"nothing")
    (tmp_path / "manifest.json").unlink()
    assert demos(tmp_path, "--tasks", "can", "--episodes", "1") == 2
    assert "fake_arm-t00-s000-r0.npz is no demonstration" in capsys.readouterr().err


@pytest.mark.parametrize("size", [64, 96])
def test_a_stored_image_is_what_the_towers_see(size: int) -> None:
    import torch

    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    stored = shrink(image, size)
    interface = TrainedInterface.__new__(TrainedInterface)
    interface._config = _sized(size)
    assert torch.equal(interface.image(image), interface.image(stored))
    assert torch.equal(interface.image(stored), torch.from_numpy(stored).permute(2, 0, 1) / 255.0)


def _sized(size: int) -> Any:
    from dataclasses import replace

    return replace(NANO.backbone, image_size=size)


def test_shrinking_rounds_alike_with_any_number_of_threads() -> None:
    import torch

    image, before, seen = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8), [], []
    before.append(torch.get_num_threads())
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        seen.append(shrink(image, 96).tobytes())
    torch.set_num_threads(before[0])
    assert len(set(seen)) == 1


def test_shrinking_keeps_flat_colours() -> None:
    flat = np.full((200, 200, 3), (0, 127, 255), np.uint8)
    assert np.unique(shrink(flat, 64).reshape(-1, 3), axis=0).tolist() == [[0, 127, 255]]


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


@pytest.mark.calvin
@pytest.mark.slow
def test_a_recorded_chain_is_cut_at_its_subtasks(tmp_path: Path) -> None:
    pytest.importorskip("pybullet")
    assert main(["--suite", "calvin_a", "--episodes", "1", "--workers", "0", "--out", str(tmp_path)]) == 0
    stored = load(path_of(tmp_path, "calvin_a-t00-s000-r0"))
    firsts = [first for first, _ in stored.about["segments"]]
    assert stored.about["solved"] == len(firsts) >= 2
    told = [stored.about["instructions"][i] for i in stored.arrays["instruction"]]
    at = dict(zip(stored.arrays["frames"].tolist(), told, strict=True))
    assert len({at[first] for first in firsts if first in at}) >= 2
    counts = json.loads((tmp_path / "demos.json").read_text())["counts"]["calvin_a"]
    assert set(counts) == set(stored.about["subtasks"])


@pytest.mark.libero
@pytest.mark.slow
def test_a_stored_frame_is_what_the_harness_shows_a_policy(tmp_path: Path) -> None:
    pytest.importorskip("libero")
    from rdvla_bench.envs.libero.env import LiberoEnv

    common = ["--suite", "libero_object", "--tasks", "0", "--episodes", "1", "--workers", "0"]
    assert main([*common, "--noise.start-share", "1", "--noise.clean-share", "0", "--out", str(tmp_path)]) == 0
    stored = load(path_of(tmp_path, "libero_object-t00-s000-r0"))
    env = LiberoEnv("libero_object", 0)
    obs, _ = env.reset(options=load_suite("libero_object").demo_start(0, 0, 0))
    kept = stored.arrays["frames"].tolist()
    size = NANO.backbone.image_size
    for step, action in enumerate(stored.arrays["executed"][: kept[4] + 1]):
        if step in kept:
            row = kept.index(step)
            for camera, image in obs["images"].items():
                np.testing.assert_array_equal(shrink(image, size), stored.arrays[f"image_{camera}"][row])
            np.testing.assert_array_equal(obs["proprio"], stored.arrays["proprio"][row])
        obs, *_ = env.step(action)
    env.close()


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
    from rdvla_bench.errors import UnknownName, UsageError

    with pytest.raises(UsageError, match="'init_state' and 'placement' exclude each other"):
        cabinet.reset(options={"init_state": 0, "placement": 0})
    with pytest.raises(UsageError, match="placement -1 is outside"):
        cabinet.reset(options={"placement": -1})
    with pytest.raises(UnknownName, match="Did you mean 'placement'"):
        cabinet.reset(options={"placemnt": 0})


def test_a_folder_copied_elsewhere_still_trains(tmp_path: Path) -> None:
    demos(tmp_path / "here", "--tasks", "can", "--episodes", "1")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert ShardedDataset(tmp_path / "there").fingerprint == ShardedDataset(tmp_path / "here").fingerprint


def _lerobot(folder: Path) -> Any:
    pytest.importorskip("pyarrow")
    from rdvla_bench.policies.rdvla.training.lerobot import LerobotDataset
    from rdvla_bench.policies.rdvla.training.lerobot_options import LerobotOptions

    camera = ("observation.images.cam",)
    return LerobotDataset(folder, LerobotOptions(agentview=camera, wrist=camera, fps=(20,)), NANO.head)


def test_the_lerobot_export_reads_back_as_what_was_recorded(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    common = ["--episodes", "3", "--noise.clean-share", "0"]
    assert demos(tmp_path / "demos", *common, "--lerobot", str(tmp_path / "lerobot")) == 0
    data, first = _lerobot(tmp_path / "lerobot"), 0
    for task, number in product((0, 2), range(3)):  # the jar's episodes failed and are left out
        stored = load(path_of(tmp_path / "demos", f"fake_arm-t{task:02d}-s{number:03d}-r0")).arrays
        for step, proprio, chunk in zip(stored["frames"], stored["proprio"], stored["chunk"], strict=True):
            sample = data[first + int(step)]
            np.testing.assert_array_equal(sample["chunk"], chunk)
            np.testing.assert_array_equal(sample["proprio"], proprio)
            assert sample["images"]["agentview"].shape == (16, 16, 3)
            assert sample["instruction"] == ("grab the can", "", "grab the cup")[task]
            row = list(stored["frames"]).index(step)
            np.testing.assert_array_equal(shrink(sample["images"]["agentview"], 8), stored["image_cam"][row])
        first += len(stored["labels"])
    assert len(data) == first


def test_an_export_is_completed_and_its_folder_is_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    common = ["--tasks", "can", "--episodes", "2", "--lerobot", str(tmp_path / "lerobot")]
    demos(tmp_path / "demos", *common)
    before = _lerobot(tmp_path / "lerobot").fingerprint
    (tmp_path / "lerobot/data/chunk-000/episode_000001.parquet").unlink()
    assert demos(tmp_path / "demos", *common) == 0
    assert _lerobot(tmp_path / "lerobot").fingerprint == before
    assert demos(tmp_path / "others", *common, "--seed", "1") == 2
    assert "holds something else than these demonstrations" in capsys.readouterr().err


def test_a_frame_names_the_frame_where_the_gripper_next_switches_or_else_the_tasks_last() -> None:
    grip = np.array([-1, -1, -1, -1, 1, 1, 1, -1, -1, -1, -1, 1], np.float32)
    stored = Stored(
        about={"segments": [[0, 9], [9, 12]]},
        arrays={"frames": np.array([0, 2, 5, 6, 8, 9, 10]), "labels": np.stack([grip, grip], axis=1)},
    )
    # Closes at 4, opens at 7, the second task begins at 9 and closes at 11, after its last kept frame.
    assert goal_rows(stored) == [2, 2, 4, 4, 4, 6, 6]
