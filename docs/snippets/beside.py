from flask import Flask
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_login import LoginManager, UserMixin, login_required

from flask_eventstream import sse

app = Flask(__name__)
app.config.from_prefixed_env()  # FLASK_SECRET_KEY, FLASK_SSE_BROKER_URL, …
app.register_blueprint(sse, url_prefix="/stream")

logins = LoginManager(app)
logins.login_view = "login"
logins.blueprint_login_views["sse"] = None  # a stream is refused with 401, not redirected


@sse.before_request
@login_required
def only_users() -> None:
    """More rules, if any."""


limiter = Limiter(get_remote_address, app=app, default_limits=["100 per hour"])
limiter.exempt(sse)


@logins.user_loader
def load_user(_key: str) -> UserMixin | None:
    return None  # as your application finds its users
