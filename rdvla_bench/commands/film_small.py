"""Encodes an episode in few bytes: small pictures, few a second, played faster than it was."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rdvla_bench.commands.film_episode import BLOCK, Caption, Frame, side_by_side
from rdvla_bench.errors import MissingExtra, UsageError
from rdvla_bench.types import Outcome

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

SIDE = 160
"""Pixels of a camera's picture, at most."""
STRIP = 48
"""Height of the text strip, in pixels: three lines."""
PICTURES_HZ = 5
"""Pictures of a simulated second."""
SPEED = 2
"""How many times faster than it was an episode is shown."""
MAX_BYTES = 60_000
CRF = range(26, 52, 5)
"""H.264's constant rate factors, tried until a film is small enough; 51 is the worst there is."""
MARK = b"rdvla-bench film"
"""In every film that is made here, so that no other file is taken for one."""
_LINE, _FONT = 14, 11
_INK, _PAPER, _GOOD, _BAD = (235, 235, 235), (18, 18, 22), (86, 180, 233), (230, 159, 0)


def demand_encoder() -> None:
    """Check that films can be made.

    Raises:
        MissingExtra: imageio-ffmpeg or Pillow is not installed.
    """
    try:
        import imageio_ffmpeg  # noqa: F401
        import PIL.ImageFont  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra("film", "video", f"no module '{error.name}'") from error


def every(control_hz: int) -> int:
    """Return how many control steps lie between two pictures."""
    return max(1, control_hz // PICTURES_HZ)


def holds(path: Path, identity: str) -> bool:
    """Return whether ``path`` is the film that was made with ``identity``.

    Raises:
        UsageError: it was not made here, so that it must not be replaced.
    """
    if not path.exists():
        return False
    content = path.read_bytes() if path.is_file() else b""
    if MARK not in content:
        raise UsageError(f"{path} was not made by rdvla-bench film: move it, or choose another --out")
    return identity.encode() in content


def write_small(path: Path, frames: list[Frame], caption: Caption, identity: str) -> int:
    """Write an H.264 mp4 of at most ``MAX_BYTES`` whole or not at all; return its bytes.

    Non-obvious: the same frames give the same bytes wherever the same encoder is installed: one thread, no clock.

    Raises:
        UsageError: the file system or the encoder refused.
    """
    pictures = [draw(frame, caption, is_last=frame is frames[-1]) for frame in frames]
    pictures += pictures[-1:] * (caption.fps - 1)  # hold the outcome for a second
    temporary = path.with_name(f".{path.name}.part.mp4")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for crf in CRF:
            _encode(temporary, pictures, caption.fps, crf, f"{MARK.decode()}: {identity}")
            if temporary.stat().st_size <= MAX_BYTES:
                break
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path.stat().st_size


def _encode(path: Path, pictures: Iterable[NDArray[np.uint8]], fps: int, crf: int, comment: str) -> None:
    import imageio_ffmpeg

    first, *_ = pictures
    options = [
        "-crf",
        str(crf),
        "-preset",
        "slow",
        "-threads",
        "1",
        "-fflags",
        "+bitexact",
        "-flags:v",
        "+bitexact",
    ]
    options += ["-map_metadata", "-1", "-metadata", f"comment={comment}", "-movflags", "+faststart"]
    size = (first.shape[1], first.shape[0])
    stream = imageio_ffmpeg.write_frames(
        str(path), size, fps=fps, codec="libx264", quality=None, ffmpeg_log_level="error", output_params=options
    )
    stream.send(None)
    for picture in pictures:
        stream.send(picture.tobytes())
    stream.close()


def draw(frame: Frame, caption: Caption, *, is_last: bool) -> NDArray[np.uint8]:
    """Return one (H, W, 3) picture: the cameras side by side, the larger first, above three lines of text."""
    from PIL import Image, ImageDraw, ImageFont

    largest_first = sorted(frame.images, key=lambda name: (-len(frame.images[name]), name))
    cameras = side_by_side([_shrunk(frame.images[name]) for name in largest_first])
    height, width = (-(-side // BLOCK) * BLOCK for side in cameras.shape[:2])
    canvas = Image.new("RGB", (width, height + STRIP), _PAPER)
    canvas.paste(Image.fromarray(cameras), (0, 0))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(_FONT)
    instruction = frame.instruction if frame.solved is None else f"{frame.solved} done: {frame.instruction}"
    for number, line in enumerate(_lines(pen, instruction, font, width - 8)):
        pen.text((4, height + 2 + number * _LINE), line, _INK, font)
    depth = caption.depths[frame.query] if frame.query < len(caption.depths) else 0
    status = f"step {frame.step}/{caption.n_steps}" + (f"  depth {depth}" if depth else "")
    pen.text((4, height + 2 + 2 * _LINE), status, _INK, font)
    if is_last:
        color = _GOOD if caption.outcome is Outcome.SUCCESS else _BAD
        pen.text((width - 4, height + 2 + 2 * _LINE), caption.outcome.upper(), color, font, anchor="ra")
    return np.asarray(canvas)


def _shrunk(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ``image`` with no side above ``SIDE``."""
    from PIL import Image

    factor = max(image.shape[:2]) / SIDE
    if factor <= 1:
        return image
    size = round(image.shape[1] / factor), round(image.shape[0] / factor)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _lines(
    pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> list[str]:
    """Return ``text`` as at most two lines of ``width`` pixels; what does not fit is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if pen.textlength(longer, font) <= width:
            lines[-1] = longer
        elif len(lines) == 2:
            lines[-1] += "…"
            break
        else:
            lines.append(word)
    return lines
