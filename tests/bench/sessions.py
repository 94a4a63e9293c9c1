"""Record what builds show, on terminals of 60 and 120 columns and in a log: docs/sessions/, docs/terminal.svg.

    python tests/bench/sessions.py [FOLDER]

Builds the spec `layered` in a project of its own, with this host's mirror: minutes, as root. A text of a terminal has
what stood on it at some moments, below how many seconds had passed, and in the end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]

from support.terminals import Recorded, record  # noqa: E402

SPEC = "layered"
WIDTHS = (60, 120, 0)
"""0: not a terminal."""
MOMENTS = 5


def main() -> None:
    """Make them all."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else PROJECT / "docs"
    (folder / "sessions").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="strata-sessions-") as place:
        project = Path(place)
        prepare(project)
        build(project, 0)  # so that there are times to guess by
        for columns in WIDTHS:
            for name, text, seen in sessions(project, columns):
                where = columns or "log"
                (folder / "sessions" / f"{name}-{where}.txt").write_text(text)
                if seen is not None and (name, columns) == ("cold", 120):
                    (folder / "terminal.svg").write_text(picture(seen, 100))


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


def sessions(project: Path, columns: int) -> Iterator[tuple[str, str, Recorded | None]]:
    """(its name, its text, as it was recorded) of each session."""
    page, script = project / "specs/files/index.html", project / "specs/scripts/site.sh"
    kept = page.read_text(), script.read_text()
    for folder in ("cache", "out"):
        shutil.rmtree(project / folder, ignore_errors=True)
    yield ("cold", *build(project, columns))
    page.write_text(kept[0] + "<p>changed\n")
    yield ("rebuild", *build(project, columns, "lock=keep"))
    script.write_text(kept[1] + "cp /etc/nothing /srv\n")
    yield ("failure", *build(project, columns, "lock=keep"))
    script.write_text(kept[1] + "sleep 60\n")
    yield (
        "interrupt",
        *build(project, columns, "lock=keep", send=("running site.sh", signal.SIGINT)),
    )
    page.write_text(kept[0])
    script.write_text(kept[1])


def picture(seen: Recorded, columns: int) -> str:
    """The terminal in the middle of the build, as SVG."""
    import pyte
    from rich.console import Console
    from rich.style import Style
    from rich.text import Text

    screen = pyte.Screen(seen.columns, 40)
    stream = pyte.ByteStream(screen)
    best: list[Text] = []
    for _when, piece in seen.pieces:
        stream.feed(piece)
        rows = [line.rstrip() for line in screen.display]
        while rows and not rows[-1]:
            rows.pop()
        if not any("installing" in row and "/" in row and "━" in row for row in rows):
            continue
        best = []
        for number in range(len(rows)):
            text = Text(no_wrap=True)
            for column in range(seen.columns):
                cell = screen.buffer[number][column]
                color = (
                    None
                    if cell.fg == "default"
                    else f"#{cell.fg}"
                    if len(cell.fg) == 6
                    else cell.fg
                )
                text.append(
                    cell.data,
                    Style(
                        color=color.replace("brown", "yellow") if color else None, bold=cell.bold
                    ),
                )
            text.rstrip()
            best.append(text)
    with open(os.devnull, "w") as nothing:
        console = Console(
            record=True, width=columns, file=nothing, force_terminal=True, color_system="truecolor"
        )
        console.print(Text(f"$ strata build {SPEC}"))
        for text in best:
            console.print(text, no_wrap=True, crop=True)
    return console.export_svg(title="strata build")


if __name__ == "__main__":
    main()
