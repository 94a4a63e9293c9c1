"""A layer's script: by what it is run, what it cannot be run for, and what its messages call it."""

from __future__ import annotations

import re
import shlex
import struct
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import BuildError

LINE_LIMIT = 255
"""Bytes of a `#!` line: Linux reads no more of it and cuts the rest off (fs/binfmt_script.c)."""


SHELLS = ("sh", "bash", "dash", "ash", "busybox", "ksh", "mksh", "zsh")


# The Debian package of the interpreters that scripts name most.
PACKAGES = {
    "python3": "python3", "python": "python-is-python3", "perl": "perl", "ruby": "ruby",
    "node": "nodejs", "nodejs": "nodejs", "php": "php-cli", "lua": "lua5.4", "awk": "mawk",
    "gawk": "gawk", "tclsh": "tcl", "expect": "expect", "Rscript": "r-base-core", "zsh": "zsh",
    "bash": "bash", "ksh": "ksh93u+m", "fish": "fish", "make": "make", "guile": "guile-3.0",
    "env": "coreutils", "busybox": "busybox", "mksh": "mksh", "dash": "dash",
    "ld-linux-x86-64.so.2": "libc6", "ld-linux.so.2": "libc6:i386",
    "ld-linux-aarch64.so.1": "libc6", "ld-linux-armhf.so.3": "libc6",
    "ld-musl-x86_64.so.1": "musl",
}  # fmt: skip


# env(1): options that split what follows, and those whose value is the next word.
ENV_SPLITS = re.compile(r"-[i0v]*S|--s[a-z-]*=")

ENV_TAKES = re.compile(r"-[i0v]*[uCa]|--(unset|chdir|argv0)")

ENV_WORD = re.compile(r"""\s*((?:[^\s"'\\$]|"[^"\\$]*"|'[^'\\]*')+)(?=\s|$)""")


