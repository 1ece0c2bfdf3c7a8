"""``make bench``: every measurement in a process of its own, one after the other, on an otherwise quiet machine."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    failed = 0
    for script in sorted(HERE.glob("bench_*.py")):
        print(f"\n## {script.stem.removeprefix('bench_')}", flush=True)
        failed += subprocess.run([sys.executable, "-m", f"tests.bench.{script.stem}"], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
