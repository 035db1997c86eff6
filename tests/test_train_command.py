"""The command: trains, resumes, and answers a wrong call with one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_training import sample

from rdvla_bench.commands.train import main, open_data
from rdvla_bench.policies.rdvla.config import NANO
from rdvla_bench.policies.rdvla.training.lerobot_options import LerobotOptions
from rdvla_bench.policies.rdvla.training.shards import write_shards

NO_TORCH = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
"""

TWO_INTERRUPTS = """
import signal, sys, time
from rdvla_bench.commands.train import main
from rdvla_bench.policies.rdvla.training.trainer import Trainer

def interrupted(self):
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    time.sleep(600)  # a long step

Trainer.advance = interrupted
sys.exit(main())
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_shards(tmp_path / "data", (sample(i) for i in range(4)))
    return tmp_path / "data"


def call(data: Path, out: Path, *more: str) -> list[str]:
    common = ("--batch-size", "2", "--mean-depth", "2", "--device", "cpu")
    return ["--data", str(data), "--out", str(out), *common, *more]


def test_the_command_trains_and_the_same_command_again_resumes(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    out = tmp_path / "run"
    assert main(call(data, out, "--steps", "1")) == 0
    assert main(call(data, out, "--steps", "2")) == 0
    said = capsys.readouterr().out
    assert f"resuming {out}: 1 of 2 steps are done" in said
    assert f"2 steps done: {out / 'model.safetensors'}" in said
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert set(rows[0]) == {"step", "loss", "depth", "learning_rate", "gradient_norm"}
    assert json.loads((out / "config.json").read_text())["recipe"]["model"] == "nano"
    assert sorted(p.name for p in out.iterdir()) == [
        "config.json", "log.jsonl", "model.safetensors", "train_state.safetensors",
    ]  # fmt: skip


def test_several_folders_separated_by_commas_are_one_data_set(data: Path, tmp_path: Path) -> None:
    write_shards(tmp_path / "more", (sample(i) for i in range(4, 7)))
    write_shards(tmp_path / "a,b", (sample(i) for i in range(2)))
    joined = open_data(f"{data}, {tmp_path / 'more'}", LerobotOptions(), NANO.head)
    assert len(joined) == 7
    assert len(open_data(str(tmp_path / "a,b"), LerobotOptions(), NANO.head)) == 2


def test_ctrl_c_finishes_the_step_and_saves_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    from rdvla_bench.policies.rdvla.training.trainer import StepReport, Trainer

    plain = Trainer.advance

    def interrupted(self: Trainer) -> StepReport:
        signal.raise_signal(signal.SIGINT)
        return plain(self)

    monkeypatch.setattr(Trainer, "advance", interrupted)
    arguments = call(data, tmp_path / "run", "--steps", "3")
    assert main(arguments) == 130
    said = capsys.readouterr().out
    assert "interrupted; 1 of 3 steps are safe" in said
    assert f"resume: python -m rdvla_bench.train {' '.join(arguments)}" in said
    monkeypatch.undo()
    assert main(arguments) == 0
    assert "1 of 3 steps are done" in capsys.readouterr().out


def test_a_second_ctrl_c_stops_at_once_with_one_line(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "interrupts.py").write_text(TWO_INTERRUPTS)
    arguments = call(data, tmp_path / "run", "--steps", "3")
    done = subprocess.run([sys.executable, "interrupts.py", *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 130, done.stderr
    assert done.stdout.splitlines() == [
        f"stopped at once; what was last saved in {tmp_path / 'run'} is safe, and the same command resumes it"
    ]
    assert done.stderr.splitlines() == ["", "finishing this step; Ctrl-C again stops at once"]
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_ctrl_c_before_the_first_step_is_no_traceback(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    from rdvla_bench.policies.rdvla.training import shards

    def interrupted(path: Path) -> str:
        signal.raise_signal(signal.SIGINT)
        return str(path)

    monkeypatch.setattr(shards, "_sha256", interrupted)
    assert main(call(data, tmp_path / "run", "--steps", "1")) == 130
    assert capsys.readouterr().out.startswith("stopped at once")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--steps", "0"), "steps 0: expected 1 or more"),
        (("--mean-depth", "0"), "mean_depth 0: expected 1 or more"),
        (("--batch-size", "-1"), "batch_size -1: expected 1 or more"),
        (("--learning-rate", "0"), "learning_rate 0: expected a finite number above 0"),
        (("--learning-rate", "nan"), "learning_rate nan: expected a finite number above 0"),
        (("--steps", "3", "--warmup-steps", "4"), "warmup_steps 4: expected 0 to steps (3)"),
        (("--min-depth", "0"), "min_depth 0: expected 1 or more"),
        (("--min-depth", "9", "--max-depth", "8"), "max_depth 8: expected min_depth (9) or more"),
        (("--augmentation.shift", "99"), "augmentation.shift 99: expected 0 to 32"),
        (("--ema", "1"), "ema 1.0: expected 0 (off) up to, not including, 1"),
        (("--seed", "-1"), "seed -1: expected 0 or more"),
        (("--save-every", "0"), "--save-every 0: expected 1 or more"),
        (("--model", "nan0"), "no model config 'nan0'. Did you mean 'nano'?"),
        (("--data", "nowhere"), "nowhere is no data set of samples: it has no manifest.json"),
    ],
)
def test_a_wrong_value_gets_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], says: str
) -> None:
    assert main(call(tmp_path, tmp_path / "run", *more)) == 2
    answer = capsys.readouterr().err
    assert says in answer
    assert answer.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_an_unknown_option_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(call(tmp_path, tmp_path, "--learning-rat", "1"))
    assert caught.value.code == 2
    assert "learning-rate" in capsys.readouterr().err


def test_tensorboard_that_is_not_installed_is_named_before_the_first_step(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    assert main(call(data, tmp_path / "run", "--steps", "1", "--tensorboard")) == 2
    answer = capsys.readouterr().err
    assert 'pip install "rdvla-bench[tensorboard]"' in answer
    assert answer.count("\n") == 1


def test_without_torch_help_answers_and_training_names_the_extra(data: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_TORCH)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    base = [sys.executable, "-m", "rdvla_bench.train"]
    helped = subprocess.run([*base, "--help"], capture_output=True, text=True, check=False, env=env, cwd=tmp_path)
    assert helped.returncode == 0, helped.stderr
    assert "--mean-depth" in helped.stdout
    told = subprocess.run([*base, *call(data, tmp_path / "run")], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert told.returncode == 2, told.stderr
    assert 'pip install "rdvla-bench[model]"' in told.stderr
    assert told.stderr.strip().count("\n") == 0


@pytest.mark.parametrize(("step", "rate"), [(0, 0.25), (3, 1.0), (4, 1.0), (12, 0.5), (20, 0.0)])
def test_the_schedule_counts_steps(step: int, rate: float) -> None:
    from rdvla_bench.policies.rdvla.training.recipe import Recipe

    cosine = Recipe(steps=20, learning_rate=1.0, schedule="cosine", warmup_steps=4)
    assert cosine.learning_rate_at(step) == pytest.approx(rate)
    constant = Recipe(steps=20, learning_rate=1.0, warmup_steps=4)
    assert constant.learning_rate_at(step) == pytest.approx(min(1.0, (step + 1) / 4))
