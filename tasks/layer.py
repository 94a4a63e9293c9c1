"""Parent + packages + files + script → layer tarball: apt runs confined, from locked .debs only."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import re
import shlex
import shutil
import tarfile
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from tasks import apt, debconf, debs, given, host, identities, inputs, own, scripts, tree
from tasks.cache import Entry
from tasks.errors import BuildError
from tasks.lockfile import LockedLayer
from tasks.plan import Stage, late_answers
from tasks.session import Session
from tasks.spec import Layer, Spec

INSIDE = "/dev/.strata/in"
"""Where a stage's inputs are seen in the sandbox: on the private /dev, so no trace is left."""

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Of all but the user's script: what an image has below /usr/local is for its own users, and an
apt-get of theirs steers no installation."""

NO_MARKS = "/dev/.strata/extended_states"
"""Where apt writes that all it installs was asked for, since it is told each by name.

The tree's own marks stay as they are, whoever made them, but for what `apt_steps` sets."""

APT = ("env", f"APT_CONFIG={INSIDE}/own.conf")
# What dpkg runs is the packages' again.
DPKG = f"""#!/bin/sh
export APT_CONFIG={INSIDE}/apt.conf
exec /usr/bin/dpkg "$@"
"""

PRESEED = ("/bin/sh", "-c", f"exec debconf-set-selections {INSIDE}/debconf/*")
# invoke-rc.d(8) asks it before it starts anything; 101 says no.
# Not the bare two lines: that is what a user's own says in many images, and it must stay.
POLICY = "#!/bin/sh\n# Strata's, while it builds\nexit 101\n"
# Any name in the tree may be a script's own, so the tree's file waits on the private /dev.
SET_POLICY = f"""
mkdir -p /dev/.strata/lists/partial /dev/.strata/cache/archives/partial /dev/.strata/log
if [ -e /usr/sbin/policy-rc.d ] || [ -L /usr/sbin/policy-rc.d ]; then
    mv /usr/sbin/policy-rc.d /dev/.strata/policy-rc.d
fi
mkdir -p /usr/sbin && cat {INSIDE}/policy-rc.d > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
"""
UNSET_POLICY = f"""
mkdir -p /dev/.strata/lists/partial /dev/.strata/cache/archives/partial /dev/.strata/log
if cmp -s {INSIDE}/policy-rc.d /usr/sbin/policy-rc.d; then
    rm /usr/sbin/policy-rc.d
    if [ -e /dev/.strata/policy-rc.d ] || [ -L /dev/.strata/policy-rc.d ]; then
        mv /dev/.strata/policy-rc.d /usr/sbin/policy-rc.d
    fi
fi  # else it was replaced or removed, and the tree has what did that
"""
SET_SHADOW = f"""
umask 077
while IFS= read -r line; do
    case $line in
        root:*)
            was=${{line#root:}}; was=${{was%%:*}}
            case $was in
                '*' | '!' | '!!' | x | "$(cat {INSIDE}/shadow)") ;;
                *) printf '%s\n' "$1" >&2; exit 1 ;;
            esac
            rest=${{line#root:*:}}; printf 'root:%s:%s\\n' "$(cat {INSIDE}/shadow)" "$rest" ;;
        *) printf '%s\\n' "$line" ;;
    esac
done < /etc/shadow > /dev/.strata/shadow
cat /dev/.strata/shadow > /etc/shadow  # the same file: owner, mode and attributes stay
rm /dev/.strata/shadow
"""

