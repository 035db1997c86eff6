"""Pictures drawn by arithmetic: wood, a checkerboard, and a PNG writer. The same numbers on every machine."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # (H, W, 3)


@dataclass(frozen=True)
class Wood:
    """How one wood looks. The grain runs along the picture's width."""

    light: tuple[int, int, int]  # RGB of early wood
    dark: tuple[int, int, int]  # RGB of late wood and pores
    rings: float  # rings across the picture
    seed: int


WALNUT = Wood(light=(134, 78, 52), dark=(92, 50, 32), rings=18, seed=1)
BIRCH = Wood(light=(250, 205, 150), dark=(229, 172, 112), rings=14, seed=2)
CHERRY = Wood(light=(174, 121, 72), dark=(130, 84, 46), rings=11, seed=3)
OAK = Wood(light=(174, 134, 92), dark=(112, 78, 48), rings=13, seed=4)
"""A's reddish, B's light, C's middle and D's brown wood: tones like those of the original's photographs."""


def _noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> NDArray[np.float64]:
    """Return smooth periodic noise in [0, 1]: random values on a grid of ``cells``, blended between them."""
    grid = rng.random(cells)
    rows, columns = (np.arange(n) * c / n for n, c in zip(shape, cells, strict=True))
    (y, v), (x, u) = (_split(rows), _split(columns))
    above, below = grid[y % cells[0]], grid[(y + 1) % cells[0]]
    v, u = v[:, None], u[None, :]
    left = above[:, x % cells[1]] * (1 - v) + below[:, x % cells[1]] * v
    right = above[:, (x + 1) % cells[1]] * (1 - v) + below[:, (x + 1) % cells[1]] * v
    blended: NDArray[np.float64] = left * (1 - u) + right * u
    return blended


def _split(at: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return whole cells and the smooth weight of the next one."""
    cell = np.floor(at).astype(np.intp)
    part = at - cell
    return cell, part * part * (3 - 2 * part)


def wood(kind: Wood, shape: tuple[int, int] = (256, 384)) -> Pixels:
    """Draw a board: rings that a slow noise bends, fine fibres, and pores where the rings are dark.

    PyBullet's EGL plug-in shears pictures whose width is no multiple of four.
    """
    rng = np.random.default_rng(kind.seed)
    height, _ = shape
    across = np.arange(height)[:, None] / height
    bend = _noise(rng, shape, (4, 3)) + 0.35 * _noise(rng, shape, (9, 5))
    phase = (kind.rings * across + 1.6 * bend) % 1.0
    ring = 1 - np.abs(2 * phase - 1)  # a triangle wave: no library's sine, the same bits everywhere
    fibre = _noise(rng, shape, (height, 12))
    pores = (_noise(rng, shape, (height, 48)) > 0.86) * ring
    share = np.clip(0.55 * ring * ring + 0.35 * fibre + 0.35 * pores + 0.15 * bend - 0.15, 0, 1)[..., None]
    light, dark = (np.array(colour, np.float64) for colour in (kind.light, kind.dark))
    return np.asarray(np.rint(light * (1 - share) + dark * share), np.uint8)


def checkerboard(size: int = 256, colours: tuple[int, int] = (255, 222)) -> Pixels:
    """Draw four by four squares of two greys."""
    odd = np.add.outer(np.arange(size) * 4 // size, np.arange(size) * 4 // size) % 2
    return np.repeat(np.where(odd, colours[1], colours[0]).astype(np.uint8)[..., None], 3, axis=2)


def png(pixels: Pixels) -> bytes:
    """Encode (H, W, 3) pixels as a PNG file."""
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # filter 0 each row
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
