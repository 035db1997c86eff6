"""Eyes trained first, and a world that slides: what changes when, what stays, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_training import FakeDemonstrations, WithGoals, seeing, tiny_config

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file  # noqa: E402

from rdvla_bench.errors import UsageError  # noqa: E402
from rdvla_bench.policies.rdvla.conventions import BENCHMARKS  # noqa: E402
from rdvla_bench.policies.rdvla.images import CROP_AREA  # noqa: E402
from rdvla_bench.policies.rdvla.statistics import Bounds  # noqa: E402
from rdvla_bench.policies.rdvla.trained import TrainedInterface  # noqa: E402
from rdvla_bench.policies.rdvla.training.augmentation import Augmenter, shift  # noqa: E402
from rdvla_bench.policies.rdvla.training.batches import collate  # noqa: E402
from rdvla_bench.policies.rdvla.training.dataset import DatasetError, Sample  # noqa: E402
from rdvla_bench.policies.rdvla.training.eyes import EYES  # noqa: E402
from rdvla_bench.policies.rdvla.training.recipe import Augmentation, Recipe  # noqa: E402
from rdvla_bench.policies.rdvla.training.session import MODEL, Session  # noqa: E402
from rdvla_bench.policies.rdvla.training.trainer import SCAFFOLD, Trainer  # noqa: E402

CPU = torch.device("cpu")
RECIPE = Recipe(steps=5, eyes_steps=3, batch_size=3, mean_depth=2, learning_rate=1e-3, goal_weight=0.5, ema=0.9)
SLIDING = Augmentation(slide=6)


class Calvin(WithGoals):
    """The same with CALVIN's cameras and proprioception."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        bounds = Bounds(np.full(15, -2.0), np.full(15, 2.0), np.ones(15, np.bool_))
        self.statistics = replace(self.statistics, proprio=bounds)

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        images = dict(zip(("static", "gripper"), sample["images"].values(), strict=True))
        wide = np.linspace(-0.5, 0.5, 15, dtype=np.float32)
        return {**sample, "images": images, "proprio": wide, "goal": wide + np.float32(0.1)}


