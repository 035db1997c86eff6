"""Claims about recipes: one file makes a model, the same command resumes, and nothing in the file is guessed."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import rdvla_fake_arm

from rdvla_bench.commands import demos, train
from rdvla_bench.commands.recipe import main
from rdvla_bench.commands.recipe_file import read_recipe
from rdvla_bench.errors import UsageError
from rdvla_bench.policies.rdvla.conventions import BENCHMARKS, Convention
from rdvla_bench.policies.rdvla.training.checkpoints import read_model
from rdvla_bench.policies.rdvla.training.trainer import StepReport, Trainer

SHIPPED = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))
RECIPE = """
name = "tiny"

[[demonstrations]]
suite = "fake_arm"
expert = "fake-expert"
tasks = "can"
episodes = 2
image_size = 8
noise = { burst_steps = [1, 2] }

[[demonstrations]]
suite = "fake_arm"
expert = "fake-expert"
tasks = "cup"
episodes = 1
image_size = 8
noise = { burst_steps = [1, 2] }

[training]
model = "nano-conv"
steps = 2
batch_size = 2
learning_rate = 1e-3
schedule = "cosine"
mean_depth = 2

[training.augmentation]
shift = 1
"""


@pytest.fixture(autouse=True)
def _fake_arm_can_be_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHMARKS, "fake_arm", Convention(("cam", "cam"), 8, tuple(range(8)), "axis-angle", -1.0))  # type: ignore[arg-type]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


def make(file: Path, *more: str) -> int:
    return main([str(file), "--out", str(file.parent / "made"), "--workers", "0", *more])


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()
    }


def refused(*_: object) -> int:
    raise AssertionError("a finished stage was begun again")


def test_one_file_makes_a_model_and_the_same_command_again_does_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = file.parent / "made"
    assert make(file) == 0
    counts = json.loads((made / "demos" / "demos.json").read_text())["counts"]["fake_arm"]
    assert {task: row["kept"] for task, row in counts.items()} == {"can": 2, "cup": 1}
    assert json.loads((made / "demos" / "demos.json").read_text())["config"]["noise"]["burst_steps"] == [1, 2]
    ran = json.loads((made / "train" / "config.json").read_text())["recipe"]
    assert (ran["model"], ran["steps"], ran["learning_rate"], ran["augmentation"]["shift"]) == ("nano-conv", 2, 1e-3, 1)
    assert read_model(made / "train" / "model.safetensors").origin["step"] == 2
    assert f"SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()[:12]}" in capsys.readouterr().out
    assert (made / "recipe.toml").read_bytes() == file.read_bytes()

    before = contents(made / "demos") | contents(made / "train")
    for stage in (demos, train):
        monkeypatch.setattr(stage, "main", refused)
    assert make(file) == 0
    assert contents(made / "demos") | contents(made / "train") == before
    assert "all 3 episodes are in" in (said := capsys.readouterr().out)
    assert "all 2 steps are in" in said


def test_ctrl_c_exits_130_in_either_stage_and_the_same_command_resumes_to_the_same_weights(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(file), "--out", str(tmp_path / "cut"), "--workers", "0"]
    resume = f"resume the whole recipe: python -m rdvla_bench.recipe {' '.join(arguments)}"
    plain_call, plain_step = rdvla_fake_arm.FakeArm.reset, Trainer.advance
    resets = 0

    def interrupted_call(self: object, **options: object) -> object:
        nonlocal resets
        resets += 1
        if resets == 3:
            raise KeyboardInterrupt
        return plain_call(self, **options)  # type: ignore[arg-type]

    def interrupted_step(self: Trainer) -> StepReport:
        signal.raise_signal(signal.SIGINT)
        return plain_step(self)

    monkeypatch.setattr(rdvla_fake_arm.FakeArm, "reset", interrupted_call)
    assert main(arguments) == 130
    assert resume in capsys.readouterr().out
    stored = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut" / "demos").rglob("*-r0.npz")}
    assert 0 < len(stored) < 3
    assert not (tmp_path / "cut" / "train").exists()

    monkeypatch.setattr(Trainer, "advance", interrupted_step)
    assert main(arguments) == 130
    assert resume in capsys.readouterr().out
    assert read_model(tmp_path / "cut" / "train" / "model.safetensors").origin["step"] == 1
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut" / "demos").rglob("*-r0.npz")}
    assert stored.items() <= kept.items()

    monkeypatch.setattr(Trainer, "advance", plain_step)
    assert main(arguments) == 0
    assert make(file) == 0
    model = Path("train") / "model.safetensors"
    assert (tmp_path / "cut" / model).read_bytes() == (tmp_path / "made" / model).read_bytes()


def test_demonstrations_that_end_in_an_error_are_not_trained_on(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demos, "main", lambda _: 1)
    monkeypatch.setattr(train, "main", refused)
    assert make(file) == 1


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "tiny"', 'nam = "tiny"', "no key 'nam'. Did you mean 'name'?"),
        ('name = "tiny"', "", "lacks 'name'"),
        ("[training]", "[trainning]", "no key 'trainning'. Did you mean 'training'?"),
        ("learning_rate", "learning_rat", "training takes model, "),
        ("learning_rate", "learning_rat", "no key 'learning_rat'. Did you mean 'learning_rate'?"),
        ("shift", "shfit", "no key 'shfit'. Did you mean 'shift'?"),
        ("burst_steps", "burst_step", "no key 'burst_step'. Did you mean 'burst_steps'?"),
        ("episodes = 2", "episods = 2", "demonstrations 1 takes suite, episodes"),
        ("episodes = 1", "", "demonstrations 2 lacks 'episodes'"),
        ("episodes = 1", "episodes = 0", "demonstrations 2: --episodes 0: expected 1 or more"),
        ("episodes = 1", "episodes = true", "demonstrations 2: episodes True: expected a whole number"),
        ("steps = 2", 'steps = "2"', "training: steps '2': expected a whole number"),
        ("steps = 2", "steps = 0", "training: steps 0: expected 1 or more"),
        ("mean_depth = 2", "ema = 1", "training: ema 1.0: expected 0 (off) up to, not including, 1"),
        ('"cosine"', '"cosin"', "schedule 'cosin': expected constant, cosine. Did you mean 'cosine'?"),
        ("[1, 2]", "[1, 2, 3]", "burst_steps [1, 2, 3]: expected 2 values in brackets"),
        ("[1, 2]", "[2, 1]", "noise.burst_steps (2, 1): expected two numbers of steps"),
        ('"nano-conv"', '"nano-cnv"', "training: no model config 'nano-cnv'. Did you mean 'nano-conv'?"),
        ('suite = "fake_arm"', 'suite = "fake_am"', "demonstrations 1: no suite 'fake_am'. Did you mean 'fake_arm'?"),
        ('suite = "fake_arm"', 'suite = "calvin_d"', "suite 'calvin_d' is for evaluation alone"),
        (
            'tasks = "cup"',
            'tasks = "cup"\nseed = 1',
            "demonstrations 2 is not for one folder with demonstrations 1: seed",
        ),
        ('name = "tiny"', "name = tiny", "tiny.toml is no TOML file"),
        ("[[demonstrations]]", "[[demonstration]]", "no key 'demonstration'. Did you mean 'demonstrations'?"),
        ('name = "tiny"', 'name = "tiny"\naugmentation = 4', "no key 'augmentation'"),
        ("[training.augmentation]\nshift = 1", "augmentation = 4", "augmentation 4: expected a section [augmentation]"),
    ],
)
def test_a_wrong_file_gets_one_clear_line_before_anything_starts(
    file: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, says: str
) -> None:
    text = re.sub(rf"{re.escape(old)}(?!\w)", lambda _: new, RECIPE)
    assert text != RECIPE
    file.write_text(text.replace('tasks = "can"\n', "") if "calvin" in new else text)
    assert make(file) == 2
    answer = capsys.readouterr().err
    assert says in answer
    assert str(file) in answer
    assert answer.count("\n") == 1
    assert not (file.parent / "made").exists()


def test_a_recipe_may_grow_until_training_begins_and_never_after(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = file.parent / "made"
    with monkeypatch.context() as stopped:
        stopped.setattr(train, "main", lambda _: 130)
        assert make(file) == 130
    file.write_text(RECIPE.replace("episodes = 2", "episodes = 3"))
    assert make(file) == 0
    assert (made / "recipe.toml").read_text() == file.read_text()
    assert len(list((made / "demos" / "episodes").iterdir())) == 4
    file.write_text(file.read_text().replace("steps = 2", "steps = 3"))
    capsys.readouterr()
    assert make(file) == 2
    assert "training.steps: 2 there, 3 here" in capsys.readouterr().err


def test_demonstrations_that_the_recipe_does_not_list_are_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "main", lambda _: 130)
    assert make(file) == 130
    file.write_text(RECIPE.replace("episodes = 2", "episodes = 1"))
    assert make(file) == 2
    assert "holds 1 episodes that the recipe does not list, such as fake_arm-t00-s001-r0" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file.parent / "made").mkdir()
    (file.parent / "made" / "notes.txt").touch()
    assert make(file) == 2
    assert "is not empty and has no recipe.toml" in capsys.readouterr().err
    assert [p.name for p in (file.parent / "made").iterdir()] == ["notes.txt"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=re.escape("nothing.toml cannot be read: No such file")):
        read_recipe(tmp_path / "nothing.toml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_is_possible_and_is_called_as_its_file(path: Path) -> None:
    pytest.importorskip("pybullet" if "calvin" in path.stem else "libero")
    recipe = read_recipe(path)
    assert recipe.sections.name == path.stem
    assert recipe.sections.training.model == "nano-conv"
    suites = {suite.name for plan in recipe.plans for suite in plan.suites}
    assert (
        suites
        == {
            "rdvla-nano-libero": {"libero_spatial", "libero_object", "libero_goal", "libero_10"},
            "rdvla-nano-calvin": {"calvin_a", "calvin_b", "calvin_c"},
        }[path.stem]
    )


def test_both_shipped_models_have_a_recipe() -> None:
    assert [path.stem for path in SHIPPED] == ["rdvla-nano-calvin", "rdvla-nano-libero"]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_has_a_make_target_that_records_trains_and_ships(path: Path) -> None:
    target = path.stem.replace("rdvla-nano", "train")
    make_it = ["make", "--dry-run", "--old-file=.venv/.ready", target]
    done = subprocess.run(make_it, cwd=path.parents[1], capture_output=True, text=True, check=True)
    made = f"runs/{path.stem}"
    assert f"-m rdvla_bench.recipe recipes/{path.name}" in done.stdout
    assert f"--out {made}\n" in done.stdout
    is_refined = read_recipe(path).sections.refinement is not None
    last = f"{made}/refined --name {path.stem} --data {made}/demos,{made}/recovery"
    only = f"{made}/train --name {path.stem} --data {made}/demos"
    shipped = next(line for line in done.stdout.splitlines() if "-m rdvla_bench.ship" in line)
    assert shipped.endswith((f"ship {made} --name {path.stem}", f"ship {last if is_refined else only}"))
