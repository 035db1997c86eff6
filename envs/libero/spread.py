"""Starts of demonstrations in which things lie further off than their task places them.

A task's samplers place a thing within 0.5 to 2.5 cm of one spot, so what is trained on them alone learns the spot by
heart (docs/weights-history.md, "Where the hand stands still"). What lies on the table or on the floor is moved here,
and with it what stands on it; fixtures and what is in or on them stay.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.envs.libero.simulator import mujoco

_TRIES = 200

Float = NDArray[np.float64]


def spread_out(sim_env: Any, qpos: Float, spread: float, rng: np.random.RandomState) -> None:
    """Move what lies on the table by up to ``spread`` m along x and y each, in ``qpos`` (nq,), touching nothing new.

    Where a thing finds no free place in 200 tries it stays where it was.
    """
    model, data = sim_env.sim.model._model, mujoco.MjData(sim_env.sim.model._model)
    groups = _groups(sim_env)
    touching = _touching(model, data, qpos)
    for group in groups:
        kept = qpos.copy()
        for _ in range(_TRIES):
            shift = rng.uniform(-spread, spread, 2)
            for address in group:
                qpos[address : address + 2] = kept[address : address + 2] + shift
            if _touching(model, data, qpos) <= touching:
                break
        else:
            qpos[:] = kept


def _groups(sim_env: Any) -> list[tuple[int, ...]]:
    """Return the addresses in qpos of each thing that lies on table or floor, with those of what stands on it."""
    problem, objects = sim_env.parsed_problem, sim_env.objects_dict
    below = {state[1]: state[2] for state in problem["initial_state"] if state[0] in ("on", "in")}
    groups: dict[str, list[int]] = {}
    for name in objects:
        base, on = name, below.get(name, "")
        while on in objects:
            base, on = on, below.get(on, "")
        place = problem["regions"].get(on, {}).get("target", "")
        if place and place not in objects and place not in sim_env.fixtures_dict:
            groups.setdefault(base, []).append(_address(sim_env, name))
    return [tuple(addresses) for addresses in groups.values()]


def _address(sim_env: Any, name: str) -> int:
    joint = sim_env.sim.model._model.joint(sim_env.objects_dict[name].joints[-1])
    return int(joint.qposadr[0])


def _touching(model: Any, data: Any, qpos: Float) -> set[tuple[int, int]]:
    """Return the pairs of bodies in contact."""
    data.qpos[:] = qpos
    mujoco.mj_fwdPosition(model, data)
    bodies = model.body_rootid[model.geom_bodyid[data.contact.geom]]
    return {(int(min(pair)), int(max(pair))) for pair in bodies}
