"""Robosuite's pictures, pixel for pixel, drawn from only the geoms that can reach a pixel.

A software renderer pays for every vertex, seen or not. Two facts make much of that work provably useless:

- A geom whose bounding box lies outside the view touches no pixel.
- MuJoCo draws the whole scene a second time, mirrored, for the one reflective box a scene may have: a stove's top, one
  percent of the pixels. That pass touches no pixel outside the mirror's rectangle on the screen. It is left out where
  the rectangle is outside the view, or where nothing appears in it; and a geom outside the view is drawn for it only
  where it appears in it.

Order, depth test and shading of the geoms that remain do not depend on the ones left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.envs.libero.simulator import mujoco

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]
Image = NDArray[np.uint8]

_BOX, _PLANE, _MESH = (
    int(t) for t in (mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_MESH)
)
_REFLECTION = int(mujoco.mjtRndFlag.mjRND_REFLECTION)
_HIDDEN_GROUP = 5  # a geom group that robosuite never shows
_OPAQUE = 0.995  # MuJoCo's renderer takes a geom below this alpha for transparent, and so for no mirror
_MARGIN_M = 0.01  # boxes are grown by this much; the renderer's float32 errs by far less
_MARGIN_SLOPE = 0.01  # the mirror's outline is grown by this much; a pixel is about 0.006 (256 of them, 75 degrees)
_GRID = 4  # a mesh is cut into at most this many cells along each axis


@dataclass(frozen=True, eq=False)
class Boxes:
    """Oriented boxes in a camera's frame: x right, y up, looking along -z."""

    centre: Float  # (G, 3) m
    half_edges: Float  # (G, 3, 3) m, column k is the k-th half edge

    def reach(self, normals: Float) -> Float:
        """Return (G, P): how far each box reaches beyond each plane through the camera with unit normal (P, 3)."""
        extent: Float = np.abs(normals @ self.half_edges).sum(axis=2)
        return self.centre @ normals.T + extent + _MARGIN_M

    def touch(self, view: View) -> Mask:
        """Return which boxes may be seen through ``view``: those not wholly beyond one of its sides."""
        return np.asarray((self.reach(view.cone) >= 0).all(axis=1))

    def mirrored(self, face: Face) -> Boxes:
        """Return the boxes as they appear in the mirror ``face``."""
        flip = np.eye(3) - 2 * np.outer(face.normal, face.normal)
        return Boxes((self.centre - face.centre) @ flip + face.centre, flip @ self.half_edges)

    def in_front(self, face: Face) -> Mask:
        """Return which boxes have a part on the side that ``face`` shows itself to."""
        return np.asarray(self.reach(face.normal[None])[:, 0] >= face.centre @ face.normal)

    def top(self, box: int) -> Face:
        """Return the z+ side of one box."""
        x, y, z = self.half_edges[box].T
        return Face(self.centre[box] + z, z / np.linalg.norm(z), np.array([x + y, x - y, -x - y, y - x]))


@dataclass(frozen=True, eq=False)
class Face:
    """One rectangle in a camera's frame."""

    centre: Float  # (3,) m
    normal: Float  # (3,) unit
    corners: Float  # (4, 3) m from the centre


@dataclass(frozen=True)
class View:
    """A part of a picture, bounded by slopes: x / depth and y / depth of the rays through its edges."""

    left: float
    right: float
    bottom: float
    top: float

    @property
    def cone(self) -> Float:
        """(5, 3): inward unit normals, in the camera's frame, of the half spaces whose intersection is seen."""
        rows = [[1, 0, self.left], [-1, 0, -self.right], [0, 1, self.bottom], [0, -1, -self.top], [0, 0, -1]]
        normals = np.array(rows, np.float64)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        return normals

    def narrowed_to(self, face: Face) -> View | None:
        """Return the part in which ``face`` lies; None where that is empty or the face shows its back."""
        if face.centre @ face.normal > _MARGIN_M:  # the camera, at the origin, is behind it
            return None
        corners = face.centre + face.corners
        depth = -corners[:, 2]
        if depth.min() < _MARGIN_M:
            return self
        x, y = corners[:, 0] / depth, corners[:, 1] / depth
        left, right = max(self.left, x.min() - _MARGIN_SLOPE), min(self.right, x.max() + _MARGIN_SLOPE)
        bottom, top = max(self.bottom, y.min() - _MARGIN_SLOPE), min(self.top, y.max() + _MARGIN_SLOPE)
        return View(left, right, bottom, top) if left < right and bottom < top else None


