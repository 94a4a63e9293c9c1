"""docs/spec.md, made of the schema: `.venv/bin/python tests/support/spec_doc.py` writes it anew.

Meaning, values and default are the schema's own; beside each `description` it has `examples`, and
in `x-rebuilds` what a change of the field makes anew, in the words of REBUILDS.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[2]

SCHEMA = PROJECT / "specs/spec.schema.json"

DOC = PROJECT / "docs/spec.md"

COMMAND = ".venv/bin/python tests/support/spec_doc.py"

REBUILDS = {
    "lock": "the lock is resolved anew, then the stages whose packages are other ones (all of them "
    "when the first package of another architecture comes)",
    "base": "the base, and so everything",
    "layer": "the layer that it is of, those above it, the images",
    "readers": "the layers that look at it, by a package's script, their own or a template, and "
    "what is above them; the first of hostname, timezone and locale in a spec also resolves the "
    "lock anew, which then notes what looks at them",
    "settings": "the last layer, `settings`, and the images: seconds, and no package is installed "
    "again",
    "sources": "where `apt_sources` is true, the last layer, `settings`, and the images",
    "image": "that image alone",
    "fstab": "where the spec makes /etc/fstab, the last layer, `settings`, and the images",
    "filesystem": "the filesystem of that mount point, and each disk that has it, with its files and "
    "boot tests",
    "esp": "the EFI system partition, and its disk with its files and boot tests",
    "bios": "GRUB for BIOS, and its disk with its files and boot tests",
    "verity": "the hash tree of dm-verity, the uki that names it, and its disk with its files and "
    "boot tests",
    "disk": "that disk, its files and its boot tests",
    "file": "that file of a disk, and the boot tests of that disk",
    "export": "that export alone",
    "test": "those boot tests: nothing but them",
    "publishing": "no stage: only what is written to out/",
    "nothing": "no stage, and nothing that is published",
    "fields": "what the fields in it rebuild",
}
"""What `x-rebuilds` may say, and what that means."""

WORDS = "What a change rebuilds"

HEAD = """\
# The fields of a spec

Made from `specs/spec.schema.json` by `{command}`; a test holds it equal.

`specs/NAME.yaml` says what `strata build spec=NAME` makes. {what} The least that a spec must have:

```yaml
repos:
- {{name: debian, uri: '${{mirror}}', suite: bookworm, section: main}}
images:
  /: {{file: web.img.gz, format: ext4}}
```

`strata check` tells at once what is wrong with a spec, `strata show` prints it with where each value is
from. Recipes are in [cookbook.md](cookbook.md), reasons in [design.md](design.md).

## {words}

A stage is made anew when something changes that its bytes depend on, and then all that stands on it:
base, then each layer, then the layer `settings`, then the images, disks and exports. What is published stays as it was
until all of it is made. In each field's section below stands which of these it is:

| word | makes anew |
|---|---|
{rebuilds}

## All fields

{contents}
"""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One property of the schema: where it is (`images.*.size`), and its rules, no `$ref` left."""

    path: str
    rules: Mapping[str, Any]
    required: bool

    @property
    def name(self) -> str:
        """Its own name."""
        return self.path.rpartition(".")[2]


def fields(schema: Mapping[str, Any]) -> list[Field]:
    """Every property, each before those in it; `[]` stands for an item, `.*` for a user's name."""
    return list(_fields(schema, schema, ""))


def _fields(schema: Mapping[str, Any], rules: Mapping[str, Any], path: str) -> Iterator[Field]:
    needed = {*rules.get("required", ()), *rules.get("then", {}).get("required", ())}
    for name, child in rules.get("properties", {}).items():
        here = f"{path}.{name}".lstrip(".")
        whole = resolved(schema, child)
        yield Field(path=here, rules=whole, required=name in needed)
        yield from _fields(schema, whole, here)
    for inner, sign in ((rules.get("items"), "[]"), (rules.get("additionalProperties"), ".*")):
        if isinstance(inner, dict):
            yield from _fields(schema, resolved(schema, inner), path + sign)
    for choice in rules.get("oneOf", ()):
        if "properties" in choice or "$ref" in choice:
            yield from _fields(schema, resolved(schema, choice), path)


