"""The page of one run: results, figures, tasks with their episodes, execution, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rdvla_bench.leaderboards.board import Board, Score
from rdvla_bench.leaderboards.figures import Figure, run_figures
from rdvla_bench.leaderboards.html_frame import (
    assembled,
    bar_of,
    definitions,
    figure_html,
    published_html,
)
from rdvla_bench.leaderboards.html_table import Drawn, table_html
from rdvla_bench.leaderboards.svg import interval_bar
from rdvla_bench.leaderboards.tables import Table, banners, cost_tables, provenance, result_tables, settings_text


def run_body(run: str, board: Board) -> str:
    """Return the body of the page of one run."""
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
        ("published", "Published", published_html(config["suites"])),
        ("provenance", "Provenance", _provenance(board)),
    ]
    title = f"{escape(config['policy'])} <span>on {escape(', '.join(config['suites']))}</span>"
    return assembled(run, title, facts, banners(board), sections)


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
    return _card_html(score.suite, number, unit, bar_of(score), under, score.unranked)


def _card_html(name: str, number: str, unit: str, bar: str, under: Sequence[str], unranked: str) -> str:
    why = f'<p class="under"><b>unranked: {escape(unranked)}</b></p>' if unranked else ""
    said = "".join(f"<span>{escape(text)}</span>" for text in under)
    return (
        f'<article class="card{" unranked" if unranked else ""}"><h3>{escape(name)}</h3>'
        f'<p class="big">{number} <small>{escape(unit)}</small></p>{bar}<p class="under">{said}</p>{why}</article>'
    )


def _suites(tables: Mapping[str, Table], board: Board) -> str:
    rates = [] if any(s.chain for s in board.suite_scores) else [bar_of(s) for s in board.suite_scores]
    mean, interval = board.mean_of_suites, board.mean_of_suites_interval
    rates += [interval_bar(mean, *interval)] if rates and mean is not None and interval is not None else []
    n_totals = len(tables["Suites"].rows) - len(board.suite_scores)
    parts = [table_html(tables["Suites"], Drawn("t-suites", rates, n_totals=n_totals))]
    if "Chains" in tables:
        chained = [s for s in board.suite_scores if s.chain]
        tasks = board.manifest["config"]["tasks"]
        opened = [{"data-suite": s.suite, "data-task": str(tasks[s.suite][0])} for s in chained]
        parts.insert(0, table_html(tables["Chains"], Drawn("t-chains", [bar_of(s) for s in chained], opened)))
    return "".join(parts)


def _tasks(tables: Mapping[str, Table], board: Board) -> str:
    if "Subtasks" in tables:
        bars = [interval_bar(s.rate, s.low, s.high) for s in board.subtask_scores]
        return table_html(tables["Subtasks"], Drawn("t-subtasks", bars))
    opened = [{"data-suite": s.suite, "data-task": str(s.task)} for s in board.task_scores]
    said = frozenset[str]() if any(map(board.standing, board.task_scores)) else frozenset({"standing"})
    return table_html(tables["Tasks"], Drawn("t-tasks", [bar_of(s) for s in board.task_scores], opened, left_out=said))


def _costs(board: Board) -> str:
    machine = board.manifest.get("machine") or {}
    on = ", ".join(f"{key} {value}" for key, value in machine.items())
    suites, tasks = cost_tables(board)
    rest = f"<details><summary>Each task</summary>{table_html(tasks, Drawn('t-execution-tasks'))}</details>"
    return (f"<p>{escape(on)}</p>" if on else "") + table_html(suites, Drawn("t-execution")) + rest


def _figures(figures: Sequence[Figure]) -> str:
    if not figures:
        return ""
    return f'<div class="figures">{"".join(map(figure_html, figures))}</div>\n'


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
    return f'<div class="block">{definitions(provenance(board))}</div>\n{cards}'


def _plain(value: object) -> str:
    """Return a card's value as text: lists with commas, mappings as ``key: value``."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return "" if value is None else str(value)
