"""Signatures and keyrings: each failure of gpgv and sqv has one right message, whatever the host."""

from __future__ import annotations

import base64
import re
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.samples import load
from support.signing import SigningKey
from support.world import World
from tasks.debian import signature
from tasks.repos import complaint

pytestmark = pytest.mark.starts

# ---------------------------------------------------------------- real gpgv


def ago(days: int) -> str:
    """A time before now, as gpg takes it: gpgv's clock is the host's."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime(time.time() - days * 86400))


NOW, LATER = ago(60), ago(30)


RELEASE = "Origin: Test\nSuite: stable\n"


class Gpg:
    """gpg with keys of its own, whose clock can be set."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(self, *words: str, stdin: bytes = b"", clock: str = LATER) -> bytes:
        done = subprocess.run(
            ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--no-tty",
             "--pinentry-mode", "loopback", "--passphrase", "", "--faked-system-time", clock,
             *words], input=stdin, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def key(self, name: str, kind: str = "ed25519", expire: str = "never") -> str:
        self.run("--quick-generate-key", name, kind, "sign", expire, clock=NOW)
        found = self.run("--with-colons", "--list-keys", name).decode()
        match = re.search(r"^fpr:+(\w+):", found, re.MULTILINE)
        assert match is not None
        return match[1]

    def sign(self, name: str, *options: str, text: str = RELEASE) -> bytes:
        return self.run("--local-user", name, *options, "--clearsign", stdin=text.encode())


@pytest.fixture(scope="module")
def gpg() -> Iterator[Gpg]:
    with tempfile.TemporaryDirectory(prefix="gpg-", dir="/tmp") as folder:
        gpg = Gpg(Path(folder))
        for name, kind in (("good", "ed25519"), ("other", "ed25519"), ("rsa", "rsa2048")):
            gpg.key(name, kind)
        yield gpg
        subprocess.run(["gpgconf", "--homedir", folder, "--kill", "all"], check=False)


def late(gpg: Gpg) -> bytes:
    """A Release signed after its key had expired: gpg itself would not sign then."""
    fingerprint = gpg.key("late")
    signed = gpg.sign("late")
    gpg.run("--quick-set-expire", fingerprint, ago(40), clock=ago(50))
    return signed


def revoked(gpg: Gpg) -> bytes:
    fingerprint = gpg.key("revoked")
    signed = gpg.sign("revoked")
    text = (gpg.home / f"openpgp-revocs.d/{fingerprint}.rev").read_text()
    gpg.run("--import", stdin=text.replace(":-----BEGIN", "-----BEGIN").encode())
    return signed


SIGNED: dict[str, tuple[str, Callable[[Gpg], bytes], signature.Cause]] = {
    "changed": ("good", lambda gpg: gpg.sign("good").replace(b"Origin: Test", b"Origin: Tset"),
                signature.CHANGED),
    "wrong key": ("good", lambda gpg: gpg.sign("other"), signature.WRONG_KEY),
    "SHA-1": ("rsa", lambda gpg: gpg.sign("rsa", "--digest-algo", "SHA1"), signature.WEAK),
    "RIPEMD-160": ("rsa", lambda gpg: gpg.sign("rsa", "--digest-algo", "RIPEMD160"),
                   signature.WEAK),
    "expired": ("good", lambda gpg: gpg.sign("good", "--default-sig-expire", "1d"),
                signature.EXPIRED),
    "expired key": ("late", late, signature.EXPIRED_KEY),
    "revoked key": ("revoked", revoked, signature.REVOKED_KEY),
    "empty": ("good", lambda gpg: re.sub(
        rb"(BEGIN PGP SIGNATURE-----\n).*(-----END)", rb"\1\n\2", gpg.sign("good"),
        flags=re.DOTALL), signature.MALFORMED),
    "a page to log in": ("good", lambda gpg: b"<html>log in</html>", signature.NO_RELEASE),
}  # fmt: skip


BELIEVED_NOT = "E: The repository 'http://h stable InRelease' is not signed.\n"


