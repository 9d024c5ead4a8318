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
