"""The ledger of a run: one fsync'ed JSON line an episode, and the run folder around it.

What was reported done is on disk. A torn last line (power cut, kill -9) was never reported done and is dropped;
a garbled line anywhere else is somebody's edit or a broken disk, and is refused with its line number.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.errors import LedgerError
from rdvla_bench.record import Record

EPISODES = "episodes.jsonl"
RUN = "run.json"
ACTIONS = "actions"


def read_records(run_dir: Path) -> dict[str, Record]:
    """Return episode id -> its newest record, in the order first written. A torn last line is passed over.

    Raises:
        LedgerError: no ledger here, or a garbled line.
    """
    path = run_dir / EPISODES
    if not path.exists():
        raise LedgerError(f"{run_dir} is no run folder: it has no {EPISODES} (a run writes it: rdvla-bench run --out)")
    records: dict[str, Record] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            record = Record.from_json(json.loads(line))
        except (KeyError, TypeError, ValueError) as error:
            raise LedgerError(
                f"{path}:{number} is garbled ({type(error).__name__}: {error}). "
                f"Delete that line to play the episode again"
            ) from error
        records[record.episode.id] = record
    return records


def read_run(run_dir: Path) -> dict[str, Any]:
    """Return run.json.

    Raises:
        LedgerError: not there, or no JSON object.
    """
    path = run_dir / RUN
    try:
        run = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise LedgerError(
            f"{run_dir} is no run folder: it has no {RUN} (a run writes it: rdvla-bench run --out)"
        ) from error
    except ValueError as error:
        raise LedgerError(f"{path} is garbled: {error}") from error
    if not isinstance(run, dict) or "config" not in run:
        raise LedgerError(f"{path} was not written by rdvla-bench run")
    return run


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``path`` whole or not at all, and make it durable.

    Raises:
        LedgerError: the file system refused.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise LedgerError(_refused(path, error)) from error


def write_run(run_dir: Path, run: Mapping[str, Any]) -> None:
    """Write run.json."""
    write_atomically(run_dir / RUN, (json.dumps(run, indent=2, sort_keys=True) + "\n").encode())


def actions_path(run_dir: Path, episode_id: str) -> Path:
    """Return where the actions of one episode are kept."""
    return run_dir / ACTIONS / f"{episode_id}.npz"


class Ledger:
    """The one writer of a run folder. A second writer is refused."""

    def __init__(self, run_dir: Path) -> None:
        """Open the ledger for appending, recover a torn tail, read what is there.

        Raises:
            LedgerError: another process writes here, a garbled line, or the file system refuses.
        """
        self.run_dir = run_dir
        self._path = run_dir / EPISODES
        try:
            (run_dir / ACTIONS).mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise LedgerError(_refused(run_dir, error)) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise LedgerError(f"another run is writing to {run_dir}: wait for it, or choose another --out") from error
        self.recovered = self._drop_torn_tail()
        self.records = read_records(run_dir)

    def _drop_torn_tail(self) -> int:
        """Cut what follows the last line end; return how many bytes that was."""
        data = self._path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._file, whole)
            os.fsync(self._file)
        return len(data) - whole

    def append(self, record: Record, actions: NDArray[np.float32]) -> None:
        """Make one episode durable: its actions first, then its line.

        Raises:
            LedgerError: the file system refused; the ledger is as it was before the call.
        """
        self._write_actions(record, actions)
        line = json.dumps(record.to_json(), separators=(",", ":"), allow_nan=False).encode() + b"\n"
        size = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line)
            if written < len(line):
                os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, size)
            raise LedgerError(_refused(self._path, error)) from error
        self.records[record.episode.id] = record

    def _write_actions(self, record: Record, actions: NDArray[np.float32]) -> None:
        buffer = io.BytesIO()
        np.savez(
            buffer,
            actions=actions,
            horizons=np.asarray(record.result.horizons, np.int32),
            depths=np.asarray(record.result.depths, np.int32),
            seed=np.int64(record.episode.seed),
        )
        write_atomically(actions_path(self.run_dir, record.episode.id), buffer.getvalue())

    def close(self) -> None:
        """Release the lock."""
        os.close(self._file)

    def __enter__(self) -> Self:
        """Return the open ledger."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock."""
        self.close()


def _refused(path: Path, error: OSError) -> str:
    return (
        f"cannot write {path}: {error.strerror or error}. Every episode reported done is safe; "
        f"make room and give the same command again"
    )