def told(
    folder: Path, gpg: Gpg, key: str, files: dict[str, bytes], said: str = BELIEVED_NOT
) -> str:
    """What is said of these files, as apt leaves them, and that trusting is no advice for it."""
    partial, trusted = folder / "partial", folder / "trusted"
    for path in (partial, trusted):
        path.mkdir(exist_ok=True)
    (trusted / "0.gpg").write_bytes(gpg.run("--export", key))
    for name, content in files.items():
        (partial / name).write_bytes(content)
    status = complaint.gpgv_status(partial, files, trusted)
    cause, hint = complaint.explained(load(folder / "spec").repos[0], said, files, status, "")
    assert "trusted: true" not in hint or cause == signature.UNSIGNED.what
    assert "{" not in hint
    return cause


@pytest.mark.parametrize("name", SIGNED)
def test_what_gpgv_finds(gpg: Gpg, tmp_path: Path, name: str) -> None:
    """By status lines and by what came: apt's words are the same for every failure here."""
    key, make, expected = SIGNED[name]
    assert told(tmp_path, gpg, key, {"h_dists_stable_InRelease": make(gpg)}) == expected.what


def test_what_gpgv_finds_of_a_detached_signature(gpg: Gpg, tmp_path: Path) -> None:
    detached = gpg.run("-u", "good", "--armor", "--detach-sign", stdin=RELEASE.encode())
    names = ("h_dists_stable_Release.FAILED", "h_dists_stable_Release.gpg")
    changed = RELEASE.replace("Test", "Tset").encode()
    files = dict(zip(names, (changed, detached), strict=True))
    assert told(tmp_path, gpg, "good", files) == signature.CHANGED.what
    assert told(tmp_path, gpg, "other", {**files, names[0]: RELEASE.encode()}) == (
        signature.WRONG_KEY.what
    )
    (tmp_path / "partial" / names[1]).unlink()
    assert told(tmp_path, gpg, "good", {names[0]: changed}) == signature.UNSIGNED.what


def test_good_signature_is_not_to_blame(gpg: Gpg, tmp_path: Path) -> None:
    said = "E: Release file for http://h/InRelease is expired (invalid since 9d).\n"
    cause = told(tmp_path, gpg, "good", {"h_dists_stable_InRelease": gpg.sign("good")}, said)
    assert cause == "its Release has expired (Valid-Until)"


# ---------------------------------------------------------------- sqv, of apt 3.0.4 and sqv 1.3.0

KEY = "F75BF058E77575C0AC89B517D5539014BAC7A09D"


SQV = {
    "Verifying signature:            Message has been manipulated": signature.CHANGED,
    "Verifying signature:            Policy rejected non-revocation signature (Text) requiring "
    "collision resistance   because: SHA1 is not considered secure since 2013-02-01T00:00:00Z":
        signature.WEAK,
    f"Signing key on {KEY} is not bound:            Policy rejected asymmetric algorithm   because: "
    "RSA1024 is not considered secure since 2014-02-01T00:00:00Z": signature.WEAK_KEY,
    f"Signing key on {KEY} is not bound:            No binding signature at time 2026-11-26T13:39:45Z"
    "   because: Policy rejected non-revocation signature (PositiveCertification) requiring second "
    "pre-image resistance   because: SHA1 is not considered secure since 2026-02-01T00:00:00Z":
        signature.WEAK_KEY,
    f"Missing key {KEY}, which is needed to verify signature.": signature.WRONG_KEY,
    f"Signing key on {KEY} is bad:            The primary key is not live   because: Expired on "
    "2026-10-20T00:00:00Z": signature.EXPIRED_KEY,
    f'Signing key on {KEY} is bad:            Invalid key: "certificate is revoked"':
        signature.REVOKED_KEY,
    "Verifying signature:            Expired on 2026-11-02T00:00:00Z": signature.EXPIRED,
    "Error: Malformed Message: Malformed OpenPGP message  Stack backtrace:    0: <unknown>":
        signature.MALFORMED,
    "something that nobody has seen yet": signature.UNKNOWN,
}  # fmt: skip
"""What apt 3.0.4 passed on of sqv 1.3.0, in a Debian 13 tree, for Releases made as those above."""


