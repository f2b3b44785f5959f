"""The page in a real browser: by pointer, by keys, on a phone, without JavaScript, and with what goes wrong."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, serious_faults
from page_shop import Shop, png
from running_gateway import running_gateway

VIEWS = (
    "/",
    "/?q=red",
    "/?q=red&like=01.png&unlike=02.png&is:kind=red",
    "/?like=01.png&labels=red,green,blue",
    "/?q=mauve",
    "/?view=clusters",
    "/?view=clusters&cluster=0",
    "/?view=map",
)
MAKE_FILES = """([data, type, name]) => {
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  const files = new DataTransfer();
  files.items.add(new File([bytes], name, { type }));
  return files;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def url(shop: Shop) -> Iterator[str]:
    with running_gateway(shop.gateway) as running:
        yield running.url


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """A page of 1100 × 800 that asks nobody but the server, and whose scripts have no fault."""
    context = browser.new_context(viewport={"width": 1100, "height": 800}, base_url=url)
    page = context.new_page()
    page.set_default_timeout(15_000)
    asked: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert [one for one in asked if not one.startswith((url, "blob:", "data:"))] == []
    # The browser itself logs each answer that is an error.
    assert [fault for fault in faults if "Failed to load resource" not in fault] == []


def titles(page: Any) -> list[str]:
    return [str(text) for text in page.locator(".hit .title").all_inner_texts()]


def wait_for(page: Any, title: str) -> None:
    """Until the first hit is called so."""
    page.wait_for_function(
        "title => document.querySelector('.hit .title')?.innerText.startsWith(title)", arg=title
    )


def bring(page: Any, event: str, data: bytes, kind: str = "image/png", name: str = "mine.png") -> None:
    """Drops or pastes a file."""
    page.evaluate(
        f"""(file) => {{
          const files = ({MAKE_FILES})(file);
          const made = "{event}" === "drop"
            ? new DragEvent("drop", {{ dataTransfer: files, bubbles: true, cancelable: true }})
            : new ClipboardEvent("paste", {{ clipboardData: files, bubbles: true, cancelable: true }});
          document.body.dispatchEvent(made);
        }}""",
        [base64.b64encode(data).decode(), kind, name],
    )


def test_typing_shows_hits_without_loading_the_page(page: Any) -> None:
    page.goto("/")
    page.evaluate("window.isSame = true")
    page.keyboard.press("/")
    page.keyboard.type("green")
    wait_for(page, "green")
    page.keyboard.press("Enter")
    page.wait_for_function("() => location.search.includes('q=green')")
    assert page.evaluate("window.isSame") is True
    assert page.evaluate("document.activeElement.id") == "q"
    assert "nearest first" in page.locator("#status").inner_text()
    page.locator(".pages [rel=next]").click()
    page.wait_for_function("() => location.search.includes('page=2')")
    assert page.evaluate("document.activeElement.id") == "results"
    page.go_back()
    wait_for(page, "green")


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_is_brought(page: Any, event: str) -> None:
    page.goto("/?q=red")
    bring(page, event, png("blue"))
    wait_for(page, "blue")
    assert page.locator("#q").input_value() == ""
    assert page.locator(".examples").inner_text().startswith("like mine.png")
    page.fill("#labels", "red, blue")
    page.keyboard.press("Enter")
    page.wait_for_selector(".bars li")
    assert page.locator(".bars li span").first.inner_text() == "blue"


def test_a_picture_is_chosen_and_filtered(page: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(png("red"))
    page.goto("/")
    page.set_input_files("#file", str(tmp_path / "mine.png"))
    wait_for(page, "<script>")
    page.click(".filters summary")
    page.check("input[value=green]")
    wait_for(page, "green")
    assert len(titles(page)) == 15
    page.fill("[name='most:price']", "10")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.hit').length === 3")
    page.click("text=Reset the filters")
    wait_for(page, "<script>")
    assert not page.locator("input[value=green]").is_checked()


def test_a_picture_that_the_server_forgot_is_given_again(page: Any, shop: Shop) -> None:
    page.goto("/")
    bring(page, "paste", png("blue"))
    wait_for(page, "blue")
    # The browser's own loop runs in this thread.
    with ThreadPoolExecutor(1) as pool:
        list(pool.map(lambda _: shop.give(png("red"), json=True), range(256)))
    page.click("text=Page 2 →")
    page.wait_for_function("() => document.querySelector('.pages span:nth-child(2)').innerText === 'Page 2'")
    assert "is gone" not in page.locator(".examples").inner_text()


def test_more_and_less(page: Any) -> None:
    page.goto("/?q=white")
    page.get_by_role("link", name="more like this: white 3", exact=True).click()
    page.wait_for_selector(".examples .like")
    page.get_by_role("link", name="less like this: white 7", exact=True).click()
    page.wait_for_selector(".examples .unlike")
    assert not {"white 3", "white 7"} & set(titles(page))
    page.get_by_role("link", name="Remove: like white 3").click()
    page.wait_for_function("() => !document.querySelector('.examples .like')")
    page.get_by_role("search").get_by_role("button", name="Search").click()
    page.wait_for_function("() => location.search.includes('unlike=07.png')")


def test_a_broken_picture(page: Any) -> None:
    page.goto("/?q=red")
    bring(page, "drop", b"\x89PNG\r\n\x1a\n and no more")
    problem = page.locator("#problem")
    problem.wait_for()
    assert problem.inner_text().startswith("mine.png: ")
    assert len(titles(page)) == 24
    bring(page, "drop", b"text", "text/plain", "notes.txt")
    page.wait_for_function(
        "() => document.querySelector('#problem').innerText.includes('notes.txt is no picture')"
    )


def test_the_server_is_gone(browser: Any, tmp_path: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    with running_gateway(Shop(tmp_path).gateway) as running:
        page.goto(f"{running.url}/?q=red")
    page.fill("#q", "green")
    page.keyboard.press("Enter")
    page.wait_for_function("() => !document.querySelector('#problem').hidden")
    assert page.locator("#problem").inner_text().startswith("The server does not answer")
    assert page.locator("#q").input_value() == "green"
    assert len(titles(page)) == 24
    bring(page, "paste", png("red"))
    page.wait_for_function("() => document.querySelector('#problem').innerText.startsWith('mine.png')")
    context.close()


def test_without_javascript(browser: Any, url: str, tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(png("blue"))
    context = browser.new_context(java_script_enabled=False, base_url=url)
    page = context.new_page()
    page.goto("/")
    page.fill("#q", "green")
    page.keyboard.press("Enter")
    page.locator("text=nearest first").wait_for()
    assert titles(page)[0].startswith("green")
    page.click(".pages [rel=next]")
    page.locator("text=25 to 48").wait_for()
    page.set_input_files("#file", str(tmp_path / "mine.png"))
    page.click("text=Search by this picture")
    page.locator("text=like mine.png").wait_for()
    assert titles(page)[0].startswith("blue")
    context.close()


def test_the_map(page: Any) -> None:
    page.goto("/?view=map&colour=kind")
    page.wait_for_selector("#legend li")
    assert page.locator("#legend li").all_inner_texts() == ["blue", "green", "red", "white"]
    canvas = page.locator("#canvas")
    canvas.focus()
    page.keyboard.press("n")
    page.wait_for_function("() => !document.querySelector('#hovered').hidden")
    said = page.locator("#status").inner_text()
    name = said.rpartition(",")[0]
    assert page.locator("#hovered b").inner_text() == name
    drawn = canvas.screenshot()
    page.keyboard.press("+")
    assert canvas.screenshot() != drawn
    page.get_by_role("button", name="Show all").click()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.wait_for_function("() => document.querySelector('#hovered').hidden")
    canvas.focus()
    page.keyboard.press("n")
    page.keyboard.press("Enter")
    page.wait_for_url("**/*like=*")
    page.wait_for_selector(".examples .like")


@pytest.mark.parametrize("width", [360, 1100])
def test_nothing_is_wider_than_the_screen(browser: Any, url: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 740}, base_url=url)
    page = context.new_page()
    for view in VIEWS:
        page.goto(view)
        for summary in page.locator("summary").all()[:2]:
            summary.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out(browser: Any, url: str, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme, base_url=url, reduced_motion="reduce")
    page = context.new_page()
    for view in VIEWS:
        page.goto(view)
        for summary in page.locator("summary").all()[:2]:
            summary.click()
        assert serious_faults(page) == [], view
    context.close()


def test_it_goes_by_keys(page: Any) -> None:
    page.goto("/?q=red")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.resource_type))
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.id === 'results'")
    reached = []
    for _ in range(3):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert reached[0].startswith("more like this: ")
    assert reached[1].startswith("less like this: ")
    assert reached[2].startswith("details of ")
    assert "fetch" not in loaded
