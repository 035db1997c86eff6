"""Small folders in LeRobotDataset's layouts v2.1 and v3.0, as that package writes them, for 2 tasks and 3 episodes."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

TASKS = ("pick up the milk", "open the drawer")
LENGTHS = (10, 5, 9)  # frames of each episode
CAMERAS = ("observation.images.image", "observation.images.image2")
SIDE, FPS = 32, 10


def episode(number: int) -> dict[str, NDArray[Any]]:
    """Return frames whose content tells episode, frame and camera apart, even after video compression."""
    n = LENGTHS[number]
    rng = np.random.default_rng(number)
    action = rng.uniform(-0.8, 0.8, (n, 7)).astype(np.float32)
    action[:, -1] = np.where(np.arange(n) < n // 2, -1.0, 1.0)
    columns: dict[str, NDArray[Any]] = {
        "observation.state": rng.normal(0, 0.5, (n, 8)).astype(np.float32),
        "action": action,
    }
    for place, camera in enumerate(CAMERAS):
        frames = np.zeros((n, SIDE, SIDE, 3), np.uint8)
        frames[:] = (np.arange(n) * 20 + 30)[:, None, None, None]
        frames[:, : SIDE // 2, :, 0] = 60 + 60 * number
        frames[:, SIDE // 2 :, :, 2] = 80 + 100 * place
        columns[camera] = frames
    return columns


def write(folder: Path, *, is_v3: bool, is_video: bool = False, changes: Mapping[str, Any] | None = None) -> Path:
    """Write the data set; ``changes`` replace entries of info.json."""
    meta = folder / "meta"
    meta.mkdir(parents=True)
    images = {c: {"dtype": "video" if is_video else "image", "shape": [SIDE, SIDE, 3]} for c in CAMERAS}
    one = {"dtype": "int64", "shape": [1]}
    info = {
        "codebase_version": "v3.0" if is_v3 else "v2.1",
        "fps": FPS,
        "total_episodes": len(LENGTHS),
        "total_frames": sum(LENGTHS),
        "chunks_size": 1000,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        if is_v3
        else "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
        if is_v3
        else "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": {
            **images,
            "observation.state": {"dtype": "float32", "shape": [8]},
            "action": {"dtype": "float32", "shape": [7]},
            **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), one),
        },
    }
    (meta / "info.json").write_text(json.dumps({**info, **(changes or {})}))
    _write_tasks(meta, is_v3=is_v3)
    tables = [_table(number, is_video=is_video) for number in range(len(LENGTHS))]
    data = folder / "data" / "chunk-000"
    data.mkdir(parents=True)
    if is_v3:
        with pq.ParquetWriter(data / "file-000.parquet", tables[0].schema) as writer:
            for table in tables:  # a row group an episode
                writer.write_table(table)
    else:
        for number, table in enumerate(tables):
            pq.write_table(table, data / f"episode_{number:06d}.parquet", row_group_size=4)
    if is_video:
        _write_videos(folder, is_v3=is_v3)
    return folder


def _write_tasks(meta: Path, *, is_v3: bool) -> None:
    if is_v3:
        tasks = pa.table({"task_index": [0, 1], "__index_level_0__": list(TASKS)})
        pq.write_table(tasks, meta / "tasks.parquet")
    else:
        lines = [json.dumps({"task_index": index, "task": task}) for index, task in enumerate(TASKS)]
        (meta / "tasks.jsonl").write_text("\n".join(lines) + "\n")


def _table(number: int, *, is_video: bool) -> pa.Table:
    columns, n = episode(number), LENGTHS[number]
    first = sum(LENGTHS[:number])
    arrays: dict[str, Any] = {
        "observation.state": pa.array(list(columns["observation.state"]), pa.list_(pa.float32())),
        "action": pa.array(list(columns["action"]), pa.list_(pa.float32(), 7)),
        "frame_index": np.arange(n),
        "episode_index": np.full(n, number),
        "index": np.arange(first, first + n),
        "task_index": np.full(n, number % 2),
    }
    if not is_video:
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        for camera in CAMERAS:
            cells = [{"bytes": _png(frame), "path": f"frame_{i:06d}.png"} for i, frame in enumerate(columns[camera])]
            arrays[camera] = pa.array(cells, kind)
    return pa.table(arrays)


def _png(frame: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return file.getvalue()


def _write_videos(folder: Path, *, is_v3: bool) -> None:
    rows: list[dict[str, Any]] = [{"episode_index": number, "length": n} for number, n in enumerate(LENGTHS)]
    for camera in CAMERAS:
        clips = [episode(number)[camera] for number in range(len(LENGTHS))]
        if not is_v3:
            for number, clip in enumerate(clips):
                write_mp4(folder / "videos" / "chunk-000" / camera / f"episode_{number:06d}.mp4", clip)
            continue
        write_mp4(folder / "videos" / camera / "chunk-000" / "file-000.mp4", np.concatenate(clips))
        for number, row in enumerate(rows):
            start = sum(LENGTHS[:number]) / FPS
            row |= {f"videos/{camera}/chunk_index": 0, f"videos/{camera}/file_index": 0}
            row |= {f"videos/{camera}/from_timestamp": start, f"videos/{camera}/to_timestamp": start + 1}
    if is_v3:
        path = folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), path)


def write_mp4(path: Path, frames: NDArray[np.uint8], *, fps: int = FPS) -> None:
    """Encode (n, H, W, 3) with a key frame every second frame, as LeRobot does."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps, options={"g": "2", "qscale": "2"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
