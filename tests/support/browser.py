"""A headless Chromium for tests and screenshots."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator

from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    StaleElementReferenceException,
)
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

# Without most of these it asks its maker's hosts for updates and more.
_FLAGS = (
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-sandbox",  # it has none as root, in a container, or where it is not installed; the pages are our own
)

PROGRAMS = ("chromium", "chromedriver")


@contextlib.contextmanager
def browser(width: int = 1500, height: int = 1000) -> Iterator[webdriver.Chrome]:
    """A window with an empty profile."""
    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        for flag in ("--headless", *_FLAGS, f"--window-size={width},{height}", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        service = Service(shutil.which("chromedriver"), log_output=subprocess.DEVNULL)
        driver = webdriver.Chrome(options=options, service=service)
        driver.set_page_load_timeout(60)
        try:
            yield driver
        finally:
            driver.quit()


class Ui:
    """Dagster's UI as a person uses it."""

    def __init__(self, driver: webdriver.Chrome, url: str, location: str) -> None:
        self.driver = driver
        self.url = url
        self.location = location

    def open(self, path: str) -> None:
        """Go to a page."""
        self.driver.get(self.url + path)

    def see(self, xpath: str, timeout: float = 60.0) -> WebElement:
        """The first element that can be seen; waits for it."""

        def look(driver: webdriver.Chrome) -> WebElement | bool:
            return next((each for each in driver.find_elements(By.XPATH, xpath) if each.is_displayed()), False)

        return self._wait(timeout).until(look, f"nothing to see at {xpath}")

    def see_text(self, text: str, timeout: float = 60.0) -> None:
        """Wait until the page says something."""
        self._wait(timeout).until(
            lambda driver: text in driver.find_element(By.TAG_NAME, "body").text, f"the page does not say {text!r}"
        )

    def press(self, xpath: str) -> None:
        """Click the first element that can be seen."""

        def click(_: webdriver.Chrome) -> bool:
            self.see(xpath).click()
            return True

        self._wait(60.0).until(click, f"cannot press {xpath}")

    def launch(self, job: str, partition: str, config: str) -> str:
        """Fill in the launchpad of an asset job and press its button: the id of the run."""
        self.open(f"/locations/{self.location}/jobs/{job}")
        self.press("//button[contains(., 'Materialize')]/following::button[1]")
        self.press("//*[contains(text(), 'launchpad')]")
        self._wait(60.0).until(
            lambda driver: "roll_out" in driver.execute_script(_EDITOR + "return e ? e.getValue() : ''")
        )
        self._choose(partition)
        # A tag of the partition's; it comes together with the partition's config, which replaces what was written.
        self.see_text(f"shoal/model: {partition}")

        def written(driver: webdriver.Chrome) -> bool:
            if driver.execute_script(_EDITOR + "return e ? e.getValue() : ''") == config:
                return True
            driver.execute_script(_EDITOR + "e.setValue(arguments[0])", config)
            time.sleep(2)
            return False

        self._wait(60.0).until(written, "the config cannot be entered")
        self.see_text("No errors")
        button = "//*[contains(@class, 'ialog')]//button[normalize-space()='Materialize']"

        def opened(driver: webdriver.Chrome) -> bool:
            # While the form is checked the button does nothing, and looks as ever.
            if "/runs/" not in driver.current_url:
                for each in driver.find_elements(By.XPATH, button):
                    each.click()
                time.sleep(3)
            return "/runs/" in driver.current_url

        self._wait(90.0).until(opened, "no run's page opens")
        return self.driver.current_url.rpartition("/runs/")[2].partition("?")[0]

    def _choose(self, partition: str) -> None:
        def choose(driver: webdriver.Chrome) -> bool:
            field = self.see("//input[@placeholder='Partition']")
            if field.get_attribute("value") != partition:
                field.send_keys(Keys.CONTROL, "a")
                field.send_keys(partition, Keys.ENTER)
            return field.get_attribute("value") == partition

        self._wait(60.0).until(choose, "the partition cannot be chosen")

    def _wait(self, timeout: float) -> WebDriverWait[webdriver.Chrome]:
        # The page draws anew what it shows whenever it hears something.
        passing = (StaleElementReferenceException, ElementNotInteractableException, ElementClickInterceptedException)
        return WebDriverWait(self.driver, timeout, 0.3, passing)


_EDITOR = """\
const e = [...document.querySelectorAll('.CodeMirror')].map(x => x.CodeMirror).find(x => x.getValue().includes('ops'));
"""
