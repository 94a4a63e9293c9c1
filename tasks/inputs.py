"""What keys and repositories take from the host: tool versions, local files, mirrors, secrets."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import apt, host, plan, reads, scripts, signature, strict, versions
from tasks.errors import BuildError
from tasks.lockfile import Lock
from tasks.spec import (
    File,
    Layer,
    Repo,
    Spec,
    address_fault,
    check_target,
    debconf_fields,
    masked,
    places,
)

MODULES = {"zlib-ng": "zlib_ng", "isal": "isal"}
"""Tools that are Python packages, by the module's name."""
SCRIPT_HEAD = 1 << 20
"""Bytes of a script that are looked at: what follows may be an archive that it unpacks."""
VERSION_ARGUMENT = {"mke2fs": "-V", "mkfs.xfs": "-V", "mkfs.vfat": "--help"}


LIBRARIES = {"xz": "liblzma5"}
"""Packages that do a tool's work and may be of another version than its own."""

DPKG_STATUS = Path("/var/lib/dpkg/status")


def tool_versions(names: list[str], memory: Path) -> dict[str, str]:
    """Each tool's version with Debian's revision, or with a digest where it is no package's.

    Asked only when the command's file or dpkg's status has changed since the last time.
    """
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        known = strict.read(memory)
    asked: dict[str, str] = {}
    changed = False
    installed = _mark(DPKG_STATUS) if DPKG_STATUS.exists() else ""
    for name in names:
        path = _module_file(MODULES[name]) if name in MODULES else host.tool(name)
        mark = _mark(Path(path)) + ("" if name in MODULES else installed)
        entry = known.get(name)
        # With a digest: a version that rotted would give all stages other keys, and other UUIDs.
        if (not isinstance(entry, list) or len(entry) != 3 or entry[0] != mark
                or entry[2] != _sum(entry[:2])):  # fmt: skip
            entry = [mark, _ask_version(name, path)]
            known[name] = entry = [*entry, _sum(entry)]
            changed = True
        asked[name] = str(entry[1])
    if changed:
        # Who may only read this checkout asks each time, and so does who has no room there.
        with contextlib.suppress(OSError):
            if memory.is_dir():
                host.remove(memory)
            host.write_text(memory, json.dumps(known, indent=1, sort_keys=True))
    return asked


def _mark(path: Path) -> str:
    info = path.stat()
    return f"{path} {info.st_size} {info.st_mtime_ns} {info.st_ino} "


def _sum(entry: list[Any]) -> str:
    return hashlib.sha256(plan.canonical(entry).encode()).hexdigest()


def _module_file(name: str) -> str:
    import importlib.util

    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise BuildError(f"the Python package {name} is missing", "run ./doit, or pip install .")
    return found.origin


def _ask_version(name: str, path: str) -> str:
    # The library inside decides the bytes, whichever version the Python package has.
    if name == "zlib-ng":
        from zlib_ng import zlib_ng

        return str(zlib_ng.ZLIBNG_RUNTIME_VERSION)
    if name == "isal":
        import isal

        return str(isal.ISAL_VERSION)
    found = _packaged(host.TOOLS.get(name, name), path)
    if not found:
        status, out, err = host.capture([name, VERSION_ARGUMENT.get(name, "--version")])
        match = re.search(r"\d+\.[\w.+~-]+", out + err)
        if match is None:
            raise BuildError(f"{name} does not tell its version (exit status {status})")
        found = f"{match[0]} sha256:{file_digest(Path(path))[:16]}"
    library = _dpkg("--show", "--showformat", "${Version}\n", LIBRARIES.get(name, ""))
    return f"{found}, {LIBRARIES[name]} {library[0]}" if library else found


def _packaged(package: str, path: str) -> str:
    """The version of a Debian package if it is installed and has this file, else ""."""
    # Before /usr was merged with /, packages shipped /sbin/mke2fs, and old ones still do.
    names = {path, path.removeprefix("/usr")}
    if not names & set(_dpkg("--listfiles", package)):
        return ""
    return next(iter(_dpkg("--show", "--showformat", "${Version}\n", package)), "")


