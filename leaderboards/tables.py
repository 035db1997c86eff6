"""A board as tables of text, which Markdown and the terminal then draw."""

from __future__ import annotations

from dataclasses import dataclass

from rdvla_bench.leaderboards.board import Board, Cost, Score
from rdvla_bench.leaderboards.frame import last_line
from rdvla_bench.leaderboards.ranking import Group

NOTHING = "–"
MAX_ERRORS = 10
"""How many errors a board lists."""

RESULT_COLUMNS = ("success", "rate", "95 % interval", "errors", "depth", "queries", "steps", "GFLOP", "standing")
COST_COLUMNS = (
    "model ms/query", "p50", "p95", "backbone ms", "head ms", "batch",
    "CPU-s/episode", "wall-s/episode", "build CPU-s", "retries",
)  # fmt: skip

RESULTS_LEGEND = (
    "Rate: successes of the episodes that did not end in an error, with Wilson's 95 % interval. Depth: iterations of "
    "the recurrent core, mean ± standard deviation over queries. Queries, control steps and GFLOP: mean an episode."
)
MEAN_LEGEND = (
    " Mean of suites: every suite weighs alike; its interval is Wilson's with tasks as strata, for these tasks played "
    "again."
)
CHAIN_LEGEND = (
    "Length: mean number of instructions done in a row, with a bootstrap 95 % interval over chains. 1..5: share of "
    "chains with at least so many done."
)
SUBTASK_LEGEND = "Attempts: chains that came as far. Steps: mean control steps of a success."
COST_LEGEND = (
    "Over the same episodes; these numbers belong to one execution on one machine. Build CPU-s and retries are totals."
)


@dataclass(frozen=True)
class Table:
    """A title, one header a column, rows of equally many cells.

    The first ``n_text`` and the last ``n_last`` columns are text, the others numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_text: int = 1
    legend: str = ""
    n_last: int = 0

    def is_text(self, column: int) -> bool:
        """Return whether a column is text, left-aligned, rather than numbers."""
        return column < self.n_text or column >= len(self.columns) - self.n_last


def banners(board: Board) -> list[str]:
    """Return what a reader must not overlook."""
    said = []
    if board.is_untrained:
        said.append("untrained: this policy's weights were never trained; its rates measure the harness, not a method.")
    if board.is_privileged:
        said.append("privileged: this policy reads the simulator's state; compare it with no policy that sees pixels.")
    if board.has_procedural_look:
        said.append("procedural look: drawn here, not the original's; compare it with no number under another card.")
    said += [f"not ranked: {s.suite}, {s.unranked}." for s in board.suite_scores if s.unranked]
    return said


def title(board: Board) -> str:
    """Return the headline of one run."""
    config = board.manifest["config"]
    return f"{config['policy']} on {', '.join(config['suites'])} under {config['protocol']}"


def settings_text(board: Board) -> str:
    """Return the settings given to the policy, "" where all are its defaults."""
    return ", ".join(f"{key}={value}" for key, value in sorted(board.manifest["config"]["settings"].items()))


def provenance(board: Board) -> list[tuple[str, str]]:
    """Return where the numbers come from, as label and text. The same for every execution of one configuration."""
    manifest = board.manifest
    config, card, protocol = manifest["config"], manifest["policy_card"], manifest["protocol_card"]
    weights = " ".join(filter(None, (str(card.get("weights", "")), str(card.get("weights_sha256", ""))[:12])))
    gl = manifest["gl"] or {}
    full = protocol.get("n_trials", config["episodes"])
    per_task = f"{config['episodes']} a task" + (
        f" (a quick look: the protocol's evaluation has {full})" if config["episodes"] < full else ""
    )
    return [
        ("policy card", f"{card.get('name', config['policy'])}, hash {manifest['policy_hash']}"),
        ("weights", weights or NOTHING),
        ("settings", settings_text(board) or "defaults"),
        ("protocol card", f"{config['protocol']}, hash {manifest['protocol_hash']}: {protocol.get('summary', '')}"),
        ("episodes", f"{board.done} of {manifest['planned']}, {per_task}, seed {config['seed']}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(manifest["versions"].items()))),
        ("GL renderer", f"{gl.get('renderer') or 'none used'}, canary frame {gl.get('canary_sha256') or NOTHING}"),
        ("git commit", manifest["git_commit"] or NOTHING),
    ]


def result_tables(board: Board) -> list[Table]:
    """Return the reproducible tables: per suite, then per task."""
    suites = [(s.suite, *score_cells(board, s)) for s in board.suite_scores]
    if len(board.suite_scores) > 1:
        interval = board.mean_of_suites_interval
        rest = ("" for _ in RESULT_COLUMNS[3:])
        suites.append(
            ("mean of suites", "", _percent(board.mean_of_suites), _interval(*interval) if interval else "", *rest)
        )
    tasks = [(s.suite, str(s.task), s.name, *score_cells(board, s)) for s in board.task_scores]
    legend = RESULTS_LEGEND + (MEAN_LEGEND if len(suites) > len(board.suite_scores) else "")
    tables = [
        Table("Suites", ("suite", *RESULT_COLUMNS), tuple(suites), legend=legend),
        Table("Tasks", ("suite", "task", "name", *RESULT_COLUMNS), tuple(tasks), n_text=3),
    ]
    if any(s.chain for s in board.suite_scores):
        tables[1:] = chain_tables(board)  # a suite of chains has one task: itself
    if any(s.errors for s in board.suite_scores):
        failed = board.results[board.results["outcome"] == "error"]
        legend = "The whole tracebacks are in episodes.jsonl."
        if len(failed) > MAX_ERRORS:
            legend = f"The first {MAX_ERRORS} of {len(failed)}. {legend}"
        rows = tuple(
            (name, culprit, last_line(error))
            for name, culprit, error in failed[["id", "culprit", "error"]].head(MAX_ERRORS).itertuples(index=False)
        )
        tables.append(Table("Errors", ("episode", "culprit", "message"), rows, n_text=3, legend=legend))
    return tables


def chain_tables(board: Board) -> list[Table]:
    """Return average chain lengths and the subtasks' rates, for suites whose episodes are chains."""
    scores = [s for s in board.suite_scores if s.chain]
    width = max((len(s.chain.in_a_row) for s in scores if s.chain), default=0)
    chains = tuple((s.suite, *chain_cells(board, s, width)) for s in scores)
    subtasks = tuple(
        (s.suite, s.name, f"{s.successes}/{s.attempts}", _percent(s.rate), _interval(s.low, s.high),
         _number(s.steps, ".1f"))
        for s in board.subtask_scores
    )  # fmt: skip
    columns = ("suite", "subtask", "success", "rate", "95 % interval", "steps")
    return [
        Table("Chains", ("suite", *chain_columns(width)), chains, legend=CHAIN_LEGEND),
        Table("Subtasks", columns, subtasks, n_text=2, legend=SUBTASK_LEGEND),
    ]


