"""What every command does with an error: one line on stderr and exit code 2, no traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps

from rdvla_bench.errors import MissingExtra, UsageError

EXTRAS = {
    "ray": "ray",
    "pandas": "board",
    "pyarrow": "board",
    "scipy": "board",
    "matplotlib": "report",
    "torch": "model",
    "transformers": "model",
    "mujoco": "libero",
    "robosuite": "libero",
    "libero": "libero",
    "PIL": "video",
    "imageio_ffmpeg": "video",
}
"""Module -> the pip extra that installs it."""

Main = Callable[..., int]


def command(main: Main) -> Main:
    """Wrap a command's ``main`` so that a ``UsageError`` becomes one clear line and exit code 2."""

    @wraps(main)
    def wrapped(argv: list[str] | None = None) -> int:
        try:
            return main(argv)
        except UsageError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 2
        except ModuleNotFoundError as error:
            extra = EXTRAS.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            print(f"MissingExtra: {MissingExtra('this command', extra, error)}", file=sys.stderr)
            return 2
        except BrokenPipeError:  # the reader has seen enough: rdvla-bench list | head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0

    return wrapped
