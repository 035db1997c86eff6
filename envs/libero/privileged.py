"""The simulator's own view of a LIBERO scene, as plain data: what a scripted expert may read and a VLA never sees.

The dictionary that a ``PrivilegedView`` returns, in metres, radians and the world frame, rotations as (3, 3)
matrices whose columns are the thing's axes:

* ``goal``: tuple of predicates such as ``("on", "akita_black_bowl_1", "plate_1")``, all lower case;
  ``holds``: one bool a predicate.
* ``eef_pos`` (3,), ``eef_mat`` (3, 3): the grip site between the finger tips (z points out of the hand, the fingers
  open along y); ``gripper``: the opening between the fingers.
* ``shoulder`` (3,): where the arm's upper link turns; reach is measured from there.
* ``objects``: name -> ``kind`` (its category), ``movable``, ``pos``, ``mat``, ``lo`` and ``hi`` (corners of the box
  around its collision geoms, in its own frame, joints as the model was built), ``held`` (touches both fingers),
  ``touched`` (touches the robot).
* ``parts``: body name -> ``owner`` (an object), ``pos``, ``mat``, and its collision geoms as boxes in the body's
  frame: ``centers`` (N, 3), ``mats`` (N, 3, 3), ``halves`` (N, 3).
* ``sites``: region name -> ``owner`` (an object, or "" for a zone of the table), ``pos``, ``mat``, ``size`` (3,)
  half lengths, ``joints``: the names of the joints that open it.
* ``joints``: joint name -> ``owner``, ``part``, ``kind`` ("slide" or "hinge"), ``value``, ``lo``, ``hi``, ``anchor``,
  ``axis``.
* ``fingers_touch``: ``rdvla_bench.contact.Touch``; of a fixture the body that moves, such as a drawer.

Non-obvious:
    * Arrays that depend on the model alone (boxes, sizes) are the same objects in every call; do not write to them.
    * The rest is copied, so a dictionary stays true of its moment after the simulator moves on.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from rdvla_bench.contact import Touch

FloatArray = NDArray[np.float64]


def _subtree(model: Any, root: int) -> list[int]:
    """Return the ids of ``root`` and every body below it."""
    found = [root]
    for body in range(root + 1, model.nbody):
        if model.body_parentid[body] in found:
            found.append(body)
    return found


def _collision_geoms(model: Any, body: int) -> list[int]:
    """Return the geoms of one body that can touch something."""
    first, count = model.body_geomadr[body], model.body_geomnum[body]
    return [g for g in range(first, first + count) if model.geom_contype[g] or model.geom_conaffinity[g]]


def _boxes(model: Any, geoms: list[int]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return centres (N, 3), rotations (N, 3, 3) and half lengths (N, 3) of the geoms' boxes in their body's frame."""
    centers, mats, halves = np.zeros((len(geoms), 3)), np.zeros((len(geoms), 3, 3)), np.zeros((len(geoms), 3))
    for i, g in enumerate(geoms):
        mat = np.zeros(9)
        mujoco.mju_quat2Mat(mat, model.geom_quat[g])
        mats[i] = mat.reshape(3, 3)
        centers[i] = model.geom_pos[g] + mats[i] @ model.geom_aabb[g, :3]
        halves[i] = model.geom_aabb[g, 3:]
    return centers, mats, halves


