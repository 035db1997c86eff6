"""Demonstrations on disk: what is written is what is read, and what is broken is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_training import FakeDemonstrations, sample, tiny_config

from rdvla_bench.errors import UsageError
from rdvla_bench.policies.rdvla.statistics import PERCENTILES, parse
from rdvla_bench.policies.rdvla.training.dataset import DatasetError, Sample, check_fit
from rdvla_bench.policies.rdvla.training.shards import MANIFEST, JoinedDataset, ShardedDataset, map_npz, write_shards
from rdvla_bench.policies.rdvla.training.statistics import measure, to_document


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shards(tmp_path / "data", (sample(i) for i in range(7)), samples_per_shard=3)
    return tmp_path / "data"


def test_samples_come_back_as_they_were_written(folder: Path) -> None:
    data = ShardedDataset(folder)
    assert len(data) == 7
    for i in (6, 0, 3, 2):
        read, written = data[i], sample(i)
        assert read["instruction"] == written["instruction"]
        for camera, image in written["images"].items():
            np.testing.assert_array_equal(read["images"][camera], image)
        np.testing.assert_array_equal(read["proprio"], written["proprio"])
        np.testing.assert_array_equal(read["chunk"], written["chunk"])
        assert read["chunk"].dtype == np.float32
    with pytest.raises(IndexError):
        data[7]


def test_shards_are_mapped_and_not_loaded(folder: Path) -> None:
    columns = map_npz(folder / "shard-00000.npz")
    assert all(isinstance(column, np.memmap) for column in columns.values())
    with np.load(folder / "shard-00000.npz") as plain:
        for name, column in columns.items():
            np.testing.assert_array_equal(column, plain[name])


def test_statistics_are_the_extremes_of_all_actions(folder: Path) -> None:
    statistics = ShardedDataset(folder).statistics
    actions = np.concatenate([sample(i)["chunk"] for i in range(7)])
    np.testing.assert_allclose(statistics.action.low, actions.min(axis=0), rtol=1e-6)
    assert statistics.action.mask.tolist() == [True] * 6 + [False]


def test_the_fingerprint_tells_data_sets_apart(folder: Path, tmp_path: Path) -> None:
    write_shards(tmp_path / "same", (sample(i) for i in range(7)), samples_per_shard=3)
    write_shards(tmp_path / "other", (sample(i) for i in range(1, 8)), samples_per_shard=3)
    prints = [ShardedDataset(path).fingerprint for path in (folder, tmp_path / "same", tmp_path / "other")]
    assert prints[0] == prints[1] != prints[2]


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-400] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda f: (f / MANIFEST).unlink(), "no manifest.json"),
        (lambda f: (f / MANIFEST).write_text("{"), "no JSON"),
        (lambda f: (f / MANIFEST).write_text('{"format": "x"}'), "expected format 'rdvla-bench/samples@1', got 'x'"),
        (
            lambda f: (f / MANIFEST).write_text('{"format": "rdvla-bench/samples@1"}'),
            "lacks a field or has a wrong one: 'shards'",
        ),
        (lambda f: (f / "shard-00001.npz").unlink(), "lacks the shard shard-00001.npz"),
        (lambda f: _damage(f / "shard-00001.npz"), "shard-00001.npz is damaged"),
    ],
)
def test_a_broken_folder_is_refused_in_one_line(folder: Path, break_it, says: str) -> None:
    break_it(folder)
    with pytest.raises(DatasetError, match=says) as caught:
        ShardedDataset(folder)
    assert "\n" not in str(caught.value)


def _faster(index: int) -> Sample:
    return {**sample(index), "chunk": sample(index)["chunk"] * np.array([3, 1, 1, 1, 1, 1, 1], np.float32)}


@pytest.fixture
def other(tmp_path: Path) -> Path:
    write_shards(tmp_path / "other", (_faster(i) for i in range(20, 25)), samples_per_shard=4)
    return tmp_path / "other"


def test_joined_folders_are_all_their_samples_in_the_order_given(folder: Path, other: Path) -> None:
    data = JoinedDataset([folder, other])
    assert len(data) == 12
    for i, written in [(0, sample(0)), (6, sample(6)), (7, _faster(20)), (11, _faster(24))]:
        np.testing.assert_array_equal(data[i]["images"]["wrist"], written["images"]["wrist"])
        np.testing.assert_array_equal(data[i]["chunk"], written["chunk"])
        assert data[i]["instruction"] == written["instruction"]
    for outside in (-1, 12):
        with pytest.raises(IndexError):
            data[outside]


def test_joined_folders_are_normalised_by_the_bounds_of_all_of_them(folder: Path, other: Path) -> None:
    statistics = JoinedDataset([folder, other]).statistics
    chunks = [*(sample(i)["chunk"] for i in range(7)), *(_faster(i)["chunk"] for i in range(20, 25))]
    proprio = np.stack([sample(i)["proprio"] for i in (*range(7), *range(20, 25))])
    np.testing.assert_allclose(statistics.action.high, np.concatenate(chunks).max(axis=0), rtol=1e-6)
    np.testing.assert_allclose(statistics.proprio.low, proprio.min(axis=0), rtol=1e-6)


def test_the_fingerprint_of_joined_folders_knows_each_of_them_and_their_order(folder: Path, other: Path) -> None:
    orders = ([folder, other], [other, folder], [folder], [other])
    assert len({JoinedDataset(order).fingerprint for order in orders}) == 4
    assert JoinedDataset([folder]).fingerprint == ShardedDataset(folder).fingerprint


def test_folders_that_do_not_join_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    write_shards(tmp_path / "small", [sample(0, side=16)])
    with pytest.raises(
        DatasetError, match=r"small does not join .*data: camera agentview: \[32, 32, 3\] there"
    ) as caught:
        JoinedDataset([folder, tmp_path / "small"])
    assert "\n" not in str(caught.value)
    with pytest.raises(DatasetError, match="a folder is named twice"):
        JoinedDataset([folder, tmp_path / "small" / ".." / "data"])
    with pytest.raises(DatasetError, match="nowhere is no data set of samples"):
        JoinedDataset([folder, tmp_path / "nowhere"])


def test_what_cannot_be_mapped_is_named(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(3))
    np.savez(tmp_path / "b.npz", x=np.array([None]))
    (tmp_path / "c.npz").write_text("no archive")
    for name, says in (("a", "compressed"), ("b", "Python objects"), ("c", "no .npz archive")):
        with pytest.raises(DatasetError, match=says):
            map_npz(tmp_path / f"{name}.npz")


def test_an_existing_data_set_is_not_written_over(folder: Path) -> None:
    with pytest.raises(DatasetError, match="already holds"):
        write_shards(folder, [sample(0)])
    with pytest.raises(DatasetError, match="no samples"):
        write_shards(folder / "empty", [])


def test_the_manifest_is_plain_json(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    assert [shard["n_samples"] for shard in manifest["shards"]] == [3, 3, 1]


def test_bounds_map_percentiles_to_one_and_back() -> None:
    values = np.random.default_rng(0).normal(0, 3, (5000, 3)).astype(np.float32)
    values[:, 1] = 0.25  # never varies
    values[:, 2] = np.where(values[:, 2] > 0, 1.0, -1.0)  # the gripper
    bounds = measure(values, values, PERCENTILES).action
    unit = bounds.normalise(values)
    assert np.abs(unit[:, 0]).max() == 1.0
    assert np.mean(np.abs(unit[:, 0]) == 1.0) == pytest.approx(0.02, abs=0.002)
    np.testing.assert_array_equal(unit[:, 2], values[:, 2])
    inside = np.abs(unit[:, 0]) < 1
    np.testing.assert_allclose(bounds.restore(unit)[inside], values[inside], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(bounds.restore(unit)[:, 1], 0.25)


def test_a_motion_that_few_frames_show_is_not_cut_off_and_the_files_say_which_bounds_they_hold(folder: Path) -> None:
    values = np.random.default_rng(0).uniform(-0.1, 0.1, (5000, 3)).astype(np.float32)
    values[:20, 0] = -0.5  # the lean before a drawer
    values[:, 2] = np.where(values[:, 2] > 0, 1.0, -1.0)  # the gripper
    statistics = measure(values, values)
    for bounds in (statistics.action, statistics.proprio):
        np.testing.assert_allclose(bounds.restore(bounds.normalise(values)), values, atol=1e-6)
    cut = measure(values, values, PERCENTILES).action
    assert cut.restore(cut.normalise(values))[:, 0].min() > -0.11
    for kept in (statistics, measure(values, values, PERCENTILES)):
        document = json.loads(json.dumps(to_document(kept)))
        assert set(document["samples"]["action"]) == {*kept.action.names, "mask"}
        again = parse(document, None, 3, 3, "file").action
        assert again.describe() == kept.action.describe()
    with pytest.raises(UsageError, match="no 'q01'"):  # what the released files have
        parse({"a": {"action": {"mask": [1]}, "proprio": {"q01": [0], "q99": [1]}}}, "a", 1, 1, "file")
    written = json.loads((folder / MANIFEST).read_text())["statistics"]["samples"]["action"]
    assert set(written) == {"min", "max", "mask"}


def test_data_of_another_embodiment_is_refused() -> None:
    data = FakeDemonstrations(2)
    check_fit(data, tiny_config())
    data.samples[0]["chunk"] = np.zeros((8, 14), np.float32)
    with pytest.raises(DatasetError, match=r"takes chunk \(8, 7\), the data has \(8, 14\)"):
        check_fit(data, tiny_config())
    data.samples[0] = sample(0)
    del data.samples[0]["images"]["wrist"]
    with pytest.raises(DatasetError, match=r"camera 'wrist', the data has \['agentview'\]"):
        check_fit(data, tiny_config())
    with pytest.raises(DatasetError, match="empty"):
        check_fit(FakeDemonstrations(0), tiny_config())
