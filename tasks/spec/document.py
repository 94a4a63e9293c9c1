"""A spec's text → values, each with its place."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BuildError
from ..host import safe
from .words import short

if TYPE_CHECKING:
    import yaml


SIZE_LIMIT = 1 << 18
"""Bytes of a spec: PyYAML reads no more than that in a second."""


NODE_LIMIT = 100_000
"""Values of a document with its aliases written out, or 64 characters each: what stops a bomb."""


DEPTH_LIMIT = 50

TAG = "tag:yaml.org,2002:"

READ_AS = {"bool": "true or false", "int": "a number", "float": "a number",
           "timestamp": "a date", "null": "nothing at all"}  # fmt: skip
"""What YAML 1.1 takes a word for that is not in quotes, by its tag."""


Index = dict[int, dict[str, tuple[Any, Any]]]
"""Of mappings' nodes, by id(): their entries by name."""


_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Document:
    """A spec's file as values, and as the nodes that know how and where each was written."""

    path: Path
    values: dict[str, Any]
    node: yaml.Node
    names: Mapping[str, str] = field(default_factory=dict)
    """What its `${names}` stand for."""

    def find(
        self, steps: Sequence[Any], index: Index | None = None
    ) -> tuple[yaml.Node | None, int | None]:
        """(the node at these steps, the line on which it or what holds it begins).

        Who asks for thousands gives an `index`, empty at first, so that none is looked for in all.
        """
        node: Any = self.node
        line: int | None = None
        for step in steps:
            pair = None
            if index is not None and isinstance(step, str) and isinstance(node.value, list):
                if id(node) not in index:
                    index[id(node)] = _named(node)
                pair = index[id(node)].get(step)
            pair = pair or _entry(node, step)
            if pair is None:
                return None, line
            line, node = pair[0].start_mark.line + 1, pair[1]
        return node, line

    def file(self, steps: Sequence[Any]) -> str:
        """The file that the value at these steps, or what holds it, was written in."""
        while True:
            node, _line = self.find(steps)
            if node is not None or not steps:
                # A merged mapping is of several files: what matters is where its field stands.
                pair = None
                if steps:
                    above, _line = self.find(steps[:-1])
                    pair = _entry(above, steps[-1])
                return str((pair[0] if pair else node or self.node).start_mark.name)
            steps = steps[:-1]


def _named(node: Any) -> dict[str, tuple[Any, Any]]:
    """The entries of a mapping by their names, without what merge keys bring."""
    return {
        pair[0].value: pair
        for pair in node.value
        if isinstance(pair, tuple) and pair[0].tag != TAG + "merge"
    }


def _entry(node: Any, step: Any, depth: int = 0) -> tuple[Any, Any] | None:
    """(the node that begins an entry, its value) of a mapping or list; `<<` is looked through."""
    if isinstance(step, int):
        values = node.value if isinstance(node.value, list) else []
        return (values[step], values[step]) if step < len(values) else None
    if not isinstance(node.value, list) or depth > DEPTH_LIMIT:
        return None
    merged: list[Any] = []
    for pair in node.value:
        if not isinstance(pair, tuple):
            return None
        if pair[0].tag == TAG + "merge":
            single = any(isinstance(one, tuple) for one in pair[1].value)
            merged += [pair[1]] if single else pair[1].value
        elif pair[0].value == step:
            return pair
    found = (_entry(one, step, depth + 1) for one in merged)
    return next((pair for pair in found if pair), None)


# ---------------------------------------------------------------- text to values


def read_text(path: Path) -> bytes:
    """The bytes of a spec's file; BuildError when it cannot be read or is too large for one."""
    try:
        with open(safe.named(path), "rb") as file:
            raw = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise BuildError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > SIZE_LIMIT:
        raise BuildError(f"{path}: larger than {SIZE_LIMIT} bytes", "this is no spec")
    return raw


