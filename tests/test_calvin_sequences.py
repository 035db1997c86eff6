"""Claims about the 1000 chains: they are the original's, and the generator makes them again."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files

import pytest

from rdvla_bench.envs.calvin.sequences import (
    DIGEST,
    Chain,
    State,
    chains,
    digest,
    initial_states,
    n_chains_of,
    regenerate,
    regenerate_all,
    variants,
)
from rdvla_bench.envs.calvin.suites import CHAIN_LENGTH, N_CHAINS, TASKS


def test_the_chains_are_the_originals() -> None:
    assert digest(chains()) == DIGEST


def test_the_first_chain_reads_as_published() -> None:
    assert chains()[0] == Chain(
        State(1, 1, "left", "open", "slider_left", "table", "slider_right", 0),
        (
            "rotate_blue_block_right",
            "move_slider_right",
            "lift_red_block_slider",
            "place_in_slider",
            "turn_off_lightbulb",
        ),
    )


def test_chains_are_distinct_and_of_five_different_tasks() -> None:
    assert len(set(chains())) == N_CHAINS
    assert {len(set(chain.tasks)) for chain in chains()} == {CHAIN_LENGTH}


def test_every_initial_state_has_its_share() -> None:
    counts = Counter(chain.state for chain in chains())
    assert [counts[state] for state in initial_states()] == [6] * 40 + [5] * 152
    assert sum(map(n_chains_of, range(192))) == N_CHAINS


def test_task_counts_are_the_published_ones() -> None:
    counts = Counter(task for chain in chains() for task in chain.tasks)
    assert (counts["place_in_slider"], counts["open_drawer"], counts["lift_blue_block_drawer"]) == (398, 379, 23)
    assert (counts["turn_off_led"], counts["push_into_drawer"], counts["stack_block"]) == (185, 138, 220)


@pytest.mark.parametrize("state_index", [0, 39, 40, 101, 191])
def test_a_state_gives_its_chains_again(state_index: int) -> None:
    state = initial_states()[state_index]
    assert set(regenerate(state_index)) == {chain for chain in chains() if chain.state == state}


@pytest.mark.slow
def test_all_chains_come_again_in_the_same_order() -> None:
    assert regenerate_all() == chains()


def test_every_task_can_be_done_in_the_published_number_of_ways() -> None:
    ways = {task: len(found) for task, found in variants().items() if len(found) > 1}
    assert set(variants()) == set(TASKS)
    assert ways == {
        **{f"lift_{colour}_block_slider": 2 for colour in ("red", "blue", "pink")},
        **{"place_in_slider": 6, "place_in_drawer": 3, "stack_block": 6, "unstack_block": 6, "push_into_drawer": 3},
    }


def test_the_data_file_is_small() -> None:
    assert len((files("rdvla_bench.envs.calvin") / "data" / "sequences.json").read_bytes()) < 30_000
