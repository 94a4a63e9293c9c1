"""What `diff` and `outdated` say, of sides that are given."""

from __future__ import annotations

import json
from dataclasses import replace

from support import samples
from tasks.plan.changes import Package, in_image, packages_of
from tasks.plan.difference import File, Image, Side, difference, markdown, shown, text
from tasks.plan.lockfile import LockedRepo

ALPHA, BETA, GAMMA = (samples.record(name) for name in ("alpha", "beta", "gamma"))


def test_packages_are_told_with_repository_and_security() -> None:
    repos = (
        LockedRepo(name="main", release="a" * 64, date="", fields={}),
        LockedRepo(name="updates", release="a" * 64, date="", fields={"Suite": "noble-security"}),
    )
    old = samples.lock([ALPHA, BETA], {"app": [GAMMA]}, repos=repos)
    new = samples.lock(
        [samples.record("alpha", "2", repository="updates"), samples.record("delta")],
        {"app": [samples.record("gamma", "2")]},
        repos=repos,
    )
    found = difference(
        Side(name="HEAD:specs/web.lock", packages=packages_of(old)),
        Side(name="specs/web.lock", packages=packages_of(new)),
    )
    assert text(found).splitlines() == [
        "HEAD:specs/web.lock → specs/web.lock",
        "packages: 1 added, 1 removed, 2 changed, 1 security update",
        "    alpha 1 → 2 (security, from updates)",
        "  - beta 1 (base)",
        "  + delta 1 (base, from main)",
        "    gamma 1 → 2 (from main)",
    ]
    assert markdown(found, "web") == (
        "### web\n\n**Security**\n\n- `alpha 1 → 2 (security, from updates)`\n\n**Others**\n\n"
        "- gone: `beta 1 (base)`\n- new: `delta 1 (base, from main)`\n"
        "- `gamma 1 → 2 (from main)`\n"
    )
    told = json.loads(shown(found, "json", "web"))
    assert set(told) == {"format", "from", "to", "packages"}
    assert [(one["package"], one["change"], one["security"]) for one in told["packages"]] == [
        ("alpha", "changed", True), ("beta", "removed", False), ("delta", "added", False),
        ("gamma", "changed", False),
    ]  # fmt: skip
    assert told["packages"][0]["to"]["repository"] == "updates"
    assert "to" not in told["packages"][1]


def test_what_a_layer_takes_away_is_gone() -> None:
    old = samples.lock([ALPHA], {"app": [BETA]})
    new = replace(old, layers=(replace(old.layers[0], removes=("alpha",)),))
    sides = [Side(name=name, packages=packages_of(one)) for name, one in (("a", old), ("b", new))]
    assert [one.line() for one in difference(*sides).packages or ()] == [
        "- alpha 1 (app removes it)"
    ]
    assert [one.line() for one in difference(*reversed(sides)).packages or ()] == [
        "+ alpha 1 (base, from main)"
    ]
    assert difference(sides[1], sides[1]).packages == []
    # A build's metadata has what is installed, and so has what is compared with it.
    assert [*in_image(packages_of(new))] == ["beta"]
    assert [record.package for record in new.installed()] == ["beta"]


def test_what_a_side_does_not_tell_is_not_compared() -> None:
    """Metadata has versions alone; a lock has no images."""
    known = Side(name="a", packages=packages_of(samples.lock([ALPHA])), images={})
    told = Side(name="out/web", packages={"alpha": Package(version="1")}, images=None)
    found = difference(known, told)
    assert not found.any
    assert found.images is None
    assert text(found) == "a → out/web\npackages: the same"
    assert markdown(found, "web") == ""


FILE = File(kind="file", mode=0o644, uid=0, gid=0, size=3, digest="a")


def test_files_and_images_are_told_with_what_differs() -> None:
    one = Side(
        name="a",
        images={"/": Image(file="web.img", size=10_000_000, raw=20_000_000)},
        files={"/a": FILE, "/b": FILE, "/c": FILE, "/gone": FILE, "/same": FILE},
    )
    other = Side(
        name="b",
        images={"/": Image(file="web.img", size=11_500_000, raw=20_000_000)},
        files={
            "/a": replace(FILE, digest="b"),
            "/b": replace(FILE, size=4, mode=0o4755, uid=7),
            "/c": File(kind="link", mode=0o777, uid=0, gid=0, target="b\n"),
            "/x`y": FILE,
            "/same": FILE,
        },
    )
    found = difference(one, other)
    assert text(found).splitlines() == [
        "a → b",
        "images: 1 changed",
        "    /: 10.0 MB → 11.5 MB (+1.5 MB)",
        "files: 1 added, 1 removed, 3 changed",
        "    /a: other content, 3 bytes",
        "    /b: 3 → 4 bytes; owner 0:0 → 7:0; mode 0644 → 4755",
        "    /c: file 0644 0:0 3 bytes → link 0777 0:0 → b\\n",
        "  - /gone (file 0644 0:0 3 bytes)",
        "  + /x`y (file 0644 0:0 3 bytes)",
    ]
    assert "\n- new: `` /x`y (file 0644 0:0 3 bytes) ``\n" in markdown(found, "web")
    told = json.loads(shown(found, "json", "web"))
    assert told["files"][0] == {
        "path": "/a", "change": "changed",
        "from": {"kind": "file", "mode": 420, "uid": 0, "gid": 0, "size": 3, "digest": "a"},
        "to": {"kind": "file", "mode": 420, "uid": 0, "gid": 0, "size": 3, "digest": "b"},
    }  # fmt: skip
