"""Films an episode: its control steps rendered, with what the policy was doing written over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.env import BenchEnv, EnvWrapper
from rdvla_bench.errors import MissingExtra
from rdvla_bench.types import Observation, Outcome

ZOOM = 2
BLOCK = 16
"""Pixels of H.264's blocks, of which a picture has whole ones."""
STRIP = 96
"""Height of the text strip, in pixels."""
_INK, _PAPER, _GOOD, _BAD, _DIM = (235, 235, 235), (18, 18, 22), (86, 180, 233), (230, 159, 0), (150, 150, 150)


@dataclass(frozen=True, eq=False)
class Frame:
    """What one control step looked like."""

    images: Mapping[str, NDArray[np.uint8]]  # camera -> (H, W, 3)
    step: int
    query: int  # the query whose action was executed
    instruction: str
    solved: int | None = None  # instructions of a chain that are done


class Filmed(EnvWrapper):
    """An environment that runs a chunk piece by piece and keeps a picture of every so many control steps.

    Non-obvious: rendering has no influence on the simulation, so states are those of the unfilmed episode.
    ``cameras`` are those that the caller sees; all cameras of ``env`` are filmed. The end of an episode and of a
    chain's subtask are filmed whenever they come.
    """

    def __init__(self, env: BenchEnv, cameras: tuple[str, ...], every: int = 1) -> None:
        """Wrap ``env``, to keep a picture of every ``every``-th control step."""
        super().__init__(env)
        self._cameras = cameras
        self.frames: list[Frame] = []
        self._every, self._steps, self._query = every, 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start the episode and the film."""
        obs, info = self._env.reset(seed=seed, options=options)
        self.frames, self._steps, self._query = [], 0, 0
        self._film(obs, info)
        return self._seen(obs), info

    def step_chunk(self, actions: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Run the chunk, filming on the way."""
        total, before, rest = 0.0, self.frames[-1].solved, actions
        while len(rest):
            n = self._every - self._steps % self._every
            obs, reward, terminated, truncated, info = self._env.step_chunk(rest[:n])
            total, rest, self._steps = total + reward, rest[n:], int(info["steps"])
            is_over = terminated or truncated or info.get("subtask") != before
            if is_over or self._steps % self._every == 0:
                self._film(obs, info)
            if is_over:
                break
        self._query += 1
        return self._seen(obs), total, terminated, truncated, info

    def _film(self, obs: Observation, info: Mapping[str, Any]) -> None:
        frame = Frame(obs["images"], int(info["steps"]), self._query, obs["instruction"], info.get("subtask"))
        self.frames.append(frame)

    def _seen(self, obs: Observation) -> Observation:
        return {**obs, "images": {name: obs["images"][name] for name in self._cameras}}


@dataclass(frozen=True)
class Caption:
    """What is written over an episode's frames."""

    title: str  # policy and episode
    outcome: Outcome
    n_steps: int
    depths: tuple[int, ...]  # a query
    fps: int  # control steps a second: the film runs in real time


def write_video(path: Path, frames: list[Frame], caption: Caption) -> None:
    """Encode H.264 in an mp4.

    Raises:
        MissingExtra: imageio-ffmpeg or Pillow is not installed.
    """
    try:
        import imageio_ffmpeg
    except ModuleNotFoundError as error:
        raise MissingExtra("--video", "video", f"no module '{error.name}'") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = draw(frames[0], caption, is_last=False).shape[:2]
    stream = imageio_ffmpeg.write_frames(str(path), (width, height), fps=caption.fps, codec="libx264", quality=7)
    stream.send(None)
    for index, frame in enumerate(frames):
        is_last = index == len(frames) - 1
        picture = draw(frame, caption, is_last=is_last)
        for _ in range(caption.fps if is_last else 1):  # hold the outcome for a second
            stream.send(picture.tobytes())
    stream.close()


def draw(frame: Frame, caption: Caption, *, is_last: bool) -> NDArray[np.uint8]:
    """Return one (H, W, 3) picture: the cameras side by side above a strip of text and depth bars."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ModuleNotFoundError as error:
        raise MissingExtra("--video", "video", f"no module '{error.name}'") from error
    largest_first = sorted(frame.images, key=lambda name: (-len(frame.images[name]), name))
    cameras = side_by_side([frame.images[name] for name in largest_first])
    cameras = cameras.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
    height, width = cameras.shape[0], -(-cameras.shape[1] // BLOCK) * BLOCK
    canvas = Image.new("RGB", (width, height + STRIP), _PAPER)
    canvas.paste(Image.fromarray(cameras), (0, 0))
    pen, font, small = ImageDraw.Draw(canvas), ImageFont.load_default(20), ImageFont.load_default(14)
    instruction = frame.instruction if frame.solved is None else f"{frame.solved}/5  {frame.instruction}"
    pen.text((10, height + 6), instruction, _INK, font)
    depth = caption.depths[frame.query] if frame.query < len(caption.depths) else 0
    status = f"step {frame.step}/{caption.n_steps}   query {frame.query + 1}/{len(caption.depths)}   depth {depth}"
    pen.text((10, height + 34), status, _INK, font)
    pen.text((10, height + STRIP - 24), caption.title, _DIM, small)
    if is_last:
        color = _GOOD if caption.outcome is Outcome.SUCCESS else _BAD
        pen.text((width - 10, height + 6), caption.outcome.upper(), color, font, anchor="ra")
    _draw_bars(pen, caption.depths, frame.query, right=width - 10, bottom=height + STRIP - 8)
    return np.asarray(canvas)


def side_by_side(images: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return one picture of several, each at the top of a column, padded to a common height."""
    height = max(len(image) for image in images)
    padded = [np.pad(image, ((0, height - len(image)), (0, 0), (0, 0))) for image in images]
    return np.concatenate(padded, axis=1)


def _draw_bars(pen: Any, depths: tuple[int, ...], query: int, *, right: int, bottom: int) -> None:
    """Draw one bar a query, as high as its depth; those not asked yet are left out."""
    if not any(depths):
        return
    top, pitch = 44, min(8, 400 // len(depths))
    left = right - pitch * len(depths)
    for index, depth in enumerate(depths[: query + 1]):
        x = left + pitch * index
        color = _GOOD if index == query else _DIM
        pen.rectangle((x, bottom - round(top * depth / max(depths)), x + pitch - 2, bottom), fill=color)
