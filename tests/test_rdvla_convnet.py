"""Seeing with convolutions: the instruction steers them, training and files keep them, what does not fit is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tiny_training import FakeDemonstrations, tiny_config

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_released import TINY, build  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from rdvla_bench.errors import PolicyFault, UsageError  # noqa: E402
from rdvla_bench.policies import rdvla  # noqa: E402
from rdvla_bench.policies.rdvla import config as configs  # noqa: E402
from rdvla_bench.policies.rdvla.config import NANO, NANO_CONV, RDVLA_05B, ConvNet, RdvlaConfig, Transformer  # noqa: E402
from rdvla_bench.policies.rdvla.convnet import _places  # noqa: E402
from rdvla_bench.policies.rdvla.flops import backbone_flops  # noqa: E402
from rdvla_bench.policies.rdvla.model import RdvlaModel, untrained  # noqa: E402
from rdvla_bench.policies.rdvla.prepared_backbone import PreparedBackbone  # noqa: E402
from rdvla_bench.policies.rdvla.tokens import _PIECES, BARE, hashed_words, prompt, words_of  # noqa: E402
from rdvla_bench.policies.rdvla.training.checkpoints import CheckpointError, config_from_json, read_model  # noqa: E402
from rdvla_bench.policies.rdvla.training.initial import read_initial  # noqa: E402
from rdvla_bench.policies.rdvla.training.recipe import Recipe  # noqa: E402
from rdvla_bench.policies.rdvla.training.session import MODEL, Session  # noqa: E402
from rdvla_bench.policies.rdvla.training.trainer import Trainer  # noqa: E402
from rdvla_bench.registry import load_suite  # noqa: E402
from rdvla_bench.seeding import generator  # noqa: E402
from rdvla_bench.types import Observation  # noqa: E402

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90", "calvin_d")
RECIPE = Recipe(steps=2, batch_size=2, mean_depth=2, learning_rate=1e-3)


def tiny_conv() -> RdvlaConfig:
    tiny = tiny_config()
    convnet = ConvNet(stem=4, channels=(8, 16))
    return replace(
        tiny,
        name="tiny-conv",
        backbone=replace(tiny.backbone, dino=None, siglip=None, convnet=convnet, tokenizer=BARE, vocab=4096),
    )


@pytest.fixture
def run(tmp_path: Path) -> Session:
    """A finished run of two steps."""
    with Session(tmp_path / "run", Trainer(RECIPE, tiny_conv(), FakeDemonstrations(4))) as session:
        for _ in range(RECIPE.steps):
            session.record(session.trainer.advance())
        session.save()
    return session


def pixels(config: RdvlaConfig, batch: int) -> torch.Tensor:
    side, draws = config.backbone.image_size, torch.Generator().manual_seed(0)
    return torch.rand(batch, len(config.backbone.cameras), 3, side, side, generator=draws)


def token(config: RdvlaConfig, batch: int) -> torch.Tensor:
    return torch.randn(1, 1, config.head.width, generator=torch.Generator().manual_seed(1)).expand(batch, -1, -1)


def observation(i: int) -> Observation:
    sample = FakeDemonstrations(i + 1)[i]
    return {"images": sample["images"], "proprio": sample["proprio"], "instruction": sample["instruction"]}


PATCHES = NANO_CONV.backbone.patches


def test_another_instruction_sees_other_features_in_each_camera() -> None:
    backbone = untrained(NANO_CONV, 0).backbone
    shown = pixels(NANO_CONV, 1).expand(2, -1, -1, -1, -1)
    texts = [words_of(told, BARE, 4096) for told in ("open the drawer", "close the drawer")]
    with torch.inference_mode():
        opened, closed = backbone.see(shown, texts, token(NANO_CONV, 2)).patches
        again, same = backbone.see(shown, [texts[0], texts[0]], token(NANO_CONV, 2)).patches
    assert torch.equal(again, same)
    for first in range(0, 2 * PATCHES, PATCHES):
        apart = (opened - closed)[first : first + PATCHES].abs().amax(dim=1)
        assert (apart > 1e-3).all()


def test_another_posture_sees_other_features_and_a_convnet_without_one_is_an_error() -> None:
    backbone = untrained(NANO_CONV, 0).backbone
    shown = pixels(NANO_CONV, 1)
    with torch.inference_mode():
        one, other = (backbone.see(shown, [[5]], scale * token(NANO_CONV, 1)).patches for scale in (1.0, -1.0))
        assert ((one - other).abs().amax(dim=-1) > 1e-3).all()
        with pytest.raises(UsageError, match="token of proprioception"):
            backbone.see(shown, [[5]], None)


def test_towers_see_the_same_whatever_they_are_told() -> None:
    backbone = untrained(NANO, 0).backbone
    with torch.inference_mode():
        one, other = (backbone.see(pixels(NANO, 1), [text], None) for text in ([1, 2, 3], [9]))
    assert torch.equal(one.patches, other.patches)
    assert torch.equal(one.latents[0], backbone.action_queries.weight)


@pytest.mark.parametrize("camera", [0, 1])
def test_a_pixel_reaches_the_tokens_of_its_own_camera_and_lies_row_by_row(camera: int) -> None:
    backbone = untrained(NANO_CONV, 0).backbone
    plain = pixels(NANO_CONV, 1)
    changed = plain.clone()
    corner = (0, camera, slice(None), slice(32, 44), slice(64, 76))  # where the field of row 1, column 2 has its middle
    changed[corner] = 1 - changed[corner]
    with torch.inference_mode():
        before, after = (backbone.see(shown, [[5]], token(NANO_CONV, 1)) for shown in (plain, changed))
    moved = (before.patches - after.patches)[0].abs().amax(dim=1)
    assert int(moved.argmax()) == PATCHES * camera + 3 * 1 + 2
    assert (moved[PATCHES * (1 - camera) :][:PATCHES] == 0).all()
    assert not torch.equal(before.latents, after.latents)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 6), (3, 2)])
def test_a_channel_is_located_where_it_is_active(row: int, column: int) -> None:
    features = torch.zeros(1, 2, 4, 7)
    features[0, 1, row, column] = 50.0
    across_and_down = _places(features)[0]
    expected = [0.0, column / 3 - 1, 0.0, 2 * row / 3 - 1]  # a flat channel lies in the middle
    torch.testing.assert_close(across_and_down, torch.tensor(expected))


@pytest.mark.parametrize("config", [NANO, NANO_CONV, NANO_CONV.on("calvin")], ids=["nano", "nano-conv", "calvin"])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_backbones_flops_agree_with_torchs_counter(config: RdvlaConfig, batch: int) -> None:
    model = untrained(config, 0)
    texts = [list(range(7, 16))] * batch
    in_place = {torch.ops.aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1]}
    prepared = PreparedBackbone(model.backbone)
    counter = FlopCounterMode(display=False, custom_mapping=in_place)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:
        prepared(pixels(config, batch), texts, token(config, batch))
    counted = backbone_flops(config.backbone, 9, config.head.taps[-1])
    assert batch * counted == pytest.approx(counter.get_total_flops(), rel=0.005)


@pytest.mark.parametrize("config", [NANO, NANO_CONV, RDVLA_05B, NANO_CONV.on("calvin"), tiny_conv()], ids=str)
def test_sizes_survive_json(config: RdvlaConfig) -> None:
    assert config_from_json(json.loads(json.dumps(config.to_json()))) == config


def test_sizes_written_before_there_were_convnets_are_read() -> None:
    written = NANO.to_json()
    del written["backbone"]["convnet"]
    assert config_from_json(written) == NANO


def test_a_trained_model_is_loaded_to_the_bit_and_answers(run: Session) -> None:
    loaded = read_model(run.out / MODEL)
    kept = dict(loaded.model.named_parameters())
    ema = run.trainer.average if run.trainer.average else dict(run.trainer.model.named_parameters())
    assert loaded.model.config == tiny_conv()
    assert all(torch.equal(kept[name], tensor) for name, tensor in ema.items())
    policy = rdvla.fixed(depth=2, checkpoint=str(run.out / MODEL), padded_slots=4)
    alone = [policy.act(observation(i), None, generator("query", i))[0].actions for i in range(3)]
    together = policy.act_batch(  # type: ignore[attr-defined]
        [observation(i) for i in (2, 0, 1)], [None] * 3, [generator("query", i) for i in (2, 0, 1)]
    )
    for i, (chunk, _) in zip((2, 0, 1), together, strict=True):
        np.testing.assert_array_equal(chunk.actions, alone[i])


def test_every_weight_but_those_behind_the_last_read_is_trained() -> None:
    trainer = Trainer(replace(RECIPE, learning_rate=1e-2), tiny_conv(), FakeDemonstrations(4))
    before = {name: p.clone() for name, p in trainer.model.named_parameters() if name.startswith("backbone.vision")}
    for _ in range(2):
        trainer.advance()
    after = dict(trainer.model.named_parameters())
    assert {name for name, p in before.items() if torch.equal(p, after[name])} == set()


def test_frozen_vision_stays_as_it_was_drawn() -> None:
    trainer = Trainer(replace(RECIPE, freeze="vision"), tiny_conv(), FakeDemonstrations(4))
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    trainer.advance()
    stayed = {name for name, p in trainer.model.named_parameters() if torch.equal(p, before[name])}
    seeing = {name for name in before if name.startswith("backbone.vision.")}
    assert len(seeing) > 20
    assert seeing <= stayed
    assert "backbone.projector.fc1.weight" not in stayed


def test_weights_of_towers_are_no_start_for_a_convnet_nor_the_other_way(run: Session, tmp_path: Path) -> None:
    towers = replace(tiny_config(), backbone=replace(tiny_config().backbone, vocab=4096))
    with pytest.raises(
        CheckpointError,
        match=r"no model of the sizes 'tiny': .*backbone.convnet: .* there, null here; backbone.dino: null there",
    ):
        read_initial(str(run.out), "backbone", towers)
    with Session(tmp_path / "towers", Trainer(RECIPE, towers, FakeDemonstrations(3))) as session:
        session.record(session.trainer.advance())
        session.save()
    with pytest.raises(
        CheckpointError,
        match=r"no model of the sizes 'tiny-conv': .*backbone.convnet: null there, .*; backbone.dino: .* there, null",
    ):
        read_initial(str(tmp_path / "towers"), "all", tiny_conv())
    assert read_initial(str(run.out), "all", tiny_conv()).config == tiny_conv()


def test_a_released_folder_is_refused_with_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build(tmp_path / "released", untrained(TINY, 3))
    with pytest.raises(UsageError, match=r"text_config.hidden_size is 32, config nano-conv expects 128"):
        rdvla.fixed(depth=1, checkpoint=str(folder), config="nano-conv")
    seeing = replace(TINY.backbone, dino=None, siglip=None, convnet=ConvNet(stem=8, channels=(8,), located=(0,)))
    alike = replace(TINY, name="alike", backbone=seeing)
    monkeypatch.setitem(cast("dict[str, RdvlaConfig]", configs.CONFIGS), "alike", alike)
    with pytest.raises(UsageError, match="sees with a convnet and has no vision towers"):
        rdvla.fixed(depth=1, checkpoint=str(folder), config="alike")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patch": 8}, "the convnet's patches are 32 pixels wide, not 8"),
        ({"image_size": 100}, "an image of 100 pixels a side is not cut into patches of 32"),
        ({"convnet": None}, "both towers, dino and siglip, or with a convnet alone"),
        ({"convnet": ConvNet(stem=4, channels=(32, 64))}, "patches are 8 pixels wide, not 32"),
        ({"dino": Transformer(96, 3, 3, 384)}, "both towers, dino and siglip, or with a convnet alone"),
        ({"dino": Transformer(96, 3, 3, 384), "siglip": Transformer(96, 3, 3, 384)}, "or with a convnet alone"),
    ],
    ids=lambda given: given if isinstance(given, str) else "-".join(given),
)
def test_a_backbone_that_cannot_see_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        replace(NANO_CONV.backbone, **change)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ({"stem": 4, "channels": (32, 60)}, "expected multiples of 8"),
        ({"stem": 4, "channels": (0, 8)}, "expected multiples of 8"),
        ({"stem": 4, "channels": ()}, "one width or more"),
        ({"stem": 0, "channels": (8, 8)}, "a stem of 1 or more"),
        ({"stem": 4, "channels": (8, 8), "blocks": -1}, "blocks of 0 or more"),
        ({"stem": 4, "channels": (8, 8), "located": ()}, "expected one or more of 0 to 1, each once"),
        ({"stem": 4, "channels": (8, 8), "located": (1, 1)}, "each once"),
        ({"stem": 4, "channels": (8,)}, r"stages \(1,\) cannot be located"),
    ],
)
def test_a_convnet_that_cannot_be_built_is_refused(size: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ConvNet(**size)


@pytest.mark.parametrize(
    "size",
    [ConvNet(2, (8, 16, 24), located=(0, 2)), ConvNet(8, (16,), blocks=3, located=(0,)), ConvNet(4, (8, 8), blocks=0)],
)
def test_a_convnet_of_any_size_gives_one_token_a_patch(size: ConvNet) -> None:
    sizes = replace(NANO_CONV.backbone, convnet=size, patch=size.patch, image_size=32)
    config = replace(NANO_CONV, backbone=sizes)
    seen = RdvlaModel(config).backbone.see(pixels(config, 2), [[1], [2, 3]], token(config, 2))
    assert seen.patches.shape == (2, sizes.vision_tokens, sizes.fused)


def test_no_two_words_of_the_benchmarks_share_a_token() -> None:
    instructions = {task.instruction for suite in SUITES for task in load_suite(suite).tasks}
    instructions |= set(_calvin_instructions())
    assert len(instructions) > 34 + 100
    vocab = NANO_CONV.backbone.vocab
    words = {word for told in instructions for word in _PIECES.findall(told.lower())}
    assert len(words) > 100
    assert len({words_of(word, BARE, vocab) for word in words}) == len(words)
    assert len({words_of(told, BARE, vocab) for told in instructions}) == len(instructions)


def _calvin_instructions() -> list[str]:
    from rdvla_bench.envs.calvin.suites import INSTRUCTIONS

    return list(INSTRUCTIONS.values())


def test_the_bare_words_are_the_instruction_and_nothing_else() -> None:
    told = words_of("Open the  drawer", BARE, 4096)
    assert told == words_of("open the drawer", BARE, 4096)
    assert len(told) == 3
    assert words_of("open the drawer", "hashed-words@1", 4096) == hashed_words(prompt("open the drawer"), 4096)


def test_an_instruction_without_a_word_is_a_fault_and_no_crash() -> None:
    with pytest.raises(PolicyFault, match="instruction ' ': this model reads its words alone"):
        words_of(" ", BARE, 4096)
