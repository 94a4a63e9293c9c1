"""Hostname, time zone, locale, password and apt sources: shown to packages, and written at last."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

from ..debian import apt
from ..errors import BuildError
from ..host.sandbox import Step, step
from ..plan.entries import Entry
from ..plan.repositories import signed_by
from ..rootfs import paths
from ..session.session import Session
from ..spec import given
from ..spec.model import Layer, Spec
from . import own
from .files import unpack_step
from .install import INSIDE

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


# ---------------------------------------------------------------- settings


def settings_entries(
    session: Session, made: Set[str] = frozenset(), only: Set[str] | None = None, *,
    locale_file: str,
) -> list[Entry]:  # fmt: skip
    """The files that `hostname`, `timezone`, `locale` and `apt_sources` make.

    `made` is what is the user's own of the tree: an /etc/hosts of theirs stays as it is. `only`
    some of these fields count. `locale_file` is as `locale_file()` found it.
    """
    settings = session.spec.settings
    fields = settings.given.keys() if only is None else only
    found: list[Entry] = []

    def add(target: str, text: str | bytes, kind: str = "file", mode: int = 0o644) -> None:
        content = text.encode() if isinstance(text, str) else text
        found.append(Entry(target=target, kind=kind, source=None, content=content,
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


def own_of(session: Session, number: int) -> dict[str, str]:
    """What `files` and scripts made of the layers below this one, by path the layer's name."""
    found: dict[str, str] = {}
    for stage in session.plan.layers[:number]:
        for path in session.cache.require(stage).facts.get("own", ()):
            found[str(path)] = stage.name
    return found


def uncontradicted(
    spec: Spec, entries: Sequence[Entry], made: Mapping[str, str], folder: Path,
    lower: Sequence[str],
) -> None:  # fmt: skip
    """BuildError where a setting would write over what is the user's own and says something else.

    `made` has the layer's name by path; the trees are those below."""
    for entry in entries:
        name = entry.target.lstrip("/")
        path = paths.find_in(folder, lower, name) if name in made else None
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
        path, content = signed_by(repo, session.spec, session.plan.lock)
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


def shown_steps(shown: Mapping[str, str], answered: bool) -> list[Step]:
    """The commands that let packages and scripts see settings, before any is installed.

    The packages tzdata and locales take up what files say. Where debconf has an answer of the
    user's instead of locale.gen (`answered`), the locale is in it, too: see `with_locale`.
    """
    steps = [unpack_step("shown.tar", f"showing {', '.join(sorted(shown))}")]
    locale = shown.get("locale", "")
    if locale and _generated(locale) and not answered:
        steps.append(step("/bin/sh", "-e", "-c", ADD_LOCALE, "sh", *_locale_line(locale),
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


def settings_steps(session: Session) -> list[Step]:
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
        steps.append(step("/bin/sh", "-e", "-c", ADD_LOCALE, "sh",
                               *_locale_line(settings.locale)))  # fmt: skip
        steps.append(step("locale-gen", title=f"generating {settings.locale}"))
    if settings.root_password or settings.hashed_root_password:
        field = "root_password" if settings.root_password else "hashed_root_password"
        steps.append(step(
            "/bin/sh", "-e", "-c", SET_SHADOW, "sh",
            f"error: {where}: {field}: a package or a script has given root a password, or locked "
            f"the account: leave that out, or {field}", title="setting the password",
        ))  # fmt: skip
    return steps


def _needed(path: str, message: str) -> Step:
    return step("/bin/sh", "-c", f"test -e {shlex.quote(path)} || "
                     f"{{ echo {shlex.quote('error: ' + message)}; exit 1; }}")  # fmt: skip
