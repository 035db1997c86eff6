"""The vision-language backbone, from transformers' own classes: DINOv2 with registers, SigLIP, Qwen2.

A config with a ``convnet`` sees with that (``convnet.py``) where the others have their towers; all else is the same.

    patches  = Projector([DINOv2(image) ; SigLIP(image)])    second-to-last layer of each, concatenated by channel
    sequence = first text token, patches, other text tokens, 64 latents      causal attention
    taps     = hidden states of some layers, cut into V vision and 64 latent positions

Non-obvious: the released slices are off by one and the weights are trained so. The vision slice starts at the first
text token and misses the last patch; the latent slice starts at the last text token and misses the last latent.
Blocks behind the last one that is read (one of each tower, and of the language model) are loaded and never run.
The released sequence ends with one stop token; attention is causal, so nothing that is read can depend on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    Qwen2Config,
    Qwen2Model,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from rdvla_bench.errors import UsageError
from rdvla_bench.policies.rdvla.config import BackboneConfig
from rdvla_bench.policies.rdvla.convnet import ConvVision, Seen
from rdvla_bench.policies.rdvla.head import Tap
from rdvla_bench.policies.rdvla.images import HALVES, IMAGENET, normalise

REGISTERS = 4  # vit_large_patch14_reg4


class Projector(nn.Module):
    """Three linear layers with GELU between: fused features to language model tokens."""

    def __init__(self, fused: int, width: int) -> None:
        """Build fused -> 4 fused -> width -> width."""
        super().__init__()
        self.fc1 = nn.Linear(fused, 4 * fused)
        self.fc2 = nn.Linear(4 * fused, width)
        self.fc3 = nn.Linear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """Map (..., fused) to (..., D)."""
        tokens: Tensor = self.fc3(F.gelu(self.fc2(F.gelu(self.fc1(features)))))
        return tokens


class _Enough(Exception):
    """No error: it ends a forward pass whose rest nobody reads."""


def given_to(model: nn.Module, blocks: nn.ModuleList, wanted: Iterable[int], **inputs: Tensor) -> dict[int, Tensor]:
    """Return ``hidden_states[i]``, what block i is given, for each i wanted; from the last one on nothing is run."""
    seen: dict[int, Tensor] = {}
    last = max(wanted)

    def see(i: int, block: nn.Module, positional: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        del block
        seen[i] = positional[0] if positional else named["hidden_states"]
        if i == last:
            raise _Enough

    hooks = [blocks[i].register_forward_pre_hook(partial(see, i), with_kwargs=True) for i in wanted]
    try:
        with suppress(_Enough):
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _given_to_last(tower: nn.Module, pixels: Tensor) -> Tensor:
    """Return ``hidden_states[-2]`` of a vision tower."""
    blocks = max((m for m in tower.modules() if isinstance(m, nn.ModuleList)), key=len)
    last = len(blocks) - 1
    return given_to(tower, blocks, [last], pixel_values=pixels)[last]


class VisionTowers(nn.Module):
    """DINOv2 with registers and SigLIP side by side."""

    def __init__(self, config: BackboneConfig) -> None:
        """Build both towers."""
        super().__init__()
        dino, siglip = config.towers
        self.dino = Dinov2WithRegistersModel(
            Dinov2WithRegistersConfig(
                hidden_size=dino.width,
                num_hidden_layers=dino.layers,
                num_attention_heads=dino.heads,
                mlp_ratio=dino.ffn // dino.width,
                image_size=config.image_size,
                patch_size=config.patch,
                num_register_tokens=REGISTERS,
            )
        )
        self.siglip = SiglipVisionModel(
            SiglipVisionConfig(
                hidden_size=siglip.width,
                num_hidden_layers=siglip.layers,
                num_attention_heads=siglip.heads,
                intermediate_size=siglip.ffn,
                image_size=config.image_size,
                patch_size=config.patch,
                hidden_act="gelu",  # timm's vit_so400m_patch14_siglip_224, on which the base model was trained
                vision_use_head=False,
            )
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (B, cameras, 3, H, W) in [0, 1] to (B, cameras x patches, fused)."""
        images = pixels.flatten(0, 1)
        dino = _given_to_last(self.dino, normalise(images, IMAGENET))
        siglip = _given_to_last(self.siglip, normalise(images, HALVES))
        patches = torch.cat([dino[:, 1 + REGISTERS :], siglip], dim=-1)  # without class and register tokens
        return patches.reshape(len(pixels), -1, patches.shape[-1])


