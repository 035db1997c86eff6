"""Parameter names: the released files' (timm, prismatic) and ours (transformers), mapped in both directions.

    released file                      ours
    vision_backbone.featurizer         backbone.vision.dino      fused qkv; register tokens; layer scales
    vision_backbone.fused_featurizer   backbone.vision.siglip    fused qkv; no class token
    projector                          backbone.projector
    language_model.model               backbone.llm              Qwen2's own names
    action_queries                     backbone.action_queries   the 64 latents
    model.* (action_head--*.pt)        head.*
    fc1, fc2 (proprio_projector--*.pt) proprio.*

Non-obvious:

* timm's DINOv2 with registers has no position for the class token, transformers' has: its row is zero on the way in,
  and is added to the class token on the way out, which is the same function.
* SigLIP's pooling head and the language model's output layer are in the released file and read by nothing here.
* transformers' DINOv2 has a mask token for pre-training; no released file has one, and nothing here reads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from rdvla_bench.errors import UsageError, nearest
from rdvla_bench.policies.rdvla.config import BackboneConfig, RdvlaConfig
from rdvla_bench.policies.rdvla.model import RdvlaModel

Tensors = Mapping[str, Tensor]
Convert = Callable[[Sequence[Tensor]], Sequence[Tensor]]


class Part(StrEnum):
    """The released files that hold weights."""

    VLM = "model"
    HEAD = "action_head"
    PROPRIO = "proprio_projector"


UNREAD = re.compile(r"vision_backbone\.fused_featurizer\.attn_pool\..+|language_model\.lm_head\.weight")
OURS_ALONE = ("backbone.vision.dino.embeddings.mask_token",)
PREFIXES = {  # ours -> released, where the names behind the prefix are the same
    Part.VLM: {
        "backbone.projector.": "projector.",
        "backbone.llm.": "language_model.model.",
        "backbone.action_queries.": "action_queries.",
    },
    Part.HEAD: {"head.": "model."},
    Part.PROPRIO: {"proprio.": ""},
}


def _same(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    return tensors


@dataclass(frozen=True)
class Rule:
    """Some released tensors and those of ours that hold the same numbers."""

    released: tuple[str, ...]
    ours: tuple[str, ...]
    to_ours: Convert = _same
    to_released: Convert = _same


def _qkv(released: str, ours: str, leaf: str) -> Rule:
    """Cut timm's one matrix of query, key and value, stacked in this order."""
    return Rule(
        (f"{released}.{leaf}",),
        tuple(f"{ours}.{part}_proj.{leaf}" for part in "qkv"),
        to_ours=lambda t: t[0].chunk(3),
        to_released=lambda t: (torch.cat(tuple(t)),),
    )


def _renamed(released: str, ours: str, pairs: Mapping[str, str]) -> list[Rule]:
    """Weight and bias of modules that differ by name alone."""
    return [
        Rule((f"{released}.{theirs}.{leaf}",), (f"{ours}.{name}.{leaf}",))
        for theirs, name in pairs.items()
        for leaf in ("weight", "bias")
    ]


