"""Every error that a user can meet says what, where, what is allowed and what to do next.

``UsageError`` and its children mean "the call was wrong or could not be decided": a command prints the
message on one line and exits with 2. ``PolicyFault`` and ``EnvFault`` end one episode, never the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


class RdvlaBenchError(Exception):
    """Root of every error this package raises on purpose."""

    def __reduce__(self) -> tuple[Callable[..., RdvlaBenchError], tuple[type[RdvlaBenchError], str]]:
        """Cross process borders as class and message, whatever arguments the class was made from."""
        return _rebuild, (type(self), str(self))


def _rebuild(kind: type[RdvlaBenchError], message: str) -> RdvlaBenchError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    return error


class UsageError(RdvlaBenchError):
    """The call cannot be carried out as given (exit code 2)."""


class UnknownName(UsageError):
    """A name that nobody registered."""

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str) -> None:
        """Name the ``kind`` of thing asked for, the nearest known name and the command that lists all."""
        super().__init__(f"no {kind} '{name}'.{nearest(name, known)} ({where})")


class UnknownTask(UsageError):
    """A task index or name outside its suite."""

    def __init__(self, suite: str, task: object, n_tasks: int) -> None:
        """Name the suite and its range of tasks."""
        super().__init__(
            f"suite '{suite}' has no task {task}: tasks are 0..{n_tasks - 1} (rdvla-bench list tasks --suite {suite})"
        )


class MissingExtra(UsageError):
    """An optional dependency that is not installed."""

    def __init__(self, what: str, extra: str, cause: object = "") -> None:
        """Name what needs the extra and the command that installs it."""
        because = f" ({cause})" if cause else ""
        super().__init__(f'{what} needs an extra that is not installed{because}: pip install "rdvla-bench[{extra}]"')


class BrokenPlugin(UsageError):
    """An entry point that could not be loaded."""

    def __init__(self, kind: str, name: str, distribution: str, cause: BaseException) -> None:
        """Name the distribution to repair or uninstall."""
        super().__init__(
            f"{kind} '{name}' of the distribution '{distribution}' could not be loaded: "
            f"{type(cause).__name__}: {cause}. Repair or uninstall '{distribution}'"
        )


class LedgerError(UsageError):
    """A run folder that cannot be read or continued as it is."""


class RunMismatch(LedgerError):
    """An output folder that belongs to another configuration."""

    def __init__(self, out: object, differences: Iterable[str]) -> None:
        """List the differences as ``key: there != here``."""
        super().__init__(
            f"{out} holds a run of another configuration: {'; '.join(differences)}. "
            f"Choose another --out, or give the configuration of that run"
        )


class NoRenderer(UsageError):
    """No way to render without a screen was found."""


class PolicyFault(RdvlaBenchError):
    """The policy broke its contract: raised, hung, or returned NaN, a wrong shape or out-of-range values."""


class EnvFault(RdvlaBenchError):
    """The simulator raised or returned something impossible."""


class InfraFault(RdvlaBenchError):
    """A process this harness started is gone; the episode is to be played again."""
