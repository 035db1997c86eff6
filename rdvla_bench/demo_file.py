"""One demonstration a file, ``DIR/episodes/<episode>.npz``, written at once: it is there whole, or not at all.

    frames (F,) int32 | image_<camera> (F, S, S, 3) uint8 | proprio (F, P) | chunk (F, K, A) | instruction (F,) int32
    labels (N, A), executed (N, A) float32, clean (N,) bool: every control step | about: JSON
    if frames are stored under another instruction too: counterfactual_row (C,) int32, which ones |
    counterfactual_chunk (C, K, A) | counterfactual_goal (C, P)

The same demonstration is the same bytes. A dropped episode has a file too, with no frames.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.demo_record import Demonstration
from rdvla_bench.errors import UsageError

EPISODES = "episodes"
IMAGE = "image_"
COUNTERFACTUAL = "counterfactual_"


@dataclass(frozen=True, eq=False)
class Stored:
    """A demonstration read back."""

    about: dict[
        str, Any
    ]  # id, outcome, steps, solved, subtasks, segments, told, (counterfactual_)instructions, scene_sha256
    arrays: dict[str, NDArray[Any]]

    @property
    def n_frames(self) -> int:
        """Return how many frames are kept."""
        return len(self.arrays["frames"])

    def counterfactual(self, column: str) -> NDArray[Any]:
        """Return one column of the frames under another instruction: row, chunk or goal; empty where there are none."""
        return self.arrays.get(COUNTERFACTUAL + column, np.zeros(0, np.int32))


def path_of(folder: Path, episode_id: str) -> Path:
    """Return where a demonstration is stored."""
    return folder / EPISODES / f"{episode_id}.npz"


def save(folder: Path, demonstration: Demonstration) -> Path:
    """Write one demonstration; return its file."""
    take, result = demonstration.take, demonstration.take.result
    instructions = list(dict.fromkeys(demonstration.instructions))
    about: dict[str, Any] = {
        "id": demonstration.episode.id,
        "outcome": str(result.outcome),
        "steps": result.steps,
        "solved": result.solved,
        "subtasks": list(result.subtasks),
        "segments": [list(segment) for segment in take.segments],
        "told": list(take.told),
        "instructions": instructions,
        "scene_sha256": result.scene_sha256,
    }
    arrays: dict[str, NDArray[Any]] = {
        "frames": demonstration.frames,
        **{IMAGE + camera: pixels for camera, pixels in demonstration.images.items()},
        "proprio": demonstration.proprio,
        "chunk": demonstration.chunks,
        "instruction": np.array([instructions.index(text) for text in demonstration.instructions], np.int32),
        "labels": take.labels,
        "executed": take.executed,
        "clean": take.clean,
    }
    if others := demonstration.counterfactuals:
        about["counterfactual_instructions"] = [other.instruction for other in others]
        arrays |= {
            COUNTERFACTUAL + "row": np.array([other.row for other in others], np.int32),
            COUNTERFACTUAL + "chunk": np.stack([other.chunk for other in others]),
            COUNTERFACTUAL + "goal": np.stack([other.goal for other in others]),
        }
    arrays["about"] = np.array(json.dumps(about, sort_keys=True))
    path = path_of(folder, demonstration.episode.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    unfinished.replace(path)
    return path


def load(path: Path) -> Stored:
    """Read one demonstration.

    Raises:
        UsageError: the file is none.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(str(arrays.pop("about")))
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise UsageError(
            f"{path} is no demonstration ({error}): delete it, and the same command makes it anew"
        ) from error
    return Stored(about, arrays)
