"""Bad input: each mistake is told in one message, ends with a status, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.repository import Fault, Repository, Server, SigningKey, make_deb
from support.world import SPEC, Build, World, checkout, populate

# ---------------------------------------------------------------- fixtures


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, closure: list[Path]
) -> Iterator[tuple[Repository, Server]]:
    """One repository for all tests that need not change it: faults of its server are enough."""
    folder = tmp_path_factory.mktemp("site")
    repository = Repository(folder / "repository")
    debs = folder / "debs"
    repository.add(
        make_deb(debs, "cats", conflicts="dogs"),
        make_deb(debs, "dogs"),
        make_deb(debs, "hungry", depends="food (>= 2), alpha"),
        make_deb(debs, "jealous", conflicts="alpha"),
    )
    populate(repository, debs, closure)
    with Server(repository.root) as server:
        yield repository, server


@pytest.fixture
def fresh(
    tmp_path: Path, site: tuple[Repository, Server], fast_scratch: dict[str, str]
) -> Iterator[World]:
    """A checkout with the spec `web`, nothing built, and no repository of its own."""
    repository, server = site
    server.faults.clear()
    server.clear()
    checkout(tmp_path / "checkout", None)
    world = World(tmp_path / "checkout", repository, server, tmp_path, dict(fast_scratch))
    world.write("web.yaml", SPEC)
    world.write("files/motd", "hello\n")
    world.write("scripts/app.sh", "#!/bin/sh\nset -eu\nmkdir -p /boot\n", 0o755)
    world.write("keys/test.gpg", "").write_bytes(repository.keyring.read_bytes())
    yield world
    server.faults.clear()


def results(world: World) -> dict[str, bytes]:
    """What a failed run may not change: locks, and out/ but for its logs."""
    files = [*world.root.glob("specs/*.lock"), *world.root.glob("out/*/*")]
    return {str(path): path.read_bytes() for path in files if path.is_file()}


def leftovers(world: World) -> list[str]:
    """What a run may not leave: temporary files, scratch folders, half a cache entry."""
    found = [*world.root.glob("specs/**/*.tmp"), *world.root.glob("specs/**/.*"),
             *world.root.glob("out/**/*.tmp"), *world.root.glob("out/**/.*"),
             *world.root.glob("cache/**/*.tmp"), *world.root.glob("cache/**/.new-*"),
             *scratch(world).glob("build-*")]  # fmt: skip
    for path in world.root.glob("cache/*/*-*.*"):
        if path.suffix != ".json" and path.parent.name in ("layers", "images"):
            record = path.with_name(path.name.partition(".")[0] + ".json")
            found += [] if record.exists() else [path]
    return [str(path) for path in found]


def scratch(world: World) -> Path:
    return Path(world.env.get("STRATA_SCRATCH", world.root / ".doit/scratch")) / "strata-0"


def refused(
    world: World,
    *words: str,
    run: Callable[[World, Sequence[str]], Build] | None = None,
    **env: str,
) -> str:
    """What doit says when it refuses these words: checked to be an error that changed nothing."""
    before = results(world)
    build = run(world, words) if run else world.doit(*words, check=False, **env)
    assert build.code != 0, build.text
    assert "Traceback" not in build.text
    assert build.err.count("ERROR: ") == 1, build.text
    assert results(world) == before
    assert leftovers(world) == []
    return build.text


def says(text: str, *parts: str) -> None:
    """Each part stands in the text, in this order, whatever breaks its lines."""
    rest = re.sub(r"\s+", " ", text)
    for part in parts:
        assert part in rest, f"{part!r} is not in, or not in its place in:\n{text}"
        rest = rest.partition(part)[2]


# ---------------------------------------------------------------- command line


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["build"], ["no spec is named", "add spec=NAME; specs here: other, web"]),
        (["lock"], ["no spec is named", "add spec=NAME"]),
        (["build", "spec="], ["no spec is named", "add spec=NAME"]),
        (["build", "spec=wbe"],
         ["specs/wbe.yaml: there is no such spec", "did you mean spec=web?", "other, web"]),
        (["build", "spec=../web"],
         ["specs/../web.yaml: there is no such spec", "specs here: other, web"]),
        (["build", "sepc=web"], ["unknown variable sepc=", "did you mean spec=?", "lock, mirror"]),
        (["build", "spec=web", "color=red"], ["unknown variable color=", "variables: spec, lock"]),
        (["build", "spec=web", "lock=lastest"],
         ["lock=lastest: expected one of latest, keep, frozen"]),
        (["lock", "spec=web", "lock="], ["lock=: expected one of latest, keep, frozen"]),
        (["build", "spec=web", "mirror=nowhere"],
         ["mirror=nowhere: expected an http:, https: or file: address"]),
    ],
)  # fmt: skip
def test_command_line(fresh: World, words: list[str], parts: list[str]) -> None:
    fresh.write("other.yaml", SPEC)
    says(refused(fresh, *words), *parts)
    assert fresh.server.requests == []


# ---------------------------------------------------------------- the spec


BOMB = """\
a: &a [x, x, x, x, x, x, x, x, x]
b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]
c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]
d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]
e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]
f: &f [*e, *e, *e, *e, *e, *e, *e, *e, *e]
g: &g [*f, *f, *f, *f, *f, *f, *f, *f, *f]
h: &h [*g, *g, *g, *g, *g, *g, *g, *g, *g]
repos: *h
images: *h
"""


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        pytest.param("repos:\n  - {name: main\nimages: 5\n", ["specs/web.yaml:3:7: not YAML: expected ',' or '}'"],
                     id="unclosed"),
        pytest.param("repos:\n\t- x\n", ["specs/web.yaml:2:1: not YAML: found character '\\t'"],
                     id="tab"),
        pytest.param("images: {/: *root}\n",
                     ["specs/web.yaml:1:13: not YAML: found undefined alias 'root'"], id="alias"),
        pytest.param("images: !!python/object:os.system {}\n",
                     ["specs/web.yaml:1:9: a value with the tag '!!python/object:os.system'"], id="tag"),
        pytest.param("a: \0\n", ["specs/web.yaml: not YAML", "#x0000"], id="nul"),
        pytest.param("", ["specs/web.yaml: expected a mapping with `repos` and `images`"],
                     id="empty"),
        pytest.param("- web\n", ["specs/web.yaml: expected a mapping"], id="list"),
        pytest.param("a: b\n---\nc: d\n", ["specs/web.yaml:2:1: a second document begins here"],
                     id="two documents"),
        pytest.param("a: &a [*a]\n", ["specs/web.yaml:1:4: not YAML: found unconstructable"],
                     id="endless"),
        pytest.param("a: " + "[" * 100 + "]" * 100 + "\n",
                     ["specs/web.yaml: nested deeper than 50 levels"], id="deep"),
        pytest.param("a: " + "[" * 5000 + "]" * 5000 + "\n", ["specs/web.yaml: "], id="very deep"),
        pytest.param("#" * 2_000_000, ["specs/web.yaml: larger than 262144 bytes"], id="large"),
        pytest.param(BOMB, ["specs/web.yaml: more than 100000 values with its aliases written out"],
                     id="bomb"),
    ],
)  # fmt: skip
def test_text_that_is_no_spec(fresh: World, text: str, parts: list[str]) -> None:
    fresh.write("web.yaml", text)
    began = time.monotonic()
    says(refused(fresh, "build", "spec=web"), *parts)
    assert time.monotonic() - began < 5


APP = "  - name: app\n"


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        # unknown and missing fields
        ("packages: [alpha]", "pakages: [alpha]",
         ["specs/web.yaml: unknown field 'pakages'", "did you mean 'packages'?"]),
        ("format: ext2", "fromat: ext2, format: ext2",
         ["specs/web.yaml: images./boot: unknown field 'fromat' (line 13)",
          "did you mean 'format'?"]),
        ("packages: [beta]", "color: red",
         ["specs/web.yaml: layers[0]: unknown field 'color'", "fields here: name, packages"]),
        ("variant: apt", "varinat: apt",
         ["specs/web.yaml: base: unknown field 'varinat'", "did you mean 'variant'?"]),
        ("file: web.img.gz, format: ext4", "file: web.img.gz",
         ["specs/web.yaml: images./: missing field 'format'"]),
        ("name: main, ", "", ["specs/web.yaml: repos[0]: missing field 'name'"]),
        ("suite: stable, ", "", ["specs/web.yaml: repos[0]: missing field 'suite'"]),
        ("section: main, ", "", ["specs/web.yaml: repos.main: missing field 'section'"]),
        ("images:\n", "# images:\n", ["specs/web.yaml"]),
        # wrong types
        ("packages: [alpha]", "packages: alpha",
         ["specs/web.yaml: packages: expected a list, found the text 'alpha'"]),
        ("packages: [alpha]", "packages: [5]",
         ["specs/web.yaml: packages[0]: expected a text, found '5', which YAML reads as a number"]),
        ("packages: [alpha]", "packages: [alpha]\nhostname: 2024-01-01",
         ["specs/web.yaml: hostname: expected a text, found '2024-01-01'", "as a date"]),
        ("packages: [alpha]", "packages: [alpha]\nrecommends: yes please",
         ["specs/web.yaml: recommends: expected true or false, found the text 'yes please'"]),
        ("{/etc/motd: files/motd}", "{/etc/motd: {source: files/motd, mode: 0644}}",
         ["specs/web.yaml: layers[0].files./etc/motd", "mode: expected a text, found '0644', which YAML",
          "the number 420", "put it in quotes: \"0644\""]),
        ("{/etc/motd: files/motd}", "{/etc/motd: {source: files/motd, content: hello}}",
         ["specs/web.yaml: layers[0].files./etc/motd", "source", "content"]),
        ("{/etc/motd: files/motd}", "{etc/motd: files/motd}",
         ["specs/web.yaml: layers[0].files: 'etc/motd'"]),
        ("{/etc/motd: files/motd}", "{/etc/../motd: files/motd}",
         ["specs/web.yaml: layers.app.files: '/etc/../motd' is no plain absolute path"]),
        ("keyring:", "priority: high, keyring:",
         ["specs/web.yaml: repos[0].priority: expected a whole number, found the text 'high'"]),
        # values
        ("format: ext2", "format: ext5",
         ["specs/web.yaml: images./boot.format: 'ext5' is not one of ext2, ext3, ext4,", "'ext4'?"]),
        ("tool: mmdebstrap", "tool: multistrap",
         ["specs/web.yaml: base.tool: 'multistrap' is not one of mmdebstrap, debootstrap"]),
        ("tool: mmdebstrap", "tool: debootstrap",
         ["specs/web.yaml: base.variant: 'apt' is not one of debootstrap's variants: minbase"]),
        ("variant: apt", "variant: custom", ["specs/web.yaml: base.include: the variant 'custom'"]),
        ("format: ext2", "format: ext2, size: 20X", ["specs/web.yaml: images./boot.size: '20X'"]),
        ("format: ext2", "format: ext2, size: 0", ["specs/web.yaml: images./boot.size: 0"]),
        ("format: ext2", "format: ext2, size: 99999999999999G",
         ["specs/web.yaml: images./boot.size: larger than 16 TiB"]),
        ("format: ext2", "format: ext2, size: 20M, free: 5M",
         ["specs/web.yaml: images./boot: only one of size and free may be given"]),
        ("format: ext2", "format: ext2, label: a-label-too-long-for-it",
         ["specs/web.yaml: images./boot.label: ext2 takes 16 characters"]),
        ("format: ext2", "format: ext2, uuid: 1234-5678",
         ["specs/web.yaml: images./boot.uuid: '1234-5678' is not of ext2's form"]),
        ("format: ext2", "format: ext2, options: --bogus",
         ["specs/web.yaml: images./boot.options: '--bogus' is not one of the options that mke2fs",
          "-b, -C, -e", "may be given: nothing that names a file or a device"]),
        ("format: ext2", "format: btrfs, options: -r ..",
         ["specs/web.yaml: images./boot.options: '-r' is not one of the options that mkfs.btrfs"]),
        ("format: ext2", "format: xfs, options: '-l size=70m,name=new.py'",
         ["specs/web.yaml: images./boot.options: '-l name' is not one of the options that mkfs.xfs"]),
        ("format: ext2", "format: xfs, pack: direct",
         ["specs/web.yaml: images./boot.pack: direct works for ext2, ext3 and ext4 only"]),
        ("/boot: {", "boot: {", ["specs/web.yaml: images: 'boot'"]),
        ("packages: [alpha]", "packages: [alpha, 'beta; reboot']",
         ["specs/web.yaml: packages[1]: 'beta; reboot'"]),
        ("packages: [alpha]", 'packages: ["alpha\\n"]', ["specs/web.yaml: packages[0]: 'alpha\\n'"]),
        ("suite: stable,", 'suite: "stable\\n",', ["specs/web.yaml: repos[0].suite: 'stable\\n'"]),
        ("${mirror}", "ftp://example.org/debian", ["specs/web.yaml: repos[0].uri: 'ftp:"]),
        ("${mirror}", "http://example.org/../debian",
         ["specs/web.yaml: repos.main: `..` is not allowed in uri and suite"]),
        ("suite: stable,", "suite: ./,",
         ["specs/web.yaml: repos.main.section: a flat repository has no components"]),
        ("packages: [alpha]", "packages: [alpha]\ndebconf: [alpha alpha/question]",
         ["specs/web.yaml: debconf: 'alpha alpha/question' is not `PACKAGE QUESTION TYPE VALUE`"]),
        # what stands twice
        ("packages: [alpha]", "packages: [alpha]\npackages: [beta]",
         ["specs/web.yaml:6:1: 'packages' stands twice"]),
        ("format: ext2", "format: ext2, format: ext4", ["specs/web.yaml:13:", "'format' stands twice"]),
        ("\nbase:", "\n  - {name: main, uri: 'file:/srv', suite: ./}\nbase:",
         ["specs/web.yaml: repos: 'main' stands twice"]),
        (APP, APP + APP, ["specs/web.yaml: layers: 'app' stands twice"]),
        ("name: app", "name: base", ["specs/web.yaml: layers: the name 'base' is taken"]),
        ("name: app", "name: packages", ["specs/web.yaml: layers: 'packages' stands twice"]),
        ("web-boot.img.gz", "web.img.gz",
         ["specs/web.yaml: images: file: 'web.img.gz' stands twice"]),
        ("web-boot.img.gz", "build.json",
         ["specs/web.yaml: images./boot.file: 'build.json' is the name of"]),
        ("  /: {", "  /usr: {", ["specs/web.yaml: images: nothing is mounted at `/`"]),
    ],
)  # fmt: skip
def test_spec(fresh: World, old: str, new: str, parts: list[str]) -> None:
    fresh.edit(old, new)
    says(refused(fresh, "build", "spec=web"), "ERROR: " + parts[0], *parts[1:])
    assert fresh.server.requests == []


def test_secrets_are_not_in_messages(fresh: World) -> None:
    fresh.edit("packages: [alpha]", "root_password: [hunter2]")
    assert "hunter2" not in refused(fresh, "build", "spec=web")
    fresh.edit("root_password: [hunter2]", "proxies: 'http://me:hunter2@proxy:3128'")
    assert "hunter2" not in refused(fresh, "build", "spec=web")


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("keys/test.gpg", "keys/tset.gpg",
         ["repos.main.keyring: specs/keys/tset.gpg is missing", "no keys/tset.gpg either",
          "relative to the spec's folder"]),
        ("keys/test.gpg", "keys", ["repos.main.keyring: specs/keys is missing"]),
        ("scripts/app.sh", "scripts/apps.sh",
         ["layers.app.script: specs/scripts/apps.sh cannot be read: No such file"]),
        ("scripts/app.sh", "specs/scripts/none.sh",
         ["layers.app.script: specs/specs/scripts/none.sh cannot be read: No such file",
          "there is no specs/scripts/none.sh either"]),
        ("scripts/app.sh", "/none.sh",
         ["layers.app.script: /none.sh cannot be read: No such file"]),
        ("scripts/app.sh", "scripts", ["layers.app.script: specs/scripts is no file"]),
        ("files/motd}", "files/nothing}",
         ["layers.app.files: /etc/motd: the source specs/files/nothing cannot be read: No such",
          "there is no files/nothing either"]),
    ],
)  # fmt: skip
def test_missing_file(fresh: World, old: str, new: str, parts: list[str]) -> None:
    fresh.edit(old, new)
    before = fresh.server.requests
    says(refused(fresh, "lock", "spec=web") if "keyring" in parts[0] else late(fresh),
         "specs/web.yaml: " + parts[0], *parts[1:])  # fmt: skip
    assert before == fresh.server.requests


def late(world: World) -> str:
    """What a build says that fails after the lock has been written: that file is no leftover."""
    world.doit("lock", "spec=web")
    return refused(world, "build", "spec=web", "lock=keep")


# ---------------------------------------------------------------- packages


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("[alpha]", "[alhpa]", ["specs/web.yaml: packages: no repository has alhpa:"]),
        # A regular expression to apt, if there is no such package: it would match alpha.
        ("[alpha]", "[al.ha]", ["specs/web.yaml: packages: no repository has al.ha:"]),
        ("[alpha]", "[al.]", ["specs/web.yaml: packages: no repository has al.:"]),
        ("[beta]", "[beta, nothing, nowhere]",
         ["specs/web.yaml: layers.app: no repository has nothing, nowhere:"]),
        ("[alpha]", "[alpha=3]", ["specs/web.yaml: packages: no repository has alpha in version '3':", "there is 1 (main)"]),
        ("[alpha]", "[alpha/sid]", ["specs/web.yaml: packages: no repository is of the suite 'sid':",
          "alpha is in stable, teststable"]),
        ("variant: apt", "variant: apt, include: [nothing]",
         ["specs/web.yaml: base: no repository has nothing:"]),
        ("[beta]", "[beta, cats, dogs]",
         ["specs/web.yaml: layers.app: apt cannot install these packages together:",
          "cats : Conflicts: dogs"]),
        ("[beta]", "[hungry]",
         ["specs/web.yaml: layers.app: apt cannot install these packages together:",
          "hungry : Depends: food (>= 2)"]),
        ("[beta]", "[jealous]",
         ["specs/web.yaml: layers.app: apt would remove alpha, which an earlier layer asks for",
          "alpha-"]),
    ],
)  # fmt: skip
def test_packages(fresh: World, old: str, new: str, parts: list[str]) -> None:
    fresh.edit(f"packages: {old}" if old.startswith("[") else old,
               f"packages: {new}" if new.startswith("[") else new)  # fmt: skip
    says(refused(fresh, "build", "spec=web"), "ERROR: " + parts[0], *parts[1:])
    assert not (fresh.root / "specs/web.lock").exists()


def test_missing_keyring_where_it_goes_into_the_image(fresh: World) -> None:
    fresh.doit("lock", "spec=web")
    fresh.edit("packages: [alpha]", "apt_sources: true\npackages: [alpha]")
    (fresh.root / "specs/keys/test.gpg").unlink()
    for words in (["keys"], ["why"], ["build", "lock=frozen"]):
        told = fresh.doit(*words, "spec=web", check=False)
        assert told.code != 0
        assert "Traceback" not in told.text
        assert "repos.main.keyring: specs/keys/test.gpg is missing" in told.text
    assert "Traceback" not in fresh.doit("list", "spec=web", check=False).text


@pytest.mark.parametrize("name", ["..", ".", "../web", "nothing"])
def test_clean_removes_what_a_spec_made_and_nothing_else(fresh: World, name: str) -> None:
    kept = fresh.root / "out/other/file"
    kept.parent.mkdir(parents=True)
    kept.touch()
    before = sorted(path for path in fresh.root.rglob("*") if ".doit" not in path.parts)
    fresh.doit("clean", "build", f"spec={name}", check=False)
    assert sorted(path for path in fresh.root.rglob("*") if ".doit" not in path.parts) == before


def test_failed_resolution_keeps_the_lock(fresh: World) -> None:
    fresh.doit("lock", "spec=web")
    fresh.edit("[alpha]", "[alpha, nothing]")
    says(refused(fresh, "build", "spec=web"), "packages: no repository has nothing")
    says(refused(fresh, "build", "spec=web", "lock=keep"), "packages: no repository has nothing")


# ---------------------------------------------------------------- repositories


def _release(world: World, **changes: str | None) -> bytes:
    """The site's Release with fields added, changed or (None) removed."""
    text = (world.repository.dist / "Release").read_text()
    for name, value in changes.items():
        field = name.replace("_", "-")
        text = re.sub(rf"^{field}: .*\n", "", text, flags=re.M)
        text = text if value is None else f"{field}: {value}\n{text}"
    return text.encode()


