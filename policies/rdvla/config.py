"""Sizes of the model: the paper's (``rdvla-0.5b``) and one for a CPU (``nano``). Same classes, same code path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from rdvla_bench.errors import UnknownName, UsageError
from rdvla_bench.policies.rdvla.conventions import BENCHMARKS, Convention, Gripper, Rotation, proprio_width
from rdvla_bench.policies.rdvla.tokens import BARE


@dataclass(frozen=True)
class Transformer:
    """The size of one transformer stack."""

    width: int
    layers: int
    heads: int
    ffn: int
    kv_heads: int = 0  # 0: as many as heads


NORM_GROUPS = 8  # of every GroupNorm


@dataclass(frozen=True)
class ConvNet:
    """The size of ``nano-conv``'s vision, one net a camera: a stage for each width, each half the side of the last."""

    stem: int  # side of the first stage's patches, in pixels
    channels: tuple[int, ...]
    blocks: int = 1  # residual convolutions a stage
    located: tuple[int, ...] = (1,)  # the stages whose channels are also given as places
    hidden: int = 256  # width of the two layers from places to latents

    def __post_init__(self) -> None:
        """Refuse what no stage can be built of."""
        if min(self.stem, self.hidden) < 1 or self.blocks < 0 or not self.channels:
            raise UsageError(
                f"{self}: expected a stem of 1 or more, blocks of 0 or more, hidden of 1 or more, and one width or more"
            )
        stages = range(len(self.channels))
        if not self.located or any(stage not in stages or self.located.count(stage) > 1 for stage in self.located):
            raise UsageError(
                f"convnet of {len(stages)} stages: stages {self.located} cannot be located, expected one or more of 0"
                f" to {stages[-1]}, each once"
            )
        if any(width < 1 or width % NORM_GROUPS for width in self.channels):
            raise UsageError(
                f"convnet widths {self.channels}: expected multiples of {NORM_GROUPS}, the groups of a norm"
            )

    @property
    def patch(self) -> int:
        """Return the side, in pixels, of what one token stands for."""
        return self.stem << (len(self.channels) - 1)

    @property
    def places(self) -> int:
        """Return how many values say where the located channels are, two each."""
        return 2 * sum(self.channels[stage] for stage in self.located)