def _dpkg(*words: str) -> list[str]:
    """What dpkg-query(1) prints; nothing where there is none, or no such package."""
    try:
        host.tool("dpkg-query")
    except BuildError:
        return []
    status, out, _ = host.capture(["dpkg-query", *words]) if words[-1] else (1, "", "")
    return out.splitlines() if status == 0 else []


# ---------------------------------------------------------------- files and scripts


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing that `files` puts into the tree: a file's bytes, a link's target or a folder."""

    target: str
    kind: str
    source: Path | None
    content: bytes
    mode: int
    owner: str

    @property
    def account(self) -> tuple[str, str]:
        """(user, group) of its owner, each a number or the name of an account of the tree.

        root is 0, which it is in every tree; a user alone stands for the group of that name, too.
        """
        user, _, group = self.owner.partition(":")
        names = (user, group or user)
        found = ["0" if one == "root" else str(int(one)) if one.isdecimal() else one
                 for one in names]  # fmt: skip
        return found[0], found[1]

    def identity(self) -> list[Any]:
        """What a key sees of it."""
        if self.kind == "file" and self.source is not None:
            digest = file_digest(self.source)
        else:
            digest = hashlib.sha256(self.content).hexdigest()
        return self.identified(digest)

    def identified(self, digest: str) -> list[Any]:
        """The same of a file whose content has this SHA-256."""
        return [self.target, self.kind, digest, self.mode, ":".join(self.account)]


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def entries(file: File, where: str, spec: Path) -> Iterator[Entry]:
    """A `files` item written out, folders before what is in them.

    Modes come from the spec or are 0755 and 0644 by the executable bit, as git keeps them: a
    clone's umask must not show in an image. Raises BuildError for a missing or special source.
    """
    if file.source is None:
        assert file.content is not None
        yield Entry(target=file.target, kind="file", source=None, content=file.content.encode(),
                    mode=0o644 if file.mode is None else file.mode, owner=file.owner)  # fmt: skip
        return
    try:
        # A source that is itself a link means what it points to; links inside a folder stay links.
        yield from _walk(file.source.resolve(strict=True), file.target, file)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a loop of links"
        raise BuildError(
            f"{where}: {file.target}: the source {file.source} cannot be read: {reason}",
            places(file.source, spec),
        ) from error


def _walk(source: Path, target: str, file: File) -> Iterator[Entry]:
    info = source.lstat()
    if stat.S_ISREG(info.st_mode):
        mode = file.mode if file.mode is not None else 0o755 if info.st_mode & 0o111 else 0o644
        yield Entry(target=target, kind="file", source=source, content=b"", mode=mode,
                    owner=file.owner)  # fmt: skip
    elif stat.S_ISLNK(info.st_mode):
        content = os.fsencode(os.readlink(source))
        yield Entry(target=target, kind="link", source=None, content=content, mode=0o777,
                    owner=file.owner)  # fmt: skip
    elif stat.S_ISDIR(info.st_mode):
        yield Entry(target=target, kind="folder", source=None, content=b"", mode=0o755,
                    owner=file.owner)  # fmt: skip
        for child in sorted(source.iterdir()):
            yield from _walk(child, f"{target}/{child.name}", file)
    else:
        raise BuildError(f"{source} is neither file, folder nor link")


def layer_entries(layer: Layer, spec: Spec) -> list[Entry]:
    """All that a layer's `files` puts into the tree, in order."""
    where = f"{spec.path}: layers.{layer.name}.files"
    found = [entry for file in layer.files for entry in entries(file, where, spec.path)]
    by_target: dict[str, Entry] = {}
    for entry in found:
        check_target(spec, layer, entry.target, folder=entry.kind == "folder")
        other = by_target.setdefault(entry.target, entry)
        # A file of a folder may be named once more, for an owner or mode of its own.
        if other is not entry and other.identity()[1:3] != entry.identity()[1:3]:
            raise BuildError(
                f"{where}: {entry.target!r} is given twice, with other content: by itself, and in "
                "the folder that is the source of one above it", "remove one of the two"
            )  # fmt: skip
    return found


def script_identity(layer: Layer, spec: Spec) -> str:
    """SHA-256 of a layer's script, whose bytes, not its mode, say how it is run.

    BuildError when it is missing, or would not run as it is: see scripts.program.
    """
    assert layer.script is not None
    where = f"{spec.path}: layers.{layer.name}.script"
    script_program(layer.script, where, spec)
    return file_digest(layer.script)