def _signed(world: World, release: bytes) -> None:
    assert world.repository.key is not None
    world.server.faults["InRelease"] = Fault(body=world.repository.key.sign(release)[0])


def _tampered(world: World) -> None:
    signed = (world.repository.dist / "InRelease").read_bytes()
    assert signed.count(b"\nLabel: ") == 1
    world.server.faults["InRelease"] = Fault(body=signed.replace(b"\nLabel: ", b"\nLabel: X"))


def _other_key(world: World) -> None:
    key = SigningKey("Somebody Else")
    world.server.faults["InRelease"] = Fault(body=key.sign(_release(world))[0])
    key.close()


def _expired(world: World) -> None:
    _signed(world, _release(world, Valid_Until="Sat, 01 Jan 2022 00:00:00 UTC"))


def _future(world: World) -> None:
    _signed(world, _release(world, Date="Wed, 01 Jan 2070 00:00:00 UTC"))


def _unsigned(world: World) -> None:
    world.server.faults["InRelease"] = Fault(status=404)
    world.server.faults["Release.gpg"] = Fault(status=404)


def _status(code: int) -> Callable[[World], None]:
    def answer(world: World) -> None:
        world.server.faults[""] = Fault(status=code)

    return answer


def _suite(world: World) -> None:
    world.edit("suite: stable", "suite: stabel")


