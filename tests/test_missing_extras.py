"""Without an extra, the answer is one line with the pip command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
"""


def run_without(hidden: set[str], folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    (folder / "sitecustomize.py").write_text(BLOCKER.format(hidden=hidden))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False, env=env, cwd=folder
    )


RUN = ("rdvla_bench.run", "--policy", "hold", "--suite", "libero_object", "--tasks", "0", "--out", "out")


@pytest.mark.parametrize(
    ("hidden", "extra", "command"),
    [
        ({"ray"}, "ray", (*RUN, "--workers", "1")),
        ({"libero", "robosuite", "mujoco"}, "libero", (*RUN, "--workers", "0")),
        ({"pandas", "pyarrow"}, "board", (*RUN, "--workers", "0")),
        (
            {"torch", "transformers"},
            "model",
            ("rdvla_bench.run", "--policy", "rdvla-fixed", "--set", "checkpoint=untrained", "--workers", "0", *RUN[3:]),
        ),
        (
            {"PIL"},
            "model",
            ("rdvla_bench.run", "--policy", "rdvla-fixed", "--set", "checkpoint=.", "--workers", "0", *RUN[3:]),
        ),
    ],
)
def test_a_missing_extra_is_named_with_its_pip_command(
    tmp_path: Path, hidden: set[str], extra: str, command: tuple[str, ...]
) -> None:
    done = run_without(hidden, tmp_path, *command)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f'pip install "rdvla-bench[{extra}]"' in done.stderr
    assert done.stderr.strip().count("\n") == 0, done.stderr


def test_the_list_needs_no_extra(tmp_path: Path) -> None:
    hidden = {"ray", "libero", "robosuite", "mujoco", "pandas", "pyarrow", "torch", "transformers"}
    done = run_without(hidden, tmp_path, "rdvla_bench.list")
    assert done.returncode == 0, done.stderr
    assert "rdvla-adaptive" in done.stdout
    assert done.stdout.count("BROKEN") == 1  # the fake that is meant to be
