"""Keyrings and signatures: what apt can read, and why a Release was not believed.

gpgv tells in status lines (doc/DETAILS of GnuPG); sqv, which apt 3 asks, only in its own words.
Bytes in, words out: nothing is run here.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why a signature is not believed, and what to do; {name} is the repository's."""

    what: str
    hint: str


_ANEW = "it must be signed anew by who publishes it: use another mirror, or ask them to"

CHANGED = Cause(what="its signature is bad: it is not what was signed",
                hint="somebody or something changed it on the way: use another mirror")  # fmt: skip


WEAK = Cause(what="it is signed with SHA-1 or MD5, which can be forged", hint=_ANEW)

WEAK_KEY = Cause(
    what="it is signed with a key that is too weak: short, or itself signed with SHA-1",
    hint="get the keyring anew: repos.{name}.keyring may be older than the key's own; else "
    "it must be signed with another key by who publishes it",
)


EXPIRED_KEY = Cause(what="it is signed with an expired key",
                    hint="get the keyring anew for repos.{name}.keyring, or update the host's: "
                    "it may be good for longer by now")  # fmt: skip


REVOKED_KEY = Cause(
    what="it is signed with a revoked key",
    hint="use another mirror, and get the keyring anew for repos.{name}.keyring",
)


EXPIRED = Cause(what="its signature has expired", hint=_ANEW)

WRONG_KEY = Cause(
    what="it is signed with a key that is not in its keyring",
    hint="name its keyring in repos.{name}.keyring",
)


MALFORMED = Cause(
    what="its signature is bad: it cannot be read",
    hint="somebody or something changed it on the way: use another mirror",
)


NO_RELEASE = Cause(
    what="what it answers is no Release",
    hint="does the network want a login first? check the uri, or use another mirror",
)


UNSIGNED = Cause(what="it is not signed",
                 hint="if you trust what it holds, set repos.{name}.trusted: true")  # fmt: skip


UNKNOWN = Cause(
    what="its signature cannot be verified",
    hint="use another mirror, or get the keyring anew for repos.{name}.keyring",
)


# The worst first: one signature of several may be good.
_STATUS: Sequence[tuple[str, Cause]] = (
    ("BADSIG", CHANGED),
    ("REVKEYSIG", REVOKED_KEY),
    ("EXPSIG", EXPIRED),
    ("EXPKEYSIG", EXPIRED_KEY),
    ("NO_PUBKEY", WRONG_KEY),
    ("ERRSIG", UNKNOWN),
    ("NODATA", MALFORMED),
)


_WEAK_HASHES = {"1", "2", "3"}
"""MD5, SHA-1 and RIPEMD-160 by their numbers in OpenPGP."""


def gpgv_cause(status: str) -> Cause | None:
    """The cause that `gpgv --status-fd` gives, None if it finds a good signature or nothing."""
    lines = [line.split()[1:] for line in status.splitlines() if line.startswith("[GNUPG:] ")]
    words = {line[0] for line in lines if line}
    # Fields of VALIDSIG: fingerprint, dates, version, reserved, public key and hash algorithm.
    weak = any(line[:1] == ["VALIDSIG"] and set(line[8:9]) & _WEAK_HASHES for line in lines)
    for word, cause in _STATUS:
        if word in words:
            return cause
    return WEAK if weak else None


# In this order: a key that is not bound says why, with the words of a weak signature.
_SQV: Sequence[tuple[str, Cause]] = (
    (r"Message has been manipulated", CHANGED),
    (r"Signing key on \w+ is not bound", WEAK_KEY),
    (r"is bad: .*(is revoked|revoked)", REVOKED_KEY),
    (r"is bad: .*(not live|Expired)", EXPIRED_KEY),
    (r"Signing key on \w+ is bad", UNKNOWN),
    (r"Missing key \w+", WRONG_KEY),
    (r"no keyring is specified", WRONG_KEY),
    (r"Verifying signature: .*(SHA1|MD5|RIPEMD|collision resistance)", WEAK),
    (r"Verifying signature: .*Policy rejected asymmetric", WEAK_KEY),
    (r"Verifying signature: .*Expired on", EXPIRED),
    (r"Malformed (Message|OpenPGP)|Signature is malformed", MALFORMED),
)


def sqv_cause(text: str) -> Cause | None:
    """The cause that sqv gives, in what apt 3 passes on of it."""
    said = " ".join(re.findall(r"(?:sqv returned an error|couldn't be verified).*", text))
    said = re.sub(r"\s+", " ", said)
    return next((cause for pattern, cause in _SQV if re.search(pattern, said)), None)


