"""Beside the images: bills of materials, provenance, signatures, and what an audit says of them."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from support import bills
from support.world import World, says

pytestmark = pytest.mark.root

PAPERS = ("sbom.cdx.json", "sbom.spdx.json", "provenance.json")


def texts(world: World) -> dict[str, bytes]:
    return {name: (world.root / "out/web" / name).read_bytes() for name in PAPERS}


def verified(folder: Path, public: str, name: str) -> bool:
    """As docs/questions.md says to do it, with nothing of ours."""
    script = (
        r"(printf '\060\052\060\005\006\003\053\145\160\003\041\000'; echo $1 | cut -d: -f2 |"
        " base64 -d) > key.der; openssl pkeyutl -verify -pubin -keyform DER -inkey key.der -rawin"
        " -in $2 -sigfile $2.sig"
    )
    done = subprocess.run(["sh", "-c", script, "sh", public, name], cwd=folder, check=False,
                          capture_output=True)  # fmt: skip
    return done.returncode == 0


def test_papers_say_what_is_in_the_images_and_are_published_as_these_are(built: World) -> None:
    out = built.root / "out/web"
    key = built.root / "ci.key"
    public = built.doit("keygen", "name=ci").out.strip()
    built.edit("fstab: false", "fstab: false\nsbom: true\nprovenance: true")
    said = built.doit("build", "spec=web", "lock=keep", f"sign={key}")
    says(said.text, "hit", "published to out/web/")
    assert "built" not in said.text
    found = texts(built)
    assert bills.faults(found["sbom.cdx.json"].decode(), found["sbom.spdx.json"].decode()) == []
    bill = json.loads(found["sbom.cdx.json"])
    parts = {one["bom-ref"]: one for one in bill["components"]}
    lock = json.loads((built.root / "specs/web.lock").read_text())
    locked = {one["package"]: one for one in (*lock["base"], *lock["layers"][0]["records"])}
    assert parts["alpha"]["hashes"] == [{"alg": "SHA-256", "content": locked["alpha"]["sha256"]}]
    assert parts["alpha"]["publisher"] == "Strata Test <test@example.invalid>"
    assert parts["dpkg"]["licenses"]  # of a real package
    needs = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}
    assert "libc6" in needs["dpkg"]
    assert parts["file:/etc/motd"]["properties"][0]["value"] == "spec"
    # SHA256SUMS has them, its signature holds, and the private key is nowhere.
    subprocess.run(["sha256sum", "--strict", "--status", "-c", "SHA256SUMS"], cwd=out, check=True)
    sums = (out / "SHA256SUMS").read_text()
    assert all(name in sums for name in PAPERS)
    assert ".sig" not in sums
    for name in ("SHA256SUMS", *PAPERS[:2]):
        assert verified(out, public, name)
    (out / "key.der").unlink()
    envelope = json.loads((out / "provenance.intoto.jsonl").read_text())
    assert base64.b64decode(envelope["payload"]) == found["provenance.json"]
    secret = key.read_text().partition(":")[2][:40]
    assert not [
        path for path in out.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()
    ]

    # Nothing to do: nothing is made, and what was signed stays so without the key.
    before = {path: path.stat().st_mtime_ns for path in out.glob("*") if path.name != "build.json"}
    says(built.doit("build", "spec=web", "lock=keep").text, "unchanged in out/web/")
    assert before == {path: path.stat().st_mtime_ns for path in before}
    # The same lock, the same bytes, though out/ is gone; a signature is not kept for what is not there.
    shutil.rmtree(out)
    built.doit("build", "spec=web", "lock=keep")
    assert texts(built) == found
    assert not list(out.glob("*.sig"))
    assert built.doit("sbom", "spec=web", "format=spdx").out.encode() == found["sbom.spdx.json"]
    assert built.doit("provenance", "spec=web").out.encode() == found["provenance.json"]

    advisories = built.root / "tracker.json"
    state = {"status": "open", "repositories": {}, "urgency": "low"}
    told = {
        "beta": {
            "CVE-2026-1": {"description": "a \x1b[31mfault", "releases": {"teststable": state}}
        }
    }
    advisories.write_text(json.dumps(told))
    said = built.doit("audit", "spec=web", f"file={advisories}", check=False)
    assert said.code == 2
    says(said.out, "web: 1 open", "beta 1 (beta)", "CVE-2026-1", "low, no fix yet", "a ?[31mfault")
    for words in (["fixed=1"], ["severity=high"]):
        assert built.doit("audit", "spec=web", f"file={advisories}", *words).code == 0

    # What a spec asks for no more goes, and a signature of what is another now.
    built.edit("sbom: true\nprovenance: true", "sbom: {files: true}")
    built.doit("build", "spec=web", "lock=keep", STRATA_SIGN=str(key))
    assert len(list(out.glob("*.sig"))) == 3
    names = {one["name"] for one in json.loads((out / PAPERS[0]).read_bytes())["components"]}
    assert {"/usr/bin/dpkg", "/etc/motd"} <= names
    assert not names & {"/etc/shadow", "/etc/gshadow"}
    built.edit("sbom: {files: true}\n", "")
    built.doit("build", "spec=web", "lock=keep")
    assert not [path for path in out.iterdir() if path.name in PAPERS or path.suffix == ".sig"]


def test_trees_that_are_gone_are_made_for_a_bill_alone(tiny: World) -> None:
    tiny.write("web.yaml", (tiny.root / "specs/web.yaml").read_text() + "sbom: true\n")
    assert tiny.build() == {"base": "built", "/": "built"}
    first = (tiny.root / "out/web/sbom.cdx.json").read_bytes()
    for path in (tiny.root / "cache/layers").iterdir():
        path.unlink()
    assert tiny.build() == {"base": "skipped", "/": "hit"}
    says(tiny.doit("sbom", "spec=web", check=False).err, "the cache has no tree of base",
         "strata base layer spec=web lock=keep")  # fmt: skip
    (tiny.root / "out/web/sbom.cdx.json").write_text("another")
    assert tiny.build() == {"base": "built", "/": "hit"}
    assert (tiny.root / "out/web/sbom.cdx.json").read_bytes() == first
    # A key that everybody can read, or none, is refused before anything is done.
    tiny.doit("keygen", "name=ci")
    key = tiny.root / "ci.key"
    key.chmod(0o644)
    for given, told in ((key, "everybody can read it"), (tiny.root / "gone", "cannot be read"),
                        (tiny.root / "specs/web.yaml", "this is no signing key")):  # fmt: skip
        said = tiny.refused(f"sign={given}", told, words=[f"sign={given}"])
        assert key.read_text().partition(":")[2].strip() not in said
