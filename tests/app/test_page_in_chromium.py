"""The page as a visitor has it: in Chromium, drawn and clicked by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gaia2.app.command import Served
from gaia2.scene import Scene

pytest.importorskip("gradio", reason="the page needs gradio")
pytest.importorskip("selenium", reason="selenium drives the browser")
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1500,1900",
)  # fmt: skip
SECONDS = 60
COVERED = (ElementClickInterceptedException, NoSuchElementException, StaleElementReferenceException)
CHOOSE = """
    const options = [...document.querySelectorAll('ul[role=listbox] li')];
    const option = options.find(({innerText}) => innerText.trim() === arguments[0]);
    option?.dispatchEvent(new MouseEvent('mousedown', {bubbles: true}));
    return Boolean(option);
"""
"""Takes an option of the open drop-down by its words."""
SHOWN_PART = """
    const stage = document.querySelector('#player .stage').getBoundingClientRect();
    const video = document.querySelector('#player video').getBoundingClientRect();
    return [(stage.left - video.left) / video.width, (stage.top - video.top) / video.height,
            stage.width / video.width, stage.height / video.height];
"""
"""What of the video's picture is in sight: left, top, width and height as shares of it."""

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver on this machine")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: WebDriver, served: Served) -> Page:
    browser.get(served.address)
    page = Page(browser)
    page.until(lambda: page.all("#drawing .path"))
    return page


class Page:
    """What a visitor sees and does."""

    def __init__(self, browser: WebDriver) -> None:
        self.browser = browser

    def until(self, holds: Callable[[], Any]) -> Any:
        return WebDriverWait(self.browser, SECONDS, 0.1).until(lambda _: holds())

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def script(self, code: str, *arguments: Any) -> Any:
        return self.browser.execute_script(code, *arguments)

    def click(self, selector: str) -> None:
        """Click as soon as nothing, such as what says that something loads, is in front of it."""

        def clicked() -> bool:
            self.script("arguments[0].scrollIntoView({block: 'center'})", self.one(selector))
            self.one(selector).click()
            return True

        WebDriverWait(self.browser, SECONDS, 0.1, ignored_exceptions=COVERED).until(lambda _: clicked())

    def drag(self, selector: str, dx: int, dy: int) -> None:
        """Take something at its middle and put it elsewhere, in pixels."""
        element = self.one(selector)
        self.script("arguments[0].scrollIntoView({block: 'center'})", element)
        ActionChains(self.browser).click_and_hold(element).move_by_offset(dx, dy).release().perform()

    def choose(self, name: str, words: str) -> None:
        self.click(f"#{name} input")
        self.until(lambda: self.script(CHOOSE, words))

    def set_number(self, selector: str, number: float) -> None:
        self.script(
            "const [input, value] = arguments; input.value = value;"
            "for (const kind of ['input', 'change', 'blur']) input.dispatchEvent(new Event(kind, {bubbles: true}))",
            self.one(selector),
            str(number),
        )

    def ask_for(self, seconds: float, steps: int) -> None:
        self.set_number("#seconds input[type=number]", seconds)
        self.set_number("#steps input[type=number]", steps)

    def pixels_per_metre(self) -> float:
        return float(self.script("return document.querySelector('#drawing .view').getScreenCTM().a"))

    def tab(self, name: str) -> None:
        tabs = [tab for tab in self.all("button[role=tab]") if tab.text == name and tab.is_displayed()]
        self.script("arguments[0].click()", tabs[0])

    def generated(self, served: Served, button: str) -> Scene:
        """Press a button, wait for the video, and give the scene that it was made of."""
        before = self.script("return document.querySelector('#player video').src")
        self.click(button)
        address = self.until(
            lambda: (src := self.script("return document.querySelector('#player video').src")) != before and src
        )
        self.until(lambda: "Ready." in self.one("#status").text)
        return Scene.load(Path(address.partition("/file=")[2]).with_name("scene.json"))


def plays(page: Page) -> bool:
    """Whether the video moves on."""
    now = "const v = document.querySelector('#player video'); return v.readyState >= 2 ? v.currentTime : null"
    begun = page.until(lambda: (time := page.script(now)) is not None and [time])[0]
    page.until(lambda: page.script(now) != begun)
    return True


