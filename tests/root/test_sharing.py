"""Shared caches: what is taken and what is not, on whose word, and what is given."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.trees import only_root
from support.world import Build, World, says, tiny_world
from tasks.host.files import sha256_of
from tasks.store.record import record_sum

pytestmark = pytest.mark.root


@dataclass
class Team:
    """A checkout that has built and shared, with its key, and clones of it that take."""

    first: World
    share: Path
    key: Path
    line: str
    folder: Path

    @property
    def url(self) -> str:
        """The shared folder's address."""
        return f"file://{self.share}"

    def clone(self, name: str) -> World:
        """A fresh checkout with the same specs and locks, and nothing else."""
        return self.first.clone(self.folder / name)

    def run(self, world: World, *words: str, trust: str | None = None, **env: str) -> Build:
        """A command of a machine that believes the team's key, or whom `trust` names."""
        keys = {"STRATA_TRUSTED_KEYS": self.line if trust is None else trust}
        return world.doit(*words, f"cache={self.url}", check=False, **keys, **env)

    def build(self, world: World, *words: str, trust: str | None = None, **env: str) -> Build:
        """`build` with the lock as it is."""
        done = self.run(world, "build", "spec=web", "lock=frozen", *words, trust=trust, **env)
        assert done.code == 0, done.text
        return done

    def records(self) -> list[Path]:
        """The shared records of stages."""
        return [path for path in sorted((self.share / "ac").iterdir())
                if "stage" in json.loads(path.read_text())]  # fmt: skip

    def edit(self, change: Callable[[dict[str, Any]], Any], *, sign: bool = False) -> None:
        """Change each shared record, and sign it anew as whoever has the team's key could."""
        from tasks.remote.signing import secret_key

        for path in self.records():
            record = json.loads(path.read_text())
            change(record)
            if sign:
                record["signatures"] = {"ci": secret_key(self.key).sign(record)}
            path.write_text(json.dumps(record))


def make_key(world: World, name: str, folder: Path) -> tuple[Path, str]:
    """A key outside of the checkout, and its public line."""
    line = world.doit("keygen", f"name={name}").out.strip()
    key = folder / f"{name}.key"
    shutil.move(world.root / f"{name}.key", key)
    return key, line


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, fast_scratch: dict[str, str]) -> Iterator[Team]:
    """What one built, two packages that are only unpacked, is shared and signed by `ci`."""
    folder = tmp_path_factory.mktemp("team")
    with tiny_world(folder, fast_scratch) as world:
        key, line = make_key(world, "ci", folder)
        team = Team(first=world, share=folder / "share", key=key, line=line, folder=folder)
        first = world.doit("build", "spec=web", f"cache={team.url}", "cache_mode=both",
                           STRATA_SIGNING_KEY=str(key))  # fmt: skip
        assert set(world.results().values()) == {"built"}
        assert "warning" not in first.text
        yield team


@pytest.fixture
def team(made: Team, tmp_path: Path) -> Team:
    """The same, in copies of its own: the first checkout with all that it built, and the share."""
    shutil.copytree(made.share, tmp_path / "share")
    first = made.first.clone(tmp_path / "first", cache="??[yab]*/*")
    first.server.clear()
    for name in (".doit/built", "out"):
        shutil.copytree(made.first.root / name, first.root / name)
    return Team(
        first=first, share=tmp_path / "share", key=made.key, line=made.line, folder=tmp_path
    )


def test_a_clone_takes_the_images_and_nothing_else(team: Team) -> None:
    other = team.clone("b")
    team.build(other)
    assert other.results() == {"base": "skipped", "/": "pulled"}
    assert other.outputs() == team.first.outputs()
    found = [path.name for path in (other.root / "cache").rglob("*") if path.is_file()
             and path.suffix in (".deb", ".zst", ".gz")]  # fmt: skip
    assert [name.partition("-")[0] for name in found] == ["image"]
    assert other.server.requests == []
    # From here on all is at hand.
    team.build(other)
    assert other.results() == {"base": "skipped", "/": "hit"}
    assert other.doit("why", "spec=web").code == 0


