"""From a run's folder to weights for the package: 16 bits a number, and a manifest of where they come from.

Both files are a function of the run's folder (and of what is said about its data), so making them again gives the
same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import Tensor

from rdvla_bench.errors import UsageError
from rdvla_bench.plan import differences
from rdvla_bench.policies.rdvla.shipped_weights import FORMAT, MAX_BYTES, read_manifest, sha256_of
from rdvla_bench.policies.rdvla.training.checkpoints import DTYPES, TrainedModel, read_model, write_model
from rdvla_bench.policies.rdvla.training.session import CONFIG, LOG, MODEL, read_looks
from rdvla_bench.policies.rdvla.training.validation import ValidationReport
from rdvla_bench.policies.rdvla.weights import digest

HALVES = ("float16", "bfloat16")
NOTHING: Mapping[str, Any] = MappingProxyType({})
OF_A_TRAINING = (
    *("step", "recipe", "seed", "initial_weights_sha256", "git_commit", "machine", "device", "threads", "versions"),
    *("minutes", "data", "loss_curve", "validation"),
)
"""What a manifest says of each training; one written before something of it was thought of lacks that."""
CURVE_POINTS = 200
"""Points of the loss curve in a manifest; each is the mean over the steps since the one before."""


@dataclass(frozen=True)
class FinishedRun:
    """What a run's folder holds."""

    folder: Path
    model: TrainedModel
    about: Mapping[str, Any]  # its config.json
    losses: tuple[float, ...]  # of every step up to the model's
    looks: tuple[ValidationReport, ...] = ()  # at held-out demonstrations, up to the model's step

    @property
    def step(self) -> int:
        """Return the steps that made the model."""
        return int(self.model.origin["step"])

    @property
    def minutes(self) -> float:
        """Return the minutes from the run's first file to its model, pauses of a resumed run included."""
        begun, ended = ((self.folder / name).stat().st_mtime for name in (CONFIG, MODEL))
        return max(0.0, ended - begun) / 60


def read_run(folder: Path) -> FinishedRun:
    """Read the folder of a run.

    Raises:
        UsageError: it is none, or its files are of several runs.
    """
    model = read_model(folder / MODEL)
    try:
        about = json.loads((folder / CONFIG).read_text())
        identity = about["identity"]
        losses = tuple(float(json.loads(line)["loss"]) for line in (folder / LOG).read_text().splitlines())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder} is no run's folder: {CONFIG} or {LOG} cannot be read ({error!r})") from error
    origin = {key: value for key, value in model.origin.items() if key != "step"}
    if differs := differences(origin, identity):
        raise UsageError(f"{folder}: {MODEL} and {CONFIG} are of two runs: {'; '.join(differs)}")
    step = int(model.origin["step"])
    if len(losses) < step:
        raise UsageError(f"{folder}: {LOG} has {len(losses)} steps, {MODEL} {step}")
    looks = tuple(look for look in read_looks(folder) if look.step <= step)
    return FinishedRun(folder, model, about, losses[:step], looks)


def rounding_error(weights: Mapping[str, Tensor], dtype: str) -> float:
    """Return the root mean square change of the numbers stored as ``dtype``, as a share of their own.

    Infinite where a number has no place in ``dtype``. Tensors are not weighed by themselves: float16 spaces numbers
    below 6e-5 evenly, so a bias that has hardly left 0 changes much relative to itself and moves nothing.
    """
    change = total = 0.0
    for tensor in weights.values():
        exact = tensor.double()
        change += float((exact - tensor.to(DTYPES[dtype]).double()).square().sum())
        total += float(exact.square().sum())
    return math.sqrt(change / total) if total else 0.0


def thinned(losses: tuple[float, ...]) -> dict[str, list[float]]:
    """Return the loss curve in at most ``CURVE_POINTS`` points: the last step of each block and the block's mean."""
    blocks = np.array_split(np.array(losses), min(CURVE_POINTS, len(losses))) if losses else []
    ends = np.cumsum([len(block) for block in blocks])
    return {"step": [int(end) for end in ends], "loss": [float(f"{block.mean():.5g}") for block in blocks]}