class Painter:
    """Draws one model's cameras into an offscreen buffer, each camera from as few geoms as can be shown to do.

    ``options`` must not show geom group 5, and ``scene`` and ``context`` must be those of ``model``.
    """

    def __init__(
        self, model: mujoco.MjModel, options: mujoco.MjvOption, scene: mujoco.MjvScene, context: mujoco.MjrContext
    ) -> None:
        """Read what does not change between pictures: which geoms are shown, and their boxes."""
        self.model, self._options, self._scene, self._context = model, options, scene, context
        self._perturb = mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        shown = np.asarray(options.geomgroup, dtype=bool)[model.geom_group]
        self._geoms = np.flatnonzero(shown & (model.geom_type != _PLANE))  # planes are always drawn
        self._group = model.geom_group[self._geoms].copy()
        is_mesh = model.geom_type[self._geoms] == _MESH
        meshes = np.where(is_mesh, model.geom_dataid[self._geoms], -1).tolist()
        pieces = {mesh: _pieces(model, mesh) for mesh in set(meshes) - {-1}}
        local = [pieces.get(mesh, model.geom_aabb[geom, None]) for geom, mesh in zip(self._geoms, meshes, strict=True)]
        n_pieces = [len(piece) for piece in local]
        self._local = np.concatenate(local)  # (pieces of all geoms, 6): centre and half edges in the geom's frame
        self._owner = np.repeat(self._geoms, n_pieces)
        self._first = np.cumsum([0, *n_pieces[:-1]])  # a geom's pieces stand together, the first of them here
        self._may_reflect = bool((model.mat_reflectance > 0).any())

    def draw(self, data: mujoco.MjData, camera: int, height: int, width: int) -> Image:
        """Return (H, W, 3) RGB, bottom row first, of ``data``'s poses through one of the model's cameras.

        Raises:
            ValueError: The camera is of a kind that LIBERO does not have (orthographic or with sensor intrinsics).
        """
        model = self.model
        if model.cam_orthographic[camera] or model.cam_sensorsize[camera].any():
            raise ValueError(f"camera {camera} is no plain perspective camera")
        self._camera.fixedcamid = camera
        up = float(np.tan(np.deg2rad(model.cam_fovy[camera]) / 2))
        right = up * width / height
        view = View(-right, right, -up, up)
        boxes = self._boxes(data, camera)
        drawn = self._any_piece(boxes.touch(view))
        reflects = False
        mirror_geom = self._mirror(data)
        if mirror_geom is not None:
            if mirror_geom not in self._geoms:  # a plane or a site that reflects: none in LIBERO
                return self._render(data, np.ones_like(drawn), height, width, reflect=True)
            mirror = int(np.searchsorted(self._geoms, mirror_geom))
            drawn[mirror] = True  # or the next reflective box would become the mirror
            face = boxes.top(self._first[mirror])
            framed = view.narrowed_to(face)
            if framed is not None:
                reflected = self._any_piece(boxes.mirrored(face).touch(framed) & boxes.in_front(face))
                reflected[mirror] = False
                drawn |= reflected
                reflects = bool(reflected.any())
        return self._render(data, drawn, height, width, reflect=reflects)

    def _boxes(self, data: mujoco.MjData, camera_id: int) -> Boxes:
        to_camera = data.cam_xmat[camera_id].reshape(3, 3).T
        rotation = data.geom_xmat[self._owner].reshape(-1, 3, 3)
        centre = data.geom_xpos[self._owner] + np.einsum("gij,gj->gi", rotation, self._local[:, :3])
        return Boxes(
            centre=(centre - data.cam_xpos[camera_id]) @ to_camera.T,
            half_edges=to_camera @ rotation * self._local[:, None, 3:],
        )

    def _any_piece(self, of_pieces: Mask) -> Mask:
        of_geoms: Mask = np.logical_or.reduceat(of_pieces, self._first)
        return of_geoms

    def _mirror(self, data: mujoco.MjData) -> int | None:
        """Return the geom that MuJoCo's renderer takes for the mirror: the first reflective one in drawing order.

        A reflective box that is no geom (a site) answers -1.
        """
        if not self._may_reflect:
            return None
        self._update_scene(data)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.type in (_BOX, _PLANE) and geom.reflectance > 0 and geom.rgba[3] >= _OPAQUE:
                return int(geom.objid) if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM else -1
        return None

    def _update_scene(self, data: mujoco.MjData) -> None:
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self.model, data, self._options, self._perturb, self._camera, everything, self._scene)

    def _render(self, data: mujoco.MjData, drawn: Mask, height: int, width: int, *, reflect: bool) -> Image:
        viewport = mujoco.MjrRect(0, 0, width, height)
        flags = self._scene.flags
        reflection = flags[_REFLECTION]
        self.model.geom_group[self._geoms] = np.where(drawn, self._group, _HIDDEN_GROUP)
        flags[_REFLECTION] = reflection and reflect
        try:
            self._update_scene(data)
            mujoco.mjr_render(viewport, self._scene, self._context)
        finally:
            self.model.geom_group[self._geoms] = self._group
            flags[_REFLECTION] = reflection
        image = np.empty((height, width, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(image, None, viewport, self._context)
        return image


def _pieces(model: mujoco.MjModel, mesh: int) -> Float:
    """Cut a mesh's triangles by a grid; return each non-empty cell's bounding box, centre and half edges (N, 6)."""
    vertices = slice(model.mesh_vertadr[mesh], model.mesh_vertadr[mesh] + model.mesh_vertnum[mesh])
    faces = slice(model.mesh_faceadr[mesh], model.mesh_faceadr[mesh] + model.mesh_facenum[mesh])
    corners = model.mesh_vert[vertices].astype(np.float64)[model.mesh_face[faces]]  # (F, 3, 3)
    low, high = corners.min(axis=1), corners.max(axis=1)  # (F, 3)
    lowest = low.min(axis=0)
    n = _GRID if len(corners) > _GRID**3 else 1
    cell = np.clip(((low + high) / 2 - lowest) / (high.max(axis=0) - lowest + 1e-9) * n, 0, n - 1).astype(int)
    _, cell = np.unique(cell @ [n * n, n, 1], return_inverse=True)
    boxes = np.empty((cell.max() + 1, 6))
    boxes[:, :3], boxes[:, 3:] = np.inf, -np.inf
    np.minimum.at(boxes[:, :3], cell, low)
    np.maximum.at(boxes[:, 3:], cell, high)
    low, high = boxes[:, :3], boxes[:, 3:]
    return np.hstack([(low + high) / 2, (high - low) / 2])
