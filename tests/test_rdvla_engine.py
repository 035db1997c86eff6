"""The engine: a sample's answer is its own, whoever computes beside it, and costs what its own depth costs."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import cast

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from rdvla_bench.commands.bench_model_loops import (  # noqa: E402
    PAPER_DEPTH,
    drawn_head_case,
    published_loop,
    published_read,
)
from rdvla_bench.errors import PolicyFault  # noqa: E402
from rdvla_bench.policies import rdvla  # noqa: E402
from rdvla_bench.policies.rdvla.config import HeadConfig  # noqa: E402
from rdvla_bench.policies.rdvla.engine import READ_TOGETHER, Answer, DepthEngine, Inputs  # noqa: E402
from rdvla_bench.policies.rdvla.exit_rules import ExitRule, FixedDepth, MeanSquaredChange  # noqa: E402
from rdvla_bench.policies.rdvla.head import RecurrentHead, Tap  # noqa: E402
from rdvla_bench.policies.rdvla.policy import RdvlaPolicy  # noqa: E402
from rdvla_bench.policies.rdvla.recurrence import iterate_to_exit  # noqa: E402
from rdvla_bench.policies.rdvla.weights import initialise, truncated_normal  # noqa: E402
from rdvla_bench.seeding import generator  # noqa: E402
from rdvla_bench.types import Observation  # noqa: E402

SMALL = HeadConfig(width=32, heads=4, prelude_taps=(0,), core_taps=(1, 1), coda_taps=(1,))
TOLERANCE = 1e-5
RULE = MeanSquaredChange(delta=2e-3, max_depth=24)


class Holder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = RecurrentHead(SMALL)
        initialise(self, SMALL, seed=0)


@pytest.fixture(scope="module")
def head() -> RecurrentHead:
    made = Holder().head
    for name, parameter in made.named_parameters():
        if name.endswith("gate"):
            parameter.data.fill_(0.3)  # at its initial 0 the vision keys would not matter
    return made.requires_grad_(requires_grad=False)


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(truncated_normal(np.random.default_rng(seed), shape))


def backbone(queries) -> Inputs:
    """Give query i taps that are a function of i."""
    taps = {
        tap: Tap(
            torch.stack([draw(10 * i + tap, 6, 32) for i in queries]), torch.stack([draw(i, 10, 32) for i in queries])
        )
        for tap in SMALL.taps
    }
    return Inputs(taps, torch.stack([draw(10 * i + 7, 1, 32) for i in queries]))


def noise(i: int) -> torch.Tensor:
    return draw(100 + i, 8, 32)


def engine(head: RecurrentHead, slots: int, rule: ExitRule = RULE, *, is_padded: bool = False) -> DepthEngine[int]:
    return DepthEngine(head, rule, backbone, slots=slots, is_padded=is_padded)


@pytest.fixture(scope="module")
def alone(head: RecurrentHead) -> list[Answer]:
    return [engine(head, 1).run([(i, noise(i))])[0] for i in range(16)]


@pytest.fixture(scope="module")
def padded_alone(head: RecurrentHead) -> list[Answer]:
    return [engine(head, 4, is_padded=True).run([(i, noise(i))])[0] for i in range(16)]


def bits(answer: Answer) -> tuple[bytes, int, tuple[float, ...], int]:
    return answer.exit.chunk.tobytes(), answer.exit.depth, answer.exit.trace, answer.exit.decodes


def feed(made: DepthEngine[int], order: list[int], arrivals: list[int]) -> dict[int, Answer]:
    """Submit ``order``, ``arrivals[k]`` of them before step k, the rest at the end; return answers by query."""
    waiting, by_ticket, answers = list(order), {}, {}
    pace = iter(arrivals)
    while waiting or len(made):
        for _ in range(min(next(pace, len(waiting)), len(waiting))):
            query = waiting.pop(0)
            by_ticket[made.submit(query, noise(query))] = query
        for ticket, answer in made.step():
            assert by_ticket[ticket] not in answers
            answers[by_ticket[ticket]] = answer
    return answers


arrivals = st.lists(st.integers(0, 4), max_size=12)
orders = st.lists(st.integers(0, 15), min_size=1, max_size=16, unique=True)


@settings(max_examples=60, deadline=None)
@given(orders, arrivals, st.integers(1, 6))
def test_depth_and_chunk_do_not_depend_on_neighbours_order_or_arrival(head, alone, order, arrivals, slots) -> None:
    answers = feed(engine(head, slots), order, arrivals)
    assert set(answers) == set(order)
    for i, answer in answers.items():
        assert (answer.exit.depth, answer.exit.decodes) == (alone[i].exit.depth, alone[i].exit.decodes)
        np.testing.assert_allclose(answer.exit.chunk, alone[i].exit.chunk, rtol=0, atol=TOLERANCE)
        assert 1 <= answer.batch_size <= slots


@settings(max_examples=60, deadline=None)
@given(orders, arrivals)
def test_padded_slots_give_the_same_bits_whatever_the_neighbours(head, padded_alone, order, arrivals) -> None:
    for i, answer in feed(engine(head, 4, is_padded=True), order, arrivals).items():
        assert bits(answer) == bits(padded_alone[i])


def test_the_samples_of_these_tests_stop_at_several_depths(alone) -> None:
    assert len({answer.exit.depth for answer in alone}) >= 3
    assert max(answer.exit.depth for answer in alone) < RULE.max_depth


def test_a_finished_sample_makes_room_at_the_next_iteration(head, alone) -> None:
    made = engine(head, 2)
    steps = 0
    for i in range(8):
        made.submit(i, noise(i))
    while len(made):
        made.step()
        steps += 1
    work = sum(answer.exit.depth for answer in alone[:8])
    longest = max(answer.exit.depth for answer in alone[:8])
    assert work / 2 <= steps <= work / 2 + longest  # two at a time, always full but at the end


def counted(runs: dict[str, int], name: str, original):
    def call(*args):
        runs[name] += 1
        return original(*args)

    return call


def test_keys_and_values_are_made_once_a_query_and_the_coda_runs_only_where_it_is_read(head, monkeypatch) -> None:
    runs = {"condition": 0, "iterate": 0, "decode": 0}
    for name in runs:
        monkeypatch.setattr(head, name, counted(runs, name, getattr(head, name)))
    engine(head, 1, FixedDepth(9)).run([(0, noise(0))])
    assert runs == {"condition": 1, "iterate": 9, "decode": 1}
    runs.update(dict.fromkeys(runs, 0))
    answer = engine(head, 1).run([(0, noise(0))])[0]
    assert runs == {"condition": 1, "iterate": answer.exit.depth, "decode": answer.exit.depth}
    runs.update(dict.fromkeys(runs, 0))
    engine(head, 1, MeanSquaredChange(delta=1e3, min_depth=6, max_depth=9)).run([(0, noise(0))])
    assert runs == {"condition": 1, "iterate": 6, "decode": 2}


@pytest.mark.parametrize("is_padded", [False, True])
def test_fixed_depths_of_samples_that_entered_apart_are_decoded_apart(head, is_padded: bool) -> None:
    answers = feed(engine(head, 4, FixedDepth(5), is_padded=is_padded), list(range(7)), [1, 2, 0, 1])
    for i, answer in answers.items():
        want = engine(head, 1, FixedDepth(5)).run([(i, noise(i))])[0]
        assert (answer.exit.depth, answer.exit.decodes, answer.exit.trace) == (5, 1, ())
        np.testing.assert_allclose(answer.exit.chunk, want.exit.chunk, rtol=0, atol=TOLERANCE)


def test_one_batch_from_ready_conditioning_leaves_the_conditioning_alone(head, alone) -> None:
    inputs = backbone(range(6))
    conditioning = head.condition(inputs.taps, inputs.proprio)
    before = conditioning.core[0].keys.clone()
    exits = iterate_to_exit(head, conditioning, torch.stack([noise(i) for i in range(6)]), RULE)
    assert [ended.depth for ended in exits] == [answer.exit.depth for answer in alone[:6]]
    assert torch.equal(conditioning.core[0].keys, before)


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of storages alive at once among those made inside; a view adds nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.holders: Counter[int] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            storage = out.untyped_storage()
            where, size = storage.data_ptr(), storage.nbytes()
            self.live += 0 if self.holders[where] else size
            self.holders[where] += 1
            self.peak = max(self.peak, self.live)
            weakref.finalize(out, self._free, where, size)
        return out

    def _free(self, where: int, size: int) -> None:
        self.holders[where] -= 1
        self.live -= 0 if self.holders[where] else size


@pytest.mark.parametrize("rule", [FixedDepth, lambda depth: MeanSquaredChange(delta=1e-300, max_depth=max(depth, 2))])
def test_peak_memory_at_depth_64_is_that_of_depth_1(head, rule) -> None:
    peaks = []
    for depth in (1, 64):
        with PeakBytes() as memory:
            engine(head, 4, rule(depth)).run([(i, noise(i)) for i in range(10)])
        peaks.append(memory.peak)
    assert peaks[0] > 0
    assert peaks[1] == pytest.approx(peaks[0], rel=0.01)


def observation(i: int) -> Observation:
    rng = np.random.default_rng(i)
    images = {camera: rng.integers(0, 256, (64, 64, 3)).astype(np.uint8) for camera in ("agentview", "wrist")}
    return {"images": images, "proprio": rng.normal(0, 0.5, 8).astype(np.float32), "instruction": "open " + "the " * i}


def test_a_policy_with_padded_slots_answers_in_batches_and_streams_with_the_bits_of_act() -> None:
    policy = cast("RdvlaPolicy", rdvla.adaptive(checkpoint="untrained", padded_slots=4))
    assert policy.batch_is_exact
    assert not rdvla.adaptive(checkpoint="untrained").batch_is_exact
    single = [policy.act(observation(i), None, generator("query", i))[0] for i in range(6)]
    batch = policy.act_batch(*zip(*((observation(i), None, generator("query", i)) for i in range(6)), strict=True))
    stream, streamed = policy.stream(32), {}
    for i in range(6):
        stream.submit(observation(i), None, generator("query", i))
        streamed |= dict(stream.step())
    while len(stream):
        streamed |= dict(stream.step())
    for i, want in enumerate(single):
        for got in (batch[i][0], streamed[i][0]):
            assert got.actions.tobytes() == want.actions.tobytes()
            assert (got.compute.depth, got.compute.exit_trace) == (want.compute.depth, want.compute.exit_trace)
    assert max(chunk.compute.batch_size for chunk, _ in batch) == 4


def test_backbone_and_head_are_timed_apart() -> None:
    policies = (cast("RdvlaPolicy", rdvla.fixed(checkpoint="untrained", depth=depth)) for depth in (1, 32))
    shallow, deep = (policy.act(observation(0), None, generator(0))[0].compute for policy in policies)
    for cost in (shallow, deep):
        assert cost.backbone_s + cost.head_s == pytest.approx(cost.model_s)
        assert cost.peak_memory_bytes is None  # no accelerator
    assert deep.head_s > 4 * shallow.head_s


def test_a_bad_observation_is_refused_when_submitted_and_harms_no_other() -> None:
    policy = cast("RdvlaPolicy", rdvla.adaptive(checkpoint="untrained"))
    stream = policy.stream(2)
    stream.submit(observation(0), None, generator(0))
    with pytest.raises(PolicyFault, match="no image of camera"):
        stream.submit({**observation(1), "images": {}}, None, generator(1))
    answers = []
    while len(stream):
        answers += stream.step()
    assert len(answers) == 1


def test_blocks_that_nobody_reads_are_not_run_and_the_others_give_the_same_taps() -> None:
    policy = cast("RdvlaPolicy", rdvla.adaptive(checkpoint="untrained"))
    backbone, runs = policy.model.backbone, []
    last_maps = {
        "dino": [block.mlp.fc2 for block in backbone.vision.dino.encoder.layer],
        "siglip": [block.mlp.fc2 for block in backbone.vision.siglip.encoder.layers],
        "llm": [block.mlp.down_proj for block in backbone.llm.layers],
    }
    for name, maps in last_maps.items():
        for i, module in enumerate(maps):
            module.register_forward_hook(lambda *_, name=name, i=i: runs.append((name, i)))
    with torch.inference_mode():
        ours = policy.read([policy.prepare(observation(0))])
        assert runs == [*((name, i) for name in ("dino", "siglip") for i in (0, 1)), *(("llm", i) for i in (0, 1))]
        everything = published_read(policy, observation(0))
    assert set(ours.taps) == set(everything.taps)
    for tap, (latents, vision) in everything.taps.items():
        torch.testing.assert_close(ours.taps[tap].latents, latents, rtol=0, atol=TOLERANCE * float(latents.abs().max()))
        torch.testing.assert_close(ours.taps[tap].vision, vision, rtol=0, atol=TOLERANCE * float(vision.abs().max()))


def test_waiting_queries_are_read_several_at_a_time_ahead_of_their_slots(head, alone) -> None:
    sizes = []

    def read(queries) -> Inputs:
        sizes.append(len(queries))
        return backbone(queries)

    answers = DepthEngine(head, RULE, read, slots=20).run([(i % 16, noise(i % 16)) for i in range(40)])
    assert sizes == [20, READ_TOGETHER, 4]
    assert [answer.exit.depth for answer in answers] == [alone[i % 16].exit.depth for i in range(40)]


def test_the_published_loop_stops_at_the_same_depth_with_the_same_chunk(head, alone) -> None:
    for i in range(4):
        depth, chunk = published_loop(head, backbone([i]), noise(i)[None], RULE)
        assert depth == alone[i].exit.depth
        np.testing.assert_allclose(chunk, alone[i].exit.chunk, rtol=0, atol=TOLERANCE)


def test_the_drawn_head_is_set_to_the_papers_mean_depth() -> None:
    case = drawn_head_case("nano", 12, 0, "cpu")
    with torch.inference_mode():
        depths = [depth for depth, _ in case.ours(4)]
    assert np.mean(depths) == pytest.approx(PAPER_DEPTH, abs=0.3)