def _other_index(world: World) -> None:
    for name in ("Packages", "Packages.gz", "Packages.xz"):
        world.server.faults[name] = Fault(body=b"Package: evil\n")


@pytest.mark.parametrize(
    ("harm", "parts"),
    [
        (_tampered, ["its signature is bad", "use another mirror"]),
        (_other_key, ["signed with a key that is not in its keyring", "repos.main.keyring"]),
        (_expired, ["its Release has expired (Valid-Until)",
                    "repos.main.check_valid_until: false"]),
        (_future, ["its Release is dated in the future", "check this host's clock"]),
        (_unsigned, ["it is not signed", "repos.main.trusted: true"]),
        (_status(503), ["it does not answer", "503", "check its uri, suite and the network"]),
        (_status(404), ["the mirror that STRATA_MIRROR names has no suite", "check the suite"]),
        (_status(401), ["it refuses access", "user and password"]),
        (_suite, ["the mirror that STRATA_MIRROR names has no suite", "check the suite"]),
        (_other_index, ["its indexes do not fit its Release", "try again"]),
    ],
    ids=["tampered", "other key", "expired", "future", "unsigned", "503", "404", "401",
         "suite", "index"],
)  # fmt: skip
def test_repository(fresh: World, harm: Callable[[World], None], parts: list[str]) -> None:
    harm(fresh)
    says(refused(fresh, "build", "spec=web"),
         f"ERROR: specs/web.yaml: repos.main ({fresh.server.url} sta", *parts)  # fmt: skip
    assert not (fresh.root / "specs/web.lock").exists()


