"""The commands beside the graph: keys, why, prune, verify, doctor, list, import."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from support.file_server import Fault
from support.world import World, says
from tasks.host.files import remove

pytestmark = pytest.mark.root


def test_keys_name_the_files_that_the_cache_has(built: World) -> None:
    document = json.loads(built.doit("keys", "spec=web", "format=json").out)
    stages = built.json()["stages"]
    assert [stage["key"] for stage in document["stages"]] == [stage["key"] for stage in stages]
    assert all((built.root / name).is_file() for one in document["stages"] for name in one["files"])
    text = built.doit("keys", "spec=web").out
    assert all(stage["key"] in text for stage in stages)
    assert built.server.requests == []


def test_why_speaks_of_packages(built: World) -> None:
    def why() -> str:
        build = built.doit("why", "spec=web", check=False)
        # Its own status, so that a script can ask; nothing is told as a failure.
        assert (build.code, build.err) == (2, ""), build.text
        return build.out

    said = built.doit("why", "spec=web").out
    assert said.splitlines() == [
        "hit     base, layer packages, layer app, image /, image /boot",
        "nothing would be redone: every image is in the cache",
    ]
    built.add(built.deb("beta", "2", depends="gamma"))
    # A lock that fits is what a build with lock=keep goes by: nobody is asked.
    assert built.doit("why", "spec=web").out == said
    assert built.server.requests == []
    built.doit("lock", "spec=web")
    said = why()
    says(said, "hit base, layer packages layer app", "would be built packages: beta 1 → 2 (from main)",
         "image /", "would be built what it stands on changed (layer app)")  # fmt: skip
    assert "base " not in said
    built.server.clear()
    why()
    assert built.server.requests == []
    # A lock that does not fit is resolved as a build would, in memory.
    before = built.kept()
    built.edit("packages: [alpha]", "packages: [alpha, delta]")
    says(why(), "specs/web.lock is older than the spec", "packages: + delta 1 (from main)",
         "layer app", "packages: beta 1 → 2 (from main) what it stands on changed (layer packages)")  # fmt: skip
    (built.root / "specs/web.lock").unlink()
    says(why(), "specs/web.lock is missing", "packages: + delta 1 (from main)")
    assert built.kept() == {name: text for name, text in before.items() if "web.lock" not in name}
    built.server.faults["Release"] = Fault(status=404)
    says(why(), "specs/web.lock is missing: a build resolves it first", "a build would end here: ")
    built.server.faults.clear()
    assert (
        "with lock=frozen a build ends here"
        in built.doit("why", "spec=web", "lock=frozen", check=False).out
    )


def test_why_knows_what_was_pruned_and_forgets_what_is_no_spec(built: World) -> None:
    built.build()
    subprocess.run(["cp", "-al", "cache", "kept"], cwd=built.root, check=True)
    (built.root / "specs/web.lock").rename(built.root / "kept.lock")
    built.doit("prune")
    (built.root / "kept.lock").rename(built.root / "specs/web.lock")
    told = built.doit("why", "spec=web", check=False)
    assert told.code == 2
    day = time.strftime("%Y-%m-%d")
    lines = told.out.splitlines()
    assert lines[1::2] == [f"        not in the cache any more (pruned {day})"] * 5
    # Where nothing tells of it, nothing is made up.
    (built.root / ".doit/pruned.json").write_text("[" * 99)
    assert "not in the cache any more\n" in built.doit("why", "spec=web", check=False).out
    remove(built.root / ".doit")
    assert "no earlier build of it is known here" in built.doit("why", "spec=web", check=False).out
    shutil.rmtree(built.root / "cache")
    (built.root / "kept").rename(built.root / "cache")
    built.build("lock=keep")
    (built.root / ".doit/made-of/other.json").write_text("")
    built.doit("prune")
    assert [path.name for path in (built.root / ".doit/made-of").iterdir()] == ["web.json"]


def test_why_compares_with_what_the_spec_was_whatever_became_of_it(built: World) -> None:
    def why(*words: str) -> str:
        build = built.doit("why", "spec=web", "lock=keep", *words, check=False)
        assert (build.code, build.err) == (2, ""), build.text
        return build.out

    text = (built.root / "specs/web.yaml").read_text()
    # A build that fails is none that anybody compares with; the other spec's is none either.
    built.write("scripts/app.sh", "#!/bin/sh\nexit 1\n", 0o755)
    assert built.doit("build", "spec=web", "lock=keep", check=False).code == 1
    says(why(), "hit base, layer packages layer app", "would be built script scripts/app.sh changed",
         "image / ", "what it stands on changed (layer app)")  # fmt: skip
    assert why().count("changed") == 3
    built.write(
        "web.yaml",
        text.replace("layers:\n", "layers:\n  - {name: mid, files: {/m: {content: m}}}\n"),
    )
    says(why(), "layer mid", "would be built it is new: the last build had none layer app",
         "script scripts/app.sh changed what it stands on changed (layer mid)")  # fmt: skip
    built.write("web.yaml", text[: text.index("layers:")] + text[text.index("images:") :])
    says(
        why(),
        "hit base, layer packages image /",
        "would be built what it stands on changed (layer app is gone)",
    )
    # Of several changes, each is told where it was made.
    built.write("web.yaml", text.replace("packages: [beta]", "packages: [beta, delta]"))
    says(
        why(), "layer app", "packages: + delta 1 (from main) script scripts/app.sh changed image /"
    )
    # Where .doit/ is gone, the record of what is published tells, but for sizes.
    built.write("web.yaml", text)
    built.write("files/motd", "other\n\n")
    says(why(), "file /etc/motd changed (6 → 7 bytes) script scripts/app.sh changed image /")
    remove(built.root / ".doit")
    says(why(), "file /etc/motd changed (other content) script scripts/app.sh changed image /")
    # What somebody put in its place commands no terminal, and is not followed.
    (built.root / ".doit/made-of").symlink_to("/etc")
    says(why(), "file /etc/motd changed (other content)")
    remove(built.root / "out")
    says(why(), "no earlier build of it is known here", "nothing is published in out/web/ yet")


def test_prune_keeps_what_a_lock_needs(built: World) -> None:
    built.edit("format: ext2}", "format: ext2, label: boot}")
    built.build()
    count = len(list((built.root / "cache/images").glob("*.img.gz")))
    assert count == 3
    assert "pruned 1 entry" in built.doit("prune").out
    assert len(list((built.root / "cache/images").glob("*.img.gz"))) == 2
    assert set(built.build("lock=keep").values()) == {"hit"}


def test_verify_finds_and_drops_what_is_damaged(built: World) -> None:
    assert ", 0 bad" in built.doit("verify").out
    path = next(iter((built.root / "cache/layers").glob("base-*.tar.zst")))
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.unlink()
    path.write_bytes(content)
    deb = next(iter((built.root / "cache/debs").glob("*.deb")))
    content = bytearray(deb.read_bytes())
    deb.unlink()
    deb.write_bytes(content[:-1])
    build = built.doit("verify", check=False)
    assert build.code != 0
    assert ", 2 bad" in build.text
    assert path.name.partition(".")[0] in build.text
    assert not path.exists()
    assert not deb.exists()


def test_doctor_list_info_and_clean_need_no_network(built: World) -> None:
    assert "ok   root" in built.doit("doctor").out
    assert "layer:app" in built.doit("list", "--all", "spec=web").out
    assert "up-to-date" in built.doit("info", "image:/boot", "spec=web").out
    assert "0x" not in built.doit("info", "build", "spec=web", check=False).out
    assert (built.root / "out/web/web.img.gz").exists()
    built.doit("clean", "spec=web")
    assert not (built.root / "out/web").exists()
    built.doit("forget", "spec=web")
    assert built.server.requests == []
    shutil.rmtree(built.root / ".doit")
    assert set(built.build("lock=keep").values()) == {"hit"}


def test_import_of_fuel_agents_input_builds(built: World, tmp_path: Path) -> None:
    """The spec made from a provisioner's input builds, once its keyring is named.

    Its base is exchanged for the one that the test's small repository has.
    """
    images = {"container": "gzip", "uri": "file:///tmp/fuel.img.gz", "format": "ext4"}
    document = {
        "image_data": {"/": images, "/boot": {**images, "uri": "file:///tmp/fuel-boot.img.gz"}},
        "output": "/tmp/targetimages",
        "repos": [{"name": "main", "type": "deb", "uri": built.server.url, "suite": "stable",
                   "section": "main", "priority": None}],
        "codename": "stable",
        "packages": ["alpha", "beta"],
    }  # fmt: skip
    file = tmp_path / "provision.json"
    file.write_text(json.dumps(document))
    said = built.doit("import", f"file={file}", "spec=fuel").out
    assert "keyring" in said
    path = built.root / "specs/fuel.yaml"
    written = path.read_text()
    assert built.doit("import", f"file={file}", "spec=fuel", check=False).code != 0
    for name in ("../evil", ".evil", "a/b"):
        told = built.doit("import", f"file={file}", f"spec={name}", check=False)
        assert told.code != 0
        assert "expected a name for a file in specs/" in told.err
    assert not (built.root / "evil.yaml").exists()
    assert path.read_text() == written
    spec = yaml.safe_load(written)
    assert spec["packages"] == ["alpha", "beta"]
    spec["base"] = {"tool": "mmdebstrap", "variant": "apt"}
    spec["repos"][0]["keyring"] = "keys/test.gpg"
    spec["layers"] = [{"name": "boot", "files": {"/boot/kernel": {"content": "k"}}}]
    path.write_text(json.dumps(spec))
    results = built.build(spec="fuel")
    assert (results["base"], results["/"]) == ("hit", "built")
    assert set(built.outputs("fuel")) == {"fuel.img.gz", "fuel-boot.img.gz"}


# ---------------------------------------------------------------- what differs by host


def test_digests_are_the_same_whatever_the_mirrors_address(tiny: World) -> None:
    """What a host calls its mirror is in host.json, which SHA256SUMS does not list."""
    out = tiny.root / "out/web"
    tiny.build()
    files = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    here = tiny.server.url
    assert json.loads(files["host.json"]) == {"spec": "web", "repos": {"main": here}}
    assert yaml.safe_load(files["web.yaml"])["repos"][0]["uri"] == "${mirror}"
    assert b"host.json" not in files["SHA256SUMS"]
    assert [name for name, content in files.items() if here.encode() in content] == ["host.json"]

    shutil.rmtree(tiny.root / "cache")
    shutil.rmtree(out)
    other = here.replace("127.0.0.1", "localhost")
    assert other != here
    tiny.build(f"mirror={other}")
    assert (out / "SHA256SUMS").read_bytes() == files["SHA256SUMS"]
    assert json.loads((out / "host.json").read_text())["repos"] == {"main": other}

    tiny.doit("clean", "spec=web")
    assert not out.exists()


def test_mirror_is_never_another_distributions(tiny: World) -> None:
    """A Debian host knows no mirror of Ubuntu, nor the other way, and says so before anything is asked."""
    other = "Debian" if "ID=ubuntu" in Path("/etc/os-release").read_text() else "Ubuntu"
    keyring = f"{other.lower()}-archive-keyring.gpg"
    keys = tiny.root / "specs/keys"
    (keys / "test.gpg").rename(keys / keyring)
    tiny.edit("keys/test.gpg", f"keys/{keyring}")
    told = tiny.doit("check", "spec=web", STRATA_MIRROR="").out
    says(told, "add mirror=ADDRESS, or set STRATA_MIRROR", f"name no mirror of {other}")
    for command in ("lock", "build"):
        failed = tiny.doit(command, "spec=web", check=False, STRATA_MIRROR="")
        assert failed.code == 1
        says(failed.err, "${mirror}: this host's apt sources name no mirror of " + other,
             "add mirror=ADDRESS, or set STRATA_MIRROR")  # fmt: skip
    assert "STRATA_MIRROR" not in tiny.doit("check", "spec=web").out
    tiny.build()
    # Who has all in the cache needs none.
    assert set(tiny.build("lock=frozen", STRATA_MIRROR="").values()) <= {"hit", "skipped"}
    assert json.loads((tiny.root / "out/web/host.json").read_text())["repos"] == {}
