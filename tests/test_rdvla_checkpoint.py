"""A folder in the released layout, at a small size: what is read of it, and what is said when it is wrong."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("PIL")

from safetensors.torch import load_file, save_file  # noqa: E402
from tiny_released import HEAD, HEAD_CONFIG, INSTRUCTION, PROPRIO, TINY, build, statistics, tokenizer  # noqa: E402
from tokenizers import Tokenizer, models  # noqa: E402

from rdvla_bench.errors import UsageError  # noqa: E402
from rdvla_bench.policies import rdvla  # noqa: E402
from rdvla_bench.policies.horizon import FixedHorizon  # noqa: E402
from rdvla_bench.policies.rdvla import config as configs  # noqa: E402
from rdvla_bench.policies.rdvla.checkpoint import FILES, load, locate  # noqa: E402
from rdvla_bench.policies.rdvla.config import NANO, RDVLA_05B, RdvlaConfig  # noqa: E402
from rdvla_bench.policies.rdvla.exit_rules import FixedDepth  # noqa: E402
from rdvla_bench.policies.rdvla.model import RdvlaModel, untrained  # noqa: E402
from rdvla_bench.policies.rdvla.policy import RdvlaPolicy  # noqa: E402
from rdvla_bench.policies.rdvla.released import gripper_to_env, jpeg, transform  # noqa: E402
from rdvla_bench.policies.rdvla.statistics import parse  # noqa: E402
from rdvla_bench.policies.rdvla.tokens import prompt  # noqa: E402
from rdvla_bench.policies.rdvla.weights import digest  # noqa: E402
from rdvla_bench.seeding import generator  # noqa: E402
from rdvla_bench.types import Observation  # noqa: E402


@pytest.fixture
def model() -> RdvlaModel:
    return untrained(TINY, 3)


@pytest.fixture
def folder(tmp_path: Path, model: RdvlaModel, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(cast("dict[str, RdvlaConfig]", configs.CONFIGS), "tiny", TINY)
    return build(tmp_path / "12_24-24_24_Spatial_40k", model)


def observation(seed: int = 0) -> Observation:
    rng = np.random.default_rng(seed)
    images = {camera: rng.integers(0, 256, (64, 64, 3)).astype(np.uint8) for camera in ("agentview", "wrist")}
    return {"images": images, "proprio": rng.normal(0, 0.5, 8).astype(np.float32), "instruction": INSTRUCTION}


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def test_a_saved_model_answers_as_before_and_nothing_is_written(folder: Path, model: RdvlaModel) -> None:
    before = contents(folder)
    policy = cast("RdvlaPolicy", rdvla.fixed(depth=3, config="tiny", checkpoint=str(folder)))
    original = RdvlaPolicy(model, policy.card, FixedDepth(3), FixedHorizon(5), interface=policy.interface)
    for seed in range(3):
        one, two = (p.act(observation(seed), None, generator("query", seed))[0] for p in (policy, original))
        np.testing.assert_array_equal(one.actions, two.actions)
        assert one.actions.shape == (8, 7)
        assert np.abs(one.actions).max() <= 1
        assert set(np.unique(one.actions[:, 6])) <= {-1.0, 0.0, 1.0}
    assert contents(folder) == before


def test_the_card_names_the_weights_and_carries_what_their_digest_leaves_out(folder: Path) -> None:
    policy = cast("RdvlaPolicy", rdvla.pure(config="tiny", checkpoint=str(folder)))
    card = policy.card
    assert card.weights == "12_24-24_24_Spatial_40k"
    assert card.weights_sha256 == digest(policy.model)
    assert card.config["checkpoint"] == card.weights  # no path: the same weights elsewhere are the same policy
    assert card.config["unnorm_key"] == "libero_spatial_no_noops"
    assert card.config["interface"]["action"]["mask"] == [True] * 6 + [False]
    assert card.config["model"]["backbone"]["tokenizer"] == "qwen2.5"
    assert str(folder.parent) not in json.dumps(card.to_json())
    assert card.hash != rdvla.pure(config="tiny", checkpoint="untrained").card.hash


def test_the_heads_taps_come_from_the_folder(folder: Path) -> None:
    edit_json(HEAD_CONFIG, lambda d: d.update(recurrent_vlm_layers=[2, 2], prelude_vlm_layers=[1]))(folder)
    loaded = load(str(folder), TINY, None)
    assert loaded.model.config.head.core_taps == (2, 2)
    assert loaded.model.backbone.taps == (1, 2)


def test_a_sharded_vlm_is_the_same_vlm(folder: Path) -> None:
    whole = load(str(folder), TINY, None).model.state_dict()
    shard(folder)
    sharded = load(str(folder), TINY, None).model.state_dict()
    assert all(torch.equal(tensor, sharded[name]) for name, tensor in whole.items())


def shard(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    listed = {}
    for i, names in enumerate((list(tensors)[::2], list(tensors)[1::2]), 1):
        name = f"model-0000{i}-of-00002.safetensors"
        save_file({n: tensors[n] for n in names}, folder / name)
        listed |= dict.fromkeys(names, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))


Damage = Callable[[Path], object]


def edit_json(name: str, edit: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        document = json.loads((folder / name).read_text())
        edit(document)
        (folder / name).write_text(json.dumps(document))

    return damage


def edit_pt(name: str, edit: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        tensors = torch.load(folder / name, weights_only=True)
        edit(tensors)
        torch.save(tensors, folder / name)

    return damage


def edit_vlm(edit: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        edit(tensors)
        save_file(tensors, folder / "model.safetensors")

    return damage


def overwrite(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def action(entry: dict[str, Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", entry["libero_spatial_no_noops"]["action"])


class Malice:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("/nonexistent/ran"),)


GATE = "model.recurrent.0.gate"
QKV = "vision_backbone.featurizer.blocks.0.attn.qkv.weight"
STATISTICS = "dataset_statistics.json"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / HEAD).unlink(), f"expected one file {FILES['head']}, found none"),
        (lambda f: (f / PROPRIO).unlink(), f"expected one file {FILES['proprio']}, found none"),
        (lambda f: (f / "model.safetensors").unlink(), "expected one file model.safetensors, found none"),
        (lambda f: (f / "config.json").unlink(), "expected one file config.json, found none"),
        (lambda f: (f / HEAD_CONFIG).unlink(), f"expected one file {FILES['head config']}, found none"),
        (lambda f: (f / STATISTICS).unlink(), f"expected one file {STATISTICS}, found none"),
        (lambda f: (f / "tokenizer.json").unlink(), "expected one file tokenizer.json, found none"),
        (
            lambda f: (f / "action_head--50000_checkpoint.pt").write_bytes((f / HEAD).read_bytes()),
            f"found 2: {HEAD}, action_head--50000_checkpoint.pt",
        ),
        (edit_pt(HEAD, lambda t: t.pop(GATE)), f"{HEAD}: no tensor '{GATE}'"),
        (edit_pt(HEAD, lambda t: t.update({"model.extra": t[GATE]})), f"{HEAD}: tensor 'model.extra' is not known"),
        (edit_pt(HEAD, lambda t: t.update({GATE: torch.zeros(2)})), f"'{GATE}' is (2,), expected (1,)"),
        (edit_pt(HEAD, lambda t: t[GATE].fill_(math.nan)), f"'{GATE}' has 1 of 1 values NaN"),
        (edit_pt(HEAD, lambda t: t.update({GATE: 3})), "expected tensors by name"),
        (
            edit_pt(PROPRIO, lambda t: t.update({"module.fc1.weight": torch.zeros(32, 14)})),
            "(32, 14), expected (32, 8)",
        ),
        (overwrite(HEAD, b""), f"{HEAD}: cannot be read: "),
        (overwrite(HEAD, b"PK\x03\x04 not a zip"), f"{HEAD}: cannot be read: "),
        (lambda f: torch.save({"fc1.weight": Malice()}, f / PROPRIO), f"{PROPRIO}: cannot be read: Weights only load"),
        (edit_vlm(lambda t: t.pop(QKV)), f"model.safetensors: no tensor '{QKV}'"),
        (edit_vlm(lambda t: t.update({"lora_A": torch.zeros(1)})), "tensor 'lora_A' is not known"),
        (edit_vlm(lambda t: t.update({QKV: torch.zeros(72, 25)})), f"'{QKV}' is (72, 25), expected (72, 24)"),
        (edit_vlm(lambda t: t[QKV].fill_(math.inf)), f"'{QKV}' has 1728 of 1728 values NaN or infinite"),
        (overwrite("model.safetensors", b"\x08\0\0\0\0\0\0\0garbage!"), "model.safetensors: cannot be read: "),
        (
            lambda f: (shard(f), (f / "model-00002-of-00002.safetensors").unlink()),
            "its shard model-00002-of-00002.safetensors is missing",
        ),
        (
            lambda f: (
                shard(f),
                edit_json("model.safetensors.index.json", lambda d: d.update(weight_map={"a": "../b"}))(f),
            ),
            "expected 'weight_map', tensor names to file names",
        ),
        (edit_json(HEAD_CONFIG, lambda d: d.update(action_dim=14)), "action_dim is 14, expected 7: a checkpoint of an"),
        (
            edit_json(HEAD_CONFIG, lambda d: d.update(action_chunk_len=25)),
            "action_chunk_len is 25, expected 8: a check",
        ),
        (edit_json(HEAD_CONFIG, lambda d: d.update(hidden_dim=64)), "hidden_dim is 64, expected 32"),
        (edit_json(HEAD_CONFIG, lambda d: d.update(rope_base=5e5)), "rope_base is 500000.0, expected 10000.0"),
        (
            edit_json(HEAD_CONFIG, lambda d: d.update(use_persistent_memory=True)),
            "'use_persistent_memory' is not known",
        ),
        (edit_json(HEAD_CONFIG, lambda d: d.pop("init_std")), "no field 'init_std'"),
        (edit_json(HEAD_CONFIG, lambda d: d.update(init_std="big")), "init_std is 'big', expected a number"),
        (edit_json(HEAD_CONFIG, lambda d: d.update(coda_vlm_layers=1)), "coda_vlm_layers is 1, expected a list"),
        (edit_json(HEAD_CONFIG, lambda d: d.update(recurrent_vlm_layers=[])), "a head without a core"),
        (edit_json(HEAD_CONFIG, lambda d: d.update(coda_vlm_layers=[23])), "taps (0, 1, 23) are not all in 0..2"),
        (edit_json("config.json", lambda d: d["text_config"].update(hidden_size=64)), "text_config.hidden_size is 64"),
        (edit_json("config.json", lambda d: d.pop("text_config")), "text_config.hidden_size is None"),
        (edit_json("config.json", lambda d: d.update(image_sizes=[384, 384])), "image_sizes is [384, 384]"),
        (overwrite("config.json", b"{"), "config.json: cannot be read: "),
        (overwrite("config.json", b"[]"), "config.json: expected a JSON object"),
        (edit_json(STATISTICS, lambda d: d.update(bridge_orig={})), "2 data sets; choose one with --set unnorm_key="),
        (edit_json(STATISTICS, lambda d: d.clear()), "0 data sets; choose one with --set unnorm_key=, of: none"),
        (edit_json(STATISTICS, lambda d: action(d).pop("q99")), "libero_spatial_no_noops.action: no 'q99'"),
        (edit_json(STATISTICS, lambda d: action(d).update(q01=[0] * 14)), "q01: expected 7 numbers, got shape (14,)"),
        (edit_json(STATISTICS, lambda d: action(d).update(q01=["a"] * 7)), "q01: expected 7 numbers, got ['a'"),
        (edit_json(STATISTICS, lambda d: action(d).update(q01=[9.0] * 7)), "q01 exceeds q99 in dimension 0"),
        (edit_json(STATISTICS, lambda d: action(d).update(q01=[math.nan] * 7)), "q01: not finite in dimension 0"),
        (edit_json(STATISTICS, lambda d: d["libero_spatial_no_noops"].pop("proprio")), "no 'proprio' statistics"),
        (overwrite("tokenizer.json", b"{}"), "tokenizer.json: no tokenizer can be built of it"),
        (
            lambda f: Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(f / "tokenizer.json")),
            "no token '<|im_start|>': not Qwen2.5's tokenizer",
        ),
        (
            lambda f: Tokenizer(models.WordLevel({f"w{i}": i for i in range(97)})).save(str(f / "tokenizer.json")),
            "97 tokens, the model embeds 96",
        ),
    ],
)
def test_each_way_in_which_a_folder_is_wrong_is_one_line(folder: Path, damage: Damage, message: str) -> None:
    damage(folder)
    with pytest.raises(UsageError) as caught:
        load(str(folder), TINY, None)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value) or "taps" in message


def test_a_missing_statistics_key_names_the_available_ones(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"no statistics 'libero_spatial'.* \(available: libero_spatial_no_noops\)"):
        rdvla.pure(config="tiny", checkpoint=str(folder), unnorm_key="libero_spatial")


def test_a_folder_of_another_size_is_named(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"hidden_size is 32, config rdvla-0.5b expects 896"):
        rdvla.pure(checkpoint=str(folder))
    with pytest.raises(UsageError, match=r"hidden_size is 32, config nano expects 128"):
        load(str(folder), NANO, None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"checkpoint": "no/such/folder"}, "checkpoint no/such/folder: does not exist"),
        ({"checkpoint": __file__}, "is a file, not a folder"),
        ({"checkpoint": "hf://only-a-name"}, "expected hf://owner/name or hf://owner/name@revision"),
        ({"unnorm_key": "libero_10_no_noops"}, "no effect without checkpoint="),
        ({"checkpoint": ".", "weights_seed": 1}, "no effect without checkpoint=untrained"),
        ({"checkpoint": ".", "horizon": 9}, "horizon 9 exceeds the chunk of 8 actions"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rdvla.pure(**settings)


def test_a_name_on_the_hub_is_downloaded_and_pinned_to_its_commit(folder: Path, monkeypatch) -> None:
    asked = {}

    def snapshot(repository: str, **options: Any) -> str:
        asked.update(options, repository=repository)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    found = locate("hf://hqfang/12_24-24_24_Spatial_40k@main")
    assert asked["repository"] == "hqfang/12_24-24_24_Spatial_40k"
    assert asked["revision"] == "main"
    assert not any(pattern.endswith(".py") for pattern in asked["allow_patterns"])
    assert found.name == f"hf://hqfang/12_24-24_24_Spatial_40k@{folder.name}"
    assert load("hf://hqfang/12_24-24_24_Spatial_40k", TINY, None).name == found.name


def test_an_unreachable_hub_is_one_line_that_says_what_to_do(monkeypatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match=r"hf download hqfang/x --local-dir FOLDER") as caught:
        locate("hf://hqfang/x")
    assert "\n" not in str(caught.value)


def test_q99_scaling_by_hand() -> None:
    found = parse(statistics(), None, 7, 8, "file")
    chunk = np.array([[-1, 0, 1, 1, -1, 0.5, 0.9]], np.float32)
    restored = found.action.restore(chunk)
    np.testing.assert_allclose(restored, [[-0.9, -0.1, 0.7, 0.1, -0.2, 0.225, 0.9]], atol=1e-6)
    np.testing.assert_allclose(found.action.normalise(restored), chunk, atol=1e-6)
    np.testing.assert_allclose(found.action.restore(np.full((1, 7), 1.5, np.float32))[0, 0], 1.35, atol=1e-6)  # no clip
    far = np.full(8, 100.0, np.float32)
    np.testing.assert_array_equal(found.proprio.normalise(far), np.ones(8))
    still = parse({"a": {k: {"q01": [2.0], "q99": [2.0]} for k in ("action", "proprio")}}, "a", 1, 1, "file")
    assert np.isfinite(still.proprio.normalise(np.array([2.0], np.float32))).all()


def test_gripper_is_closed_below_one_half_and_open_above() -> None:
    values = np.array([0.0, 0.49, 0.5, 0.51, 1.3], np.float32)
    np.testing.assert_array_equal(gripper_to_env(values, opens=-1.0), [1, 1, 0, -1, -1])
    np.testing.assert_array_equal(gripper_to_env(values, opens=1.0), [-1, -1, 0, 1, 1])


def test_images_go_through_the_released_steps() -> None:
    flat = np.full((256, 256, 3), 77, np.uint8)
    seen = transform(flat, 224)
    assert seen.shape == (3, 224, 224)
    assert seen.dtype == torch.uint8
    assert set(seen.unique().tolist()) == {77}
    framed = flat.copy()
    framed[:3] = framed[-3:] = framed[:, :3] = framed[:, -3:] = 255  # inside the 2.6 % that the crop removes a side
    assert (transform(framed, 224)[:, 2:-2, 2:-2].int() - 77).abs().max() <= 4  # the JPEG's ringing
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    assert not np.array_equal(jpeg(noise), noise)
    small = noise[:224, :224]
    matrix_only = transform(small, 224)  # 224 already: neither JPEG nor Lanczos
    assert abs(int(matrix_only[0, 0, 0]) - int(noise[5:7, 5:7, 0].mean())) < 60


def test_tokens_are_the_files_own(folder: Path) -> None:
    loaded = load(str(folder), TINY, None)
    ids = loaded.interface.tokens("PICK up the milk")
    assert ids == tokenizer().encode(prompt(INSTRUCTION)).ids
    assert ids[0] == tokenizer().token_to_id("<|im_start|>")


def test_the_papers_config_expects_the_papers_towers(folder: Path) -> None:
    llm = RDVLA_05B.backbone.llm
    text = {
        **{"hidden_size": llm.width, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2},
        **{"intermediate_size": 4864, "vocab_size": 151_936, "rope_theta": 1e6},
    }
    document = {"image_sizes": [224, 224], "text_config": text, "timm_model_ids": ["vit_base", "vit_so400m"]}
    (folder / "config.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"timm_model_ids is \['vit_base', 'vit_so400m'\], expected"):
        load(str(folder), RDVLA_05B, None)
