"""What all tests begin with: a browser, a comparison that has been trained, and a server of its models."""

import re
import shutil
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

from program import Server, ask, png, run

CHROMIUM = shutil.which("chromium")
# A model that learns next to nothing, in seconds.
QUICK = ["--quiet", "--set", "model.depth=2"]
PATIENCE = 15_000  # milliseconds; machines that tests run on may be slow
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def comparison(tmp_path_factory):
    """The folder of two models with two seeds."""
    folder = tmp_path_factory.mktemp("runs") / "comparison"
    run("compare", "--seeds", 2, "--epochs", 3, *QUICK, "--out", folder)
    return folder


@pytest.fixture(scope="session")
def models(comparison):
    """By name, the runs of the first seed."""
    seed = sorted(comparison.glob("seed-*"))[0]
    return {name: seed / name for name in ("vit", "sl-vit")}


# Names that would be more than text, if a page took them for markup.
NAMES = ["<b>x</b>&\"'", "<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>"]


@pytest.fixture(scope="session")
def markup(tmp_path_factory):
    """A run on data whose classes, and whose folder, have such names."""
    folder = tmp_path_factory.mktemp("<i>data<") / "<u>run&"
    folder.mkdir()
    lines = ["path,label"]
    for number in range(90):
        (folder / f"{number}.png").write_bytes(png(8, number))
        quoted = NAMES[number % 3].replace('"', '""')
        lines.append(f'{number}.png,"{quoted}"')
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    small = ["model.image_size=8", "model.patch_size=4", "data.redivide=false", "data.validation=0.2", "data.test=0.2"]
    settings = [word for setting in small for word in ("--set", setting)]
    data = f"csv:{folder / 'list.csv'}"
    run("train", "--data", data, "--recipe", "quickstart", "--epochs", 1, *QUICK, *settings, "--out", folder / "run")
    return folder / "run"


# ---- Servers ----


@pytest.fixture
def start():
    """Starts servers, and sees to it that none outlives the test."""
    servers = []

    def start(*arguments):
        servers.append(Server(*arguments))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def served(models):
    """A server of both models."""
    server = Server("serve", *models.values())
    yield server
    server.kill()


@pytest.fixture(scope="session")
def pictures(served, tmp_path_factory):
    """Picture files: three of the data, and one of noise."""
    folder = tmp_path_factory.mktemp("pictures")
    for example in ask(served, "GET", "/v1/examples").json["examples"][:3]:
        (folder / f"hand-{example['id']}.png").write_bytes(ask(served, "GET", example["url"]).body)
    (folder / "noise.png").write_bytes(png(50))
    return sorted(folder.iterdir())


# ---- Pages ----


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, start):  # pages are closed before the servers that a test has started
    """Opens pages. At the end none may have written to the console, or asked another host for anything.

    `allowed` is a pattern of what it may have written; other options are the browser context's.
    """
    visits = []

    def visit(url, allowed=None, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        faults = []

        def asked(request):
            if not is_own(request.url, url):
                faults.append(f"request: {request.url}")

        page.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: faults.append(f"uncaught: {error}"))
        page.on("dialog", lambda dialog: (faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", asked)
        visits.append((context, faults, allowed))
        page.goto(url)
        return page

    yield visit
    found = []
    for context, faults, allowed in visits:
        context.close()
        found += [fault for fault in faults if not (allowed and re.search(allowed, fault))]
    assert found == []


def is_own(asked, page):
    """Whether what is asked for is a part of the page, or comes from the page's own server."""
    asked, page = urlsplit(asked), urlsplit(page)
    if asked.scheme in ("data", "blob"):
        return True
    if page.scheme == "file":
        return asked.scheme == "file" and asked.path == page.path
    return (asked.scheme, asked.netloc) == (page.scheme, page.netloc)
