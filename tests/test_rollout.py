from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rdvla_fakes import CARD, FakeEnv, FakePolicy

from rdvla_bench import ActionChunk, Compute, Culprit, Episode, Outcome, Policy, PolicyCard
from rdvla_bench.record import Result
from rdvla_bench.rollout import Trace, play

EPISODE = Episode("fake_suite", 1, 3, 0, 0)


def run(policy: Policy, episode: Episode = EPISODE, max_horizon: int | None = None, **env: Any) -> tuple[Result, Trace]:
    return play(
        lambda: FakeEnv("fake_suite", episode.task, CARD, **env),
        policy,
        episode,
        start_option="start",
        max_horizon=max_horizon,
    )


def good() -> FakePolicy:
    return FakePolicy("none", 0, "", 0.0)


class Scripted(Policy):
    """Returns what it is given."""

    def __init__(self, *chunks: Any) -> None:
        self.card = PolicyCard("scripted", "none")
        self._chunks = chunks

    def initial_state(self, episode: Episode) -> int:
        return 0

    def act(self, obs: Any, state: int, rng: np.random.Generator) -> tuple[Any, int]:
        return self._chunks[min(state, len(self._chunks) - 1)], state + 1


def chunk(*rows: list[float], **compute: Any) -> ActionChunk:
    return ActionChunk(np.array(rows, np.float32), Compute(**compute))


def test_an_episode_is_a_function_of_episode_and_policy() -> None:
    first, _ = run(good())
    run(good(), replace(EPISODE, start=4))
    again, _ = run(good())
    assert first == again
    assert first != run(good(), replace(EPISODE, seed=1))[0]
    assert first != run(good(), replace(EPISODE, repetition=1))[0]


def test_every_executed_step_is_accounted_for() -> None:
    result, trace = run(good())
    assert result.outcome in (Outcome.SUCCESS, Outcome.TIMEOUT)
    assert sum(result.horizons) == result.steps == len(trace.executed())
    assert len(result.depths) == len(result.horizons) == len(result.exit_traces) == len(trace.model_s)
    assert result.flops == 1e6 * sum(result.depths)


def test_a_step_cap_is_a_timeout_and_no_error() -> None:
    result, _ = run(Scripted(chunk([-1, 0], [0, 0])))
    assert (result.outcome, result.steps, result.culprit) == (Outcome.TIMEOUT, 40, None)


def test_the_protocol_caps_the_horizon() -> None:
    result, _ = run(good(), max_horizon=3)
    assert max(result.horizons) == 3


def test_frames_are_hashed_iff_the_policy_sees_them() -> None:
    assert run(good(), cameras=())[0].frames_sha256 == ""
    assert len(run(good(), cameras=("cam",))[0].frames_sha256) == 64


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (chunk([0, np.nan]), "action 0 value 1 is nan"),
        (chunk([0, np.inf]), "inf"),
        (chunk([0, 1.01]), r"is 1.01, allowed is \[-1, 1\]"),
        (chunk([0, 0, 0]), r"shape \(1, 3\), expected \(K, 2\)"),
        (ActionChunk(np.zeros((0, 2), np.float32)), "K >= 1"),
        (ActionChunk(np.zeros((2, 2), np.int64)), "dtype int64"),  # type: ignore[arg-type]
        (chunk([0, 0], exit_trace=(1.0, float("nan"))), "exit trace"),
        (np.zeros((4, 2), np.float32), "ndarray"),
        (None, "NoneType"),
    ],
)
def test_a_policy_that_breaks_its_contract_is_the_culprit(answer: Any, message: str) -> None:
    result, _ = run(Scripted(chunk([0, 0]), answer))
    assert (result.outcome, result.culprit) == (Outcome.ERROR, Culprit.POLICY)
    import re

    assert re.search(message, result.error), result.error


def test_rounding_beyond_the_limit_is_clipped_not_refused() -> None:
    result, trace = run(Scripted(chunk([1.0000004, 0])))
    assert result.outcome is Outcome.SUCCESS
    assert trace.executed().max() == 1.0


def test_what_an_episode_did_before_its_error_is_kept() -> None:
    result, trace = run(Scripted(chunk([0, 0]), chunk([0, 0]), chunk([0, np.nan])))
    assert result.steps == len(trace.executed()) == 2


@pytest.mark.parametrize("fault", ["nan", "shape", "range", "raise", "stop"])
def test_a_misbehaving_policy_ends_one_episode(fault: Any) -> None:
    result, _ = run(FakePolicy(fault, 100 * EPISODE.task + EPISODE.start, "", 0.0))
    assert (result.outcome, result.culprit) == (Outcome.ERROR, Culprit.POLICY)
    assert "Traceback" in result.error


def test_a_simulator_that_raises_is_the_culprit() -> None:
    class Broken(FakeEnv):
        def step_chunk(self, actions: np.ndarray) -> Any:
            raise RuntimeError("mujoco diverged")

    result, _ = play(
        lambda: Broken("fake_suite", 0, CARD), good(), EPISODE, start_option="start", max_horizon=None
    )  # fmt: skip
    assert (result.outcome, result.culprit) == (Outcome.ERROR, Culprit.ENV)


def test_an_environment_that_cannot_be_built_is_an_error_of_the_env() -> None:
    def build() -> FakeEnv:
        raise OSError("no such mesh")

    result, _ = play(build, good(), EPISODE, start_option="start", max_horizon=None)
    assert (result.outcome, result.culprit) == (Outcome.ERROR, Culprit.ENV)
    assert "no such mesh" in result.error


def test_a_horizon_outside_the_chunk_is_the_policys_fault() -> None:
    policy = good()
    policy.horizon = lambda chunk: 9  # type: ignore[assignment]
    result, _ = run(policy)
    assert result.culprit is Culprit.POLICY
    assert "asks for 9 actions of a chunk of 4" in result.error
