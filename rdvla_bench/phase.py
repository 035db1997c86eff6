"""Whose turn it is in a worker, readable from another process."""

from __future__ import annotations

import mmap
import struct
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rdvla_bench.rollout import Phase


@dataclass(frozen=True)
class Status:
    """What a worker is doing."""

    phase: Phase
    elapsed_s: float


class PhaseFile:
    """Whose turn it is, in a memory-mapped file: readable even while a native call keeps the interpreter lock.

    Holds one byte for the phase and the system-wide monotonic clock, so it serves drivers on the same host only.
    """

    _FORMAT = struct.Struct("<?d")  # is it the policy's turn, since when

    def __init__(self, path: str = "") -> None:
        """Open the file at ``path``, or create one."""
        if path:
            self._file: IO[bytes] = Path(path).open("r+b")  # noqa: SIM115 - lives as long as the object
        else:
            self._file = tempfile.NamedTemporaryFile(prefix="rdvla-phase-")  # noqa: SIM115
            self._file.write(bytes(self._FORMAT.size))
            self._file.flush()
        self.path = str(self._file.name)
        self._map = mmap.mmap(self._file.fileno(), self._FORMAT.size)
        if not path:
            self.write("env")

    def write(self, phase: Phase) -> None:
        """Begin ``phase`` now."""
        self._FORMAT.pack_into(self._map, 0, phase == "policy", time.monotonic())

    def read(self) -> Status:
        """Return the current phase."""
        is_policy, since = self._FORMAT.unpack_from(self._map, 0)
        return Status("policy" if is_policy else "env", time.monotonic() - since)
