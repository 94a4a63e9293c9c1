"""ssh_host_keys: where the unit that makes them is in an image, and what it says."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import pytest

from support import samples
from support.samples import record
from tasks.errors import BuildError
from tasks.plan import hostkeys
from tasks.plan.jobs import settings_job
from tasks.plan.plan import make_plan
from tasks.plan.settings import settings_identity
from tasks.plan.stage import Plan
from tasks.rootfs import identities
from tasks.spec.model import Spec

MIRRORS = {"mirror": "http://mirror.invalid"}


SERVER = ("openssh-server", "systemd-sysv")


def planned(folder: Path, packages: tuple[str, ...], **fields: Any) -> tuple[Spec, Plan]:
    spec = samples.load(folder, packages=["asked"], **fields)
    lock = samples.lock([record("base")], {"packages": [record(name) for name in packages]})
    host = samples.host(spec, settings=settings_identity(spec, lock, MIRRORS))
    return spec, make_plan(spec, lock, host)


@pytest.mark.parametrize(
    ("packages", "fields", "there"),
    [
        (SERVER, {}, True),
        (("openssh-server", "systemd"), {}, True),
        (SERVER, {"ssh_host_keys": "none"}, False),
        ((*SERVER, "cloud-init"), {}, False),
        ((*SERVER, "cloud-init"), {"ssh_host_keys": "first-boot"}, True),
        (("openssh-server",), {}, False),
        (("openssh-client", "systemd-sysv"), {}, False),
        (SERVER, {"base": {"variant": "extract", "include": ["asked"]}}, False),
    ],
)
def test_where_it_is(
    tmp_path: Path, packages: tuple[str, ...], fields: dict[str, Any], there: bool
) -> None:
    spec, plan = planned(tmp_path, packages, **fields)
    assert [stage.name for stage in plan.layers] == ["packages", *(["settings"] if there else [])]
    assert hostkeys.first_boot(spec, plan.lock) is there
    if there:
        job = settings_job(spec, plan, MIRRORS)
        targets = [entry.target for entry in job.entries]
        folder = "/etc/systemd/system"
        assert targets == [f"{folder}/{hostkeys.NAME}", *(
            f"{folder}/{one}.wants/{hostkeys.NAME}"
            for one in ("multi-user.target", "ssh.service", "ssh.socket"))]  # fmt: skip
        # What nobody asked for yields to the user's own.
        assert job.yields == (() if "ssh_host_keys" in fields else tuple(targets))


@pytest.mark.parametrize(
    ("packages", "lacks"), [((), "openssh-server"), (("openssh-server",), "systemd-sysv")]
)
def test_asked_for_without_what_it_needs_is_refused(
    tmp_path: Path, packages: tuple[str, ...], lacks: str
) -> None:
    with pytest.raises(BuildError) as caught:
        planned(tmp_path, packages, ssh_host_keys="first-boot")
    assert f"web.yaml: ssh_host_keys: first-boot needs {lacks}, which" in caught.value.message
    assert f"add {lacks} to packages" in caught.value.hint


def test_a_word_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="ssh_host_keys: 'firstboot' is not one of") as caught:
        samples.load(tmp_path, ssh_host_keys="firstboot")
    assert "did you mean 'first-boot'?" in caught.value.hint


def test_it_redoes_nothing_below_the_settings(tmp_path: Path) -> None:
    (_, one), (_, other) = (planned(tmp_path, SERVER, hostname="a", **fields)
                            for fields in ({}, {"ssh_host_keys": "none"}))  # fmt: skip
    differ = {stage.task for stage, then in zip(one.stages, other.stages, strict=True)
              if stage.key != then.key}  # fmt: skip
    assert differ == {"layer:settings", "image:/"}


def test_the_unit_comes_before_the_server_and_its_socket() -> None:
    """Of a socket that starts with the system, what comes after basic.target would be a cycle."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(hostkeys.UNIT)
    lines = hostkeys.UNIT.splitlines()
    before = " ".join(line.removeprefix("Before=") for line in lines if line.startswith("Before="))
    assert {"ssh.service", "ssh.socket", "sshd-keygen.service"} <= set(before.split())
    assert unit["Unit"]["DefaultDependencies"] == "no"
    assert unit["Unit"]["ConditionPathExistsGlob"] == "!/etc/ssh/ssh_host_*_key"
    assert unit["Service"]["ExecStart"] == "/usr/bin/ssh-keygen -A"
    assert tuple(unit["Install"]["WantedBy"].split()) == hostkeys.WANTED_BY


def test_keys_that_the_unit_makes_are_no_warning() -> None:
    def notice(package: str) -> identities.Notice:
        return identities.Notice(package=package, what="x", paths=("/k",), done="removed",
                                 again="do", by=("cloud-init",))  # fmt: skip

    both = [notice("openssh-server"), notice("dropbear")]
    assert identities.told(both, set()) == both
    assert identities.told(both, set(), {hostkeys.PACKAGE}) == both[1:]
