"""What an experiment tracker has to offer, and which are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from rdvla_bench.errors import MissingExtra, UnknownName

Value = str | int | float | bool | None
Rows = Sequence[Mapping[str, Value]]

SINKS = {
    "tensorboard": "rdvla_bench.sinks.tensorboard:TensorBoard",
    "wandb": "rdvla_bench.sinks.wandb:Wandb",
    "mlflow": "rdvla_bench.sinks.mlflow:Mlflow",
}
"""Name of the sink, which is also its pip extra -> its class."""


class Sink(Protocol):
    """One tracker for one run folder. Any method may raise whatever its library raises: see ``Feed``."""

    def begin(self, manifest: Mapping[str, Any], run_id: str) -> str:
        """Open the tracker's run ``run_id``, or a new one where that is "", and return its id.

        ``manifest`` is the run's ``run.json``.
        """
        ...

    def add(self, n_done: int, values: Mapping[str, float]) -> None:
        """Log the running values after ``n_done`` episodes of the whole run; it never falls within one session."""
        ...

    def end(self, rows: Rows | None) -> None:
        """Log the final table, a row a suite and a row a task, and close; None: the run was interrupted."""
        ...


def open_sink(name: str, out: Path) -> Sink:
    """Return the sink ``name`` of the run folder ``out``; nothing is written before ``begin``.

    Raises:
        UnknownName: no such sink.
        MissingExtra: its library is not installed.
    """
    if name not in SINKS:
        raise UnknownName("sink", name, SINKS, f"--log takes {', '.join(SINKS)}")
    module, _, kind = SINKS[name].partition(":")
    try:
        made: Sink = getattr(import_module(module), kind)(out)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"--log {name}", name, f"no module '{error.name}'") from error
    return made


def run_name(manifest: Mapping[str, Any]) -> str:
    """Return what a person should see in a list of runs."""
    config = manifest["config"]
    return f"{config['policy']} {','.join(config['suites'])} seed {config['seed']}"


def described(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the run's configuration and provenance as flat texts."""
    flat = {f"config.{key}": str(value) for key, value in manifest["config"].items()}
    flat |= {f"version.{key}": str(value) for key, value in manifest.get("versions", {}).items()}
    names = ("policy_hash", "protocol_hash", "git_commit", "started", "planned")
    return flat | {name: str(manifest[name]) for name in names if name in manifest}


def markdown(rows: Rows) -> str:
    """Return ``rows`` as a Markdown table under the keys of the first."""
    if not rows:
        return ""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_text(row[key]) for key in rows[0]] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(value: Value) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value).replace("|", "\\|")
