"""What is asked of every page's looks."""

WIDTHS = [390, 1280]


def has_no_sideways_scrolling(page):
    wide, room = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    return wide <= room


def ground(page):
    """The colour behind all, as (red, green, blue)."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return tuple(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


def tab_to(page, selector, most=80):
    """Presses the tabulator key until that element has the focus, as one without a mouse would."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"the tabulator key does not lead to {selector}")
