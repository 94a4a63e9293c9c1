"""Twenty specs with common parts: a changed line redoes the stages that it is in, in all, each once."""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest

from support.world import World

pytestmark = pytest.mark.root

COUNT = 20 if os.environ.get("STRATA_TEST_NIGHTLY", "1") == "1" else 5
"""Twenty at night; by day as many as show it: two kinds of image, and specs that are not named."""

NAMES = [f"web{number:02}" for number in range(COUNT)]

COMMON = """\
repos:
  - {name: main, uri: "${mirror}", suite: stable, section: main, keyring: keys/test.gpg}
base: {tool: mmdebstrap, variant: extract, include: [baseline, beta]}
vars: {options: -m 0}
"""


def results(said: str, count: int) -> dict[str, Counter[str]]:
    """How often each stage was built or found, over all specs, by what doit's lines say."""
    found: dict[str, Counter[str]] = {}
    for stage, result in re.findall(
        r"^(\S.*?\S) +[0-9a-f]{8} +(built|hit|skipped)", said, re.MULTILINE
    ):
        found.setdefault(stage, Counter())[result] += 1
    assert said.count("\n== ") + said.startswith("== ") == count, said
    return found


def test_a_line_of_the_common_part_redoes_what_it_is_in(tiny: World) -> None:
    """The images of all are one stage where they are the same, and another where one has its own."""
    (tiny.root / "specs/web.yaml").unlink()
    tiny.env["STRATA_TIMEOUT"] = "20"  # nothing here waits for one in vain
    tiny.write("common/debian.yaml", COMMON)
    for number, name in enumerate(NAMES):
        image = "file: '${name}.img', format: ext2, container: raw, options: '${options}'"
        tiny.write(f"{name}.yaml", f"include: [common/debian.yaml]\nvars: {{name: {name}}}\n"
                   f"images: {{/: {{{image}, label: own{number % 2}}}}}\n")  # fmt: skip

    def build(names: str = "all", count: int = COUNT) -> dict[str, Counter[str]]:
        return results(tiny.doit("build", f"spec={names}").out, count)

    first = build()
    assert first["base"] == {"built": 1, "hit": COUNT - 1}
    assert first["image /"] == {"built": 2, "hit": COUNT - 2}
    assert all((tiny.root / f"out/{name}/{name}.img").is_file() for name in NAMES)
    locks = {name: (tiny.root / f"specs/{name}.lock").read_bytes() for name in NAMES}
    assert len(set(locks.values())) == 1

    # A line that is in no stage, and one that is in the images alone.
    tiny.edit("repos:\n", "x-note: why\nrecommends: true\nrepos:\n", "common/debian.yaml")
    tiny.edit("options: -m 0", "options: -m 1", "common/debian.yaml")
    changed = build()
    assert changed["base"] == {"hit": COUNT}
    assert changed["image /"] == {"built": 2, "hit": COUNT - 2}

    # A package of the base: it, and all that stands on it; of all that are named.
    tiny.edit("[baseline, beta]", "[baseline]", "common/debian.yaml")
    changed = build("web0[0-3]", 4)
    assert changed["base"] == {"built": 1, "hit": 3}
    assert changed["image /"] == {"built": 2, "hit": 2}

    # One spec's own line is of that spec alone, and nothing is built where none changed.
    tiny.edit("label: own1", "label: mine", f"{NAMES[3]}.yaml")
    for name, expected in ((NAMES[3], "built"), (NAMES[1], "hit")):
        assert tiny.build(spec=name) == {"base": "hit", "/": expected}
