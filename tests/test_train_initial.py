"""Starting from given weights: whole or backbone, ours or released; what does not fit is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_training import FakeDemonstrations, seeing, tiny_config

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_released import TINY, build  # noqa: E402

from rdvla_bench.commands.train import main  # noqa: E402
from rdvla_bench.errors import RunMismatch, UsageError  # noqa: E402
from rdvla_bench.policies import rdvla  # noqa: E402
from rdvla_bench.policies.rdvla.checkpoint import load  # noqa: E402
from rdvla_bench.policies.rdvla.conventions import Gripper, Rotation, proprio_width  # noqa: E402
from rdvla_bench.policies.rdvla.model import untrained  # noqa: E402
from rdvla_bench.policies.rdvla.shipped_weights import named  # noqa: E402
from rdvla_bench.policies.rdvla.statistics import Bounds, Statistics  # noqa: E402
from rdvla_bench.policies.rdvla.trained import TrainedInterface  # noqa: E402
from rdvla_bench.policies.rdvla.training.checkpoints import CheckpointError, read_model, write_model  # noqa: E402
from rdvla_bench.policies.rdvla.training.initial import Initial, read_initial  # noqa: E402
from rdvla_bench.policies.rdvla.training.objective import unroll  # noqa: E402
from rdvla_bench.policies.rdvla.training.recipe import Recipe  # noqa: E402
from rdvla_bench.policies.rdvla.training.session import MODEL, STATE, Session  # noqa: E402
from rdvla_bench.policies.rdvla.training.trainer import Trainer  # noqa: E402

RECIPE = Recipe(steps=2, batch_size=2, mean_depth=2, seed=5)


def trainer(initial: Initial | None, recipe: Recipe = RECIPE) -> Trainer:
    return Trainer(recipe, tiny_config(), FakeDemonstrations(3), initial=initial)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of one step."""
    with Session(tmp_path / "run", trainer(None, replace(RECIPE, seed=0))) as session:
        session.record(session.trainer.advance())
        session.save()
    return tmp_path / "run"


def test_a_run_starts_from_the_weights_of_another(run: Path) -> None:
    trained = dict(read_model(run / MODEL).model.named_parameters())
    for source in (run, run / MODEL):
        begun = trainer(read_initial(str(source), "all", tiny_config()))
        assert all(torch.equal(p, trained[name]) for name, p in begun.model.named_parameters())
    assert begun.advance().loss > 0
    assert begun.trained["head.gamma_adapt"].requires_grad


def test_weights_of_the_package_are_given_by_their_name() -> None:
    shipped = named("rdvla-nano-libero")
    sizes = read_model(shipped.path).model.config
    by_name, by_path = (read_initial(source, "all", sizes) for source in (shipped.name, str(shipped.path)))
    assert all(torch.equal(p, by_path.weights[name]) for name, p in by_name.weights.items())
    with pytest.raises(CheckpointError, match=r"called 'rdvla-nano-libro'\. Did you mean 'rdvla-nano-libero'"):
        read_initial("rdvla-nano-libro", "all", sizes)


def test_the_backbone_alone_leaves_head_and_proprio_projector_fresh(run: Path) -> None:
    trained = dict(read_model(run / MODEL).model.named_parameters())
    drawn = dict(untrained(tiny_config(), RECIPE.seed).named_parameters())
    begun = trainer(read_initial(str(run), "backbone", tiny_config()))
    for name, parameter in begun.model.named_parameters():
        assert torch.equal(parameter, (trained if name.startswith("backbone.") else drawn)[name]), name


def test_of_a_frozen_body_the_head_alone_starts_afresh_and_is_trained(run: Path) -> None:
    trained = dict(read_model(run / MODEL).model.named_parameters())
    drawn = dict(untrained(tiny_config(), RECIPE.seed).named_parameters())
    initial = read_initial(str(run), "body", tiny_config())
    begun = Trainer(replace(RECIPE, freeze="body"), tiny_config(), FakeDemonstrations(5), initial=initial)
    for name, parameter in begun.model.named_parameters():
        assert torch.equal(parameter, (drawn if name.startswith("head.") else trained)[name]), name
    begun.advance()
    begun.advance()
    for name, parameter in begun.model.named_parameters():
        assert name.startswith("head.") or torch.equal(parameter, trained[name]), name
    assert not torch.equal(begun.model.head.adapter.weight, drawn["head.adapter.weight"])


