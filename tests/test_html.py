"""Claims about the page of a board: it needs nothing but itself, nobody's text becomes markup, a browser agrees."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import chromium
import pytest
from synthetic_runs import adaptive, fixed, plain, write, write_sweep

from rdvla_bench.commands.board import main
from rdvla_bench.leaderboards.board import load_board
from rdvla_bench.leaderboards.figures import group_figure, run_figures
from rdvla_bench.leaderboards.html import page
from rdvla_bench.leaderboards.ranking import group_runs
from rdvla_bench.leaderboards.render import write_all
from rdvla_bench.leaderboards.svg import Axis
from rdvla_bench.ledger import read_records, read_run, write_run

EVIL = "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">'\"&"
FOUR = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
VOID = {"meta", "link", "br", "wbr", "img"}


class Reader(HTMLParser):
    """Reads a page strictly: every element that opens closes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(folder: Path) -> str:
    return page([(str(folder), load_board(folder))], folder)


def data_in(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def poison(folder: Path) -> Path:
    """Put markup wherever a run keeps somebody else's text."""
    manifest = read_run(folder)
    manifest["config"] |= {"policy": EVIL, "settings": {EVIL: EVIL}}
    manifest["policy_card"] |= {"name": EVIL, "weights": EVIL}
    manifest["protocol_card"] |= {"summary": EVIL, EVIL: EVIL}
    manifest |= {"git_commit": EVIL, "versions": {EVIL: EVIL}, "machine": {EVIL: EVIL}, "started": EVIL}
    manifest["gl"] = {"renderer": EVIL, "canary_sha256": EVIL}
    manifest["task_names"] = {suite: dict.fromkeys(names, EVIL) for suite, names in manifest["task_names"].items()}
    write_run(folder, manifest)
    lines = []
    for record in read_records(folder).values():
        r = record.result
        subtasks = tuple(EVIL for _ in r.subtasks)
        result = replace(r, instruction=EVIL, error=r.error and EVIL, subtasks=subtasks, appearance=EVIL)
        lines.append(json.dumps(replace(record, result=result).to_json()) + "\n")
    (folder / "episodes.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages") / "run"
    write(folder, adaptive(1e-3), n_tasks=4, n_episodes=6, n_errors=1)
    (folder / "videos").mkdir()
    (folder / "videos" / "libero_object-t01-s002-r0.mp4").write_bytes(b"")
    write_all(folder)
    return folder


def test_the_page_asks_the_network_for_nothing(run: Path) -> None:
    text = (run / "board.html").read_text()
    reader = Reader(text)
    addresses = [value for _, found in reader.tags for name, value in found.items() if name in {"src", "href"}]
    assert all(a and (a.startswith("#") or a == "data:,") for a in addresses), addresses
    assert not re.search(r"@import|url\(", text)


def test_the_page_allows_no_script_but_its_own(run: Path) -> None:
    text = (run / "board.html").read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [m["content"] or "" for m in Reader(text).all("meta") if "http-equiv" in m]
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


@pytest.mark.parametrize("suite", ["libero_object", "calvin_d"])
def test_nobodys_text_becomes_markup(suite: str, tmp_path: Path) -> None:
    folder = poison(write(tmp_path / "a<b>'&\"", adaptive(1e-3), suites=[suite], n_tasks=2, n_episodes=4, n_errors=1))
    text = page_of(folder)
    assert len(Reader(text).all("script")) == 2
    assert not Reader(text).all("img")
    assert "&lt;script&gt;" in text
    assert data_in(text)["run"] == str(folder)


def test_many_runs_share_a_page_without_their_text_becoming_markup(tmp_path: Path) -> None:
    folders = [poison(write(tmp_path / name, fixed(4), n_tasks=1, n_episodes=2)) for name in ("a", "<b>")]
    text = page([(str(folder), load_board(folder)) for folder in folders], tmp_path)
    assert len(Reader(text).all("script")) == 2
    assert not Reader(text).all("img")


def test_every_header_cell_says_what_it_heads(run: Path) -> None:
    reader = Reader((run / "board.html").read_text())
    assert {found.get("scope") for found in reader.all("th")} == {"col", "row"}
    assert all(found.get("aria-label") for found in reader.all("svg") if found.get("class") == "chart")
    ids = [found["id"] for _, found in reader.tags if "id" in found]
    assert len(set(ids)) == len(ids)


def test_what_must_not_be_overlooked_stands_at_the_top(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", plain(), n_tasks=1, n_episodes=4, n_errors=2, privileged=True)
    manifest = read_run(folder)
    manifest["policy_card"]["weights"] = "untrained"
    manifest["protocol_card"]["variant"] = {"look": "procedural"}
    write_run(folder, manifest)
    top, _, rest = page_of(folder).partition("<main")
    for word in ("untrained", "privileged", "procedural look", "not ranked"):
        assert f"<b>{word}</b>" in top
    assert "unranked: 2 errors" in rest


def test_every_episode_is_behind_its_task_with_its_film_or_none(run: Path) -> None:
    data = data_in((run / "board.html").read_text())
    rows = [row for tasks in data["episodes"].values() for row in tasks["1"]]
    assert len(rows) == 6
    films = {row[0]: row[6] for row in rows if row[6]}
    assert films == {"libero_object-t01-s002-r0": "videos/libero_object-t01-s002-r0.mp4"}


def test_links_start_where_the_page_stands(run: Path, tmp_path: Path) -> None:
    assert main([str(run), "--html", str(tmp_path / "x.html")]) == 0
    films = [row[6] for row in data_in((tmp_path / "x.html").read_text())["episodes"]["libero_object"]["1"] if row[6]]
    assert [(tmp_path / film).resolve() for film in films] == [
        (run / "videos" / "libero_object-t01-s002-r0.mp4").resolve()
    ]


def test_long_episodes_keep_few_depths_and_the_same_mean(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", adaptive(1e-3), suites=["calvin_d"], n_episodes=3)
    records = [
        replace(r, result=replace(r.result, depths=tuple(range(1, 201)), exit_traces=((1.0,),) * 200))
        for r in read_records(folder).values()
    ]
    (folder / "episodes.jsonl").write_text("".join(json.dumps(r.to_json()) + "\n" for r in records))
    for row in data_in(page_of(folder))["episodes"]["calvin_d"]["0"]:
        assert len(row[5]) == 64
        assert sum(row[5]) / 64 == pytest.approx(100.5, rel=0.01)


def test_a_full_run_of_2000_episodes_stays_under_5_megabytes(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", adaptive(1e-3), suites=FOUR, n_tasks=10, n_episodes=50)
    assert len(page_of(folder).encode()) < 5e6


def test_a_policy_without_a_core_gets_no_depth_figures(tmp_path: Path) -> None:
    board = load_board(write(tmp_path / "a", plain(), n_tasks=3, n_episodes=2))
    assert {figure.title for figure in run_figures(board)} <= {"How long successes take", "What a query costs"}


def test_runs_at_several_depths_get_a_curve_and_runs_at_one_do_not(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", [fixed(1), fixed(8)], "depth", n_tasks=1, n_episodes=4)
    boards = [(name, load_board(sweep / name)) for name in ("depth=1", "depth=8")]
    (group,) = group_runs(boards)
    figure = group_figure(group)
    assert figure is not None
    assert "depth=1: " in figure.chart
    (alone,) = group_runs(boards[:1])
    assert group_figure(alone) is None


def test_a_page_of_many_runs_links_to_the_page_of_each(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", [fixed(1), fixed(8)], "depth", n_tasks=1, n_episodes=2)
    write_all(sweep / "depth=8")
    assert main([str(sweep), "--html", str(tmp_path / "x.html")]) == 0
    links = {found["href"] for found in Reader((tmp_path / "x.html").read_text()).all("a")}
    assert "sweep/depth%3D8/board.html" in links
    assert "sweep/depth%3D1/board.html" not in links


def test_what_several_runs_share_is_said_once_and_names_them(tmp_path: Path) -> None:
    runs = [write(tmp_path / name, plain(), n_tasks=1, n_episodes=2, privileged=True) for name in ("one", "two")]
    text = page([(str(run), load_board(run)) for run in runs], tmp_path)
    top, _, _ = text.partition("<main")
    assert top.count("<b>privileged</b>") == 1
    assert "(one, two)" in top


def test_groups_of_one_suite_are_told_apart_by_their_titles(tmp_path: Path) -> None:
    runs = [write(tmp_path / str(n), plain(), n_tasks=1, n_episodes=n) for n in (1, 2)]
    text = page([(str(run), load_board(run)) for run in runs], tmp_path)
    assert "libero_object, 1 a task</h2>" in text
    assert "libero_object, 2 a task</h2>" in text


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 100), (7.7, 8.3), (0, 0.003), (-2, 12345), (5, 5.5)])
def test_ticks_are_few_round_and_within_their_axis(low: float, high: float) -> None:
    ticks = Axis("x", low, high).ticks()
    assert 3 <= len(ticks) <= 8
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    assert all(float(f"{tick:g}") == pytest.approx(tick) for tick in ticks)


# ---- in a real browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    path = chromium.find()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(chromium.NAMES)} is installed")
    with chromium.Browser(path, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


COLUMN = "[...document.querySelectorAll('#t-tasks tbody tr:not(.detail)')].map(r => r.cells[{}].textContent)"


def column(browser: chromium.Browser, index: int) -> list[str]:
    found: list[str] = browser.js(COLUMN.format(index))
    return found


def test_a_browser_opens_the_page_without_complaint_or_request(run: Path, browser: chromium.Browser) -> None:
    browser.open(run / "board.html")
    assert browser.complaints == []
    assert browser.requests == [(run / "board.html").as_uri()]
    assert browser.js("document.title").startswith("rdvla-adaptive")
    assert len(browser.screenshot()) > 20_000


def test_a_table_is_sorted_from_the_keyboard_and_says_so(run: Path, browser: chromium.Browser) -> None:
    browser.open(run / "board.html")
    before = column(browser, 4)
    browser.js("document.querySelectorAll('#t-tasks thead th')[4].querySelector('button').focus()")
    orders = []
    for _ in range(3):
        browser.press("Enter")
        said = browser.js("document.querySelectorAll('#t-tasks thead th')[4].getAttribute('aria-sort')")
        orders.append((said, column(browser, 4)))
    rates = [float(text.split()[0]) for text in before]
    assert [said for said, _ in orders] == ["descending", "ascending", "none"]
    assert [float(t.split()[0]) for t in orders[0][1]] == sorted(rates, reverse=True)
    assert [float(t.split()[0]) for t in orders[1][1]] == sorted(rates)
    assert orders[2][1] == before
    assert browser.complaints == []


def test_an_address_can_ask_for_an_order(run: Path, browser: chromium.Browser) -> None:
    browser.open(run / "board.html", "#sort=t-tasks:1:descending")
    assert column(browser, 1) == ["3", "2", "1", "0"]


def test_a_task_opens_on_its_episodes_and_stays_with_them_when_sorted(run: Path, browser: chromium.Browser) -> None:
    browser.open(run / "board.html", "#open=libero_object:1")
    assert browser.js("document.querySelectorAll('tr.detail tbody tr').length") == 6
    assert browser.js("document.querySelector('tr.detail a').getAttribute('href')").endswith("-t01-s002-r0.mp4")
    browser.js("location.hash = '#sort=t-tasks:1:descending'; dispatchEvent(new Event('hashchange'))")
    assert browser.js("document.querySelector('tr.detail').previousElementSibling.dataset.task") == "1"
    browser.js("document.querySelector('tr.detail .plain-button').click()")
    command = browser.js("document.querySelector('.command code').textContent")
    assert command.startswith(f"python -m rdvla_bench.replay {run} libero_object-t01-s000-r0 --video {run}/videos/")
    browser.js("document.querySelector('tr.open button[aria-expanded=true]').click()")
    assert browser.js("document.querySelectorAll('tr.detail').length") == 0
    assert browser.complaints == []


@pytest.mark.parametrize("suite", ["libero_object", "calvin_d"])
def test_nobodys_text_runs_in_a_browser(suite: str, tmp_path: Path, browser: chromium.Browser) -> None:
    folder = poison(write(tmp_path / "a", adaptive(1e-3), suites=[suite], n_tasks=1, n_episodes=4, n_errors=1))
    write_all(folder)
    browser.open(folder / "board.html", f"#open={suite}:0")
    assert browser.js("document.querySelectorAll('tr.detail tbody tr').length") == 4
    assert browser.js("document.title") != "pwned"
    assert browser.js("document.querySelectorAll('img').length") == 0
    assert "<script>document.title='pwned'</script>" in browser.js("document.body.innerText")
    assert browser.complaints == []


def test_no_part_of_the_page_is_wider_than_a_telephone(run: Path, browser: chromium.Browser) -> None:
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    try:
        browser.open(run / "board.html", "#open=libero_object:1")
        assert browser.js("document.documentElement.scrollWidth") == 390
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")
