"""Claims about ``bench depth``: it reports the depths asked for, and what a head without noise must show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_training import FakeDemonstrations, tiny_config

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from rdvla_bench.commands.bench import main  # noqa: E402
from rdvla_bench.policies.rdvla.training.recipe import Recipe  # noqa: E402
from rdvla_bench.policies.rdvla.training.session import MODEL, Session  # noqa: E402
from rdvla_bench.policies.rdvla.training.shards import write_shards  # noqa: E402
from rdvla_bench.policies.rdvla.training.trainer import Trainer  # noqa: E402

RECIPE = Recipe(steps=1, batch_size=2, mean_depth=2, learning_rate=1e-3)


def rows(tmp_path: Path, recipe: Recipe) -> list[dict[str, float]]:
    data, out = FakeDemonstrations(5), tmp_path / "rows.json"
    write_shards(tmp_path / "data", data.samples)
    with Session(tmp_path / "run", Trainer(recipe, tiny_config(), data)) as session:
        session.record(session.trainer.advance())
        session.save()
    arguments = ["--checkpoint", str(tmp_path / "run" / MODEL), "--data", str(tmp_path / "data")]
    assert main(["depth", *arguments, "--depths", "3,1", "--samples", "4", "--out", str(out)]) == 0
    found: list[dict[str, float]] = json.loads(out.read_text())
    return found


def test_two_noises_are_two_scratchpads_that_come_closer(tmp_path: Path) -> None:
    first, third = rows(tmp_path, RECIPE)
    assert (first["depth"], third["depth"]) == (1, 3)
    assert first["contraction"] > third["contraction"] > 0
    assert first["spread"] > 0
    assert first["error"] > 0


def test_two_zero_scratchpads_are_one(tmp_path: Path) -> None:
    for row in rows(tmp_path, replace(RECIPE, start="zero")):
        assert row["contraction"] == row["spread"] == 0.0
        assert row["error"] > 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(("--depths", "0,2"), "--depths 0,2: expected whole numbers"), (("--samples", "0"), "--samples 0: expected 1")],
)
def test_wrong_numbers_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong, said: str) -> None:
    assert main(["depth", "--checkpoint", "x.safetensors", "--data", str(tmp_path), *wrong]) == 2
    assert said in capsys.readouterr().err