def test_weights_that_started_from_zero_are_trained_on_as_the_new_recipe_says(tmp_path: Path) -> None:
    for start in ("zero", "noise"):
        with Session(tmp_path / start, trainer(None, replace(RECIPE, start=start))) as session:
            session.save()
        for wanted in ("zero", "noise"):
            begun = trainer(read_initial(str(tmp_path / start), "all", tiny_config()), replace(RECIPE, start=wanted))
            assert begun.config.head.start == wanted


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_share_of_the_given_weights_is_kept_in_what_is_exported(run: Path, tmp_path: Path, ema: float) -> None:
    given = dict(read_model(run / MODEL).model.named_parameters())
    exported, losses = {}, []
    for keep in (0.0, 0.25):
        recipe = replace(RECIPE, keep=keep, ema=ema, learning_rate=0.01)
        begun = trainer(read_initial(str(run), "all", tiny_config()), recipe)
        losses.append([begun.advance().loss, begun.advance().loss])
        with Session(tmp_path / f"keep-{keep}", begun) as session:
            session.save()
        exported[keep] = dict(read_model(tmp_path / f"keep-{keep}" / MODEL).model.named_parameters())
        before = {name: p.detach().clone() for name, p in begun.model.named_parameters()}
        with begun.exported():
            shown = {name: p.detach().clone() for name, p in begun.model.named_parameters()}
        assert all(torch.equal(shown[name], p) for name, p in exported[keep].items())
        assert all(torch.equal(before[name], p) for name, p in begun.model.named_parameters())
    assert losses[0] == losses[1]
    trained = exported[0.0]
    assert not torch.allclose(trained["head.adapter.weight"], given["head.adapter.weight"], atol=1e-3)
    for name, weight in exported[0.25].items():
        assert torch.allclose(weight, 0.75 * trained[name] + 0.25 * given[name], atol=1e-6), name


def test_without_given_weights_there_is_nothing_to_keep(run: Path) -> None:
    recipe = replace(RECIPE, keep=0.5)
    for initial in (None, read_initial(str(run), "body", tiny_config())):
        with pytest.raises(UsageError, match=r"keep 0.5: there is nothing to keep of without --init and"):
            trainer(initial, recipe)


def test_a_models_own_located_stages_go_on(tmp_path: Path) -> None:
    now = seeing()
    assert now.backbone.convnet
    before = replace(now, backbone=replace(now.backbone, convnet=replace(now.backbone.convnet, located=(0,))))
    with Session(tmp_path / "run", Trainer(RECIPE, before, FakeDemonstrations(3))) as session:
        session.save()
    begun = Trainer(RECIPE, now, FakeDemonstrations(3), initial=read_initial(str(tmp_path / "run"), "all", now))
    assert begun.config.backbone == before.backbone
    assert begun.advance().loss > 0


