"""Layers: packages, files, scripts and settings in real trees, and that nothing of the build stays."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from support.trees import mounted, only_root, tree_of
from support.unowned import shipped, unowned
from support.world import World, says

pytestmark = pytest.mark.root


def test_services_never_start_and_nothing_of_the_build_stays(built: World, tmp_path: Path) -> None:
    only_root(built)
    start = """
    set -e
    invoke-rc.d beta start
    if [ -x /usr/bin/deb-systemd-invoke ]; then deb-systemd-invoke start beta.service || true; fi
    test -x /usr/sbin/policy-rc.d
    echo 0123456789abcdef0123456789abcdef > /etc/machine-id
    mkdir -p /etc/ssh && echo secret > /etc/ssh/ssh_host_ed25519_key
    touch /run/left /tmp/left /dev/shm/left /var/log/beta.log
    (sleep 1000 &)
    """
    init = "#!/bin/sh\necho started > /started-by-init\n"
    built.add(built.deb("beta", "2", depends="gamma", scripts={"postinst": start},
                        files={"/etc/init.d/beta": init}))  # fmt: skip
    built.build()
    host = socket.gethostname()
    with tree_of(built, tmp_path) as root:
        assert not list(root.glob("started*"))
        assert (root / "etc/machine-id").read_bytes() == b""
        for gone in ("usr/sbin/policy-rc.d", "etc/resolv.conf", "etc/hostname", "run/left",
                     "tmp/left", "var/log/beta.log", "var/log/dpkg.log", "etc/apt/sources.list",
                     "var/cache/ldconfig/aux-cache", ".strata", "dev/.strata"):  # fmt: skip
            assert not os.path.lexists(root / gone), gone
        for empty in ("etc/ssh", "dev", "run", "tmp", "proc", "sys", "etc/apt/sources.list.d"):
            assert os.listdir(root / empty) == [], empty
        assert not list((root / "var/lib/apt/lists").glob("*Packages*"))
        assert not list((root / "var/cache/apt").rglob("*.deb"))
        shadow = (root / "etc/shadow").read_text()
        assert re.search(r"^root:[*!]", shadow, re.M), "root is not locked"
        found = subprocess.run(
            ["grep", "-rIlF", "--exclude-dir=proc", "-e", str(built.root), "-e", host + ".",
             str(root / "etc"), str(root / "var")], check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert found.stdout == ""
        _installed_is_what_is_locked(built, root)
    assert not [line for line in Path("/proc/mounts").read_text().splitlines()
                if str(built.root) in line]  # fmt: skip


def _installed_is_what_is_locked(world: World, root: Path) -> None:
    """And what only a dependency asks for is automatic, as apt says it."""
    out = subprocess.run(
        ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W",
         "-f=${Package} ${Version} ${Architecture} ${db:Status-Status}\n"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    lines = (world.root / "out/web/packages.txt").read_text().splitlines()
    assert sorted(out.splitlines()) == sorted(f"{line} installed" for line in lines)
    states = (root / "var/lib/apt/extended_states").read_text()
    assert "Package: gamma\n" in states
    assert "Package: beta\n" not in states


def test_files_owner_mode_folders_and_links(built: World, tmp_path: Path) -> None:
    only_root(built)
    built.add(built.deb("beta", "2", depends="gamma", scripts={"postinst": """
        useradd --system worker
        echo 'Debian-exim:x:977:' >> /etc/group
        echo 'svc.Mail$:x:978:' >> /etc/group
        mkdir -p /real /host-target && ln -s /real /inside && ln -s ../../../../../../host-target /escape
        ln -s /etc/passwd /link-to-file
        mkdir -m 2775 /kept && chown worker /kept
    """}))  # fmt: skip
    built.write("files/tree/one", "1\n")
    built.write("files/tree/bin/run", "#!/bin/sh\n", 0o700)
    (built.root / "specs/files/tree/link").symlink_to("one")
    built.edit("    files: {/etc/motd: files/motd}\n", """\
    files:
      /etc/motd: files/motd
      /opt/tree: files/tree
      /kept: files/tree
      /srv/secret: {source: files/motd, owner: "worker:daemon", mode: "4750"}
      /srv/by-number: {content: "text", owner: "1234:56"}
      /srv/exim: &exim {content: "a", owner: root:Debian-exim, mode: "640"}
      "/srv/größe: a b": {<<: *exim, content: "tab\\t\\r\\n\\0 ☃ \\\\n", owner: ":svc.Mail$"}
      /srv/most: {content: "", owner: "4294967294:4294967294", mode: "0"}
      /srv/folded:
        content: >
          one # no comment
          line

            kept: as it is
      /srv/literal:
        content: |+
          ${mirror} $HOME `id` %s\\t

          \\x20  end # kept

      /inside/file: files/motd
      /escape/file: files/motd
      /link-to-file: {content: "replaced"}