class PrivilegedView:
    """Reads one LIBERO problem environment; make a new one after the model was rebuilt (hard reset)."""

    def __init__(self, env: Any) -> None:
        """Look up every name once. ``env`` is the problem inside LIBERO's wrapper (``OffScreenRenderEnv(...).env``)."""
        self._env = env
        self._model, self._data = env.sim.model._model, env.sim.data._data
        self._goal = tuple(tuple(str(word) for word in state) for state in env.parsed_problem["goal_state"])
        robot = env.robots[0]
        self._eef_site = int(robot.eef_site_id)
        self._shoulder = int(self._model.body(robot.robot_model.naming_prefix + "link2").id)
        self._finger_qpos = list(robot._ref_gripper_joint_pos_indexes)
        self._owners = {**env.objects_dict, **env.fixtures_dict}
        self._names = list(self._owners)
        self._root = {name: int(env.obj_body_id[name]) for name in self._names}
        self._geom_owner = np.full(self._model.ngeom, -1)
        self._geom_side = np.zeros(self._model.ngeom, dtype=int)  # 1 left finger, 2 right finger, 4 rest of the robot
        self._label_robot(robot)
        self._geom_moves = self._movable_geoms()
        self._parts: dict[str, tuple[int, dict[str, Any]]] = {}
        self._objects: dict[str, dict[str, Any]] = {}
        self._joints: dict[str, tuple[int, dict[str, Any]]] = {}
        for index, name in enumerate(self._names):
            self._add_object(index, name)
        self._sites: dict[str, tuple[int, dict[str, Any]]] = {}
        for name, site in env.object_sites_dict.items():
            owner = site.parent_name if site.parent_name in self._owners else ""
            static = {"owner": owner, "size": np.array(site.size, dtype=float), "joints": tuple(site.joints or ())}
            self._sites[name] = (int(self._model.site(name).id), static)

    def _label_robot(self, robot: Any) -> None:
        for body in range(self._model.nbody):
            if self._model.body(body).name.startswith((robot.robot_model.naming_prefix, robot.gripper.naming_prefix)):
                self._geom_side[_collision_geoms(self._model, body)] = 4
        for side, fingers in ((1, "left_finger"), (2, "right_finger")):
            for geom in robot.gripper.important_geoms[fingers]:
                self._geom_side[self._model.geom(geom).id] = side

    def _movable_geoms(self) -> NDArray[np.bool_]:
        """Return (G,): whether a geom hangs on a joint and is none of the robot's; call it once that is labelled."""
        welded_to_world = self._model.body_weldid[self._model.geom_bodyid] == 0
        moves: NDArray[np.bool_] = ~welded_to_world & (self._geom_side == 0)
        return moves

    def _add_object(self, index: int, name: str) -> None:
        model, root = self._model, self._root[name]
        home = np.zeros(9)
        lo, hi = np.full(3, np.inf), np.full(3, -np.inf)
        frames: dict[int, tuple[FloatArray, FloatArray]] = {root: (np.zeros(3), np.eye(3))}
        for body in _subtree(model, root):
            if body != root:
                up_pos, up_mat = frames[int(model.body_parentid[body])]
                mujoco.mju_quat2Mat(home, model.body_quat[body])
                frames[body] = (up_pos + up_mat @ model.body_pos[body], up_mat @ home.reshape(3, 3))
            geoms = _collision_geoms(model, body)
            self._geom_owner[geoms] = index
            centers, mats, halves = _boxes(model, geoms)
            pos, mat = frames[body]
            reach = np.einsum("ij,njk,nk->ni", np.abs(mat), np.abs(mats), halves) if len(geoms) else halves
            for center, half in zip(centers @ mat.T + pos, reach, strict=True):
                lo, hi = np.minimum(lo, center - half), np.maximum(hi, center + half)
            part = {"owner": name, "centers": centers, "mats": mats, "halves": halves}
            self._parts[model.body(body).name] = (body, part)
            for joint in range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body]):
                self._add_joint(joint, name, model.body(body).name)
        self._objects[name] = {
            "kind": name.rsplit("_", 1)[0],
            "movable": name in self._env.objects_dict,
            "lo": lo,
            "hi": hi,
        }

    def _add_joint(self, joint: int, owner: str, part: str) -> None:
        kind = {int(mujoco.mjtJoint.mjJNT_SLIDE): "slide", int(mujoco.mjtJoint.mjJNT_HINGE): "hinge"}.get(
            int(self._model.jnt_type[joint])
        )
        if kind is None:  # the free joint of a movable object
            return
        lo, hi = (float(x) for x in self._model.jnt_range[joint])
        static = {"owner": owner, "part": part, "kind": kind, "lo": lo, "hi": hi}
        self._joints[self._model.joint(joint).name] = (joint, static)

    def _contacts(self) -> FloatArray:
        """Return per object the OR of the robot sides (1, 2, 4) that touch it."""
        sides = np.zeros(len(self._names), dtype=int)
        pairs = self._data.contact.geom
        for a, b in ((pairs[:, 0], pairs[:, 1]), (pairs[:, 1], pairs[:, 0])):
            hit = (self._geom_owner[a] >= 0) & (self._geom_side[b] > 0)
            np.bitwise_or.at(sides, self._geom_owner[a][hit], self._geom_side[b][hit])
        return sides

    def touch(self) -> Touch:
        """Return what the fingers touch now; cheaper than the whole view."""
        found: set[str] = set()
        pairs = self._data.contact.geom
        for a, b in ((pairs[:, 0], pairs[:, 1]), (pairs[:, 1], pairs[:, 0])):
            hit = self._geom_moves[a] & ((self._geom_side[b] & 3) > 0)
            found.update(self._name_of(int(geom)) for geom in np.unique(a[hit]))
        return {"fingers_touch": tuple(sorted(found))}

    def _name_of(self, geom: int) -> str:
        """Return a movable object's name, of a fixture the name of the body."""
        owner = int(self._geom_owner[geom])
        if owner >= 0 and self._names[owner] in self._env.objects_dict:
            return str(self._names[owner])
        return str(self._model.body(self._model.geom_bodyid[geom]).name)

    def __call__(self) -> dict[str, Any]:
        """Return the present state as described at the top of this module."""
        data = self._data
        sides = self._contacts()
        poses_pos, poses_mat = data.xpos.copy(), data.xmat.reshape(-1, 3, 3).copy()
        site_pos, site_mat = data.site_xpos.copy(), data.site_xmat.reshape(-1, 3, 3).copy()
        anchors, axes = data.xanchor.copy(), data.xaxis.copy()
        fingers = data.qpos[self._finger_qpos]
        return {
            "goal": self._goal,
            "holds": tuple(bool(self._env._eval_predicate(list(state))) for state in self._goal),
            "eef_pos": site_pos[self._eef_site],
            "eef_mat": site_mat[self._eef_site],
            "shoulder": poses_pos[self._shoulder],
            "gripper": float(fingers[0] - fingers[1]),
            **self.touch(),
            "objects": {
                name: {
                    **self._objects[name],
                    "pos": poses_pos[self._root[name]],
                    "mat": poses_mat[self._root[name]],
                    "held": bool(sides[i] & 3 == 3),
                    "touched": bool(sides[i]),
                }
                for i, name in enumerate(self._names)
            },
            "parts": {
                name: {**part, "pos": poses_pos[body], "mat": poses_mat[body]}
                for name, (body, part) in self._parts.items()
            },
            "sites": {
                name: {**static, "pos": site_pos[site], "mat": site_mat[site]}
                for name, (site, static) in self._sites.items()
            },
            "joints": {
                name: {
                    **static,
                    "value": float(data.qpos[self._model.jnt_qposadr[joint]]),
                    "anchor": anchors[joint],
                    "axis": axes[joint],
                }
                for name, (joint, static) in self._joints.items()
            },
        }
