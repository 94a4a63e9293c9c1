"""A .deb's control archive, deb(5): read as data, within bounds; nothing of it is run.

Who made a .deb of the project may have made it to do harm: what it says of its own sizes, names and
kinds is checked before it is used.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
import tempfile
from collections.abc import Collection, Iterator
from typing import BinaryIO

from ..host.process import PIPE, popen, running

LIMIT = 16 << 20
"""Bytes of an unpacked control archive that are read: the largest of Debian 12 has 5 MiB."""


MEMORY_LIMIT = 1 << 28
"""Bytes that xz may take to unpack one: a header may ask for gigabytes, `xz -9` needs 65 MiB."""


MEMBERS = 32
"""Of a .deb's ar(5) archive: three, and what tools of others add."""


def control_members(file: BinaryIO, wanted: Collection[str], *, whole: bool) -> dict[str, bytes]:
    """These files of the control archive of an open .deb, by name; the first of each name counts.

    `whole`: all that dpkg-deb(1) looks for must be there, and no name twice. ValueError that says
    what is wrong; OSError where it cannot be read.
    """
    # Here, since a build with nothing to do unpacks nothing.
    import gzip
    import lzma
    import tarfile
    import zlib

    names: list[str] = []
    found: dict[str, bytes] | None = None
    try:
        for name, size in _members(file):
            names.append(name)
            if name.startswith("control.tar") and found is None:
                if size > LIMIT:
                    raise ValueError(f"its control archive has more than {LIMIT >> 20} MiB")
                data = _unpacked(file.read(size), name.removeprefix("control.tar"))
                found = _files(data, wanted, once=whole)
                if not whole:
                    break
            elif whole and name == "debian-binary" and not file.read(size).startswith(b"2."):
                raise ValueError("it is of another form than deb(5) 2.0")
    except (
        EOFError,
        OverflowError,
        gzip.BadGzipFile,
        tarfile.TarError,
        lzma.LZMAError,
        zlib.error,
    ) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    if found is None:
        raise ValueError("no control.tar in it")
    if whole:
        if names[:1] != ["debian-binary"]:
            raise ValueError("it does not begin with debian-binary")
        kinds = [re.sub(r"(\.tar).*", r"\1", name) for name in names]
        for kind in ("control.tar", "data.tar"):
            if kinds.count(kind) != 1:
                raise ValueError(f"expected one {kind} in it, found {kinds.count(kind)}")
    return found


def _members(file: BinaryIO) -> Iterator[tuple[str, int]]:
    """(name, size) of each member of an ar(5) archive, with the file at its first byte."""
    if file.read(8) != b"!<arch>\n":
        raise ValueError("not a .deb")
    end = os.fstat(file.fileno()).st_size
    position = 8
    for _ in range(MEMBERS):
        file.seek(position)
        header = file.read(60)
        if not header:
            return
        size = header[48:58].strip()
        plain = re.fullmatch(rb"[ -~]{58}`\n", header)
        if plain is None or not size.isdigit():
            raise ValueError("it is cut off, or no ar(5) archive")
        if position + 60 + int(size) > end:
            raise ValueError("it is cut off")
        yield header[:16].rstrip(b" /").decode("ascii"), int(size)
        position += 60 + int(size) + int(size) % 2
    raise ValueError(f"more than {MEMBERS} members are in it")


def _files(data: bytes, wanted: Collection[str], *, once: bool) -> dict[str, bytes]:
    """The regular files of these names in a tar."""
    import tarfile

    found: dict[str, bytes] = {}
    before = -1
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            # A size below zero leads back to what was read: older tarfiles go round for ever.
            if member.offset <= before or member.size < 0:
                raise ValueError("a size in its control archive is below zero")
            before = member.offset
            name = posixpath.normpath(member.name)
            if name not in wanted or (name in found and not once):
                continue
            if name in found:
                raise ValueError(f"{name} stands twice in it")
            if not member.isreg():
                if once:
                    raise ValueError(f"its {name} is no file")
                continue
            # One with holes may be said to be of any size.
            if member.size > LIMIT:
                raise ValueError(f"its {name} has more than {LIMIT >> 20} MiB")
            content = archive.extractfile(member)
            assert content is not None
            found[name] = content.read()
    return found


def _unpacked(data: bytes, ending: str) -> bytes:
    import gzip
    import lzma

    if ending == ".xz":
        plain = lzma.LZMADecompressor(memlimit=MEMORY_LIMIT).decompress(data, LIMIT + 1)
    elif ending == ".gz":
        plain = gzip.GzipFile(fileobj=io.BytesIO(data)).read(LIMIT + 1)
    elif ending == ".zst":
        plain = _from_zstd(data)
    elif not ending:
        plain = data
    else:
        raise ValueError(f"control.tar{ending} is unknown")
    if len(plain) > LIMIT:
        raise ValueError(f"its control archive has more than {LIMIT >> 20} MiB")
    return plain


