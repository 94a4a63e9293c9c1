"""Whose archive a suite, an Origin or a keyring is: Debian's or Ubuntu's."""

from __future__ import annotations

import re

DEBIAN, UBUNTU = "Debian", "Ubuntu"

ORIGINS = {"Debian": DEBIAN, "Debian Backports": DEBIAN, "Ubuntu": UBUNTU}
"""By the Origin of a Release."""

_KEYRING = re.compile(r"(?:.*/)?(debian|ubuntu)-archive-[^/]*\.(gpg|pgp|asc)")

# As distro-info-data has them, from the oldest that anybody may still build on. A codename that is
# not here tells nothing: what depends on it is as if nobody knew.
_OF_DEBIAN = """squeeze wheezy jessie stretch buster bullseye bookworm trixie forky duke sid"""

_OF_UBUNTU = """lucid precise trusty utopic vivid wily xenial yakkety zesty artful bionic cosmic
    disco eoan focal groovy hirsute impish jammy kinetic lunar mantic noble oracular plucky questing
    resolute"""

_CODENAMES = {
    **dict.fromkeys(_OF_DEBIAN.split(), DEBIAN),
    **dict.fromkeys(_OF_UBUNTU.split(), UBUNTU),
}

_CLASSES = ("oldoldstable", "oldstable", "stable", "testing", "unstable", "experimental")
"""Names that move from release to release: Debian's own, and many a vendor's."""

_POCKET = re.compile(
    r"-(updates|security|backports(-sloppy)?|proposed|proposed-updates|debug)(/.*)?$|/updates$"
)


def of_suite(suite: str) -> str:
    """Whose a suite is by its codename, with or without a pocket; "" where that does not tell."""
    return _CODENAMES.get(_POCKET.sub("", suite), "")


def of_class(suite: str) -> str:
    """The same of a suite named by its class, as `stable` is: Debian's, unless a vendor's."""
    return DEBIAN if _POCKET.sub("", suite) in _CLASSES else ""


def of_keyring(path: str) -> str:
    """Whose archive's keyring a path names, "" for any other."""
    match = _KEYRING.fullmatch(path)
    return match[1].capitalize() if match else ""


def of_host(os_release: str) -> str:
    """What a host's os-release(5) says it is: its ID, "" for neither of the two."""
    match = re.search(r"^ID=[\"']?(debian|ubuntu)[\"']?\s*$", os_release, re.MULTILINE)
    return match[1].capitalize() if match else ""
