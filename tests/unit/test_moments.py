"""`snapshot` of a repository: moments, addresses, and what a lock and a key see of it."""

from __future__ import annotations

import datetime
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.samples import REPO, load, lock
from tasks.debian import answers
from tasks.errors import BuildError, RepositoryFault
from tasks.plan.keys import resolution_inputs
from tasks.plan.lockfile import LockedRepo
from tasks.plan.repositories import as_locked, expand, find_mirrors, read_from
from tasks.plan.settings import settings_identity
from tasks.repos import complaint, rollback
from tasks.spec.model import Spec
from tasks.spec.moments import seconds_of, timestamp

MIRRORS = {"mirror": "http://h/x/debian", "snapshot_mirror": "http://s/archive"}

TEXT = """\
repos: [{{name: main, uri: "${{mirror}}", suite: stable, section: main, snapshot: {}}}]
images: {{/: {{file: a.img, format: ext4}}}}
"""


def snapshot(folder: Path, **fields: Any) -> Spec:
    return load(folder, repos=[{**REPO, "snapshot": "2026-11-20", **fields}])


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-11-20", "20261120T000000Z"),
        ("'2026-11-20'", "20261120T000000Z"),
        ("2026-11-20T06:00:00Z", "20261120T060000Z"),
        ("2026-11-20 06:00:00", "20261120T060000Z"),
        ("2026-11-20T06:00:00+02:00", "20261120T040000Z"),
        ("'2026-11-20T06:00:00Z'", "20261120T060000Z"),
        ("20261120T060000Z", "20261120T060000Z"),
    ],
)
def test_dates_as_yaml_reads_them_and_as_texts(tmp_path: Path, written: str, meant: str) -> None:
    (repo,) = load(tmp_path, TEXT.format(written)).repos
    assert repo.snapshot == meant
    assert not repo.check_valid_until, "an archived one has expired"
    assert repo.check_rollback


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("2026-13-40", "YAML reads '2026-13-40' as a date, and there is none such"),
        ("'2026-13-40'", "repos.main.snapshot: '2026-13-40' is no date: month must be in 1..12"),
        ("'2026-11-20T25:00:00Z'", "is no date: hour must be in 0..23"),
        ("0001-01-01T00:00:00+05:00", "is no date"),
        ("yesterday", "repos[0].snapshot: 'yesterday': expected a date such as 2026-11-20"),
        ("20261120", "repos[0].snapshot: 20261120: expected a date such as 2026-11-20"),
        ("true", "repos[0].snapshot: True: expected a date"),
        ("[2026-11-20]", "repos[0].snapshot: expected a date"),
    ],
)
def test_what_is_no_date_is_told(tmp_path: Path, written: str, told: str) -> None:
    with pytest.raises(BuildError, match=re.escape(told)):
        load(tmp_path, TEXT.format(written))


def test_timestamps_are_in_utc() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=-5))
    assert timestamp(datetime.datetime(2026, 11, 20, 22, 0, tzinfo=zone)) == "20261121T030000Z"
    assert seconds_of("19700102T000001Z") == 86401


def test_a_snapshot_is_read_from_its_service(tmp_path: Path) -> None:
    for uri, archive in (("${mirror}", "debian"), ("http://h/debian-security/", "debian-security"),
                         ("file:/srv/ubuntu", "ubuntu")):  # fmt: skip
        spec = snapshot(tmp_path, uri=uri)
        (repo,) = spec.repos
        found = read_from(repo, MIRRORS, spec)
        assert found == f"http://s/archive/{archive}/20261120T000000Z"
    spec = load(tmp_path, repos=[{**REPO, "uri": "${snapshot_mirror}/debian/20261120T000000Z"}])
    assert read_from(spec.repos[0], MIRRORS, spec) == "http://s/archive/debian/20261120T000000Z"


def test_the_services_address_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = snapshot(tmp_path)
    without = {"mirror": MIRRORS["mirror"]}
    with pytest.raises(BuildError, match=r"repos\.main\.snapshot: nothing says where a") as no:
        read_from(spec.repos[0], without, spec)
    assert no.value.hint.startswith("add snapshot_mirror=ADDRESS, or set STRATA_SNAPSHOT_MIRROR")
    assert "debian/20261120T000000Z/" in no.value.hint
    with pytest.raises(BuildError, match=r"\$\{snapshot_mirror\}: nothing says") as no:
        expand("${snapshot_mirror}/debian", without, spec)
    assert "STRATA_SNAPSHOT_MIRROR" in no.value.hint
    with pytest.raises(BuildError, match=r"http://h has no path, whose last part names the"):
        read_from(spec.repos[0], {**MIRRORS, "mirror": "http://h"}, spec)

    monkeypatch.delenv("STRATA_SNAPSHOT_MIRROR", raising=False)
    assert "snapshot_mirror" not in find_mirrors({"mirror": "http://h"})
    monkeypatch.setenv("STRATA_SNAPSHOT_MIRROR", "http://s/archive/")
    assert find_mirrors({})["snapshot_mirror"] == "http://s/archive"
    given = {"snapshot_mirror": "file:/srv/s"}
    assert find_mirrors(given)["snapshot_mirror"] == "file:/srv/s"
    with pytest.raises(BuildError, match="snapshot_mirror=nowhere: expected an http:"):
        find_mirrors({"snapshot_mirror": "nowhere"})


