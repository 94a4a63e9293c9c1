"""apt's and dpkg's texts: configuration, sources, pins, Release and Packages. Strings in and out.

Formats: sources.list(5), apt.conf(5), apt_preferences(5), the Debian repository format
(wiki.debian.org/DebianRepository/Format) and deb822(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote, urlsplit

from ..errors import BuildError
from .deb822 import PIN_FIELDS

RELEASE_LIMIT = 100_000_000
"""Bytes of a Release: more is no Release."""


def site(number: int) -> str:
    """The address that stands for repository `number` while resolving: nobody can reach it.

    With a site of its own, no two repositories share list files or origin pins, whatever their
    real addresses and suites have in common.
    """
    return f"http://{number}.strata.invalid"


def quoted(value: str) -> str:
    """A value in apt.conf's double quotes, which know no escape but need none for our values."""
    if re.search(r'["\n\\]', value):
        raise BuildError(f"{value!r} cannot stand in an apt configuration")
    return f'"{value}"'


def configuration(
    directory: str,
    *,
    arch: str,
    foreign: Sequence[str] = (),
    lists: str = "lists",
    recommends: bool = False,
    proxies: Mapping[str, str] | None = None,
    direct: Sequence[str] = (),
    timeout: int = 30,
    options: Mapping[str, str] | None = None,
) -> str:
    """apt.conf of a private apt in `directory`: nothing of the host's configuration is read.

    Layout: status, apt.sources, preferences, auth.conf, trusted.gpg.d/, cache/, lists/ (or
    `lists`, an absolute path). `timeout`: seconds without a byte after which a server is given up.
    """
    settings = {
        "Dir": directory,
        "Dir::State": directory,
        "Dir::State::status": f"{directory}/status",
        "Dir::State::lists": lists,
        "Dir::Cache": f"{directory}/cache",
        "Dir::Etc": directory,
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::sourcelist": f"{directory}/apt.sources",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": f"{directory}/preferences",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::Etc::trusted": "/dev/null",
        "Dir::Etc::trustedparts": f"{directory}/trusted.gpg.d",
        "Dir::Etc::netrc": f"{directory}/auth.conf",
        "Dir::Etc::netrcparts": "/dev/null",
        "APT::Architecture": arch,
        "APT::Install-Recommends": "true" if recommends else "false",
        "APT::Install-Suggests": "false",
        "APT::Sandbox::User": "root",
        "APT::Get::Show-User-Simulation-Note": "false",
        # Ubuntu's phased updates: else this host's machine-id would decide whether they are there.
        "APT::Get::Always-Include-Phased-Updates": "true",
        # Else a name that nobody has and that holds a dot means all that match it: `python3.1`.
        "APT::Cmd::Pattern-Only": "true",
        "Acquire::Languages": "none",
        "Acquire::ForceHash": "SHA256",
        # Its own bound, 10 MB, is less than a Release of many files has.
        "Acquire::MaxReleaseFileSize": str(RELEASE_LIMIT),
        # It tries again when it was cut off, not when a server says that it is busy, and says
        # nothing of it: see answers.transient.
        "Acquire::Retries": "0",
        "Acquire::http::Timeout": str(timeout),
        "Acquire::https::Timeout": str(timeout),
        # apt reads the environment's proxies unless it is told of another: only the spec speaks.
        "Acquire::http::Proxy": "DIRECT",
        "Acquire::https::Proxy": "DIRECT",
        **{f"Acquire::{name}::Proxy": value for name, value in (proxies or {}).items()},
        **{
            f"Acquire::{name}::Proxy::{host}": "DIRECT"
            for name in ("http", "https")
            for host in direct
        },
        **(options or {}),
    }
    lines = [f"{name} {quoted(value)};" for name, value in settings.items()]
    architectures = " ".join(f'"{name}";' for name in (arch, *foreign))
    lines += ["#clear APT::Architectures;", f"APT::Architectures {{ {architectures} }};"]
    return "\n".join(lines) + "\n"


def source(
    uri: str, suite: str, components: Sequence[str], *, trusted: bool = False, extra: str = ""
) -> str:
    """A deb822 stanza of one repository: unlike a one-line source's, its URI is not decoded.

    `extra` are further fields, whole lines.
    """
    return (
        f"Types: deb\nURIs: {uri}\nSuites: {suite}\n"
        + (f"Components: {' '.join(components)}\n" if components else "")
        + ("Trusted: yes\n" if trusted else "")
        + extra
    )


