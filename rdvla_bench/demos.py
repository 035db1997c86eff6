"""``python -m rdvla_bench.demos``: see ``rdvla_bench.commands.demos``."""

from rdvla_bench.commands.demos import main

if __name__ == "__main__":
    raise SystemExit(main())
