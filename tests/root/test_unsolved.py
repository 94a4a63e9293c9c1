"""What apt cannot solve has one cause and a remedy that works: each is asked of a real apt."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from support.debs import make_deb
from support.private import Private
from support.repository import Repository
from support.world import TINY, World
from tasks.debian import answers, apt, deb822, tables, unsolved
from tasks.debian.tables import Offer, Policy, Request, Unmet
from tasks.errors import BuildError
from tasks.repos.resolver import _satisfies

SUITES = [("main", "stable"), ("backports", "stable-backports"), ("bad", "bad")]


def stanza(name: str, version: str = "1", arch: str = "amd64", **fields: str) -> str:
    more = "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in fields.items())
    digest = hashlib.sha256(f"{name}{version}{arch}".encode()).hexdigest()
    return (f"Package: {name}\nVersion: {version}\nArchitecture: {arch}\n{more}"
            f"Filename: {name}_{version}.deb\nSize: 1\nSHA256: {digest}\n")  # fmt: skip


MAIN = [
    stanza("nc-a", Provides="netcat"), stanza("nc-b", Provides="netcat"),
    stanza("mta", Provides="only-one"), stanza("wants-netcat", Depends="netcat"),
    stanza("lib"), stanza("app", Depends="lib"), stanza("needs2", Depends="lib (>= 2)"),
    stanza("needs9", Depends="lib (>= 9)"), stanza("broken", Depends="nowhere"),
    stanza("cats", Conflicts="dogs"), stanza("dogs"), stanza("ess", Essential="yes"),
    stanza("no-ess", Conflicts="ess"), stanza("wish", Recommends="nowhere"),
    stanza("versions", "1:1.0-1"), stanza("breaks-ess", Breaks="ess"),
    stanza("mail-conf", Conflicts="mail"), stanza("mail"), stanza("light", Depends="mail-conf"),
    stanza("mta-2", Depends="light | heavy"), stanza("heavy", Depends="mail-conf"),
    stanza("two"), stanza("two", "1.5"), stanza("old-two", Depends="two (= 1)"),
    stanza("gives", Provides="virtual (= 1)"), stanza("gives-any", Provides="virtual"),
    stanza("wants-virtual", Depends="virtual (>= 2)"), stanza("twins"), stanza("twins", arch="i386"),
    stanza("wants-i386", Depends="lib:i386"), stanza("wants-arm", Depends="lib:arm64"),
    stanza("wants-any", Depends="nowhere:any"), stanza("either", Depends="nowhere | light"),
]  # fmt: skip


OTHER = [
    stanza("lib", "2"), stanza("app", "2", Depends="lib (>= 2), more (>= 2)"),
    stanza("more", "2", Depends="deeper (>= 2)"), stanza("deeper", "2"), stanza("deeper"),
]  # fmt: skip


class World_:
    """A private apt with three repositories of other priorities; `ess` is installed."""

    def __init__(self, folder: Path) -> None:
        self.private = Private(folder)
        for (name, suite), packages in zip(
            SUITES, [MAIN, OTHER, [stanza("forbidden")]], strict=True
        ):
            self.private.repository(f"Origin: {name}\nSuite: {suite}\nCodename: c-{name}\n",
                                    "\n".join(packages), suite=suite)  # fmt: skip
        lists = self.private.folder / "lists"
        prefix = f"{apt.list_name(apt.site(0))}_dists_stable_main_binary-i386_Packages"
        (lists / prefix).write_text(stanza("wine32", arch="i386"))
        fields = [{"Origin": name, "Suite": suite} for name, suite in SUITES]
        priorities = [None, 100, -1]
        self.private.pins = apt.preferences(
            [(name, priority, release) for (name, _suite), priority, release
             in zip(SUITES, priorities, fields, strict=True)], where="s", sites=True,
        )  # fmt: skip
        (self.private.folder / "status").write_text(
            deb822.installed_status([stanza("ess", Essential="yes").strip()])
        )

    def install(self, *wanted: str) -> subprocess.CompletedProcess[str]:
        self.private.run("apt-config", "dump")  # writes the configuration
        return subprocess.run(
            ["apt-get", "--print-uris", "--yes", "install", *wanted], text=True,
            capture_output=True, check=False,
            env={"APT_CONFIG": str(self.private.folder / "apt.conf"), "LC_ALL": "C.UTF-8",
                 "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )  # fmt: skip

    def why(self, *wanted: str) -> BuildError:
        done = self.install(*wanted)
        assert done.returncode != 0, done.stdout
        return unsolved.explained(
            "spec", wanted, done.stdout, done.stderr,
            lambda *words: self.private.run("apt-cache", *words), repos=[name for name, _ in SUITES],
            suites=[(suite, f"c-{name}") for name, suite in SUITES],
            essential={"ess"}, arches=["amd64", "i386"], satisfies=_satisfies,
        )  # fmt: skip


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> World_:
    return World_(tmp_path_factory.mktemp("unsolved") / "apt")


@pytest.mark.parametrize(
    ("wanted", "cause", "hint"),
    [
        ("netcat", "netcat is a virtual package, provided by nc-a, nc-b", "such as nc-a"),
        ("netcat:i386", "netcat is a virtual package, provided by nc-a, nc-b", "such as nc-a"),
        ("wine32:amd64", "no repository has wine32:amd64, though wine32 for another", "for wine32"),
        ("app=9", "no repository has app in version '9'", "there is 2 (backports), 1 (main)"),
        ("lib=1.*", "no repository has lib in version '1.*'", "1 (main)"),
        ("app/sid", "no repository is of the suite 'sid'", "app is in c-backports, c-main, stable"),
        ("dogs/stable-backports", "no repository's suite 'stable-backports' has dogs",
         "there is 1 (main)"),
        ("forbidden", "forbidden is only where a priority under 0 forbids it: 1 (bad)",
         "ask for forbidden=1, or give it a priority in repos.bad.pins"),
        ("verson", "no repository has verson", "did you mean versions? check the spelling"),
        ("zzz", "no repository has zzz", "check the spelling"),
        ("app zzz", "no repository has zzz", "check the spelling"),
        ("dogs:i386", "no repository has dogs:i386, though dogs for another", "ask for dogs"),
        ("needs2", "apt cannot install these packages together",
         "needs2 needs lib 2, which is in backports, but its priority (100) holds it back: "
         "ask for lib=2, too"),
        ("needs9", "apt cannot install", "there is only 2 (backports), 1 (main)"),
        ("broken", "apt cannot install", "no repository has nowhere, which broken needs"),
        ("cats dogs", "apt cannot install", "cats and dogs cannot both be there"),
        ("no-ess", "apt cannot install", "list ess- beside it"),
        ("breaks-ess", "apt cannot install", "list ess- beside it"),
        ("ess-", "apt cannot install", "leave out"),
        ("zzz-", "no repository has zzz:", "remove `zzz-`"),
        ("zzz- lib", "no repository has zzz:", "remove `zzz-`"),
        ("lib zzz:i386-", "no repository has zzz:i386:", "remove `zzz:i386-`"),
        ("app lib-", "apt cannot install", "app needs lib: remove `lib-`, or leave out app"),
        ("mail light", "apt cannot install", "mail-conf and mail cannot both be there"),
        ("either mail", "apt cannot install", "mail-conf and mail cannot both be there"),
        ("old-two", "apt cannot install",
         "old-two needs two 1, and 1.5 is taken: ask for two=1, too"),
        ("old-two two=1.5", "apt cannot install", "ask for two=1 in place of two=1.5"),
        ("wants-virtual", "apt cannot install", "virtual is provided by gives, in version 1 only; "
         "gives-any, without a version: add the repository"),
        ("twins twins:i386", "apt cannot install",
         "twins can be there for one architecture only: leave out twins:i386"),
        ("lib lib:i386", "no repository has lib:i386, though lib for another", "ask for lib"),
        ("wants-i386", "apt cannot install", "no repository has lib:i386, which wants-i386 needs"),
        ("wants-arm", "apt cannot install", "ask for lib:arm64, too, which makes it known"),
        ("wants-any", "apt cannot install", "no repository has nowhere, which wants-any needs"),
    ],
)  # fmt: skip
def test_cause_and_remedy(asked: World_, wanted: str, cause: str, hint: str) -> None:
    error = asked.why(*wanted.split())
    assert error.message.startswith(f"spec: {cause}"), error
    assert hint in error.hint


@pytest.mark.parametrize(
    "wanted",
    ["nc-a", "only-one", "forbidden=1", "lib", "wine32:i386", "needs2 lib=2", "wish",
     "app/stable-backports", "app/c-backports", "old-two two=1", "wants-netcat", "needs2 lib/c-backports"],
)  # fmt: skip
def test_what_the_remedies_say_works(asked: World_, wanted: str) -> None:
    done = asked.install(*wanted.split())
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_a_package_of_a_suite_needs_comes_from_it(asked: World_) -> None:
    """As deep as it is needed, and as apt-get(8) promises."""
    out = asked.install("app/stable-backports").stdout
    available, _removed = answers.parse_print_uris(out)
    assert {(item.package, item.version) for item in available} == {
        ("app", "2"), ("lib", "2"), ("more", "2"), ("deeper", "2"),
    }  # fmt: skip


# ---------------------------------------------------------------- apt's tables


def test_requests() -> None:
    assert tables.request("a:i386=1:2/x") == Request(name="a", arch="i386", version="1:2/x",
                                                       suite="")  # fmt: skip
    assert tables.request("g++") == Request(name="g++", arch="", version="", suite="")
    assert tables.request("a/sid").suite == "sid"


def test_policy_of_installed_and_absent_packages() -> None:
    text = """app:
  Installed: 1
  Candidate: 2
  Version table:
     2 990
        990 http://1.strata.invalid stable-backports/main amd64 Packages
 *** 1 500
        500 http://0.strata.invalid stable/updates/main amd64 Packages
        100 /status
