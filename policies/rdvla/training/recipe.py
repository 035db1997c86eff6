"""What determines the weights that come out, besides the data: one frozen recipe."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from rdvla_bench.errors import UsageError
from rdvla_bench.policies.rdvla.config import HeadScale, Start

Schedule = Literal["constant", "cosine"]
Freeze = Literal["none", "vision", "backbone", "body"]
LARGEST_SHIFT = 32  # half of nano's image
LARGEST_OFFSET = 0.5  # m, half of a table


@dataclass(frozen=True)
class Augmentation:
    """How far training images, and the tool's place beside them, are changed at random; all 0 leaves them alone."""

    shift: int = 0
    """Largest shift, in pixels of the image that the vision towers see (nano: 64, rdvla-0.5b: 224)."""
    slide: int = 0
    """Largest shift, in the same pixels, of the fixed camera's picture and the tool's place (and goal) with it, as if
    the whole world had moved: where things are has to be seen, not remembered. Only for a far camera (CALVIN)."""
    brightness: float = 0.0
    """Largest change of every value, of the range 0 to 1."""
    contrast: float = 0.0
    """Largest relative change of the distance from the image's mean."""
    saturation: float = 0.0
    """Largest relative change of the distance from grey."""
    erase: float = 0.0
    """Share of the fixed camera's pictures in which rectangles are painted over (Zhong et al., arXiv 1708.04896), never
    the goal or the tool where the camera is far: one thing's place is then not learnt from another's."""
    paste: float = 0.0
    """The same with what another picture of the batch shows there (Yun et al., arXiv 1905.04899, but the label stays):
    a scene whose button stands as in another one."""
    blind: float = 0.0
    """Share of the other cameras' pictures, where the tool is far from its goal, that are another such sample's of the
    same grip: what lies under the hand then cannot tell where things are. Wants demonstrations that name the goal."""
    offset: float = 0.0
    """Largest error, in metres along each axis, of the tool's place that the network is told (its goal's is off by the
    same): the last centimetres then have to be seen, not remembered."""

    def __post_init__(self) -> None:
        """Refuse a value outside its range.

        Raises:
            UsageError: naming the value and what is allowed.
        """
        for name in ("shift", "slide"):
            most = f"0 to {LARGEST_SHIFT}"
            _require(0 <= getattr(self, name) <= LARGEST_SHIFT, f"augmentation.{name}", getattr(self, name), most)
        for name in ("brightness", "contrast", "saturation", "erase", "paste", "blind"):
            _require(0 <= getattr(self, name) <= 1, f"augmentation.{name}", getattr(self, name), "0 to 1")
        _require(0 <= self.offset <= LARGEST_OFFSET, "augmentation.offset", self.offset, f"0 to {LARGEST_OFFSET} (m)")

    @property
    def is_on(self) -> bool:
        """Return whether anything is changed."""
        return self != Augmentation()


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters. Same recipe, same data, same machine and thread count: same bits.

    Where the paper is silent the released code's value is the default. Left out of the code's recipe: LoRA, bfloat16,
    its image augmentation (ours is off unless asked for), and its second preset (2e-5, 500 warm-up steps), which
    contradicts its first.
    """

    model: str = "nano"
    """Size of the model: nano or rdvla-0.5b."""
    steps: int = 5000
    """Optimiser steps; the schedule counts these, never the clock. Released: 40k to 75k a suite."""
    batch_size: int = 32
    """Samples a step, all at one depth. Released: 16, accumulated twice."""
    learning_rate: float = 2e-4
    """Peak of the schedule (released)."""
    schedule: Schedule = "constant"
    """After the warm-up: constant (released) or a cosine to 0 at the last step."""
    warmup_steps: int = 0
    """Steps of linear warm-up. Released: 0."""
    eyes_steps: int = 0
    """The first of the steps train the eyes alone (convnet, words, projector of proprioception): linear maps, not
    kept, guess chunk and goal from the latents that the language model would be given. A third of the time a step."""
    eyes_learning_rate: float = 2e-3
    """Peak of the schedule of those steps, which has the warm-up and a cosine to 0 of its own."""
    mean_depth: int = 32
    """Mean of the sampled depths before clipping (mu in the paper)."""
    min_depth: int = 1
    """Depths drawn below are raised to it (released: 1)."""
    max_depth: int = 64
    """Depths drawn above are cut to it (released: 64)."""
    start: Start = "noise"
    """What the scratchpad starts from: noise (released), or zero, a baseline without randomness."""
    head_scale: HeadScale = "released"
    """Initial scale of the head: released, or plain (PyTorch's own, gates open), which learns faster from nothing."""
    adapter_rate: float = 1.0
    """Learning rate of the adapter, which lets the scratchpad in, as a share of all others' (released: 1)."""
    freeze: Freeze = "none"
    """What is not trained: vision (the towers, as the paper says), the backbone (towers, projector, language), or the
    body (all but the head)."""
    goal_weight: float = 0.0
    """Weight of a second loss, for training alone: the L1 distance of a guess from where the tool will be when the
    gripper next opens or closes. It is read off the language model's latents and not kept; the eyes' own likewise."""
    ema: float = 0.0
    """Decay of the moving average of the weights that is exported; 0 exports the weights themselves."""
    keep: float = 0.0
    """Share of the weights given by --init in those that are exported (Wortsman et al., arXiv 2109.01903): training on
    few demonstrations then forgets less of what they do not show."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Random changes of the images."""
    seed: int = 0
    """Initial weights, data order, depths, scratchpads and augmentation derive from it."""

    def __post_init__(self) -> None:
        """Refuse a value outside its range.

        Raises:
            UsageError: naming the value and what is allowed.
        """
        for name in ("steps", "batch_size", "mean_depth"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        _require(self.min_depth >= 1, "min_depth", self.min_depth, "1 or more")
        _require(self.min_depth <= self.max_depth, "max_depth", self.max_depth, f"min_depth ({self.min_depth}) or more")
        for name in ("learning_rate", "eyes_learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} {getattr(self, name):g}: expected a finite number above 0")
        _require(0 <= self.eyes_steps < self.steps, "eyes_steps", self.eyes_steps, f"0 to below steps ({self.steps})")
        if self.eyes_steps and self.freeze != "none":
            raise UsageError(f"eyes_steps {self.eyes_steps} with freeze {self.freeze}: nothing else is to be trained")
        _require(0 <= self.warmup_steps <= self.steps, "warmup_steps", self.warmup_steps, f"0 to steps ({self.steps})")
        _require(0 <= self.adapter_rate <= 1, "adapter_rate", self.adapter_rate, "0 to 1")
        _require(
            self.head_scale in get_args(HeadScale), "head_scale", self.head_scale, " or ".join(get_args(HeadScale))
        )
        _require(self.start in get_args(Start), "start", self.start, " or ".join(get_args(Start)))
        _require(0 <= self.ema < 1, "ema", self.ema, "0 (off) up to, not including, 1")
        _require(0 <= self.keep < 1, "keep", self.keep, "0 (none) up to, not including, 1")
        _require(self.seed >= 0, "seed", self.seed, "0 or more")
        _require(self.schedule in get_args(Schedule), "schedule", self.schedule, " or ".join(get_args(Schedule)))
        _require(self.freeze in get_args(Freeze), "freeze", self.freeze, ", ".join(get_args(Freeze)))

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of the optimiser step that follows ``step`` finished ones."""
        if step < self.eyes_steps:
            return self.eyes_learning_rate * self._share(step, self.eyes_steps, "cosine")
        return self.learning_rate * self._share(step - self.eyes_steps, self.steps - self.eyes_steps, self.schedule)

    def _share(self, step: int, steps: int, schedule: Schedule) -> float:
        """Return the share of the peak that a phase of ``steps`` has at ``step``."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if schedule == "constant":
            return 1.0
        progress = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        return 0.5 * (1.0 + math.cos(math.pi * progress))

    def identity(self) -> dict[str, Any]:
        """Return what two sessions of one run must agree on: ``steps`` only where the schedule depends on it."""
        free = {"steps"} if self.schedule == "constant" else set()
        if not self.keep:  # a run begun before it was thought of had none
            free.add("keep")
        return {key: value for key, value in asdict(self).items() if key not in free}


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise UsageError(f"{name} {value}: expected {expected}")
