"""Training steps: gradients through exactly the last eight iterations, a loss that falls, a run that resumes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_training import FakeDemonstrations, tiny_config

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from rdvla_bench.errors import RunMismatch, UsageError  # noqa: E402
from rdvla_bench.policies import rdvla  # noqa: E402
from rdvla_bench.policies.rdvla.trained import TrainedInterface  # noqa: E402
from rdvla_bench.policies.rdvla.training import checkpoints  # noqa: E402
from rdvla_bench.policies.rdvla.training.batches import Batch, DataOrder, collate  # noqa: E402
from rdvla_bench.policies.rdvla.training.checkpoints import CheckpointError, read_model  # noqa: E402
from rdvla_bench.policies.rdvla.training.dataset import Sample  # noqa: E402
from rdvla_bench.policies.rdvla.training.objective import WINDOW, unroll  # noqa: E402
from rdvla_bench.policies.rdvla.training.recipe import Augmentation, Recipe  # noqa: E402
from rdvla_bench.policies.rdvla.training.session import CONFIG, LOG, MODEL, STATE, Session  # noqa: E402
from rdvla_bench.policies.rdvla.training.trainer import Diverged, Trainer  # noqa: E402
from rdvla_bench.policies.rdvla.weights import digest  # noqa: E402
from rdvla_bench.types import Observation  # noqa: E402

CPU = torch.device("cpu")
RECIPE = Recipe(steps=6, batch_size=3, mean_depth=4, learning_rate=1e-3, ema=0.9)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trainer(recipe: Recipe = RECIPE, n: int = 5) -> Trainer:
    return Trainer(recipe, tiny_config(), FakeDemonstrations(n))


def tiny_batch() -> Batch:
    data = FakeDemonstrations(2)
    return collate(data, [0, 1], TrainedInterface(tiny_config(), data.statistics), CPU)


def finish(session: Session, steps: int) -> None:
    while session.trainer.step < steps:
        session.record(session.trainer.advance())


@pytest.mark.parametrize("depth", [1, 7, 8, 9, 20])
def test_gradients_reach_exactly_the_last_eight_iterations(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trainer().model
    plain = model.head.iterate
    scratchpads = []

    def iterate(*arguments):
        scratchpad = plain(*arguments)
        if scratchpad.requires_grad:
            scratchpad.retain_grad()
        scratchpads.append(scratchpad)
        return scratchpad

    monkeypatch.setattr(model.head, "iterate", iterate)
    batch = tiny_batch()
    conditioning = model.condition(batch.pixels, batch.texts, batch.proprio)
    unroll(model.head, conditioning, torch.ones(2, 8, 32), depth).square().sum().backward()

    assert len(scratchpads) == depth
    within = min(depth, 8)
    assert not any(s.requires_grad for s in scratchpads[: depth - within])
    assert all(s.grad.abs().sum() > 0 for s in scratchpads[depth - within :])
    assert model.head.gamma_init.grad is None
    assert model.backbone.llm.embed_tokens.weight.grad.abs().sum() > 0


def test_depth_does_not_grow_what_backpropagation_keeps() -> None:
    model = trainer().model
    batch = tiny_batch()
    saved = []
    for depth in (WINDOW, 64):
        kept = 0

        def pack(tensor):
            nonlocal kept
            kept += tensor.numel()
            return tensor

        conditioning = model.condition(batch.pixels, batch.texts, batch.proprio)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            unroll(model.head, conditioning, torch.ones(2, 8, 32), depth)
        saved.append(kept)
    assert saved[0] == saved[1] > 0


def test_the_loss_falls_when_a_few_samples_are_learned_by_heart() -> None:
    learner = trainer(Recipe(batch_size=4, mean_depth=4, learning_rate=3e-3, steps=80, schedule="cosine"), n=4)
    losses = [learner.advance().loss for _ in range(80)]
    assert np.mean(losses[-5:]) < 0.3 * np.mean(losses[:5]), losses


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    with Session(tmp_path / "whole", trainer()) as session:
        finish(session, 6)
        session.save()
    with Session(tmp_path / "halves", trainer()) as session:
        finish(session, 3)
        session.save()
        finish(session, 5)  # lost: not saved
    with Session(tmp_path / "halves", trainer()) as session:
        assert session.trainer.step == 3
        finish(session, 6)
        session.save()
    for name in (STATE, MODEL, LOG):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "halves" / name).read_bytes(), name


def test_training_leaves_and_reads_no_global_generator() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = trainer()
    one.advance()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    two = trainer()
    two.advance()
    assert digest(one.model) == digest(two.model)
    assert digest(one.model) != digest(trainer(replace(RECIPE, seed=1)).model)


def test_an_interrupted_save_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Session(tmp_path, trainer()) as session:
        finish(session, 2)
        session.save()
        saved = digest(session.trainer.model)
        finish(session, 4)

        def torn(tensors, path, header):
            Path(path).write_bytes(b"half a file")
            raise OSError("no space left on device")

        monkeypatch.setattr(checkpoints, "save_file", torn)
        with pytest.raises(OSError, match="no space"):
            session.save()
    with Session(tmp_path, trainer()) as session:
        assert session.trainer.step == 2
        assert digest(session.trainer.model) == saved
        assert len((tmp_path / LOG).read_text().splitlines()) == 2


def test_the_exported_model_is_the_average_and_loads_alone(tmp_path: Path) -> None:
    with Session(tmp_path, trainer()) as session:
        finish(session, 3)
        session.save()
        learner = session.trainer
    loaded = read_model(tmp_path / MODEL)
    assert loaded.model.config == tiny_config()
    assert loaded.statistics.action.describe() == learner.data.statistics.action.describe()
    assert loaded.origin["step"] == 3
    assert not loaded.model.training
    name = "head.output_proj.weight"
    exported = dict(loaded.model.named_parameters())[name]
    assert torch.equal(exported, learner.average[name])
    assert not torch.equal(exported, learner.model.head.output_proj.weight)


def test_a_trained_model_plays_in_the_bounds_of_its_data(tmp_path: Path) -> None:
    learner = trainer(Recipe(batch_size=4, mean_depth=4, learning_rate=3e-3, steps=60, schedule="cosine"), n=4)
    with Session(tmp_path, learner) as session:
        finish(session, 60)
        session.save()
    policy = rdvla.fixed(depth=8, checkpoint=str(tmp_path / MODEL))
    assert policy.card.weights == "tiny, 60 steps"
    assert str(tmp_path) not in str(policy.card.to_json())
    for sample in learner.data.samples:
        chunk, _ = policy.act(observation(sample), None, np.random.default_rng(0))
        assert np.abs(chunk.actions[:, :6] - sample["chunk"][:, :6]).mean() < 0.25
        np.testing.assert_array_equal(chunk.actions[:, 6], sample["chunk"][:, 6])  # -1 or 1, nothing between


def observation(sample: Sample) -> Observation:
    return {"images": sample["images"], "proprio": sample["proprio"], "instruction": sample["instruction"]}


def test_what_stands_in_the_file_is_no_setting(tmp_path: Path) -> None:
    with Session(tmp_path, trainer()) as session:
        session.save()
    path = str(tmp_path / MODEL)
    with pytest.raises(UsageError, match="config has no effect beside checkpoint="):
        rdvla.fixed(checkpoint=path, config="nano")
    with pytest.raises(UsageError, match="unnorm_key has no effect beside checkpoint="):
        rdvla.fixed(checkpoint=path, unnorm_key="libero")
    with pytest.raises(UsageError, match="horizon 9 exceeds the chunk of 8"):
        rdvla.fixed(checkpoint=path, horizon=9)


def test_a_frozen_part_does_not_move() -> None:
    learner = trainer(replace(RECIPE, freeze="vision"))
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    learner.advance()
    moved = {name for name, p in learner.model.named_parameters() if not torch.equal(p, before[name])}
    assert not any(name.startswith("backbone.vision.") or name == "head.gamma_init" for name in moved)
    assert any(name.startswith("backbone.llm.") for name in moved)
    assert "head.gamma_adapt" in moved


def test_a_run_begun_before_an_augmentation_existed_goes_on_without_it(tmp_path: Path) -> None:
    with Session(tmp_path, trainer()) as session:
        finish(session, 1)
        session.save()
    config = json.loads((tmp_path / CONFIG).read_text())
    assert config["identity"]["augmentation"].pop("offset") == 0
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with Session(tmp_path, trainer()) as session:
        session.save()
    origin = read_model(tmp_path / MODEL).origin
    assert {key: value for key, value in origin.items() if key != "step"} == config["identity"]
    with pytest.raises(RunMismatch, match="augmentation"):
        Session(tmp_path, trainer(replace(RECIPE, augmentation=Augmentation(offset=0.01))))


def test_another_recipe_or_other_data_is_refused(tmp_path: Path) -> None:
    with Session(tmp_path, trainer()) as session:
        finish(session, 1)
        session.save()
    with pytest.raises(RunMismatch, match=r"learning_rate: 0.001 there, 0.01 here"):
        Session(tmp_path, trainer(replace(RECIPE, learning_rate=0.01)))
    with pytest.raises(RunMismatch, match='data_sha256: "fake-5" there, "fake-4" here'):
        Session(tmp_path, trainer(n=4))
    with Session(tmp_path, trainer(replace(RECIPE, steps=9))):  # a constant schedule can be prolonged
        pass


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with Session(tmp_path, trainer()), pytest.raises(UsageError, match="in use by another process"):
        Session(tmp_path, trainer())


def test_a_wrong_file_of_weights_is_named(tmp_path: Path) -> None:
    with Session(tmp_path, trainer()) as session:
        finish(session, 1)
        session.save()
    with pytest.raises(CheckpointError, match="no such file"):
        read_model(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"expected format 'rdvla-bench/rdvla@1', got 'rdvla-bench/train-s"):
        read_model(tmp_path / STATE)
    (tmp_path / "torn").write_bytes((tmp_path / MODEL).read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="no complete safetensors file"):
        read_model(tmp_path / "torn")
    with pytest.raises(CheckpointError, match=r"which the model lacks|moments of|lacks"):
        trainer(replace(RECIPE, ema=0.0)).restore(tmp_path / STATE)

    weights = load_file(tmp_path / MODEL)
    learner = trainer()
    for change, says in (
        ({"head.gate_x": torch.ones(1)}, "has head.gate_x, which the model lacks"),
        ({"head.output_proj.bias": torch.ones(3)}, r"head.output_proj.bias is \(3,\), expected \(7,\)"),
        ({"head.output_proj.bias": torch.full((7,), torch.nan)}, "bias has values that are not finite"),
    ):
        checkpoints.write_model(tmp_path / "w", weights | change, tiny_config(), learner.data.statistics, {"step": 1})
        with pytest.raises(CheckpointError, match=says):
            read_model(tmp_path / "w")
    del weights["head.gamma_adapt"]
    checkpoints.write_model(tmp_path / "w", weights, tiny_config(), learner.data.statistics, {"step": 1})
    with pytest.raises(CheckpointError, match=r"lacks head.gamma_adapt \(1 missing\)"):
        read_model(tmp_path / "w")


def test_a_file_of_weights_whose_header_lacks_a_size_is_named(tmp_path: Path) -> None:
    with Session(tmp_path, trainer()) as session:
        session.save()
    with safe_open(tmp_path / MODEL, framework="pt") as file:
        header = json.loads(file.metadata()[checkpoints.HEADER])
    del header["config"]["backbone"]["llm"]
    save_file(load_file(tmp_path / MODEL), tmp_path / MODEL, {checkpoints.HEADER: json.dumps(header)})
    with pytest.raises(CheckpointError, match=rf"{MODEL}: its header cannot be read \(KeyError: 'llm'\)"):
        read_model(tmp_path / MODEL)


def test_divergence_stops_with_one_clear_line() -> None:
    learner = trainer()
    with torch.no_grad():
        learner.model.head.output_proj.bias.fill_(torch.nan)
    with pytest.raises(Diverged, match=r"step 1: loss nan.*Lower the learning rate"):
        learner.advance()
    assert learner.step == 0


def test_every_epoch_shows_every_sample_once() -> None:
    order = DataOrder(5, 3, seed=0)
    seen = [index for step in range(10) for index in order.indices(step)]
    assert all(sorted(seen[i : i + 5]) == [0, 1, 2, 3, 4] for i in range(0, 30, 5))
    assert seen[:5] != seen[5:10]
    assert DataOrder(5, 3, seed=0).indices(7) == seen[21:24]


def test_a_zero_scratchpad_answers_the_same_whatever_the_noise_and_is_kept_in_the_file(tmp_path: Path) -> None:
    with Session(tmp_path, trainer(replace(RECIPE, start="zero"))) as session:
        finish(session, RECIPE.steps)
        session.save()
    model = read_model(tmp_path / MODEL).model
    assert model.config.head.start == "zero"
    unit = torch.ones(1, model.config.head.chunk, model.config.head.width)
    assert not model.head.scratchpad(unit).any()
    assert trainer().model.head.scratchpad(unit).all()


def test_an_adapter_rate_of_zero_leaves_the_adapter_alone_and_nothing_else() -> None:
    learner = trainer(replace(RECIPE, adapter_rate=0.0))
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    learner.advance()
    same = {name for name, p in learner.model.named_parameters() if torch.equal(p, before[name])}
    assert "head.adapter.weight" in same
    assert "head.prelude.0.q_self.weight" not in same


class WithGoals(FakeDemonstrations):
    """Samples that name where the tool goes next."""

    def __getitem__(self, index: int) -> Sample:
        return {**super().__getitem__(index), "goal": np.full(8, 0.1 * index, np.float32)}


GUESSING = replace(RECIPE, goal_weight=0.5)


def test_a_guess_of_the_next_goal_trains_the_backbone_and_stays_out_of_the_model(tmp_path: Path) -> None:
    with Session(tmp_path, Trainer(GUESSING, tiny_config(), WithGoals(5))) as session:
        finish(session, GUESSING.steps)
        session.save()
    plain = trainer()
    for _ in range(RECIPE.steps):
        plain.advance()
    guessed = load_file(tmp_path / MODEL)
    assert set(guessed) == set(plain.weights())
    name = "backbone.projector.fc1.weight"
    assert not torch.equal(guessed[name], plain.weights()[name])


def test_a_run_with_a_guess_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = Trainer(GUESSING, tiny_config(), WithGoals(5))
    for _ in range(4):
        whole.advance()
    first = Trainer(GUESSING, tiny_config(), WithGoals(5))
    for _ in range(2):
        first.advance()
    first.save(tmp_path / "state")
    second = Trainer(GUESSING, tiny_config(), WithGoals(5))
    second.restore(tmp_path / "state")
    for _ in range(2):
        second.advance()
    assert all(torch.equal(tensor, second.trained[name]) for name, tensor in whole.trained.items())


def test_a_guess_without_goals_in_the_data_is_refused() -> None:
    with pytest.raises(UsageError, match="goal_weight wants demonstrations that name"):
        trainer(GUESSING)
