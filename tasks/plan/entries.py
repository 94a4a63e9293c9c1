"""What `files` and `script` of a layer stand for, and their digests."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BuildError
from ..host import safe
from ..host.files import sha256_of
from ..spec.model import File, Layer, Spec
from ..spec.names import filled
from ..spec.rules import check_target, places
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
        return [self.target, self.kind, digest, self.mode, ":".join(self.account)]


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
    where = f"{spec.path}: layers.{layer.name}.files"
    found: list[Entry] = []
    held = 0
    for file in layer.files:
        found += entries(file, where, spec.path)
        # Sources are read when they are written; of templates all bytes are at hand.
        held += len(found[-1].content) if file.names is not None else 0
        if held > TEMPLATES_LIMIT:
            raise BuildError(
                f"{where}: its templates make more than {TEMPLATES_LIMIT} bytes",
                "give what is large as source:",
            )
    by_target: dict[str, Entry] = {}
    for entry in found:
        check_target(spec, layer, entry.target, folder=entry.kind == "folder")
        other = by_target.setdefault(entry.target, entry)
        # A file of a folder may be named once more, for an owner or mode of its own.
        if other is not entry and other.identity()[1:3] != entry.identity()[1:3]:
            raise BuildError(
                f"{where}: {entry.target!r} is given twice, with other content: by itself, and in "
                "the folder that is the source of one above it",
                "remove one of the two",
            )
    return found


@dataclass(frozen=True, kw_only=True)
class Script:
    """A layer's script: `path` is what messages call it, `where` the field that names it."""

    path: str
    where: str
    program: scripts.Program
    source: Path | None
    content: bytes = b""

    @property
    def name(self) -> str:
        """Without its folder."""
        return self.path.rpartition("/")[2]


def layer_script(layer: Layer, spec: Spec) -> Script | None:
    """A layer's script, if it has one, with how it is run.

    BuildError when it is missing, or would not run as it is: see scripts.program.
    """
    path = layer.script
    if path is None:
        return None
    where = f"{spec.path}: layers.{layer.name}.script"
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
    return Script(path=str(path), where=where, program=program, source=path)


def script_identity(layer: Layer, spec: Spec) -> str:
    """SHA-256 of a layer's script, whose bytes, not its mode, say how it is run."""
    script = layer_script(layer, spec)
    assert script is not None
    assert script.source is not None
    return sha256_of(script.source)


def script_reads(layer: Layer) -> list[str]:
    """The settings that a layer's script may look at, by what is written in it."""
    assert layer.script is not None
    with open(safe.named(layer.script), "rb") as file:
        return sorted(reads.of_text(file.read(reads.LIMIT)))
