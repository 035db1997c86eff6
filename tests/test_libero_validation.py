"""Claims about the validation suites: LIBERO's tasks from starts that neither an evaluation nor a demonstration has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rdvla_bench.envs.libero.suites import STANDARD_SUITES, SUITES
from rdvla_bench.envs.libero.suites_validation import VALIDATION_SUITES
from rdvla_bench.errors import RdvlaBenchError, UsageError
from rdvla_bench.plan import Plan
from rdvla_bench.protocol import CARDS, protocol
from rdvla_bench.registry import load_policy, load_suite
from rdvla_bench.rollout import play
from rdvla_bench.slices import parts_of
from rdvla_bench.suite import Suite
from rdvla_bench.types import Episode, Outcome

suites = pytest.mark.parametrize("suite", VALIDATION_SUITES, ids=[suite.name for suite in VALIDATION_SUITES])


def base_of(suite: Suite) -> Suite:
    return SUITES[suite.name.removesuffix("_val")]


@suites
def test_it_has_liberos_tasks_words_cameras_and_files(suite: Suite) -> None:
    base = base_of(suite)
    assert load_suite(suite.name) is suite
    assert suite.files == base.name
    assert (suite.tasks, suite.cameras, suite.proprio, suite.actions, suite.benchmark) == (
        (base.tasks, base.cameras, base.proprio, base.actions, base.benchmark)
    )  # fmt: skip


@suites
def test_nothing_is_recorded_from_its_starts(suite: Suite) -> None:
    with pytest.raises(UsageError, match="has no demonstrations"):
        suite.demo_start(0, 0, 0)


def test_its_card_has_liberos_rules_and_covers_nothing_else() -> None:
    card, paired = protocol("libero-val/paired@1"), protocol("libero/paired@1")
    assert card.max_steps == {suite.name: paired.max_steps[base_of(suite).name] for suite in VALIDATION_SUITES}
    assert {suite.default_protocol for suite in VALIDATION_SUITES} == {card.name}
    others = {name for other in CARDS.values() if other.name != card.name for name in other.max_steps}
    assert not others & set(card.max_steps)
    assert (card.settle_steps, card.image_size, card.seeding) == (10, 256, "episode")


def test_no_run_has_rows_of_it_and_of_libero() -> None:
    standard, other = STANDARD_SUITES[1], SUITES["libero_object_val"]
    for card in CARDS.values():
        with pytest.raises(UsageError, match="does not cover suite"):
            Plan("hold", {}, card, (standard, other), {standard.name: (0,), other.name: (0,)}, n_episodes=1, seed=0)


def test_libero_val_stands_for_the_four() -> None:
    (part,) = parts_of("libero_val", None, None)
    assert part.suites == VALIDATION_SUITES


# real scenes


def made(suite: str, task: int = 0) -> Any:
    pytest.importorskip("libero")
    from rdvla_bench.envs.libero.env import LiberoEnv

    card = SUITES[suite].default_protocol
    return LiberoEnv(suite=suite, task=task, protocol=card, cameras=(), privileged=True)


@pytest.fixture(scope="module")
def goal() -> Any:
    env = made("libero_goal_val")
    yield env
    env.close()


def placed(env: Any, number: int) -> Any:
    env.reset(options={"placement": number})
    return env.scene.placed.copy()


@pytest.mark.libero
def test_a_start_is_neither_a_demonstrations_nor_an_evaluations(goal: Any) -> None:
    standard = made("libero_goal")
    for number in range(3):
        start = placed(goal, number)
        demonstrations = [placed(standard, seed * 1_000_000 + number) for seed in range(10)]
        evaluations = [state[1 : 1 + len(start)] for state in standard.scene.init_states]  # a state begins with time
        assert min(np.abs(start - other).max() for other in (*demonstrations, *evaluations)) > 1e-4
        assert np.array_equal(start, placed(goal, number))
    standard.close()


@pytest.mark.libero
def test_without_options_a_placement_is_drawn_from_the_seed_and_never_a_saved_state(
    goal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a saved state was set")

    monkeypatch.setattr(goal.scene, "reset", refuse)
    digests = []
    for seed in (0, 1, 0):
        goal.reset(seed=seed)
        digests.append(goal.scene_digest())
    assert digests[0] == digests[2] != digests[1]
    with pytest.raises(RdvlaBenchError, match="init_state"):
        goal.reset(options={"init_state": 0})


@pytest.mark.libero
def test_the_expert_solves_a_task_from_such_a_start() -> None:
    result, _ = play(
        lambda: made("libero_object_val"),
        load_policy("expert"),
        Episode("libero_object_val", 0, 0, 0, 0),
        start_option="placement",
        max_horizon=None,
        on_phase=lambda phase: None,
    )
    assert result.outcome is Outcome.SUCCESS
