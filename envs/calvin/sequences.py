"""The 1000 chains of five tasks: read from a small data file, or generated again.

The rules that a chain must obey are those of mees/calvin@fa03f01
calvin_agent/evaluation/multistep_sequences.py; the list is the same, chain for chain (``DIGEST``).

Non-obvious:
    * The 192 initial states, the order of ``TASKS`` and numpy's legacy generator all fix the list.
    * A chain is kept only where every task has exactly one applicable variant: a task that could be done in two
      ways is as unfit as one that cannot be done.
    * "slider_left" is a place on the shelf, "left" is where the door stands: in front of that place. A block is lifted
      from the side that the door leaves open, but a block that was put away counts as on the door's own side.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import permutations, product
from typing import Any, NamedTuple

import numpy as np

from rdvla_bench.envs.calvin.suites import CHAIN_LENGTH, N_CHAINS, TASKS

DIGEST = "90191d9ac76baecb4f292ab766bbbf3ae65dbf43a83bbe5c376d99db10fd6446"
"""SHA-256 of the original's list as canonical JSON: recomputed from mees/calvin@fa03f01; duo-vla publishes the same
value as SEQUENCE_SHA256."""

BLOCKS = ("red_block", "blue_block", "pink_block")


class State(NamedTuple):
    """A scene in words. Order and spelling of the fields are the original's: the initial state's seed hashes them."""

    led: int  # 0 or 1
    lightbulb: int  # 0 or 1
    slider: str  # "right" or "left": where the door stands
    drawer: str  # "closed" or "open"
    red_block: str  # "table", "slider_right", "slider_left"; in a chain also "drawer", "grasped", "stacked_*"
    blue_block: str
    pink_block: str
    grasped: int  # 0 or 1


@dataclass(frozen=True)
class Chain:
    """One episode: how the scene starts and what is asked of it, in order."""

    state: State
    tasks: tuple[str, ...]  # CHAIN_LENGTH names


class Variant(NamedTuple):
    """One way in which a task can be done: what must be so before, and what is so after."""

    before: Mapping[str, frozenset[Any]]
    after: Mapping[str, Any]


def chains() -> tuple[Chain, ...]:
    """Return the 1000 chains, in the order in which they are evaluated."""
    return _read()


def digest(of: Iterable[Chain]) -> str:
    """Return SHA-256 over ``[[state, [tasks]], ...]`` as JSON with sorted keys and no spaces."""
    plain = [[chain.state._asdict(), list(chain.tasks)] for chain in of]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@cache
def initial_states() -> tuple[State, ...]:
    """Return the 192 states a chain can start from, in the original's order."""
    places = ("table", "slider_right", "slider_left")
    every = (
        State(led, bulb, slider, drawer, red, blue, pink, 0)
        for led, bulb, slider, drawer, red, blue, pink in product(
            (0, 1), (0, 1), ("right", "left"), ("closed", "open"), places, places, places
        )
    )
    return tuple(s for s in every if s.count("table") in (1, 2) and max(map(s.count, places[1:])) < 2)


def n_chains_of(state_index: int) -> int:
    """Return how many chains start from the given initial state: 6 for the first 40, 5 for the others."""
    each, extra = divmod(N_CHAINS, len(initial_states()))
    return each + (state_index < extra)


def regenerate(state_index: int) -> tuple[Chain, ...]:
    """Draw the chains of one initial state again; about a tenth of a CPU second."""
    state = initial_states()[state_index]
    rng = np.random.RandomState(state_index)  # the original draws from the legacy generator
    found: list[Chain] = []
    while len(found) < n_chains_of(state_index):
        drawn = rng.permutation(len(TASKS))[:CHAIN_LENGTH].tolist()  # what its choice(replace=False) does inside
        if _is_valid(state, drawn):
            found.append(Chain(state, tuple(TASKS[i] for i in drawn)))
    return tuple(found)


def regenerate_all() -> tuple[Chain, ...]:
    """Draw all 1000 chains again, in the order in which they are evaluated; about 20 CPU seconds."""
    drawn = [chain for i in range(len(initial_states())) for chain in regenerate(i)]
    order = list(range(len(drawn)))
    np.random.RandomState(0).shuffle(order)  # the original shuffles with the legacy generator
    return tuple(drawn[i] for i in order)


def to_rows(of: Iterable[Chain]) -> list[list[int]]:
    """Return each chain as the index of its initial state and the indices of its tasks: the form of the data file."""
    index = {state: i for i, state in enumerate(initial_states())}
    return [[index[chain.state], *map(TASKS.index, chain.tasks)] for chain in of]


@cache
def _read() -> tuple[Chain, ...]:
    rows = json.loads((files("rdvla_bench.envs.calvin") / "data" / "sequences.json").read_text("ascii"))
    states = initial_states()
    return tuple(Chain(states[state], tuple(TASKS[i] for i in tasks)) for state, *tasks in rows)


