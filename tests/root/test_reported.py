"""The report of real builds, and of what lacks for one."""

from __future__ import annotations

import os
import re

import pytest

from support.reports import checked
from support.world import World, says

pytestmark = pytest.mark.root

DEP5 = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"


def test_a_report_of_builds_and_of_what_lacks(built: World) -> None:
    said = built.doit("report", "spec=web")
    assert said.out.strip() == "report/web.html"
    page = built.root / "report/web.html"
    text = page.read_text()
    found = checked(text)
    for part in ("Hits in 2 builds", "50 %", "hit", "layer app", "web-boot.img.gz", "The last build that made something",
                 "baseline", "By folder", "/usr", "found everything in the cache"):  # fmt: skip
        assert part in found.text, part
    assert "Not in this report" not in found.text
    assert str(built.root) not in text
    built.doit("report", "spec=web", "file=other.html")
    assert (built.root / "other.html").read_text() == text
    assert page.stat().st_mode & 0o777 == 0o644

    # A build that fails, and what it would have changed.
    built.write("scripts/app.sh", "#!/bin/sh\necho '<b>it & all</b>'\nexit 3\n", 0o755)
    built.doit("build", "spec=web", "lock=keep", check=False)
    (built.root / "specs/bad.yaml").write_text("images: 7\n")
    built.write("new.yaml", (built.root / "specs/web.yaml").read_text())
    said = built.doit("report", "spec=all")
    says(said.out, "report/all.html", "bad: without anything", "new: without stages and sizes",
         "specs/new.lock: the lock is missing", "strata lock spec=new", "web: without sizes",
         "strata base layer spec=web lock=keep")  # fmt: skip
    found = checked((built.root / "report/all.html").read_text())
    says(found.text, "3 specs", "unreadable", "lacking", "The last build failed in layer app",
         "<b>it & all</b>", "the cache has no tree of layer app")  # fmt: skip
    assert built.server.requests == []

    # What others put there is neither followed nor written to.
    (built.root / "target").write_text("mine\n")
    page.unlink()
    page.symlink_to(built.root / "target")
    built.doit("report", "spec=web")
    assert (built.root / "target").read_text() == "mine\n"
    assert not page.is_symlink()
    os.rename(built.root / "report", built.root / "reports")
    (built.root / "report").symlink_to("reports")
    refused = built.doit("report", "spec=web", check=False)
    assert refused.code == 1
    says(refused.err, "report/web.html: cannot be written: a link is on the way", "file=PATH")
    assert "Traceback" not in refused.text


def test_an_upgrade_is_what_changed_and_a_spec_of_nothing_has_a_page(tiny: World) -> None:
    tiny.doit("report", "spec=web")
    says(checked((tiny.root / "report/web.html").read_text()).text, "Not in this report",
         "stages and sizes", "the lock is missing", "builds: none is remembered here")  # fmt: skip
    tiny.build()
    tiny.add(tiny.deb("beta", "2", files={"/usr/beta": "22\n", "/etc/new": "n\n",
                                          "/usr/share/doc/beta/copyright": f"{DEP5}\nLicense: Beta-1\n"}))  # fmt: skip
    tiny.build()
    tiny.doit("report", "spec=web")
    text = re.sub(r"\s+", " ", checked((tiny.root / "report/web.html").read_text()).text)
    says(text, "What changed", "1 package", "changed beta 1 → 2 (from main)", "1 image", "files",
         "added /etc/new", "Packages", "beta2basemain", "Beta-1", "Builds")  # fmt: skip
    for words, part in (
        (["report"], "report: which spec?"),
        (["report", "spec=nosuch"], "nosuch.yaml: there is no such spec"),
        (["report", "spec=web", "file=specs"], "specs: cannot be written"),
    ):
        refused = tiny.doit(*words, check=False)
        assert refused.code == 1, refused.text
        says(refused.err, part)
        assert "Traceback" not in refused.text