gone:
  Installed: (none)
  Candidate: (none)
  Version table:
"""
    assert tables.policies(text) == {
        "app": Policy(candidate="2", offers=(
            Offer(version="2", priority=990, sites=(1,), suites=("stable-backports",)),
            Offer(version="1", priority=500, sites=(0,), suites=("stable/updates",)),
        )),
        "gone": Policy(candidate="", offers=()),
    }  # fmt: skip


def test_unmet_dependencies() -> None:
    text = """The following packages have unmet dependencies:
 a : Depends: b (>= 2) but 1 is to be installed
     PreDepends: c but it is not installable
 d:i386 : Conflicts: e
E: x
"""
    assert tables.unmet(text) == [
        Unmet(package="a", kind="Depends", on="b", relation=">= 2",
              but=" but 1 is to be installed"),
        Unmet(package="a", kind="PreDepends", on="c", relation="",
              but=" but it is not installable"),
        Unmet(package="d:i386", kind="Conflicts", on="e", relation="", but=""),
    ]  # fmt: skip
    assert tables.unmet("nothing") == []


def test_unmet_alternatives() -> None:
    """As apt prints them, and what stands below them."""
    text = """The following packages have unmet dependencies:
 exim4 : Depends: exim4-daemon-light but it is not going to be installed or
                  exim4-daemon-heavy (>= 4) but it is not installable or
                  exim4-daemon-custom
 exim4-config : Conflicts: postfix but 3 is to be installed
