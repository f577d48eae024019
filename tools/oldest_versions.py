"""Print requirements: what users install, as old as pyproject.toml admits, and the tests' tools.

What users install is our dependencies, those of the extras `redis` and `asgi`, and WSGI servers.
Other Flask extensions are left out: they ask for a newer Flask, and tests/live/companions has them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
FLOOR = re.compile(r"([A-Za-z0-9_-]+)(\[[a-z,]+\])?>=([0-9.]+)")
SERVERS = ("gunicorn", "waitress", "gevent")
LEFT_OUT = ("flask-", "mypy", "ruff", "import-linter", "sentry-sdk", "selenium")


def main() -> None:
    """Print one requirement a line."""
    extras = PROJECT["optional-dependencies"]
    tools = [line for line in extras["dev"] if not line.startswith((*SERVERS, *LEFT_OUT))]
    servers = [line for line in extras["dev"] if line.startswith(SERVERS)]
    old = [oldest(line) for line in (*PROJECT["dependencies"], *extras["redis"], *servers)]
    old += [oldest(line) for line in extras["asgi"]]
    named = {line.partition("==")[0] for line in old}
    print(*old, *(line for line in tools if FLOOR.sub(r"\1\2", line) not in named), sep="\n")


def oldest(requirement: str) -> str:
    """The same package, at its floor."""
    floor = FLOOR.match(requirement)
    if floor is None:
        raise SystemExit(f"{requirement!r} has no floor: write package>=version")
    return f"{floor[1]}{floor[2] or ''}=={floor[3]}"


if __name__ == "__main__":
    main()
