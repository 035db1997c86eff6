"""Claims about folders of an original checkout: what is taken, and what is said where one cannot be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("pybullet")

from tiny_calvin_assets import write_assets

from rdvla_bench.envs.calvin.assets import BadAssets, check, data_folder
from rdvla_bench.envs.calvin.look import PROCEDURAL, OriginalAssets
from rdvla_bench.envs.calvin.renderer import Renderer
from rdvla_bench.envs.calvin.scenes import SCENES
from rdvla_bench.envs.calvin.world import World

D = SCENES["D"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_assets(tmp_path / "checkout")


def test_a_checkout_and_its_data_folder_are_the_same_assets(data: Path):
    assert data_folder(data.parent) == data_folder(data) == data.resolve()
    for scene in SCENES.values():
        check(data, scene)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(BadAssets, match=r"'.*nowhere' does not exist. Get it with `git clone"):
        OriginalAssets(tmp_path / "nowhere")


def test_a_folder_of_something_else_is_refused(tmp_path: Path):
    with pytest.raises(BadAssets, match="holds no data/calvin_table_"):
        OriginalAssets(tmp_path)


@pytest.mark.parametrize(
    "missing",
    [
        "calvin_table_D/urdf/calvin_table_D.urdf",
        "calvin_table_D/meshes/part.obj",
        "calvin_table_D/textures/wood.png",
        "franka_panda/panda_longer_finger.urdf",
        "franka_panda/meshes/part.obj",
        "plane/plane.obj",
    ],
)
def test_the_first_missing_file_is_named(data: Path, missing: str):
    (data / missing).unlink()
    with pytest.raises(BadAssets, match=f"lacks '{missing}'"):
        check(data, D)


def test_a_missing_table_does_not_keep_others_from_being_used(data: Path):
    shutil.rmtree(data / "calvin_table_A")
    check(data, D)


def test_a_table_under_another_ones_name_is_recognised_by_its_joints(data: Path):
    shutil.rmtree(data / "calvin_table_D")
    shutil.copytree(data / "calvin_table_B", data / "calvin_table_D")
    (data / "calvin_table_D/urdf/calvin_table_B.urdf").rename(data / "calvin_table_D/urdf/calvin_table_D.urdf")
    with pytest.raises(BadAssets, match=r"'calvin_table_D' .* does not hold table D: by its joints it is table B"):
        check(data, D)


@pytest.mark.parametrize("other", ["A", "B", "C"])
def test_a_body_of_another_table_is_recognised_by_its_openings(data: Path, other: str):
    shutil.copy(data / f"calvin_table_{other}/meshes/base_link.obj", data / "calvin_table_D/meshes/base_link.obj")
    with pytest.raises(BadAssets, match=f"by its base_link mesh it is table {other}"):
        check(data, D)


def test_a_file_that_is_no_urdf_is_named(data: Path):
    (data / "plane/plane.urdf").write_text("<robot")
    with pytest.raises(BadAssets, match=r"'plane/plane.urdf' .* is no URDF that can be read"):
        check(data, D)


def test_one_byte_of_a_picture_changes_the_digest(data: Path):
    before = OriginalAssets(data).sha256(D), OriginalAssets(data).sha256(SCENES["A"])
    picture = data / "calvin_table_D/textures/wood.png"
    picture.write_bytes(picture.read_bytes() + b"\0")
    assert OriginalAssets(data).sha256(D) != before[0]
    assert OriginalAssets(data).sha256(SCENES["A"]) == before[1]


def test_the_digest_does_not_depend_on_where_the_folder_lies(data: Path, tmp_path: Path):
    moved = shutil.copytree(data, tmp_path / "elsewhere" / "data")
    assert OriginalAssets(moved).sha256(D) == OriginalAssets(data).sha256(D)


def test_the_files_of_the_folder_are_what_is_seen(data: Path):
    pictures = []
    for look in (OriginalAssets(data), PROCEDURAL):
        world = World("D", look)
        pictures.append(Renderer(world, "tiny").render("static"))
        world.close()
    assert (pictures[0] != pictures[1]).any(axis=-1).mean() > 0.2


def test_a_bad_folder_stops_a_world_before_anything_is_loaded(data: Path):
    (data / "calvin_table_D/textures/wood.png").unlink()
    with pytest.raises(BadAssets):
        World("D", OriginalAssets(data))