def parse(path: Path, raw: bytes, *, part: bool = False) -> Document:
    """The values of YAML 1.1 (so also of JSON), with merge keys; a key that stands twice is none.

    `part`: of a file that specs include, which need not hold what a whole spec does.

    Raises BuildError with file, line and column.
    """
    import yaml

    try:
        node = _by_libyaml(path, raw)
        reader = loader(path, b"" if node is not None else raw)
        if node is None:
            node = _only_document(path, reader)
        values = None if node is None else reader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise BuildError(
            f"{path}{where}: not YAML: {error.problem or error.context}", _remedy(error, mark)
        ) from error
    except yaml.reader.ReaderError as error:
        if error.encoding == "utf-8":
            line = raw.count(b"\n", 0, error.position) + 1
            raise BuildError(f"{path}:{line}: not UTF-8", "save it as UTF-8") from error
        raise BuildError(f"{path}: not YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise BuildError(f"{path}: nested deeper than {DEPTH_LIMIT} levels") from error
    except (yaml.YAMLError, ValueError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise BuildError(f"{path}: not YAML: {first}") from error
    if node is None or not isinstance(values, dict):
        found = "nothing" if values is None else "a list" if isinstance(values, list) else "a text"
        raise BuildError(
            f"{path}: expected a mapping of a spec's fields, found {found}"
            if part
            else f"{path}: expected a mapping with `repos` and `images`, found {found}",
            "a spec is lines of `name: value`; see the schema, specs/spec.schema.json",
        )
    check_size(path, values)
    return Document(path=path, values=values, node=node)


def _only_document(path: Path, reader: Any) -> yaml.Node | None:
    """The nodes of the one document by PyYAML's own parser, None for none; BuildError for two."""
    node: yaml.Node | None = reader.get_node() if reader.check_node() else None
    if node is not None and reader.check_node():
        mark = reader.peek_event().start_mark
        raise BuildError(
            f"{path}:{mark.line + 1}:{mark.column + 1}: a second document begins here",
            "a spec is one: remove the `---` or `...` between them",
        )
    return node


def _by_libyaml(path: Path, raw: bytes) -> yaml.Node | None:
    """The nodes of one good document by libyaml, in a tenth of PyYAML's own time.

    None where there is none, PyYAML has no libyaml, or the text has a fault or is too deep: then
    PyYAML's own parser says what is wrong with it, in the same words on each host.
    """
    import yaml

    if not hasattr(yaml, "CSafeLoader"):
        return None
    stream = io.BytesIO(raw)
    stream.name = str(path)  # marks have it
    try:
        node = yaml.compose(stream, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError):
        return None
    return node if _shallow(node) else None


def _shallow(node: yaml.Node | None) -> bool:
    """Whether no node lies deeper than DEPTH_LIMIT."""
    import yaml

    seen = set()
    left = [(node, 1)]
    while left:
        one, depth = left.pop()
        if depth > DEPTH_LIMIT + 1:
            return False
        if id(one) not in seen and isinstance(one, yaml.CollectionNode):
            seen.add(id(one))
            for child in one.value:
                left += (
                    [(part, depth + 1) for part in child]
                    if isinstance(child, tuple)
                    else [(child, depth + 1)]
                )
    return True


def check_size(path: Path, values: Any) -> int:
    """How many values there are, aliases written out; BuildError for more or deeper than fit."""
    count = 0
    for depth, weight in _depths(values):
        count += weight
        if count > NODE_LIMIT:
            raise BuildError(f"{path}: more than {NODE_LIMIT} values with its aliases written out")
        if depth > DEPTH_LIMIT:
            raise BuildError(f"{path}: nested deeper than {DEPTH_LIMIT} levels")
    return count


def _remedy(error: yaml.MarkedYAMLError, mark: Any) -> str:
    """What helps against most faults of this kind."""
    import yaml

    at = mark.buffer[mark.pointer : mark.pointer + 1] if mark and mark.buffer else ""
    if at == "\t":
        return "indent with spaces: YAML takes no tabs there"
    if isinstance(error, yaml.scanner.ScannerError):
        return "a text that holds `: ` or ` #`, or begins with a sign, stands in quotes"
    if isinstance(error, yaml.parser.ParserError):
        return "is a bracket, brace or quote not closed, or a line not indented as those beside it?"
    return ""


def loader(path: Path, raw: bytes) -> Any:
    """A loader that refuses what a spec cannot hold, and says where it stands."""
    import yaml

    class Loader(yaml.SafeLoader):
        """SafeLoader that refuses a key that stands twice, and bounds what merge keys copy."""

        copied = 0
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            # Before PyYAML goes down to where Python's stack ends, which takes a second.
            self.depth += 1
            if self.depth > DEPTH_LIMIT + 1:
                raise BuildError(f"{path}: nested deeper than {DEPTH_LIMIT} levels")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    def refuse(node: yaml.Node, what: str, hint: str = "") -> BuildError:
        mark = node.start_mark
        return BuildError(f"{path}:{mark.line + 1}:{mark.column + 1}: {what}", hint)

    def key(loader: Loader, node: yaml.Node) -> str:
        value = loader.construct_object(node, deep=True)
        if isinstance(value, str):
            return value
        if not isinstance(node, yaml.ScalarNode):
            raise refuse(node, "a key that is a list or a mapping", "keys are texts")
        kind = READ_AS.get(node.tag.removeprefix(TAG), "no text")
        kind = str(value).lower() if isinstance(value, bool) else kind
        raise refuse(
            node,
            f"the key {short(node.value)!r} is not a string: YAML reads it as {kind}",
            "put it in quotes",
        )

    def merged(loader: Loader, node: yaml.Node) -> Iterator[dict[str, Any]]:
        for one in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            value = loader.construct_object(one, deep=True)
            if not isinstance(value, dict):
                raise refuse(
                    one,
                    "`<<` takes a mapping, or a list of mappings",
                    "write `<<: *name` where `&name` stands before a mapping",
                )
            loader.copied += len(value) + 1
            if loader.copied > NODE_LIMIT:
                raise refuse(one, f"`<<` copies more than {NODE_LIMIT} values")
            yield value

    def mapping(loader: Loader, node: yaml.Node) -> dict[str, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise refuse(node, "a mapping was announced, and something else stands here")
        own: dict[str, Any] = {}
        other: dict[str, Any] = {}
        merges = 0
        for key_node, value_node in node.value:
            if key_node.tag == TAG + "merge":
                merges += 1
                if merges > 1:
                    raise refuse(key_node, "'<<' stands twice", "write `<<: [*one, *other]`")
                # Of several the first one counts: yaml.org/type/merge.html.
                for value in merged(loader, value_node):
                    for name, inherited in value.items():
                        other.setdefault(name, inherited)
                continue
            name = key(loader, key_node)
            if name in own:
                raise refuse(key_node, f"{name!r} stands twice: remove or rename one of them")
            own[name] = loader.construct_object(value_node, deep=True)
        return {**other, **own}

    # What could not be written again, in UTF-8, in JSON or in a message.
    def text(loader: Loader, node: yaml.ScalarNode) -> str:
        value = str(loader.construct_scalar(node))
        if _SURROGATE.search(value):
            raise refuse(node, "half of a character (a surrogate)")
        return value

    def integer(loader: Loader, node: yaml.ScalarNode) -> int:
        try:
            value = loader.construct_yaml_int(node)
        except ValueError:
            value = 1 << 63
        if abs(value) >= 1 << 63:
            raise refuse(node, "a number of more than 63 bits")
        return value

    def date(loader: Loader, node: yaml.ScalarNode) -> Any:
        try:
            return loader.construct_yaml_timestamp(node)
        except ValueError as error:
            raise refuse(
                node,
                f"YAML reads {short(node.value)!r} as a date, and there is none such",
                "put it in quotes",
            ) from error

    def other_tag(loader: Loader, node: yaml.Node) -> Any:
        tag = "!!" + node.tag.removeprefix(TAG) if node.tag.startswith(TAG) else node.tag
        raise refuse(
            node,
            f"a value with the tag {short(tag)!r}",
            "a spec holds texts, numbers, true and false, lists and mappings",
        )

    for name, constructor in (
        ("map", mapping),
        ("str", text),
        ("int", integer),
        ("timestamp", date),
        ("value", text),
        ("set", other_tag),
        ("omap", other_tag),
        ("pairs", other_tag),
        ("binary", other_tag),
    ):
        Loader.add_constructor(TAG + name, constructor)
    Loader.add_constructor(None, other_tag)
    made = Loader(raw)
    # What marks say of where they are: of several files each has its own.
    made.name = str(path)
    return made


def _depths(value: Any, depth: int = 0) -> Iterator[tuple[int, int]]:
    """How deep each value lies, and how many values it counts for: a long string for several."""
    yield depth, 1 + len(value) // 64 if isinstance(value, str) else 1
    children = value.values() if isinstance(value, dict) else value
    if isinstance(value, (dict, list)):
        for child in children:
            yield from _depths(child, depth + 1)
