"""The recurrent-depth action head of RD-VLA (arXiv 2602.07845, section III), as released, from top to bottom.

    S_pre = Prelude(queries; h^(l1))                                   encode
    S_0   ~ TruncNormal(0, (gamma_init sigma_init)^2)                  scratchpad
    x_k   = RMSNorm(gamma_adapt W_adapt [S_{k-1} ; S_pre])             iterate
    S_k   = RMSNorm(Core(x_k; h^(l2)))                                 iterate
    a_k   = W_out RMSNorm(Coda(S_k; h^(l2))) + b                       decode

Shape letters: B batch, K chunk, A action, D width, h heads, d = D/h, L latents, V vision tokens, N = L + 1 + V.

Non-obvious, each needed to load the released weights:

* Proprioception is one extra key and value of the latent stream in every layer, the prelude's too.
* tanh(gate) scales vision *logits*. At gate = 0 they are all 0, not minus infinity: vision is attended uniformly.
* Rotary positions (self-attention only) turn interleaved pairs by angles laid out for concatenated halves.
* The conditioning does not change over iterations, so its keys and values are computed once a query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rdvla_bench.policies.rdvla.config import HeadConfig

RMS_EPS = 1e-6
ROPE_BASE = 1e4


class Tap(NamedTuple):
    """What the head reads of one language model layer."""

    latents: Tensor  # (B, L, D)
    vision: Tensor  # (B, V, D)


class KeysValues(NamedTuple):
    """One layer's view of the conditioning, tanh(gate) folded into the vision keys.

    Contiguous: a matrix product over (B, h) would copy what is not, in every iteration.
    """

    keys: Tensor  # (B, h, N, d)
    values: Tensor  # (B, h, N, d)


class Conditioning(NamedTuple):
    """Everything the head needs of a query besides the scratchpad."""

    prelude: tuple[KeysValues, ...]
    core: tuple[KeysValues, ...]
    coda: tuple[KeysValues, ...]

    def select(self, rows: Tensor) -> Conditioning:
        """Return the conditioning of the samples in ``rows``, a (B',) tensor of indices, for core and coda."""
        core, coda = (
            tuple(KeysValues(kv.keys[rows], kv.values[rows]) for kv in stack) for stack in (self.core, self.coda)
        )
        return Conditioning((), core, coda)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, in float32."""

    def __init__(self, width: int) -> None:
        """Start from weight 1."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return F.rms_norm(x, self.weight.shape, self.weight, RMS_EPS)  # sums in float32, whatever x is


class ProprioProjector(nn.Module):
    """Linear, GELU, Linear: the robot's own state as one token of the latent stream (paper size: 811,776 values)."""

    def __init__(self, proprio: int, width: int) -> None:
        """Build the two layers."""
        super().__init__()
        self.fc1 = nn.Linear(proprio, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, proprio: Tensor) -> Tensor:
        """Map (B, P) to one token (B, 1, D)."""
        token: Tensor = self.fc2(F.gelu(self.fc1(proprio)))
        return token.unsqueeze(1)


class RecurrentLayer(nn.Module):
    """Self-attention over the K queries, gated cross-attention over the conditioning, SwiGLU; pre-norm, residual."""

    def __init__(self, width: int, heads: int) -> None:
        """Build the layer with the released names."""
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5

        self.norm1 = RMSNorm(width)
        self.q_self = nn.Linear(width, width, bias=False)
        self.k_self = nn.Linear(width, width, bias=False)
        self.v_self = nn.Linear(width, width, bias=False)
        self.o_self = nn.Linear(width, width, bias=False)

        self.norm2 = RMSNorm(width)
        self.q_cross = nn.Linear(width, width, bias=False)
        self.k_latents = nn.Linear(width, width, bias=False)
        self.v_latents = nn.Linear(width, width, bias=False)
        self.k_vision = nn.Linear(width, width, bias=False)
        self.v_vision = nn.Linear(width, width, bias=False)
        self.o_cross = nn.Linear(width, width, bias=False)
        self.gate = nn.Parameter(torch.zeros(1))

        self.norm3 = RMSNorm(width)
        self.ffn_gate = nn.Linear(width, 4 * width, bias=False)
        self.ffn_up = nn.Linear(width, 4 * width, bias=False)
        self.ffn_down = nn.Linear(4 * width, width, bias=False)

    def condition(self, tap: Tap, proprio: Tensor) -> KeysValues:
        """Project latents with the proprio token, and vision, to this layer's keys and values."""
        latents = torch.cat([tap.latents, proprio], dim=1)  # (B, L+1, D)
        gated = self.k_vision(tap.vision) * torch.tanh(self.gate)  # q.(k tanh g) = (q.k) tanh g
        keys = self._split(self.k_latents(latents)), self._split(gated)  # (B, h, L+1, d), (B, h, V, d)
        values = self._split(self.v_latents(latents)), self._split(self.v_vision(tap.vision))
        return KeysValues(torch.cat(keys, dim=2), torch.cat(values, dim=2))

    def forward(self, x: Tensor, context: KeysValues, rope: tuple[Tensor, Tensor]) -> Tensor:
        """Map (B, K, D) to (B, K, D)."""
        n = self.norm1(x)
        q, k, v = (self._split(project(n)) for project in (self.q_self, self.k_self, self.v_self))
        x = x + self.o_self(self._attend(rotate(q, rope), rotate(k, rope), v))

        q = self._split(self.q_cross(self.norm2(x)))
        x = x + self.o_cross(self._attend(q, context.keys, context.values))  # one softmax over all N

        n = self.norm3(x)
        down: Tensor = self.ffn_down(F.silu(self.ffn_gate(n)) * self.ffn_up(n))
        return x + down

    def _split(self, x: Tensor) -> Tensor:
        """Return (B, T, D) as (B, h, T, d)."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return softmax(q k^T / sqrt(d)) v as (B, K, D); no mask."""
        weights = torch.softmax(q * self.scale @ k.transpose(-2, -1), dim=-1)  # (B, h, K, N)
        return (weights @ v).transpose(1, 2).flatten(-2)


def rotary_table(length: int, width: int) -> tuple[Tensor, Tensor]:
    """Return cosine and sine, each (length, width): angles concatenated as [freqs, freqs]."""
    frequencies = ROPE_BASE ** -(torch.arange(0, width, 2, dtype=torch.float32) / width)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Turn interleaved pairs (x0, x1) -> (-x1, x0); with ``rotary_table``'s layout no pure rotation, as released."""
    cos, sin = rope
    quarter_turn = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    return x * cos + quarter_turn * sin


class RecurrentHead(nn.Module):
    """Prelude once, core as often as the exit rule wants, coda whenever a chunk is to be read.

    State-dict names are those of the released head without their leading ``model.``.
    """

    rope_cos: Tensor
    rope_sin: Tensor

    def __init__(self, config: HeadConfig) -> None:
        """Build the head; ``policies.rdvla.weights`` gives it its initial values."""
        super().__init__()
        self.config = config
        width = config.width

        def layers(taps: tuple[int, ...]) -> nn.ModuleList:
            return nn.ModuleList(RecurrentLayer(width, config.heads) for _ in taps)

        self.action_queries = nn.Parameter(torch.zeros(config.chunk, width))  # one query a chunk step
        self.prelude = layers(config.prelude_taps)
        self.adapter = nn.Linear(2 * width, width, bias=False)  # W_adapt
        self.adapter_norm = RMSNorm(width)
        self.gamma_adapt = nn.Parameter(torch.ones(1))
        self.recurrent = layers(config.core_taps)  # the core: one set of weights for all iterations
        self.recurrent_norm = RMSNorm(width)
        self.coda = layers(config.coda_taps)
        self.output_norm = RMSNorm(width)
        self.output_proj = nn.Linear(width, config.action)
        self.gamma_init = nn.Parameter(torch.ones(1))  # no gradient reaches it in the released code; stays 1

        cos, sin = rotary_table(config.chunk, width // config.heads)
        self.register_buffer("rope_cos", cos, persistent=False)  # (K, d)
        self.register_buffer("rope_sin", sin, persistent=False)

    def condition(self, taps: Mapping[int, Tap], proprio: Tensor) -> Conditioning:
        """Return every layer's keys and values: ``taps`` by language model layer, ``proprio`` (B, 1, D)."""

        def views(layers: nn.ModuleList, wanted: tuple[int, ...]) -> tuple[KeysValues, ...]:
            pairs = zip(cast("Iterable[RecurrentLayer]", layers), wanted, strict=True)
            return tuple(layer.condition(taps[t], proprio) for layer, t in pairs)

        c = self.config
        return Conditioning(
            views(self.prelude, c.prelude_taps), views(self.recurrent, c.core_taps), views(self.coda, c.coda_taps)
        )

    def encode(self, conditioning: Conditioning) -> Tensor:
        """Return S_pre = Prelude(queries), (B, K, D); the queries themselves in a head without a prelude."""
        batch = conditioning.core[0].keys.shape[0]
        queries = self.action_queries.expand(batch, -1, -1)
        return self._run(self.prelude, queries, conditioning.prelude)

    def scratchpad(self, unit: Tensor) -> Tensor:
        """Return S_0 = gamma_init sigma_init * unit, with ``unit`` (B, K, D) ~ TruncNormal(0, 1) cut at 3; or zeros."""
        return unit * (self.gamma_init * (self.config.init_std if self.config.start == "noise" else 0.0))

    def iterate(self, scratchpad: Tensor, s_pre: Tensor, conditioning: Conditioning) -> Tensor:
        """Return S_k of S_{k-1}, both (B, K, D)."""
        injected = self.adapter(torch.cat([scratchpad, s_pre], dim=-1))  # W_adapt [S_{k-1} ; S_pre]
        x = self.adapter_norm(self.gamma_adapt * injected)
        refined: Tensor = self.recurrent_norm(self._run(self.recurrent, x, conditioning.core))
        return refined

    def decode(self, scratchpad: Tensor, conditioning: Conditioning) -> Tensor:
        """Return a_k, (B, K, A), normalised actions; not clipped."""
        x = self._run(self.coda, scratchpad, conditioning.coda)
        chunk: Tensor = self.output_proj(self.output_norm(x))
        return chunk

    def _run(self, layers: nn.ModuleList, x: Tensor, context: tuple[KeysValues, ...]) -> Tensor:
        rope = (self.rope_cos, self.rope_sin)
        for layer, view in zip(layers, context, strict=True):
            x = layer(x, view, rope)
        return x
