"""The recurrent head of ``head.py`` in the form that inference runs: the same function, fewer and larger products.

Everything that does not depend on the query is worked out once, from the module's weights as they are then; the
module itself, its names and its gradients are untouched. ``head.py`` is the definition and the tests compare with it.
The identities, with u(x) = x / sqrt(|x|^2 + D eps) along the last axis:

    norms       RMSNorm(x) = sqrt(D) w . u(x), hence  W RMSNorm(x) = (W diag(sqrt(D) w)) u(x)
    maps        [W_q ; W_k ; W_v] x and [W_gate ; W_up] x are one product each
    scale       softmax(q k^T / sqrt(d)): 1 / sqrt(d) goes into W_q
    gate        q . (k tanh g): tanh g goes into W_k of the vision stream
    rotation    scores keep their value when q and k are permuted alike: within each head the even columns stand
                before the odd ones, so that the quarter turn (x0, x1) -> (-x1, x0) swaps two halves
    injection   gamma W [S ; S_pre] = (gamma W_left) S + (gamma W_right) S_pre, the second term once a query
    residual    x + W y is one product that accumulates

Matrices are held as (inputs, outputs) and keys as (d, N): the layouts that small matrix products like best on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from rdvla_bench.policies.rdvla.head import (
    RMS_EPS,
    Conditioning,
    KeysValues,
    RecurrentHead,
    RecurrentLayer,
    RMSNorm,
    Tap,
)


def unit(x: Tensor) -> Tensor:
    """Return u(x) = x / sqrt(|x|^2 + D eps)."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x * length.square_().add_(x.shape[-1] * RMS_EPS).rsqrt_()


def softmax_of_few(scores: Tensor) -> Tensor:
    """Return softmax along a short last axis, where PyTorch's own takes five times as long on a CPU (8 numbers)."""
    powers = (scores - scores.amax(dim=-1, keepdim=True)).exp_()
    return powers.div_(powers.sum(dim=-1, keepdim=True))


def _gain(norm: RMSNorm) -> Tensor:
    """Return sqrt(D) w: what is left of an RMSNorm behind ``unit``."""
    return norm.weight * math.sqrt(len(norm.weight))


def _matrix(*maps: Tensor) -> Tensor:
    """Return maps of one input, each (out, in), as one contiguous (in, sum of outs)."""
    return torch.cat(maps).t().contiguous()


class PreparedLayer:
    """One layer; its residual stream is (B K, D)."""

    def __init__(self, layer: RecurrentLayer, rope: tuple[Tensor, Tensor]) -> None:
        """Fold norms and scale into the maps behind them, and put even columns of q and k before odd ones."""
        self.heads = heads = layer.heads
        first, second, third = (_gain(norm) for norm in (layer.norm1, layer.norm2, layer.norm3))

        def even_odd(per_head: Tensor) -> Tensor:
            """Sort axis -2, the d of one head, from (0, 1, 2, ...) to (0, 2, ..., 1, 3, ...)."""
            return torch.cat([per_head[..., ::2, :], per_head[..., 1::2, :]], dim=-2)

        q, k = (even_odd(p.weight.unflatten(0, (heads, -1))).flatten(0, 1) for p in (layer.q_self, layer.k_self))
        self.qkv_self = _matrix(q * layer.scale * first, k * first, layer.v_self.weight * first)
        cos, sin = (even_odd(table.t()).t() for table in rope)  # (K, d), [even ; odd]
        self.cos = torch.stack([cos, cos, torch.ones_like(cos)])[:, None, None]  # (q k v, 1, 1, K, d)
        even_sin, odd_sin = sin.chunk(2, dim=-1)
        self.even_sin, self.odd_sin = -even_sin.contiguous(), odd_sin.contiguous()  # (K, d/2)
        self.o_self = _matrix(layer.o_self.weight)

        self.q_cross = _matrix(layer.q_cross.weight * layer.scale * second)
        self.o_cross = _matrix(layer.o_cross.weight)

        self.gate_up = _matrix(layer.ffn_gate.weight * third, layer.ffn_up.weight * third)
        self.down = _matrix(layer.ffn_down.weight)

    def __call__(self, x: Tensor, context: KeysValues) -> Tensor:
        """Map (B K, D) to (B K, D); ``context`` holds keys as (B, h, d, N)."""
        batch, heads, width, _ = context.keys.shape
        keys, values = context.keys.flatten(0, 1), context.values.flatten(0, 1)  # (B h, d, N), (B h, N, d)

        qkv = (unit(x) @ self.qkv_self).view(batch, -1, 3, heads, width).permute(2, 0, 3, 1, 4)  # (3, B, h, K, d)
        turned = torch.mul(qkv, self.cos, out=x.new_empty(qkv.shape))  # q cos, k cos, v
        half = width // 2
        turned[:2, ..., :half].addcmul_(qkv[:2, ..., half:], self.even_sin)  # x0 cos - x1 sin
        turned[:2, ..., half:].addcmul_(qkv[:2, ..., :half], self.odd_sin)  # x1 cos + x0 sin
        q, k, v = turned.flatten(1, 2)
        x = torch.addmm(x, self._join(softmax_of_few(torch.bmm(q, k.transpose(1, 2))), v), self.o_self)

        q = (unit(x) @ self.q_cross).view(batch, -1, heads, width).transpose(1, 2).reshape(batch * heads, -1, width)
        x.addmm_(self._join(torch.softmax(torch.bmm(q, keys), dim=-1), values), self.o_cross)  # one softmax over all N

        gate, up = (unit(x) @ self.gate_up).chunk(2, dim=-1)
        return x.addmm_(F.silu(gate, inplace=True).mul_(up), self.down)

    def _join(self, weights: Tensor, values: Tensor) -> Tensor:
        """Return the heads' weighted values, (B h, K, N) by (B h, N, d), as (B K, D)."""
        mixed = torch.bmm(weights, values)
        return mixed.unflatten(0, (-1, self.heads)).transpose(1, 2).reshape(-1, self.heads * mixed.shape[-1])


