"""apt's marks: what was asked for is manual as apt chose it, what only came with it is automatic."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from support import samples
from support.trees import only_root, tree_of
from support.world import World
from tasks.debian import answers, deb822
from tasks.plan.plan import layer_inputs
from tasks.stages.inside import SCRIPTS
from tasks.stages.install import apt_steps

SLOTS = {
    ("alpha", "amd64"),
    ("g++", "amd64"),
    ("alpha", "i386"),
    ("only", "i386"),
    ("zed-", "amd64"),
}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("alpha", ("alpha", "amd64")),
        ("alpha=1:2~rc", ("alpha", "amd64")),
        ("alpha/stable-backports", ("alpha", "amd64")),
        ("alpha:amd64", ("alpha", "amd64")),
        ("alpha:i386=1", ("alpha", "i386")),
        ("alpha:any", ("alpha", "amd64")),
        ("alpha:all", ("alpha", "amd64")),
        ("alpha+", ("alpha", "amd64")),
        ("alpha:i386+", ("alpha", "i386")),
        ("g++", ("g++", "amd64")),
        ("zed-", ("zed-", "amd64")),
        ("alpha-", None),
        ("only", None),
        ("virtual", None),
        ("alpha:riscv64", None),
    ],
)
def test_package_that_a_request_names_outright(wanted: str, found: tuple[str, str] | None) -> None:
    assert answers.requested(wanted, SLOTS, "amd64") == found


def test_marks_are_read_as_they_are_written() -> None:
    text = deb822.extended_states(["a:amd64", "b:i386"])
    text += "Package: c\nArchitecture: amd64\nAuto-Installed: 0\n\n"
    assert deb822.marked_auto(text) == {("a", "amd64"), ("b", "i386")}


def test_steps_are_made_of_what_the_key_is_made_of(tmp_path: Path) -> None:
    """Each word that a step has of the spec or the lock stands in the stage's inputs."""
    spec = samples.load(tmp_path, packages=["one", "two:i386"], debconf=["a a/b string c"])
    lock = samples.lock([samples.record("apt")], {"packages": [
        samples.record("one", "1:2"), samples.record("dep", architecture="all")]})  # fmt: skip
    given = layer_inputs(spec, lock, 0, samples.host(spec))
    known = {*given["foreign"], *given["auto"], *given["manual"],
             *(f"{name}:{'amd64' if arch == 'all' else arch}={version}"
               for name, version, arch, _sha256 in given["records"])}  # fmt: skip
    words = {word for step in apt_steps(given) for argv in step.pipeline for word in argv}
    empty = {
        **given,
        "records": [["x", "1", "all", ""]],
        "foreign": [],
        "manual": ["x"],
        "auto": ["x"],
    }
    fixed = {word for step in apt_steps(empty) for argv in step.pipeline for word in argv}
    assert words - fixed == known | {"dpkg", "--add-architecture"}


def marks(root: Path) -> dict[str, str]:
    """Each installed package's mark, as the image's own apt tells it."""
    found: dict[str, str] = {}
    for mark in ("auto", "manual"):
        done = subprocess.run(
            ["chroot", root, "apt-mark", f"show{mark}"], check=True, capture_output=True, text=True
        )
        found |= dict.fromkeys(done.stdout.split(), mark)
    return found


@pytest.mark.root
def test_lock_of_the_form_before_marks_is_resolved_again_and_keep_keeps_its_versions(
    built: World,
) -> None:
    path = built.root / "specs/web.lock"
    text = path.read_text()
    document = json.loads(text)
    for part in (document, *document["layers"]):
        del part["manual"]
    path.write_text(json.dumps({**document, "format": 1, "inputs": "0" * 32}))
    assert "of an older version of Strata" in built.refused("lock=frozen", words=["lock=frozen"])
    built.add(built.deb("beta", "2", depends="gamma"))
    assert set(built.build("lock=keep").values()) == {"hit"}
    assert json.loads(path.read_text())["layers"] == json.loads(text)["layers"]


