"""RD-VLA (arXiv 2602.07845): a recurrent-depth action head whose iterations are chosen query by query.

Four named policies, each a factory whose keyword parameters are its ``--set`` keys. PyTorch is imported when a factory
is called, not before.

Without ``checkpoint`` they play the weights that come with the package for the benchmark; ``checkpoint=NAME`` chooses
among those (``rdvla-bench list weights``). ``checkpoint=FILE.safetensors`` loads a model that ``rdvla_bench.train``
wrote; sizes and statistics stand in the file. ``checkpoint=FOLDER`` or ``hf://owner/name`` loads weights in the
released layout, by default into ``rdvla-0.5b``; ``unnorm_key`` chooses among its statistics. ``checkpoint=untrained``
draws weights for ``config``, by default ``nano``, from ``weights_seed``, and the card says so.

``benchmark`` chooses weights, cameras and conventions; a run says by itself what it plays, else it is LIBERO.

``nudge=M``: a hand that stood still since the last query is told to be up to M metres from where it is (``nudge.py``).
By default weights trained here take their benchmark's value (``conventions.py``), released and drawn ones 0.

``padded_slots=N`` computes every query in a batch of N, so that a batched answer has the bits of a single one (CPU).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from rdvla_bench.errors import UnknownName, UsageError
from rdvla_bench.policies.horizon import (
    BinaryHorizon,
    FixedHorizon,
    LinearDecayHorizon,
    ReleasedBinaryHorizon,
    ReleasedLinearDecayHorizon,
)
from rdvla_bench.policies.rdvla.config import RdvlaConfig
from rdvla_bench.policies.rdvla.exit_rules import (
    CosineSimilarity,
    ExitRule,
    FixedDepth,
    L2SquaredChange,
    MeanSquaredChange,
)
from rdvla_bench.policies.rdvla.weights_choice import choose
from rdvla_bench.policy import Policy, PolicyCard

Criterion = Literal["mse", "l2", "cosine"]
Sense = Literal["paper", "released"]
Device = Literal["cpu", "cuda"]
Benchmark = Literal["libero", "calvin"]
Horizon = FixedHorizon | BinaryHorizon | ReleasedBinaryHorizon | LinearDecayHorizon | ReleasedLinearDecayHorizon

MAX_NUDGE = 1.0  # m, a guard against centimetres
MAX_PADDED_SLOTS = 256  # a guard against typing errors; every query costs this many


def fixed(
    *,
    depth: int = 12,
    horizon: int = 5,
    config: str | None = None,
    checkpoint: str | None = None,
    unnorm_key: str | None = None,
    weights_seed: int = 0,
    nudge: float | None = None,
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
    nudge: float | None = None,
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
    nudge: float | None = None,
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
    nudge: float | None = None,
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


def _build(name: str, exit_rule: ExitRule, horizon: Horizon, settings: dict[str, Any]) -> Policy:
    """Build the model that ``settings`` names, with its weights, and its card."""
    _require_choice("device", settings["device"], get_args(Device))
    if settings["benchmark"] is not None:
        _require_choice("benchmark", settings["benchmark"], get_args(Benchmark))
    if not 0 <= settings["padded_slots"] <= MAX_PADDED_SLOTS:
        raise UsageError(f"padded_slots must be from 0 to {MAX_PADDED_SLOTS}, got {settings['padded_slots']}")
    if settings["nudge"] is not None and not 0 <= settings["nudge"] <= MAX_NUDGE:
        raise UsageError(f"nudge must be from 0 (off) to {MAX_NUDGE} m, got {settings['nudge']}")
    choice = choose(settings)
    if choice.sizes:  # before anything heavy is loaded
        _require_fit(name, horizon, choice.sizes)

    import torch

    from rdvla_bench.policies.rdvla.policy import RdvlaPolicy
    from rdvla_bench.policies.rdvla.weights import digest

    if settings["device"] == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"policy '{name}': device=cuda, but PyTorch finds no GPU here")
    weighted = choice.load()
    model, sizes = weighted.model, weighted.model.config
    _require_fit(name, horizon, sizes)
    nudge = weighted.nudge if settings["nudge"] is None else settings["nudge"]
    card = PolicyCard(
        name=name,
        weights=weighted.name,
        cameras=sizes.backbone.cameras,
        chunk=sizes.head.chunk,
        horizon=horizon.describe(),
        exit_rule=exit_rule.describe(),
        config={**weighted.settings, "nudge": nudge, "model": sizes.to_json()},
        weights_sha256=digest(model),
    )
    return RdvlaPolicy(
        model.to(settings["device"]),
        card,
        exit_rule,
        horizon,
        padded_slots=settings["padded_slots"],
        interface=weighted.interface,
        nudge=nudge,
    )


def _require_fit(policy: str, horizon: Horizon, sizes: RdvlaConfig) -> None:
    if horizon.longest > sizes.head.chunk:
        raise UsageError(
            f"policy '{policy}': horizon {horizon.longest} exceeds the chunk of {sizes.head.chunk} actions"
        )
