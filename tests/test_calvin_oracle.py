"""Claims about CALVIN's 34 rules, on snapshots made by hand: each rule's edges, and the original's traps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from rdvla_bench.envs.calvin.oracle import RULES, achieved, holds, needs_contacts, rotation, turn
from rdvla_bench.envs.calvin.snapshot import (
    BASE_LINK,
    DRAWER_LINK,
    PLANE,
    PLANK_LINK,
    ROBOT,
    TABLE,
    BlockState,
    Contact,
    Snapshot,
)
from rdvla_bench.envs.calvin.suites import TASKS
from rdvla_bench.errors import UnknownName

BODY = {"red": 2, "blue": 3, "pink": 4}
ON_TABLE, ON_PLANK, IN_DRAWER = (TABLE, BASE_LINK), (TABLE, PLANK_LINK), (TABLE, DRAWER_LINK)
LEFT_FINGER, RIGHT_FINGER = (ROBOT, 9), (ROBOT, 11)
HELD = {LEFT_FINGER, RIGHT_FINGER}
EPSILON = 1e-9

colours = pytest.mark.parametrize("colour", BODY)


def about(axis: str, degrees: float) -> np.ndarray:
    quat = np.zeros(4)
    quat["xyz".index(axis)] = np.sin(np.deg2rad(degrees) / 2)
    quat[3] = np.cos(np.deg2rad(degrees) / 2)
    return quat


def block(
    colour: str,
    position: tuple[float, float, float] = (0, 0, 0),
    contacts: Iterable[Contact] = (ON_TABLE,),
    quat: np.ndarray | None = None,
    velocity: tuple[float, float, float] = (0, 0, 0),
    spin: tuple[float, float, float] = (0, 0, 0),
) -> BlockState:
    return BlockState(
        body=BODY[colour],
        position=np.array(position, float),
        quat_xyzw=about("z", 0) if quat is None else quat,
        linear_velocity=np.array(velocity, float),
        angular_velocity=np.array(spin, float),
        contacts=frozenset(contacts),
    )


def world(
    *blocks: BlockState,
    slide: float = 0,
    drawer: float = 0,
    lightbulb: bool = False,
    led: bool = False,
    robot: Iterable[Contact] = (),
) -> Snapshot:
    given = {next(c for c in BODY if BODY[c] == b.body): b for b in blocks}
    return Snapshot(
        blocks={c: given.get(c, block(c)) for c in BODY},
        doors={"slide": slide, "drawer": drawer},
        lights={"lightbulb": lightbulb, "led": led},
        robot_contacts=frozenset(robot),
    )


def test_every_task_has_a_rule() -> None:
    assert set(RULES) == set(TASKS)


def test_nothing_holds_where_nothing_happened() -> None:
    assert achieved(world(), world()) == frozenset()


def test_an_unknown_task_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'open_drawer'"):
        holds("open_drawr", world(), world())


def test_only_doors_and_lights_do_without_contacts() -> None:
    assert {task for task in TASKS if not needs_contacts(task)} == {
        *("move_slider_left", "move_slider_right", "open_drawer", "close_drawer"),
        *("turn_on_lightbulb", "turn_off_lightbulb", "turn_on_led", "turn_off_led"),
    }


def test_only_the_tasks_asked_for_are_judged() -> None:
    assert achieved(world(), world(led=True, drawer=0.2), ["open_drawer"]) == {"open_drawer"}


def test_turns_are_scipys_extrinsic_xyz_angles() -> None:
    Rotation = pytest.importorskip("scipy.spatial.transform").Rotation
    rng = np.random.default_rng(0)
    for start, now in rng.normal(size=(200, 2, 4)):
        expected = Rotation.from_quat(now) * Rotation.from_quat(start).inv()
        np.testing.assert_allclose(turn(start, now), expected.as_euler("xyz", degrees=True), atol=1e-6)
        np.testing.assert_allclose(rotation(now), Rotation.from_quat(now).as_matrix(), atol=1e-12)


@colours
@pytest.mark.parametrize(("degrees", "side"), [(61, "left"), (179, "left"), (-61, "right"), (-179, "right")])
def test_a_turn_beyond_60_degrees_is_a_rotation_to_its_side(colour: str, degrees: float, side: str) -> None:
    now = world(block(colour, quat=about("z", degrees)))
    assert achieved(world(), now) == {f"rotate_{colour}_block_{side}"}


@pytest.mark.parametrize("degrees", [59, 0, -59])
def test_a_turn_within_60_degrees_is_no_rotation(degrees: float) -> None:
    assert achieved(world(), world(block("red", quat=about("z", degrees)))) == frozenset()


def test_a_turn_of_more_than_half_a_circle_counts_to_the_other_side() -> None:
    assert achieved(world(), world(block("red", quat=about("z", 200)))) == {"rotate_red_block_right"}


def test_a_turn_is_judged_relative_to_the_yaw_at_the_start() -> None:
    start = world(block("red", quat=about("z", 100)))
    assert achieved(start, world(block("red", quat=about("z", 150)))) == frozenset()
    assert achieved(start, world(block("red", quat=about("z", 165)))) == {"rotate_red_block_left"}


def test_a_rotated_block_may_tilt_less_than_30_degrees() -> None:
    Rotation = pytest.importorskip("scipy.spatial.transform").Rotation
    for tilt, expected in ((29, True), (31, False)):
        for angles in ((tilt, 0, 90), (0, tilt, 90)):
            now = world(block("red", quat=Rotation.from_euler("xyz", angles, degrees=True).as_quat()))
            assert holds("rotate_red_block_left", world(), now) is expected


def test_a_rotated_block_may_stray_a_tenth_of_a_metre() -> None:
    for stray, expected in ((0.1, True), (0.1 + EPSILON, False)):
        now = world(block("red", (0, stray, 0), quat=about("z", 90)))
        assert holds("rotate_red_block_left", world(), now) is expected


@pytest.mark.parametrize(
    ("contacts", "expected"),
    [(HELD, False), (set(), False), ({*HELD, ON_TABLE}, True), ({(PLANE, -1)}, True), ({(BODY["blue"], -1)}, True)],
)
def test_a_rotated_block_touches_something_besides_the_robot(contacts: set[Contact], expected: bool) -> None:
    assert holds("rotate_red_block_left", world(), world(block("red", (0, 0, 0), contacts, about("z", 90)))) is expected


@colours
def test_right_is_plus_x(colour: str) -> None:
    assert achieved(world(), world(block(colour, (0.1 + EPSILON, 0, 0)))) == {f"push_{colour}_block_right"}
    assert achieved(world(), world(block(colour, (-0.1 - EPSILON, 0, 0)))) == {f"push_{colour}_block_left"}
    assert achieved(world(), world(block(colour, (0.1, 0, 0)))) == frozenset()
    assert achieved(world(), world(block(colour, (0, 0.5, 0)))) == frozenset()


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ({ON_TABLE}, {ON_TABLE}, True),
        ({ON_TABLE}, {ON_TABLE, (BODY["blue"], -1)}, True),  # more support than before
        ({ON_TABLE, (BODY["blue"], -1)}, {ON_TABLE}, False),  # it left a block behind
        ({ON_TABLE}, {ON_PLANK}, False),  # another link of the same body
        ({ON_TABLE, LEFT_FINGER}, {ON_TABLE}, True),  # the robot's touch does not count
        ({ON_TABLE}, HELD, False),
        (HELD, {*HELD, ON_TABLE}, False),
        (set(), {ON_TABLE}, False),
    ],
)
def test_a_pushed_block_keeps_what_it_stood_on(start: set[Contact], end: set[Contact], expected: bool) -> None:
    before, after = world(block("red", contacts=start)), world(block("red", (0.2, 0, 0), end))
    assert holds("push_red_block_right", before, after) is expected


@pytest.mark.parametrize(
    ("door", "threshold", "task"),
    [
        ("slide", +0.15, "move_slider_left"),
        ("slide", -0.15, "move_slider_right"),
        ("drawer", +0.12, "open_drawer"),
        ("drawer", -0.12, "close_drawer"),
    ],
)
def test_a_door_must_move_by_more_than_its_threshold(door: str, threshold: float, task: str) -> None:
    start = replace(world(), doors={"slide": 0.0, "drawer": 0.0})
    for factor, expected in ((1 + 1e-9, {task}), (1, set()), (-1, set())):
        assert achieved(start, replace(start, doors={**start.doors, door: threshold * factor})) == expected


def test_a_door_is_judged_by_its_change_not_by_where_it_stands() -> None:
    assert achieved(world(drawer=0.15), world(drawer=0.22)) == frozenset()


@pytest.mark.parametrize("light", ["lightbulb", "led"])
def test_a_light_must_change(light: str) -> None:
    off = world()
    on = replace(off, lights={**off.lights, light: True})
    assert achieved(off, on) == {f"turn_on_{light}"}
    assert achieved(on, off) == {f"turn_off_{light}"}
    assert achieved(on, on) == frozenset()


@colours
@pytest.mark.parametrize(
    ("support", "place", "dz"),
    [(ON_TABLE, "table", 0.05), (ON_PLANK, "slider", 0.03), (IN_DRAWER, "drawer", 0.05)],
)
def test_a_lift_counts_for_the_link_the_block_stood_on(colour: str, support: Contact, place: str, dz: float) -> None:
    start = world(block(colour, contacts={support}))
    assert achieved(start, world(block(colour, (0, 0, dz + EPSILON), HELD))) == {f"lift_{colour}_block_{place}"}
    assert achieved(start, world(block(colour, (0, 0, dz), HELD))) == frozenset()


@pytest.mark.parametrize("extra", [ON_TABLE, (BODY["blue"], -1), (PLANE, -1)])
def test_a_lifted_block_touches_nothing_but_the_robot(extra: Contact) -> None:
    assert not holds("lift_red_block_table", world(), world(block("red", (0, 0, 0.1), {*HELD, extra})))
    assert not holds("lift_red_block_table", world(), world(block("red", (0, 0, 0.1), ())))


def test_a_lift_may_start_with_the_hand_on_the_block() -> None:
    start = world(block("red", contacts={ON_TABLE, LEFT_FINGER}))
    assert holds("lift_red_block_table", start, world(block("red", (0, 0, 0.1), HELD)))


def holding(colour: str, extra: Iterable[Contact] = ()) -> Snapshot:
    return world(block(colour, contacts=HELD), robot={(BODY[colour], -1), *extra})


@colours
@pytest.mark.parametrize(("support", "task"), [(ON_PLANK, "place_in_slider"), (IN_DRAWER, "place_in_drawer")])
def test_a_held_block_let_go_on_a_link_is_placed_there(colour: str, support: Contact, task: str) -> None:
    assert achieved(holding(colour), world(block(colour, contacts={support}))) == {task}


def test_a_placement_waits_until_the_robot_lets_go() -> None:
    touching = world(block("red", contacts={IN_DRAWER, LEFT_FINGER}), robot={(BODY["red"], -1)})
    assert not holds("place_in_drawer", holding("red"), touching)


def test_the_robot_may_touch_other_things_when_it_has_let_go() -> None:
    assert holds("place_in_drawer", holding("red"), world(block("red", contacts={IN_DRAWER}), robot={ON_TABLE}))


@pytest.mark.parametrize("extra", [ON_TABLE, (BODY["blue"], -1), (PLANE, -1)])
def test_a_placement_fails_for_good_where_the_robot_touched_anything_else_at_the_start(extra: Contact) -> None:
    assert not holds("place_in_drawer", holding("red", [extra]), world(block("red", contacts={IN_DRAWER})))


def test_a_placement_fails_for_good_where_the_block_touched_anything_else_at_the_start() -> None:
    start = world(block("red", contacts={*HELD, (BODY["blue"], -1)}), robot={(BODY["red"], -1)})
    assert not holds("place_in_drawer", start, world(block("red", contacts={IN_DRAWER})))


def test_a_robot_that_holds_the_table_places_nothing() -> None:
    assert not holds("place_in_drawer", world(robot={ON_TABLE}), world(block("red", contacts={IN_DRAWER})))


ON_BLUE = (BODY["blue"], -1)


def test_a_block_that_rests_on_another_is_stacked() -> None:
    assert achieved(holding("red"), world(block("red", (0, 0, 0.04), {ON_BLUE}))) == {"stack_block"}


@pytest.mark.parametrize("extra", [ON_TABLE, LEFT_FINGER, (PLANE, -1)])
def test_a_stacked_block_touches_blocks_alone(extra: Contact) -> None:
    assert not holds("stack_block", holding("red"), world(block("red", contacts={ON_BLUE, extra})))


def test_a_block_in_the_air_is_neither_stacked_nor_was_it() -> None:
    flying = world(block("red", (0, 0, 1), ()))
    assert achieved(holding("red"), flying) == frozenset()
    assert achieved(flying, world()) == frozenset()


def test_a_block_that_touched_another_at_the_start_is_not_stacked_again() -> None:
    start = world(block("red", contacts={ON_TABLE, ON_BLUE}))
    assert not holds("stack_block", start, world(block("red", contacts={ON_BLUE})))


@pytest.mark.parametrize(("speed", "expected"), [(1 - EPSILON, True), (1, False), (-1, False)])
def test_a_stacked_block_is_slow_in_every_component(speed: float, expected: bool) -> None:
    for motion in ({"velocity": (0, 0, speed)}, {"spin": (speed, 0, 0)}):
        assert holds("stack_block", holding("red"), world(block("red", contacts={ON_BLUE}, **motion))) is expected
        stacked = world(block("red", contacts={ON_BLUE}, **motion))
        assert holds("unstack_block", stacked, world()) is expected


def test_a_stacked_block_away_from_all_blocks_is_unstacked_wherever_it_is() -> None:
    stacked = world(block("red", contacts={ON_BLUE}))
    assert holds("unstack_block", stacked, world(block("red", contacts=HELD)))
    assert holds("unstack_block", stacked, world(block("red", contacts={ON_TABLE})))
    assert not holds("unstack_block", stacked, world(block("red", contacts={ON_TABLE, (BODY["pink"], -1)})))


def test_a_block_that_the_robot_touched_at_the_start_was_not_stacked() -> None:
    assert not holds("unstack_block", world(block("red", contacts={ON_BLUE, LEFT_FINGER})), world())


@colours
def test_any_block_from_the_tables_top_may_fall_into_the_drawer(colour: str) -> None:
    assert achieved(world(), world(block(colour, contacts={IN_DRAWER}))) == {"push_into_drawer"}


def test_the_robot_may_still_touch_a_block_pushed_into_the_drawer() -> None:
    # the docstring of the original forbids it, its code does not
    assert holds("push_into_drawer", world(), world(block("red", contacts={IN_DRAWER, LEFT_FINGER})))


@pytest.mark.parametrize(
    "start", [{ON_TABLE, LEFT_FINGER}, {ON_TABLE, ON_BLUE}, {ON_PLANK}, {IN_DRAWER}, {ON_TABLE, ON_PLANK}, set()]
)
def test_a_block_pushed_into_the_drawer_touched_the_tables_top_alone_at_the_start(start: set[Contact]) -> None:
    assert not holds("push_into_drawer", world(block("red", contacts=start)), world(block("red", contacts={IN_DRAWER})))


def test_side_effects_are_seen_together() -> None:
    now = world(block("red", (0.2, 0, 0)), lightbulb=True, slide=0.28)
    assert achieved(world(), now) == {"push_red_block_right", "turn_on_lightbulb", "move_slider_left"}
