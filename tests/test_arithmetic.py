"""Portable arithmetic: recorded bits, whatever processor these tests run on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rdvla_bench.arithmetic import PORTABLE, SWITCH
from rdvla_bench.ledger import read_run

# Recorded on an Intel processor with AVX-512. Of an AMD one with AVX2 there is an episode's record: docs/rdvla.md.
LINEAR_ALGEBRA = "1128ef31e583b396f8f1f722e64babdb6ae6c578fd4cf713c4bcb8b42d905135"
QUERIES = "d633f93e156f07cae6c8221f978dcb08764d38ba49efe01ef03762da466af46a"

NUMPY = """
import hashlib
import numpy as np
import scipy.linalg
rng = np.random.default_rng(0)
a, b = rng.normal(size=(6, 7)), rng.normal(size=(64, 64))
x = rng.normal(size=1000)
made = [a @ a.T, b @ b, np.linalg.pinv(a), scipy.linalg.svd(b)[1]]
made += [f(x) for f in (np.exp, np.sin, np.arctan, np.tanh)]
made += [f(x.astype(np.float32)) for f in (np.exp, np.sin)]
print(hashlib.sha256(b"".join(np.ascontiguousarray(m).tobytes() for m in made)).hexdigest())
"""
POLICY = """
import hashlib
import numpy as np
from rdvla_bench.policies import rdvla
policy = rdvla.fixed(checkpoint="untrained", config="nano-conv", depth=4)
digest = hashlib.sha256()
for i in range(4):
    rng = np.random.default_rng(i)
    images = {camera: rng.integers(0, 256, (64, 64, 3)).astype(np.uint8) for camera in policy.card.cameras}
    seen = {"images": images, "proprio": rng.normal(0, 0.5, 8).astype(np.float32), "instruction": "open the drawer"}
    digest.update(policy.act(seen, None, rng)[0].actions.tobytes())
print(digest.hexdigest())
"""


def is_portable() -> bool:
    code = "from rdvla_bench.arithmetic import arithmetic; print(arithmetic())"
    return python(code) == "portable"


def python(code: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | PORTABLE | env
    )
    return done.stdout.strip()


needs_avx2 = pytest.mark.skipif(not is_portable(), reason="no Linux on an x86-64 processor with AVX2 and FMA")


def run(out: Path, *more: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run as a user does whose environment knows nothing of this."""
    theirs = {name: value for name, value in os.environ.items() if name not in PORTABLE}
    command = [sys.executable, "-m", "rdvla_bench.run", "--policy", "fake", "--suite", "fake_suite", "--out", str(out)]
    return subprocess.run([*command, *more], capture_output=True, text=True, check=False, env=theirs | env)


@needs_avx2
def test_linear_algebra_and_functions_have_the_recorded_bits() -> None:
    pytest.importorskip("scipy")
    assert python(NUMPY) == LINEAR_ALGEBRA


@needs_avx2
def test_a_model_answers_with_the_recorded_bits() -> None:
    pytest.importorskip("torch")
    assert python(POLICY, OMP_NUM_THREADS="1") == QUERIES


@needs_avx2
def test_a_command_is_portable_unless_told_otherwise(tmp_path: Path) -> None:
    assert run(tmp_path / "told", "--workers", "0", **{SWITCH: "native"}).returncode == 0
    assert run(tmp_path / "untold", "--workers", "0").returncode == 0
    assert read_run(tmp_path / "told")["machine"]["arithmetic"] == "native"
    assert read_run(tmp_path / "untold")["machine"]["arithmetic"] == "portable"


@needs_avx2
def test_a_variable_of_the_users_own_stays_and_is_told(tmp_path: Path) -> None:
    done = run(tmp_path / "run", "--workers", "0", OPENBLAS_CORETYPE="Zen")
    assert done.returncode == 0, done.stderr
    assert read_run(tmp_path / "run")["machine"]["arithmetic"] == "native"


@needs_avx2
def test_one_folder_never_holds_both_kinds(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(out, "--workers", "0").returncode == 0
    ledger = out / "episodes.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(lines[:-1]))
    done = run(out, "--workers", "0", **{SWITCH: "native"})
    assert done.returncode != 0
    assert 'arithmetic: "portable" there, "native" here' in done.stdout + done.stderr
    run_json = json.loads((out / "run.json").read_text())
    del run_json["machine"]["arithmetic"]  # as before there was a choice
    (out / "run.json").write_text(json.dumps(run_json))
    assert run(out, "--workers", "0", **{SWITCH: "native"}).returncode == 0
    assert len(ledger.read_text().splitlines()) == len(lines)


@pytest.mark.ray
@needs_avx2
def test_workers_on_ray_calculate_as_the_program_does(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    for word in ("native", "portable"):
        done = run(tmp_path / word, "--workers", "1", "--episodes", "1", **{SWITCH: word})
        assert done.returncode == 0, done.stderr
        assert read_run(tmp_path / word)["machine"]["arithmetic"] == word
