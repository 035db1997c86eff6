"""``python -m rdvla_bench.board``."""

from rdvla_bench.commands.board import main

if __name__ == "__main__":
    raise SystemExit(main())
