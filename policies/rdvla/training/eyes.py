"""Training of the eyes alone: linear maps, not kept, that act on the latents that the language model would be given.

Convolutions that start from nothing learn where things are some ten times faster under it than under the language
model and the head, whose gradients say little until they have learnt to read.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rdvla_bench.policies.rdvla.config import RdvlaConfig
from rdvla_bench.policies.rdvla.convnet import Seen
from rdvla_bench.policies.rdvla.weights import truncated_normal
from rdvla_bench.seeding import generator

EYES = ("backbone.vision.", "backbone.llm.embed_tokens.", "backbone.action_queries.", "proprio.")
"""Names of what the small network's gradients reach begin so."""


@torch.no_grad()
def draw(layer: nn.Linear, *parts: str | int) -> nn.Linear:
    """Give a layer weights of variance 1 / fan-in, a function of ``parts``, and no bias."""
    values = truncated_normal(generator(*parts), (layer.out_features, layer.in_features))
    layer.weight.copy_(torch.from_numpy(values / np.float32(layer.in_features**0.5)))
    layer.bias.zero_()
    return layer


class Glance(NamedTuple):
    """What is read off one query's latents."""

    chunk: Tensor  # (B, K, A) normalised
    goal: Tensor  # (B, 3) normalised


class Readout(nn.Module):
    """A linear map from latents to chunk, the same for every action, and one from their mean to the goal.

    The first latents tell of the first actions, the last of the last.
    """

    def __init__(self, config: RdvlaConfig, seed: int) -> None:
        """Build the maps; their initial values are a function of the seed."""
        super().__init__()
        head = config.head
        self.steps = head.chunk
        self.chunk = draw(nn.Linear(head.width, head.action), "rdvla-train-eyes", "chunk", seed)
        self.goal = draw(nn.Linear(head.width, 3), "rdvla-train-eyes", "goal", seed)

    def forward(self, seen: Seen) -> Glance:
        """Guess chunk and goal."""
        steps = F.adaptive_avg_pool1d(seen.latents.transpose(1, 2), self.steps).transpose(1, 2)  # (B, K, D)
        return Glance(self.chunk(steps), self.goal(seen.latents.mean(dim=1)))
