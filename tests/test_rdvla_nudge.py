"""A hand that stands still is told that it is elsewhere; others are told the truth, and nothing is drawn for them."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from rdvla_bench.errors import UsageError  # noqa: E402
from rdvla_bench.policies import rdvla  # noqa: E402
from rdvla_bench.policies.rdvla.conventions import BENCHMARKS  # noqa: E402
from rdvla_bench.policies.rdvla.nudge import PLACE, Nudge  # noqa: E402
from rdvla_bench.policies.rdvla.policy import RdvlaPolicy  # noqa: E402
from rdvla_bench.seeding import generator  # noqa: E402
from rdvla_bench.types import Observation  # noqa: E402

REACH = 0.08  # m


def rng() -> np.random.Generator:
    return generator("test nudge", 0)


@pytest.fixture(params=["libero", "calvin"])
def benchmark_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def nudge(benchmark_name: str) -> Nudge:
    return Nudge(BENCHMARKS[benchmark_name], REACH)


def hand(name: str, x: float = 0.1, turn: float = 0.3) -> np.ndarray:
    """Return proprioception with the tool at x, turned by ``turn`` rad about z."""
    proprio = np.full(BENCHMARKS[name].n_proprio, 0.7, np.float32)
    proprio[:6] = x, -0.2, 0.5, 0.0, 0.0, turn
    return proprio


def observation(proprio: np.ndarray) -> Observation:
    pixels = np.random.default_rng(1).integers(0, 256, (96, 96, 3), np.uint8)
    return {"images": {"agentview": pixels, "wrist": pixels}, "proprio": proprio, "instruction": "open the drawer"}


def test_a_still_hand_is_told_another_place_within_reach_and_the_truth_of_all_else(nudge, benchmark_name) -> None:
    now = hand(benchmark_name)
    draws = generator("test nudge", 1)
    errors = np.array([nudge(now, now, draws) - now for _ in range(300)])
    assert not errors[:, 3:].any()
    largest = np.abs(errors[:, :3]).max(axis=0) / (REACH, REACH, REACH / 2)
    assert ((largest > 0.9) & (largest < 1.001)).all()
    assert np.array_equal(nudge(now, now, rng()), nudge(now, now, rng()))


@pytest.mark.parametrize("other", [{"x": 0.1 + 1.1 * PLACE}, {"turn": 0.5}])
def test_a_hand_that_moved_or_turned_is_told_the_truth_and_nothing_is_drawn(nudge, benchmark_name, other) -> None:
    draws = rng()
    now = hand(benchmark_name)
    assert np.array_equal(nudge(now, hand(benchmark_name, **other), draws), now)
    assert draws.bit_generator.state == rng().bit_generator.state


def test_the_first_query_and_a_reach_of_zero_are_told_the_truth(nudge, benchmark_name) -> None:
    draws, now = rng(), hand(benchmark_name)
    assert nudge(now, None, draws) is now
    assert Nudge(BENCHMARKS[benchmark_name], 0.0)(now, now, draws) is now
    assert draws.bit_generator.state == rng().bit_generator.state


def test_angles_that_jump_by_a_whole_turn_are_no_motion(nudge, benchmark_name) -> None:
    now, last = hand(benchmark_name, turn=np.pi - 0.01), hand(benchmark_name, turn=-np.pi + 0.01)
    assert not np.array_equal(nudge(now, last, rng()), now)


def test_a_policy_moves_on_where_it_stood_and_says_so_on_its_card() -> None:
    plain = cast("RdvlaPolicy", rdvla.fixed(depth=2, checkpoint="untrained"))
    nudged = cast("RdvlaPolicy", rdvla.fixed(depth=2, checkpoint="untrained", nudge=REACH))
    seen = observation(hand("libero"))

    chunk, state = nudged.act(seen, None, rng())
    alone, nothing = plain.act(seen, None, rng())
    assert nothing is None
    assert np.array_equal(state, seen["proprio"])
    assert np.array_equal(chunk.actions, alone.actions)  # of a first query a nudge changes no bit

    again, _ = nudged.act(seen, state, rng())
    draws = rng()
    told = {**seen, "proprio": nudged.nudge(seen["proprio"], seen["proprio"], draws)}
    same, _ = plain.act(cast("Observation", told), None, draws)
    assert not np.array_equal(again.actions, alone.actions)
    assert np.array_equal(again.actions, same.actions)

    assert (plain.card.config["nudge"], nudged.card.config["nudge"]) == (0.0, REACH)
    assert plain.card.hash != nudged.card.hash


def test_weights_trained_here_are_nudged_unless_told_not_to(benchmark_name) -> None:
    default = BENCHMARKS[benchmark_name].nudge
    assert default > 0
    shipped = cast("RdvlaPolicy", rdvla.adaptive(benchmark=benchmark_name))  # type: ignore[arg-type]
    assert shipped.nudge.reach == default
    off = cast("RdvlaPolicy", rdvla.adaptive(benchmark=benchmark_name, nudge=0.0))  # type: ignore[arg-type]
    assert off.nudge.reach == 0
    assert rdvla.adaptive(checkpoint="untrained").card.config["nudge"] == 0


@pytest.mark.parametrize("reach", [-0.01, 1.5, float("nan")])
def test_a_nudge_out_of_range_is_refused(reach: float) -> None:
    with pytest.raises(UsageError, match="nudge must be from 0"):
        rdvla.adaptive(checkpoint="untrained", nudge=reach)
