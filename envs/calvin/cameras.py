"""The two cameras of CALVIN: where they stand, what they see, how their depth is read.

Numbers are those of mees/calvin_env@797142c conf/cameras/cameras/{static,gripper}.yaml. Matrices are OpenGL's, column
by column, as PyBullet takes them; PyBullet computes them itself so that pixels agree with the original's to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.envs.calvin.bullet import pybullet

Matrix = tuple[float, ...]  # 16 numbers, column by column

_EYE = (2.871459009488717, -2.166602199425597, 2.555159848480571)
_TARGET = (-0.026242351159453392, -0.0302329882979393, 0.3920000493526459)
_UP = (0.4041403970338857, 0.22629790978217404, 0.8862616969685161)


@dataclass(frozen=True)
class Camera:
    """A square pinhole camera."""

    name: str
    size: int  # pixels a side
    fov_deg: float
    near: float  # m
    far: float  # m

    def projection(self) -> Matrix:
        """Return the projection matrix."""
        return tuple(pybullet.computeProjectionMatrixFOV(self.fov_deg, 1.0, self.near, self.far))

    def intrinsics(self) -> NDArray[np.float64]:
        """Return the (3, 3) pinhole matrix in pixels."""
        focal = self.size / 2 / np.tan(np.deg2rad(self.fov_deg) / 2)
        return np.array([[focal, 0, self.size / 2], [0, focal, self.size / 2], [0, 0, 1]])

    def metres(self, z_buffer: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the distance along the optical axis of a depth buffer with values in [0, 1]."""
        # calvin_env/camera/camera.py: far * near / (far - (far - near) * z)
        return np.asarray(self.far * self.near / (self.far - (self.far - self.near) * z_buffer), np.float32)


STATIC = Camera("static", size=200, fov_deg=10.0, near=0.01, far=10.0)
GRIPPER = Camera("gripper", size=84, fov_deg=75.0, near=0.01, far=2.0)
CAMERAS = {camera.name: camera for camera in (STATIC, GRIPPER)}


def static_view() -> Matrix:
    """Return the view matrix of the camera that stands before the table."""
    return tuple(pybullet.computeViewMatrix(_EYE, _TARGET, _UP))


def gripper_view(position: Sequence[float], quat_xyzw: Sequence[float]) -> Matrix:
    """Return the view matrix of the camera on the hand, given the world pose of its link: it looks along +y, -z up."""
    axes = np.array(pybullet.getMatrixFromQuaternion(quat_xyzw)).reshape(3, 3)
    eye = np.array(position)
    return tuple(pybullet.computeViewMatrix(eye, eye + axes[:, 1], -axes[:, 2]))