def test_one_package_more_takes_what_is_below_and_makes_the_rest(
    built: World, tmp_path: Path
) -> None:
    world = built
    url = f"file://{tmp_path}/share"
    world.doit("push", "spec=web", f"cache={url}")
    shared = {path.name: path.stat().st_size for path in (tmp_path / "share/cas").iterdir()}
    other = world.clone(tmp_path / "b")
    other.edit("packages: [beta]", "packages: [beta, delta]")
    only_root(other)
    other.doit("build", "spec=web", f"cache={url}", "cache_trust=any")
    assert other.results() == {"base": "pulled", "packages": "pulled", "app": "built",
                               "/": "built"}  # fmt: skip
    debs = {path.stem for path in (other.root / "cache/debs").glob("*.deb")}
    lock = json.loads((other.root / "specs/web.lock").read_text())
    (app,) = [layer for layer in lock["layers"] if layer["name"] == "app"]
    assert debs == {record["sha256"] for record in app["records"]}
    # Those that the first build had needed come from the shared cache, the new one from its repository.
    fetched = [path for _, path, _ in other.server.requests if path.endswith(".deb")]
    assert len(fetched) == 1
    assert "delta" in fetched[0]
    assert len(debs & shared.keys()) == 2


def test_a_mirror_that_has_dropped_a_version_is_not_needed(team: Team) -> None:
    other = team.clone("b")
    for path in team.records():
        path.unlink()
    said = team.build(other, STRATA_MIRROR="http://127.0.0.1:9")
    assert "warning" not in said.text
    assert other.results() == {"base": "built", "/": "built"}
    assert other.outputs() == team.first.outputs()


def test_reproduce_takes_no_stage_from_a_shared_cache(team: Team) -> None:
    other = team.clone("b")
    team.build(other)
    other.doit("reproduce", "spec=web", STRATA_REMOTE=team.url, STRATA_TRUSTED_KEYS=team.line)
    logs = {path.name for path in (other.root / "out/web/log/reproduce").iterdir()}
    assert {"base.log", "image-root.log"} <= logs


# ---------------------------------------------------------------- whose word


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


def test_a_file_that_is_gone_is_sent_again_and_its_record_stays(team: Team) -> None:
    before = {path: path.read_bytes() for path in team.records()}
    for path in (team.share / "cas").iterdir():
        path.unlink()
    unsigned = team.clone("unsigned")
    unsigned.doit("build", "spec=web", "lock=frozen", f"cache={team.url}", "cache_mode=push")
    assert {path: path.read_bytes() for path in team.records()} == before
    other = team.clone("b")
    team.build(other)
    assert other.results() == {"base": "skipped", "/": "pulled"}


def test_what_could_not_be_sent_goes_with_the_next_build(team: Team) -> None:
    shutil.rmtree(team.share)
    signer: dict[str, Any] = {"STRATA_SIGNING_KEY": str(team.key)}
    team.build(team.first, "cache_mode=both", **signer)
    assert set(team.first.results().values()) == {"hit"}
    assert len(team.records()) == 2
    team.build(team.clone("b"))


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


def test_a_failed_build_gives_what_it_made(built: World, tmp_path: Path) -> None:
    other = built.clone(tmp_path / "b")
    other.write("scripts/app.sh", "#!/bin/sh\nexit 1\n", 0o755)
    said = other.doit("build", "spec=web", "lock=frozen", f"cache=file://{tmp_path}/share", "cache_mode=push",
                      check=False)  # fmt: skip
    assert said.code == 1
    says(said.text, "app.sh")
    kinds = [
        json.loads(path.read_text()).get("stage") for path in (tmp_path / "share/ac").iterdir()
    ]
    assert sorted(filter(None, kinds)) == ["base", "layer"]


def test_looking_fetches_nothing_and_pull_fetches_all(team: Team) -> None:
    other = team.clone("b")
    env = {"STRATA_REMOTE": team.url, "STRATA_TRUSTED_KEYS": team.line}
    for command in (["list"], ["info", "image:/"], ["keys"], ["why"]):
        # doit's own info exits 1 where something is to be done
        other.doit(*command, "spec=web", check=False, **env)
        assert not list((other.root / "cache").glob("images/image-*"))
    team.build(other)
    said = team.run(other, "pull", "spec=web")
    says(said.text, "base", "pulled", "image", "hit")
    assert list((other.root / "cache/layers").glob("base-*.tar.zst"))


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


