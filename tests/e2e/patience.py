"""Waiting for what a page does and no element of it shows."""

from __future__ import annotations

import time
from collections.abc import Callable

from playwright.sync_api import Page


def until(page: Page, there: Callable[[], object]) -> None:
    """Let the page go on until `there` is true; AssertionError after a minute."""
    ends = time.monotonic() + 60
    while not there():
        assert time.monotonic() < ends, "it did not come"
        page.wait_for_timeout(20)
