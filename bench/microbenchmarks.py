"""The microbenchmarks of `micro`, run by pytest-benchmark, as numbers."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.programs import CannotRun

__all__ = ["run"]

HERE = Path(__file__).parent
WITHIN_S = 300
SHOWN = ("median", "min", "iqr")


def run(*, quick: bool) -> dict[str, dict[str, float]]:
    """Run them. Gives statistics in seconds by name.

    Raises:
        CannotRun: pytest failed; the text is its output.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder) / "micro.json"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            str(HERE / "micro"),
        ]
        command += [f"--benchmark-json={path}", "--benchmark-storage", folder]
        command += ["--benchmark-max-time=0.1", "--benchmark-min-rounds=5"] if quick else []
        done = subprocess.run(
            command,
            cwd=HERE.parent,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        if done.returncode:
            raise CannotRun(f"the microbenchmarks failed:\n{done.stdout[-3000:]}")
        benchmarks = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    return {
        one["name"].removeprefix("test_"): {name: one["stats"][name] for name in SHOWN}
        for one in benchmarks
    }
