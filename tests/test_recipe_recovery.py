"""Claims about recipes with [refinement] and [[recovery]]: the model drives, and a second training learns from all.

And with [[validation]]: what is recorded for it is looked at and not trained on.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from rdvla_bench.commands import demos, train
from rdvla_bench.commands.recipe import main
from rdvla_bench.commands.recipe_file import read_recipe
from rdvla_bench.policies.rdvla.conventions import BENCHMARKS, Convention
from rdvla_bench.policies.rdvla.training.checkpoints import read_model
from rdvla_bench.policies.rdvla.training.session import read_looks
from rdvla_bench.policies.rdvla.training.shards import JoinedDataset
from rdvla_bench.policies.rdvla.weights import digest

PLAIN = """
name = "tiny"

[[demonstrations]]
suite = "fake_arm"
expert = "fake-expert"
tasks = "can"
episodes = 2
image_size = 8

[training]
model = "nano-conv"
steps = 2
batch_size = 2
learning_rate = 1e-3
mean_depth = 2
eyes_steps = 1
eyes_learning_rate = 3e-3

[training.augmentation]
shift = 1
brightness = 0.1
"""
RECOVERY = """
[[recovery]]
suite = "fake_arm"
expert = "fake-expert"
tasks = "cup"
episodes = 1
seed = 1
image_size = 8
driver = "fake-trained-driver"
driver_set = ["pace=0.2"]
recovery = { late_share = 0.1 }

