"""Films of a run's first successes and failures: which, how small, and what is refused."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rdvla_fakes import CARD, FakeEnv

from rdvla_bench import Episode, Outcome
from rdvla_bench.arithmetic import arithmetic
from rdvla_bench.commands.film import main as film
from rdvla_bench.commands.film_choice import Choice, Shown, choose
from rdvla_bench.commands.film_episode import Caption, Filmed, Frame
from rdvla_bench.commands.film_index import INDEX, Entry, Page, render
from rdvla_bench.commands.film_small import MAX_BYTES, SIDE, STRIP, draw, every, write_small
from rdvla_bench.commands.replay import main as replay
from rdvla_bench.commands.run import main as run
from rdvla_bench.ledger import EPISODES, actions_path, read_records, read_run
from rdvla_bench.record import Record, Result

NAMES = ("open", "lift", "place", "push", "close")


def record(outcome: str, start: int, task: int = 0, repetition: int = 0, solved: int | None = None) -> Record:
    names = NAMES[: min((solved or 0) + 1, 5)] if solved is not None else ()
    result = Result(Outcome(outcome), 40, "fill it", depths=(4, 8), solved=solved, subtasks=names)
    return Record(Episode("fake_suite", task, start, repetition, 0), result)


def chain(start: int, solved: int) -> Record:
    return record("success" if solved == 5 else "timeout", start, solved=solved)


def shown(choice: Choice, kind: Shown) -> list[tuple[int, int]]:
    return [(r.episode.task, r.episode.start) for k, r in choice.shown if k is kind]


def test_the_first_outcomes_of_the_plan_are_shown_whatever_order_workers_ended_in() -> None:
    records = [record("success" if start % 3 else "timeout", start, task) for task in (0, 1) for start in range(12)]
    random.Random(0).shuffle(records)
    choice = choose("fake_suite", records, 5)
    assert shown(choice, Shown.SUCCESS) == [(0, 1), (0, 2), (0, 4), (0, 5), (0, 7)]
    assert shown(choice, Shown.FAILURE) == [(0, 0), (0, 3), (0, 6), (0, 9), (1, 0)]


def test_a_spread_choice_takes_every_task_before_a_second_of_any() -> None:
    records = [record("success", start, task) for task in (0, 1, 2) for start in range(4)]
    assert shown(choose("fake_suite", records, 4, is_spread=True), Shown.SUCCESS) == [(0, 0), (1, 0), (2, 0), (0, 1)]


def test_a_second_repetition_comes_after_all_starts_of_the_first() -> None:
    records = [record("success", 0, repetition=1), record("success", 7)]
    assert shown(choose("fake_suite", records, 2), Shown.SUCCESS) == [(0, 7), (0, 0)]


def test_an_error_is_neither_success_nor_failure() -> None:
    choice = choose("fake_suite", [record("error", 0), record("timeout", 1)], 5)
    assert shown(choice, Shown.FAILURE) == [(0, 1)]
    assert (choice.n_episodes, choice.n_errors) == (1, 1)


def test_the_longest_chains_stand_in_for_whole_ones_and_are_not_shown_twice() -> None:
    records = [chain(start, solved) for start, solved in enumerate((0, 1, 5, 3, 0, 1, 3))]
    choice = choose("fake_suite", records, 3, n_instructions=5)
    assert shown(choice, Shown.SUCCESS) == [(0, 2)]
    assert shown(choice, Shown.LONGEST) == [(0, 3), (0, 6)]
    assert shown(choice, Shown.FAILURE) == [(0, 0), (0, 1), (0, 4)]


def test_a_chain_that_did_nothing_stands_in_for_no_success() -> None:
    choice = choose("fake_suite", [chain(start, 0) for start in range(4)], 3, n_instructions=5)
    assert [kind for kind, _ in choice.shown] == [Shown.FAILURE] * 3


def page(records: list[Record], n: int, n_instructions: int = 1) -> str:
    choice = choose("fake_suite", records, n, n_instructions=n_instructions)
    entries = tuple(Entry(kind, r, n_instructions, f"{r.episode.id}.mp4") for kind, r in choice.shown)
    stored = {
        "policy_card": {"weights": "none"}, "policy_hash": "0", "status": "complete",
        "config": {"policy": "tiny", "settings": {}, "suites": ["fake_suite"], "protocol": "fake/fake@1", "seed": 0},
    }  # fmt: skip
    return render(Page((stored,), (choice,), entries, is_spread=False))


def test_the_index_says_the_rate_and_that_there_are_no_more() -> None:
    text = page([record("success", 0), record("success", 1), record("timeout", 2)], 2)
    assert "fake_suite: 2 of 3 episodes succeeded. Shown: 2 successes, 1 failure (there are no more)." in text
    name = "fake_suite-t00-s002-r0.mp4"
    assert f"| fake_suite | task 0, start 2 | fill it | failure | 40 | 6.0 | [{name}]({name}) |" in text


def test_the_index_says_how_far_a_chain_came() -> None:
    text = page([chain(0, 2), chain(1, 0)], 1, n_instructions=5)
    assert "0 of 2 chains succeeded. Shown: no successes (there are no more), in their place the 1 longest" in text
    assert "| chain 0 | open, then lift, then place | longest chain: 2 of 5 done, stopped at place |" in text
    assert "| chain 1 | open | failure: 0 of 5 done, stopped at open |" in text


class Chain(FakeEnv):
    """Does an instruction at its third step, and its last one never."""

    def step_chunk(self, actions: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        for action in actions:
            obs, reward, _, capped, info = super().step_chunk(action[None])
            if self.steps == 3 or capped:
                break
        return obs, reward, False, capped, info | {"subtask": int(self.steps >= 3)}

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        obs, info = super().reset(**kwargs)
        return obs, info | {"subtask": 0}


@pytest.mark.parametrize("step", [1, 4, 100])
def test_pictures_come_every_so_many_steps_and_change_nothing(step: int) -> None:
    plain, env = (FakeEnv("fake_suite", 0, CARD, ()) for _ in range(2))
    filmed = Filmed(env, (), step)
    options: dict[str, Any] = {"seed": 3, "options": {"start": 0}}
    plain.reset(**options)
    filmed.reset(**options)
    rng = np.random.default_rng(0)
    truncated = False
    while not truncated:
        actions = rng.uniform(-0.5, 0.5, (7, 2)).astype(np.float32)
        *_, expected_end, _ = plain.step_chunk(actions)
        *_, truncated, info = filmed.step_chunk(actions)
        assert truncated == expected_end
        assert np.array_equal(plain.get_state(), filmed.get_state())
    assert info["steps"] == 40
    assert [frame.step for frame in filmed.frames] == sorted({*range(0, 41, step), 40})


def test_the_end_of_a_subtask_is_filmed_whenever_it_comes() -> None:
    filmed = Filmed(Chain("fake_suite", 0, CARD, ()), (), 5)
    filmed.reset(seed=0, options={"start": 0})
    for _ in range(2):
        filmed.step_chunk(np.zeros((8, 2), np.float32))
    assert [(frame.step, frame.solved) for frame in filmed.frames] == [(0, 0), (3, 1), (5, 1), (10, 1)]


CAPTION = Caption("", Outcome.TIMEOUT, 80, (3,) * 10, 10)


def frames(n: int, side: int, noise: int) -> list[Frame]:
    pytest.importorskip("imageio_ffmpeg")
    rng = np.random.default_rng(0)
    return [
        Frame(
            {name: rng.integers(0, noise + 1, (side, side, 3), np.uint8) for name in ("a", "b")},
            k, k // 8, "put the black bowl in the top drawer of the cabinet " * 3, None,
        )
        for k in range(n)
    ]  # fmt: skip


def test_cameras_stand_side_by_side_no_larger_than_said() -> None:
    (frame,) = frames(1, 256, 255)
    assert draw(frame, CAPTION, is_last=True).shape == (SIDE + STRIP, 2 * SIDE, 3)
    (small,) = frames(1, 80, 255)
    assert draw(small, CAPTION, is_last=True).shape == (80 + STRIP, 2 * 80, 3)


def test_a_film_that_compresses_badly_is_still_small(tmp_path: Path) -> None:
    size = write_small(tmp_path / "a.mp4", frames(8, 160, 255), CAPTION, "a")
    assert 1000 < size == (tmp_path / "a.mp4").stat().st_size <= MAX_BYTES
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_pictures_are_few_a_second_at_any_control_rate() -> None:
    assert (every(20), every(30), every(3)) == (4, 6, 1)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two benchmarks, with one error."""
    out = tmp_path_factory.mktemp("played") / "run"
    arguments = ["--policy", "fake", "--suite", "fake_suite,fake_pair", "--set", "fault=nan", "--set", "at=1"]
    assert run([*arguments, "--episodes", "2", "--workers", "0", "--out", str(out)]) == 1
    return out


