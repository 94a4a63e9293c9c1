"""apt's and dpkg's texts: configuration, sources, pins, Release and Packages. Strings in and out.

Formats: sources.list(5), apt.conf(5), apt_preferences(5), the Debian repository format
(wiki.debian.org/DebianRepository/Format) and deb822(5).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from tasks.errors import BuildError

# Release fields to the conditions of a `Pin: release` line, as fuel-agent mapped them.
PIN_FIELDS = {"Archive": "a", "Suite": "a", "Codename": "n", "Version": "v", "Origin": "o",
              "Label": "l"}  # fmt: skip

RELEASE_LIMIT = 100_000_000
"""Bytes of a Release: more is no Release."""

# What a base variant selects from the first repository: (Essential, priorities, names).
_REQUIRED = (True, ("required",), ("apt",))
_IMPORTANT = (True, ("required", "important"), ("apt",))
VARIANTS: Mapping[str, tuple[bool, tuple[str, ...], tuple[str, ...]]] = {
    "extract": (False, (), ()),
    "custom": (False, (), ()),
    "essential": (True, (), ()),
    "apt": (True, (), ("apt",)),
    "required": _REQUIRED,
    "minbase": _REQUIRED,
    "buildd": (True, ("required",), ("apt", "build-essential")),
    "important": _IMPORTANT,
    "debootstrap": _IMPORTANT,
    "-": _IMPORTANT,
    "standard": (True, ("required", "important", "standard"), ("apt",)),
}


@dataclass(frozen=True, kw_only=True)
class Available:
    """One .deb that apt chose: `site` is its repository's number, `path` is below its URI."""

    site: int
    path: str
    package: str
    version: str
    architecture: str
    size: int
    sha256: str


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
        # nothing of it: see `transient`.
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


_TRANSIENT = re.compile(
    r"  (429|5\d\d)  .*|Connection (failed|refused|timed out|reset).*|Could not connect|"
    r"Unable to connect|Temporary failure resolving|Network is unreachable|No route to host|"
    r"timed out|Undetermined Error|Error reading from server|Remote end closed connection|"
    r"Bad header"
)
_CHANGING = re.compile(
    r"Hash Sum mismatch|unexpected size|Mirror sync in progress|by-hash.*  404  "
)


def transient(text: str, *, changing: bool = False) -> str:
    """What of apt's complaints may be gone in a moment, or "": a server that is busy or away.

    `changing` counts indexes that do not fit their Release among them: a repository is published
    file by file, and the next Release may fit.
    """
    found = _TRANSIENT.search(text) or (_CHANGING.search(text) if changing else None)
    return re.sub(r"\s*\[IP: .*", "", found[0]).strip() if found else ""


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


def stanza_fields(text: str) -> dict[str, str]:
    """The fields of one deb822 stanza; continuation lines stay in the value, apart by newlines."""
    # Lists: a text that grows by a line would be copied for each of a Release's thousands.
    fields: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if line[:1] in (" ", "\t"):
            if name:
                fields[name].append(line.strip())
        elif ":" in line:
            name, _, value = line.partition(":")
            fields[name] = [value.strip()]
    return {name: "\n".join(lines) for name, lines in fields.items()}


_RELEASE = {
    name.lower(): name
    for name in (*PIN_FIELDS, "Date", "Components", "Architectures", "Acquire-By-Hash")
}


def _what_is_signed(text: str) -> str:
    """The Release in an InRelease file."""
    if text.startswith("-----BEGIN PGP SIGNED MESSAGE-----"):
        text = text.partition("\n\n")[2].partition("\n-----BEGIN PGP SIGNATURE-----")[0]
    return text


def release_fields(text: str) -> dict[str, str]:
    """The single-line fields of a Release or InRelease file, whose signature apt has verified.

    Those that are looked at have the names that the format gives them, in whatever case they stand,
    and may be folded, as apt takes them.
    """
    found: dict[str, str] = {}
    for given, value in stanza_fields(_what_is_signed(text)).items():
        name = _RELEASE.get(given.lower())
        if name or "\n" not in value:
            found[name or given] = value.replace("\n", " ").strip()
    return found


