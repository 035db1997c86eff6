"""What a link shows, and the face of everything that decides it. Physics never reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from xml.sax.saxutils import quoteattr

from rdvla_bench.envs.calvin.scenes import SceneSpec, Vec3

Colour = tuple[float, float, float, float]

WHITE: Colour = (1.0, 1.0, 1.0, 1.0)
LIGHT_OFF: Colour = WHITE
BULB_ON: Colour = (1.0, 1.0, 0.0, 1.0)
LED_ON: Colour = (0.0, 1.0, 0.0, 1.0)
"""mees/calvin_env@797142c conf/scene/calvin_scene_*.yaml, lights; scene/objects/light.py."""


@dataclass(frozen=True)
class Visual:
    """A mesh file or a box, in the frame of its link and in final metres."""

    mesh: Path | None = None  # OBJ (its MTL names the picture on it) or STL
    scale: float = 1.0  # of the mesh
    box: Vec3 = (0.0, 0.0, 0.0)  # full sides, where there is no mesh
    rgba: Colour = WHITE
    xyz: Vec3 = (0.0, 0.0, 0.0)
    rpy: Vec3 = (0.0, 0.0, 0.0)  # rad, about fixed axes

    def urdf(self, material: str) -> str:
        """Return the ``<visual>`` element; ``material`` must be new in its file, since URDF colours go by that name."""
        geometry = f'<box size="{_text(self.box)}"/>'
        if self.mesh is not None:
            geometry = f'<mesh filename={quoteattr(str(self.mesh))} scale="{_text((self.scale,) * 3)}"/>'
        return (
            f'<visual><origin xyz="{_text(self.xyz)}" rpy="{_text(self.rpy)}"/><geometry>{geometry}</geometry>'
            f'<material name={quoteattr(material)}><color rgba="{_text(self.rgba)}"/></material></visual>'
        )


@dataclass(frozen=True)
class Variation:
    """Which varied look is shown, for training alone."""

    seed: int  # of woods, greys and shades
    button: float | None = None  # m, x at which the button and its led are drawn; None: where they are
    drawer: float | None = None  # m, x at which the drawer is drawn; None: where it is


def _text(values: tuple[float, ...]) -> str:
    return " ".join(repr(float(value)) for value in values)


class Look(Protocol):
    """One way of showing the four scenes; ``World(look=None)`` shows nothing at all."""

    @property
    def name(self) -> str:
        """The name that result rows carry."""

    def urdf(self, scene: SceneSpec, body: str, link: str, folder: Path) -> str:
        """The ``<visual>`` elements of one link (m, link frame); files they need may be written to ``folder``.

        ``body`` is "robot", "table", "plane" or "block_red", "block_blue", "block_pink"; ``link`` its link's name.
        """

    def sha256(self, scene: SceneSpec) -> str:
        """The digest of everything this look brings to ``scene``; what comes with PyBullet is not in it."""
