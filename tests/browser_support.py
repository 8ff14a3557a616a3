"""A headless Chromium for tests and screenshots."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

# Without these it asks its maker's hosts for updates and more.
_QUIET = (
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-gpu",
    "--disable-dev-shm-usage",
)


def missing() -> str:
    """What is not installed, with the fix; empty: nothing."""
    programs = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{', '.join(programs)}: not found; on Debian: apt-get install chromium chromium-driver" if programs else ""


def require() -> None:
    """Skip the test without a browser; in CI, fail."""
    if found := missing():
        if os.environ.get("SHOAL_CI"):
            pytest.fail(found)
        pytest.skip(found)


@contextlib.contextmanager
def browser(width: int = 1500, height: int = 1000) -> Iterator[webdriver.Chrome]:
    """A window with an empty profile."""
    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # as root it has none
        for flag in ("--headless", *_QUIET, *sandbox, f"--window-size={width},{height}", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        service = Service(shutil.which("chromedriver"), log_output=subprocess.DEVNULL)
        driver = webdriver.Chrome(options=options, service=service)
        driver.set_page_load_timeout(60)
        try:
            yield driver
        finally:
            driver.quit()
