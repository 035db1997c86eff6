"""The weights that come with the package, and which of them a benchmark is played with by default.

Each is two files in the folder ``shipped``: ``NAME.safetensors``, which ``rdvla_bench.train`` wrote and
``rdvla_bench.ship`` made small, and ``NAME.json``, where it comes from. PyTorch is not imported here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdvla_bench.errors import UsageError, nearest

FOLDER = Path(__file__).parent / "shipped"
FORMAT = "rdvla-bench/shipped@1"
MAX_BYTES = 12_000_000
"""Largest file of shipped weights: the package stays small enough to be installed without a thought."""
DEFAULTS: Mapping[str, str] = {"libero": "rdvla-nano-libero", "calvin": "rdvla-nano-calvin"}
"""Benchmark -> the weights that play it where no others are asked for."""
UNTRAINED = "untrained"
"""The ``checkpoint`` of drawn weights."""
_INSTEAD = f"--set checkpoint={UNTRAINED} plays drawn weights, --set checkpoint=PATH others"


class ShippedWeightsError(UsageError):
    """Weights of the package that are not there, or not as their manifest says."""


@dataclass(frozen=True)
class ShippedWeights:
    """One set of weights in the package."""

    name: str
    path: Path  # NAME.safetensors
    manifest: Mapping[str, Any]

    @property
    def benchmark(self) -> str:
        """Return what they were trained on."""
        return str(self.manifest["benchmark"])

    @property
    def is_default(self) -> bool:
        """Return whether their benchmark is played with them where no others are asked for."""
        return DEFAULTS.get(self.benchmark) == self.name


def installed() -> dict[str, ShippedWeights]:
    """Return every set of weights in the package by its name, in order of names.

    Raises:
        ShippedWeightsError: a manifest cannot be read.
    """
    manifests = sorted(FOLDER.glob("*.json"))
    return {
        path.stem: ShippedWeights(path.stem, path.with_suffix(".safetensors"), read_manifest(path))
        for path in manifests
    }


def named(name: str) -> ShippedWeights:
    """Return the weights called ``name``.

    Raises:
        ShippedWeightsError: there are none of that name, or their file is gone.
    """
    if found := _find(name):
        return found
    known = installed()
    raise ShippedWeightsError(
        f"no weights '{name}' come with this installation.{nearest(name, known)} "
        f"(there: {', '.join(known) or 'none'}; {_INSTEAD})"
    )


def default_for(benchmark: str) -> ShippedWeights:
    """Return the weights that ``benchmark`` is played with where no others are asked for.

    Raises:
        ShippedWeightsError: none come with the package.
    """
    if found := _find(DEFAULTS[benchmark]):
        return found
    raise ShippedWeightsError(
        f"the weights for {benchmark}, {DEFAULTS[benchmark]}, do not come with this installation ({_INSTEAD})"
    )


def _find(name: str) -> ShippedWeights | None:
    weights = installed().get(name)
    return weights if weights and weights.path.is_file() else None


def is_bare_name(checkpoint: str) -> bool:
    """Return whether ``checkpoint`` can only be the name of shipped weights: no path, and nothing of that name here."""
    if checkpoint in installed():
        return True
    return "/" not in checkpoint and "." not in checkpoint and not Path(checkpoint).exists()


def require_intact(path: Path) -> None:
    """Hold a file of weights against the manifest beside it, where there is one.

    Raises:
        ShippedWeightsError: its size or its SHA-256 is another.
    """
    beside = path.with_suffix(".json")
    if not path.is_file() or not _is_manifest(beside):
        return
    manifest = read_manifest(beside)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ShippedWeightsError(f"{path} has {size} bytes: shipped weights have {MAX_BYTES} at most")
    found = sha256_of(path)
    if found != manifest["sha256"]:
        raise ShippedWeightsError(
            f"{path} is not the file of its manifest: SHA-256 {found[:12]}, expected {manifest['sha256'][:12]} "
            f"in {beside.name}; install the package again"
        )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_manifest(path: Path) -> bool:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("format") == FORMAT


def read_manifest(path: Path) -> Mapping[str, Any]:
    """Return what the manifest of shipped weights says.

    Raises:
        ShippedWeightsError: it cannot be read, or is none.
    """
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        if manifest["format"] != FORMAT:
            raise ValueError(f"format '{manifest['format']}', expected '{FORMAT}'")
        for key in ("name", "benchmark", "sha256"):
            if not isinstance(manifest[key], str):
                raise TypeError(f"{key} is no text")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShippedWeightsError(f"{path} cannot be read: {error!r}") from error
    return manifest