def _is_valid(state: State, drawn: list[int]) -> bool:
    """Say whether the tasks are of different categories and can be done one after the other."""
    if len({_CATEGORY[i] for i in drawn}) < CHAIN_LENGTH:
        return False
    now: State | None = state
    for i in drawn:
        now = after(now, i)
        if now is None:
            return False
    return True


@cache
def after(state: State, task: int) -> State | None:
    """Return the state after ``task``, or None where not exactly one variant applies."""
    fitting = [
        variant
        for variant in variants()[TASKS[task]]
        if all(getattr(state, key) in allowed for key, allowed in variant.before.items())
    ]
    return state._replace(**fitting[0].after) if len(fitting) == 1 else None


def _category(task: str) -> int:
    """Return the kind of task; a chain has no two of one kind."""
    kinds = (
        ("rotate_", "push_red", "push_blue", "push_pink"),
        ("move_slider",),
        ("open_drawer", "close_drawer"),
        ("lift_red_block_table", "lift_blue_block_table", "lift_pink_block_table"),
        ("lift_red_block_slider", "lift_blue_block_slider", "lift_pink_block_slider"),
        ("lift_red_block_drawer", "lift_blue_block_drawer", "lift_pink_block_drawer"),
        ("place_in",),
        ("turn_",),
        ("push_into_drawer",),
        ("stack_block",),
        ("unstack_block",),
    )
    return next(i for i, prefixes in enumerate(kinds) if task.startswith(prefixes))


def _variant(before: Mapping[str, Any], after: Mapping[str, Any] | None = None, *, held: bool = False) -> Variant:
    """Return a variant; a value that is not a set stands for itself."""
    wanted = {**before, "grasped": int(held)}
    sets = {key: value if isinstance(value, frozenset) else frozenset([value]) for key, value in wanted.items()}
    return Variant(sets, after or {})


@cache
def variants() -> Mapping[str, tuple[Variant, ...]]:
    """Return the ways in which each task can be done."""
    found: dict[str, list[Variant]] = {task: [] for task in TASKS}
    for task, variant in (*_door_variants(), *_light_variants(), *_block_variants(), *_pair_variants()):
        found[task].append(variant)
    return {task: tuple(ways) for task, ways in found.items()}


def _door_variants() -> Iterator[tuple[str, Variant]]:
    yield "move_slider_left", _variant({"slider": "right"}, {"slider": "left"})
    yield "move_slider_right", _variant({"slider": "left"}, {"slider": "right"})
    yield "open_drawer", _variant({"drawer": "closed"}, {"drawer": "open"})
    yield "close_drawer", _variant({"drawer": "open"}, {"drawer": "closed"})


def _light_variants() -> Iterator[tuple[str, Variant]]:
    for light in ("lightbulb", "led"):
        yield f"turn_on_{light}", _variant({light: 0}, {light: 1})
        yield f"turn_off_{light}", _variant({light: 1}, {light: 0})


def _block_variants() -> Iterator[tuple[str, Variant]]:
    in_slider = frozenset({"slider_right", "slider_left"})
    for block in BLOCKS:
        for side in ("right", "left"):
            yield f"rotate_{block}_{side}", _variant({block: "table"})
            yield f"push_{block}_{side}", _variant({block: "table"})
        lifted = {block: "grasped", "grasped": 1}
        yield f"lift_{block}_table", _variant({block: "table"}, lifted)
        yield f"lift_{block}_drawer", _variant({block: "drawer", "drawer": "open"}, lifted)
        for place, door in (("slider_left", "right"), ("slider_right", "left")):
            yield f"lift_{block}_slider", _variant({block: place, "slider": door}, lifted)
            put = {block: f"slider_{door}", "grasped": 0}
            yield "place_in_slider", _variant({block: "grasped", "slider": door}, put, held=True)
        yield (
            "place_in_drawer",
            _variant({block: "grasped", "drawer": "open"}, {block: "drawer", "grasped": 0}, held=True),
        )
        others = {other: in_slider for other in BLOCKS if other != block}
        yield "push_into_drawer", _variant({block: "table", "drawer": "open", **others}, {block: "drawer"})


def _pair_variants() -> Iterator[tuple[str, Variant]]:
    for top, bottom in permutations(BLOCKS, 2):
        stacked = {top: "stacked_top", bottom: "stacked_bottom"}
        yield "stack_block", _variant({top: "grasped", bottom: "table"}, {**stacked, "grasped": 0}, held=True)
        yield "unstack_block", _variant(stacked, {top: "table", bottom: "table"})


_CATEGORY = tuple(map(_category, TASKS))
