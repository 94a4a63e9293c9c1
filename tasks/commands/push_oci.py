"""`strata push-oci`: a published OCI image to a registry, by skopeo(1) and with its own login.

out/NAME/EXPORT/ ─→ skopeo copy ─→ HOST/NAME:TAG      only what the registry lacks is sent
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import NamedTuple

from ..errors import BuildError, CommandFailed
from ..host import safe
from ..host.process import run
from ..host.tools import tool
from ..session.session import Session
from ..spec.disks import Export
from ..spec.model import Spec
from ..spec.words import printable, short

HOST = r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9A-Fa-f:]{2,39}\])(?::[0-9]{1,5})?"

NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"

TO = re.compile(
    rf"(?:docker://)?(?P<host>{HOST})/(?P<name>{NAME}(?:/{NAME})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
)
"""A place in a registry (OCI distribution 1.1, "Pulling manifests"), which must name its host."""

FORM = "HOST[:PORT]/NAME[:TAG], the name in small letters: to=registry.example.org/team/web:1.0"

LONGEST = 512
"""Characters of `to=`."""

OWN_HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""Spoken to without TLS, as docker does."""

PASSED = ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG",
          "SSL_CERT_FILE", "SSL_CERT_DIR")  # fmt: skip
"""Of the user's environment: where skopeo finds a login and whom it believes."""

PROXIES = ("http_proxy", "https_proxy", "no_proxy")

INDEX_LIMIT = 1 << 20
"""Bytes of an index.json."""


class Place(NamedTuple):
    """A name in a registry."""

    host: str
    name: str
    tag: str

    def __str__(self) -> str:
        return f"{self.host}/{self.name}:{self.tag}"

    @property
    def plain(self) -> bool:
        """Whether it is this machine's own registry."""
        return re.sub(r":\d+$", "", self.host) in OWN_HOSTS


CAUSES = (
    (r"unauthorized|authentication required|status ?code: 401", "it wants a login, or another one",
     "skopeo login {host}; REGISTRY_AUTH_FILE names the file of a login that is kept elsewhere"),
    (r"denied|forbidden|status ?code: 403", "this login may not write {name}",
     "skopeo login {host} as somebody who may; with some registries the project is made first"),
    (r"no such host|server misbehaving|name resolution", "no such host is known",
     "look at the name in to=, and at this machine's DNS"),
    (r"connection refused", "nobody listens there",
     "is the registry up, and the port in to= its own?"),
    (r"HTTP response to HTTPS client|does not look like a TLS", "it speaks HTTP, not HTTPS",
     "give it a certificate: without TLS a registry is only spoken to on this machine"),
    (r"x509:|certificate", "its certificate is not believed here",
     "put its CA into /etc/containers/certs.d/{host}/ca.crt"),
    (r"i/o timeout|deadline exceeded|no route to host|network is unreachable",
     "it does not answer", "is the network up, and is a proxy needed (https_proxy)?"),
    (r"manifest invalid|unsupported manifest|unknown blob media type|status ?code: 415",
     "it does not take OCI images", "container: gzip of the export is what most registries take"),
    (r"policy\.json", "skopeo has no policy of its own",
     "apt-get install golang-github-containers-common"),
    (r"digest|size mismatch", "the published files are not what they were built as",
     "strata build spec={spec} publishes them again"),
)  # fmt: skip
"""What skopeo says (it ends with 1 whatever it met), what that means and what helps."""


def push_oci(session: Session) -> None:
    """Send the published folder of an OCI export to a registry; BuildError where that fails."""
    spec = session.spec
    to = place(session.variables.get("to", ""))
    export = chosen(spec, session.variables.get("export", ""))
    folder = session.out / export.name
    digest = published(folder, session.shown(folder), session.name)
    tool("skopeo")
    session.screen.moving(f"push-oci: sending {export.name} to {to}")
    argv = ["skopeo", "copy", "--preserve-digests"]
    argv += ["--dest-tls-verify=false"] if to.plain else []
    try:
        # By `.`, since a colon in a path of skopeo's begins the name of an image in it.
        run(
            [*argv, "oci:.", f"docker://{to}"],
            log=session.aside("push-oci"),
            env=environment(),
            cwd=folder,
            what=f"pushing to {to}",
            telling=_going,
        )
    except CommandFailed as error:
        raise explained(error, to, session.name) from error
    session.screen.moving("")
    session.screen.note(f"{export.name}: pushed to {to}")
    session.screen.line(f"{to.host}/{to.name}@{digest}")


