"""``python -m rdvla_bench.gate``."""

from rdvla_bench.arithmetic import portable_process
from rdvla_bench.commands.gate import main

if __name__ == "__main__":
    portable_process()
    raise SystemExit(main())
