"""A spec's text → values that the schema allows; each fault with its place and what was expected.

What a person sees is made of the schema's words: `description`, and beside each `pattern` its
`patternErrorMessage`, which editors show, too. No message holds a regular expression.
"""

from __future__ import annotations

import difflib
import errno
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tasks.errors import BuildError

if TYPE_CHECKING:
    import yaml
    from jsonschema import ValidationError

SIZE_LIMIT = 1 << 18
"""Bytes of a spec: PyYAML reads no more than that in a second."""
NODE_LIMIT = 100_000
"""Values of a document with its aliases written out, or 64 characters each: what stops a bomb."""
DEPTH_LIMIT = 50
MESSAGE_LIMIT = 400
"""Characters of what is said of a value."""

TAG = "tag:yaml.org,2002:"
READ_AS = {"bool": "true or false", "int": "a number", "float": "a number",
           "timestamp": "a date", "null": "nothing at all"}  # fmt: skip
"""What YAML 1.1 takes a word for that is not in quotes, by its tag."""
EXPECTED = {"string": "a text", "integer": "a whole number", "number": "a number",
            "boolean": "true or false", "array": "a list", "object": "a mapping",
            "null": "null"}  # fmt: skip
"""JSON Schema's types in plain words."""

Index = dict[int, dict[str, tuple[Any, Any]]]
"""Of mappings' nodes, by id(): their entries by name."""

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_ADDRESS = re.compile(r"(?<![A-Za-z])([A-Za-z]+://)[^/\s'\"]+@")


@dataclass(frozen=True, kw_only=True)
class Document:
    """A spec's file as values, and as the nodes that know how and where each was written."""

    path: Path
    values: dict[str, Any]
    node: yaml.Node

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


def _named(node: Any) -> dict[str, tuple[Any, Any]]:
    """The entries of a mapping by their names, without what merge keys bring."""
    return {pair[0].value: pair for pair in node.value
            if isinstance(pair, tuple) and pair[0].tag != TAG + "merge"}  # fmt: skip


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


def without_users(text: str) -> str:
    """text without the user and password of any address in it."""
    # To the last @ before a slash: a password may hold one.
    return _ADDRESS.sub(r"\1***@", text)


def short(text: str) -> str:
    """text without its middle if it is long: a value in it may be."""
    half = MESSAGE_LIMIT // 2
    return text if len(text) <= MESSAGE_LIMIT else f"{text[:half]} ... {text[-half:]}"


def near(name: str, known: Iterable[str]) -> str:
    """The one of these names that was meant, or ""."""
    names = list(known)
    found = difflib.get_close_matches(name.lower().replace("-", "_"), names, 1)
    return (found or difflib.get_close_matches(name, names, 1) or [""])[0]


# ---------------------------------------------------------------- text to values


def read_text(path: Path) -> bytes:
    """The bytes of a spec's file; BuildError when it cannot be read or is too large for one."""
    try:
        with _opened(path) as file:
            raw = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise BuildError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > SIZE_LIMIT:
        raise BuildError(f"{path}: larger than {SIZE_LIMIT} bytes", "this is no spec")
    return raw


def _opened(path: Path) -> BinaryIO:
    """A regular file, which may be named by a link: a FIFO has no end, and /dev/zero neither."""
    kind = os.stat(path).st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        raise OSError(errno.ENXIO, "it is no regular file", str(path))
    return open(path, "rb")


