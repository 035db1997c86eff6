"""Claims about LIBERO-PRO's suites: each changes one thing of LIBERO's, is for evaluation alone, and rows never mix."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdvla_bench.envs.libero.suites import STANDARD_SUITES, SUITES
from rdvla_bench.envs.libero.suites_pro import PRO_SUITES
from rdvla_bench.errors import UsageError
from rdvla_bench.plan import Plan
from rdvla_bench.protocol import CARDS, protocol
from rdvla_bench.registry import load_policy, load_suite
from rdvla_bench.rollout import Phase, play
from rdvla_bench.suite import Suite
from rdvla_bench.types import Episode, Outcome

suites = pytest.mark.parametrize("suite", PRO_SUITES, ids=[suite.name for suite in PRO_SUITES])
CARD = protocol("libero-pro/paired@1")


def base_of(suite: Suite) -> Suite:
    return SUITES[suite.name.rpartition("_")[0]]


def kind_of(suite: Suite) -> str:
    return suite.name.rpartition("_")[2]


def problem(suite: Suite, task: int) -> str:
    """Return the text of the task's BDDL file, white space made one blank."""
    from libero.libero import get_libero_path

    folder = Path(get_libero_path("bddl_files"), suite.name)
    return " ".join((folder / f"{suite.tasks[task].name}.bddl").read_text(encoding="utf-8").split())


def words(text: str) -> str:
    found = re.search(r"\(:language (.*?) ?\)", text)
    assert found
    return found[1].lower().replace("\u2019", "'")


def without(text: str, sections: tuple[str, ...]) -> list[str]:
    """Return the words and brackets of a BDDL file that are outside ``sections``."""
    parts = re.split(r"(?=\(:)", text)
    kept = " ".join(part for part in parts if part[2:].split()[0] not in sections)
    return re.sub(r"[()]", " ", kept).split()


def test_there_are_sixteen_suites_of_ten_tasks_and_fifty_starts() -> None:
    kinds = ("swap", "object", "task", "lan")
    four = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
    assert [suite.name for suite in PRO_SUITES] == [f"{name}_{kind}" for name in four for kind in kinds]
    assert {(len(suite.tasks), suite.n_starts) for suite in PRO_SUITES} == {(10, 50)}


@suites
def test_a_suite_is_found_by_its_name(suite: Suite) -> None:
    assert load_suite(suite.name) is suite


@suites
def test_tasks_and_their_order_are_the_packages_and_liberos(suite: Suite) -> None:
    benchmark = pytest.importorskip("libero.libero.benchmark").get_benchmark(suite.name)(task_order_index=0)
    names = [task.name for task in suite.tasks]
    assert names == [task.name for task in benchmark.tasks] == [task.name for task in base_of(suite).tasks]


@suites
def test_start_states_are_as_wide_as_liberos_and_are_others(suite: Suite) -> None:
    get_benchmark = pytest.importorskip("libero.libero.benchmark").get_benchmark
    here, there = (get_benchmark(name)(task_order_index=0) for name in (suite.name, base_of(suite).name))
    for i in range(len(suite.tasks)):
        ours, theirs = here.get_task_init_states(i), there.get_task_init_states(i)
        assert ours.shape == theirs.shape
        assert not np.array_equal(ours, theirs)


CHANGES = {"swap": ("init",), "task": ("language", "goal", "obj_of_interest"), "lan": ("language",)}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_problem_differs_from_liberos_in_what_the_suite_is_named_after_alone(kind: str) -> None:
    pytest.importorskip("libero")
    for suite in PRO_SUITES:
        if kind_of(suite) == kind:
            for i in range(len(suite.tasks)):
                ours, theirs = problem(suite, i), problem(base_of(suite), i)
                assert without(ours, ()) != without(theirs, ())
                assert without(ours, CHANGES[kind]) == without(theirs, CHANGES[kind])


@suites
def test_the_files_words_change_with_task_and_lan_alone(suite: Suite) -> None:
    pytest.importorskip("libero")
    for i in range(len(suite.tasks)):
        is_same = words(problem(suite, i)) == words(problem(base_of(suite), i))
        assert is_same == (kind_of(suite) in ("swap", "object"))