def _going(line: str) -> bool:
    """Whether a line of skopeo's says how far it is, and nothing of what is wrong."""
    return line.startswith(("Getting image", "Copying ", "Writing ", "Storing "))


def place(text: str) -> Place:
    """The place that `to=` names; without a tag it is `latest`. BuildError for what is none."""
    if not text:
        raise BuildError("push-oci: where is it to go?", f"to= is {FORM}")
    if "@" in text:
        # A password could be in it, so it is not shown.
        raise BuildError(
            "to=: neither a login nor a digest has a place in it",
            f"skopeo login HOST; to= is {FORM}",
        )
    found = TO.fullmatch(text) if len(text) <= LONGEST else None
    if found is None or not _is_host(found["host"]):
        raise BuildError(f"to={printable(text)}: no place in a registry", f"expected {FORM}")
    return Place(host=found["host"], name=found["name"], tag=found["tag"] or "latest")


def _is_host(host: str) -> bool:
    """Whether the first step of a name is a host and no part of it, as docker decides that."""
    port = re.search(r":(\d+)$", host)
    if port and not 0 < int(port[1]) < 1 << 16:
        return False
    return port is not None or "." in host or host in OWN_HOSTS or host.startswith("[")


def chosen(spec: Spec, name: str) -> Export:
    """The export that is meant; BuildError where there is none, or which one is not clear."""
    known = {one.name: one for one in spec.exports if one.format == "oci"}
    if name and name not in known:
        other = any(one.name == name for one in spec.exports)
        raise BuildError(
            f"export={printable(name)}: {spec.path} "
            + ("has it in another format than oci" if other else "has no such export"),
            f"it has {', '.join(known)}" if known else "add one with format: oci to exports",
        )
    if not known:
        raise BuildError(
            f"{spec.path}: there is no export with format: oci",
            "add one to exports: `exports: {web-oci: {format: oci}}`",
        )
    if not name and len(known) > 1:
        raise BuildError(
            f"{spec.path}: there are several OCI exports", f"export= one of {', '.join(known)}"
        )
    return known[name or next(iter(known))]


def published(folder: Path, shown: str, name: str) -> str:
    """The digest of a published image's manifest; BuildError where none is published whole."""
    remedy = f"strata build spec={name} publishes it"
    try:
        index = json.loads(safe.read_bytes(folder / "index.json", INDEX_LIMIT))
        (manifest,) = index["manifests"]
        digest = str(manifest["digest"])
    except FileNotFoundError as error:
        raise BuildError(f"{shown}: nothing is published there yet", remedy) from error
    except OSError as error:
        raise BuildError(f"{shown}/index.json: {error.strerror}", remedy) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BuildError(f"{shown}/index.json: it is no image's index", remedy) from error
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise BuildError(f"{shown}/index.json: it is no image's index", remedy)
    return digest


def environment() -> dict[str, str]:
    """What skopeo sees of the user's environment, beside what all tools see."""
    names = [*PASSED, *PROXIES, *(name.upper() for name in PROXIES)]
    return {name: os.environ[name] for name in names if name in os.environ}


def explained(error: CommandFailed, to: Place, spec: str) -> BuildError:
    """What skopeo met, in a line; its own words where none of ours fit."""
    for pattern, what, hint in CAUSES:
        if re.search(pattern, error.output, re.IGNORECASE):
            words = {"host": to.host, "name": to.name, "spec": spec}
            return BuildError(f"{to}: {what.format(**words)}", hint.format(**words))
    said = re.findall(r'level=fatal msg="((?:[^"\\]|\\.)*)"', error.output)
    if not said:
        return error
    plain = re.sub(r"\\(.)", lambda one: " " if one[1] == "n" else one[1], said[-1]).strip()
    return BuildError(f"{to}: skopeo cannot push: {short(plain)}")
