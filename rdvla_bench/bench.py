"""``python -m rdvla_bench.bench``."""

from rdvla_bench.commands.bench import main

if __name__ == "__main__":
    raise SystemExit(main())
