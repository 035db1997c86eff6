"""What inference runs is the model that ``head.py`` and ``backbone.py`` define, in another form."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import numpy as np  # noqa: E402

from rdvla_bench.policies.rdvla.config import NANO, NANO_CONV, HeadConfig, Transformer  # noqa: E402
from rdvla_bench.policies.rdvla.exit_rules import MeanSquaredChange  # noqa: E402
from rdvla_bench.policies.rdvla.head import RecurrentHead, Tap  # noqa: E402
from rdvla_bench.policies.rdvla.images import _transform, resize  # noqa: E402
from rdvla_bench.policies.rdvla.model import RdvlaModel, untrained  # noqa: E402
from rdvla_bench.policies.rdvla.prepared import PreparedHead, softmax_of_few, unit  # noqa: E402
from rdvla_bench.policies.rdvla.prepared_backbone import PreparedBackbone  # noqa: E402
from rdvla_bench.policies.rdvla.recurrence import iterate_to_exit  # noqa: E402

TOLERANCE = 1e-5
LATENTS, VISION, BATCH = 6, 10, 3
HEADS = {
    "released stack": HeadConfig(width=32, heads=4, prelude_taps=(0,), core_taps=(1, 1), coda_taps=(1,)),
    "one head": HeadConfig(width=32, heads=1, prelude_taps=(0,), core_taps=(1,), coda_taps=(2,)),
    "no prelude": HeadConfig(width=32, heads=4, prelude_taps=(), core_taps=(1, 2, 1), coda_taps=(0,)),
    "no coda": HeadConfig(width=32, heads=2, prelude_taps=(0, 1), core_taps=(1,), coda_taps=()),
    "another chunk": HeadConfig(
        width=48, heads=4, chunk=5, action=3, prelude_taps=(1,), core_taps=(1,), coda_taps=(1,)
    ),
}


def scrambled(module: torch.nn.Module, seed: int) -> None:
    """Draw every parameter, so that none (gates, gammas, norms, biases, layer scales) hides at a neutral value."""
    draws = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
        parameter.data = torch.randn(parameter.shape, generator=draws) / fan_in**0.5 + (parameter.ndim < 2)
    module.requires_grad_(requires_grad=False).eval()


def unlike(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference, as a share of the largest value."""
    assert a.shape == b.shape
    return float((a - b).abs().max() / b.abs().max())


def drawn_inputs(config: HeadConfig):
    draws = torch.Generator().manual_seed(1)
    taps = {
        tap: Tap(*(torch.randn(BATCH, n, config.width, generator=draws) for n in (LATENTS, VISION)))
        for tap in config.taps
    }
    shapes = (BATCH, 1, config.width), (BATCH, config.chunk, config.width)
    return taps, *(torch.randn(shape, generator=draws) for shape in shapes)


@pytest.mark.parametrize("config", HEADS.values(), ids=HEADS)
def test_the_prepared_head_is_the_head(config: HeadConfig) -> None:
    head = RecurrentHead(config)
    scrambled(head, seed=0)
    prepared, (taps, proprio, noise) = PreparedHead(head), drawn_inputs(config)
    given, its = head.condition(taps, proprio), prepared.condition(taps, proprio)
    s_pre, injected = head.encode(given), prepared.encode(its)
    state, same = head.scratchpad(noise), prepared.scratchpad(noise)
    for _ in range(3):
        before = same.clone()
        state, following = head.iterate(state, s_pre, given), prepared.iterate(same, injected, its)
        assert torch.equal(same, before)  # what it is given is not written into
        same = following
        assert unlike(same, state) < TOLERANCE
        assert unlike(prepared.decode(same, its), head.decode(state, given)) < TOLERANCE
        assert torch.equal(same, following)


def test_the_prepared_head_stops_where_the_head_stops_with_the_same_chunk() -> None:
    config = HEADS["released stack"]
    head = RecurrentHead(config)
    scrambled(head, seed=3)
    taps, proprio, noise = drawn_inputs(config)
    rule = MeanSquaredChange(delta=1e-5, max_depth=40)
    wanted, exits = (iterate_to_exit(h, h.condition(taps, proprio), noise, rule) for h in (head, PreparedHead(head)))
    assert [ended.depth for ended in exits] == [ended.depth for ended in wanted]
    assert 2 < exits[0].depth < 40
    for ended, want in zip(exits, wanted, strict=True):
        np.testing.assert_allclose(ended.chunk, want.chunk, rtol=0, atol=TOLERANCE * np.abs(want.chunk).max())


