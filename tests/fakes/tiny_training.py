"""A model small enough to train in a test, and demonstrations that it can learn by heart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rdvla_bench.policies.rdvla.config import BackboneConfig, ConvNet, HeadConfig, RdvlaConfig, Transformer
from rdvla_bench.policies.rdvla.statistics import Bounds, Statistics
from rdvla_bench.policies.rdvla.tokens import BARE
from rdvla_bench.policies.rdvla.training.dataset import Sample

INSTRUCTIONS = ("pick up the milk", "open the drawer")


def tiny_config() -> RdvlaConfig:
    tower = Transformer(width=16, layers=2, heads=2, ffn=32)
    llm = Transformer(width=32, layers=2, heads=2, ffn=64, kv_heads=1)
    backbone = BackboneConfig(dino=tower, siglip=tower, llm=llm, image_size=16, patch=8, vocab=256, latents=4)
    head = HeadConfig(width=32, heads=2, prelude_taps=(0,), core_taps=(1, 1), coda_taps=(1,))
    return RdvlaConfig("tiny", backbone, head)


def seeing() -> RdvlaConfig:
    """Return the same with convolutions instead of towers."""
    tiny = tiny_config()
    backbone = replace(
        tiny.backbone,
        dino=None,
        siglip=None,
        convnet=ConvNet(stem=4, channels=(8, 16), hidden=16),
        tokenizer=BARE,
        vocab=4096,
    )
    return replace(tiny, name="tiny-conv", backbone=backbone)


def sample(index: int, *, side: int = 32) -> Sample:
    rng = np.random.default_rng(index)
    images = {camera: rng.integers(0, 256, (side, side, 3), np.uint8) for camera in ("agentview", "wrist")}
    chunk = np.tile(rng.uniform(-1, 1, 7).astype(np.float32), (8, 1))
    chunk[:, -1] = 1.0 if index % 2 else -1.0
    return {
        "images": images,
        "proprio": rng.normal(0, 0.5, 8).astype(np.float32),
        "instruction": INSTRUCTIONS[index % 2],
        "chunk": chunk,
    }


class FakeDemonstrations:
    """``n`` samples in memory, from number ``first`` on."""

    def __init__(self, n: int, first: int = 0) -> None:
        self.samples = [sample(i) for i in range(first, first + n)]
        self.fingerprint = f"fake-{n}" + (f"-from-{first}" if first else "")
        self.statistics = Statistics(
            key="fake",
            action=Bounds(-np.ones(7), np.ones(7), np.arange(7) < 6),
            proprio=Bounds(np.full(8, -2.0), np.full(8, 2.0), np.ones(8, np.bool_)),
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


class WithGoals(FakeDemonstrations):
    """Samples that name where the tool goes next."""

    def __getitem__(self, index: int) -> Sample:
        return {**super().__getitem__(index), "goal": np.full(8, 0.1 * index, np.float32)}