# What is in locale.gen already, of a user's file, script or debconf's answers, is generated, too.
# A name without a character set says nothing of its map: pl_PL has ISO-8859-2, aa_ER UTF-8.
ADD_LOCALE = """
if [ -z "$2" ]; then
    known=/usr/share/i18n/SUPPORTED
    while read -r name map; do
        if [ "$name" = "$1" ]; then set -- "$1" "$map" "${3:-}"; fi
    done < "$known" 2> /dev/null || true
    if [ -z "$2" ]; then
        echo "error: locale: $known of the image knows no $1: name its character set (de_DE.UTF-8)"
        exit 1
    fi
fi
# locale-gen ends well whatever localedef says.
if [ -d /usr/share/i18n/locales ]; then
    definition=${1%%[.@]*}
    case $1 in *@*) definition=$definition@${1##*@} ;; esac
    for there in "locales/$definition:$definition" "charmaps/$2:character set $2"; do
        file=${there%%:*}
        for path in /usr/local/share/i18n/$file /usr/share/i18n/$file /usr/share/i18n/$file.gz; do
            if [ -e "$path" ]; then continue 2; fi
        done
        near=$(cd /usr/share/i18n/locales && echo "${definition%%_*}"_*)
        echo "error: locale: the image's package locales has no ${there#*:}, so it cannot make" \
            "$1; of this language it has $near"
        exit 1
    done
fi
if ! grep -qxE "[[:space:]]*$1[[:space:]]+$2[[:space:]]*" /etc/locale.gen 2> /dev/null; then
    if [ -s /etc/locale.gen ] && [ -n "$(tail -c 1 /etc/locale.gen)" ]; then
        echo >> /etc/locale.gen
    fi
    mkdir -p /etc && echo "$1 $2" >> /etc/locale.gen
    if [ -n "${3:-}" ] && [ -x /usr/sbin/locale-gen ]; then locale-gen; fi
fi
"""
# Before tar, which fails where a link leads to what is not there yet; and after it, for its own.
REACHED = """
message=$1; shift
lost='^/(dev|proc|sys|run|tmp)(/|$)'
readlink -m -- "$@" | grep -qE "$lost" || exit 0
for path do
    there=$(readlink -m -- "$path")
    if printf '%s\\n' "$there" | grep -qE "$lost"; then
        printf 'error: %s: %s leads to %s, and %s\\n' "${message%%|*}" "$path" "$there" \\
            "${message#*|}"
        exit 1
    fi
done
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

# dpkg(1) reads these of the files whose names run-parts(8) would take, and no option turns it off.
# What is said with its default value says nothing.
CHECK_DPKG = r"""
for file in "$1"/dpkg.cfg "$1"/dpkg.cfg.d/* "$2"; do
    case $file in "$1"/dpkg.cfg.d/*[!A-Za-z0-9_-]*) continue ;; esac
    [ -f "$file" ] || continue
    line=$(grep -anE '^(no-act|dry-run|simulate|admindir|instdir|root)([^[:alnum:]-]|$)' "$file" |
        grep -avE ':(admindir[= ]+"?/var/lib/dpkg/?|(instdir|root)[= ]+"?/)"?[[:space:]]*$' |
        head -n 1)
    if [ -n "$line" ]; then
        printf 'error: %s: line %s: %s: %s\n' "$file" "${line%%:*}" "${line#*:}" \
            "with this, dpkg installs nothing that is locked into the image; $3"
        exit 1
    fi
done
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
    steps = []
    if wanted or removes or given["foreign"]:
        steps.append(
            host.step(
                "/bin/sh",
                "-c",
                CHECK_DPKG,
                "sh",
                "/etc/dpkg",
                "/root/.dpkg.cfg",
                "give the file in a layer after the last one with packages",
            )
        )
    steps += [host.step("dpkg", "--add-architecture", name) for name in given["foreign"]]
    if given["debconf"]:
        steps.append(host.step(*PRESEED, title="preseeding"))
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


def preseeds(answers: Sequence[str]) -> list[str]:
    """Files of debconf-set-selections(1), in order, that hold these answers.

    It joins a line that ends in a backslash to the next, but for the last of a file: an answer
    that ends so, such as a password, ends its file.
    """
    files = [""]
    for line in answers:
        files[-1] += line + "\n"
        if line.removesuffix("\r").endswith("\\"):
            files.append("")
    return [text for text in files if text]


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
    for owner, (user, group) in sorted({(entry.owner, entry.account) for entry in entries}):
        for value, table in ((user, "passwd"), (group, "group")):
            if value.isdecimal():
                continue
            message = (
                f"error: {where}: owner {owner!r}: the image has no {value!r} in "
                f"/etc/{table}; add it in a package or an earlier layer, or use a number"
            )
            steps.append(host.step(
                "/bin/sh", "-c", f"getent {table} {shlex.quote(value)} > /dev/null || "
                f"{{ echo {shlex.quote(message)}; exit 1; }}"))  # fmt: skip
    return steps


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
            user, group = entry.account
            if user.isdecimal():
                info.uid = int(user)
            else:
                info.uname = user
            if group.isdecimal():
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
                entry.identified(given.sha256.hexdigest()) if info.isreg() else entry.identity()
            )
            identities.append(identity)
    return identities


def reached_steps(entries: Sequence[inputs.Entry], where: str) -> list[host.Step]:
    """Checks, made inside, that no link leads what was copied to where no image keeps it."""
    folders = sorted({os.path.dirname(entry.target) for entry in entries})
    message = (f"{where}|what is there is in no image: it is empty until the system boots; "
               "let the image make it at boot (tmpfiles.d(5)), or name another place")  # fmt: skip
    return [host.step("/bin/sh", "-c", REACHED, "sh", message, *folders[start : start + 500])
            for start in range(0, len(folders), 500)]  # fmt: skip


def files_step(entries: Sequence[inputs.Entry]) -> host.Step:
    """Unpack them inside the tree, where no symlink leads out of it.

    A symlink in the place of a target is replaced, one on the way to it is followed, and folders
    that are there keep their owner and mode.
    """
    return _unpack_step("files.tar", f"copying {len(entries)} files")


def _unpack_step(name: str, title: str) -> host.Step:
    return host.step(
        "tar", "--extract", "--file", f"{INSIDE}/{name}", "--directory", "/", "--same-owner",
        "--same-permissions", "--keep-directory-symlink", "--no-overwrite-dir", title=title,
    )  # fmt: skip


def script_steps(script: Path, where: str, spec: Spec) -> list[host.Step]:
    """What runs a layer's script, once the image is seen to have what it is run by."""
    found = inputs.script_program(script, where, spec)
    command = ["env", f"PATH={host.ENV['PATH']}", *(["/bin/sh"] if found.by_shell else [])]
    needs = f"PATH={host.ENV['PATH']}\n{scripts.needs(found, where, str(script))}"
    return [
        host.step("/bin/sh", "-c", needs),
        host.step(*command, f"{INSIDE}/script", title=f"running {script.name}", blame=str(script)),
    ]


# ---------------------------------------------------------------- settings


def settings_entries(
    session: Session, made: Set[str] = frozenset(), only: Set[str] | None = None, *,
    locale_file: str,
) -> list[inputs.Entry]:  # fmt: skip
    """The files that `hostname`, `timezone`, `locale` and `apt_sources` make.

    `made` is what is the user's own of the tree: an /etc/hosts of theirs stays as it is. `only`
    some of these fields count. `locale_file` is as `locale_file()` found it.
    """
    settings = session.spec.settings
    fields = settings.given.keys() if only is None else only
    found: list[inputs.Entry] = []

    def add(target: str, text: str | bytes, kind: str = "file", mode: int = 0o644) -> None:
        content = text.encode() if isinstance(text, str) else text
        found.append(inputs.Entry(target=target, kind=kind, source=None, content=content,
                                  mode=mode, owner="0:0"))  # fmt: skip

    if "hostname" in fields:
        short = settings.hostname.partition(".")[0]
        names = f"{settings.hostname} {short}" if short != settings.hostname else short
        add("/etc/hostname", settings.hostname + "\n")
        if "etc/hosts" not in made:
            add("/etc/hosts", f"127.0.0.1\tlocalhost\n127.0.1.1\t{names}\n\n"
                "::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\n"
                "ff02::2\tip6-allrouters\n")  # fmt: skip
    if "timezone" in fields:
        add("/etc/timezone", settings.timezone + "\n")
        add("/etc/localtime", f"/usr/share/zoneinfo/{settings.timezone}", "link", 0o777)
    if "locale" in fields:
        add(locale_file, f"LANG={settings.locale}\n")
    if "apt_sources" in fields:
        for target, text in apt_files(session).items():
            add(target, text)
    return found


def locale_file(folder: Path, lower: Sequence[str]) -> str:
    """Where a stack of trees has the LANG of all: since Debian 13 /etc/default/locale is a link.

    systemd reads only what it leads to there, so the link is not to be replaced.
    """
    path = tree.find_in(folder, lower, "etc/default/locale")
    # As text: nothing of a tree is followed on the host.
    leads = os.readlink(path) if path is not None and path.is_symlink() else "locale"
    place = os.path.normpath(os.path.join("/etc/default", leads))
    return place if place == given.LOCALE_CONF else "/etc/default/locale"


def own_of(session: Session, number: int) -> dict[str, str]:
    """What `files` and scripts made of the layers below this one, by path the layer's name."""
    found: dict[str, str] = {}
    for stage in session.plan.layers[:number]:
        for path in session.cache.require(stage).facts.get("own", ()):
            found[str(path)] = stage.name
    return found


def uncontradicted(
    spec: Spec, entries: Sequence[inputs.Entry], made: Mapping[str, str], folder: Path,
    lower: Sequence[str],
) -> None:  # fmt: skip
    """BuildError where a setting would write over what is the user's own and says something else.

    `made` has the layer's name by path; the trees are those below."""
    for entry in entries:
        name = entry.target.lstrip("/")
        path = tree.find_in(folder, lower, name) if name in made else None
        if path is None:
            continue
        if own.content(path) != (entry.kind, entry.content.strip()):
            field = given.MADE_BY[entry.target]
            raise BuildError(
                f"{spec.path}: {field}: the layer {made[name]} makes {entry.target} itself, and "
                "it says something else", f"leave one of the two out: {field}, or the file",
            )  # fmt: skip


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


def _locale_line(locale: str) -> tuple[str, str]:
    """A line of locale.gen(5): the locale and its character map, "" where its name has none.

    glibc takes LANG=de_DE.utf8 for de_DE.UTF-8; localedef(1) and locale.gen only the latter.
    """
    name, _, rest = locale.partition(".")
    charmap, at, modifier = rest.partition("@")
    if charmap.lower() in ("utf8", "utf-8"):
        charmap = "UTF-8"
    return (f"{name}.{charmap}{at}{modifier}" if charmap else locale), charmap


# ---------------------------------------------------------------- what packages are shown

LOCALES = "locales/locales_to_be_generated"


def shown_env(shown: Mapping[str, str]) -> dict[str, str]:
    """The environment in which packages and scripts see these settings.

    Messages stay English, since we read what apt and dpkg say of a full disk: LANGUAGE rules them
    alone, gettext(3), and nothing that a package sets up is made of it.
    """
    found = {}
    if "timezone" in shown:
        found["TZ"] = shown["timezone"]
    if "locale" in shown:
        found |= {"LC_ALL": "", "LANG": shown["locale"], "LANGUAGE": "en"}
    return found


def shown_steps(shown: Mapping[str, str], answered: bool) -> list[host.Step]:
    """The commands that let packages and scripts see settings, before any is installed.

    The packages tzdata and locales take up what files say. Where debconf has an answer of the
    user's instead of locale.gen (`answered`), the locale is in it, too: see `with_locale`.
    """
    steps = [_unpack_step("shown.tar", f"showing {', '.join(sorted(shown))}")]
    locale = shown.get("locale", "")
    if locale and _generated(locale) and not answered:
        steps.append(host.step("/bin/sh", "-e", "-c", ADD_LOCALE, "sh", *_locale_line(locale),
                               "now"))  # fmt: skip
    return steps


def with_locale(layer: Layer, below: Sequence[Layer], locale: str) -> Layer:
    """The layer, whose answers name the locale beside those that the user has debconf generate.

    The same layer, where there is no such answer in it or below.
    """
    answers = [line.split(None, 3) for one in (*below, layer) for line in one.debconf]
    values = [words[3] if len(words) > 3 else "" for words in answers if words[1] == LOCALES]
    name, charmap = _locale_line(locale)
    # One without a character set is added later, when the tree has the table of these.
    if not values or not charmap or not _generated(locale):
        return layer
    line = f"{name} {charmap}"
    wanted = [one.strip() for one in values[-1].split(",") if one.strip()]
    if line not in wanted and "All locales" not in wanted:
        wanted.append(line)
    answer = f"locales {LOCALES} multiselect {', '.join(wanted)}"
    return replace(layer, debconf=(*layer.debconf, answer))


def settings_steps(session: Session) -> list[host.Step]:
    """The commands that check and apply what files alone do not."""
    settings = session.spec.settings
    where = str(session.spec.path)
    steps = []
    if settings.timezone:
        steps.append(_needed(f"/usr/share/zoneinfo/{settings.timezone}",
                             f"{where}: timezone: the image has no zone {settings.timezone}; "
                             "add the package tzdata, and tzdata-legacy for an old name such as "
                             "US/Eastern"))  # fmt: skip
    if settings.locale and _generated(settings.locale):
        steps.append(_needed("/usr/sbin/locale-gen",
                             f"{where}: locale: the image cannot make {settings.locale}; "
                             "add the package locales"))  # fmt: skip
        steps.append(host.step("/bin/sh", "-e", "-c", ADD_LOCALE, "sh",
                               *_locale_line(settings.locale)))  # fmt: skip
        steps.append(host.step("locale-gen", title=f"generating {settings.locale}"))
    if settings.root_password or settings.hashed_root_password:
        field = "root_password" if settings.root_password else "hashed_root_password"
        steps.append(host.step(
            "/bin/sh", "-e", "-c", SET_SHADOW, "sh",
            f"error: {where}: {field}: a package or a script has given root a password, or locked "
            f"the account: leave that out, or {field}", title="setting the password",
        ))  # fmt: skip
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
        if late := late_answers(spec, plan.lock, number):
            session.screen.line(own.late(layer.name, late))
    if locked.records:
        # Passwords are in no layer once it is done; these packages may ask for those given below.
        earlier_answers = [line for lower in spec.layers[:number] for line in lower.debconf
                           if inputs.is_password(line)]  # fmt: skip
        layer = replace(layer, debconf=(*earlier_answers, *layer.debconf))
    installed = plan.lock.installed(number + 1)
    if locked.records or locked.removes:
        known = {record.package for record in plan.lock.installed(number)}
        if "apt" not in known:
            raise BuildError(
                f"{spec.path}: layers.{layer.name}: the base has no apt to install packages with",
                "add apt to base.include, or choose a variant that has it",
            )
    debs.fetch(locked.records, session.cache, session.uris, spec, session.scratch, log)
    given_folder = session.scratch / f"in-{stage.key}"
    host.remove_tree(given_folder)
    given_folder.mkdir()
    given_folder.chmod(0o755)
    paths = debs.local_repository(given_folder / "repo", locked.records, session.cache, log)
    lower = session.trees.lower(below, log)
    epoch = _epoch(session, stage, below[-1], paths)
    made = own_of(session, number)
    lang = locale_file(session.trees.folder, lower)
    entries = (
        settings_entries(session, made.keys(), locale_file=lang)
        if settings
        else inputs.layer_entries(layer, spec)
    )
    shown: dict[str, str] = stage.inputs.get("shown", {})
    showing = []
    if shown:
        showing = settings_entries(session, made.keys(), shown.keys(), locale_file=lang)
    uncontradicted(spec, entries if settings else showing, made, session.trees.folder, lower)
    steps = [host.step("/bin/sh", "-e", "-c", SET_POLICY)]
    if shown:
        files_tar(given_folder / "shown.tar", showing, epoch)
        answered = False
        if tree.find_in(session.trees.folder, lower, "etc/locale.gen") is None:
            was, layer = layer, with_locale(layer, spec.layers[:number], shown.get("locale", ""))
            answered = layer is not was
        steps += shown_steps(shown, answered)
    if layer.debconf and not stage.inputs.get("debconf"):
        # Not the layer's own, which are in its key, but made of what is in those below.
        steps.append(host.step(*PRESEED))
    if not settings:
        steps += apt_steps(stage.inputs)
    with session.trees.upper(stage, lower) as upper:
        sandbox = host.Sandbox(
            base=upper.base, mounts=[upper.mount("root")], root="root",
            binds=[(str(given_folder), INSIDE)],
            writable=[(str(given_folder / Path(name).name), name)
                      for name in own.NOTES if layer.script is not None],
            keep=host.DPKG_CAPABILITIES, cwd="/",
            arches=[spec.arch, *spec.foreign],
            env={"SOURCE_DATE_EPOCH": str(epoch), "APT_CONFIG": f"{INSIDE}/apt.conf",
                 "SYSTEMD_OFFLINE": "1", "HOME": "/root", "PATH": PATH, **shown_env(shown)},
            hostname=shown.get("hostname", "localhost"),
        )  # fmt: skip
        _give(given_folder, layer, session, stage, settings, log)
        given_files: list[list[Any]] = []
        if entries:
            given_files = files_tar(given_folder / "files.tar", entries, epoch)
            if not settings:
                _unchanged(spec, layer, stage.inputs["files"], given_files)
            where = f"{spec.path}: layers.{layer.name}.files"
            steps += owner_steps(entries, where)
            reached = reached_steps(entries, where)
            steps += [*reached, files_step(entries), *reached]
        if settings:
            now = inputs.settings_identity(spec, plan.lock, session.mirrors)
            _unchanged(spec, layer, [["a keyring", stage.inputs["settings"]]], [["a keyring", now]])
            steps += settings_steps(session)
        if layer.script is not None:
            steps.append(own.before_step())
            steps += script_steps(layer.script, f"{spec.path}: layers.{layer.name}.script", spec)
            steps.append(own.after_step())
        steps.append(host.step("/bin/sh", "-e", "-c", UNSET_POLICY, title="tidying up"))
        naming = scripts.naming(f"{INSIDE}/script", str(layer.script)) if layer.script else None
        sandbox.run(*steps, log=log, what=f"layer {layer.name}", shown=naming)
        log.step("packing")
        if _is_debian(session):
            text = tree.dpkg_status(upper.base, [upper.name, *lower])
            script = f"{layer.script}" if layer.script is not None else ""
            tree.check_installed(text, installed, spec.arch, f"layer {layer.name}", script)
        if lost := own.replaced(upper, lower, _given_below(spec, number), entries):
            does = (f"the upgrade or removal of {lost.package} takes away" if lost.removes
                    else f"its package {lost.package} replaces")  # fmt: skip
            raise BuildError(
                f"{spec.path}: layers.{layer.name}: {does} {lost.target}, "
                f"which files of the layer {lost.layer} gave",
                f"give it in the layer {layer.name} or in a later one: files come after packages",
            )  # fmt: skip
        mine: set[str] = set()
        if not settings:
            where = f"{spec.path}: layers.{layer.name}.files"
            mine = own.files_made(own.places(upper.base, [upper.name, *lower], entries, where))
        if layer.script is not None:
            before, left = (own.noted(given_folder / Path(name).name) for name in own.NOTES)
            mine |= own.script_made(upper.path, own.sums(before))
            if left:
                session.screen.line(own.warning(layer, left))
        drawn = []
        if locked.records:
            drawn = identities.sweep(identities.Tree(
                upper=upper.path, epoch=epoch,
                below=functools.partial(tree.find_in, upper.base, lower),
                kept={*mine, *made, *(entry.target.lstrip("/") for entry in entries)},
                given={one[2] for one in given_files if one[1] == "file"},
            ))  # fmt: skip
        identities.note(drawn, log)
        tree.sweep(upper.path, kept={*mine, *own.shielded(upper, lower, made)})
        debconf.sweep(upper.base, upper.name, lower)
        rare = tree.clamp_times(upper.path, epoch, upper.begun)
        if rare.sockets:
            session.screen.line(own.sockets(layer.name, rare.sockets))
        facts = {**tree.facts(epoch, installed, upper.path), "drawn": identities.facts(drawn)}
        if mine:
            facts["own"] = sorted(mine)
        with session.cache.put(stage, facts) as target:
            tree.pack(upper.path, target, log, rare=rare, size=facts["size"])
    host.remove_tree(given_folder)


def _given_below(spec: Spec, number: int) -> dict[str, str]:
    """What `files` of the layers below this one gave: by target the layer's name."""
    return {entry.target: layer.name for layer in spec.layers[:number]
            for entry in inputs.layer_entries(layer, spec) if entry.kind != "folder"}  # fmt: skip


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
    folder: Path, layer: Layer, session: Session, stage: Stage, settings: bool, log: host.Log
) -> None:  # fmt: skip
    """Fill the folder that the sandbox sees at INSIDE."""
    (folder / "policy-rc.d").write_text(POLICY)
    (folder / "apt.conf").write_text(inside_apt_conf(own=False))
    (folder / "own.conf").write_text(inside_apt_conf(own=True))
    (folder / "dpkg").write_text(DPKG)
    (folder / "dpkg").chmod(0o755)
    (folder / "bin").mkdir()
    (folder / "bin/mkinitramfs").write_text(MKINITRAMFS)
    (folder / "bin/mkinitramfs").chmod(0o755)
    (folder / "sources.list").write_text(f"deb [trusted=yes] file:{INSIDE}/repo ./\n")
    if layer.debconf:
        (folder / "debconf").mkdir()
        for number, text in enumerate(preseeds(layer.debconf)):
            (folder / f"debconf/{number:06}").write_text(text, encoding="utf-8")
    if layer.script is not None:
        for name in own.NOTES:
            (folder / Path(name).name).touch()
        shutil.copyfile(layer.script, folder / "script")
        (folder / "script").chmod(0o755)
        digest = [str(layer.script), inputs.file_digest(folder / "script")]
        _unchanged(session.spec, layer, [[digest[0], stage.inputs["script"]]], [digest])
    if settings:
        shadow = inputs.shadow_field(session.spec, session.plan.lock)
        path = folder / "shadow"
        path.touch(mode=0o600)
        path.write_text(re.sub(r"[:\n]", "", shadow))
        if shadow:
            # The tree's own locale-gen sees it, and may print what it likes.
            mask = log.mask
            log.mask = lambda text: mask(text.replace(shadow, "***"))
