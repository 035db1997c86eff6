"""The head against the paper: its size, its names, its equations."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from rdvla_bench.errors import UsageError  # noqa: E402
from rdvla_bench.policies.rdvla.config import HeadConfig  # noqa: E402
from rdvla_bench.policies.rdvla.exit_rules import FixedDepth, MeanSquaredChange  # noqa: E402
from rdvla_bench.policies.rdvla.head import (  # noqa: E402
    ProprioProjector,
    RecurrentHead,
    RecurrentLayer,
    Tap,
    rotary_table,
    rotate,
)
from rdvla_bench.policies.rdvla.recurrence import iterate_to_exit  # noqa: E402
from rdvla_bench.policies.rdvla.weights import initialise, truncated_normal  # noqa: E402

SMALL = HeadConfig(width=32, heads=4, prelude_taps=(0,), core_taps=(1, 1), coda_taps=(1,))
LATENTS, VISION = 6, 10

LAYER_KEYS = {
    f"{name}.weight"
    for name in (
        *("norm1", "norm2", "norm3", "q_self", "k_self", "v_self", "o_self", "q_cross", "k_latents", "v_latents"),
        *("k_vision", "v_vision", "o_cross", "ffn_gate", "ffn_up", "ffn_down"),
    )
} | {"gate"}


class Untrained(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = RecurrentHead(SMALL)
        initialise(self, SMALL, seed=0)


def small_head() -> RecurrentHead:
    head = Untrained().head
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(0.3)  # at its initial 0 the gate would hide the vision keys from every test
    return head.requires_grad_(requires_grad=False)


def unit(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(truncated_normal(np.random.default_rng(seed), shape))


def conditioning(head: RecurrentHead, batch: int = 3):
    taps = {t: Tap(unit(t, batch, LATENTS, 32), unit(9 + t, batch, VISION, 32)) for t in SMALL.taps}
    return head.condition(taps, unit(5, batch, 1, 32))


def test_head_at_the_papers_size_has_72_280_333_parameters() -> None:
    with torch.device("meta"):
        head, proprio = RecurrentHead(HeadConfig()), ProprioProjector(8, 896)
    layer = sum(p.numel() for p in head.prelude[0].parameters())
    assert layer == 17_664_641
    assert sum(p.numel() for p in head.parameters()) == 72_280_333
    assert sum(p.numel() for p in proprio.parameters()) == 811_776  # a file of its own in the released layout


def test_state_dict_has_the_released_names_and_shapes() -> None:
    with torch.device("meta"):
        state = RecurrentHead(HeadConfig()).state_dict()
    stacks = ("prelude.0", "recurrent.0", "recurrent.1", "coda.0")
    assert set(state) == {f"{stack}.{key}" for stack in stacks for key in LAYER_KEYS} | {
        *("action_queries", "gamma_init", "gamma_adapt", "adapter.weight", "adapter_norm.weight"),
        *("recurrent_norm.weight", "output_norm.weight", "output_proj.weight", "output_proj.bias"),
    }
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes["action_queries"] == (8, 896)
    assert shapes["adapter.weight"] == (896, 1792)
    assert shapes["output_proj.weight"] == (7, 896)
    assert shapes["recurrent.1.ffn_down.weight"] == (896, 3584)
    assert shapes["coda.0.gate"] == shapes["gamma_init"] == (1,)


def test_rotary_positions_mix_interleaved_turns_with_concatenated_angles() -> None:
    cos, sin = rotary_table(8, 4)
    f = [1.0, 1e4**-0.5]
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    got = rotate(x.expand(8, 4), (cos, sin))[3]
    angles = [3 * f[0], 3 * f[1], 3 * f[0], 3 * f[1]]
    turned = [-2.0, 1.0, -4.0, 3.0]
    want = [v * math.cos(a) + t * math.sin(a) for v, t, a in zip([1, 2, 3, 4], turned, angles, strict=True)]
    torch.testing.assert_close(got, torch.tensor(want))


def plain_layer(layer: RecurrentLayer, x: torch.Tensor, tap: Tap, proprio: torch.Tensor) -> torch.Tensor:
    """Say the layer again, one sample and one head at a time, the gate on the logits as the paper has it."""
    heads, width = layer.heads, x.shape[-1] // layer.heads
    rope = rotary_table(len(x), width)

    def attention(q, parts):  # parts: keys, values, factor on the logits
        out = []
        for h in range(heads):
            cut = slice(h * width, (h + 1) * width)
            logits = torch.cat([q[:, cut] @ k[:, cut].T * factor for k, _, factor in parts], dim=1) / width**0.5
            out.append(logits.softmax(1) @ torch.cat([v[:, cut] for _, v, _ in parts]))
        return torch.cat(out, dim=1)

    def turned(y):
        return torch.cat([rotate(part, rope) for part in y.split(width, dim=1)], dim=1)

    n = layer.norm1(x)
    x = x + layer.o_self(attention(turned(layer.q_self(n)), [(turned(layer.k_self(n)), layer.v_self(n), 1.0)]))
    latents = torch.cat([tap.latents, proprio])
    parts = [
        (layer.k_latents(latents), layer.v_latents(latents), 1.0),
        (layer.k_vision(tap.vision), layer.v_vision(tap.vision), torch.tanh(layer.gate)),
    ]
    x = x + layer.o_cross(attention(layer.q_cross(layer.norm2(x)), parts))
    n = layer.norm3(x)
    return x + layer.ffn_down(torch.nn.functional.silu(layer.ffn_gate(n)) * layer.ffn_up(n))


def test_layer_equals_its_plain_restatement() -> None:
    layer = small_head().recurrent[0]
    x, tap, proprio = unit(1, 2, 8, 32), Tap(unit(2, 2, LATENTS, 32), unit(3, 2, VISION, 32)), unit(4, 2, 1, 32)
    got = layer(x, layer.condition(tap, proprio), rotary_table(8, 8))
    for i in range(2):
        want = plain_layer(layer, x[i], Tap(tap.latents[i], tap.vision[i]), proprio[i])
        torch.testing.assert_close(got[i], want, rtol=1e-5, atol=1e-5)


def test_closed_gate_attends_vision_uniformly_instead_of_masking_it() -> None:
    layer = small_head().coda[0]
    layer.gate.zero_()
    view = layer.condition(Tap(unit(2, 1, LATENTS, 32), unit(3, 1, VISION, 32)), unit(4, 1, 1, 32))
    assert view.keys.shape[2] == LATENTS + 1 + VISION
    assert (view.keys[:, :, LATENTS + 1 :] == 0).all()
    assert (view.values[:, :, LATENTS + 1 :] != 0).any()


def test_core_weights_are_shared_by_all_iterations() -> None:
    head = small_head()
    context = conditioning(head)
    s_pre, s = head.encode(context), head.scratchpad(unit(7, 3, 8, 32))
    two = head.iterate(head.iterate(s, s_pre, context), s_pre, context)
    ended = iterate_to_exit(head, context, unit(7, 3, 8, 32), FixedDepth(2))
    np.testing.assert_array_equal(np.stack([e.chunk for e in ended]), head.decode(two, context).numpy())
    assert [(e.depth, e.trace, e.decodes) for e in ended] == [(2, (), 1)] * 3


def test_iterating_brings_scratchpads_of_different_noise_together() -> None:
    head = small_head()
    context = conditioning(head)
    s_pre = head.encode(context)
    a, b = (head.scratchpad(unit(seed, 3, 8, 32)) for seed in (1, 2))
    before = (a - b).norm()
    for _ in range(32):
        a, b = head.iterate(a, s_pre, context), head.iterate(b, s_pre, context)
    assert (a - b).norm() < 0.5 * before


def test_each_sample_exits_at_its_own_depth_with_a_full_trace() -> None:
    head = small_head()
    rule = MeanSquaredChange(delta=1e-4, max_depth=32)
    ended = iterate_to_exit(head, conditioning(head, 16), unit(3, 16, 8, 32), rule)
    assert len({e.depth for e in ended}) > 1
    for e in ended:
        assert len(e.trace) == e.depth - 1
        assert all(value >= rule.delta for value in e.trace[:-1])
        assert e.trace[-1] < rule.delta or e.depth == 32
        assert e.decodes == e.depth  # no coda is run twice for one iteration


def test_minimum_depth_saves_the_codas_before_it() -> None:
    head = small_head()
    rule = MeanSquaredChange(delta=1e6, min_depth=6)
    assert {(e.depth, e.decodes) for e in iterate_to_exit(head, conditioning(head), unit(3, 3, 8, 32), rule)} == {
        (6, 2)
    }


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of tensors alive at once among those made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        import weakref

        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out._base is None:
            size = out.untyped_storage().nbytes()
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(out, self._free, size)
        return out

    def _free(self, size: int) -> None:
        self.live -= size


def test_memory_does_not_grow_with_depth() -> None:
    head = small_head()
    context, noise = conditioning(head), unit(3, 3, 8, 32)
    peaks = []
    for depth in (2, 64):
        with PeakBytes() as memory:
            iterate_to_exit(head, context, noise, MeanSquaredChange(delta=1e-300, max_depth=depth))
        peaks.append(memory.peak)
    assert peaks[0] > 0
    assert peaks[1] == pytest.approx(peaks[0], rel=0.01)


def test_initial_scales_are_the_papers() -> None:
    config = HeadConfig(width=128, heads=4, prelude_taps=(0,), core_taps=(0, 0), coda_taps=(0,))

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = RecurrentHead(config)

    model = Whole()
    initialise(model, config, seed=3)
    weight_std, cut = math.sqrt(2 / (5 * 128)), 0.9866  # the std of a normal cut at 3 is 0.9866
    head = model.head
    assert head.action_queries.std().item() == pytest.approx(0.632 * cut, rel=0.05)
    for name in ("q_self", "o_self", "o_cross", "ffn_up"):
        assert getattr(head.recurrent[0], name).weight.std().item() == pytest.approx(weight_std * cut, rel=0.02)
    assert head.recurrent[0].ffn_down.weight.std().item() == pytest.approx(weight_std / 8 * cut, rel=0.02)
    assert head.output_proj.weight.abs().max().item() <= 3 * weight_std / 8
    assert head.output_proj.bias.abs().max().item() == 0
    assert head.recurrent[0].gate.item() == 0
    assert head.gamma_init.item() == head.gamma_adapt.item() == 1


def test_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(UsageError, match="head width 30 does not split into 4 heads"):
        HeadConfig(width=30, heads=4)
