"""Claims about CALVIN's suites and cards as data."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib.metadata import entry_points

import gymnasium
import pytest

import rdvla_bench.envs  # noqa: F401 - registers
from rdvla_bench.envs.calvin.suites import INSTRUCTIONS, N_CHAINS, SCENE_OF, SUITES, TASKS
from rdvla_bench.protocol_calvin import CALVIN_CARDS
from rdvla_bench.protocol_card import ProtocolCard
from rdvla_bench.suite import Suite

CARDS = {card.name: card for card in CALVIN_CARDS}
INSTRUCTIONS_SHA256 = "7f9a671d68ab58d2c99730650d6d9efdb7b5413c501f05e81e53d1df1f1d4949"
"""Over mees/calvin@fa03f01's new_playtable_validation.yaml as JSON with sorted keys, one sentence a task."""

suites = pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)


def test_instructions_are_the_validation_sentences() -> None:
    text = json.dumps(dict(INSTRUCTIONS), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest() == INSTRUCTIONS_SHA256
    assert len(TASKS) == 34


def test_the_order_of_tasks_is_the_one_that_chains_index() -> None:
    assert (TASKS[0], TASKS[14], TASKS[25], TASKS[33]) == (
        *("rotate_red_block_right", "open_drawer"),
        *("place_in_slider", "push_into_drawer"),
    )


def test_there_is_a_suite_a_scene() -> None:
    assert {name: SCENE_OF[name] for name in SUITES} == {f"calvin_{scene.lower()}": scene for scene in "ABCD"}


@suites
def test_an_episode_is_one_of_1000_chains(suite: Suite) -> None:
    assert ([task.name for task in suite.tasks], suite.n_starts, suite.start_option) == (["chain"], N_CHAINS, "chain")


@suites
def test_layouts_name_every_value(suite: Suite) -> None:
    assert (len(suite.actions), len(suite.proprio)) == (7, 15)


@suites
def test_the_suite_is_registered_without_a_step_cap(suite: Suite) -> None:
    spec = gymnasium.spec(suite.env_id)
    assert (spec.entry_point, spec.kwargs) == (suite.env_entry, {"suite": suite.name})
    assert spec.max_episode_steps is None


@suites
def test_the_suite_is_found_by_name(suite: Suite) -> None:
    (entry,) = (e for e in entry_points(group="rdvla_bench.suites") if e.name == suite.name)
    assert entry.load() is suite


@suites
def test_every_card_caps_a_subtask_of_the_suite(suite: Suite) -> None:
    assert suite.default_protocol in CARDS
    assert {card.max_steps[suite.name] for card in CALVIN_CARDS} == {360, 800}


@pytest.mark.parametrize("card", CALVIN_CARDS, ids=CARDS)
def test_a_card_says_whether_it_is_official(card: ProtocolCard) -> None:
    assert ("NOT official CALVIN" in card.summary) == (card.variant["look"] == "procedural")
    assert card.name.startswith("calvin/procedural") == (card.variant["look"] == "procedural")


@pytest.mark.parametrize("card", CALVIN_CARDS, ids=CARDS)
def test_every_number_of_a_card_has_a_source(card: ProtocolCard) -> None:
    fields = set(card.to_json()) - {"name", "summary", "sources", "stream_seed"}
    assert fields == set(card.sources)
    assert all(card.sources.values())


@pytest.mark.parametrize("look", ["abcd", "procedural"])
def test_cards_differ_from_their_base_in_one_rule(look: str) -> None:
    base, pinned, longer = (CARDS[f"calvin/{look}{suffix}@1"] for suffix in ("", "-pinned", "-800"))
    assert "@1431a46" in pinned.sources["variant"]
    assert "@1431a46" not in base.sources["variant"]
    assert (base.variant["button"], pinned.variant["button"], longer.variant["button"]) == ("main", "pinned", "main")
    assert pinned.max_steps == base.max_steps != longer.max_steps


def test_cards_have_different_hashes() -> None:
    assert len({card.hash for card in CALVIN_CARDS}) == len(CALVIN_CARDS) == 6


def test_reading_suites_chains_and_rules_imports_no_simulator() -> None:
    code = (
        "import sys, rdvla_bench.envs.calvin.oracle, rdvla_bench.envs.calvin.starts as s;"
        "import rdvla_bench.envs.calvin.sequences as q; s.initial_state(q.chains()[0].state);"
        "print([m for m in ('pybullet', 'torch', 'scipy', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
