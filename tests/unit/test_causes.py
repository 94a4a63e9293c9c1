"""What `why` calls each change of a stage's inputs: the change that was made, and nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import samples
from support.made import told
from tasks.plan import fstab
from tasks.plan.accounts import accounts_identity
from tasks.plan.cause import Cause
from tasks.plan.causes import following, other_tools_here
from tasks.plan.changes import Package
from tasks.plan.notes import notes, passwords
from tasks.plan.passwords import crypted
from tasks.plan.plan import make_plan
from tasks.plan.settings import settings_identity
from tasks.plan.stage import Stage
from tasks.store import made_of, pruned

A, B = "a" * 64, "b" * 64


def row(name: str, version: str, sha256: str = A, arch: str = "amd64") -> list[str]:
    return [name, version, arch, sha256]


def test_packages_are_told_as_lock_tells_them() -> None:
    known = {
        "openssl": Package(version="3.0.17-1", sha256=B, layer="x", security=True),
        "htop": Package(version="3.2.2-2", sha256=A, layer="x", repository="debian"),
    }
    old = {
        "records": [row("openssl", "3.0.16-1"), row("gone", "1"), row("libc6", "1", arch="i386")]
    }
    new = {"records": [row("openssl", "3.0.17-1", B), row("htop", "3.2.2-2")]}
    assert told(old, new, known=known) == [
        "packages: - gone 1; + htop 3.2.2-2 (from debian); - libc6:i386 1; "
        "openssl 3.0.16-1 → 3.0.17-1 (security)"
    ]


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        # What comes with a package, or follows from it, is not told again.
        ({"records": [], "manual": [], "auto": []},
         {"records": [row("a", "1"), row("b", "1")], "manual": ["a:amd64"], "auto": ["b:amd64"]},
         ["packages: + a 1; + b 1"]),
        ({"manual": ["a:amd64"]}, {"manual": ["b:amd64"]},
         ["package a is no longer asked for", "package b is asked for"]),
        ({"removes": ["a"]}, {"removes": ["b"]},
         ["packages: b is taken away", "packages: a is no longer taken away"]),
        ({"debconf": ["a a/x select one", "a a/p password sha256:1"]},
         {"debconf": ["a a/x select two", "a a/p password sha256:2"]},
         ["debconf: a a/x select one → a a/x select two",
          "debconf: without a a/p password as it was: it is another one"]),
        ({"debconf": ["a a/x select one"]}, {"debconf": ["b b/x password sha256:2"]},
         ["debconf: without a a/x select one", "debconf: with b b/x password"]),
        ({"auto": []}, {"auto": ["a:amd64"]}, ["package a is no longer asked for"]),
        ({"services": {"enable": ["a.service"]}}, {"services": {"mask": ["a.service"]}},
         ["services: - enable a.service; + mask a.service"]),
        ({}, {"services": {"enable": ["a.service"]}}, ["services: + enable a.service"]),
        ({"remove": ["/a"]}, {"remove": ["/b"]}, ["remove: + /b; - /a"]),
        ({"shown": {"hostname": "a"}}, {"shown": {"hostname": "b"}}, ["hostname, which it looks at: a → b"]),
        ({"epoch": None}, {"epoch": 7}, ["SOURCE_DATE_EPOCH: none → 7"]),
        ({"arch": "amd64"}, {"arch": "arm64"}, ["arch: amd64 → arm64"]),
        ({"foreign": []}, {"foreign": ["i386"]}, ["foreign architectures: + i386"]),
        ({"recipe": 1, "files": []}, {"recipe": 2, "files": [1]},
         ["this version of Strata makes it in another way"]),
        ({"new": 1}, {"new": 2}, ["layer: new 1 → 2"]),
        ({"tool": "mmdebstrap", "tool_version": "1.0", "variant": "custom", "suite": None},
         {"tool": "debootstrap", "tool_version": "2.0", "variant": "minbase", "suite": "trixie"},
         ["base: tool mmdebstrap → debootstrap"]),
        ({"tool": "debootstrap", "suite": "bookworm"}, {"tool": "debootstrap", "suite": "trixie"},
         ["base: suite bookworm → trixie"]),
        ({"tool": "mmdebstrap", "tool_version": "1.3"}, {"tool": "mmdebstrap", "tool_version": "1.5"},
         ["other tools here: mmdebstrap 1.3 → 1.5"]),
        ({"script": A}, {"script": B}, ["script s.sh changed"]),
        ({"script": None}, {"script": A}, ["script s.sh is new"]),
        ({"script": A}, {"script": None}, ["script s.sh is gone"]),
        ({"script": A}, {"script": [[A, {"X": "1"}, True]]},
         ["script s.sh: its variable X is new", "script s.sh: it sees the network now"]),
        ({"script": [[A, {"X": "1", "Y": "1"}, True]]}, {"script": [[A, {"X": "2"}, False]]},
         ["script s.sh: its variable X changed", "script s.sh: its variable Y is gone",
          "script s.sh: it sees no network now"]),
        ({"accounts": [["group", "g", 1, False]]}, {"accounts": [["group", "g", 2, False]]},
         ["group g: gid 1 → 2"]),
        ({}, {"accounts": [["user", "u", 1, [], "", "", "", "", "", "", False]]}, ["user u is new"]),
        ({"accounts": [["user", "u", 1, [], "", "", "", A, "k", "", False]]},
         {"accounts": [["user", "u", 1, ["adm"], "", "/bin/sh", "", B, "l", "", False]]},
         ["user u: groups none → adm; shell none → /bin/sh; password changed; ssh_keys changed"]),
    ],
)  # fmt: skip
def test_each_input_of_a_tree(old: dict[str, Any], new: dict[str, Any], lines: list[str]) -> None:
    script = {"scripts": ["s.sh"]}
    assert told(old, new, notes=(script, script)) == lines


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (None, ["/a", "file", A, 0o644, "0:0"], "file /a is new (20 bytes)"),
        (["/a", "file", A, 0o644, "0:0"], None, "file /a is gone"),
        (["/a", "file", A, 0o644, "0:0"], ["/a", "file", B, 0o644, "0:0"], "file /a changed (14 → 20 bytes)"),
        (["/b", "file", A, 0o644, "0:0"], ["/b", "file", B, 0o644, "0:0"], "file /b changed (other content)"),
        (["/a", "file", A, 0o644, "0:0"], ["/a", "file", A, 0o755, "app:app"],
         "file /a changed (14 → 20 bytes; owner 0:0 → app:app; mode 0644 → 0755)"),
        (["/b", "file", A, 0o644, "0:0"], ["/b", "link", A, 0o777, "0:0"],
         "link /b changed (file 0644 0:0 → link 0777 0:0)"),
        (["/b", "link", A, 0o777, "0:0"], ["/b", "link", B, 0o777, "0:0"], "link /b changed (other content)"),
        (["/b", "folder", A, 0o755, "0:0"], ["/b", "folder", A, 0o755, "0:0", "exact"],
         "folder /b changed (its mode, where the folder is there already)"),
    ],
)  # fmt: skip
def test_files(old: list[Any] | None, new: list[Any] | None, line: str) -> None:
    sizes = ({"sizes": {"/a": 14}}, {"sizes": {"/a": 20}})
    found = told({"files": [old] if old else []}, {"files": [new] if new else []}, notes=sizes)
    assert found == [line]


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({"format": "ext2", "tools": {"mke2fs": "1"}}, {"format": "xfs", "tools": {"mkfs.xfs": "6"}},
         ["/boot: format ext2 → xfs"]),
        ({"label": ""}, {"label": "boot"}, ["/boot: label none → boot"]),
        ({"container": "gzip", "level": "fast"}, {"container": "raw", "level": ""},
         ["/boot: container gzip → raw"]),
        ({"level": "fast"}, {"level": "best"}, ["/boot: level fast → best"]),
        ({"size": None, "free": 1 << 20}, {"size": 3 << 30, "free": None},
         ["/boot: free 1M → none", "/boot: size none → 3G"]),
        ({"options": []}, {"options": ["-m", "0"]}, ["/boot: options none → -m 0"]),
        ({"below": []}, {"below": ["/boot/efi"]}, ["/boot: images below it: + /boot/efi"]),
        ({"tools": {"mke2fs": "1.47.0", "isal": "2"}}, {"tools": {"mke2fs": "1.47.1", "isal": "2"}},
         ["other tools here: e2fsprogs 1.47.0 → 1.47.1 (mke2fs)"]),
        ({"uuid": ""}, {"uuid": "11111111-2222-4333-8444-555555555555"},
         ["/boot: uuid none → 11111111-2222-4333-8444-555555555555"]),
        ({"uuid": fstab.uuid_of("a")}, {"uuid": fstab.uuid_of("b"), "label": "x"}, ["/boot: label none → x"]),
    ],
)  # fmt: skip
def test_each_input_of_an_image(old: dict[str, Any], new: dict[str, Any], lines: list[str]) -> None:
    image = {"stage": "image"}
    assert told({**image, **old}, {**image, **new}, name="/boot") == lines


def test_what_two_variants_are_is_told_by_the_spec() -> None:
    variants = ({"variant": "apt"}, {"variant": "extract"})
    base = {"stage": "base", "tool": "mmdebstrap"}
    found = told({**base, "variant": "custom"}, {**base, "variant": "extract"}, notes=variants)
    assert found == ["base: variant apt → extract"]
    assert told(base, {**base, "records": [row("a", "1")]}, notes=variants) == [
        "base: variant apt → extract", "packages: + a 1"]  # fmt: skip


SOURCE = ["main", "http://a", "stable", "main", None, False, A]


def mounts(boot: str, kind: str = "ext2", uuid: str = "") -> dict[str, Any]:
    text = (f"{fstab.HEAD}UUID={fstab.uuid_of(boot)}\t/\text4\tdefaults\t0\t1\n"
            f"UUID={uuid or fstab.short_of(fstab.uuid_of(boot)).upper()}\t/boot\t{kind}\tdefaults\t0\t2\n")  # fmt: skip
    return {"text": text, "asked": False}


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({"hostname": "web"}, {"hostname": "web1"}, ["hostname web → web1"]),
        ({"timezone": "", "locales": []}, {"timezone": "UTC", "locales": ["de_DE", "fr_FR"]},
         ["locales none → de_DE fr_FR", "timezone none → UTC"]),
        ({"password": ""}, {"password": A}, ["root's password is new"]),
        ({"password": A}, {"password": B}, ["root's password is another"]),
        ({"os_release": ["web", "1"]}, {"os_release": ["web", "2"]}, ["version 1 → 2"]),
        ({}, {"hostname": "a", "timezone": "", "apt_sources": [], "pins": "", "password": ""},
         ["hostname none → a"]),
        ({}, {"docs": "x"}, ["docs true → false"]),
        ({}, {"ssh_host_keys": {"asked": True}}, ["ssh_host_keys is new"]),
        ({"apt_sources": [], "pins": ""}, {"apt_sources": [SOURCE], "pins": "x"}, ["apt_sources false → true"]),
        ({"apt_sources": [SOURCE], "pins": ""},
         {"apt_sources": [[*SOURCE[:4], 900, False, B], ["own", *SOURCE[1:]]], "pins": "x"},
         ["apt_sources: main: priority none → 900", "apt_sources: main: keyring changed",
          "apt_sources: + own"]),
        ({"apt_sources": [SOURCE], "pins": "a"}, {"apt_sources": [SOURCE], "pins": "b"},
         ["apt_sources: the pins are others"]),
        ({"fstab": mounts("a")}, {"fstab": mounts("a", "vfat")}, ["fstab: /boot ext2 → vfat"]),
        ({"fstab": mounts("a"), "hostname": "a"}, {"fstab": mounts("b"), "hostname": "b"}, ["hostname a → b"]),
        ({"fstab": mounts("a", uuid="AAAA-BBBB")}, {"fstab": mounts("a", uuid="AAAA-CCCC")},
         ["fstab: /boot AAAA-BBBB → AAAA-CCCC"]),
        ({"fstab": mounts("a")}, {"fstab": {**mounts("a"), "asked": True}}, ["fstab is asked for"]),
        ({"fstab": {"text": fstab.HEAD, "asked": False}}, {"fstab": mounts("a")}, ["fstab: + /", "fstab: + /boot"]),
    ],
)  # fmt: skip
def test_each_field_of_the_settings(
    old: dict[str, Any], new: dict[str, Any], lines: list[str]
) -> None:
    assert told({"settings": old}, {"settings": new}) == [f"settings: {line}" for line in lines]


def test_a_salt_that_moves_with_the_packages_is_no_other_password() -> None:
    """The key has a digest of the field, whose salt is made of the packages."""

    def digest(password: str, salt: str) -> str:
        return hashlib.sha256(crypted(password, salt * 16).encode()).hexdigest()

    old = {"parent": A, "settings": {"password": digest("one", "a")}}
    salts: tuple[dict[str, Any], dict[str, Any]] = ({"salts": {"": "a" * 16}}, {})
    for word, lines in (("one", []), ("two", ["settings: root's password is another"])):
        new = {"parent": B, "settings": {"password": digest(word, "b")}}
        assert told(old, new, notes=salts, passwords={"": word}) == lines
        # With nothing that moved, it can only be another one.
        assert told(old, {**new, "parent": A}, notes=salts, passwords={"": word})
    user = ["user", "u", 1, [], "", "", ""]
    was = {"parent": A, "accounts": [[*user, digest("one", "a"), "", "", False]]}
    now = {"parent": B, "accounts": [[*user, digest("one", "b"), "", "", False]]}
    assert told(was, now, notes=({"salts": {"u": "a" * 16}}, {}), passwords={"u": "one"}) == []


def test_the_salt_that_is_remembered_is_that_of_the_key(tmp_path: Path) -> None:
    layer = {"name": "app", "users": {"u": {"password": "hidden"}}}
    spec = samples.load(tmp_path, root_password="secret", layers=[layer])
    locks = [samples.lock([samples.record("a", version)], {"app": []}) for version in "12"]
    told_of = [notes(spec, lock) for lock in locks]
    settings = [settings_identity(spec, lock, {}) for lock in locks]
    users = [accounts_identity(spec.layers[-1], spec, lock) for lock in locks]
    assert settings[0] != settings[1]
    assert users[0] != users[1]
    for name, what, both, whose in (("settings", "settings", settings, None),
                                    ("app", "accounts", users, spec.layers[-1])):  # fmt: skip
        sides = [{"parent": parent, what: one} for parent, one in zip((A, B), both, strict=True)]
        given: tuple[dict[str, Any], dict[str, Any]] = (told_of[0][f"layer:{name}"], {})
        assert told(*sides, notes=given, passwords=passwords(spec, whose)) == []
        other = dict.fromkeys(("", "u"), "another")
        assert told(*sides, notes=given, passwords=other) != []


def test_what_a_stage_follows_is_told_below_alone() -> None:
    one, other = (
        Cause(what=what, lines=("SOURCE_DATE_EPOCH: none → 7",)) for what in ("epoch", "files")
    )
    assert following([one, other], {one.text}, moved=True) == [other]
    assert following([one], {one.text}, moved=False) == [one]
    assert following([one], set(), moved=True) == [one]


def test_nothing_in_a_cause_commands_a_terminal() -> None:
    bad = "\x1b[2J\n\x9b"
    assert all(
        line.isprintable()
        for line in (
            *told({"records": [row("a", bad)], "script": A, "debconf": [bad]},
                  {"records": [row("a", "2")], "script": B, "debconf": []}, notes=({"scripts": [bad]}, {})),
            *other_tools_here({"xz": bad}, {"xz": "1"}),
            *told({"settings": {"hostname": bad}}, {"settings": {"hostname": "a"}}),
        )
    )  # fmt: skip


def test_notes_are_what_a_key_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/a.sh").write_text("#!/bin/sh\n")
    spec = samples.load(
        tmp_path, root_password="secret",
        layers=[{"name": "app", "files": {"/a": {"content": "four"}}, "script": "scripts/a.sh",
                 "users": {"u": {"password": "hidden"}}}],
    )  # fmt: skip
    lock = samples.lock([samples.record("a")], {"app": [samples.record("b")]})
    found = notes(spec, lock)
    assert found["base"] == {"variant": spec.base.variant}
    app = found["layer:app"]
    assert (app["sizes"], app["scripts"]) == ({"/a": 4}, ["scripts/a.sh"])
    assert set(app["salts"]) == {"u"}
    assert "secret" not in str(found)
    assert "hidden" not in str(found)
    assert passwords(spec, spec.layers[-1]) == {"u": "hidden"}


# ---------------------------------------------------------------- what is remembered

BUILD = made_of.Build(
    files={"web.img": A},
    stages=(made_of.Stage(task="base", key="1" * 32, there=True, inputs={"a": [1]}, notes={"b": "c"}),),
)  # fmt: skip

MARKS = [("base", "1" * 32, True)]


def test_a_build_is_remembered_once(tmp_path: Path) -> None:
    assert made_of.last(tmp_path, "web") == made_of.Build()
    made_of.remember(tmp_path, "team/web", BUILD.files, MARKS, lambda: BUILD)
    assert made_of.last(tmp_path, "team/web") == BUILD
    made_of.remember(tmp_path, "team/web", BUILD.files, MARKS, lambda: pytest.fail("written twice"))
    other = replace(BUILD, stages=())
    made_of.remember(tmp_path, "team/web", BUILD.files, [], lambda: other)
    assert made_of.last(tmp_path, "team/web") == other
    assert made_of.last(tmp_path, "web") == made_of.Build()
    made_of.forget(tmp_path, ["team/web"])
    assert made_of.last(tmp_path, "team/web") == other
    made_of.forget(tmp_path, ["web"])
    assert made_of.last(tmp_path, "team/web") == made_of.Build()


@pytest.mark.parametrize(
    ("old", "new"),
    [("\n", ""), ('"there"', '"their"'), ('"1111', '"x111'), ('{"a": [1]}', "[]"), ('{"b": "c"}', "1"),
     ('"files"', '"fields"'), ("aaaa", "AAAA"), ("]}", "]"), ('"stages": [', '"stages": ["x", ')],
)  # fmt: skip
def test_what_is_no_memory_counts_as_none(tmp_path: Path, old: str, new: str) -> None:
    made_of.remember(tmp_path, "web", BUILD.files, MARKS, lambda: BUILD)
    path = tmp_path / "made-of/web.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert made_of.last(tmp_path, "web") == made_of.Build()
    made_of.remember(tmp_path, "web", {}, MARKS, lambda: BUILD)
    assert made_of.last(tmp_path, "web") == BUILD


def test_no_link_in_a_memorys_place_is_followed(tmp_path: Path) -> None:
    (tmp_path / "made-of").mkdir()
    (tmp_path / "elsewhere").write_text("kept")
    for name in ("made-of/web.json", "pruned.json"):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    made_of.remember(tmp_path, "web", BUILD.files, MARKS, lambda: BUILD)
    pruned.note(tmp_path, ["base-1"], [])
    assert (tmp_path / "elsewhere").read_text() == "kept"
    assert made_of.last(tmp_path, "web") == BUILD
    assert pruned.when(tmp_path, "base-1") is not None


def test_what_was_pruned_is_forgotten_when_it_is_there_again(tmp_path: Path) -> None:
    assert pruned.when(tmp_path, "base-1") is None
    pruned.note(tmp_path, ["base-1", "base-2"], [])
    pruned.note(tmp_path, ["base-3"], ["base-1"])
    assert [pruned.when(tmp_path, f"base-{one}") is not None for one in (1, 2, 3)] == [
        False,
        True,
        True,
    ]
    pruned.note(tmp_path, [f"image-{number}" for number in range(pruned.KEPT)], [])
    assert pruned.when(tmp_path, "base-2") is None
    for text in (
        "",
        "[]",
        "{}",
        '{"format": 1, "entries": {"base-1": -1}}',
        '{"format": 2, "entries": {}}',
    ):
        (tmp_path / "pruned.json").write_text(text)
        assert pruned.when(tmp_path, "base-1") is None


def test_every_input_of_a_plan_has_its_words(tmp_path: Path) -> None:
    """A new one would be told by its name alone: it needs a row of the table."""
    from tasks.plan.causes import TOLD

    spec = samples.load(tmp_path, layers=[{"name": "app"}], hostname="a")
    plan = make_plan(
        spec, samples.lock([samples.record("apt")], {"packages": [], "app": []}), samples.host(spec)
    )
    stages: tuple[Stage, ...] = plan.stages
    names = {name for stage in stages for name in stage.inputs}
    assert names - {"stage", "recipe", "parent"} <= set(TOLD)
