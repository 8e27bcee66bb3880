"""The report: one file, which is opened without any server."""

import csv
import json
import re

import pytest
from playwright.sync_api import expect

from conftest import NAMES
from looks import WIDTHS, ground, has_no_sideways_scrolling, tab_to

SECTIONS = ["results", "curves", "classes", "confusion", "reliability", "mistakes", "token", "temperatures", "recipe"]


@pytest.fixture
def url(comparison):
    return (comparison / "report.html").as_uri()


def charts(page):
    return json.loads(page.locator("script#charts").text_content())["charts"]


def point_at(page, figure, chart, x):
    """Moves the mouse to a value of x within a chart's plot."""
    svg = figure.locator("svg.plot")
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    scale = box["width"] / svg.evaluate("svg => svg.viewBox.baseVal.width")
    plot, (low, high) = chart["plot"], chart["x"]
    across = plot["left"] + (x - low) / (high - low) * (plot["right"] - plot["left"])
    page.mouse.move(box["x"] + across * scale, box["y"] + (plot["top"] + plot["bottom"]) / 2 * scale)


def reading(figure):
    """What the box under the pointer says: by the series' name, the number as it is written."""
    names = figure.locator(".reading .name").all_text_contents()
    values = figure.locator(".reading .value").all_text_contents()
    return dict(zip(names, [value.replace("−", "-").removesuffix(" %") for value in values], strict=True))


def column(page, number):
    return page.locator(f"#class-table tbody tr:visible > :nth-child({number})").all_text_contents()


def test_it_has_all_that_was_found(visit, url, comparison):
    page = visit(url)
    finding = page.locator(".finding").text_content()
    assert "sl-vit" in finding and "95 % interval" in finding
    assert page.locator("main > section").evaluate_all("all => all.map(section => section.id)") == SECTIONS
    for section in SECTIONS:
        expect(page.locator(f"#{section}")).to_be_visible()
    table = page.locator("table.results")
    assert [name.strip() for name in table.locator("tbody th").all_text_contents()] == ["vit", "sl-vit"]
    results = json.loads((comparison / "result.json").read_text())["models"]
    for name, row in zip(["vit", "sl-vit"], table.locator("tbody tr").all(), strict=True):
        tops = [result["test_top1"] for result in results if result["model"] == name]
        assert f"{sum(tops) / len(tops):.2f} %" in row.text_content()
    assert page.locator("#curves svg.plot").count() == len(charts(page)) >= 3
    assert page.locator("#class-table tbody tr").count() == 10
    assert page.locator("#confusion svg.plot").count() == 2
    assert page.locator("#mistakes img").evaluate_all("all => all.every(image => image.naturalWidth > 0)")
    assert page.locator("#mistakes li").count() > 0
    assert page.locator("#token svg image").count() > 0
    assert "smallvit compare" in page.locator("#recipe pre").first.text_content()


def test_the_pointer_shows_the_values_of_the_curves(visit, url):
    page = visit(url)
    chart, figure = charts(page)[0], page.locator("figure[data-chart='0']")
    for epoch in (1, 3):
        point_at(page, figure, chart, epoch)
        expect(figure.locator(".reading .at")).to_have_text(f"epoch {epoch}")
        shown = reading(figure)
        assert len(shown) == len(chart["series"]) == 4
        for series in chart["series"]:
            value = dict(series["points"])[epoch]
            written = shown[f"{series['label']} {series['kind']}"]
            digits = len(written.partition(".")[2])
            assert digits >= 2 and float(written) == pytest.approx(value, abs=0.5001 * 10**-digits)


def test_the_curves_are_the_means_of_the_histories(visit, url, comparison):
    page = visit(url)
    histories = [list(csv.DictReader(file.open())) for file in comparison.glob("seed-*/sl-vit/history.csv")]
    series = next(each for each in charts(page)[0]["series"] if each["key"] == "sl-vit/validation")
    for epoch, value in series["points"]:
        losses = [float(history[int(epoch) - 1]["val_loss"]) for history in histories]
        assert value == pytest.approx(sum(losses) / len(losses))


def test_the_arrow_keys_read_a_curve(visit, url):
    page = visit(url)
    tab_to(page, "figure[data-chart='0']")
    for key, epoch in [("ArrowRight", 1), ("ArrowRight", 2), ("End", 3), ("ArrowLeft", 2)]:
        page.keyboard.press(key)
        expect(page.locator(".reading .at")).to_have_text(f"epoch {epoch}")
        expect(page.locator("[aria-live]")).to_contain_text(f"epoch {epoch}: vit validation")
    page.keyboard.press("Escape")
    expect(page.locator(".reading")).to_have_count(0)


