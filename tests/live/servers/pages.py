"""Sixty pages in front of an application that goes away and comes back."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask_eventstream import Publisher
from harness.programs import program
from harness.waiting import wait_until

__all__ = ["AWAY_S", "assert_pages_survive", "be_away"]

SCRIPT = Path(__file__).parents[2] / "js" / "pages.mjs"
PAGES = 60
# Longer than the pages' own pause, so that each of them asks while nobody is there.
AWAY_S = 4.0


class Pages:
    """Sixty pages, each an EventSource; `now` is what they last said of themselves."""

    def __init__(self) -> None:
        self.now: dict[str, Any] = {"open": 0, "dead": 0, "got": {}}

    def wait_open(self) -> None:
        wait_until(lambda: self.now["open"] == PAGES, within_s=30, what=f"{PAGES} open pages")

    def wait_got(self, data: str) -> None:
        """Wait until all have this event, and nobody has it twice."""
        wait_until(
            lambda: self.now["got"].get(data, 0) >= PAGES, within_s=30, what=f"{data} everywhere"
        )
        assert self.now["got"][data] == PAGES


@contextmanager
def open_pages(url: str) -> Iterator[Pages]:
    pages = Pages()
    command = [program("node"), str(SCRIPT), url, str(PAGES)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = process.stdout

        def collect() -> None:
            for line in lines:
                pages.now = json.loads(line)

        thread = threading.Thread(target=collect, daemon=True)
        thread.start()
        try:
            yield pages
        finally:
            process.kill()
            thread.join(timeout=10)


def assert_pages_survive(
    url: str, run: Callable[[], Any], folder: Path, *, away: Callable[[], object]
) -> None:
    """Sixty pages outlive a stop, `away` and a new start, and get what was published meanwhile."""
    with open_pages(url) as pages:
        with run():
            pages.wait_open()
            (file,) = (folder / "instance").glob("*.db")
            log = Publisher(f"sqlite:///{file}")
            log.publish("before")
            pages.wait_got("before")
        log.publish("meanwhile")
        away()
        with run():
            pages.wait_got("meanwhile")

            assert pages.now["dead"] == 0


def be_away() -> None:
    """Let the pages ask in vain: nobody is there for four seconds."""
    threading.Event().wait(AWAY_S)
