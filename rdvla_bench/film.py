"""``python -m rdvla_bench.film``: see ``rdvla_bench.commands.film``."""

from rdvla_bench.commands.film import main

if __name__ == "__main__":
    raise SystemExit(main())
