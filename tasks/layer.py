"""Parent + packages + files + script → layer tarball: apt runs confined, from locked .debs only."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shlex
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tasks import apt, debs, host, inputs, tree
from tasks.cache import Entry
from tasks.errors import BuildError
from tasks.lockfile import LockedLayer
from tasks.plan import Stage
from tasks.session import Session
from tasks.spec import Layer, Spec

INSIDE = "/dev/.strata/in"
"""Where a stage's inputs are seen in the sandbox: on the private /dev, so no trace is left."""

NO_MARKS = "/dev/.strata/extended_states"
"""Where apt writes that all it installs was asked for, since it is told each by name.

The tree's own marks stay as they are, whoever made them, but for what `apt_steps` sets."""

APT = ("env", f"APT_CONFIG={INSIDE}/own.conf")
# What dpkg runs is the packages' again.
DPKG = f"""#!/bin/sh
export APT_CONFIG={INSIDE}/apt.conf
exec /usr/bin/dpkg "$@"
"""

# invoke-rc.d(8) asks it before it starts anything; 101 says no.
POLICY = "#!/bin/sh\nexit 101\n"
SET_POLICY = f"""
mkdir -p /dev/.strata/lists/partial /dev/.strata/cache/archives/partial /dev/.strata/log
if [ -e /usr/sbin/policy-rc.d ] || [ -L /usr/sbin/policy-rc.d ]; then
    mv /usr/sbin/policy-rc.d /usr/sbin/policy-rc.d.strata
fi
mkdir -p /usr/sbin && cat {INSIDE}/policy-rc.d > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
"""
UNSET_POLICY = f"""
mkdir -p /dev/.strata/lists/partial /dev/.strata/cache/archives/partial /dev/.strata/log
if cmp -s {INSIDE}/policy-rc.d /usr/sbin/policy-rc.d; then rm /usr/sbin/policy-rc.d; fi
if [ -e /usr/sbin/policy-rc.d.strata ] || [ -L /usr/sbin/policy-rc.d.strata ]; then
    if [ -e /usr/sbin/policy-rc.d ]; then rm /usr/sbin/policy-rc.d.strata
    else mv /usr/sbin/policy-rc.d.strata /usr/sbin/policy-rc.d; fi
fi
"""
SET_SHADOW = f"""
umask 077
while IFS= read -r line; do
    case $line in
        root:*) rest=${{line#root:*:}}; printf 'root:%s:%s\\n' "$(cat {INSIDE}/shadow)" "$rest" ;;
        *) printf '%s\\n' "$line" ;;
    esac
done < /etc/shadow > /etc/shadow.strata
chown --reference=/etc/shadow /etc/shadow.strata && chmod --reference=/etc/shadow /etc/shadow.strata
mv /etc/shadow.strata /etc/shadow
"""

# A kernel's postinst makes an initramfs, and the trigger of initramfs-tools makes it again when all
# is configured. Found first in dpkg's PATH while packages are installed, this puts an empty one in
# place for what looks whether there is one (boot loaders' hooks run with it), and MAKE_INITRAMFS
# makes it once, in the end. Called otherwise than by update-initramfs(8) it is mkinitramfs(8).
MKINITRAMFS = """#!/bin/sh
real=/usr/sbin/mkinitramfs
if [ "$1" = -v ]; then verbose=-v; shift; else verbose=; fi
if ! [ -e /dev/.strata/later ] || [ $# -ne 3 ] || [ "$1" != -o ] ||
        [ "${2##*/}" != "initrd.img-$3.new" ]; then
    exec $real $verbose "$@"
fi
echo "$3 ${2%/*}" >> /dev/.strata/later
: > "$2"
"""
LATER = ": > /dev/.strata/later"
# The list is not the commands' input: a hook that reads its own would take the rest of it.
MAKE_INITRAMFS = """
sort -u /dev/.strata/later > /dev/.strata/now
rm /dev/.strata/later
while read -r version folder <&3; do
    file=$folder/initrd.img-$version
    if ! [ -e "$file" ] || [ -s "$file" ]; then continue; fi
    update-initramfs -u -k "$version" -b "$folder" < /dev/null
    if ! [ -s "$file" ]; then  # update_initramfs=no in update-initramfs.conf(5)
        rm "$file"
        update-initramfs -c -k "$version" -b "$folder" < /dev/null
    fi
    [ -s "$file.bak" ] || rm -f "$file.bak"
    if ! [ -s "$file" ]; then echo "error: $file is empty"; exit 1; fi
done 3< /dev/.strata/now
"""


