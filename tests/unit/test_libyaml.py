"""libyaml and PyYAML's own parser: of what both take they make the same, and faults are told alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.world import PROJECT
from tasks.errors import BuildError
from tasks.spec import document

TEXTS = {
    "flow": "{a: [1, 0x1f, 0o7, 017, 1_000, 1e3, .5, yes, No, ~, null, '', \"\"], b: {}}",
    "block scalars": "a: |+\n  x\n   y\n\n\nb: >-\n  one\n  two\n\n  three\nc: |2\n    kept\n",
    "anchors": "x: &a {k: [1]}\ny: *a\nz: {<<: *a, m: 2}\nw: {<<: [*a, {n: 3}]}\n",
    "itself": "a: &a [*a]\n",
    "quotes": "a: 'it''s'\nb: \"\\u00e4\\t\\x41\\\n   joined\"\nc: plain # comment\nd: a:b#c\n",
    "letters": "ä: ✓\n\"😀\": '\u2028'\nz: \ufeff\n",
    "byte order mark": "\ufeffa: 1\n",
    "UTF-16": "a: 1\n",
    "dates": "a: 2024-01-01\nb: 2024-01-01 10:00:00\n",
    "tags": "a: !!str 1\nb: !!int '7'\nc: !!float 1\nd: !<tag:yaml.org,2002:str> 5\n",
    "directive": "%YAML 1.1\n---\na: 1\n...\n",
    "keys": "? a\n: 1\n? [b]\n: 2\n",
    "twice": "a: 1\nb: 2\na: 3\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "nothing": "",
    "comment": "# nothing\n",
    "open bracket": "a: [1, 2\nb: 3\n",
    "tab": "a:\n\t- b\n",
    "bad escape": 'a: "\\q"\n',
    "unknown alias": "a: *b\n",
    "unknown tag": "a: !!python/name:os.system x\n",
    "surrogate": 'a: "\\ud800"\n',
    "control": "a: \x01\n",
    "colon": "a: b: c\n",
    "percent": "a: %b\n",
    "at": "a: @b\n",
    "deep": "a: " + "[" * 49 + "]" * 49 + "\n",
    "too deep": "a: " + "[" * 60 + "]" * 60 + "\n",
    "far too deep": "a: " + "[" * 100_000,
    "deep blocks": "".join(f"{' ' * n}a:\n" for n in range(300)),
}

SPECS = sorted((PROJECT / "specs").glob("*.yaml"))


def places(node: Any, seen: set[int]) -> Iterator[tuple[Any, ...]]:
    """(tag, value, file, line, column) of each scalar, and of each list and mapping without value."""
    if id(node) in seen:
        return
    seen.add(id(node))
    mark = node.start_mark
    value = node.value if isinstance(node, yaml.ScalarNode) else None
    yield node.tag, value, mark.name, mark.line, mark.column
    if value is None:
        for child in node.value:
            for one in child if isinstance(child, tuple) else (child,):
                yield from places(one, seen)


def outcome(raw: bytes) -> tuple[Any, ...]:
    """What becomes of a text: its values and places, or the error's words."""
    try:
        found = document.parse(Path("specs/web.yaml"), raw)
    except BuildError as error:
        return str(error), error.hint
    return repr(found.values), [*places(found.node, set())]


@pytest.mark.parametrize("name", [*TEXTS, *(path.name for path in SPECS)])
def test_both_parsers_make_the_same_of_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hasattr(yaml, "CSafeLoader"), "PyYAML's wheels and Debian's package have libyaml"
    raw = TEXTS[name].encode("utf-8" if name != "UTF-16" else "utf-16") if name in TEXTS else b""
    raw = raw if name in TEXTS else (PROJECT / "specs" / name).read_bytes()
    one = outcome(raw)
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert outcome(raw) == one


def test_libyaml_reads_what_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what makes a build with nothing to do as fast as it is: nobody would see it missing."""
    monkeypatch.delattr(yaml.scanner.Scanner, "fetch_more_tokens")
    for path in SPECS:
        assert document.parse(path, path.read_bytes()).values
