"""Bills of materials and provenance as text: valid by their makers' own validators, the same twice."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from packageurl import PackageURL

from support import bills, samples
from support.samples import record
from tasks.plan.lockfile import OWN, Lock, LockedRepo
from tasks.plan.plan import make_plan
from tasks.plan.stage import Plan
from tasks.remote import signing
from tasks.rootfs.inventory import Every, Inventory, Sums, inventory
from tasks.sbom import cyclonedx, provenance, spdx
from tasks.sbom.bill import Bill, bill_of, dated, declared
from tasks.spec.model import Spec
from tasks.stages.papers import revision

REPOS = (
    LockedRepo(name="main", release="a" * 64, date="Sat, 01 Nov 2025 10:00:00 UTC",
               fields={"Origin": "Debian", "Codename": "bookworm", "Version": "12.12"}),
    LockedRepo(name="security", release="b" * 64, date="Sun, 02 Nov 2025 10:00:00 UTC",
               fields={"Origin": "Debian", "Codename": "bookworm-security"}),
    LockedRepo(name="vendor", release="c" * 64, date="", fields={"Origin": "Some Vendor"}),
)  # fmt: skip

RECORDS = [
    record("libc6", "2.36-9+deb12u13", repository="security"),
    record("libssl3", "3.0.17-1~deb12u3"),
    record("bash", "5.2.15-2+b9"),
    record("libstdc++6", "12.2.0-14"),
    record("agent", "1:2.0", repository="vendor"),
    record("ours", "7", "all", repository=OWN, path="debs/ours_7_all.deb"),
]

FIELDS: dict[tuple[str, str], dict[str, str]] = {
    ("libssl3", "amd64"): {"Version": "3.0.17-1~deb12u3", "Source": "openssl",
                           "Depends": "libc6 (>= 2.34), gone | debconf-2.0:any",
                           "Maintainer": "Debian OpenSSL Team <team@tracker.invalid>",
                           "Homepage": "https://www.openssl.invalid/", "Description": "SSL\nmore"},
    ("bash", "amd64"): {"Version": "5.2.15-2+b9", "Source": "bash (5.2.15-2)", "Provides": "debconf-2.0",
                        "Pre-Depends": "libc6", "Homepage": "javascript:alert(1)",
                        "Maintainer": "\x1b[31m<script>", "Description": "x" * 5000},
    ("libc6", "amd64"): {"Version": "1", "Source": "another version's"},
}  # fmt: skip

LICENCES = {
    "libssl3": ("Apache-2.0", "Artistic-1.0-Perl OR GPL-1.0-or-later", "LicenseRef-x"),
    "bash": ("GPL-3.0-or-later",),
}

SUMS = Sums("a" * 40, "b" * 64, 3, "bash")


def planned(folder: Path) -> tuple[Spec, Plan, Lock]:
    lock = samples.lock(RECORDS, {"packages": []}, repos=REPOS)
    spec = samples.load(folder, packages=["bash"])
    files = [["/etc/motd", "file", "c" * 64, 0o644, "0:0"], ["/etc/l", "link", "", 0o777, "0:0"]]
    return spec, make_plan(spec, lock, samples.host(spec, files={"packages": files})), lock


@pytest.fixture
def bill(tmp_path: Path) -> Bill:
    spec, plan, _lock = planned(tmp_path)
    files = {"/etc/motd": SUMS._replace(package=""), "/bin/bash": SUMS, "/bin/ünï\\xff": SUMS}
    found = Inventory(fields=FIELDS, licences=LICENCES, files=files)
    return bill_of(spec, plan, "d" * 64, found, None)


def test_purls_name_the_vendor_the_release_and_the_source(bill: Bill) -> None:
    purls = {part.name: part.purl for part in bill.parts}
    ours = next(one for one in RECORDS if one.package == "ours")
    assert purls == {
        "libc6": "pkg:deb/debian/libc6@2.36-9%2Bdeb12u13?arch=amd64&distro=bookworm",
        "libssl3": "pkg:deb/debian/libssl3@3.0.17-1~deb12u3?arch=amd64&distro=bookworm&upstream=openssl",
        "bash": "pkg:deb/debian/bash@5.2.15-2%2Bb9?arch=amd64&distro=bookworm&upstream=bash%405.2.15-2",
        "libstdc++6": "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14?arch=amd64&distro=bookworm",
        "agent": "pkg:deb/some-vendor/agent@1:2.0?arch=amd64&distro=bookworm",
        "ours": f"pkg:generic/ours@7?arch=all&checksum=sha256:{ours.sha256}",
    }
    for purl in purls.values():
        assert PackageURL.from_string(purl).to_string() == purl


def test_a_package_says_what_the_tree_knows_and_nothing_that_is_not_of_it(bill: Bill) -> None:
    parts = {part.name: part for part in bill.parts}
    ssl, bash, libc = parts["libssl3"], parts["bash"], parts["libc6"]
    assert (ssl.source, ssl.source_version, ssl.summary) == ("openssl", "3.0.17-1~deb12u3", "SSL")
    assert ssl.maintainer == ("Debian OpenSSL Team", "team@tracker.invalid")
    assert ssl.depends == (
        "bash",
        "libc6",
    )  # by what bash provides; the first alternative is not there
    assert (
        declared(ssl) == "Apache-2.0 AND (Artistic-1.0-Perl OR GPL-1.0-or-later) AND LicenseRef-x"
    )
    assert bash.homepage == ""
    assert bash.maintainer == ("?[31m<script>", "")
    assert len(bash.summary) == 500
    assert libc.source == "libc6"  # what dpkg says of another version is not of this one
    assert bill.epoch == 1762077600  # the newest of the repositories' dates
    assert (list(bill.own), list(bill.files)) == (["/etc/motd"], ["/bin/bash", "/bin/ünï\\xff"])


def test_both_forms_are_valid_by_the_published_schemas(bill: Bill) -> None:
    made = cyclonedx.text(bill)
    text = spdx.text(bill)
    assert bills.faults(made, text) == []
    document = json.loads(made)
    assert document["specVersion"] == "1.6"
    by_ref = {one["bom-ref"]: one for one in document["components"]}
    assert by_ref["bash"]["licenses"] == [
        {"license": {"id": "GPL-3.0-or-later", "acknowledgement": "declared"}}
    ]
    assert "licenses" not in by_ref["libc6"]
    assert by_ref["file:/etc/motd"]["properties"] == [{"name": "strata:origin", "value": "spec"}]
    said = json.loads(text)
    assert said["spdxVersion"] == "SPDX-2.3"
    declares = {one["name"]: one.get("licenseDeclared") for one in said["packages"]}
    assert declares["libc6"] == "NOASSERTION"
    assert declares["libssl3"] == declared(next(p for p in bill.parts if p.name == "libssl3"))


def test_the_same_lock_gives_the_same_bytes_and_another_one_another_serial(
    bill: Bill, tmp_path: Path
) -> None:
    spec, plan, _lock = planned(tmp_path / "again")
    found = Inventory(fields=FIELDS, licences=LICENCES, files={})
    first, again = (bill_of(spec, plan, "d" * 64, found, None) for _ in range(2))
    assert cyclonedx.text(first) == cyclonedx.text(again)
    assert spdx.text(first) == spdx.text(again)
    other = bill_of(spec, plan, "e" * 64, found, None)
    assert len({first.serial, other.serial, bill.serial}) == 3
    assert bill_of(spec, plan, "d" * 64, found, 86400).epoch == 86400
    assert '"timestamp": "2025-11-02T10:00:00+00:00"' in cyclonedx.text(first)


def test_without_any_date_it_is_of_1970() -> None:
    assert dated(samples.lock(RECORDS[:1])) == 0


def tarball(path: Path, *entries: tuple[str, bytes | str | None, int]) -> Path:
    """Files by their bytes, links by a text, whiteouts by None; with their modes."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, what, mode in entries:
            info = tarfile.TarInfo(f"./{name}")
            info.mode = mode
            if what is None:
                info.type = tarfile.CHRTYPE
            elif isinstance(what, str):
                info.type, info.linkname = tarfile.LNKTYPE, what
            else:
                info.size = len(what)
            archive.addfile(info, io.BytesIO(what) if isinstance(what, bytes) else None)
    packed = subprocess.run(["zstd", "-qc"], input=data.getvalue(), stdout=-1, check=True)
    path.write_bytes(packed.stdout)
    return path


