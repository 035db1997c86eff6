"""``python -m rdvla_bench.film``: see ``rdvla_bench.commands.film``."""

from rdvla_bench.arithmetic import portable_process
from rdvla_bench.commands.film import main

if __name__ == "__main__":
    portable_process()
    raise SystemExit(main())
