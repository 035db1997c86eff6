"""Camera frames that lie in mp4 files, found by their time stamps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from numpy.typing import NDArray

from rdvla_bench.policies.rdvla.training.dataset import DatasetError
from rdvla_bench.policies.rdvla.training.lerobot_layout import Segment

OPEN = 8  # files kept open


class VideoFrames:
    """Rows of one camera's videos. A row costs a seek to the key frame before it (LeRobot writes one every 2)."""

    def __init__(
        self,
        segments: Mapping[int, Segment],
        rows: Sequence[tuple[int, int]],
        *,
        fps: int,
        side: int,
    ) -> None:
        """Take where each episode is, and each row's episode and frame number.

        Raises:
            DatasetError: a video cannot be read, or is of another rate or size.
        """
        self._segments = segments
        self._rows = rows
        self._fps = fps
        self._side = side
        self._open: OrderedDict[Path, InputContainer] = OrderedDict()
        for path in dict.fromkeys(segment.path for segment in segments.values()):
            self._container(path)

    def frame(self, row: int) -> NDArray[np.uint8]:
        """Return the (H, W, 3) RGB frame of a row.

        Raises:
            DatasetError: the video has no frame at its time.
        """
        episode, number = self._rows[row]
        segment = self._segments[episode]
        time_s = segment.start_s + number / self._fps
        tolerance_s = 0.5 / self._fps
        try:
            container = self._container(segment.path)
            stream = container.streams.video[0]
            step = float(stream.time_base or 1)
            container.seek(max(0, round(time_s / step)), stream=stream)
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts * step > time_s - tolerance_s:
                    if frame.pts * step > time_s + tolerance_s:
                        break
                    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
        except FFmpegError as error:
            raise DatasetError(f"{segment.path} cannot be decoded at {time_s:.3f} s: {error.strerror}") from error
        raise DatasetError(f"{segment.path}: no frame at {time_s:.3f} s (episode {episode}, frame {number})")

    def _container(self, path: Path) -> InputContainer:
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        try:
            container: InputContainer = av.open(str(path))
        except FFmpegError as error:
            raise DatasetError(f"{path} is no readable video: {error.strerror}") from error
        self._open[path] = container
        if len(self._open) > OPEN:
            self._open.popitem(last=False)[1].close()
        if not container.streams.video:
            raise DatasetError(f"{path}: no video stream")
        stream = container.streams.video[0]
        if stream.average_rate is None or abs(float(stream.average_rate) - self._fps) > 0.01:
            raise DatasetError(f"{path}: {stream.average_rate} frames a second, meta/info.json says {self._fps}")
        if (stream.height, stream.width) != (self._side, self._side):
            size = f"{stream.width}x{stream.height}"
            raise DatasetError(f"{path}: frames are {size}, meta/info.json says {self._side}x{self._side}")
        return container