def chain_columns(width: int) -> tuple[str, ...]:
    """Return the headers over ``chain_cells``."""
    return ("chains", "length", "95 % interval", *(str(k) for k in range(1, width + 1)), "standing")


def chain_cells(board: Board, score: Score, width: int) -> tuple[str, ...]:
    """Return the cells of one suite of chains, padded to ``width`` success rates."""
    if score.chain is None:
        return (str(score.scored), *(NOTHING for _ in range(width + 3)))
    chain = score.chain
    rates = [_percent(rate) for rate in chain.in_a_row]
    rates += [NOTHING] * (width - len(rates))
    standing = board.standing(score) or "ranked"
    return (str(score.scored), f"{chain.length:.3f}", f"[{chain.low:.3f}, {chain.high:.3f}]", *rates, standing)


def cost_tables(board: Board) -> list[Table]:
    """Return the tables of this one execution: per suite, then per task."""
    suites = tuple((c.suite, *cost_cells(c)) for c in board.suite_costs)
    tasks = tuple((c.suite, str(c.task), *cost_cells(c)) for c in board.task_costs)
    return [
        Table("Execution, suites", ("suite", *COST_COLUMNS), suites, legend=COST_LEGEND),
        Table("Execution, tasks", ("suite", "task", *COST_COLUMNS), tasks, n_text=2),
    ]


def group_tables(group: Group) -> list[Table]:
    """Return the results and the executions of runs that share a protocol card, a suite and its tasks."""
    head = ("run", "policy", "settings", "weights", "seed")
    is_varied = len({settings_text(e.board) for e in group.entries}) > 1
    named = [
        (e.run, e.board.manifest["config"]["policy"], (settings_text(e.board) or NOTHING) if is_varied else NOTHING,
         str(e.board.manifest["policy_card"].get("weights", "")), str(e.board.manifest["config"]["seed"]))
        for e in group.entries
    ]  # fmt: skip
    width = max((len(e.score.chain.in_a_row) for e in group.entries if e.score.chain), default=0)
    columns = chain_columns(width) if width else RESULT_COLUMNS
    results = (
        (
            str(rank or NOTHING),
            *name,
            *(chain_cells(e.board, e.score, width) if width else score_cells(e.board, e.score)),
        )
        for rank, name, e in zip(group.ranks, named, group.entries, strict=True)
    )
    costs = ((*name[:2], *cost_cells(e.cost)) for name, e in zip(named, group.entries, strict=True))
    return [
        Table(
            group.title,
            ("rank", *head, *columns),
            tuple(results),
            n_text=6,
            legend=CHAIN_LEGEND if width else RESULTS_LEGEND,
        ),
        Table(f"{group.title}: execution", ("run", "policy", *COST_COLUMNS), tuple(costs), 2, COST_LEGEND),
    ]


def score_cells(board: Board, score: Score) -> tuple[str, ...]:
    """Return the cells under ``RESULT_COLUMNS``."""
    interval = NOTHING
    if score.low is not None and score.high is not None:
        interval = _interval(score.low, score.high)
    return (
        f"{score.successes}/{score.scored}",
        _percent(score.rate),
        interval,
        str(score.errors),
        _with_spread(score.depth, score.depth_sd),
        _number(score.queries, ".1f"),
        _number(score.steps, ".1f"),
        _number(None if score.flops is None else score.flops / 1e9, ".4g"),
        board.standing(score) or "ranked",
    )


def cost_cells(cost: Cost) -> tuple[str, ...]:
    """Return the cells under ``COST_COLUMNS``."""
    per_query = (cost.model_ms, cost.model_ms_p50, cost.model_ms_p95, cost.backbone_ms, cost.head_ms)
    return (
        *(_number(value, ".2f") for value in per_query),
        _number(cost.batch_size, ".1f"),
        _number(cost.cpu_s, ".2f"),
        _number(cost.wall_s, ".2f"),
        f"{cost.build_cpu_s:.1f}",
        str(cost.retries),
    )


def _interval(low: float, high: float) -> str:
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)


def _percent(rate: float | None) -> str:
    return NOTHING if rate is None else f"{100 * rate:.1f} %"


def _with_spread(center: float | None, sd: float | None) -> str:
    return _number(center, ".1f") + (f" ± {sd:.1f}" if sd is not None else "")
