"""Which samples make up step s, as tensors: a pure function of (data, seed, step)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdvla_bench.policies.rdvla.trained import TrainedInterface
from rdvla_bench.policies.rdvla.training.augmentation import UNCHANGED, Augmenter
from rdvla_bench.policies.rdvla.training.dataset import Dataset, Sample
from rdvla_bench.seeding import generator

FAR = 0.1
"""m from tool to goal beyond which a sample may be blinded; chosen, no other value was tried."""


class Batch(NamedTuple):
    """What the model and the loss take."""

    pixels: Tensor  # (B, cameras, 3, H, W) in [0, 1]
    texts: list[Sequence[int]]  # prompt tokens
    proprio: Tensor  # (B, P) normalised
    chunk: Tensor  # (B, K, A) normalised
    goal: Tensor | None = None  # (B, 3) normalised: where the tool is when the gripper next opens or closes


class DataOrder:
    """Epoch after epoch, each in its own order; a batch may straddle two."""

    def __init__(self, n_samples: int, batch_size: int, seed: int) -> None:
        """Fix the order of all steps."""
        self.n_samples = n_samples
        self.batch_size = batch_size
        self.seed = seed
        self._epoch: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def indices(self, step: int) -> list[int]:
        """Return the samples of the step that follows ``step`` finished ones."""
        first = step * self.batch_size
        return [self._at(*divmod(position, self.n_samples)) for position in range(first, first + self.batch_size)]

    def _at(self, epoch: int, position: int) -> int:
        if self._epoch[0] != epoch:
            self._epoch = (epoch, generator("rdvla-train-order", self.seed, epoch).permutation(self.n_samples))
        return int(self._epoch[1][position])


class Ahead:
    """The batches of a run, each made in a thread while the one before is trained on.

    That takes a third off a step of the eyes where a core is idle. Where PyTorch's threads fill all cores already it
    would double the step (their barriers spin), so the batch is then made when it is asked for.
    """

    def __init__(self, make: Callable[[int], Batch], idle_cores: int | None = None) -> None:
        """Use ``make``, a pure function of the step; ``idle_cores`` are those that PyTorch's threads leave over."""
        self._make = make
        self._idle_cores = _idle_cores() if idle_cores is None else idle_cores
        self._thread = ThreadPoolExecutor(1, "rdvla-train-batches")
        self._next: tuple[int, Future[Batch]] | None = None

    def take(self, step: int) -> Batch:
        """Return the batch of a step and begin that of the next; what ``make`` raises is raised for its own step."""
        if self._idle_cores < 1:
            return self._make(step)
        begun, self._next = self._next, None
        batch = (begun[1] if begun and begun[0] == step else self._begin(step)).result()
        self._next = step + 1, self._begin(step + 1)
        return batch

    def _begin(self, step: int) -> Future[Batch]:
        return self._thread.submit(self._make, step)


def _idle_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores - torch.get_num_threads()


def collate(
    data: Dataset,
    indices: list[int],
    interface: TrainedInterface,
    device: torch.device,
    augment: Augmenter = UNCHANGED,
) -> Batch:
    """Read the samples as a policy with these weights will see them, and normalise their chunks.

    ``augment`` changes the pixels of each, moves tool and goal where it slides the world, and tells both with an error.
    """
    samples = [data[index] for index in indices]
    moved = interface.moved(np.array([augment.slide(place) for place in range(len(samples))]))
    cameras = interface.cameras
    views = [torch.stack([interface.image(s["images"][camera]) for camera in cameras]) for s in samples]
    tools = np.stack([s["proprio"] for s in samples]) + moved
    goals = _goals(samples, moved)
    spared = _spared(interface, [tools] if goals is None else [tools, goals])
    chunks = np.stack([s["chunk"] for s in samples])
    alike = _alike(_far(tools, goals), chunks[:, 0, -1] > 0)
    pixels = torch.stack(
        [
            augment(view, place, spared[place], views, [views[other] for other in alike[place]])
            for place, view in enumerate(views)
        ]
    )
    errors = np.zeros_like(tools)
    errors[:, :3] = [augment.offset(place) for place in range(len(samples))]
    proprio = interface.proprio(tools + errors)
    bounds = interface.statistics
    chunk = bounds.action.normalise(chunks)
    return Batch(
        pixels.to(device),
        [interface.tokens(s["instruction"]) for s in samples],
        torch.from_numpy(proprio).to(device),
        torch.from_numpy(chunk).to(device),
        None if goals is None else torch.from_numpy(bounds.proprio.normalise(goals + errors)[:, :3].copy()).to(device),
    )


def _spared(interface: TrainedInterface, places: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return the pixels (B, n, 2) at which the far camera shows n places (B, P) of the tool; n = 0 without one."""
    spared = np.empty((len(places[0]), 0, 2))
    for place in places:
        if (pixels := interface.seen_at(place[:, :3])) is not None:
            spared = np.concatenate([spared, pixels[:, None]], axis=1)
    return spared


def _far(tools: NDArray[np.float32], goals: NDArray[np.float32] | None) -> NDArray[np.bool_]:
    """Return (B,) whether each tool is further from its goal than ``FAR``; not, where the goal is not known."""
    if goals is None:
        return np.zeros(len(tools), np.bool_)
    away: NDArray[np.bool_] = np.linalg.norm(tools[:, :3] - goals[:, :3], axis=1) > FAR
    return away


def _alike(is_far: NDArray[np.bool_], opens: NDArray[np.bool_]) -> list[list[int]]:
    """Return, of each sample that is far from its goal, the others that are too and whose gripper is told the same.

    A picture from near a goal, or of another grip, would teach that the wrist camera shows neither.
    """
    places = range(len(is_far))
    return [[n for n in places if n != p and is_far[n] and is_far[p] and opens[n] == opens[p]] for p in places]


def _goals(samples: Sequence[Sample], moved: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return proprioception (B, P) at each sample's goal, moved with the world, None where it is not known."""
    goals = [sample["goal"] for sample in samples if "goal" in sample]
    return np.stack(goals) + moved if len(goals) == len(samples) else None
