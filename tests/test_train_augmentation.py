"""Changed training images: in their bounds, a function of seed, step and place, and off unless asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny_training import FakeDemonstrations, tiny_config

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from rdvla_bench.errors import UsageError  # noqa: E402
from rdvla_bench.policies.rdvla.training.augmentation import Augmenter, shift  # noqa: E402
from rdvla_bench.policies.rdvla.training.recipe import Augmentation, Recipe  # noqa: E402
from rdvla_bench.policies.rdvla.training.trainer import Trainer  # noqa: E402
from rdvla_bench.policies.rdvla.weights import digest  # noqa: E402

FULL = Augmentation(shift=2, brightness=0.2, contrast=0.2, saturation=0.2)
PIXELS = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_nothing_is_changed_unless_asked_for() -> None:
    assert Recipe().augmentation == Augmentation()
    assert torch.equal(Augmenter(Augmentation(), 0, 0)(PIXELS, 0), PIXELS)


def test_the_change_depends_on_seed_step_and_place_alone() -> None:
    changed = Augmenter(FULL, 1, 2)(PIXELS, 3)
    assert torch.equal(changed, Augmenter(FULL, 1, 2)(PIXELS, 3))
    for other in (Augmenter(FULL, 0, 2)(PIXELS, 3), Augmenter(FULL, 1, 0)(PIXELS, 3), Augmenter(FULL, 1, 2)(PIXELS, 0)):
        assert not torch.equal(changed, other)


def test_changed_images_stay_images() -> None:
    for step in range(50):
        changed = Augmenter(replace(FULL, brightness=1.0, contrast=1.0, saturation=1.0), 0, step)(PIXELS, 0)
        assert changed.shape == PIXELS.shape
        assert changed.min() >= 0
        assert changed.max() <= 1


def test_each_camera_changes_on_its_own() -> None:
    same = PIXELS[:1].expand(2, -1, -1, -1)
    first, second = Augmenter(FULL, 0, 0)(same, 0)
    assert not torch.equal(first, second)


def test_a_shift_moves_whole_pixels_and_repeats_the_border() -> None:
    image = PIXELS[0]
    moved = shift(image, 2, -1)
    assert torch.equal(moved[:, 2:, :-1], image[:, :-2, 1:])
    assert torch.equal(moved[:, 0, :-1], image[:, 0, 1:])
    assert torch.equal(moved[:, 2:, -1], image[:, :-2, -1])
    assert torch.equal(shift(image, 0, 0), image)


def test_every_shift_within_the_bound_occurs_and_none_beyond() -> None:
    ramp = (torch.arange(16.0) / 32 + 0.25).expand(1, 3, 16, 16)
    seen = {round(float(Augmenter(Augmentation(shift=2), 0, step)(ramp, 0)[0, 0, 8, 8] - ramp[0, 0, 8, 8]) * -32)
            for step in range(60)}  # fmt: skip
    assert seen == {-2, -1, 0, 1, 2}


def test_brightness_contrast_and_saturation_each_do_what_they_say() -> None:
    image = PIXELS[:1] * 0.4 + 0.3  # far enough from black and white
    brighter = Augmenter(Augmentation(brightness=0.1), 0, 0)(image, 0) - image
    assert 0 < brighter.abs().max() <= 0.1
    assert brighter.std() < 1e-6
    steeper = Augmenter(Augmentation(contrast=0.2), 0, 0)(image, 0)
    ratio = (steeper - image.mean()) / (image - image.mean())
    assert torch.allclose(ratio, ratio.median(), atol=1e-3)
    assert 0 < (ratio.median() - 1).abs() <= 0.2
    grey = image.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    assert torch.allclose(Augmenter(Augmentation(saturation=1.0), 0, 0)(grey, 0), grey, atol=1e-6)


def test_training_sees_the_changed_images() -> None:
    recipe = Recipe(batch_size=2, mean_depth=2)
    losses = [
        Trainer(replace(recipe, augmentation=strength), tiny_config(), FakeDemonstrations(3)).advance().loss
        for strength in (Augmentation(), FULL, FULL)
    ]
    assert losses[0] != losses[1] == losses[2]


def test_depths_keep_to_the_bounds_of_the_recipe() -> None:
    recipe = Recipe(batch_size=1, mean_depth=4, min_depth=3, max_depth=5)
    learner = Trainer(recipe, tiny_config(), FakeDemonstrations(1))
    before = digest(learner.model)
    assert {learner.advance().depth for _ in range(20)} == {3, 4, 5}
    assert digest(learner.model) != before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"shift": -1}, "augmentation.shift -1: expected 0 to 32"),
        ({"shift": 33}, "augmentation.shift 33: expected 0 to 32"),
        ({"brightness": 1.5}, "augmentation.brightness 1.5: expected 0 to 1"),
        ({"contrast": float("nan")}, "augmentation.contrast nan: expected 0 to 1"),
        ({"offset": 1}, r"augmentation.offset 1: expected 0 to 0.5 \(m\)"),
    ],
)
def test_a_strength_outside_its_range_is_refused(change: dict[str, float], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Augmentation(**change)  # type: ignore[arg-type]
