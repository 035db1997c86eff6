"""The loss of one batch at one depth: L1 on the normalised chunk, with gradients through the last iterations only."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from rdvla_bench.policies.rdvla.head import Conditioning, RecurrentHead

WINDOW = 8  # iterations that gradients pass through; d in the paper


def unroll(head: RecurrentHead, conditioning: Conditioning, unit_noise: Tensor, depth: int) -> Tensor:
    """Return the chunk (B, K, A) after ``depth`` iterations from S_0 = ``unit_noise`` (B, K, D), scaled.

    The first ``depth - WINDOW`` iterations run without a graph, so memory does not grow beyond the window. S_0 is
    detached: in the released code no gradient reaches gamma_init.
    """
    s_pre = head.encode(conditioning)
    scratchpad = head.scratchpad(unit_noise).detach()
    with torch.no_grad():
        for _ in range(depth - WINDOW):
            scratchpad = head.iterate(scratchpad, s_pre, conditioning)
    for _ in range(min(depth, WINDOW)):
        scratchpad = head.iterate(scratchpad, s_pre, conditioning)
    return head.decode(scratchpad, conditioning)


def l1_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference of two normalised (B, K, A), the last output's only."""
    return F.l1_loss(predicted.float(), target)
