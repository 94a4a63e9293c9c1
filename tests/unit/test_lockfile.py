"""The lock's text: canonical, read back as it was, and refused where it is malformed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from support.samples import lock, record
from tasks.errors import BuildError
from tasks.plan import lockfile
from tasks.plan.lockfile import LockedLayer, LockedRepo

Document = dict[str, Any]


FULL = replace(lock(
    [record("alpha", "1:2.0~rc1-1+b1"), record("libc6", architecture="all")]),
    repos=(
        LockedRepo(name="main", release="a" * 64, date="Mon, 01 Jan 2024 00:00:00 UTC",
                   fields={"Origin": "Ünï", "Suite": "stable"}),
        LockedRepo(name="ours", release="b" * 64, date="", fields={}),
    ),
    layers=(
        LockedLayer(name="app", records=(record("beta", repository="ours"),), removes=("alpha", "x:i386"),
                    manual=("beta", "libc6")),
        LockedLayer(name="empty", records=(), removes=()),
    ),
    manual=("libc6",),
)  # fmt: skip


def test_text_is_read_back_as_it_was() -> None:
    text = lockfile.dump(replace(FULL, kept=True))
    assert lockfile.parse(text, where="x.lock") == replace(FULL, kept=True)
    text = lockfile.dump(FULL)
    assert lockfile.parse(text, where="x.lock") == FULL
    assert lockfile.dump(lockfile.parse(text, where="x.lock")) == text


def test_text_is_canonical_and_has_a_line_for_each_record() -> None:
    text = lockfile.dump(FULL)
    lines = text.splitlines()
    for package in ("alpha", "libc6", "beta"):
        assert sum(f'{{"package": "{package}"' in line for line in lines) == 1
    assert "Ünï" in text, "as it is written, for people"
    assert text.endswith("}\n")
    assert json.loads(text)["format"] == lockfile.FORMAT
    # What a tool has laid out anew means the same and gets the canonical text again.
    other = json.dumps(json.loads(text), indent=4, sort_keys=True)
    assert lockfile.dump(lockfile.parse(other, where="x.lock")) == text


def test_one_changed_version_changes_one_line() -> None:
    new = replace(FULL, base=(replace(FULL.base[0], version="2"), FULL.base[1]))
    before, after = (lockfile.dump(one).splitlines() for one in (FULL, new))
    assert [one for one, two in zip(before, after, strict=True) if one != two] == [
        next(one for one in before if '"alpha"' in one)
    ]


def test_digest_is_of_the_text() -> None:
    text = lockfile.dump(FULL)
    assert lockfile.digest(text) != lockfile.digest(text + " ")
    assert len(lockfile.digest(text)) == 64


def test_installed_is_what_layers_left_of_what_was_below() -> None:
    new = record("beta", "2")
    plan = replace(lock(
        [record("alpha"), record("beta", "1"), record("beta", "1", "i386"), record("all", architecture="all")]),
        layers=(
            LockedLayer(name="one", records=(new,), removes=("alpha",)),
            LockedLayer(name="two", records=(), removes=("beta:i386", "all", "never")),
        ),
    )  # fmt: skip

    def names(layers: int | None) -> list[str]:
        return [f"{one.package} {one.version} {one.architecture}" for one in plan.installed(layers)]

    assert names(0) == ["all 1 all", "alpha 1 amd64", "beta 1 amd64", "beta 1 i386"]
    assert names(1) == ["all 1 all", "beta 1 i386", "beta 2 amd64"]
    assert names(None) == names(2) == ["beta 2 amd64"]


def test_package_that_changes_between_all_and_native_is_one_package() -> None:
    plan = lock([record("a", "1", "all")], {"app": [record("a", "2")]})
    assert [one.version for one in plan.installed()] == ["2"]


def test_marks_are_of_what_came_and_of_what_was_asked_for() -> None:
    plan = replace(lock(
        [record("asked"), record("needed"), record("needed", "1", "i386"), record("all", architecture="all")]),
        manual=("asked", "all"),
        layers=(
            LockedLayer(name="one", records=(record("new"), record("dep"), record("dep", "1", "i386"),
                                             record("needed", "2")),
                        removes=("asked",), manual=("new",)),
            LockedLayer(name="two", records=(record("asked"),), removes=(),
                        manual=("dep", "needed:i386")),
        ),
    )  # fmt: skip
    assert plan.marks(None) == (["needed:amd64", "needed:i386"], ["all:amd64", "asked:amd64"])
    # An upgraded package keeps its mark.
    assert plan.marks(0) == (["dep:amd64", "dep:i386"], ["new:amd64"])
    # One that was removed and comes back is a new one; what was there is manual once asked for.
    assert plan.marks(1) == (["asked:amd64"], ["dep:amd64", "needed:i386"])


def test_lock_of_the_form_before_marks_is_read_without_them() -> None:
    """Then it fits no spec, so that it is resolved again; with lock=keep, of the same versions."""
    document = json.loads(lockfile.dump(FULL))
    for part in (document, *document["layers"]):
        del part["manual"]
    old = lockfile.parse(json.dumps({**document, "format": 1}), where="x.lock")
    layers = tuple(replace(layer, manual=()) for layer in FULL.layers)
    assert old == replace(FULL, manual=(), layers=layers, form=1)
    assert lockfile.state(old) != lockfile.state(FULL)


def test_identity_is_without_where_it_came_from() -> None:
    one, two = record("a"), record("a", repository="ours", path="pool/x.deb", size=7)
    assert one.identity == two.identity
    assert one.identity != replace(one, sha256="0" * 64).identity


def _base(**fields: Any) -> Callable[[Document], Any]:
    return lambda document: document["base"][0].update(fields)


BAD: dict[str, tuple[Callable[[Document], Any], str]] = {
    "format": (lambda lock: lock.update(format=99), "format 99 is not 2"),
    "no format": (lambda lock: lock.pop("format"), "no 'format'"),
    "no repos": (lambda lock: lock.pop("repos"), "no 'repos'"),
    "no base": (lambda lock: lock.pop("base"), "no 'base'"),
    "no layers": (lambda lock: lock.pop("layers"), "no 'layers'"),
    "no inputs": (lambda lock: lock.pop("inputs"), "no 'inputs'"),
    "no arch": (lambda lock: lock.pop("arch"), "no 'arch'"),
    "inputs": (lambda lock: lock.update(inputs="no hash"), "inputs is malformed: 'no hash'"),
    "inputs that are no text": (lambda lock: lock.update(inputs=["0" * 32]), "inputs"),
    "arch": (lambda lock: lock.update(arch="../x"), "arch"),
    "arch that is no text": (lambda lock: lock.update(arch=None), "arch"),
    "layer's name": (lambda lock: lock["layers"][0].update(name="../x"), "layer"),
    "layer's name that is no text": (lambda lock: lock["layers"][0].update(name=1), "layer"),
    "layer without name": (lambda lock: lock["layers"][0].pop("name"), "no 'name'"),
    "layer without records": (lambda lock: lock["layers"][0].pop("records"), "no 'records'"),
    "layer without removes": (lambda lock: lock["layers"][0].pop("removes"), "no 'removes'"),
    "removes": (lambda lock: lock["layers"][0].update(removes=["a b"]), "what layer 'app' removes is malformed: 'a b'"),
    "removes that is a text": (lambda lock: lock["layers"][0].update(removes="ab"), "removes"),
    "no manual": (lambda lock: lock.pop("manual"), "no 'manual'"),
    "manual": (lambda lock: lock.update(manual=["a b"]), "manual is malformed: 'a b'"),
    "manual that is a text": (lambda lock: lock.update(manual="ab"), "manual"),
    "layer without manual": (lambda lock: lock["layers"][0].pop("manual"), "no 'manual'"),
    "manual of a layer": (lambda lock: lock["layers"][0].update(manual=[1]), "manual of layer 'app'"),
    "manual that is not installed": (lambda lock: lock["layers"][0].update(manual=["alpha"]), "manual has 'alpha'"),
    "format that is true": (lambda lock: lock.update(format=True), "format True"),
    "repository's digest": (lambda lock: lock["repos"][0].update(release="A" * 64), "repository 'main' the release"),
    "repository's date": (lambda lock: lock["repos"][0].update(date="a\nb"), "repository 'main' the date"),
    "repository's field": (lambda lock: lock["repos"][0].update(fields={"Origin": 1}), "field 'Origin'"),
    "repository's fields": (lambda lock: lock["repos"][0].update(fields=[]), "the fields are malformed"),
    "repository with more": (lambda lock: lock["repos"][0].update(more=1), "more"),
    "repository with less": (lambda lock: lock["repos"][0].pop("date"), "date"),
    "package": (_base(package="A b"), "of the record of 'A b' the package is malformed"),
    "version": (_base(version="$(x)"), "the record of 'alpha' the version is malformed: '$(x)'"),
    "architecture": (_base(architecture=""), "the record of 'alpha' the architecture"),
    "sha256": (_base(sha256="0" * 63), "the record of 'alpha' the sha256"),
    "size": (_base(size=-1), "the record of 'alpha' the size"),
    "size that is true": (_base(size=True), "the record of 'alpha' the size"),
    "size that is a text": (_base(size="1"), "the record of 'alpha' the size"),
    "path": (_base(path="../x.deb"), "the record of 'alpha' the path"),
    "path that ends in ..": (_base(path="pool/.."), "the record of 'alpha' the path"),
    "no path": (_base(path=""), "the record of 'alpha' the path"),
    "repository": (_base(repository="other"), "the repository is malformed: there is no 'other'"),
    "record with more": (_base(more=1), "more"),
    "record with less": (lambda lock: lock["base"][0].pop("size"), "size"),
    "record that is a list": (lambda lock: lock.update(base=[[]]), "mapping"),
    "null": (lambda lock: lock.update(base=None), "base is malformed: expected a list"),
    "two records of one package": (lambda lock: lock["base"].append({**lock["base"][0], "version": "9"}),
                                   "of 'base' the package 'alpha:amd64' stands twice"),
    "the same record twice": (lambda lock: lock["base"].append(lock["base"][0]), "stands twice"),
    "one for all and one for an architecture": (
        lambda lock: lock["base"].append({**lock["base"][1], "architecture": "amd64"}),
        "of 'base' the package 'libc6:amd64' stands twice"),
    "two of one layer": (
        lambda lock: lock["layers"][0]["records"].append({**lock["layers"][0]["records"][0], "size": 7}),
        "of 'app' the package 'beta:amd64' stands twice"),
    "two repositories of one name": (lambda lock: lock["repos"].append(lock["repos"][0]),
                                     "the repository 'main' stands twice"),
    "two layers of one name": (lambda lock: lock["layers"].append(lock["layers"][1]),
                               "the layer 'empty' stands twice"),
    "kept that is a number": (lambda lock: lock.update(kept=1), "kept is malformed"),
    "format that is a fraction": (lambda lock: lock.update(format=1.0), "format"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_malformed_field_is_named(name: str) -> None:
    change, part = BAD[name]
    document = copy.deepcopy(json.loads(lockfile.dump(FULL)))
    change(document)
    with pytest.raises(BuildError) as caught:
        lockfile.parse(json.dumps(document), where="specs/x.lock")
    assert caught.value.message.startswith("specs/x.lock: not a lock that Strata wrote: ")
    assert part in caught.value.message
    assert "restore it from version control" in caught.value.hint


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "1", '"x"', "[" * 100_000, "{}", "\0", "NaN"]
)
def test_text_that_is_no_lock(text: str) -> None:
    with pytest.raises(BuildError) as caught:
        lockfile.parse(text, where="specs/x.lock")
    assert caught.value.message.startswith("specs/x.lock: ")
