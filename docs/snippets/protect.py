from flask import Flask, abort, request, session

from flask_eventstream import sse

app = Flask(__name__)
app.config.from_prefixed_env()  # FLASK_SECRET_KEY, FLASK_SSE_BROKER_URL, …
app.register_blueprint(sse, url_prefix="/stream")


@sse.before_request
def only_own_channels() -> None:
    user = session.get("user")
    if user is None:
        abort(401)
    allowed = {"news", f"user-{user}"}
    # A stream may name several channels, and none means "sse": every one of them must be allowed.
    asked = {name for name in request.args.getlist("channel") if name} or {"sse"}
    if not asked <= allowed:
        abort(403)