def test_files_are_those_that_are_seen_and_that_everybody_may_read(tmp_path: Path) -> None:
    status = b"Package: one\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n"
    base = tarball(
        tmp_path / "base",
        ("usr/bin/a", b"a", 0o755), ("usr/bin/b", "./usr/bin/a", 0o755), ("etc/shadow", b"s", 0o640),
        ("etc/d/x", b"x", 0o644), ("etc/e", b"e", 0o644), ("var/lib/dpkg/status", status, 0o644),
        ("var/lib/dpkg/info/one.list", b"/.\n/bin/a\n/etc/e\n", 0o644),
    )  # fmt: skip
    layer = tarball(tmp_path / "layer", ("etc/d", None, 0), ("etc/e", b"new", 0o644),
                    ("var/lib/dpkg/status", None, 0), ("usr/bin/a", b"s", 0o700))  # fmt: skip
    found = inventory([base, layer], Every())
    sizes = {path: (one.size, one.package) for path, one in found.files.items()}
    assert sizes == {"/usr/bin/b": (1, ""), "/etc/e": (3, "one"),
                     "/var/lib/dpkg/info/one.list": (17, "")}  # fmt: skip
    assert found.fields["one", "all"]["Version"] == "1"  # removed, and known nevertheless
    assert inventory([base], {"/etc/e"}).files.keys() == {"/etc/e"}


