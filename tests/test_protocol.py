from __future__ import annotations

import json

from rdvla_bench.protocol import CARDS

HASHES = {
    "libero/paired@1": "2011e08646a2",
    "libero/openvla-oft@1": "a8504099569d",
    "libero/openpi@1": "8f686be9cca1",
    "libero/lerobot@1": "0d80d1052ede",
    "libero-pro/paired@1": "109b86f701eb",
}


def test_a_released_card_never_changes() -> None:
    # a changed rule is a new card: libero/paired@2. Until the first release, change these on purpose
    assert {name: card.hash for name, card in CARDS.items() if name.startswith(("libero/", "libero-pro/"))} == HASHES


def test_a_card_survives_json() -> None:
    for card in CARDS.values():
        assert json.loads(json.dumps(card.to_json())) == card.to_json()


def test_lerobot_and_openpi_disagree_on_the_spatial_cap() -> None:
    assert CARDS["libero/lerobot@1"].max_steps["libero_spatial"] == 280
    assert CARDS["libero/openpi@1"].max_steps["libero_spatial"] == 220
