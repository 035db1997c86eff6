"""Convex solids for pictures: boxes, prisms and turned bodies, laid out with texture coordinates as OBJ text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Range = tuple[float, float]
Patch = tuple[float, float, float, float]  # u0, v0, u1, v1 of the part of a picture that paints a solid


@dataclass(frozen=True, eq=False)
class Solid:
    """Flat faces, each a loop of vertices, counter-clockwise seen from outside."""

    vertices: NDArray[np.float64]  # (V, 3) m
    faces: tuple[tuple[int, ...], ...]
    patch: Patch | None = None  # None: the picture is tiled over the solid


def prism(loop: Sequence[tuple[float, float]], span: Range, axis: int, patch: Patch | None = None) -> Solid:
    """Return a convex polygon extruded along ``axis``; its corners are in yz for x, in zx for y, in xy for z."""
    n = len(loop)
    if _area(loop) < 0:
        loop = loop[::-1]
    vertices = np.empty((2 * n, 3))
    for k, end in enumerate(span):
        vertices[k * n : (k + 1) * n, axis] = end
        vertices[k * n : (k + 1) * n, [(axis + 1) % 3, (axis + 2) % 3]] = loop
    sides = tuple((i, (i + 1) % n, n + (i + 1) % n, n + i) for i in range(n))
    return Solid(vertices, (tuple(range(n))[::-1], tuple(range(n, 2 * n)), *sides), patch)


def _area(loop: Sequence[tuple[float, float]]) -> float:
    """Return the signed area: positive where the corners run counter-clockwise."""
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(loop, [*loop[1:], loop[0]], strict=True)) / 2


def box(x: Range, y: Range, z: Range, patch: Patch | None = None) -> Solid:
    """Return an upright box."""
    return prism([(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])], z, 2, patch)


def turned(profile: Sequence[tuple[float, float]], axis: int, n: int = 24) -> Solid:
    """Return the body that (radius, height) points, from bottom to top, sweep around ``axis``."""
    angles = 2 * np.pi * np.arange(n) / n
    rings = []
    for radius, height in profile:
        ring = np.empty((n, 3))
        ring[:, axis] = height
        ring[:, (axis + 1) % 3], ring[:, (axis + 2) % 3] = radius * np.cos(angles), radius * np.sin(angles)
        rings.append(ring)
    faces: list[tuple[int, ...]] = [tuple(range(n))[::-1], tuple(range((len(rings) - 1) * n, len(rings) * n))]
    for k in range(len(rings) - 1):
        faces += [(k * n + i, k * n + (i + 1) % n, (k + 1) * n + (i + 1) % n, (k + 1) * n + i) for i in range(n)]
    return Solid(np.concatenate(rings), tuple(faces))


def obj(solids: Iterable[Solid], *, texture_m: tuple[float, float] = (1.0, 1.0), library: str = "") -> str:
    """Return the solids as an OBJ file of flat triangles, painted from the side that each face looks to.

    ``texture_m`` is the width and height in metres that the whole picture covers; ``library`` names the MTL file.
    """
    lines = [f"mtllib {library}", "usemtl paint"] if library else []
    count = 0
    for solid in solids:
        for face in solid.faces:
            corners = solid.vertices[list(face)]
            uv = _paint(corners, np.array(texture_m), solid.patch)
            lines += [f"v {x:.7f} {y:.7f} {z:.7f}" for x, y, z in corners]
            lines += [f"vt {u:.6f} {v:.6f}" for u, v in uv]
            for i in range(1, len(face) - 1):
                a, b, c = count + 1, count + 1 + i, count + 2 + i
                lines.append(f"f {a}/{a} {b}/{b} {c}/{c}")
            count += len(face)
    return "\n".join(lines) + "\n"


def _paint(corners: NDArray[np.float64], texture_m: NDArray[np.float64], patch: Patch | None) -> NDArray[np.float64]:
    """Return (n, 2) texture coordinates: the face seen along its main axis, the longer side along the grain."""
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    seen = np.delete(corners, int(np.argmax(np.abs(normal))), axis=1)
    if np.ptp(seen[:, 1]) > np.ptp(seen[:, 0]):
        seen = seen[:, ::-1]
    uv = seen / texture_m
    if patch is not None:  # stays inside its part of the picture, however large the face
        corner, size = np.array(patch[:2]), np.array(patch[2:]) - np.array(patch[:2])
        uv = corner + np.clip(uv - uv.min(axis=0), 0, 1) * size
    return uv


def mtl(texture: str) -> str:
    """Return the MTL file of one material that shows ``texture``."""
    return f"newmtl paint\nKa 1 1 1\nKd 1 1 1\nmap_Kd {texture}\n"