def script_program(path: Path, where: str, spec: Spec) -> scripts.Program:
    """How a layer's script is run; `where` is the field that names it."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BuildError(f"{where}: {path} is no file")
        with path.open("rb") as file:
            head = file.read(SCRIPT_HEAD)
    except OSError as error:
        raise BuildError(
            f"{where}: {path} cannot be read: {error.strerror}",
            places(path, spec.path),
        ) from error
    return scripts.program(head, where, str(path), spec.arch)


def script_reads(layer: Layer) -> list[str]:
    """The settings that a layer's script may look at, by what is written in it."""
    assert layer.script is not None
    with layer.script.open("rb") as file:
        return sorted(reads.of_text(file.read(reads.LIMIT)))


# ---------------------------------------------------------------- settings


def crypted(password: str, salt: str) -> str:
    """sha512-crypt of a password, as crypt(5) in /etc/shadow, by the host's libcrypt."""
    try:
        library = ctypes.CDLL("libcrypt.so.1")
    except OSError as error:
        raise BuildError("the host has no libcrypt.so.1", "apt-get install libcrypt1") from error
    library.crypt.restype = ctypes.c_char_p
    library.crypt.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    result: bytes | None = library.crypt(password.encode(), f"$6${salt}$".encode())
    if not result or not result.startswith(b"$6$"):
        raise BuildError("the host's libcrypt does not know sha512-crypt")
    return result.decode()


def is_password(line: str) -> bool:
    """Whether a debconf answer, as debconf-set-selections(1) reads it, is of type `password`."""
    return debconf_fields(line)[2:3] == ["password"]


def debconf_identity(layer: Layer) -> list[str]:
    """A layer's debconf answers as its key sees them: of a password only a digest.

    Of its crypt(5), since the digest stands in records, and nothing cheaper to guess from may.
    """
    lines = []
    for line in layer.debconf:
        package, question, kind, *value = debconf_fields(line)
        if is_password(line) and value:
            salt = hashlib.sha256(f"{package} {question}".encode()).hexdigest()[:16]
            digest = hashlib.sha256(crypted(value[0], salt).encode()).hexdigest()
            value = [f"sha256:{digest}"]
        lines.append(" ".join([package, question, kind, *value]))
    return lines


def shadow_field(spec: Spec, lock: Lock) -> str:
    """Root's password field, or "" to leave it as the base has it, which is locked.

    The salt is made of the packages, never of the password: the same lock gives the same bytes,
    and nothing that is cheaper to guess from than the field itself leaves this function.
    """
    if spec.settings.hashed_root_password:
        return spec.settings.hashed_root_password
    if not spec.settings.root_password:
        return ""
    records = [record.identity for record in lock.installed()]
    salt = hashlib.sha256(plan.canonical([spec.name, records]).encode()).hexdigest()[:16]
    return crypted(spec.settings.root_password, salt)


def settings_identity(spec: Spec, lock: Lock, mirrors: Mapping[str, str]) -> dict[str, Any]:
    """What the key of the layer `settings` sees; of a password only a digest of its crypt(5)."""
    settings = spec.settings
    shadow = shadow_field(spec, lock)
    fields = {repo.name: repo.fields for repo in lock.repos}
    pins = [(repo.name, repo.priority, fields[repo.name]) for repo in spec.repos]
    return {
        "hostname": settings.hostname,
        "timezone": settings.timezone,
        "locale": settings.locale,
        "password": hashlib.sha256(shadow.encode()).hexdigest() if shadow else "",
        # The one place where an address is content: it is written into the image.
        "apt_sources": [
            [repo.name, masked(expand(repo.uri, mirrors, spec)), repo.suite, repo.section,
             repo.priority, repo.trusted,
             _signed_identity(repo, spec, lock)]
            for repo in spec.repos
        ] if settings.apt_sources else [],
        "pins": apt.preferences(
            pins, sites=False, pins={repo.name: repo.pins for repo in spec.repos}
        ) if settings.apt_sources else "",
    }  # fmt: skip


# ---------------------------------------------------------------- mirrors

