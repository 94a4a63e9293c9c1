"""What the schema cannot say of a spec."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import BuildError
from ..formats.options import check_options
from ..formats.table import FILESYSTEMS
from . import given, zones
from .debconf import check_answer
from .images import Image
from .machine_rules import PASSWORD_LIMIT, check_machine
from .model import File, Layer, Repo, Spec, masked
from .words import field_of_layer

VARIANTS = {
    "mmdebstrap": (
        "extract", "custom", "essential", "apt", "required", "minbase", "buildd", "important",
        "debootstrap", "-", "standard",
    ),
    "debootstrap": ("minbase", "buildd", "-"),
}  # fmt: skip


LARGEST = 16 << 40
"""Bytes of the largest ext4 with blocks of 4 KiB."""


PUBLISHED = ("packages.txt", "SHA256SUMS", "build.json", "host.json", "log",
             "sbom.cdx.json", "sbom.spdx.json", "provenance.json", "provenance.intoto.jsonl",
             "SHA256SUMS.sig", "sbom.cdx.json.sig", "sbom.spdx.json.sig")  # fmt: skip
"""What out/NAME/ holds beside the images and NAME.yaml."""


PATH_LIMIT, NAME_LIMIT = 4095, 255
"""Bytes of a path and of a name in it: limits.h's PATH_MAX without its NUL, and NAME_MAX."""


VERSION = "${version}"
"""In an image's `file`: what the spec's `version` is, which may be known with the lock only."""

PATTERN_LIMIT = 1000
"""Characters of a pattern: fnmatch takes the square of their number for brackets."""


LARGEST_ID = (1 << 32) - 2
"""Of a user or group: (uid_t) -1 means none."""