# elf.h: e_machine of the programs that an image of each architecture runs.
MACHINES = {
    "amd64": (62, 3), "i386": (3,), "arm64": (183, 40), "armhf": (40,), "ppc64el": (21,),
    "riscv64": (243,), "s390x": (22,),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Program:
    """How a script is run: `by_shell`, or as it is; what it needs in the image, or "".

    `interpreter` is a path or, where env(1) looks for it, a name.
    """

    by_shell: bool
    interpreter: str


def program(content: bytes, where: str, path: str, arch: str) -> Program:
    """How a script of these bytes is run, whatever its mode: by its `#!` line, if it has one.

    A program of the image's architecture is run as it is, all else by /bin/sh, as a shell would.
    Raises BuildError, with the script's path and line, for what would fail with a riddle.
    """

    def refuse(what: str, hint: str, line: str = ":1") -> BuildError:
        return BuildError(f"{where}: {path}{line}: {what}", hint)

    if content[:4] == b"\x7fELF":
        return Program(by_shell=False, interpreter=_elf(content, arch, refuse))
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise refuse(
            "it begins with a byte order mark, so that its `#!` line is not seen as one",
            "save it as plain UTF-8, without a BOM",
        )
    first = content.partition(b"\n")[0]
    line = first[2:].decode("utf-8", "replace") if first[:2] == b"#!" else "/bin/sh"
    words = line.split()
    _check_line_ends(content, line, path, refuse)
    if first[:2] != b"#!":
        if b"\0" in content[:4096]:
            raise refuse(
                "it is neither text nor a Linux program",
                "give a script, or a program of the image's architecture",
                "",
            )
        return Program(by_shell=True, interpreter="/bin/sh")
    if not words:
        raise refuse("its `#!` line names no interpreter", "write one, such as #!/bin/sh")
    if len(first) > LINE_LIMIT:
        raise refuse(
            f"its `#!` line is longer than the {LINE_LIMIT} bytes that Linux reads", "shorten it"
        )
    if b"\0" in first:
        raise refuse(
            "its `#!` line has a NUL byte in it, which no name and no option may have",
            "save it as plain text",
        )
    # One without a folder is looked for in the working directory, which is /.
    direct = words[0] if words[0].startswith("/") else f"/{words[0]}"
    return Program(by_shell=False, interpreter=_searched(line) or direct)


def _check_line_ends(
    content: bytes, line: str, path: str, refuse: Callable[..., BuildError]
) -> None:
    """BuildError where carriage returns end the `#!` line, or most lines of a shell's script.

    Here-documents may have some.
    """
    first = content.partition(b"\n")[0]
    number = 0
    if first[:2] == b"#!" and b"\r" in first:
        number = 1
    elif line.strip() and (_searched(line) or line.split()[0]).rpartition("/")[2] in SHELLS:
        lines = content.rstrip(b"\n").split(b"\n")
        bad = [n for n, line in enumerate(lines, 1) if line.endswith(b"\r")]
        if 2 * len(bad) > len(lines):
            number = bad[0]
    if number and b"\r\n" not in content:
        raise refuse(
            "its lines end in CR, as on old Macs, so that all of it is one line",
            "end them in LF",
            f":{number}",
        )
    if number:
        raise refuse(
            "its lines end in CR LF, as on Windows, and the CR counts as part of each",
            f"sed -i 's/\\r$//' {shlex.quote(path)}; for git: *.sh text eol=lf in .gitattributes",
            f":{number}",
        )


def _searched(line: str) -> str:
    """The name that `/usr/bin/env NAME` looks for, "" for another line, or where it is not plain.

    Linux hands env(1) all that follows as one argument, which -S splits as a shell would. What a
    backslash or a `$` makes of it only env itself says, when it is run.
    """
    interpreter, given, *_ = [*re.split(r"[ \t]+", line.strip(), maxsplit=1), ""]
    if interpreter.rpartition("/")[2] != "env":
        return ""
    if not (split := ENV_SPLITS.match(given)):
        word = given.partition(" ")[0]
        return "" if word.startswith("-") or "=" in word else word
    at = split.end()
    passed = False
    while found := ENV_WORD.match(given, at):
        at = found.end()
        quoted = found[1]
        if quoted.startswith("#"):
            return ""
        word = "".join(shlex.split(quoted))
        if passed:
            passed = False
        elif again := ENV_SPLITS.match(quoted):
            at = found.start(1) + again.end()
        elif ENV_TAKES.fullmatch(word):
            passed = True
        elif not word.startswith("-") and "=" not in word:
            return word
    return ""


def _elf(content: bytes, arch: str, refuse: Callable[..., BuildError]) -> str:
    """The dynamic loader that a program names, "" for a static one; BuildError for another arch."""
    order = "<" if content[5:6] == b"\x01" else ">"
    wide = content[4:5] == b"\x02"
    try:
        (machine,) = struct.unpack_from(f"{order}H", content, 18)
        if machine not in MACHINES[arch]:
            raise refuse(
                f"it is a program of another machine than {arch}", f"build it for {arch}", ""
            )
        (begin,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", content, 32 if wide else 28)
        size, count = struct.unpack_from(f"{order}HH", content, 54 if wide else 42)
        for at in range(begin, begin + size * count, size):
            if struct.unpack_from(f"{order}I", content, at)[0] == 3:  # PT_INTERP
                form, there, long = ("Q", 8, 32) if wide else ("I", 4, 16)
                (offset,) = struct.unpack_from(order + form, content, at + there)
                (length,) = struct.unpack_from(order + form, content, at + long)
                name = content[offset : offset + length].partition(b"\0")[0]
                return name.decode("utf-8", "replace")
    except (struct.error, ValueError, OverflowError) as error:
        raise refuse("it is no whole program", "give the whole file", "") from error
    return ""


def needs(found: Program, where: str, path: str) -> str:
    """A line of sh that ends a layer with a message where the image lacks the interpreter."""
    if not found.interpreter:
        return ":"
    name = found.interpreter.rpartition("/")[2]
    package = PACKAGES.get(name, "")
    hint = f"add the package {package}" if package else "add the package that has it"
    test = shlex.quote(found.interpreter)
    test = (
        f"{{ test -f {test} && test -x {test}; }}"
        if "/" in test
        else f"command -v {test} > /dev/null"
    )
    message = f"error: {where}: {path}: the image has no {found.interpreter} to run it; {hint}"
    return f"{test} || {{ echo {shlex.quote(message)}; exit 1; }}"


def naming(inside: str, path: str) -> Callable[[str], str]:
    """Puts the script's own path, and the line as PATH:LINE, where its interpreter names it.

    As sh, bash, python and perl write it; others at least get the path.
    """
    place = re.compile(rf'{re.escape(inside)}("?)(?:: line |, line | line |: |:)(\d+)\b(?!\.\d)')

    def named(text: str) -> str:
        return place.sub(rf"{_plain(path)}:\2\1", text).replace(inside, path)

    return named


def _plain(text: str) -> str:
    """text as it stands in what re.sub puts in."""
    return text.replace("\\", r"\\")
