"""apt's complaint about a repository → what is wrong with it and what to do.

Signatures are judged by what came and by gpgv's status lines; apt's words say the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..debian import apt, signature
from ..errors import BuildError, CommandFailed, RepositoryFault
from ..host.process import capture
from ..spec.model import Repo, masked
from .private import PrivateApt

BEGINNING = 1 << 16
"""Bytes of what came that are looked at: a signed Release says so in its first line."""


CAUSES = (
    (r"required for verification", "this host has nothing to check its signature with",
     "apt-get install gpgv"),
    (r"is not valid yet", "its Release is dated in the future", "check this host's clock"),
    (r"is expired|no longer valid|invalid for another|Valid-Until",
     "its Release has expired (Valid-Until)",
     "use another mirror; for an archived snapshot set repos.{name}.check_valid_until: false"),
    (r"  407  |from proxy|Proxy", "the proxy refuses or fails", "check proxies in the spec"),
    (r"  40[13]  ", "it refuses access", "check the user and password in its uri"),
    (r"Could not resolve|Could not connect|Connection (failed|refused|timed out)|Unable to connect|"
     r"Cannot initiate|No route|Network is unreachable|timed out|  5\d\d  |"
     r"Undetermined Error|Connection reset|Remote end closed|Bad header",
     "it does not answer", "check its uri, suite and the network"),
    (r"Redirection loop", "it redirects in a circle", "use another mirror"),
    (r"does not have a Release file", "", ""),
    (r"Hash Sum mismatch|unexpected size|Mirror sync in progress|inconsistent",
     "its indexes do not fit its Release: it is changing just now", "try again in some minutes"),
    (r"doesn't have the component|misspelled|Unable to find expected entry",
     "it has no such component or architecture", "check repos.{name}.section and arch"),
    (r"Maximum file size exceeded|Writing more data than expected",
     "one of its files is larger than apt takes", "check its uri"),
    (r"Invalid '?Date'?|No Date entry|Invalid '\w+' entry|Unable to parse|Failed to parse|"
     r"No Hash entry|No sections in",
     "its Release is not one that apt can read", "use another mirror, or tell who publishes it"),
    (r"  404  |File not found", "it has no such file", "check its uri, suite and section"),
)  # fmt: skip
"""(what apt says, what is wrong, what to do); the first that is found counts."""


def _no_release(repo: Repo, given: str) -> tuple[str, str]:
    """Where there is no Release; `given` says who named the mirror, "" for the host."""
    variable = re.search(r"\$\{(\w+)\}", repo.uri)
    if repo.snapshot:
        return (
            f"the snapshot service has no suite {repo.suite} of {repo.snapshot}",
            f"check repos.{repo.name}.snapshot, suite and uri, whose last part names the archive",
        )
    if variable is not None and not repo.flat:
        whose = f"the mirror that {given} names" if given else "this host's mirror"
        return (
            f"{whose} has no suite {repo.suite}",
            f"check the suite; for another archive than this host's, name its address in "
            f"repos.{repo.name}.uri, or with {variable[1]}=ADDRESS",
        )
    return (
        "it has no Release file",
        f"check its uri and suite; if it really has none, set repos.{repo.name}.trusted: true",
    )


def explained(
    repo: Repo, told: str, files: Mapping[str, bytes], status: str, given: str
) -> tuple[str, str]:
    """(what is wrong, what to do): `told` is apt's output, `files` what it fetched, by name.

    `status` are gpgv's status lines of what is signed among them.
    """
    found = signature.arrived(files)
    if found in (None, signature.NO_RELEASE):
        found = found or signature.gpgv_cause(status) or signature.sqv_cause(told)
    if found is None and re.search(r"NOSPLIT|Splitting up .* failed", told):
        found = signature.MALFORMED  # what was signed is whole, and something stands around it
    if found is None:
        for pattern, cause, hint in CAUSES:
            if re.search(pattern, told):
                if cause:
                    return cause, hint.format(name=repo.name)
                return _no_release(repo, given)
        if not re.search(r"is not signed|is no longer signed|GPG error|OpenPGP", told):
            return "apt cannot read it", ""
        found = signature.UNKNOWN
    return found.what, found.hint.format(name=repo.name)


def refusal(private: PrivateApt, error: CommandFailed) -> RepositoryFault:
    """apt's complaint about a repository as one sentence and what to do."""
    repo, uri, text = private.repo, private.uri, error.output
    partial = private.live / "partial"
    told = text.replace(apt.without_user(uri), "")  # which may have a 404 in its name
    files: dict[str, bytes] = {}
    for path in sorted(partial.glob("*Release*")):
        with path.open("rb") as file:
            files[path.name] = file.read(BEGINNING)
    variable = re.search(r"\$\{(\w+)\}", repo.uri)
    name = variable[1] if variable else ""
    given = private.builder.reach.named.get(name, "")
    cause, hint = explained(repo, told, files, gpgv_status(partial, files, private.trusted), given)
    lines = [line for line in text.splitlines() if re.search(r"\b[EW]: |Err:|Redirection", line)]
    detail = "\n".join("    " + line.strip() for line in lines[-6:][:4])
    where = f"{masked(uri)} {repo.suite}"
    return RepositoryFault(f"{private.where} ({where}): {cause}\n{detail}".rstrip(), hint)


def gpgv_status(partial: Path, names: Iterable[str], trusted: Path) -> str:
    """gpgv's status lines of the Release that apt did not believe; "" without gpgv."""
    by_end = {name.removesuffix(".FAILED").rpartition("_")[2]: name for name in names}
    signed = ["InRelease"] if "InRelease" in by_end else ["Release.gpg", "Release"]
    if not by_end.keys() >= set(signed):
        return ""
    keyrings = [word for path in sorted(trusted.iterdir()) for word in ("--keyring", str(path))]
    try:
        _code, status, _err = capture(
            [
                "gpgv",
                "--status-fd",
                "1",
                *keyrings,
                *(str(partial / by_end[name]) for name in signed),
            ]
        )
    except BuildError:
        return ""
    return status
