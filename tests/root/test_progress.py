"""What a build shows while it runs, on real terminals and in pipes; how it ends when it does not go well."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys

import pytest

from support.debs import make_deb
from support.terminals import Recorded, record
from support.world import PROJECT, World, says
from tasks.spec.schema import load_jsonschema
from tasks.store import history

pytestmark = pytest.mark.root

BUILD = [sys.executable, "-m", "doit", "build", "spec=web"]
STAGE = re.compile(r"(base|layer \S+|image \S+) +([0-9a-f]{8}) +(hit|built|pulled|skipped) +\d")


def on_terminal(world: World, *words: str, **options: object) -> Recorded:
    env = world.environment(TERM="xterm-256color")
    return record([*BUILD, *words], world.root, env, limit=120, **options)  # type: ignore[arg-type]


def stages(lines: list[str]) -> list[tuple[str, str]]:
    return [(found[1], found[3]) for line in lines if (found := STAGE.match(line))]


def clean(seen: Recorded) -> None:
    """Nothing of the bar is left, and the cursor stands at the beginning of a line."""
    left = seen.left()
    assert not any("━" in line or " done, " in line for line in left), left
    assert seen.bytes.endswith(b"\n")


def narrow(seen: Recorded, columns: int) -> None:
    """No piece of the bar was wider than the terminal: it would have begun another line."""
    for _when, lines in seen.screens():
        bars = [line for line in lines if "━" in line]
        assert len(bars) <= 2, lines
        assert all(len(line) <= columns - 3 for line in bars)


def test_a_rebuild_on_a_terminal(built: World) -> None:
    """In the plan's order, at 60 columns; with a bar that is gone in the end, also where it was resized."""
    built.write("files/motd", "other\n")
    seen = on_terminal(built, columns=60)
    assert seen.code == 0
    left = seen.left()
    says(left[0], "3 of 5 stages to build, about")
    assert stages(left) == [("base", "hit"), ("layer packages", "hit"), ("layer app", "built"),
                            ("image /", "built"), ("image /boot", "built")]  # fmt: skip
    says(left[-1], "published to out/web/: 3 of 5 stages built")
    assert all(len(line) < 60 for line in left[:-1])
    assert any("━" in line for _when, lines in seen.screens() for line in lines)
    clean(seen)
    narrow(seen, 60)
    built.write("files/motd", "again\n")
    seen = on_terminal(built, columns=120, resize=("layer app", 50))
    assert seen.code == 0
    assert [what for _name, what in stages(seen.left())] == [
        "hit",
        "hit",
        "built",
        "built",
        "built",
    ]
    assert seen.bytes.endswith(b"\n")
    seen = on_terminal(built, columns=60)  # nothing to do: no plan, no bar, all stages
    says(
        "\n".join(seen.left()),
        "base",
        "hit",
        "image /boot",
        "unchanged in out/web/: nothing to build",
    )
    assert "to build," not in seen.left()[0]
    assert "━".encode() not in seen.bytes
    assert on_terminal(built, "quiet=1").bytes == b""


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.nightly)]
)
def test_a_signal_leaves_a_clean_terminal(built: World, number: signal.Signals) -> None:
    built.write("scripts/app.sh", "#!/bin/sh\nsleep 600\n", 0o755)
    seen = on_terminal(built, columns=60, send=("running app.sh", number))
    assert seen.code == 128 + number
    assert seen.left()[-1] == f"interrupted by {number.name}; what was whole is kept"
    assert stages(seen.left()) == [("base", "hit"), ("layer packages", "hit")]
    clean(seen)
    assert built.leftovers() == []


def test_a_failure_names_its_line_and_how_to_look(built: World) -> None:
    built.add(
        make_deb(
            built.debs, "broken", "1", scripts={"postinst": "#!/bin/sh\necho no luck; exit 3\n"}
        )
    )
    built.edit("    packages: [beta]", "    packages:\n      - beta\n      - broken")
    line = (built.root / "specs/web.yaml").read_text().splitlines().index("      - broken") + 1
    seen = on_terminal(built, columns=120)
    assert seen.code == 1
    says("\n".join(seen.left()), "base", "hit", "layer packages", "hit", "layer:app: failed",
         f"ERROR: specs/web.yaml:{line}: layer app failed (exit status 100)", "no luck",
         "strata shell spec=web layer=app", "out/web/log/layer-app.log")  # fmt: skip
    clean(seen)
    log = (built.root / "out/web/log/layer-app.log").read_text()
    assert re.match(
        r"# layer app of specs/web.yaml\n#   key       [0-9a-f]{32}\n#   on        layer packages ",
        log,
    )
    says(log, "packages", "broken 1", "files", "/etc/motd", "scripts specs/scripts/app.sh",
         "installing 3 packages", "+ apt-get install", "no luck")  # fmt: skip
    for word in ("unshare", "setpriv", "pmstatus", "/dev/.strata/sh", "APT_CONFIG"):
        assert word not in log
    build = built.doit("build", "spec=web", "verbose=1", check=False)
    says(build.out, "+ unshare", "APT_CONFIG", "no luck")
    built.edit("\n      - broken", "")
    built.write("scripts/app.sh", "#!/bin/sh\necho going wrong\nexit 7\n", 0o755)
    build = built.doit("build", "spec=web", "progress=json", check=False)
    events = read(build.out)
    at = (built.root / "specs/web.yaml").read_text().splitlines().index(
        "    script: scripts/app.sh"
    ) + 1
    (failure,) = [one for one in events if one["event"] == "failure"]
    says(
        str(failure["message"]),
        f"specs/web.yaml:{at}: layer app failed (exit status 7): specs/scripts/app.sh",
    )
    says(str(failure["hint"]), "strata shell spec=web layer=app")
    assert failure["log"] == "out/web/log/layer-app.log"
    assert (events[-1]["event"], events[-1]["result"]) == ("done", "failed")
    assert f"ERROR: {failure['message']}" in build.err


