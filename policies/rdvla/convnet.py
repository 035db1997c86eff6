"""The convolutional vision of ``nano-conv``: one net a camera, each stage scaled and shifted by the instruction (FiLM).

    x_0 = image,  s = mean of the instruction's word embeddings
    x   = ReLU((1 + g(s)) GroupNorm(Conv(x)) + b(s))       a stage: half the side (the first: 1 / stem)
    x   = ReLU(x + GroupNorm(Conv(x)))                     as often as the config says

FiLM: Perez et al., arXiv 1709.07871. Convolutions instead of the two towers because nothing here is pre-trained: a few
hundred demonstrations teach them where things are (docs/training.md has the comparison).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rdvla_bench.policies.rdvla.config import NORM_GROUPS, BackboneConfig, ConvNet


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
        widths = (3, *size.channels)
        self.stages = nn.ModuleList(
            _Stage(given, width, 3 if i else size.stem, 2 if i else size.stem, size.blocks, words)
            for i, (given, width) in enumerate(zip(widths, size.channels, strict=False))
        )

    def forward(self, pixels: Tensor, words: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, patches, width), row by row."""
        x = 2 * pixels - 1
        for stage in self.stages:
            x = stage(x, words)
        return x.flatten(2).transpose(1, 2)


class ConvVision(nn.Module):
    """The nets of all cameras, and where each of their patches lies."""

    def __init__(self, config: BackboneConfig, size: ConvNet) -> None:
        """Build one net a camera."""
        super().__init__()
        self.eyes = nn.ModuleList(_Eye(size, config.llm.width) for _ in config.cameras)
        self.places = nn.Embedding(config.vision_tokens, size.channels[-1])

    def forward(self, pixels: Tensor, words: Tensor) -> Tensor:
        """Map (B, cameras, 3, H, W) in [0, 1] and the mean word (B, D) to (B, cameras x patches, width)."""
        seen = [eye(pixels[:, i], words) for i, eye in enumerate(self.eyes)]
        return torch.cat(seen, dim=1) + self.places.weight
