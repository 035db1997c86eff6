"""The two ways of answering RD-VLA queries that ``bench model`` compares, on the same weights.

The published loop is restated here from its description: one query at a time; every block of towers and language
model run, those behind the last one read too; the keys and values of the conditioning
made anew in every iteration; latent and vision logits made apart, the gate on the latter; the coda run after every
iteration, and once more on the final scratchpad after the loop has ended. One line differs: the first scratchpad is
handed in, where the published one comes from the global generator, so that there is something to compare at all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rdvla_bench.policies import rdvla
from rdvla_bench.policies.rdvla.backbone import REGISTERS, Backbone, VisionTowers
from rdvla_bench.policies.rdvla.config import HeadConfig, named_config
from rdvla_bench.policies.rdvla.convnet import Seen
from rdvla_bench.policies.rdvla.engine import DepthEngine, Inputs, Q
from rdvla_bench.policies.rdvla.exit_rules import ExitRule, FixedDepth, MeanSquaredChange
from rdvla_bench.policies.rdvla.head import RecurrentHead, RecurrentLayer, Tap, rotate
from rdvla_bench.policies.rdvla.images import HALVES, IMAGENET, normalise
from rdvla_bench.policies.rdvla.policy import RdvlaPolicy, one_thread
from rdvla_bench.policies.rdvla.prepared import PreparedHead
from rdvla_bench.policies.rdvla.shipped_weights import UNTRAINED
from rdvla_bench.policies.rdvla.weights import initialise, truncated_normal
from rdvla_bench.seeding import generator
from rdvla_bench.types import Observation

Chunk = np.ndarray
Stop = tuple[int, Chunk]  # depth and the chunk, (K, A) normalised or in the env's convention

PAPER_DEPTH = 7.9
"""Mean depth of adaptive queries at delta 5e-4 that the drawn head is set to."""


def published_read(policy: RdvlaPolicy, obs: Observation) -> Inputs:
    """Return what the head reads of one query, all hidden states of all blocks having been made."""
    query, backbone = policy.prepare(obs), policy.model.backbone
    token = policy.model.proprio(torch.from_numpy(query.proprio)[None].to(policy.device))
    seen = _published_sight(backbone, query.pixels.to(policy.device), query.text, token)
    patches = backbone.projector(seen.patches[0])
    words = backbone.llm.embed_tokens(torch.tensor(query.text, device=policy.device))
    sequence = torch.cat([words[:1], patches, words[1:], seen.latents[0]])[None]
    states = backbone.llm(inputs_embeds=sequence, output_hidden_states=True).hidden_states
    n_vision, start = len(patches), len(patches) + len(query.text) - 1
    latents = slice(start, start + backbone.config.latents)
    taps = {tap: Tap(states[tap][:, latents], states[tap][:, :n_vision]) for tap in backbone.taps}
    return Inputs(taps, token)


def _published_sight(backbone: Backbone, pixels: Tensor, text: Sequence[int], token: Tensor) -> Seen:
    """Return what the language model is given of (cameras, 3, H, W) pixels; the published code has no convnet."""
    towers = backbone.vision
    if not isinstance(towers, VisionTowers):
        return backbone.see(pixels[None], [text], token)
    dino = towers.dino(normalise(pixels, IMAGENET), output_hidden_states=True).hidden_states[-2][:, 1 + REGISTERS :]
    siglip = towers.siglip(normalise(pixels, HALVES), output_hidden_states=True).hidden_states[-2]
    return Seen(torch.cat([dino, siglip], dim=-1).flatten(0, 1)[None], backbone.action_queries.weight[None])


def published_loop(head: RecurrentHead, inputs: Inputs, unit_noise: Tensor, rule: ExitRule) -> Stop:
    """Answer one query, ``inputs`` of batch 1 and ``unit_noise`` (1, K, D), as the released code does."""
    config = head.config

    def run(layers: Iterable[object], taps: Sequence[int], x: Tensor) -> Tensor:
        for layer, tap in zip(layers, taps, strict=True):
            x = _layer(cast("RecurrentLayer", layer), x, inputs.taps[tap], inputs.proprio, head)
        return x

    def decode(scratchpad: Tensor) -> Tensor:
        x = run(head.coda, config.coda_taps, scratchpad)
        return cast("Tensor", head.output_proj(head.output_norm(x)))

    s_pre = run(head.prelude, config.prelude_taps, head.action_queries[None])
    scratchpad = head.scratchpad(unit_noise)
    previous: Chunk | None = None
    depth = 0
    while depth < rule.max_depth:
        depth += 1
        x = head.adapter_norm(head.gamma_adapt * head.adapter(torch.cat([scratchpad, s_pre], dim=-1)))
        scratchpad = head.recurrent_norm(run(head.recurrent, config.core_taps, x))
        current = decode(scratchpad).float().cpu().numpy()
        if previous is not None and rule.reads(depth) and rule.stops(float(rule.value(previous, current)[0])):
            break
        previous = current
    return depth, decode(scratchpad).float().cpu().numpy()[0]


def _layer(layer: RecurrentLayer, x: Tensor, tap: Tap, proprio: Tensor, head: RecurrentHead) -> Tensor:
    rope = (head.rope_cos, head.rope_sin)

    def split(y: Tensor) -> Tensor:
        return y.reshape(*y.shape[:2], layer.heads, -1).transpose(1, 2)

    def join(y: Tensor) -> Tensor:
        return y.transpose(1, 2).flatten(-2)

    n = layer.norm1(x)
    q, k, v = rotate(split(layer.q_self(n)), rope), rotate(split(layer.k_self(n)), rope), split(layer.v_self(n))
    x = x + layer.o_self(join(torch.softmax(q @ k.transpose(-2, -1) * layer.scale, dim=-1) @ v))
    q = split(layer.q_cross(layer.norm2(x)))
    latents = torch.cat([tap.latents, proprio], dim=1)
    logits = torch.cat(
        [
            q @ split(layer.k_latents(latents)).transpose(-2, -1),
            q @ split(layer.k_vision(tap.vision)).transpose(-2, -1) * torch.tanh(layer.gate),
        ],
        dim=-1,
    )
    values = torch.cat([split(layer.v_latents(latents)), split(layer.v_vision(tap.vision))], dim=2)
    x = x + layer.o_cross(join(torch.softmax(logits * layer.scale, dim=-1) @ values))
    n = layer.norm3(x)
    down: Tensor = layer.ffn_down(F.silu(layer.ffn_gate(n)) * layer.ffn_up(n))
    return x + down


@dataclass(frozen=True, eq=False)
class Case:
    """One set of queries and its two ways; each returns one ``Stop`` a query."""

    model: str
    part: str  # "query" or "head"
    published: Callable[[], list[Stop]]
    ours: Callable[[int], list[Stop]]  # of the number of slots


def observations(n: int, seed: int) -> list[Observation]:
    """Return ``n`` queries of coarse random pictures, 256 pixels a side."""
    made: list[Observation] = []
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        images = {
            camera: np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((32, 32, 1))).astype(np.uint8)
            for camera in ("agentview", "wrist")
        }
        proprio = rng.normal(0, 0.5, 8).astype(np.float32)
        made.append({"images": images, "proprio": proprio, "instruction": f"put object {i % 7} into the basket"})
    return made


def noise(config: HeadConfig, n: int, seed: int, device: str) -> list[Tensor]:
    """Return the scratchpads' unit noise, each (K, D)."""
    shape = (config.chunk, config.width)
    return [torch.from_numpy(truncated_normal(generator("query", seed, i), shape)).to(device) for i in range(n)]


