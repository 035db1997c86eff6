"""Claims about recovery demonstrations: a driver plays first, and only the expert's way on from there is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdvla_bench import ActionChunk, Episode, Policy, PolicyCard
from rdvla_bench.demo_file import Stored, load, path_of
from rdvla_bench.demo_noise import NoiseRecipe
from rdvla_bench.demo_record import Demonstrator, FrameRule, record
from rdvla_bench.demo_recovery import RecoveryRecipe, Relay, astray, recover, steps_before
from rdvla_bench.types import Outcome

pytest.importorskip("torch")

from rdvla_fake_arm import FakeArm, FakeDriver

from rdvla_bench.commands.demos import main
from rdvla_bench.policies.rdvla.training.shards import ShardedDataset

EARLY = ("--recovery.late-share", "0")
LATE = ("--recovery.usual", "1", "--recovery.late-share", "1")  # a fake episode has 40 steps, its expert needs 20


def recoveries(out: Path, *more: str, driver: str = "fake-driver", workers: int = 0) -> int:
    fake = ["--suite", "fake_arm", "--expert", "fake-expert", "--image-size", "8", "--driver", driver]
    return main([*fake, "--tasks", "can", "--workers", str(workers), "--out", str(out), *more])


def stored(folder: Path, number: int, task: int = 0) -> Stored:
    return load(path_of(folder, f"fake_arm-t{task:02d}-s{number:03d}-r0"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.suffix == ".npz"}


def counts(folder: Path, task: str = "can") -> dict[str, Any]:
    row: dict[str, Any] = json.loads((folder / "demos.json").read_text())["counts"]["fake_arm"][task]
    return row


def test_only_frames_from_the_hand_over_on_are_kept_and_it_is_the_first(tmp_path: Path) -> None:
    assert recoveries(tmp_path, "--episodes", "8", "--noise.clean-share", "0", "--noise.mild-share", "1") == 0
    begun = []
    for number in range(8):
        of = stored(tmp_path, number)
        (first, _end), frames = of.about["segments"][0], of.arrays["frames"].tolist()
        assert frames[0] == first > 0
        assert of.arrays["clean"][:first].tolist() == [False] * first
        begun.append(first)
        for step, chunk in zip(frames, of.arrays["chunk"], strict=True):
            n = min(8, of.about["steps"] - step)
            np.testing.assert_array_equal(chunk[:n], of.arrays["executed"][step : step + n])
    assert len(set(begun)) > 3
    assert len(ShardedDataset(tmp_path)) == sum(stored(tmp_path, i).n_frames for i in range(8))


def test_the_first_frame_shows_where_the_driver_left_off(tmp_path: Path) -> None:
    recoveries(tmp_path, "--episodes", "3")
    for number in range(3):
        of = stored(tmp_path, number)
        first = of.arrays["frames"][0]
        led = of.arrays["executed"][:first, :3].astype(np.float64).sum(axis=0)
        np.testing.assert_allclose(of.arrays["proprio"][0, :3], led, atol=1e-5)


def test_the_driver_is_shown_pictures_at_its_queries_and_no_others_are_drawn(tmp_path: Path) -> None:
    FakeArm.rendered.clear()
    FakeDriver.looked.clear()
    recoveries(tmp_path, "--episodes", "1")
    of = stored(tmp_path, 0)
    first = of.about["segments"][0][0]
    assert list(range(0, first, 4)) == FakeDriver.looked
    second_pass = [0, *of.arrays["frames"].tolist(), of.about["steps"]]
    assert FakeArm.rendered == FakeDriver.looked + second_pass


def test_what_the_driver_solves_is_dropped_and_counted_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recoveries(tmp_path, "--episodes", "12", "--recovery.usual", "0.8", driver="fake-expert") == 0
    segments = [stored(tmp_path, i).about["segments"][0] for i in range(12)]
    by_driver = [i for i, (first, end) in enumerate(segments) if first == end]
    assert 0 < len(by_driver) < 12
    assert all(stored(tmp_path, i).n_frames == 0 for i in by_driver)
    row = counts(tmp_path)
    assert (row["kept"], row["dropped"], row["solved_by_driver"]) == (12 - len(by_driver), 0, len(by_driver))
    assert f"{len(by_driver)} solved by the driver" in capsys.readouterr().out


def test_where_the_expert_cannot_recover_the_episode_is_dropped_and_counted(tmp_path: Path) -> None:
    assert recoveries(tmp_path, "--tasks", "can,jar", "--episodes", "2") == 0
    assert [counts(tmp_path, task)["kept"] for task in ("can", "jar")] == [2, 0]
    assert counts(tmp_path, "jar")["dropped"] == 2
    assert stored(tmp_path, 0, task=1).n_frames == 0


def test_the_same_bytes_from_any_number_of_calls(tmp_path: Path) -> None:
    recoveries(tmp_path / "whole", "--episodes", "3")
    recoveries(tmp_path / "grown", "--episodes", "1")
    recoveries(tmp_path / "grown", "--episodes", "3")
    assert contents(tmp_path / "whole") == contents(tmp_path / "grown")


@pytest.mark.ray
def test_the_same_bytes_from_any_number_of_workers(tmp_path: Path) -> None:
    recoveries(tmp_path / "here", "--episodes", "4")
    recoveries(tmp_path / "there", "--episodes", "4", workers=2)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_a_driver_starts_where_demonstrations_start_and_never_where_an_evaluation_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recoveries(tmp_path / "driven", "--episodes", "2")
    plain = ["--suite", "fake_arm", "--expert", "fake-expert", "--image-size", "8", "--tasks", "can", "--workers", "0"]
    main([*plain, "--episodes", "2", "--out", str(tmp_path / "plain")])
    for number in range(2):
        placed = [stored(tmp_path / kind, number).about["scene_sha256"] for kind in ("driven", "plain")]
        assert placed[0] == placed[1]
    assert main(["--suite", "calvin_d", "--driver", "random", "--out", str(tmp_path / "no")]) == 2
    assert "suite 'calvin_d' is for evaluation alone" in capsys.readouterr().err


def test_a_folder_holds_one_driver_and_no_plain_demonstrations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recoveries(tmp_path / "a", "--episodes", "1")
    config = json.loads((tmp_path / "a" / "demos.json").read_text())["config"]
    assert config["driver"] == "fake-driver"
    assert config["recovery"] == {"usual": 0.5, "late_share": 0.3, "late": 2.0, "within": 2.5, "astray": 0.0}
    assert {"driver_card", "driver_weights", "driver_weights_sha256"} <= config.keys()
    assert recoveries(tmp_path / "a", "--episodes", "1", "--driver-set", "pace=0.2") == 2
    assert "driver_card" in capsys.readouterr().err
    assert recoveries(tmp_path / "a", "--episodes", "1", *LATE) == 2
    assert "recovery" in capsys.readouterr().err
    plain = ["--suite", "fake_arm", "--expert", "fake-expert", "--image-size", "8", "--workers", "0"]
    assert main([*plain, "--out", str(tmp_path / "a")]) == 2
    assert 'driver: "fake-driver" there, null here' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--driver", "fake-drivr"], "Did you mean 'fake-driver'?"),
        (["--driver", "fake-driver", "--driver-set", "paec=1"], "Did you mean 'pace'?"),
        (["--driver", "fake-driver", "--driver-set", "pace=x"], "pace=x: expected a number"),
        (["--driver", "fake-driver", "--driver-set", "pace"], "--driver-set pace: expected KEY=VALUE"),
        (["--driver-set", "pace=1"], "has no effect without --driver"),
        (
            ["--suite", "libero_goal", "--driver", "rdvla-fixed", "--driver-set", "checkpoint=nowhere.safetensors"],
            "nowhere.safetensors",
        ),
        (["--driver", "fake-driver", "--lerobot", "x"], "--lerobot exports whole demonstrations"),
        (["--driver", "fake-driver", "--recovery.late", "0.5"], "recovery.late 0.5: expected 1 to 10"),
        (["--driver", "fake-driver", "--recovery.astray", "0.6"], "recovery.astray 0.6: expected 0 to 0.5 m"),
        (["--driver", "fake-driver", "--recovery.usual", "0"], "recovery.usual 0.0: expected more than 0"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    fake = ["--suite", "fake_arm", "--expert", "fake-expert", "--workers", "0", "--out", str(tmp_path / "out")]
    assert main([*fake, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_hand_overs_come_under_way_and_a_share_of_them_late() -> None:
    recipe = RecoveryRecipe(usual=0.5)
    drawn = np.array([steps_before(recipe, 200, Episode("s", 0, i, 0, 0), i % 5) for i in range(3000)])
    assert (drawn.min(), drawn.max()) == (1, 200)
    assert np.mean(drawn > 100) == pytest.approx(0.3, abs=0.03)
    assert np.median(drawn[drawn <= 100]) == pytest.approx(50, abs=4)
    assert RecoveryRecipe().of("calvin").length < RecoveryRecipe().of("libero").length


class Told(Policy):
    """Remembers which place it was told, and does nothing."""

    card = PolicyCard("told", "none", cameras=("cam",), chunk=4)

    def __init__(self) -> None:
        self.places: list[np.ndarray] = []

    def act(self, obs: Any, state: Any, rng: np.random.Generator) -> tuple[ActionChunk, Any]:
        self.places.append(obs["proprio"] - obs["images"]["cam"][0, 0, 0])  # what Rows shows and tells is its step
        return ActionChunk(np.tile([0.0] * 6 + [-1.0], (4, 1)).astype(np.float32)), state


def test_a_driver_is_told_another_place_throughout_a_task_and_the_expert_the_true_one() -> None:
    recipe, episode = RecoveryRecipe(usual=0.9, late_share=0, late=1, astray=0.2), Episode("rows", 0, 3, 0, 0)
    expert, told = Closing("abc"), Told()
    relay = Relay(told, Demonstrator(expert, NoiseRecipe(clean_share=1, mild_share=0), 4), recipe, 20, None)
    take = recover(Rows, lambda: Rows(("cam",)), relay, episode, {}, lambda phase: None)
    assert take.result.outcome is Outcome.SUCCESS, take.result.error
    expected = [astray(recipe, episode, n) for n in range(3)]
    whose = [[bool(np.allclose(place[:3], off, atol=1e-5)) for off in expected] for place in told.places]
    assert np.sum(whose, axis=1).tolist() == [1] * len(told.places)
    assert np.any(whose, axis=0).all()
    assert not any(place[3:].any() for place in told.places)
    assert expert.heard == [0, *(end for _, end in take.segments[:2])]  # where each task began, as it is


def test_a_driver_goes_astray_across_the_table_more_than_up_and_down() -> None:
    drawn = np.array([astray(RecoveryRecipe(astray=0.2), Episode("s", 0, i, 0, 0), i % 5) for i in range(2000)])
    assert np.abs(drawn[:, :2]).max() == pytest.approx(0.2, abs=0.002)
    assert np.abs(drawn[:, 2]).max() == pytest.approx(0.05, abs=0.001)
    assert np.abs(drawn.mean(axis=0)).max() < 0.01
    assert not astray(RecoveryRecipe(), Episode("s", 0, 0, 0, 0), 0).any()


class Rows:
    """A chain of three: each is solved when 6 actions with a closed gripper were executed, in 30 steps at most."""

    appearance = "grey"

    def __init__(self, cameras: tuple[str, ...] = ()) -> None:
        from gymnasium import spaces

        self.action_space, self.observation_space = spaces.Box(-1, 1, (7,), np.float32), spaces.Box(0, 1, (1,))
        self.cameras, self.tasks = cameras, ("a", "b", "c")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.tasks = (options or {}).get("tasks", self.tasks)
        self.closed = self.steps = self.within = self.done = 0
        return self._observe(), self._info()

    def step_chunk(self, actions: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        for action in actions:
            self.steps, self.within, self.closed = self.steps + 1, self.within + 1, self.closed + int(action[6] > 0)
            if self.closed == 6:
                self.done, self.closed, self.within = self.done + 1, 0, 0
                break
        is_over = self.done == len(self.tasks)
        return self._observe(), 0.0, is_over, not is_over and self.within >= 30, self._info()

    def _observe(self) -> Any:
        picture = np.full((8, 8, 3), self.steps, np.uint8)
        return {
            "images": dict.fromkeys(self.cameras, picture),
            "proprio": np.full(8, self.steps, np.float32),
            "instruction": self.tasks[min(self.done, len(self.tasks) - 1)],
        }

    def _info(self) -> dict[str, Any]:
        task = self.tasks[self.done] if self.done < len(self.tasks) else ""
        return {"steps": self.steps, "subtask": self.done, "task": task, "privileged": {}}

    def get_state(self) -> np.ndarray:
        return np.array([self.steps, self.done])

    def scene_digest(self) -> str:
        return ""

    def close(self) -> None:
        return


class Closing(Policy):
    """Closes or not, as it is told for each subtask; remembers when it saw the start and when it took over."""

    def __init__(self, closes: str, chunk: int = 1, cameras: tuple[str, ...] = ()) -> None:
        self.card = PolicyCard("closing", "none", cameras=cameras, privileged=not cameras, chunk=chunk)
        self.closes, self.heard = closes, []

    def act(self, obs: Any, state: Any, rng: np.random.Generator) -> tuple[ActionChunk, Any]:
        if self.card.cameras:
            assert obs["images"]["cam"][0, 0, 0] == obs["proprio"][0]
        step = int(obs["proprio"][0])
        grip = 1.0 if obs["instruction"] in self.closes else -1.0
        return ActionChunk(np.tile([0.0] * 6 + [grip], (self.card.chunk, 1)).astype(np.float32)), state or step

    def take_over(self, state: int) -> int:
        self.heard.append(state)
        return state


def test_a_chain_is_handed_over_within_each_subtask_and_goes_on_where_the_driver_solved_one() -> None:
    expert = Closing("abc")
    demonstrator = Demonstrator(expert, NoiseRecipe(clean_share=1, mild_share=0), 4)
    driver, recipe = Closing("b", chunk=4, cameras=("cam",)), RecoveryRecipe(usual=0.5, late_share=0, late=1)
    drawn = {
        e: [steps_before(recipe, 20, e, n) for n in range(3)] for e in (Episode("rows", 0, i, 0, 0) for i in range(99))
    }
    episode, hands = next((e, hands) for e, hands in drawn.items() if min(hands) > 6)  # the driver solves b in 6
    relay = Relay(driver, demonstrator, recipe, 20, None)
    take = recover(Rows, lambda: Rows(("cam",)), relay, episode, {}, lambda phase: None)
    assert take.result.outcome is Outcome.SUCCESS, take.result.error
    first, second = hands[0] + 6, hands[0] + 12
    assert take.segments == ((hands[0], first), (second, second), (second + hands[2], second + hands[2] + 6))
    assert take.told == ("a", "", "c")
    assert expert.heard == [0, second]  # it saw how each began
    demonstration = record(
        lambda: Rows(("cam",)), take, episode, {}, FrameRule(4), lambda image: image, lambda phase: None
    )
    assert demonstration.take.result.outcome is Outcome.SUCCESS, demonstration.take.result.error
    begun = (hands[0], second + hands[2])  # where the hand closes, and so is every second frame kept
    assert demonstration.frames.tolist() == [first + after for first in begun for after in (0, 2, 4)]
    assert demonstration.images["cam"][:, 0, 0, 0].tolist() == demonstration.frames.tolist()
    assert demonstration.instructions == ("a",) * 3 + ("c",) * 3


def test_the_scripted_expert_that_takes_over_knows_how_the_task_began_and_has_no_plan() -> None:
    from rdvla_bench.policies.expert.calvin import hand as calvin
    from rdvla_bench.policies.expert.move import Move
    from rdvla_bench.policies.expert.scripted import Expert, Progress

    lay = np.arange(12.0).reshape(3, 4)
    stale = calvin.Progress(task="push_red_block_left", start=lay, program=("stale",), ticks=3, attempt=2)  # type: ignore[arg-type]
    fresh = Expert().take_over(stale)
    assert isinstance(fresh, calvin.Progress)
    assert (fresh.task, fresh.program, fresh.attempt) == ("push_red_block_left", (), -1)
    np.testing.assert_array_equal(fresh.start, lay)
    move = Move(np.zeros(3), np.eye(3), 1.0)
    assert Expert().take_over(Progress(program=(move,), attempt=3)).program == ()
