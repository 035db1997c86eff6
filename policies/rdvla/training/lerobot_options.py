"""How a LeRobotDataset's names and conventions map to ours; costs nothing to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from rdvla_bench.errors import UsageError

Gripper = Literal["env", "one-open", "zero-open"]


@dataclass(frozen=True)
class LerobotOptions:
    """Which features are read, and what they mean. Of several names, the first that the data set has is read.

    The defaults are LIBERO's as published: HuggingFaceVLA/libero (images.image, images.image2), its older conversions
    (images.wrist_image), and physical-intelligence/libero (image, wrist_image, state, actions).
    """

    agentview: tuple[str, ...] = ("observation.images.image", "image")
    """Feature of the fixed camera: upright, which is LIBERO's rendering turned by 180 degrees."""
    wrist: tuple[str, ...] = ("observation.images.image2", "observation.images.wrist_image", "wrist_image")
    """Feature of the wrist's camera, upright too."""
    state: tuple[str, ...] = ("observation.state", "state")
    """Feature of the proprioception, as the env gives it (LIBERO: eef position, axis-angle, two finger positions)."""
    action: tuple[str, ...] = ("action", "actions")
    """Feature of the action, in the env's units; its last number is the gripper's."""
    fps: tuple[int, ...] = (10, 20)
    """Rates accepted. LIBERO acts at 20 Hz; one published conversion declares 10 for the same frames."""
    gripper: Gripper = "env"
    """What the gripper's number means: env (-1 open, +1 close), one-open (1 open, 0 closed) or zero-open."""

    def __post_init__(self) -> None:
        """Refuse an empty list of names or rates.

        Raises:
            UsageError: naming the option.
        """
        for name in ("agentview", "wrist", "state", "action", "fps"):
            if not getattr(self, name):
                raise UsageError(f"lerobot.{name}: expected at least one value")
        if self.gripper not in get_args(Gripper):
            raise UsageError(f"lerobot.gripper {self.gripper}: expected {', '.join(get_args(Gripper))}")

    @property
    def cameras(self) -> dict[str, tuple[str, ...]]:
        """Return the features of each of our cameras."""
        return {"agentview": self.agentview, "wrist": self.wrist}