def address_fault(uri: str) -> tuple[str, str]:
    """What is wrong with an address's host or port, and what would be right; "" if nothing is."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return ("its host is none", "a host of IPv6 stands in brackets: http://[::1]:8080/debian")
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


def places(path: Path, spec: Path) -> str:
    """Where a path that a spec names was looked for in vain: the hint of a message that has it."""
    folder = spec.parent
    if os.path.lexists(path) or not path.is_relative_to(folder):
        return "paths are relative to the spec's folder"
    other = folder.parent / path.relative_to(folder)
    return (
        f"there is no {other} either: paths are relative to the spec's folder, or to the "
        "folder that it is in"
    )


def check_target(spec: Spec, layer: Layer, target: str, *, folder: bool = False) -> None:
    """BuildError if what `files` puts there would be lost, or is what a field makes, too."""
    where = field_of_layer(spec.path, layer.name, "files")
    if lost := given.vanishing(target, folder=folder):
        raise BuildError(f"{where}: {lost[0]}", lost[1])
    fields = spec.settings.given
    if not folder and (
        field := given.contradicted(target, fields, [repo.name for repo in spec.repos])
    ):
        raise BuildError(
            f"{where}: {target!r} is what {field} makes, too",
            f"leave one of the two out: {field} or the file",
        )


def _check_timezone(spec: Spec) -> None:
    """Mistyped ones: as far as this host knows them, and no layer brings its own."""
    zone = spec.settings.timezone
    unknown = zones.unknown(zone) if zone else None
    own = any(
        given.plain(file.target).startswith("/usr/share/zoneinfo")
        for layer in spec.layers
        for file in layer.files
    )
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


def check_spec(spec: Spec) -> None:
    """What the schema cannot say."""
    path = spec.path
    _unique(path, "repos", [repo.name for repo in spec.repos])
    _unique(path, "layers", [layer.name for layer in spec.layers])
    check_files(spec, [image.file for image in spec.images])
    for number, layer in enumerate(spec.layers):
        _check_layer(spec, number, layer)
    check_machine(spec)
    _check_timezone(spec)
    for repo in spec.repos:
        _check_repo(path, repo)
    _check_base(spec)
    for image in spec.images:
        _check_image(spec, image)
    if len(spec.settings.root_password.encode()) > PASSWORD_LIMIT:
        raise BuildError(
            f"{path}: root_password: longer than the {PASSWORD_LIMIT} bytes that crypt(3) takes"
        )
    if spec.images and not any(image.mount == "/" for image in spec.images):
        raise BuildError(f"{path}: images: nothing is mounted at `/`", "add an image for `/`")


def check_files(spec: Spec, files: Sequence[str]) -> None:
    """BuildError for a name that two things of out/NAME/ would have.

    `files` are those of the images, in their order; those of disks and exports are known.
    """
    _unique(spec.path, "images: file", list(files))
    taken = dict.fromkeys((*PUBLISHED, f"{spec.name}.yaml"), "")
    for place, file, own in _published(spec, files):
        if file in taken:
            other = taken[file]
            told = f"of {other}, too" if other else "of what is published beside the images"
            raise BuildError(
                f"{spec.path}: {place}: {file!r} is the name {told}",
                "choose another" if own else "let the block map's file have another name",
            )
        if len(file.encode()) > NAME_LIMIT:
            raise BuildError(
                f"{spec.path}: {place}: {file!r} is longer than the {NAME_LIMIT} bytes that "
                "Linux takes",
                "give it a shorter one",
            )
        taken[file] = place


def _published(spec: Spec, files: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    """(field, name in out/NAME/, whether the spec itself says the name) of all that is made."""
    for image, file in zip(spec.images, files, strict=True):
        yield f"images.{image.mount}.file", file, True
    for disk in spec.disks:
        for one in disk.files:
            place = f"disks.{disk.name}.files.{one.name}"
            yield place, one.name, True
            if one.bmap:
                yield f"{place}.bmap", f"{one.name}.bmap", False
    for export in spec.exports:
        yield f"exports.{export.name}", export.name, True


def check_version(path: Path, version: str, variables: Mapping[str, str]) -> None:
    """BuildError where `${version}` could be either of two, of `vars` and the field."""
    if version and variables.get("version", version) != version:
        raise BuildError(
            f"{path}: vars.version: {VERSION} is what the field version says, and that is another",
            f"give vars.version another name, or let the field be version: {VERSION}",
        )


def _check_layer(spec: Spec, number: int, layer: Layer) -> None:
    path = spec.path
    taken = {"base", "settings", *(["packages"] if spec.layers[:1] else [])}
    if layer.name in taken and not (number == 0 and layer.name == "packages"):
        raise BuildError(f"{path}: layers: the name {layer.name!r} is taken", "choose another")
    where = f"{path}: layers.{layer.name}"
    above = number == 0 and layer.name == "packages"
    answers = f"{path}: debconf" if above else f"{where}.debconf"
    for line in layer.debconf:
        check_answer(layer.debconf_from.get(line, answers), line)
    for file in layer.files:
        _check_file(file, f"{where}.files")
        # Of a source, only the plan knows whether it is a folder.
        check_target(
            spec, layer, file.target, folder=file.source is not None and file.names is None
        )
    for pattern in layer.debs:
        if len(pattern) > PATTERN_LIMIT:
            raise BuildError(
                (f"{path}: debs" if above else f"{where}.debs") + f": {pattern!r} is too long",
                f"a path or pattern has up to {PATTERN_LIMIT} characters",
            )
    if wrong := given.misanswered(layer.debconf, spec.settings.given):
        line, field = wrong
        place = layer.debconf_from.get(line, f"{path}: debconf")
        raise BuildError(
            f"{place}: {line!r} contradicts {field}: {spec.settings.given[field]!r}",
            f"leave one of the two out: {field} suffices",
        )


def _check_repo(path: Path, repo: Repo) -> None:
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


def _check_base(spec: Spec) -> None:
    path = spec.path
    variants = VARIANTS[spec.base.tool]
    if spec.base.variant not in variants:
        raise BuildError(
            f"{path}: base.variant: {spec.base.variant!r} is not one of {spec.base.tool}'s "
            f"variants: {', '.join(variants)}"
        )
    for line in spec.base.debconf:
        check_answer(spec.base.debconf_from.get(line, f"{path}: base.debconf"), line)
    if spec.base.debconf and spec.base.tool != "mmdebstrap":
        raise BuildError(
            f"{path}: base.debconf: debootstrap configures its packages before it can be answered",
            "use base.tool: mmdebstrap, or a layer for the packages that ask",
        )
    if spec.base.debconf and spec.base.variant == "extract":
        raise BuildError(
            f"{path}: base.debconf: the variant extract configures nothing, so that nobody asks",
            "remove it, or choose another variant",
        )
    if spec.base.variant in ("extract", "custom") and not spec.base.include:
        raise BuildError(
            f"{path}: base.include: the variant {spec.base.variant!r} selects no package by itself",
            "name the base's packages in base.include",
        )


def _check_image(spec: Spec, image: Image) -> None:
    path = spec.path
    where = f"{path}: images.{image.mount}"
    kind = FILESYSTEMS[image.format]
    if VERSION in image.file and not spec.settings.version:
        raise BuildError(
            f"{where}.file: {VERSION}: the spec has no version",
            "add one at its top: a text such as version: 1.0-rc1, or git, or date",
        )
    if None not in (image.size, image.max_size) and (image.size or 0) > (image.max_size or 0):
        raise BuildError(
            f"{where}.max_size: it is smaller than size, which the filesystem has in any case",
            "make one of them fit the other, or leave one out",
        )
    for name, size in (
        ("size", image.size), ("free", image.free), ("max_size", image.max_size)
    ):  # fmt: skip
        if size == 0:
            raise BuildError(f"{where}.{name}: less than a byte")
        if size is not None and size > LARGEST:
            raise BuildError(f"{where}.{name}: larger than {LARGEST >> 40} TiB")
    if image.pack == "direct" and not kind.direct:
        raise BuildError(f"{where}.pack: direct works for ext2, ext3 and ext4 only")
    check_filesystem(image, where)


def check_filesystem(image: Image, where: str) -> None:
    """BuildError for a label, UUID or option of mkfs that its format does not take."""
    kind = FILESYSTEMS[image.format]
    if len(image.label.encode()) > kind.label_length:
        raise BuildError(
            f"{where}.label: {image.format} takes {kind.label_length} characters",
            "of UTF-8: an umlaut counts as two" if not image.label.isascii() else "shorten it",
        )
    if kind.label_form and image.label and not re.fullmatch(kind.label_form, image.label):
        raise BuildError(
            f"{where}.label: {image.label!r} is none for {image.format}", kind.label_hint
        )
    if image.uuid and (len(image.uuid) == 9) != kind.short_uuid:
        raise BuildError(
            f"{where}.uuid: {image.uuid!r} is not of {image.format}'s form",
            "write 4-4 hexadecimal digits, such as 1A2B-3C4D" if kind.short_uuid
            else "write 8-4-4-4-12 hexadecimal digits",
        )  # fmt: skip
    check_options(image.options, kind, f"{where}.options")


def _check_file(file: File, where: str) -> None:
    parts = file.target.split("/")
    if ".." in parts or "." in parts or "" in parts[1:]:
        raise BuildError(
            f"{where}: {file.target!r} is no plain absolute path",
            "without `..`, `.` and `//` in it",
        )
    raw = file.target.encode()
    if len(raw) > PATH_LIMIT or any(len(part) > NAME_LIMIT for part in raw.split(b"/")):
        raise BuildError(
            f"{where}: {file.target!r} is longer than Linux takes",
            f"{PATH_LIMIT} bytes in all, {NAME_LIMIT} between slashes",
        )
    for number in file.owner.split(":"):
        if number.isdecimal() and int(number) > LARGEST_ID:
            raise BuildError(
                f"{where}.{file.target}.owner: {number} is more than {LARGEST_ID}",
                "the largest number of a user or group",
            )