@pytest.mark.root
def test_what_locks_the_same_packages_is_built_once(built: World) -> None:
    built.edit("packages: [alpha]", "packages: [alpha=1]\nrecommends: true")
    built.edit("packages: [beta]", "packages: [beta/stable]")
    built.edit("variant: apt}", "variant: apt, include: [dash]}")
    (built.root / "specs/scripts/app.sh").chmod(0o750)
    assert set(built.build().values()) == {"hit"}
    # gamma came with beta: to ask for it, too, changes its mark.
    built.edit("packages: [beta/stable]", "packages: [beta/stable, gamma]")
    built.doit("lock", "spec=web")
    assert "package gamma is asked for" in built.doit("why", "spec=web", check=False).out
    only_root(built)
    assert built.build()["app"] == "built"


@pytest.mark.root
def test_marks_are_what_apt_would_have_made(built: World, tmp_path: Path) -> None:
    """Virtual, by version and suite; there before, recommended, in base.include."""
    only_root(built)
    built.add(
        built.deb("provider", extra={"Provides": "virtual (= 1)"}, depends="needed"),
        built.deb("needed"), built.deb("liked"),
        built.deb("choice", "2"), built.deb("below"),
        built.deb("above", depends="below", extra={"Recommends": "liked"}),
        built.deb("inbase", depends="belowbase"), built.deb("belowbase"),
    )  # fmt: skip
    built.edit("variant: apt}", "variant: apt, include: [inbase, provider]}\nrecommends: true")
    built.edit("packages: [alpha]", "packages: [alpha, above, choice=2]")
    built.edit("packages: [beta]", "packages: [beta, gamma/stable, below, virtual, needed+]")
    built.write("scripts/app.sh", "#!/bin/sh\nset -e\napt-mark auto alpha\n", 0o755)
    path = built.root / "specs/web.yaml"
    path.write_text(
        path.read_text().replace("images:", "  - {name: last, packages: [delta]}\nimages:")
    )
    built.build()
    with tree_of(built, tmp_path) as root:
        found = marks(root)
        removable = subprocess.run(["chroot", root, "apt-get", "--simulate", "autoremove"],
                                   check=True, capture_output=True, text=True).stdout  # fmt: skip
    asked = ["above", "choice", "beta", "gamma", "below", "provider", "needed", "delta",
             "inbase", "apt", "baseline", "dash"]  # fmt: skip
    came = ["liked", "belowbase", "libc6", "passwd"]
    # What a script marks stays as it is.
    assert {name: found[name] for name in (*asked, *came, "alpha")} == {
        **dict.fromkeys(asked, "manual"), **dict.fromkeys(came, "auto"), "alpha": "auto"}  # fmt: skip
    assert [line.split()[1] for line in removable.splitlines() if line.startswith("Remv")] == [
        "alpha"
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (".dpkg.cfg", "# mine\nno-act\n", "line 2: no-act: "),
        ("dpkg/dpkg.cfg", "log /var/log/dpkg.log\n\ndry-run\n", "line 3: dry-run: "),
        ("dpkg/dpkg.cfg.d/x", "admindir=/srv/adm\n", "line 1: admindir=/srv/adm: "),
        ("dpkg/dpkg.cfg.d/01_a-b", "root /srv\n", "line 1: root /srv: "),
        ("dpkg/dpkg.cfg.d/link", "instdir = /srv\n", "line 1: instdir = /srv: "),
        ("dpkg/dpkg.cfg.d/x.bak", "no-act\n", ""),
        (
            "dpkg/dpkg.cfg.d/x",
            "path-exclude=/usr/share/doc/*\n#no-act\nno-action\nlog /no-act\n",
            "",
        ),
        ("dpkg/dpkg.cfg", 'admindir=/var/lib/dpkg\nroot="/"\ninstdir /\n', ""),
    ],
)
def test_dpkg_configuration_with_which_nothing_is_installed(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / "dpkg/dpkg.cfg.d").mkdir(parents=True)
    (tmp_path / name).write_text(text)
    if name.endswith("link"):
        (tmp_path / name).rename(tmp_path / "elsewhere")
        (tmp_path / name).symlink_to("../../elsewhere")
    done = subprocess.run(
        ["/bin/sh", SCRIPTS / "check-dpkg.sh", tmp_path / "dpkg", tmp_path / ".dpkg.cfg",
         "a remedy"],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert done.returncode == (1 if said else 0), done
    assert done.stdout.startswith(f"error: {tmp_path / name}: {said}" if said else "")
    assert done.stderr == ""
