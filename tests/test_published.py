"""Claims about published numbers: copied, sourced, contradictions shown, never among the runs."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from synthetic_runs import fixed, write

from rdvla_bench.commands.board import main
from rdvla_bench.leaderboards.published import BASES, MARK, published, published_tables

FOUR = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
ROUNDING = {"LIBERO": 0.0501 + 0.05, "CALVIN ABC->D": 0.0051 + 0.0025}  # of the mean, and of what it is the mean of


def test_every_number_has_a_source_a_basis_and_a_unit() -> None:
    for number in published():
        assert number.source, number
        assert number.unit, number
        assert number.basis in BASES, number


def test_no_number_stands_twice() -> None:
    keys = [(n.benchmark, n.measure, n.method, n.variant, n.params_b, n.source) for n in published()]
    assert len(set(keys)) == len(keys)


def test_a_mean_that_its_own_parts_contradict_is_marked() -> None:
    rows: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    marked = set()
    for n in published():
        key = (n.benchmark, n.method, n.variant, n.params_b, n.source)
        if n.benchmark in ROUNDING and n.value.replace(".", "").isdigit():
            rows[key][n.measure] = float(n.value)
            marked |= {key} if n.conflict else set()
    off = set()
    for key, values in rows.items():
        parts = [values.get(m) for m in (FOUR if key[0] == "LIBERO" else [f"SR{k}" for k in range(1, 6)])]
        mean = values.get("average_4_suites", values.get("avg_len"))
        if mean is not None and None not in parts:
            truth = sum(p for p in parts if p is not None) / (4 if key[0] == "LIBERO" else 100)
            off |= {key} if abs(truth - mean) > ROUNDING[key[0]] else set()
    assert {key[1] for key in off} >= {"CoT-VLA", "MolmoAct", "DeeR"}
    assert off <= marked


def test_a_contradicted_number_says_so_beside_itself_and_why_in_its_row() -> None:
    (table,) = published_tables(FOUR)
    row = next(row for row in table.rows if row[0] == "CoT-VLA" and "Table I" in row[-2])
    assert row[table.columns.index("average %")] == f"81.1{MARK}"
    assert "83.9" in row[-1]


def test_a_number_that_only_others_quote_is_told_from_its_authors_own() -> None:
    (table,) = published_tables(FOUR)
    bases = {row[0]: row[table.columns.index("basis")] for row in table.rows if "2602.07845" in row[-2]}
    assert bases["RD-VLA"] == "authors"
    assert bases["OpenVLA"] == "cited"


@pytest.mark.parametrize(
    ("suites", "benchmarks", "measures"),
    [
        (["libero_object"], ["LIBERO"], {"object %"}),
        (["libero_90"], [], set()),
        (["calvin_a"], [], set()),
        (["calvin_d"], ["CALVIN ABC->D"], {"length", "1 %", "5 %"}),
        ([*FOUR, "calvin_d"], ["LIBERO", "CALVIN ABC->D"], {"average %", "spatial %", "length"}),
    ],
)
def test_a_board_shows_the_columns_of_its_own_suites_only(
    suites: list[str], benchmarks: list[str], measures: set[str]
) -> None:
    tables = published_tables(suites)
    assert [table.title for table in tables] == [f"As published, not re-run: {name}" for name in benchmarks]
    shown = {column for table in tables for column in table.columns}
    assert measures <= shown
    if suites == ["libero_object"]:
        assert not {"average %", "spatial %"} & shown


@pytest.mark.parametrize("format", ["terminal", "md", "latex"])
def test_published_rows_stand_after_the_runs_and_only_when_asked_for(
    format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(write(tmp_path / "a", fixed(4), n_tasks=2, n_episodes=2))
    assert main([run, "--format", format]) == 0
    assert "As published" not in capsys.readouterr().out
    assert main([run, "--format", format, "--published"]) == 0
    ours, _, theirs = capsys.readouterr().out.partition("As published, not re-run")
    assert "CogVLA" in theirs
    assert "CogVLA" not in ours


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_published_numbers_never_enter_a_flat_table(
    format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(write(tmp_path / "a", fixed(4), n_tasks=1, n_episodes=1))
    assert main([run, "--format", format, "--published", "--out", str(tmp_path / "x")]) == 2
    assert "published numbers share no table with runs" in capsys.readouterr().err
