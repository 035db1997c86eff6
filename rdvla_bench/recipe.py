"""``python -m rdvla_bench.recipe``: see ``rdvla_bench.commands.recipe``."""

from rdvla_bench.commands.recipe import main

if __name__ == "__main__":
    raise SystemExit(main())
