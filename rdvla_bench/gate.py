"""``python -m rdvla_bench.gate``."""

from rdvla_bench.commands.gate import main

if __name__ == "__main__":
    raise SystemExit(main())
