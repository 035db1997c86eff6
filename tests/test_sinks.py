"""Claims about experiment trackers: what they are shown, that a resumed run goes on, that none can fail a run."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rdvla_bench.commands.run import main
from rdvla_bench.errors import UsageError
from rdvla_bench.ledger import EPISODES, read_run
from rdvla_bench.record import Execution, Record, Result
from rdvla_bench.sinks import feed as feeding
from rdvla_bench.sinks import sink as known
from rdvla_bench.sinks.feed import Feed
from rdvla_bench.sinks.running import Running
from rdvla_bench.sinks.sink import Rows, open_sink
from rdvla_bench.types import Culprit, Episode, Outcome

TABLES = ("results.csv", "episodes.parquet", "board.csv", "board.json", "board.md")


class Notebook:
    """A sink that remembers, or fails where it is told to."""

    def __init__(self, fails_at: str = "", hangs: threading.Event | None = None) -> None:
        self.fails_at, self.hangs = fails_at, hangs
        self.begun_with: str | None = None
        self.added: list[tuple[int, dict[str, float]]] = []
        self.rows: Rows | str | None = "never ended"

    def begin(self, manifest: Mapping[str, Any], run_id: str) -> str:
        self._do("begin")
        assert manifest["config"]
        self.begun_with = run_id
        return run_id or "first"

    def add(self, n_done: int, values: Mapping[str, float]) -> None:
        self._do("add")
        self.added.append((n_done, dict(values)))

    def end(self, rows: Rows | None) -> None:
        self._do("end")
        self.rows = rows

    def _do(self, what: str) -> None:
        if what == self.fails_at:
            if self.hangs:
                self.hangs.wait(60)
            raise ConnectionError(f"no network\nat {what}")


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    made = Notebook()
    monkeypatch.setattr(feeding, "open_sink", lambda name, out: made)
    return made


def record(outcome: str, start: int, **result: Any) -> Record:
    is_error = outcome == "error"
    return Record(
        Episode("libero_goal", 0, start, 0, 0),
        Result(Outcome(outcome), culprit=Culprit.ENV if is_error else None, **result),
        Execution(model_s=(0.01, 0.03)),
    )


def run(out: Path, *more: str, episodes: int = 2) -> int:
    fake = ["--policy", "fake", "--suite", "fake_suite", "--workers", "0", "--out", str(out)]
    return main([*fake, "--episodes", str(episodes), *more])


def test_running_values_leave_errors_out_of_every_mean() -> None:
    running = Running()
    running.add(record("success", 0, depths=(8, 4)))
    running.add(record("error", 1, depths=(99,)))
    values = running.add(record("timeout", 2, depths=(6, 6)))
    assert values == {
        "libero_goal/done": 3, "libero_goal/errors": 1, "libero_goal/rate": 0.5, "libero_goal/depth": 6.0,
        "libero_goal/model_ms": pytest.approx(20.0),
    }  # fmt: skip


def test_a_chain_has_a_running_length() -> None:
    running = Running()
    running.add(record("success", 0, solved=5))
    assert running.add(record("timeout", 1, solved=2))["libero_goal/chain_length"] == 3.5


def test_an_episode_played_again_replaces_its_error() -> None:
    running = Running()
    running.add(record("error", 0))
    values = running.add(record("success", 0))
    assert (running.n_done, values["libero_goal/errors"], values["libero_goal/rate"]) == (1, 0, 1.0)


def test_a_sink_is_fed_every_episode_and_the_final_table(tmp_path: Path, notebook: Notebook) -> None:
    assert run(tmp_path, "--log", "notebook") == 0
    assert [n for n, _ in notebook.added] == [1, 2, 3, 4, 5, 6]
    assert isinstance(notebook.rows, list)
    assert notebook.added[-1][1]["fake_suite/rate"] == notebook.rows[0]["rate"]
    assert notebook.added[-1][1]["fake_suite/depth"] == pytest.approx(notebook.rows[0]["depth"])


def test_a_resumed_run_goes_on_in_the_same_tracker_run(
    tmp_path: Path, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, "--log", "notebook")
    lines = (tmp_path / EPISODES).read_bytes().splitlines(keepends=True)
    (tmp_path / EPISODES).write_bytes(b"".join(lines[:4]))
    again = Notebook()
    monkeypatch.setattr(feeding, "open_sink", lambda name, out: again)
    run(tmp_path, "--log", "notebook")
    assert again.begun_with == "first"
    assert [n for n, _ in again.added] == [5, 6]
    for (_, now), (_, before) in zip(again.added, notebook.added[4:], strict=True):
        assert {**now, "fake_suite/model_ms": 0} == {**before, "fake_suite/model_ms": 0}


def test_a_sink_that_joins_late_is_shown_what_it_missed(tmp_path: Path, notebook: Notebook) -> None:
    run(tmp_path)
    run(tmp_path, "--log", "notebook")  # nothing left to play
    assert [n for n, _ in notebook.added] == [1, 2, 3, 4, 5, 6]
    assert isinstance(notebook.rows, list)


def test_a_finished_run_bothers_no_tracker_again(
    tmp_path: Path, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, "--log", "notebook")
    again = Notebook()
    monkeypatch.setattr(feeding, "open_sink", lambda name, out: again)
    run(tmp_path, "--log", "notebook")
    assert (again.begun_with, again.rows) == (None, "never ended")


@pytest.mark.parametrize("where", ["begin", "add", "end"])
def test_a_failing_sink_costs_one_warning_and_no_result(
    tmp_path: Path, notebook: Notebook, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "plain") == 0
    notebook.fails_at = where
    capsys.readouterr()
    assert run(tmp_path / "logged", "--log", "notebook") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "is off" in line]
    assert said == [
        f"--log notebook is off: ConnectionError: no network at {where}. The evaluation itself is not affected"
    ]
    for name in TABLES:
        assert (tmp_path / "logged" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes(), name
    assert read_run(tmp_path / "logged")["status"] == "complete"


def test_a_sink_that_hangs_does_not_hold_the_run(tmp_path: Path) -> None:
    release = threading.Event()
    feed = Feed({"slow": Notebook("add", release)}, tmp_path, patience_s=0.05)
    manifest = {"config": {"policy": "p"}}
    assert feed.add(manifest, record("success", 0)) == []
    (warning,) = feed.end(manifest, [])
    release.set()
    assert warning.startswith("--log slow is off: it did not take everything")


def test_an_interrupted_run_has_no_final_table(tmp_path: Path) -> None:
    sink = Notebook()
    feed = Feed({"notebook": sink}, tmp_path)
    feed.add({"config": {"policy": "p"}}, record("success", 0))
    assert feed.end({"config": {"policy": "p"}}, None) == []
    assert sink.rows is None


def test_without_log_nothing_is_written(tmp_path: Path) -> None:
    run(tmp_path)
    assert not (tmp_path / feeding.FOLDER).exists()


def test_an_unknown_sink_is_answered_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "x", "--log", "tensorbord") == 2
    assert "Did you mean 'tensorboard'?" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_missing_library_is_named_with_its_pip_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in known.SINKS:
        monkeypatch.setitem(known.SINKS, name, "rdvla_bench.sinks.not_there:Sink")
        with pytest.raises(UsageError, match=rf'pip install "rdvla-bench\[{name}\]"'):
            open_sink(name, tmp_path)


def test_a_sink_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="twice"):
        Feed.of(["tensorboard", "tensorboard"], tmp_path)


def test_tensorboard_reads_back_what_was_logged(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not part of 'all'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert run(tmp_path, "--log", "tensorboard") == 0
    lines = (tmp_path / EPISODES).read_bytes().splitlines(keepends=True)
    (tmp_path / EPISODES).write_bytes(b"".join(lines[:-1]))
    assert run(tmp_path, "--log", "tensorboard") == 0
    read = EventAccumulator(str(tmp_path / "sinks" / "tensorboard"))
    read.Reload()
    assert {event.step for event in read.Scalars("fake_suite/rate")} == {1, 2, 3, 4, 5, 6}
    text = read.Tensors("board")[-1].tensor_proto.string_val[0].decode()
    assert text.splitlines()[2].startswith("| " + tmp_path.name)
