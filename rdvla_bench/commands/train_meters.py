"""What a training shows and stores of its steps besides the run's folder: a bar or lines, and TensorBoard events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rdvla_bench.errors import MissingExtra

if TYPE_CHECKING:
    from rdvla_bench.policies.rdvla.training.trainer import StepReport
    from rdvla_bench.policies.rdvla.training.validation import ValidationReport

LINE_EVERY_S = 30.0
"""How often a log gets a line."""


class Meter(Protocol):
    """Something that shows or stores the reports of steps."""

    def add(self, report: StepReport) -> None:
        """Take note of one step."""

    def add_look(self, report: ValidationReport) -> None:
        """Take note of a look at held-out demonstrations."""


class LineMeter:
    """A line now and then, for logs."""

    def __init__(self, steps: int, done: int) -> None:
        """Start the clock."""
        self._steps, self._first = steps, done
        self._begun = self._last = time.monotonic()

    def add(self, report: StepReport) -> None:
        """Print a line if one is due or the step is the last."""
        now = time.monotonic()
        if now - self._last < LINE_EVERY_S and report.step < self._steps:
            return
        self._last = now
        seconds = int((self._steps - report.step) * (now - self._begun) / (report.step - self._first))
        left = f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        print(f"step {report.step}/{self._steps}: loss {report.loss:.4f}, time left {left}", flush=True)

    def add_look(self, report: ValidationReport) -> None:
        """Print a line."""
        print(f"step {report.step}/{self._steps}: error on held-out demonstrations {report.error:.4f}", flush=True)


class TensorBoard:
    """Scalars of each step as TensorBoard events."""

    def __init__(self, folder: Path, done: int) -> None:
        """Open the event file; events after step ``done`` of an earlier session are purged.

        Raises:
            MissingExtra: the package tensorboard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise MissingExtra("--tensorboard", "tensorboard", error) from error
        self._writer = SummaryWriter(str(folder), purge_step=done + 1)

    def add(self, report: StepReport) -> None:
        """Write the step's scalars."""
        for name in ("loss", "depth", "learning_rate", "gradient_norm"):
            self._writer.add_scalar(name, getattr(report, name), report.step)

    def add_look(self, report: ValidationReport) -> None:
        """Write the error on held-out demonstrations."""
        self._writer.add_scalar("held_out_error", report.error, report.step)

    def close(self) -> None:
        """Flush the file."""
        self._writer.close()


@contextmanager
def meters(steps: int, done: int, tensorboard: Path | None) -> Iterator[tuple[Meter, ...]]:
    """Show steps on the terminal, and with ``tensorboard`` write them into that folder; ``done`` steps lie behind.

    Raises:
        MissingExtra: the package tensorboard is wanted and not installed.
    """
    with ExitStack() as stack:
        board = stack.enter_context(closing(TensorBoard(tensorboard, done))) if tensorboard else None
        shown = stack.enter_context(_shown(steps, done))
        yield (shown, board) if board else (shown,)


@contextmanager
def _shown(steps: int, done: int) -> Iterator[Meter]:
    """Show a bar with loss and time left on a terminal, lines elsewhere."""
    from rich import progress as rich
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        yield LineMeter(steps, done)
        return
    columns = (
        rich.MofNCompleteColumn(),
        rich.BarColumn(),
        rich.TextColumn("loss {task.fields[loss]:.4f}  depth {task.fields[depth]:2d}  {task.fields[held_out]}"),
        rich.TimeElapsedColumn(),
        rich.TextColumn("left"),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=console) as progress:
        task = progress.add_task("train", total=steps, completed=done, loss=float("nan"), depth=0, held_out="")

        class Bar:
            def add(self, report: StepReport) -> None:
                progress.update(task, completed=report.step, loss=report.loss, depth=report.depth)

            def add_look(self, report: ValidationReport) -> None:
                progress.update(task, held_out=f"held-out error {report.error:.4f}")

        yield Bar()
