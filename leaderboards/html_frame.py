"""What every page of a board has: the frame around it, its sections, and the pieces that several sections use."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.metadata import version
from importlib.resources import files
from string import Template
from typing import Any

from rdvla_bench.leaderboards.board import Board, Score
from rdvla_bench.leaderboards.figures import Figure
from rdvla_bench.leaderboards.html_table import Drawn, table_html
from rdvla_bench.leaderboards.published import published_tables
from rdvla_bench.leaderboards.svg import interval_bar


def filled(title: str, body: str, data: Mapping[str, Any]) -> str:
    """Return the whole page: ``body`` is HTML, ``title`` text, ``data`` what the script draws episodes from."""
    own = files(__package__).joinpath("data")
    style, script, frame = (own.joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js", "html"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(frame).substitute(
        title=escape(f"{title} – rdvla-bench"),
        style=style,
        script=script,
        script_hash=f"sha256-{digest}",
        body=body,
        data=json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c"),
        version=escape(version("rdvla-bench")),
    )


def assembled(
    eyebrow: str,
    title: str,  # HTML
    facts: Iterable[tuple[str, str]],
    said: Iterable[str],
    sections: Sequence[tuple[str, str, str]],
) -> str:
    """Return the body of a page; a section is (key, name, HTML), and an empty one is left out."""
    shown = [section for section in sections if section[2]]
    listed = "".join(f"<li>{escape(label)} <b>{escape(text)}</b></li>" for label, text in facts if text)
    warned = "".join(f'<li role="note">{first_bold(text)}</li>' for text in said)
    nav = "".join(f'<a href="#{key}">{escape(name)}</a>' for key, name, _ in shown)
    main = "".join(
        f'<section id="{key}" aria-labelledby="h-{key}"><h2 id="h-{key}">{escape(name)}</h2>\n{inner}</section>\n'
        for key, name, inner in shown
    )
    return (
        f'<header><div class="wide"><p class="eyebrow">{escape(eyebrow)}</p><h1>{title}</h1>'
        f'<ul class="facts">{listed}</ul>{f"""<ul class="banners">{warned}</ul>""" if warned else ""}</div></header>\n'
        f'<nav aria-label="Sections"><div class="wide">{nav}</div></nav>\n<main id="main" class="wide">\n{main}</main>'
    )


def first_bold(text: str) -> str:
    """Return ``text`` as HTML, what stands before its first colon in bold."""
    first, colon, rest = text.partition(":")
    return f"<b>{escape(first)}</b>{colon}{escape(rest)}" if colon else escape(text)


def bar_of(score: Score) -> str:
    """Return a score and its interval as a small drawing, "" where there is none."""
    if score.chain:
        return interval_bar(score.chain.length, score.chain.low, score.chain.high, len(score.chain.in_a_row))
    if score.rate is None or score.low is None or score.high is None:
        return ""
    return interval_bar(score.rate, score.low, score.high)


def figure_html(figure: Figure, kind: str = "") -> str:
    """Return a figure; ``kind`` is an attribute of its element."""
    return (
        f"<figure{kind}><h3>{escape(figure.title)}</h3>{figure.chart}"
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
    )


def published_html(suites: Sequence[str]) -> str:
    """Return the block of published numbers on ``suites``, "" where there are none."""
    tables = published_tables(suites)
    if not tables:
        return ""
    drawn = "".join(table_html(table, Drawn(f"t-published-{i}")) for i, table in enumerate(tables, start=1))
    return (
        '<div class="published"><p>Numbers from papers, READMEs and leaderboards, as printed there. Nobody ran them '
        f"here; they are not ranked with anything on this page.</p>{drawn}</div>\n"
    )


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """Return labels and texts as a definition list."""
    return f"<dl>{''.join(f'<dt>{escape(label)}</dt><dd>{escape(text)}</dd>' for label, text in pairs)}</dl>"


def run_title(board: Board) -> str:
    """Return what was run, as text."""
    config = board.manifest["config"]
    return f"{config['policy']} on {', '.join(config['suites'])}"
