"""A report's chapters → the text of one HTML page that loads nothing and shows what it is given.

Names, versions, licences and logs are what .debs and repositories say. Jinja escapes each value,
`plain` takes out what is no sign to be read, and the page's policy lets no style or script run but
the two whose hashes it names.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..plan.changes import Change
from ..plan.difference import Difference, Part
from ..spec.words import amount, counted
from ..version import VERSION
from . import charts
from .chapter import Chapter, Package

if TYPE_CHECKING:
    from jinja2 import Template

HERE = Path(__file__).parent

SHOWN = 300
"""Changes of a kind that are listed; `strata diff` has them all."""

LINE = 400
"""Characters of a value that are shown."""

READABLE = 1500
"""Pixels of a graph's width that a page of 1100 still shows with letters to be read."""

BUILDS = 30
"""The newest builds that are listed."""

OPEN = 12
"""Up to so many changed files are listed at once, more when they are asked for."""

LICENCES = 4
"""Of a package so many licences are shown at once."""

FOLDERS = 40
"""The largest folders that are listed below their picture."""


def page(chapters: Sequence[Chapter], graph: str = "") -> str:
    """The page of one spec, or of several with what they share, whose `graph` is an SVG."""
    from markupsafe import Markup

    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    text = _template().render(
        chapters=chapters,
        graph=Markup(graph),  # noqa: S704 - an SVG of drawing.svg, which escapes what it shows
        style=Markup(style),  # noqa: S704 - Strata's own
        script=Markup(script),  # noqa: S704 - Strata's own
        policy=policy,
        strata=VERSION,
    )
    return text if text.endswith("\n") else f"{text}\n"


def _hash(text: str) -> str:
    """A text as Content-Security-Policy names it (CSP3, hash-source)."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


@cache
def _template() -> Template:
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE, encoding="utf-8"),
        autoescape=True,
        finalize=_finalized,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "amount": _amount, "moment": moment, "took": charts.took, "counted": counted,
        "svg": Markup, "kinds": _kinds, "same": _same,
    }  # fmt: skip
    environment.globals |= {
        "waterfall": charts.waterfall, "counts": charts.counts, "stacked": charts.stacked,
        "hit_rate": charts.hit_rate, "share": charts.share, "nested": charts.nested,
        "of_packages": of_packages, "differing": differing, "fits": fits, "RESULTS": charts.RESULTS,
        "OPEN": OPEN, "LICENCES": LICENCES,
        "SHOWN": SHOWN, "BUILDS": BUILDS, "FOLDERS": FOLDERS, "SHADES": charts.SHADES,
    }  # fmt: skip
    return environment.get_template("page.html")


def _finalized(value: Any) -> Any:
    """What each expression of the template comes to: markup of ours, or a value to be shown."""
    return value if hasattr(value, "__html__") else plain(str(value))


def plain(text: str) -> str:
    """text without control characters and those that turn the direction of what stands beside it.

    It is not too long either, whoever wrote it.
    """
    told = "".join(sign if sign.isprintable() else "?" for sign in text[: LINE + 1])
    return told if len(told) <= LINE else f"{told[:LINE]}…"


def _amount(size: int | None) -> str:
    return "-" if size is None else amount(size)


def moment(seconds: float) -> str:
    """A time since 1970 as a date in UTC, to the second."""
    try:
        return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return "?"


# ---------------------------------------------------------------- what the template asks


def of_packages(chapter: Chapter) -> list[charts.Cell]:
    """A treemap of a chapter's packages, coloured by layer."""
    sizes = chapter.sizes
    if sizes is None:
        return []
    place = {name: f"l{number % charts.SHADES}" for number, name in enumerate(chapter.layers)}
    known = {one.name: one for one in chapter.packages}

    def part(name: str, size: int) -> charts.Part:
        one: Package | None = known.get(name)
        kind = place.get(one.layer, "rest") if one else "rest"
        return charts.Part(name, size, kind, f"{one.version}, {one.layer}" if one else "")

    parts = [part(one.name, one.bytes) for one in sizes.packages]
    parts.append(charts.Part("(in no package)", sizes.no_package, "rest"))
    return charts.treemap(parts, sum(one.bytes for one in parts))


def fits(graph: str) -> bool:
    """Whether a graph can be read when it is as wide as the page; a wider one is to be scrolled."""
    found = re.search(r' width="([\d.]+)"', graph)
    return found is not None and float(found[1]) <= READABLE


def differing(found: Difference) -> list[tuple[str, int, list[tuple[str, str]]]]:
    """Of packages, images and files: what it is, how many differ, kind and line of each shown."""
    groups = []
    for name, parts in found.parts.items():
        if parts:
            every = sorted(parts, key=lambda one: _kind(one) != "security")
            lines = [(_kind(one), one.line()[2:]) for one in every[:SHOWN]]
            groups.append((name, len(parts), lines))
    return groups


def _kind(one: Change | Part) -> str:
    if isinstance(one, Change):
        return "security" if one.security and one.kind != "added" else one.kind
    return "added" if one.before is None else "changed" if one.after else "removed"


def _kinds(found: Difference) -> str:
    """Which of packages, images and files are not told, in words; "" if all are."""
    return _listed([name for name, parts in found.parts.items() if parts is None])


def _same(found: Difference) -> str:
    """Which of them are told and differ in nothing, in words."""
    return _listed([name for name, parts in found.parts.items() if parts is not None and not parts])


def _listed(names: Sequence[str]) -> str:
    *first, last = names or [""]
    return f"{', '.join(first)} and {last}" if first else last
