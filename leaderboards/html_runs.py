"""The page of many runs: a section for those that may share a table, and what each run is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from os.path import commonpath, relpath
from pathlib import Path
from urllib.parse import quote

from rdvla_bench.leaderboards.board import Board
from rdvla_bench.leaderboards.figures import group_figure
from rdvla_bench.leaderboards.html_frame import (
    assembled,
    bar_of,
    definitions,
    figure_html,
    first_bold,
    published_html,
    run_title,
)
from rdvla_bench.leaderboards.html_table import Drawn, table_html
from rdvla_bench.leaderboards.ranking import Group, group_runs
from rdvla_bench.leaderboards.tables import banners, group_tables, provenance

BOARD_PAGE = "board.html"
"""The page of one run in its folder, which pages of many runs link to."""


def runs_body(title: str, boards: Sequence[tuple[str, Board]], folder: Path) -> str:
    """Return the body of the page of many runs."""
    shared = commonpath([Path(run).absolute().parent for run, _ in boards])
    links = {relpath(run, shared): link for run, _ in boards if (link := _page_link(Path(run), folder))}
    boards = [(relpath(run, shared), board) for run, board in boards]
    groups = group_runs(boards)
    sections = [
        (f"group-{i}", name, _group(group, f"t-group-{i}", links))
        for i, (name, group) in enumerate(zip(_short_titles(groups), groups, strict=True), start=1)
    ]
    suites = list(dict.fromkeys(group.suite for group in groups))
    sections.append(("published", "Published", published_html(suites)))
    sections.append(("provenance", "Runs", "".join(_run_details(run, board, links) for run, board in boards)))
    n_episodes = sum(board.done for _, board in boards)
    facts = [
        ("episodes", f"{n_episodes:,}"),
        ("protocol cards", ", ".join(dict.fromkeys(group.protocol for group in groups))),
    ]
    runs_by_text: dict[str, list[str]] = {}
    for run, board in boards:
        for text in banners(board):
            runs_by_text.setdefault(text, []).append(run)
    said = [f"{text} ({_listed(runs)})" for text, runs in runs_by_text.items()]
    where = relpath(shared)
    return assembled(f"runs in {shared if where.startswith('..') else where}", escape(title), facts, said, sections)


def _listed(names: Sequence[str], n_most: int = 6) -> str:
    rest = len(names) - n_most
    return ", ".join(names[:n_most]) + (f" and {rest} more" if rest > 0 else "")


def _short_titles(groups: Sequence[Group]) -> list[str]:
    """Return the suites' names, with as much more as tells the groups apart."""
    candidates = (
        [group.suite for group in groups],
        [f"{group.suite}, {group.n_episodes} a task" for group in groups],
        [f"{group.suite}, {group.n_episodes} a task, {group.protocol}" for group in groups],
    )
    return next((names for names in candidates if len(set(names)) == len(names)), [group.title for group in groups])


def _page_link(run: Path, folder: Path) -> str:
    path = run / BOARD_PAGE
    return quote(Path(relpath(path, folder)).as_posix()) if path.exists() else ""


def _group(group: Group, key: str, links: Mapping[str, str]) -> str:
    results, costs = group_tables(group)
    attributes = [{"class": "off"} if e.standing else {} for e in group.entries]
    manifests = [e.board.manifest for e in group.entries]
    said = {"seed"} if len({m["config"]["seed"] for m in manifests}) == 1 else set[str]()
    said |= set() if any(e.standing for e in group.entries) else {"standing"}
    drawn = Drawn(key, [bar_of(e.score) for e in group.entries], attributes, links, frozenset(said))
    notes = "".join(f"<li>{escape(note)}</li>" for note in group.notes)
    figure = group_figure(group)
    return (
        table_html(results, drawn)
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
        + (figure_html(figure, ' class="single block"') if figure else "")
        + table_html(costs, Drawn(f"{key}-execution"))
    )


def _run_details(run: str, board: Board, links: Mapping[str, str]) -> str:
    link = (
        f'<p><a href="{escape(links[run])}">The whole board of this run, with its episodes</a></p>'
        if run in links
        else ""
    )
    said = "".join(f'<li role="note">{first_bold(text)}</li>' for text in banners(board))
    inner = link + (f'<ul class="banners">{said}</ul>' if said else "") + definitions(provenance(board))
    return (
        f'<details class="block"><summary>{escape(run)}<small>{escape(run_title(board))}</small></summary>'
        f'<div class="inner">{inner}</div></details>\n'
    )
