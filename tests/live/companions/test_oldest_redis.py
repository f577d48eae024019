"""The tests of the Redis broker, with older versions of redis-py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import packages

TESTS = Path(__file__).parents[2]
FILES = ("brokers/redis", "brokers/test_contract.py")
WITHIN_S = 115

#: The oldest that is supported, and the newest that Celery 5.5 takes.
VERSIONS = ("5.0.1", "5.2.1")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_redis_broker(version: str) -> None:
    """Every test of the broker passes with an older redis-py, and none is skipped."""
    folders = [*packages.redis_py(version), os.environ.get("PYTHONPATH", "")]
    env = {
        **{name: value for name, value in os.environ.items() if "PYTEST" not in name},
        "PYTHONPATH": os.pathsep.join(str(folder) for folder in folders if folder),
    }
    printed = subprocess.run(
        [sys.executable, "-c", "import redis; print(redis.__version__)"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2"),
            *("-k", "redis", *(str(TESTS / name) for name in FILES)),
        ],
        env=env,
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )

    assert printed.strip() == version
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout
