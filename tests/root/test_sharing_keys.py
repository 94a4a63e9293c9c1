"""Keys that sign what is shared and addresses of shared caches: how they are made, and those that will not do."""

from __future__ import annotations

import base64
import contextlib
import re
import subprocess
from pathlib import Path

import pytest

from support.world import World, says

pytestmark = pytest.mark.root


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
