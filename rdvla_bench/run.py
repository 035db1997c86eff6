"""``python -m rdvla_bench.run``: see ``rdvla_bench.commands.run``."""

from rdvla_bench.arithmetic import portable_process
from rdvla_bench.commands.run import main

if __name__ == "__main__":
    portable_process()
    raise SystemExit(main())
