"""The page of serve, as a reader uses it."""

import base64
import json
import re
import threading

import pytest
from playwright.sync_api import expect

from conftest import NAMES
from looks import WIDTHS, ground, has_no_sideways_scrolling, tab_to
from program import png, run

# What Chromium writes about any answer that is not a success.
NETWORK_LINE = "^error: Failed to load resource: the server responded with a status of {}"


def answers(page):
    """By model, the first class and its percentage, once all are there."""
    expect(page.locator("#cards")).to_have_attribute("aria-busy", "false")
    return {
        card.locator("h3 b").text_content(): (
            card.locator(".first b").text_content(),
            card.locator(".percent").first.text_content(),
        )
        for card in page.locator("#cards .card").all()
    }


def predicted(models, picture):
    """The same, as the program says it."""
    said = {}
    for name, model in models.items():
        first = json.loads(run("predict", model, picture, "--json"))[0]["likeliest"][0]
        said[name] = (first["class"], f"{100 * first['probability']:.1f} %")
    return said


def transfer(page, content, name="given.png", kind="image/png"):
    """A DataTransfer with a file in it, as a drag brings one."""
    encoded = base64.b64encode(content).decode()
    return page.evaluate_handle(
        """([encoded, name, type]) => {
            const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, { type }));
            return transfer;
        }""",
        [encoded, name, kind],
    )


def test_a_chosen_file_is_answered_as_by_predict(visit, served, models, pictures):
    page = visit(served.url)
    expect(page.locator("#models tr")).to_have_count(2)
    for picture in pictures:
        page.locator("#file").set_input_files(picture)
        expect(page.locator("#given-name")).to_have_text(picture.name)
        assert answers(page) == predicted(models, picture)


def test_several_files_are_all_answered(visit, served, pictures):
    page = visit(served.url)
    page.locator("#file").set_input_files(pictures)
    says = page.locator("#pictures .says")
    expect(says).to_have_count(len(pictures))
    for each in says.all():
        expect(each).to_have_text(re.compile(r"\d"))


def test_a_picture_may_be_dropped(visit, served, models, pictures):
    page = visit(served.url)
    expect(page.locator("#file")).to_be_enabled()
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer(page, pictures[0].read_bytes())})
    expect(page.locator("#given-name")).to_have_text("given.png")
    assert answers(page) == predicted(models, pictures[0])


def test_a_picture_may_be_pasted(visit, served):
    page = visit(served.url, permissions=["clipboard-read", "clipboard-write"])
    expect(page.locator("#file")).to_be_enabled()
    page.evaluate(
        """async (encoded) => {
            const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
            await navigator.clipboard.write([new ClipboardItem({ "image/png": new Blob([bytes], { type: "image/png" }) })]);
        }""",
        base64.b64encode(png()).decode(),
    )
    page.keyboard.press("Control+V")
    expect(page.locator("#given-name")).to_have_text("pasted 1")
    assert len(answers(page)) == 2


def test_an_example_is_answered_and_its_class_told(visit, served):
    page = visit(served.url)
    example = page.locator("#examples button").nth(2)
    truth = example.locator(".name").text_content()
    example.click()
    expect(page.locator("#given-name")).to_have_text(re.compile(f"in the data it is {truth}$"))
    marks = ["✓ right" if said == truth else f"✗ it is {truth}" for said, _ in answers(page).values()]
    assert page.locator("#cards .right, #cards .wrong").all_text_contents() == marks


def test_both_models_show_where_they_look_and_what_a_token_sees(visit, served):
    page = visit(served.url)
    page.locator("#examples button").first.click()
    expect(page.locator("#look-says")).to_contain_text("What each cell receives")
    expect(page.locator("#token")).to_be_hidden()  # vit has no shifted patches
    page.locator("#where-model").select_option("sl-vit")
    expect(page.locator("#views canvas")).to_have_count(5)
    for choice, words in [("0", "What each cell receives"), ("rollout", "Through all layers")]:
        page.locator("#where-layer").select_option(choice)
        expect(page.locator("#look-says")).to_contain_text(words)
    painted = page.locator("#look").evaluate(
        "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, 640, 640).data).size"
    )
    assert painted > 10