def apt_steps(given: Mapping[str, Any]) -> list[host.Step]:
    """The commands that install exactly the locked packages, in the image's own apt.

    `given` are the stage's inputs, of which its key is made: what these steps are given is all
    there, and an argument from elsewhere would be one that no key knows.
    """
    wanted = [
        f"{package}:{given['arch'] if architecture == 'all' else architecture}={version}"
        for package, version, architecture, _sha256 in given["records"]
    ]
    removes = [f"{name}-" for name in given["removes"]]
    steps = [host.step("dpkg", "--add-architecture", name) for name in given["foreign"]]
    if given["debconf"]:
        steps.append(host.step("debconf-set-selections", f"{INSIDE}/debconf", title="preseeding"))
    if wanted or removes:
        steps.append(host.step(*APT, "apt-get", "update", title="reading the locked packages"))
        steps.append(host.step("/bin/sh", "-c", LATER))
        # The lock names each, and locking refuses what is essential unless the spec names it so.
        gone = ["--allow-remove-essential"] if removes else []
        steps.append(
            host.step(
                *APT, "apt-get", "install", "--yes", "--allow-downgrades",
                "--allow-change-held-packages", *gone, "--no-install-recommends",
                "--option", f"Dir::State::extended_states={NO_MARKS}",
                *wanted, *removes,
                title=f"installing {len(wanted)} packages",
            )
        )  # fmt: skip
        steps.append(host.step("/bin/sh", "-e", "-c", MAKE_INITRAMFS))
    for mark in ("auto", "manual"):
        if given[mark]:
            steps.append(host.step(*APT, "apt-mark", mark, *given[mark]))
    return steps


