"""The two simulators behind `CalvinEnv` and what draws them: ours on PyBullet, or the original from a checkout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.envs.calvin.scenes import SceneSpec
from rdvla_bench.envs.calvin.snapshot import Floats, Snapshot
from rdvla_bench.envs.calvin.visual import Variation
from rdvla_bench.errors import UnknownName, UsageError
from rdvla_bench.protocol_card import ProtocolCard

if TYPE_CHECKING:
    from rdvla_bench.envs.calvin.mechanisms import ButtonReset

BACKENDS = ("pybullet", "upstream")


class Physics(Protocol):
    """One scene that is stepped."""

    @property
    def scene(self) -> SceneSpec:
        """Return the scene's numbers."""

    @property
    def client(self) -> int:
        """Return the number of its PyBullet client."""

    @property
    def target_pos(self) -> Floats:
        """Return the target's position (3,), in m."""

    @property
    def target_euler(self) -> Floats:
        """Return the target's Euler angles (3,), in rad."""

    @property
    def has_diverged(self) -> bool:
        """Return whether some number of the state is not finite."""

    def reset(self, robot_obs: Floats, scene_obs: Floats) -> None:
        """Build the world anew and put it into a state: (15,) and (24,)."""

    def step(self, action: Floats) -> None:
        """Run one control step of a relative action (7,), its last value -1 or 1."""

    def step_absolute(self, position: Floats, euler_xyz: Floats, gripper: float) -> None:
        """Run one control step towards a pose of the tcp."""

    def robot_obs(self) -> Floats:
        """Return (15,)."""

    def scene_obs(self) -> Floats:
        """Return (24,)."""

    def snapshot(self, *, contacts: bool = True) -> Snapshot:
        """Return what the oracle reads; without contacts where it asks for none."""

    def full_state(self) -> Floats:
        """Return all that the future depends on, as far as the simulator shows it."""

    def close(self) -> None:
        """Free the simulator."""


class Eye(Protocol):
    """What draws a scene."""

    @property
    def appearance(self) -> str:
        """Return what pictures are drawn from and with."""

    def vary(self, look: Variation | None) -> None:
        """Show varied look ``look`` from the next reset on; None: the one that the card names."""

    def render(self, camera: str) -> NDArray[np.uint8]:
        """Return (H, W, 3), upright."""

    def depth(self, camera: str) -> NDArray[np.float32]:
        """Return (H, W) in m along the optical axis."""


class Blind:
    """Draws nothing, for those who look at nothing."""

    appearance = ""

    def vary(self, look: Variation | None) -> None:
        """Do nothing: nobody looks."""

    def render(self, camera: str) -> NDArray[np.uint8]:
        """Refuse.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"this environment was made without cameras: there is no picture of '{camera}'")

    def depth(self, camera: str) -> NDArray[np.float32]:
        """Refuse.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"this environment was made without cameras: there is no depth of '{camera}'")


def open_world(
    backend: str, scene: str, card: ProtocolCard, *, assets: str | None, renderer: str, is_drawn: bool
) -> tuple[Physics, Eye]:
    """Return the simulator of one scene, and what draws it.

    Raises:
        UsageError: an unknown backend, assets that are missing or that the card does not go with, or a renderer
            that cannot work here.
    """
    if backend not in BACKENDS:
        raise UnknownName("backend", backend, BACKENDS, f"CALVIN runs on {' or '.join(BACKENDS)}")
    look = card.variant.get("look", "procedural")
    button = cast("ButtonReset", card.variant.get("button", "main"))
    if backend == "upstream":
        from rdvla_bench.envs.calvin.upstream import UpstreamWorld

        if look != "original":
            raise UsageError(f"backend 'upstream' shows the original's look, {card.name} is of the {look} one")
        upstream = UpstreamWorld(scene, assets, button)
        return upstream, upstream if is_drawn else Blind()
    if assets and look != "original":
        raise UsageError(f"assets={assets} give the original's look, {card.name} is of the {look} one: calvin/abcd@1")
    from rdvla_bench.envs.calvin.look import PROCEDURAL, OriginalAssets
    from rdvla_bench.envs.calvin.world import World

    original = OriginalAssets(assets) if assets else None  # a wrong path is told to those who see nothing, too
    if not is_drawn:
        return World(scene, None, button), Blind()
    if look == "original" and not assets:
        raise UsageError(
            f"{card.name} shows the original's look: give a checkout of mees/calvin_env with assets=PATH "
            f"(on the command line --env assets=PATH), or take calvin/procedural@1"
        )
    from rdvla_bench.envs.calvin.renderer import Renderer

    world = World(scene, original or PROCEDURAL, button)
    return world, Renderer(world, renderer or None)
