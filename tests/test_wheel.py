"""What is installed is what is in the tree: a sub-package missing from the wheel works in editable mode alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"rdvla_bench": "rdvla_bench", "envs": "rdvla_bench/envs", "policies": "rdvla_bench/policies"}
FOLDERS["leaderboards"] = "rdvla_bench/leaderboards"
WEIGHTS = ("rdvla/shipped/stand-in.safetensors", "rdvla/shipped/stand-in.json")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in (*FOLDERS, "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    for name in WEIGHTS:
        stand_in = source / "policies" / name
        stand_in.parent.mkdir(exist_ok=True)
        stand_in.write_text("{}")
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True)
    return target


def test_every_module_and_the_weights_are_in_the_wheel_and_nothing_else(site: Path) -> None:
    expected = {
        f"{prefix}/{path.relative_to(ROOT / folder)}"
        for folder, prefix in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected |= {f"rdvla_bench/policies/{name}" for name in WEIGHTS}
    installed = {str(path.relative_to(site)) for path in (site / "rdvla_bench").rglob("*") if path.is_file()}
    assert {name for name in installed if "__pycache__" not in name} == expected
    assert {p.name for p in site.iterdir() if not p.name.endswith(".dist-info")} <= {"rdvla_bench", "bin"}


def test_every_installed_module_can_be_imported(site: Path) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("torch")
    pytest.importorskip("libero")
    modules = sorted(
        str(path.relative_to(site)).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in (site / "rdvla_bench").rglob("*.py")
    )
    # trackers are optional, each module imports its own
    absent = {f"rdvla_bench.sinks.{name}" for name in ("mlflow", "wandb", "tensorboard") if find_spec(name) is None}
    modules = [name for name in modules if name not in absent]
    code = f"import importlib, sys; [importlib.import_module(m) for m in {modules}]; print(sys.modules['rdvla_bench'])"
    env = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert str(site) in done.stdout.strip().splitlines()[-1]
