"""TensorBoard event files in ``OUT/sinks/tensorboard``, written without torch or TensorFlow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from rdvla_bench.sinks.sink import Rows, described, markdown, run_name


class TensorBoard:
    """Scalars against episodes done, and the final table as text. A resumed run adds a file to the same folder."""

    def __init__(self, out: Path) -> None:
        """Remember the folder."""
        self._folder = out / "sinks" / "tensorboard"
        self._n_done = 0

    def begin(self, manifest: Mapping[str, Any], run_id: str) -> str:
        """Open an event file; the run's configuration is a text beside the scalars."""
        self._writer = EventFileWriter(str(self._folder))
        if not run_id:
            facts = [{"key": key, "value": value} for key, value in described(manifest).items()]
            self._write(_text("run", f"{run_name(manifest)}\n\n{markdown(facts)}"))
        return self._folder.name

    def add(self, n_done: int, values: Mapping[str, float]) -> None:
        """Write one scalar a value."""
        self._n_done = n_done
        self._write(*(Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()))

    def end(self, rows: Rows | None) -> None:
        """Write the table and close the file."""
        if rows is not None:
            self._write(_text("board", markdown(rows)))
        self._writer.close()

    def _write(self, *values: Summary.Value) -> None:
        self._writer.add_event(Event(wall_time=time.time(), step=self._n_done, summary=Summary(value=values)))


def _text(tag: str, text: str) -> Summary.Value:
    """Return a Markdown text as the text plug-in reads it."""
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()], tensor_shape=shape)
    return Summary.Value(tag=tag, metadata=metadata, tensor=tensor)
