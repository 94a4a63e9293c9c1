"""Answers for debconf: there before packages ask, and passwords among them in no tree."""

from __future__ import annotations

import hashlib
import re
import stat
import subprocess
from pathlib import Path

import pytest

from support.trees import only_root, tree_of
from support.world import SPEC, World

pytestmark = pytest.mark.root


def test_debconf_answers_are_there_before_the_packages(built: World, tmp_path: Path) -> None:
    only_root(built)
    built.add(built.deb("beta", "2", depends="gamma, debconf", scripts={
        "templates": "Template: beta/answer\nType: string\nDefault: none\nDescription: x\n",
        "config": "#!/bin/sh\nset -e\n. /usr/share/debconf/confmodule\n"
                  "db_input high beta/answer || true\ndb_go || true\n",
        "postinst": "#!/bin/sh\nset -e\n. /usr/share/debconf/confmodule\n"
                    "db_get beta/answer\necho \"$RET\" > /answer\n",
    }))  # fmt: skip
    built.edit(
        "  - name: app\n", "  - name: app\n    debconf: ['beta beta/answer string forty two']\n"
    )
    built.build()
    with tree_of(built, tmp_path) as root:
        assert (root / "answer").read_text() == "forty two\n"


def test_debconf_answers_of_the_base_are_there_before_its_packages(
    world: World, tmp_path: Path
) -> None:
    world.add(world.deb("alpha", "2", depends="debconf", scripts={
        "templates": "Template: alpha/answer\nType: string\nDefault: none\nDescription: x\n\n"
                     "Template: alpha/word\nType: password\nDescription: x\n",
        "postinst": "#!/bin/sh\nset -e\n. /usr/share/debconf/confmodule\ndb_get alpha/answer\n"
                    'echo "$RET" > /etc/answer\ndb_get alpha/word\necho ${#RET} >> /etc/answer\n',
    }))  # fmt: skip
    world.write("answers", "# comment\nalpha\talpha/word\tpassword\thunter2\n")
    world.write("web.yaml", SPEC.partition("base:")[0] + """
base:
  variant: apt
  include: [alpha]
  debconf: [alpha alpha/answer string forty two]
  debconf_file: answers
images: {/: {file: web.img, format: ext4, container: raw}}
""")  # fmt: skip
    first = world.build()
    with tree_of(world, tmp_path) as root:
        assert (root / "etc/answer").read_text() == "forty two\n7\n"
    tarball = next((world.root / "cache/layers").glob("base-*.tar.zst"))
    content = subprocess.run(["zstd", "-dc", tarball], check=True, capture_output=True).stdout
    assert b"hunter2" not in content
    assert "hunter2" not in "".join(path.read_text() for path in world.root.glob("out/web/log/*"))
    assert first["base"] == "built"
    world.write("answers", "alpha alpha/word password hunter2\n\n")
    assert world.build()["base"] == "hit"
    for old, new, said in (("variant: apt", "tool: debootstrap", "base.debconf: debootstrap configures"),
                           ("tool: debootstrap", "variant: extract", "base.debconf: the variant extract")):  # fmt: skip
        world.edit(old, new)
        world.refused(said)


def test_debconf_passwords_are_used_and_stay_in_no_tree(built: World, tmp_path: Path) -> None:
    """Also those given below the packages that ask, and one given as what its template is not."""
    only_root(built)

    def asking(name: str, *questions: str, **more: str) -> Path:
        template = "Template: {}/{}\nType: password\nDescription: A password\n Long.\n\n"
        asks = "".join(f'db_get {name}/{one}; echo "$RET" | sha256sum >> /etc/heard\n'
                       for one in questions)  # fmt: skip
        return built.deb(name, "2", **more, scripts={
            "templates": "".join(template.format(name, one) for one in questions),
            "postinst": f"#!/bin/sh\nset -e\n. /usr/share/debconf/confmodule\n{asks}"})  # fmt: skip

    built.add(asking("beta", "pw", "other", depends="gamma, debconf"), asking("zeta", "pw"))
    built.edit("  - name: app\n", "  - name: early\n    packages: [debconf]\n"
               "    debconf: [beta beta/pw password hunter2 and more, zeta zeta/pw password c0rrect\\]\n"
               "  - name: app\n    debconf: [beta beta/other string s3cret]\n")  # fmt: skip
    built.edit("images:\n", "  - {name: late, packages: [zeta]}\nimages:\n")
    built.build()
    with tree_of(built, tmp_path) as root:
        heard = [hashlib.sha256(f"{text}\n".encode()).hexdigest()
                 for text in ("hunter2 and more", "s3cret", "c0rrect\\")]  # fmt: skip
        assert re.findall(r"[0-9a-f]{64}", (root / "etc/heard").read_text()) == heard
        database = root / "var/cache/debconf"
        kept = "".join(path.read_text() for path in database.glob("*.dat"))
        for name in ("beta/pw", "beta/other", "zeta/pw"):
            assert f"Name: {name}\n" in kept
        assert stat.S_IMODE((database / "passwords.dat").stat().st_mode) == 0o600
    tarballs = sorted((built.root / "cache/layers").glob("*.tar.zst"))
    assert len(tarballs) >= 5
    for path in tarballs:
        content = subprocess.run(["zstd", "-dc", path], check=True, capture_output=True).stdout
        for secret in (b"hunter2", b"s3cret", b"c0rrect"):
            assert secret not in content, path
