"""A whole spec as YAML, each value with the file and line that it came from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .document import Document, Index


def lines(document: Document, mask: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """(a line of block YAML, `file:line` of its value or ""), in the order of the fields.

    What aliases and merge keys bring is written out: reading the lines gives the same values, as
    `mask` leaves their texts. Masked is what a text says, before signs of YAML's are in it.
    """
    yield from _lines(document, document.values, [], "", {}, mask)


def _lines(
    document: Document,
    value: Any,
    steps: list[Any],
    indent: str,
    index: Index,
    mask: Callable[[str], str],
) -> Iterator[tuple[str, str]]:
    entries: Sequence[tuple[Any, Any]] = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    )
    for name, inner in entries:
        here = [*steps, name]
        head = f"{indent}{_scalar(name, mask)}:" if isinstance(value, dict) else f"{indent}-"
        if not isinstance(inner, (dict, list)) or not inner:
            _node, line = document.find(here, index)
            yield f"{head} {_scalar(inner, mask)}", f"{document.file(here)}:{line}"
        elif isinstance(value, dict):
            yield head, ""
            yield from _lines(document, inner, here, indent + "  ", index, mask)
        else:
            # The first field of an item stands beside its dash.
            for number, (text, origin) in enumerate(
                _lines(document, inner, here, indent + "  ", index, mask)
            ):
                yield (f"{head} {text.lstrip()}" if number == 0 else text), origin


def _scalar(value: Any, mask: Callable[[str], str]) -> str:
    import yaml

    if isinstance(value, str):
        value = mask(value)
    if isinstance(value, str) and ("\n" in value or len(value) > 60):
        return json.dumps(value, ensure_ascii=False)
    text = str(yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1 << 20))
    return text.removesuffix("\n").removesuffix("\n...")
