"""The data folder of an original checkout: finds it, names what is missing, and refuses a table under a wrong name.

Only what is seen is read: collision shapes and masses are ours in every look.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rdvla_bench.envs.calvin.scenes import GLOBAL_SCALE, SCENES, SceneSpec, Vec3
from rdvla_bench.envs.calvin.visual import WHITE, Colour, Visual
from rdvla_bench.errors import UsageError

ROBOT = "franka_panda/panda_longer_finger.urdf"
PLANE = "plane/plane.urdf"
_FETCH = "Get it with `git clone https://github.com/mees/calvin_env` and give the checkout, or its data folder"
_CLOSE = 2e-3  # m, unscaled: far above rounding, far below what tells two tables apart

Links = Mapping[str, tuple[Visual, ...]]  # link name -> what it shows


class BadAssets(UsageError):
    """A folder that cannot dress the scene it was given for."""


def table(scene: SceneSpec) -> str:
    """Return the path of a table's URDF inside the data folder."""
    return f"calvin_table_{scene.name}/urdf/calvin_table_{scene.name}.urdf"


def data_folder(path: str | Path) -> Path:
    """Return the data folder of ``path``: a checkout's root, or the folder itself.

    Raises:
        BadAssets: there is neither.
    """
    given = Path(path).expanduser().resolve()
    if not given.is_dir():
        raise BadAssets(f"assets folder '{path}' does not exist. {_FETCH}")
    for folder in (given, given / "data"):
        if any(folder.glob("calvin_table_*")) or (folder / "franka_panda").is_dir():
            return folder
    raise BadAssets(f"'{path}' holds no data/calvin_table_* and is no data folder of calvin_env either. {_FETCH}")


def read(data: Path, urdf: str, scale: float = 1.0) -> Links:
    """Return what the links of a URDF of the data folder show; ``scale`` multiplies lengths.

    Raises:
        BadAssets: the file, or one that it names, is missing or malformed.
    """
    path = _existing(data, data / urdf)
    try:
        root = ElementTree.parse(path).getroot()
        colours = _colours(root)
        return {
            link.get("name", ""): tuple(
                _visual(data, path, visual, colours, scale) for visual in link.findall("visual")
            )
            for link in root.findall("link")
        }
    except (ElementTree.ParseError, ValueError) as error:
        raise BadAssets(f"'{urdf}' in {data} is no URDF that can be read: {error}. {_FETCH}") from error


def files(links: Iterable[Links]) -> list[Path]:
    """Return every file that the links show: meshes, their material libraries and pictures; each once, sorted."""
    meshes = {visual.mesh for part in links for visuals in part.values() for visual in visuals if visual.mesh}
    return sorted({file for mesh in meshes for file in (mesh, *_painted(mesh))})


def check(data: Path, scene: SceneSpec) -> None:
    """Refuse a folder in which a file is missing or another table goes by ``scene``'s name.

    Raises:
        BadAssets: with the first missing file, or the table that was found.
    """
    parts = [read(data, urdf) for urdf in (table(scene), ROBOT, PLANE)]
    for file in files(parts):
        _existing(data, file)
    joints = _joints(data / table(scene))
    _same_table(data, scene, "its joints", [_has_joints(joints, other) for other in SCENES.values()])
    [body] = parts[0]["base_link"]
    if body.mesh is not None:
        edges = _vertices_x(body.mesh)
        _same_table(data, scene, "its base_link mesh", [_has_openings(edges, other) for other in SCENES.values()])


def _same_table(data: Path, scene: SceneSpec, what: str, fits: list[bool]) -> None:
    matching = [other.name for other, fit in zip(SCENES.values(), fits, strict=True) if fit]
    if scene.name not in matching:
        found = f"table {' or '.join(matching)}" if matching else "none of the tables A, B, C, D"
        raise BadAssets(
            f"'{table(scene).split('/')[0]}' in {data} does not hold table {scene.name}: by {what} it is {found}. "
            f"Give the data folder as calvin_env has it"
        )