def query_case(model: str, n: int, seed: int, device: str) -> tuple[Case, Case]:
    """Return whole queries of a model, and their heads alone."""
    policy = cast(
        "RdvlaPolicy", rdvla.adaptive(checkpoint=UNTRAINED, config=model, device=cast("rdvla.Device", device))
    )
    head, rule, asked = policy.model.head, policy.exit_rule, observations(n, seed)
    start = noise(head.config, n, seed, device)

    def published() -> list[Stop]:
        return [
            published_loop(head, published_read(policy, obs), s[None], rule)
            for obs, s in zip(asked, start, strict=True)
        ]

    def ours(slots: int) -> list[Stop]:
        engine = DepthEngine(policy.head, rule, policy.read, slots=slots)
        return _stops(engine, ((policy.prepare(obs), s) for obs, s in zip(asked, start, strict=True)))

    with torch.inference_mode(), one_thread():
        inputs = [policy.read([policy.prepare(obs)]) for obs in asked]
    return Case(model, "query", published, ours), head_case(model, head, inputs, start, rule)


def head_case(
    model: str, head: RecurrentHead, inputs: Sequence[Inputs], start: Sequence[Tensor], rule: ExitRule
) -> Case:
    """Return a head alone, whose inputs are ready."""

    def published() -> list[Stop]:
        return [published_loop(head, given, s[None], rule) for given, s in zip(inputs, start, strict=True)]

    prepared = PreparedHead(head)

    def ours(slots: int) -> list[Stop]:
        return _stops(DepthEngine(prepared, rule, _together, slots=slots), zip(inputs, start, strict=True))

    return Case(model, "head", published, ours)