def _sequence(vision: Tensor, words: Tensor, latents: Tensor) -> Tensor:
    """Return (V + words + L, D): first word, patches, other words, latents."""
    return torch.cat([words[:1], vision, words[1:], latents])


class Backbone(nn.Module):
    """Images and prompt tokens to the taps that the head reads."""

    def __init__(self, config: BackboneConfig, taps: tuple[int, ...]) -> None:
        """Build towers, projector, language model and the learned latents."""
        super().__init__()
        self.config = config
        self.taps = taps
        llm = config.llm
        self.vision = ConvVision(config, config.convnet) if config.convnet else VisionTowers(config)
        self.projector = Projector(config.fused, llm.width)
        self.llm = Qwen2Model(
            Qwen2Config(
                vocab_size=config.vocab,
                hidden_size=llm.width,
                intermediate_size=llm.ffn,
                num_hidden_layers=llm.layers,
                num_attention_heads=llm.heads,
                num_key_value_heads=llm.kv_heads or llm.heads,
                max_position_embeddings=32_768,
                rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},  # Qwen2.5-0.5B config.json
                use_cache=False,
            )
        )
        self.action_queries = nn.Embedding(config.latents, llm.width)  # the latents; released name

    def forward(self, pixels: Tensor, texts: Sequence[Sequence[int]], proprio: Tensor | None = None) -> dict[int, Tap]:
        """Return the taps by layer, of ``pixels`` (B, cameras, 3, H, W) in [0, 1] and one token list a sample.

        ``proprio``, the head's (B, 1, D) token, is read by a convnet alone; the towers do without it, as released.
        Texts of unequal length are padded on the right, behind everything that is read: with causal attention a
        sample's result does not depend on the padding.
        """
        words = self._words(texts, pixels.device)
        seen = self._see(pixels, words, proprio)
        patches = self.projector(seen.patches)  # (B, V, D)
        longest = max(map(len, words))
        sequences = [
            F.pad(_sequence(vision, text, latents), (0, 0, 0, longest - len(text)))
            for vision, text, latents in zip(patches, words, seen.latents, strict=True)
        ]
        states = given_to(self.llm, self.llm.layers, self.taps, inputs_embeds=torch.stack(sequences))
        starts = [self.config.vision_tokens + len(text) - 1 for text in texts]  # of the latent slice
        return {tap: self._slices(states[tap], starts) for tap in self.taps}

    def see(self, pixels: Tensor, texts: Sequence[Sequence[int]], proprio: Tensor | None) -> Seen:
        """Return what the language model is given: patches (B, V, fused) and latents (B, L, D)."""
        return self._see(pixels, self._words(texts, pixels.device), proprio)

    def _words(self, texts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, ...]:
        """Return each text's word embeddings, (tokens, D), looked up at once: a lookup's gradient is a whole table."""
        tokens = torch.tensor([token for text in texts for token in text], device=device)
        words: Tensor = self.llm.embed_tokens(tokens)
        split: tuple[Tensor, ...] = words.split([len(text) for text in texts])  # type: ignore[no-untyped-call]
        return split

    def _see(self, pixels: Tensor, words: Sequence[Tensor], proprio: Tensor | None) -> Seen:
        learned = self.action_queries.weight
        if isinstance(self.vision, VisionTowers):
            return Seen(self.vision(pixels), learned.expand(len(pixels), -1, -1))
        if proprio is None:
            raise UsageError("a model that sees with a convnet wants the token of proprioception")
        means = torch.stack([text.mean(dim=0) for text in words])
        patches, latents = self.vision(pixels, means + proprio[:, 0])
        return Seen(patches, learned + latents)

    def _slices(self, states: Tensor, starts: Sequence[int]) -> Tap:
        latents = torch.stack(
            [sample[start : start + self.config.latents] for sample, start in zip(states, starts, strict=True)]
        )
        return Tap(latents, states[:, : self.config.vision_tokens])
