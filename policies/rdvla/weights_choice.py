"""From a policy's settings to a model with weights: shipped, trained here, released or untrained.

What is wrong with the settings is said before PyTorch is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rdvla_bench.errors import UsageError
from rdvla_bench.policies.rdvla import shipped_weights
from rdvla_bench.policies.rdvla.config import RdvlaConfig, named_config
from rdvla_bench.policies.rdvla.shipped_weights import UNTRAINED

if TYPE_CHECKING:
    from rdvla_bench.policies.rdvla.interface import Interface
    from rdvla_bench.policies.rdvla.model import RdvlaModel

TRAINED_HERE = ".safetensors"  # a file; the released layout is a folder
DEFAULT_BENCHMARK = "libero"
Settings = Mapping[str, Any]


class Weighted(NamedTuple):
    """A model with weights."""

    model: RdvlaModel
    name: str  # what the weights call themselves
    interface: Interface | None  # None: the conventions of untrained weights
    settings: Settings  # as they stand on the card, without paths
    nudge: float = 0.0  # m, where the settings do not say


class Choice(NamedTuple):
    """The weights that settings name, not yet loaded."""

    sizes: RdvlaConfig | None  # None: they stand in the file
    load: Callable[[], Weighted]


def choose(settings: Settings) -> Choice:
    """Return the weights that ``settings`` name.

    Raises:
        UsageError: weights that are not there, or settings that have no effect on them.
    """
    checkpoint = settings["checkpoint"]
    if checkpoint != UNTRAINED and settings["weights_seed"] != 0:
        raise UsageError(f"weights_seed draws untrained weights: it has no effect without checkpoint={UNTRAINED}")
    if settings["unnorm_key"] is not None and checkpoint in (None, UNTRAINED):
        raise UsageError("unnorm_key chooses among a checkpoint's statistics: it has no effect without checkpoint=")
    if checkpoint == UNTRAINED:
        sizes = _sizes(settings, "nano")
        return Choice(sizes, partial(_load_untrained, sizes, settings))
    if checkpoint is None:
        if settings["config"] is not None:
            raise UsageError(
                f"config={settings['config']} has no effect on the weights that come with the package: "
                f"say checkpoint={UNTRAINED} for drawn ones, or checkpoint=FOLDER for released ones"
            )
        file = shipped_weights.default_for(settings["benchmark"] or DEFAULT_BENCHMARK).path
    elif shipped_weights.is_bare_name(checkpoint):
        file = shipped_weights.named(checkpoint).path
    elif checkpoint.endswith(TRAINED_HERE):
        file = Path(checkpoint)
    else:
        sizes = _sizes(settings, "rdvla-0.5b")
        return Choice(sizes, partial(_load_released, sizes, settings))
    for key in ("config", "unnorm_key"):
        if settings[key] is not None:
            raise UsageError(f"{key} has no effect beside checkpoint={checkpoint}: it stands in the file")
    return Choice(None, partial(_load_trained_here, file, settings))


def _sizes(settings: Settings, default: str) -> RdvlaConfig:
    return named_config(settings["config"] or default).on(settings["benchmark"] or DEFAULT_BENCHMARK)


def _load_untrained(sizes: RdvlaConfig, settings: Settings) -> Weighted:
    from rdvla_bench.policies.rdvla.model import untrained

    kept = {key: value for key, value in settings.items() if key not in ("checkpoint", "unnorm_key")}
    there = {"config": sizes.name, "benchmark": sizes.benchmark}
    return Weighted(untrained(sizes, settings["weights_seed"]), UNTRAINED, None, {**kept, **there})


def _load_released(sizes: RdvlaConfig, settings: Settings) -> Weighted:
    from rdvla_bench.policies.rdvla.checkpoint import load

    loaded = load(settings["checkpoint"], sizes, settings["unnorm_key"])
    there = {
        "config": sizes.name,
        "benchmark": sizes.benchmark,
        "checkpoint": loaded.name,
        "unnorm_key": loaded.interface.statistics.key,
        "interface": loaded.interface.describe(),
    }
    return Weighted(loaded.model, loaded.name, loaded.interface, {**settings, **there})


def _load_trained_here(file: Path, settings: Settings) -> Weighted:
    from rdvla_bench.policies.rdvla.trained import TrainedInterface
    from rdvla_bench.policies.rdvla.training.checkpoints import read_model

    shipped_weights.require_intact(file)
    loaded = read_model(file)
    sizes = loaded.model.config
    if settings["benchmark"] not in (None, sizes.benchmark):
        raise UsageError(
            f"checkpoint={settings['checkpoint'] or file.stem} was trained on {sizes.benchmark}, "
            f"not on {settings['benchmark']}"
        )
    interface = TrainedInterface(sizes, loaded.statistics, loaded.vocabulary)
    name = loaded.name or f"{sizes.name}, {loaded.origin['step']} steps"
    kept = {key: value for key, value in settings.items() if key not in ("checkpoint", "unnorm_key", "weights_seed")}
    there = {
        "config": sizes.name,
        "benchmark": sizes.benchmark,
        "interface": interface.describe(),
        "origin": dict(loaded.origin),
    }
    return Weighted(loaded.model, name, interface, {**kept, **there}, sizes.convention.nudge)
