"""How long a server is waited for, and how often it is asked again: what users may set."""

from __future__ import annotations

import os
import re

from ..errors import BuildError


def timeout() -> int:
    """Seconds without a byte after which a server is given up: STRATA_TIMEOUT, or 30."""
    return _number("STRATA_TIMEOUT", 30)


def retries() -> int:
    """How often a failure that may pass is tried again: STRATA_RETRIES, or 3."""
    return _number("STRATA_RETRIES", 3)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise BuildError(f"{name}={text}: expected a number of up to four digits")
    return int(text)