def without_user(uri: str) -> str:
    """An address without its user and password."""
    scheme, mark, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    return scheme + mark + authority.rpartition("@")[2] + slash + path


_NETRC = re.compile(r"[^\s\"'\\#]+")


def auth_conf(uris: Iterable[str]) -> str:
    """apt_auth.conf(5) for the addresses that hold a user: arguments and sources then need none.

    Its words have no quotes: what cannot stand there must be in a source, see `source_uri`.
    """
    lines = []
    for uri in uris:
        parts = urlsplit(uri)
        if parts.username is not None and source_uri(uri) != uri:
            # An empty password would make apt take the next word for it, on the next line.
            password = f" password {unquote(parts.password)}" if parts.password else ""
            lines.append(f"machine {without_user(uri)} login {unquote(parts.username)}{password}\n")
    return "".join(lines)


def source_uri(uri: str) -> str:
    """The address for a source: without user and password unless auth.conf cannot hold them.

    It has no quotes, and knows neither addresses of IPv6 nor escapes in a path.
    """
    parts = urlsplit(uri)
    words = [unquote(word) for word in (parts.username, parts.password) if word]
    plain = not re.search(r"[\[%]", without_user(uri)) and parts.username
    fits = plain and all(_NETRC.fullmatch(word) for word in words)
    return without_user(uri) if fits or parts.username is None else uri


# A comma would end a condition, the others make a pattern of it, as do slashes around it.
_PINNABLE = re.compile(r"[^,*?\[\]\\/][^,*?\[\]\\]*")


def pin_conditions(release: Mapping[str, str]) -> dict[str, str]:
    """The conditions, letter to value, by which a `Pin: release` line finds a repository."""
    found: dict[str, str] = {}
    for name, letter in PIN_FIELDS.items():
        if letter not in found and _PINNABLE.fullmatch(release.get(name, "")):
            found[letter] = release[name]
    return found


def preferences(
    repos: Sequence[tuple[str, int | None, Mapping[str, str]]],
    *,
    where: object,
    sites: bool,
    pins: Mapping[str, Sequence[tuple[str, int]]] | None = None,
) -> str:
    """apt_preferences for (name, priority, Release fields) of each repository, in their order.

    `pins` has, by repository, (package patterns, priority): what they name they rule in place of
    the repository's own. A pin names the Release fields of its repository. Where these fields
    would also find another one that is ruled otherwise, the pin names the repository's site if
    `sites` says that each has one of its own (see `site`), so that priorities never leak. Raises
    BuildError for a priority whose repository has no field to be recognised by; `where` is the
    path of its spec.
    """
    pins = pins or {}
    single: list[str] = []
    whole: list[str] = []
    all_conditions = [pin_conditions(release) for _name, _priority, release in repos]
    rules = [(priority, tuple(pins.get(name, ()))) for name, priority, _release in repos]
    for number, (name, priority, _release) in enumerate(repos):
        own = pins.get(name, ())
        if priority is None and not own:
            continue
        conditions = all_conditions[number]
        if not conditions:
            field = "pins" if priority is None else "priority"
            raise BuildError(
                f"{where}: repos.{name}.{field}: its Release has none of the fields that a pin "
                f"goes by ({', '.join(sorted(PIN_FIELDS))})",
                f"remove the {field}, or give the repository a Release file with Origin or Label",
            )
        also_found = any(
            other != number
            and conditions.items() <= all_conditions[other].items()
            and rules[other] != rules[number]
            for other in range(len(repos))
        )
        if also_found and sites:
            pin = f'origin "{urlsplit(site(number)).netloc}"'
        else:
            pin = "release " + ", ".join(f"{key}={value}" for key, value in conditions.items())
        single += [
            f"Package: {packages}\nPin: {pin}\nPin-Priority: {value}\n" for packages, value in own
        ]
        if priority is not None:
            whole.append(f"Package: *\nPin: {pin}\nPin-Priority: {priority}\n")
    return "\n".join([*single, *whole])


def list_name(uri: str) -> str:
    """The beginning of the names under which apt keeps an address's indexes (URItoFileName)."""
    place = re.sub(r"^[a-z]+:(//)?", "", without_user(uri))
    place = re.sub(r"^\[([^]/]*)\]", r"\1", place)  # an IPv6 host is kept without its brackets
    escaped = re.sub(
        rb"[\\|{}\[\]<>\"^~_=!@#$%&*\x00-\x20\x7f-\xff]",
        lambda match: b"%%%02x" % ord(match[0]),
        place.encode(),
    )
    return escaped.decode("ascii").replace("/", "_")
