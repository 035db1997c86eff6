"""What each benchmark shows and takes, and how the network reads it.

The network's cameras are a fixed one and one on the wrist, its proprioception eight values of the suite's: position of
the tool (3), its rotation (3), and two of the gripper. Released weights read them as they are. Models of ours read
the rotation as the first two columns of its matrix instead: both benchmarks hold the tool near half a turn, where
three angles jump by a whole one. They can also do without the gripper's values: demonstrations open and close it
seldom, so that what it does already foretells what it does next, and a model that reads it goes on with it. But a
model without them cannot see that it closed beside the thing: an empty hand and one with a bowl's rim in it differ by
2 mm. So it can be told that alone, as one value, 1 where the fingers have closed on nothing and 0 else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.errors import UsageError

Rotation = Literal["as-is", "matrix"]
Gripper = bool | Literal["empty"]
"""Whether the gripper's own values are read, or whether it closed on nothing."""
N_READ = 8
"""Values of the suite's proprioception that the network gets: released code, PROPRIO_DIM of LIBERO and CALVIN."""
_TURN = slice(3, 6)  # the rotation among them
_GRIPPER = 2  # how many of them, the last, are the gripper's
_WIDTH: Mapping[Rotation, int] = {"as-is": N_READ, "matrix": N_READ + 3}


@dataclass(frozen=True)
class FarCamera:
    """The fixed camera, where it is so far away that a picture that slides is a world that moved. Metres."""

    across: tuple[float, float, float]  # what the world moves by if its picture slides by its own width to the right
    down: tuple[float, float, float]  # ... by its own height downwards
    centre: tuple[float, float, float]  # what stands in the middle of the picture


@dataclass(frozen=True)
class Convention:
    """One benchmark's observations and actions."""

    cameras: tuple[str, str]  # fixed, wrist: their patches follow each other in this order
    n_proprio: int  # values of the suite's proprioception
    reads: tuple[int, ...]  # those that the network gets
    turn: Literal["axis-angle", "euler"]  # what the three values of the rotation are; Euler angles extrinsic xyz
    opens: float  # the gripper's action that opens it, +1 or -1
    far_camera: FarCamera | None = None
    nudge: float = 0.0  # m, the default of weights trained here (``nudge``)
    fingers: tuple[
        tuple[int, float], ...
    ] = ()  # values of the suite's proprioception, times what, add up to the opening
    empty: float = 0.0  # m: fingers closer than this hold nothing; 0 where it was not measured


_CALVIN_STATIC = FarCamera((0.53152, 0.37783, -0.33885), (0.02224, -0.50753, -0.53104), (-0.02624, -0.03023, 0.39200))
"""calvin_env conf/cameras/cameras/static.yaml: 10 degrees from 4.2 m; at the table it sees 0.735 m."""

_LIBERO_EMPTY = 0.0025
"""m: of 17,050 frames of 506 demonstrations 389 have the fingers less than 2 mm apart, 1,210 from 3 to 6 mm, on a rim,
and 35 between 2 and 3 (script not kept)."""

BENCHMARKS: Mapping[str, Convention] = {
    "libero": Convention(
        ("agentview", "wrist"),
        8,
        tuple(range(8)),
        "axis-angle",
        -1.0,
        nudge=0.03,
        fingers=((6, 1.0), (7, -1.0)),
        empty=_LIBERO_EMPTY,
    ),
    # released code: robot_obs[:7] + robot_obs[-1:]
    "calvin": Convention(("static", "gripper"), 15, (*range(7), 14), "euler", 1.0, _CALVIN_STATIC, nudge=0.12),
}


def benchmark_with(cameras: Iterable[str]) -> str:
    """Return the benchmark whose two cameras are among ``cameras``.

    Raises:
        UsageError: there is none.
    """
    given = set(cameras)
    for name, convention in BENCHMARKS.items():
        if given.issuperset(convention.cameras):
            return name
    known = "; ".join(f"{name}: {', '.join(c.cameras)}" for name, c in BENCHMARKS.items())
    raise UsageError(f"cameras {', '.join(sorted(given)) or 'none'} are those of no benchmark ({known})")


def proprio_width(rotation: Rotation, gripper: Gripper = True) -> int:
    """Return how many values the network's proprioception has."""
    without = _WIDTH[rotation] - _GRIPPER
    return without + (1 if gripper == "empty" else _GRIPPER if gripper else 0)


def read_proprio(
    convention: Convention,
    rotation: Rotation,
    raw: NDArray[np.float32],
    scaled: NDArray[np.float32],
    *,
    gripper: Gripper = True,
) -> NDArray[np.float32]:
    """Return what the network reads of (..., P) values, given as they are and scaled to the training data's bounds."""
    values = scaled[..., list(convention.reads)]
    if gripper is not True:
        values = values[..., :-_GRIPPER]
    if gripper == "empty":
        values = np.concatenate([values, is_empty(convention, raw)[..., None]], axis=-1, dtype=np.float32)
    if rotation == "as-is":
        return values
    matrix = turn_matrix(convention, raw[..., list(convention.reads[_TURN])])
    columns = np.concatenate([matrix[..., 0], matrix[..., 1]], axis=-1)  # (..., 6)
    parts = (values[..., : _TURN.start], columns, values[..., _TURN.stop :])
    return np.concatenate(parts, axis=-1).astype(np.float32)


def is_empty(convention: Convention, raw: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return (...) of the suite's proprioception (..., P): whether the fingers have closed on nothing."""
    opening = sum(raw[..., index] * sign for index, sign in convention.fingers)
    return np.asarray(opening < convention.empty)


def turn_matrix(convention: Convention, turn: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (..., 3, 3) of what a benchmark says of the tool's rotation, (..., 3) in rad."""
    return (axis_angle_matrix if convention.turn == "axis-angle" else euler_matrix)(turn)


def axis_angle_matrix(vector: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (..., 3, 3) of rotation vectors (..., 3) in rad: Rodrigues' formula."""
    vector = np.asarray(vector, np.float64)
    angle = np.linalg.norm(vector, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(vector / np.maximum(angle[..., 0], 1e-12), -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*x.shape, 3, 3)
    matrix: NDArray[np.float64] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    return matrix


def euler_matrix(angles: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (..., 3, 3) = Rz Ry Rx of extrinsic xyz angles (..., 3) in rad."""
    (cx, cy, cz), (sx, sy, sz) = (np.moveaxis(f(np.asarray(angles, np.float64)), -1, 0) for f in (np.cos, np.sin))
    rows = [
        *(cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        *(sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        *(-sy, cy * sx, cy * cx),
    ]
    return np.stack(rows, axis=-1).reshape(*cx.shape, 3, 3)