class OnTheTable(Calvin):
    """The same with a tool and a goal that the fixed camera sees."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        proprio, goal = sample["proprio"].copy(), np.zeros(15, np.float32)
        proprio[:3] = -0.15, -0.1, 0.5
        goal[:3] = 0.05, -0.05, 0.45
        return {**sample, "proprio": proprio, "goal": goal}


def trainer(recipe: Recipe = RECIPE) -> Trainer:
    return Trainer(recipe, seeing(), WithGoals(5))


def values(trained: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trained.trained.items()}


def test_the_first_steps_train_the_eyes_alone_and_the_others_everything() -> None:
    run = trainer()
    before = values(run)
    for _ in range(RECIPE.eyes_steps):
        assert run.advance().depth == 0
    changed = {name for name, tensor in values(run).items() if not torch.equal(tensor, before[name])}
    reached = {name for name in before if name.startswith((*EYES, f"{SCAFFOLD}eyes"))}
    assert changed == reached - {"backbone.vision.places.weight"}  # of the patches, not of the latents
    before = values(run)
    for _ in range(RECIPE.steps - RECIPE.eyes_steps):
        assert run.advance().depth >= 1
    still = {name for name, tensor in values(run).items() if torch.equal(tensor, before[name])}
    beyond_the_last_tap = "backbone.llm"
    assert {name for name in still if not name.startswith(beyond_the_last_tap)} == {
        name for name in before if name.startswith(f"{SCAFFOLD}eyes")
    }
    assert "backbone.llm.layers.0.mlp.up_proj.weight" not in still


def test_the_small_network_guesses_goals_and_is_not_kept(tmp_path: Path) -> None:
    with Session(tmp_path, trainer()) as session:
        session.record(session.trainer.advance())
        session.save()
    assert set(load_file(tmp_path / MODEL)) == set(dict(trainer().model.named_parameters()))
    blind = trainer(replace(RECIPE, goal_weight=0.0))
    guessing = trainer()
    assert guessing.advance().loss > blind.advance().loss


def test_a_run_cut_in_either_phase_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = trainer()
    for _ in range(RECIPE.steps):
        whole.advance()
    for cut in (2, 4):
        first, second = trainer(), trainer()
        for _ in range(cut):
            first.advance()
        first.save(tmp_path / "state")
        second.restore(tmp_path / "state")
        while second.step < RECIPE.steps:
            second.advance()
        assert all(torch.equal(tensor, second.trained[name]) for name, tensor in whole.trained.items())


def test_each_phase_has_its_own_peak_and_its_own_warm_up() -> None:
    recipe = replace(Recipe(), steps=300, eyes_steps=100, warmup_steps=10, schedule="cosine", eyes_learning_rate=0.5)
    rates = [recipe.learning_rate_at(step) for step in range(300)]
    assert rates[9] == 0.5
    assert rates[99] < 0.001
    assert rates[109] == recipe.learning_rate
    assert max(rates[100:]) == recipe.learning_rate
    assert rates[299] < recipe.learning_rate / 1000


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"eyes_steps": 5000}, r"eyes_steps 5000: expected 0 to below steps \(5000\)"),
        ({"eyes_steps": 1, "freeze": "vision"}, "eyes_steps 1 with freeze vision: nothing else is to be trained"),
        ({"eyes_learning_rate": 0.0}, "eyes_learning_rate 0: expected a finite number above 0"),
    ],
)
def test_eyes_that_cannot_be_trained_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Recipe(**given)  # type: ignore[arg-type]


def test_a_model_with_towers_has_no_eyes_to_train_first() -> None:
    with pytest.raises(UsageError, match="eyes_steps 3: tiny sees with towers, expected 0"):
        Trainer(RECIPE, tiny_config(), WithGoals(5))


def test_calvins_camera_is_the_one_of_the_environment() -> None:
    pytest.importorskip("pybullet")
    from rdvla_bench.envs.calvin.cameras import _EYE, _TARGET, _UP, STATIC

    look = np.array(_TARGET) - np.array(_EYE)
    distance = float(np.linalg.norm(look))
    across = np.cross(look / distance, _UP)
    across /= np.linalg.norm(across)
    down = np.cross(look / distance, across)
    seen = 2 * distance * np.tan(np.deg2rad(STATIC.fov_deg) / 2)  # metres that the picture shows at the table
    camera = BENCHMARKS["calvin"].far_camera
    assert camera is not None
    assert np.array(camera.across) == pytest.approx(across * seen, abs=1e-5)
    assert np.array(camera.down) == pytest.approx(down * seen, abs=1e-5)


def test_a_point_in_calvins_picture_slides_as_the_tool_does() -> None:
    """Project a point of the table, and what it becomes, with the environment's own matrices."""
    pytest.importorskip("pybullet")
    from rdvla_bench.envs.calvin.cameras import STATIC, static_view

    view, projection = (np.array(m).reshape(4, 4).T for m in (static_view(), STATIC.projection()))
    interface = TrainedInterface(seeing().on("calvin"), WithGoals(2).statistics)
    size = seeing().backbone.image_size

    def place(point: np.ndarray) -> np.ndarray:
        x, y, _, w = projection @ view @ np.append(point, 1.0)
        return np.array([-y / w, x / w]) / CROP_AREA**0.5 * size / 2  # down, right, from the middle of the crop

    slides = np.array([[3, -5], [0, 4], [-6, 0]])
    for slide, moved in zip(slides, interface.moved(slides), strict=True):
        for point in ([0.1, -0.1, 0.46], [-0.25, 0.05, 0.5], [0.3, -0.15, 0.46]):
            found = place(np.array(point) + moved[:3]) - place(np.array(point))
            assert found == pytest.approx(slide, abs=0.6)  # of a pixel, a tenth: it is far away, but not infinitely
    assert not interface.moved(slides)[:, 3:].any()


