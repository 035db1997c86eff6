"""Policies and suites by name, from the entry-point groups ``rdvla_bench.policies`` and ``rdvla_bench.suites``.

Our own are registered through the same door as everybody's. A broken plug-in fails when it is used, not before.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rdvla_bench.errors import BrokenPlugin, MissingExtra, UnknownName, UsageError
from rdvla_bench.policy import Policy
from rdvla_bench.suite import Suite

POLICIES = "rdvla_bench.policies"
SUITES = "rdvla_bench.suites"
_MODEL_PACKAGES = {"torch", "transformers", "safetensors", "PIL"}


def entries(group: str) -> dict[str, EntryPoint]:
    """Return name -> entry point, sorted by name, nothing loaded.

    Raises:
        UsageError: two distributions register one name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        other = found.get(point.name)
        if other is not None and other.value != point.value:
            raise UsageError(
                f"'{point.name}' in {group} is registered twice: {distribution(other)} and {distribution(point)}. "
                f"Uninstall one of them"
            )
        found[point.name] = point
    return dict(sorted(found.items()))


def distribution(point: EntryPoint) -> str:
    """Return the name of the distribution that declares ``point``."""
    return point.dist.name if point.dist is not None else "an unknown distribution"


def _load(group: str, kind: str, name: str) -> Any:
    known = entries(group)
    if name not in known:
        raise UnknownName(kind, name, known, "rdvla-bench list")
    try:
        return known[name].load()
    except Exception as error:  # whatever a plug-in's import raises, its distribution is to be named
        if isinstance(error, ModuleNotFoundError) and error.name in _MODEL_PACKAGES:
            raise MissingExtra(f"policy '{name}'", "model", f"no module '{error.name}'") from error
        raise BrokenPlugin(kind, name, distribution(known[name]), error) from error


def load_suite(name: str) -> Suite:
    """Return the suite called ``name``."""
    suite = _load(SUITES, "suite", name)
    if not isinstance(suite, Suite):
        raise BrokenPlugin("suite", name, distribution(entries(SUITES)[name]), TypeError(f"{suite!r} is no Suite"))
    return suite


def policy_factory(name: str) -> Callable[..., Policy]:
    """Return the factory of the policy called ``name``; its keyword parameters are the ``--set`` keys."""
    factory = _load(POLICIES, "policy", name)
    if not callable(factory):
        raise BrokenPlugin("policy", name, distribution(entries(POLICIES)[name]), TypeError("not callable"))
    return factory  # type: ignore[no-any-return]


def parse_settings(name: str, settings: Mapping[str, str]) -> dict[str, Any]:
    """Convert ``--set`` texts to the types of the factory's parameters.

    Raises:
        UsageError: an unknown key, a value that does not parse, or a required key left out.
    """
    factory = policy_factory(name)
    parameters = inspect.signature(factory).parameters
    hints = _hints(factory)
    for key in settings:
        if key not in parameters:
            where = f"policy '{name}' takes {', '.join(parameters) or 'none'}"
            raise UnknownName("setting", key, parameters, where)
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in settings:
            raise UsageError(f"policy '{name}' needs --set {key}=...")
    return {key: _parse(key, text, hints.get(key, str)) for key, text in settings.items()}


def _hints(factory: Callable[..., Policy]) -> dict[str, Any]:
    """Return parameter -> type, the return type left alone: it may be imported for type checkers only."""
    annotations = {name: p.annotation for name, p in inspect.signature(factory).parameters.items()}
    typed = {name: hint for name, hint in annotations.items() if hint is not inspect.Parameter.empty}
    return get_type_hints(types.SimpleNamespace(__annotations__=typed), vars(sys.modules[factory.__module__]))


def load_policy(name: str, settings: Mapping[str, str] | None = None, benchmark: str = "") -> Policy:
    """Build the policy called ``name`` with ``--set`` texts.

    A factory with a parameter ``benchmark`` is told what it will be run on, unless the texts say so: cameras,
    conventions and weights may depend on it.

    Raises:
        MissingExtra, BrokenPlugin, UnknownName, UsageError.
    """
    factory = policy_factory(name)
    told = {"benchmark": benchmark} if benchmark and "benchmark" in inspect.signature(factory).parameters else {}
    arguments = parse_settings(name, {**told, **(settings or {})})
    try:
        policy = factory(**arguments)
    except ModuleNotFoundError as error:
        if error.name in _MODEL_PACKAGES:
            raise MissingExtra(f"policy '{name}'", "model", f"no module '{error.name}'") from error
        raise
    if not isinstance(policy, Policy):
        raise BrokenPlugin("policy", name, distribution(entries(POLICIES)[name]), TypeError("not a Policy"))
    return policy


def _parse(key: str, text: str, hint: Any) -> Any:
    origin, choices = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if type(None) in choices and text.lower() in ("none", ""):
            return None
        return _parse(key, text, next(choice for choice in choices if choice is not type(None)))
    if origin is Literal:
        by_text = {str(choice): choice for choice in choices}
        if text not in by_text:
            raise UnknownName(f"value of --set {key}", text, by_text, f"allowed: {', '.join(by_text)}")
        return by_text[text]
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise UsageError(f"--set {key}={text}: expected true or false")
        return text.lower() == "true"
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError as error:
            kind = "a whole number" if hint is int else "a number"
            raise UsageError(f"--set {key}={text}: expected {kind}") from error
    return Path(text) if hint is Path else text