def _together(inputs: Sequence[Inputs]) -> Inputs:
    taps = {
        tap: Tap(torch.cat([i.taps[tap].latents for i in inputs]), torch.cat([i.taps[tap].vision for i in inputs]))
        for tap in inputs[0].taps
    }
    return Inputs(taps, torch.cat([i.proprio for i in inputs]))


def _stops(engine: DepthEngine[Q], asked: Iterable[tuple[Q, Tensor]]) -> list[Stop]:
    return [(answer.exit.depth, answer.exit.chunk) for answer in engine.run(asked)]


class _Head(torch.nn.Module):
    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.head = RecurrentHead(config)


def drawn_head_case(model: str, n: int, seed: int, device: str) -> Case:
    """Return the head of ``model`` with drawn weights and conditioning, delta set for a mean depth of 7.9."""
    config = named_config(model)
    holder = _Head(config.head)
    initialise(holder, config.head, seed)
    head = holder.head.eval().requires_grad_(requires_grad=False).to(device)
    n_vision, n_latents, width = config.backbone.vision_tokens, config.backbone.latents, config.head.width

    def draw(name: str, i: int, tokens: int) -> Tensor:
        values = generator("bench-model", name, seed, i).standard_normal((1, tokens, width), dtype=np.float32)
        return torch.from_numpy(values).to(device)

    inputs = [
        Inputs(
            {tap: Tap(draw(f"l{tap}", i, n_latents), draw(f"v{tap}", i, n_vision)) for tap in config.head.taps},
            draw("proprio", i, 1),
        )
        for i in range(n)
    ]
    start = noise(config.head, n, seed, device)
    return head_case(model, head, inputs, start, _calibrated(head, inputs, start))


def _calibrated(head: RecurrentHead, inputs: Sequence[Inputs], start: Sequence[Tensor]) -> ExitRule:
    """Return the rule whose delta makes these queries' mean depth the paper's, or as near as it comes."""
    never = MeanSquaredChange(delta=1e-300)
    with one_thread():
        engine = DepthEngine(PreparedHead(head), never, _together, slots=min(len(start), 32))
        answers = engine.run(zip(inputs, start, strict=True))
    traces = np.array([answer.exit.trace for answer in answers])  # (n, max_depth - 1), the first one at depth 2

    def mean_depth(delta: float) -> float:
        below = traces < delta
        return float(np.where(below.any(axis=1), below.argmax(axis=1) + 2, never.max_depth).mean())

    middles = np.sqrt(np.unique(traces)[1:] * np.unique(traces)[:-1])  # between two values: no query sits on delta
    return MeanSquaredChange(delta=float(min(middles, key=lambda delta: abs(mean_depth(delta) - PAPER_DEPTH))))


@dataclass(frozen=True)
class Clock:
    """What seconds mean, and how many threads PyTorch gets for them."""

    name: str
    threads: int
    read: Callable[[], float]


def clocks(device: str, *, wall: bool) -> list[Clock]:
    """Return the clocks to measure by: CPU seconds of one thread, with ``wall`` wall seconds of all cores too."""
    if device == "cuda":
        return [Clock("wall, GPU", 1, _finished_gpu)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    every = [Clock(f"wall, {cores} threads", cores, time.perf_counter)] if wall else []
    return [Clock("CPU, 1 thread", 1, time.process_time), *every]


def timed(call: Callable[[], list[Stop]], clock: Clock) -> tuple[float, list[Stop]]:
    """Return seconds and result."""
    before = torch.get_num_threads()
    torch.set_num_threads(clock.threads)
    try:
        with torch.inference_mode():
            begun = clock.read()
            result = call()
            return clock.read() - begun, result
    finally:
        torch.set_num_threads(before)


def _finished_gpu() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class Latency:
    """One query alone, at a fixed depth; medians."""

    depth: int
    backbone_ms: float
    head_ms: float
    peak_mib: float | None  # allocated on the GPU; None on a CPU


def latencies(model: str, depths: Iterable[int], repeats: int, device: str) -> list[Latency]:
    """Measure backbone and head by depth, with the policy's own clocks."""
    place = cast("rdvla.Device", device)
    policy = cast("RdvlaPolicy", rdvla.fixed(checkpoint=UNTRAINED, config=model, device=place))
    obs = observations(1, seed=0)[0]
    rows = []
    for depth in depths:
        policy.exit_rule = FixedDepth(depth)
        policy.act(obs, None, generator("query", 0))
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        costs = [policy.act(obs, None, generator("query", i))[0].compute for i in range(repeats)]
        backbone, head = (1e3 * np.median([getattr(c, part) for c in costs]) for part in ("backbone_s", "head_s"))
        peak = costs[-1].peak_memory_bytes
        rows.append(Latency(depth, float(backbone), float(head), None if peak is None else peak / 2**20))
    return rows
