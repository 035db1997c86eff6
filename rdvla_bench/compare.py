"""``python -m rdvla_bench.compare``."""

from rdvla_bench.commands.compare import main

if __name__ == "__main__":
    raise SystemExit(main())