def read(text: str) -> list[dict[str, object]]:
    """The events of a run, each as the schema has it."""
    load_jsonschema()
    from jsonschema import Draft202012Validator

    schema = Draft202012Validator(json.loads((PROJECT / "docs/progress.schema.json").read_text()))
    events: list[dict[str, object]] = [json.loads(line) for line in text.splitlines()]
    for event in events:
        schema.validate(event)
    return events


def test_events_of_a_build(built: World) -> None:
    built.write("files/motd", "other\n")
    build = built.doit("build", "spec=web", "progress=json")
    events = read(build.out)
    kinds = [one["event"] for one in events]
    assert kinds[-1] == "done"
    assert "plan" in kinds
    plan = events[kinds.index("plan")]
    assert (plan["build"], plan["pull"]) == (3, 0)
    states = {(one["task"], one["state"]) for one in events if one["event"] == "stage"}
    assert states == {
        ("base", "hit"), ("layer:packages", "hit"), ("layer:app", "begun"), ("layer:app", "built"),
        *((f"image:{name}", what) for name in ("/", "/boot") for what in ("begun", "built")),
    }  # fmt: skip
    steps = {
        one["step"] for one in events if one["event"] == "progress" and one["task"] == "layer:app"
    }
    assert {"copying 1 file", "running app.sh"} <= steps
    assert events[-1]["published"] is True
    assert build.err == ""
    quiet = read(built.doit("build", "spec=web", "progress=json", "quiet=1").out)
    assert {one["event"] for one in quiet} == {"plan", "stage", "done"}
    built.edit("packages: [alpha]", "packages: alpha")
    kinds = [
        one["event"]
        for one in read(built.doit("build", "spec=web", "progress=json", check=False).out)
    ]
    assert kinds == ["failure", "done"]
    refused = built.doit("build", "spec=web", "progress=jsn", check=False)
    says(refused.text, "progress=jsn: expected one of auto, plain, json")


def test_what_is_pulled_counts_apart(tiny: World) -> None:
    """And of the tree, what an image that is pulled makes unneeded counts for nothing."""
    shared = (f"cache=file://{tiny.root}/shared", "cache_trust=any")
    (tiny.root / "shared").mkdir()
    tiny.doit("build", "spec=web", "cache_mode=both", *shared)
    shutil.rmtree(tiny.root / "cache/images")
    shutil.rmtree(tiny.root / "cache/layers")
    said = tiny.doit("build", "spec=web", *shared).out.splitlines()
    says("\n".join(said), "1 of 2 stages to pull", "base", "skipped", "image /", "pulled",
         "unchanged in out/web/: 1 of 2 stages pulled")  # fmt: skip
    shutil.rmtree(tiny.root / "cache/layers", ignore_errors=True)
    tiny.edit("format: ext2", "format: ext4")
    said = tiny.doit("build", "spec=web", *shared).out.splitlines()
    says("\n".join(said), "1 of 2 stages to build, 1 to pull", "base", "pulled", "image /", "built",
         "published to out/web/: 1 of 2 stages built, 1 pulled")  # fmt: skip
    assert (
        read(tiny.doit("build", "spec=web", "progress=json", *shared).out)[-1]["result"] == "done"
    )


def test_an_interrupted_build_says_so_last(tiny: World) -> None:
    """As an event, too, and in the history of builds."""
    process = subprocess.Popen(
        [*BUILD, "progress=json"], cwd=tiny.root, text=True, env=tiny.environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if '"begun"' in line:
            break
    process.send_signal(signal.SIGTERM)
    rest, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert read(text + rest)[-1]["result"] == "interrupted"
    assert err.splitlines()[-1] == "interrupted by SIGTERM; what was whole is kept"
    assert history.builds(tiny.root / ".doit", "web")[-1].result == "interrupted"
