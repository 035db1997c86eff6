"""``bench model``: queries a second of batched adaptive inference, against the published one-at-a-time loop."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table

from rdvla_bench.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from rdvla_bench.commands.bench_model_loops import Case, Clock, Latency

DEPTHS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Model:
    """Answer the same RD-VLA queries by the published loop and by the engine, taking turns, and compare."""

    cases: str = "nano,rdvla-0.5b-head"
    """Models with untrained weights, separated by commas: a configuration's whole queries and their heads, or, with
    "-head" behind its name, its head alone with drawn weights and conditioning and a delta for a mean depth of 7.9."""
    batches: str = "1,8,32"
    """Slots of the engine, separated by commas."""
    queries: int = 64
    """Queries a measurement."""
    repeats: int = 3
    """Measurements of each kind; the median of their ratios is reported."""
    latency: str = ""
    """Also measure one query of this configuration by depth: backbone, head, and on a GPU memory."""
    device: Literal["cpu", "cuda"] = "cpu"
    """cpu: CPU seconds of one thread; cuda: wall seconds."""
    wall: bool = False
    """On a CPU, also measure wall seconds, each way given every core. Worth reading on a quiet machine only."""
    seed: int = 0
    """Seed of queries, noise and drawn weights."""
    out: Path | None = None
    """Also write the tables to this file: .md or .json."""


@dataclass(frozen=True)
class Row:
    """One case at one batch size."""

    model: str
    part: str
    clock: str  # what is counted, and of how many threads
    slots: int
    n_queries: int
    published_s: float  # seconds a query, median over repeats
    ours_s: float
    ratio: float  # median over repeats of the ratio within one
    depth: float  # mean
    equal_depths: int  # queries that both ways stopped at the same depth
    largest_difference: float  # between the two ways' chunks, of queries with equal depth


@dataclass
class _Seconds:
    published: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)


def measure(options: Model) -> int:
    """Measure and print; return 0, or 1 if some query stopped at another depth.

    Raises:
        UsageError: a number below 1, or no GPU where one was asked for.
    """
    slots = _numbers(options.batches)
    if min(options.queries, options.repeats) < 1:
        raise UsageError("--queries and --repeats are at least 1")
    if options.out and options.out.suffix not in (".md", ".json"):
        raise UsageError(f"--out {options.out} ends neither in .md nor in .json")
    try:
        import torch

        from rdvla_bench.commands import bench_model_loops as loops
    except ModuleNotFoundError as error:
        raise MissingExtra("bench model", "model", f"no module '{error.name}'") from error
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda, but PyTorch finds no GPU here")
    rows: list[Row] = []
    for name in filter(None, (text.strip() for text in options.cases.split(","))):
        arguments = (options.queries, options.seed, options.device)
        if name.endswith("-head"):
            cases: Sequence[Case] = (loops.drawn_head_case(name.removesuffix("-head"), *arguments),)
        else:
            cases = loops.query_case(name, *arguments)
        for case in cases:
            for clock in loops.clocks(options.device, wall=options.wall):
                rows += _compare(case, slots, options, clock)
                Console().print(_table(_HEADER, map(_cells, rows[-len(slots) :])))
    by_depth = loops.latencies(options.latency, DEPTHS, 10, options.device) if options.latency else []
    if by_depth:
        Console().print(_table(_LATENCY_HEADER, map(_latency_cells, by_depth)))
    if options.out:
        options.out.write_text(_markdown(rows, by_depth) if options.out.suffix == ".md" else _json(rows, by_depth))
    return 0 if all(row.equal_depths == row.n_queries for row in rows) else 1


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"--batches {text}: expected whole numbers of at least 1, separated by commas")
    return [int(part) for part in parts]


def _compare(case: Case, slots: Sequence[int], options: Model, clock: Clock) -> list[Row]:
    from rdvla_bench.commands.bench_model_loops import timed

    seconds = {n: _Seconds() for n in slots}
    timed(lambda: case.ours(1), clock)  # the first run pays for what the libraries set up
    for _ in range(options.repeats):
        published_s, wanted = timed(case.published, clock)
        answers = {}
        for n in slots:
            ours_s, answers[n] = timed(lambda n=n: case.ours(n), clock)  # type: ignore[misc]
            seconds[n].published.append(published_s)
            seconds[n].ours.append(ours_s)
    rows = []
    for n in slots:
        pairs = list(zip(wanted, answers[n], strict=True))
        same = [abs(a[1] - b[1]).max() for a, b in pairs if a[0] == b[0]]
        rows.append(
            Row(
                model=case.model,
                part=case.part,
                clock=clock.name,
                slots=n,
                n_queries=options.queries,
                published_s=median(seconds[n].published) / options.queries,
                ours_s=median(seconds[n].ours) / options.queries,
                ratio=median(a / b for a, b in zip(seconds[n].published, seconds[n].ours, strict=True)),
                depth=fmean(depth for depth, _ in wanted),
                equal_depths=len(same),
                largest_difference=float(max(same, default=0.0)),
            )
        )
    return rows


_HEADER = (
    *(
        "model",
        "part",
        "seconds",
        "batch",
        "published: queries/s",
        "ours: queries/s",
        "ratio",
        "mean depth",
        "equal depths",
    ),
    "largest difference",
)
_LATENCY_HEADER = ("depth", "backbone ms", "head ms", "peak MiB")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.model,
        row.part,
        row.clock,
        str(row.slots),
        f"{1 / row.published_s:.3g}",
        f"{1 / row.ours_s:.3g}",
        f"{row.ratio:.2f}",
        f"{row.depth:.1f}",
        f"{row.equal_depths} of {row.n_queries}",
        f"{row.largest_difference:.0e}",
    )


def _latency_cells(row: Latency) -> tuple[str, ...]:
    peak = "–" if row.peak_mib is None else f"{row.peak_mib:.1f}"
    return str(row.depth), f"{row.backbone_ms:.2f}", f"{row.head_ms:.2f}", peak


def _table(header: Sequence[str], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(*header, padding=(0, 0))
    for cells in rows:
        table.add_row(*cells)
    return table


def _markdown(rows: Sequence[Row], by_depth: Sequence[Latency]) -> str:
    tables: list[tuple[Sequence[str], list[tuple[str, ...]]]] = [(_HEADER, [_cells(row) for row in rows])]
    if by_depth:
        tables.append((_LATENCY_HEADER, [_latency_cells(row) for row in by_depth]))
    parts = []
    for header, cells in tables:
        lines = [header, ("---",) * len(header), *cells]
        parts.append("".join("| " + " | ".join(line) + " |\n" for line in lines))
    return "\n".join(parts)


def _json(rows: Sequence[Row], by_depth: Sequence[Latency]) -> str:
    data = {"rows": [asdict(row) for row in rows], "by_depth": [asdict(row) for row in by_depth]}
    return json.dumps(data, indent=2) + "\n"