def test_draw_generate_and_watch(page: Page, served: Served) -> None:
    page.script("document.querySelector('#drawing .category').value = 'truck'")
    page.click("#drawing .add")
    (agent,) = page.all("#drawing .agent-shape")
    assert agent.get_attribute("aria-label") == "truck 1"
    scale = page.pixels_per_metre()
    page.drag("#drawing .agent-shape rect", round(-4 * scale), round(-10 * scale))  # 10 m ahead, 4 m to the left
    page.drag("#drawing .agent-shape .handle", round(-30 * scale), 0)
    page.set_number("#drawing .own-speed", 3)
    page.set_number("#drawing [data-name=speed] .even", 6)
    page.drag("#drawing [data-name=speed] circle:last-of-type", 0, -10)
    page.choose("rig", "surround3")
    page.until(lambda: len(page.all("#drawing .camera")) == 3)
    page.choose("weather", "snow")
    page.choose("x_road", "wet")
    page.choose("one_way", "no")
    page.ask_for(1.6, 2)
    scene = page.generated(served, "#do_generate")
    assert scene.rig.names == ("front", "front_left", "front_right")
    assert dict(scene.metadata) == {"weather": "snow", "one_way": False, "x_road": "wet"}
    assert scene.num_frames == 16
    x, y, _, length, _, _, yaw = scene.agents.boxes[0, 0]
    assert (x, y) == pytest.approx((30.0, 7.5), abs=0.3)
    assert length == 8.0
    assert yaw == pytest.approx(1.37, abs=0.15)  # the handle was 6.5 m ahead of it, and went 30 m to the left
    assert scene.speed[0] == 6.0
    assert scene.speed[-1] > 7.0
    assert (scene.curvature == 0).all()
    assert plays(page)
    assert len(page.all("#files .file, #files tr.file")) >= 6
    assert not [line for line in page.browser.get_log("browser") if "Error" in line["message"]]
    loaded = page.script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(loaded) > 10
    assert not [address for address in loaded if not address.startswith((served.address, "data:", "blob:"))]


def test_the_player_shows_boxes_and_single_cameras(page: Page, served: Served) -> None:
    page.click("#drawing .add")  # a car 20 m ahead
    page.ask_for(0.8, 1)
    page.generated(served, "#do_generate")
    assert plays(page)
    assert not page.all("#player svg rect")
    page.click("#player .boxes")
    page.until(lambda: page.all("#player svg rect"))
    tile = page.script("const r = document.querySelector('#player .stage'); return [r.clientWidth, r.clientHeight]")
    page.script(
        "const c = document.querySelector('#player .camera'); c.value = 'front'; c.dispatchEvent(new Event('change'))"
    )
    alone = page.script("const r = document.querySelector('#player .stage'); return [r.clientWidth, r.clientHeight]")
    assert alone[0] / alone[1] == pytest.approx(2, abs=0.05)
    assert tile[0] / tile[1] == pytest.approx(3, abs=0.05)
    assert page.script(SHOWN_PART) == pytest.approx([1 / 3, 0, 1 / 3, 1 / 2], abs=0.01)  # the middle of the upper row
    page.click("#player .play")
    page.until(lambda: page.script("return document.querySelector('#player video').paused"))


def test_the_end_of_the_path_sets_speed_and_curvature(page: Page) -> None:
    scale = page.pixels_per_metre()
    # the path ends 19.2 m ahead; a quarter of a circle of 19.2 m ends as far to the left as ahead
    page.drag("#drawing .end", round(-19.2 * scale), 0)
    words = [field.text for field in page.all("#drawing .curve output")]
    assert float(words[0].split()[0]) == pytest.approx(19.2 * 3.1416 / 2 / 2.4, abs=0.2)
    assert float(words[1].split()[0]) == pytest.approx(1 / 19.2, abs=0.003)


def test_what_is_wrong_is_said(page: Page) -> None:
    page.tab("Edit")
    page.click("#do_edit")
    page.until(lambda: [t for t in page.all(".toast-body") if "source: expected a video of each camera" in t.text])


def test_cancel(page: Page, served: Served) -> None:
    page.ask_for(0.8, 2000)
    page.click("#do_generate")
    page.until(lambda: "Step" in page.one("#status").text)
    page.click("#cancel button, button#cancel")
    page.until(lambda: "Cancelled." in page.one("#status").text)
    assert not served.studio._jobs
    page.click("#do_generate")
    page.until(lambda: served.studio._jobs)
    page.browser.get("about:blank")  # who leaves cancels
    page.until(lambda: not served.studio._jobs)


def test_inpaint_the_last_result(page: Page, served: Served) -> None:
    page.ask_for(0.8, 1)
    page.generated(served, "#do_generate")
    page.click("#take_last")
    page.tab("Inpaint")
    page.until(lambda: len(page.all("#mask figure")) == 5)
    cell = "#mask figure:nth-child(1) rect:nth-child(2)"
    page.drag(cell, 60, 0)
    painted = page.until(lambda: page.all("#mask rect.painted"))
    assert len(painted) >= 2
    scene = page.generated(served, "#do_inpaint")
    assert scene.rig.num_cameras == 5
    assert plays(page)


def test_a_scene_file_is_drawn(page: Page, served: Served, tmp_path: Path) -> None:
    path = tmp_path / "scene.json"
    scene = json.loads(Scene.create("front", num_frames=8, speed=5.0, curvature=0.05, weather="snow").to_json())
    scene["agents"] = {"boxes": [[[15, 2, 1, 4, 2, 2, 0.5]]] * 8, "category": [[5]] * 8}
    path.write_text(json.dumps(scene))
    page.until(lambda: page.all("#rig_file input[type=file]"))
    page.one("#rig_file input[type=file]").send_keys(str(path))
    page.until(lambda: page.all("#drawing .agent-shape"))
    assert page.one("#drawing .agent-shape").get_attribute("aria-label") == "pedestrian 1"
    assert page.one("#drawing [data-name=curvature] output").text == "0.050 1/m"
    page.until(lambda: len(page.all("#drawing .camera")) == 1)
    assert page.one("#weather input").get_attribute("value") == "snow"
