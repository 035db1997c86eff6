"""A board as one HTML page that opens from disk: no network, no library, sortable, with every episode behind its task.

Non-obvious:
- Names of policies, instructions, tasks and runs are other people's texts. They are escaped on their way into the page,
  the page's script only ever makes text nodes of them, and the page's policy runs no script but its own (by hash).
- The frame is a plain file with seven holes for ``string.Template``; tables and figures are loops and conditions over
  typed rows, which are Python here rather than a second language in a template.
- Without its script the page shows everything but the episodes of a task.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.metadata import version
from importlib.resources import files
from os.path import commonpath, relpath
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from rdvla_bench.leaderboards.board import Board, Score
from rdvla_bench.leaderboards.episode_data import episode_data
from rdvla_bench.leaderboards.figures import Figure, group_figure, run_figures
from rdvla_bench.leaderboards.html_table import Drawn, table_html
from rdvla_bench.leaderboards.published import published_tables
from rdvla_bench.leaderboards.ranking import Group, group_runs
from rdvla_bench.leaderboards.svg import interval_bar
from rdvla_bench.leaderboards.tables import (
    Table,
    banners,
    cost_tables,
    group_tables,
    provenance,
    result_tables,
    settings_text,
)

BOARD_PAGE = "board.html"
"""The page of one run in its folder, which pages of many runs link to."""


def page(boards: Sequence[tuple[str, Board]], folder: Path) -> str:
    """Return the page of one run, or of many side by side; links are relative to ``folder``, where it will stand."""
    if len(boards) == 1:
        run, board = boards[0]
        return _filled(_run_title(board), _run_body(run, board), episode_data(run, board, folder))
    policies = dict.fromkeys(board.manifest["config"]["policy"] for _, board in boards)
    title = f"{len(boards)} runs of {', '.join(policies)}" if len(policies) <= 3 else f"{len(boards)} runs"
    return _filled(title, _runs_body(title, boards, folder), {})


def _filled(title: str, body: str, data: Mapping[str, Any]) -> str:
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


def _run_title(board: Board) -> str:
    config = board.manifest["config"]
    return f"{config['policy']} on {', '.join(config['suites'])}"


def _run_body(run: str, board: Board) -> str:
    config = board.manifest["config"]
    facts = [
        ("protocol", config["protocol"]),
        ("episodes", f"{board.done:,} of {board.manifest['planned']:,}"),
        ("seed", str(config["seed"])),
        ("settings", settings_text(board) or "defaults"),
        ("started", str(board.manifest.get("started", ""))),
    ]
    tables = {table.title: table for table in result_tables(board)}
    figures = run_figures(board)
    is_chained = "Chains" in tables
    sections = [
        ("results", "Results", _cards(board) + _suites(tables, board)),
        ("curves", "Curves", _figures(figures)),
        ("tasks", "Subtasks" if is_chained else "Tasks", _tasks(tables, board)),
        ("errors", "Errors", table_html(tables["Errors"], Drawn("t-errors")) if "Errors" in tables else ""),
        ("execution", "Execution", _costs(board)),
        ("published", "Published", _published(config["suites"])),
        ("provenance", "Provenance", _provenance(board)),
    ]
    title = f"{escape(config['policy'])} <span>on {escape(', '.join(config['suites']))}</span>"
    return _assembled(run, title, facts, banners(board), sections)


def _runs_body(title: str, boards: Sequence[tuple[str, Board]], folder: Path) -> str:
    shared = commonpath([Path(run).absolute().parent for run, _ in boards])
    links = {relpath(run, shared): link for run, _ in boards if (link := _page_link(Path(run), folder))}
    boards = [(relpath(run, shared), board) for run, board in boards]
    groups = group_runs(boards)
    sections = [
        (f"group-{i}", name, _group(group, f"t-group-{i}", links))
        for i, (name, group) in enumerate(zip(_short_titles(groups), groups, strict=True), start=1)
    ]
    suites = list(dict.fromkeys(group.suite for group in groups))
    sections.append(("published", "Published", _published(suites)))
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
    return _assembled(f"runs in {shared if where.startswith('..') else where}", escape(title), facts, said, sections)


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


def _assembled(
    eyebrow: str,
    title: str,  # HTML
    facts: Iterable[tuple[str, str]],
    said: Iterable[str],
    sections: Sequence[tuple[str, str, str]],
) -> str:
    shown = [section for section in sections if section[2]]
    listed = "".join(f"<li>{escape(label)} <b>{escape(text)}</b></li>" for label, text in facts if text)
    warned = "".join(f'<li role="note">{_first_bold(text)}</li>' for text in said)
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


def _first_bold(text: str) -> str:
    first, colon, rest = text.partition(":")
    return f"<b>{escape(first)}</b>{colon}{escape(rest)}" if colon else escape(text)


def _bar(score: Score) -> str:
    if score.chain:
        return interval_bar(score.chain.length, score.chain.low, score.chain.high, len(score.chain.in_a_row))
    if score.rate is None or score.low is None or score.high is None:
        return ""
    return interval_bar(score.rate, score.low, score.high)


def _cards(board: Board) -> str:
    cards = [_card(score) for score in board.suite_scores]
    mean, interval = board.mean_of_suites, board.mean_of_suites_interval
    if len(cards) > 1 and mean is not None and interval is not None:
        under = [
            f"{len(cards)} suites, weighed alike",
            f"95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f}",
        ]
        cards.append(_card_html("mean of suites", f"{100 * mean:.1f}", "%", interval_bar(mean, *interval), under, ""))
    return f'<div class="cards">{"".join(cards)}</div>\n'


def _card(score: Score) -> str:
    chain = score.chain
    if chain:
        number, unit = f"{chain.length:.3f}", f"of {len(chain.in_a_row)} in a row"
        under = [f"{score.scored} chains", f"95 % interval {chain.low:.3f} to {chain.high:.3f}"]
    elif score.rate is not None and score.low is not None and score.high is not None:
        number, unit = f"{100 * score.rate:.1f}", "%"
        interval = f"95 % interval {100 * score.low:.1f} to {100 * score.high:.1f}"
        under = [f"{score.successes} of {score.scored}", interval]
    else:
        number, unit, under = "–", "", ["no episode yet"]
    under[0] += f" · depth {score.depth:.1f}" if score.depth is not None else ""
    return _card_html(score.suite, number, unit, _bar(score), under, score.unranked)


def _card_html(name: str, number: str, unit: str, bar: str, under: Sequence[str], unranked: str) -> str:
    why = f'<p class="under"><b>unranked: {escape(unranked)}</b></p>' if unranked else ""
    said = "".join(f"<span>{escape(text)}</span>" for text in under)
    return (
        f'<article class="card{" unranked" if unranked else ""}"><h3>{escape(name)}</h3>'
        f'<p class="big">{number} <small>{escape(unit)}</small></p>{bar}<p class="under">{said}</p>{why}</article>'
    )


def _suites(tables: Mapping[str, Table], board: Board) -> str:
    rates = [] if any(s.chain for s in board.suite_scores) else [_bar(s) for s in board.suite_scores]
    mean, interval = board.mean_of_suites, board.mean_of_suites_interval
    rates += [interval_bar(mean, *interval)] if rates and mean is not None and interval is not None else []
    n_totals = len(tables["Suites"].rows) - len(board.suite_scores)
    parts = [table_html(tables["Suites"], Drawn("t-suites", rates, n_totals=n_totals))]
    if "Chains" in tables:
        chained = [s for s in board.suite_scores if s.chain]
        tasks = board.manifest["config"]["tasks"]
        opened = [{"data-suite": s.suite, "data-task": str(tasks[s.suite][0])} for s in chained]
        parts.insert(0, table_html(tables["Chains"], Drawn("t-chains", [_bar(s) for s in chained], opened)))
    return "".join(parts)


def _tasks(tables: Mapping[str, Table], board: Board) -> str:
    if "Subtasks" in tables:
        bars = [interval_bar(s.rate, s.low, s.high) for s in board.subtask_scores]
        return table_html(tables["Subtasks"], Drawn("t-subtasks", bars))
    opened = [{"data-suite": s.suite, "data-task": str(s.task)} for s in board.task_scores]
    said = frozenset[str]() if any(map(board.standing, board.task_scores)) else frozenset({"standing"})
    return table_html(tables["Tasks"], Drawn("t-tasks", [_bar(s) for s in board.task_scores], opened, left_out=said))


def _costs(board: Board) -> str:
    machine = board.manifest.get("machine") or {}
    on = ", ".join(f"{key} {value}" for key, value in machine.items())
    suites, tasks = cost_tables(board)
    rest = f"<details><summary>Each task</summary>{table_html(tasks, Drawn('t-execution-tasks'))}</details>"
    return (f"<p>{escape(on)}</p>" if on else "") + table_html(suites, Drawn("t-execution")) + rest


def _figures(figures: Sequence[Figure]) -> str:
    if not figures:
        return ""
    return f'<div class="figures">{"".join(map(_figure, figures))}</div>\n'


def _figure(figure: Figure, kind: str = "") -> str:
    return (
        f"<figure{kind}><h3>{escape(figure.title)}</h3>{figure.chart}"
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
    )


def _group(group: Group, key: str, links: Mapping[str, str]) -> str:
    results, costs = group_tables(group)
    attributes = [{"class": "off"} if e.standing else {} for e in group.entries]
    manifests = [e.board.manifest for e in group.entries]
    said = {"seed"} if len({m["config"]["seed"] for m in manifests}) == 1 else set[str]()
    said |= set() if any(e.standing for e in group.entries) else {"standing"}
    drawn = Drawn(key, [_bar(e.score) for e in group.entries], attributes, links, frozenset(said))
    notes = "".join(f"<li>{escape(note)}</li>" for note in group.notes)
    figure = group_figure(group)
    return (
        table_html(results, drawn)
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
        + (_figure(figure, ' class="single block"') if figure else "")
        + table_html(costs, Drawn(f"{key}-execution"))
    )


def _run_details(run: str, board: Board, links: Mapping[str, str]) -> str:
    link = (
        f'<p><a href="{escape(links[run])}">The whole board of this run, with its episodes</a></p>'
        if run in links
        else ""
    )
    said = "".join(f'<li role="note">{_first_bold(text)}</li>' for text in banners(board))
    inner = link + (f'<ul class="banners">{said}</ul>' if said else "") + _definitions(provenance(board))
    return (
        f'<details class="block"><summary>{escape(run)}<small>{escape(_run_title(board))}</small></summary>'
        f'<div class="inner">{inner}</div></details>\n'
    )


def _published(suites: Sequence[str]) -> str:
    tables = published_tables(suites)
    if not tables:
        return ""
    drawn = "".join(table_html(table, Drawn(f"t-published-{i}")) for i, table in enumerate(tables, start=1))
    return (
        '<div class="published"><p>Numbers from papers, READMEs and leaderboards, as printed there. Nobody ran them '
        f"here; they are not ranked with anything on this page.</p>{drawn}</div>\n"
    )


def _provenance(board: Board) -> str:
    protocol = board.manifest["protocol_card"]
    sources: Mapping[str, Any] = protocol.get("sources") or {}
    rules = tuple(
        (key, _plain(value), str(sources.get(key, "")))
        for key, value in protocol.items()
        if key not in {"sources", "name", "summary"}
    )
    card = board.manifest["policy_card"]
    rows = tuple((key, text) for key, value in card.items() if (text := _plain(value)))
    cards = table_html(Table("Policy card", ("field", "value"), rows, n_text=2), Drawn("t-policy-card"))
    if rules:
        table = Table("Protocol card", ("rule", "value", "source"), rules, n_text=3)
        cards += table_html(table, Drawn("t-protocol-card"))
    return f'<div class="block">{_definitions(provenance(board))}</div>\n{cards}'


def _plain(value: object) -> str:
    """Return a card's value as text: lists with commas, mappings as ``key: value``."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return "" if value is None else str(value)


def _definitions(pairs: Iterable[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(label)}</dt><dd>{escape(text)}</dd>' for label, text in pairs)}</dl>"
