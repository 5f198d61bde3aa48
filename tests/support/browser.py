"""A real browser without a window: the Chromium that is installed, driven by its own driver.

Nothing is ever downloaded: where there is none, the test is not run, and says so.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.process import WAIT_SECONDS

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVER = "chromedriver"

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def missing_browser() -> str | None:
    """Why there is no browser here; None: there is one."""
    if not any(map(shutil.which, BROWSERS)):
        return f"none of {', '.join(BROWSERS)} is installed"
    return None if shutil.which(DRIVER) else f"no {DRIVER}"


def require_browser(what: str) -> None:
    """Skip this test unless there is a browser; ``what`` is what it would have shown."""
    reason = missing_browser()
    if reason is not None:
        pytest.skip(f"not run here: {what} in a browser ({reason})")


@contextmanager
def open_browser(folder: Path) -> Iterator[Browser]:
    """Start a browser with a new profile in this folder, and end it."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, BROWSERS)))
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    driver = Chrome(options=options, service=ChromeService(shutil.which(DRIVER)))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """What people do with a page."""

    def __init__(self, driver: Chrome) -> None:
        self._driver = driver

    def go(self, url: str) -> None:
        """Open an address."""
        self._driver.get(url)

    def text(self, selector: str) -> str:
        """What an element shows."""
        return self._find(selector).text

    def attribute(self, selector: str, name: str) -> str | None:
        """An attribute of an element."""
        return self._find(selector).get_attribute(name)

    def enter(self, selector: str, text: str) -> None:
        """Replace what is in a field."""
        field = self._find(selector)
        field.clear()
        field.send_keys(text)

    def click(self, selector: str) -> None:
        """Click on it."""
        self._find(selector).click()

    def open_tab(self) -> None:
        """Another tab, to which everything goes from now on."""
        self._driver.switch_to.new_window("tab")

    def close_tab(self) -> None:
        """Close it, and go on in the first."""
        self._driver.close()
        self._driver.switch_to.window(self._driver.window_handles[0])

    def errors(self) -> list[str]:
        """What the console has as errors since the last look."""
        entries = self._driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def _find(self, selector: str) -> WebElement:
        return self._driver.find_element("css selector", selector)


def until(is_true: Callable[[], bool], what: str) -> None:
    """Look until it is true; a page tells nobody when it changes."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_true():
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_SECONDS:g} s"
        time.sleep(0.05)
