"""A recipe file: all that decides a model, from its demonstrations to its weights, as TOML.

name = "..."            what the model is called
[[demonstrations]]      options of rdvla-bench demos; several blocks add up in one folder
[training]              options of rdvla-bench train
[[recovery]]            options of rdvla-bench demos, driven by the model that training made; may be left out
[refinement]            a second training, on all of them, from that model; what is left out is as in [training]
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from rdvla_bench.commands.demos import DemoPlan, DemosArguments, make_plan
from rdvla_bench.demo_noise import NoiseRecipe
from rdvla_bench.demo_recovery import RecoveryRecipe
from rdvla_bench.errors import UnknownName, UsageError, nearest
from rdvla_bench.plan import differences
from rdvla_bench.policies.rdvla.config import named_config
from rdvla_bench.policies.rdvla.training.recipe import Recipe

CHECKPOINT = "checkpoint"
"""The setting by which a driver is told its weights; a recipe gives it itself."""
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
    spread: float = DemosArguments.spread
    counterfactuals: int = DemosArguments.counterfactuals
    noise: NoiseRecipe = field(default_factory=NoiseRecipe)


@dataclass(frozen=True)
class Recovery(Demonstrations):
    """One block of recovery demonstrations, whose driver plays what the recipe's training made."""

    driver: str = "rdvla-fixed"
    driver_set: tuple[str, ...] = ()
    recovery: RecoveryRecipe = field(default_factory=RecoveryRecipe)

    def driven_by(self, model: Path) -> Recovery:
        """Return the block with the driver's weights among its settings."""
        return replace(self, driver_set=(*self.driver_set, f"{CHECKPOINT}={model}"))


@dataclass(frozen=True)
class Sections:
    """What stands in a recipe file."""

    name: str
    demonstrations: tuple[Demonstrations, ...]
    training: Recipe
    recovery: tuple[Recovery, ...] = ()
    refinement: Recipe | None = None
    validation: tuple[Demonstrations, ...] = ()


@dataclass(frozen=True)
class RecipeFile:
    """A recipe file that was read and found possible."""

    text: bytes
    sections: Sections
    plans: tuple[DemoPlan, ...]  # of the blocks of demonstrations, all for one folder
    held_out: tuple[DemoPlan, ...]  # of the blocks of validation, all for another

    @property
    def sha256(self) -> str:
        """Return the hash of the file's bytes."""
        return hashlib.sha256(self.text).hexdigest()

    def values(self) -> dict[str, Any]:
        """Return every value by its full name, defaults included."""
        parts: dict[str, Any] = {"training": self.sections.training}
        parts |= {f"demonstrations {i}": block for i, block in enumerate(self.sections.demonstrations, 1)}
        parts |= {f"recovery {i}": block for i, block in enumerate(self.sections.recovery, 1)}
        parts |= {f"validation {i}": block for i, block in enumerate(self.sections.validation, 1)}
        if self.sections.refinement:
            parts["refinement"] = self.sections.refinement
        named = {f"{part}.{name}": value for part, section in parts.items() for name, value in flat(section)}
        return {"name": self.sections.name, **named}


def flat(section: Any) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a dataclass, those of one inside it as ``outer.inner``."""
    for part in fields(section):
        value = getattr(section, part.name)
        if is_dataclass(value):
            yield from ((f"{part.name}.{inner}", v) for inner, v in flat(value))
        else:
            yield part.name, value


def options(section: Any) -> list[str]:
    """Return a section as options of its command; texts of one field are one option each."""
    line: list[str] = []
    for name, value in flat(section):
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, tuple) and all(isinstance(part, str) for part in value):
            line += [word for part in value for word in (flag, part)]
        elif value is not None:
            line += [flag, *map(str, value if isinstance(value, tuple) else (value,))]
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
    for name in ("demonstrations", "recovery", "validation"):
        if isinstance(table.get(name), dict):  # [demonstrations] is one block
            table[name] = [table[name]]
    if isinstance(table.get("training"), dict) and isinstance(table.get("refinement"), dict):
        table["refinement"] = _joined(table["training"], table["refinement"])
    sections = _read(Sections, table, str(path))
    if not sections.demonstrations:
        raise UsageError(f"{path}: expected at least one block [[demonstrations]]")
    try:
        named_config(sections.training.model)
    except UsageError as error:
        raise UsageError(f"{path}, training: {error}") from error
    plans = make_plans("demonstrations", sections.demonstrations, sections.training.model, path)
    _check_refinement(sections, plans[0], path)
    held_out = make_plans("validation", sections.validation, sections.training.model, path)
    _check_validation(sections, plans[0], held_out, path)
    return RecipeFile(text, sections, plans, held_out)


def _joined(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``own`` with what it leaves out taken from ``base``, sections inside it likewise."""
    both = {**base, **own}
    inner = [key for key in both if isinstance(base.get(key), dict) and isinstance(own.get(key), dict)]
    return both | {key: _joined(base[key], own[key]) for key in inner}


