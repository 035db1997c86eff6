"""``python -m rdvla_bench.ship``: see ``rdvla_bench.commands.ship``."""

from rdvla_bench.commands.ship import main

if __name__ == "__main__":
    raise SystemExit(main())
