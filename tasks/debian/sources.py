"""A host's apt sources, in either format: which of them is the archive's mirror."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from . import distributions
from .deb822 import stanza_fields

# As apt reads them (StringToBool).
_YES = ("yes", "true", "with", "on", "enable", "1")
_NO = ("no", "false", "without", "off", "disable", "0")


class _Source(NamedTuple):
    """A binary source of one suite with the component `main`; no `arches` are all of the host's."""

    uri: str
    suite: str
    signed_by: str
    trusted: bool
    arches: list[str]


def host_mirrors(
    texts: Iterable[str],
    *,
    arch: str = "",
    wanted: tuple[str, str] = ("", ""),
    host: str = "",
    origin: Callable[[str, str], str] = lambda _uri, _suite: "",
    read: Callable[[str], str] = lambda _path: "",
) -> tuple[str, str]:
    """(mirror, security mirror) of a host, from its apt sources in either format; "" for none.

    The first binary http(s) or file source of a suite without a suffix is the mirror, one of a
    suite named `stable` only for want of another: vendors call theirs so. The first of a suite
    named *-security is the security mirror. Before these go sources that are known to be the
    archive's, by the Origin that the host's lists have (`origin` of URI and suite) or by the
    keyring that they name; after them those that are known to be somebody else's, before these
    those that are trusted without a signature, and of the rest those without updates of their own
    or with a keyring of their own. `read` gives the list of mirrors that a mirror+file: source
    names. What is there for other architectures than `arch` alone, as Ubuntu's ports are, is none.

    `wanted` has whose archive either is to be, where that is known: another's is none then, and
    what tells nothing of itself counts as the `host`'s own, which os-release(5) names.
    """
    found: list[tuple[tuple[bool, ...], str, str]] = []
    sources = list(_sources(texts))
    updated = {one.uri.rstrip("/") for one in sources if one.suite.endswith("-updates")}
    for given, suite, signed, trusted, arches in sources:
        if arch and arches and arch not in arches:
            continue
        uri = given
        if match := re.match(r"mirror\+file:(?://)?(?=/)(.*)", given):
            uri = first_mirror(read(match[1]), arch)
        if not re.match(r"https?://|file:/", uri):
            continue  # cdrom:, or a list of mirrors on the network
        known = origin(given, suite)
        archive = known in distributions.ORIGINS or bool(distributions.of_keyring(signed))
        security = bool(re.search(r"-security(/|$)|^[a-z]+/updates$", suite))
        if not security and not (re.fullmatch(r"[a-z]+", suite) and suite != "nodistro"):
            continue
        whose = (
            distributions.ORIGINS.get(known)
            or distributions.of_keyring(signed)
            or distributions.of_suite(suite)
            or ("" if known else host)
        )
        if wanted[security] not in ("", whose):
            continue
        # An archive needs nobody's word for what it has signed.
        rank = (
            not archive,
            bool(known),
            trusted,
            suite == "stable",
            not security and given.rstrip("/") not in updated,
            bool(signed),
            arch not in arches,
        )
        found.append((rank, "security" if security else "mirror", uri.rstrip("/")))
    best = {
        kind: min((one for one in found if one[1] == kind), key=lambda one: one[0])[2]
        for kind in {one[1] for one in found}
    }
    return best.get("mirror", ""), best.get("security", "")


def first_mirror(text: str, arch: str = "") -> str:
    """The address of a mirror list (apt-transport-mirror(1)) that apt tries first, "" for none.

    Those that are for other architectures than `arch` alone are passed over.
    """
    best: tuple[int, str] | None = None
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        values = dict(word.partition(":")[::2] for word in words[1:])
        given = values.get("priority", "")
        # Those without a priority come last.
        priority = int(given) if given.isdigit() else 1 << 31
        types = {word.removeprefix("type:") for word in words[1:] if word.startswith("type:")}
        arches = {word.removeprefix("arch:") for word in words[1:] if word.startswith("arch:")}
        if (types and not {"deb", "index"} & types) or (arch and arches and arch not in arches):
            continue
        if best is None or priority < best[0]:
            best = priority, words[0]
    return best[1] if best else ""


def _sources(texts: Iterable[str]) -> Iterator[_Source]:
    """The enabled sources that an archive's could be, in either format (sources.list(5))."""
    for text in texts:
        for stanza in re.split(r"\n\s*\n", text):
            body = "\n".join(line for line in stanza.splitlines() if not line.startswith("#"))
            fields = {name.lower(): value for name, value in stanza_fields(body).items()}
            if "uris" in fields and "deb" in fields.get("types", "").split():
                if fields.get("enabled", "yes").lower() in _NO:
                    continue
                if "main" in fields.get("components", "").split():
                    signed = " ".join(fields.get("signed-by", "").split())
                    trusted = fields.get("trusted", "").lower() in _YES
                    arches = fields.get("architectures", "").split()
                    yield from (
                        _Source(uri, suite, signed, trusted, arches)
                        for uri in fields["uris"].split()
                        for suite in fields.get("suites", "").split()
                    )
                continue
            for line in body.splitlines():
                match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.*)", line)
                if match and "main" in match[4].split("#")[0].split():
                    words = (match[1] or "").split()
                    options = {
                        name.lower(): value for name, _, value in (w.partition("=") for w in words)
                    }
                    arches = [one for one in options.get("arch", "").split(",") if one]
                    trusted = options.get("trusted", "").lower() in _YES
                    yield _Source(match[2], match[3], options.get("signed-by", ""), trusted, arches)