def _positions_in(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    class_token, positions = tensors  # (1, 1, D), (1, patches, D)
    return class_token, torch.cat([torch.zeros_like(class_token), positions], dim=1)


def _positions_out(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    class_token, positions = tensors  # (1, 1, D), (1, 1 + patches, D)
    return class_token + positions[:, :1], positions[:, 1:]


def _dino(config: BackboneConfig) -> list[Rule]:
    released, ours = "vision_backbone.featurizer", "backbone.vision.dino"
    rules = [
        Rule(
            (f"{released}.cls_token", f"{released}.pos_embed"),
            (f"{ours}.embeddings.cls_token", f"{ours}.embeddings.position_embeddings"),
            _positions_in,
            _positions_out,
        ),
        Rule((f"{released}.reg_token",), (f"{ours}.embeddings.register_tokens",)),
        *_renamed(released, ours, {"patch_embed.proj": "embeddings.patch_embeddings.projection", "norm": "layernorm"}),
    ]
    same = ("norm1", "norm2", "mlp.fc1", "mlp.fc2")
    for i in range(config.towers[0].layers):
        block, layer = f"{released}.blocks.{i}", f"{ours}.encoder.layer.{i}"
        rules += [_qkv(f"{block}.attn.qkv", f"{layer}.attention", leaf) for leaf in ("weight", "bias")]
        rules += _renamed(block, layer, {"attn.proj": "attention.o_proj", **{name: name for name in same}})
        # The released model renames timm's ``gamma``, a name that transformers 4 rewrites.
        rules += [Rule((f"{block}.ls{n}.scale_factor",), (f"{layer}.layer_scale{n}.lambda1",)) for n in (1, 2)]
    return rules


def _siglip(config: BackboneConfig) -> list[Rule]:
    released, ours = "vision_backbone.fused_featurizer", "backbone.vision.siglip"
    rules = [
        Rule(
            (f"{released}.pos_embed",),
            (f"{ours}.embeddings.position_embedding.weight",),
            to_ours=lambda t: (t[0].squeeze(0),),
            to_released=lambda t: (t[0].unsqueeze(0),),
        ),
        *_renamed(released, ours, {"patch_embed.proj": "embeddings.patch_embedding", "norm": "post_layernorm"}),
    ]
    pairs = {
        **{"norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj"},
        **{"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"},
    }
    for i in range(config.towers[1].layers):
        block, layer = f"{released}.blocks.{i}", f"{ours}.encoder.layers.{i}"
        rules += [_qkv(f"{block}.attn.qkv", f"{layer}.self_attn", leaf) for leaf in ("weight", "bias")]
        rules += _renamed(block, layer, pairs)
    return rules


def rules(config: BackboneConfig, ours: Iterable[str]) -> dict[Part, list[Rule]]:
    """Return, by released file, the rules that cover every name in ``ours`` but ``OURS_ALONE``, each once."""
    found = {Part.VLM: [*_dino(config), *_siglip(config)], Part.HEAD: [], Part.PROPRIO: []}
    for name in ours:
        for part, prefixes in PREFIXES.items():
            for prefix, released in prefixes.items():
                if name.startswith(prefix):
                    found[part].append(Rule((released + name.removeprefix(prefix),), (name,)))
    return found


def to_released(state: Tensors, config: BackboneConfig) -> dict[Part, dict[str, Tensor]]:
    """Return what the released files would hold, of a whole model's ``state``; without what they have besides."""
    return {
        part: {
            name: tensor
            for rule in listed
            for name, tensor in zip(rule.released, rule.to_released([state[n] for n in rule.ours]), strict=True)
        }
        for part, listed in rules(config, state).items()
    }


def from_released(files: Mapping[Part, Tensors], config: RdvlaConfig, where: Mapping[Part, str]) -> dict[str, Tensor]:
    """Return the state of ``RdvlaModel(config)``, float32, of the released files' tensors.

    ``where`` names the file of each part in an error.

    Raises:
        UsageError: naming the first tensor that is missing, not known, of another shape or not finite.
    """
    with torch.device("meta"):
        model = RdvlaModel(config).state_dict()
    wanted = to_released(model, config.backbone)
    state = {name: torch.zeros(model[name].shape) for name in OURS_ALONE}
    for part, listed in rules(config.backbone, model).items():
        tensors = {name.removeprefix("module."): tensor for name, tensor in files[part].items()}  # DDP's prefix
        check(tensors, wanted[part], where[part])
        for rule in listed:
            values = rule.to_ours([tensors[name].float() for name in rule.released])
            state.update(zip(rule.ours, (value.contiguous() for value in values), strict=True))
    return state


def check(tensors: Tensors, wanted: Tensors, where: str) -> None:
    """Compare names and shapes with ``wanted``, and look for NaN.

    Raises:
        UsageError: see ``from_released``.
    """
    missing = [name for name in wanted if name not in tensors]
    unknown = [name for name in tensors if name not in wanted and not UNREAD.fullmatch(name)]
    if missing:
        instead = f"; it has '{unknown[0]}', which is not known" if unknown else ""
        raise UsageError(f"{where}: no tensor '{missing[0]}'{_more(missing)}{instead}")
    if unknown:
        raise UsageError(f"{where}: tensor '{unknown[0]}'{_more(unknown)} is not known.{nearest(unknown[0], wanted)}")
    for name, like in wanted.items():
        tensor = tensors[name]
        if tensor.shape != like.shape:
            raise UsageError(f"{where}: tensor '{name}' is {tuple(tensor.shape)}, expected {tuple(like.shape)}")
        if not tensor.is_floating_point():
            raise UsageError(f"{where}: tensor '{name}' is {tensor.dtype}, expected floating point")
        bad = tensor.numel() - int(torch.isfinite(tensor).sum())
        if bad:
            raise UsageError(f"{where}: tensor '{name}' has {bad} of {tensor.numel()} values NaN or infinite")


def _more(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
