"""``rdvla-bench COMMAND ...``, the same as ``python -m rdvla_bench.COMMAND ...``."""

from __future__ import annotations

import sys
from importlib import import_module

from rdvla_bench.arithmetic import portable_process
from rdvla_bench.errors import nearest

COMMANDS = {
    "run": "evaluate a policy and print its board; the same command again resumes",
    "board": "print the board of one or more runs",
    "baseline": "freeze a finished run, to hold later ones against it",
    "gate": "tell whether a run is worse than a baseline; can stop as soon as it knows",
    "compare": "compare runs on the episodes they share: difference, interval, verdict",
    "curves": "show what compute buys: success against depth, FLOPs and time, as data and plots",
    "list": "show policies, weights, suites, tasks and protocol cards",
    "replay": "simulate a recorded episode again, bit for bit, and film it",
    "film": "make small films of a run's first successes and failures, with an index",
    "demos": "record scripted demonstrations for training; the same command again resumes",
    "train": "train RD-VLA on demonstrations; the same command again resumes",
    "recipe": "record demonstrations and train on them, as one file says; the same command again resumes",
    "ship": "make weights for the package from a training run: half precision and a manifest",
    "bench": "measure this harness against the plain evaluation loop",
}


PLAYING = ("run", "demos", "replay", "film", "gate")
"""Those whose results are to be the same on every machine."""


def main() -> int:
    """Hand the rest of the line to the command."""
    name, rest = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    if name in ("-h", "--help"):
        print("usage: rdvla-bench COMMAND [...]\n")
        print("\n".join(f"  {command:<8} {what}" for command, what in COMMANDS.items()))
        return 0
    if name not in COMMANDS:
        print(f"no command '{name}'.{nearest(name, COMMANDS)} (rdvla-bench --help)", file=sys.stderr)
        return 2
    if name in PLAYING:
        portable_process()
    status: int = import_module(f"rdvla_bench.commands.{name}").main(rest)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
