"""Publishes 0, 1, 2 and so on until it is told to stop, then prints the last.

publishing.py URL CHANNEL [PAUSE_S]
"""

from __future__ import annotations

import itertools
import select
import sys

from flask_eventstream import Publisher

# About 300 events a second: many in each moment of a restart, and few enough that clients that
# are written in Python keep up.
PAUSE_S = 0.003


def main() -> None:
    url, channel, *more = sys.argv[1:]
    pause_s = float(more[0]) if more else PAUSE_S
    publisher = Publisher(url)
    for number in itertools.count():
        publisher.publish(str(number), channel=channel)
        if select.select([sys.stdin], [], [], pause_s)[0]:
            print(number)
            return


if __name__ == "__main__":
    main()
