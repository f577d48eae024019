"""Logging out with two devices open, and logging in again, in Chromium."""

from __future__ import annotations

from collections.abc import Callable

from flask_eventstream import Publisher
from harness.servers import Server
from harness.waiting import wait_until
from live.browser.chromium import Tab
from live.site import APPS


def wait_live(tab: Tab, publisher: Publisher, text: str) -> None:
    wait_until(lambda: tab.run("return source.readyState") == 1, what="an open stream")
    publisher.publish(text, channel="private")
    wait_until(lambda: text in tab.run("return received"), what=f"{text!r} in the page")


def test_logging_out_with_two_devices(
    serve: Callable[..., Server], broker_url: str, new_tab: Callable[[], Tab]
) -> None:
    """The page that logged out stops, the other device goes on, and the next login is live."""
    env = {"FLASK_SSE_BROKER_URL": broker_url, "FLASK_SSE_RETRY_MS": "200"}
    options = ["--workers", "3"]
    site = serve("gunicorn-sync", "accounts:app", cwd=APPS, env=env, options=options)
    publisher = Publisher(broker_url)
    laptop, phone = new_tab(), new_tab()
    for device in (laptop, phone):
        device.open(f"{site.url}/login/ann")
        wait_live(device, publisher, f"to {id(device)}")

    status = laptop.run("return fetch('/logout', {method: 'POST'}).then(r => r.status)")

    assert status == 200
    wait_until(lambda: laptop.run("return source.readyState") == 2, what="the page to stop")
    wait_until(lambda: phone.run("return opened") == 2, what="the other device to come back")
    wait_live(phone, publisher, "after the logout")
    assert "after the logout" not in laptop.run("return received")

    laptop.open(f"{site.url}/login/bob")
    wait_live(laptop, publisher, "after the next login")
    wait_live(phone, publisher, "to both")
    publisher.close()