"""
    found = [(one.kind, one.on, one.relation, one.but, one.alternative)
             for one in tables.unmet(text)]  # fmt: skip
    assert found == [
        ("Depends", "exim4-daemon-light", "", " but it is not going to be installed", False),
        ("Depends", "exim4-daemon-heavy", ">= 4", " but it is not installable", True),
        ("Depends", "exim4-daemon-custom", "", "", True),
        ("Conflicts", "postfix", "", " but 3 is to be installed", False),
    ]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [("vim vim-", "`vim-`"), ("less- x less", "`less-`"), ("g++ g++-", "`g++-`"),
     ("a:amd64 a-", "`a-`"), ("a=1 a-", "`a-`"), ("a a:i386-", ""), ("g++ g+-", ""),
     ("a b-", "")],
)  # fmt: skip
def test_what_is_asked_for_and_refused(wanted: str, told: str) -> None:
    if not told:
        unsolved.contradiction("spec", wanted.split(), "amd64")
        return
    with pytest.raises(BuildError) as caught:
        unsolved.contradiction("spec", wanted.split(), "amd64")
    assert told in caught.value.message
    assert told in caught.value.hint


def test_refusals_alone_and_beside_a_request(tiny: World) -> None:
    tiny.write("web.yaml", TINY + 'packages: ["nosuchthing-"]\n')
    tiny.refused("specs/web.yaml: packages: no repository has nosuchthing", "`nosuchthing-`")
    tiny.edit("nosuchthing-", "beta-, beta")
    tiny.edit('"beta-, beta"', "beta-, beta")
    tiny.refused("specs/web.yaml: packages: beta is asked for, and refused by `beta-`")
    tiny.edit("beta-, beta]", "]")
    tiny.edit("include: [", "include: [baseline-, ")
    tiny.refused("specs/web.yaml: base: baseline is asked for, and refused by `baseline-`")


# ---------------------------------------------------------------- through doit


def test_virtual_package_and_pins_of_single_packages(tiny: World, tmp_path: Path) -> None:
    other = Repository(tmp_path / "other", suite="more", codename="more", origin="Other")
    other.add(*(make_deb(tmp_path / "debs2", name, "2", files={f"/usr/{name}": "2\n"})
                for name in ("baseline", "beta", "beta-doc")))  # fmt: skip
    other.publish()
    tiny.add(tiny.deb("nc-a", extra={"Provides": "netcat"}),
             tiny.deb("nc-b", extra={"Provides": "netcat"}))  # fmt: skip
    tiny.write("web.yaml", TINY + "packages: [netcat]\n")
    tiny.refused("specs/web.yaml: packages: netcat is a virtual package, provided by nc-a, nc-b",
                 "name one of them")  # fmt: skip
    tiny.write("web.yaml", TINY.replace("\nbase:", f"""
  - {{name: other, uri: 'file:{other.root}', suite: more, section: main, trusted: true,
      priority: 100, pins: [{{packages: "beta* nothing", priority: 990}}]}}
base:"""))  # fmt: skip
    tiny.doit("lock", "spec=web")
    text = (tiny.root / "specs/web.lock").read_text()
    found = dict(re.findall(r'"package": "(\w+)", "version": "(\d)"', text))
    assert found == {"baseline": "1", "beta": "2"}
    tiny.edit("priority: 990", "priority: 50")
    tiny.doit("lock", "spec=web")
    found = dict(re.findall(r'"package": "(\w+)", "version": "(\d)"',
                            (tiny.root / "specs/web.lock").read_text()))  # fmt: skip
    assert found == {"baseline": "1", "beta": "1"}


def test_essential_package_goes_only_if_it_is_named(tiny: World) -> None:
    tiny.add(tiny.deb("ess", essential=True), tiny.deb("rival", conflicts="ess"))
    tiny.write("web.yaml", TINY.replace("beta]", "beta, ess]") + "packages: [rival]\n")
    tiny.refused("specs/web.yaml: packages: ", "essential", "ess-")
    tiny.edit("packages: [rival]", "packages: [rival, ess-]")
    tiny.doit("lock", "spec=web")
    assert '"removes": ["ess"]' in (tiny.root / "specs/web.lock").read_text()
