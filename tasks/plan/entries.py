"""What `files` and `script` of a layer stand for, and their digests."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import BuildError
from ..host import safe
from ..host.files import sha256_of
from ..spec.machine import fits
from ..spec.model import File, Layer, Overlay, Run, Spec
from ..spec.names import filled
from ..spec.rules import check_target, places
from ..spec.words import field_of_layer
from . import reads, scripts

SCRIPT_HEAD = 1 << 20
"""Bytes of a script that are looked at: what follows may be an archive that it unpacks."""


# ---------------------------------------------------------------- files and scripts


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing that `files` puts into the tree: a file's bytes, a link's target or a folder."""

    target: str
    kind: str
    source: Path | None
    content: bytes
    mode: int
    owner: str
    exact: bool = False
    """Of a folder: that one which is there already gets this mode, too."""

    @property
    def account(self) -> tuple[str, str]:
        """(user, group) of its owner, each a number or the name of an account of the tree.

        root is 0, which it is in every tree; a user alone stands for the group of that name, too.
        """
        user, _, group = self.owner.partition(":")
        names = (user, group or user)
        found = [
            "0" if one == "root" else str(int(one)) if one.isdecimal() else one for one in names
        ]
        return found[0], found[1]

    def identity(self) -> list[Any]:
        """What a key sees of it."""
        if self.kind == "file" and self.source is not None:
            digest = sha256_of(self.source)
        else:
            digest = hashlib.sha256(self.content).hexdigest()
        return self.identified(digest)

    def identified(self, digest: str) -> list[Any]:
        """The same of a file whose content has this SHA-256."""
        found = [self.target, self.kind, digest, self.mode, ":".join(self.account)]
        return [*found, "exact"] if self.exact else found


def made_file(target: str, text: str | bytes) -> Entry:
    """A file of root's that a field of the spec makes."""
    content = text.encode() if isinstance(text, str) else text
    return Entry(target=target, kind="file", source=None, content=content, mode=0o644, owner="0:0")


def made_link(target: str, leads: str) -> Entry:
    """A link that a field of the spec makes, and where it leads."""
    content = leads.encode()
    return Entry(target=target, kind="link", source=None, content=content, mode=0o777, owner="0:0")


def entries(file: File, where: str, spec: Path) -> Iterator[Entry]:
    """A `files` item written out, folders before what is in them.

    Modes come from the spec or are 0755 and 0644 by the executable bit, as git keeps them: a
    clone's umask must not show in an image. Raises BuildError for a missing or special source.
    """
    if file.source is None:
        assert file.content is not None
        yield Entry(
            target=file.target,
            kind="file",
            source=None,
            content=file.content.encode(),
            mode=0o644 if file.mode is None else file.mode,
            owner=file.owner,
        )
        return
    if file.names is not None:
        yield _made(file, file.names, where, spec)
        return
    try:
        # A source that is itself a link means what it points to; links inside a folder stay links.
        yield from _walk(file.source.resolve(strict=True), file.target, file)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a loop of links"
        raise BuildError(
            f"{where}: {file.target}: the source {file.source} cannot be read: {reason}",
            places(file.source, spec),
        ) from error


TEMPLATE_LIMIT = 1 << 20
"""Bytes of a template."""


TEMPLATES_LIMIT = 1 << 26
"""Bytes of what all templates of a layer make: they are held in memory."""


