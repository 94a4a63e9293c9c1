"""What looks hostile and is allowed: it is built as it stands, and nothing of it is ever run."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from support.world import World
from tasks.errors import BuildError
from tasks.host.log import Log
from tasks.plan.job import ImageJob
from tasks.plan.jobs import job_of
from tasks.session.session import Session
from tasks.stages.image import build


@pytest.mark.root
def test_shell_characters_are_only_characters(built: World) -> None:
    """What the schema must let through is built as it stands, and nothing of it is ever run."""
    canary = Path(f"/tmp/c{os.getpid()}")
    odd = f"a b'\"`touch {canary}`$(touch {canary});touch {canary}; %s * ünï☃\\ &"
    name = odd.replace("/", "_")
    for path in ("files", "scripts", "keys"):
        (built.root / "specs" / path).mkdir(exist_ok=True)
    built.write(f"files/{name}", "odd file\n")
    built.write(f"files/-rf {name}/--help", "in a folder\n")
    built.write(f"scripts/-c {name}", '#!/bin/sh\necho "$0" > /script\n', 0o755)
    keyring = built.root / "specs/keys" / f"x] [trusted=yes {name}.gpg"
    keyring.write_bytes(built.repository.keyring.read_bytes())
    document = yaml.safe_load((built.root / "specs/web.yaml").read_text())
    document["repos"][0] |= {"keyring": f"keys/{keyring.name}", "meta": {odd: [odd, None, 1.5]}}
    document["layers"][0] |= {
        "files": {f"/opt/{name}": f"files/{name}", f"/opt/--dir {name}": f"files/-rf {name}",
                  "/opt/content": {"content": odd + "\0"}},
        "script": f"scripts/-c {name}",
    }  # fmt: skip
    document["layers"].append({"name": "answers", "debconf": [f"beta beta/x string {odd}"]})
    document |= {"root_password": odd, "hostname": "web.example.org"}
    del document["images"]["/boot"]
    document["images"]["/"] |= {"label": "a.b -c", "container": "raw", "file": "web.img"}
    built.write("web.yaml", yaml.safe_dump(document, allow_unicode=True))
    build = built.doit("build", "spec=web", check=False)
    assert "Traceback" not in build.text
    assert build.code == 0 or "debconf-set-selections" in build.text, build.text
    layer = next(path for path in (built.root / "cache/layers").glob("layer-*.tar.zst")
                 if "./opt/content" in _listed(path))  # fmt: skip
    shown = subprocess.run(["tar", "-xO", "--file", layer, "./script"], check=True,
                           capture_output=True, text=True).stdout  # fmt: skip
    assert shown == "/dev/.strata/in/script\n"
    content = subprocess.run(["tar", "-xO", "--file", layer, "./opt/content"], check=True,
                             capture_output=True).stdout  # fmt: skip
    assert content == (odd + "\0").encode()
    names = "\n".join(_listed(layer))
    assert f"./opt/{name}\n" in names
    assert f"./opt/--dir {name}/--help" in names
    assert not canary.exists()


def _listed(path: Path) -> list[str]:
    done = subprocess.run(["tar", "--list", "--quoting-style=literal", "--file", path], check=True,
                          capture_output=True)  # fmt: skip
    return done.stdout.decode().splitlines()


@pytest.mark.root
@pytest.mark.parametrize(
    ("kind", "options", "pack", "made"),
    [
        ("ext2", "-z precious", "direct", ["precious"]),
        ("ext4", "-z precious", "loop", ["precious"]),
        ("xfs", "-l file=1,name=precious,size=70m", "loop", ["precious"]),
        ("btrfs", "-r specs", "loop", []),
    ],
)
def test_what_an_option_names_is_no_file_of_the_host(
    built: World,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    options: str,
    pack: str,
    made: list[str],
) -> None:
    """Loading a spec refuses these; were one forgotten there, mkfs runs where no such file is."""
    monkeypatch.chdir(built.root)
    for name, value in built.environment().items():
        monkeypatch.setenv(name, value)
    precious = built.root / "precious"
    precious.write_text("untouched\n")
    before = sorted(os.listdir())
    session = Session(root=built.root, variables={"spec": "web"})
    other = replace(session.spec.images[1], format=kind, options=tuple(options.split()), pack=pack)
    session.spec = replace(session.spec, images=(session.spec.images[0], other))
    said = ""
    try:
        with Log(None) as log:
            job = job_of(session.plan.images[1], session.spec, session.plan, session.mirrors)
            assert isinstance(job, ImageJob)
            build(job, session.builder(log))
    except BuildError as error:
        said = str(error)
    finally:
        found = os.listdir(session.scratch / "nowhere")
        session.close()
    assert found == made
    # btrfs-progs say the one or, since 6.10, the other.
    assert made or "No such file" in said or "canonical path to specs" in said, said
    assert precious.read_text() == "untouched\n"
    assert sorted(os.listdir()) == before
