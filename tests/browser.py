"""A real browser for tests of pages: headless Chromium, as the distribution has it, driven by Selenium; without network."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
MISSING = None if CHROMIUM and DRIVER else "no Chromium with its driver is installed (apt-get install chromium chromium-driver)"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb",
)  # fmt: skip


@contextmanager
def browser(*, width: int = 1280, height: int = 900) -> Iterator[Any]:
    """A browser with a profile of its own, which ends with the block."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        try:
            driver.set_script_timeout(60)
            yield driver
        finally:
            driver.quit()


def opened(driver: Any, url: str | Path) -> int:
    """Open a page and wait until it shows its first view; returns the milliseconds that took, by the browser's own clock."""
    from selenium.webdriver.support.ui import WebDriverWait

    driver.get(url if isinstance(url, str) else url.resolve().as_uri())
    WebDriverWait(driver, 60, poll_frequency=0.02).until(lambda page: page.execute_script("return document.body.dataset.shown"))
    return int(driver.execute_script("return document.body.dataset.shown"))


def complaints(driver: Any) -> list[str]:
    """What the browser's console says: errors of scripts, and what the page's security policy refused."""
    return [each["message"] for each in driver.get_log("browser") if each["level"] == "SEVERE"]
