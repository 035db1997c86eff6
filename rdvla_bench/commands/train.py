"""``python -m rdvla_bench.train --data DATA --out DIR``: train RD-VLA; the same command again resumes."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from rdvla_bench.commands.cli import command
from rdvla_bench.commands.train_meters import meters
from rdvla_bench.errors import MissingExtra, UsageError
from rdvla_bench.policies.rdvla.config import HeadConfig, named_config
from rdvla_bench.policies.rdvla.conventions import benchmark_with
from rdvla_bench.policies.rdvla.training.lerobot_options import LerobotOptions
from rdvla_bench.policies.rdvla.training.recipe import Recipe

if TYPE_CHECKING:
    from rdvla_bench.policies.rdvla.training.dataset import Dataset
    from rdvla_bench.policies.rdvla.training.session import Session
    from rdvla_bench.policies.rdvla.training.trainer import Trainer
    from rdvla_bench.policies.rdvla.training.validation import Validation

INTERRUPTED = 130
"""Exit code after Ctrl-C, as a shell reports SIGINT."""
LEROBOT = "lerobot:"
"""What may stand before a data folder in LeRobot's format."""


@dataclass(frozen=True)
class TrainArguments:
    """Train RD-VLA on demonstrations. The same command again resumes from the last saved step, to the same bits."""

    data: str
    """Folder of samples (shards and manifest.json), or of a LeRobotDataset (meta/info.json), which may be given as
    lerobot:FOLDER too; see docs/training.md. Several folders of samples, separated by commas, are joined."""
    out: Path
    """Folder of the run: config.json, log.jsonl, train_state.safetensors, model.safetensors."""
    validation: str | None = None
    """Demonstrations that are not trained on, as --data takes them: the error on 512 of their frames is printed now and
    then and kept in OUT/validation.jsonl. It changes nothing of the weights."""
    validation_every: int = 1000
    """Steps between two looks at them; the last step has one too."""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")] = field(default_factory=Recipe)
    """What determines the weights."""
    init: str | None = None
    """Weights to start from instead of drawn ones: a model.safetensors or run folder of ours, weights of the package
    by their name (rdvla-bench list weights), or a released checkpoint (folder or hf://owner/name)."""
    init_parts: Literal["all", "backbone", "body"] = "all"
    """Which of them: all, the backbone alone with a fresh head and proprio projector, or the body: all but the head."""
    lerobot: LerobotOptions = field(default_factory=LerobotOptions)
    """How a LeRobotDataset is read; without effect on other data."""
    save_every: int = 500
    """Steps between two saved states; the last step and the one that Ctrl-C waits for are saved too."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes the GPU if there is one. Bits are promised on the CPU alone."""
    tensorboard: bool = False
    """Also write TensorBoard events to OUT/tensorboard."""


def _device(wanted: str) -> str:
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: PyTorch sees no GPU here; expected cpu or auto")
    return wanted


