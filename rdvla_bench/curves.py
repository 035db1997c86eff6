"""``python -m rdvla_bench.curves``."""

from rdvla_bench.commands.curves import main

if __name__ == "__main__":
    raise SystemExit(main())