def test_picture_tool_and_goal_slide_together_and_the_wrist_camera_stays() -> None:
    config = seeing().on("calvin")
    data = Calvin(3)
    interface = TrainedInterface(config, data.statistics)
    still = collate(data, [0, 1], interface, CPU)
    augment = Augmenter(SLIDING, 0, 4)
    slid = collate(data, [0, 1], interface, CPU, augment)
    slides = np.array([augment.slide(place) for place in range(2)])
    assert np.abs(slides).max() > 0
    assert torch.allclose(slid.pixels[:, 1], still.pixels[:, 1], atol=1e-6)
    for i, (down, right) in enumerate(slides):
        assert torch.allclose(slid.pixels[i, 0], shift(still.pixels[i, 0], int(down), int(right)), atol=1e-6)
    moved = interface.moved(slides)
    assert np.abs(moved[:, :3]).min() > 0
    for i, sample in enumerate(data[j] for j in range(2)):
        assert torch.equal(slid.proprio[i], torch.from_numpy(interface.proprio(sample["proprio"] + moved[i])))
        goal = data.statistics.proprio.normalise(sample["goal"] + moved[i])[:3]
        assert slid.goal is not None
        assert torch.equal(slid.goal[i], torch.from_numpy(goal))
    assert torch.equal(slid.chunk, still.chunk)


def test_tool_and_goal_are_told_with_the_same_error_and_no_picture_changes() -> None:
    data = Calvin(3)
    interface = TrainedInterface(seeing().on("calvin"), data.statistics)
    true = collate(data, [0, 1], interface, CPU)
    augment = Augmenter(Augmentation(offset=0.04), 0, 4)
    told = collate(data, [0, 1], interface, CPU, augment)
    assert torch.allclose(told.pixels, true.pixels, atol=1e-6)  # a change by nothing rounds
    assert torch.equal(told.chunk, true.chunk)
    for i, sample in enumerate(data[j] for j in range(2)):
        error = np.zeros_like(sample["proprio"])
        error[:3] = augment.offset(i)
        assert 0 < np.abs(error[:3]).min() <= np.abs(error[:3]).max() <= 0.04
        assert torch.equal(told.proprio[i], torch.from_numpy(interface.proprio(sample["proprio"] + error)))
        assert told.goal is not None
        goal = data.statistics.proprio.normalise(sample["goal"] + error)[:3]
        assert torch.equal(told.goal[i], torch.from_numpy(goal))


def test_the_error_fills_its_range_and_depends_on_seed_step_and_place_alone() -> None:
    strength = Augmentation(offset=0.04)
    errors = np.array([Augmenter(strength, 0, step).offset(place) for step in range(200) for place in range(2)])
    assert np.abs(errors.mean(axis=0)).max() < 0.004
    assert errors.max(axis=0).min() > 0.038
    assert errors.min(axis=0).max() < -0.038
    assert (Augmenter(strength, 0, 7).offset(1) == errors[15]).all()
    assert (Augmenter(strength, 1, 7).offset(1) != errors[15]).all()
    assert not Augmenter(Augmentation(blind=0.5), 0, 7).offset(1).any()


def test_every_slide_within_the_bound_occurs() -> None:
    seen = {Augmenter(SLIDING, 0, step).slide(place) for step in range(400) for place in range(3)}
    assert {down for down, _ in seen} == {right for _, right in seen} == set(range(-6, 7))
    assert Augmenter(Augmentation(shift=3), 0, 0).slide(1) == (0, 0)


