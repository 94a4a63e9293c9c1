"""Changelogs: where an archive has them, and what in them is new."""

from __future__ import annotations

import pytest

from tasks.debian.changelog import (
    ENTRIES,
    LINE,
    LINES,
    Changelog,
    Source,
    address,
    new_entries,
    source_of,
)
from tasks.plan.changes import Change, Package
from tasks.plan.difference import Difference, shown

OPENSSL = Source(name="openssl", version="3.0.17-1", component="main")

TEXT = """\
openssl (3.0.17-1) bookworm-security; urgency=high

  * Fix \x1b[31mCVE-2026-1.

 -- A <a@example.org>  Thu, 01 Jan 2026 00:00:00 +0000

openssl (3.0.16-2) unstable; urgency=medium

  * Not in bookworm.

 -- A <a@example.org>  Wed, 31 Dec 2025 00:00:00 +0000

openssl (3.0.16-1) unstable; urgency=medium

  * Older.
"""


@pytest.mark.parametrize(
    ("path", "version", "place"),
    [
        ("pool/main/o/openssl/libssl3_3.0.17-1_amd64.deb", "3.0.17-1", "main/o/openssl/openssl_3.0.17-1"),
        ("pool/updates/main/o/openssl/x.deb", "3.0.17-1+b2", "main/o/openssl/openssl_3.0.17-1"),
        ("pool/non-free-firmware/libx/libxyz/x.deb", "2:1", "non-free-firmware/libx/libxyz/libxyz_1"),
        ("pool/a_1_all.deb", "1", ""), ("debs/own.deb", "1", ""), ("pool/main/o/../x.deb", "1", ""),
    ],
)  # fmt: skip
def test_the_place_of_a_source_is_that_of_its_debs(path: str, version: str, place: str) -> None:
    found = source_of(path, version)
    assert (found.place if found else "") == place


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("https://c.example.org/changelogs/@CHANGEPATH@_changelog",
         "https://c.example.org/changelogs/main/o/openssl/openssl_3.0.17-1_changelog"),
        ("no", ""), ("", ""), ("file:///@CHANGEPATH@", ""), ("https://[x/@CHANGEPATH@", ""),
        ("https://u:p@c.example.org/@CHANGEPATH@", ""), ("https://c/ @CHANGEPATH@", ""),
    ],
)  # fmt: skip
def test_the_address_is_the_releases(template: str, url: str) -> None:
    assert address(template, OPENSSL) == url


def test_entries_are_new_down_to_the_version_before() -> None:
    assert new_entries(TEXT, OPENSSL, "3.0.16-1+b1") == (
        ("3.0.17-1", ("  * Fix ?[31mCVE-2026-1.",)), ("3.0.16-2", ("  * Not in bookworm.",)))  # fmt: skip
    assert new_entries(TEXT, OPENSSL, "3.0.17-1") == ()


@pytest.mark.parametrize(
    "text", ["", "<html>", "\0" * 99, TEXT.replace("3.0.17", "3.0.18"), TEXT[1:]]
)
def test_what_is_another_text_is_left_out(text: str) -> None:
    assert new_entries(text, OPENSSL, "3.0.16-1") == ()


def test_entries_are_bounded() -> None:
    one = "openssl ({}) a; urgency=low\n\n{}\n\n -- A\n\n"
    many = "".join(one.format(f"3.0.{17 - number}-1", "  * x") for number in range(17))
    assert len(new_entries(many, OPENSSL, "1")) == ENTRIES
    long = one.format("3.0.17-1", "\n".join(["  * " + "x" * 999] * 999))
    ((_version, lines),) = new_entries(long, OPENSSL, "1")
    assert (len(lines), len(lines[0])) == (LINES, LINE)


def test_the_three_forms() -> None:
    change = Change(name="libssl3", before=Package(version="1"), after=Package(version="2"))
    log = Changelog(source="openssl", packages=("libssl3",), entries=(("2", ("  * <b>`x`",)),))
    found = Difference(
        before="a", after="b", packages=[change], images=None, files=None, changelogs=[log]
    )
    assert shown(found, "text", "web").splitlines()[-3:] == [
        "changelog of openssl (libssl3)", "  2", "    * <b>`x`"]  # fmt: skip
    assert shown(found, "markdown", "web").splitlines()[-4:] == [
        "**changelog of openssl (libssl3)**", "", "      2", "        * <b>`x`"]  # fmt: skip
    assert '"text": "  * <b>`x`"' in shown(found, "json", "web")
