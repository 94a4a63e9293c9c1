"""Which of the spec's settings a package's scripts look at: a scan of .debs and of layers' scripts.

A layer whose packages look at none sees neutral values, and a changed setting leaves it alone. The
scan is a function of the .deb's bytes, so it is made once, when the .deb is locked.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import BuildError
from .deb import LIMIT as LIMIT
from .deb import control_members

SCRIPTS = ("preinst", "postinst", "config")
"""What runs when a package is installed; triggers are taken up by postinst, and removals keep
nothing. Templates hold questions alone: their answers come from config."""


def _variable(names: bytes) -> bytes:
    """What looks at one of these variables of the environment, in any language.

    `$TZ`, or its name wherever it stands (`printenv TZ`, `$ENV{TZ}`, `os.environ["TZ"]`, `env.TZ`)
    unless it is set there.
    """
    return (
        rb"\$\{?(::)?(?:%b)\b|(?<![\w%%@</-])(?:%b)(?![\w@%%>/]|[\"']?[\])}]?\s*=(?![=~]))"
        rb"|\^(?:%b)="
    ) % (names, names, names)


_DUMP = (rb"|\bprintenv[ \t]*(?:$|[|>;)`&])|\benv[ \t]*(?:-0[ \t]*)?[|>]"
         rb"|\b(?:export|declare)[ \t]+-p|\bset[ \t]*\||(?:^|[`;(])[ \t]*env[ \t]*(?:$|[;)`])"
         rb"|/proc/(?:self|\$\$)/environ\b")  # fmt: skip
"""All of the environment at once."""


# date(1) as a command, not told another zone: its own form, one with the zone in it, or the zone's
# form of a time that is given. A format of day and hour says when, and that is other each time.
_DATE = (rb"|(?:^|[`;|&(]|\b(?:then|do|else)[ \t])[ \t]*(?:(?!TZ=)\w+=\S{0,200}[ \t]+)*"
         rb"(?:/usr)?(?:/bin/)?date(?![\w.=/-])"
         rb"(?![^\n`);|&]{0,200}(?:[ \t]-\w*u|--u|\+[\"']?%s\b))"
         rb"(?=[ \t]*(?:$|[`);|>&])|[^\n`);|&]{0,200}(?:%:*[zZc]|[ \t]-\w*[dIrR]|[ \t]--))"
         )  # fmt: skip


# What asks, and programs that ask in their place: these were found by reading all programs that the
# postinst of the packages in docs/design.md call.
WORDS = {
    "hostname": rb"(?<![\w./${-])(/bin/|/usr/bin/)?(hostname|dnsdomainname|hostnamectl)(?![\w.=/-])"
                rb"|/etc/(hostname|mailname)\b|/etc/hosts(?![\w.])|shared/mailname|/mailname\b"
                rb"|\buname(\s+-[\w-]+)*\s+(-\w*[an]|--[an])|\buname\s*\(|php_uname|\.uname\b"
                rb"|\bPOSIX\b[^\n;]{0,200}\buname\b|=\s*\(?uname\b|\.hostname\s*\(|\bkernel[./]hostname\b"
                rb"|Sys::Hostname|gethostname|getfqdn|platform\.node|Sys\.info\b"
                rb"|\bmake-ssl-cert\b|\bupdate-exim4\.conf\b|\b(mysql|mariadb)[_-]install[_-]db\b"
                rb"|\bsendmailconfig\b|\bcommon-functions\.dpkg\b|"
                + _variable(rb"HOSTNAME") + _DUMP,
    "timezone": rb"/etc/timezone\b|/etc/localtime\b|\btimedatectl\b|tzdata/(Areas|Zones)"
                rb"|\bconfigure_version\b|\bpg_createcluster\b|\binitdb\b"
                rb"|(?<![/\w-])localtime(?![\w.-])|\bstrftime\b|\btzname\b|\btzset\b|\baltzone\b"
                rb"|\btime\.timezone\b|\bastimezone\b|\bfromtimestamp\b|\bdatetime\.now\b"
                rb"|\bTime\.(now|at|local|mktime)\b|\bos\.date\b|\bSys\.timezone\b|\bIntl\.(?=[A-Z])"
                rb"|\bgetTimezoneOffset\b|%\([^\s()]*\)T|\bclock\s+format\b|"
                + _variable(rb"TZ") + _DUMP + _DATE,
    "locale": rb"/etc/default/locale\b|/etc/locale\.(gen|conf)\b"
              rb"|(?<![\w./${-])(/usr/bin/)?locale(?![\w.=/-])|\blocale-gen\b|\blocalectl\b"
              rb"|\bsetlocale\b|\bsetupcon\b|locales/(locales_to_be|default_env)"
              rb"|\bconfigure_version\b|\bpg_createcluster\b|\binitdb\b|langinfo\b|Langinfo\b"
              rb"|\bgetlocale\b|\bget(default|preferred)(locale|encoding)\b|\bdefault_external\b"
              rb"|\bIntl\.(?=[A-Z])|" + _variable(rb"LANG|LANGUAGE|LC_[A-Z]*") + _DUMP,
}  # fmt: skip


# What each of these words has in it: to look for plain bytes takes a tenth of the time.
_ENVIRON = (b"env", b"export", b"declare", b"set")

STEMS = {
    "hostname": (b"hostname", b"HOSTNAME", b"Hostname", b"domainname", b"mailname", b"/etc/hosts",
                 b"uname", b"getfqdn", b"platform.node", b"make-ssl-cert", b"update-exim4",
                 b"install-db", b"install_db", b"sendmailconfig", b"common-functions", b"Sys.info",
                 *_ENVIRON),
    "timezone": (b"time", b"Time", b"TZ", b"tz", b"altzone", b"date", b"Intl.", b")T", b"clock",
                 b"configure_version", b"createcluster", b"initdb", *_ENVIRON),
    "locale": (b"LANG", b"LC_", b"locale", b"setupcon", b"configure_version", b"createcluster",
               b"initdb", b"anginfo", b"encoding", b"external", b"Intl.", *_ENVIRON),
}  # fmt: skip


_COMMENT = re.compile(rb"^[ \t]*#.*$", re.MULTILINE)


# Comments, and what takes a variable away or hands it on without a look at it.
_PASSED_OVER = re.compile(rb"^[ \t]*#.*$|\b(?:unset|export)\b(?:[ \t]+-\w+)*(?:[ \t]+\w+\b(?!=))+"
                          rb"|\bdelete[ \t(]+\S+", re.MULTILINE)  # fmt: skip


NOTHING = {"locales", "locales-all", "tzdata", "tzdata-legacy", "netbase", "base-files",
           "libc-bin", "libc6"}  # fmt: skip
"""Packages that set what others read, as the last layer does, too: alone they need no value."""


def of_text(text: bytes) -> set[str]:
    """The settings that a script in any language may look at; lines that are comments do not."""
    may = [name for name, stems in STEMS.items() if any(stem in text for stem in stems)]
    said = _PASSED_OVER.sub(b"", text) if may else b""
    # Compiled, and kept, by re where a script is looked at: a build with nothing to do has none.
    return {name for name in may if re.search(WORDS[name], said, re.MULTILINE)}


def code(text: bytes) -> bytes:
    """A script without the lines that are comments."""
    return _COMMENT.sub(b"", text)


def of_deb(path: Path, package: str) -> set[str]:
    """The settings that a package's maintainer scripts may look at.

    BuildError for what is no .deb, or whose control archive is not to be read.
    """
    if package in NOTHING:
        return set()
    try:
        scripts = control_scripts(path)
    except (OSError, ValueError) as error:
        raise BuildError(f"{path}: its maintainer scripts cannot be read: {error}") from error
    return set().union(*map(of_text, scripts))


def control_scripts(path: Path) -> list[bytes]:
    """The SCRIPTS of a .deb."""
    with path.open("rb") as file:
        return list(control_members(file, SCRIPTS, whole=False).values())
