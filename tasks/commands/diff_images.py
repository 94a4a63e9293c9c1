"""What `diff` reads of images that no build tells of: as they came from elsewhere, or were kept."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..debian.deb822 import stanza_fields
from ..errors import BuildError
from ..host.files import remove, sha256_of
from ..host.process import need_root
from ..plan import lockfile
from ..plan.changes import Package
from ..plan.difference import Image, Side
from ..rootfs.largest import STATUS
from ..rootfs.listed import both
from ..rootfs.members import members
from ..session.session import Session
from .image_files import container_of, filesystem_of, tar_of, unpack

if TYPE_CHECKING:
    from .diff import Given


def read_images(session: Session, before: Given, after: Given) -> tuple[Side, Side]:
    """Both sides as they are read; packages alone, where one of them is no image.

    Of two images the files are those that are in them, also where a build tells of one: its
    tree has what images below it hold.
    """
    need_root("reading an image that no build.json tells of")
    # Where one has a mount point, it is what they are compared as.
    mount = next((given.mount for given in (before, after) if given.told and given.file), "/")
    with contextlib.ExitStack() as stack:
        sides, tars = [], []
        for number, given in enumerate((before, after)):
            if given.file is None:
                sides.append(replace(given.side, images=None))
                continue
            tar, image = stack.enter_context(_opened(session, given.file, number))
            packages = given.side.packages if given.told else _packages(tar)
            sides.append(replace(given.side, packages=packages, images={mount: image}))
            tars.append(tar)
        if len(tars) == 2:
            try:
                was, now = both(tars[:1], tars[1:])
            except tarfile.TarError as error:
                raise BuildError(f"an image's files cannot be compared: {error}") from error
            top = mount.rstrip("/")
            found = [{f"{top}{path}": file for path, file in one.items()} for one in (was, now)]
            sides = [replace(side, files=one) for side, one in zip(sides, found, strict=True)]
        else:
            session.screen.note("files are not compared: one side is no image")
    return sides[0], sides[1]


@contextlib.contextmanager
def _opened(session: Session, path: Path, number: int) -> Iterator[tuple[Path, Image]]:
    """A tar of an image's files, and what it is."""
    scratch = session.scratch / f"side{number}"
    scratch.mkdir()
    raw = scratch / "image.raw"
    try:
        with session.aside("diff") as log:
            try:
                unpack(path, raw, container_of(path), log)
            except OSError as error:
                raise BuildError(f"{path}: cannot be read: {error.strerror}") from error
            kind = filesystem_of(raw, str(path))
            image = Image(
                file=path.name,
                size=path.stat().st_size,
                raw=raw.stat().st_size,
                digest=sha256_of(raw),
            )
            with tar_of(raw, kind, scratch, log) as tar:
                raw.unlink()
                yield tar, image
    finally:
        remove(scratch)


def _packages(tar: Path) -> dict[str, Package] | None:
    """The packages that dpkg has in an image, None where it knows none: only /boot, perhaps."""
    try:
        status = next((one.content() for one in members(tar) if one.path == STATUS), None)
    except tarfile.TarError:
        return None
    if not status:
        return None
    stanzas = [stanza_fields(text) for text in status.decode("utf-8", "replace").split("\n\n")]
    there = [one for one in stanzas if one.get("Status", "").rpartition(" ")[2] == "installed"]
    # dpkg itself is of the architecture that the whole system is of.
    arch = next((one.get("Architecture", "") for one in there if one.get("Package") == "dpkg"), "")
    return {
        lockfile.short_name(one.get("Package", "?"), one.get("Architecture", "?"), arch): Package(
            version=one.get("Version", "?")
        )
        for one in there
    }
