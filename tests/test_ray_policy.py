"""Micro-batching: who is answered with whom changes nothing but the time; a fault stays with its query."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdvla_bench.batching import Batcher, Batching, batching_for
from rdvla_bench.errors import PolicyFault
from rdvla_bench.policy import Policy, PolicyCard
from rdvla_bench.types import ActionChunk, Compute


class Counting(Policy):
    """Adds noise to the proprioception, and notes which queries it was given together."""

    batch_is_exact = True

    def __init__(self) -> None:
        self.card = PolicyCard("counting", "none")
        self.calls: list[list[int]] = []

    def act(self, obs: Any, state: int, rng: np.random.Generator) -> tuple[ActionChunk, int]:
        return self.act_batch([obs], [state], [rng])[0]

    def act_batch(
        self, observations: Sequence[Any], states: Sequence[int], rngs: Sequence[np.random.Generator]
    ) -> list[tuple[ActionChunk, int]]:
        time.sleep(0.01)
        self.calls.append(list(states))
        noise = [rng.normal(size=(1, 2)) for rng in rngs]
        if 13 in states:
            raise ValueError("thirteen")
        compute = Compute(batch_size=len(states))
        return [
            (ActionChunk((obs["proprio"] + n).astype(np.float32), compute), state + 100)
            for obs, n, state in zip(observations, noise, states, strict=True)
        ]


class Countdown(Counting):
    """Offers a stream in which query i needs 1 + i % 4 steps."""

    def stream(self, slots: int) -> Countdown:
        self.slots, self.left, self.answers, self.tickets = slots, {}, {}, 0
        return self

    def __len__(self) -> int:
        return len(self.left)

    def submit(self, obs: Any, state: int, rng: np.random.Generator) -> int:
        if state == 14:
            raise PolicyFault("fourteen")
        self.tickets += 1
        self.left[self.tickets] = 1 + state % 4
        self.answers[self.tickets] = (ActionChunk((obs["proprio"] + rng.normal(size=(1, 2))).astype(np.float32)), state)
        return self.tickets

    def step(self) -> list[tuple[int, tuple[ActionChunk, int]]]:
        time.sleep(0.002)
        assert len(self.left) <= self.slots
        self.calls.append([state for _, state in (self.answers[t] for t in self.left)])
        if any(13 in call for call in self.calls[-1:]):
            raise ValueError("thirteen")
        self.left = {ticket: n - 1 for ticket, n in self.left.items()}
        done = [ticket for ticket, n in self.left.items() if n == 0]
        return [(ticket, self.answers[ticket]) for ticket in done if self.left.pop(ticket) == 0]


def query(i: int) -> tuple[Any, int, np.random.Generator]:
    return {"images": {}, "proprio": np.full(2, i, np.float32), "instruction": ""}, i, np.random.default_rng(i)


def ask(policy: Policy, queries: Sequence[int], *, max_batch: int = 4, apart_s: float = 0.0) -> list[Any]:
    async def one(batcher: Batcher, position: int, i: int) -> Any:
        await asyncio.sleep(position * apart_s)
        return await batcher.act(*query(i))

    async def everyone() -> list[Any]:
        batcher = Batcher(policy, Batching(max_batch, max_wait_s=0.05))
        asking = (one(batcher, position, i) for position, i in enumerate(queries))
        return await asyncio.gather(*asking, return_exceptions=True)

    return asyncio.run(everyone())


@pytest.mark.parametrize("kind", [Counting, Countdown])
@pytest.mark.parametrize("apart_s", [0.0, 0.003, 0.1])
def test_answers_are_those_of_queries_asked_alone(kind: type[Counting], apart_s: float) -> None:
    queries = list(range(9)) if apart_s < 0.1 else [0, 1]
    policy = kind()
    for i, (chunk, _) in zip(queries, ask(policy, queries, apart_s=apart_s), strict=True):
        np.testing.assert_array_equal(chunk.actions, Counting().act(*query(i))[0].actions)
    assert max(map(len, policy.calls)) <= 4


def test_queries_that_arrive_together_are_answered_together_up_to_the_limit() -> None:
    policy = Counting()
    answers = ask(policy, range(10))
    assert sorted(map(len, policy.calls)) == [2, 4, 4]
    assert [state for _, state in answers] == [100 + i for i in range(10)]
    assert sorted(chunk.compute.batch_size for chunk, _ in answers) == [2, 2, *[4] * 8]


def test_a_stream_takes_new_queries_between_steps() -> None:
    policy = Countdown()
    ask(policy, [3, 3, 3, 0, 0, 0], max_batch=2)  # 4 + 4 + 4 + 1 + 1 + 1 steps of work
    assert len(policy.calls) <= 9  # two at a time 8 at best; in whole batches 4 + 4 + 1 = 9 and no refill
    assert max(map(len, policy.calls)) == 2


@pytest.mark.parametrize("kind", [Counting, Countdown])
def test_a_fault_stays_with_its_query(kind: type[Counting]) -> None:
    answers = ask(kind(), [1, 13, 2, 3])
    assert isinstance(answers[1], ValueError)
    for i, position in ((1, 0), (2, 2), (3, 3)):
        np.testing.assert_array_equal(answers[position][0].actions, Counting().act(*query(i))[0].actions)


def test_a_query_refused_by_a_stream_is_a_fault_of_its_own() -> None:
    policy = Countdown()
    answers = ask(policy, [1, 14, 2])
    assert isinstance(answers[1], PolicyFault)
    assert not isinstance(answers[0], BaseException)
    assert not isinstance(answers[2], BaseException)


def test_batches_are_chosen_only_where_they_change_no_bit_unless_asked_for() -> None:
    exact, inexact = Counting(), Counting()
    inexact.batch_is_exact = False
    assert batching_for(exact, None) == Batching()
    assert batching_for(inexact, None) is None
    assert batching_for(inexact, 8) == Batching(8)
    assert batching_for(exact, 1) is None


@pytest.mark.ray
def test_a_shared_policy_that_batches_gives_the_same_table(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    from rdvla_bench.commands.run import main

    fake = ["--policy", "fake", "--suite", "fake_suite", "--episodes", "3"]
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    try:
        assert main([*fake, "--workers", "0", "--out", str(tmp_path / "own")]) == 0
        shared = ["--workers", "2", "--policy-placement", "shared", "--policy-batch", "4"]
        assert main([*fake, *shared, "--out", str(tmp_path / "shared")]) == 0
    finally:
        ray.shutdown()
    for name in ("results.csv", "episodes.parquet", "board.csv"):
        assert (tmp_path / "own" / name).read_bytes() == (tmp_path / "shared" / name).read_bytes()


def test_a_batch_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    from rdvla_bench.commands.run import main

    assert main(["--policy", "random", "--policy-batch", "0"]) == 2
    assert "--policy-batch 0: expected 1" in capsys.readouterr().err
