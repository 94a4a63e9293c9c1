"""Chapters of a report, one that has all, one whose every value is hostile; a page taken apart."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

from tasks.commands.drawing import HIT, Node, svg
from tasks.plan.changes import Change, Package
from tasks.plan.difference import Difference, File, Image, Part
from tasks.report import chapter
from tasks.report.chapter import Chapter, Failure, Lacking
from tasks.rootfs.licences import Licences
from tasks.rootfs.stacked import Floor, Sizes
from tasks.rootfs.stacked import Package as Sized
from tasks.store.history import Build, Took

HOSTILE = (
    "</script><script>alert(1)</script>", "</style><img src=x onerror=alert(1)>", '" onclick="alert(1)',
    "' autofocus='", "<!--", "-->", "]]>", "&lt;b&gt;", "{{ 7*7 }}{% raw %}", "a\x00b\x1b[31m\x07",
    "\u202etxt.exe\u2066", "\ud800", "a\nb\r\nc", "\u2028", "javascript:alert(1)", "x" * 5000, "</title>",
    "\u05e9\u05dc\u05d5\u05dd", "", " ",
)  # fmt: skip


def took(task: str, result: str, seconds: float, *, began: float = 0.0, bytes: int = 1) -> Took:
    """A stage of a build, by its task."""
    stage, _, name = task.partition(":")
    return Took(stage=stage, name=name or stage, key="0" * 32, result=result, began=began,
                seconds=seconds, bytes=bytes)  # fmt: skip


def build(
    began: float, *stages: Took, result: str = "done", changes: tuple[str, ...] = ()
) -> Build:
    """A build of these stages."""
    return Build(began=began, seconds=sum(one.seconds for one in stages), result=result, lock="",
                 changes=changes, stages=stages)  # fmt: skip


def hostile(value: str) -> Chapter:
    """A chapter with a value in each place that packages, repositories or logs fill."""
    node = Node(entry="base-0", title=f"base{value}", key="0" * 32, below="", state=HIT, size=1,
                specs=("web",), makes=(f"img{value}",))  # fmt: skip
    file = File(kind="file", mode=0o644, uid=0, gid=0, size=3)
    last = build(8.0, took("base", "hit", 0), took(f"layer:app{value}", "failed", 2.0, began=1.0),
                 result="failed", changes=(f"lib{value}", "b"))  # fmt: skip
    before = build(1.0, took("base", "built", 4.0), took("image:/", "built", 2.0, began=4.0))
    return Chapter(
        name=f"web{value}",
        error=f"error{value}",
        lacking=[Lacking(f"what{value}", f"why{value}", f"command{value}")],
        images=[chapter.Image(f"/{value}", f"web.img{value}", 7)],
        graph=svg([node], alone=False),
        builds=[before, last],
        shown=last,
        before=before,
        failure=Failure(f"layer{value}", f"log{value}", [f"line{value}", value]),
        changed=Difference(
            before=f"one{value}",
            after=f"two{value}",
            packages=[Change(name=f"libc{value}", before=None,
                             after=Package(version=f"2{value}", repository=f"main{value}"))],
            images=[Part(name=f"/boot{value}", before=None, after=Image(file=f"b{value}", size=1, raw=2))],
            files=[Part(name=f"/etc/{value}", before=file, after=None)],
        ),
        uncompared=[f"why{value}"],
        layers=["base", f"app{value}"],
        sizes=Sizes(
            files=3, bytes=1 << 20, no_package=4096, twice=[],
            floors=[Floor(1, 1, 1, 0, 0), Floor(2, 2, 2, 1, 1)],
            packages=[Sized(f"libc{value}", 1 << 19, None)],
            folders=[(f"/usr{value}", 1 << 19), ("/etc", 1 << 18)],
        ),
        packages=[
            chapter.Package(name=f"libc{value}", version=f"2{value}", layer=f"app{value}",
                            repository=f"main{value}", origin=f"Debian{value}", security=True, deb=1,
                            size=2, licences=Licences(True, tuple(f"GPL-{n}{value}" for n in range(9)))),
        ],
        version=f"3{value}",
    )  # fmt: skip


def _full() -> Chapter:
    base = build(100.0, took("base", "built", 4.0), took("layer:app", "built", 2.0, began=4.0))
    last = build(200.0, took("base", "hit", 0), took("layer:app", "built", 2.0, began=1.0),
                 took("image:/", "built", 1.0, began=3.0), took("image:/boot", "hit", 0))  # fmt: skip
    libc = Change(name="libc6", before=Package(version="1"),
                  after=Package(version="2", repository="main", security=True))  # fmt: skip
    packages = [
        chapter.Package(name="libc6", version="2", layer="base", repository="main",
                        origin="Debian bookworm", security=True, deb=900, size=4096,
                        licences=Licences(True, ("GPL-2+", "LGPL-2.1"))),
        chapter.Package(name="perl", version="5", layer="app", repository="main", origin="",
                        security=False, deb=800, size=8192, licences=Licences(False, ("Artistic",))),
    ]  # fmt: skip
    full = hostile("")
    assert full.sizes is not None
    return Chapter(
        name="web", images=[chapter.Image("/", "web.img.gz", 7), chapter.Image("/boot", "b", None)],
        graph=full.graph, builds=[base, last], shown=last, before=base,
        changed=Difference(before="then", after="now", packages=[libc], images=[], files=None),
        layers=["base", "app"],
        sizes=Sizes(files=2, bytes=1 << 20, no_package=0, twice=[], floors=full.sizes.floors,
                    packages=[Sized("libc6", 4096, None), Sized("perl", 8192, None)],
                    folders=[("/usr", 9000), ("/usr/lib", 5000)]),
        packages=packages,
    )  # fmt: skip


FULL = _full()


VOID = {"meta", "input", "br", "link", "img"}


class Page(HTMLParser):
    """A page taken apart; an end without a beginning, or the other way round, is an error."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, str] = {}
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _value in attrs}) == len(attrs), attrs
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts[self.open[-1] if self.open else ""] = data
        self.text += data if self.open[-1:] not in (["script"], ["style"]) else ""


def checked(text: str) -> Page:
    """A page that is whole, loads nothing, and runs no style or script but its own two."""
    found = Page(text)
    for tag, attributes in found.tags:
        assert tag not in (
            "link",
            "img",
            "iframe",
            "object",
            "embed",
            "base",
            "form",
            "image",
            "use",
        ), tag
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("style", "src", "srcset", "xlink:href", "action", "srcdoc"), (
                tag,
                name,
            )
            if name == "href":
                assert re.fullmatch(r"#[a-z0-9-]+", value), value
    ids = [attributes["id"] for _tag, attributes in found.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    targets = {one["href"][1:] for _tag, one in found.tags if "href" in one}
    assert targets <= set(ids)
    assert [tag for tag, _one in found.tags].count("script") == 1
    assert [tag for tag, _one in found.tags].count("style") == 1
    (policy,) = [one["content"] for tag, one in found.tags
                 if one.get("http-equiv") == "Content-Security-Policy"]  # fmt: skip
    assert policy.startswith("default-src 'none'; ")
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(found.texts[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    return found
