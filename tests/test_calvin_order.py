"""Claims that a chain's result depends on nothing but the chain: not on those before it, not on the process."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("pybullet")

from rdvla_bench.commands.bench import main
from rdvla_bench.envs.calvin.env import CalvinEnv
from rdvla_bench.envs.calvin.world import World

STEPS = 90
FEELS = 0  # a chain that feels the one before it where the world is not rebuilt; not every chain does


def play(env: CalvinEnv, chain: int) -> bytes:
    """Return the state after ``STEPS`` control steps that press and sweep the hand over the table."""
    rng = np.random.default_rng(chain)
    sweeps = np.repeat(rng.uniform(-1, 1, (STEPS // 15, 7)), 15, axis=0).astype(np.float32)
    sweeps[:, 2] -= 0.8
    env.reset(options={"chain": chain})
    _, _, terminated, truncated, info = env.step_chunk(sweeps)
    while not (terminated or truncated) and info["steps"] < STEPS:
        _, _, terminated, truncated, info = env.step_chunk(sweeps[info["steps"] :])
    return env.get_state().tobytes()


def test_four_chains_end_alike_forwards_in_one_process_and_backwards_in_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["calvin", "--orders", "--chains", "4", "--steps", "120"]) == 0
    assert re.search(r"4 end equal, in 4 different states", capsys.readouterr().out)


def test_a_chain_ends_alike_after_any_other() -> None:
    env = CalvinEnv("calvin_d", cameras=())
    alone = play(env, FEELS)
    for other in (1, 5, 6):
        play(env, other)
        assert play(env, FEELS) == alone
    env.close()


def test_a_world_that_is_not_rebuilt_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the claims above able to fail."""
    env = CalvinEnv("calvin_d", cameras=())
    alone = play(env, FEELS)
    monkeypatch.setattr(World, "rebuild", lambda self: None)
    play(env, 5)
    assert play(env, FEELS) != alone
    env.close()
