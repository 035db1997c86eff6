"""LeRobotDataset folders: both layouts give the same samples, train and resume; what is wrong is named."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")
pytest.importorskip("PIL")

import pyarrow.parquet as pq  # noqa: E402
import tiny_lerobot  # noqa: E402
from tiny_lerobot import CAMERAS, FPS, LENGTHS, SIDE, TASKS, episode, write, write_mp4  # noqa: E402

from rdvla_bench.commands.train import main, open_data  # noqa: E402
from rdvla_bench.errors import MissingExtra, UsageError  # noqa: E402
from rdvla_bench.policies.rdvla.config import HeadConfig  # noqa: E402
from rdvla_bench.policies.rdvla.training.dataset import Dataset, DatasetError  # noqa: E402
from rdvla_bench.policies.rdvla.training.lerobot_images import EmbeddedImages  # noqa: E402
from rdvla_bench.policies.rdvla.training.lerobot_options import LerobotOptions  # noqa: E402

LAYOUTS = pytest.mark.parametrize("is_v3", [False, True], ids=["v2.1", "v3.0"])
ROWS = [(number, frame) for number, length in enumerate(LENGTHS) for frame in range(length)]


def opened(folder: Path, options: LerobotOptions | None = None) -> Dataset:
    return open_data(str(folder), options or LerobotOptions(), HeadConfig())


@LAYOUTS
def test_every_frame_is_a_sample(tmp_path: Path, is_v3: bool) -> None:
    data = opened(write(tmp_path / "data", is_v3=is_v3))
    assert len(data) == len(ROWS)
    for index in (0, 9, 10, 14, 23, 3):
        number, frame = ROWS[index]
        recorded, sample = episode(number), data[index]
        assert sample["instruction"] == TASKS[number % 2]
        np.testing.assert_array_equal(sample["proprio"], recorded["observation.state"][frame])
        for camera, feature in zip(("agentview", "wrist"), CAMERAS, strict=True):
            np.testing.assert_array_equal(sample["images"][camera], recorded[feature][frame])
    with pytest.raises(IndexError):
        data[len(ROWS)]


def test_the_last_action_goes_on_beyond_its_episode(tmp_path: Path) -> None:
    data = opened(write(tmp_path / "data", is_v3=True))
    action = episode(0)["action"]
    np.testing.assert_array_equal(data[2]["chunk"], action[2:10])  # exactly to the end
    last = data[9]["chunk"]
    np.testing.assert_array_equal(last, np.tile(action[9], (8, 1)))
    assert last.dtype == np.float32
    np.testing.assert_array_equal(data[10]["chunk"][:5], episode(1)["action"])


@LAYOUTS
def test_bounds_are_the_percentiles_of_what_was_recorded(tmp_path: Path, is_v3: bool) -> None:
    statistics = opened(write(tmp_path / "data", is_v3=is_v3)).statistics
    actions = np.concatenate([episode(number)["action"] for number in range(3)])
    states = np.concatenate([episode(number)["observation.state"] for number in range(3)])
    np.testing.assert_allclose(statistics.action.low, np.quantile(actions, 0.01, axis=0), rtol=1e-6)
    np.testing.assert_allclose(statistics.proprio.high, np.quantile(states, 0.99, axis=0), rtol=1e-6)
    assert statistics.action.mask.tolist() == [True] * 6 + [False]


@LAYOUTS
def test_frames_in_videos_are_those_of_their_time(tmp_path: Path, is_v3: bool) -> None:
    pytest.importorskip("av")
    data = opened(write(tmp_path / "data", is_v3=is_v3, is_video=True))
    for index in (23, 0, 10, 9, 4, 5, 18):
        number, frame = ROWS[index]
        for camera, feature in zip(("agentview", "wrist"), CAMERAS, strict=True):
            seen = data[index]["images"][camera].astype(int)
            away = {f: np.abs(seen - content).mean() for f, content in enumerate(episode(number)[feature].astype(int))}
            assert min(away, key=away.__getitem__) == frame
            assert away[frame] < 6, "levels of 255; the next frame is about 8 away"


@LAYOUTS
def test_the_command_trains_on_it_and_resumes_to_the_same_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_v3: bool
) -> None:
    pytest.importorskip("transformers")
    write(tmp_path / "data", is_v3=is_v3)
    common = ["--data", f"lerobot:{tmp_path / 'data'}", "--batch-size", "2", "--mean-depth", "2", "--device", "cpu"]
    augmented = ["--augmentation.shift", "2", "--augmentation.brightness", "0.1", "--ema", "0.9"]
    for out, steps in (("whole", "2"), ("halves", "1"), ("halves", "2")):
        assert main([*common, *augmented, "--out", str(tmp_path / out), "--steps", steps]) == 0
    assert "1 of 2 steps are done" in capsys.readouterr().out
    for name in ("model.safetensors", "train_state.safetensors", "log.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "halves" / name).read_bytes(), name


def test_the_fingerprint_covers_content_and_conventions(tmp_path: Path) -> None:
    first = opened(write(tmp_path / "a", is_v3=True))
    assert opened(write(tmp_path / "b", is_v3=True)).fingerprint == first.fingerprint
    assert opened(tmp_path / "a", LerobotOptions(wrist=(CAMERAS[0],))).fingerprint != first.fingerprint
    table = pq.read_table(tmp_path / "a" / "data" / "chunk-000" / "file-000.parquet")
    pq.write_table(table.set_column(1, "action", table["action"].combine_chunks().take(list(range(23, -1, -1)))),
                   tmp_path / "a" / "data" / "chunk-000" / "file-000.parquet")  # fmt: skip
    assert opened(tmp_path / "a").fingerprint != first.fingerprint


def test_images_beyond_the_budget_are_read_again(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", is_v3=True)
    files = [folder / "data" / "chunk-000" / "file-000.parquet"]
    small, large = (EmbeddedImages(files, CAMERAS[0], SIDE, budget) for budget in (1, 1 << 20))
    for row in (0, 23, 11, 0):
        np.testing.assert_array_equal(small.frame(row), large.frame(row))
    assert (len(small._cache), len(large._cache)) == (1, 3)


@pytest.mark.parametrize(("convention", "opened_as"), [("one-open", (1.0, 0.0)), ("zero-open", (0.0, 1.0))])
def test_other_gripper_conventions_become_the_envs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, convention: str, opened_as: tuple[float, float]
) -> None:
    plain = tiny_lerobot.episode

    def converted(number: int) -> dict:
        columns = plain(number)
        columns["action"][:, -1] = np.where(columns["action"][:, -1] < 0, *opened_as)
        return columns

    monkeypatch.setattr(tiny_lerobot, "episode", converted)
    folder = write(tmp_path / "data", is_v3=True)
    data = opened(folder, LerobotOptions(gripper=convention))  # type: ignore[arg-type]
    np.testing.assert_array_equal(data[2]["chunk"][:, -1], plain(0)["action"][2:, -1])
    with pytest.raises(DatasetError, match=r"go from 0 to 1, which is not 'env'.*--lerobot.gripper"):
        opened(folder)


def _edit_info(folder: Path, **changes: object) -> None:
    path = folder / "meta" / "info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _rewrite(folder: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    path = folder / "data" / "chunk-000" / "episode_000001.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def _narrow(table: pa.Table) -> pa.Table:
    state = pa.array([row[:6] for row in table["observation.state"].to_pylist()], pa.list_(pa.float32()))
    return table.set_column(table.column_names.index("observation.state"), "observation.state", state)


def _nan(table: pa.Table) -> pa.Table:
    rows = table["observation.state"].to_pylist()
    rows[2][3] = float("nan")
    return table.set_column(0, "observation.state", pa.array(rows, pa.list_(pa.float32())))


def _torn(folder: Path) -> None:
    path = folder / "data" / "chunk-000" / "episode_000001.parquet"
    path.write_bytes(path.read_bytes()[:-20])


BROKEN = [
    (lambda f: (f / "meta" / "info.json").write_text("{"), r"info.json cannot be read"),
    (lambda f: _edit_info(f, codebase_version="v1.6"), r"codebase_version is 'v1.6', expected v2.0 or v2.1 or v3.0"),
    (lambda f: _edit_info(f, fps=30), r"30 frames a second, expected 10 or 20 \(--lerobot.fps\)"),
    (lambda f: _edit_info(f, fps="fast"), r"fps is 'fast', expected a whole number above 0"),
    (lambda f: _edit_info(f, features=[]), r"no 'features'"),
    (lambda f: _edit_info(f, total_episodes="3"), r"total_episodes is '3', expected 1 or more"),
    (lambda f: _edit_info(f, total_episodes=4), r"lacks episode 3 \(data/chunk-000/episode_000003.parquet\) of 4 epi"),
    (lambda f: (f / "meta" / "tasks.jsonl").unlink(), r"lacks meta/tasks.jsonl, which names the tasks"),
    (lambda f: (f / "meta" / "tasks.jsonl").write_text('{"task_index": 0}'), r"expected task_index and task on every"),
    (
        lambda f: (f / "meta" / "tasks.jsonl").write_text('{"task_index": 0, "task": "a"}'),
        r"frames of task 1, which meta/tasks does not name",
    ),
    (
        lambda f: (f / "data" / "chunk-000" / "episode_000001.parquet").unlink(),
        r"lacks episode 1 \(data/chunk-000/episode_000001.parquet\) of 3 episodes",
    ),
    (lambda f: [p.unlink() for p in (f / "data" / "chunk-000").iterdir()], r"no file data/\*/\*.parquet"),
    (_torn, r"episode_000001.parquet cannot be read"),
    (lambda f: _rewrite(f, lambda t: t.drop_columns("action")), r"no column 'action'. It has observation.state, frame"),
    (lambda f: _rewrite(f, lambda t: t.drop_columns(CAMERAS[1])), r"no column 'observation.images.image2', though"),
    (lambda f: _rewrite(f, _narrow), r"observation.state is 8, 6 numbers wide, the model takes 8"),
    (lambda f: _rewrite(f, _nan), r"observation.state is not finite in frame 12 of the data set"),
    (lambda f: _rewrite(f, lambda t: t.slice(1)), r"episode 1 has frame_index 1 where 0 is expected"),
]


@pytest.mark.parametrize(("break_it", "says"), BROKEN)
def test_a_broken_folder_is_refused_in_one_line(tmp_path: Path, break_it: Callable[[Path], object], says: str) -> None:
    folder = write(tmp_path / "data", is_v3=False)
    break_it(folder)
    with pytest.raises(DatasetError, match=says) as caught:
        opened(folder)
    assert "\n" not in str(caught.value)


def test_a_feature_of_another_name_is_chosen_or_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", is_v3=True)
    with pytest.raises(DatasetError, match=r"no feature 'top' for agentview.*It has action, .*--lerobot.agentview"):
        opened(folder, LerobotOptions(agentview=("top",)))
    swapped = opened(folder, LerobotOptions(agentview=("top", CAMERAS[1]), wrist=(CAMERAS[0],)))
    np.testing.assert_array_equal(swapped[0]["images"]["agentview"], episode(0)[CAMERAS[1]][0])
    with pytest.raises(DatasetError, match="action is of dtype 'float32', expected image or video"):
        opened(folder, LerobotOptions(wrist=("action",)))
    with pytest.raises(DatasetError, match="action is 7 numbers wide, the model takes 8"):
        opened(folder, LerobotOptions(state=("action",)))
    with pytest.raises(DatasetError, match="takes 14"):
        open_data(str(folder), LerobotOptions(), HeadConfig(action=14))
    with pytest.raises(UsageError, match=r"lerobot.wrist: expected at least one value"):
        LerobotOptions(wrist=())


def test_images_of_another_size_than_declared_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", is_v3=True)
    features = json.loads((folder / "meta" / "info.json").read_text())["features"]
    features[CAMERAS[0]]["shape"] = [3, 64, 64]  # channels first, as some data sets declare
    _edit_info(folder, features=features)
    with pytest.raises(DatasetError, match=r"image is \(32, 32, 3\), meta/info.json says \(64, 64, 3\)"):
        opened(folder)[0]
    features[CAMERAS[0]]["shape"] = [32, 64, 3]
    _edit_info(folder, features=features)
    with pytest.raises(DatasetError, match=r"has shape \(32, 64, 3\), expected square"):
        opened(folder)


def test_damaged_images_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", is_v3=False)

    def spoil(table: pa.Table) -> pa.Table:
        cells = table[CAMERAS[0]].to_pylist()
        cells[0]["bytes"], cells[1]["bytes"] = b"no image", None
        kind = table.schema.field(CAMERAS[0]).type
        return table.set_column(table.column_names.index(CAMERAS[0]), CAMERAS[0], pa.array(cells, kind))

    _rewrite(folder, spoil)
    with pytest.raises(
        DatasetError, match=r"episode_000001.parquet: .*image, row 10 of the data set: no readable image"
    ):
        opened(folder)[10]
    with pytest.raises(DatasetError, match=r"row 11 of the data set: no bytes of an image in the file, got"):
        opened(folder)[11]


def test_a_wrong_video_is_named(tmp_path: Path) -> None:
    pytest.importorskip("av")
    folder = write(tmp_path / "data", is_v3=False, is_video=True)
    path = folder / "videos" / "chunk-000" / CAMERAS[0] / "episode_000001.mp4"
    frames = episode(1)[CAMERAS[0]]
    for spoil, says in (
        (lambda: write_mp4(path, frames, fps=FPS * 3), "30 frames a second, meta/info.json says 10"),
        (lambda: write_mp4(path, frames[:, :16, :16]), "frames are 16x16, meta/info.json says 32x32"),
        (lambda: path.write_bytes(b"no video"), "is no readable video"),
        (lambda: path.unlink(), "lacks the video videos/chunk-000/observation.images.image/episode_000001.mp4"),
    ):
        spoil()
        with pytest.raises(DatasetError, match=says):
            opened(folder)
    write_mp4(path, frames[:3])
    with pytest.raises(DatasetError, match=r"no frame at 0.400 s \(episode 1, frame 4\)"):
        opened(folder)[14]


def test_what_is_not_installed_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "data", is_v3=False)
    _edit_info(folder, features={
        name: {**feature, "dtype": "video"} if name in CAMERAS else feature
        for name, feature in json.loads((folder / "meta" / "info.json").read_text())["features"].items()
    })  # fmt: skip
    package = "rdvla_bench.policies.rdvla.training"
    monkeypatch.delitem(sys.modules, f"{package}.lerobot_video", raising=False)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r"image is in videos, which needs .*rdvla-bench\[lerobot\]"):
        opened(folder)
    monkeypatch.delitem(sys.modules, f"{package}.lerobot", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"data in LeRobot's format needs .*rdvla-bench\[lerobot\]"):
        opened(folder)


def test_a_folder_that_is_called_lerobot_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"is no LeRobotDataset: it has no meta/info.json"):
        open_data(f"lerobot:{tmp_path}", LerobotOptions(), HeadConfig())


def test_the_options_reach_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "data", is_v3=True)
    call = ["--data", str(folder), "--out", str(tmp_path / "run"), "--lerobot.fps", "20", "25"]
    assert main(call) == 2
    answer = capsys.readouterr().err
    assert "10 frames a second, expected 20 or 25 (--lerobot.fps)" in answer
    assert answer.count("\n") == 1
    assert replace(LerobotOptions(), fps=(20, 25)).cameras["agentview"][0] == CAMERAS[0]
