"""The Markdown page beside the films: what they show, and of how many episodes they were taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdvla_bench.commands.film_choice import Choice, Shown
from rdvla_bench.commands.film_small import PICTURES_HZ, SPEED
from rdvla_bench.errors import UsageError
from rdvla_bench.ledger import write_atomically
from rdvla_bench.record import Record

INDEX = "index.md"
MARK = "<!-- made by rdvla-bench film -->"


@dataclass(frozen=True)
class Entry:
    """One row: an episode and its film."""

    shown: Shown
    record: Record
    n_instructions: int
    film: str  # the file's name beside the index
    trouble: str = ""  # why there is no film


@dataclass(frozen=True)
class Page:
    """What the index says."""

    runs: tuple[dict[str, Any], ...]  # run.json
    choices: tuple[Choice, ...]
    entries: tuple[Entry, ...]
    is_spread: bool


def demand_ours(path: Path) -> None:
    """Check that ``path`` may be written.

    Raises:
        UsageError: it is a page that was not made here.
    """
    if path.exists() and (not path.is_file() or MARK not in path.read_text(errors="replace")):
        raise UsageError(f"{path} was not made by rdvla-bench film: move it, or choose another --out")


def write_index(path: Path, page: Page) -> None:
    """Write the page whole or not at all."""
    write_atomically(path, render(page).encode())


def render(page: Page) -> str:
    """Return the page as Markdown."""
    n = page.choices[0].n_asked
    rule = "one of every task before a second of any, " if page.is_spread else ""
    lines = [
        "# Films of successes and failures",
        "",
        MARK,
        "",
        f"Chosen by rule, not by eye: of each suite the first successes and the first failures ({n} of each, as far as "
        f"there are so many), {rule}in the order of the run's plan. Errors are neither. Each film replays the recorded "
        f"actions and ended in the recorded state, hash for hash. {PICTURES_HZ} pictures of a simulated second, shown "
        f"{SPEED} times as fast as it was.",
        "",
        *(f"* {_of_run(run)}" for run in page.runs),
        "",
        *(f"* {_of_suite(choice)}" for choice in page.choices),
        "",
        "| suite | episode | instruction | shown as | steps | mean depth | film |",
        "|---|---|---|---|--:|--:|---|",
        *(_row(entry) for entry in page.entries),
    ]
    return "\n".join(lines) + "\n"


def _of_run(run: dict[str, Any]) -> str:
    card, config = run["policy_card"], run["config"]
    settings = "".join(f" {key}={value}" for key, value in config["settings"].items())
    suites = ", ".join(config["suites"])
    unfinished = "" if run["status"] == "complete" else f"; the run was {run['status']}, not complete"
    return (
        f"{suites}: `{config['policy']}{settings}`, weights {card['weights']}, policy card `{run['policy_hash']}`, "
        f"protocol `{config['protocol']}`, seed {config['seed']}{unfinished}"
    )


def _of_suite(choice: Choice) -> str:
    """Return the suite's rate and what is shown of it, so that no film passes for more than it is."""
    what = "chains" if choice.n_instructions > 1 else "episodes"
    rate = f"{choice.suite}: {choice.n_successes} of {choice.n_episodes} {what} succeeded"
    errors = f", {choice.n_errors} more ended in an error" if choice.n_errors else ""
    n_longest = choice.count(Shown.LONGEST)
    parts = [_count(choice.count(Shown.SUCCESS), "success", "successes", n_asked=choice.n_asked)]
    if n_longest:
        parts.append(f"in their place the {n_longest} longest of the other chains")
    parts.append(_count(choice.count(Shown.FAILURE), "failure", "failures", n_asked=choice.n_asked))
    return f"{rate}{errors}. Shown: {', '.join(parts)}."


def _count(n: int, one: str, many: str, *, n_asked: int) -> str:
    text = f"{n or 'no'} {one if n == 1 else many}"
    return text if n == n_asked else f"{text} (there are no more)"


def _row(entry: Entry) -> str:
    episode, result = entry.record.episode, entry.record.result
    is_chain = entry.n_instructions > 1
    place = f"chain {episode.start}" if is_chain else f"task {episode.task}, start {episode.start}"
    if episode.repetition:
        place += f", repetition {episode.repetition}"
    depth = f"{sum(result.depths) / len(result.depths):.1f}" if any(result.depths) else "–"
    film = f"not filmed: {entry.trouble}" if entry.trouble else f"[{entry.film}]({entry.film})"
    told = ", then ".join(result.subtasks) if is_chain and result.subtasks else result.instruction
    cells = (episode.suite, place, told, _outcome(entry), str(result.steps), depth, film)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _outcome(entry: Entry) -> str:
    result = entry.record.result
    if entry.n_instructions <= 1 or result.solved is None:
        return entry.shown
    stopped = f", stopped at {result.subtasks[result.solved]}" if result.solved < len(result.subtasks) else ""
    return f"{entry.shown}: {result.solved} of {entry.n_instructions} done{stopped}"


def strangers(folder: Path, entries: Sequence[Entry]) -> list[str]:
    """Return the mp4 files in ``folder`` that the index does not name."""
    named = {entry.film for entry in entries if not entry.trouble}
    return sorted(path.name for path in folder.glob("[!.]*.mp4") if path.name not in named)