@pytest.mark.parametrize("harm", [_tampered, _other_key, _expired, _unsigned, _status(503)])
def test_repository_turned_bad_keeps_the_lock(fresh: World, harm: Callable[[World], None]) -> None:
    fresh.doit("lock", "spec=web")
    harm(fresh)
    says(refused(fresh, "build", "spec=web"), "ERROR: specs/web.yaml: repos.main (")


def test_closed_port(fresh: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        place = f"127.0.0.1:{closed.getsockname()[1]}"
    text = refused(fresh, "build", "spec=web", f"mirror=http://me:hunter2@{place}")
    says(text, f"ERROR: specs/web.yaml: repos.main (http://***@{place} stable): it does not answer",
         "Connection refused", "check its uri, suite and the network")  # fmt: skip
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("section: main", "section: main contirb",
         ["repos.main.section: it has no component 'contirb'", "it has main"]),
        ("\nbase:", "\narch: s390x\nbase:",
         ["repos.main: it has no packages for s390x", "it has amd64"]),
    ],
)  # fmt: skip
def test_repository_lacks(fresh: World, old: str, new: str, parts: list[str]) -> None:
    fresh.edit(old, new)
    says(refused(fresh, "lock", "spec=web"), "ERROR: specs/web.yaml: " + parts[0], *parts[1:])


