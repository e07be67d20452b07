"""Take the picture of the page in docs/app.md: a scene drawn, filmed by the default model, in headless Chromium.

    python docs/draw_app.py

Needs gradio and selenium (the extra `dev` has both), and Chromium with its driver.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import tyro
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webdriver import WebDriver

import gaia2
from gaia2.app import App, DrawnAgent, Form, Served, serving
from gaia2.scene import Scene

PICTURE = Path(__file__).parent / "images" / "app.png"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars")
AGENTS = (
    DrawnAgent("car", 24.0, 0.0, speed=7.0),
    DrawnAgent("bus", 34.0, 6.5, yaw=3.14, speed=6.0),
    DrawnAgent("bicycle", 9.0, -4.0, speed=4.0),
)


def scene() -> Scene:
    """A street that bends to the left while the ego vehicle slows down."""
    form = Form(
        speed=(10.0, 10.0, 9.0, 7.5, 6.0),
        curvature=(0.0, 0.005, 0.012, 0.02, 0.02),
        agents=AGENTS,
        metadata={"weather": "clear", "time_of_day": "day", "country": "germany", "number_of_lanes": 2},
    )
    return form.to_scene()


def take(served: Served, folder: Path, seconds: float) -> bytes:
    """Hand the scene in, have it filmed, and look at the page."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, "--window-size=1440,1560", f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        browser.get(served.address)
        wait(browser, "return document.querySelector('#rig_file input[type=file]')", seconds)
        scene().save(folder / "street.json")
        browser.find_element("css selector", "#rig_file input[type=file]").send_keys(str(folder / "street.json"))
        wait(browser, "return document.querySelectorAll('#drawing .agent-shape').length", seconds)
        browser.find_element("css selector", "#do_generate").click()
        wait(browser, "return document.querySelector('#status').innerText.includes('Ready.')", seconds)
        browser.find_element("css selector", "#player .boxes").click()
        wait(browser, "return document.querySelector('#player video').currentTime > 1", seconds)
        browser.execute_script("const v = document.querySelector('#player video'); v.pause(); v.currentTime = 0.65")
        wait(browser, "return document.querySelectorAll('#player svg rect').length", seconds)
        browser.execute_script("window.scrollTo(0, 0)")
        return browser.get_screenshot_as_png()
    finally:
        browser.quit()


def wait(browser: WebDriver, code: str, seconds: float) -> None:
    """Wait until a script gives something."""
    end = time.monotonic() + seconds
    while not browser.execute_script(code):
        if time.monotonic() > end:
            raise TimeoutError(f"page: expected this to come true within {seconds:g} s: {code}")
        time.sleep(0.1)


def main(out: Path = PICTURE, port: int = 7861, seconds: float = 300.0) -> None:
    """Take the picture.

    Args:
        out: picture to write.
        port: of the page, while it is there.
        seconds: how long to wait for each thing at most.
    """
    pipe = gaia2.Gaia2Pipeline.from_pretrained(gaia2.default_model())
    with serving(pipe, App(port=port)) as served, tempfile.TemporaryDirectory() as folder:
        out.write_bytes(take(served, Path(folder), seconds))
    print(out)


if __name__ == "__main__":
    tyro.cli(main)
