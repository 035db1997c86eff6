"""Claims about the export for the Hugging Face Hub, held against the fields its documentation asks for."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_runs import outcomes, write_folder

from rdvla_bench.commands.board import main

ALLOWED = {"dataset", "value", "verifyToken", "date", "source", "evaluation_framework", "notes"}
DATASET = {"id", "task_id", "revision"}
SOURCE = {"url", "name", "user"}


def exported(folder: Path, *more: str) -> list[dict[str, Any]]:
    target = folder.parent / "libero.yaml"
    assert main([str(folder), "--eval-results", str(target), "--dataset", "someone/libero", *more]) == 0
    entries: list[dict[str, Any]] = yaml.safe_load(target.read_text())
    return entries


def test_every_entry_has_the_required_fields_and_no_unknown_one(tmp_path: Path) -> None:
    records = [*outcomes("sstt"), *outcomes("ssss", suite="libero_goal")]
    folder = write_folder(tmp_path / "a", records, tasks={"libero_object": [0], "libero_goal": [0]})
    entries = exported(folder, "--source", "https://example.org/run: #1")
    assert [(e["dataset"]["task_id"], e["value"]) for e in entries] == [("libero_object", 50.0), ("libero_goal", 100.0)]
    for entry in entries:
        assert set(entry) <= ALLOWED
        assert set(entry["dataset"]) <= DATASET
        assert set(entry["source"]) <= SOURCE
        assert entry["dataset"]["id"] == "someone/libero"
        assert isinstance(entry["value"], float)
        assert entry["source"]["url"] == "https://example.org/run: #1"
        assert datetime.date.fromisoformat(entry["date"])  # a text, as the documentation's example has it


def test_the_notes_say_measure_interval_protocol_and_depth(tmp_path: Path) -> None:
    (entry,) = exported(write_folder(tmp_path / "a", outcomes("sstt")))
    for part in (
        "success rate in percent",
        "95 % interval [15.0, 85.0]",
        "4 episodes",
        "libero/paired@1",
        "depth 7.00",
    ):
        assert part in entry["notes"]
    assert "source" not in entry


@pytest.mark.parametrize(("text", "privileged", "reason"), [
    ("sse", False, "1 error"), ("ss", False, "2 of 4 missing"), ("ssss", True, "privileged"),
])  # fmt: skip
def test_what_may_not_be_ranked_is_not_exported(
    tmp_path: Path, text: str, privileged: bool, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "a", outcomes(text), privileged=privileged)
    target = tmp_path / "x.yaml"
    assert main([str(folder), "--eval-results", str(target), "--dataset", "someone/libero"]) == 2
    assert reason in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.parametrize("more", [(), ("--dataset", "libero"), ("--dataset", "a/b", "--source", "here")])
def test_a_wrong_call_is_refused(tmp_path: Path, more: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "a", outcomes("ssss"))
    assert main([str(folder), "--eval-results", str(tmp_path / "x.yaml"), *more]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_several_runs_do_not_go_into_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(write_folder(tmp_path / name, outcomes("ssss"))) for name in "ab"]
    assert main([*folders, "--eval-results", str(tmp_path / "x.yaml"), "--dataset", "a/b"]) == 2
    assert "one run" in capsys.readouterr().err


def test_chains_are_exported_by_their_average_length(tmp_path: Path) -> None:
    records = outcomes("sttt", suite="calvin_d")
    chains = [replace(r, result=replace(r.result, solved=n)) for r, n in zip(records, (5, 2, 0, 1), strict=True)]
    folder = write_folder(tmp_path / "a", chains, tasks={"calvin_d": [0]}, n_instructions=5)
    (entry,) = exported(folder)
    assert entry["value"] == 2.0
    assert entry["notes"].startswith("average chain length, 95 % interval [")
