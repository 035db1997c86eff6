"""Protocol cards by name.

Results under different cards never share a column. A card is data: an environment reads it, nothing else
decides. Change a number, and the version after the ``@`` must change.
"""

from __future__ import annotations

from collections.abc import Mapping

from rdvla_bench.errors import UnknownName
from rdvla_bench.protocol_calvin import CALVIN_CARDS
from rdvla_bench.protocol_card import ProtocolCard
from rdvla_bench.protocol_libero import LIBERO_CARDS

CARDS: Mapping[str, ProtocolCard] = {card.name: card for card in (*LIBERO_CARDS, *CALVIN_CARDS)}


def protocol(name: str) -> ProtocolCard:
    """Return the card called ``name``.

    Raises:
        UnknownName: naming the nearest card.
    """
    if name not in CARDS:
        raise UnknownName("protocol card", name, CARDS, "rdvla-bench list protocols")
    return CARDS[name]