_DEBIAN = ("debian-archive-keyring", "debian-archive-keyring.gpg")
ARCHIVES = {"Debian": _DEBIAN, "Debian Backports": _DEBIAN,
            "Ubuntu": ("ubuntu-keyring", "ubuntu-archive-keyring.gpg")}  # fmt: skip
"""By a Release's Origin, the package with its archive's keyring and that one's name."""


ADDRESS = r"(https?://(?=[^/])([^\s\[\]\"'<>\\/]*@)?(\[[0-9A-Fa-f:.]+\](?=[:/]|$))?|file:/)[^\s\[\]\"'<>\\]*"
"""An address as a spec's `uri` has it; brackets only around a host of IPv6 (RFC 3986)."""


def find_mirrors(given: Mapping[str, str | None], arch: str = "") -> dict[str, str]:
    """What ${mirror} and ${security_mirror} stand for: command line, environment, host's sources.

    `given` holds the command line's; of the host's, those for `arch` count. A name that nothing
    defines is left out.
    """
    found: dict[str, str] = {}
    host_found: tuple[str, str] | None = None
    for number, name in enumerate(("mirror", "security_mirror")):
        value = given.get(name) or os.environ.get(f"STRATA_{name.upper()}")
        if not value:
            host_found = host_found or apt.host_mirrors(
                _host_sources(), arch=arch, origin=_host_origin, read=_host_text
            )
            value = host_found[number]
        if value:
            fault, hint = address_fault(value)
            if fault or not re.fullmatch(ADDRESS, value):
                raise BuildError(
                    f"{name}={masked(value)}: expected an http:, https: or file: address"
                    + (f"; {fault}" if fault else ""),
                    hint,
                )
            found[name] = value.rstrip("/")
    return found


def _host_sources() -> Iterator[str]:
    folder = Path("/etc/apt")
    paths = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.list")),
             *sorted((folder / "sources.list.d").glob("*.sources"))]  # fmt: skip
    for path in paths:
        try:
            yield path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue


def _host_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _host_origin(uri: str, suite: str) -> str:
    """The Origin of a source in the lists of the host's own apt, "" where it has none."""
    uri = re.sub(r"^mirror\+", "", uri)
    for name in ("InRelease", "Release"):
        path = f"/var/lib/apt/lists/{apt.list_name(uri.rstrip('/'))}_dists_"
        text = _host_text(path + apt.list_name(suite) + f"_{name}")
        if text:
            return apt.release_fields(text).get("Origin", "")
    return ""


def expand(uri: str, mirrors: Mapping[str, str], spec: Spec) -> str:
    """An address with ${mirror} and ${security_mirror} replaced; BuildError for one unknown."""
    for name in ("mirror", "security_mirror"):
        mark = f"${{{name}}}"
        if mark in uri:
            if name not in mirrors:
                raise BuildError(
                    f"{spec.path}: {mark}: this host's apt sources name no "
                    f"{name.replace('_', ' ')}",
                    f"add {name}=ADDRESS, or set STRATA_{name.upper()}",
                )
            uri = uri.replace(mark, mirrors[name])
    if "$(ARCH)" in uri and spec.foreign:
        raise BuildError(
            f"{spec.path}: {masked(uri)}: $(ARCH) is another address for each architecture",
            "write one repository for each, with the architecture in place of $(ARCH)",
        )
    return uri.replace("$(ARCH)", spec.arch)  # as apt itself does (sources.list(5))


def keyring_files(repo: Repo, spec: Spec) -> list[Path]:
    """The keyrings whose keys may sign a repository: the spec's one, or the host's archive ones.

    BuildError when the spec's is missing or no keyring at all is to be found.
    """
    if repo.keyring is not None:
        if not repo.keyring.is_file():
            raise BuildError(
                f"{spec.path}: repos.{repo.name}.keyring: {repo.keyring} is missing",
                places(repo.keyring, spec.path),
            )
        return [repo.keyring]
    shared = Path("/usr/share/keyrings")
    found = [shared / keyring for _package, keyring in ARCHIVES.values()]
    found += sorted(Path("/etc/apt/trusted.gpg.d").glob("*.*"))
    # Of the host's own, apt itself passes over what it cannot read.
    found = [path for path in dict.fromkeys(found) if path.suffix in (".gpg", ".asc")
             and path.is_file() and signature.keyring(path.read_bytes())[0]]  # fmt: skip
    if not found and not repo.trusted:
        raise BuildError(
            f"{spec.path}: repos.{repo.name}: this host has no archive keyring",
            "apt-get install debian-archive-keyring, or name a keyring",
        )
    return found


