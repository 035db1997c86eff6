"""Backbone, proprio projector and head as one module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rdvla_bench.policies.rdvla.backbone import Backbone
from rdvla_bench.policies.rdvla.config import HeadScale, RdvlaConfig
from rdvla_bench.policies.rdvla.head import Conditioning, ProprioProjector, RecurrentHead
from rdvla_bench.policies.rdvla.weights import initialise


class RdvlaModel(nn.Module):
    """The whole network. ``condition`` runs once a query; the head's methods do the rest."""

    def __init__(self, config: RdvlaConfig) -> None:
        """Build every part; see ``untrained`` for weights that are the same everywhere."""
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.backbone, config.head.taps)
        self.proprio = ProprioProjector(config.head.proprio, config.head.width)
        self.head = RecurrentHead(config.head)

    def condition(self, pixels: Tensor, texts: Sequence[Sequence[int]], proprio: Tensor) -> Conditioning:
        """Return the head's keys and values of (B, cameras, 3, H, W) pixels, prompt tokens and (B, P) proprio."""
        token = self.proprio(proprio)
        return self.head.condition(self.backbone(pixels, texts, token), token)


def untrained(config: RdvlaConfig, seed: int, scale: HeadScale = "released") -> RdvlaModel:
    """Build the model with initial weights that are a function of the arguments alone."""
    with torch.random.fork_rng(devices=[]):  # transformers' constructors draw from the global generator
        model = RdvlaModel(config)
    initialise(model, config.head, seed, scale)
    return model.eval().requires_grad_(requires_grad=False)


class _Weightless(TorchFunctionMode):
    """Give every tensor that a constructor fills later no memory; tables, which start from ``arange``, keep theirs."""

    _FILLED_LATER = frozenset({torch.empty, torch.zeros, torch.ones, torch.randn})

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call ``func``, on the meta device if it makes a weight."""
        device = {"device": "meta"} if func in self._FILLED_LATER else {}
        return func(*args, **{**(kwargs or {}), **device})


def with_weights(config: RdvlaConfig, state: Mapping[str, Tensor]) -> RdvlaModel:
    """Build the model around ``state``, which holds every parameter; nothing is drawn or allocated beside it."""
    with _Weightless():
        model = RdvlaModel(config)
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(requires_grad=False)
