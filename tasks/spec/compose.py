"""One document of several: included parts, a variant, and values for `${names}`.

    common/debian.yaml ─┐
    common/users.yaml ──┼─→ lists append, maps merge, the later one wins ─→ variant ─→ ${names}
    web.yaml ───────────┘

It works on YAML's nodes, so that each value keeps the file and line that it was written on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BuildError
from . import document
from .document import DEPTH_LIMIT, TAG, Document
from .filling import at, filled_nodes, values_of
from .names import NAME
from .words import near, printable

FILE_LIMIT = 100
"""Files that a spec may be made of."""

_MARKED = re.compile(rb"\$\$\{|\$\{(?!(?:security_|snapshot_)?mirror\})|\\(x24|u0024|U00000024)")
"""What may be a name in `${}` that is not the host's, in a spec's bytes."""

BYTES_LIMIT = 4 * document.SIZE_LIMIT
"""Of all of them: PyYAML needs a second for a quarter of it."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the command line says of a spec: its variant, and values for its names."""

    variant: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)


def compose(path: Path, given: Given, folders: Sequence[Path]) -> tuple[Document, bytes]:
    """The whole spec of a file, and all that it was made of, for a digest.

    Included files are looked for beside the one that names them, then in `folders`. Raises
    BuildError, with the chain of files, for an include that is missing or includes itself, for a
    variant that there is not, and for a name in `${}` that nothing gives a value.
    """
    read = _Read(folders=folders, seen={path.resolve()})
    found, whole = _gathered(path, (), read)
    raw = read.raw
    plain = whole is None and not {"vars", "variants"} & found.values.keys()
    if plain and given == Given() and not _MARKED.search(raw[0]):
        return found, raw[0]  # nothing but itself, as it was written
    node: Any = found.node if whole is None else whole
    fields = _fields(node)
    variants = _section(path, fields, "variants")
    variables = _section(path, fields, "vars")
    if given.variant or variants:
        node = _varied(path, node, variants, given.variant)
        variables = _section(path, _fields(node), "vars")
    values = values_of(path, variables, given.variables)
    node, changed = filled_nodes(node, values)
    if plain and not changed:
        return found, raw[0]
    node = _without(node, ("include", "vars", "variants"))
    loader = document.loader(path, b"")
    built = loader.construct_document(node)
    document.check_size(path, built)
    stamp = b"\0".join([*raw, repr((given.variant, sorted(values.items()))).encode()])
    return Document(path=path, values=built, node=node, names=values), stamp


def variants_of(path: Path, specs: Path) -> list[str]:
    """The names of the variants of a spec in the folder `specs`, none where it cannot be read."""
    try:
        found, whole = _gathered(path, (), _Read(folders=[specs], seen={path.resolve()}))
        node = found.node if whole is None else whole
        return sorted(_section(path, _fields(node), "variants"))
    except BuildError:
        return []


# ---------------------------------------------------------------- include


@dataclass(kw_only=True)
class _Read:
    """What was read so far: each file's bytes, where it truly is, and how many values there are."""

    folders: Sequence[Path]
    seen: set[Path]
    raw: list[bytes] = field(default_factory=list)
    values: int = 0


