"""Camera frames that lie in parquet files as PNG or JPEG, one row at a time.

A row costs its row group, which is read whole; the groups read last stay in memory. LeRobot writes a group an episode
(v3.0) or one per 100 images (v2.1); a data set whose images fit into ``BUDGET`` is read from disk once.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from rdvla_bench.policies.rdvla.training.dataset import DatasetError
from rdvla_bench.policies.rdvla.training.lerobot_layout import readable

BUDGET = 1 << 30  # bytes of encoded images kept, a camera


class EmbeddedImages:
    """Rows of one image column over several files, numbered through."""

    def __init__(self, files: Sequence[Path], column: str, side: int, budget: int = BUDGET) -> None:
        """Note the row groups of all ``files``; frames are ``side`` by ``side`` pixels.

        Raises:
            DatasetError: a file has no such column.
        """
        self._column = column
        self._side = side
        self._budget = budget
        self._groups: list[tuple[Path, int]] = []
        sizes: list[int] = []
        for file in files:
            metadata = pq.read_metadata(file)
            if column not in metadata.schema.to_arrow_schema().names:
                raise DatasetError(f"{file}: no column '{column}', though meta/info.json calls it an image")
            groups = range(metadata.num_row_groups)
            self._groups += [(file, group) for group in groups]
            sizes += [metadata.row_group(group).num_rows for group in groups]
        self._ends = list(accumulate(sizes))
        self._cache: OrderedDict[int, pa.ChunkedArray] = OrderedDict()

    def frame(self, row: int) -> NDArray[np.uint8]:
        """Return the (H, W, 3) RGB frame of a row.

        Raises:
            DatasetError: it holds no image of the declared size.
        """
        group = bisect_right(self._ends, row)
        cell = self._read(group)[row - (self._ends[group - 1] if group else 0)].as_py()
        encoded = cell.get("bytes") if isinstance(cell, dict) else cell  # a struct of bytes and path, or the bytes
        where = f"{self._groups[group][0]}: {self._column}, row {row} of the data set"
        if not isinstance(encoded, bytes):
            raise DatasetError(f"{where}: no bytes of an image in the file, got {str(cell)[:60]}")
        try:
            with Image.open(io.BytesIO(encoded)) as image:
                frame = np.asarray(image.convert("RGB"))
        except (OSError, UnidentifiedImageError) as error:
            raise DatasetError(f"{where}: no readable image ({type(error).__name__})") from error
        if frame.shape != (self._side, self._side, 3):
            raise DatasetError(f"{where}: image is {frame.shape}, meta/info.json says {(self._side, self._side, 3)}")
        return frame

    def _read(self, group: int) -> pa.ChunkedArray:
        if group in self._cache:
            self._cache.move_to_end(group)
            return self._cache[group]
        file, number = self._groups[group]
        column = readable(file, lambda: pq.ParquetFile(file).read_row_group(number, columns=[self._column]).column(0))
        self._cache[group] = column
        while len(self._cache) > 1 and sum(kept.nbytes for kept in self._cache.values()) > self._budget:
            self._cache.popitem(last=False)
        return column
