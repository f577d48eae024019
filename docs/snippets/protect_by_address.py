from flask import Flask, abort, request, session

from flask_eventstream import sse

app = Flask(__name__)
app.config.from_prefixed_env()  # FLASK_SECRET_KEY, FLASK_SSE_BROKER_URL, …
app.register_blueprint(sse, url_prefix="/user/<int:uid>/stream")


@sse.before_request
def only_oneself() -> None:
    if request.view_args is None or request.view_args["uid"] != session.get("uid"):
        abort(403)
    if request.args.getlist("channel") != [f"user-{session['uid']}"]:
        abort(403)
