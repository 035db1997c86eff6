"""Real LIBERO through the run command: every suite, any number of workers, a killed worker, a replay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rdvla_bench.commands.replay import main as replay
from rdvla_bench.commands.run import main
from rdvla_bench.ledger import EPISODES, read_records, read_run

pytest.importorskip("libero")
pytestmark = pytest.mark.libero

UNTRAINED = ("--set", "checkpoint=untrained")
TABLE = ("results.csv", "episodes.parquet", "board.csv")


def run(out: Path, policy: str, suite: str, *more: str, workers: int = 0) -> int:
    return main(["--policy", policy, "--suite", suite, "--workers", str(workers), "--out", str(out), *more])


def table(out: Path) -> bytes:
    return b"".join((out / name).read_bytes() for name in TABLE)


@pytest.fixture(scope="module")
def adaptive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes of rdvla-adaptive on two tasks, in process."""
    out = tmp_path_factory.mktemp("adaptive")
    assert run(out, "rdvla-adaptive", "libero_object", *UNTRAINED, "--tasks", "0,3") == 0
    return out


def test_rdvla_adaptive_is_evaluated_with_its_compute(adaptive: Path) -> None:
    for record in read_records(adaptive).values():
        result = record.result
        assert result.outcome in ("success", "timeout")
        assert result.steps == sum(result.horizons) <= 280
        assert min(result.depths) >= 2
        assert len(set(result.depths)) > 1  # it adapts
        assert [len(trace) for trace in result.exit_traces] == [depth - 1 for depth in result.depths]
        assert result.flops
        assert result.frames_sha256
    board = (adaptive / "board.md").read_text()
    assert "untrained" in board
    assert read_run(adaptive)["gl"]["renderer"]


@pytest.mark.ray
def test_any_number_of_workers_sees_the_same_pixels(adaptive: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    assert run(tmp_path, "rdvla-adaptive", "libero_object", *UNTRAINED, "--tasks", "0,3", workers=2) == 0
    assert table(tmp_path) == table(adaptive)


@pytest.mark.parametrize("suite", ["libero_spatial", "libero_goal", "libero_10", "libero_90"])
def test_every_suite_plays_a_real_episode(tmp_path: Path, suite: str) -> None:
    assert run(tmp_path, "random", suite, "--tasks", "2", "--set", "chunk=40") == 0
    (record,) = read_records(tmp_path).values()
    assert record.result.outcome == "timeout"


def test_a_recorded_episode_is_repeated_bit_for_bit_and_filmed(
    adaptive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("imageio_ffmpeg")
    video = tmp_path / "out.mp4"
    assert replay([str(adaptive), "libero_object-t00-s000-r0", "--video", str(video)]) == 0
    assert "identical to the recording" in capsys.readouterr().out
    assert video.stat().st_size > 50_000


def test_a_replay_that_differs_says_in_what(adaptive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(adaptive, copy)
    ledger = copy / EPISODES
    true = read_records(copy)["libero_object-t03-s000-r0"].result.state_sha256
    ledger.write_text(ledger.read_text().replace(true, "0" * 64))
    assert replay([str(copy), "libero_object-t03-s000-r0"]) == 1
    assert f"state_sha256 differs: recorded {'0' * 64}, replayed {true}" in capsys.readouterr().out
    assert replay([str(copy), "libero_object-t03-s00-r0"]) == 2
    assert "Did you mean 'libero_object-t03-s000-r0'" in capsys.readouterr().err


def test_a_policy_can_replay_a_run(adaptive: Path, tmp_path: Path) -> None:
    arguments = ["--tasks", "0,3", "--set", f"run={adaptive}"]
    assert run(tmp_path, "replay", "libero_object", *arguments) == 0
    for name, record in read_records(tmp_path).items():
        assert record.result.state_sha256 == read_records(adaptive)[name].result.state_sha256


@pytest.mark.ray
def test_a_worker_killed_mid_episode_changes_nothing(tmp_path: Path) -> None:
    """SIGKILL the worker processes of a real run, from outside, while they simulate."""
    pytest.importorskip("ray")
    arguments = ["--tasks", "0", "--episodes", "6", "--set", "chunk=4"]
    assert run(tmp_path / "whole", "random", "libero_object", *arguments) == 0
    command = [sys.executable, "-m", "rdvla_bench.run", "--policy", "random", "--suite", "libero_object", *arguments]
    out = tmp_path / "broken"
    process = subprocess.Popen(
        [*command, "--workers", "2", "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 240
    while not (out / EPISODES).exists() or not (out / EPISODES).read_bytes().count(b"\n"):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    victims = ray_workers(process.pid)
    assert victims
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert table(out) == table(tmp_path / "whole")
    records = read_records(out)
    assert len(records) == (out / EPISODES).read_bytes().count(b"\n") == 6
    assert max(record.execution.attempts for record in records.values()) == 2


def ray_workers(ancestor: int) -> list[int]:
    """Return the processes below ``ancestor`` that hold a RayWorker actor."""
    parents, titles = {}, {}
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit():
                parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                titles[int(path.name)] = (path / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue

    def is_below(pid: int) -> bool:
        while pid > 1:
            if pid == ancestor:
                return True
            pid = parents.get(pid, 0)
        return False

    return [pid for pid, title in titles.items() if "RayWorker" in title and is_below(pid)]