# A comma would end a condition, the others make a pattern of it, as do slashes around it.
_PINNABLE = re.compile(r"[^,*?\[\]\\/][^,*?\[\]\\]*")


COMPRESSED = (".xz", ".gz", ".zst", ".bz2", ".lzma", ".lz4")


@dataclass(frozen=True, kw_only=True)
class Sum:
    """What a Release says of a file: an algorithm by apt's name, the digest and the size."""

    algorithm: str
    digest: str
    size: int

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digest}"


def only_compressed(
    sums: Mapping[str, Sum], components: Sequence[str], arches: Sequence[str]
) -> dict[str, str]:
    """The Packages that a Release lists in no form but a compressed one, by that one's path.

    apt passes over these in silence; `components` is empty for a flat repository.
    """
    wanted = ["Packages"] if not components else [
        f"{component}/binary-{arch}/Packages" for component in components for arch in arches
    ]  # fmt: skip
    return {
        name + suffix: name
        for name in wanted if name not in sums
        for suffix in [next((end for end in COMPRESSED if name + end in sums), "")] if suffix
    }  # fmt: skip


def release_sums(text: str) -> dict[str, Sum]:
    """The SHA-256 of each file that a Release lists, SHA-512 where it has no other."""
    signed = _what_is_signed(text)
    found: dict[str, Sum] = {}
    for algorithm in ("SHA512", "SHA256"):
        # Names of fields have no case, and lines go on after a blank or a tab.
        section = re.search(rf"(?im)^{algorithm}:(.*(?:\n[ \t].*)*)", signed)
        for line in section[1].splitlines() if section else ():
            words = line.split()
            if len(words) == 3 and words[1].isdecimal():
                found[words[2]] = Sum(
                    algorithm=algorithm, digest=words[0].lower(), size=int(words[1])
                )
    return found


def pin_conditions(release: Mapping[str, str]) -> dict[str, str]:
    """The conditions, letter to value, by which a `Pin: release` line finds a repository."""
    found: dict[str, str] = {}
    for name, letter in PIN_FIELDS.items():
        if letter not in found and _PINNABLE.fullmatch(release.get(name, "")):
            found[letter] = release[name]
    return found


def preferences(
    repos: Sequence[tuple[str, int | None, Mapping[str, str]]], *, sites: bool,
    pins: Mapping[str, Sequence[tuple[str, int]]] | None = None,
) -> str:  # fmt: skip
    """apt_preferences for (name, priority, Release fields) of each repository, in their order.

    `pins` has, by repository, (package patterns, priority): what they name they rule in place of
    the repository's own. A pin names the Release fields of its repository. Where these fields
    would also find another one that is ruled otherwise, the pin names the repository's site if
    `sites` says that each has one of its own (see `site`), so that priorities never leak. Raises
    BuildError for a priority whose repository has no field to be recognised by.
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
                f"repos.{name}.{field}: its Release has none of the fields that a pin goes by "
                f"({', '.join(sorted(PIN_FIELDS))})",
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
        single += [f"Package: {packages}\nPin: {pin}\nPin-Priority: {value}\n"
                   for packages, value in own]  # fmt: skip
        if priority is not None:
            whole.append(f"Package: *\nPin: {pin}\nPin-Priority: {priority}\n")
    return "\n".join([*single, *whole])


_URI = re.compile(
    r"^'http://(\d+)\.strata\.invalid/(\S+)' ([^_\s]+)_([^_\s]+)_(\S+)\.deb (\d+) SHA256:(\w{64})$"
)


def parse_removed(text: str) -> list[str]:
    """What apt-get says that it would remove, by name or name:arch."""
    return parse_print_uris("\n".join(line for line in text.splitlines() if line[:1] != "'"))[1]


def parse_print_uris(text: str) -> tuple[list[Available], list[str]]:
    """What `apt-get --print-uris` would fetch and, by name or name:arch, remove.

    Raises BuildError for a package without a SHA-256.
    """
    wanted: list[Available] = []
    removed: list[str] = []
    removing = False
    for line in text.splitlines():
        if line.startswith("'"):
            match = _URI.match(line)
            if match is None:
                raise BuildError(
                    f"apt names no SHA-256 for {line.split()[1]}",
                    "its repository's Packages file must have SHA256 fields",
                )
            number, path, package, version, architecture, size, sha256 = match.groups()
            wanted.append(
                Available(
                    site=int(number),
                    path=unquote(path),
                    package=package,
                    version=unquote(version),
                    architecture=architecture,
                    size=int(size),
                    sha256=sha256.lower(),
                )
            )
        elif line.endswith("will be REMOVED:"):
            removing = True
        elif removing and line.startswith("  "):
            removed += [name.rstrip("*") for name in line.split()]
        else:
            removing = False
    return wanted, removed


# Names of fields have no case, and neither have digits of a digest.
_SHA256 = re.compile(rb"^[Ss][Hh][Aa]256:[ \t]*([0-9a-fA-F]{64})[ \t\r]*$", re.MULTILINE)


def _around(index: bytes, position: int) -> bytes:
    start = index.rfind(b"\n\n", 0, position)
    end = index.find(b"\n\n", position)
    return index[start + 2 if start >= 0 else 0 : end if end >= 0 else len(index)].strip(b"\n")


def places_by_sha256(index: bytes) -> dict[bytes, int]:
    """Where in a Packages file each SHA-256 digest stands: 60,000 of them, few are wanted."""
    return {match[1].lower(): match.start() for match in _SHA256.finditer(index)}


def stanzas_by_sha256(
    index: bytes, wanted: set[str], places: Mapping[bytes, int] | None = None
) -> dict[str, str]:
    """The stanzas of a Packages file whose .deb has one of these SHA-256 digests.

    `places` is its places_by_sha256, for who asks more than once.
    """
    known = places_by_sha256(index) if places is None else places
    return {
        digest: _around(index, known[digest.encode()]).decode("utf-8", "replace")
        for digest in wanted
        if digest.encode() in known
    }


def selected_names(index: bytes, variant: str, arch: str) -> set[str]:
    """The names that a base variant selects by Essential and Priority from a Packages file."""
    essential, priorities, names = VARIANTS[variant]
    marks = [b"\nEssential: yes\n"] if essential else []
    marks += [f"\nPriority: {priority}\n".encode() for priority in priorities]
    found: set[str] = set()
    for mark in marks:
        position = index.find(mark)
        while position >= 0:
            fields = stanza_fields(_around(index, position + 1).decode("utf-8", "replace"))
            if fields.get("Architecture") in (arch, "all"):
                found.add(fields["Package"])
            # On from the stanza's end: one is read once, however often the mark stands in it.
            end = index.find(b"\n\n", position + 1)
            position = index.find(mark, end) if end >= 0 else -1
    return found | set(names)


def installed_status(stanzas: Iterable[str]) -> str:
    """A dpkg status file in which these packages are installed."""
    name = re.compile(r"^(Package: [^\n]*\n)", re.MULTILINE)
    return "".join(
        name.sub(r"\1Status: install ok installed\n", stanza, count=1) + "\n\n"
        for stanza in stanzas
    )


def extended_states(auto: Iterable[str]) -> str:
    """apt's file of marks in which these packages, by name:arch, are automatically installed."""
    return "".join(
        "Package: {}\nArchitecture: {}\nAuto-Installed: 1\n\n".format(*name.split(":"))
        for name in auto
    )


def marked_auto(text: str) -> set[tuple[str, str]]:
    """(package, architecture) of what such a file marks as automatically installed."""
    stanzas = [stanza_fields(stanza) for stanza in text.split("\n\n")]
    return {(fields["Package"], fields["Architecture"]) for fields in stanzas
            if fields.get("Auto-Installed") == "1"}  # fmt: skip


