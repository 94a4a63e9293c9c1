"""On whose word what others made is taken from a shared cache: signatures, doubt, lies and hostile entries."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.teams import Team, make_key
from support.world import World, says
from tasks.host.files import sha256_of
from tasks.store.record import record_sum

pytestmark = pytest.mark.root


def test_who_is_not_trusted_is_told_once_and_not_used(team: Team) -> None:
    _, stranger = make_key(team.first, "other", team.folder)
    for number, trust in enumerate(("", stranger)):
        other = team.clone(f"b{number}")
        said = team.build(other, trust=trust)
        assert set(other.results().values()) == {"built"}
        assert said.text.count("warning:") == 1
        says(said.text, "signed by ci, none of whom is trusted here", "STRATA_TRUSTED_KEYS",
             "cache_trust=any")  # fmt: skip
        assert other.outputs() == team.first.outputs()


def test_keys_are_changed_while_both_are_trusted(team: Team) -> None:
    key, line = make_key(team.first, "ci-2", team.folder)
    both = f"{team.line}\n{line}"
    middle = team.clone("middle")
    # Whoever has the new key and trusts the old one signs what came with the old one's signature.
    assert team.run(middle, "pull", "spec=web", trust=both).code == 0
    team.run(middle, "push", "spec=web", trust=both, STRATA_SIGNING_KEY=str(key))
    for path in team.records():
        assert set(json.loads(path.read_text())["signatures"]) == {"ci", "ci-2"}
    other = team.clone("b")
    team.build(other, trust=line)
    assert other.results() == {"base": "skipped", "/": "pulled"}


def test_what_nobody_vouches_for_is_taken_only_where_that_is_said(team: Team) -> None:
    team.edit(lambda record: record.pop("signatures"))
    other = team.clone("b")
    team.build(other, "cache_trust=any")
    assert other.results() == {"base": "skipped", "/": "pulled"}
    # Said once is not said for ever: the next build, without the word, makes it.
    team.build(other)
    assert other.results() == {"base": "built", "/": "built"}


def test_a_signer_signs_nothing_that_others_made(team: Team) -> None:
    """Not what came unsigned, not what stands on it, not what another checkout left in a cache."""
    signer: dict[str, Any] = {"STRATA_SIGNING_KEY": str(team.key)}
    # Of a pull request's machine: unsigned, in a shared cache of its own.
    pr = team.clone("pr")
    pr.doit("build", "spec=web", "lock=frozen", f"cache=file://{team.folder}/pr-share",
            "cache_mode=push")  # fmt: skip
    team.share = team.folder / "pr-share"
    assert all("signatures" not in json.loads(path.read_text()) for path in team.records())
    main = team.clone("main")
    main.edit("format: ext2", "format: ext3")
    team.build(main, "cache_trust=any")
    assert main.results() == {"base": "pulled", "/": "built"}
    team.share = team.folder / "main-share"
    said = team.run(main, "push", "spec=web", "cache_trust=any", **signer)
    says(said.text, "not sent", "built by another checkout")
    assert not (team.share / "ac").exists()
    # In a cache on the same machine, that both use: who does not sign takes it, and nothing that stands on
    # it is signed later.
    common: dict[str, Any] = {"STRATA_CACHE": str(team.folder / "common")}
    team.clone("pr-2").doit("build", "spec=web", "lock=frozen", **common)
    for path in (team.folder / "common/images").glob("image-*"):
        path.unlink()
    main = team.clone("main-2")
    main.doit("build", "spec=web", "lock=frozen", **common)
    assert main.results() == {"base": "hit", "/": "built"}
    said = team.run(main, "push", "spec=web", **signer, **common)
    says(said.text, "not sent", "built by another checkout", "or stands on what was")
    assert not (team.share / "ac").exists()
    # Who signs makes it anew, and so vouches for it.
    said = team.run(main, "build", "spec=web", "lock=frozen", "cache_mode=both", **signer, **common)
    assert set(main.results().values()) == {"built"}
    assert {
        name for path in team.records() for name in json.loads(path.read_text())["signatures"]
    } == {"ci"}
    # From another checkout, too: the signature is with the entry.
    again = team.clone("main-3")
    team.run(again, "build", "spec=web", "lock=frozen", **signer, **common)
    assert again.results() == {"base": "hit", "/": "hit"}


def test_a_foreign_base_that_holds_more_is_in_no_image_that_is_signed(team: Team) -> None:
    """Its record is in order; what is in its tarball nobody has signed."""
    common: dict[str, Any] = {"STRATA_CACHE": str(team.folder / "common")}
    pr = team.clone("pr")
    pr.doit("build", "spec=web", "lock=frozen", **common)
    evil = team.folder / "evil"
    evil.mkdir()
    (tarball,) = (team.folder / "common/layers").glob("base-*.tar.zst")
    subprocess.run(["tar", "-C", evil, "--zstd", "-xf", tarball], check=True)
    (evil / "EVIL").write_text("x\n")
    subprocess.run(["tar", "-C", evil, "--zstd", "-cf", tarball, "."], check=True)
    record = tarball.with_name(tarball.name.removesuffix(".tar.zst") + ".json")
    content = json.loads(record.read_text())
    content["file"] |= {"sha256": sha256_of(tarball), "size": tarball.stat().st_size}
    content["sum"] = record_sum(content)
    record.write_text(json.dumps(content))
    for path in (team.folder / "common/images").glob("image-*"):
        path.unlink()
    main = team.clone("main")
    shutil.rmtree(team.share)
    team.run(main, "build", "spec=web", "lock=frozen", "cache_mode=both",
             STRATA_SIGNING_KEY=str(team.key), **common)  # fmt: skip
    assert set(main.results().values()) == {"built"}
    assert main.outputs() == team.first.outputs()


def test_doubt_goes_through_all_that_stands_between(built: World, tmp_path: Path) -> None:
    """A tree is made of all stages below it, not of the one just below."""
    share = tmp_path / "share"
    line = built.doit("keygen", "name=ci").out.strip()
    shutil.move(built.root / "ci.key", tmp_path / "ci.key")
    built.doit("push", "spec=web", f"cache=file://{share}")
    other = built.clone(tmp_path / "b", cache="layers/layer-*")
    other.edit("format: ext4", "format: ext3")
    other.doit("build", "spec=web", "lock=frozen", f"cache=file://{share}", "cache_trust=any")
    assert other.results() == {"base": "pulled", "packages": "hit", "app": "hit", "/": "built",
                               "/boot": "pulled"}  # fmt: skip
    said = other.doit("push", "spec=web", f"cache=file://{tmp_path}/new", STRATA_SIGNING_KEY=str(tmp_path / "ci.key"),
                      STRATA_TRUSTED_KEYS=line)  # fmt: skip
    says(said.text, "not sent", "stands on what was")
    assert not (tmp_path / "new/ac").exists()
    # Nor does it count where nobody's word was said to do.
    found = [json.loads(path.read_text()) for path in (other.root / "cache/images").glob("*.json")]
    assert [record.get("trust") for record in found] == ["any", "any"]


def test_what_was_signed_keeps_no_more_signatures_than_are_good(team: Team) -> None:
    team.edit(lambda record: record["signatures"].update({f"k{n}": "AAAA" for n in range(14)}))
    key, line = make_key(team.first, "ci-2", team.folder)
    main = team.clone("main")
    both = f"{team.line} {line}"
    assert team.run(main, "pull", "spec=web", trust=both).code == 0
    team.run(main, "push", "spec=web", trust=both, STRATA_SIGNING_KEY=str(key))
    for path in team.records():
        assert set(json.loads(path.read_text())["signatures"]) == {"ci", "ci-2"}


def test_what_was_restored_passes_on_no_more_signatures_than_are_good(team: Team) -> None:
    """As a CI cache may bring it: one signature more would make the record useless for all."""
    for path in (team.first.root / "cache").glob("*/*.json"):
        record = json.loads(path.read_text())
        record["signatures"] |= {f"k{n}": "AAAA" for n in range(15)}
        record["sum"] = record_sum(record)
        path.write_text(json.dumps(record))
    key, line = make_key(team.first, "ci-2", team.folder)
    shutil.rmtree(team.share)
    both = f"{team.line} {line}"
    team.run(team.first, "push", "spec=web", trust=both, STRATA_SIGNING_KEY=str(key))
    for path in team.records():
        assert set(json.loads(path.read_text())["signatures"]) == {"ci", "ci-2"}


def test_a_signed_entry_of_a_later_cache_comes_before_an_unsigned_one(team: Team) -> None:
    unsigned = team.folder / "unsigned"
    shutil.copytree(team.share, unsigned)
    signed, team.share = team.share, unsigned
    team.edit(lambda record: record.pop("signatures"))
    other = team.clone("b")
    other.doit("build", "spec=web", "lock=frozen", f"cache=file://{unsigned},file://{signed}", "cache_trust=any",
               STRATA_TRUSTED_KEYS=team.line)  # fmt: skip
    assert other.results() == {"base": "skipped", "/": "pulled"}
    team.build(other)  # signed, it counts for all
    assert other.results() == {"base": "skipped", "/": "hit"}


def test_what_a_commit_brings_is_not_taken_for_what_was_built_here(team: Team) -> None:
    other = team.clone("b")
    for name in ("cache/images", "cache/layers", ".doit/built"):
        shutil.copytree(team.first.root / name, other.root / name)
    for path in (other.root / ".doit/built").iterdir():
        path.chmod(0o644)  # git has no other mode for it
    team.edit(lambda record: record.pop("signatures"))
    for path in (other.root / "cache").glob("*/*.json"):
        content = json.loads(path.read_text())
        content.pop("signatures", None)
        content["sum"] = record_sum(content)
        path.write_text(json.dumps(content))
    shutil.rmtree(team.share)
    said = team.run(other, "push", "spec=web", STRATA_SIGNING_KEY=str(team.key))
    says(said.text, "not sent")
    assert not (team.share / "ac").exists()


def test_a_signed_record_takes_the_place_of_one_that_nobody_believes(team: Team) -> None:
    team.edit(lambda record: record["signatures"].update(ci="AAAA"))
    main = team.clone("main")
    said = team.build(main, "cache_mode=both", STRATA_SIGNING_KEY=str(team.key))
    assert set(main.results().values()) == {"built"}
    assert said.text.count("warning:") == 1
    other = team.clone("b")
    team.build(other)
    assert other.results() == {"base": "skipped", "/": "pulled"}


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another file": lambda record: record["file"].update(sha256="0" * 64),
    "another size": lambda record: record["file"].update(size=record["file"]["size"] + 1),
    "a fact": lambda record: record["facts"].update(lie=1),
    "an input": lambda record: record["inputs"].update(arch="s390x"),
    "another stage": lambda record: record.update(stage="layer"),
    "another key": lambda record: record.update(key="0" * 32),
    "no facts": lambda record: record.pop("facts"),
    "a format to come": lambda record: record.update(format=99),
    "a name that leads away": lambda record: record["file"].update(name="../../etc/passwd"),
    "depth": lambda record: record["facts"].update(lie=json.loads("[" * 40 + "]" * 40)),
    "length": lambda record: record["facts"].update(lie="x" * (1 << 20)),
    "many signatures": lambda record: record.update(
        signatures={f"k{n}": "AAAA" for n in range(99)}
    ),
    "a signature that is none": lambda record: record.update(signatures={"ci": 5}),
    "signatures that are none": lambda record: record.update(signatures=[]),
    "text": lambda record: record.clear(),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_record_that_was_changed_is_not_used(team: Team, lie: str) -> None:
    team.edit(LIES[lie])
    other = team.clone("b")
    said = team.run(other, "pull", "spec=web")
    assert "Traceback" not in said.text
    assert said.text.count("warning:") == 1, said.text
    says(said.text, "base", "not there", "image /", "not there")
    assert not list((other.root / "cache/images").glob("image-*"))


@pytest.mark.parametrize("lie", ["another file", "another size", "an input", "another stage"])
def test_nor_is_one_whose_signer_lies(team: Team, lie: str) -> None:
    """Inputs and file are compared whoever signed."""
    team.edit(LIES[lie], sign=True)
    said = team.run(team.clone("b"), "pull", "spec=web")
    says(said.text, "it is not used", "base", "not there", "image /", "not there")
    assert said.text.count("warning:") == 1, said.text


def test_a_file_that_is_another_is_not_used_and_sent_again(team: Team) -> None:
    files = [team.share / "cas" / json.loads(path.read_text())["file"]["sha256"]
             for path in team.records()]  # fmt: skip
    whole = [path.read_bytes() for path in files]
    for path, content in zip(files, whole, strict=True):
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    main = team.clone("main")
    said = team.build(main, "cache_mode=both", STRATA_SIGNING_KEY=str(team.key))
    says(said.text, "warning:", "another SHA-256")
    assert set(main.results().values()) == {"built"}
    assert [path.read_bytes() for path in files] == whole


def hostile(folder: Path) -> bytes:
    """A tree's tarball, with members that aim at `folder` of the host."""
    members: list[tuple[str, str, bytes]] = [
        ("./way", str(folder), b""), ("./way/new", "", b"x"), ("./way/file", "", b"x"),
        (f"{folder}/new", "", b"x"), ("../" * 12 + f"{folder}/new"[1:], "", b"x"),
    ]  # fmt: skip
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, link, content in members:
            info = tarfile.TarInfo(name)
            info.type = tarfile.SYMTYPE if link else tarfile.REGTYPE
            info.linkname, info.size = link, len(content)
            archive.addfile(info, io.BytesIO(content))
    done = subprocess.run(["zstd", "-c"], input=packed.getvalue(), check=True, capture_output=True)
    return done.stdout


def test_a_hostile_tarball_reaches_nothing_of_the_host(team: Team) -> None:
    """Also where its record is believed: an image is to be made on a base of a shared cache."""
    canary = team.folder / "canary"
    canary.mkdir()
    (canary / "file").write_text("mine\n")
    content = hostile(canary)
    digest = hashlib.sha256(content).hexdigest()
    (team.share / "cas" / digest).write_bytes(content)
    for path in team.records():
        if json.loads(path.read_text())["stage"] == "image":
            path.unlink()
    team.edit(lambda record: record["file"].update(sha256=digest, size=len(content)), sign=True)
    other = team.clone("b")
    said = team.run(other, "build", "spec=web", "lock=frozen")
    assert "Traceback" not in said.text
    assert {path.name: path.read_text() for path in canary.iterdir()} == {"file": "mine\n"}
    assert other.leftovers() == []
    # It was taken, and tar saw it.
    assert list((other.root / "cache/layers").glob("base-*.json"))
