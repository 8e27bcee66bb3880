#!/usr/bin/env python3
"""Takes the documents' pictures of the pages: docs/report.png, docs/serve.png and docs/watch.png.

    SMALLVIT=target/release/smallvit target/web/bin/python tests/web/screenshots.py COMPARISON [RUNNING]

COMPARISON is the folder of a comparison that has ended; its report is shown, and the models of its first seed are
served. RUNNING is what watch shows, best a training on its way; without it, COMPARISON again.
"""

import argparse
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from conftest import CHROMIUM
from program import Server

DOCS = Path(__file__).resolve().parents[2] / "docs"
WIDTH, HEIGHT = 1280, 1400
AROUND = 16


def take(page, name, last, first="body"):
    """From the beginning of one element to the end of another, or as far as the window shows."""
    top = page.locator(first).evaluate("element => element.getBoundingClientRect().top + scrollY")
    page.evaluate("top => scrollTo(0, top)", top - AROUND)
    page.wait_for_timeout(300)
    bottom = page.locator(last).evaluate("element => element.getBoundingClientRect().bottom")
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": min(round(bottom) + AROUND, HEIGHT)}
    page.screenshot(path=DOCS / name, clip=clip)


def report(page, comparison):
    page.goto((comparison / "report.html").resolve().as_uri())
    # With the values under a pointer, midway in the first chart.
    page.locator("figure[data-chart='0'] svg.plot").hover()
    take(page, "report.png", last="figure[data-chart='1']")


def serve(page, comparison):
    seed = sorted(comparison.glob("seed-*"))[0]
    models = sorted(run.parent for run in seed.glob("*/result.json"))
    server = Server("serve", *reversed(models))
    try:
        page.goto(server.url)
        page.locator("#examples button").nth(3).click()
        page.locator("#where-model").select_option(index=len(models) - 1)
        expect(page.locator("#look-says")).to_contain_text("What each cell receives")
        expect(page.locator("#cards")).to_have_attribute("aria-busy", "false")
        page.mouse.move(0, 0)
        take(page, "serve.png", first="#examples-box", last="#looks")
    finally:
        server.stop()


def watch(page, running):
    server = Server("watch", running)
    try:
        page.goto(server.url)
        expect(page.locator("figure[data-chart='0'] svg.plot")).to_be_visible()
        take(page, "watch.png", last="figure[data-chart='1']")
    finally:
        server.stop()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("comparison", type=Path, metavar="COMPARISON")
    arguments.add_argument("running", type=Path, metavar="RUNNING", nargs="?")
    given = arguments.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for show, folder in [(watch, given.running or given.comparison), (report, given.comparison), (serve, given.comparison)]:
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
            show(page, folder)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
