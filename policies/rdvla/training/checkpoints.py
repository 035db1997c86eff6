"""Two files of a run: the state that training continues from, and the model that a policy loads.

Both are safetensors, replaced at once: a write that is interrupted leaves the file before it. Nothing is unpickled.
The model's file is complete in itself; sizes, statistics and origin stand in its header as JSON. Its numbers may have
16 bits on disk; in memory they have 32.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rdvla_bench.errors import UsageError, nearest
from rdvla_bench.policies.rdvla.config import BackboneConfig, ConvNet, HeadConfig, RdvlaConfig, Transformer
from rdvla_bench.policies.rdvla.model import RdvlaModel
from rdvla_bench.policies.rdvla.statistics import Statistics, parse
from rdvla_bench.policies.rdvla.training.statistics import to_document

STATE_FORMAT = "rdvla-bench/train-state@1"
MODEL_FORMAT = "rdvla-bench/rdvla@1"
HEADER = "rdvla_bench"  # the one entry of the safetensors header's metadata
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""What a model's numbers may be on disk; all of one file are the same."""


class CheckpointError(UsageError):
    """A file of weights that cannot be read, or that belongs to another model."""


@dataclass(frozen=True)
class State:
    """Everything that the next training step depends on besides recipe and data."""

    step: int
    weights: Mapping[str, Tensor]
    moments: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)  # parameter -> AdamW's tensors
    average: Mapping[str, Tensor] = field(default_factory=dict)


def write_state(path: Path, state: State) -> None:
    """Write a training state, replacing ``path`` at once."""
    tensors = {f"weights/{name}": tensor for name, tensor in state.weights.items()}
    tensors |= {f"average/{name}": tensor for name, tensor in state.average.items()}
    for name, values in state.moments.items():
        tensors |= {f"moments/{name}/{key}": value for key, value in values.items()}
    _write(path, tensors, {"format": STATE_FORMAT, "step": state.step})


def read_state(path: Path, *, weights: Mapping[str, Tensor], trained: Iterable[str], averaged: Iterable[str]) -> State:
    """Read a training state of a model with these ``weights``, of which ``trained`` and ``averaged`` are parts.

    Raises:
        CheckpointError: the file is damaged, or its tensors are not exactly those expected.
    """
    tensors, header = _read(path, STATE_FORMAT)
    parts: dict[str, dict[str, Tensor]] = {"weights": {}, "average": {}, "moments": {}}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = tensor
    require_same(path, weights, parts["weights"])
    require_same(path, {name: weights[name] for name in averaged}, parts["average"])
    moments: dict[str, dict[str, Tensor]] = {}
    for key, tensor in parts["moments"].items():
        name, _, kind = key.rpartition("/")
        moments.setdefault(name, {})[kind] = tensor
    if unknown := sorted(set(moments) - set(trained)):
        raise CheckpointError(f"{path} has moments of {unknown[0]}, which this recipe does not train")
    return State(int(header["step"]), parts["weights"], moments, parts["average"])


