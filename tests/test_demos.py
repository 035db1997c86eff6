"""Claims about recording demonstrations: the folder, what is in it, and that it depends on nothing but its recipe."""

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

from rdvla_bench.demo_file import load, path_of
from rdvla_bench.errors import PolicyFault
from rdvla_bench.limits import Limits
from rdvla_bench.registry import load_suite

pytest.importorskip("torch")

from rdvla_fake_arm import FakeArm, FakeExpert

from rdvla_bench.commands.demos import main
from rdvla_bench.commands.demos_folder import DemoFolder
from rdvla_bench.policies.rdvla.config import NANO
from rdvla_bench.policies.rdvla.stored_images import shrink
from rdvla_bench.policies.rdvla.training.shards import ShardedDataset


def demos(out: Path, *more: str, workers: int = 0) -> int:
    fake = ["--suite", "fake_arm", "--expert", "fake-expert", "--image-size", "8"]
    return main([*fake, "--workers", str(workers), "--out", str(out), *more])


def contents(folder: Path) -> dict[str, bytes]:
    """Everything that must not depend on how it was made."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.suffix == ".npz"}


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
