"""``python -m rdvla_bench.replay``."""

from rdvla_bench.commands.replay import main

if __name__ == "__main__":
    raise SystemExit(main())
