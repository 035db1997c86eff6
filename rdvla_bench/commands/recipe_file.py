"""A recipe file: all that decides a model, from its demonstrations to its weights, as TOML.

name = "..."            what the model is called
[[demonstrations]]      options of rdvla-bench demos; several blocks add up in one folder
[training]              options of rdvla-bench train
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from rdvla_bench.commands.demos import DemoPlan, DemosArguments, make_plan
from rdvla_bench.demo_noise import NoiseRecipe
from rdvla_bench.errors import UnknownName, UsageError, nearest
from rdvla_bench.plan import differences
from rdvla_bench.policies.rdvla.config import named_config
from rdvla_bench.policies.rdvla.training.recipe import Recipe

_T = TypeVar("_T")
_EXPECTED = {int: "a whole number", float: "a number", str: "a text in quotes"}


@dataclass(frozen=True)
class Demonstrations:
    """One block of demonstrations: the options of rdvla-bench demos that decide what is recorded."""

    suite: str
    episodes: int
    tasks: str | None = DemosArguments.tasks
    seed: int = DemosArguments.seed
    expert: str = DemosArguments.expert
    image_size: int | None = DemosArguments.image_size
    stride: int = DemosArguments.stride
    noise: NoiseRecipe = field(default_factory=NoiseRecipe)


@dataclass(frozen=True)
class Sections:
    """What stands in a recipe file."""

    name: str
    demonstrations: tuple[Demonstrations, ...]
    training: Recipe


@dataclass(frozen=True)
class RecipeFile:
    """A recipe file that was read and found possible."""

    text: bytes
    sections: Sections
    plans: tuple[DemoPlan, ...]  # of the blocks of demonstrations, all for one folder

    @property
    def sha256(self) -> str:
        """Return the hash of the file's bytes."""
        return hashlib.sha256(self.text).hexdigest()

    def values(self) -> dict[str, Any]:
        """Return every value by its full name, defaults included."""
        blocks = {
            f"demonstrations {i}.{name}": value
            for i, block in enumerate(self.sections.demonstrations, 1)
            for name, value in flat(block)
        }
        training = {f"training.{name}": value for name, value in flat(self.sections.training)}
        return {"name": self.sections.name, **blocks, **training}


def flat(section: Any) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a dataclass, those of one inside it as ``outer.inner``."""
    for part in fields(section):
        value = getattr(section, part.name)
        if is_dataclass(value):
            yield from ((f"{part.name}.{inner}", v) for inner, v in flat(value))
        else:
            yield part.name, value


def options(section: Any) -> list[str]:
    """Return a section as options of its command."""
    line: list[str] = []
    for name, value in flat(section):
        if value is not None:
            line += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,))]
    return line


def read_recipe(path: Path) -> RecipeFile:
    """Read a recipe file and check every key, value and name in it.

    Raises:
        UsageError: saying which is wrong, where it stands and what is allowed.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    try:
        table = tomllib.loads(text.decode())
    except ValueError as error:  # not TOML, or not UTF-8
        raise UsageError(f"{path} is no TOML file: {error}") from error
    if isinstance(table.get("demonstrations"), dict):  # [demonstrations] is one block
        table["demonstrations"] = [table["demonstrations"]]
    sections = _read(Sections, table, str(path))
    if not sections.demonstrations:
        raise UsageError(f"{path}: expected at least one block [[demonstrations]]")
    try:
        named_config(sections.training.model)
    except UsageError as error:
        raise UsageError(f"{path}, training: {error}") from error
    return RecipeFile(text, sections, _plans(sections, path))


def _plans(sections: Sections, path: Path) -> tuple[DemoPlan, ...]:
    plans: list[DemoPlan] = []
    for i, block in enumerate(sections.demonstrations, 1):
        where = f"{path}, demonstrations {i}"
        chosen = {part.name: getattr(block, part.name) for part in fields(block)}
        try:
            plans.append(make_plan(DemosArguments(out=path.parent, model=sections.training.model, **chosen)))
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
        if differs := differences(plans[0].identity(), plans[-1].identity()):
            raise UsageError(f"{where} is not for one folder with demonstrations 1: {'; '.join(differs)}")
    return tuple(plans)


def _read(kind: type[_T], table: Mapping[str, Any], where: str) -> _T:
    """Make a dataclass of a TOML table."""
    hints = get_type_hints(kind)
    for key in table:
        if key not in hints:
            raise UnknownName("key", key, hints, f"{where} takes {', '.join(hints)}")
    for part in fields(kind):  # type: ignore[arg-type]
        if part.name not in table and part.default is MISSING and part.default_factory is MISSING:
            raise UsageError(f"{where} lacks '{part.name}'")
    values = {key: _value(hints[key], value, where, key) for key, value in table.items()}
    try:
        return kind(**values)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _value(hint: Any, value: Any, where: str, key: str) -> Any:
    """Return a TOML value as the type that a field asks for."""
    if NoneType in get_args(hint):  # T | None; TOML has no None, the key is left out
        hint = get_args(hint)[0]
    if is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, dict):
            return _read(hint, value, f"{where}, {key}")
        raise UsageError(f"{where}: {key} {value!r}: expected a section [{key}]")
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        raise UsageError(
            f"{where}: {key} {value!r}: expected {', '.join(get_args(hint))}.{nearest(str(value), get_args(hint))}"
        )
    if get_origin(hint) is tuple:
        return _values(get_args(hint), value, where, key)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise UsageError(f"{where}: {key} {value!r}: expected {_EXPECTED[hint]}")
    return value


def _values(hints: tuple[Any, ...], value: Any, where: str, key: str) -> tuple[Any, ...]:
    if hints[-1] is Ellipsis:
        if isinstance(value, list):
            return tuple(_value(hints[0], part, where, f"{key} {i}") for i, part in enumerate(value, 1))
        raise UsageError(f"{where}: {key} {value!r}: expected blocks [[{key}]]")
    if isinstance(value, list) and len(value) == len(hints):
        return tuple(_value(hint, part, where, key) for hint, part in zip(hints, value, strict=True))
    raise UsageError(f"{where}: {key} {value!r}: expected {len(hints)} values in brackets")
