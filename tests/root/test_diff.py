"""`diff` and `outdated` on builds of a small spec."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from support.world import TINY, World, says

pytestmark = pytest.mark.root


def git(world: World, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *who, *words], cwd=world.root, check=True, capture_output=True)


def test_what_is_outdated_and_what_an_upgrade_changed(tiny: World) -> None:
    tiny.write("web.yaml", TINY)
    tiny.build()
    git(tiny, "init", "-q")
    git(tiny, "add", "specs")
    git(tiny, "commit", "-qm", "first")
    assert tiny.doit("outdated", "spec=web").out.strip().endswith("packages: the same")
    shutil.copytree(tiny.root / "out/web", tiny.root / "old")

    # As in an archive's pool, whose Release names the place of changelogs.
    tiny.repository.add(tiny.deb("beta", "2", files={"/usr/beta": "22\n", "/etc/new": "n\n"}))
    tiny.repository.changelogs = f"{tiny.server.url}/changelogs/@CHANGEPATH@_changelog"
    place = tiny.repository.pool / "b/beta"
    place.mkdir(parents=True)
    (tiny.repository.pool / "beta_2_all.deb").rename(place / "beta_2_all.deb")
    tiny.repository.publish()
    logs = tiny.repository.root / "changelogs/main/b/beta"
    logs.mkdir(parents=True)
    (logs / "beta_2_changelog").write_text(
        "beta (2) a; urgency=low\n\n  * New.\n\n -- A\n\nbeta (1) a; urgency=low\n\n  * Old.\n"
    )
    before = tiny.kept()
    found = tiny.doit("outdated", "spec=web", "changelog=1", check=False)
    assert found.code == 2
    says(found.out, "beta 1 → 2 (from main) changelog of beta (beta) 2 * New.")
    assert "Old" not in found.out
    (logs / "beta_2_changelog").unlink()
    found = tiny.doit("outdated", "spec=web", "changelog=1", check=False)
    assert (found.code, "changelog of" in found.out) == (2, False)
    found = tiny.doit("outdated", "spec=web", check=False)
    assert found.code == 2
    says(found.out, "packages: 1 changed", "beta 1 → 2 (from main)")
    told = tiny.doit("outdated", "spec=web", "format=json", check=False)
    assert [one["package"] for one in json.loads(told.out)["packages"]] == ["beta"]
    assert tiny.kept() == before
    assert tiny.doit("build", "spec=web", "lock=keep").code == 0
    assert (
        tiny.kept()[str(tiny.root / "specs/web.lock")]
        == (before[str(tiny.root / "specs/web.lock")])
    )

    tiny.build()
    says(tiny.doit("diff", "spec=web").out, "HEAD:specs/web.lock → specs/web.lock",
         "packages: 1 changed", "beta 1 → 2 (from main)")  # fmt: skip
    whole = tiny.doit("diff", "from=old", "to=out/web").out
    says(whole, "old → out/web", "beta 1 → 2", "images: 1 changed", "files: 1 added, 1 changed",
         "+ /etc/new (file 0644 0:0 2 bytes)", "/usr/beta: 2 → 3 bytes")  # fmt: skip
    assert "baseline" not in whole
    one = tiny.doit("diff", "from=old/web.img.gz", "to=out/web/web.img.gz").out
    says(one, "old/web.img.gz → out/web/web.img.gz", "files: 1 added, 1 changed")
    # Images that no build tells of, in whatever container, and one that a build does.
    shutil.copy(tiny.root / "old/web.img.gz", tiny.root / "was")
    with (tiny.root / "now.img").open("wb") as raw:
        subprocess.run(["gzip", "-dc", tiny.root / "out/web/web.img.gz"], stdout=raw, check=True)
    for now in ("now.img", "out/web/web.img.gz"):
        read = tiny.doit("diff", "from=was", f"to={now}").out
        says(read, f"was → {now}", "images: 1 changed", "files: 1 added, 1 changed",
             "+ /etc/new (file 0644 0:0 2 bytes)", "/usr/beta: 2 → 3 bytes")  # fmt: skip
        assert read.count("\n") == 6, read
    alone = tiny.doit("diff", "from=now.img", "to=web")
    says(alone.text, "now.img → specs/web.lock")
    says(alone.err, "one side is no image")
    # A spec that the commit had not is new as a whole; one that is named there must be.
    shutil.copy(tiny.root / "specs/web.yaml", tiny.root / "specs/new.yaml")
    shutil.copy(tiny.root / "specs/web.lock", tiny.root / "specs/new.lock")
    says(tiny.doit("diff", "spec=new").out, "(not there) → specs/new.lock", "packages: 2 added")
    absent = tiny.doit("diff", "from=HEAD:new", "to=web", check=False)
    says(absent.err, "from=HEAD:new: the revision has no specs/new.lock")
    # Saved alone, a build.json is told by the cache.
    shutil.copy(tiny.root / "old/build.json", tiny.root / "before.json")
    told = tiny.doit("diff", "from=before.json", "to=out/web", "format=json")
    assert {"packages", "images", "files"} < set(json.loads(told.out))
    says(
        tiny.doit("diff", "from=HEAD:web", "to=web", "format=markdown").out, "### ", "- `beta 1 → 2"
    )
    assert tiny.doit("diff", "spec=web", "to=HEAD", "format=markdown").out == ""


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["diff", "from=nosuch", "to=web"], ["from=nosuch", "there is no such lock"]),
        (["diff", "spec=web", "from=nosuch"], ["from=nosuch", "no such revision"]),
        (["diff", "from=HEAD:nosuch", "spec=web"], ["from=HEAD:nosuch", "no such revision"]),
        (["diff", "spec=web", f"from={'n' * 5_000}"], ["no such revision"]),
        (["diff", "spec=web", "from=--all"], ["from=--all", "it names no revision"]),
        (["diff", "from=a.lock"], ["to= is missing"]),
        (["diff", "spec=web", "from=a.lock"], ["a.lock: not a lock that Strata wrote"]),
        (["diff", "spec=web", "from=b.json"], ["from=b.json: this is no build.json"]),
        (
            ["diff", "spec=web", "from=web"],
            ["specs/web.lock: there is none yet", "doit lock spec=web"],
        ),
        (["diff", "from=c.img", "to=c.img"], ["c.img: it holds nothing that blkid knows"]),
        (["diff", "from=d.img", "to=d.img"], ["d.img: gzip cannot read it"]),
        (["diff", "from=e.img", "to=e.img"], ["e.img: it is a disk with partitions"]),
        (["diff", "spec=web", "format=github"], ["diff format=github"]),
        (["outdated", "spec=web"], ["specs/web.lock: there is none yet", "doit lock spec=web"]),
        (["outdated", "spec=web", "format=gitlab"], ["outdated format=gitlab: expected text"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_what_cannot_be_compared_is_told(tiny: World, words: list[str], parts: list[str]) -> None:
    (tiny.root / "a.lock").write_text("{}")
    (tiny.root / "b.json").write_text('{"spec": 3}')
    (tiny.root / "c.img").touch()
    (tiny.root / "d.img").write_bytes(b"\x1f\x8b")
    # A boot sector with one partition of Linux in its table.
    entry = bytes([0, 0, 2, 0, 0x83, 0, 3, 0]) + (1).to_bytes(4, "little") * 2
    (tiny.root / "e.img").write_bytes(
        entry.rjust(462, b"\0").ljust(510, b"\0") + b"\x55\xaa" + bytes(1024)
    )
    done = tiny.doit(*words, check=False)
    assert done.code == 1, done.text
    assert "Traceback" not in done.text
    says(done.text, *parts)
