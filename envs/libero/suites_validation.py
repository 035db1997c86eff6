"""LIBERO's four suites from starts of neither evaluation nor demonstration, to choose settings and weights on.

Tasks, scenes, cameras and words are LIBERO's. Start k is ``reset(options={"placement": k})``: objects, fixtures and the
arm's joints drawn from the task's own samplers, as the benchmark's saved states once were. The draw's seed is derived
from the suite's name too, so these are no demonstration's starts, which are placements of the suite that is trained on.
A run's ``--seed`` therefore moves nothing in the scene: it decides the policy's own draws alone.
"""

from __future__ import annotations

from dataclasses import replace

from rdvla_bench.envs.libero.suites_standard import LIBERO_10, LIBERO_GOAL, LIBERO_OBJECT, LIBERO_SPATIAL
from rdvla_bench.suite import Suite

_N_STARTS = 1000  # a task; any number could be drawn


def _from_other_starts(base: Suite) -> Suite:
    return replace(
        base,
        name=f"{base.name}_val",
        files=base.name,
        env_id=base.env_id.replace("-v0", "Val-v0"),
        start_option="placement",
        n_starts=_N_STARTS,
        default_protocol="libero-val/paired@1",
        demo_starts="",
        demo_spread=False,
    )


LIBERO_SPATIAL_VAL = _from_other_starts(LIBERO_SPATIAL)
LIBERO_OBJECT_VAL = _from_other_starts(LIBERO_OBJECT)
LIBERO_GOAL_VAL = _from_other_starts(LIBERO_GOAL)
LIBERO_10_VAL = _from_other_starts(LIBERO_10)

VALIDATION_SUITES = (LIBERO_SPATIAL_VAL, LIBERO_OBJECT_VAL, LIBERO_GOAL_VAL, LIBERO_10_VAL)
