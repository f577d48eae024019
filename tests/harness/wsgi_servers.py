"""How each WSGI server is started that is neither gunicorn nor Werkzeug's own."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .packages import debian_python
from .ports import HOST, free_port
from .programs import program

__all__ = ["FURTHER_KINDS", "Plan", "plan"]

STARTERS = Path(__file__).parents[1] / "live" / "servers" / "starters"

# Ordinary requests and streams share two threads, where the server can have two.
UWSGI = ["--master", "--die-on-term", "--need-app", "--pythonpath", "."]
APACHE_MODULES = "/usr/lib/apache2/modules"


@dataclass(frozen=True, slots=True)
class Plan:
    """A command, its port where it can't report one itself, and what it says when it is ready."""

    command: list[str]
    port: int = 0
    ready: str = ""


def plan(
    kind: str, app: str, *, port: int, options: Sequence[str], scratch: Path, cwd: Path
) -> Plan:
    """How to start a server of one of `FURTHER_KINDS`."""
    made = FURTHER_KINDS[kind](app, port, scratch, cwd)
    return Plan([*made.command, *options], port=made.port)


def _starter(name: str, *more: str) -> Callable[[str, int, Path, Path], Plan]:
    return lambda app, port, _scratch, _cwd: Plan(
        [sys.executable, str(STARTERS / f"run_{name}.py"), app, str(port), *more]
    )


def _uwsgi(socket_option: str) -> Callable[[str, int, Path, Path], Plan]:
    def planned(app: str, port: int, _scratch: Path, _cwd: Path) -> Plan:
        # The router of --http does not say which port it got.
        chosen = port or (free_port() if socket_option == "--http" else 0)
        command = [
            *(sys.executable, "-c", "import pyuwsgi, sys; pyuwsgi.run(sys.argv[1:])"),
            *(socket_option, f"{HOST}:{chosen}", "--module", app, *UWSGI, "--threads", "2"),
        ]
        return Plan(command, port=chosen)

    return planned


def _debian_uwsgi(app: str, port: int, _scratch: Path, _cwd: Path) -> Plan:
    """Debian's uWSGI, which has threads only where it was told so."""
    command = [
        *(program("uwsgi_python3"), "--http-socket", f"{HOST}:{port}", "--module", app),
        *(*UWSGI, *(f"--pythonpath={folder}" for folder in debian_python())),
    ]
    return Plan(command)


def _granian(app: str, port: int, _scratch: Path, _cwd: Path) -> Plan:
    chosen = port or free_port()
    command = [
        *(sys.executable, "-m", "granian", "--interface", "wsgi", "--host", HOST),
        *("--port", str(chosen), "--blocking-threads", "2", "--access-log", app),
    ]
    return Plan(command, port=chosen)


APACHE = """\
ServerName localhost
ServerRoot {scratch}
PidFile {scratch}/apache.pid
DefaultRuntimeDir {scratch}
Listen {host}:{port}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
ErrorLog /dev/stderr
LogFormat "%h %r %>s" plain
CustomLog /dev/stdout plain
WSGISocketPrefix {scratch}/wsgi
WSGIDaemonProcess site processes=1 threads=4 python-path={cwd}:{packages} home={cwd}
WSGIProcessGroup site
WSGIApplicationGroup %{{GLOBAL}}
WSGIScriptAlias / {scratch}/site.wsgi
<Directory {scratch}>
  Require all granted
</Directory>
"""


def _mod_wsgi(app: str, port: int, scratch: Path, cwd: Path) -> Plan:
    chosen = port or free_port()
    module, attribute = app.split(":")
    (scratch / "site.wsgi").write_text(
        f"from {module} import {attribute} as application\n", encoding="utf-8"
    )
    settings = scratch / "apache.conf"
    settings.write_text(
        APACHE.format(
            scratch=scratch,
            cwd=cwd,
            host=HOST,
            port=chosen,
            modules=APACHE_MODULES,
            packages=":".join(map(str, debian_python())),
        ),
        encoding="utf-8",
    )
    # The Python inside takes the packages of the first python3 in the PATH: perhaps those of a
    # virtual environment, made for another Python.
    debian_only = ["env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    command = [*debian_only, program("apache2"), "-DFOREGROUND", "-f", str(settings)]
    return Plan([*(_as_somebody_else() if os.getuid() == 0 else ()), *command], port=chosen)


def _as_somebody_else() -> list[str]:
    """Neither Apache nor mod_wsgi serve as root, but what they read may be readable for root only.

    So they run as nobody, with the one privilege of reading and writing all the same.
    """
    privilege = ["--inh-caps", "-all,+dac_override", "--ambient-caps", "-all,+dac_override"]
    user = pwd.getpwnam("nobody")
    who = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]
    return [program("setpriv"), *who, *privilege]


#: Kinds that tests/live/servers runs; called with application, port, scratch and working folder.
FURTHER_KINDS: dict[str, Callable[[str, int, Path, Path], Plan]] = {
    "waitress": _starter("waitress"),
    "waitress-lookahead": _starter("waitress", "1"),
    "cheroot": _starter("cheroot"),
    "gevent-pywsgi": _starter("gevent"),
    "eventlet": _starter("eventlet"),
    "eventlet-patched": _starter("eventlet", "patched"),
    "werkzeug-forking": _starter("forking"),
    "uwsgi-http-socket": _uwsgi("--http-socket"),
    "uwsgi-http": _uwsgi("--http"),
    "uwsgi-http11-socket": _uwsgi("--http11-socket"),
    "uwsgi-socket": _uwsgi("--socket"),
    "uwsgi-debian": _debian_uwsgi,
    "granian-wsgi": _granian,
    "mod-wsgi": _mod_wsgi,
}
