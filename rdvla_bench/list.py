"""``python -m rdvla_bench.list``."""

from rdvla_bench.commands.list import main

if __name__ == "__main__":
    raise SystemExit(main())
