"""flask-sse's own tests, from its source distribution, with our name in place of its."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from harness import packages

MIGRATION = Path(__file__).parents[3] / "docs" / "how-to" / "migrate-from-flask-sse.md"
WITHIN_S = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tests, as a program that moved over would have them."""
    with tarfile.open(packages.sdist("flask-sse==1.0.0")) as archive:
        for member in archive.getmembers():
            found = re.search(r"/tests/(\w+\.py)$", member.name)
            source = archive.extractfile(member)
            if found and source is not None:
                text = source.read().decode().replace("flask_sse", "flask_eventstream")
                text = text.replace("pytest.yield_fixture", "pytest.fixture")  # pytest's own change
                (tmp_path / found[1]).write_text(text, encoding="utf-8")
    return tmp_path


def outcomes(folder: Path) -> dict[str, str]:
    """What became of each test."""
    path = [str(each) for each in packages.pytest_mock()]
    env = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    env["PYTHONPATH"] = os.pathsep.join([*path, *filter(None, [env.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-p", "no:xdist", "--rootdir", str(folder), str(folder)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    lines = re.findall(r"^(PASSED|FAILED|ERROR) \S+::(\w+)", done.stdout, re.MULTILINE)
    assert lines, done.stdout + done.stderr
    return {name: outcome for outcome, name in lines}


def test_its_own_tests_pass_but_those_that_can_not(folder: Path) -> None:
    """Each of flask-sse's tests passes, but for those that the migration page names."""
    page = MIGRATION.read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))

    found = outcomes(folder)

    assert {name for name, outcome in found.items() if outcome != "PASSED"} == named
    assert f"Of its {len(found)} tests" in page
