"""Print a constraint for the oldest version that pyproject.toml admits of what users install.

That is our dependencies, those of the extras `redis` and `asgi`, and gunicorn. Werkzeug has no
floor of ours: it gets the version that came out with the oldest Flask.
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
FLOOR = re.compile(r"([A-Za-z0-9_-]+)(?:\[[a-z,]+\])?>=([0-9.]+)")


def main() -> None:
    """Print one line a package, as pip takes it."""
    extras = PROJECT["optional-dependencies"]
    servers = [
        line for line in extras["dev"] if line.startswith(("gunicorn", "waitress", "gevent"))
    ]
    for line in [*PROJECT["dependencies"], *extras["redis"], *extras["asgi"], *servers]:
        floor = FLOOR.match(line)
        if floor is None:
            raise SystemExit(f"{line!r} has no floor: write package>=version")
        print(f"{floor[1]}=={floor[2]}")


if __name__ == "__main__":
    main()
