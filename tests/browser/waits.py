"""Waiting for a page whose policy forbids it to evaluate strings."""

import time

from playwright.sync_api import Page

PATIENCE = 30.0
"""Seconds."""


def becomes(page: Page, expression: str) -> None:
    """Wait until a JavaScript expression is true, asking from here.

    Playwright's `wait_for_function` asks once from outside and then from within the page, where
    the report's Content-Security-Policy refuses it: a wait that fails only where it has to wait.
    """
    end = time.monotonic() + PATIENCE
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"not true after {PATIENCE:g} s: {expression}"
        page.wait_for_timeout(20)


def press_every_button(page: Page, ours: str = "data:") -> list[str]:
    """Press all buttons of the figures' bars, fail where one asks a server; return their titles.

    Watched are requests (but to our own server), new windows, dialogs and forms.
    """
    asked: list[str] = []
    page.on("popup", lambda window: asked.append(f"window {window.url}"))
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: asked.append(f"dialog {dialog.message}"))
    here = page.url
    titles = []
    buttons = page.locator(".modebar-btn")
    for number in range(buttons.count()):
        titles.append(buttons.nth(number).get_attribute("data-title") or "")
        buttons.nth(number).dispatch_event("click")
        page.wait_for_timeout(50)
        assert page.locator(".plotly-cloud-dialog, form").count() == 0, titles[-1]
    page.wait_for_timeout(300)
    sent = [url for url in asked if not url.startswith(("data:", "blob:", ours))]
    assert (sent, page.url) == ([], here)
    return titles
