"""Debian's Chromium, and one private tab of it.

Lives here: how the browser is started and what a test may ask a page. Never here: what a page
should show.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from harness.programs import program
from harness.waiting import wait_until

__all__ = ["Tab", "chromium"]

# Nothing here may go out to the network or ask a question, and the sandbox cannot start as root,
# which is what a container runs as.
SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium(profile: Path) -> Iterator[Chrome]:
    """Runs a browser with a profile of its own.

    Selenium is told where browser and driver are, so it looks for neither and downloads nothing.
    """
    options = ChromeOptions()
    options.binary_location = program("chromium")
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.enable_bidi = True  # the only way to several cookie jars in one browser
    driver = Chrome(options=options, service=Service(executable_path=program("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


class Tab:
    """One tab in a user context of its own: it shares no cookie and no connection with other tabs.

    A test may hold several; each call first goes to its tab.
    """

    def __init__(self, driver: Chrome) -> None:
        self._driver = driver
        self._context = driver.browser.create_user_context()
        self._handle = driver.browsing_context.create(type="tab", user_context=self._context)

    def close(self) -> None:
        """Closes the tab and forgets its cookies."""
        self._driver.browser.remove_user_context(self._context)

    @property
    def driver(self) -> Chrome:
        """The browser, with this tab in front."""
        self._driver.switch_to.window(self._handle)
        return self._driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    @property
    def url(self) -> str:
        return str(self.driver.current_url)

    def run(self, script: str, *arguments: object) -> Any:
        """Runs JavaScript in the page; `return` gives its value."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """The text that a person sees in the first such element."""
        return str(self.find(selector).text)

    def texts(self, selector: str) -> list[str]:
        """The text of every such element, read in one go: a page may change between two calls."""
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)"
        return [str(text) for text in self.run(script, selector)]

    def type(self, selector: str, text: str) -> None:
        """Writes into a field, in place of what it holds."""
        field = self.find(selector)
        field.clear()
        field.send_keys(text)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def wait_text(self, selector: str, text: str, *, within_s: float = 10) -> None:
        """Waits until the first such element shows exactly this text."""
        wait_until(
            lambda: self.texts(selector)[:1] == [text],
            within_s=within_s,
            what=f"{text!r} in {selector}",
        )
