"""Seeds derive from what they are for, never from when they are drawn.

``derive_seed("query", run_seed, suite, task, start, repetition, query)`` is the same number in every process,
on every machine and after every crash; that is what makes results independent of order and of worker count.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np


def derive_seed(*parts: str | int, bits: int = 63) -> int:
    """Return the first ``bits`` bits of SHA-256 over the JSON list of ``parts``."""
    digest = hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - bits)


def generator(*parts: str | int) -> np.random.Generator:
    """Return a fresh generator that is a pure function of ``parts``."""
    return np.random.default_rng(derive_seed(*parts))
