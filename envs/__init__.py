"""Simulators behind one Gymnasium face.

Importing this package registers every environment with Gymnasium; a simulator is imported when one is made.
"""

from __future__ import annotations

import gymnasium

from rdvla_bench.envs.calvin.suites import SUITES as CALVIN_SUITES
from rdvla_bench.envs.libero.suites import SUITES as LIBERO_SUITES


def register() -> None:
    """Register each suite as ``rdvla_bench/<Name>-v0``; calling it again changes nothing.

    The step cap belongs to the protocol card, so no ``max_episode_steps`` is given. Gymnasium's checker is off, as it
    would look at every picture again and refuses an environment without cameras; the tests run it instead.
    """
    for suite in (*LIBERO_SUITES.values(), *CALVIN_SUITES.values()):
        if suite.env_id not in gymnasium.registry:
            gymnasium.register(
                suite.env_id, entry_point=suite.env_entry, kwargs={"suite": suite.name}, disable_env_checker=True
            )


register()
