"""The released names against ours: every tensor has its place, in both directions, and computes the same."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from transformers import Qwen2Config, Qwen2ForCausalLM  # noqa: E402

from rdvla_bench.errors import UsageError  # noqa: E402
from rdvla_bench.policies.rdvla.config import (  # noqa: E402
    RDVLA_05B,
    BackboneConfig,
    HeadConfig,
    RdvlaConfig,
    Transformer,
)
from rdvla_bench.policies.rdvla.images import HALVES, IMAGENET, normalise  # noqa: E402
from rdvla_bench.policies.rdvla.keymap import OURS_ALONE, Part, from_released, rules, to_released  # noqa: E402
from rdvla_bench.policies.rdvla.model import RdvlaModel, untrained  # noqa: E402

# No two widths are equal, so that no two tensors can change places unseen.
TINY = RdvlaConfig(
    name="tiny",
    backbone=BackboneConfig(
        dino=Transformer(width=24, layers=3, heads=2, ffn=96),
        siglip=Transformer(width=40, layers=3, heads=4, ffn=72),
        llm=Transformer(width=32, layers=3, heads=4, ffn=56, kv_heads=2),
        image_size=24,
        patch=8,
        vocab=96,
    ),
    head=HeadConfig(width=32, heads=4, prelude_taps=(1,), core_taps=(2, 2), coda_taps=(2,)),
)
WHERE = {part: f"{part}.file" for part in Part}
DINO, SIGLIP = "vision_backbone.featurizer", "vision_backbone.fused_featurizer"


def released(config: RdvlaConfig = TINY, seed: int = 0) -> dict[Part, dict[str, Tensor]]:
    """Return random weights under the released names, of a scale at which no part of the model saturates."""
    with torch.device("meta"):
        wanted = to_released(RdvlaModel(config).state_dict(), config.backbone)
    draws = torch.Generator().manual_seed(seed)

    def draw(like: Tensor) -> Tensor:
        scale = 1 / math.sqrt(math.prod(like.shape[1:])) if like.ndim > 1 else 0.3
        return torch.randn(like.shape, generator=draws) * scale

    return {part: {name: draw(like) for name, like in tensors.items()} for part, tensors in wanted.items()}


def loaded(files: dict[Part, dict[str, Tensor]]) -> RdvlaModel:
    model = untrained(TINY, 0)
    model.load_state_dict(from_released(files, TINY, WHERE))
    return model


@pytest.mark.parametrize("config", [TINY, RDVLA_05B], ids=lambda c: c.name)
def test_every_parameter_has_one_released_place(config: RdvlaConfig) -> None:
    with torch.device("meta"):
        names = RdvlaModel(config).state_dict()
    placed = [name for listed in rules(config.backbone, names).values() for rule in listed for name in rule.ours]
    assert sorted([*placed, *OURS_ALONE]) == sorted(names)
    for listed in rules(config.backbone, names).values():
        theirs = [name for rule in listed for name in rule.released]
        assert len(theirs) == len(set(theirs))


def test_released_names_and_shapes_at_the_papers_size() -> None:
    with torch.device("meta"):
        files = to_released(RdvlaModel(RDVLA_05B).state_dict(), RDVLA_05B.backbone)
    shapes = {name: tuple(tensor.shape) for tensors in files.values() for name, tensor in tensors.items()}
    # timm 0.9 gives the towers' names, transformers 4.40 Qwen2's; 14 tensors a DINOv2 block, 12 a SigLIP, 12 a Qwen2.
    assert len(files[Part.VLM]) == (7 + 24 * 14) + (5 + 27 * 12) + 6 + (2 + 24 * 12) + 1
    assert (
        shapes.items()
        >= {
            f"{DINO}.cls_token": (1, 1, 1024),
            f"{DINO}.reg_token": (1, 4, 1024),
            f"{DINO}.pos_embed": (1, 256, 1024),  # no position for the class token
            f"{DINO}.patch_embed.proj.weight": (1024, 3, 14, 14),
            f"{DINO}.blocks.23.attn.qkv.weight": (3072, 1024),
            f"{DINO}.blocks.23.ls2.scale_factor": (1024,),
            f"{DINO}.norm.bias": (1024,),
            f"{SIGLIP}.pos_embed": (1, 256, 1152),
            f"{SIGLIP}.blocks.26.attn.qkv.bias": (3456,),
            f"{SIGLIP}.blocks.26.mlp.fc1.weight": (4304, 1152),
            "projector.fc1.weight": (8704, 2176),
            "projector.fc3.bias": (896,),
            "language_model.model.embed_tokens.weight": (151_936, 896),
            "language_model.model.layers.23.self_attn.k_proj.bias": (128,),
            "language_model.model.norm.weight": (896,),
            "action_queries.weight": (64, 896),
            "model.action_queries": (8, 896),
            "model.recurrent.1.k_latents.weight": (896, 896),
            "model.coda.0.gate": (1,),
            "fc1.weight": (896, 8),
        }.items()
    )


def test_released_weights_come_back_unchanged() -> None:
    files = released()
    back = to_released(from_released(files, TINY, WHERE), TINY.backbone)
    for part in Part:
        assert set(back[part]) == set(files[part])
        for name, tensor in files[part].items():
            torch.testing.assert_close(back[part][name], tensor, rtol=0, atol=0, msg=name)


def test_our_weights_come_back_as_the_same_function() -> None:
    model = untrained(TINY, 3)
    other = loaded(to_released(model.state_dict(), TINY.backbone))
    pixels = torch.rand(2, 2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    texts, proprio = [[5, 6, 7], [8, 9]], torch.linspace(-1, 1, 16).view(2, 8)
    with torch.inference_mode():
        one, two = (m.condition(pixels, texts, proprio) for m in (model, other))
    for left, right in zip(one.core + one.coda + one.prelude, two.core + two.coda + two.prelude, strict=True):
        torch.testing.assert_close(left.keys, right.keys, rtol=1e-6, atol=1e-6)
    # All but the class token's position, which is folded into the class token.
    changed = [n for n, t in model.state_dict().items() if not torch.equal(t, other.state_dict()[n])]
    assert set(changed) == {f"backbone.vision.dino.embeddings.{n}" for n in ("cls_token", "position_embeddings")}


def timm_tower(pixels: Tensor, weights: dict[str, Tensor], tower: str, heads: int, layers: int) -> Tensor:
    """Return the second-to-last block's patches, written down from timm 0.9's VisionTransformer and its names."""
    w = {name.removeprefix(tower + "."): tensor for name, tensor in weights.items() if name.startswith(tower + ".")}
    x = F.conv2d(pixels, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=8).flatten(2).mT
    x = x + w["pos_embed"]
    prefix = [w[name].expand(len(x), -1, -1) for name in ("cls_token", "reg_token") if name in w]
    x = torch.cat([*prefix, x], dim=1)

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    for i in range(layers - 1):
        block = f"blocks.{i}"
        qkv = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").unflatten(2, (3, heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = ((q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + linear(mixed, f"{block}.attn.proj") * w.get(f"{block}.ls1.scale_factor", torch.ones(1))
        hidden = F.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x = x + linear(hidden, f"{block}.mlp.fc2") * w.get(f"{block}.ls2.scale_factor", torch.ones(1))
    return x[:, sum(p.shape[1] for p in prefix) :]


def test_towers_compute_what_timms_compute_with_the_same_file() -> None:
    files = released()
    pixels = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(2))
    vlm = files[Part.VLM]
    want = torch.cat(
        [
            timm_tower(normalise(pixels, IMAGENET), vlm, DINO, heads=2, layers=3),
            timm_tower(normalise(pixels, HALVES), vlm, SIGLIP, heads=4, layers=3),
        ],
        dim=-1,
    )
    with torch.inference_mode():
        torch.testing.assert_close(loaded(files).backbone.vision(pixels[:, None]), want, rtol=1e-4, atol=1e-5)


def released_states(patches: Tensor, text: list[int], vlm: dict[str, Tensor]) -> Tensor:
    """Return all hidden states, (layers + 1, positions, D), as the released model puts its sequence together."""
    size = TINY.backbone.llm
    config = Qwen2Config(
        vocab_size=TINY.backbone.vocab,
        hidden_size=size.width,
        intermediate_size=size.ffn,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        model = Qwen2ForCausalLM(config).eval()
    prefix = "language_model."
    weights = {name.removeprefix(prefix): tensor for name, tensor in vlm.items() if name.startswith(prefix)}
    assert model.load_state_dict(weights, strict=False).missing_keys in ([], ["lm_head.weight"])
    embedded = model.get_input_embeddings()(torch.tensor([[*text, *[1] * 64, 2]])).clone()  # placeholders, stop token
    embedded[:, len(text) : len(text) + 64] = vlm["action_queries.weight"]
    sequence = torch.cat([embedded[:, :1], patches, embedded[:, 1:]], dim=1)
    states = model.model(inputs_embeds=sequence, output_hidden_states=True).hidden_states
    return torch.cat(states)


def test_taps_are_the_released_slices_of_the_released_sequence() -> None:
    files = released()
    backbone = loaded(files).backbone
    pixels = torch.rand(1, 2, 3, 24, 24, generator=torch.Generator().manual_seed(4))
    text = [5, 17, 3, 80, 41]
    with torch.inference_mode():
        taps = backbone(pixels, [text])
        patches = backbone.projector(backbone.vision(pixels[:1]))
        states = released_states(patches, text, files[Part.VLM])
    n_patches, n_prompt = patches.shape[1], len(text) - 1  # the script's NUM_PATCHES and NUM_PROMPT_TOKENS
    for layer, tap in taps.items():
        start = n_patches + n_prompt
        torch.testing.assert_close(tap.vision[0], states[layer, :n_patches], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(tap.latents[0], states[layer, start : start + 64], rtol=1e-4, atol=1e-5)


def test_what_nothing_reads_may_be_there_or_not() -> None:
    files = released()
    files[Part.VLM] |= {
        f"{SIGLIP}.attn_pool.latent": torch.zeros(1, 1, 40),
        f"{SIGLIP}.attn_pool.mlp.fc1.weight": torch.zeros(160, 40),
        "language_model.lm_head.weight": torch.zeros(96, 32),
    }
    plain = from_released(released(), TINY, WHERE)
    for name, tensor in from_released(files, TINY, WHERE).items():
        assert torch.equal(tensor, plain[name])


def test_wrapped_names_and_half_precision_are_read() -> None:
    files = released()
    files[Part.PROPRIO] = {f"module.{name}": tensor for name, tensor in files[Part.PROPRIO].items()}
    files[Part.HEAD] = {f"module.{name}": tensor.bfloat16() for name, tensor in files[Part.HEAD].items()}
    state = from_released(files, TINY, WHERE)
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert torch.equal(state["head.adapter.weight"], files[Part.HEAD]["module.model.adapter.weight"].float())


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (Part.VLM, f"{DINO}.blocks.1.attn.qkv.weight"),
        (Part.VLM, f"{SIGLIP}.pos_embed"),
        (Part.VLM, "language_model.model.layers.2.mlp.up_proj.weight"),
        (Part.VLM, "action_queries.weight"),
        (Part.HEAD, "model.coda.0.k_vision.weight"),
        (Part.PROPRIO, "fc2.bias"),
    ],
)
def test_a_wrong_tensor_is_reported_by_its_name_and_file(part: Part, name: str) -> None:
    def refused(change: dict[str, Tensor]) -> str:
        files = released()
        kept = {n: t for n, t in files[part].items() if n != name}
        with pytest.raises(UsageError) as caught:
            from_released({**files, part: kept | change}, TINY, WHERE)
        assert str(caught.value).startswith(f"{part}.file: ")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    good = released()[part][name]
    assert f"no tensor '{name}'" in refused({})
    misspelt = refused({f"{name}s": good})
    assert f"no tensor '{name}'; it has '{name}s'" in misspelt
    unknown = refused({name: good, f"{name}s": good})
    assert f"tensor '{name}s' is not known" in unknown
    assert f"Did you mean '{name}'?" in unknown
    other = torch.zeros(*good.shape[:-1], good.shape[-1] + 1)
    assert f"'{name}' is {tuple(other.shape)}, expected {tuple(good.shape)}" in refused({name: other})
    assert "int64, expected floating point" in refused({name: good.long()})
    broken = good.clone()
    broken.view(-1)[0] = math.nan
    assert f"'{name}' has 1 of {good.numel()} values NaN" in refused({name: broken})


def test_a_head_without_a_prelude_has_a_map_too() -> None:
    config = RdvlaConfig(
        "tiny", TINY.backbone, HeadConfig(width=32, heads=4, prelude_taps=(), core_taps=(2, 2), coda_taps=())
    )
    state = from_released(released(config), config, WHERE)
    assert not any(name.startswith(("head.prelude", "head.coda")) for name in state)