def _has_joints(joints: Mapping[str, Vec3], scene: SceneSpec) -> bool:
    places = {"button": scene.button, "switch": scene.switch, "slide": scene.slide, "drawer": scene.drawer}
    return all(
        abs(have * GLOBAL_SCALE - want) < _CLOSE
        for name, place in places.items()
        for have, want in zip(joints.get(f"base__{name}", (9e9, 9e9, 9e9)), place, strict=True)
    )


def _has_openings(edges: set[float], scene: SceneSpec) -> bool:
    """Return whether the body has edges where the cupboard and the drawer's hole begin and end."""
    return all(
        any(abs(edge * GLOBAL_SCALE - x) < _CLOSE for edge in edges) for x in (*scene.cupboard, *scene.drawer_cavity)
    )


def _joints(path: Path) -> dict[str, Vec3]:
    """Return joint name -> origin (m, unscaled)."""
    root = ElementTree.parse(path).getroot()
    return {j.get("name", ""): _vector(j.find("origin"), "xyz") for j in root.findall("joint")}


def _vertices_x(mesh: Path) -> set[float]:
    lines = mesh.read_text(errors="replace").splitlines()
    return {float(line.split()[1]) for line in lines if line.startswith("v ")}


def _existing(data: Path, path: Path) -> Path:
    if not path.is_file():
        name = path.relative_to(data) if path.is_relative_to(data) else path
        raise BadAssets(f"assets folder {data} lacks '{name}'. {_FETCH}")
    return path


def _visual(
    data: Path, urdf: Path, element: ElementTree.Element, colours: Mapping[str, Colour], scale: float
) -> Visual:
    origin, material = element.find("origin"), element.find("material")
    mesh, box = element.find("geometry/mesh"), element.find("geometry/box")
    colour = colours.get(material.get("name", ""), WHITE) if material is not None else WHITE
    x, y, z = _vector(origin, "xyz")
    xyz, rpy = (x * scale, y * scale, z * scale), _vector(origin, "rpy")
    if mesh is not None:
        name = mesh.get("filename", "")
        base, name = (
            (data / ROBOT).parent if name.startswith("package://") else urdf.parent,
            name.split("package://")[-1],
        )
        return Visual(_existing(data, (base / name).resolve()), scale, rgba=colour, xyz=xyz, rpy=rpy)
    if box is None:
        raise ValueError("a visual is neither a mesh nor a box")
    a, b, c = _vector(box, "size")
    return Visual(box=(a * scale, b * scale, c * scale), rgba=colour, xyz=xyz, rpy=rpy)


def _vector(element: ElementTree.Element | None, name: str) -> Vec3:
    text = element.get(name) if element is not None else None
    x, y, z = (float(word) for word in (text or "0 0 0").split())
    return x, y, z


def _colours(root: ElementTree.Element) -> dict[str, Colour]:
    """Return material name -> colour, wherever in the file it is defined."""
    found: dict[str, Colour] = {}
    for material in root.iter("material"):
        colour = material.find("color")
        if colour is not None:
            r, g, b, a = (float(word) for word in colour.get("rgba", "1 1 1 1").split())
            found[material.get("name", "")] = (r, g, b, a)
    return found


def _painted(mesh: Path) -> Iterator[Path]:
    """Yield the material libraries of an OBJ and the pictures they put on it."""
    if mesh.suffix.lower() != ".obj":
        return
    for library in _named(mesh, "mtllib"):
        if library.is_file():  # some of the arm's meshes name one that never existed upstream
            yield library
            yield from _named(library, "map_Kd")


def _named(file: Path, key: str) -> list[Path]:
    lines = file.read_text(errors="replace").splitlines()
    words = [line.strip().split(maxsplit=1) for line in lines if line.strip().startswith(key)]
    return [(file.parent / word[1].strip()).resolve() for word in words if len(word) == 2]