def require_chain(before: Sequence[FinishedRun], run: FinishedRun, began: str | None = None) -> None:
    """Find out whether each run began with the model that the one before it ended in.

    Args:
        before: The trainings that led to ``run``, in their order.
        run: The last one.
        began: Hash of the shipped weights that the first one began with; None where it began with none.

    Raises:
        UsageError: naming the run that did not.
    """
    for stage in (*before, run):
        if (told := stage.about["identity"].get("initial_weights_sha256")) != began:
            wanted = f"weights {began[:12]} of what came before it" if began else "nothing, being the first"
            raise UsageError(f"{stage.folder} began with {f'weights {told[:12]}' if told else 'nothing'}, not {wanted}")
        began = digest(stage.model.model)


def ship(
    run: FinishedRun,
    name: str,
    out: Path,
    data: Mapping[str, Any],
    minutes: float | None = None,
    before: Sequence[FinishedRun] = (),
    origin: Path | None = None,
) -> Path:
    """Write ``NAME.safetensors`` and ``NAME.json`` to ``out``, the manifest last; return the weights' path.

    Args:
        run: What to ship.
        name: What the weights are called.
        out: A folder, made if missing.
        data: What is known of the training data besides its hash.
        minutes: How long training took; None reads it from the times of the run's files.
        before: The trainings that made what it began with, in their order.
        origin: The manifest of shipped weights that the first of all began with, if it began with any: its trainings
            are told of too.

    Raises:
        UsageError: ``before`` did not lead to ``run``, the file would be larger than ``MAX_BYTES``, or a weight has no
            place in 16 bits.
    """
    earlier = dict(read_manifest(origin)) if origin else {}
    if before or earlier:
        require_chain(before, run, earlier.get("weights_sha256"))
    weights = {key: parameter.detach() for key, parameter in run.model.model.named_parameters()}
    errors = {dtype: rounding_error(weights, dtype) for dtype in HALVES}
    dtype = min(errors, key=lambda key: errors[key])
    if not math.isfinite(errors[dtype]):
        largest = max(float(tensor.abs().max()) for tensor in weights.values())
        raise UsageError(f"{run.folder}: weights as large as {largest:g} have no place in {' or '.join(HALVES)}")
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.safetensors"
    unfinished = path.with_suffix(".unfinished")
    model, config = run.model, run.model.model.config
    stored = (model.statistics, model.origin, model.vocabulary)
    write_model(unfinished, weights, config, *stored, name=name, dtype=dtype)
    if (size := unfinished.stat().st_size) > MAX_BYTES:
        unfinished.unlink()
        raise UsageError(f"{name} would have {size} bytes: shipped weights have {MAX_BYTES} at most")
    path.with_suffix(".json").unlink(missing_ok=True)  # never a manifest beside weights that are not its own
    unfinished.replace(path)
    manifest = {
        "format": FORMAT,
        "name": name,
        "benchmark": config.benchmark,
        "model": config.name,
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "dtype": dtype,
        "rounding_error": {
            key: float(f"{error:.3g}") if math.isfinite(error) else None for key, error in errors.items()
        },
        "bytes": size,
        "sha256": sha256_of(path),
        "weights_sha256": digest(read_model(path).model),
        **_training(run, minutes, data),
        "before": [*_trainings(earlier), *map(_training, before)],
    }
    _write_manifest(path.with_suffix(".json"), manifest)
    return path


def _trainings(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a manifest tells of all its trainings, the last one last; of none nothing."""
    last = {key: manifest[key] for key in OF_A_TRAINING if key in manifest}
    return [*manifest.get("before", ()), *([last] if last else ())]


def _training(run: FinishedRun, minutes: float | None = None, data: Mapping[str, Any] = NOTHING) -> dict[str, Any]:
    """Return what a manifest says of one training."""
    about = run.about
    circumstances = ("git_commit", "machine", "device", "threads", "versions")
    return {
        "step": run.step,
        "recipe": about["recipe"],
        "seed": about["recipe"]["seed"],
        "initial_weights_sha256": about["identity"].get("initial_weights_sha256"),
        **{key: about.get(key) for key in circumstances},
        "minutes": round(run.minutes if minutes is None else minutes, 1),
        "data": {"sha256": about["identity"]["data_sha256"], "samples": about.get("samples"), **data},
        "loss_curve": thinned(run.losses),
        "validation": [asdict(look) for look in run.looks],
    }


def _write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write JSON with a line for each field."""
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in manifest.items())
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(f"{{\n{lines}\n}}\n")
    unfinished.replace(path)
