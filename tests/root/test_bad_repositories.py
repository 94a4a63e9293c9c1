"""Packages that cannot be had, and repositories that are not what they should be: the lock stays as it was."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from support.debs import make_deb
from support.file_server import Fault
from support.refusals import refused
from support.repository import Repository
from support.signing import SigningKey
from support.world import World, says

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