[refinement]
steps = 3
augmentation = { shift = 2 }
"""
VALIDATION = """
[[validation]]
suite = "fake_arm"
expert = "fake-expert"
tasks = "can"
episodes = 1
seed = 2
image_size = 8
"""


@pytest.fixture(autouse=True)
def _fake_arm_can_be_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHMARKS, "fake_arm", Convention(("cam", "cam"), 8, tuple(range(8)), "axis-angle", -1.0))  # type: ignore[arg-type]


def make(folder: Path, text: str) -> int:
    file = folder / "tiny.toml"
    file.write_text(text)
    return main([str(file), "--out", str(folder / "made"), "--workers", "0"])


def about(folder: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((folder / "demos.json").read_text())
    return found


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def refused(*_: object) -> int:
    raise AssertionError("a finished stage was begun again")


def test_the_trained_model_drives_and_the_second_training_begins_with_it_on_both_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made"
    assert make(tmp_path, PLAIN + RECOVERY) == 0
    recorded = about(made / "recovery")
    assert recorded["config"]["driver"] == "fake-driver"
    assert recorded["config"]["recovery"]["late_share"] == 0.1  # type: ignore[index]
    assert recorded["config"]["seed"] == 1
    assert list(recorded["counts"]["fake_arm"]) == ["cup"]  # type: ignore[call-overload]
    first, second = (read_model(made / stage / "model.safetensors") for stage in ("train", "refined"))
    both = JoinedDataset([made / "demos", made / "recovery"])
    assert second.origin["data_sha256"] == both.fingerprint != first.origin["data_sha256"]
    assert first.origin["initial_weights_sha256"] is None
    assert second.origin["initial_weights_sha256"] == digest(first.model)
    assert (first.origin["eyes_steps"], first.origin["eyes_learning_rate"]) == (1, 3e-3)
    assert (first.origin["step"], second.origin["step"]) == (2, 3)

    before = contents(made)
    for stage in (demos, train):
        monkeypatch.setattr(stage, "main", refused)
    capsys.readouterr()
    assert make(tmp_path, PLAIN + RECOVERY) == 0
    assert contents(made) == before
    said = capsys.readouterr().out
    stages = {"demos": "all 2 episodes", "train": "all 2 steps", "recovery": "all 1 episodes", "refined": "all 3 steps"}
    assert all(f"{what} are in {made / stage}" in said for stage, what in stages.items())


def test_a_refinement_takes_from_the_training_what_it_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(PLAIN + RECOVERY)
    sections = read_recipe(tmp_path / "tiny.toml").sections
    first, second = sections.training, sections.refinement
    assert second is not None
    assert (second.steps, second.learning_rate, second.model) == (3, 1e-3, "nano-conv")
    assert (first.eyes_steps, second.eyes_steps, second.eyes_learning_rate) == (1, 1, 3e-3)
    assert (second.augmentation.shift, second.augmentation.brightness) == (2, 0.1)
    (tmp_path / "tiny.toml").write_text(PLAIN + RECOVERY.partition("steps = 3")[0])
    sections = read_recipe(tmp_path / "tiny.toml").sections
    assert sections.refinement == sections.training


def test_a_refinement_alone_trains_once_more_on_the_same_demonstrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    text = PLAIN + "[refinement]" + RECOVERY.partition("[refinement]")[2]
    assert make(tmp_path, text) == 0
    first, second = (read_model(made / stage / "model.safetensors") for stage in ("train", "refined"))
    assert second.origin["data_sha256"] == first.origin["data_sha256"]
    assert second.origin["initial_weights_sha256"] == digest(first.model)
    assert second.origin["step"] == 3
    assert not (made / "recovery").exists()
    for stage in (demos, train):
        monkeypatch.setattr(stage, "main", refused)
    assert make(tmp_path, text) == 0


def test_every_stage_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole").mkdir()
    assert make(tmp_path / "whole", PLAIN + RECOVERY) == 0
    record, learn = demos.main, train.main
    for stopped in ("recovery", "refined"):

        def stops(argv: list[str] | None, go: object = None, stopped: str = stopped) -> int:
            out = argv[argv.index("--out") + 1]  # type: ignore[index,union-attr]
            return 130 if out.endswith(stopped) else go(argv)  # type: ignore[operator]

        with monkeypatch.context() as patched:
            patched.setattr(demos, "main", lambda argv, stops=stops: stops(argv, record))
            patched.setattr(train, "main", lambda argv, stops=stops: stops(argv, learn))
            assert make(tmp_path, PLAIN + RECOVERY) == 130
    assert make(tmp_path, PLAIN + RECOVERY) == 0
    for stage in ("train", "refined"):
        whole, cut = (folder / "made" / stage / "model.safetensors" for folder in (tmp_path / "whole", tmp_path))
        assert whole.read_bytes() == cut.read_bytes()


def test_recovery_may_join_a_recipe_that_was_trained_and_is_fixed_once_its_training_began(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made"
    assert make(tmp_path, PLAIN) == 0
    assert sorted(path.name for path in made.iterdir()) == ["demos", "recipe.toml", "train"]
    before = contents(made / "demos") | contents(made / "train")
    assert make(tmp_path, PLAIN.replace("steps = 2", "steps = 3") + RECOVERY) == 2
    assert "training.steps: 2 there, 3 here" in capsys.readouterr().err
    assert make(tmp_path, PLAIN + RECOVERY) == 0
    assert contents(made / "demos") | contents(made / "train") == before
    assert (made / "recipe.toml").read_text() == PLAIN + RECOVERY
    for changed in (PLAIN + RECOVERY.replace("steps = 3", "steps = 4"), PLAIN):
        assert make(tmp_path, changed) == 2
        assert "refinement.steps: 3 there, " in capsys.readouterr().err


def test_another_driver_is_refused_once_recovery_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    learn = train.main
    monkeypatch.setattr(train, "main", lambda argv: 130 if "refined" in " ".join(argv) else learn(argv))
    assert make(tmp_path, PLAIN + RECOVERY) == 130
    assert make(tmp_path, PLAIN + RECOVERY.replace("pace=0.2", "pace=0.1")) == 2
    assert "driver_card" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[refinement]\nsteps = 3\naugmentation = { shift = 2 }", "", "[[recovery]] without [refinement]"),
        ("[[recovery]]", "[[recovry]]", "no key 'recovry'. Did you mean 'recovery'?"),
        ("steps = 3", 'steps = 3\nmodel = "nano"', "refinement: model 'nano': expected training's, 'nano-conv'"),
        ("steps = 3", "steps = 1", "refinement: eyes_steps 1: expected 0 to below steps (1)"),
        ("shift = 2", "shfit = 2", "refinement, augmentation takes shift"),
        ("fake-trained-driver", "fake-trained-diver", "recovery 1: no policy 'fake-trained-diver'. Did you mean"),
        ("fake-trained-driver", "fake-driver", "recovery 1: no setting 'checkpoint'. (policy 'fake-driver'"),
        ('["pace=0.2"]', '["pase=0.2"]', "recovery 1: no setting 'pase'. Did you mean 'pace'?"),
        ('["pace=0.2"]', '["pace"]', "recovery 1: --driver-set pace: expected KEY=VALUE"),
        ('["pace=0.2"]', '["checkpoint=x"]', "driver_set 'checkpoint=x': the driver plays what [training] made"),
        ('["pace=0.2"]', '"pace=0.2"', "driver_set 'pace=0.2': expected values in brackets"),
        ("late_share = 0.1", "late_share = 2", "recovery.late_share 2.0: expected 0 to 1"),
        ("late_share = 0.1", "late_shar = 2", "recovery 1, recovery takes usual, late_share"),
        ("image_size = 8\ndriver", "driver", "recovery 1 does not join the demonstrations: image_size: 8 "),
        ("[refinement]", RECOVERY.partition("[refinement]")[0].replace("0.2", "0.3") + "[refinement]",
         "recovery 2 is not for one folder with recovery 1: driver_set"),
    ],
)  # fmt: skip
def test_a_wrong_recovery_gets_one_clear_line_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, says: str
) -> None:
    text = PLAIN + re.sub(rf"{re.escape(old)}(?!\w)", lambda _: new, RECOVERY)
    assert text != PLAIN + RECOVERY
    assert make(tmp_path, text) == 2
    answer = capsys.readouterr().err
    assert says in answer
    assert "tiny.toml" in answer
    assert answer.count("\n") == 1
    assert not (tmp_path / "made").exists()


def test_a_folder_whose_name_has_a_comma_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.toml").write_text(PLAIN + RECOVERY)
    assert main([str(tmp_path / "tiny.toml"), "--out", str(tmp_path / "a,b"), "--workers", "0"]) == 2
    assert "expected no comma" in capsys.readouterr().err
    assert not (tmp_path / "a,b").exists()


def test_held_out_demonstrations_are_looked_at_in_both_trainings_and_leave_no_trace(tmp_path: Path) -> None:
    (tmp_path / "blind").mkdir()
    assert make(tmp_path / "blind", PLAIN + RECOVERY) == 0
    assert make(tmp_path, PLAIN + RECOVERY + VALIDATION) == 0
    made, blind = tmp_path / "made", tmp_path / "blind" / "made"
    held_out = about(made / "validation")
    assert held_out["config"]["seed"] == 2
    for stage, step in (("train", 2), ("refined", 3)):
        assert (made / stage / "model.safetensors").read_bytes() == (blind / stage / "model.safetensors").read_bytes()
        assert [(look.step, look.data_sha256) for look in read_looks(made / stage)] == [(step, held_out["data_sha256"])]
        assert read_looks(blind / stage) == []
    assert make(tmp_path / "blind", PLAIN + RECOVERY + VALIDATION) == 0  # it may come later, and go


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seed = 2", "seed = 0", "validation 1: seed 0: expected none that is trained on ([0, 1])"),
        ("seed = 2", "seed = 1", "validation 1: seed 1: expected none that is trained on ([0, 1])"),
        ("image_size = 8", "image_size = 16", "validation 1 does not join the demonstrations: image_size: 8 there, 16"),
        ("fake-expert", "fake-exprt", "validation 1: no policy 'fake-exprt'. Did you mean 'fake-expert'?"),
        ('tasks = "can"', 'task = "can"', "no key 'task'. Did you mean 'tasks'?"),
    ],
)
def test_a_wrong_validation_gets_one_clear_line_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, says: str
) -> None:
    assert make(tmp_path, PLAIN + RECOVERY + VALIDATION.replace(old, new)) == 2
    answer = capsys.readouterr().err
    assert says in answer
    assert answer.count("\n") == 1
    assert not (tmp_path / "made").exists()