def signed_by(repo: Repo, spec: Spec, lock: Lock) -> tuple[str, bytes]:
    """(path, content) of the keyring that an image's source of a repository names.

    The content is empty where the image has the file already, as a package of the archive's that
    also brings its next keys. ("", b"") for a repository that is trusted anyway.
    """
    if repo.keyring is not None and not repo.trusted:
        path = keyring_files(repo, spec)[0]
        keys, content = keys_of(path, repo, spec), path.read_bytes()
        # apt's own reader of armor takes a line of blanks for none, and finds no key then.
        blanks = re.search(rb"[ \t\r\f\v]$", content, re.MULTILINE)
        plain = content.startswith(b"-----BEGIN") and not blanks
        suffix = "asc" if plain else "gpg"
        return f"/etc/apt/keyrings/{repo.name}.{suffix}", content if plain else keys
    if repo.trusted:
        return "", b""
    fields = next(one.fields for one in lock.repos if one.name == repo.name)
    package, keyring = ARCHIVES.get(fields.get("Origin", ""), ("", ""))
    if not package:
        raise BuildError(
            f"{spec.path}: apt_sources: repos.{repo.name} needs a keyring: no keyring of the image "
            f"is known to verify what comes from {fields.get('Origin') or 'it'}",
            f"name the one that verifies it here in repos.{repo.name}.keyring",
        )
    shared = Path("/usr/share/keyrings") / keyring
    if any(record.package == package for record in lock.installed()):
        return str(shared), b""
    if not shared.is_file():
        raise BuildError(
            f"{spec.path}: apt_sources: repos.{repo.name}: neither the image nor this host has "
            f"{shared}", f"add {package} to packages, or name one in repos.{repo.name}.keyring"
        )  # fmt: skip
    return f"/etc/apt/keyrings/{repo.name}.gpg", keys_of(shared, repo, spec)


def _signed_identity(repo: Repo, spec: Spec, lock: Lock) -> str | None:
    """What a key sees of it: the digest of what goes into the image, or the path that is there."""
    path, content = signed_by(repo, spec, lock)
    return hashlib.sha256(content).hexdigest() if content else path or None


def keys_of(path: Path, repo: Repo, spec: Spec) -> bytes:
    """The keys of a keyring as apt of any release reads them; BuildError for what holds none."""
    try:
        content, fault, hint = signature.keyring(path.read_bytes())
    except OSError as error:
        content, fault, hint = b"", f"cannot be read: {error.strerror}", ""
    if fault:
        raise BuildError(f"{spec.path}: repos.{repo.name}.keyring: {path} {fault}", hint)
    return content


# ---------------------------------------------------------------- all of it


def epoch_override() -> int | None:
    """SOURCE_DATE_EPOCH, in seconds, or None; BuildError when it is no number."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) > 4102444800:
        raise BuildError(f"SOURCE_DATE_EPOCH={text}: expected seconds since 1970")
    return int(text)


def host_inputs(spec: Spec, lock: Lock, mirrors: Mapping[str, str], memory: Path) -> plan.Host:
    """All that the plan needs of the host."""
    return plan.Host(
        tools={
            name: versions.keyed(name, version)
            for name, version in tool_versions(plan.tools_for(spec), memory).items()
        },
        files={
            layer.name: [entry.identity() for entry in layer_entries(layer, spec)]
            for layer in spec.layers
        },
        scripts={layer.name: script_identity(layer, spec) for layer in spec.layers if layer.script},
        debconf={layer.name: debconf_identity(layer) for layer in spec.layers},
        settings=settings_identity(spec, lock, mirrors) if spec.settings else {},
        epoch=epoch_override(),
        reads={layer.name: script_reads(layer) for layer in spec.layers
               if layer.script and spec.settings.shown},
    )  # fmt: skip
