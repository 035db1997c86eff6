"""RD-VLA as a policy: the same bits for the same query, a depth that varies, a cost that is true."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from typing import cast

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from rdvla_bench.errors import PolicyFault, UnknownName, UsageError  # noqa: E402
from rdvla_bench.policies import rdvla  # noqa: E402
from rdvla_bench.policies.rdvla.config import NANO, RDVLA_05B  # noqa: E402
from rdvla_bench.policies.rdvla.flops import query_flops  # noqa: E402
from rdvla_bench.policies.rdvla.images import resize  # noqa: E402
from rdvla_bench.policies.rdvla.model import RdvlaModel  # noqa: E402
from rdvla_bench.policies.rdvla.policy import BATCH_TOLERANCE, RdvlaPolicy  # noqa: E402
from rdvla_bench.policies.rdvla.tokens import hashed_words, prompt  # noqa: E402
from rdvla_bench.policies.rdvla.weights import digest  # noqa: E402
from rdvla_bench.seeding import generator  # noqa: E402
from rdvla_bench.types import Observation  # noqa: E402

# Recorded with numpy 2.4.6; a change means that the weights of every untrained run before it were others.
NANO_SHA256 = "17e3b4a5ce01fddda1aa7fb582ac0b464184dcf4809faf88d6c145392d7d03be"
INSTRUCTIONS = ("pick up the milk", "turn on the stove and put the moka pot on it", "open the drawer")


def observation(i: int, size: int = 256) -> Observation:
    rng = np.random.default_rng(i)
    block = size // 8
    images = {
        camera: np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((block, block, 1))).astype(np.uint8)
        for camera in ("agentview", "wrist")
    }
    return {
        "images": images,
        "proprio": rng.normal(0, 0.5, 8).astype(np.float32),
        "instruction": INSTRUCTIONS[i % len(INSTRUCTIONS)],
    }


@pytest.fixture(scope="module")
def policy() -> RdvlaPolicy:
    return cast("RdvlaPolicy", rdvla.adaptive(checkpoint="untrained"))


@pytest.fixture(scope="module")
def alone(policy: RdvlaPolicy):
    return [policy.act(observation(i), None, generator("query", i))[0] for i in range(24)]


def fingerprint(policy: RdvlaPolicy, n: int = 3) -> str:
    sha = hashlib.sha256(policy.card.weights_sha256.encode())
    for i in range(n):
        chunk, _ = policy.act(observation(i), None, generator("query", i))
        sha.update(chunk.actions.tobytes() + json.dumps([chunk.compute.depth, chunk.compute.exit_trace]).encode())
    return sha.hexdigest()


def test_chunks_keep_the_contract(alone) -> None:
    for chunk in alone:
        assert chunk.actions.shape == (8, 7)
        assert chunk.actions.dtype == np.float32
        assert np.abs(chunk.actions).max() <= 1
        assert len(chunk.compute.exit_trace) == chunk.compute.depth - 1
        assert chunk.compute.model_s > 0
        assert chunk.compute.batch_size == 1


def test_depth_varies_between_queries_without_training(alone) -> None:
    depths = [chunk.compute.depth for chunk in alone]
    assert len(set(depths)) >= 3
    assert 3 < np.mean(depths) < 16
    assert max(depths) < 32


def test_actions_depend_on_image_proprio_instruction_and_noise(policy: RdvlaPolicy, alone) -> None:
    base = observation(0)
    others = [
        ({**base, "images": observation(3)["images"]}, 0),
        ({**base, "proprio": base["proprio"] + 0.5}, 0),
        ({**base, "instruction": "open the drawer"}, 0),
        (base, 1),
    ]
    for obs, seed in others:
        changed, _ = policy.act(cast("Observation", obs), None, generator("query", seed))
        assert not np.array_equal(changed.actions, alone[0].actions)


def test_same_query_gives_the_same_bits_in_another_process(policy: RdvlaPolicy) -> None:
    code = (
        "import importlib.util as u, sys; s = u.spec_from_file_location('t', sys.argv[1]); m = u.module_from_spec(s);"
        "s.loader.exec_module(m); print(m.fingerprint(m.rdvla.adaptive(checkpoint='untrained')))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "7"}
    other = subprocess.run(
        [sys.executable, "-c", code, __file__], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert other.stdout.strip() == fingerprint(policy)


def test_threads_of_the_process_change_no_bit_and_are_restored(policy: RdvlaPolicy) -> None:
    before = torch.get_num_threads()
    want = fingerprint(policy, 1)
    try:
        torch.set_num_threads(2)
        assert fingerprint(policy, 1) == want
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_global_generators_are_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one = fingerprint(cast("RdvlaPolicy", rdvla.adaptive(checkpoint="untrained")), 1)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    torch.manual_seed(2)
    assert fingerprint(cast("RdvlaPolicy", rdvla.adaptive(checkpoint="untrained")), 1) == one


@pytest.mark.parametrize("order", [range(24), [5], [23, 0, 11, 4, 7], [2, 2, 2]])
def test_a_sample_does_not_depend_on_its_batch_neighbours(policy: RdvlaPolicy, alone, order) -> None:
    batch = policy.act_batch(
        [observation(i) for i in order], [None] * len(order), [generator("query", i) for i in order]
    )
    for i, (chunk, _) in zip(order, batch, strict=True):
        assert chunk.compute.depth == alone[i].compute.depth
        assert chunk.compute.flops == alone[i].compute.flops
        assert chunk.compute.batch_size == len(order)
        np.testing.assert_allclose(chunk.actions, alone[i].actions, rtol=0, atol=BATCH_TOLERANCE)


def test_weights_are_the_recorded_ones_and_differ_by_seed(policy: RdvlaPolicy) -> None:
    assert policy.card.weights_sha256 == NANO_SHA256
    other = cast("RdvlaPolicy", rdvla.fixed(checkpoint="untrained", weights_seed=1))
    assert other.card.weights_sha256 != NANO_SHA256
    assert digest(other.model) == other.card.weights_sha256


def test_analytic_flops_agree_with_torchs_counter() -> None:
    fixed = cast("RdvlaPolicy", rdvla.fixed(checkpoint="untrained", depth=5))
    # Torch's counter has no formula for the CPU's fused attention, nor for a product that adds in place.
    in_place = {torch.ops.aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1]}
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        chunk, _ = fixed.act(observation(1), None, generator("query", 1))
    assert chunk.compute.flops == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_flops_grow_by_the_same_amount_with_each_iteration() -> None:
    costs = [query_flops(RDVLA_05B, (256, 256), 45, depth, 1) for depth in (1, 2, 12)]
    assert costs[2] - costs[1] == 10 * (costs[1] - costs[0]) > 0


def test_cards_tell_everything_the_result_depends_on(policy: RdvlaPolicy) -> None:
    card = policy.card
    assert card.weights == "untrained"
    assert card.cameras == ("agentview", "wrist")
    assert card.chunk == 8
    assert card.exit_rule == {
        **{"rule": "chunk-change", "scale": "mean square (code, Table II)"},
        **{"delta": 5e-4, "max_depth": 32, "min_depth": 2},
    }
    assert card.horizon["sense"].startswith("paper eq. 8")
    assert card.config["config"] == "nano"
    assert card.config["delta"] == 5e-4
    assert json.loads(json.dumps(card.to_json())) == card.to_json()
    assert rdvla.adaptive(checkpoint="untrained", sense="released").card.horizon["tau"] == 4
    assert rdvla.adaptive(checkpoint="untrained", delta=1e-3).card.hash != card.hash


def test_the_four_policies_differ_in_exit_and_horizon() -> None:
    adaptive = [make(checkpoint="untrained") for make in (rdvla.adaptive, rdvla.linear_decay, rdvla.pure)]
    built = [rdvla.fixed(checkpoint="untrained", depth=3), *adaptive]
    assert [p.card.name for p in built] == ["rdvla-fixed", "rdvla-adaptive", "rdvla-linear-decay", "rdvla-pure"]
    assert [p.card.horizon["rule"] for p in built] == ["fixed", "binary", "linear-decay", "fixed"]
    assert [p.card.exit_rule["rule"] for p in built] == ["fixed-depth"] + ["chunk-change"] * 3
    assert built[0].act(observation(0), None, generator(0))[0].compute.depth == 3


@pytest.mark.parametrize("criterion", ["l2", "cosine"])
def test_other_criteria_stop_too(criterion) -> None:
    policy = rdvla.pure(checkpoint="untrained", criterion=criterion, delta=0.05)
    chunk, _ = policy.act(observation(0), None, generator("query", 0))
    assert 2 <= chunk.compute.depth < 32


def test_frames_may_be_flipped_views_read_only_and_of_another_size(policy: RdvlaPolicy, alone) -> None:
    obs = observation(0)
    for camera, image in obs["images"].items():
        turned = image[::-1, ::-1].copy()
        turned.setflags(write=False)
        obs["images"][camera] = turned[::-1, ::-1]
    chunk, _ = policy.act(obs, None, generator("query", 0))
    np.testing.assert_array_equal(chunk.actions, alone[0].actions)
    assert policy.act(observation(0, size=360), None, generator("query", 0))[0].actions.shape == (8, 7)


def test_preprocessing_keeps_flat_images_flat_and_crops_the_border() -> None:
    flat = np.full((256, 256, 3), 77, np.uint8)
    torch.testing.assert_close(resize(flat, 64), torch.full((3, 64, 64), 77 / 255))
    framed = flat.copy()
    framed[:3] = framed[-3:] = framed[:, :3] = framed[:, -3:] = 255  # inside the 2.6 % that the crop removes a side
    assert (resize(framed, 224) - 77 / 255).abs().max() < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": {"agentview": np.zeros((256, 256, 3), np.uint8)}}, "no image of camera 'wrist'"),
        ({"images": dict.fromkeys(("agentview", "wrist"), np.zeros((256, 256, 3), np.float32))}, "uint8 image, got"),
        (
            {"images": dict.fromkeys(("agentview", "wrist"), np.zeros((64, 48, 3), np.uint8))},
            r"square .* \(64, 48, 3\)",
        ),
        ({"proprio": np.zeros(15, np.float32)}, r"expected proprio \(8,\), got \(15,\)"),
    ],
)
def test_observations_of_another_kind_are_named(policy: RdvlaPolicy, change, message: str) -> None:
    with pytest.raises(PolicyFault, match=message):
        policy.act(cast("Observation", {**observation(0), **change}), None, generator(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rdvla.fixed(checkpoint="untrained", depth=0), "depth must be a whole number"),
        (lambda: rdvla.adaptive(checkpoint="untrained", delta=-1.0), "delta must be a finite number above 0"),
        (lambda: rdvla.adaptive(checkpoint="untrained", horizon_long=9), "horizon 9 exceeds the chunk of 8 actions"),
        (lambda: rdvla.pure(checkpoint="untrained", horizon=0), "n must be a whole number of at least 1"),
        (lambda: rdvla.fixed(checkpoint="untrained", config="nanno"), "no model config 'nanno'. Did you mean 'nano'"),
        (lambda: rdvla.adaptive(checkpoint="untrained", sense="papper"), "Did you mean 'paper'"),
        (lambda: rdvla.pure(checkpoint="untrained", criterion="kl"), "allowed: mse, l2, cosine"),
        (lambda: rdvla.linear_decay(checkpoint="untrained", sense="released", horizon_min=3), "no effect"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_built(make, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
    assert issubclass(UnknownName, UsageError)


def test_prompt_is_the_released_chat() -> None:
    text = prompt("Pick up the Milk")
    assert "What action should the robot take to pick up the milk?<|im_end|>\n<|im_start|>assistant\n" in text
    tokens = hashed_words(text, 4096)
    assert tokens[0] == hashed_words("<|im_start|>", 4096)[0]
    assert hashed_words("milk", 4096)[0] in tokens
    assert max(tokens) < 4096


def test_taps_are_cut_one_position_early_like_the_released_ones(policy: RdvlaPolicy) -> None:
    backbone = policy.model.backbone
    text = hashed_words(prompt("open the drawer"), NANO.backbone.vocab)
    seen = {}
    handle = backbone.llm.layers[NANO.head.coda_taps[0] - 1].register_forward_hook(
        lambda module, inputs, output: seen.update(states=output[0] if isinstance(output, tuple) else output)
    )
    with torch.inference_mode():
        tap = backbone(torch.rand(1, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), [text])[
            NANO.head.coda_taps[0]
        ]
    handle.remove()
    vision, latents, states = NANO.backbone.vision_tokens, NANO.backbone.latents, seen["states"]
    assert states.shape[1] == vision + len(text) + latents
    torch.testing.assert_close(tap.vision, states[:, :vision])
    torch.testing.assert_close(tap.latents, states[:, -latents - 1 : -1])


def test_model_at_the_papers_size_counts_what_the_paper_counts() -> None:
    with torch.device("meta"):
        model = RdvlaModel(RDVLA_05B)

    def count(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert count(model.backbone.llm) == 494_032_768  # Qwen2.5-0.5B with tied embeddings
    assert count(model.backbone.projector) == 27_552_000
    assert count(model.head) == 72_280_333
    assert count(model) == 1_310_409_597
    assert RDVLA_05B.backbone.vision_tokens == 512
    assert RDVLA_05B.backbone.fused == 2176
