from shop import app

from flask_eventstream.asgi import EventStreamASGI

asgi = EventStreamASGI(app)
