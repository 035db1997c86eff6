"""Pictures of a world: PyBullet's software renderer, or its EGL plug-in where that was asked for.

Non-obvious:
    * What lies wholly outside of a camera's view is hidden from the software renderer, whose cost is triangles: no
      pixel changes by it.
    * No light or shadow is ever named: in PyBullet such a setting would stick to all pictures after it.
    * The plug-in must be loaded before the bodies are, so a world is built again when it comes. It casts shadows
      from its third picture on: two are drawn and dropped, so that the first episode looks like all others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.envs.calvin import culling, runtime
from rdvla_bench.envs.calvin.bullet import pybullet
from rdvla_bench.envs.calvin.cameras import CAMERAS, GRIPPER, Camera, Matrix, gripper_view, static_view
from rdvla_bench.envs.calvin.look import Procedural, varied
from rdvla_bench.envs.calvin.visual import Variation
from rdvla_bench.envs.calvin.world import World
from rdvla_bench.errors import UnknownName, UsageError

Pixels = NDArray[np.uint8]
Depth = NDArray[np.float32]

_EGL_WARM_UP = 2  # pictures; found by trial with pybullet 3.2.7


class Renderer:
    """Draws one world."""

    def __init__(self, world: World, backend: str | None = None) -> None:
        """Take a world that has a look; ``backend`` None means the process's own choice.

        Raises:
            NoRenderer: EGL is asked for and cannot work here.
        """
        self.world = world
        self._named = world.look
        self._varied: Variation | None = None  # the look that is shown instead
        self.backend = runtime.resolve(backend)
        self._hideable = culling.hideable(world.robot_id, world.client) if self.backend == "tiny" else {}
        if self.backend == "egl":
            runtime.load_plugin(world.client)
            world.rebuild()
            for _ in range(_EGL_WARM_UP):
                self.render(GRIPPER.name)

    @property
    def appearance(self) -> str:
        """Return what the pictures are drawn from and with."""
        look = self.world.look
        return f"{look.name} {look.sha256(self.world.scene)[:8]}, {self.backend}" if look else ""

    def vary(self, look: Variation | None) -> None:
        """Show ``look.varied`` of it from the next reset on; None: the look that the world was made with.

        Raises:
            UsageError: only the procedural look varies.
        """
        if look == self._varied or self._named is None:
            return
        if not isinstance(self._named, Procedural):
            raise UsageError(f"the {self._named.name} look does not vary: take calvin/procedural@1")
        self._varied = look
        self.world.dress(self._named if look is None else varied(look.seed, look.button, look.drawer))

    def render(self, camera: str) -> Pixels:
        """Return (H, W, 3)."""
        return self._draw(_camera(camera))[0]

    def depth(self, camera: str) -> Depth:
        """Return (H, W), the distance along the optical axis in m."""
        return self.rgbd(camera)[1]

    def rgbd(self, camera: str) -> tuple[Pixels, Depth]:
        """Return picture and depth of one drawing: half the cost of both apart."""
        seen_by = _camera(camera)
        pixels, z_buffer = self._draw(seen_by)
        return pixels, seen_by.metres(z_buffer)

    def view(self, camera: str) -> Matrix:
        """Return the view matrix of a camera as it stands now."""
        if _camera(camera) is not GRIPPER:
            return static_view()
        link = pybullet.getLinkState(self.world.robot_id, self.world.camera_link, physicsClientId=self.world.client)
        return gripper_view(link[0], link[1])

    def _draw(self, camera: Camera) -> tuple[Pixels, NDArray[np.float32]]:
        """Return (H, W, 3) pixels and the (H, W) z-buffer."""
        view, client, robot = self.view(camera.name), self.world.client, self.world.robot_id
        projection, size = camera.projection(), camera.size
        unseen = culling.unseen(robot, view, projection, client) if self._hideable else []
        links = {link: self._hideable[link] for link in unseen if link in self._hideable}
        with culling.hidden(robot, links, client):
            _, _, rgba, z_buffer, _ = pybullet.getCameraImage(
                size, size, view, projection, flags=pybullet.ER_NO_SEGMENTATION_MASK, physicsClientId=client
            )
        pixels = np.asarray(rgba, np.uint8).reshape(size, size, 4)[..., :3]
        return np.ascontiguousarray(pixels), np.asarray(z_buffer, np.float32).reshape(size, size)


def _camera(name: str) -> Camera:
    if name not in CAMERAS:
        raise UnknownName("camera", name, CAMERAS, f"CALVIN has {', '.join(CAMERAS)}")
    return CAMERAS[name]
