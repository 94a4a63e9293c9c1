"""A layer's script: how it is run, what it is refused for, and what its messages call it."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from support import samples
from support.trees import only_root, tree_of
from support.world import World
from tasks.errors import BuildError
from tasks.plan import scripts
from tasks.plan.entries import script_identity

PATH = "specs/scripts/fail.sh"


INSIDE = "/dev/.strata/in/script"


def elf(machine: int, *, bits: int = 64, order: str = "<", loader: str = "") -> bytes:
    """The head of a program with one program header, that of its loader if it has one."""
    wide = bits == 64
    size = 64 if wide else 52
    name = loader.encode() + b"\0" if loader else b""
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    word = "Q" if wide else "I"
    entry = 56 if wide else 32
    head = ident + struct.pack(order + "HHI" + 3 * word + "I6H", 2, machine, 1, 0, size, 0, 0,
                               size, entry, 1, 0, 0, 0)  # fmt: skip
    at = size + entry
    kind = 3 if loader else 1
    if wide:
        header = struct.pack(order + "II6Q", kind, 4, at, 0, 0, len(name), len(name), 1)
    else:
        header = struct.pack(order + "8I", kind, at, 0, 0, len(name), len(name), 4, 1)
    return head + header + name


@pytest.mark.parametrize(
    ("content", "by_shell", "interpreter"),
    [
        (b"", True, "/bin/sh"),
        (b"echo\n", True, "/bin/sh"),
        (b"\n#!/usr/bin/perl\n", True, "/bin/sh"),
        (b"#!/bin/sh", False, "/bin/sh"),
        (b"#! \t/usr/bin/perl -w\n", False, "/usr/bin/perl"),
        (b"#!/usr/bin/env python3\n", False, "python3"),
        (b"#!/usr/bin/env -S -u HOME A=1 python3 -u\n", False, "python3"),
        (b"#!/usr/bin/env -i\n", False, "/usr/bin/env"),
        (b'#!/usr/bin/env -S "perl" -w\n', False, "perl"),
        (b"#!/usr/bin/env -S 'A=1 2' per'l' -e 's/\\s//'\n", False, "perl"),
        (b"#!/usr/bin/env\t-Spython3 -u\n", False, "python3"),
        (b"#!/usr/bin/env --split-string=-u HOME python3\n", False, "python3"),
        (b"#! /usr/bin/env -iS -C /tmp A=1 bash\n", False, "bash"),
        (b"#!/usr/bin/env -S -i -vS ruby -w\n", False, "ruby"),
        # What only env(1) can say.
        (b"#!/usr/bin/env -S ${HOME}/run\n", False, "/usr/bin/env"),
        (b"#!/usr/bin/env -S \\_perl\n", False, "/usr/bin/env"),
        (b"#!/usr/bin/env -S 'perl\n", False, "/usr/bin/env"),
        (b"#!/usr/bin/env -S # perl\n", False, "/usr/bin/env"),
        (b"#!python3\n", False, "/python3"),
        (b"#!/bin/sh " + b"-" * 200 + b"\n", False, "/bin/sh"),
        (b"#!/usr/bin/python3\nprint(1)\r\nprint(2)\r\n", False, "/usr/bin/python3"),
        (b"#!/bin/sh\ncat > /x << END\r\nGET /\r\nEND\r\ntrue\ntrue\ntrue\n", False, "/bin/sh"),
        (b"#!/bin/sh\ntail -c+30 $0\nexit\n\0\0\r\n", False, "/bin/sh"),
        (elf(62), False, ""),
        (elf(62, loader="/lib64/ld-linux-x86-64.so.2"), False, "/lib64/ld-linux-x86-64.so.2"),
        (elf(62, loader="/ld.so\0x"), False, "/ld.so"),
        (elf(3, bits=32, loader="/lib/ld-linux.so.2"), False, "/lib/ld-linux.so.2"),
    ],
)
def test_how_a_script_is_run(content: bytes, by_shell: bool, interpreter: str) -> None:
    found = scripts.program(content, "w", PATH, "amd64")
    assert (found.by_shell, found.interpreter) == (by_shell, interpreter)


@pytest.mark.parametrize(
    ("content", "line", "part"),
    [
        (b"#!/bin/sh\r\necho\r\n", ":1", "CR LF"),
        (b"#!/bin/sh\recho\r", ":1", "end in CR,"),
        (b"#!/usr/bin/python3\r\nprint()\n", ":1", "CR LF"),
        (b"#!/bin/sh\nset -e\r\necho\r\n", ":2", "CR LF"),
        (b"#!/usr/bin/env bash\n\nset -e\r\necho\r\necho\r\n", ":3", "CR LF"),
        (b"echo\r\n", ":1", "CR LF"),
        (b"\xef\xbb\xbf#!/bin/sh\n", ":1", "byte order mark"),
        ("#!/bin/sh\n".encode("utf-16"), ":1", "byte order mark"),
        (b"#!\necho\n", ":1", "names no interpreter"),
        (b"#! \n", ":1", "names no interpreter"),
        (b"#!/bin/sh " + b"-" * 246 + b"\n", ":1", "255 bytes"),
        (b"#!/bin/sh\0\necho\n", ":1", "NUL byte"),
        (b"#!/usr/bin/env -S python3\0 -u\n", ":1", "NUL byte"),
        (b"MZ\x90\0\x03\0", "", "neither text nor a Linux program"),
        (elf(183), "", "another machine than amd64"),
        (elf(22, order=">"), "", "another machine than amd64"),
        (elf(62, loader="/ld")[:70], "", "no whole program"),
        (b"\x7fELF", "", "no whole program"),
        (elf(62)[:32] + b"\xff" * 8 + elf(62)[40:], "", "no whole program"),
        (elf(3, bits=32)[:28] + b"\xff" * 4 + elf(3, bits=32)[32:], "", "no whole program"),
    ],
)
def test_what_a_script_is_refused_for(content: bytes, line: str, part: str) -> None:
    with pytest.raises(BuildError) as caught:
        scripts.program(content, "specs/web.yaml: layers.app.script", PATH, "amd64")
    message = caught.value.message
    assert message.startswith(f"specs/web.yaml: layers.app.script: {PATH}{line}: ")
    assert part in message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"{INSIDE}: 5: foo: not found", f"{PATH}:5: foo: not found"),
        (f"{INSIDE}: line 12: foo: command not found", f"{PATH}:12: foo: command not found"),
        (f'  File "{INSIDE}", line 5, in <module>', f'  File "{PATH}:5", in <module>'),
        (f"Can't open x at {INSIDE} line 7.", f"Can't open x at {PATH}:7."),
        (f"{INSIDE}:3:in `<main>': x (RuntimeError)", f"{PATH}:3:in `<main>': x (RuntimeError)"),
        (f"{INSIDE}: 1: {INSIDE}: x: not found", f"{PATH}:1: {PATH}: x: not found"),
        (f"usage: {INSIDE} [-h]", f"usage: {PATH} [-h]"),
        ("/dev/.strata/in/other: 5: x", "/dev/.strata/in/other: 5: x"),
    ],
)
def test_what_its_messages_call_it(said: str, shown: str) -> None:
    assert scripts.naming(INSIDE, PATH)(said) == shown


def test_path_with_a_backslash_is_shown_as_it_is() -> None:
    assert scripts.naming(INSIDE, r"a\1b")(f"{INSIDE}: 5: x") == r"a\1b:5: x"


def test_script_is_looked_at_before_anything_is_built(tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_bytes(b"#!/bin/sh\r\n")
    spec = samples.load(tmp_path, layers=[{"name": "app", "script": "a.sh"}])
    with pytest.raises(BuildError, match=re.escape("a.sh:1: its lines end in CR LF")):
        script_identity(spec.layers[0], spec)


@pytest.mark.root
def test_messages_of_a_script_name_it_and_its_line(built: World) -> None:
    def fails(text: str, *parts: str) -> None:
        built.write("scripts/app.sh", text)
        said = built.refused(*parts)
        assert "/dev/.strata" not in said
        assert "/dev/.strata/in/script" not in (built.root / "out/web/log/layer-app.log").read_text(
        ).partition("running app.sh")[2]  # fmt: skip

    fails("#!/bin/sh\nset -eu\n\necho so far\nnosuch command\n",
          "layer app failed (exit status 127): specs/scripts/app.sh",
          "specs/scripts/app.sh:5: nosuch: not found")  # fmt: skip
    fails(
        "#!/bin/bash\nset -u\n\necho $nosuch\n", "specs/scripts/app.sh:4: nosuch: unbound variable"
    )
    fails("#!/usr/bin/perl\ndie 'so';\n", "so at specs/scripts/app.sh:2.")
    fails("#!/usr/bin/env python3\n", "layer app failed", "layers.app.script: specs/scripts/app.sh: "
          "the image has no python3 to run it; add the package python3")  # fmt: skip
    fails("#!/bin/sh\nkill -SEGV $$\n", "(exit status 139): specs/scripts/app.sh:", "by SIGSEGV")
    fails("#!/bin/sh\nexit 4\n", "(exit status 4): specs/scripts/app.sh; it said nothing")
    fails("#!/opt/own/bin/run\n", "the image has no /opt/own/bin/run to run it")


@pytest.mark.root
def test_script_is_run_by_its_first_line_whatever_its_mode(built: World, tmp_path: Path) -> None:
    only_root(built)
    text = "#!/usr/bin/perl -w\nopen(my $f, '>', '/proof'); print $f \"$0 perl\\n\";\n"
    built.write("scripts/app.sh", text, 0o644)
    assert built.build()["app"] == "built"
    with tree_of(built, tmp_path) as root:
        assert (root / "proof").read_text().endswith(" perl\n")
    (built.root / "specs/scripts/app.sh").chmod(0o755)
    assert set(built.build().values()) == {"hit"}