@suites
def test_the_policy_is_told_what_the_suite_asks_for(suite: Suite) -> None:
    if kind_of(suite) in ("swap", "object"):
        assert suite.tasks == base_of(suite).tasks
        return
    pytest.importorskip("libero")
    assert [task.instruction for task in suite.tasks] == [words(problem(suite, i)) for i in range(len(suite.tasks))]


@suites
def test_the_weights_for_libero_play_it_as_they_play_libero(suite: Suite) -> None:
    base = base_of(suite)
    assert (suite.benchmark, suite.cameras, suite.proprio, suite.actions) == (
        base.benchmark,
        base.cameras,
        base.proprio,
        base.actions,
    )


@suites
def test_it_is_for_evaluation_alone(suite: Suite) -> None:
    with pytest.raises(UsageError, match=f"suite '{suite.name}' is for evaluation alone and has no demonstrations"):
        suite.demo_start(0, 0, 0)


def test_its_card_covers_all_of_it_and_nothing_else_with_liberos_caps() -> None:
    caps = protocol("libero/paired@1").max_steps
    assert CARD.max_steps == {suite.name: caps[base_of(suite).name] for suite in PRO_SUITES}
    assert {suite.default_protocol for suite in PRO_SUITES} == {CARD.name}
    others = {name for card in CARDS.values() if card.name != CARD.name for name in card.max_steps}
    assert not others & set(CARD.max_steps)


def test_no_run_has_rows_of_libero_and_of_libero_pro() -> None:
    standard, pro = STANDARD_SUITES[1], SUITES["libero_object_swap"]
    for card in (CARD, protocol("libero/paired@1")):
        with pytest.raises(UsageError, match="does not cover suite"):
            Plan("hold", {}, card, (standard, pro), {standard.name: (0,), pro.name: (0,)}, n_episodes=1, seed=0)


# real scenes


def made(suite: str, task: int) -> Any:
    pytest.importorskip("libero")
    from rdvla_bench.envs.libero.env import LiberoEnv

    card = SUITES[suite].default_protocol
    return LiberoEnv(suite=suite, task=task, protocol=card, cameras=(), privileged=True)


def first_view(suite: str, task: int) -> dict[str, Any]:
    env = made(suite, task)
    view: dict[str, Any] = env.reset(seed=0, options={"init_state": 0})[1]["privileged"]
    env.close()
    return view


@pytest.mark.libero
def test_swap_moves_the_thing_to_pick_where_another_was() -> None:
    here, there = (first_view(name, 0)["objects"] for name in ("libero_object_swap", "libero_object"))
    soup, butter = "alphabet_soup_1", "butter_1"
    assert 0.15 < np.linalg.norm((here[soup]["pos"] - there[soup]["pos"])[:2]) < 0.21
    assert np.linalg.norm((here[soup]["pos"] - there[butter]["pos"])[:2]) < 0.05
    assert np.linalg.norm((here["basket_1"]["pos"] - there["basket_1"]["pos"])[:2]) < 0.05


@pytest.mark.libero
def test_the_stove_that_is_to_be_turned_off_is_off_already_and_yet_not_solved() -> None:
    view = first_view("libero_goal_task", 7)  # docs/libero-pro.md says so; a success has to push the knob below 0
    assert view["goal"] == (("turnoff", "flat_stove_1"),)
    assert view["joints"]["flat_stove_1_button"]["value"] == 0.0
    assert view["holds"] == (False,)


@pytest.mark.libero
def test_the_expert_solves_a_task_whose_things_were_swapped() -> None:
    def on_phase(phase: Phase) -> None:
        del phase

    result, _ = play(
        lambda: made("libero_object_swap", 0),
        load_policy("expert"),
        Episode("libero_object_swap", 0, 0, 0, 0),
        start_option="init_state",
        max_horizon=None,
        on_phase=on_phase,
    )
    assert result.outcome is Outcome.SUCCESS
