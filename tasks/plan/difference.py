"""Two builds of a system compared: packages, images and files, as text, Markdown or JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..debian.changelog import Changelog
from ..errors import printable
from ..spec.words import counted
from .changes import SHOWN, Change, Package, compared, items_of

FORMS = ("text", "markdown", "json")

FORMAT = 1
"""Of the JSON: another number where a program that reads it must change."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image's sizes in bytes: as it is published, and as a filesystem, whose digest this is."""

    file: str
    size: int
    raw: int
    digest: str = ""


@dataclass(frozen=True, kw_only=True)
class File:
    """What a path of a tree is; `size` in bytes is a file's, `target` a link's or a device's.

    Owners are numbers, or names where a tree has yet to tell these. A size of -1 is not known.
    `digest` is of a file's content, "" where it is not needed. `attributes` are the extended ones:
    name and value, in hexadecimal.
    """

    kind: str
    mode: int
    uid: int | str
    gid: int | str
    size: int = 0
    target: str = ""
    digest: str = ""
    attributes: tuple[tuple[str, str], ...] = ()

    def told(self) -> str:
        """It in a few words."""
        size = f" {self.size} bytes" if self.kind == "file" and self.size >= 0 else ""
        target = f" → {one_line(self.target)}" if self.target else ""
        return f"{self.kind} {self.mode:04o} {self.uid}:{self.gid}{size}{target}"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two; None for what it does not tell."""

    name: str
    packages: Mapping[str, Package] | None = None
    images: Mapping[str, Image] | None = None
    files: Mapping[str, File] | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """A mount point or path that differs; None where a side has none."""

    name: str
    before: Image | File | None
    after: Image | File | None

    def line(self) -> str:
        """It in a line, with the sign of a package's."""
        name = one_line(self.name)
        if self.before is None:
            assert self.after is not None
            return f"+ {name} ({_told(self.after)})"
        if self.after is None:
            return f"- {name} ({_told(self.before)})"
        return f"  {name}: {'; '.join(between(self.before, self.after))}"

    def plain(self, what: str) -> dict[str, Any]:
        """It for another program, whose name is called `what`."""
        change = "added" if not self.before else "changed" if self.after else "removed"
        sides = {"from": self.before, "to": self.after}
        told = {
            side: {name: value for name, value in asdict(one).items() if value not in ("", ())}
            for side, one in sides.items()
            if one is not None
        }
        return {what: self.name, "change": change, **told}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What differs; None for what one of the sides does not tell."""

    before: str
    after: str
    packages: Sequence[Change] | None
    images: Sequence[Part] | None
    files: Sequence[Part] | None
    changelogs: Sequence[Changelog] = ()

    @property
    def parts(self) -> dict[str, Sequence[Change | Part] | None]:
        """The three by what they are called."""
        return {"packages": self.packages, "images": self.images, "files": self.files}

    @property
    def any(self) -> bool:
        """Whether anything differs."""
        return any(self.parts.values())


def difference(before: Side, after: Side) -> Difference:
    """What differs between two sides, of what both tell."""
    return Difference(
        before=before.name,
        after=after.name,
        packages=None
        if before.packages is None or after.packages is None
        else compared(before.packages, after.packages),
        images=_parts(before.images, after.images),
        files=_parts(before.files, after.files),
    )


def _parts(
    before: Mapping[str, Image] | Mapping[str, File] | None,
    after: Mapping[str, Image] | Mapping[str, File] | None,
) -> list[Part] | None:
    if before is None or after is None:
        return None
    return [
        Part(name=name, before=before.get(name), after=after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _told(one: Image | File) -> str:
    return one.told() if isinstance(one, File) else f"{one.file}, {_size(one.size)}"


def between(before: Image | File, after: Image | File) -> list[str]:
    """How the two differ, each in a few words."""
    if isinstance(before, Image) and isinstance(after, Image):
        lines = [f"{before.file} → {after.file}"] if before.file != after.file else []
        for name, was, now in (
            ("", before.size, after.size),
            ("filesystem ", before.raw, after.raw),
        ):
            if was != now:
                sign = "+" if now > was else "-"
                lines.append(f"{name}{_size(was)} → {_size(now)} ({sign}{_size(abs(now - was))})")
        return lines or ["other content of the same size"]
    assert isinstance(before, File)
    assert isinstance(after, File)
    if before.kind != after.kind:
        return [f"{before.told()} → {after.told()}"]
    lines = []
    if -1 in (before.size, after.size):
        lines += ["other content"] if before.digest != after.digest else []
    elif before.size != after.size:
        lines.append(f"{before.size} → {after.size} bytes")
    elif before.digest != after.digest:
        lines.append(f"other content, {after.size} bytes")
    if (before.uid, before.gid) != (after.uid, after.gid):
        lines.append(f"owner {before.uid}:{before.gid} → {after.uid}:{after.gid}")
    if before.mode != after.mode:
        lines.append(f"mode {before.mode:04o} → {after.mode:04o}")
    if before.attributes != after.attributes:
        other = {name for name, _value in {*before.attributes} ^ {*after.attributes}}
        lines.append(f"attributes {', '.join(one_line(name) for name in sorted(other))}")
    if before.target != after.target:
        lines.append(f"{one_line(before.target)} → {one_line(after.target)}")
    return lines


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else counted(size, "byte")


def one_line(text: str) -> str:
    """A file's name or a link's text in one line, whatever is in it."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