def resolved(schema: Mapping[str, Any], rules: Mapping[str, Any]) -> dict[str, Any]:
    """Rules with what they refer to written out; what a definition says of itself is `general`."""
    if "$ref" not in rules:
        return dict(rules)
    definition = schema["definitions"][rules["$ref"].rpartition("/")[2]]
    own = {name: value for name, value in rules.items() if name != "$ref"}
    general = definition.get("description", "") if "description" in own else ""
    return {**resolved(schema, definition), **own, **({"general": general} if general else {})}


# ---------------------------------------------------------------- words


KINDS = {"string": "text", "integer": "whole number", "number": "number", "null": "null",
         "boolean": "true or false", "array": "list", "object": "mapping"}  # fmt: skip


def values(schema: Mapping[str, Any], rules: Mapping[str, Any]) -> str:
    """What a field may hold, in plain words."""
    rules = resolved(schema, rules)
    if "enum" in rules:
        return "one of " + ", ".join(f"`{_dumped(one, flow=True)}`" for one in rules["enum"])
    if "oneOf" in rules and not any(set(one) == {"required"} for one in rules["oneOf"]):
        return "; or ".join(values(schema, one) for one in rules["oneOf"])
    kinds = rules.get("type", [])
    kind = " or ".join(KINDS[one] for one in ([kinds] if isinstance(kinds, str) else kinds))
    if sentence := rules.get("patternErrorMessage", ""):
        kind = sentence.removeprefix("expected ")
    elif "array" in kinds and "items" in rules:
        items = resolved(schema, rules["items"])
        told = items.get("description", "").rstrip(".") or values(schema, items)
        kind = "list of mappings" if "properties" in items else f"list; each item: {told}"
    elif "object" in kinds and isinstance(inner := rules.get("additionalProperties"), dict):
        inner = resolved(schema, inner)
        kind = f"mapping; each value: {values(schema, inner)}" if inner else "mapping"
    bounds = [f"at least {rules['minimum']}"] if "minimum" in rules else []
    bounds += [f"at most {rules['maximum']}"] if "maximum" in rules else []
    bounds += [f"at most {rules['maxLength']} characters"] if "maxLength" in rules else []
    return ", ".join(filter(None, [kind or "anything", *bounds]))


def meaning(field: Field) -> str:
    """The description, without what it says of the default, and what all of its kind are."""
    text = re.sub(r"\s*Default: .*", "", field.rules.get("description", ""))
    return " ".join(filter(None, [text, field.rules.get("general", "")]))


def default(field: Field) -> str:
    """What holds where the field is left out."""
    if field.required:
        return "must be given"
    if found := re.search(r"Default: (.*?)\.?$", field.rules.get("description", "")):
        return found[1]
    if "default" in field.rules:
        value = field.rules["default"]
        return f"`{json.dumps(value)}`" if value in ("", True, False) else f"`{value}`"
    return "none"


class Dumper(yaml.SafeDumper):
    """YAML as people write it: a text of several lines is one line, with its ends in sight."""


def _text(dumper: yaml.SafeDumper, text: str) -> Any:
    style = '"' if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Dumper.add_representer(str, _text)


def _dumped(value: Any, *, flow: bool | None) -> str:
    text = yaml.dump(
        value, Dumper=Dumper, default_flow_style=flow, sort_keys=False, allow_unicode=True,
        width=1 << 20,
    )  # fmt: skip
    return str(text).removesuffix("\n").removesuffix("\n...")


def _code(text: str) -> str:
    """As code that may hold backticks, in a table."""
    ticks = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{ticks}{text}{ticks}".replace("|", r"\|")


def _prose(text: str) -> str:
    """A sentence of the schema as Markdown: signs outside of backticks mean themselves."""
    parts = re.split("(`[^`]*`)", text)
    plain = [re.sub(r"[*<]", r"\\\g<0>", part) for part in parts[::2]]
    parts[::2] = plain
    return "".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ") or "–"