class WiderDemonstrations(FakeDemonstrations):
    """The same samples within other bounds; the second action never moves in one of both."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        low, high = -np.linspace(1.1, 3.0, 7), np.linspace(1.2, 2.0, 7)
        low[1] = high[1] = 0.0
        action = Bounds(low, high, np.arange(7) < 6)
        proprio = Bounds(-np.linspace(2.5, 3.0, 8), np.linspace(2.2, 4.0, 8), np.ones(8, np.bool_))
        self.statistics = Statistics("wider", action, proprio)


@pytest.mark.parametrize(
    ("rotation", "gripper"),
    [("as-is", True), ("matrix", True), ("matrix", False), ("as-is", "empty"), ("matrix", "empty")],
)
def test_given_weights_are_the_same_policy_in_the_new_datas_bounds(
    tmp_path: Path, rotation: Rotation, *, gripper: Gripper
) -> None:
    head = replace(tiny_config().head, proprio=proprio_width(rotation, gripper))
    config = replace(tiny_config(), head=head, rotation=rotation, gripper=gripper)
    with Session(tmp_path / "run", Trainer(RECIPE, config, FakeDemonstrations(3))) as session:
        session.save()
    begun = Trainer(RECIPE, config, WiderDemonstrations(3), initial=read_initial(str(tmp_path / "run"), "all", config))
    for number in range(4):
        sample = FakeDemonstrations(4)[number]
        answers = []
        for interface, model in (
            (TrainedInterface(config, FakeDemonstrations(3).statistics), read_model(tmp_path / "run" / MODEL).model),
            (begun.interface, begun.model),
        ):
            pixels = torch.stack([interface.image(sample["images"][camera]) for camera in interface.cameras])[None]
            told = torch.from_numpy(interface.proprio(sample["proprio"]))[None]
            conditioning = model.condition(pixels, [interface.tokens(sample["instruction"])], told)
            chunk = unroll(model.head, conditioning, torch.full((1, 8, head.width), 0.1), 2)[0].detach().numpy()
            answers.append(interface.statistics.action.restore(chunk))
        there, here = answers
        assert np.abs(there).max() > 0.01
        moving = np.arange(7) != 1
        assert np.allclose(there[:, moving], here[:, moving], atol=1e-5), number


def test_a_model_that_is_now_told_of_an_empty_hand_begins_as_the_same_policy(tmp_path: Path) -> None:
    plain, told = (
        replace(tiny_config(), head=replace(tiny_config().head, proprio=n), rotation="matrix", gripper=gripper)
        for n, gripper in ((9, False), (10, "empty"))
    )
    with Session(tmp_path / "run", Trainer(RECIPE, plain, FakeDemonstrations(3))) as session:
        session.save()
    before = read_model(tmp_path / "run" / MODEL).model
    begun = Trainer(RECIPE, told, FakeDemonstrations(3), initial=read_initial(str(tmp_path / "run"), "all", told))
    assert begun.model.config.gripper == "empty"
    proprio = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    proprio[:, 9] = torch.tensor([0.0, 1.0, 0.0, 1.0])
    assert torch.equal(begun.model.proprio(proprio), before.proprio(proprio[:, :9]))
    begun.advance()
    assert begun.model.proprio.fc1.weight[:, 9].abs().max() > 0


def test_a_run_from_other_weights_is_another_run(run: Path, tmp_path: Path) -> None:
    def initial() -> Initial:
        return read_initial(str(run), "all", tiny_config())

    for out, stops in (("whole", (2,)), ("halves", (1, 2))):
        for stop in stops:
            with Session(tmp_path / out, trainer(initial())) as session:
                while session.trainer.step < stop:
                    session.record(session.trainer.advance())
                session.save()
    for name in (STATE, MODEL):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "halves" / name).read_bytes(), name
    with pytest.raises(RunMismatch, match="initial_weights_sha256"):
        Session(tmp_path / "whole", trainer(None))
    with pytest.raises(RunMismatch, match="initial_weights_sha256"):
        Session(tmp_path / "whole", trainer(read_initial(str(run), "backbone", tiny_config())))


def test_released_weights_bring_their_taps_and_their_tokenizer(tmp_path: Path) -> None:
    folder = build(tmp_path / "released", untrained(TINY, 3))
    released = load(str(folder), TINY, None)
    data = FakeDemonstrations(2)
    begun = Trainer(RECIPE, TINY, data, initial=read_initial(str(folder), "all", TINY))
    theirs = dict(released.model.named_parameters())
    assert all(torch.equal(p, theirs[name]) for name, p in begun.model.named_parameters())
    with Session(tmp_path / "run", begun) as session:
        session.record(begun.advance())
        session.save()
    policy = rdvla.fixed(depth=1, checkpoint=str(tmp_path / "run" / MODEL))
    interface = policy.interface  # type: ignore[attr-defined]
    assert isinstance(interface, TrainedInterface)
    instruction = "pick up the milk"
    assert interface.tokens(instruction) == released.interface.tokens(instruction)
    assert len(interface.describe()["tokenizer_sha256"]) == 64
    sample = data[0]
    observation = {"images": sample["images"], "proprio": sample["proprio"], "instruction": instruction}
    chunk, _ = policy.act(observation, None, np.random.default_rng(0))  # type: ignore[arg-type]
    assert chunk.actions.shape == (8, 7)
    again = read_initial(str(tmp_path / "run"), "backbone", TINY)
    assert (again.vocabulary, again.config.backbone.tokenizer) == (begun.vocabulary, "qwen2.5")


def test_weights_that_do_not_fit_are_named(run: Path, tmp_path: Path) -> None:
    narrow = replace(tiny_config(), backbone=replace(tiny_config().backbone, latents=8))
    with pytest.raises(CheckpointError, match=r"no model of the sizes 'tiny': backbone.latents: 4 there, 8 here"):
        read_initial(str(run), "backbone", narrow)
    with pytest.raises(CheckpointError, match=r"head.chunk: 8 there, 4 here"):
        read_initial(str(run), "all", replace(tiny_config(), head=replace(tiny_config().head, chunk=4)))
    with pytest.raises(CheckpointError, match=r"nothing: no such file"):
        read_initial(str(tmp_path / "nothing"), "all", tiny_config())
    with pytest.raises(CheckpointError, match="expected format 'rdvla-bench/rdvla@1', got 'rdvla-bench/train-state@1'"):
        read_initial(str(run / STATE), "all", tiny_config())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"expected one file config.json, found none"):
        read_initial(str(tmp_path / "empty"), "all", tiny_config())

    weights, data = dict(read_model(run / MODEL).model.named_parameters()), FakeDemonstrations(3)
    del weights["backbone.llm.norm.weight"]
    write_model(run / MODEL, weights, tiny_config(), data.statistics, {"step": 1})
    with pytest.raises(CheckpointError, match=r"lacks backbone.llm.norm.weight \(1 missing\)"):
        read_initial(str(run), "backbone", tiny_config())
    given = Initial("here", "backbone", tiny_config(), {"backbone.x": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"here lacks backbone\."):
        trainer(given)


def test_parts_without_a_source_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "o"), "--init-parts", "backbone"]) == 2
    assert "--init-parts backbone has no effect without --init" in capsys.readouterr().err