@pytest.mark.parametrize(
    ("harm", "option"), [(_expired, "check_valid_until: false"), (_unsigned, "trusted: true")]
)
def test_repository_is_accepted_if_the_spec_says_so(
    fresh: World, harm: Callable[[World], None], option: str
) -> None:
    harm(fresh)
    fresh.edit("keyring:", f"{option}, keyring:")
    fresh.doit("lock", "spec=web")
    lock = json.loads((fresh.root / "specs/web.lock").read_text())
    assert [record["package"] for record in lock["layers"][0]["records"]] == ["alpha"]


def test_priority_of_a_repository_without_fields_to_pin_by(fresh: World, tmp_path: Path) -> None:
    flat = Repository(tmp_path / "flat", flat=True, key=None, origin="", label="", version="")
    flat.add(make_deb(tmp_path / "debs", "alpha", "2"))
    flat.publish()
    entry = (
        f"\n  - {{name: flat, uri: 'file:{flat.root}', suite: ./, trusted: true, priority: 900}}"
    )
    fresh.edit("\nbase:", f"{entry}\nbase:")
    says(refused(fresh, "build", "spec=web"),
         "ERROR: specs/web.yaml: repos.flat.priority: its Release has none of the fields",
         "Codename, Label, Origin", "remove the priority")  # fmt: skip
    fresh.edit(", priority: 900", "")
    fresh.doit("lock", "spec=web")