def test_rectangles_are_painted_over_in_as_many_of_the_fixed_cameras_pictures_as_asked_and_never_the_goal() -> None:
    pixels = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    share, goal = torch.zeros(48, 48), np.array([[20.0, 31.0]])
    for step in range(300):
        fixed, wrist = Augmenter(Augmentation(erase=0.5), 0, step)(pixels, 0, goal)
        assert torch.allclose(wrist, pixels[1], atol=1e-5)
        share += ((fixed - pixels[0]).abs() > 1e-4).any(0) / 300
    assert not share[17:24, 28:35].any()  # at least 7 % of the side around it
    assert share.max() > 0.15
    assert (share > 0.02).float().mean() > 0.7  # all else is hidden now and then
    painted = [Augmenter(Augmentation(erase=0.5), 0, step)(pixels, 0)[0] for step in range(300)]
    assert np.mean([not torch.allclose(image, pixels[0], atol=1e-4) for image in painted]) == pytest.approx(
        0.5, abs=0.07
    )
    assert torch.stack(painted)[:, :, 20, 31].unique(dim=0).shape[0] > 20  # without a goal nothing is spared


def test_what_is_pasted_in_is_another_picture_of_the_batch_at_the_same_place_and_never_over_the_goal() -> None:
    tones = (0.1, 0.4, 0.9)
    batch = [torch.full((2, 3, 48, 48), tone) for tone in tones]
    goal, seen, n_changed = np.array([[4.0, 5.0], [20.0, 31.0]]), set(), 0
    for step in range(200):
        fixed, wrist = Augmenter(Augmentation(paste=0.5), 0, step)(batch[1], 1, goal, batch)
        assert torch.allclose(wrist, batch[1][1], atol=1e-5)
        for down, right in ((1, 2), (17, 28)):
            near = (slice(None), slice(down, down + 7), slice(right, right + 7))
            assert torch.allclose(fixed[near], batch[1][0][near], atol=1e-5)
        here = {round(float(tone), 3) for tone in fixed.unique()}
        assert len(here) <= 2  # one other picture at most
        seen |= here
        n_changed += len(here) == 2
    assert seen == {0.1, 0.4, 0.9}
    assert n_changed == pytest.approx(100, abs=25)
    ramp = torch.linspace(0, 1, 48).expand(2, 3, 48, 48)
    images = [
        Augmenter(Augmentation(paste=1.0), 0, step)(batch[1], 1, batch=[batch[1], batch[1], ramp])[0]
        for step in range(30)
    ]
    pasted = [(image - 0.4).abs() > 1e-4 for image in images]
    assert any(where.any() for where in pasted)
    assert all(
        torch.allclose(image[where], ramp[0][where], atol=1e-5) for image, where in zip(images, pasted, strict=True)
    )
    alone = Augmenter(Augmentation(paste=1.0), 0, 0)(batch[0], 0, goal, batch[:1])
    assert torch.allclose(alone, batch[0], atol=1e-5)


def test_a_batch_never_loses_a_goal_or_the_tool_to_the_paint() -> None:
    config, data = seeing().on("calvin"), OnTheTable(3)
    interface = TrainedInterface(config, data.statistics)
    seen = interface.seen_at(np.stack([data[0][name][:3] for name in ("goal", "proprio")]))
    assert seen is not None
    size = config.backbone.image_size
    assert ((seen > 0) & (seen < size)).all()
    assert np.abs(seen[0] - seen[1]).max() > size / 6  # two places
    still = collate(data, [0], interface, CPU).pixels[0, 0]
    painted = torch.zeros(size, size)
    for step in range(150):
        changed = collate(data, [0], interface, CPU, Augmenter(Augmentation(erase=1.0), 0, step)).pixels[0, 0]
        painted += ((changed - still).abs() > 1e-4).any(0)
    assert [painted[down, right] for down, right in seen.round().astype(int)] == [0, 0]
    assert painted.max() > 10


def test_a_batch_pastes_its_own_pictures() -> None:
    config, data = seeing().on("calvin"), OnTheTable(3)
    interface = TrainedInterface(config, data.statistics)
    still = collate(data, [0, 1], interface, CPU).pixels
    apart = (still[0, 0] - still[1, 0]).abs() > 1e-4
    assert apart.any()
    changed = torch.zeros_like(apart)
    for step in range(40):
        pixels = collate(data, [0, 1], interface, CPU, Augmenter(Augmentation(paste=1.0), 0, step)).pixels
        here = (pixels[0, 0] - still[0, 0]).abs() > 1e-4
        assert torch.allclose(pixels[0, 0][here], still[1, 0][here], atol=1e-5)
        changed |= here
    assert changed.any()


