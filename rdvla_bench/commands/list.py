"""``list``: show what can be named on the command line: policies, weights, suites, tasks, protocol cards."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from rdvla_bench import registry
from rdvla_bench.commands.cli import command
from rdvla_bench.errors import UsageError
from rdvla_bench.policies.rdvla import shipped_weights
from rdvla_bench.policies.rdvla.shipped_weights import ShippedWeights
from rdvla_bench.protocol import CARDS
from rdvla_bench.protocol_card import ProtocolCard
from rdvla_bench.suite import Suite

Kind = Literal["all", "policies", "weights", "suites", "tasks", "protocols"]
Entry = dict[str, Any]  # plain JSON data; "broken" is the reason where a plug-in could not be loaded
Suites = dict[str, Suite | UsageError]  # the error where a plug-in could not be loaded


@dataclass(frozen=True)
class Options:
    """Show the policies, weights, suites, tasks and protocol cards that can be named."""

    kind: Annotated[Kind, tyro.conf.Positional] = "all"
    """What to show; all is everything but the tasks, in short."""
    suite: str | None = None
    """Only this suite, its tasks, and the protocol cards that cover it."""
    json: bool = False
    """Print JSON, with every detail."""


@command
def main(argv: list[str] | None = None) -> int:
    """Print; return 0, or 2 for a suite that nobody registered."""
    options = tyro.cli(Options, args=argv, prog="rdvla-bench list", config=(tyro.conf.FlagCreatePairsOff,))
    suites: Suites = {options.suite: registry.load_suite(options.suite)} if options.suite else _suites()
    kinds = ("policies", "weights", "suites", "protocols") if options.kind == "all" else (options.kind,)
    found = {kind: _COLLECT[kind](suites, options.suite) for kind in kinds}
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    texts = (_protocols_in_full(found["protocols"]),) if options.kind == "protocols" else map(_section, found.items())
    print("\n\n".join(texts))
    return 0


def _suites() -> Suites:
    found: Suites = {}
    for name in registry.entries(registry.SUITES):
        try:
            found[name] = registry.load_suite(name)
        except UsageError as error:
            found[name] = error
    return found


def _policy_entries(suites: Suites, only: str | None) -> list[Entry]:
    del suites, only  # every policy may be tried on every suite
    return [_policy_entry(name) for name in registry.entries(registry.POLICIES)]


def _policy_entry(name: str) -> Entry:
    entry: Entry = {"name": name, "distribution": registry.distribution(registry.entries(registry.POLICIES)[name])}
    try:
        factory = registry.policy_factory(name)
    except UsageError as error:
        return {**entry, "broken": str(error)}
    return {**entry, "summary": (inspect.getdoc(factory) or "").partition("\n")[0], "settings": _settings(factory)}


def _settings(factory: Callable[..., object]) -> dict[str, str]:
    """Return each ``--set`` key with its default, "REQUIRED" where there is none."""
    return {
        key: "REQUIRED" if parameter.default is inspect.Parameter.empty else str(parameter.default)
        for key, parameter in inspect.signature(factory).parameters.items()
    }


def _weights_entries(suites: Suites, only: str | None) -> list[Entry]:
    benchmarks = {suite.benchmark for suite in suites.values() if isinstance(suite, Suite)}
    return [_weights_entry(w) for w in shipped_weights.installed().values() if not only or w.benchmark in benchmarks]


def _weights_entry(weights: ShippedWeights) -> Entry:
    """Return the manifest, without the curve, and a sentence."""
    told = {key: value for key, value in weights.manifest.items() if key not in ("loss_curve", "before")}
    use = f"what rdvla-* play {weights.benchmark} with" if weights.is_default else f"for {weights.benchmark}"
    size, sha256 = f"{told['bytes'] / 1e6:.1f} MB", f"SHA-256 {told['weights_sha256'][:12]}"
    facts = f"{told['model']}, {told['step']} steps, {size}, {sha256}"
    return {**told, "default": weights.is_default, "summary": f"{use}; {facts}"}


def _suite_entries(suites: Suites, only: str | None) -> list[Entry]:
    del only
    return [_suite_entry(name, suite) for name, suite in suites.items()]


def _suite_entry(name: str, suite: Suite | UsageError) -> Entry:
    entry: Entry = {"name": name, "distribution": registry.distribution(registry.entries(registry.SUITES)[name])}
    if isinstance(suite, UsageError):
        return {**entry, "broken": str(suite)}
    return {
        **entry,
        "summary": f"{len(suite.tasks)} tasks, {suite.n_starts} starts each, {suite.env_id}, {suite.default_protocol}",
        "n_tasks": len(suite.tasks),
        "n_starts": suite.n_starts,
        "env_id": suite.env_id,
        "default_protocol": suite.default_protocol,
        "extra": suite.extra,
        "cameras": dict(suite.cameras),
        "proprio": suite.proprio,
        "actions": suite.actions,
    }


def _task_entries(suites: Suites, only: str | None) -> list[Entry]:
    del only
    return [
        {"suite": name, "task": number, "name": task.name, "instruction": task.instruction}
        for name, suite in suites.items()
        if isinstance(suite, Suite)
        for number, task in enumerate(suite.tasks)
    ]


def _protocol_entries(suites: Suites, only: str | None) -> list[Entry]:
    del suites
    return [_protocol_entry(card) for card in CARDS.values() if only is None or only in card.max_steps]


def _protocol_entry(card: ProtocolCard) -> Entry:
    return {**card.to_json(), "hash": card.hash}


_COLLECT: dict[str, Callable[[Suites, str | None], list[Entry]]] = {
    "policies": _policy_entries,
    "weights": _weights_entries,
    "suites": _suite_entries,
    "tasks": _task_entries,
    "protocols": _protocol_entries,
}


def _section(kind_and_entries: tuple[str, list[Entry]]) -> str:
    kind, entries = kind_and_entries
    lines = [kind]
    for entry, line in zip(entries, _aligned([_row(kind, entry) for entry in entries]), strict=True):
        lines.append(line)
        if settings := entry.get("settings"):
            lines.append("      --set " + " ".join(f"{key}={value}" for key, value in settings.items()))
    return "\n".join(lines if entries else [kind, "  none"])


def _row(kind: str, entry: Entry) -> tuple[str, ...]:
    if kind == "tasks":
        return entry["suite"], str(entry["task"]), entry["name"], entry["instruction"]
    if kind in ("protocols", "weights"):
        return entry["name"], entry["summary"]
    return entry["name"], entry["distribution"], f"BROKEN: {entry['broken']}" if "broken" in entry else entry["summary"]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _protocols_in_full(entries: Iterable[Entry]) -> str:
    texts = []
    for entry in entries:
        sources, shown = entry["sources"], {k: v for k, v in entry.items() if k not in ("name", "summary", "sources")}
        rows = [(key, _value(value), sources.get(key, "")) for key, value in shown.items()]
        texts.append("\n".join([f"{entry['name']}: {entry['summary']}", *_aligned(rows)]))
    return "\n\n".join(texts)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    return "none" if value is None else str(value)
