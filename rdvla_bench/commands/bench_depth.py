"""``bench depth``: what each iteration of a head does to its answer, on recorded frames and without a simulator.

error        mean |a_k - label|, normalised actions
change       mean (a_k - a_{k-1})^2, what the exit rule of rdvla-adaptive reads
contraction  mean |S_k - S'_k| / |S_k| of two scratchpads that began as different noise
spread       mean |a_k - a'_k| of their answers
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from rdvla_bench.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from rdvla_bench.policies.rdvla.policy import RdvlaPolicy
    from rdvla_bench.policies.rdvla.training.dataset import Dataset, Sample
    from rdvla_bench.types import Observation

_BATCH = 32  # frames that are answered together


@dataclass(frozen=True)
class Depth:
    """Follow a trained head over its iterations on recorded frames: error, change, how fast its start is forgotten."""

    checkpoint: str
    """Weights, as --set checkpoint= takes them."""
    data: Path
    """Demonstrations that were not trained on (rdvla_bench.demos with another --seed)."""
    samples: int = 512
    """Frames, drawn at random."""
    depths: str = "1,2,3,4,6,8,12,16,24,32"
    """Depths to report, separated by commas."""
    seed: int = 0
    """Seed of the frames and of the noise."""
    out: Path | None = None
    """Also write the table to this file: .md or .json."""


@dataclass(frozen=True)
class Row:
    """One depth, means over frames."""

    depth: int
    error: float
    change: float
    contraction: float
    spread: float


def follow(options: Depth) -> int:
    """Measure and print; return 0.

    Raises:
        UsageError: depths or samples that make no sense, or weights that do not fit the data.
    """
    depths = _numbers(options.depths)
    if options.samples < 1:
        raise UsageError(f"--samples {options.samples}: expected 1 or more")
    if options.out and options.out.suffix not in (".md", ".json"):
        raise UsageError(f"--out {options.out} ends neither in .md nor in .json")
    try:
        from rdvla_bench.policies.rdvla.training.shards import ShardedDataset
    except ModuleNotFoundError as error:
        raise MissingExtra("bench depth", "model", f"no module '{error.name}'") from error
    from rdvla_bench.registry import load_policy

    policy = load_policy("rdvla-fixed", {"checkpoint": options.checkpoint})
    data = ShardedDataset(options.data)
    rows = _rows(policy, data, depths, options.samples, options.seed)  # type: ignore[arg-type]
    Console().print(_table(rows))
    if options.out:
        text = _markdown(rows) if options.out.suffix == ".md" else json.dumps([asdict(row) for row in rows], indent=2)
        options.out.write_text(text + "\n")
    return 0


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"--depths {text}: expected whole numbers of at least 1, separated by commas")
    return sorted({int(part) for part in parts})


def _rows(policy: RdvlaPolicy, data: Dataset, depths: Sequence[int], n_samples: int, seed: int) -> list[Row]:
    import torch

    from rdvla_bench.policies.rdvla.trained import TrainedInterface
    from rdvla_bench.policies.rdvla.training.dataset import check_fit
    from rdvla_bench.policies.rdvla.weights import truncated_normal
    from rdvla_bench.seeding import generator

    check_fit(data, policy.model.config)
    if not isinstance(policy.interface, TrainedInterface):
        raise UsageError("bench depth takes weights that were trained here")
    bounds, head = policy.interface.statistics.action, policy.model.head
    frames = generator("bench-depth", seed).permutation(len(data))[:n_samples]
    found: dict[int, list[np.ndarray]] = {depth: [] for depth in depths}  # (4,) sums over a batch's frames
    with torch.inference_mode():
        for first in range(0, len(frames), _BATCH):
            samples = [data[int(i)] for i in frames[first : first + _BATCH]]
            inputs = policy.read([policy.prepare(_observation(sample)) for sample in samples])
            label = torch.from_numpy(bounds.normalise(np.stack([s["chunk"] for s in samples])))
            conditioning = head.condition(inputs.taps, inputs.proprio)
            s_pre = head.encode(conditioning)
            shape = tuple(s_pre.shape)
            one, other = (
                head.scratchpad(torch.from_numpy(truncated_normal(generator("bench-depth", seed, first, i), shape)))
                for i in (0, 1)
            )
            before = head.decode(one, conditioning)
            for depth in range(1, depths[-1] + 1):
                one, other = (head.iterate(s, s_pre, conditioning) for s in (one, other))
                answer = head.decode(one, conditioning)
                if depth in found:
                    measures = (
                        (answer - label).abs(),
                        (answer - before).square(),
                        ((one - other).flatten(1).norm(dim=1) / one.flatten(1).norm(dim=1))[:, None],
                        (answer - head.decode(other, conditioning)).abs(),
                    )
                    found[depth].append(np.array([float(m.flatten(1).mean(dim=1).sum()) for m in measures]))
                before = answer
    return [Row(depth, *(np.sum(sums, axis=0) / len(frames)).tolist()) for depth, sums in found.items()]


def _observation(sample: Sample) -> Observation:
    return {"images": sample["images"], "proprio": sample["proprio"], "instruction": sample["instruction"]}


_HEADER = ("depth", "error", "change", "contraction", "spread")


def _cells(row: Row) -> tuple[str, ...]:
    return (str(row.depth), f"{row.error:.4f}", f"{row.change:.1e}", f"{row.contraction:.4f}", f"{row.spread:.4f}")


def _table(rows: Sequence[Row]) -> Table:
    table = Table(*_HEADER)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _markdown(rows: Sequence[Row]) -> str:
    lines = [_HEADER, ("---",) * len(_HEADER), *map(_cells, rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