def test_the_keyboard_alone_leads_to_an_answer_and_through_the_attention(visit, served, models, pictures):
    page = visit(served.url)
    expect(page.locator("#file")).to_be_enabled()
    tab_to(page, "#file")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(pictures[0])
    assert answers(page) == predicted(models, pictures[0])
    tab_to(page, "#examples button")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#given-name")).to_contain_text("example 1;")
    expect(page.locator("#announce")).to_contain_text("vit says")
    expect(page.locator("#look-says")).to_contain_text("What each cell receives")
    tab_to(page, "#look")
    says = page.locator("#look-says")
    expect(says).to_contain_text("Where row")
    row, column = map(int, re.match(r"Where row (\d), column (\d) looks", says.text_content()).groups())
    for key, down, right in [("ArrowDown", 1, 0), ("ArrowRight", 0, 1), ("ArrowUp", -1, 0), ("ArrowLeft", 0, -1)]:
        page.keyboard.press(key)
        row, column = row + down, column + right
        expect(says).to_contain_text(f"Where row {row}, column {column} looks")
    page.keyboard.press("Escape")
    expect(says).to_contain_text("What each cell receives")
    tab_to(page, "#strip button[aria-checked='true']")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#where-head")).to_have_value("0")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#where-layer")).to_have_value("0")


def test_a_text_file_gives_words(visit, served, tmp_path):
    text = tmp_path / "letter.txt"
    text.write_text("Dear server, I am no picture. " * 20)
    page = visit(served.url, allowed=NETWORK_LINE.format(415))
    page.locator("#file").set_input_files(text)
    expect(page.locator("#messages")).to_contain_text("letter.txt: This is not a picture that the server can read.")
    expect(page.locator("#where")).to_be_hidden()
    # And the next picture is answered as ever.
    page.locator("#examples button").first.click()
    assert len(answers(page)) == 2


def test_a_file_that_is_too_large_gives_words(visit, start, models):
    server = start("serve", *models.values(), "--max-body", 1)
    page = visit(server.url, allowed=NETWORK_LINE.format(413))
    large = {"name": "large.png", "mimeType": "image/png", "buffer": png(1400)}
    page.locator("#file").set_input_files(large)
    expect(page.locator("#messages")).to_contain_text("large.png: This picture is too large for the server.")


def test_a_server_that_has_gone_gives_words_and_another_try(visit, start, models):
    server = start("serve", models["vit"])
    page = visit(server.url, allowed="net::ERR_")
    expect(page.locator("#file")).to_be_enabled()
    assert server.stop() == 0
    page.locator("#file").set_input_files({"name": "late.png", "mimeType": "image/png", "buffer": png()})
    expect(page.locator("#messages")).to_contain_text("The server does not answer.")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_does_not_scroll_sideways(visit, served, width):
    page = visit(served.url, viewport={"width": width, "height": 844})
    expect(page.locator("#file")).to_be_enabled()
    assert has_no_sideways_scrolling(page)
    page.locator("#examples button").first.click()
    page.locator("#where-model").select_option("sl-vit")
    expect(page.locator("#views canvas")).to_have_count(5)
    assert has_no_sideways_scrolling(page)


def test_it_is_dark_where_the_reader_prefers_that(visit, served):
    light, dark = (ground(visit(served.url, color_scheme=scheme)) for scheme in ("light", "dark"))
    assert min(light) > 200 and max(dark) < 60


def test_names_that_look_like_markup_are_text(visit, start, markup):
    page = visit(start("serve", markup).url)
    page.locator("#file").set_input_files({"name": "<b>me</b>.png", "mimeType": "image/png", "buffer": png(8)})
    assert {said for said, _ in answers(page).values()} <= {*NAMES}
    assert sorted(page.locator("#cards .class").all_text_contents()) == sorted(NAMES)
    expect(page.locator("#given-name")).to_have_text("<b>me</b>.png")
    assert page.locator("#cards b b, #cards img, figcaption b, #examples b").count() == 0
    shown = {name.strip() for name in page.locator("#examples .name").all_text_contents()}
    assert shown == {*NAMES}


def test_a_signal_ends_it_while_a_page_is_open_and_after_what_has_been_asked(visit, start, models):
    server = start("serve", *models.values())
    page = visit(server.url)
    page.locator("#examples button").first.click()
    assert len(answers(page)) == 2
    assert server.stop() == 0
