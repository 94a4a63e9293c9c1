"""A spec's file, found, read and checked, as the model."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import BuildError
from ..host import safe
from . import document
from .compose import Given, compose
from .disk_rules import check_disks
from .export_rules import check_exports
from .model import Spec
from .rules import NAME_LIMIT, PATH_LIMIT, check_spec
from .schema import read_schema, validate
from .values import Values
from .words import near, printable, short

SCHEMA = Path(__file__).with_name("spec.schema.json")
"""The schema that comes with Strata; in its checkout a link to the one in specs/."""


def spec_names(folder: Path) -> list[str]:
    """Names of the specs in a folder; an editor's hidden files are none."""
    found = [path for path in folder.glob("*.yaml") if not path.name.startswith(".")]
    # Below it lie sources and common parts, too: a spec says what image it makes.
    for path in folder.glob("*/**/*.yaml"):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and _whole(
            path
        ):
            found.append(path)
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in found)


def is_spec(folder: Path, name: str) -> bool:
    """Whether a folder has a spec of this name, as `spec_names` lists them, without listing them.

    What lies below specs/ may be a whole tree of files for images.
    """
    parts = name.split("/")
    if not all(parts) or any(part.startswith(".") for part in parts) or "\0" in name:
        return False
    # No file has such a name, and the kernel would say so with an error.
    if len(os.fsencode(f"{folder}/{name}")) > PATH_LIMIT or any(
        len(os.fsencode(part)) > NAME_LIMIT - len(".yaml") for part in parts
    ):
        return False
    path = folder / f"{name}.yaml"
    return os.path.lexists(path) and (len(parts) == 1 or _whole(path))


def _whole(path: Path) -> bool:
    try:
        with open(safe.named(path), "rb") as file:
            text = file.read(document.SIZE_LIMIT)
    except OSError:
        return False
    return (
        re.search(rb"""^[ {]*["']?(images|disks|exports)["']?\s*:""", text, re.MULTILINE)
        is not None
    )


def chosen_specs(folder: Path, text: str) -> list[str]:
    """The specs that `spec=` names: one, `a,b`, `all`, or patterns as a shell's; each once.

    A name alone is returned whether there is such a spec or not: what uses it says so. BuildError
    for several of which one is none.
    """
    parts = text.split(",")
    if len(parts) == 1 and (not _pattern(text) or is_spec(folder, text)):
        return [text]
    names = spec_names(folder)
    found: dict[str, None] = {}
    for part in parts:
        these = [part] if part in names else []
        if not these and _pattern(part):
            these = fnmatch.filter(names, "*" if part == "all" else part)
        if not these:
            meant = near(part, names)
            raise BuildError(
                f"spec={printable(text)}: {short(part)!r} is no spec here",
                (f"did you mean {meant}? " if meant else "")
                + (f"specs here: {', '.join(names)}" if names else f"there is none in {folder}/"),
            )
        found |= dict.fromkeys(these)
    return list(found)


def _pattern(text: str) -> bool:
    return text == "all" or any(sign in text for sign in "*?[")


def find_spec(folder: Path, name: str) -> Path:
    """The file of a spec; BuildError lists the good names for a bad one."""
    if is_spec(folder, name):
        return folder / f"{name}.yaml"
    names = spec_names(folder)
    listing = f"specs here: {', '.join(names)}" if names else f"there is no spec in {folder}/"
    if not name:
        raise BuildError("no spec is named", f"add spec=NAME; {listing}")
    shown = printable(name)
    raise BuildError(
        f"{folder}/{shown}.yaml: there is no such spec", _meant(folder, shown, names) + listing
    )


def _meant(folder: Path, name: str, names: Sequence[str]) -> str:
    """What is to be done where no spec has this name, as the beginning of a hint."""
    stem = re.sub(r"\.(ya?ml|json|lock)$", "", name.rpartition("/")[2])
    if stem in names and stem != name:
        return f"did you mean spec={stem}? "
    for suffix in (".yml", ".json"):
        other = folder / f"{stem}{suffix}"
        if len(stem) < NAME_LIMIT and os.path.isfile(other):
            return f"{other} is there: rename it to {stem}.yaml. "
    meant = near(name, names)
    return f"did you mean spec={meant}? " if meant else ""


def load_spec(
    path: Path,
    *,
    schema: Path,
    validated: Path | None = None,
    given: Given | None = None,
    name: str = "",
) -> Spec:
    """Read, check and return a spec, with what it includes and the variant that is `given`.

    `name` is the spec's, if it is not just its file's. `validated` is a folder that remembers by
    digest which texts passed the schema: importing jsonschema would take longer than all the rest
    of a build that has nothing to do. Raises BuildError with file, path in the document and what
    was expected.
    """
    given = given or Given()
    name = name or path.stem
    specs = path.parents[name.count("/")]
    whole, made_of = compose(path, given, [specs])
    rules = read_schema(schema)
    stamp: Path | None = None
    if validated is not None:
        stamp = validated / hashlib.sha256(made_of + b"\0" + rules).hexdigest()
    if stamp is None or not safe.noted(stamp):
        validate(whole, rules, where=schema)
        if stamp is not None:
            # Who may only read this checkout; a full disk; something else in the folder's place.
            with contextlib.suppress(OSError):
                safe.note(stamp)
    try:
        full = f"{name}-{given.variant}" if given.variant else name
        spec = Values(path=path, name=full, document=whole.values, given=whole.names).spec()
        check_spec(spec)
        check_disks(spec)
        check_exports(spec)
    except BuildError as error:
        raise error.retold(short) from error
    return spec
