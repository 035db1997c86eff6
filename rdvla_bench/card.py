"""A card is frozen data with a hash: two cards with one hash mean the same thing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Card:
    """What policy cards and protocol cards have in common."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @property
    def hash(self) -> str:
        """Return the first 12 hex digits of SHA-256 over the canonical JSON."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]
