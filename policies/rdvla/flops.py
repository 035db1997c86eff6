"""Floating-point operations of one query, counted from the configuration.

Matrix products only, multiply and add counted apart (2 m n k), attention as executed (no credit for causality),
which is what ``torch.utils.flop_counter`` counts too. Norms, softmax and activations are left out: below 1 % of the
total.
"""

from __future__ import annotations

from collections.abc import Sequence

from rdvla_bench.policies.rdvla.backbone import REGISTERS
from rdvla_bench.policies.rdvla.config import BackboneConfig, ConvNet, HeadConfig, RdvlaConfig, Transformer
from rdvla_bench.policies.rdvla.images import bands


def _tower(size: Transformer, tokens: int, patches: int, patch: int) -> int:
    """Return one image through a vision tower: patch embedding, then attention and two-layer MLP in each block."""
    block = 8 * tokens * size.width**2 + 4 * tokens**2 * size.width + 4 * tokens * size.width * size.ffn
    return 2 * patches * 3 * patch**2 * size.width + (size.layers - 1) * block  # the last one is not run


def _convnet(config: BackboneConfig, size: ConvNet) -> int:
    """Return one image through the convnet, and a camera's share of what makes latents of it."""
    side, words, cameras = config.image_size, config.llm.width, len(config.cameras)
    total, given = 0, 3
    for stage, width in enumerate(size.channels):
        kernel = 3 if stage else size.stem
        side //= 2 if stage else size.stem
        total += 2 * side**2 * (kernel**2 * given + size.blocks * 9 * width) * width + 4 * words * width
        given = width
    given += cameras * size.places + words
    return total + 2 * (given + size.hidden + config.latents * words) * size.hidden // cameras


def _vision(config: BackboneConfig) -> int:
    """Return one image through what the backbone sees with."""
    if config.convnet:
        return _convnet(config, config.convnet)
    (dino, siglip), patches = config.towers, config.patches
    return _tower(dino, patches + 1 + REGISTERS, patches, config.patch) + _tower(siglip, patches, patches, config.patch)


def _projector(config: BackboneConfig) -> int:
    fused, width = config.fused, config.llm.width
    return 2 * config.vision_tokens * (4 * fused**2 + 4 * fused * width + width**2)


def _llm(size: Transformer, tokens: int, blocks: int, read: int) -> int:
    """Return ``blocks`` blocks, the last of which has queries and MLP for ``read`` tokens only."""
    kv = (size.kv_heads or size.heads) / size.heads

    def block(queries: int) -> float:
        projections = 4 * size.width**2 * (queries + tokens * kv)  # query and output, key and value
        return projections + 4 * queries * tokens * size.width + 6 * queries * size.width * size.ffn

    return round((blocks - 1) * block(tokens) + block(read)) if blocks else 0


def resize_flops(source: int, target: int) -> int:
    """Return one image of ``source`` pixels a side through the matrix products of ``images.resize``."""
    weights = sum(block.numel() for _, _, block in bands(source, target))
    return 2 * 3 * source * (weights + target**2)


def backbone_flops(config: BackboneConfig, text_tokens: int, last_tap: int) -> int:
    """Return one query's images and sequence through towers, projector and language model up to ``last_tap``."""
    read = config.vision_tokens + config.latents
    tokens = read + text_tokens
    return len(config.cameras) * _vision(config) + _projector(config) + _llm(config.llm, tokens, last_tap, read)


def head_flops(config: HeadConfig, backbone: BackboneConfig, depth: int, decodes: int) -> int:
    """Return conditioning and prelude once, ``depth`` iterations of the core, ``decodes`` runs of the coda."""
    k, d = config.chunk, config.width
    context = backbone.latents + 1 + backbone.vision_tokens  # N
    layer = 36 * k * d**2 + 4 * k * (k + context) * d  # 6 square maps and 3 of SwiGLU x4; attention over K, then N
    stacks = len(config.prelude_taps), len(config.core_taps), len(config.coda_taps)
    conditioning = sum(stacks) * 4 * context * d**2 + 2 * (config.proprio * d + d**2)
    iteration = stacks[1] * layer + 4 * k * d**2
    decode = stacks[2] * layer + 2 * k * d * config.action
    return conditioning + stacks[0] * layer + depth * iteration + decodes * decode


def query_flops(config: RdvlaConfig, image_sizes: Sequence[int], text_tokens: int, depth: int, decodes: int) -> int:
    """Return everything one query costs, ``image_sizes`` being the rendered images' sides in pixels."""
    resizing = sum(resize_flops(source, config.backbone.image_size) for source in image_sizes)
    thinking = head_flops(config.head, config.backbone, depth, decodes)
    return resizing + backbone_flops(config.backbone, text_tokens, config.head.taps[-1]) + thinking