def test_another_date_makes_a_lock_stale_and_no_key_has_an_address(tmp_path: Path) -> None:
    inputs = {resolution_inputs(snapshot(tmp_path, snapshot=date))
              for date in ("2026-11-20", "20261120T000000Z", "2026-11-21")}  # fmt: skip
    inputs.add(resolution_inputs(load(tmp_path)))
    assert len(inputs) == 3
    one, other = (snapshot(tmp_path, uri=f"http://h/{name}") for name in ("debian", "ubuntu"))
    assert resolution_inputs(one) == resolution_inputs(other)
    # An image's source is the archive as it is: a machine wants its updates.
    spec = load(tmp_path, apt_sources=True,
                repos=[{**REPO, "snapshot": "2026-11-20", "trusted": True}])  # fmt: skip
    (source,) = settings_identity(spec, lock([]), MIRRORS)["apt_sources"]
    assert source[1] == "http://h/x/debian"
    assert settings_identity(spec, lock([]), {"mirror": MIRRORS["mirror"]})["apt_sources"] == [
        source
    ]


def test_where_a_snapshot_service_has_what_was_locked(tmp_path: Path) -> None:
    date = "Fri, 20 Nov 2026 08:12:33 UTC"
    was = lock([], repos=(LockedRepo(name="main", release="a" * 64, date=date, fields={}),))
    spec = load(tmp_path)
    assert as_locked(spec, was, MIRRORS) == {
        "main": (
            "http://s/archive/debian/20261120T081233Z",
            "http://s/archive/debian/20261120T201233Z",
        )
    }
    assert as_locked(spec, was, {"mirror": "http://h/debian"}) == {}
    assert as_locked(spec, was, {**MIRRORS, "mirror": "http://h"}) == {}
    for bad in ("", "yesterday", "Fri, 20 Nov 99999 08:12:33 UTC"):
        other = replace(was, repos=(replace(was.repos[0], date=bad),))
        assert as_locked(spec, other, MIRRORS) == {}
    spec = load(tmp_path, repos=[{**REPO, "uri": "${snapshot_mirror}/debian/x"}])
    assert as_locked(spec, was, MIRRORS) == {}


def test_a_snapshot_of_before_the_lock_goes_back_on_purpose(tmp_path: Path) -> None:
    fields = {"Suite": "stable", "Date": "Tue, 10 Nov 2026 00:00:00 UTC"}
    was = LockedRepo(name="main", release="a" * 64, date="Mon, 23 Nov 2026 00:00:00 UTC",
                     fields={"Suite": "stable"})  # fmt: skip
    (repo,) = snapshot(tmp_path).repos
    rollback.check(repo, was, fields, "x")
    # What is older than the lock, and should not be.
    for other in (replace(repo, snapshot="20261124T000000Z"), replace(repo, snapshot="")):
        with pytest.raises(RepositoryFault, match="is older than the lock's"):
            rollback.check(other, was, fields, "x")


def test_a_moment_that_a_service_does_not_have(tmp_path: Path) -> None:
    (repo,) = snapshot(tmp_path).repos
    told = "E: The repository 'http://s stable Release' does not have a Release file."
    cause, hint = complaint.explained(repo, told, {}, "", "")
    assert cause == "the snapshot service has no suite stable of 20261120T000000Z"
    assert "repos.main.snapshot" in hint


def test_what_a_server_has_no_more() -> None:
    said = """\
E: Failed to fetch http://h/pool/a%3a_1.deb  404  File not found [IP: 127.0.0.1 8765]
E: Failed to fetch http://h/pool/b_1.deb  410  Gone [IP: 127.0.0.1 8765]
E: Failed to fetch http://h/pool/c_1.deb  503  404  Busy
E: Failed to fetch http://h/pool/d_1.deb  Could not connect to h:80 (  404  )
"""
    assert answers.dropped(said) == {"http://h/pool/a%3a_1.deb", "http://h/pool/b_1.deb"}
