from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rdvla_bench.__main__ import COMMANDS

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "ray", "pandas", "pyarrow", "mujoco", "robosuite", "libero", "pybullet", "scipy")
ALLOWED = {
    "rdvla_bench": {"rdvla_bench"},
    "envs": {"rdvla_bench", "rdvla_bench.envs"},
    "policies": {"rdvla_bench", "rdvla_bench.policies"},
    "leaderboards": {"rdvla_bench", "rdvla_bench.leaderboards"},
}
COMPOSERS = {"rdvla_bench.commands"}


def test_importing_the_packages_imports_nothing_heavy() -> None:
    code = (
        "import sys, rdvla_bench, rdvla_bench.envs, rdvla_bench.policies, rdvla_bench.leaderboards\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_package_registers_its_environments() -> None:
    code = "import gymnasium, rdvla_bench; print(sorted(i for i in gymnasium.registry if i.startswith('rdvla_bench/')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    four = ("Libero10", "LiberoGoal", "LiberoObject", "LiberoSpatial")
    more = [f"{name}{kind}" for name in four for kind in ("Lan", "Object", "Swap", "Task", "Val")]
    names = ("CalvinA", "CalvinB", "CalvinC", "CalvinD", *four, "Libero90", *more)
    assert done.stdout.strip() == str(sorted(f"rdvla_bench/{name}-v0" for name in names))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_answers_at_once(command: str) -> None:
    begun = os.times()
    done = subprocess.run(
        [sys.executable, "-m", f"rdvla_bench.{command}", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()
    ended = os.times()
    # CPU seconds of the finished child, whatever else runs on the machine: 0.4, and 2 to 4 with torch or ray
    assert ended.children_user + ended.children_system - begun.children_user - begun.children_system < 1.5


def _package(module: str) -> str:
    parts = module.split(".")
    return (
        ".".join(parts[:2]) if parts[1:2] and parts[1] in ("envs", "policies", "leaderboards", "commands") else parts[0]
    )


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_packages_are_read_in_one_direction(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        own = f"rdvla_bench.{path.parent.name}" if path.parent.name == "commands" else folder
        is_shim = folder == "rdvla_bench" and path.parent == ROOT / "rdvla_bench"
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for name in names:
                if not name.startswith("rdvla_bench"):
                    continue
                target = _package(name)
                ok = target in ALLOWED[folder] or own in COMPOSERS or (is_shim and target in COMPOSERS)
                assert ok, f"{path.relative_to(ROOT)} imports {name}"
