"""Record what builds show, on terminals of 60 and 120 columns and in a log: docs/sessions/, docs/terminal.svg.

    python tests/bench/sessions.py [picture]

Builds the spec `layered` in a project of its own, with this host's mirror: minutes, as root. A text of a terminal has
what stood on it at some moments, below how many seconds had passed, and in the end.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]

from support.terminals import Recorded, record  # noqa: E402

SPEC = "layered"
WIDTHS = (60, 120, 0)
"""0: not a terminal."""
MOMENTS = 5
PICTURE = 90
"""Columns of the picture's terminal."""


def main() -> None:
    """Make them all, or the picture alone."""
    docs = PROJECT / "docs"
    (docs / "sessions").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="strata-sessions-") as place:
        project = Path(place)
        prepare(project)
        build(project, 0)  # so that there are times to guess by
        for columns in WIDTHS if sys.argv[1:] != ["picture"] else ():
            for name, text in sessions(project, columns):
                (docs / "sessions" / f"{name}-{columns or 'log'}.txt").write_text(text)
        page = project / "specs/files/index.html"
        page.write_text(page.read_text() + "<p>changed again\n")
        _text, seen = build(project, PICTURE)
        assert seen is not None
        (docs / "terminal.svg").write_text(picture(seen))


def prepare(project: Path) -> None:
    """A project with the spec, and what it names."""
    for name in ("dodo.py", "tasks"):
        (project / name).symlink_to(PROJECT / name)
    specs = project / "specs"
    specs.mkdir()
    shutil.copy(PROJECT / "specs/spec.schema.json", specs)
    shutil.copy(PROJECT / f"specs/{SPEC}.yaml", specs)
    for folder in ("files", "scripts"):
        shutil.copytree(PROJECT / "specs" / folder, specs / folder)


def build(
    project: Path, columns: int, *words: str, send: tuple[str, int] | None = None
) -> tuple[str, Recorded | None]:
    """A build as text, and as it was recorded."""
    argv = [sys.executable, "-m", "doit", "build", f"spec={SPEC}", *words]
    env = {**os.environ, "TERM": "xterm-256color", "STRATA_PROGRAM": "strata"}
    shown = f"$ strata build {SPEC}{''.join(f' {word}' for word in words)}\n"
    if columns:
        seen = record(argv, project, env, columns=columns, send=send)
        return shown + moments(seen), seen
    process = subprocess.Popen(argv, cwd=project, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)  # fmt: skip
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if send is not None and send[0] in line:
            process.send_signal(send[1])
            send = None
    return shown + text + f"(exit status {process.wait()})\n", None


def moments(seen: Recorded) -> str:
    """Some of what stood there: while a bar was drawn, and in the end."""
    drawn = [(when, lines) for when, lines in seen.screens() if any("━" in line for line in lines)]
    picked = (
        [drawn[len(drawn) * number // MOMENTS] for number in range(1, MOMENTS)] if drawn else []
    )
    texts = [f"({when:.1f} s)\n" + "\n".join(lines) for when, lines in picked]
    end = "\n".join(seen.left())
    return "\n\n".join([*texts, f"(in the end: exit status {seen.code})\n{end}"]) + "\n"


def sessions(project: Path, columns: int) -> Iterator[tuple[str, str]]:
    """(its name, its text) of each session."""
    page, script = project / "specs/files/index.html", project / "specs/scripts/site.sh"
    kept = page.read_text(), script.read_text()
    for folder in ("cache", "out"):
        shutil.rmtree(project / folder, ignore_errors=True)
    yield "cold", build(project, columns)[0]
    page.write_text(kept[0] + "<p>changed\n")
    yield "rebuild", build(project, columns, "lock=keep")[0]
    script.write_text(kept[1] + "cp /etc/nothing /srv\n")
    yield "failure", build(project, columns, "lock=keep")[0]
    script.write_text(kept[1] + "sleep 60\n")
    stopped = build(project, columns, "lock=keep", send=("running site.sh", signal.SIGINT))
    yield "interrupt", stopped[0]
    page.write_text(kept[0])
    script.write_text(kept[1])


def picture(seen: Recorded) -> str:
    """The terminal in the middle of the image, as SVG; by the reader's own font, since a picture fetches none."""
    import pyte
    from rich.console import Console
    from rich.text import Text

    screen = pyte.Screen(seen.columns, 40)
    stream = pyte.ByteStream(screen)
    best: list[Text] = []
    for _when, piece in seen.pieces:
        stream.feed(piece)
        rows = [line.rstrip() for line in screen.display]
        if not best or any(re.search(r"compressing .* [2-6]\d %", row) for row in rows):
            best = [colored(screen, number) for number, row in enumerate(rows) if row]
    with open(os.devnull, "w") as nothing:
        console = Console(
            record=True,
            width=seen.columns,
            file=nothing,
            force_terminal=True,
            color_system="truecolor",
        )
        for text in (Text(f"$ strata build {SPEC}"), *best):
            console.print(text, no_wrap=True, crop=True)
    drawn = console.export_svg(title="strata build")
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    return "".join(f"{line.rstrip()}\n" for line in drawn.replace("Fira Code,", "").splitlines())


def colored(screen: Any, number: int) -> Any:
    """A row as it stood there."""
    from rich.style import Style
    from rich.text import Text

    text = Text()
    cells = (screen.buffer[number][column] for column in range(screen.columns))
    for (fg, bold), run in itertools.groupby(cells, key=lambda cell: (cell.fg, cell.bold)):
        color = (
            f"#{fg}"
            if re.fullmatch("[0-9a-f]{6}", fg)
            else {"default": None, "brown": "yellow"}.get(fg, fg)
        )
        text.append("".join(cell.data for cell in run), Style(color=color, bold=bold))
    text.rstrip()
    return text


if __name__ == "__main__":
    main()
