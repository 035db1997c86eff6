"""Initial weights that are the same on every machine, and the digest that says so.

Draws come from NumPy's PCG64, one stream a parameter, seeded by the parameter's name: neither PyTorch's global
generator nor the order of modules matters. The head starts as the paper's code does; the backbone, which the paper
takes from a pre-trained checkpoint, starts with unit-variance maps (std 1/sqrt(fan-in)).
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rdvla_bench.policies.rdvla.config import HeadConfig, HeadScale
from rdvla_bench.seeding import generator

OPEN_GATE = 0.5  # of a head whose scale is plain; a gate of 0 sees no place before it has learned to
CUT = 3.0  # every truncated normal here ends at 3 standard deviations
EMBEDDING_STD = {
    "latents": 0.5,
    "position_embeddings": 0.02,
    "position_embedding": 0.02,
    "cls_token": 0.02,
    "register_tokens": 0.02,
}


def truncated_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw from N(0, 1) cut at 3 standard deviations, by redrawing what lies outside."""
    values = rng.standard_normal(shape, dtype=np.float32)
    while (outside := np.abs(values) > CUT).any():
        values[outside] = rng.standard_normal(int(outside.sum()), dtype=np.float32)
    return values


def _head_std(name: str, config: HeadConfig, parameter: Tensor, scale: HeadScale) -> float:
    """Return the standard deviation of a head weight: the paper code's, or where ``scale`` is plain PyTorch's own.

    Released: only ``ffn_down`` and ``output_proj`` shrink with depth; the code lists ``o_proj`` too, a name that no
    layer has.
    """
    if name == "action_queries":
        return config.init_std
    if scale == "plain":
        return 1.0 / math.sqrt(3 * parameter.shape[1])
    weight_std = math.sqrt(2.0 / (5.0 * config.width))  # 0.02113 at D = 896
    if "ffn_down" in name or "output_proj" in name:
        return weight_std / math.sqrt(config.mean_recurrence * len(config.core_taps))  # 0.00264
    return weight_std


def _backbone_std(name: str, parameter: Tensor) -> float:
    leaf = name.removesuffix(".weight").rsplit(".", 1)[-1]
    if leaf == "embed_tokens":
        return 1.0
    return EMBEDDING_STD.get(leaf, 1.0 / math.sqrt(math.prod(parameter.shape[1:])))


def _is_constant(name: str, parameter: Tensor) -> bool:
    """Return whether a parameter keeps its constructor's value: norms, layer scales, gates and gammas."""
    leaf = name.rsplit(".", 1)[-1]
    return leaf in {"gate", "gamma_init", "gamma_adapt", "lambda1"} or (parameter.ndim < 2 and leaf != "bias")


@torch.no_grad()
def initialise(model: nn.Module, head: HeadConfig, seed: int, scale: HeadScale = "released") -> None:
    """Overwrite every parameter of a model with children ``backbone``, ``proprio`` and ``head``.

    A head of plain scale learns faster from nothing: its output layers do not shrink, and its gates are open.
    """
    for name, parameter in model.named_parameters():
        if name == "backbone.action_queries.weight" or name.endswith(("bias", "mask_token")):
            parameter.zero_()  # the latents start at zero in the released code
        elif name.endswith(".gate") and scale == "plain":
            parameter.fill_(OPEN_GATE)
        elif not _is_constant(name, parameter):
            is_head = name.startswith("head.")
            std = _head_std(name.removeprefix("head."), head, parameter, scale) if is_head else None
            draws = truncated_normal(generator("rdvla-weights", seed, name), tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(draws * np.float32(std or _backbone_std(name, parameter))))


def digest(model: nn.Module) -> str:
    """Return SHA-256 over every parameter's name, shape and little-endian bytes, sorted by name."""
    sha = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        values = parameter.detach().cpu().contiguous().numpy()
        sha.update(f"{name} {values.shape} {values.dtype.str}\n".encode())
        sha.update(values.data)
    return sha.hexdigest()