class _View:
    """The maps by which one layer reads its tap."""

    def __init__(self, layer: RecurrentLayer) -> None:
        self.heads = layer.heads
        self.k_latents = layer.k_latents.weight.detach()  # (D, D) as (out, in)
        self.k_vision = layer.k_vision.weight * torch.tanh(layer.gate)
        self.v_latents, self.v_vision = _matrix(layer.v_latents.weight), _matrix(layer.v_vision.weight)

    def __call__(self, tap: Tap, proprio: Tensor) -> KeysValues:
        """Return keys (B, h, d, N) and values (B, h, N, d)."""
        latents = torch.cat([tap.latents, proprio], dim=1)  # (B, L+1, D)
        streams = ((latents, self.k_latents, self.v_latents), (tap.vision, self.k_vision, self.v_vision))
        keys = torch.cat([torch.bmm(w.expand(len(x), -1, -1), x.transpose(1, 2)) for x, w, _ in streams], dim=2)
        values = torch.cat([x @ w for x, _, w in streams], dim=1)  # (B, N, D)
        values = values.unflatten(2, (self.heads, -1)).transpose(1, 2).contiguous()
        return KeysValues(keys.unflatten(1, (self.heads, -1)), values)


class PreparedHead:
    """``RecurrentHead`` for inference: takes and gives what that takes and gives, within rounding.

    Two things in between look different and are only handed back to this class: keys are (B, h, d, N), and ``encode``
    returns what S_pre adds to every injection. A copy of the head's weights; later changes to the module are not seen.
    """

    @torch.no_grad()
    def __init__(self, head: RecurrentHead) -> None:
        """Work out everything that no query changes."""
        self.config = config = head.config
        self.action_queries = head.action_queries.detach()
        rope = (head.rope_cos, head.rope_sin)
        taps = (*config.prelude_taps, *config.core_taps, *config.coda_taps)
        modules = [cast("RecurrentLayer", x) for stack in (head.prelude, head.recurrent, head.coda) for x in stack]
        layers = [PreparedLayer(module, rope) for module in modules]
        n_prelude, n_core = len(config.prelude_taps), len(config.core_taps)
        self._prelude = layers[:n_prelude]
        self._core = layers[n_prelude : n_prelude + n_core]
        self._coda = layers[n_prelude + n_core :]
        self._views = [(tap, _View(module)) for tap, module in zip(taps, modules, strict=True)]

        left, right = (head.gamma_adapt * head.adapter.weight).chunk(2, dim=1)
        self._inject_state, self._inject_prelude = _matrix(left), _matrix(right)
        self._adapter_gain, self._core_gain = _gain(head.adapter_norm), _gain(head.recurrent_norm)
        self._output = _matrix(head.output_proj.weight * _gain(head.output_norm))
        self._output_bias = head.output_proj.bias.detach()
        self._init_scale = float(head.gamma_init) * config.init_std if config.start == "noise" else 0.0

    def condition(self, taps: Mapping[int, Tap], proprio: Tensor) -> Conditioning:
        """Return every layer's keys and values: ``taps`` by language model layer, ``proprio`` (B, 1, D)."""
        views = tuple(view(taps[tap], proprio) for tap, view in self._views)
        n_prelude, n_core = len(self._prelude), len(self._core)
        return Conditioning(views[:n_prelude], views[n_prelude : n_prelude + n_core], views[n_prelude + n_core :])

    def encode(self, conditioning: Conditioning) -> Tensor:
        """Return gamma_adapt W_right S_pre, (B, K, D), with S_pre = Prelude(queries)."""
        batch = conditioning.core[0].keys.shape[0]
        queries = self.action_queries.repeat(batch, 1)
        s_pre = self._run(self._prelude, queries, conditioning.prelude)
        return (s_pre @ self._inject_prelude).unflatten(0, (batch, -1))

    def scratchpad(self, unit_noise: Tensor) -> Tensor:
        """Return S_0 = gamma_init sigma_init * unit_noise."""
        return unit_noise * self._init_scale

    def iterate(self, scratchpad: Tensor, injected: Tensor, conditioning: Conditioning) -> Tensor:
        """Return S_k of S_{k-1} and of what ``encode`` returned, all (B, K, D)."""
        # gamma_adapt W_adapt [S_{k-1} ; S_pre]
        x = torch.addmm(injected.flatten(0, 1), scratchpad.flatten(0, 1), self._inject_state)
        x = unit(x).mul_(self._adapter_gain)
        x = unit(self._run(self._core, x, conditioning.core)).mul_(self._core_gain)
        return x.view(scratchpad.shape)

    def decode(self, scratchpad: Tensor, conditioning: Conditioning) -> Tensor:
        """Return a_k, (B, K, A), normalised actions; not clipped."""
        x = self._run(self._coda, scratchpad.flatten(0, 1), conditioning.coda)
        return torch.addmm(self._output_bias, unit(x), self._output).unflatten(0, scratchpad.shape[:2])

    @staticmethod
    def _run(layers: list[PreparedLayer], x: Tensor, context: tuple[KeysValues, ...]) -> Tensor:
        for layer, view in zip(layers, context, strict=True):
            x = layer(x, view)
        return x
