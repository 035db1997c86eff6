"""All suites that ``LiberoEnv`` plays, by name: LIBERO's five, the 16 of LIBERO-PRO, and four of other starts."""

from __future__ import annotations

from rdvla_bench.envs.libero.suites_pro import PRO_SUITES
from rdvla_bench.envs.libero.suites_standard import LIBERO_10, LIBERO_90, LIBERO_GOAL, LIBERO_OBJECT, LIBERO_SPATIAL
from rdvla_bench.envs.libero.suites_validation import VALIDATION_SUITES
from rdvla_bench.suite import Suite

STANDARD_SUITES = (LIBERO_SPATIAL, LIBERO_OBJECT, LIBERO_GOAL, LIBERO_10, LIBERO_90)

SUITES: dict[str, Suite] = {suite.name: suite for suite in (*STANDARD_SUITES, *PRO_SUITES, *VALIDATION_SUITES)}