# ---------------------------------------------------------------- the lock


def _edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        lock = json.loads(text)
        change(lock)
        return json.dumps(lock)

    return edit


@pytest.mark.parametrize(
    ("harm", "part"),
    [
        (lambda text: text[: text.index("sha256") + 3], "Unterminated string"),
        (lambda text: "", "Expecting value"),
        (lambda text: "<<<<<<< HEAD\n" + text, "Expecting value"),
        (lambda text: "[]", "it is not a mapping"),
        (lambda text: "[" * 100_000, "nested too deep"),
        (_edited(lambda lock: lock.update(format=3)), "format 3 is not 2"),
        (_edited(lambda lock: lock.pop("base")), "no 'base'"),
        (_edited(lambda lock: lock["base"][0].update(path="../../etc/shadow")), "is malformed"),
        (_edited(lambda lock: lock["base"][0].update(sha256="../../x")), "is malformed"),
        (_edited(lambda lock: lock["base"][0].update(sha256="0" * 63)), "is malformed"),
        (_edited(lambda lock: lock["base"][0].update(package="-x")), "is malformed"),
        (_edited(lambda lock: lock["base"][0].update(version="1 2")), "is malformed"),
        (_edited(lambda lock: lock["base"][0].update(size="1")), "is malformed"),
        (_edited(lambda lock: lock["base"][0].update(repository="other")), "is malformed"),
        (_edited(lambda lock: lock["base"][0].update(extra=1)), "extra"),
        (_edited(lambda lock: lock["base"][0].update(package=["x"])), "the package is malformed"),
        (_edited(lambda lock: lock["layers"][0].update(removes=["a b"])), "removes is malformed: 'a b'"),
        (_edited(lambda lock: lock["repos"][0].update(release="x")), "'main' the release is malformed"),
        (_edited(lambda lock: lock["repos"].clear()), "is malformed"),
    ],
)  # fmt: skip
def test_tampered_lock(fresh: World, site_lock: str, harm: Callable[[str], str], part: str) -> None:
    fresh.write("web.lock", harm(site_lock))
    says(refused(fresh, "build", "spec=web"), "ERROR: specs/web.lock: not a lock that Strata wrote: ",
         part, "restore it from version control")  # fmt: skip
    assert fresh.server.requests == []