def _gathered(path: Path, chain: tuple[Path, ...], read: _Read) -> tuple[Document, Any | None]:
    """A file, and its node with what it includes below it; None for a spec without any include.

    A file that two others include counts once, where it came first.
    """
    text = document.read_text(path)
    read.raw.append(text)
    if len(read.raw) > FILE_LIMIT or sum(map(len, read.raw)) > BYTES_LIMIT:
        raise BuildError(
            f"{path}: more than {FILE_LIMIT} files or {BYTES_LIMIT} bytes are "
            f"included{_told(chain)}"
        )
    found = document.parse(path, text, part=bool(chain))
    if chain:
        read.values += document.check_size(path, found.values)
        if read.values > document.NODE_LIMIT:
            raise BuildError(
                f"{path}: with it, more than {document.NODE_LIMIT} values are "
                f"included{_told(chain)}"
            )
    pair = _fields(found.node).get("include")
    if pair is None:
        return found, None if not chain else _flat(found.node)
    names = found.values["include"]
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise BuildError(
            f"{at(pair[0])}: include: expected a list of files",
            "as in: include: [common/debian.yaml]",
        )
    if len(names) > FILE_LIMIT:
        raise BuildError(f"{at(pair[0])}: include: more than {FILE_LIMIT} files")
    node: Any = None
    above = {one.resolve() for one in (*chain, path)}
    for number, name in enumerate(names):
        part = _found(name, path, read.folders)
        here = f"{path}: include[{number}]: {printable(name)}"
        if part is not None and not _inside(part, read.folders):
            raise BuildError(
                f"{here}: it is outside the project{_told(chain)}",
                "copy it, or mount it there: a project is built elsewhere, too",
            )
        if part is None or not part.is_file():
            raise BuildError(
                f"{here}: there is no such file{_told(chain)}",
                "paths are relative to the file that includes, and to specs/",
            )
        truly = part.resolve()
        if truly in above:
            raise BuildError(
                f"{here}: it includes itself{_told((*chain, path))}", "remove one of the includes"
            )
        if truly in read.seen:
            continue
        read.seen.add(truly)
        _part, below = _gathered(part, (*chain, path), read)
        node = below if node is None else merged(node, below)
    own = _flat(found.node)
    return found, own if node is None else merged(node, own)


def _told(chain: Sequence[Path]) -> str:
    names = [str(one) for one in chain]
    names[3:-3] = ["…"] if names[7:] else names[3:-3]
    return f" (by way of {' → '.join(names)})" if names else ""


def _found(name: str, path: Path, folders: Sequence[Path]) -> Path | None:
    beside = (folder / name for folder in (path.parent, *folders))
    return next((one for one in beside if os.path.lexists(one)), None)


def _inside(part: Path, folders: Sequence[Path]) -> bool:
    """Whether a file is in the project, links followed; root reads no other one for a spec."""
    try:
        return part.resolve().is_relative_to(folders[0].resolve().parent)
    except (OSError, RuntimeError):
        return False


# ---------------------------------------------------------------- nodes


def _fields(node: Any) -> dict[str, tuple[Any, Any]]:
    """The entries of a mapping, what its merge keys bring included."""
    return {pair[0].value: pair for pair in _flat(node, deep=False).value}


def _section(path: Path, fields: Mapping[str, tuple[Any, Any]], name: str) -> dict[str, Any]:
    """The entries of `vars` or `variants`, by their names."""
    if name not in fields:
        return {}
    key, node = fields[name]
    if node.tag != TAG + "map":
        raise BuildError(f"{at(key)}: {name}: expected a mapping", f"as in: {name}: {{a: …}}")
    found = {}
    for key, value in _flat(node, deep=False).value:
        if not NAME.fullmatch(key.value.replace("-", "_")) or (name == "vars" and "-" in key.value):
            raise BuildError(
                f"{at(key)}: {name}.{printable(key.value)}: expected a name",
                "letters, digits and _, not beginning with a digit",
            )
        found[key.value] = value
    return found


def _flat(
    node: Any,
    depth: int = 0,
    *,
    deep: bool = True,
    known: dict[tuple[int, bool], Any] | None = None,
) -> Any:
    """The same with what `<<` merges written out: own entries win, then the first of several.

    What several aliases name is `known` by then, and stays one node: each is gone through once.
    """
    import yaml

    if depth > DEPTH_LIMIT:
        raise BuildError(f"{at(node)}: nested deeper than {DEPTH_LIMIT} levels")
    known = {} if known is None else known
    if (id(node), deep) in known:
        return known[id(node), deep]
    if isinstance(node, yaml.SequenceNode):
        items = [_flat(one, depth + 1, known=known) for one in node.value] if deep else node.value
        made: Any = yaml.SequenceNode(node.tag, items, node.start_mark, node.end_mark)
        known[id(node), deep] = made
        return made
    if not isinstance(node, yaml.MappingNode):
        return node
    own: dict[str, tuple[Any, Any]] = {}
    other: dict[str, tuple[Any, Any]] = {}
    for key, value in node.value:
        if key.tag == TAG + "merge":
            for one in [value] if isinstance(value, yaml.MappingNode) else value.value:
                for pair in _flat(one, depth + 1, deep=False, known=known).value:
                    other.setdefault(pair[0].value, pair)
        else:
            own[key.value] = (key, value)
    pairs = [
        (key, _flat(value, depth + 1, known=known) if deep else value)
        for key, value in {**other, **own}.values()
    ]
    made = yaml.MappingNode(node.tag, pairs, node.start_mark, node.end_mark)
    known[id(node), deep] = made
    return made


