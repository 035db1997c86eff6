"""The three blocks and the ground."""

from __future__ import annotations

from pathlib import Path

from rdvla_bench.envs.calvin.scenes import BlockSpec, SceneSpec
from rdvla_bench.envs.calvin.table import numbers
from rdvla_bench.envs.calvin.visual import Look

_INERTIA = '<inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/>'  # PyBullet computes its own from the shapes


def write_block(scene: SceneSpec, block: BlockSpec, look: Look | None, folder: Path) -> Path:
    """Write a block's URDF: 1 kg whatever its length (mees/calvin_env@797142c data/blocks/*.urdf)."""
    name = f"block_{block.colour}"
    shown = "" if look is None else look.urdf(scene, name, "base_link", folder)
    path = folder / f"{name}.urdf"
    path.write_text(
        f'<robot name="{name}"><link name="base_link">'
        '<contact><lateral_friction value="0.7"/><spinning_friction value="0.001"/></contact>'
        f'<inertial><mass value="1"/>{_INERTIA}</inertial>{shown}'
        f'<collision><geometry><box size="{numbers(block.size)}"/></geometry></collision></link></robot>'
    )
    return path


def write_plane(scene: SceneSpec, look: Look | None, folder: Path) -> Path:
    """Write the ground's URDF, its top at z 0 (mees/calvin_env@797142c data/plane/plane.urdf)."""
    shown = "" if look is None else look.urdf(scene, "plane", "planeLink", folder)
    path = folder / "plane.urdf"
    path.write_text(
        '<robot name="plane"><link name="planeLink"><contact><lateral_friction value="1"/></contact>'
        f'<inertial><mass value="0"/>{_INERTIA}</inertial>{shown}'
        '<collision><origin xyz="0 0 -5"/><geometry><box size="200 200 10"/></geometry></collision></link></robot>'
    )
    return path
