"""A spec's YAML, checked against the schema, as frozen dataclasses."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tasks.errors import BuildError
from tasks.mkfs import check_options

SIZE_LIMIT = 1 << 18
"""Bytes of a spec: PyYAML reads no more than that in a second."""
NODE_LIMIT = 100_000
"""Values of a document with its aliases written out, or 64 characters each: what stops a bomb."""
DEPTH_LIMIT = 50
MESSAGE_LIMIT = 400
"""Characters of what is said of a value."""

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
        return any((self.hostname, self.timezone, self.locale, self.root_password,
                    self.hashed_root_password, self.apt_sources))  # fmt: skip


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
            _package, _question, kind, *value = line.split(None, 3)
            # A shorter one is no secret, and its letters are in every word.
            if kind == "password" and value and len(value[0]) > 3:
                found.add(value[0])
        return tuple(sorted((text for text in found if text), key=len, reverse=True))


def _architecture(package: str) -> str:
    return re.split(r"[=/]", package)[0].rstrip("+-").partition(":")[2]


def address_secrets(uri: str) -> set[str]:
    """The user and password of an address, as written: what must not be shown."""
    found: set[str] = set()
    netloc = re.sub(r"^[A-Za-z]+://", "", uri).partition("/")[0]
    if "@" in netloc:
        userinfo = netloc.rpartition("@")[0]
        found |= {userinfo, userinfo.partition(":")[2]}
    return found - {""}


def parses(uri: str) -> bool:
    """Whether an address has a host, and a port, that can be."""
    try:
        return urlsplit(uri).port != 0
    except ValueError:
        return False


def masked(text: str, secrets: tuple[str, ...] = ()) -> str:
    """text without these secrets and without the user and password of any address."""
    for secret in secrets:
        text = text.replace(secret, "***")
    # To the last @ before a slash: a password may hold one.
    return re.sub(r"(?<![A-Za-z])([A-Za-z]+://)[^/\s'\"]+@", r"\1***@", text)


def spec_names(folder: Path) -> list[str]:
    """Names of the specs in a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def find_spec(folder: Path, name: str) -> Path:
    """The file of a spec; BuildError lists the good names for a bad one."""
    names = spec_names(folder)
    listing = f"specs here: {', '.join(names)}" if names else f"there is no spec in {folder}/"
    if not name:
        raise BuildError("no spec is named", f"add spec=NAME; {listing}")
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        meant = f"did you mean spec={near[0]}? " if near else ""
        raise BuildError(f"{folder}/{name}.yaml: there is no such spec", meant + listing)
    return folder / f"{name}.yaml"