SETS = ("packages", "debs", "include", "reads", "direct", "groups", "ssh_keys", "enable", "disable",
        "mask", "units", "overlays", "remove", "locales", "firmware", "ports")  # fmt: skip
"""Lists of which an item counts once: in others, such as a mkfs's words, each one counts."""


def merged(lower: Any, upper: Any, name: str = "") -> Any:
    """Two flat nodes of a field as one: maps merge, lists append, else the upper one wins."""
    import yaml

    if isinstance(lower, yaml.MappingNode) and isinstance(upper, yaml.MappingNode):
        pairs = {key.value: (key, value) for key, value in lower.value}
        for key, value in upper.value:
            if key.value in pairs:
                value = merged(pairs[key.value][1], value, key.value)
            pairs[key.value] = (key, value)
        return yaml.MappingNode(upper.tag, list(pairs.values()), upper.start_mark, upper.end_mark)
    if isinstance(lower, yaml.SequenceNode) and isinstance(upper, yaml.SequenceNode):
        if name in NAMED:
            return _by_name(lower, upper)
        texts = [one for one in lower.value if isinstance(one, yaml.ScalarNode)]
        there = {one.value for one in texts} if name in SETS else set()
        more = [
            one
            for one in upper.value
            if not (isinstance(one, yaml.ScalarNode) and one.value in there)
        ]
        items = [*lower.value, *more]
        return yaml.SequenceNode(upper.tag, items, upper.start_mark, upper.end_mark)
    # `admin:` says nothing of it: what the part below says of it stays.
    nothing = upper.tag == TAG + "null" and isinstance(lower, yaml.MappingNode)
    return lower if nothing else upper


NAMED = ("partitions",)
"""Lists of mappings of which each says its name: one that is there already is merged with it."""


def _by_name(lower: Any, upper: Any) -> Any:
    """Two lists as one: what is new in the upper one comes behind what the lower one has."""
    import yaml

    items = list(lower.value)
    numbers = {_name(one): number for number, one in enumerate(items) if _name(one)}
    for one in upper.value:
        number = numbers.get(_name(one))
        if number is None:
            items.append(one)
        else:
            items[number] = merged(items[number], one)
    return yaml.SequenceNode(upper.tag, items, upper.start_mark, upper.end_mark)


def _name(node: Any) -> str:
    """The `name` that a mapping says, "" for what says none."""
    fields = _fields(node) if node.tag == TAG + "map" else {}
    return str(fields["name"][1].value) if "name" in fields else ""


def _without(node: Any, names: Sequence[str]) -> Any:
    import yaml

    pairs = [pair for pair in _flat(node, deep=False).value if pair[0].value not in names]
    return yaml.MappingNode(node.tag, pairs, node.start_mark, node.end_mark)


# ---------------------------------------------------------------- variants


def _no_variant(path: Path, name: str, variants: Mapping[str, Any]) -> BuildError:
    meant = near(name, variants)
    return BuildError(
        f"{path}: variant={printable(name)}: there is no such variant",
        (f"did you mean {meant}? " if meant else "")
        + (f"variants: {', '.join(variants)}" if variants else "the spec has none: leave it out"),
    )


def _varied(path: Path, node: Any, variants: Mapping[str, Any], name: str) -> Any:
    """The spec with one variant merged over it."""
    if not name:
        return node
    if name not in variants:
        raise _no_variant(path, name, variants)
    over = variants[name]
    if over.tag != TAG + "map":
        raise BuildError(f"{at(over)}: variants.{name}: expected a mapping of a spec's fields")
    for field_name in ("include", "variants"):
        if field_name in _fields(over):
            raise BuildError(f"{at(over)}: variants.{name}.{field_name}: not in a variant")
    return merged(_flat(node), _flat(over))