# ---------------------------------------------------------------- keys


def test_keygen_writes_a_key_for_its_owner_alone_and_never_another_in_its_place(
    tiny: World,
) -> None:
    line = tiny.doit("keygen", "name=ci").out.strip()
    key = tiny.root / "ci.key"
    assert re.fullmatch(r"ci:[A-Za-z0-9+/]{43}=", line)
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_text()
    assert base64.b64decode(before.partition(":")[2])[32:] == base64.b64decode(line[3:])
    again = tiny.doit("keygen", "name=ci", check=False)
    assert again.code == 1
    says(again.text, "ci.key: there is a key already")
    assert key.read_text() == before
    assert before.strip() not in line
    for name in ("", "../ci", "a b", "-x"):
        bad = tiny.doit("keygen", f"name={name}", check=False)
        assert bad.code == 1
        assert "Traceback" not in bad.text
    assert [path.name for path in tiny.root.glob("*.key")] == ["ci.key"]


def test_a_full_disk_leaves_no_half_key(tmp_path: Path) -> None:
    from tasks.commands.sharing import keygen
    from tasks.session.session import Session

    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], check=True)
    try:
        session = Session(root=tmp_path, variables={"name": "ci"})
        filler = tmp_path / "filler"
        with contextlib.suppress(OSError):
            filler.write_bytes(bytes(1 << 20))
        with pytest.raises(OSError, match=r"No space left on device: '.*/ci\.key'"):
            keygen(session)
        assert [path.name for path in tmp_path.iterdir()] == ["filler"]
        filler.unlink()
        keygen(session)
        assert (tmp_path / "ci.key").read_text().startswith("ci:")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize(
    ("env", "parts"),
    [
        ({"STRATA_TRUSTED_KEYS": "specs/keys.txt"}, ["it is in the project itself"]),
        ({"STRATA_TRUSTED_KEYS": "/nowhere/keys"}, ["cannot be read", "No such file"]),
        ({"STRATA_TRUSTED_KEYS": "ci:AAAA"}, ["expected NAME:KEY"]),
        ({"STRATA_TRUSTED_KEYS": "ci:" + "A" * 86 + "=="}, ["this is a secret key"]),
        ({"STRATA_SIGNING_KEY": "/nowhere/ci.key"}, ["cannot be read", "strata keygen"]),
        ({"STRATA_SIGNING_KEY": "open.key"}, ["everybody can read it", "chmod 600"]),
        ({"STRATA_SIGNING_KEY": "specs/web.yaml"}, ["this is no signing key"]),
    ],
)
def test_keys_that_will_not_do_are_said_before_anything_is_done(
    unbuilt: World, env: dict[str, str], parts: list[str]
) -> None:
    tiny = unbuilt
    (tiny.root / "open.key").unlink(missing_ok=True)
    line = tiny.doit("keygen", "name=open").out
    (tiny.root / "open.key").chmod(0o644)
    tiny.write("keys.txt", line)
    tiny.server.clear()
    said = tiny.doit("build", "spec=web", f"cache=file://{tiny.root}/x", check=False, **env)
    assert said.code == 1
    assert "Traceback" not in said.text
    says(said.text, *parts)
    assert tiny.server.requests == []
    secret = (tiny.root / "open.key").read_text().partition(":")[2].strip()
    assert secret not in said.text


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["cache=ftp://x/y"], ["expected an address of file://, http://"]),
        (["cache=/srv/strata"], ["expected an address", "file:///srv/strata"]),
        (["cache=file://srv/strata"], ["three slashes"]),
        (["cache=http://"], ["expected https://HOST"]),
        (["cache=htp://a/b"], ["did you mean http://"]),
        (["cache=http://user:pa55@x:y/"], ["***@x:y", "expected https://HOST"]),
        (["cache_mode=push"], ["cache_mode= without cache="]),
        (["cache_trust=any"], ["cache_trust= without cache="]),
        (["cache=file:///srv/x", "cache_mode=pul"], ["one of pull, push, both"]),
        (["cache=file:///srv/x", "cache_trust=all"], ["any"]),
    ],
)
def test_addresses_that_will_not_do(unbuilt: World, words: list[str], parts: list[str]) -> None:
    said = unbuilt.doit("build", "spec=web", *words, check=False)
    assert said.code != 0
    assert "Traceback" not in said.text
    assert "pa55" not in said.text
    says(said.text, *parts)


