"""A real browser, as a user has one: Chromium without a window."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from doors import PATIENCE_S
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import element_to_be_clickable
from selenium.webdriver.support.wait import WebDriverWait

# a container has a small /dev/shm, and its root no sandbox
FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars")
# of MLflow's own page: it asks its own server for what that does not have, and is slower than its window
EXPECTED = ("/mlflow/users/current", "ResizeObserver loop")
# what MLflow offers beside a run hides a third of it
CLOSE_ASSISTANT = """
    for (const button of document.querySelectorAll('aside button, [aria-label="Close"], button'))
        if (/close/i.test(button.getAttribute('aria-label') || '')) button.click();
"""


class Browser:
    def __init__(self, driver: webdriver.Chrome, screenshots: Path) -> None:
        self.driver = driver
        self._screenshots = screenshots

    def open(self, url: str) -> None:
        self.driver.switch_to.default_content()
        self.driver.get("about:blank")  # a link that differs behind the # alone is no new page
        self.driver.get(url)

    def wait_for(self, *texts: str) -> str:
        """The page's visible text, once all of these are in it."""

        def has_all(driver: webdriver.Chrome) -> str:
            shown = driver.find_element(By.TAG_NAME, "body").text
            return shown if all(text in shown for text in texts) else ""

        return str(WebDriverWait(self.driver, PATIENCE_S, 0.2).until(has_all, f"waited for {texts}"))

    def wait_for_elements(self, css: str) -> int:
        """How many there are, once there is one."""
        found = WebDriverWait(self.driver, PATIENCE_S, 0.2).until(
            lambda driver: driver.find_elements(By.CSS_SELECTOR, css), f"waited for {css}"
        )
        return len(found)

    def set_size(self, width: int, height: int) -> None:
        """Of the page; a window cannot be as narrow as a telephone."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def wait_until(self, script: str) -> None:
        WebDriverWait(self.driver, PATIENCE_S, 0.2).until(lambda driver: driver.execute_script(script), script)

    def texts(self, css: str) -> list[str]:
        """Of what can be seen, from top to bottom."""
        found = [element for element in self.driver.find_elements(By.CSS_SELECTOR, css) if element.is_displayed()]
        return [element.text for element in sorted(found, key=lambda element: element.location["y"]) if element.text]

    def click(self, text: str) -> None:
        """A button or a link that has this text; a window that it opens is the one looked into from here on."""
        there = f"//*[self::a or self::button][contains(normalize-space(), '{text}')]"
        WebDriverWait(self.driver, PATIENCE_S, 0.2).until(element_to_be_clickable((By.XPATH, there))).click()
        self.driver.switch_to.window(self.driver.window_handles[-1])

    def enter(self, css: str) -> None:
        """Look into this frame from here on."""
        self.wait_for_elements(css)
        self.driver.switch_to.frame(self.driver.find_element(By.CSS_SELECTOR, css))

    def keep(self, name: str) -> Path:
        """A screenshot, to be looked at."""
        self.driver.execute_script(CLOSE_ASSISTANT)
        path = self._screenshots / f"{name}.png"
        self.driver.save_screenshot(str(path))
        return path

    def errors(self) -> list[str]:
        """Of the console, since it was asked last."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE" and not any(text in entry["message"] for text in EXPECTED)
        ]


@contextmanager
def opened(screenshots: Path, size: str = "1400,1500") -> Iterator[Browser]:
    """Skips the test where there is no Chromium."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium and chromedriver on the PATH: see CONTRIBUTING")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--window-size={size}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = Service(driver, log_output=os.devnull)
    with webdriver.Chrome(options=options, service=service) as started:
        yield Browser(started, screenshots)
