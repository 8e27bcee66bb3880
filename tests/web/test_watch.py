"""Watch: the report's page while a training goes on."""

import json
import subprocess

from playwright.sync_api import expect

from conftest import QUICK
from looks import WIDTHS, has_no_sideways_scrolling
from program import PROGRAM, ask

POINTS = "() => JSON.parse(document.querySelector('script#charts')?.textContent ?? 'null')?.charts[0].series[0].points.length ?? 0"


def test_the_page_follows_a_training_from_before_its_beginning_to_its_result(visit, start, tmp_path):
    server = start("watch", tmp_path)
    page = visit(server.url)
    expect(page.locator("h1")).to_have_text("waiting for a run")
    expect(page.locator("#watch-state")).to_have_text("live")
    page.evaluate("window.kept = true")
    # With one thread epochs do not pass too fast to be seen.
    command = [PROGRAM, "train", "--epochs", "8", "--threads", "1", *QUICK, "--out", str(tmp_path / "run")]
    training = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        button = page.locator(".legend button", has_text="training")
        button.click()
        seen = {page.evaluate(POINTS)}
        while training.poll() is None:
            seen.add(page.evaluate(POINTS))
            page.wait_for_timeout(100)
        assert training.returncode == 0
    finally:
        training.kill()
        training.wait()
    # It ends with the result, and has been there at several epochs' ends.
    expect(page.locator("table.results")).to_contain_text("test top-1")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    top1 = (result["models"] if "models" in result else [result])[0]["test_top1"]
    expect(page.locator("table.results tbody")).to_contain_text(f"{top1:.2f} %")
    assert page.evaluate(POINTS) == 8
    assert len(seen - {0, 8}) >= 2, seen
    # All that without loading the page anew, and as the reader had left it.
    assert page.evaluate("window.kept")
    assert button.get_attribute("aria-pressed") == "false"
    for line in page.locator(".series.dashed").all():
        assert not line.is_visible()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 844})
        assert has_no_sideways_scrolling(page)


def test_a_signal_ends_it_while_a_page_is_open(visit, start, comparison):
    server = start("watch", comparison)
    # The browser says by itself that the stream of events broke off.
    page = visit(server.url, allowed=r"net::ERR_")
    expect(page.locator("#watch-state")).to_have_text("live")
    assert server.stop(seconds=10) == 0
    expect(page.locator("#watch-state")).to_contain_text("the server is gone")
    expect(page.locator("table.results")).to_be_visible()


def test_a_token_is_asked_for(visit, start, comparison):
    server = start("watch", comparison, "--token", "sesame")
    assert ask(server, "GET", "/fragment").status == ask(server, "GET", "/events").status == 401
    page = visit(f"{server.url}?token=sesame")
    expect(page.locator("#watch-state")).to_have_text("live")


def test_the_page_brings_its_icon_so_that_browsers_ask_for_none(visit, start, tmp_path):
    page = visit(start("watch", tmp_path).url)
    assert page.locator("link[rel=icon][href^='data:']").count() == 1
