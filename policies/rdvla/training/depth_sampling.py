"""How deep each training step thinks: a log-normal Poisson, as published (section III; the bounds are the code's)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DepthDistribution:
    """tau ~ N(ln mu - sigma^2 / 2, sigma^2);  N ~ Poisson(min(e^tau, 100)) + 1, clipped to [1, 64].

    At mu = 32 and these bounds: mean 31.9, median 29, P(N <= 8) = 1.5 %, P(N = 64) = 6.1 %.
    """

    mean: int = 32  # mu
    sigma: float = 0.5  # released code
    max_rate: float = 100.0  # released code
    shallowest: int = 1  # released code
    deepest: int = 64  # released code

    def draw(self, rng: np.random.Generator, size: int) -> NDArray[np.int64]:
        """Return ``size`` depths."""
        tau = rng.normal(math.log(self.mean) - self.sigma**2 / 2, self.sigma, size)
        depths = rng.poisson(np.minimum(np.exp(tau), self.max_rate)) + 1
        return np.clip(depths, self.shallowest, self.deepest)
