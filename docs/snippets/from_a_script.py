import sys

from flask_eventstream import BrokerUnavailable, Publisher

publisher = Publisher(sys.argv[1])
try:
    print(publisher.publish({"task": "import", "done": 100}, type="progress", channel="tasks"))
except BrokerUnavailable as error:
    sys.exit(f"nobody was told: {error}")
