"""A render context with robosuite 1.4.0's settings that needs neither ``MUJOCO_GL`` nor PyOpenGL."""

from __future__ import annotations

from rdvla_bench.envs.libero import gl
from rdvla_bench.envs.libero.simulator import mujoco


class OffscreenContext:
    """Stands where robosuite keeps its own ``MjRenderContextOffscreen``, with the same attributes and pictures.

    Non-obvious:
        * All contexts of a process share one GL context, which is never freed; `free` frees what this one uploaded.
    """

    offscreen = True  # robosuite's MjSim.add_render_context asks

    def __init__(self, model: mujoco.MjModel, size: int) -> None:
        """Upload the model's meshes and textures, for pictures of at most ``size`` pixels in height and width."""
        self.gl_ctx = gl.context()
        frame = model.vis.global_
        frame.offwidth, frame.offheight = max(size, frame.offwidth), max(size, frame.offheight)
        self.model = model
        self.scn = mujoco.MjvScene(model, maxgeom=1000)
        self.cam = mujoco.MjvCamera()
        self.cam.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self.vopt = mujoco.MjvOption()
        self.vopt.geomgroup[:2] = (0, 1)  # no collision meshes, but visual ones
        self.pert = mujoco.MjvPerturb()
        self.pert.active = self.pert.select = 0
        self.pert.skinselect = -1
        self.con = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.con)

    def free(self) -> None:
        """Free the meshes, the textures and the frame buffer."""
        self.gl_ctx.make_current()
        self.con.free()
