"""The fake suite and policy are found like any plug-in: by their dist-info on the path, here and in every worker."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path

import pytest

# as the commands do that play episodes; numpy reads it when it is loaded, which the package would do
for name, value in runpy.run_path(str(Path(__file__).parent.parent / "rdvla_bench" / "arithmetic.py"))[
    "PORTABLE"
].items():
    os.environ.setdefault(name, value)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that wait for each other on busy cores take 20 times as long

FAKES = str(Path(__file__).parent / "fakes")
sys.path.insert(0, FAKES)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [FAKES, os.environ.get("PYTHONPATH", "")]))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job; children would not hear Ctrl-C either
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes test (pytest-xdist): a file stays in one, for its fixtures; all tests that start Ray are
    in one, so that there are never two clusters. Those come first, files with slow tests next."""
    if not hasattr(config, "workerinput"):
        return
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (not item.get_closest_marker("ray"), item.path not in slow))
    for item in items:
        item.add_marker(pytest.mark.xdist_group("ray" if item.get_closest_marker("ray") else item.path.stem))
