"""``python -m rdvla_bench.replay``."""

from rdvla_bench.arithmetic import portable_process
from rdvla_bench.commands.replay import main

if __name__ == "__main__":
    portable_process()
    raise SystemExit(main())
