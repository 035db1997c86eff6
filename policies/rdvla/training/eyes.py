"""Training of the eyes alone: a small network, not kept, that acts on what the language model would be given.

Convolutions that start from nothing learn where things are some ten times faster under it than under the language
model and the head, whose gradients say little until they have learnt to read.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rdvla_bench.policies.rdvla.config import RdvlaConfig
from rdvla_bench.policies.rdvla.convnet import Seen
from rdvla_bench.policies.rdvla.weights import truncated_normal
from rdvla_bench.seeding import generator

HIDDEN = 256
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
    """What the small network makes of one query."""

    chunk: Tensor  # (B, K, A) normalised
    goal: Tensor  # (B, 3) normalised


class Readout(nn.Module):
    """Three layers on the means of latents and patches."""

    def __init__(self, config: RdvlaConfig, seed: int) -> None:
        """Build the layers; their initial values are a function of the seed."""
        super().__init__()
        head = config.head
        self.chunk = (head.chunk, head.action)
        self.inner = nn.Linear(head.width + config.backbone.fused, HIDDEN)
        self.middle = nn.Linear(HIDDEN, HIDDEN)
        self.outer = nn.Linear(HIDDEN, head.chunk * head.action + 3)
        for i, layer in enumerate((self.inner, self.middle, self.outer)):
            draw(layer, "rdvla-train-eyes", i, seed)

    def forward(self, seen: Seen) -> Glance:
        """Guess chunk and goal."""
        x = torch.cat([seen.latents.mean(dim=1), seen.patches.mean(dim=1)], dim=-1)
        x = torch.relu(self.middle(torch.relu(self.inner(x))))
        chunk, goal = self.outer(x).split([self.outer.out_features - 3, 3], dim=-1)
        return Glance(chunk.unflatten(1, self.chunk), goal)