def arrived(files: Mapping[str, bytes]) -> Cause | None:
    """What apt's partial files (by name, their beginnings) tell before any key is asked for.

    None where there is a signature, so that only it can be at fault, or no Release at all.
    """
    signed = False
    for name, content in files.items():
        name = name.removesuffix(".FAILED")
        if name.endswith("_InRelease") and b"-----BEGIN PGP SIGNED MESSAGE-----" not in content:
            return NO_RELEASE
        signed = signed or name.endswith(("_InRelease", "_Release.gpg"))
    if not signed and any(name.removesuffix(".FAILED").endswith("_Release") for name in files):
        return UNSIGNED
    return None


# ---------------------------------------------------------------- keyrings

_ARMOR = re.compile(
    rb"^-----BEGIN PGP (PUBLIC|PRIVATE) KEY BLOCK-----[ \t]*\n(.*?)^-----END PGP \1 KEY BLOCK-----",
    re.MULTILINE | re.DOTALL,
)


_EXPORT = "export it: gpg --no-default-keyring --keyring ./OLD --export > NEW.gpg"


def keyring(content: bytes) -> tuple[bytes, str, str]:
    """(binary keys, "", "") of a keyring's content; or (b"", why apt cannot use it, what to do).

    An armored one is taken whatever its line ends and whatever stands around the armor.
    """
    if not content.strip():
        return b"", "is empty", "fetch it again"
    if content[8:12] == b"KBXf":
        return b"", "is a keybox, which apt does not read", _EXPORT
    text = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    text = text.removeprefix(b"\xef\xbb\xbf")
    blocks = list(_ARMOR.finditer(text))
    if blocks:
        if any(block[1] == b"PRIVATE" for block in blocks):
            return b"", "holds a secret key, which must not leave its owner", _EXPORT
        try:
            content = b"".join(_dearmored(block[2]) for block in blocks)
        except (binascii.Error, ValueError):
            return b"", "is damaged: its armor cannot be decoded", "fetch it again"
    elif b"-----BEGIN PGP" in text:
        return b"", "is cut off, or is no key but a signature or a message", "fetch it again"
    tag = _tag(content)
    if tag == 5:
        return b"", "holds a secret key, which must not leave its owner", _EXPORT
    if tag != 6:
        return b"", "is no OpenPGP keyring", "fetch it again, and look what it holds"
    whole = _packets(content)
    if content[whole:].strip():
        # gpgv and sqv would find no key in it at all, and speak of another one's.
        return b"", "is damaged or cut off: what it holds is no whole key", "fetch it again"
    return content[:whole], "", ""


def _packets(content: bytes) -> int:
    """How many bytes at the beginning are whole packets (RFC 9580, 4.2)."""
    whole = 0
    while whole < len(content) and content[whole] & 0x80:
        first, at, partial = content[whole], whole + 1, True
        while partial:
            size, partial = 0, False
            if not first & 0x40:
                octets = 1 << (first & 3)
                if octets == 8:  # until the end
                    return len(content)
                size = int.from_bytes(content[at : at + octets], "big")
            else:
                octet = content[at] if at < len(content) else 0
                octets = 1 if octet < 192 or 224 <= octet < 255 else 2 if octet < 224 else 5
                size = octet
                if octets == 2:
                    size = (
                        (octet - 192 << 8) + 192 + int.from_bytes(content[at + 1 : at + 2], "big")
                    )
                elif octets == 5:
                    size = int.from_bytes(content[at + 1 : at + 5], "big")
                elif octet >= 224:
                    size, partial = 1 << (octet & 0x1F), True
            at += octets + size
            if at > len(content):
                return whole
        whole = at
    return whole


def _dearmored(block: bytes) -> bytes:
    lines = [line.strip() for line in block.split(b"\n")]
    if b"" in lines:  # the armor's own headers end in an empty line
        lines = lines[lines.index(b"") + 1 :]
    body = b"".join(line for line in lines if not line.startswith(b"="))
    return base64.b64decode(body, validate=True)


def _tag(content: bytes) -> int:
    """The type of the first packet (RFC 9580, 4.2); 0 for none."""
    first = content[0] if content else 0
    if not first & 0x80:
        return 0
    return first & 0x3F if first & 0x40 else first >> 2 & 0x0F
