"""What a LeRobotDataset folder says about itself, in the layouts v2.0, v2.1 and v3.0.

                v2.x                                                v3.0
    tasks       meta/tasks.jsonl                                    meta/tasks.parquet
    frames      data/chunk-000/episode_000000.parquet               data/chunk-000/file-000.parquet
    videos      videos/chunk-000/KEY/episode_000000.mp4             videos/KEY/chunk-000/file-000.mp4
    in a video  one episode, from 0 s                               several, from meta/episodes/**/*.parquet

Source: huggingface/lerobot@073c4db src/lerobot/datasets/io_utils.py, utils.py and dataset_metadata.py. The folder is
read and never written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from rdvla_bench.errors import nearest
from rdvla_bench.policies.rdvla.training.dataset import DatasetError

INFO = "meta/info.json"
VERSIONS = ("v2.0", "v2.1", "v3.0")
T = TypeVar("T")


@dataclass(frozen=True)
class Segment:
    """Where an episode lies in the videos of one camera."""

    path: Path
    start_s: float


@dataclass(frozen=True, eq=False)
class Layout:
    """The parsed ``meta/`` of a folder."""

    folder: Path
    is_v3: bool
    fps: int
    features: Mapping[str, Mapping[str, Any]]
    tasks: Mapping[int, str]
    info: Mapping[str, Any]

    def feature(self, names: Iterable[str], what: str) -> str:
        """Return the first of ``names`` that the data set has.

        Raises:
            DatasetError: it has none; names those it has.
        """
        wanted = tuple(names)
        for name in wanted:
            if name in self.features:
                return name
        raise DatasetError(
            f"{self.folder}: no feature {' or '.join(repr(n) for n in wanted)} for {what}."
            f"{nearest(wanted[0], self.features)} It has {', '.join(sorted(self.features))}; "
            f"choose one with --lerobot.{what}"
        )

    def is_video(self, feature: str) -> bool:
        """Return whether the feature's frames are in mp4 files; they are in the parquet files otherwise.

        Raises:
            DatasetError: it is no image at all.
        """
        dtype = self.features[feature].get("dtype")
        if dtype not in ("image", "video"):
            raise DatasetError(f"{self.folder}: {feature} is of dtype '{dtype}', expected image or video")
        return bool(dtype == "video")

    def side(self, feature: str) -> int:
        """Return the height and width of a camera's frames.

        Raises:
            DatasetError: they are not square RGB.
        """
        shape = tuple(self.features[feature].get("shape", ()))
        if len(shape) == 3 and shape[0] == 3 != shape[2]:  # channels first; the frames themselves never are
            shape = (shape[1], shape[2], shape[0])
        if len(shape) != 3 or shape[2] != 3 or shape[0] != shape[1]:
            raise DatasetError(f"{self.folder}: {feature} has shape {shape}, expected square (H, W, 3)")
        return int(shape[0])

    def data_files(self) -> list[Path]:
        """Return the files of frames in the order of their names."""
        files = sorted((self.folder / "data").glob("*/*.parquet"))
        if not files:
            raise DatasetError(f"{self.folder}: no file data/*/*.parquet; has the folder been downloaded whole?")
        return files

    def segments(self, feature: str, episodes: Iterable[int]) -> dict[int, Segment]:
        """Return where each episode's video of ``feature`` is.

        Raises:
            DatasetError: a file or an entry is missing.
        """
        found = self._segments_v3(feature) if self.is_v3 else None
        segments: dict[int, Segment] = {}
        for episode in episodes:
            if found is not None and episode not in found:
                raise DatasetError(f"{self.folder}: meta/episodes does not say where episode {episode} of {feature} is")
            segment = found[episode] if found is not None else Segment(self._video_v2(feature, episode), 0.0)
            if not segment.path.is_file():
                raise DatasetError(f"{self.folder} lacks the video {segment.path.relative_to(self.folder)}")
            segments[episode] = segment
        return segments

    def _video_v2(self, feature: str, episode: int) -> Path:
        return self.folder / self._fill("video_path", video_key=feature, **self._numbers(episode))

    def missing_episode(self, episode: int) -> str:
        """Return where an episode that is not in the data files ought to be."""
        name = f"episode {episode}"
        return name if self.is_v3 else f"{name} ({self._fill('data_path', **self._numbers(episode))})"

    def _numbers(self, episode: int) -> dict[str, int]:
        size = int(self.info.get("chunks_size", 1000))
        return {"episode_chunk": episode // size, "episode_index": episode}

    def _segments_v3(self, feature: str) -> dict[int, Segment]:
        files = sorted((self.folder / "meta" / "episodes").glob("*/*.parquet"))
        if not files:
            raise DatasetError(f"{self.folder}: no file meta/episodes/*/*.parquet, which says where the videos are")
        names = [f"videos/{feature}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
        segments: dict[int, Segment] = {}
        for file in files:
            for row in read_columns(file, ["episode_index", *names]).to_pylist():
                chunk, number, start = (row[name] for name in names)
                path = self._fill("video_path", video_key=feature, chunk_index=chunk, file_index=number)
                segments[row["episode_index"]] = Segment(self.folder / path, float(start))
        return segments

    def _fill(self, template: str, **values: object) -> str:
        try:
            return str(self.info[template]).format(**values)
        except (KeyError, ValueError, IndexError) as error:
            raise DatasetError(f"{self.folder / INFO}: {template} cannot be used ({error!r})") from error


def read_layout(folder: Path) -> Layout:
    """Read ``meta/``.

    Raises:
        DatasetError: a file is missing or wrong, or the version is another.
    """
    path = folder / INFO
    if not path.is_file():
        raise DatasetError(f"{folder} is no LeRobotDataset: it has no {INFO}")
    info = readable(path, lambda: json.loads(path.read_text("utf-8")))
    version = info.get("codebase_version") if isinstance(info, dict) else None
    if version not in VERSIONS:
        raise DatasetError(f"{path}: codebase_version is {version!r}, expected {' or '.join(VERSIONS)}")
    fps, features = info.get("fps"), info.get("features")
    if not isinstance(fps, int | float) or fps <= 0 or fps != int(fps):
        raise DatasetError(f"{path}: fps is {fps!r}, expected a whole number above 0")
    if not isinstance(features, dict) or not all(isinstance(value, dict) for value in features.values()):
        raise DatasetError(f"{path}: no 'features', names to dtype and shape")
    for name in ("total_episodes", "chunks_size"):
        if name in info and (type(info[name]) is not int or info[name] < 1):
            raise DatasetError(f"{path}: {name} is {info[name]!r}, expected 1 or more")
    is_v3 = version == "v3.0"
    return Layout(folder, is_v3, int(fps), features, _tasks(folder, is_v3=is_v3), info)


def read_columns(file: Path, columns: list[str]) -> pa.Table:
    """Return some columns of a parquet file.

    Raises:
        DatasetError: it is damaged or lacks a column; names those it has.
    """
    names = readable(file, lambda: pq.read_schema(file)).names
    if missing := [column for column in columns if column not in names]:
        raise DatasetError(f"{file}: no column '{missing[0]}'.{nearest(missing[0], names)} It has {', '.join(names)}")
    return readable(file, lambda: pq.read_table(file, columns=columns, partitioning=None))


def _tasks(folder: Path, *, is_v3: bool) -> dict[int, str]:
    path = folder / "meta" / ("tasks.parquet" if is_v3 else "tasks.jsonl")
    if not path.is_file():
        raise DatasetError(f"{folder} lacks {path.relative_to(folder)}, which names the tasks")
    if is_v3:  # pandas wrote it: the task is the index, whose column has one of two names
        names = readable(path, lambda: pq.read_schema(path)).names
        text = next((name for name in ("task", "__index_level_0__") if name in names), "task")
        rows = [(row["task_index"], row[text]) for row in read_columns(path, ["task_index", text]).to_pylist()]
    else:
        lines = readable(path, lambda: [json.loads(li) for li in path.read_text("utf-8").splitlines() if li.strip()])
        if not all(isinstance(line, dict) and {"task_index", "task"} <= line.keys() for line in lines):
            raise DatasetError(f"{path}: expected task_index and task on every line")
        rows = [(line["task_index"], line["task"]) for line in lines]
    return {int(index): str(task) for index, task in rows}


def readable(path: Path, read: Callable[[], T]) -> T:
    """Return ``read()``, its errors in one line."""
    try:
        return read()
    except (OSError, ValueError) as error:  # pa.ArrowInvalid is a ValueError
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DatasetError(f"{path} cannot be read: {reason}") from error
