"""RD-VLA as a policy: observation and query seed in, chunk and its cost out.

Same query, same bits: the scratchpad's noise comes from the generator handed in, nothing reads PyTorch's global
generator, and on the CPU a query runs on one thread, because the order of a sum depends on the number of threads.
``act_batch`` gives each sample its own noise and its own exit. Its arithmetic rounds differently from ``act``'s
(matrix products over more rows are summed in another order), by at most ``BATCH_TOLERANCE`` in an action.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from rdvla_bench.errors import PolicyFault
from rdvla_bench.policies.rdvla.config import RdvlaConfig
from rdvla_bench.policies.rdvla.exit_rules import ExitRule
from rdvla_bench.policies.rdvla.flops import query_flops
from rdvla_bench.policies.rdvla.images import check_image, resize
from rdvla_bench.policies.rdvla.model import RdvlaModel
from rdvla_bench.policies.rdvla.recurrence import Exit, iterate_to_exit
from rdvla_bench.policies.rdvla.tokens import hashed_words, prompt
from rdvla_bench.policies.rdvla.weights import truncated_normal
from rdvla_bench.policy import HorizonRule, Policy, PolicyCard
from rdvla_bench.types import ActionChunk, Compute, Observation

BATCH_TOLERANCE = 1e-5  # of an action in [-1, 1], float32


@contextmanager
def one_thread() -> Iterator[None]:
    """Run PyTorch's CPU arithmetic on one thread, and restore the number it had."""
    before = torch.get_num_threads()
    if before != 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if before != 1:
            torch.set_num_threads(before)


class RdvlaPolicy(Policy):
    """The model with one exit rule and one horizon rule. Stateless: a query depends on nothing before it."""

    def __init__(self, model: RdvlaModel, card: PolicyCard, exit_rule: ExitRule, horizon: HorizonRule) -> None:
        """Take a built model and the card that describes all of this."""
        self.model = model
        self.card = card
        self.exit_rule = exit_rule
        self.horizon = horizon

    def act(self, obs: Observation, state: None, rng: np.random.Generator) -> tuple[ActionChunk, None]:
        """Return one chunk in [-1, 1], bit-identical for the same observation and generator state."""
        return self.act_batch([obs], [state], [rng])[0]

    @torch.inference_mode()
    def act_batch(
        self, observations: Sequence[Observation], states: Sequence[None], rngs: Sequence[np.random.Generator]
    ) -> list[tuple[ActionChunk, None]]:
        """Return one chunk a sample; ``model_s`` of each is the batch's seconds divided by its size."""
        config = self.model.config
        started = time.perf_counter()
        with one_thread():
            texts = [hashed_words(prompt(obs["instruction"]), config.backbone.vocab) for obs in observations]
            pixels = torch.stack([self._pixels(obs) for obs in observations])
            proprio = torch.from_numpy(np.stack([_proprio(obs, config) for obs in observations]))
            shape = (config.head.chunk, config.head.width)
            noise = torch.from_numpy(np.stack([truncated_normal(rng, shape) for rng in rngs]))
            exits = iterate_to_exit(
                self.model.head, self.model.condition(pixels, texts, proprio), noise, self.exit_rule
            )
        model_s = (time.perf_counter() - started) / len(observations)
        return [
            (ActionChunk(to_env(ended.chunk), self._compute(ended, obs, len(text), model_s, len(exits))), state)
            for ended, obs, text, state in zip(exits, observations, texts, states, strict=True)
        ]

    def _pixels(self, obs: Observation) -> torch.Tensor:
        """Return (cameras, 3, H, W) in [0, 1]."""
        backbone = self.model.config.backbone
        images = []
        for camera in backbone.cameras:
            if camera not in obs["images"]:
                raise PolicyFault(f"no image of camera '{camera}', only of {sorted(obs['images'])}")
            check_image(camera, obs["images"][camera])
            images.append(resize(obs["images"][camera], backbone.image_size))
        return torch.stack(images)

    def _compute(self, ended: Exit, obs: Observation, text_tokens: int, model_s: float, batch_size: int) -> Compute:
        config = self.model.config
        sizes = [len(obs["images"][camera]) for camera in config.backbone.cameras]
        return Compute(
            depth=ended.depth,
            exit_trace=ended.trace,
            flops=float(query_flops(config, sizes, text_tokens, ended.depth, ended.decodes)),
            model_s=model_s,
            batch_size=batch_size,
        )


def _proprio(obs: Observation, config: RdvlaConfig) -> NDArray[np.float32]:
    """Return (P,) as given: without a checkpoint there are no statistics to normalise with."""
    proprio = np.asarray(obs["proprio"], np.float32)
    if proprio.shape != (config.head.proprio,):
        raise PolicyFault(f"expected proprio ({config.head.proprio},), got {proprio.shape}")
    return proprio


def to_env(chunk: NDArray[np.float32]) -> NDArray[np.float32]:
    """Clip to the env's [-1, 1].

    Without a checkpoint there are no statistics to un-normalise with, so the normalised action is the action; the
    gripper value, -1 open to +1 closed, keeps its size where a trained policy's would be cut to its sign.
    """
    return np.clip(chunk, -1.0, 1.0)
