"""What is asked of a spec: graph and sizes, of real trees."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from support.world import SPEC, World, says

pytestmark = pytest.mark.root

API = SPEC.partition("layers:")[0] + "images: {/: {file: api.img, format: ext4}}\n"


def test_graph_shows_what_the_cache_has_and_shared_stages_once(built: World) -> None:
    built.write("api.yaml", API)
    says(built.doit("graph", "spec=all", check=False).err, "specs/api.lock: missing",
         "strata lock spec=api")  # fmt: skip
    built.doit("lock", "spec=api")
    built.server.clear()
    lines = built.doit("graph", "spec=api,web").out.splitlines()
    says("\n".join(lines), "base", "hit", "api, web", "layer packages", "hit", "api, web",
         "image /", "lacking", "api/api.img", "layer app", "hit", "web",
         "image /", "hit", "web/web.img.gz", "image /boot", "hit", "web/web-boot.img.gz")  # fmt: skip
    assert len(lines) == 6
    drawn = built.doit("graph", "spec=web", "format=svg").out
    ElementTree.fromstring(drawn)
    assert "web-boot.img.gz" in drawn
    assert built.doit("graph", "spec=web", "format=mermaid").out.startswith("flowchart")
    assert built.doit("graph", "spec=web", "format=dot").out.startswith("digraph")
    said = built.doit("graph", "spec=web", "format=json", check=False).err
    assert "expected one of text, dot, mermaid, svg" in said
    assert built.server.requests == []
    # What a shared cache would give, to whoever takes what nobody signed.
    share = f"cache=file://{built.root.parent}/share"
    built.doit("push", "spec=web", share)
    for path in (built.root / "cache/images").iterdir():
        path.unlink()
    said = built.doit("graph", "spec=api,web", share, "cache_trust=any").out
    says(
        said,
        "api/api.img",
        "would be pulled",
        "web/web.img.gz",
        "would be pulled",
        "web/web-boot.img.gz",
    )
    assert "would be pulled" not in built.doit("graph", "spec=web", share).out
    assert not list((built.root / "cache/images").iterdir())


def test_sizes_are_those_of_the_trees_and_remembered(built: World) -> None:
    says(built.doit("sizes", "spec=web").out, "web: ", "by layer", "base", "layer packages", "layer app",
         "by package", "by folder", "held twice", "/var/lib/dpkg/status")  # fmt: skip
    memory = built.root / ".doit/sizes"
    known = {path.name: path.stat().st_mtime_ns for path in memory.iterdir()}
    assert len(known) == 3
    found = json.loads(built.doit("sizes", "spec=web", "format=json").out)
    assert {path.name: path.stat().st_mtime_ns for path in memory.iterdir()} == known
    assert [one["key"] for one in found["layers"]] == [
        one["key"] for one in built.json()["stages"][:3]
    ]
    assert found["bytes"] == sum(one["seen"] for one in found["layers"])
    packages = {one["name"]: one["bytes"] for one in found["packages"]}
    assert {"alpha", "beta"} <= packages.keys()
    assert packages["dpkg"] > 0
    assert "expected text or json" in built.doit("sizes", "spec=web", "format=svg", check=False).err
    assert built.server.requests == []
    # What the cache has no more is forgotten, and a tree that is gone is named.
    for path in (built.root / "cache/layers").glob("base-*"):
        path.unlink()
    built.doit("prune")
    assert len(list(memory.iterdir())) == 2
    says(built.doit("sizes", "spec=web", check=False).err, "the cache has no tree of base",
         "strata base layer spec=web lock=keep")  # fmt: skip


def test_sizes_of_what_cannot_be_read_is_told(built: World) -> None:
    (tarball,) = (built.root / "cache/layers").glob("base-*.tar.zst")
    content = bytearray(tarball.read_bytes())
    content[1000] ^= 1
    tarball.unlink()
    tarball.write_bytes(content)
    says(built.doit("sizes", "spec=web", check=False).err, f"cache/layers/{tarball.name}: it is damaged",
         "strata verify drops it")  # fmt: skip
    assert not list(built.root.glob(".doit/sizes/*"))
