"""What the peers are installed from, and where: a folder of their own that git does not see.

Nothing here changes the project's environment. What can't be installed is left out with a word on
why, and its rows say so.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from bench.machine import first_line
from bench.programs import CannotRun

__all__ = ["NODE", "PEER_PYTHON", "install", "nchan_module", "nginx", "node", "versions"]

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".packages" / "bench"
PEER_PYTHON = FOLDER / "venv" / "bin" / "python"
NODE = FOLDER / "node"
NCHAN = FOLDER / "nchan"

PYTHON_PACKAGES = [
    "flask-sse==1.0.0",
    "flask",
    "gunicorn[gevent]>=23",
    "redis[hiredis]",
    "sse-starlette",
    "uvicorn[standard]",
    "django",
    "django-eventstream",
]
SHOWN = ("flask-sse", "sse-starlette", "django-eventstream", "django", "gunicorn", "gevent")
SHOWN_OURS = ("flask-eventstream", "flask", "gunicorn", "uvicorn", "uvloop", "redis", "hiredis")
INSTALL_WITHIN_S = 600


def install() -> list[str]:
    """Install what is missing. Returns what could not be, a line each."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    problems = []
    for step in (_install_programs, _install_python, _install_node, _install_nchan):
        try:
            step()
        except (OSError, subprocess.SubprocessError, CannotRun) as error:
            detail = getattr(error, "stderr", None) or ""
            problems.append(f"{step.__name__.removeprefix('_install_')}: {error} {detail}".strip())
    return problems


def _run(*command: str | Path, cwd: Path = ROOT) -> None:
    subprocess.run(
        command, cwd=cwd, check=True, capture_output=True, text=True, timeout=INSTALL_WITHIN_S
    )


def _install_programs() -> None:
    wanted = {"gcc": "cc", "nginx-light": "nginx", "redis-server": "redis-server", "npm": "npm"}
    missing = [package for package, program in wanted.items() if not _which(program)]
    missing += ["libc6-dev"] if "gcc" in missing else []
    if missing:
        _run(ROOT / "tools" / "apt-install", *missing)


def _install_python() -> None:
    stamp = FOLDER / "venv" / ".installed"
    wanted = "\n".join(PYTHON_PACKAGES)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    _run(sys.executable, "-m", "venv", FOLDER / "venv")
    _run(PEER_PYTHON, "-m", "pip", "install", "--quiet", *PYTHON_PACKAGES)
    stamp.write_text(wanted, encoding="utf-8")


def _install_node() -> None:
    if not (NODE / "node_modules" / "better-sse").exists():
        NODE.mkdir(exist_ok=True)
        _run("npm", "install", "--no-audit", "--no-fund", "better-sse", cwd=NODE)


def _install_nchan() -> None:
    # Taken out of its package and not installed: the module would be loaded by every nginx here.
    if list(NCHAN.rglob("ngx_nchan_module.so")):
        return
    NCHAN.mkdir(exist_ok=True)
    _run("apt-get", "download", "libnginx-mod-nchan", cwd=NCHAN)
    for package in NCHAN.glob("*.deb"):
        _run("dpkg", "-x", package, NCHAN)


def _which(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


def nginx() -> str:
    """The program nginx."""
    return _program("nginx", "nginx-light")


def node() -> str:
    """The program node, if better-sse is there."""
    if not (NODE / "node_modules" / "better-sse").exists():
        raise CannotRun("better-sse is not installed (npm install better-sse)")
    return _program("node", "nodejs")


def _program(name: str, package: str) -> str:
    found = _which(name)
    if found is None:
        raise CannotRun(f"{name} is not installed (Debian's package {package})")
    return found


def nchan_module() -> Path:
    """The module of nginx."""
    found = next(iter(NCHAN.rglob("ngx_nchan_module.so")), None)
    if found is None:
        raise CannotRun("the module is not there (Debian's package libnginx-mod-nchan)")
    return found


def versions() -> dict[str, str]:
    """What runs here, by name, as far as it is there."""
    found = {
        "this project": _python_versions(Path(sys.executable), SHOWN_OURS),
        "peers in Python": _python_versions(PEER_PYTHON, SHOWN),
        "better-sse": first_line("npm", "ls", "--prefix", str(NODE), "--parseable", "--long"),
        "Node": first_line("node", "--version"),
        "nginx": first_line(_which("nginx") or "nginx", "-v"),
        "nchan": " ".join(package.name.split("_")[1] for package in NCHAN.glob("*.deb")).replace(
            "%3a", ":"
        ),
        "Redis": first_line("redis-server", "--version"),
    }
    manifest = NODE / "node_modules" / "better-sse" / "package.json"
    if manifest.exists():
        found["better-sse"] = first_line("node", "-p", f"require({str(manifest)!r}).version")
    return {name: version or "not installed" for name, version in found.items()}


def _python_versions(python: Path, names: tuple[str, ...]) -> str:
    code = (
        "import sys; from importlib.metadata import version\n"
        "print(', '.join(f'{name} {version(name)}' for name in sys.argv[1:]))"
    )
    return first_line(str(python), "-c", code, *names)
