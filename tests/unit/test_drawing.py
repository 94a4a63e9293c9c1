"""The graph of stages as text, dot, Mermaid and SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from tasks.commands.drawing import HIT, LACKING, PULLED, Node, dot, mermaid, svg, text
from tasks.commands.graph import joined


def node(entry: str, title: str, below: str, state: str, *specs: str, size: int | None = None,
         makes: tuple[str, ...] = ()) -> Node:  # fmt: skip
    return Node(entry=entry, title=title, key=entry.rpartition("-")[2] * 8, below=below, state=state,
                size=size, specs=specs, makes=makes)  # fmt: skip


WEB = [
    node("base-0001", "base", "", HIT, "web", size=41_453_561),
    node("layer-0002", "layer app", "base-0001", PULLED, "web"),
    node("image-0003", "image /", "layer-0002", LACKING, "web", makes=("web/web.img",)),
    node("image-0004", "image /boot", "layer-0002", HIT, "web", size=1_000_000, makes=("web/boot.img",)),
]  # fmt: skip

API = [
    node("base-0001", "base", "", HIT, "api", size=41_453_561),
    node("image-0005", "image /", "base-0001", LACKING, "api", makes=("api/api.img",)),
]


def test_text_is_a_tree_in_which_what_specs_share_stands_once() -> None:
    lines = text(joined([WEB, API])).splitlines()
    assert [re.sub(r"(?<=\w)  +", " | ", line) for line in lines] == [
        "base | 00010001 | hit | 41.5 MB | web, api",
        "├─ layer app | 00020002 | would be pulled | web",
        "│  ├─ image /      00030003 | lacking | web/web.img",
        "│  └─ image /boot | 00040004 | hit | 1.0 MB | web/boot.img",
        "└─ image /         00050005 | lacking | api/api.img",
    ]
    assert {re.search(r"\d{8}", line).start() for line in lines} == {19}  # type: ignore[union-attr]


def test_of_one_spec_only_images_say_what_they_make() -> None:
    first, *_, last = text(WEB).splitlines()
    assert first.endswith("41.5 MB")
    assert last.endswith("web/boot.img")


def test_dot_has_each_stage_and_each_edge_once() -> None:
    drawn = dot(joined([WEB, API]))
    assert drawn.count("label=") == 5
    assert re.findall(r'"(\S+)" -> "(\S+)"', drawn) == [
        ("base-0001", "layer-0002"), ("layer-0002", "image-0003"),
        ("layer-0002", "image-0004"), ("base-0001", "image-0005")]  # fmt: skip
    assert '"image-0003" [label="image /\\nlacking\\nweb/web.img"' in drawn


def test_mermaid_has_each_stage_and_each_edge_once() -> None:
    drawn = mermaid(joined([WEB, API])).splitlines()
    assert drawn[0] == "flowchart LR"
    assert '  s0["base<br>hit, 41.5 MB"]:::hit' in drawn
    assert [line for line in drawn if "-->" in line] == [
        "  s0 --> s1", "  s1 --> s2", "  s1 --> s3", "  s0 --> s4"]  # fmt: skip


def test_svg_is_xml_and_no_box_lies_on_another() -> None:
    root = ElementTree.fromstring(svg(joined([WEB, API])))
    space = "{http://www.w3.org/2000/svg}"
    boxes = [tuple(float(one.get(name, "")) for name in ("x", "y", "width", "height"))
             for one in root.iter(f"{space}rect")]  # fmt: skip
    assert len(boxes) == 5
    assert len(list(root.iter(f"{space}path"))) == 4
    wide, tall = (float(root.get(name, "")) for name in ("width", "height"))
    for number, (x, y, width, height) in enumerate(boxes):
        assert 0 < x < x + width <= wide - 10
        assert 0 < y < y + height <= tall - 9
        for other_x, other_y, other_width, other_height in boxes[:number]:
            assert (x >= other_x + other_width or other_x >= x + width
                    or y >= other_y + other_height or other_y >= y + height)  # fmt: skip


def test_a_name_may_hold_what_these_languages_know() -> None:
    odd = [node("image-0001", 'image /a"b<c>&`#\\', "", HIT, "web", makes=("x\x1b[2J.img",))]
    assert '\\"b<c>&`#\\\\' in dot(odd)
    assert "a#quot;b#lt;c#gt;#amp;#96;#35;\\" in mermaid(odd)
    root = ElementTree.fromstring(svg(odd))
    told = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert told == ['image /a"b<c>&`#\\', "hit", "x?[2J.img"]


@pytest.mark.parametrize("form", [text, dot, mermaid, svg])
def test_a_long_chain_is_drawn(form: object) -> None:
    chain = [node(f"layer-{number:04}", f"layer l{number}", f"layer-{number - 1:04}" if number else "",
                  HIT, "web") for number in range(2000)]  # fmt: skip
    assert callable(form)
    assert "l1999" in form(chain)