@pytest.fixture
def folder(played: Path, tmp_path: Path) -> Path:
    pytest.importorskip("imageio_ffmpeg")
    return Path(shutil.copytree(played / "fake", tmp_path / "run"))


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_the_same_command_makes_what_is_missing_and_the_same_bytes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(folder), "--outcomes", "2", "--out", str(tmp_path / "films")]
    assert film(command) == 0
    made = contents(tmp_path / "films")
    shown = [(0, 0), (1, 0), (1, 1), (2, 0)]  # (0, 1) is the error
    assert set(made) == {f"fake_suite-t{task:02d}-s{start:03d}-r0.mp4" for task, start in shown} | {INDEX}
    assert "1 more ended in an error" in made[INDEX].decode()
    capsys.readouterr()
    (tmp_path / "films" / "fake_suite-t00-s000-r0.mp4").unlink()
    assert film(command) == 0
    assert "films: 1 made, 3 there before" in capsys.readouterr().out
    assert contents(tmp_path / "films") == made


def test_a_run_of_several_benchmarks_makes_one_index(played: Path, tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    assert film([str(played), "--outcomes", "1", "--out", str(tmp_path / "films")]) == 0
    text = (tmp_path / "films" / INDEX).read_text()
    assert "fake_suite-t00-s000-r0.mp4" in text
    assert "fake_pair-t00-s000-r0.mp4" in text


def test_several_runs_of_different_suites_make_one_index_too(
    played: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("imageio_ffmpeg")
    two = [str(played / "fake"), str(played / "pair")]
    assert film([*two, "--outcomes", "1", "--out", str(tmp_path / "films")]) == 0
    assert film([str(played), "--outcomes", "1", "--out", str(tmp_path / "one")]) == 0
    assert contents(tmp_path / "films") == contents(tmp_path / "one")
    capsys.readouterr()
    assert "name it with --out" in refusal(capsys, *two)
    again = [two[0], str(shutil.copytree(played / "fake", tmp_path / "again"))]
    assert "both hold fake_suite" in refusal(capsys, *again, "--out", str(tmp_path / "both"))
    assert not (tmp_path / "both").exists()
    assert "name a run folder" in refusal(capsys)


def test_one_episode_is_filmed_in_full(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = read_records(folder)["fake_suite-t01-s000-r0"].result.steps
    assert replay([str(folder), "fake_suite-t01-s000-r0", "--video", str(folder / "a.mp4")]) == 0
    said = capsys.readouterr().out
    assert f"{steps + 1} frames" in said
    assert "identical to the recording" in said


def test_films_go_where_boards_look_for_them(folder: Path) -> None:
    assert film([str(folder), "--outcomes", "1"]) == 0
    assert (folder / "videos" / "fake_suite-t00-s000-r0.mp4").exists()


def test_a_film_of_other_actions_is_made_anew(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "films"
    path = out / "fake_suite-t00-s000-r0.mp4"
    write_small(path, frames(3, 16, 255), CAPTION, "fake_suite-t00-s000-r0 seed 0 actions 0123")
    old = path.read_bytes()
    write_small(out / "other.mp4", frames(3, 16, 255), CAPTION, "other")
    assert film([str(folder), "--outcomes", "1", "--out", str(out)]) == 0
    assert path.read_bytes() != old
    said = capsys.readouterr().out
    assert "not in the index, of other runs or choices, yours to delete: other.mp4" in said


def test_a_replay_that_differs_is_not_filmed_and_the_index_says_so(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    true = read_records(folder)["fake_suite-t00-s000-r0"].result.state_sha256
    ledger = folder / EPISODES
    ledger.write_text(ledger.read_text().replace(true, "0" * 64))
    assert film([str(folder), "--outcomes", "1", "--out", str(tmp_path / "films")]) == 1
    assert "not filmed, the replay differs in state_sha256" in capsys.readouterr().out
    text = (tmp_path / "films" / INDEX).read_text()
    assert "| not filmed: the replay differs in state_sha256 |" in text
    assert not (tmp_path / "films" / "fake_suite-t00-s000-r0.mp4").exists()


def test_a_replay_that_differs_tells_of_another_arithmetic(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = folder / EPISODES
    true = read_records(folder)["fake_suite-t00-s000-r0"].result.state_sha256
    ledger.write_text(ledger.read_text().replace(true, "0" * 64))
    assert replay([str(folder), "fake_suite-t00-s000-r0"]) == 1
    assert "arithmetic" not in capsys.readouterr().out
    path = folder / "run.json"
    here = arithmetic()
    there = "native" if here == "portable" else "portable"
    path.write_text(path.read_text().replace(f'"arithmetic": "{here}"', f'"arithmetic": "{there}"'))
    assert replay([str(folder), "fake_suite-t00-s000-r0"]) == 1
    assert f"recorded with {there} arithmetic on " in capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line with which the command refuses."""
    assert film(list(arguments)) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert not captured.out
    return line


def test_what_cannot_be_filmed_is_refused_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "films"
    assert "is no run folder" in refusal(capsys, str(tmp_path / "nothing"))
    assert "--outcomes 0: expected at least 1" in refusal(capsys, str(folder), "--outcomes", "0")
    assert "is a file, expected a folder" in refusal(capsys, str(folder), "--out", str(folder / EPISODES))
    out.mkdir()
    (out / "fake_suite-t00-s000-r0.mp4").write_bytes(b"my holidays")
    assert "was not made by rdvla-bench film" in refusal(capsys, str(folder), "--out", str(out))
    (out / "fake_suite-t00-s000-r0.mp4").unlink()
    (out / INDEX).write_text("# My index\n")
    assert f"{INDEX} was not made by rdvla-bench film" in refusal(capsys, str(folder), "--out", str(out))
    assert (out / INDEX).read_text() == "# My index\n"
    actions_path(folder, "fake_suite-t00-s000-r0").unlink()
    said = refusal(capsys, str(folder), "--out", str(tmp_path / "new"))
    assert "has no recorded actions of fake_suite-t00-s000-r0" in said
    assert not (tmp_path / "new").exists()


def test_a_run_without_a_single_result_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / EPISODES).write_text("")
    assert read_run(folder)
    assert "holds no finished episode to film" in refusal(capsys, str(folder))


def test_a_sweep_is_refused_with_the_names_of_its_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(
        ["--policy", "fake", "--suite", "fake_suite", "--tasks", "0", "--sweep", "at=1,2", "--workers", "0",
         "--out", str(tmp_path)]
    ) == 0  # fmt: skip
    capsys.readouterr()
    assert "holds a sweep: name one of them" in refusal(capsys, str(tmp_path))