# ---------------------------------------------------------------- the three forms


def shown(found: Difference, form: str, heading: str) -> str:
    """It in one of FORMS; `heading` is the Markdown's."""
    return {"text": text, "json": as_json}.get(form, lambda one: markdown(one, heading))(found)


def text(found: Difference) -> str:
    """For a person: a heading with numbers for each part, and a line for each change."""
    lines = [f"{found.before} → {found.after}"]
    for name, part in found.parts.items():
        if part is None:
            continue
        lines += _part(name, part)
    for log in found.changelogs:
        lines += _log(log)
    return "\n".join(lines)


def _log(log: Changelog) -> list[str]:
    """The new entries of a source package, and of which packages it is."""
    lines = [f"changelog of {log.source} ({', '.join(log.packages)})"]
    for version, entry in log.entries:
        lines += [f"  {version}", *(f"  {line}".rstrip() for line in entry)]
    return lines


def packages_text(found: Sequence[Change]) -> list[str]:
    """The packages alone: how many of each kind, then a line for each."""
    return _part("packages", found)


def _part(name: str, part: Sequence[Change | Part]) -> list[str]:
    return [f"{name}: {_counted(part)}", *(f"  {one.line()}" for one in part)]


def _counted(part: Sequence[Change | Part]) -> str:
    """How many of each kind, `the same` for none."""
    signs = [one.line()[0] for one in part]
    secure = sum(isinstance(one, Change) and one.security for one in part)
    told = [
        f"{signs.count(sign)} {word}"
        for sign, word in (("+", "added"), ("-", "removed"), (" ", "changed"))
        if sign in signs
    ]
    if secure:
        told.append(counted(secure, "security update"))
    return ", ".join(told) or "the same"


def markdown(found: Difference, heading: str) -> str:
    """For a pull request; "" where nothing differs."""
    if not found.any:
        return ""
    lines = [f"### {heading}"]
    if found.packages:
        lines += items_of(found.packages)
    for name, part in (("Images", found.images), ("Files", found.files)):
        if part:
            lines += ["", f"**{name}**", "", *map(_item, part[:SHOWN])]
            if len(part) > SHOWN:
                lines.append(f"- … and {len(part) - SHOWN} more")
    for log in found.changelogs:
        heading, *rest = _log(log)
        # What is indented by four is as it stands, whatever is in it.
        lines += ["", f"**{heading}**", "", *(f"    {line}".rstrip() for line in rest)]
    return "\n".join([*lines, ""])


def _item(one: Part) -> str:
    """A part as an item; nothing in it is Markdown, whatever a file's name has."""
    line = one.line()
    sign = {"+": "new: ", "-": "gone: "}.get(line[0], "")
    # More backticks around it than stand together in it keep it as it is.
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"- {sign}{fence}{space}{line[2:]}{space}{fence}"


def as_json(found: Difference) -> str:
    """For another program: what a side does not tell is not there at all."""
    told: dict[str, Any] = {"format": FORMAT, "from": found.before, "to": found.after}
    if found.packages is not None:
        told["packages"] = [one.plain() for one in found.packages]
    if found.images is not None:
        told["images"] = [one.plain("mount") for one in found.images]
    if found.files is not None:
        told["files"] = [one.plain("path") for one in found.files]
    if found.changelogs:
        told["changelogs"] = [
            {
                "source": log.source,
                "packages": list(log.packages),
                "entries": [
                    {"version": version, "text": "\n".join(entry)} for version, entry in log.entries
                ],
            }
            for log in found.changelogs
        ]
    return json.dumps(told, indent=1)
