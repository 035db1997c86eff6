"""The backbone of ``backbone.py`` in the form that inference runs: transformers' modules, called without its loops.

The weights stay where they are, and every linear map and layer norm is transformers' own module; what is restated is
the few lines between them. ``backbone.py`` is the definition and the tests compare with it. What is saved:

    pixels      W ((x - mean) / std) + b = (W / std) x + (b - W mean / std): both towers' patch embeddings are one
                product on the pixels as they come, positions and bias one table
    last block  only the rows that are read, patches and latents, get queries and the MLP; all get keys and values
    tables      rotary angles are worked out once, causality needs no mask but there
    overhead    no hooks, caches, masks or output records; text is embedded in one call for the whole batch

Only the patch embeddings and the norms' weights are copied; later changes to those are not seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Dinov2WithRegistersModel, SiglipVisionModel

from rdvla_bench.policies.rdvla.backbone import REGISTERS, Backbone, VisionTowers
from rdvla_bench.policies.rdvla.config import BackboneConfig
from rdvla_bench.policies.rdvla.convnet import Seen
from rdvla_bench.policies.rdvla.head import Tap
from rdvla_bench.policies.rdvla.images import HALVES, IMAGENET
from rdvla_bench.policies.rdvla.prepared import unit

Map = Callable[[Tensor], Tensor]
Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std by channel


class _VisionBlock(NamedTuple):
    """One pre-norm block of either tower."""

    norm1: Map
    q: Map
    k: Map
    v: Map
    out: Map
    norm2: Map
    fc1: Map
    fc2: Map
    scales: tuple[Tensor, Tensor] | None  # DINOv2's layer scales

    def __call__(self, x: Tensor, heads: int) -> Tensor:
        """Map (images, tokens, width) to the same."""
        n = self.norm1(x)
        q, k, v = (_split(project(n), heads) for project in (self.q, self.k, self.v))
        x = self._add(x, self.out(_join(F.scaled_dot_product_attention(q, k, v))), 0)
        return self._add(x, self.fc2(F.gelu(self.fc1(self.norm2(x)))), 1)

    def _add(self, x: Tensor, y: Tensor, i: int) -> Tensor:
        return y.add_(x) if self.scales is None else torch.addcmul(x, y, self.scales[i])


def _split(x: Tensor, heads: int) -> Tensor:
    """Return (B, T, h d) as (B, h, T, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _join(x: Tensor) -> Tensor:
    """Return (B, h, T, d) as (B, T, h d)."""
    return x.transpose(1, 2).flatten(2)


def _dino_blocks(tower: Dinov2WithRegistersModel) -> list[_VisionBlock]:
    def block(b: Any) -> _VisionBlock:
        a, scales = b.attention, (b.layer_scale1.lambda1, b.layer_scale2.lambda1)
        return _VisionBlock(b.norm1, a.q_proj, a.k_proj, a.v_proj, a.o_proj, b.norm2, b.mlp.fc1, b.mlp.fc2, scales)

    return [block(b) for b in tower.encoder.layer[:-1]]  # nobody reads the last one


def _siglip_blocks(tower: SiglipVisionModel) -> list[_VisionBlock]:
    def block(b: Any) -> _VisionBlock:
        a, mlp = b.self_attn, b.mlp
        return _VisionBlock(
            b.layer_norm1, a.q_proj, a.k_proj, a.v_proj, a.out_proj, b.layer_norm2, mlp.fc1, mlp.fc2, None
        )

    return [block(b) for b in tower.encoder.layers[:-1]]


def _on_raw_pixels(embedding: nn.Conv2d, statistics: Statistics) -> tuple[Tensor, Tensor]:
    """Return the (3 p p, width) matrix and the bias of a patch embedding with its pixels' normalisation inside."""
    mean, std = (embedding.weight.new_tensor(s).view(3, 1, 1) for s in statistics)
    weight = embedding.weight / std
    bias: Any = embedding.bias  # typed as optional; patch embeddings have one
    return weight.flatten(1).t(), bias - (weight * mean).sum(dim=(1, 2, 3))


class _PreparedTowers:
    """Both vision towers for inference."""

    def __init__(self, towers: VisionTowers, config: BackboneConfig) -> None:
        """Prepare the patch embeddings and the table of positions."""
        self._patch, self._side = config.patch, config.image_size // config.patch
        self._sizes = config.towers
        dino, siglip = towers.dino, towers.siglip
        self._dino, self._siglip = _dino_blocks(dino), _siglip_blocks(siglip)

        dino_map, dino_bias = _on_raw_pixels(dino.embeddings.patch_embeddings.projection, IMAGENET)
        siglip_map, siglip_bias = _on_raw_pixels(siglip.embeddings.patch_embedding, HALVES)
        positions = dino.embeddings.position_embeddings[0]  # (1 + patches, width): class token first
        self._embed = torch.cat([dino_map, siglip_map], dim=1).contiguous()
        self._table = torch.cat(
            [positions[1:] + dino_bias, siglip.embeddings.position_embedding.weight + siglip_bias], dim=1
        )  # (patches, fused)
        self._class_and_registers = torch.cat(
            [dino.embeddings.cls_token[0] + positions[:1], dino.embeddings.register_tokens[0]]
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        """Map (B, cameras, 3, H, W) in [0, 1] to (B, cameras x patches, fused)."""
        (dino_size, siglip_size), side, patch = self._sizes, self._side, self._patch
        cut = pixels.flatten(0, 1).unflatten(-1, (side, patch)).unflatten(-3, (side, patch))
        cut = cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # (images, patches, 3 p p)
        embedded = (cut @ self._embed).add_(self._table)
        dino = torch.cat([self._class_and_registers.expand(len(cut), -1, -1), embedded[..., : dino_size.width]], dim=1)
        siglip = embedded[..., dino_size.width :].contiguous()
        for block in self._dino:
            dino = block(dino, dino_size.heads)
        for block in self._siglip:
            siglip = block(siglip, siglip_size.heads)
        patches = torch.cat([dino[:, 1 + REGISTERS :], siglip], dim=-1)
        return patches.unflatten(0, pixels.shape[:2]).flatten(1, 2)


class PreparedBackbone:
    """``Backbone`` for inference: takes and returns what that does, within rounding. A convnet runs as it is."""

    @torch.no_grad()
    def __init__(self, backbone: Backbone) -> None:
        """Prepare the towers and tables."""
        self.config = backbone.config
        self._backbone = backbone
        vision = backbone.vision
        self._towers = _PreparedTowers(vision, self.config) if isinstance(vision, VisionTowers) else None
        self._blocks = backbone.llm.layers[: max(backbone.taps)]
        self._gains = [
            tuple(n.weight * math.sqrt(len(n.weight)) for n in (b.input_layernorm, b.post_attention_layernorm))
            for b in self._blocks
        ]
        self._words = backbone.llm.embed_tokens.weight
        self._cos = self._sin = self._words.new_empty((0, 0))

    def __call__(self, pixels: Tensor, texts: Sequence[Sequence[int]], proprio: Tensor | None = None) -> dict[int, Tap]:
        """Return the taps by layer, of ``pixels`` (B, cameras, 3, H, W) in [0, 1] and one token list a sample."""
        seen = self._see(pixels, texts, proprio)
        x = self._sequences(self._backbone.projector(seen.patches), texts, seen.latents)
        self._extend_angles(x.shape[1])
        read = self._rows_read(texts)
        *earlier, last = self._backbone.taps
        taps: dict[int, Tap] = {}
        for i in range(last):
            if i in earlier:
                taps[i] = self._tap(_rows(x, read))
            x = self._block(i, x, read if i == last - 1 else None)
        taps[last] = self._tap(x if last else _rows(x, read))
        return taps

    def _see(self, pixels: Tensor, texts: Sequence[Sequence[int]], proprio: Tensor | None) -> Seen:
        if self._towers is None:
            return self._backbone.see(pixels, texts, proprio)
        return Seen(self._towers(pixels), self._backbone.action_queries.weight.expand(len(pixels), -1, -1))

    def _sequences(self, vision: Tensor, texts: Sequence[Sequence[int]], latents: Tensor) -> Tensor:
        """Return (B, T, D): first text token, patches, other text tokens, latents, and zeros up to the longest."""
        batch, patches, width = vision.shape
        longest = max(len(text) for text in texts)
        ids = torch.tensor([[*text, *([0] * (longest - len(text)))] for text in texts], device=vision.device)
        words = self._backbone.llm.embed_tokens(ids)
        n_latents = latents.shape[1]
        x = vision.new_zeros((batch, patches + longest + n_latents, width))
        x[:, :1] = words[:, :1]
        x[:, 1 : patches + 1] = vision
        for row, (text, spoken) in enumerate(zip(texts, words, strict=True)):
            end = patches + len(text)
            x[row, patches + 1 : end] = spoken[1 : len(text)]
            x[row, end : end + n_latents] = latents[row]
        return x

    def _extend_angles(self, length: int) -> None:
        """Make the rotary table long enough: cos and sin as (T, 1, d), the first half's sin negated."""
        if len(self._cos) < length:
            positions = torch.arange(length, device=self._words.device)[None]
            cos, sin = self._backbone.llm.rotary_emb(self._words, positions)
            first, second = sin.chunk(2, dim=-1)
            self._cos, self._sin = cos[0, :, None], torch.cat([-first, second], dim=-1)[0, :, None]

    def _block(self, i: int, x: Tensor, read: Tensor | None) -> Tensor:
        """Run block ``i`` of the language model on (B, T, D); with ``read``, (B, R), return those rows only."""
        block, (first, second), size = self._blocks[i], self._gains[i], self.config.llm
        attention, mlp, kv_heads = block.self_attn, block.mlp, size.kv_heads or size.heads
        length = x.shape[1]
        n = unit(x).mul_(first)
        cos, sin = self._cos[:length], self._sin[:length]
        k = _turned(attention.k_proj(n).unflatten(-1, (kv_heads, -1)), cos, sin).transpose(1, 2)
        v = _split(attention.v_proj(n), kv_heads)
        mask = None
        if read is not None:
            x, n, cos, sin = _rows(x, read), _rows(n, read), cos[read], sin[read]
            mask = (read[..., None] >= torch.arange(length, device=read.device))[:, None]  # (B, 1, R, T)
        q = _turned(attention.q_proj(n).unflatten(-1, (size.heads, -1)), cos, sin).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True)
        x = attention.o_proj(_join(mixed)).add_(x)
        n = unit(x).mul_(second)
        return mlp.down_proj(F.silu(mlp.gate_proj(n), inplace=True).mul_(mlp.up_proj(n))).add_(x)

    def _rows_read(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Return the positions that the head reads, (B, V + L), one early as in the released code."""
        vision, latents = self.config.vision_tokens, self.config.latents
        starts = torch.tensor([[vision + len(text) - 1] for text in texts], device=self._words.device)
        shared = torch.arange(vision, device=starts.device).expand(len(texts), -1)
        return torch.cat([shared, starts + torch.arange(latents, device=starts.device)], dim=1)

    def _tap(self, rows: Tensor) -> Tap:
        """Cut (B, V + L, D) in two."""
        return Tap(rows[:, self.config.vision_tokens :], rows[:, : self.config.vision_tokens])


def _rows(x: Tensor, rows: Tensor) -> Tensor:
    """Return (B, R, D) of (B, T, D), by (B, R)."""
    return x[torch.arange(len(x), device=x.device)[:, None], rows]


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn (B, T, h, d), halves (x0, x1) to (x0 cos - x1 sin, x1 cos + x0 sin); ``sin`` holds (-sin, sin)."""
    half = x.shape[-1] // 2
    turned = x * cos
    turned[..., :half].addcmul_(x[..., half:], sin[..., :half])
    turned[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return turned