@pytest.mark.parametrize("said", SQV)
@pytest.mark.parametrize("short", [False, True])
def test_what_sqv_says(tmp_path: Path, said: str, short: bool) -> None:
    """Also where its line was cut to what people are shown."""
    passed = f"Sub-process /usr/bin/sqv returned an error code (1), error message is: {said}"
    text = f"W: OpenPGP signature verification failed: http://h stable InRelease: {passed}"
    both = f"  {passed}\n" + (text[:300] if short else text) + f"\n{BELIEVED_NOT}"
    files = {"h_dists_stable_InRelease": b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA1\n"}
    repo = load(tmp_path).repos[0]
    # gpgv is content with some of what sqv refuses.
    for status in (
        "",
        "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG A B\n[GNUPG:] VALIDSIG A 1 2 0 4 0 22 8 01 A\n",
    ):
        cause, hint = complaint.explained(repo, both, files, status, "")
        assert cause == SQV[said].what
        assert "trusted" not in hint


# ---------------------------------------------------------------- what has no signature


@pytest.mark.parametrize(
    ("uri", "suite", "given", "cause", "hint"),
    [
        ("${mirror}", "noble", "", "this host's mirror has no suite noble", "with mirror=ADDRESS"),
        ("${security_mirror}", "noble-security", "",
         "this host's mirror has no suite noble-security", "with security_mirror=ADDRESS"),
        ("${mirror}", "noble", "mirror=", "the mirror that mirror= names has no suite noble",
         "repos.r.uri"),
        ("http://h", "noble", "", "it has no Release file", "if it really has none, set repos.r.tr"),
        ("${mirror}", "./", "", "it has no Release file", "repos.r.trusted: true"),
    ],
)  # fmt: skip
def test_no_release_at_all(
    tmp_path: Path, uri: str, suite: str, given: str, cause: str, hint: str
) -> None:
    section = "" if suite == "./" else "main"
    repo = load(tmp_path, repos=[{"name": "r", "uri": uri, "suite": suite, "section": section}],
                images={"/": {"file": "a.img", "format": "ext4"}}).repos[0]  # fmt: skip
    text = "E: The repository 'http://h noble Release' does not have a Release file.\n"
    found = complaint.explained(repo, text, {}, "", given)
    assert found[0] == cause
    assert hint in found[1]
    assert ("trusted: true" in found[1]) == ("no Release file" in cause)


# ---------------------------------------------------------------- keyrings


def armored(content: bytes, kind: str = "PUBLIC KEY BLOCK", header: str = "") -> bytes:
    body = "\n".join(textwrap.wrap(base64.b64encode(content).decode(), 64))
    return (
        f"-----BEGIN PGP {kind}-----\n{header}\n{body}\n=abcd\n-----END PGP {kind}-----\n".encode()
    )


PUBLIC = b"\x98\x33\x04 a key" + bytes(range(44))


NEW_FORMAT = b"\xc6" + PUBLIC[1:]


LENGTHS = {
    "two octets": b"\x99\x01\x00" + bytes(256),
    "four octets": b"\x9a\0\0\x01\x00" + bytes(256),
    "to the end": b"\x9b" + bytes(99),
    "new, two octets": b"\xc6\xc1\x01" + bytes(449),
    "new, four octets": b"\xc6\xff\0\0\0\x05" + bytes(5),
    "new, in parts": b"\xc6\xe3" + bytes(8) + b"\xe0\0\x02ab",
}


GOOD = {
    "binary": PUBLIC,
    "binary, new packets": NEW_FORMAT,
    "armored": armored(PUBLIC),
    "with headers": armored(PUBLIC, header="Version: GnuPG v1\nComment: x\n"),
    "CRLF": armored(PUBLIC).replace(b"\n", b"\r\n"),
    "CR": armored(PUBLIC).replace(b"\n", b"\r"),
    "a line before": b"\n" + armored(PUBLIC),
    "a comment before": b"Key of Example Ltd.\n\n" + armored(PUBLIC),
    "byte order mark": b"\xef\xbb\xbf" + armored(PUBLIC),
    "no newline at the end": armored(PUBLIC).rstrip(b"\n"),
    "blanks at line ends": armored(PUBLIC).replace(b"\n", b" \n"),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_keyring_that_is_cut_off_or_not(name: str) -> None:
    """By what its packets say of their lengths, of each form of RFC 9580."""
    keys = LENGTHS[name]
    for content in (keys, PUBLIC + keys):
        assert signature.keyring(content) == (content, "", "")
        if name != "to the end":
            assert signature.keyring(content + b"\n")[0] == content
            assert signature.keyring(content + keys)[0] == content + keys
            for cut in (content[:-1], content + keys[:-1], content + b"junk", content + keys[:2]):
                assert "is damaged or cut off" in signature.keyring(cut)[1]


@pytest.mark.parametrize("name", GOOD)
def test_keyring_in_any_dress(name: str) -> None:
    expected = GOOD[name] if name.startswith("binary") else PUBLIC
    assert signature.keyring(GOOD[name]) == (expected, "", "")


def test_keyring_of_two_armored_keys() -> None:
    assert (
        signature.keyring(armored(PUBLIC) + b"\n" + armored(NEW_FORMAT))[0] == PUBLIC + NEW_FORMAT
    )


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\0\0\0\x20\x01\x01\0\x02KBXf" + bytes(40), "is a keybox"),
        (b"\x95" + PUBLIC[1:], "holds a secret key"),
        (b"\xc5" + PUBLIC[1:], "holds a secret key"),
        (armored(PUBLIC, "PRIVATE KEY BLOCK"), "holds a secret key"),
        (armored(PUBLIC, "SIGNATURE"), "no key but a signature"),
        (armored(b"\x88" + PUBLIC), "is no OpenPGP keyring"),
        (armored(PUBLIC)[:-60], "is cut off"),
        (armored(PUBLIC).replace(b"A", b"*"), "is damaged"),
        (b"<!DOCTYPE html><html>404</html>", "is no OpenPGP keyring"),
        (base64.b64encode(PUBLIC), "is no OpenPGP keyring"),
        (b"\xff" * 20, "is no OpenPGP keyring"),
    ],
)
def test_what_is_no_keyring(content: bytes, fault: str) -> None:
    keys, told, hint = signature.keyring(content)
    assert keys == b""
    assert fault in told
    assert hint