def parse(path: Path, raw: bytes) -> Document:
    """The values of YAML 1.1 (so also of JSON), with merge keys; a key that stands twice is none.

    Raises BuildError with file, line and column.
    """
    import yaml

    try:
        loader = _loader(path, raw)
        node = loader.get_node() if loader.check_node() else None
        if node is not None and loader.check_node():
            mark = loader.peek_event().start_mark
            raise BuildError(
                f"{path}:{mark.line + 1}:{mark.column + 1}: a second document begins here",
                "a spec is one: remove the `---` or `...` between them",
            )
        values = None if node is None else loader.construct_document(node)
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
            f"{path}: expected a mapping with `repos` and `images`, found {found}",
            "a spec is lines of `name: value`; see the schema, specs/spec.schema.json",
        )
    count = 0
    for depth, weight in _depths(values):
        count += weight
        if count > NODE_LIMIT:
            raise BuildError(f"{path}: more than {NODE_LIMIT} values with its aliases written out")
        if depth > DEPTH_LIMIT:
            raise BuildError(f"{path}: nested deeper than {DEPTH_LIMIT} levels")
    return Document(path=path, values=values, node=node)


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


def _loader(path: Path, raw: bytes) -> Any:
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
        raise refuse(node, f"the key {short(node.value)!r} is not a string: YAML reads it as "
                     f"{kind}", "put it in quotes")  # fmt: skip

    def merged(loader: Loader, node: yaml.Node) -> Iterator[dict[str, Any]]:
        for one in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            value = loader.construct_object(one, deep=True)
            if not isinstance(value, dict):
                raise refuse(one, "`<<` takes a mapping, or a list of mappings",
                             "write `<<: *name` where `&name` stands before a mapping")  # fmt: skip
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
            raise refuse(node, f"YAML reads {short(node.value)!r} as a date, and there is none "
                         "such", "put it in quotes") from error  # fmt: skip

    def other_tag(loader: Loader, node: yaml.Node) -> Any:
        tag = "!!" + node.tag.removeprefix(TAG) if node.tag.startswith(TAG) else node.tag
        raise refuse(node, f"a value with the tag {short(tag)!r}",
                     "a spec holds texts, numbers, true and false, lists and mappings")  # fmt: skip

    for name, constructor in (("map", mapping), ("str", text), ("int", integer),
                              ("timestamp", date), ("value", text), ("set", other_tag),
                              ("omap", other_tag), ("pairs", other_tag),
                              ("binary", other_tag)):  # fmt: skip
        Loader.add_constructor(TAG + name, constructor)
    Loader.add_constructor(None, other_tag)
    return Loader(raw)


def _depths(value: Any, depth: int = 0) -> Iterator[tuple[int, int]]:
    """How deep each value lies, and how many values it counts for: a long string for several."""
    yield depth, 1 + len(value) // 64 if isinstance(value, str) else 1
    children = value.values() if isinstance(value, dict) else value
    if isinstance(value, (dict, list)):
        for child in children:
            yield from _depths(child, depth + 1)


# ---------------------------------------------------------------- values against the schema


def read_schema(path: Path) -> bytes:
    """The schema's text; BuildError when it is not there."""
    try:
        with _opened(path) as file:
            return file.read()
    except OSError as error:
        raise BuildError(
            f"{path}: cannot be read: {error.strerror}",
            "it says what a spec may hold: restore it from Strata's own sources",
        ) from error


