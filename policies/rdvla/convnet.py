"""The convolutional vision of ``nano-conv``: one net a camera, each stage steered by instruction and body (FiLM).

    x_0 = image,  s = mean of the instruction's word embeddings + token of proprioception
    x   = ReLU((1 + g(s)) GroupNorm(Conv(x)) + b(s))       a stage: half the side (the first: 1 / stem)
    x   = ReLU(x + GroupNorm(Conv(x)))                     as often as the config says
    p   = expected place of each channel of some stages    (spatial softmax)
    latents of the language model = learned + s + MLP(p, s, mean patch)

FiLM: Perez et al., arXiv 1709.07871; spatial softmax: Levine et al., arXiv 1504.00702. Convolutions instead of the two
towers because nothing here is pre-trained: a few hundred demonstrations teach them where things are.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rdvla_bench.policies.rdvla.config import NORM_GROUPS, BackboneConfig, ConvNet

SHARPNESS = 2.0
"""Inverse temperature of the spatial softmax."""


class _Stage(nn.Module):
    """One strided convolution, steered, and residual ones."""

    def __init__(self, given: int, width: int, kernel: int, stride: int, blocks: int, words: int) -> None:
        """Build the stage; ``words`` is the width of what steers it."""
        super().__init__()
        self.conv = nn.Conv2d(given, width, kernel, stride, padding=(kernel - stride + 1) // 2, bias=False)
        self.norm = nn.GroupNorm(NORM_GROUPS, width)
        self.film = nn.Linear(words, 2 * width)
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.GroupNorm(NORM_GROUPS, width) for _ in range(blocks))

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        """Map (B, C, H, W) and (B, D) to (B, width, H / stride, W / stride)."""
        gain, bias = self.film(words)[..., None, None].chunk(2, dim=1)
        x = F.relu(torch.addcmul(bias, self.norm(self.conv(x)), 1 + gain))
        for conv, norm in zip(self.blocks, self.norms, strict=True):
            x = F.relu(x + norm(conv(x)))
        return x


class _Eye(nn.Module):
    """One camera's stages."""

    def __init__(self, size: ConvNet, words: int) -> None:
        """Build the first stage on patches without overlap, the others on 3 x 3 pixels."""
        super().__init__()
        self.located = size.located
        widths = (3, *size.channels)
        self.stages = nn.ModuleList(
            _Stage(given, width, 3 if i else size.stem, 2 if i else size.stem, size.blocks, words)
            for i, (given, width) in enumerate(zip(widths, size.channels, strict=False))
        )

    def forward(self, pixels: Tensor, steer: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, 3, H, W) to patches (B, patches, width), row by row, and to places (B, size.places)."""
        x, places = 2 * pixels - 1, []
        for i, stage in enumerate(self.stages):
            x = stage(x, steer)
            if i in self.located:
                places.append(_places(x))
        return x.flatten(2).transpose(1, 2), torch.cat(places, dim=1)


def _places(x: Tensor) -> Tensor:
    """Return where each channel of (B, C, H, W) is most active: (B, 2 C), -1 to 1 across and then down."""
    height, width = x.shape[-2:]
    share = torch.softmax(x.flatten(2) * SHARPNESS, dim=-1).view(x.shape)
    across, down = (torch.linspace(-1, 1, n, device=x.device) for n in (width, height))
    return torch.cat([(share.sum(2) * across).sum(-1), (share.sum(3) * down).sum(-1)], dim=1)


class Seen(NamedTuple):
    """What the language model is given of one query."""

    patches: Tensor  # (B, V, fused)
    latents: Tensor  # (B, L, D), added to the learned ones


class ConvVision(nn.Module):
    """The nets of all cameras, and where each of their patches lies."""

    def __init__(self, config: BackboneConfig, size: ConvNet) -> None:
        """Build one net a camera."""
        super().__init__()
        width = config.llm.width
        self.eyes = nn.ModuleList(_Eye(size, width) for _ in config.cameras)
        self.places = nn.Embedding(config.vision_tokens, size.channels[-1])
        given = len(config.cameras) * size.places + width + size.channels[-1]
        sizes = (given, size.hidden, size.hidden, config.latents * width)
        self.known = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.latents = nn.Embedding(config.latents, width)

    def forward(self, pixels: Tensor, steer: Tensor) -> Seen:
        """Map (B, cameras, 3, H, W) in [0, 1] and what steers, (B, D)."""
        patches, places = zip(*(eye(pixels[:, i], steer) for i, eye in enumerate(self.eyes)), strict=True)
        seen, where = torch.cat(patches, dim=1), torch.cat(places, dim=1)
        known = self._known(where, seen.mean(dim=1), steer)
        return Seen(seen + self.places.weight, self.latents.weight + steer[:, None] + known)

    def _known(self, where: Tensor, patch: Tensor, steer: Tensor) -> Tensor:
        """Return what is added to each latent, (B, L, D)."""
        inner, middle, outer = self.known
        x = F.relu(middle(F.relu(inner(torch.cat([where, steer, patch], dim=1)))))
        known: Tensor = outer(x)
        return known.view(len(x), *self.latents.weight.shape)