def test_preparing_a_head_leaves_it_as_it_was() -> None:
    head = RecurrentHead(HEADS["released stack"])
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    PreparedHead(head)
    assert all(torch.equal(tensor, before[name]) for name, tensor in head.state_dict().items())
    assert all(parameter.requires_grad for parameter in head.parameters())


def test_small_vectors_keep_the_epsilon_and_large_scores_do_not_overflow() -> None:
    small = torch.full((1, 16), 1e-4)
    torch.testing.assert_close(unit(small) * 4, torch.nn.functional.rms_norm(small, (16,), eps=1e-6))
    scores = torch.tensor([[1e4, 0.0, -1e4]])
    torch.testing.assert_close(softmax_of_few(scores), torch.softmax(scores, dim=-1))


BACKBONES = {
    "nano": NANO,
    "convolutions": NANO_CONV,
    "a key for each query": replace(
        NANO, backbone=replace(NANO.backbone, llm=Transformer(width=128, layers=4, heads=4, ffn=96))
    ),
    "one camera, the embedding read": replace(
        NANO,
        backbone=replace(NANO.backbone, cameras=("agentview",), patch=8),
        head=replace(NANO.head, prelude_taps=(0,), core_taps=(2, 1), coda_taps=(2,)),
    ),
    "only the embedding read": replace(NANO, head=replace(NANO.head, prelude_taps=(), core_taps=(0,), coda_taps=(0,))),
}


@pytest.mark.parametrize("config", BACKBONES.values(), ids=BACKBONES)
def test_the_prepared_backbone_is_the_backbone_for_texts_of_unequal_length(config) -> None:
    backbone = RdvlaModel(config).backbone
    scrambled(backbone, seed=2)
    draws, side = torch.Generator().manual_seed(4), config.backbone.image_size
    pixels = torch.rand(3, len(config.backbone.cameras), 3, side, side, generator=draws)
    texts = [list(range(7, 7 + n)) for n in (9, 23, 2)]
    token = torch.randn(3, 1, config.head.width, generator=draws)
    prepared = PreparedBackbone(backbone)
    for rows in ([0], [1, 0, 2]):  # the second longer than any before
        asked = pixels[rows], [texts[row] for row in rows], token[rows]
        with torch.inference_mode():
            wanted, taps = backbone(*asked), prepared(*asked)
        assert set(taps) == set(wanted)
        for tap, (latents, vision) in wanted.items():
            assert unlike(taps[tap].latents, latents) < TOLERANCE
            assert unlike(taps[tap].vision, vision) < TOLERANCE


def test_preparing_a_backbone_copies_no_large_weight() -> None:
    backbone = untrained(NANO, 0).backbone
    held = {tensor.data_ptr() for tensor in backbone.parameters()}
    towers = PreparedBackbone(backbone)._towers
    assert towers is not None
    for block in towers._dino:
        for module in (block.q, block.out, block.fc1, block.fc2):
            assert module.weight.data_ptr() in held


@pytest.mark.parametrize(("source", "target"), [(256, 64), (256, 224), (60, 64), (64, 64), (37, 20)])
def test_resizing_in_bands_is_the_whole_matrix(source: int, target: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (source, source, 3)).astype(np.uint8)
    matrix = _transform(source, target).double()
    wanted = matrix @ (torch.from_numpy(image).permute(2, 0, 1).double() / 255) @ matrix.T
    torch.testing.assert_close(resize(image, target), wanted.clamp(0, 1).float(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("start", ["noise", "zero"])
def test_a_prepared_head_starts_from_the_scratchpad_that_its_head_starts_from(start) -> None:
    head = RdvlaModel(replace(NANO, head=replace(NANO.head, start=start))).head
    unit_noise = torch.randn(2, NANO.head.chunk, NANO.head.width, generator=torch.Generator().manual_seed(0))
    wanted = head.scratchpad(unit_noise)
    assert bool(wanted.any()) == (start == "noise")
    torch.testing.assert_close(PreparedHead(head).scratchpad(unit_noise), wanted)
