"""The seam between demonstrations and training: what a sample is and what a data set can do."""

from __future__ import annotations

from typing import NotRequired, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.errors import UsageError
from rdvla_bench.policies.rdvla.config import RdvlaConfig
from rdvla_bench.policies.rdvla.statistics import Statistics


class DatasetError(UsageError):
    """Training data that cannot be read, or that does not fit the model."""


class Sample(TypedDict):
    """One frame of a demonstration and the actions that follow it."""

    images: dict[str, NDArray[np.uint8]]  # camera -> (H, W, 3) RGB, upright, square
    proprio: NDArray[np.float32]  # (P,) as the env gives it
    instruction: str
    chunk: NDArray[np.float32]  # (K, A) in the env's own convention, gripper -1 open, +1 close
    goal: NotRequired[NDArray[np.float32]]  # (P,) proprioception where the gripper next opens or closes, or at the end


class Dataset(Protocol):
    """A fixed list of samples. Index i is the same sample in every process, forever."""

    @property
    def fingerprint(self) -> str:
        """Return a hash of everything in it; a run is not continued on other data."""

    @property
    def statistics(self) -> Statistics:
        """Return the bounds that training normalises with."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int) -> Sample:
        """Return one sample."""


def check_fit(data: Dataset, config: RdvlaConfig) -> None:
    """Hold the first sample against the model.

    Raises:
        DatasetError: it is empty, or an image, the proprioception or the chunk is not what the model takes.
    """
    if not len(data):
        raise DatasetError("the data set is empty: expected at least one sample")
    sample, head = data[0], config.head
    missing = [camera for camera in config.backbone.cameras if camera not in sample["images"]]
    if missing:
        raise DatasetError(f"model {config.name} reads camera '{missing[0]}', the data has {sorted(sample['images'])}")
    for camera in config.backbone.cameras:
        image = sample["images"][camera]
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.shape[0] != image.shape[1]:
            raise DatasetError(f"camera '{camera}': expected square (H, W, 3) uint8, got {image.shape} {image.dtype}")
    for name, given, wanted in (
        ("chunk", sample["chunk"].shape, (head.chunk, head.action)),
        ("proprio", sample["proprio"].shape, (config.convention.n_proprio,)),
        ("action bounds", (len(data.statistics.action.low),), (head.action,)),
        ("proprio bounds", (len(data.statistics.proprio.low),), (config.convention.n_proprio,)),
    ):
        if given != wanted:
            raise DatasetError(f"model {config.name} takes {name} {wanted}, the data has {given}")