def test_a_series_that_is_switched_off_is_off_in_all_charts(visit, url):
    page = visit(url)
    legend = page.locator("#curves .legend button")

    def shown():
        """By chart, the keys of the series that can be seen."""
        return [
            [
                series["key"]
                for number, series in enumerate(chart["series"])
                if page.locator(f"figure[data-chart='{at}'] [data-series='{number}']").first.is_visible()
            ]
            for at, chart in enumerate(charts(page))
        ]

    before = shown()
    assert all("vit/training" in keys for keys in before[:3])
    legend.filter(has_text=re.compile("^vit training$")).click()
    assert shown() == [[key for key in keys if key != "vit/training"] for keys in before]
    # Without any line of it left, a model is gone from the charts of one line a model, too.
    legend.filter(has_text=re.compile("^vit validation$")).click()
    assert shown() == [[key for key in keys if key.startswith("sl-vit")] for keys in before]
    point_at(page, page.locator("figure[data-chart='0']"), charts(page)[0], 2)
    assert list(reading(page.locator("figure[data-chart='0']"))) == ["sl-vit validation", "sl-vit training"]
    for text in ("vit training", "vit validation"):
        legend.filter(has_text=re.compile(f"^{text}$")).click()
    assert shown() == before


def test_the_classes_are_sorted_by_the_keyboard_alone(visit, url):
    page = visit(url)
    before = column(page, 1)
    head = page.locator("th[data-column='class']")
    tab_to(page, "th[data-column='class'] button")
    page.keyboard.press("Enter")
    assert column(page, 1) == sorted(before)
    assert head.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Space")
    assert column(page, 1) == sorted(before, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Enter")
    assert column(page, 1) == before
    tab_to(page, "th[data-column='sl-vit/F1'] button")
    page.keyboard.press("Enter")
    # A class of which there is nothing to be told comes last.
    numbers = [float(text) for text in column(page, 8) if re.fullmatch(r"[\d.]+", text)]
    assert numbers == sorted(numbers) and len(numbers) > 1


def test_classes_are_found_by_name(visit, url):
    page = visit(url)
    search = page.get_by_label("Find a class")
    search.fill("7")
    assert column(page, 1) == ["7"]
    expect(page.locator(".tools output")).to_have_text("1 of 10 classes")
    search.fill("none such")
    assert column(page, 1) == []
    search.fill("")
    assert len(column(page, 1)) == 10


def test_one_confusion_matrix_is_seen_at_a_time(visit, url):
    page = visit(url)
    expect(page.locator("#confusion-0")).to_be_visible()
    expect(page.locator("#confusion-1")).to_be_hidden()
    page.get_by_role("tab", name="vit", exact=True).press("ArrowRight")
    expect(page.locator("#confusion-0")).to_be_hidden()
    expect(page.locator("#confusion-1")).to_be_visible()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_does_not_scroll_sideways(visit, url, width):
    page = visit(url, viewport={"width": width, "height": 844})
    assert has_no_sideways_scrolling(page)


def test_it_is_dark_where_the_reader_prefers_that(visit, url):
    light, dark = (ground(visit(url, color_scheme=scheme)) for scheme in ("light", "dark"))
    assert min(light) > 200 and max(dark) < 60


def test_it_is_readable_without_javascript(visit, url):
    page = visit(url, java_script_enabled=False)
    for section in SECTIONS:
        expect(page.locator(f"#{section}")).to_be_visible()
    for drawn in page.locator("svg.plot, #mistakes img, #class-table tbody tr").all():
        assert drawn.is_visible()
    # What only a script could do is not offered.
    assert page.locator("button, input").count() == 0
    assert has_no_sideways_scrolling(page)
    page.locator("summary", has_text="The whole recipe").click()
    expect(page.locator("#whole-recipe pre")).to_be_visible()


def test_it_prints_on_several_pages(visit, url):
    page = visit(url, color_scheme="dark")
    printed = page.pdf(format="A4", print_background=True)
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 20
    page.emulate_media(media="print", color_scheme="dark")
    assert ground(page) == (255, 255, 255)
    # On paper there are no tabs to choose by.
    for number in (0, 1):
        expect(page.locator(f"#confusion-{number}")).to_be_visible()


def test_names_that_look_like_markup_are_text(visit, markup):
    page = visit((markup / "report.html").as_uri())
    assert sorted(column(page, 1)) == sorted(NAMES)
    assert {*page.locator("#mistakes bdi").all_text_contents()} <= {*NAMES} != set()
    assert page.locator("main i, main u, main img[src=x], bdi *").count() == 0
    assert all(name in page.locator("#confusion").text_content() for name in NAMES)
    assert "<u>run&" in page.locator("footer").text_content()
    assert has_no_sideways_scrolling(page)
