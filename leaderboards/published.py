"""Results as their authors or others published them, to stand beside a board and never in it.

``data/published.csv`` has one number a row with its source, copied as printed. Nobody here ran these, most sources do
not name their protocol, and some contradict each other or themselves: ``conflict`` says how.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from rdvla_bench.leaderboards.tables import NOTHING, Table

MARK = " ‡"
"""After a number with a conflict."""

BASES = {
    "authors": "the method's authors",
    "cited": "another paper's table",
    "listing": "somebody's leaderboard, not run by it",
    "run by others": "a third party's run",
    "second hand": "quoted from the source, which was not read",
}
"""Who vouches for a number."""

LEGEND = (
    "Copied as printed, in no order of merit; not re-run, so neither protocol, episodes nor look are known to match, "
    f"and nothing here is ranked. {MARK.strip()}: contradicted, see the remark. Basis: "
    + "; ".join(f"{name}: {meaning}" for name, meaning in BASES.items())
    + "."
)


@dataclass(frozen=True)
class Published:
    """One number, as text: what was printed is not rounded, parsed or repaired."""

    benchmark: str
    measure: str  # a suite, "average_4_suites", "avg_len", ...
    method: str
    variant: str
    params_b: str  # billions of parameters, "" where not stated
    value: str
    unit: str
    basis: str  # a key of BASES
    source: str
    conflict: str  # "" where nothing contradicts it
    remark: str


@dataclass(frozen=True)
class _Columns:
    """Which measures of a benchmark a board may show, under which headers."""

    benchmark: str
    headers: dict[str, str]  # measure -> header
    caveat: str = ""


_LIBERO = _Columns(
    "LIBERO",
    {
        "libero_spatial": "spatial %",
        "libero_object": "object %",
        "libero_goal": "goal %",
        "libero_10": "long %",
        "average_4_suites": "average %",
        "mean_iterations": "depth",
    },
)
_CALVIN = _Columns(
    "CALVIN ABC->D",
    {"avg_len": "length", **{f"SR{k}": f"{k} %" for k in range(1, 6)}},
    "Trained on scenes A, B and C, tested on D, in the original look.",
)


@cache
def published() -> tuple[Published, ...]:
    """Return every published number, in the order of the file."""
    text = files(__package__).joinpath("data/published.csv").read_text(encoding="utf-8")
    return tuple(Published(**row) for row in csv.DictReader(text.splitlines()))


def published_tables(suites: Iterable[str]) -> list[Table]:
    """Return one table a benchmark that has a suite among ``suites``; columns of other suites are left out."""
    named = set(suites)
    tables = []
    libero = [name for name in _LIBERO.headers if name in named]
    if libero:
        means = ["average_4_suites", "mean_iterations"] if len(libero) == 4 else []
        tables.append(_table(_LIBERO, [*libero, *means]))
    if "calvin_d" in named:
        tables.append(_table(_CALVIN, list(_CALVIN.headers)))
    return tables


def _table(columns: _Columns, measures: list[str]) -> Table:
    found: dict[tuple[str, ...], dict[str, Published]] = {}
    for number in published():
        if number.benchmark == columns.benchmark and number.measure in measures:
            key = (number.method, number.variant, number.params_b, number.basis, number.source)
            found.setdefault(key, {})[number.measure] = number
    rows = []
    for (method, variant, params, basis, source), numbers in found.items():
        cells = [_cell(numbers.get(measure)) for measure in measures]
        rows.append((method, variant, params or NOTHING, *cells, basis, source, _remark(numbers.values())))
    return Table(
        f"As published, not re-run: {columns.benchmark}",
        ("method", "variant", "params, B", *(columns.headers[m] for m in measures), "basis", "source", "remark"),
        tuple(rows),
        n_text=2,
        n_last=3,
        legend=f"{columns.caveat} {LEGEND}".strip(),
    )


def _cell(number: Published | None) -> str:
    return NOTHING if number is None else number.value + (MARK if number.conflict else "")


def _remark(numbers: Iterable[Published]) -> str:
    """Return what is said about any of ``numbers``, each thing once, conflicts first."""
    numbers = list(numbers)
    conflicts = [f"{MARK.strip()} {n.conflict}" for n in numbers if n.conflict]
    remarks = [part for n in numbers for part in n.remark.split("; ") if part]
    return "; ".join(dict.fromkeys([*conflicts, *remarks]))