""")  # fmt: skip
    built.build()
    assert not os.path.lexists("/host-target")
    with tree_of(built, tmp_path) as root:
        passwd = (root / "etc/passwd").read_text()
        worker = int(re.search(r"^worker:x:(\d+):", passwd, re.M)[1])  # type: ignore[index]
        info = (root / "srv/secret").stat()
        assert (info.st_uid, info.st_mode & 0o7777) == (worker, 0o4750)
        assert info.st_gid == int(re.search(r"^daemon:x:(\d+):",
                                            (root / "etc/group").read_text(), re.M)[1])  # type: ignore[index] # fmt: skip
        info = (root / "srv/by-number").stat()
        assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (1234, 56, 0o644)
        info = (root / "srv/exim").stat()
        assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (0, 977, 0o640)
        odd = root / "srv/größe: a b"
        assert (odd.stat().st_uid, odd.stat().st_gid) == (0, 978)
        assert odd.read_bytes() == "tab\t\r\n\0 ☃ \\n".encode()
        info = (root / "srv/most").stat()
        assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (2**32 - 2, 2**32 - 2, 0)
        assert (root / "srv/folded").read_text() == "one # no comment line\n\n  kept: as it is\n"
        assert (root / "srv/literal").read_text() == (
            "${mirror} $HOME `id` %s\\t\n\n\\x20  end # kept\n\n"
        )
        assert (root / "opt/tree/one").stat().st_mode & 0o7777 == 0o644
        assert (root / "opt/tree/bin/run").stat().st_mode & 0o7777 == 0o755
        assert os.readlink(root / "opt/tree/link") == "one"
        assert (root / "real/file").read_text() == "hello\n"
        assert (root / "host-target/file").read_text() == "hello\n"
        assert not (root / "link-to-file").is_symlink()
        assert "replaced" not in passwd
        kept = (root / "kept").stat()
        assert (kept.st_mode & 0o7777, kept.st_uid) == (0o2775, worker)
        assert (root / "kept/one").read_text() == "1\n"


def test_owner_that_the_image_lacks_is_an_error(built: World) -> None:
    built.edit("{/etc/motd: files/motd}", "{/etc/motd: {source: files/motd, owner: nobody-here}}")
    build = built.doit("build", "spec=web", check=False)
    assert build.code != 0
    assert "specs/web.yaml: layers.app.files" in build.text
    assert "nobody-here" in build.text
    assert "Traceback" not in build.text


def test_script_is_anything_executable(built: World, tmp_path: Path) -> None:
    """A shell's without its bit, and a program that needs nothing of the tree."""
    only_root(built)
    built.write("scripts/app.sh", "echo from-sh > /proof-sh\n", 0o644)
    source = tmp_path / "x.c"
    source.write_text("#include <stdio.h>\nint main(){FILE*f=fopen(\"/proof-c\",\"w\");"
                      "fputs(\"from-c\\n\",f);return fclose(f);}")  # fmt: skip
    target = built.root / "specs/scripts/program"
    subprocess.run(["gcc", "-static", "-o", target, source], check=True)
    built.edit("images:\n", "  - {name: program, script: scripts/program}\nimages:\n")
    built.build()
    with tree_of(built, tmp_path) as root:
        assert (root / "proof-sh").read_text() == "from-sh\n"
        assert (root / "proof-c").read_text() == "from-c\n"


