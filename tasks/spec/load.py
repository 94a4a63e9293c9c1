"""A spec's file, found, read and checked, as the model."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import BuildError
from ..host import safe
from . import debconf, document
from .compose import Given, compose
from .machine import groups_of, overlays_of, scripts_of, services_of, unit_files, users_of
from .model import SETTINGS, Base, File, Image, Layer, Repo, Settings, Spec, project_of
from .moments import timestamp
from .rules import NAME_LIMIT, PATH_LIMIT, VERSION, check_spec, check_version, places
from .schema import read_schema, validate
from .words import field_of_layer, near, printable, short

OF_PACKAGES = ("packages", "debs", "debconf", "debconf_file", "groups", "users", "overlays",
               "files", "units", "services", "script", "scripts", "env")  # fmt: skip
"""Fields of a layer that may stand at the top of a spec, for the layer `packages`."""

SCHEMA = Path(__file__).with_name("spec.schema.json")
"""The schema that comes with Strata; in its checkout a link to the one in specs/."""

UNITS = {"": 1, **{letter: 1 << 10 * power for power, letter in enumerate("KMGT", 1)},
         **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}}  # fmt: skip
"""As truncate(1) reads them; KiB is K."""


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
    return re.search(rb"""^[ {]*["']?images["']?\s*:""", text, re.MULTILINE) is not None


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
        spec = _build(
            path, whole.values, f"{name}-{given.variant}" if given.variant else name, whole.names
        )
        check_spec(spec)
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


def _moment(path: Path, repo: Mapping[str, Any]) -> str:
    try:
        return timestamp(repo["snapshot"])
    except (ValueError, OverflowError) as error:
        raise BuildError(
            f"{path}: repos.{repo['name']}.snapshot: {str(repo['snapshot'])!r} is no date: {error}",
            "as 2026-11-20, or in UTC 2026-11-20T06:00:00Z",
        ) from error


def _words(value: str | list[str]) -> tuple[str, ...]:
    return tuple(shlex.split(value) if isinstance(value, str) else value)


def _inline(entry: Mapping[str, Any]) -> list[str]:
    """The answers that stand in a spec itself."""
    return [line for item in entry.get("debconf", ()) for _, line in debconf.answers(item)]


def _build(path: Path, document: dict[str, Any], name: str, values: Mapping[str, str]) -> Spec:
    folder = path.parent
    settings = {one: str(document[one]) for one in SETTINGS if document.get(one)}
    names = {"spec": name, "arch": document.get("arch", "amd64"), **settings, **values}
    version = document.get("version", "")
    late = version in ("", "git", "date")

    def find(name: str) -> Path:
        given = Path(name)
        if given.is_absolute():
            return given
        inside = folder / given
        return inside if os.path.lexists(inside) else _beside(folder, given)

    def debconf_files(entry: Mapping[str, Any]) -> dict[str, str]:
        given = entry.get("debconf_file", ())
        found: dict[str, str] = {}
        for one in [given] if isinstance(given, str) else given:
            source = find(one)
            where = field_of_layer(path, entry["name"], "debconf_file")
            if entry["name"] == "base":
                where = f"{path}: base.debconf_file"
            for line, place in debconf.from_file(
                source,
                project_of(path, name),
                where=where,
                hint=short(places(source, path)),
            ).items():
                found.pop(line, None)  # what is said last counts
                found[line] = place
        return found

    def layer(entry: Mapping[str, Any]) -> Layer:
        files = []
        for target, value in sorted(entry.get("files", {}).items()):
            fields = {"source": value} if isinstance(value, str) else value
            files.append(
                File(
                    target=target,
                    source=next(
                        (find(fields[kind]) for kind in ("source", "template") if kind in fields),
                        None,
                    ),
                    names=names if "template" in fields else None,
                    content=fields.get("content"),
                    owner=_owner(fields.get("owner", "root:root")),
                    owned="owner" in fields,
                    mode=int(fields["mode"], 8) if "mode" in fields else None,
                )
            )
        where = field_of_layer(path, entry["name"], "")
        answers = debconf_files(entry)
        return Layer(
            name=entry["name"],
            packages=tuple(entry.get("packages", ())),
            debs=tuple(entry.get("debs", ())),
            debconf=(*answers, *_inline(entry)),
            debconf_from=answers,
            groups=groups_of(entry),
            users=users_of(entry, find),
            overlays=overlays_of(entry, find, _owner),
            files=(*files, *unit_files(entry, find, where)),
            services=services_of(entry),
            scripts=scripts_of(entry, find, names, where),
            remove=tuple(entry.get("remove", ())),
            reads=tuple(entry["reads"]) if "reads" in entry else None,
        )

    base = document.get("base", {})
    base_answers = debconf_files({"name": "base", **base})
    layers = [layer(entry) for entry in document.get("layers", ())]
    named = {name: document[name] for name in OF_PACKAGES if document.get(name)}
    if named:
        first = {**named, **({"reads": document["reads"]} if "reads" in document else {})}
        layers.insert(0, layer({"name": "packages", **first}))
    elif "reads" in document:
        raise BuildError(
            f"{path}: reads: it is of the layer `packages`, and there is none",
            "put it into the layer that it is of",
        )
    proxies = document.get("proxies", {})
    check_version(path, version, values)
    return Spec(
        name=name,
        path=path,
        arch=document.get("arch", "amd64"),
        base=Base(
            tool=base.get("tool", "mmdebstrap"),
            variant=base.get("variant", "minbase"),
            include=tuple(base.get("include", ())),
            debconf=(*base_answers, *_inline(base)),
            debconf_from=base_answers,
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
                check_valid_until=repo.get("check_valid_until", "snapshot" not in repo),
                check_rollback=repo.get("check_rollback", True),
                pins=tuple(
                    (" ".join(pin["packages"].split()), pin["priority"])
                    for pin in repo.get("pins", ())
                ),
                meta=repo.get("meta"),
                snapshot=_moment(path, repo) if "snapshot" in repo else "",
            )
            for repo in document["repos"]
        ),
        layers=tuple(layers),
        recommends=document.get("recommends", False),
        allow_network=document.get("allow_network", False),
        settings=Settings(
            hostname=document.get("hostname", ""),
            timezone=document.get("timezone", ""),
            locale=document.get("locale", ""),
            root_password=document.get("root_password", ""),
            hashed_root_password=document.get("hashed_root_password", ""),
            apt_sources=document.get("apt_sources", False),
            locales=tuple(document.get("locales", ())),
            fstab=document.get("fstab"),
            ssh_host_keys=document.get("ssh_host_keys", ""),
            version=version,
            remove=tuple(document.get("remove", ())),
            docs=document.get("docs", True),
        ),
        proxies={key: proxies[key] for key in ("http", "https") if key in proxies},
        direct=tuple(proxies.get("direct", ())),
        images=tuple(
            Image(
                mount=mount,
                file=image["file"] if late else image["file"].replace(VERSION, version),
                format=image["format"],
                container=image.get("container", "gzip"),
                level=image.get("level", "default"),
                pack=image.get("pack", "loop"),
                label=image.get("label", ""),
                uuid=image.get("uuid", "").lower(),
                options=_words(image.get("options", "")),
                size=_size(image.get("size")),
                free=_size(image.get("free")),
                max_size=_size(image.get("max_size")),
            )
            for mount, image in sorted(document["images"].items())
        ),
    )


def _beside(folder: Path, given: Path) -> Path:
    other = folder.parent / given
    return other if os.path.lexists(other) else folder / given
