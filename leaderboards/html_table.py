"""One table of a board as HTML: real headers, escaped cells, intervals drawn beside their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from rdvla_bench.leaderboards.tables import NOTHING, Table

INTERVAL = "95 % interval"
"""The column after which a drawn interval stands."""
LONG = {"remark", "source", "message"}
NAMES = {"name", "subtask", "run"}
"""Columns of long snake_case names, which may break after an underscore or a slash."""
SHORT = {"policy", "weights", "basis"}
"""Columns that are never folded."""
FLAG = "standing"


@dataclass(frozen=True)
class Drawn:
    """What a table has on the page beside its texts, row by row where there is a sequence."""

    key: str  # its id in the page
    bars: Sequence[str] = ()  # SVG
    attributes: Sequence[Mapping[str, str]] = ()  # of the rows
    links: Mapping[str, str] = field(default_factory=dict)  # text of a first cell -> address
    left_out: frozenset[str] = frozenset()  # columns
    n_totals: int = 0  # last rows that sum up the others, and stay last when sorted


def table_html(table: Table, drawn: Drawn) -> str:
    """Return the table in a block with its legend. Columns that say nothing are left out."""
    shown = [
        i
        for i, column in enumerate(table.columns)
        if column not in drawn.left_out and any(row[i] not in ("", NOTHING) for row in table.rows)
    ]
    split = len(table.rows) - drawn.n_totals
    body = "".join(_row(table, drawn, shown, i) for i in range(split))
    foot = "".join(_row(table, drawn, shown, i) for i in range(split, len(table.rows)))
    caption = f"{drawn.key}-caption"
    legend = f'<p class="legend">{escape(table.legend)}</p>' if table.legend else ""
    return (
        f'<div class="block"><div class="scroll" role="region" tabindex="0" aria-labelledby="{escape(caption)}">'
        f'<table id="{escape(drawn.key)}"><caption id="{escape(caption)}">{escape(table.title)}</caption>'
        f"<thead><tr>{_heads(table, drawn, shown)}</tr></thead><tbody>{body}</tbody>"
        f"{f'<tfoot>{foot}</tfoot>' if foot else ''}</table></div>{legend}</div>\n"
    )


def _heads(table: Table, drawn: Drawn, shown: Sequence[int]) -> str:
    cells = []
    for i in shown:
        number = "" if table.is_text(i) else ' class="n"'
        cells.append(f'<th scope="col"{number}>{escape(table.columns[i])}</th>')
        if drawn.bars and table.columns[i] == INTERVAL:
            cells.append('<td aria-hidden="true"></td>')
    return "".join(cells)


def _row(table: Table, drawn: Drawn, shown: Sequence[int], index: int) -> str:
    row = table.rows[index]
    cells = []
    for i in shown:
        cells.append(_cell(table, drawn, i, row[i], is_head=i == _head_of(table)))
        if drawn.bars and table.columns[i] == INTERVAL:
            bar = drawn.bars[index] if index < len(drawn.bars) else ""
            cells.append(f'<td class="bars">{bar}</td>')
    found = drawn.attributes[index] if index < len(drawn.attributes) else {}
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in found.items())
    return f"<tr{attributes}>{''.join(cells)}</tr>"


def _head_of(table: Table) -> int:
    """Return the column that names a row: the first, or the run after its rank."""
    return 1 if table.columns[0] == "rank" else 0


def _cell(table: Table, drawn: Drawn, i: int, text: str, *, is_head: bool) -> str:
    inner = _breakable(escape(text)) if table.columns[i] in NAMES else escape(text)
    if is_head:
        if text in drawn.links:
            inner = f'<a href="{escape(drawn.links[text])}">{inner}</a>'
        return f'<th scope="row"{_kind(["name"] if table.columns[i] in NAMES else [])}>{inner}</th>'
    kinds = [] if table.is_text(i) else ["n"]
    kinds += ["name"] if table.columns[i] in NAMES else []
    kinds += ["short"] if table.columns[i] in SHORT else []
    kinds += ["long"] if table.columns[i] in LONG else []
    kinds += ["flag"] if table.columns[i] == FLAG and text.startswith("unranked") else []
    kinds += ["rank"] if table.columns[i] == "rank" else []
    return f"<td{_kind(kinds)}>{inner}</td>"


def _breakable(text: str) -> str:
    return text.replace("_", "_<wbr>").replace("/", "/<wbr>")


def _kind(kinds: Sequence[str]) -> str:
    return f' class="{" ".join(kinds)}"' if kinds else ""
