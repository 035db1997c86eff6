"""PyBullet, imported without the greeting that its library prints to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_STDERR = 2


@contextmanager
def _silence() -> Iterator[None]:
    """Send what C code prints to nowhere meanwhile."""
    sys.stderr.flush()
    kept, nowhere = os.dup(_STDERR), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    try:
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)
        os.close(nowhere)


with _silence():
    import pybullet

__all__ = ["pybullet"]