def _check_refinement(sections: Sections, demonstrations: DemoPlan, path: Path) -> None:
    """Find out before the first training whether the second one will be possible.

    Raises:
        UsageError: saying which value is wrong and what is allowed.
    """
    if sections.refinement is None and sections.recovery:
        raise UsageError(f"{path}: [[recovery]] without [refinement], the training on it (an empty one is possible)")
    if sections.refinement is None:
        return
    model = sections.training.model
    if sections.refinement.model != model:
        raise UsageError(f"{path}, refinement: model '{sections.refinement.model}': expected training's, '{model}'")
    for i, block in enumerate(sections.recovery, 1):
        for text in block.driver_set:
            if text.partition("=")[0] == CHECKPOINT:
                raise UsageError(f"{path}, recovery {i}: driver_set '{text}': the driver plays what [training] made")
    blocks = tuple(block.driven_by(Path("model.safetensors")) for block in sections.recovery)
    _check_join("recovery", make_plans("recovery", blocks, model, path), demonstrations, path)


def _check_validation(sections: Sections, demonstrations: DemoPlan, held_out: Sequence[DemoPlan], path: Path) -> None:
    """Find out whether the model can be looked at on what is held out, and was not trained on it.

    Raises:
        UsageError: saying which block is wrong and what is allowed.
    """
    trained = sorted({block.seed for block in (*sections.demonstrations, *sections.recovery)})
    for i, block in enumerate(sections.validation, 1):
        if block.seed in trained:
            raise UsageError(f"{path}, validation {i}: seed {block.seed}: expected none that is trained on ({trained})")
    _check_join("validation", held_out, demonstrations, path)


def _check_join(kind: str, plans: Sequence[DemoPlan], demonstrations: DemoPlan, path: Path) -> None:
    for i, plan in enumerate(plans, 1):
        there, here = ({"benchmark": p.suites[0].benchmark, "image_size": p.image_size} for p in (demonstrations, plan))
        if differs := differences(there, here):
            raise UsageError(f"{path}, {kind} {i} does not join the demonstrations: {'; '.join(differs)}")


def make_plans(kind: str, blocks: Sequence[Demonstrations], model: str, path: Path) -> tuple[DemoPlan, ...]:
    """Return the plan of each block of one kind, all for one folder.

    Raises:
        UsageError: naming the block and what is wrong with it.
    """
    plans: list[DemoPlan] = []
    for i, block in enumerate(blocks, 1):
        where = f"{path}, {kind} {i}"
        chosen = {part.name: getattr(block, part.name) for part in fields(block)}
        try:
            plans.append(make_plan(DemosArguments(out=path.parent, model=model, **chosen)))
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
        if differs := differences(_shared(plans[0]), _shared(plans[-1])):
            raise UsageError(f"{where} is not for one folder with {kind} 1: {'; '.join(differs)}")
    return tuple(plans)


def _shared(plan: DemoPlan) -> dict[str, Any]:
    """Return what the blocks of one folder agree on; the driver's card is not yet known."""
    driven = {"driver": plan.driver, "driver_set": plan.driver_settings, "recovery": plan.recovery.describe()}
    return {**plan.identity(), **driven}


def _read(kind: type[_T], table: Mapping[str, Any], where: str) -> _T:
    """Make a dataclass of a TOML table."""
    hints = get_type_hints(kind)
    for key in table:
        if key not in hints:
            raise UnknownName("key", key, hints, f"{where} takes {', '.join(hints)}")
    for part in fields(kind):  # type: ignore[arg-type]
        if part.name not in table and part.default is MISSING and part.default_factory is MISSING:
            raise UsageError(f"{where} lacks '{part.name}'")
    values = {key: _value(hints[key], table[key], where, key) for key in hints if key in table}
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
        expected = f"blocks [[{key}]]" if is_dataclass(hints[0]) else "values in brackets"
        raise UsageError(f"{where}: {key} {value!r}: expected {expected}")
    if isinstance(value, list) and len(value) == len(hints):
        return tuple(_value(hint, part, where, key) for hint, part in zip(hints, value, strict=True))
    raise UsageError(f"{where}: {key} {value!r}: expected {len(hints)} values in brackets")
