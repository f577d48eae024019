from flask import Flask, Response, abort
from flask_login import LoginManager, UserMixin, current_user, login_required

from flask_eventstream import Grant, sse

app = Flask(__name__)
app.config.from_prefixed_env()  # FLASK_SECRET_KEY, FLASK_SSE_BROKER_URL, …
app.register_blueprint(sse, url_prefix="/stream")
logins = LoginManager(app)

ORDERS = {1: "ada", 2: "bob", 3: "ada"}  # stands for a database: who has which order


class User(UserMixin):
    def __init__(self, name: str) -> None:
        self.id = name


@logins.user_loader
def load_user(key: str) -> User:
    return User(key)


@sse.channel("news")
def everybody() -> bool:
    return True


@sse.channel("orders:<int:order_id>")
def who_ordered(order_id: int) -> Grant | bool:
    if not current_user.is_authenticated:
        abort(401)
    if ORDERS.get(order_id) != current_user.id:
        return False
    return Grant(subject=current_user.id)


@app.get("/orders/stream")
@login_required
def all_my_orders() -> Response:
    mine = [f"orders:{number}" for number, user in ORDERS.items() if user == current_user.id]
    return sse.stream("news", *mine)