def _from_zstd(data: bytes) -> bytes:
    """By zstd(1), since Python has none: Ubuntu's .debs are packed so."""
    with tempfile.TemporaryFile() as feed:
        feed.write(data)
        feed.seek(0)
        argv = ["zstd", "--decompress", "--stdout", "--quiet"]
        with running(popen(argv, stdin=feed, stdout=PIPE)) as process:
            assert process.stdout is not None
            plain = process.stdout.read(LIMIT + 1)
            if len(plain) > LIMIT:  # else it would wait for the rest to be read
                raise ValueError(f"its control archive has more than {LIMIT >> 20} MiB")
    if process.returncode:
        raise ValueError("zstd cannot unpack control.tar.zst")
    return plain


# ---------------------------------------------------------------- the control file

_PACKAGE = r"[a-z0-9][a-z0-9+.-]+"

_VERSION = r"(?:[0-9]{1,9}:)?[0-9][A-Za-z0-9.+~-]*"

_RELATION = re.compile(
    rf"[A-Za-z0-9][A-Za-z0-9+._-]*(?::[a-z0-9-]+)?(?:\s*\(\s*(?:<<|<=|=|>=|>>|<|>)\s*{_VERSION}\s*\))?"
)

FORMS = {
    "Package": (_PACKAGE, "a name has two or more small letters, digits and + - ."),
    "Version": (_VERSION, "a version begins with a digit, and has letters, digits and . + ~ - :"),
    "Architecture": (r"[a-z0-9][a-z0-9-]*", "an architecture is as dpkg-architecture(1) lists it"),
}
"""By field what it must be, and what is said of it where it is not (Debian policy 5.6)."""


RELATIONS = ("Pre-Depends", "Depends", "Recommends", "Suggests", "Enhances", "Breaks", "Conflicts",
             "Provides", "Replaces")  # fmt: skip

WORDS = {
    "Essential": r"yes|no",
    "Protected": r"yes|no",
    "Important": r"yes|no",
    "Multi-Arch": r"no|same|foreign|allowed",
    "Installed-Size": r"[0-9]{1,12}",
    "Priority": r"[a-z]+",
    "Section": r"[a-z0-9/+.-]+",
}
"""Fields of one word that apt goes by; one of another form is left out."""


CONTROL_LIMIT = 1 << 18
"""Bytes of a control file."""


def control_fields(raw: bytes) -> dict[str, str]:
    """The fields of a control file by their names, folded ones in one line; ValueError if none.

    Two readers may not see two packages: a field that stands twice, in whatever case, is refused.
    """
    if len(raw) > CONTROL_LIMIT:
        raise ValueError(f"its control file has more than {CONTROL_LIMIT >> 10} KiB")
    try:
        text = raw.decode("utf-8").strip("\n")
    except UnicodeDecodeError as error:
        raise ValueError("its control file is not UTF-8") from error
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", text):
        raise ValueError("its control file has control characters in it")
    fields: dict[str, list[str]] = {}
    seen: set[str] = set()
    last: list[str] | None = None
    for line in text.split("\n"):
        if line[:1] in (" ", "\t") and last is not None and line.strip():
            last.append(line.strip())
            continue
        found = re.fullmatch(r"([A-Za-z][A-Za-z0-9-]*):(.*)", line)
        if found is None:
            raise ValueError(f"its control file has a line that is none: {line[:80]!r}")
        if found[1].lower() in seen:
            raise ValueError(f"its control file has the field {found[1]} twice")
        seen.add(found[1].lower())
        fields[found[1]] = last = [found[2].strip()]
    return {name: " ".join(filter(None, parts)) for name, parts in fields.items()}


def checked(fields: dict[str, str]) -> dict[str, str]:
    """Of a control file's fields those that apt goes by; ValueError for one of another form."""
    by_name = {name.lower(): value for name, value in fields.items()}
    found: dict[str, str] = {}
    for name, (form, rule) in FORMS.items():
        value = by_name.get(name.lower(), "")
        if not re.fullmatch(form, value) or len(value) > 200:
            what = f"malformed: {value[:80]!r}" if value else "missing"
            raise ValueError(f"its {name} is {what}: {rule}")
        found[name] = value
    for name in RELATIONS:
        if value := by_name.get(name.lower(), ""):
            for one in re.split(r"[,|]", value):
                if not _RELATION.fullmatch(one.strip()):
                    raise ValueError(f"its {name} is malformed: {one.strip()[:80]!r}")
            found[name] = value
    for name, form in WORDS.items():
        if re.fullmatch(form, by_name.get(name.lower(), "")):
            found[name] = by_name[name.lower()]
    return found
