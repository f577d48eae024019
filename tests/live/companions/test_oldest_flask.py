"""The tests of the rooms that know Flask, or are called by it, on the oldest Flask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness import packages
from live.companions.test_flask_versions import FLASKS

TESTS = Path(__file__).parents[2]
FILES = ("app", "servers/wsgi/test_response.py")
WITHIN_S = 110

# The version is the one that is meant.
PRINT_VERSION = "import importlib.metadata as m; print('Flask', m.version('flask'))"


def test_the_rooms_that_know_flask() -> None:
    """Every test of these rooms passes on the oldest Flask, and none is skipped."""
    oldest, werkzeug = next(iter(FLASKS.items()))
    folders = [*packages.flask(oldest, werkzeug=werkzeug), os.environ.get("PYTHONPATH", "")]
    env = {
        **{name: value for name, value in os.environ.items() if "PYTEST" not in name},
        "PYTHONPATH": os.pathsep.join(str(folder) for folder in folders if folder),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    said = subprocess.run(
        [sys.executable, "-c", PRINT_VERSION], env=env, capture_output=True, text=True, check=True
    )
    done = subprocess.run(
        [*command, *(str(TESTS / name) for name in FILES)],
        env=env,
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )

    assert said.stdout.strip() == f"Flask {oldest}"
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout
