"""A spec's YAML, checked against the schema, as frozen dataclasses."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tasks import document, given, safe, zones
from tasks.document import near, short, without_users
from tasks.errors import BuildError
from tasks.lockfile import SETTINGS
from tasks.mkfs import check_options

VARIANTS = {
    "mmdebstrap": (
        "extract", "custom", "essential", "apt", "required", "minbase", "buildd", "important",
        "debootstrap", "-", "standard",
    ),
    "debootstrap": ("minbase", "buildd", "-"),
}  # fmt: skip
EXT = ("ext2", "ext3", "ext4")
LARGEST = 16 << 40
"""Bytes of the largest ext4 with blocks of 4 KiB."""
PUBLISHED = ("packages.txt", "SHA256SUMS", "build.json", "log")
"""What out/NAME/ holds beside the images and NAME.yaml."""
LABEL_LENGTH = {"ext2": 16, "ext3": 16, "ext4": 16, "xfs": 12, "btrfs": 255, "vfat": 11}
"""Bytes of a label: mke2fs would cut the rest off, the others refuse it."""
VFAT_LABEL = re.compile(r"[!#-)\-0-9@A-Z^_`a-z{}~][ !#-)\-0-9@A-Z^_`a-z{}~]*")
"""What mkfs.fat(8) writes into a label: anything else it refuses, or reads by the host's locale."""
UNITS = {"": 1, **{letter: 1 << 10 * power for power, letter in enumerate("KMGT", 1)},
         **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}}  # fmt: skip
"""As truncate(1) reads them; KiB is K."""
DEBCONF_TYPES = ("select", "boolean", "string", "multiselect", "note", "password", "text", "title",
                 "seen")  # fmt: skip
"""Those of debconf-set-selections(1), which skips a line of any other with a mere warning."""
PASSWORD_LIMIT = 511
"""Bytes of a password that crypt(3) takes."""
PATH_LIMIT, NAME_LIMIT = 4095, 255
"""Bytes of a path and of a name in it: limits.h's PATH_MAX without its NUL, and NAME_MAX."""
LARGEST_ID = (1 << 32) - 2
"""Of a user or group: (uid_t) -1 means none."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """How the base chroot is bootstrapped."""

    tool: str
    variant: str
    include: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Repo:
    """One apt repository; `uri` may still hold ${mirror}."""

    name: str
    uri: str
    suite: str
    section: str
    priority: int | None
    keyring: Path | None
    trusted: bool
    check_valid_until: bool
    check_rollback: bool
    pins: tuple[tuple[str, int], ...]
    meta: Any

    @property
    def flat(self) -> bool:
        """True for a repository without components, whose suite is a path."""
        return self.suite.endswith("/")

    @property
    def components(self) -> list[str]:
        """`section` apart."""
        return self.section.split()


@dataclass(frozen=True, kw_only=True)
class File:
    """One entry of a layer's `files`; exactly one of source and content is set."""

    target: str
    source: Path | None
    content: str | None
    owner: str
    mode: int | None


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Packages, then files, then a script, on the layer before."""

    name: str
    packages: tuple[str, ...] = ()
    debconf: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    script: Path | None = None
    reads: tuple[str, ...] | None = None
    """What the spec itself says of which settings it looks at; None: what is found."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """One filesystem image; sizes in bytes."""

    mount: str
    file: str
    format: str
    container: str
    level: str
    pack: str
    label: str
    uuid: str
    options: tuple[str, ...]
    size: int | None
    free: int | None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is written into the finished tree; empty when the spec sets none of it."""

    hostname: str
    timezone: str
    locale: str
    root_password: str
    hashed_root_password: str
    apt_sources: bool

    def __bool__(self) -> bool:
        return bool(self.given)

    @property
    def shown(self) -> dict[str, str]:
        """Those that packages' scripts may look at while they are installed."""
        return {name: value for name, value in self.given.items() if name in SETTINGS}

    @property
    def given(self) -> dict[str, str]:
        """The fields that the spec sets, with their texts."""
        values = {
            "hostname": self.hostname, "timezone": self.timezone, "locale": self.locale,
            "root_password": self.root_password,
            "hashed_root_password": self.hashed_root_password,
            "apt_sources": "true" if self.apt_sources else "",
        }  # fmt: skip
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A whole spec; `path` is its file."""

    name: str
    path: Path
    arch: str
    base: Base
    repos: tuple[Repo, ...]
    layers: tuple[Layer, ...]
    recommends: bool
    settings: Settings
    proxies: Mapping[str, str]
    direct: tuple[str, ...]
    images: tuple[Image, ...]

    @cached_property
    def foreign(self) -> tuple[str, ...]:
        """Architectures other than the image's own that its packages are asked for in."""
        wanted = (name for layer in self.layers for name in layer.packages)
        found = {_architecture(name) for name in (*wanted, *self.base.include)}
        return tuple(sorted(found - {"", "all", "any", "native", self.arch}))

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """Strings that no log, record or metadata may show, the longest first."""
        found = {self.settings.root_password, self.settings.hashed_root_password}
        for address in (*self.proxies.values(), *(repo.uri for repo in self.repos)):
            found |= address_secrets(address)
        for line in (line for layer in self.layers for line in layer.debconf):
            _package, _question, kind, *value = debconf_fields(line)
            # A shorter one is no secret, and its letters are in every word.
            if kind == "password" and value and len(value[0]) > 3:
                found.add(value[0])
        return tuple(sorted((text for text in found if text), key=len, reverse=True))


def _architecture(package: str) -> str:
    return re.split(r"[=/]", package)[0].rstrip("+-").partition(":")[2]


def address_secrets(uri: str) -> set[str]:
    """The user and password of an address, as written: what must not be shown."""
    found: set[str] = set()
    netloc = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://", "", uri).partition("/")[0]
    if "@" in netloc:
        userinfo = netloc.rpartition("@")[0]
        found |= {userinfo, userinfo.partition(":")[2]}
    return found - {""}


def address_fault(uri: str) -> tuple[str, str]:
    """What is wrong with an address's host or port, and what would be right; "" if nothing is."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return ("its host is none",
                "a host of IPv6 stands in brackets: http://[::1]:8080/debian")  # fmt: skip
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        return (
            "its port is none",
            "a port is a number from 1 to 65535: http://127.0.0.1:8080/debian",
        )
    if parts.scheme in ("http", "https") and not parts.hostname:
        return "it names no host", "an address is as http://127.0.0.1:8080/debian"
    return "", ""


def masked(text: str, secrets: tuple[str, ...] = ()) -> str:
    """text without these secrets and without the user and password of any address."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return without_users(text)


def spec_names(folder: Path) -> list[str]:
    """Names of the specs in a folder; an editor's hidden files are none."""
    return sorted(path.stem for path in folder.glob("*.yaml") if not path.name.startswith("."))


def find_spec(folder: Path, name: str) -> Path:
    """The file of a spec; BuildError lists the good names for a bad one."""
    names = spec_names(folder)
    listing = f"specs here: {', '.join(names)}" if names else f"there is no spec in {folder}/"
    if not name:
        raise BuildError("no spec is named", f"add spec=NAME; {listing}")
    if name not in names:
        shown = "".join(sign if sign.isprintable() else "?" for sign in name)
        raise BuildError(f"{folder}/{shown}.yaml: there is no such spec",
                         _meant(folder, name, names) + listing)  # fmt: skip
    return folder / f"{name}.yaml"


def _meant(folder: Path, name: str, names: Sequence[str]) -> str:
    """What is to be done where no spec has this name, as the beginning of a hint."""
    stem = re.sub(r"\.(ya?ml|json|lock)$", "", name.rpartition("/")[2])
    if stem in names and stem != name:
        return f"did you mean spec={stem}? "
    for suffix in (".yml", ".json"):
        other = folder / f"{stem}{suffix}"
        if other.is_file():
            return f"{other} is there: rename it to {stem}.yaml. "
    meant = near(name, names)
    return f"did you mean spec={meant}? " if meant else ""


def load_spec(path: Path, *, schema: Path, validated: Path | None = None) -> Spec:
    """Read, check and return a spec.

    `validated` is a folder that remembers by digest which texts passed the schema: importing
    jsonschema would take longer than all the rest of a build that has nothing to do.
    Raises BuildError with file, path in the document and what was expected.
    """
    raw = document.read_text(path)
    given = document.parse(path, raw)
    rules = document.read_schema(schema)
    stamp: Path | None = None
    if validated is not None:
        digest = hashlib.sha256(raw + b"\0" + rules).hexdigest()
        stamp = validated / digest
    if stamp is None or not safe.noted(stamp):
        document.validate(given, rules, where=schema)
        if stamp is not None:
            # Who may only read this checkout; a full disk; something else in the folder's place.
            with contextlib.suppress(OSError):
                safe.note(stamp)
    try:
        spec = _build(path, given.values)
        _check(spec)
    except BuildError as error:
        raise BuildError(short(error.message), error.hint) from error
    return spec


def _size(value: str | int | None) -> int | None:
    """Bytes; a fraction of one is left out."""
    if value is None or isinstance(value, int):
        return value
    number = value.rstrip("kKmMgGtTiB")
    unit = value[len(number) :].replace("iB", "")
    return int(Fraction(number) * UNITS[unit[:1].upper() + unit[1:]])


def _owner(given: str) -> str:
    """`user:group`; a group alone leaves the user that a new file has."""
    return f"root{given}" if given.startswith(":") else given


def debconf_fields(line: str) -> list[str]:
    """Package, question, type and, if there is one, the value, as debconf-set-selections reads."""
    found = re.match(r"\s*(\S+)\s+(\S+)\s+(\S+)(?:\s(.*))?", line)
    return [text for text in found.groups() if text is not None] if found else []


def _debconf_lines(given: Sequence[str]) -> tuple[str, ...]:
    """Preseed lines of their own: as debconf-set-selections joins them, and without comments.

    Each item is a file to it: the last line keeps a backslash at its end and takes no other in.
    """
    lines = [line for item in given
             for line in item.rstrip("\n").replace("\\\n", "").split("\n")]  # fmt: skip
    return tuple(line for line in lines if line.strip() and not line.lstrip().startswith("#"))


def _words(value: str | list[str]) -> tuple[str, ...]:
    return tuple(shlex.split(value) if isinstance(value, str) else value)


def _build(path: Path, document: dict[str, Any]) -> Spec:
    folder = path.parent

    def find(name: str) -> Path:
        given = Path(name)
        if given.is_absolute():
            return given
        inside = folder / given
        return inside if os.path.lexists(inside) else _beside(folder, given)

    def layer(entry: Mapping[str, Any]) -> Layer:
        files = []
        for target, value in sorted(entry.get("files", {}).items()):
            fields = {"source": value} if isinstance(value, str) else value
            files.append(File(
                target=target,
                source=find(fields["source"]) if "source" in fields else None,
                content=fields.get("content"),
                owner=_owner(fields.get("owner", "root:root")),
                mode=int(fields["mode"], 8) if "mode" in fields else None,
            ))  # fmt: skip
        return Layer(
            name=entry["name"],
            packages=tuple(entry.get("packages", ())),
            debconf=_debconf_lines(entry.get("debconf", ())),
            files=tuple(files),
            script=find(entry["script"]) if "script" in entry else None,
            reads=tuple(entry["reads"]) if "reads" in entry else None,
        )

    base = document.get("base", {})
    layers = [layer(entry) for entry in document.get("layers", ())]
    if document.get("packages") or document.get("debconf"):
        named = ("packages", "debconf", "reads")
        first = {name: document[name] for name in named if name in document}
        layers.insert(0, layer({"name": "packages", **first}))
    elif "reads" in document:
        raise BuildError(f"{path}: reads: it is of the layer `packages`, and there is none",
                         "put it into the layer that it is of")  # fmt: skip
    proxies = document.get("proxies", {})
    return Spec(
        name=path.stem,
        path=path,
        arch=document.get("arch", "amd64"),
        base=Base(
            tool=base.get("tool", "mmdebstrap"),
            variant=base.get("variant", "minbase"),
            include=tuple(base.get("include", ())),
        ),
        repos=tuple(
            Repo(
                name=repo["name"],
                uri=repo["uri"].rstrip("/"),
                suite=repo["suite"],
                section=" ".join(repo.get("section", "").split()),
                priority=repo.get("priority"),
                keyring=find(repo["keyring"]) if "keyring" in repo else None,
                trusted=repo.get("trusted", False),
                check_valid_until=repo.get("check_valid_until", True),
                check_rollback=repo.get("check_rollback", True),
                pins=tuple(
                    (" ".join(pin["packages"].split()), pin["priority"])
                    for pin in repo.get("pins", ())
                ),
                meta=repo.get("meta"),
            )
            for repo in document["repos"]
        ),
        layers=tuple(layers),
        recommends=document.get("recommends", False),
        settings=Settings(
            hostname=document.get("hostname", ""),
            timezone=document.get("timezone", ""),
            locale=document.get("locale", ""),
            root_password=document.get("root_password", ""),
            hashed_root_password=document.get("hashed_root_password", ""),
            apt_sources=document.get("apt_sources", False),
        ),
        proxies={key: proxies[key] for key in ("http", "https") if key in proxies},
        direct=tuple(proxies.get("direct", ())),
        images=tuple(
            Image(
                mount=mount,
                file=image["file"],
                format=image["format"],
                container=image.get("container", "gzip"),
                level=image.get("level", "default"),
                pack=image.get("pack", "loop"),
                label=image.get("label", ""),
                uuid=image.get("uuid", "").lower(),
                options=_words(image.get("options", "")),
                size=_size(image.get("size")),
                free=_size(image.get("free")),
            )
            for mount, image in sorted(document["images"].items())
        ),
    )


def _beside(folder: Path, given: Path) -> Path:
    other = folder.parent / given
    return other if os.path.lexists(other) else folder / given


def places(path: Path, spec: Path) -> str:
    """Where a path that a spec names was looked for in vain: the hint of a message that has it."""
    folder = spec.parent
    if os.path.lexists(path) or not path.is_relative_to(folder):
        return "paths are relative to the spec's folder"
    other = folder.parent / path.relative_to(folder)
    return (f"there is no {other} either: paths are relative to the spec's folder, or to the "
            "folder that it is in")  # fmt: skip


def check_target(spec: Spec, layer: Layer, target: str, *, folder: bool = False) -> None:
    """BuildError if what `files` puts there would be lost, or is what a field makes, too."""
    where = f"{spec.path}: layers.{layer.name}.files"
    if lost := given.vanishing(target, folder=folder):
        raise BuildError(f"{where}: {lost[0]}", lost[1])
    fields = spec.settings.given
    if not folder and (
        field := given.contradicted(target, fields, [repo.name for repo in spec.repos])
    ):
        raise BuildError(
            f"{where}: {target!r} is what {field} makes, too", f"leave one of the two out: {field} "
            "or the file"
        )  # fmt: skip


def _check_timezone(spec: Spec) -> None:
    """Mistyped ones: as far as this host knows them, and no layer brings its own."""
    zone = spec.settings.timezone
    unknown = zones.unknown(zone) if zone else None
    own = any(given.plain(file.target).startswith("/usr/share/zoneinfo")
              for layer in spec.layers for file in layer.files)  # fmt: skip
    if unknown is None or own:
        return
    version, near = unknown
    known = f"tzdata {version}".rstrip()
    meant = f"did you mean {', '.join(near)}? " if near else ""
    raise BuildError(
        f"{spec.path}: timezone: there is no zone {zone!r}",
        f"{meant}if it is newer than this host's {known}, upgrade tzdata here",
    )


def _unique(path: Path, what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BuildError(f"{path}: {what}: {twice[0]!r} stands twice", "names must differ")


def _check(spec: Spec) -> None:
    """What the schema cannot say."""
    path = spec.path
    _unique(path, "repos", [repo.name for repo in spec.repos])
    _unique(path, "layers", [layer.name for layer in spec.layers])
    _unique(path, "images: file", [image.file for image in spec.images])
    taken = {"base", "settings", *(["packages"] if spec.layers[:1] else [])}
    for number, layer in enumerate(spec.layers):
        if layer.name in taken and not (number == 0 and layer.name == "packages"):
            raise BuildError(f"{path}: layers: the name {layer.name!r} is taken", "choose another")
        where = f"{path}: layers.{layer.name}"
        above = number == 0 and layer.name == "packages"
        for line in layer.debconf:
            _check_debconf(f"{path}: debconf" if above else f"{where}.debconf", line)
        for file in layer.files:
            _check_file(file, f"{where}.files")
            # Of a source, only the plan knows whether it is a folder.
            check_target(spec, layer, file.target, folder=file.source is not None)
        if wrong := given.misanswered(layer.debconf, spec.settings.given):
            line, field = wrong
            raise BuildError(
                f"{path}: debconf: {line!r} contradicts {field}: "
                f"{spec.settings.given[field]!r}", f"leave one of the two out: {field} suffices"
            )  # fmt: skip
    _check_timezone(spec)
    if len(spec.settings.root_password.encode()) > PASSWORD_LIMIT:
        raise BuildError(f"{path}: root_password: longer than the {PASSWORD_LIMIT} bytes that "
                         "crypt(3) takes")  # fmt: skip
    for repo in spec.repos:
        if repo.flat and repo.section:
            raise BuildError(
                f"{path}: repos.{repo.name}.section: a flat repository has no components",
                "remove section, or name a suite that does not end in `/`",
            )
        if not repo.flat and not repo.section:
            raise BuildError(
                f"{path}: repos.{repo.name}: missing field 'section'",
                "name its components, or end suite in `/` if it is a flat repository",
            )
        fault, hint = address_fault(repo.uri)
        if fault:
            raise BuildError(
                f"{path}: repos.{repo.name}.uri: {masked(repo.uri)!r} is no address: {fault}", hint
            )
        if ".." in repo.suite.split("/") or ".." in urlsplit(repo.uri).path.split("/"):
            raise BuildError(f"{path}: repos.{repo.name}: `..` is not allowed in uri and suite")
    variants = VARIANTS[spec.base.tool]
    if spec.base.variant not in variants:
        raise BuildError(
            f"{path}: base.variant: {spec.base.variant!r} is not one of {spec.base.tool}'s "
            f"variants: {', '.join(variants)}"
        )
    if spec.base.variant in ("extract", "custom") and not spec.base.include:
        raise BuildError(
            f"{path}: base.include: the variant {spec.base.variant!r} selects no package by itself",
            "name the base's packages in base.include",
        )
    if not any(image.mount == "/" for image in spec.images):
        raise BuildError(f"{path}: images: nothing is mounted at `/`", "add an image for `/`")
    for image in spec.images:
        where = f"{path}: images.{image.mount}"
        if image.file in (*PUBLISHED, f"{spec.name}.yaml"):
            raise BuildError(
                f"{where}.file: {image.file!r} is the name of what is published beside the images",
                "choose another",
            )
        for name, size in (("size", image.size), ("free", image.free)):
            if size == 0:
                raise BuildError(f"{where}.{name}: less than a byte")
            if size is not None and size > LARGEST:
                raise BuildError(f"{where}.{name}: larger than {LARGEST >> 40} TiB")
        if image.pack == "direct" and image.format not in EXT:
            raise BuildError(f"{where}.pack: direct works for ext2, ext3 and ext4 only")
        if len(image.label.encode()) > LABEL_LENGTH[image.format]:
            raise BuildError(
                f"{where}.label: {image.format} takes {LABEL_LENGTH[image.format]} characters",
                "of UTF-8: an umlaut counts as two" if not image.label.isascii() else "",
            )
        if image.format == "vfat" and image.label and not VFAT_LABEL.fullmatch(image.label):
            raise BuildError(
                f"{where}.label: {image.label!r} is none for vfat",
                'of ASCII, none of *?.,;:/\\|+=<>[]" and no space at the beginning (mkfs.fat(8))',
            )
        if image.uuid and (len(image.uuid) == 9) != (image.format == "vfat"):
            raise BuildError(f"{where}.uuid: {image.uuid!r} is not of {image.format}'s form")
        check_options(image.options, image.format, f"{where}.options")


def _check_debconf(where: str, line: str) -> None:
    fields = debconf_fields(line)
    # Its first three words: the rest may be a password.
    told = " ".join(line.split()[:3])
    if len(fields) < 3:
        raise BuildError(f"{where}: {told!r} is not `PACKAGE QUESTION TYPE VALUE`")
    if fields[2] not in DEBCONF_TYPES:
        meant = near(fields[2], DEBCONF_TYPES)
        raise BuildError(
            f"{where}: {told!r}: {fields[2]!r} is no type of debconf's",
            f"did you mean {meant!r}?" if meant else f"types: {', '.join(DEBCONF_TYPES)}",
        )


def _check_file(file: File, where: str) -> None:
    parts = file.target.split("/")
    if ".." in parts or "." in parts or "" in parts[1:]:
        raise BuildError(f"{where}: {file.target!r} is no plain absolute path",
                         "without `..`, `.` and `//` in it")  # fmt: skip
    raw = file.target.encode()
    if len(raw) > PATH_LIMIT or any(len(part) > NAME_LIMIT for part in raw.split(b"/")):
        raise BuildError(f"{where}: {file.target!r} is longer than Linux takes",
                         f"{PATH_LIMIT} bytes in all, {NAME_LIMIT} between slashes")  # fmt: skip
    for number in file.owner.split(":"):
        if number.isdecimal() and int(number) > LARGEST_ID:
            raise BuildError(f"{where}.{file.target}.owner: {number} is more than {LARGEST_ID}",
                             "the largest number of a user or group")  # fmt: skip