def requested(wanted: str, installed: Set[tuple[str, str]], arch: str) -> tuple[str, str] | None:
    """The package, with its architecture, that a request in apt's syntax names outright.

    `installed` is all there is once apt has done what was asked. None for what apt finds in another
    way: a virtual package, or one of another architecture only.
    """
    whole = re.split(r"[=/]", wanted)[0]
    # apt knows of a modifier only where there is no package of the whole name, as g++ is one.
    for name, _, architecture in (text.partition(":") for text in (whole, whole.removesuffix("+"))):
        slot = name, arch if architecture in ("", "all", "any", "native") else architecture
        if slot in installed:
            return slot
    return None


def plain_name(wanted: str) -> str:
    """The package of a request in apt's syntax: without =version, /suite, :arch and a final - or +.

    A name may itself end in `+` or `-`, as g++ does; a request for it does not.
    """
    name = re.split(r"[=/:]", wanted)[0]
    return name[:-1] if name.endswith("-") else name


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


ARCHIVE_ORIGINS = ("Debian", "Debian Backports", "Ubuntu")
_ARCHIVE_KEYRING = re.compile(r".*/(debian|ubuntu)-archive-[^/]*\.(gpg|pgp|asc)")


def host_mirrors(
    texts: Iterable[str],
    *,
    arch: str = "",
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
    """
    found: list[tuple[tuple[bool, ...], str, str]] = []
    sources = list(_sources(texts))
    updated = {uri.rstrip("/") for uri, suite, *_ in sources if suite.endswith("-updates")}
    for given, suite, signed, trusted, arches in sources:
        if arch and arches and arch not in arches:
            continue
        uri = given
        if match := re.match(r"mirror\+file:(?://)?(?=/)(.*)", given):
            uri = first_mirror(read(match[1]), arch)
        if not re.match(r"https?://|file:/", uri):
            continue  # cdrom:, or a list of mirrors on the network
        known = origin(given, suite)
        archive = known in ARCHIVE_ORIGINS or bool(_ARCHIVE_KEYRING.fullmatch(signed))
        security = bool(re.search(r"-security(/|$)|^[a-z]+/updates$", suite))
        if not security and not (re.fullmatch(r"[a-z]+", suite) and suite != "nodistro"):
            continue
        # An archive needs nobody's word for what it has signed.
        rank = (not archive, bool(known), trusted, suite == "stable",
                not security and given.rstrip("/") not in updated, bool(signed),
                arch not in arches)  # fmt: skip
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
        types = [word.partition(":")[2] for word in words[1:] if word.startswith("type:")]
        arches = [word.partition(":")[2] for word in words[1:] if word.startswith("arch:")]
        if (types and not {"deb", "index"} & set(types)) or (
            arch and arches and arch not in arches
        ):
            continue
        if best is None or priority < best[0]:
            best = priority, words[0]
    return best[1] if best else ""


_YES = ("yes", "true", "with", "on", "enable", "1")  # to apt
_NO = ("no", "false", "without", "off", "disable", "0")


def _sources(texts: Iterable[str]) -> Iterator[tuple[str, str, str, bool, list[str]]]:
    """(URI, suite, Signed-By, Trusted, architectures) of each binary source of an archive, perhaps.

    Those that are disabled are left out; no architectures are all of the host's.
    """
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
                        (uri, suite, signed, trusted, arches)
                        for uri in fields["uris"].split()
                        for suite in fields.get("suites", "").split()
                    )
                continue
            for line in body.splitlines():
                match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.*)", line)
                if match and "main" in match[4].split("#")[0].split():
                    option = re.search(r"signed-by=(\S+)", match[1] or "", re.IGNORECASE)
                    said = re.search(r"trusted=(\S+)", match[1] or "", re.IGNORECASE)
                    trusted = said is not None and said[1].lower() in _YES
                    only = re.search(r"\barch=(\S+)", match[1] or "", re.IGNORECASE)
                    arches = only[1].split(",") if only else []
                    yield match[2], match[3], option[1] if option else "", trusted, arches
