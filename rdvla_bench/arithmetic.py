"""The same bits on every x86-64 processor with AVX2 and FMA, whoever made it.

Numerical libraries pick their kernels by what the processor offers, and kernels differ in the order of their sums. Left
to themselves they answer otherwise on an AMD than on an Intel processor, and with AVX-512 than without; a closed loop
makes another episode of the last bit. Told to use what all processors of the last ten years have, they agree
(docs/rdvla.md, "Which libraries round by the processor", has the hashes and what it costs).

Non-obvious:

- They read their variables when they are loaded, so a program that plays episodes starts itself once more with them set
  (``portable_process``); a worker on Ray gets them from the process that starts it (``worker_env``).
- A variable that the user has set stays, and ``RDVLA_BENCH_ARITHMETIC=native`` leaves all alone. One run folder never
  holds episodes of both kinds: each worker says which it is, and is held to it.
- Training keeps the processor's own kernels: 40 steps take 25 s of CPU, 40 s otherwise, and bits depend on threads too.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

SWITCH = "RDVLA_BENCH_ARITHMETIC"

PORTABLE = {
    "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # its convolutions
    "MKL_CBWR": "COMPATIBLE",  # its matrix products; the one branch that MKL offers on processors of all makers
    "OPENBLAS_CORETYPE": "Haswell",  # numpy's and scipy's linear algebra, in robosuite's controller
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",  # numpy's own loops; by the names of numpy 2.4
}

Arithmetic = Literal["portable", "native"]


def arithmetic() -> Arithmetic:
    """Return what this process was started with."""
    is_set = all(os.environ.get(name) == value for name, value in PORTABLE.items())
    return "portable" if is_set and _can_be_portable() else "native"


def arithmetic_of(manifest: Mapping[str, Any]) -> Arithmetic:
    """Return what the episodes of a manifest's folder were calculated with; native where it does not tell."""
    told: Arithmetic = (manifest.get("machine") or {}).get("arithmetic", "native")
    return told


def worker_env() -> dict[str, str]:
    """Return the variables that make a worker's process calculate as this one does."""
    return {name: os.environ[name] for name in PORTABLE if name in os.environ}


def portable_process() -> None:
    """Start this program once more, in the same process, with portable arithmetic; return where it has it already.

    For programs only, before they do anything else. Does nothing on a processor without AVX2 and FMA, on other systems
    than Linux on x86-64, and where the user said ``RDVLA_BENCH_ARITHMETIC=native``.
    """
    wanted = PORTABLE | dict(os.environ)
    if wanted == dict(os.environ) or os.environ.get(SWITCH, "portable") == "native" or not _can_be_portable():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)


@cache
def _can_be_portable() -> bool:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return {"avx2", "fma"} <= set(flags)
