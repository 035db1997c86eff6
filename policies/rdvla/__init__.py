"""RD-VLA (arXiv 2602.07845): a recurrent-depth action head whose iterations are chosen query by query.

Four named policies, each a factory whose keyword parameters are its ``--set`` keys. PyTorch is imported when a factory
is called, not before.

``checkpoint=PATH`` or ``hf://owner/name`` loads weights in the released layout, by default into ``rdvla-0.5b``;
``unnorm_key`` chooses among its statistics. ``checkpoint=FILE.safetensors`` loads a model that ``rdvla_bench.train``
wrote; sizes and statistics stand in the file. Without one the model is untrained, by default ``nano``, and its card
says so; ``weights_seed`` chooses the weights.

``benchmark`` chooses cameras and conventions; a run says by itself what it plays. A model of ours knows its own.

``padded_slots=N`` computes every query in a batch of N, so that a batched answer has the bits of a single one (CPU).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from rdvla_bench.errors import UnknownName, UsageError
from rdvla_bench.policies.horizon import (
    BinaryHorizon,
    FixedHorizon,
    LinearDecayHorizon,
    ReleasedBinaryHorizon,
    ReleasedLinearDecayHorizon,
)
from rdvla_bench.policies.rdvla.config import RdvlaConfig, named_config
from rdvla_bench.policies.rdvla.exit_rules import (
    CosineSimilarity,
    ExitRule,
    FixedDepth,
    L2SquaredChange,
    MeanSquaredChange,
)
from rdvla_bench.policy import Policy, PolicyCard

if TYPE_CHECKING:
    from rdvla_bench.policies.rdvla.interface import Interface
    from rdvla_bench.policies.rdvla.model import RdvlaModel

Criterion = Literal["mse", "l2", "cosine"]
Sense = Literal["paper", "released"]
Device = Literal["cpu", "cuda"]
Benchmark = Literal["libero", "calvin"]
Horizon = FixedHorizon | BinaryHorizon | ReleasedBinaryHorizon | LinearDecayHorizon | ReleasedLinearDecayHorizon

TRAINED_HERE = ".safetensors"  # a file; the released layout is a folder
MAX_PADDED_SLOTS = 256  # a guard against typing errors; every query costs this many


def fixed(
    *,
    depth: int = 12,
    horizon: int = 5,
    config: str | None = None,
    checkpoint: str | None = None,
    unnorm_key: str | None = None,
    weights_seed: int = 0,
    padded_slots: int = 0,
    device: Device = "cpu",
    benchmark: Benchmark | None = None,
) -> Policy:
    """Build ``rdvla-fixed``: the same depth at every query.

    Depth 12 is Table I's "Fixed". The paper states no horizon for its fixed rows; 5 of 8 is the released script's
    default.
    """
    settings = dict(locals())
    return _build("rdvla-fixed", FixedDepth(depth), FixedHorizon(horizon), settings)


def adaptive(
    *,
    delta: float = 5e-4,
    criterion: Criterion = "mse",
    max_depth: int = 32,
    min_depth: int = 2,
    horizon_short: int = 4,
    horizon_long: int = 8,
    tau: int | None = None,
    sense: Sense = "paper",
    config: str | None = None,
    checkpoint: str | None = None,
    unnorm_key: str | None = None,
    weights_seed: int = 0,
    padded_slots: int = 0,
    device: Device = "cpu",
    benchmark: Benchmark | None = None,
) -> Policy:
    """Build ``rdvla-adaptive``: stop when the chunk settles; execute less of it when that took long (eq. 8).

    ``sense="released"`` inverts the horizon as the released code does. Without ``tau`` each sense takes its own.
    """
    settings = dict(locals())
    _require_choice("sense", sense, get_args(Sense))
    binary = BinaryHorizon if sense == "paper" else ReleasedBinaryHorizon
    horizon = binary(short=horizon_short, long=horizon_long, tau=binary.tau if tau is None else tau)
    return _build("rdvla-adaptive", _change(criterion, delta, max_depth, min_depth), horizon, settings)


def linear_decay(
    *,
    delta: float = 5e-4,
    criterion: Criterion = "mse",
    max_depth: int = 32,
    min_depth: int = 2,
    horizon_min: int = 2,
    horizon_max: int = 8,
    tau_base: int = 7,
    sense: Sense = "paper",
    config: str | None = None,
    checkpoint: str | None = None,
    unnorm_key: str | None = None,
    weights_seed: int = 0,
    padded_slots: int = 0,
    device: Device = "cpu",
    benchmark: Benchmark | None = None,
) -> Policy:
    """Build ``rdvla-linear-decay``: one action fewer for each iteration beyond ``tau_base`` (eq. 9).

    ``sense="released"`` takes the released code's table, which has constants of its own.
    """
    settings = dict(locals())
    _require_choice("sense", sense, get_args(Sense))
    paper = LinearDecayHorizon(h_min=horizon_min, h_max=horizon_max, tau_base=tau_base)
    if sense == "released" and paper != LinearDecayHorizon():
        raise UsageError("sense=released is a table of its own: horizon_min, horizon_max and tau_base have no effect")
    horizon = paper if sense == "paper" else ReleasedLinearDecayHorizon()
    return _build("rdvla-linear-decay", _change(criterion, delta, max_depth, min_depth), horizon, settings)


def pure(
    *,
    delta: float = 5e-4,
    criterion: Criterion = "mse",
    max_depth: int = 32,
    min_depth: int = 2,
    horizon: int = 5,
    config: str | None = None,
    checkpoint: str | None = None,
    unnorm_key: str | None = None,
    weights_seed: int = 0,
    padded_slots: int = 0,
    device: Device = "cpu",
    benchmark: Benchmark | None = None,
) -> Policy:
    """Build ``rdvla-pure``: stop when the chunk settles; a constant horizon (Table II, "pure KL")."""
    settings = dict(locals())
    return _build("rdvla-pure", _change(criterion, delta, max_depth, min_depth), FixedHorizon(horizon), settings)


def _change(criterion: Criterion, delta: float, max_depth: int, min_depth: int) -> ExitRule:
    """Build the exit rule of an adaptive policy; for the cosine, ``delta`` is its distance from 1."""
    _require_choice("criterion", criterion, get_args(Criterion))
    if criterion == "cosine":
        return CosineSimilarity(threshold=1 - delta, max_depth=max_depth, min_depth=min_depth)
    change = MeanSquaredChange if criterion == "mse" else L2SquaredChange
    return change(delta=delta, max_depth=max_depth, min_depth=min_depth)


def _require_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UnknownName(name, value, known, f"allowed: {', '.join(known)}")


def _require_one_kind_of_weights(settings: dict[str, Any]) -> None:
    if settings["checkpoint"] is None and settings["unnorm_key"] is not None:
        raise UsageError("unnorm_key chooses among a checkpoint's statistics: it has no effect without checkpoint=")
    if settings["checkpoint"] is not None and settings["weights_seed"] != 0:
        raise UsageError("weights_seed draws untrained weights: it has no effect beside checkpoint=")


def _build(name: str, exit_rule: ExitRule, horizon: Horizon, settings: dict[str, Any]) -> Policy:
    """Build the model that ``settings`` names, with its weights, and its card."""
    _require_choice("device", settings["device"], get_args(Device))
    if not 0 <= settings["padded_slots"] <= MAX_PADDED_SLOTS:
        raise UsageError(f"padded_slots must be from 0 to {MAX_PADDED_SLOTS}, got {settings['padded_slots']}")
    checkpoint = settings["checkpoint"]
    _require_one_kind_of_weights(settings)
    is_trained_here = checkpoint is not None and checkpoint.endswith(TRAINED_HERE)
    if not is_trained_here:  # before anything heavy is loaded
        settings = {**settings, "config": settings["config"] or ("nano" if checkpoint is None else "rdvla-0.5b")}
        _require_fit(name, horizon, named_config(settings["config"]))
        settings["benchmark"] = settings["benchmark"] or "libero"

    import torch

    from rdvla_bench.policies.rdvla.policy import RdvlaPolicy
    from rdvla_bench.policies.rdvla.weights import digest

    if settings["device"] == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"policy '{name}': device=cuda, but PyTorch finds no GPU here")
    load = _load_untrained if checkpoint is None else _load_trained_here if is_trained_here else _load_released
    weighted = load(settings)
    model, sizes = weighted.model, weighted.model.config
    _require_fit(name, horizon, sizes)
    card = PolicyCard(
        name=name,
        weights=weighted.name,
        cameras=sizes.backbone.cameras,
        chunk=sizes.head.chunk,
        horizon=horizon.describe(),
        exit_rule=exit_rule.describe(),
        config={**weighted.settings, "model": sizes.to_json()},
        weights_sha256=digest(model),
    )
    return RdvlaPolicy(
        model.to(settings["device"]),
        card,
        exit_rule,
        horizon,
        padded_slots=settings["padded_slots"],
        interface=weighted.interface,
    )


class _Weighted(NamedTuple):
    """A model with weights."""

    model: RdvlaModel
    name: str  # what the weights call themselves
    interface: Interface | None  # None: the conventions of untrained weights
    settings: dict[str, Any]  # as they stand on the card, without paths


def _load_untrained(settings: dict[str, Any]) -> _Weighted:
    from rdvla_bench.policies.rdvla.model import untrained

    model = untrained(named_config(settings["config"]).on(settings["benchmark"]), settings["weights_seed"])
    kept = {key: value for key, value in settings.items() if key not in ("checkpoint", "unnorm_key")}
    return _Weighted(model, "untrained", None, kept)


def _load_released(settings: dict[str, Any]) -> _Weighted:
    from rdvla_bench.policies.rdvla.checkpoint import load

    loaded = load(
        settings["checkpoint"], named_config(settings["config"]).on(settings["benchmark"]), settings["unnorm_key"]
    )
    key, conventions = loaded.interface.statistics.key, loaded.interface.describe()
    there = {"checkpoint": loaded.name, "unnorm_key": key, "interface": conventions}
    return _Weighted(loaded.model, loaded.name, loaded.interface, {**settings, **there})


def _load_trained_here(settings: dict[str, Any]) -> _Weighted:
    from rdvla_bench.policies.rdvla.trained import TrainedInterface
    from rdvla_bench.policies.rdvla.training.checkpoints import read_model

    for key in ("config", "unnorm_key"):
        if settings[key] is not None:
            raise UsageError(f"{key} has no effect beside checkpoint={settings['checkpoint']}: it stands in the file")
    loaded = read_model(Path(settings["checkpoint"]))
    sizes = loaded.model.config
    if settings["benchmark"] not in (None, sizes.benchmark):
        raise UsageError(
            f"checkpoint={settings['checkpoint']} was trained on {sizes.benchmark}, not on {settings['benchmark']}"
        )
    interface = TrainedInterface(sizes, loaded.statistics, loaded.vocabulary)
    name = f"{sizes.name}, {loaded.origin['step']} steps"
    kept = {key: value for key, value in settings.items() if key not in ("checkpoint", "unnorm_key", "weights_seed")}
    there = {
        "config": sizes.name,
        "benchmark": sizes.benchmark,
        "interface": interface.describe(),
        "origin": dict(loaded.origin),
    }
    return _Weighted(loaded.model, name, interface, {**kept, **there})


def _require_fit(policy: str, horizon: Horizon, sizes: RdvlaConfig) -> None:
    if horizon.longest > sizes.head.chunk:
        raise UsageError(
            f"policy '{policy}': horizon {horizon.longest} exceeds the chunk of {sizes.head.chunk} actions"
        )
