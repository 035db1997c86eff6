"""``python -m rdvla_bench.train``: see ``rdvla_bench.commands.train``."""

from rdvla_bench.commands.train import main

if __name__ == "__main__":
    raise SystemExit(main())
