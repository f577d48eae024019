"""A process that publishes numbered events until its input ends: publishing.py URL NAME.

It writes a line of JSON for each try: what was published, or how long it took to fail.
"""

from __future__ import annotations

import json
import select
import sys
import time

from flask_eventstream import Publisher
from flask_eventstream.errors import BrokerUnavailable

CHANNELS = ("a", "b", "c")
TIMEOUT_S = 2.0
# Hundreds of events a second, and a failing server is not asked more often than that.
PAUSE_S = 0.004


def main(url: str, name: str) -> None:
    publisher = Publisher(url, timeout_s=TIMEOUT_S)
    number = 0
    while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
        channel = CHANNELS[number % len(CHANNELS)]
        began_s = time.monotonic()
        try:
            said = {"id": publisher.publish(f"{channel} {name} {number}", channel=channel)}
        except BrokerUnavailable as error:
            said = {"failed": str(error)}
        said |= {"channel": channel, "number": number, "took_s": time.monotonic() - began_s}
        print(json.dumps(said), flush=True)
        number += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
