"""``python -m rdvla_bench.baseline``."""

from rdvla_bench.commands.baseline import main

if __name__ == "__main__":
    raise SystemExit(main())
