"""The cameras of one LIBERO scene, drawn as robosuite 1.4.0 draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.envs.libero import gl
from rdvla_bench.envs.libero.simulator import mujoco
from rdvla_bench.envs.libero.stepper import Sample

NAMES: Mapping[str, str] = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}  # ours -> the model's


class Cameras:
    """Renders samples of one model.

    Non-obvious:
        * A published policy sees robosuite's picture (OpenGL's, bottom row first) turned by 180 degrees, as
          moojink/openvla-oft@213c5ff libero_utils.py get_libero_image does: upright, and mirrored left to right.
        * The picture shows the moment at which robosuite's observables sample, not the end of the control step.
    """

    def __init__(self, model: mujoco.MjModel, names: Sequence[str], size: int) -> None:
        """Upload the model's meshes and textures; ``size`` is H = W in pixels."""
        gl.context()
        model.vis.global_.offwidth = max(size, model.vis.global_.offwidth)
        model.vis.global_.offheight = max(size, model.vis.global_.offheight)
        self._names = tuple(names)
        self._model = model
        self._data = mujoco.MjData(model)
        self._viewport = mujoco.MjrRect(0, 0, size, size)
        self._scene = mujoco.MjvScene(model, maxgeom=1000)  # robosuite 1.4.0 MjRenderContext
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        self._options = mujoco.MjvOption()
        self._options.geomgroup[:2] = (0, 1)  # visual meshes without collision meshes
        self._perturb = mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED

    def render(self, sample: Sample) -> dict[str, NDArray[np.uint8]]:
        """Return camera -> (H, W, 3) RGB of the moment that ``sample`` holds."""
        model, data = self._model, self._data
        data.qpos[:] = sample.qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        gl.context()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        shown_now = model.site_rgba.copy()
        model.site_rgba[:] = sample.site_rgba
        try:
            return {name: self._draw(mujoco.mj_name2id(model, _CAMERA, NAMES[name])) for name in self._names}
        finally:
            model.site_rgba[:] = shown_now

    def _draw(self, camera: int) -> NDArray[np.uint8]:
        self._camera.fixedcamid = camera
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(
            self._model, self._data, self._options, self._perturb, self._camera, everything, self._scene
        )
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        pixels = np.empty((self._viewport.height, self._viewport.width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, self._viewport, self._context)
        return np.ascontiguousarray(pixels[::-1, ::-1])

    def close(self) -> None:
        """Free what was uploaded."""
        gl.context()
        self._context.free()


_CAMERA = mujoco.mjtObj.mjOBJ_CAMERA
