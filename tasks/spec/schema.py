"""Values against the schema; each fault with its place and what was expected.

What a person sees is made of the schema's words: `description`, and beside each `pattern` its
`patternErrorMessage`, which editors show, too. No message holds a regular expression.
"""

from __future__ import annotations

import functools
import importlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BuildError, SpecFault
from ..host import safe
from .document import READ_AS, TAG, Document, Index
from .words import near, short, without_users

if TYPE_CHECKING:
    from jsonschema import ValidationError


EXPECTED = {"string": "a text", "integer": "a whole number", "number": "a number",
            "boolean": "true or false", "array": "a list", "object": "a mapping",
            "null": "null"}  # fmt: skip
"""JSON Schema's types in plain words."""


# ---------------------------------------------------------------- values against the schema


def read_schema(path: Path) -> bytes:
    """The schema's text; BuildError when it is not there."""
    try:
        with open(safe.named(path), "rb") as file:
            return file.read()
    except OSError as error:
        raise BuildError(
            f"{path}: cannot be read: {error.strerror}",
            "it says what a spec may hold: restore it from Strata's own sources",
        ) from error


@functools.lru_cache(maxsize=4)
def _rules(schema: bytes) -> Any:
    """Read once, however many specs a run has."""
    return json.loads(schema)


def validate(document: Document, schema: bytes, *, where: Path) -> None:
    """BuildError for the first thing that the schema, of the file `where`, does not allow."""

    def broken(what: str) -> BuildError:
        return BuildError(f"{where}: {what}", "restore it from Strata's own sources")

    try:
        rules = _rules(schema)
    except ValueError as error:
        raise broken(f"no JSON: {error}") from error
    except RecursionError as error:
        raise broken("nested too deep for a schema") from error
    if not isinstance(rules, dict):
        raise broken("no schema: it is not a mapping")

    checker = _checker()
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
        if (
            not free
            and node.tag == TAG + "int"
            and not re.fullmatch(r"[-+]?(0|[1-9][0-9]*)", node.value)
        ):
            line = node.start_mark.line + 1
            value = _plain(node)
            raise BuildError(
                f"{document.file(steps)}: {place(steps)}: YAML reads {node.value!r} as {value} "
                f"(line {line})",
                f"write {value} if that is meant: plain digits, no zero first",
            )


def load_jsonschema() -> None:
    """Import jsonschema without its check of IRIs, which no spec has.

    Where another package has brought what that needs, it compiles 39 grammars: two seconds.
    """
    others = {} if "rfc3987_syntax" in sys.modules else {"rfc3987_syntax": None}
    sys.modules.update(others)  # type: ignore[arg-type]  # None: not to be had, says Python's reference
    try:
        importlib.import_module("jsonschema")
    finally:
        for name in others:
            del sys.modules[name]


@functools.cache
def _checker() -> Any:
    """jsonschema's validator, as a spec is read. To make it takes longer than most specs do."""
    load_jsonschema()
    import jsonschema

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
    return jsonschema.validators.extend(  # type: ignore[no-untyped-call]
        jsonschema.Draft7Validator,
        {"pattern": pattern, "uniqueItems": _unique},
        type_checker=types,
    )


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
            faults
            for faults in choices.values()
            if not any(one.validator == "type" and not one.path for one in faults)
        ]
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
    return sorted(
        name
        for name in set(given) - set(rule["properties"])
        if not any(one.search(name) for one in free)
    )


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
    where = (
        document.path
        if not steps and not _names(error)
        else document.file([*steps, *_names(error)[:1]])
    )
    return SpecFault(message, hint or _description(schema, error), file=str(where), line=line)


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
        guesses = [
            f"{guess!r}" + f" for {name!r}" * bool(unknown[1:])
            for name, guess in meant.items()
            if guess
        ]
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
        value: Any = error.instance
        there = [name for name in fields if name in value]
        many = "only one of {} may be given" if there else "one of {} must be given"
        return many.format(_and(there or fields)), ""
    wrong = [one for one in error.context or () if one.validator == "type" and not one.path]
    types = [kind for one in wrong for kind in _kinds(one.validator_value)]
    if types:
        return _mistyped(types, error.instance, node, secret=secret)
    return "not as the schema wants it", ""


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


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
