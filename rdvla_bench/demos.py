"""``python -m rdvla_bench.demos``: see ``rdvla_bench.commands.demos``."""

from rdvla_bench.arithmetic import portable_process
from rdvla_bench.commands.demos import main

if __name__ == "__main__":
    portable_process()
    raise SystemExit(main())
