"""Claims about frozen runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rdvla_bench.commands.baseline import main
from rdvla_bench.commands.run import main as run
from rdvla_bench.leaderboards.baseline import ForeignBaseline, dumps, freeze, frozen, loads
from rdvla_bench.leaderboards.run_folder import read_run
from rdvla_bench.ledger import EPISODES

FAKE = ["--policy", "fake", "--suite", "fake_suite", "--workers", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "a"
    assert run([*FAKE, "--episodes", "3", "--out", str(out)]) == 0
    return out


def test_the_command_prints_what_loads_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder)]) == 0
    text = capsys.readouterr().out
    baseline = loads(text, "here")
    assert baseline == freeze(read_run(folder))
    assert dumps(baseline) == text
    assert len(baseline.episodes) == 9
    assert baseline.policy["name"] == "fake"
    assert 2 <= (baseline.mean_depth or 0) <= 8


def test_the_order_in_which_episodes_were_played_changes_no_byte(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "b"
    other.mkdir()
    (other / "run.json").write_bytes((folder / "run.json").read_bytes())
    lines = (folder / EPISODES).read_bytes().splitlines(keepends=True)
    (other / EPISODES).write_bytes(b"".join(reversed(lines)))
    assert dumps(freeze(read_run(other))) == dumps(freeze(read_run(folder)))


def test_two_executions_differ_in_timing_alone(folder: Path, tmp_path: Path) -> None:
    assert run([*FAKE, "--episodes", "3", "--out", str(tmp_path / "b")]) == 0
    first, second = (freeze(read_run(path)) for path in (folder, tmp_path / "b"))
    assert dumps(replace(first, timing=second.timing)) == dumps(second)


def test_an_episode_is_one_line_so_that_a_diff_shows_it(folder: Path) -> None:
    text = dumps(freeze(read_run(folder)))
    assert sum(line.startswith('    ["fake_suite", ') for line in text.splitlines()) == 9


def test_the_digest_sees_one_changed_bit_of_the_final_state(folder: Path) -> None:
    record = read_run(folder).records[0]
    other = replace(record, result=replace(record.result, state_sha256="0" * 64))
    slower = replace(record, execution=replace(record.execution, wall_s=1e3))
    assert frozen(other).digest != frozen(record).digest
    assert frozen(slower) == frozen(record)


def test_a_run_with_errors_is_not_frozen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "bad")
    assert run([*FAKE, "--episodes", "2", "--set", "fault=raise", "--out", out]) == 1
    capsys.readouterr()
    assert main([out]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "1 ERROR episode (fake_suite-t00-s001-r0)" in captured.err
    assert captured.err.count("\n") == 1


def test_an_unfinished_run_is_not_frozen(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "b"
    other.mkdir()
    (other / "run.json").write_bytes((folder / "run.json").read_bytes())
    (other / EPISODES).write_bytes(b"".join((folder / EPISODES).read_bytes().splitlines(keepends=True)[:7]))
    assert main([str(other)]) == 2
    assert "2 missing episodes (of 9 planned)" in capsys.readouterr().err


def damage(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda data: {**data, **changes}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage(schema=99), "is a baseline of schema 99, this version reads 1"),
        (damage(kind="other"), "is JSON, but no baseline"),
        (lambda data: [], "is JSON, but no baseline"),
        (damage(episodes=[]), "damaged baseline (ValueError: no episodes"),
        (damage(episodes=[["fake_suite", 0]]), "damaged baseline (TypeError"),
        (damage(columns=["suite"]), "damaged baseline"),
        (damage(suites={}), "damaged baseline"),
        (lambda data: {k: v for k, v in data.items() if k != "seed"}, "damaged baseline (KeyError: 'seed')"),
        (lambda data: {**data, "episodes": data["episodes"] * 2}, "one of them twice"),
    ],
)
def test_what_is_no_baseline_is_named(folder: Path, change: Callable[[Any], object], message: str) -> None:
    data = json.loads(dumps(freeze(read_run(folder))))
    with pytest.raises(ForeignBaseline) as error:
        loads(json.dumps(change(data)), "x.json")
    assert message in str(error.value)
    assert str(error.value).startswith("x.json ")


def test_what_is_no_json_is_named() -> None:
    with pytest.raises(ForeignBaseline, match="is no JSON"):
        loads("success,1", "x.csv")
