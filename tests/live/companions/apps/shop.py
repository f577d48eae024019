"""A shop with everything on: logins, sessions on the server, headers, limits, and reports."""

from __future__ import annotations

import dataclasses
import gc
import os
import weakref
from pathlib import Path
from typing import Any

import sentry_sdk
from cachelib import FileSystemCache
from flask import Flask, request, session
from flask_compress import Compress
from flask_cors import CORS
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user
from flask_session import Session
from flask_sqlalchemy import SQLAlchemy
from flask_talisman import Talisman
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.wsgi import SentryWsgiMiddleware
from sentry_sdk.transport import Transport
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_eventstream import EventStream
from flask_eventstream.asgi import EventStreamASGI

__all__ = ["app", "asgi"]

reports: list[dict[str, Any]] = []
"""What Sentry would be sent."""


class Kept(Transport):
    """Sends nothing anywhere."""

    def capture_envelope(self, envelope: Envelope) -> None:
        for item in envelope.items:
            report = item.get_transaction_event() or item.get_event()
            if report is not None:
                reports.append({"type": item.type, "name": report.get("transaction")})


class Counting(FileSystemCache):
    """Counts how often a session is saved."""

    saves = 0

    def set(self, *arguments: Any, **more: Any) -> Any:
        type(self).saves += 1
        return super().set(*arguments, **more)


sentry_sdk.init(dsn="http://key@127.0.0.1/1", transport=Kept, traces_sample_rate=1.0)

app = Flask(__name__)
app.config.from_prefixed_env()
app.config.update(
    SECRET_KEY="no secret",
    SESSION_TYPE="cachelib",
    SESSION_CACHELIB=Counting(str(Path(app.config["SHOP_FOLDER"]) / "sessions")),
    SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 5, "max_overflow": 0, "pool_timeout": 2},
)
database = SQLAlchemy(app)
Session(app)
logins = LoginManager(app)
Talisman(app, content_security_policy={"default-src": "'self'"})
CORS(app, origins=["https://page.example"], supports_credentials=True)
Compress(app)
Limiter(get_remote_address, app=app, default_limits=["9999/day"], headers_enabled=True)
app.wsgi_app = SentryWsgiMiddleware(  # type: ignore[method-assign]
    ProxyFix(app.wsgi_app, x_for=1, x_proto=1)
)
events = EventStream(app)

loaded: weakref.WeakSet[User] = weakref.WeakSet()


class User(UserMixin, database.Model):  # type: ignore[name-defined,misc]
    """Who is logged in, as a row of the database."""

    id = database.Column(database.Integer, primary_key=True)
    name = database.Column(database.String(20))


with app.app_context():
    database.create_all()
    if not database.session.get(User, 1):
        database.session.add(User(id=1, name="Ada"))
        database.session.commit()


@logins.user_loader  # type: ignore[untyped-decorator]
def load_user(key: str) -> User | None:
    user: User | None = database.session.get(User, int(key))
    if user is not None:
        loaded.add(user)
    return user


@events.before_request
@login_required  # type: ignore[untyped-decorator]
def only_users() -> None:
    session["streams"] = session.get("streams", 0) + 1


@app.post("/login")
def login() -> str:
    login_user(database.session.get(User, 1))
    return "welcome"


@app.get("/page")
@login_required  # type: ignore[untyped-decorator]
def page() -> dict[str, Any]:
    return {"name": current_user.name, "streams": session.get("streams", 0), "text": "x" * 2000}


@app.get("/ping")
def ping() -> str:
    return f"pong {os.getpid()}"


@app.post("/publish")
def publish() -> str:
    events.publish(request.get_data(as_text=True), channel=request.args["channel"])
    return str(os.getpid())


@app.get("/stats")
def stats() -> dict[str, Any]:
    database.session.remove()
    gc.collect()
    return {
        **dataclasses.asdict(events.stats()),
        "checked_out": database.engine.pool.checkedout(),  # type: ignore[attr-defined]
        "users": len(loaded),
        "saves": Counting.saves,
        "reports": reports,
    }


asgi = EventStreamASGI(app, threads=4)
