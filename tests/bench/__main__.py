"""Run one benchmark: `python -m tests.bench NAME [--full]`."""

import importlib
import pkgutil
import sys
from pathlib import Path

HELPERS = {"common", "hordak", "naive", "run_ways"}


def main() -> int:
    """Find the benchmark and hand it the rest of the command line."""
    here = str(Path(__file__).parent)
    known = sorted(
        module.name
        for module in pkgutil.iter_modules([here])
        if not module.name.startswith("_") and module.name not in HELPERS
    )
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        sys.stderr.write(f"usage: python -m tests.bench {{{','.join(known)}}} [--full]\n")
        return 2
    return int(importlib.import_module(f"tests.bench.{sys.argv[1]}").main(sys.argv[2:]) or 0)


if __name__ == "__main__":
    sys.exit(main())