# ---------------------------------------------------------------- why, prune


def test_why_tells_what_is_there_and_which_tools_differ(team: Team) -> None:
    other = team.clone("b")
    said = team.run(other, "why", "spec=web")
    assert said.code == 2
    says(said.text, "image", f"would be pulled from {team.url}")
    assert "base" not in said.text
    # Of a host whose tools are others, only that it made the same.
    for path in (team.share / "ac").iterdir():
        record = json.loads(path.read_text())
        if "tools" in record:
            record["tools"] = dict.fromkeys(record["tools"], "0.1-x") | {"bad\n": "1"}
            path.write_text(json.dumps(record))
        else:
            path.unlink()
    said = team.run(other, "why", "spec=web")
    assert said.code == 2
    says(said.text, "would be built", "not in the shared cache: built there with mmdebstrap 0.1-x, here 1.",
         "not in the shared cache: built there with mke2fs 0.1-x, here 1.")  # fmt: skip
    assert "bad" not in said.text


def aged(path: Path, days: float) -> None:
    then = time.time() - days * 86400
    os.utime(path, (then, then))


def test_prune_keeps_to_limits(team: Team) -> None:
    world = team.first
    files = [*(world.root / "cache").glob("*/*-*.*"), *(world.root / "cache/debs").glob("*.deb")]
    assert len(files) >= 6
    (world.root / "specs/web.lock").unlink()
    for path in files:
        aged(path, 10)
    recent = [path for path in files if path.name.startswith("image-")]
    for path in recent:
        aged(path, 1)
    said = world.doit("prune", "days=5", "dry=1").out
    says(said, "would prune")
    assert all(path.exists() for path in files)
    assert "image-" not in said
    world.doit("prune", "days=20")
    world.doit("prune", "keep=1G")
    assert all(path.exists() for path in files)
    world.doit("prune", "days=5")
    assert [path for path in files if path.exists()] == recent
    world.doit("prune", "keep=0")
    assert not any(path.exists() for path in files)
    for word in ("keep=10Q", "keep=-1", "days=x", "days=1.5", "dry=0", "dry=yes", "dry="):
        bad = world.doit("prune", word, check=False)
        assert bad.code in (1, 3)
        says(bad.text, "expected 1" if "dry" in word else "expected a")


def test_prune_keeps_what_locks_need_and_says_so(team: Team) -> None:
    said = team.first.doit("prune", "keep=0", "days=0").out
    says(said, "pruned 0 entries", "the locks in specs/ need them")
    team.first.build("lock=keep")
    assert set(team.first.results().values()) == {"hit"}


def test_prune_of_a_shared_folder(team: Team) -> None:
    world, share = team.first, team.share
    said = world.doit("prune", f"cache={team.url}", check=False)
    assert said.code == 1
    says(said.text, "a limit must be named")
    everything = [path for path in share.rglob("*") if path.is_file()]
    for path in everything:
        aged(path, 10)
    foreign = share / "cas/notes.txt"
    foreign.write_text("mine\n")
    aged(foreign, 99)
    image = next(
        path for path in team.records() if json.loads(path.read_text())["stage"] == "image"
    )
    team.build(team.clone("b"))  # used again: its record, and with it its file
    said = world.doit("prune", f"cache={team.url}", "days=5")
    says(said.out, "notes.txt: it is not Strata's", "pruned")
    left = {path for path in share.rglob("*") if path.is_file()}
    file = share / "cas" / json.loads(image.read_text())["file"]["sha256"]
    assert left == {image, file, foreign, share / "CACHEDIR.TAG"}
    other = team.clone("c")
    team.build(other)
    assert other.results() == {"base": "skipped", "/": "pulled"}
    said = world.doit("prune", "cache=http://127.0.0.1:9/", "days=1", check=False)
    assert said.code == 1
    says(said.text, "only a folder can be pruned")