def load_spec(path: Path, *, schema: Path, validated: Path | None = None) -> Spec:
    """Read, check and return a spec.

    `validated` is a folder that remembers by digest which texts passed the schema: importing
    jsonschema would take longer than all the rest of a build that has nothing to do.
    Raises BuildError with file, path in the document and what was expected.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise BuildError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > SIZE_LIMIT:
        raise BuildError(f"{path}: larger than {SIZE_LIMIT} bytes", "this is no spec")
    document = _parse(path, raw)
    stamp: Path | None = None
    if validated is not None:
        digest = hashlib.sha256(raw + b"\0" + schema.read_bytes()).hexdigest()
        stamp = validated / digest
    if stamp is None or not os.path.lexists(stamp):
        _validate(path, document, schema, raw)
        if stamp is not None:
            # Who may only read this checkout; a full disk; something else in the folder's place.
            with contextlib.suppress(OSError):
                stamp.parent.mkdir(parents=True, exist_ok=True)
                stamp.touch()
    spec = _build(path, document)
    try:
        _check(spec)
    except BuildError as error:
        raise BuildError(_short(error.message), error.hint) from error
    return spec


def _short(text: str) -> str:
    """text without its middle if it is long: a value in it may be."""
    half = MESSAGE_LIMIT // 2
    return text if len(text) <= MESSAGE_LIMIT else f"{text[:half]} ... {text[-half:]}"


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """SafeLoader that refuses a key that stands twice."""

    def refuse(node: yaml.Node, what: str) -> BuildError:
        mark = node.start_mark
        return BuildError(f"{path}:{mark.line + 1}:{mark.column + 1}: {what}")

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _value in node.value:
            key = loader.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise refuse(key_node, f"key {key!r} is not a string")
            if key in seen:
                raise refuse(key_node, f"{key!r} stands twice: remove or rename one of them")
            seen.add(key)
        return {
            loader.construct_object(key, deep=True): loader.construct_object(value, deep=True)
            for key, value in node.value
        }

    # What could not be written again, in UTF-8, in JSON or in a message.
    def text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
        value = str(loader.construct_scalar(node))
        if _SURROGATE.search(value):
            raise refuse(node, "half of a character (a surrogate)")
        return value

    def integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
        value = loader.construct_yaml_int(node)
        if abs(value) >= 1 << 63:
            raise refuse(node, "a number of more than 63 bits")
        return value

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    Loader.add_constructor("tag:yaml.org,2002:str", text)
    Loader.add_constructor("tag:yaml.org,2002:int", integer)
    try:
        document = yaml.load(raw, Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise BuildError(f"{path}{where}: not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise BuildError(f"{path}: not YAML: {first}") from error
    if not isinstance(document, dict):
        raise BuildError(f"{path}: expected a mapping with `repos` and `images`")
    count = 0
    for depth, weight in _depths(document):
        count += weight
        if count > NODE_LIMIT:
            raise BuildError(f"{path}: more than {NODE_LIMIT} values with its aliases written out")
        if depth > DEPTH_LIMIT:
            raise BuildError(f"{path}: nested deeper than {DEPTH_LIMIT} levels")
    return document


_SURROGATE = re.compile(r"[\ud800-\udfff]")


def _depths(value: Any, depth: int = 0) -> Iterator[tuple[int, int]]:
    """How deep each value lies, and how many values it counts for: a long string for several."""
    yield depth, 1 + len(value) // 64 if isinstance(value, str) else 1
    children = value.values() if isinstance(value, dict) else value
    if isinstance(value, (dict, list)):
        for child in children:
            yield from _depths(child, depth + 1)


def _validate(path: Path, document: dict[str, Any], schema: Path, raw: bytes) -> None:
    import jsonschema
    from jsonschema.exceptions import best_match, relevance

    def pattern(
        _validator: Any, wanted: str, instance: Any, _schema: Any
    ) -> Iterator[jsonschema.ValidationError]:
        # As the schema's own regular expressions, ECMA's: their `$` lets no newline through.
        if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", wanted), instance):
            yield jsonschema.ValidationError(f"{instance!r} does not match {wanted!r}")

    types = jsonschema.Draft7Validator.TYPE_CHECKER.redefine(
        "integer",  # 1.0 is none here: sizes go to truncate(2), priorities to apt's text
        lambda _checker, value: isinstance(value, int) and not isinstance(value, bool),
    )
    checker = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
        jsonschema.Draft7Validator, {"pattern": pattern}, type_checker=types
    )
    errors = list(checker(json.loads(schema.read_text(encoding="utf-8"))).iter_errors(document))
    if not errors:
        return
    error = best_match(errors, key=relevance)
    assert error is not None
    steps = [str(step) for step in error.absolute_path]
    where = re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", ".".join(steps))
    message = error.message
    hint = str(error.schema.get("description", "")) if isinstance(error.schema, dict) else ""
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        unknown = sorted(set(error.instance) - set(known))
        near = difflib.get_close_matches(unknown[0], known, 1)
        message = "unknown field" + ("s " if unknown[1:] else " ") + ", ".join(map(repr, unknown))
        hint = f"did you mean {near[0]!r}?" if near else f"fields here: {', '.join(known)}"
    elif error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        message = "missing field " + ", ".join(map(repr, missing))
    elif error.validator == "not":
        message = f"only one of {' and '.join(error.validator_value['required'])} may be given"
    if any("password" in step for step in steps):
        message = f"not of the form {error.schema.get('pattern', 'expected')}"
    # It parses the text once more, which takes as long again.
    line = _line(raw, list(error.absolute_path)) if len(raw) < 1 << 16 else None
    at = f" (line {line})" if line else ""
    message = f"{_short(where)}: {_short(masked(message))}" if where else _short(masked(message))
    raise BuildError(f"{path}: {message}{at}", hint)


def _line(raw: bytes, steps: list[Any]) -> int | None:
    """The line on which the value at these steps begins."""
    import yaml

    node: Any = yaml.compose(raw, yaml.SafeLoader)
    line: int | None = None
    for step in steps:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == step), None)
            if pair is None:
                return line
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def _size(value: str | int | None) -> int | None:
    if value is None or isinstance(value, int):
        return value
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(value[:-1]) * units[value[-1]] if value[-1] in units else int(value)


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
                owner=fields.get("owner", "root:root"),
                mode=int(fields["mode"], 8) if "mode" in fields else None,
            ))  # fmt: skip
        return Layer(
            name=entry["name"],
            packages=tuple(entry.get("packages", ())),
            debconf=tuple(entry.get("debconf", ())),
            files=tuple(files),
            script=find(entry["script"]) if "script" in entry else None,
        )

    base = document.get("base", {})
    layers = [layer(entry) for entry in document.get("layers", ())]
    if document.get("packages") or document.get("debconf"):
        first = {"name": "packages", "packages": document.get("packages", ()),
                 "debconf": document.get("debconf", ())}  # fmt: skip
        layers.insert(0, layer(first))
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
        for wanted in (*layer.debconf,):
            if len(wanted.split(None, 3)) < 3:
                raise BuildError(
                    f"{path}: debconf: {wanted!r} is not `PACKAGE QUESTION TYPE VALUE`"
                )
        for file in layer.files:
            if ".." in file.target.split("/") or "//" in file.target:
                raise BuildError(f"{path}: layers.{layer.name}.files: {file.target!r} is no plain "
                                 "absolute path")  # fmt: skip
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
        if not parses(repo.uri):
            raise BuildError(
                f"{path}: repos.{repo.name}.uri: {masked(repo.uri)!r} is no address",
                "a host of IPv6 stands in brackets: http://[::1]:8080/debian",
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
            if size is not None and size > LARGEST:
                raise BuildError(f"{where}.{name}: larger than {LARGEST >> 40} TiB")
        if image.pack == "direct" and image.format not in EXT:
            raise BuildError(f"{where}.pack: direct works for ext2, ext3 and ext4 only")
        if len(image.label) > LABEL_LENGTH[image.format]:
            raise BuildError(
                f"{where}.label: {image.format} takes {LABEL_LENGTH[image.format]} characters"
            )
        if image.uuid and (len(image.uuid) == 9) != (image.format == "vfat"):
            raise BuildError(f"{where}.uuid: {image.uuid!r} is not of {image.format}'s form")
        check_options(image.options, image.format, f"{where}.options")
