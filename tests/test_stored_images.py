"""Claims about stored images: what the network's towers see, the same bytes everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")


from rdvla_bench.policies.rdvla.config import NANO
from rdvla_bench.policies.rdvla.stored_images import shrink
from rdvla_bench.policies.rdvla.trained import TrainedInterface


@pytest.mark.parametrize("size", [64, 96])
def test_a_stored_image_is_what_the_towers_see(size: int) -> None:
    import torch

    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    stored = shrink(image, size)
    interface = TrainedInterface.__new__(TrainedInterface)
    interface._config = _sized(size)
    assert torch.equal(interface.image(image), interface.image(stored))
    assert torch.equal(interface.image(stored), torch.from_numpy(stored).permute(2, 0, 1) / 255.0)


def _sized(size: int) -> Any:
    from dataclasses import replace

    return replace(NANO.backbone, image_size=size)


def test_shrinking_rounds_alike_with_any_number_of_threads() -> None:
    import torch

    image, before, seen = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8), [], []
    before.append(torch.get_num_threads())
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        seen.append(shrink(image, 96).tobytes())
    torch.set_num_threads(before[0])
    assert len(set(seen)) == 1


def test_shrinking_keeps_flat_colours() -> None:
    flat = np.full((200, 200, 3), (0, 127, 255), np.uint8)
    assert np.unique(shrink(flat, 64).reshape(-1, 3), axis=0).tolist() == [[0, 127, 255]]