def write_model(
    path: Path,
    weights: Mapping[str, Tensor],
    config: RdvlaConfig,
    statistics: Statistics,
    origin: Mapping[str, Any],
    vocabulary: str = "",
    *,
    name: str = "",
    dtype: str = "float32",
) -> None:
    """Write a model that ``read_model`` can load without anything else, replacing ``path`` at once.

    ``name`` is what the weights call themselves on cards, "" for weights that nobody named.
    """
    header: dict[str, Any] = {"config": config.to_json(), "statistics": to_document(statistics), "origin": dict(origin)}
    header |= {key: value for key, value in (("vocabulary", vocabulary), ("name", name)) if value}
    if dtype != "float32":
        header["dtype"] = dtype
    cast = {key: tensor.to(DTYPES[dtype]) for key, tensor in weights.items()}
    _write(path, cast, {"format": MODEL_FORMAT, **header})


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A model as ``write_model`` wrote it."""

    model: RdvlaModel
    statistics: Statistics
    origin: Mapping[str, Any]  # recipe, data and step that made it
    vocabulary: str = ""  # tokenizer.json, where the weights began as released ones; else words are hashed
    name: str = ""  # what the weights call themselves, "" where nobody named them


def read_model(path: Path) -> TrainedModel:
    """Load a trained model for inference, in float32 whatever it is on disk.

    Raises:
        CheckpointError: the file is missing, damaged, of another format, or lacks a weight.
    """
    tensors, header = _read(path, MODEL_FORMAT)
    _require_dtype(path, tensors, str(header.get("dtype", "float32")))
    try:
        config = config_from_json(header["config"])
        statistics = parse(header["statistics"], None, config.head.action, config.convention.n_proprio, str(path))
        origin: dict[str, Any] = {"step": int(header["origin"]["step"]), **header["origin"]}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its header cannot be read ({type(error).__name__}: {error})") from error
    with torch.random.fork_rng(devices=[]):  # transformers' constructors draw from the global generator
        model = RdvlaModel(config).eval().requires_grad_(requires_grad=False)
    parameters = dict(model.named_parameters())
    require_same(path, parameters, tensors)
    for name, parameter in parameters.items():
        if not tensors[name].isfinite().all():
            raise CheckpointError(f"{path}: {name} has values that are not finite")
        parameter.copy_(tensors[name])
    return TrainedModel(model, statistics, origin, str(header.get("vocabulary", "")), str(header.get("name", "")))


def _require_dtype(path: Path, tensors: Mapping[str, Tensor], dtype: str) -> None:
    if dtype not in DTYPES:
        raise CheckpointError(f"{path}: dtype '{dtype}' in its header, expected {', '.join(DTYPES)}")
    for name, tensor in tensors.items():
        if tensor.dtype != DTYPES[dtype]:
            raise CheckpointError(f"{path}: {name} is {tensor.dtype}, expected the header's {dtype}")


def is_trained_here(path: Path) -> bool:
    """Return whether a file of weights is one that ``write_model`` wrote; False where there is none."""
    try:
        with safe_open(path, framework="pt") as file:
            return HEADER in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def config_from_json(fields: Mapping[str, Any]) -> RdvlaConfig:
    """Rebuild the sizes that ``RdvlaConfig.to_json`` wrote."""
    backbone, head = dict(fields["backbone"]), dict(fields["head"])
    backbone["llm"] = Transformer(**backbone["llm"])
    for tower in ("dino", "siglip"):
        backbone[tower] = Transformer(**backbone[tower]) if backbone.get(tower) else None
    if convnet := backbone.get("convnet"):
        located = convnet["located"]
        stages = (located,) if isinstance(located, int) else tuple(located)  # a number before the fourth version
        backbone["convnet"] = ConvNet(**{**convnet, "channels": tuple(convnet["channels"]), "located": stages})
    backbone["cameras"] = tuple(backbone["cameras"])
    for taps in ("prelude_taps", "core_taps", "coda_taps"):
        head[taps] = tuple(head[taps])
    return RdvlaConfig(
        fields["name"],
        BackboneConfig(**backbone),
        HeadConfig(**head),
        fields.get("benchmark", "libero"),
        fields.get("rotation", "as-is"),
        fields.get("gripper", True),
    )


def _write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    unfinished = path.with_name(path.name + ".tmp")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    unfinished.touch()
    mode = unfinished.stat().st_mode  # as the umask says; safetensors' own files are closed to everyone else
    save_file(plain, unfinished, {HEADER: json.dumps(header)})  # one entry: safetensors shuffles several
    unfinished.chmod(mode)
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)


def _read(path: Path, expected: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            if header.get("format") != expected:
                found = f"'{header['format']}'" if "format" in header else "none (a released checkpoint is a folder)"
                raise CheckpointError(f"{path}: expected format '{expected}', got {found}")
            return {key: file.get_tensor(key) for key in file.keys()}, header  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no complete safetensors file: {error}") from error


def require_same(path: object, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Hold names and shapes against each other.

    Raises:
        CheckpointError: naming the first difference.
    """
    if missing := sorted(set(wanted) - set(found)):
        raise CheckpointError(f"{path} lacks {missing[0]} ({len(missing)} missing)")
    if unknown := sorted(set(found) - set(wanted)):
        raise CheckpointError(f"{path} has {unknown[0]}, which the model lacks.{nearest(unknown[0], wanted)}")
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape:
            raise CheckpointError(f"{path}: {name} is {tuple(found[name].shape)}, expected {tuple(tensor.shape)}")