def validate(document: Document, schema: bytes, *, where: Path) -> None:
    """BuildError for the first thing that the schema, of the file `where`, does not allow."""
    import jsonschema

    def broken(what: str) -> BuildError:
        return BuildError(f"{where}: {what}", "restore it from Strata's own sources")

    try:
        rules: Any = json.loads(schema)
    except ValueError as error:
        raise broken(f"no JSON: {error}") from error
    except RecursionError as error:
        raise broken("nested too deep for a schema") from error
    if not isinstance(rules, dict):
        raise broken("no schema: it is not a mapping")

    def pattern(
        _validator: Any, wanted: str, instance: Any, _schema: Any
    ) -> Iterator[ValidationError]:
        # As the schema's own regular expressions, ECMA's: their `$` lets no newline through.
        if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", wanted), instance):
            yield jsonschema.ValidationError("expected another form")

    types = jsonschema.Draft7Validator.TYPE_CHECKER.redefine(
        "integer",  # 1.0 is none here: sizes go to truncate(2), priorities to apt's text
        lambda _checker, value: isinstance(value, int) and not isinstance(value, bool),
    )
    checker = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
        jsonschema.Draft7Validator, {"pattern": pattern, "uniqueItems": _unique},
        type_checker=types,
    )  # fmt: skip
    try:
        errors = list(checker(rules).iter_errors(document.values))
    except RecursionError as error:
        raise broken("nested too deep for a schema, or it refers to itself") from error
    except Exception as error:
        # What it says is no rule: the values are a spec's, and read already.
        raise broken(f"no schema that can be read: {type(error).__name__}") from error
    if errors:
        raise _refusal(document, rules, _first(document, [_meant(error) for error in errors]))
    for steps, node in _scalars(document.node):
        # `meta` and x- are anybody's.
        free = "meta" in steps or str(steps[0]).startswith("x-")
        if not free and node.tag == TAG + "int" and not re.fullmatch(
            r"[-+]?(0|[1-9][0-9]*)", node.value
        ):  # fmt: skip
            line = node.start_mark.line + 1
            value = _plain(node)
            raise BuildError(
                f"{document.path}: {place(steps)}: YAML reads {node.value!r} as {value} "
                f"(line {line})", f"write {value} if that is meant: plain digits, no zero first"
            )  # fmt: skip


