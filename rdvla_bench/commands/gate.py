"""``gate --baseline FILE RUN``: is the run worse than the baseline? 0 no, 1 yes, 2 that cannot be told."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from rdvla_bench.commands.cli import command
from rdvla_bench.commands.gate_options import Options, ceilings
from rdvla_bench.errors import UsageError
from rdvla_bench.run_set import demand_single

if TYPE_CHECKING:
    from rdvla_bench.leaderboards.baseline import Baseline
    from rdvla_bench.leaderboards.gate import Gate
    from rdvla_bench.leaderboards.margin import Margin
    from rdvla_bench.leaderboards.noninferiority import Check

INTERRUPTED = 130
"""Exit code after Ctrl-C, as a shell reports SIGINT."""

EXIT = {"pass": 0, "regression": 1, "undecided": 2}
DEFAULT_MARGIN = {False: "2pp", True: "0.1"}  # of success rate, of chain length


@command
def main(argv: list[str] | None = None) -> int:
    """Print one line; return the exit code."""
    options = tyro.cli(Options, args=argv, prog="rdvla-bench gate")
    try:
        gate, margin = _ask(options)
    except UsageError as error:
        _report_refusal(options, f"{type(error).__name__}: {error}")
        raise
    except KeyboardInterrupt:
        print("interrupted; what was played is safe. The same command again resumes", file=sys.stderr)
        return INTERRUPTED
    _report(options, gate, margin)
    print(gate.line)
    return EXIT[gate.verdict]


def _ask(options: Options) -> tuple[Gate, Margin]:
    _check(options)
    from rdvla_bench.leaderboards.margin import check_alpha, parse_margin

    check_alpha(options.alpha)
    baseline = _read(options.baseline)
    n_instructions = max(baseline.n_instructions.values()) if baseline.is_chain else 1
    margin = parse_margin(options.margin or DEFAULT_MARGIN[n_instructions > 1], n_instructions)
    if not options.sequential:
        return _judge(options, baseline, margin), margin
    from rdvla_bench.commands.gate_sequential import decide

    return decide(options, baseline, margin), margin


def _check(options: Options) -> None:
    if (options.run is None) == (options.policy is None):
        raise UsageError("give either a run folder, or --sequential --policy NAME to play: rdvla-bench gate --help")
    if options.run is not None:
        demand_single(options.run)
    if options.policy is not None and not options.sequential:
        raise UsageError("--policy plays with --sequential only; a finished run is given by its folder")
    if options.sequential and options.exact:
        raise UsageError("--exact compares every episode: leave out --sequential")
    if options.exact and options.margin is not None:
        raise UsageError("--exact allows no margin: leave out --margin")


def _read(path: Path | None) -> Baseline:
    from rdvla_bench.leaderboards.baseline import loads

    if path is None:
        raise UsageError("no --baseline given. Freeze a run first: rdvla-bench baseline RUN > FILE")
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--baseline {path} cannot be read ({error}): rdvla-bench baseline RUN > FILE") from error
    return loads(text, path)


def _judge(options: Options, baseline: Baseline, margin: Margin) -> Gate:
    from rdvla_bench.leaderboards.baseline import check_errors, freeze
    from rdvla_bench.leaderboards.gate import Gate, check_comparable, check_exact, common, notes, task_rows
    from rdvla_bench.leaderboards.run_folder import read_run

    if options.run is None:
        raise UsageError("no run folder given")
    folder = read_run(options.run)
    check_errors(options.run, folder)
    run = freeze(folder)
    check_comparable(baseline, run)
    changed: tuple[str, ...] = ()
    if options.exact:
        check, changed = check_exact(baseline, run)
    else:
        check = _compare(baseline, run, margin, options.alpha)
    rows = task_rows(common(baseline, run), baseline, margin)
    return Gate(baseline, run, (check, *ceilings(options, run)), notes(baseline, run), changed, rows)


def _compare(baseline: Baseline, run: Baseline, margin: Margin, alpha: float) -> Check:
    from rdvla_bench.leaderboards.gate import common
    from rdvla_bench.leaderboards.noninferiority import check_length, check_rate, check_unpaired

    pairs = common(baseline, run)
    if pairs:
        return (check_length if margin.is_length else check_rate)(pairs, margin, alpha)
    seeds = f"seed {baseline.seed} there, {run.seed} here"
    return check_unpaired(
        baseline, run, margin, alpha, f"not paired: {seeds if baseline.seed != run.seed else 'other starts'}"
    )


def _report(options: Options, gate: Gate, margin: Margin) -> None:
    from rdvla_bench.leaderboards.gate_summary import summary
    from rdvla_bench.leaderboards.junit import junit

    try:
        _write(options, junit(gate), summary(gate, margin))
    except OSError as error:
        raise UsageError(f"{gate.line} (but the report could not be written: {error})") from error


def _report_refusal(options: Options, message: str) -> None:
    from rdvla_bench.leaderboards.gate_summary import summary_of_refusal
    from rdvla_bench.leaderboards.junit import junit_of_refusal

    with suppress(OSError):  # the message itself comes first, and is on stderr
        _write(options, junit_of_refusal(message), summary_of_refusal(message))


def _write(options: Options, xml: str, page: str) -> None:
    if options.junit is not None:
        options.junit.write_text(xml)
    if options.summary is not None:
        options.summary.write_text(page)
    if job_page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(job_page).open("a") as file:
            file.write(page)