@pytest.fixture(scope="module")
def site_lock(site: tuple[Repository, Server], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The lock of the unchanged spec."""
    root = tmp_path_factory.mktemp("site-lock") / "checkout"
    checkout(root, None)
    world = World(root, *site, root)
    world.write("web.yaml", SPEC)
    world.write("keys/test.gpg", "").write_bytes(site[0].keyring.read_bytes())
    world.doit("lock", "spec=web")
    return (root / "specs/web.lock").read_text()


def test_frozen_without_a_lock(fresh: World) -> None:
    says(refused(fresh, "build", "spec=web", "lock=frozen"),
         "ERROR: specs/web.lock: lock=frozen, and the lock is missing",
         "doit lock spec=web")  # fmt: skip
    assert fresh.server.requests == []
    assert not (fresh.root / "specs/web.lock").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[alpha]", "[alpha, delta]"),
        ("name: app", "name: apps"),
        ("variant: apt", "variant: minbase"),
    ],
)
def test_frozen_with_a_stale_lock(fresh: World, site_lock: str, old: str, new: str) -> None:
    fresh.write("web.lock", site_lock)
    fresh.edit(old, new)
    says(refused(fresh, "build", "spec=web", "lock=frozen"),
         "ERROR: specs/web.lock: lock=frozen, and the lock is older than the spec",
         "doit lock spec=web")  # fmt: skip
    assert fresh.server.requests == []


def test_frozen_with_a_lock_that_lost_a_layer(fresh: World, site_lock: str) -> None:
    fresh.write("web.lock", _edited(lambda lock: lock["layers"].pop())(site_lock))
    says(refused(fresh, "build", "spec=web", "lock=frozen"),
         "ERROR: specs/web.lock: lock=frozen, and the lock is older than the spec")  # fmt: skip
    fresh.doit("lock", "spec=web")
    assert (fresh.root / "specs/web.lock").read_text() == site_lock


# ---------------------------------------------------------------- .debs


def _digests(world: World) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in world.root.glob("cache/debs/*") if path.name != ".lock"}  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize(
    ("fault", "parts"),
    [
        (Fault(status=404), ["404 Not Found", "lock=latest; otherwise check that it answers"]),
        (Fault(status=503), ["503 Service Unavailable", "lock=latest; otherwise check"]),
        (Fault(body=b"other"), ["not what is locked", "lock=latest; otherwise use another mirror"]),
        (Fault(body=b"x" * 750), ["not what is locked", "lock=latest; otherwise use another"]),
    ],
    ids=["gone", "503", "other", "same size"],
)
def test_deb_that_cannot_be_had(
    fresh: World, site_lock: str, fault: Fault, parts: list[str]
) -> None:
    fresh.write("web.lock", site_lock)
    deb = fresh.repository.pool / "baseline_1_all.deb"
    assert deb.stat().st_size == 750
    fresh.server.faults[deb.name] = fault
    says(refused(fresh, "build", "spec=web", "lock=keep"),
         f"ERROR: cannot fetch baseline 1 from repository main ({fresh.server.url}):", *parts)  # fmt: skip
    digests = _digests(fresh)
    assert len(digests) > 12  # what did come is kept for the next time
    assert all(name == f"{digest}.deb" for name, digest in digests.items()), digests


@pytest.mark.root
@pytest.mark.parametrize("harm", ["gone", "other"])
def test_deb_of_a_folder_that_cannot_be_had(
    fresh: World, site_lock: str, tmp_path: Path, harm: str
) -> None:
    fresh.write("web.lock", site_lock)
    subprocess.run(["cp", "-al", fresh.repository.root, tmp_path / "copy"], check=True)
    deb = tmp_path / "copy/pool/stable/main/baseline_1_all.deb"
    deb.unlink()
    if harm == "other":
        deb.write_bytes(b"x" * 750)
    says(refused(fresh, "build", "spec=web", "lock=keep", f"mirror=file:{tmp_path}/copy"),
         f"ERROR: cannot fetch baseline 1 from repository main (file:{tmp_path}/copy):",
         {"gone": "No such file", "other": "is not what is locked"}[harm],
         "build with lock=latest")  # fmt: skip
    digests = _digests(fresh)
    assert all(name == f"{digest}.deb" for name, digest in digests.items()), digests


# ---------------------------------------------------------------- layers and images


@pytest.mark.root
@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("file: web.img.gz, format: ext4", "file: web.img.gz, format: ext4, size: 20M",
         ["image:/: failed", "specs/web.yaml: images./.size: 20.0 MiB of ext4 do not hold the tree",
          "make size larger"]),
        ("format: ext2", "format: ext2, size: 8K", ["image:/boot: failed", "images./boot.size: "]),
        ("file: web.img.gz, format: ext4", "file: web.img.gz, format: vfat",
         ["image:/: failed", "specs/web.yaml: images./.format: vfat cannot hold /",
          "use another format"]),
        ("  /boot: {", "  /data: {",
         ["image:/data: failed", "specs/web.yaml: images./data: the tree has no directory /data"]),
        ("format: ext2", "format: ext2, options: -b 3",
         ["image:/boot: failed", "image /boot failed (exit status 1)", "invalid block size - 3"]),
        ("{/etc/motd: files/motd}", "{/etc/motd: {source: files/motd, owner: nobodyelse}}",
         ["layer:app: failed", "layers.app.files: owner 'nobodyelse': the image has no"]),
        ("packages: [alpha]", "packages: [alpha]\ntimezone: Europe/Berlin",
         ["layer:settings: failed", "timezone: the image has no zone Europe/Berlin", "tzdata"]),
        ("scripts/app.sh", "scripts/bad.sh",
         ["layer:app: failed", "layer app failed (exit status 3)", "what went wrong",
          "the whole output is in out/web/log/layer-app.log"]),
    ],
)  # fmt: skip
def test_stage(built: World, old: str, new: str, parts: list[str]) -> None:
    built.write("scripts/bad.sh", "#!/bin/sh\necho what went wrong >&2\nexit 3\n", 0o755)
    built.edit(old, new)
    says(late(built), *parts)


# ---------------------------------------------------------------- the host


def _prefixed(*prefix: str) -> Callable[[World, Sequence[str]], Build]:
    """A way to run doit: as the last words of another command."""

    def run(world: World, words: Sequence[str]) -> Build:
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "doit", *words], cwd=world.root, text=True, check=False,
            capture_output=True, env=world.environment(), stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Build(done.returncode, done.stdout, done.stderr)

    return run


def _without(path: str) -> Callable[[World, Sequence[str]], Build]:
    """A way to run doit: in a mount namespace where this command is hidden."""
    return _prefixed(
        "unshare", "--mount", "sh", "-ec", 'mount --bind /dev/null "$0"; exec "$@"', path
    )


@pytest.mark.root
def test_not_root(fresh: World, site_lock: str) -> None:
    # A user namespace without a map: this process is nobody, and may still read and write here.
    fresh.write("web.lock", site_lock)
    says(refused(fresh, "build", "spec=web", run=_prefixed("unshare", "--user")),
         "lock: failed", "ERROR: building / needs root", "sudo")  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize(
    ("path", "name", "package"),
    [
        ("/usr/bin/apt-get", "apt-get", "apt"),
        ("/usr/bin/mmdebstrap", "mmdebstrap", "mmdebstrap"),
        ("/usr/sbin/mke2fs", "mke2fs", "e2fsprogs"),
        pytest.param("/usr/lib/apt/apt-helper", "apt-helper", "apt", marks=pytest.mark.nightly),
        pytest.param(
            "/usr/bin/apt-ftparchive", "apt-ftparchive", "apt-utils", marks=pytest.mark.nightly
        ),
        pytest.param("/usr/bin/unshare", "unshare", "util-linux", marks=pytest.mark.nightly),
        pytest.param("/usr/sbin/resize2fs", "resize2fs", "e2fsprogs", marks=pytest.mark.nightly),
    ],
)
def test_missing_tool(request: pytest.FixtureRequest, path: str, name: str, package: str) -> None:
    late = name in ("unshare", "resize2fs")
    world: World = request.getfixturevalue("built" if late else "fresh")
    world.edit("packages: [beta]", "packages: [beta, delta]")
    world.doit("lock", "spec=web")
    says(refused(world, "build", "spec=web", run=_without(path)),
         f"ERROR: the host has no command {name}", f"apt-get install {package}")  # fmt: skip


@pytest.mark.root
def test_missing_gpgv(fresh: World) -> None:
    if Path("/usr/bin/sqv").exists():  # apt 3 asks that one, which it depends on
        assert _without("/usr/bin/gpgv")(fresh, ["lock", "spec=web"]).code == 0
        return
    says(refused(fresh, "build", "spec=web", run=_without("/usr/bin/gpgv")),
         "repos.main (", "this host has nothing to check its signature with",
         "apt-get install gpgv")  # fmt: skip


# ---------------------------------------------------------------- interrupts


@dataclass(frozen=True)
class Process:
    pid: int
    started: str

    @property
    def alive(self) -> bool:
        fields = _stat(self.pid)
        return bool(fields) and fields[19] == self.started and fields[0] != "Z"


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on, the state; [] for no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _descendants(root: int) -> set[Process]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        if fields := _stat(int(path.name)):
            parents[int(path.name)] = (int(fields[1]), fields[19])
    found = {root}
    while more := {pid for pid, (parent, _) in parents.items() if parent in found} - found:
        found |= more
    return {Process(pid, parents[pid][1]) for pid in found - {root}}


def _mounted(folder: Path) -> list[str]:
    """Mounts and loop devices of anything below a folder, in the host's own namespace."""
    found = [line for line in Path("/proc/self/mounts").read_text().splitlines()
             if f"{folder}/" in line]  # fmt: skip
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            found += [path.read_text()] if str(folder) in path.read_text() else []
    return found


def _interrupt(world: World, mark: str, wait: float = 0) -> None:
    """Ctrl-C some time after this line: as the terminal does, to the whole process group."""
    before = results(world)
    process = subprocess.Popen(
        [sys.executable, "-m", "doit", "build", "spec=web"], cwd=world.root, text=True,
        env=world.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        seen = ""
        for line in process.stdout:
            seen += line
            if mark in line:
                break
        assert mark in seen, seen
        time.sleep(wait)
        deadline = time.monotonic() + 5
        while "filling" in mark and not _mounted(scratch(world)) and time.monotonic() < deadline:
            time.sleep(0.005)
        children = _descendants(process.pid)
        assert bool(_mounted(scratch(world))) == ("filling" in mark)
        os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, rest
    assert rest.splitlines()[-1] == "interrupted by SIGINT; what was whole is kept"
    assert "Traceback" not in rest
    assert "ERROR" not in rest
    assert children or "compressing" in mark
    deadline = time.monotonic() + 2
    while any(child.alive for child in children) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [child for child in children if child.alive] == []
    assert _mounted(scratch(world)) == []
    assert leftovers(world) == []
    assert results(world) == before


@pytest.mark.root
def test_interrupted_base(world: World) -> None:
    world.doit("lock", "spec=web")
    _interrupt(world, "base: bootstrapping", 0.5)
    assert set(world.build().values()) == {"built"}


@pytest.mark.root
def test_interrupted_layer_and_image(built: World) -> None:
    script = built.root / "specs/scripts/app.sh"
    before = script.read_text()
    script.write_text("#!/bin/sh\nsleep 600\n")
    _interrupt(built, "layer app: running app.sh", 0.2)
    script.write_text(before)
    built.edit("file: web.img.gz, format: ext4", "file: web.img.gz, format: ext4, label: other")
    _interrupt(built, "image /: filling")
    _interrupt(built, "image /: compressing")
    assert built.build() == {"base": "hit", "packages": "hit", "app": "hit", "/": "built",
                             "/boot": "hit"}  # fmt: skip
    assert leftovers(built) == []
