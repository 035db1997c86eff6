"""Held-out demonstrations: looked at while training, with the weights that come out, and without a trace in them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_training import FakeDemonstrations, WithGoals, sample, seeing, tiny_config

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from rdvla_bench.commands.train import main  # noqa: E402
from rdvla_bench.policies.rdvla.training.dataset import DatasetError  # noqa: E402
from rdvla_bench.policies.rdvla.training.recipe import Augmentation, Recipe  # noqa: E402
from rdvla_bench.policies.rdvla.training.session import MODEL, VALIDATION, Session, read_looks  # noqa: E402
from rdvla_bench.policies.rdvla.training.shards import write_shards  # noqa: E402
from rdvla_bench.policies.rdvla.training.shipping import read_run, ship  # noqa: E402
from rdvla_bench.policies.rdvla.training.trainer import Trainer  # noqa: E402
from rdvla_bench.policies.rdvla.training.validation import Validation  # noqa: E402
from rdvla_bench.policies.rdvla.weights import digest  # noqa: E402
from rdvla_bench.registry import load_policy  # noqa: E402

RECIPE = Recipe(
    steps=4, batch_size=2, mean_depth=3, learning_rate=1e-2, ema=0.5, augmentation=Augmentation(brightness=0.5)
)
HELD_OUT = FakeDemonstrations(5, first=4)


def trainer(recipe: Recipe = RECIPE) -> Trainer:
    return Trainer(recipe, tiny_config(), FakeDemonstrations(4))


def finish(session: Session, validation: Validation | None, steps: int) -> None:
    while session.trainer.step < steps:
        session.record(session.trainer.advance())
        if validation:
            session.record_look(validation.look())


def run(out: Path, *, looking: bool) -> Trainer:
    with Session(out, trainer()) as session:
        finish(session, Validation(HELD_OUT, session.trainer) if looking else None, RECIPE.steps)
        session.save()
        return session.trainer


def test_looking_leaves_no_trace_in_the_weights(tmp_path: Path) -> None:
    alone, looked = run(tmp_path / "alone", looking=False), run(tmp_path / "looked", looking=True)
    assert digest(alone.model) == digest(looked.model)
    assert (tmp_path / "alone" / MODEL).read_bytes() == (tmp_path / "looked" / MODEL).read_bytes()
    assert [look.step for look in read_looks(tmp_path / "looked")] == [1, 2, 3, 4]
    assert read_looks(tmp_path / "alone") == []


def test_what_is_measured_is_the_error_of_the_exported_weights_on_unchanged_pictures(tmp_path: Path) -> None:
    recipe = replace(RECIPE, start="zero")  # so that the policy's own noise does not matter
    with Session(tmp_path, trainer(recipe)) as session:
        validation = Validation(HELD_OUT, session.trainer)
        finish(session, None, 3)
        look = validation.look()
        assert look == validation.look()
        session.save()
        bounds = session.trainer.data.statistics.action
    policy = load_policy("rdvla-fixed", {"checkpoint": str(tmp_path / MODEL), "depth": recipe.mean_depth})
    errors = []
    for i in range(len(HELD_OUT)):
        s = HELD_OUT[i]
        seen = {"images": s["images"], "proprio": s["proprio"], "instruction": s["instruction"]}
        inputs = policy.read([policy.prepare(seen)])
        with torch.inference_mode():
            head = policy.model.head
            conditioning = head.condition(inputs.taps, inputs.proprio)
            s_pre = head.encode(conditioning)
            scratchpad = torch.zeros_like(s_pre)
            for _ in range(recipe.mean_depth):
                scratchpad = head.iterate(scratchpad, s_pre, conditioning)
            chunk = head.decode(scratchpad, conditioning)[0].numpy()
        errors.append(np.abs(chunk - bounds.normalise(s["chunk"])).mean())
    assert look.error == pytest.approx(np.mean(errors), rel=1e-4)
    assert (look.step, look.depth, look.data_sha256) == (3, 3, HELD_OUT.fingerprint)


def test_the_goals_loss_is_no_part_of_the_error_and_the_eyes_have_one_of_their_own() -> None:
    recipe = replace(RECIPE, eyes_steps=2, augmentation=Augmentation())
    eyes = Trainer(recipe, seeing(), FakeDemonstrations(4))
    validation = Validation(HELD_OUT, eyes)
    eyes.advance()
    first = validation.look()
    eyes.advance()
    eyes.advance()
    assert (first.depth, validation.look().depth) == (0, 3)
    goals = WithGoals(5, first=4)
    plain, guessing = (Trainer(replace(RECIPE, goal_weight=w), tiny_config(), WithGoals(4)) for w in (0.0, 1.0))
    looks = [Validation(goals, each).look() for each in (plain, guessing)]
    assert looks[0] == looks[1]


def test_a_resumed_run_forgets_the_looks_after_its_state_and_makes_the_same_ones(tmp_path: Path) -> None:
    run(tmp_path / "whole", looking=True)
    with Session(tmp_path / "cut", trainer()) as session:
        validation = Validation(HELD_OUT, session.trainer)
        finish(session, validation, 2)
        session.save()
        finish(session, validation, 3)  # and the process dies
    with (tmp_path / "cut" / VALIDATION).open("a") as file:
        file.write('{"step": 4, "err')
    with Session(tmp_path / "cut", trainer()) as session:
        assert [look.step for look in read_looks(tmp_path / "cut")] == [1, 2]
        finish(session, Validation(HELD_OUT, session.trainer), 4)
    assert (tmp_path / "cut" / VALIDATION).read_text() == (tmp_path / "whole" / VALIDATION).read_text()


def test_data_of_another_shape_is_refused() -> None:
    class Empty(FakeDemonstrations):
        def __len__(self) -> int:
            return 0

    with pytest.raises(DatasetError, match="empty"):
        Validation(Empty(0), trainer())


def test_the_manifest_of_shipped_weights_has_them(tmp_path: Path) -> None:
    run(tmp_path / "run", looking=True)
    path = ship(read_run(tmp_path / "run"), "tiny", tmp_path / "shipped", {})
    looks = json.loads(path.with_suffix(".json").read_text())["validation"]
    assert [look["step"] for look in looks] == [1, 2, 3, 4]
    assert all(0 < look["error"] < 2 for look in looks)


def test_the_command_prints_and_keeps_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, first, last in (("data", 0, 4), ("held-out", 4, 7)):
        write_shards(tmp_path / name, (sample(i) for i in range(first, last)))
    call = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--batch-size", "2", "--mean-depth", "2"]
    call += ["--device", "cpu", "--steps", "3", "--validation", str(tmp_path / "held-out"), "--validation-every", "2"]
    assert main(call) == 0
    looks = read_looks(tmp_path / "run")
    assert [look.step for look in looks] == [2, 3]
    said = capsys.readouterr().out
    assert f"step 2/3: error on held-out demonstrations {looks[0].error:.4f}" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--validation", "{data}"], "is trained on: record others"),
        (["--validation", "{none}"], "none"),
        (["--validation", "{data}", "--validation-every", "0"], "--validation-every 0: expected 1 or more"),
    ],
)
def test_wrong_calls_are_one_line(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shards(tmp_path / "data", (sample(i) for i in range(4)))
    places = {"data": tmp_path / "." / "data", "none": tmp_path / "none"}
    words = [option.format(**places) for option in options]
    call = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--device", "cpu", *words]
    assert main(call) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