def test_half_of_the_wrist_pictures_are_those_of_samples_alike() -> None:
    batch = [torch.full((2, 3, 8, 8), tone) for tone in (0.1, 0.4, 0.6, 0.9)]
    blind = Augmentation(blind=0.5)
    far = [Augmenter(blind, 0, step)(batch[1], 1, batch=batch, alike=[batch[0], batch[3]]) for step in range(200)]
    assert all(torch.allclose(fixed, batch[1][0], atol=1e-5) for fixed, _ in far)
    tones = [round(float(wrist.mean()), 3) for _, wrist in far]
    assert set(tones) == {0.1, 0.4, 0.9}
    assert sum(tone != 0.4 for tone in tones) == pytest.approx(100, abs=25)
    for alone in (Augmenter(blind, 0, step)(batch[1], 1, batch=batch) for step in range(50)):
        assert torch.allclose(alone, batch[1], atol=1e-5)


class Reaching(OnTheTable):
    """The same, but the second sample's tool is all but at its goal, and the third and the fifth are told to grip."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        if index == 1:
            sample["goal"][:3] = sample["proprio"][:3] + np.float32([0.05, 0.05, 0.05])  # 8.7 cm
        chunk = sample["chunk"].copy()
        chunk[:, -1] = -1.0 if index in {2, 4} else 1.0
        return {**sample, "chunk": chunk}


def test_a_batch_blinds_with_samples_as_far_and_of_the_same_grip() -> None:
    data = Reaching(6)
    interface = TrainedInterface(seeing().on("calvin"), data.statistics)
    indices = [0, 1, 2, 3, 4]
    still = collate(data, indices, interface, CPU).pixels
    wrists = still[:, 1]
    assert min((wrists[a] - wrists[b]).abs().max() for a in indices for b in indices if a != b) > 0.01
    pixels = collate(data, indices, interface, CPU, Augmenter(Augmentation(blind=1.0), 0, 0)).pixels
    assert torch.allclose(pixels[:, 1], wrists[[3, 1, 4, 0, 2]], atol=1e-5)
    assert torch.allclose(pixels[:, 0], still[:, 0], atol=1e-5)


def test_blinding_refuses_demonstrations_that_name_no_goal() -> None:
    recipe = replace(RECIPE, goal_weight=0.0, augmentation=Augmentation(blind=0.5))
    with pytest.raises(DatasetError, match=r"augmentation\.blind wants demonstrations that name the tool's next goal"):
        Trainer(recipe, seeing(), FakeDemonstrations(5))


def test_the_goal_is_where_the_environments_camera_shows_it() -> None:
    pytest.importorskip("pybullet")
    from rdvla_bench.envs.calvin.cameras import STATIC, static_view

    view, projection = (np.array(m).reshape(4, 4).T for m in (static_view(), STATIC.projection()))
    interface = TrainedInterface(seeing().on("calvin"), WithGoals(2).statistics)
    points = np.array([[0.1, -0.1, 0.46], [-0.25, 0.05, 0.5], [0.3, -0.15, 0.46]], np.float32)
    seen = interface.seen_at(points)
    assert seen is not None
    for point, found in zip(points, seen, strict=True):
        x, y, _, w = projection @ view @ np.append(point, 1.0)
        cropped = np.array([-y / w, x / w]) / CROP_AREA**0.5
        assert found == pytest.approx((cropped + 1) / 2 * seeing().backbone.image_size, abs=1.0)
    assert TrainedInterface(seeing(), WithGoals(2).statistics).seen_at(points) is None


def test_a_near_camera_does_not_slide() -> None:
    with pytest.raises(UsageError, match="slide 6: libero's camera is near, expected 0"):
        trainer(replace(RECIPE, augmentation=SLIDING))
