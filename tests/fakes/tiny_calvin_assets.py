"""A folder laid out like calvin_env's ``data``, with a few triangles in place of every mesh."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rdvla_bench.envs.calvin.scenes import GLOBAL_SCALE, SCENES, SceneSpec
from rdvla_bench.envs.calvin.table import BASE, LINKS
from rdvla_bench.envs.calvin.textures import png

_ARM = ("panda_link0", "panda_hand", "panda_leftfinger")


def write_assets(root: Path) -> Path:
    """Write a fake checkout to ``root`` and return its data folder."""
    data = root / "data"
    for scene in SCENES.values():
        _table(data / f"calvin_table_{scene.name}", scene)
    robot = data / "franka_panda"
    _mesh(robot / "meshes" / "part.obj", (0.0, 0.1))
    links = "".join(_link(name, "package://meshes/part.obj") for name in _ARM)
    (robot / "panda_longer_finger.urdf").write_text(f'<robot name="panda">{links}</robot>')
    plane = data / "plane"
    _mesh(plane / "plane.obj", (-9.0, 9.0))
    (plane / "plane.urdf").write_text(f'<robot name="plane">{_link("planeLink", "plane.obj")}</robot>')
    return data


def _table(folder: Path, scene: SceneSpec) -> None:
    body = folder / "meshes" / "base_link.obj"
    _mesh(body, (*scene.cupboard, *scene.drawer_cavity), texture="../textures/wood.png")
    _mesh(folder / "meshes" / "part.obj", (0.0, 0.1))
    (folder / "textures").mkdir()
    (folder / "textures" / "wood.png").write_bytes(png(np.full((4, 4, 3), 40 * ord(scene.name) % 251, np.uint8)))
    places = {"button": scene.button, "switch": scene.switch, "slide": scene.slide, "drawer": scene.drawer}
    joints = "".join(
        f'<joint name="base__{name}" type="fixed"><origin xyz="{" ".join(str(x / GLOBAL_SCALE) for x in place)}"/>'
        f'<parent link="{BASE}"/><child link="{name}_link"/></joint>'
        for name, place in places.items()
    )
    links = _link(BASE, "../meshes/base_link.obj") + "".join(_link(name, "../meshes/part.obj") for name in LINKS)
    (folder / "urdf").mkdir()
    (folder / "urdf" / f"calvin_table_{scene.name}.urdf").write_text(f'<robot name="t">{links}{joints}</robot>')


def _link(name: str, mesh: str) -> str:
    shape = f'<geometry><mesh filename="{mesh}"/></geometry><material name="m"><color rgba="1 1 1 1"/></material>'
    return f'<link name="{name}"><visual>{shape}</visual></link>'


def _mesh(path: Path, edges: tuple[float, ...], texture: str = "") -> None:
    """Write one triangle for each edge: a corner at that x (m, after the scale), two beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"mtllib {path.stem}.mtl", "usemtl m"] if texture else []
    for i, x in enumerate(edges):
        at = x / GLOBAL_SCALE
        lines += [f"v {at} 0 0.6", f"v {at} 0.3 0.6", f"v {at} 0 0.9", "vt 0 0", "vt 1 0", "vt 0 1"]
        lines.append("f " + " ".join(f"{3 * i + k}/{3 * i + k}" for k in (1, 2, 3)))
    path.write_text("\n".join(lines) + "\n")
    if texture:
        path.with_suffix(".mtl").write_text(f"newmtl m\nKd 1 1 1\nmap_Kd {texture}\n")