@pytest.mark.starts
def test_keyring_with_windows_line_ends_verifies(tiny: World) -> None:
    key = tiny.repository.key
    assert isinstance(key, SigningKey)
    text = key._gpg("--armor", "--export", key.fingerprint)
    (tiny.root / "specs/keys/test.gpg").write_bytes(b"\n" + text.replace(b"\n", b"\r\n"))
    tiny.doit("lock", "spec=web")


@pytest.mark.starts
@pytest.mark.parametrize("around", ["before", "after", "mark"])
def test_text_around_what_is_signed(tiny: World, around: str) -> None:
    """gpgv finds the signature good, and the keyring is not to blame."""
    path = tiny.repository.dist / "InRelease"
    text = path.read_bytes()
    path.write_bytes({"before": b"Origin: x\n\n" + text, "after": text + b"Origin: x\n",
                      "mark": b"\xef\xbb\xbf" + text}[around])  # fmt: skip
    said = tiny.refused("repos.main", "its signature is bad: it cannot be read", "another mirror")
    assert "keyring" not in said


@pytest.mark.starts
def test_keyring_that_apt_cannot_read_is_told_before_it_is_asked(tiny: World) -> None:
    (tiny.root / "specs/keys/test.gpg").write_bytes(b"\0\0\0\x20\x01\x01\0\x02KBXf" + bytes(40))
    tiny.refused("specs/web.yaml: repos.main.keyring: specs/keys/test.gpg is a keybox",
                 "gpg --no-default-keyring")  # fmt: skip
    assert tiny.server.requests == []
