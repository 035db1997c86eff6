"""This project's own gate: its policies against frozen baselines, on slices small enough for every test run.

A new baseline comes from the command in its row and ``python -m rdvla_bench.baseline RUN > tests/data/baselines/NAME``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from rdvla_bench.commands.gate import main as gate
from rdvla_bench.commands.run import main as run

BASELINES = Path(__file__).parent / "data" / "baselines"

# The margins are what so few episodes can show: 16 alike episodes pass 15 pp at alpha 0.05, 15 do not; 25 chains 0.5.
GATED = [
    pytest.param(
        "expert-libero_object.json",
        "--policy expert --suite libero_object --tasks 0,3 --episodes 8",
        "15pp",
        marks=[pytest.mark.libero, pytest.mark.slow],
    ),
    pytest.param(
        "expert-calvin_d.json",
        "--policy expert --suite calvin_d --episodes 25",
        "0.5",
        marks=[pytest.mark.calvin, pytest.mark.slow],
    ),
    pytest.param(
        "rdvla-adaptive-libero_object.json",
        "--policy rdvla-adaptive --suite libero_object --episodes 2",
        "15pp",
        marks=[pytest.mark.libero, pytest.mark.slow],
    ),
    pytest.param(
        "rdvla-adaptive-calvin_d.json",
        "--policy rdvla-adaptive --suite calvin_d --episodes 25",
        "0.5",
        marks=[pytest.mark.calvin, pytest.mark.slow],
    ),
]
DRAWN_OTHERWISE = "the baseline's pictures were drawn from"
SIMULATORS = {"libero_object": "libero", "calvin_d": "pybullet"}


@pytest.mark.parametrize(("baseline", "arguments", "margin"), GATED)
def test_a_shipped_policy_is_no_worse_than_its_baseline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], baseline: str, arguments: str, margin: str
) -> None:
    pytest.importorskip(SIMULATORS[arguments.split()[3]])
    if "rdvla" in arguments:
        pytest.importorskip("torch")
    out = str(tmp_path / "run")
    assert run([*arguments.split(), "--workers", "0", "--out", out]) == 0
    capsys.readouterr()
    status = gate(["--baseline", str(BASELINES / baseline), out, "--margin", margin])
    said = capsys.readouterr()
    if status == 2 and DRAWN_OTHERWISE in said.err:
        pytest.skip(said.err)  # a policy that sees is held against pictures of the same renderer alone
    assert status == 0, said.out + said.err
