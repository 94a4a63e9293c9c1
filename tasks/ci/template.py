"""Texts with names to be filled in: `@name@` in a line, or alone on it for lines of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources

_NAME = re.compile(r"@([a-z_]+)@")


class Template:
    """The parts of one file beside this module, each below a line `=== NAME`."""

    def __init__(self, name: str) -> None:
        text = (resources.files(__package__) / f"{name}.template").read_text(encoding="utf-8")
        parts = re.split(r"^=== (\w+)\n", text, flags=re.MULTILINE)
        self.parts = dict(zip(parts[1::2], parts[2::2], strict=True))

    def fill(self, part: str, values: Mapping[str, str]) -> str:
        """One part; a name that is alone on its line brings its own lines, and no line if empty."""
        lines: list[str] = []
        for line in self.parts[part].splitlines():
            alone = _NAME.fullmatch(line.strip())
            if alone is None:
                lines.append(_NAME.sub(lambda match: values[match[1]], line))
                continue
            indent = line[: len(line) - len(line.lstrip())]
            lines += [f"{indent}{one}".rstrip() for one in values[alone[1]].splitlines()]
        return "".join(f"{line}\n" for line in lines)