@contextmanager
def _interruptible(farewell: str) -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C wait for the end of a step; yields whether it came. The second says ``farewell`` and exits.

    Python runs a signal's handler between two of its own instructions, and several signals during one long step of
    PyTorch's as one. The second is therefore met in a thread, which hears of every signal at once. Files are replaced
    at once, so that an exit at any time leaves the last saved ones whole.
    """
    came = threading.Event()
    hearing, telling = os.pipe()
    os.set_blocking(telling, False)

    def listen() -> None:
        heard = 0
        while byte := os.read(hearing, 1):
            if byte[0] != signal.SIGINT:
                continue
            heard += 1
            if heard == 2:
                cursor = "\x1b[?25h" if os.isatty(1) else ""  # the progress bar hides it
                os.write(1, f"{cursor}{farewell}\n".encode())
                os._exit(INTERRUPTED)
            os.write(2, b"\nfinishing this step; Ctrl-C again stops at once\n")

    listener = threading.Thread(target=listen, daemon=True)
    handler = signal.signal(signal.SIGINT, lambda *_: came.set())
    wakeup = signal.set_wakeup_fd(telling, warn_on_full_buffer=False)
    listener.start()
    try:
        yield came.is_set
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGINT, handler)
        os.close(telling)
        listener.join()
        os.close(hearing)


def _farewell(arguments: TrainArguments) -> str:
    return f"stopped at once; what was last saved in {arguments.out} is safe, and the same command resumes it"


def _train(session: Session, arguments: TrainArguments, validation: Validation | None) -> bool:
    """Train to the last step and save; return False if Ctrl-C came first."""
    trainer, steps = session.trainer, arguments.recipe.steps
    board = arguments.out / "tensorboard" if arguments.tensorboard else None
    with meters(steps, trainer.step, board) as shown, _interruptible(_farewell(arguments)) as is_interrupted:
        while trainer.step < steps and not is_interrupted():
            report = trainer.advance()
            session.record(report)
            for meter in shown:
                meter.add(report)
            if validation and (report.step % arguments.validation_every == 0 or report.step == steps):
                look = validation.look()
                session.record_look(look)
                for meter in shown:
                    meter.add_look(look)
            if report.step % arguments.save_every == 0 and report.step < steps:
                session.save()
        session.save()
    return trainer.step >= steps


def folders_of(data: str) -> list[Path]:
    """Return the folders that ``--data`` names: one, or several separated by commas."""
    folder = Path(data.removeprefix(LEROBOT)).expanduser()
    if "," not in data or folder.exists():
        return [folder]
    return [Path(part.strip()).expanduser() for part in data.split(",")]


def open_data(data: str, options: LerobotOptions, head: HeadConfig) -> Dataset:
    """Open shards of our own or a LeRobotDataset, whichever is in the folder; shards of several folders as one.

    Raises:
        DatasetError: it is neither, or is broken, or is not to be joined.
        MissingExtra: LeRobot's format needs packages that are not installed.
    """
    if len(folders := folders_of(data)) > 1:
        from rdvla_bench.policies.rdvla.training.shards import JoinedDataset

        return JoinedDataset(folders)
    (folder,) = folders
    if not data.startswith(LEROBOT) and not (folder / "meta" / "info.json").is_file():
        from rdvla_bench.policies.rdvla.training.shards import ShardedDataset

        return ShardedDataset(folder)
    try:
        from rdvla_bench.policies.rdvla.training.lerobot import LerobotDataset
    except ModuleNotFoundError as error:
        raise MissingExtra("data in LeRobot's format", "lerobot", error) from error
    return LerobotDataset(folder, options, head)


def _validation(arguments: TrainArguments, trainer: Trainer) -> Validation | None:
    """Open what ``--validation`` names.

    Raises:
        DatasetError: it is no data, or does not fit the model.
        UsageError: a folder of it is trained on.
    """
    if arguments.validation is None:
        return None
    from rdvla_bench.policies.rdvla.training.validation import Validation

    trained, held_out = (
        {folder.resolve() for folder in folders_of(data)} for data in (arguments.data, arguments.validation)
    )
    if both := sorted(trained & held_out):
        raise UsageError(f"--validation {both[0]} is trained on: record others (rdvla_bench.demos with another --seed)")
    return Validation(open_data(arguments.validation, arguments.lerobot, trainer.config.head), trainer)


@command
def main(argv: list[str] | None = None) -> int:
    """Train; 0 when all steps are done, 130 after Ctrl-C."""
    arguments = tyro.cli(TrainArguments, args=argv, prog="python -m rdvla_bench.train")
    if arguments.save_every < 1:
        raise UsageError(f"--save-every {arguments.save_every}: expected 1 or more")
    if arguments.validation_every < 1:
        raise UsageError(f"--validation-every {arguments.validation_every}: expected 1 or more")
    if arguments.init is None and arguments.init_parts != "all":
        raise UsageError(f"--init-parts {arguments.init_parts} has no effect without --init")
    try:
        if _run(arguments):
            return 0
    except KeyboardInterrupt:  # before the first step
        print(_farewell(arguments))
        return INTERRUPTED
    print(f"resume: {shlex.join(['python', '-m', 'rdvla_bench.train', *(argv or sys.argv[1:])])}")
    return INTERRUPTED


def _run(arguments: TrainArguments) -> bool:
    """Begin or resume the run, and train; return False if Ctrl-C came before the last step."""
    config = named_config(arguments.recipe.model)

    from rdvla_bench.policies.rdvla.training.initial import read_initial
    from rdvla_bench.policies.rdvla.training.session import MODEL, Session
    from rdvla_bench.policies.rdvla.training.trainer import Trainer

    data = open_data(arguments.data, arguments.lerobot, config.head)
    config = config.on(benchmark_with(data[0]["images"]))
    initial = read_initial(arguments.init, arguments.init_parts, config) if arguments.init else None
    trainer = Trainer(arguments.recipe, config, data, _device(arguments.device), initial)
    validation = _validation(arguments, trainer)
    steps = arguments.recipe.steps
    with Session(arguments.out, trainer) as session:
        if trainer.step:
            print(f"resuming {arguments.out}: {trainer.step} of {steps} steps are done", flush=True)
        if not _train(session, arguments, validation):
            print(f"interrupted; {trainer.step} of {steps} steps are safe in {arguments.out}")
            return False
    print(f"{trainer.step} steps done: {arguments.out / MODEL}")
    return True
