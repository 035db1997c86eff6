"""The example package is really installed, and run by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rdvla_bench.ledger import read_records, read_run

EXAMPLE = Path(__file__).parents[1] / "examples" / "hover_policy"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "hover_policy")
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True)
    return target


def command(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, check=False, env=env, timeout=300
    )


def test_an_installed_policy_is_listed(site: Path) -> None:
    done = command(site, "rdvla_bench.list", "policies")
    assert done.returncode == 0, done.stderr
    assert "hover" in done.stdout
    assert "rdvla-bench-hover-policy" in done.stdout


@pytest.mark.libero
def test_an_installed_policy_runs_by_name_on_libero(site: Path, tmp_path: Path) -> None:
    arguments = ["--policy", "hover", "--set", "height=1.0", "--suite", "libero_object", "--tasks", "0"]
    done = command(site, "rdvla_bench.run", *arguments, "--workers", "0", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = read_records(tmp_path).values()
    assert record.result.outcome == "timeout"
    assert record.result.frames_sha256
    assert read_run(tmp_path)["policy_card"]["config"] == {"height": 1.0, "chunk": 8}


def test_a_wrong_setting_of_an_installed_policy_is_named(site: Path) -> None:
    done = command(site, "rdvla_bench.run", "--policy", "hover", "--set", "hight=1.0", "--workers", "0")
    assert done.returncode == 2
    assert "Did you mean 'height'" in done.stderr
    assert "Traceback" not in done.stderr
