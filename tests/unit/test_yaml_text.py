"""What is published as YAML: the faster writer where both write the same, and only there."""

from __future__ import annotations

import random
from typing import Any

import pytest
import yaml

from tasks.stages.described import yaml_text

WORDS = [*map(chr, range(32, 127)), "null", "~", "yes", "off", "1", "1e3", "0x1", "0o7", "1_000", ".nan",
         "2020-01-01", "12:30", "<<", "---", "...", "- ", "? ", ": ", " #", "+1"]  # fmt: skip
"""What YAML reads as something else, or must be quoted."""

ODD = ["é", "\U0001f600", "\n", "\t", "\x85", "\u2028", "\ufeff", "\x00", "word " * 30, "x" * 200]
"""What the two writers do not agree on, here or there."""


def document(draw: random.Random, words: list[str], depth: int = 0) -> Any:
    kind = draw.random()
    if depth > 3 or kind < 0.5:
        text = "".join(draw.choice(words) for _ in range(draw.choice([0, 1, 1, 2, 5, 40])))
        return draw.choice([text, text, text, None, True, -5, 10**20, 0.1])
    if kind < 0.7:
        return [document(draw, words, depth + 1) for _ in range(draw.randrange(4))]
    keys = ["".join(draw.choice(words) for _ in range(draw.randrange(4))) for _ in range(3)]
    return {key: document(draw, words, depth + 1) for key in keys}


@pytest.mark.parametrize("words", [WORDS, WORDS + ODD], ids=["plain", "odd"])
def test_it_is_what_pyyaml_writes(words: list[str]) -> None:
    draw = random.Random(1)
    for _ in range(150):
        one = {"a": document(draw, words), "b": document(draw, words)}
        assert yaml_text(one) == yaml.safe_dump(
            one, sort_keys=False, default_flow_style=False, allow_unicode=True
        )


@pytest.mark.parametrize("content", [{"": 1}, {"a": "\U0001f600"}])
def test_where_they_differ_it_is_pyyamls(content: Any) -> None:
    """Each of these libyaml writes otherwise, so that the choice is seen to be made."""
    kwargs: dict[str, Any] = {"sort_keys": False, "allow_unicode": True}
    own = yaml.safe_dump(content, default_flow_style=False, **kwargs)
    assert yaml_text(content) == own
    assert yaml.dump(content, Dumper=yaml.CSafeDumper, default_flow_style=False, **kwargs) != own
