"""Feeding trackers without depending on them.

Non-obvious:
- Every sink has a thread of its own, so an evaluation never waits for a tracker's network; only the end of a run
  does, for ``PATIENCE_S`` at most.
- What a sink raises is kept as one warning, and the sink is off from then on. No result depends on it.
- The id of the tracker's run is kept in ``OUT/sinks/NAME.json``; a resumed run continues the same one.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rdvla_bench.errors import UsageError
from rdvla_bench.ledger import write_atomically
from rdvla_bench.record import Record
from rdvla_bench.sinks.running import Running
from rdvla_bench.sinks.sink import Rows, Sink, open_sink

PATIENCE_S = 60.0
"""How long the end of a run waits for one sink to deliver what it still holds."""

FOLDER = "sinks"

_Entry = tuple[int, dict[str, float]]


class Feed:
    """All sinks of one run folder."""

    def __init__(self, sinks: Mapping[str, Sink], out: Path, *, patience_s: float = PATIENCE_S) -> None:
        """Prepare; a sink begins with its first values."""
        self._out = out
        self._running = Running()
        self._lines = [_Line(name, sink, out, patience_s) for name, sink in sinks.items()]

    @classmethod
    def of(cls, names: Iterable[str], out: Path) -> Feed:
        """Return the feed of the sinks ``names``.

        Raises:
            UsageError: a sink is named twice or unknown, or its library is missing.
        """
        asked = list(names)
        if len(set(asked)) < len(asked):
            raise UsageError(f"--log {' --log '.join(asked)} names a sink twice")
        return cls({name: open_sink(name, out) for name in asked}, out)

    def recall(self, records: Iterable[Record]) -> None:
        """Count episodes of earlier sessions; only a sink that has not seen this run is shown them."""
        for record in records if self._lines else ():
            values = self._running.add(record)
            for line in self._lines:
                line.recall((self._running.n_done, values))

    def add(self, manifest: Mapping[str, Any], record: Record) -> list[str]:
        """Count one episode; return the warnings that have not been said yet."""
        if self._lines:
            values = self._running.add(record)
            for line in self._lines:
                line.put(manifest, (self._running.n_done, values))
        return self._warnings()

    def end(self, manifest: Mapping[str, Any], rows: Rows | None) -> list[str]:
        """Log the final table, or None of an interrupted run, close, and return the warnings not said yet.

        A sink that was complete before this session is left alone.
        """
        for line in self._lines:
            line.finish(manifest, rows)
        for line in self._lines:
            line.wait()
        return self._warnings()

    def _warnings(self) -> list[str]:
        return [warning for line in self._lines for warning in line.warnings()]


class _Line:
    """One sink, its thread and its queue."""

    def __init__(self, name: str, sink: Sink, out: Path, patience_s: float) -> None:
        self._name, self._sink, self._patience_s = name, sink, patience_s
        self._path = out / FOLDER / f"{name}.json"
        self._queue: queue.SimpleQueue[_Entry | _End] = queue.SimpleQueue()
        self._recalled: list[_Entry] = []
        self._thread: threading.Thread | None = None
        self._failed: queue.SimpleQueue[str] = queue.SimpleQueue()

    def recall(self, entry: _Entry) -> None:
        if not self._path.exists():
            self._recalled.append(entry)

    def put(self, manifest: Mapping[str, Any], entry: _Entry) -> None:
        self._start(manifest)
        self._queue.put(entry)

    def finish(self, manifest: Mapping[str, Any], rows: Rows | None) -> None:
        if self._thread is None and self._path.exists():
            return  # nothing was played, and the tracker has the table already
        self._start(manifest)
        self._queue.put(_End(rows))

    def wait(self) -> None:
        if self._thread is None:
            return
        self._thread.join(self._patience_s)
        if self._thread.is_alive():
            self._failed.put(f"it did not take everything within {self._patience_s:.0f} s")

    def warnings(self) -> list[str]:
        said = []
        while not self._failed.empty():
            said.append(f"--log {self._name} is off: {self._failed.get()}. The evaluation itself is not affected")
        return said

    def _start(self, manifest: Mapping[str, Any]) -> None:
        if self._thread is None:
            for entry in self._recalled:
                self._queue.put(entry)
            # A daemon: a tracker that hangs must not keep the process alive.
            self._thread = threading.Thread(target=self._work, args=(dict(manifest),), daemon=True)
            self._thread.start()

    def _work(self, manifest: Mapping[str, Any]) -> None:
        try:
            self._write_id(self._sink.begin(manifest, self._read_id()))
            while isinstance(entry := self._queue.get(), tuple):
                self._sink.add(*entry)
            self._sink.end(entry.rows)
        except Exception as error:  # whatever a tracker's library raises must not end an evaluation
            text = " ".join(str(error).split()).rstrip(".")
            self._failed.put(f"{type(error).__name__}: {text}"[:400])

    def _read_id(self) -> str:
        return str(json.loads(self._path.read_text())["id"]) if self._path.exists() else ""

    def _write_id(self, run_id: str) -> None:
        self._path.parent.mkdir(exist_ok=True)
        write_atomically(self._path, (json.dumps({"id": run_id}) + "\n").encode())


class _End:
    """The last thing in a queue."""

    def __init__(self, rows: Rows | None) -> None:
        self.rows = rows