# ---------------------------------------------------------------- provenance and signatures


def said(folder: Path, **fields: Any) -> dict[str, Any]:
    spec, plan, _lock = planned(folder)
    known = {"lock": "d" * 64, "text": "e" * 64, "revision": "f" * 40, **fields}
    return provenance.statement(spec, plan, {"web.img": "9" * 64}, **known)


def test_provenance_is_a_statement_on_the_images_without_times(tmp_path: Path) -> None:
    found = said(tmp_path)
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["subject"] == [{"name": "web.img", "digest": {"sha256": "9" * 64}}]
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    definition = found["predicate"]["buildDefinition"]
    assert set(definition) == {"buildType", "externalParameters", "internalParameters",
                               "resolvedDependencies"}  # fmt: skip
    materials = {one["name"]: one["digest"] for one in definition["resolvedDependencies"]}
    assert materials["lock"] == {"sha256": "d" * 64}
    assert materials["project"] == {"gitCommit": "f" * 40}
    assert materials["ours_7_all.deb"]["sha256"] == RECORDS[-1].sha256
    assert set(definition["internalParameters"]["keys"]) >= {"base", "layer:packages", "image:/"}
    less = said(tmp_path, text="", revision="")["predicate"]["buildDefinition"]
    assert not {"spec", "project"} & {one["name"] for one in less["resolvedDependencies"]}
    assert not re.search(r"20\d\d-\d\d", json.dumps(found))


def test_who_builds_is_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATA_BUILDER_ID", "https://ci.invalid/runner@1")
    run = said(tmp_path)["predicate"]["runDetails"]
    assert run["builder"]["id"] == "https://ci.invalid/runner@1"
    monkeypatch.setenv("STRATA_BUILDER_ID", "\x1b]0;me")
    with pytest.raises(Exception, match="expected an address"):
        said(tmp_path)


@pytest.mark.starts
def test_openssl_verifies_what_is_signed(tmp_path: Path) -> None:
    key = signing.generate("ci")
    raw = bytes.fromhex("302a300506032b6570032100") + key.public.raw
    (tmp_path / "key.der").write_bytes(raw)

    def verified(content: bytes, signature: bytes) -> bool:
        (tmp_path / "content").write_bytes(content)
        (tmp_path / "sig").write_bytes(signature)
        argv = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "key.der",
                "-rawin", "-in", "content", "-sigfile", "sig"]  # fmt: skip
        done = subprocess.run(argv, cwd=tmp_path, check=False, capture_output=True)
        return done.returncode == 0

    assert verified(b"content", key.signature(b"content"))
    assert not verified(b"other", key.signature(b"content"))
    payload = provenance.text_of(said(tmp_path)).encode()
    made = json.loads(provenance.envelope(payload, key))
    assert base64.b64decode(made["payload"]) == payload
    (one,) = made["signatures"]
    # DSSE 1.0's own words: "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body.
    pae = b"DSSEv1 28 application/vnd.in-toto+json " + str(len(payload)).encode() + b" " + payload
    assert one["keyid"] == "ci"
    assert verified(pae, base64.b64decode(one["sig"]))


@pytest.mark.starts
def test_a_commit_is_named_if_all_of_the_project_is_in_it(tmp_path: Path) -> None:
    project = tmp_path / "images"
    project.mkdir()

    def git(*words: str) -> str:
        who = ("-c", "user.name=n", "-c", "user.email=n@n.invalid")
        argv = ["git", *who, *words]
        return subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    assert revision(project) == ""  # no repository
    git("init", "-q")
    (project / "web.yaml").write_text("1")
    assert revision(project) == ""
    git("add", ".")
    git("commit", "-qm", "one")
    first = git("rev-parse", "HEAD").strip()
    assert revision(project) == first
    (tmp_path / "elsewhere").write_text("of no image")
    git("add", ".")
    git("commit", "-qm", "two")
    assert revision(project) == first
    (project / "web.yaml").write_text("2")
    assert revision(project) == ""