@dataclass(frozen=True)
class BackboneConfig:
    """Vision, projector and language model; vision is the two released towers or a ``convnet``."""

    llm: Transformer
    image_size: int  # H = W in pixels, as vision sees it
    patch: int
    vocab: int
    latents: int = 64  # released code, NUM_TOKENS
    cameras: tuple[str, ...] = ("agentview", "wrist")  # their patches follow each other in this order
    tokenizer: str = "hashed-words@1"  # ours, needs no download; the released weights need Qwen2.5's
    dino: Transformer | None = None
    siglip: Transformer | None = None
    convnet: ConvNet | None = None

    def __post_init__(self) -> None:
        """Refuse anything but both towers alone or a fitting convnet alone, and images that leave a rest."""
        n_towers = (self.dino is not None) + (self.siglip is not None)
        if n_towers != (0 if self.convnet else 2):
            raise UsageError("a backbone sees with both towers, dino and siglip, or with a convnet alone")
        if self.convnet and self.convnet.patch != self.patch:
            raise UsageError(f"the convnet's patches are {self.convnet.patch} pixels wide, not {self.patch}")
        if self.image_size % self.patch:
            raise UsageError(f"an image of {self.image_size} pixels a side is not cut into patches of {self.patch}")

    @property
    def towers(self) -> tuple[Transformer, Transformer]:
        """Return the sizes of DINOv2 and SigLIP.

        Raises:
            UsageError: this backbone sees with a convnet.
        """
        if self.dino is None or self.siglip is None:
            raise UsageError("this model sees with a convnet and has no vision towers")
        return self.dino, self.siglip

    @property
    def patches(self) -> int:
        """Return the vision tokens of one image."""
        return (self.image_size // self.patch) ** 2

    @property
    def vision_tokens(self) -> int:
        """Return the vision tokens of all cameras."""
        return len(self.cameras) * self.patches

    @property
    def fused(self) -> int:
        """Return the width of the features that the projector is given."""
        return self.convnet.channels[-1] if self.convnet else sum(tower.width for tower in self.towers)


Start = Literal["noise", "zero"]
HeadScale = Literal["released", "plain"]


@dataclass(frozen=True)
class HeadConfig:
    """The recurrent-depth head; the defaults are the released ones.

    A tap t means ``hidden_states[t]`` of the language model, whose index 0 is the embedding output: tap t is the
    output of block t. There is one layer for each tap.
    """

    width: int = 896  # D
    heads: int = 8  # h
    chunk: int = 8  # K
    action: int = 7  # A
    proprio: int = 8  # P
    prelude_taps: tuple[int, ...] = (11,)  # the paper says 12
    core_taps: tuple[int, ...] = (23, 23)  # the paper says 24
    coda_taps: tuple[int, ...] = (23,)  # the paper says 24
    mean_recurrence: int = 32  # enters the initial scale of the output layers
    init_std: float = 0.632  # sigma_init of queries and scratchpad, about sqrt(2/5)
    start: Start = "noise"  # S_0; released: noise

    def __post_init__(self) -> None:
        """Refuse a width that the heads do not divide into even parts (rotary positions come in pairs)."""
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise UsageError(f"head width {self.width} does not split into {self.heads} heads of even width")

    @property
    def taps(self) -> tuple[int, ...]:
        """Return every language model layer the head reads, once, ascending."""
        return tuple(sorted({*self.prelude_taps, *self.core_taps, *self.coda_taps}))


@dataclass(frozen=True)
class RdvlaConfig:
    """The whole model."""

    name: str
    backbone: BackboneConfig
    head: HeadConfig
    benchmark: str = "libero"
    rotation: Rotation = "as-is"  # how the tool's rotation is read; released weights: as it is
    gripper: Gripper = True  # whether the gripper's own values are read; released weights: they are

    def __post_init__(self) -> None:
        """Refuse a head that reads what the language model, or the benchmark, does not have."""
        if self.benchmark not in BENCHMARKS:
            raise UnknownName("benchmark", self.benchmark, BENCHMARKS, f"known: {', '.join(BENCHMARKS)}")
        if self.head.proprio != (width := proprio_width(self.rotation, self.gripper)):
            raise UsageError(
                f"config {self.name}: a head of {self.head.proprio} proprio values, but with rotation "
                f"'{self.rotation}' and gripper {self.gripper!r} there are {width}"
            )
        if self.gripper == "empty" and not self.convention.empty:
            raise UsageError(
                f"config {self.name}: how far the fingers stand apart when they hold nothing was not measured in "
                f"{self.benchmark}; choose a model without it, such as nano-conv"
            )
        layers = self.backbone.llm.layers
        if self.head.width != self.backbone.llm.width:
            raise UsageError(
                f"config {self.name}: head width {self.head.width} is not the language model's "
                f"{self.backbone.llm.width}"
            )
        if not all(0 <= tap < layers for tap in self.head.taps):
            raise UsageError(f"config {self.name}: taps {self.head.taps} are not all in 0..{layers - 1}")

    @property
    def convention(self) -> Convention:
        """Return what the benchmark shows and takes."""
        return BENCHMARKS[self.benchmark]

    def on(self, benchmark: str) -> RdvlaConfig:
        """Return the same model with another benchmark's cameras and conventions.

        Raises:
            UnknownName: no such benchmark.
        """
        if benchmark not in BENCHMARKS:
            raise UnknownName("benchmark", benchmark, BENCHMARKS, f"known: {', '.join(BENCHMARKS)}")
        backbone = replace(self.backbone, cameras=BENCHMARKS[benchmark].cameras)
        return replace(self, benchmark=benchmark, backbone=backbone)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the policy card."""
        return asdict(self)


RDVLA_05B = RdvlaConfig(
    name="rdvla-0.5b",
    backbone=BackboneConfig(
        dino=Transformer(width=1024, layers=24, heads=16, ffn=4096),  # vit_large_patch14_reg4_dinov2
        siglip=Transformer(width=1152, layers=27, heads=16, ffn=4304),  # vit_so400m_patch14_siglip_224
        llm=Transformer(width=896, layers=24, heads=14, ffn=4864, kv_heads=2),  # Qwen2.5-0.5B
        image_size=224,
        patch=14,
        vocab=151_936,
    ),
    head=HeadConfig(),
)

NANO = RdvlaConfig(
    name="nano",
    backbone=BackboneConfig(
        dino=Transformer(width=96, layers=3, heads=3, ffn=384),
        siglip=Transformer(width=96, layers=3, heads=3, ffn=384),
        llm=Transformer(width=128, layers=3, heads=2, ffn=384, kv_heads=1),  # 64 a head, as in Qwen2.5
        image_size=64,
        patch=16,
        vocab=4096,
        latents=16,
    ),
    # The released taps are L/2 - 1 and L - 1 of L blocks; here the first one is rounded up.
    head=HeadConfig(width=128, heads=4, proprio=11, prelude_taps=(1,), core_taps=(2, 2), coda_taps=(2,)),
    rotation="matrix",
)

NANO_CONV = replace(
    NANO,
    name="nano-conv",
    head=replace(NANO.head, proprio=9),
    gripper=False,
    backbone=replace(
        NANO.backbone,
        dino=None,
        siglip=None,
        convnet=ConvNet(stem=4, channels=(32, 64, 128, 128), blocks=0, located=(1, 2, 3)),
        image_size=96,
        patch=32,
        latents=8,
        tokenizer=BARE,
    ),
)
"""What the shipped weights are: sees with convolutions that the instruction steers, which a few hundred demonstrations
suffice to train, and reads the instruction's own words without a chat around them."""

NANO_CONV_GRIP = replace(NANO_CONV, name="nano-conv-grip", head=replace(NANO.head, proprio=10), gripper="empty")
"""The same, told when it has closed on nothing."""

CONFIGS: Mapping[str, RdvlaConfig] = {config.name: config for config in (NANO, NANO_CONV, NANO_CONV_GRIP, RDVLA_05B)}


def named_config(name: str) -> RdvlaConfig:
    """Return the configuration called ``name``.

    Raises:
        UnknownName: naming the nearest one.
    """
    if name not in CONFIGS:
        raise UnknownName("model config", name, CONFIGS, f"known: {', '.join(CONFIGS)}")
    return CONFIGS[name]
