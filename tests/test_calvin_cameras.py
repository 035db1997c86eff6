"""Claims about where CALVIN's cameras stand and how they measure."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pybullet")

from rdvla_bench.envs.calvin.bullet import pybullet
from rdvla_bench.envs.calvin.cameras import CAMERAS, GRIPPER, STATIC, Camera, gripper_view, static_view

# printed by mees/calvin_env@797142c for its static camera, column by column
ORIGINAL_VIEW = np.ravel(
    [
        (0.723245, -0.030261, 0.689929, 0.0),
        (0.514123, 0.690611, -0.508659, 0.0),
        (-0.46108, 0.722594, 0.515038, 0.0),
        (0.215266, -0.263172, -4.399169, 1.0),
    ]
)


def test_the_static_camera_stands_where_the_originals_does():
    np.testing.assert_allclose(static_view(), ORIGINAL_VIEW, atol=1e-6)


@pytest.mark.parametrize(("camera", "focal", "centre"), [(STATIC, 1143.005, 100), (GRIPPER, 54.736, 42)])
def test_intrinsics_are_the_originals(camera: Camera, focal: float, centre: float):
    wanted = [[focal, 0, centre], [0, focal, centre], [0, 0, 1]]
    np.testing.assert_allclose(camera.intrinsics(), wanted, atol=1e-3)


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=str)
def test_intrinsics_and_projection_put_a_point_on_the_same_pixel(camera: Camera):
    x, y, distance = 0.03, -0.02, 0.8
    clip = np.reshape(camera.projection(), (4, 4)).T @ [x, y, -distance, 1]
    column, row = (clip[0] / clip[3] + 1) / 2 * camera.size, (1 - clip[1] / clip[3]) / 2 * camera.size
    pinhole = camera.intrinsics() @ [x, -y, distance]
    np.testing.assert_allclose([column, row], pinhole[:2] / pinhole[2], atol=1e-3)


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=str)
def test_depth_in_metres_inverts_the_projection(camera: Camera):
    distances = np.linspace(camera.near, camera.far, 7)
    points = np.stack([0 * distances, 0 * distances, -distances, 0 * distances + 1], axis=1)
    clip = points @ np.reshape(camera.projection(), (4, 4))
    z_buffer = (clip[:, 2] / clip[:, 3] + 1) / 2
    np.testing.assert_allclose(camera.metres(z_buffer.astype(np.float64)), distances, rtol=1e-4)


def test_the_gripper_camera_looks_along_y_with_z_down():
    quat = pybullet.getQuaternionFromEuler((0.3, -0.2, 0.9))
    axes = np.reshape(pybullet.getMatrixFromQuaternion(quat), (3, 3))
    eye = np.array([0.1, 0.2, 0.3])
    view = np.reshape(gripper_view(eye, quat), (4, 4)).T
    ahead, below = view @ [*(eye + axes[:, 1]), 1], view @ [*(eye + axes[:, 2]), 1]
    np.testing.assert_allclose(ahead, [0, 0, -1, 1], atol=1e-6)
    np.testing.assert_allclose(below, [0, -1, 0, 1], atol=1e-6)