def example(field: Field) -> str:
    """The first example as a spec has it."""
    value = field.rules["examples"][0]
    if isinstance(value, (dict, list)):
        return _dumped({field.name: value}, flow=None)
    return f"{field.name}: {_dumped(value, flow=True)}"


# ---------------------------------------------------------------- the page


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-")


def page(schema: Mapping[str, Any]) -> str:
    """The whole of docs/spec.md."""
    every = fields(schema)
    top = [one for one in every if one.name == one.path]
    contents = [
        f"- [`{one.path}`](#{slug(one.path)}): {_prose(_first(meaning(one)))}" for one in top
    ]
    free = [f"- `{name.lstrip('^')}…`: {rules['description']}"
            for name, rules in schema.get("patternProperties", {}).items()]  # fmt: skip
    what = schema["description"].partition(". ")[2]
    head = HEAD.format(
        command=COMMAND,
        what=what,
        words=WORDS,
        rebuilds="\n".join(f"| {word} | {_cell(text)} |" for word, text in REBUILDS.items()),
        contents="\n".join(contents + free),
    )
    return "\n".join([head, *(_section(schema, every, one) for one in top)])


def _first(text: str) -> str:
    """The first sentence."""
    return re.split(r"(?<=[.])\s", text)[0]


def _section(schema: Mapping[str, Any], every: Sequence[Field], field: Field) -> str:
    words = ", ".join(f"[{one}](#{slug(WORDS)})" for one in field.rules["x-rebuilds"])
    lines = [f"## {field.path}", "", _prose(meaning(field)), ""]
    lines += [
        f"- **Values**: {_prose(values(schema, field.rules))}",
        f"- **Default**: {_prose(default(field))}",
        f"- **Rebuilds**: {words}",
        "",
        f"```yaml\n{example(field)}\n```",
        "",
    ]
    groups: dict[str, list[Field]] = {}
    for one in every:
        parent = one.path.rpartition(".")[0]
        if re.split(r"[.\[]", one.path)[0] == field.path and one.path != field.path:
            groups.setdefault(parent, []).append(one)
    for parent, inner in groups.items():
        if _elsewhere(every, parent):
            continue
        plain = parent.replace("[]", "").replace(".*", "")
        if plain != field.path:
            lines += [f"### {plain}", ""]
        if named := _names(schema, every, plain):
            lines += [f"Each name is {_prose(named)}.", ""]
        lines += ["| Field | Meaning | Default | Example | Rebuilds |", "|---" * 5 + "|"]
        lines += [_row(schema, every, one) for one in inner]
        lines.append("")
    return "\n".join(lines)


def _elsewhere(every: Sequence[Field], path: str) -> str:
    """The field at the top whose section tells the same as one of a layer, or ""."""
    name = re.split(r"[.\[]", path.removeprefix("layers[]."))[0]
    inside = path.startswith("layers[].") and any(one.path.startswith(f"{path}.") for one in every)
    return name if inside and any(one.path == name for one in every) else ""


def _row(schema: Mapping[str, Any], every: Sequence[Field], field: Field) -> str:
    told = values(schema, field.rules)
    for path in (field.path, f"{field.path}[]", f"{field.path}.*"):
        if name := _elsewhere(every, path):
            told = f"As [{name}](#{slug(name)})."
    # What its own rows, its name or its default tell as well.
    plain = told in ("true or false", "text", "mapping", "list of mappings", "anything")
    cells = [f"`{field.name}`", _cell(_prose(meaning(field)) + (f"<br>{_prose(told)}" if not plain else "")),
             _cell(default(field)), _code(_dumped(field.rules["examples"][0], flow=True)),
             ", ".join(field.rules["x-rebuilds"])]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _names(schema: Mapping[str, Any], every: Sequence[Field], path: str) -> str:
    """What the user's own names in a mapping must be, or ""."""
    for one in every:
        if one.path.replace("[]", "").replace(".*", "") == path:
            rules = resolved(schema, one.rules.get("propertyNames", {}))
            return str(rules.get("patternErrorMessage", "")).removeprefix("expected ")
    return ""


def main() -> None:
    """Write docs/spec.md."""
    DOC.write_text(page(json.loads(SCHEMA.read_text())))


if __name__ == "__main__":
    main()