def _made(file: File, names: Mapping[str, str], where: str, spec: Path) -> Entry:
    """A file of a template, with the mode that its source has."""
    assert file.source is not None
    try:
        descriptor = safe.named(file.source)
        with open(descriptor, "rb") as opened:
            executable = os.fstat(opened.fileno()).st_mode & 0o111
            raw = opened.read(TEMPLATE_LIMIT + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise BuildError(
            f"{where}: {file.target}: the template {file.source} cannot be read: {error.strerror}",
            places(file.source, spec),
        ) from error
    except UnicodeDecodeError as error:
        raise BuildError(
            f"{file.source}: a template is text in UTF-8", "give it as source: if it is none"
        ) from error
    if len(raw) > TEMPLATE_LIMIT:
        raise BuildError(f"{file.source}: larger than the {TEMPLATE_LIMIT} bytes of a template")
    return Entry(
        target=file.target,
        kind="file",
        source=None,
        content=filled(text, names, str(file.source)).encode(),
        mode=file.mode if file.mode is not None else 0o755 if executable else 0o644,
        owner=file.owner,
    )


def _walk(source: Path, target: str, file: File) -> Iterator[Entry]:
    info = source.lstat()
    if stat.S_ISREG(info.st_mode):
        mode = file.mode if file.mode is not None else 0o755 if info.st_mode & 0o111 else 0o644
        yield Entry(
            target=target, kind="file", source=source, content=b"", mode=mode, owner=file.owner
        )
    elif stat.S_ISLNK(info.st_mode):
        content = os.fsencode(os.readlink(source))
        yield Entry(
            target=target, kind="link", source=None, content=content, mode=0o777, owner=file.owner
        )
    elif stat.S_ISDIR(info.st_mode):
        yield Entry(
            target=target, kind="folder", source=None, content=b"", mode=0o755, owner=file.owner
        )
        for child in sorted(source.iterdir()):
            yield from _walk(child, f"{target}/{child.name}", file)
    else:
        raise BuildError(f"{source} is neither file, folder nor link")


def layer_entries(layer: Layer, spec: Spec) -> list[Entry]:
    """All that a layer's `files` puts into the tree, in order."""
    where = field_of_layer(spec.path, layer.name, "files")
    found = [entry for one in layer.overlays for entry in overlaid(one, layer, spec)]
    homes = _homes(layer, spec)
    held = 0
    for file in layer.files:
        these = list(entries(file, where, spec.path))
        found += these if file.owned else (_at_home(entry, homes) for entry in these)
        # Sources are read when they are written; of templates all bytes are at hand.
        held += len(these[0].content) if file.names is not None else 0
        if held > TEMPLATES_LIMIT:
            raise BuildError(
                f"{where}: its templates make more than {TEMPLATES_LIMIT} bytes",
                "give what is large as source:",
            )
    found = [*_parents(found, homes), *found]
    by_target: dict[str, Entry] = {}
    for entry in found:
        check_target(spec, layer, entry.target, folder=entry.kind == "folder")
        other = by_target.setdefault(entry.target, entry)
        # A file of a folder may be named once more, for an owner or mode of its own.
        if other is not entry and other.identity()[1:3] != entry.identity()[1:3]:
            raise BuildError(
                f"{where}: {entry.target!r} is given twice, with other content: by itself, and in "
                "a folder that is an overlay, or the source of one above it",
                "remove one of the two",
            )
    return found


def overlaid(overlay: Overlay, layer: Layer, spec: Spec) -> Iterator[Entry]:
    """What an overlay puts onto `/`; BuildError for a source that is no folder, an idle mode."""
    where = field_of_layer(spec.path, layer.name, "overlays")
    homes = _homes(layer, spec)
    file = File(target="", source=overlay.source, content=None, owner=overlay.owner, mode=None)
    idle = set(overlay.modes)
    if not overlay.source.is_dir():
        there = "is no folder" if os.path.lexists(overlay.source) else "is not there"
        raise BuildError(f"{where}: {overlay.source} {there}", places(overlay.source, spec.path))
    try:
        for entry in _walk(overlay.source.resolve(strict=True), "", file):
            if not entry.target:
                continue
            found = entry if overlay.owned else _at_home(entry, homes)
            # A pattern is of files: a folder is named outright.
            named = [one for one in overlay.modes if one == entry.target or (
                     entry.kind == "file" and fits(entry.target, one))]  # fmt: skip
            idle -= set(named)
            if named and entry.kind != "link":
                # Of several that fit, the longest says most of it.
                mode = overlay.modes[max(named, key=len)]
                found = replace(found, mode=mode, exact=entry.kind == "folder")
            yield found
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a loop of links"
        raise BuildError(f"{where}: {overlay.source} cannot be read: {reason}") from error
    if idle:
        raise BuildError(
            f"{where}: {overlay.source}: modes: nothing in it is {min(idle)!r}",
            "paths are those in the image, from / on",
        )


def _homes(layer: Layer, spec: Spec) -> dict[str, str]:
    """The homes of the users of this layer and of those below, with the users' names."""
    number = [one.name for one in spec.layers].index(layer.name)
    users = [user for one in spec.layers[: number + 1] for user in one.users]
    return {user.place: user.name for user in users if user.place not in ("", "/root")}


def _home(target: str, homes: Mapping[str, str]) -> str:
    """The home that a target lies in, or ""."""
    return max((home for home in homes if target.startswith(f"{home}/")), key=len, default="")


def _at_home(entry: Entry, homes: Mapping[str, str]) -> Entry:
    """The same, of the user in whose home it is."""
    home = _home(entry.target, homes)
    return replace(entry, owner=homes[home]) if home else entry


PRIVATE = (".ssh", ".gnupg")
"""Folders of a home that their programs take only if nobody else may read them."""


def _parents(found: Sequence[Entry], homes: Mapping[str, str]) -> list[Entry]:
    """Folders that are to be made in a home on the way to what is given there: the user's own."""
    there = {entry.target for entry in found}
    made: dict[str, Entry] = {}
    for entry in found:
        home = _home(entry.target, homes)
        folder = os.path.dirname(entry.target)
        while home and folder != home:
            if folder not in there:
                mode = 0o700 if os.path.basename(folder) in PRIVATE else 0o755
                made[folder] = Entry(target=folder, kind="folder", source=None, content=b"",
                                     mode=mode, owner=homes[home])  # fmt: skip
            folder = os.path.dirname(folder)
    return [made[folder] for folder in sorted(made)]


@dataclass(frozen=True, kw_only=True)
class Script:
    """A layer's script: `path` is what messages call it, `where` the field that names it."""

    path: str
    where: str
    program: scripts.Program
    source: Path | None
    content: bytes = b""
    env: Mapping[str, str] = field(default_factory=dict)
    network: bool = False

    @property
    def name(self) -> str:
        """Without its folder."""
        return self.path.rpartition("/")[2]


def layer_scripts(layer: Layer, spec: Spec) -> list[Script]:
    """A layer's scripts, with how each is run.

    BuildError when one is missing, or would not run as it is: see scripts.program.
    """
    return [_script(run, layer, spec) for run in layer.scripts]


def _script(run: Run, layer: Layer, spec: Spec) -> Script:
    path = run.path
    where = field_of_layer(spec.path, layer.name, "script")
    try:
        with open(safe.named(path), "rb") as file:
            head = file.read(SCRIPT_HEAD)
    except OSError as error:
        if error.errno in (errno.EISDIR, safe.NOT_REGULAR):
            raise BuildError(f"{where}: {path} is no file") from error
        raise BuildError(
            f"{where}: {path} cannot be read: {error.strerror}",
            places(path, spec.path),
        ) from error
    program = scripts.program(head, where, str(path), spec.arch)
    return Script(
        path=str(path), where=where, program=program, source=path, env=run.env, network=run.network
    )


def script_identity(layer: Layer, spec: Spec) -> Any:
    """What a key sees of a layer's scripts, whose bytes, not their modes, say how they are run.

    The SHA-256 of one that is alone and given nothing; else a list with each one's, and what it
    is given.
    """
    scripts = layer_scripts(layer, spec)
    return identified([(one, sha256_of(one.source)) for one in scripts if one.source is not None])


def identified(scripts: Sequence[tuple[Script, str]]) -> Any:
    """The same of scripts with their digests."""
    given = [[sha256, dict(one.env), one.network] for one, sha256 in scripts]
    return given[0][0] if len(given) == 1 and not (given[0][1] or given[0][2]) else given


def script_reads(layer: Layer) -> list[str]:
    """The settings that a layer's scripts may look at, by what is written in them."""
    found: set[str] = set()
    for run in layer.scripts:
        with open(safe.named(run.path), "rb") as file:
            found |= reads.of_text(file.read(reads.LIMIT))
    return sorted(found)