def test_script_that_fails_is_told_with_what_it_said(built: World) -> None:
    built.write("scripts/app.sh", "#!/bin/sh\necho going wrong now\nexit 7\n", 0o755)
    build = built.doit("build", "spec=web", check=False)
    assert build.code != 0
    assert "going wrong now" in build.text
    assert "exit status 7" in build.text
    assert "out/web/log/layer-app.log" in build.text
    assert "going wrong now" in (built.root / "out/web/log/layer-app.log").read_text()


def test_settings(built: World, tmp_path: Path) -> None:
    only_root(built)
    locale_gen = "#!/bin/sh\ncat /etc/locale.gen > /generated\n"
    built.add(built.deb("beta", "2", depends="gamma", files={
        "/usr/share/zoneinfo/Europe/Berlin": "TZif", "/usr/sbin/locale-gen": locale_gen,
        "/usr/share/i18n/SUPPORTED": "aa_ER UTF-8\npl_PL.UTF-8 UTF-8\npl_PL ISO-8859-2\n",
        **{f"/usr/share/i18n/{name}": "" for name in (
            "locales/de_DE", "locales/pl_PL", "charmaps/UTF-8.gz", "charmaps/ISO-8859-2.gz")},
        # As locales of Debian 13; in two words, since it does not look at its value.
    }, scripts={"postinst": 'mkdir -p /etc/default; ln -s ../locale.conf "/etc/default/loc""ale"'}
    ))  # fmt: skip
    path = built.root / "specs/web.yaml"
    path.write_text(path.read_text() + (
        "hostname: web.example.org\ntimezone: Europe/Berlin\nlocale: de_DE.UTF-8\n"
        "root_password: 'correct horse $battery'\napt_sources: true\n"))  # fmt: skip
    results = built.build()
    assert results["settings"] == "built"
    with tree_of(built, tmp_path) as root:
        assert (root / "etc/hostname").read_text() == "web.example.org\n"
        assert "127.0.1.1\tweb.example.org web\n" in (root / "etc/hosts").read_text()
        assert os.readlink(root / "etc/localtime") == "/usr/share/zoneinfo/Europe/Berlin"
        assert (root / "etc/timezone").read_text() == "Europe/Berlin\n"
        assert (root / "etc/locale.conf").read_text() == "LANG=de_DE.UTF-8\n"
        assert os.readlink(root / "etc/default/locale") == "../locale.conf"
        assert (root / "generated").read_text() == "de_DE.UTF-8 UTF-8\n"
        shadow = (root / "etc/shadow").read_text()
        field = re.search(r"^root:([^:]*):", shadow, re.M)[1]  # type: ignore[index]
        salt = field.split("$")[2]
        expected = subprocess.run(
            ["openssl", "passwd", "-6", "-salt", salt, "correct horse $battery"],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        assert field == expected
        assert (root / "etc/shadow").stat().st_mode & 0o777 == 0o640
        sources = (root / "etc/apt/sources.list.d/strata.sources").read_text()
        assert f"URIs: {built.server.url}\n" in sources
        assert "Signed-By: /etc/apt/keyrings/main.gpg\n" in sources
        keyring = (root / "etc/apt/keyrings/main.gpg").read_bytes()
        assert keyring == built.repository.keyring.read_bytes()
    for found in (*built.root.glob("cache/layers/*.json"), *built.root.glob("out/web/*.yaml"),
                  *built.root.glob("out/web/log/*"), built.root / "specs/web.lock"):  # fmt: skip
        text = found.read_text()
        assert "battery" not in text, found
        assert field not in text, found
    path.write_text(path.read_text().replace("web.example.org", "other.example.org"))
    built.edit("locale: de_DE.UTF-8", "locale: pl_PL")
    again = built.build()
    assert (again["app"], again["settings"]) == ("hit", "built")
    with tree_of(built, tmp_path) as root:
        assert (root / "generated").read_text() == "pl_PL ISO-8859-2\n"
    built.edit("locale: pl_PL", "locale: tlh_QO")
    says(built.doit("build", "spec=web", check=False).text,
         "SUPPORTED of the image knows no tlh_QO", "name its character set")  # fmt: skip
    for name, part in (("pl_PX.UTF-8", "has no pl_PX"), ("pl_PL.UTF-9", "no character set UTF-9")):
        path.write_text(re.sub(r"(?m)^locale: .*", f"locale: {name}", path.read_text()))
        built.refused(part, "of this language it has pl_PL")


@pytest.mark.parametrize(
    ("setting", "reason"),
    [("timezone: Europe/Berlin", "add the package tzdata"),
     ("locale: de_DE.UTF-8", "add the package locales")],
)  # fmt: skip
def test_setting_that_the_image_cannot_have(built: World, setting: str, reason: str) -> None:
    path = built.root / "specs/web.yaml"
    path.write_text(path.read_text() + setting + "\n")
    build = built.doit("build", "spec=web", check=False)
    assert build.code != 0
    assert reason in build.text
    assert "Traceback" not in build.text


def test_recommends(built: World) -> None:
    only_root(built)
    built.add(built.deb("beta", "2", depends="gamma", extra={"Recommends": "epsilon"}))
    built.doit("lock", "spec=web")
    locked = (built.root / "specs/web.lock").read_text()
    assert '"beta"' in locked
    assert '"epsilon"' not in locked
    path = built.root / "specs/web.yaml"
    path.write_text(path.read_text() + "recommends: true\n")
    results = built.build()
    assert results["app"] == "built"
    assert "epsilon 1 all\n" in (built.root / "out/web/packages.txt").read_text()


def test_apt_syntax_in_package_lists(built: World) -> None:
    only_root(built)
    built.add(built.deb("delta", "2"), built.deb("epsilon", "3"), built.deb("zeta", "1"))
    built.edit("packages: [beta]", "packages: [beta, delta=1, epsilon/stable, 'zeta:all', alpha-]")
    results = built.build()
    assert results["app"] == "built"
    lines = (built.root / "out/web/packages.txt").read_text().splitlines()
    assert "delta 1 all" in lines
    assert "epsilon 3 all" in lines
    assert not [line for line in lines if line.startswith("alpha ")]


BASES = {
    "essential": "{tool: mmdebstrap, variant: essential}",
    "custom": "{tool: mmdebstrap, variant: custom, include: [alpha, apt, base-files, base-passwd, bash, coreutils, "
    "dash, libc-bin, usr-is-merged, debianutils, diffutils, findutils, grep, gzip, hostname, init-system-helpers, login, "
    "ncurses-bin, perl-base, sed, sysvinit-utils, util-linux]}",
    "extract": "{tool: mmdebstrap, variant: extract, include: [alpha, base-files]}",
    "debootstrap": "{tool: debootstrap, variant: minbase}",
}  # fmt: skip


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.nightly if name in ("custom", "essential") else ()) for name in BASES
])  # fmt: skip
def test_variants_and_debootstrap(built: World, tmp_path: Path, name: str) -> None:
    """Each base tool makes a base of the same closure; a variant without apt holds no layers.

    Whatever no package ships has a reason.
    """
    text = (built.root / "specs/web.yaml").read_text()
    plain = (
        text.partition("packages:")[0]
        + "images:\n  /: {file: v.img, format: ext4, container: raw}\n"
    )
    spec = plain.replace("{tool: mmdebstrap, variant: apt}", BASES[name])
    assert spec != plain
    built.write(f"{name}.yaml", spec)
    assert set(built.build(spec=name).values()) == {"built"}
    listed = (built.root / f"out/{name}/packages.txt").read_text().split("\n")
    names = {line.split()[0] for line in listed if line}
    assert ("apt" in names) == (name in ("custom", "debootstrap"))
    assert ("baseline" in names) == (name in ("essential", "debootstrap"))
    # What is only unpacked is in no list of dpkg's.
    debs = (built.root / "cache/debs").glob("*.deb") if name == "extract" else ()
    with mounted(built.root / f"out/{name}/v.img", tmp_path / name) as root:
        assert unowned(root, shipped(debs)) == []