def inside_apt_conf(*, own: bool) -> str:
    """apt.conf in the sandbox: all state is elsewhere, and only locked packages are seen.

    Strata's `own` apt reads nothing of the image's configuration: what is in there must not change
    how locked packages are installed, nor run a hook. An apt that a package's or the spec's script
    calls reads it as ever.
    """
    settings = {
        "Dir::Etc::sourcelist": f"{INSIDE}/sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State::lists": "/dev/.strata/lists",
        "Dir::Cache": "/dev/.strata/cache",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Dir::Log": "/dev/.strata/log",
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        "APT::Install-Suggests": "false",
        "Acquire::Languages": "none",
        "Dpkg::Use-Pty": "0",
        "DPkg::Path": f"{INSIDE}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }
    if own:
        # APT_CONFIG is read before all other files, so that it can say that there are none.
        settings |= {
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::netrc": "/dev/null",
            "Dir::Etc::netrcparts": "/dev/null",
            "Dir::Bin::dpkg": f"{INSIDE}/dpkg",
        }
    lines = [f"{name} {apt.quoted(value)};" for name, value in settings.items()]
    # conffiles: what files of layers below put there stays, without a question. The image's own
    # dpkg.cfg(5) holds as well, which the last three keep from saying otherwise.
    options = ["--force-unsafe-io", "--force-confold", "--force-confdef", "--no-force-confnew",
               "--no-force-confask", "--force-downgrade"]  # fmt: skip
    lines += [f"DPkg::Options:: {apt.quoted(option)};" for option in options]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- files


def owner_steps(entries: Sequence[inputs.Entry], where: str) -> list[host.Step]:
    """Checks, made inside after the packages, that every owner named is an account there."""
    steps = []
    for owner in sorted({entry.owner for entry in entries}):
        user, group = _owner(owner)
        for value, table in ((user, "passwd"), (group, "group")):
            if value.isdigit() or value == "root":
                continue
            message = (
                f"error: {where}: owner {owner!r}: the image has no {value!r} in "
                f"/etc/{table}; add it in a package or an earlier layer, or use a number"
            )
            steps.append(host.step(
                "/bin/sh", "-c", f"getent {table} {shlex.quote(value)} > /dev/null || "
                f"{{ echo {shlex.quote(message)}; exit 1; }}"))  # fmt: skip
    return steps


def _owner(owner: str) -> tuple[str, str]:
    user, _, group = owner.partition(":")
    return user, group or user


class _Digested:
    """A file that is read once, with the SHA-256 of what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self.sha256.update(data)
        return data


def files_tar(target: Path, entries: Sequence[inputs.Entry], epoch: int) -> list[list[Any]]:
    """A tar of what `files` puts into the tree; it is unpacked by the tree's own tar inside it.

    Owners are names there: packages of the same layer may have made the accounts. Returns the
    identity of each entry as it was written: its source may be another by now than in the key.
    """
    identities: list[list[Any]] = []
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.target.lstrip("/"))
            info.mtime = epoch
            info.mode = entry.mode
            user, group = _owner(entry.owner)
            if user.isdigit():
                info.uid = int(user)
            else:
                info.uname = user
            if group.isdigit():
                info.gid = int(group)
            else:
                info.gname = group
            content: Any = io.BytesIO(entry.content)
            if entry.kind == "folder":
                info.type = tarfile.DIRTYPE
            elif entry.kind == "link":
                info.type = tarfile.SYMTYPE
                info.linkname = os.fsdecode(entry.content)
            elif entry.source is not None:
                content = entry.source.open("rb")
                info.size = os.fstat(content.fileno()).st_size
            else:
                info.size = len(entry.content)
            with content:
                given = _Digested(content)
                archive.addfile(info, given if info.isreg() else None)  # type: ignore[arg-type]
            identity = (
                entry.identity()
                if not info.isreg()
                else [entry.target, entry.kind, given.sha256.hexdigest(), entry.mode, entry.owner]
            )
            identities.append(identity)
    return identities


def files_step(entries: Sequence[inputs.Entry]) -> host.Step:
    """Unpack them inside the tree, where no symlink leads out of it.

    A symlink in the place of a target is replaced, one on the way to it is followed, and folders
    that are there keep their owner and mode.
    """
    return host.step(
        "tar", "--extract", "--file", f"{INSIDE}/files.tar", "--directory", "/", "--same-owner",
        "--same-permissions", "--keep-directory-symlink", "--no-overwrite-dir",
        title=f"copying {len(entries)} files",
    )  # fmt: skip


# ---------------------------------------------------------------- settings


def settings_entries(session: Session) -> list[inputs.Entry]:
    """The files that `hostname`, `timezone`, `locale` and `apt_sources` make."""
    settings = session.spec.settings
    found: list[inputs.Entry] = []

    def add(target: str, text: str | bytes, kind: str = "file", mode: int = 0o644) -> None:
        content = text.encode() if isinstance(text, str) else text
        found.append(inputs.Entry(target=target, kind=kind, source=None, content=content,
                                  mode=mode, owner="0:0"))  # fmt: skip

    if settings.hostname:
        short = settings.hostname.partition(".")[0]
        names = f"{settings.hostname} {short}" if short != settings.hostname else short
        add("/etc/hostname", settings.hostname + "\n")
        add("/etc/hosts", f"127.0.0.1\tlocalhost\n127.0.1.1\t{names}\n\n"
            "::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\n"
            "ff02::2\tip6-allrouters\n")  # fmt: skip
    if settings.timezone:
        add("/etc/timezone", settings.timezone + "\n")
        add("/etc/localtime", f"/usr/share/zoneinfo/{settings.timezone}", "link", 0o777)
    if settings.locale:
        add("/etc/default/locale", f"LANG={settings.locale}\n")
        if _generated(settings.locale):
            charmap = settings.locale.partition(".")[2].partition("@")[0] or "ISO-8859-1"
            add("/etc/locale.gen", f"{settings.locale} {charmap}\n")
    if settings.apt_sources:
        for target, text in apt_files(session).items():
            add(target, text)
    return found


def apt_files(session: Session) -> dict[str, bytes]:
    """/etc/apt of an image that keeps its repositories, without any user or password."""
    found: dict[str, bytes] = {}
    locked = {repo.name: repo for repo in session.plan.lock.repos}
    sources = []
    for repo in session.spec.repos:
        path, content = inputs.signed_by(repo, session.spec, session.plan.lock)
        if content:
            found[path] = content
        signed = f"Signed-By: {path}\n" if path else ""
        uri = apt.without_user(session.uris[repo.name])
        sources.append(
            apt.source(uri, repo.suite, repo.components, trusted=repo.trusted, extra=signed)
        )
    found["/etc/apt/sources.list.d/strata.sources"] = "\n".join(sources).encode()
    pins = apt.preferences(
        [(repo.name, repo.priority, locked[repo.name].fields) for repo in session.spec.repos],
        sites=False,
        pins={repo.name: repo.pins for repo in session.spec.repos},
    )
    if pins:
        found["/etc/apt/preferences.d/strata"] = pins.encode()
    return found


def _generated(locale: str) -> bool:
    return locale not in ("C", "POSIX", "C.UTF-8", "C.utf8")


def settings_steps(session: Session) -> list[host.Step]:
    """The commands that check and apply what files alone do not."""
    settings = session.spec.settings
    where = str(session.spec.path)
    steps = []
    if settings.timezone:
        steps.append(_needed(f"/usr/share/zoneinfo/{settings.timezone}",
                             f"{where}: timezone: the image has no zone {settings.timezone}; "
                             "add the package tzdata"))  # fmt: skip
    if settings.locale and _generated(settings.locale):
        steps.append(_needed("/usr/sbin/locale-gen",
                             f"{where}: locale: the image cannot make {settings.locale}; "
                             "add the package locales"))  # fmt: skip
        steps.append(host.step("locale-gen", title=f"generating {settings.locale}"))
    if settings.root_password or settings.hashed_root_password:
        steps.append(host.step("/bin/sh", "-e", "-c", SET_SHADOW, title="setting the password"))
    return steps


def _needed(path: str, message: str) -> host.Step:
    return host.step("/bin/sh", "-c", f"test -e {shlex.quote(path)} || "
                     f"{{ echo {shlex.quote('error: ' + message)}; exit 1; }}")  # fmt: skip


# ---------------------------------------------------------------- the stage


def build(session: Session, number: int, log: host.Log) -> None:
    """Make layer `number` of the plan and put it into the cache."""
    spec, plan = session.spec, session.plan
    stage = plan.layers[number]
    below = plan.tree[: number + 1]
    settings = number >= len(spec.layers)
    layer = Layer(name="settings") if settings else spec.layers[number]
    locked = LockedLayer(name=layer.name, records=(), removes=())
    if not settings:
        locked = next(one for one in plan.lock.layers if one.name == layer.name)
    installed = plan.lock.installed(number + 1)
    if locked.records or locked.removes:
        known = {record.package for record in plan.lock.installed(number)}
        if "apt" not in known:
            raise BuildError(
                f"{spec.path}: layers.{layer.name}: the base has no apt to install packages with",
                "add apt to base.include, or choose a variant that has it",
            )
    debs.fetch(locked.records, session.cache, session.uris, spec, session.scratch, log)
    given = session.scratch / f"in-{stage.key}"
    host.remove_tree(given)
    given.mkdir()
    given.chmod(0o755)
    paths = debs.local_repository(given / "repo", locked.records, session.cache, log)
    lower = session.trees.lower(below, log)
    epoch = _epoch(session, stage, below[-1], paths)
    entries = settings_entries(session) if settings else inputs.layer_entries(layer, spec)
    steps = [host.step("/bin/sh", "-e", "-c", SET_POLICY)]
    if not settings:
        steps += apt_steps(stage.inputs)
    with session.trees.upper(stage, lower) as upper:
        sandbox = host.Sandbox(
            base=upper.base, mounts=[upper.mount("root")], root="root",
            binds=[(str(given), INSIDE)], keep=host.DPKG_CAPABILITIES, cwd="/",
            env={"SOURCE_DATE_EPOCH": str(epoch), "APT_CONFIG": f"{INSIDE}/apt.conf",
                 "SYSTEMD_OFFLINE": "1", "HOME": "/root"},
        )  # fmt: skip
        _give(given, layer, session, stage, settings, log)
        if entries:
            given_files = files_tar(given / "files.tar", entries, epoch)
            if not settings:
                _unchanged(spec, layer, stage.inputs["files"], given_files)
            steps += owner_steps(entries, f"{spec.path}: layers.{layer.name}.files")
            steps.append(files_step(entries))
        if settings:
            now = inputs.settings_identity(spec, plan.lock, session.mirrors)
            _unchanged(spec, layer, [["a keyring", stage.inputs["settings"]]], [["a keyring", now]])
            steps += settings_steps(session)
        if layer.script is not None:
            content = layer.script.read_bytes()
            plain = not content.startswith((b"#!", b"\x7fELF"))
            command = ["/bin/sh", f"{INSIDE}/script"] if plain else [f"{INSIDE}/script"]
            steps.append(host.step(*command, title=f"running {layer.script.name}"))
        steps.append(host.step("/bin/sh", "-e", "-c", UNSET_POLICY))
        sandbox.run(*steps, log=log, what=f"layer {layer.name}")
        log.step("packing")
        if _is_debian(session):
            text = tree.dpkg_status(upper.base, [upper.name, *lower])
            script = f"{layer.script}" if layer.script is not None else ""
            tree.check_installed(text, installed, spec.arch, f"layer {layer.name}", script)
        tree.sweep(upper.path)
        several = tree.clamp_times(upper.path, epoch, upper.begun)
        facts = tree.facts(epoch, installed, upper.path)
        with session.cache.put(stage, facts) as target:
            tree.pack(upper.path, target, log, several_xattrs=several)
    host.remove_tree(given)


def _unchanged(spec: Spec, layer: Layer, keyed: Sequence[Any], given: Sequence[Any]) -> None:
    """BuildError when what goes into the tree is not what the key was made of, a while ago.

    Else the new bytes would be found under the old key for ever.
    """
    if list(keyed) != list(given):
        other = next((one for one, was in zip(given, keyed, strict=False) if one != was), None)
        raise BuildError(
            f"{spec.path}: layers.{layer.name}: {other[0] if other else 'files'} was changed while "
            "it was built", "run the same command again"
        )  # fmt: skip


def _is_debian(session: Session) -> bool:
    return session.spec.base.variant != "extract"


def _epoch(session: Session, stage: Stage, parent: Stage, paths: Sequence[Path]) -> int:
    """SOURCE_DATE_EPOCH, or the newest date of this layer's .debs and its parent, in seconds."""
    if stage.inputs["epoch"] is not None:
        return int(stage.inputs["epoch"])
    entry: Entry = session.cache.require(parent)
    return max(int(entry.facts["epoch"]), tree.deb_epoch(paths))


def _give(
    given: Path, layer: Layer, session: Session, stage: Stage, settings: bool, log: host.Log
) -> None:  # fmt: skip
    """Fill the folder that the sandbox sees at INSIDE."""
    (given / "policy-rc.d").write_text(POLICY)
    (given / "apt.conf").write_text(inside_apt_conf(own=False))
    (given / "own.conf").write_text(inside_apt_conf(own=True))
    (given / "dpkg").write_text(DPKG)
    (given / "dpkg").chmod(0o755)
    (given / "bin").mkdir()
    (given / "bin/mkinitramfs").write_text(MKINITRAMFS)
    (given / "bin/mkinitramfs").chmod(0o755)
    (given / "sources.list").write_text(f"deb [trusted=yes] file:{INSIDE}/repo ./\n")
    if layer.debconf:
        (given / "debconf").write_text("\n".join(layer.debconf) + "\n", encoding="utf-8")
    if layer.script is not None:
        shutil.copyfile(layer.script, given / "script")
        (given / "script").chmod(0o755)
        digest = [str(layer.script), inputs.file_digest(given / "script")]
        _unchanged(session.spec, layer, [[digest[0], stage.inputs["script"]]], [digest])
    if settings:
        shadow = inputs.shadow_field(session.spec, session.plan.lock)
        path = given / "shadow"
        path.touch(mode=0o600)
        path.write_text(re.sub(r"[:\n]", "", shadow))
        if shadow:
            # The tree's own locale-gen sees it, and may print what it likes.
            mask = log.mask
            log.mask = lambda text: mask(text.replace(shadow, "***"))