def _unique(
    _validator: Any, wanted: bool, instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    """As jsonschema's, in one pass: it compares each with each where not all are texts."""
    import jsonschema

    if wanted and isinstance(instance, list):
        texts = [json.dumps(one, sort_keys=True, default=str) for one in instance]
        if len(set(texts)) != len(texts):
            yield jsonschema.ValidationError("has non-unique elements")


def _scalars(node: Any) -> Iterator[tuple[list[Any], Any]]:
    """Each scalar that is not a key, once, with the steps to it; merge keys are no step."""
    seen: set[int] = set()
    stack: list[tuple[list[Any], Any]] = [([], node)]
    while stack:
        steps, here = stack.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        if not isinstance(here.value, list):
            yield steps, here
            continue
        for number, child in enumerate(here.value):
            if isinstance(child, tuple):
                merge = child[0].tag == TAG + "merge"
                stack.append((steps if merge else [*steps, child[0].value], child[1]))
            else:
                stack.append(([*steps, number], child))


def _plain(node: Any) -> int:
    import yaml

    return int(yaml.SafeLoader("").construct_yaml_int(node))


def _meant(error: ValidationError) -> ValidationError:
    """The fault of the choice that was meant, where a value has several: told by its type."""
    while error.context:
        choices: dict[Any, list[ValidationError]] = {}
        for one in error.context:
            choices.setdefault(one.schema_path[0], []).append(one)
        fitting = [
            faults for faults in choices.values()
            if not any(one.validator == "type" and not one.path for one in faults)
        ]  # fmt: skip
        if len(fitting) != 1:
            break
        error = min(fitting[0], key=lambda one: len(one.path))
    return error


def _first(document: Document, errors: Sequence[ValidationError]) -> ValidationError:
    """The outermost fault, an unknown name before what it makes missing, then the first line."""
    order = ("additionalProperties", "type")

    def rank(error: ValidationError) -> tuple[int, int]:
        kind = order.index(error.validator) if error.validator in order else len(order)
        return (len(error.absolute_path), kind)

    ranks = [rank(error) for error in errors]
    least = min(ranks)
    outermost = [error for error, one in zip(errors, ranks, strict=True) if one == least]
    index: Index = {}
    return min(outermost, key=lambda error: document.find(list(error.absolute_path), index)[1] or 0)


def place(steps: Sequence[Any]) -> str:
    """Steps into a document as people write them: `layers[0].files`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)[1:]


def _secret(steps: Sequence[Any]) -> bool:
    """Whether a value may hold a password, and so is not shown."""
    return any("password" in str(step) or step == "debconf" for step in steps)


def _names(error: ValidationError) -> list[str]:
    """The name that a fault is about, where it is about one and not about a value."""
    if error.validator == "additionalProperties":
        return _strangers(error)[:1]
    return [str(error.instance)] if "propertyNames" in error.absolute_schema_path else []


def _strangers(error: ValidationError) -> list[str]:
    """The fields of an object that its schema does not know."""
    rule: Any = error.schema
    given: Any = error.instance
    free = [re.compile(name) for name in rule.get("patternProperties", {})]
    return sorted(name for name in set(given) - set(rule["properties"])
                  if not any(one.search(name) for one in free))  # fmt: skip


def _refusal(document: Document, schema: Mapping[str, Any], error: ValidationError) -> BuildError:
    steps = list(error.absolute_path)
    node, line = document.find(steps)
    # Of a field's name that is wrong, its own line.
    for name in _names(error):
        line = document.find([*steps, name])[1] or line
    message, hint = _told(error, node, schema, secret=_secret(steps))
    message = short(without_users(message))
    if steps:
        message = f"{short(place(steps))}: {message}"
    at = f" (line {line})" if line else ""
    return BuildError(f"{document.path}: {message}{at}", hint or _description(schema, error))


def _told(
    error: ValidationError, node: Any, schema: Mapping[str, Any], *, secret: bool
) -> tuple[str, str]:
    """(what is wrong, the remedy if there is one better than the field's description)."""
    rule = error.schema if isinstance(error.schema, dict) else {}
    value: Any = error.instance
    wanted: Any = error.validator_value
    shown = "" if secret or isinstance(value, (dict, list)) else f"{value!r}: "
    match error.validator:
        case "additionalProperties":
            return _unknown(error, schema)
        case "type":
            return _mistyped(wanted, value, node, secret=secret)
        case "pattern" if "patternErrorMessage" in rule:
            return f"{shown}{rule['patternErrorMessage']}", ""
        case "required":
            missing = [name for name in wanted if name not in value]
            return "missing field " + ", ".join(map(repr, missing)), ""
        case "enum":
            among = ", ".join(map(str, wanted))
            meant = near(value, map(str, wanted)) if isinstance(value, str) else ""
            return f"{shown[:-2]} is not one of {among}", f"did you mean {meant!r}?" * bool(meant)
        case "oneOf" | "anyOf":
            return _choices(error, node, secret=secret)
        case "not" if "required" in wanted:
            return f"only one of {' and '.join(wanted['required'])} may be given", ""
        case "minLength" | "minItems" | "minProperties":
            return "expected at least one, found none", ""
        case "maxLength":
            return f"{shown}longer than {wanted} characters", ""
        case "minimum":
            return f"{shown}less than {wanted}", ""
        case "maximum":
            return f"{shown}more than {wanted}", ""
        case "uniqueItems":
            return "an item stands twice", "remove one of them"
    return f"{shown}{rule.get('errorMessage', 'not as the schema wants it')}", ""


def _unknown(error: ValidationError, schema: Mapping[str, Any]) -> tuple[str, str]:
    rule: Any = error.schema
    known = list(rule["properties"])
    unknown = _strangers(error)
    message = "unknown field" + ("s " if unknown[1:] else " ") + ", ".join(map(repr, unknown))
    meant = {name: near(name, known) for name in unknown[:5]}
    if any(meant.values()):
        guesses = [f"{guess!r}" + f" for {name!r}" * bool(unknown[1:])
                   for name, guess in meant.items() if guess]  # fmt: skip
        return message, f"did you mean {', '.join(guesses)}?"
    elsewhere = sorted(_holders(schema, unknown[0]))
    if elsewhere:
        return message, f"{unknown[0]!r} is a field of {' and of '.join(elsewhere)}"
    return message, f"fields here: {', '.join(known)}"


def _holders(schema: Any, name: str, where: str = "") -> set[str]:
    """What in the schema has a field of this name, as people write its place."""
    found: set[str] = set()
    if isinstance(schema, dict):
        properties = schema.get("properties", {})
        if name in properties:
            found.add(f"`{where}`" if where else "the spec itself")
        for field, inner in properties.items():
            found |= _holders(inner, name, f"{where}.{field}".lstrip("."))
        found |= _holders(schema.get("items"), name, f"{where}[]")
        inner = schema.get("additionalProperties")
        found |= _holders(inner, name, f"{where}.NAME")
        for choice in schema.get("oneOf", ()):
            found |= _holders(choice, name, where)
    return found


def _kinds(wanted: Any) -> list[str]:
    return [wanted] if isinstance(wanted, str) else list(wanted)


def _mistyped(wanted: Any, value: Any, node: Any, *, secret: bool) -> tuple[str, str]:
    """How a value of another type is told, and how YAML came to read it so."""
    kinds = _kinds(wanted)
    expected = " or ".join(EXPECTED[kind] for kind in kinds if kind != "null")
    written = getattr(node, "value", None)
    if isinstance(value, (dict, list)):
        found, remedy = "a mapping" if isinstance(value, dict) else "a list", ""
        if isinstance(value, list) and len(value) == 1:
            remedy = "write the one item without `[ ]` or `- `"
        return f"expected {expected}, found {found}", remedy if "string" in kinds else ""
    if isinstance(value, str):
        found = "a text" if secret else f"the text {value!r}"
        remedy = {
            "array": "a list is `[a, b]`, or each item on a line of its own after `- `",
            "boolean": "write true or false, without quotes",
            "integer": "write it in digits, without quotes",
        }.get(kinds[0], "")
        return f"expected {expected}, found {found}", remedy
    if value is None and not written:
        return f"expected {expected}, found nothing", "leave the field out, or give it a value"
    tag = getattr(node, "tag", "").removeprefix(TAG)
    kind = READ_AS.get(tag, "something else")
    remedy = "put it in quotes" if "string" in kinds else ""
    if secret or not isinstance(written, str):
        return f"expected {expected}, found what YAML reads as {kind}", remedy
    if tag in ("int", "float") and str(value) != written:
        kind = f"the number {value}"
    elif tag == "bool":
        kind = str(value).lower()
    if remedy:
        remedy = f"put it in quotes: {json.dumps(short(written), ensure_ascii=False)}"
    return f"expected {expected}, found {written!r}, which YAML reads as {kind}", remedy


def _choices(error: ValidationError, node: Any, *, secret: bool) -> tuple[str, str]:
    """What is said where a value fits none of several forms, or more than one."""
    choices: Any = error.validator_value
    forms = [form for form in choices if isinstance(form, dict)]
    fields = [name for form in forms for name in form.get("required", ())]
    if fields and all(set(form) == {"required"} for form in forms):
        many = "only one of {} may be given" if not error.context else "one of {} must be given"
        return many.format(" and ".join(sorted(fields, reverse=True))), ""
    wrong = [one for one in error.context or () if one.validator == "type" and not one.path]
    types = [kind for one in wrong for kind in _kinds(one.validator_value)]
    if types:
        return _mistyped(types, error.instance, node, secret=secret)
    return "not as the schema wants it", ""


def _description(schema: Mapping[str, Any], error: ValidationError) -> str:
    """The description of the field that a fault is in: the innermost on the schema's way to it."""
    found = ""
    at: Any = schema
    for step in error.absolute_schema_path:
        # jsonschema follows a reference without a step of its own.
        while isinstance(at, dict) and "$ref" in at and step not in at:
            at = schema["definitions"][at["$ref"].rpartition("/")[2]]
        at = at[step]
        if isinstance(at, dict) and isinstance(at.get("description"), str):
            found = at["description"]
    return found
