"""Layers: packages, files, scripts and settings in real trees, and that nothing of the build stays."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from support.repository import Repository, Server, real_debs
from support.trees import mounted, only_root, tree_of
from support.unowned import shipped, unowned
from support.world import KEPT, SPEC, World, says

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


def test_recommends(built: World) -> None:
    only_root(built)
    built.add(built.deb("beta", "2", depends="gamma", extra={"Recommends": "epsilon"}))
    built.build()
    listed = (built.root / "out/web/packages.txt").read_text()
    assert "epsilon" not in listed
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


def test_repositories_flat_file_and_by_priority(built: World, tmp_path: Path) -> None:
    """A flat one over file:, and one of the same suite name whose priority wins over versions."""
    only_root(built)
    flat = Repository(tmp_path / "flat", flat=True, key=None)
    flat.add(built.deb("only-flat", "1"))
    flat.publish()
    pinned = Repository(tmp_path / "pinned", origin="Pinned", label="Pinned", key=None)
    pinned.add(built.deb("delta", "0.5"), built.deb("gamma", "7"))
    pinned.publish()
    with Server(pinned.root) as server:
        built.edit("base:", f"""\
  - {{name: flat, uri: "file://{flat.root}", suite: ./, trusted: true}}
  - {{name: pinned, uri: "{server.url}", suite: stable, section: main, priority: 1001,
     trusted: true}}
base:""")  # fmt: skip
        built.edit("packages: [beta]", "packages: [beta, only-flat, delta]")
        assert built.build()["app"] == "built"
    lines = (built.root / "out/web/packages.txt").read_text().splitlines()
    assert {"delta 0.5 all", "gamma 7 all", "only-flat 1 all"} <= set(lines)
    metadata = yaml.safe_load((built.root / "out/web/web.yaml").read_text())
    assert [repo["name"] for repo in metadata["repos"]] == ["main", "flat", "pinned"]
    assert metadata["repos"][2]["priority"] == 1001


def test_equal_release_fields_keep_their_own_priorities(built: World, tmp_path: Path) -> None:
    twin = Repository(tmp_path / "twin")
    twin.add(built.deb("delta", "0.1"), built.deb("beta", "0.1", depends="gamma"))
    twin.publish()
    with Server(twin.root) as server:
        built.edit("base:", f"""\
  - {{name: twin, uri: "{server.url}", suite: stable, section: main, keyring: keys/test.gpg,
     priority: 1001}}
base:""")  # fmt: skip
        built.edit("packages: [beta]", "packages: [beta, delta, epsilon]")
        built.doit("lock", "spec=web")
    lock = (built.root / "specs/web.lock").read_text()
    assert '"package": "delta", "version": "0.1"' in lock
    assert '"package": "beta", "version": "0.1"' in lock
    assert '"package": "epsilon", "version": "1"' in lock


def test_proxies_credentials_and_direct(built: World, tmp_path: Path) -> None:
    """Repositories are reached through the proxy, direct ones past it; no secret is written."""
    only_root(built)
    other = Repository(tmp_path / "other", origin="Other")
    other.add(built.deb("behind", "1"))
    other.publish()
    with (
        Server(other.root, auth=("someone", "pa55word")) as server,
        Server(built.repository.root) as proxy,
    ):
        port = server.url.rpartition(":")[2]
        built.edit("base:", f"""\
  - {{name: other, uri: "http://someone:pa55word@127.0.0.1:{port}", suite: stable, section: main,
     keyring: keys/test.gpg}}
proxies: {{http: "{proxy.url}", direct: [127.0.0.1]}}
base:""")  # fmt: skip
        built.edit("packages: [beta]", "packages: [beta, behind]")
        built.edit('"${mirror}"', "http://mirror.example.invalid")
        assert built.build()["app"] == "built"
        assert any(path.startswith("http://mirror.example.invalid/")
                   for _method, path, _status in proxy.requests)  # fmt: skip
        assert not any("127.0.0.1" in path for _method, path, _status in proxy.requests)
        assert server.requests
    for path in built.root.rglob("*"):
        if path.is_file() and path.name != "web.yaml" and path.stat().st_size < 1 << 20:
            assert b"pa55word" not in path.read_bytes(), path
    metadata = (built.root / "out/web/web.yaml").read_text()
    assert "pa55word" not in metadata
    assert f"http://***@127.0.0.1:{port}" in metadata


COUNT = """#!/bin/sh
[ "$1" != prereqs ] || exit 0
cat > /dev/null
echo "$version" >> /var/lib/initramfs-runs
"""


KERNEL = "exec run-parts --exit-on-error --arg=$V --arg=/boot/vmlinuz-$V /etc/kernel/postinst.d"


CHECK = """#!/bin/sh
set -eu
sort /var/lib/initramfs-runs
test "$(sort /var/lib/initramfs-runs | tr '\\n' ' ')" = "VERSIONS "
for version in VERSIONS; do
    mkinitramfs -o /boot/again $version
    cmp /boot/again /boot/initrd.img-$version
done
ls /boot/*.bak /boot/*.new 2> /dev/null && exit 1
rm /var/lib/initramfs-runs /boot/again
update-initramfs -u -k 1.0-test
test -s /boot/initrd.img-1.0-test
dpkg-trigger --no-await update-initramfs 2> /dev/null || true
dpkg --configure --pending
for version in VERSIONS; do test -s /boot/initrd.img-$version; done
"""


@pytest.mark.parametrize("versions", [
    ("1.0-test",), pytest.param(("1.0-test", "2.0-test"), marks=pytest.mark.nightly),
], ids=["one kernel", "two kernels"])  # fmt: skip
def test_each_initramfs_is_made_once_and_as_ever(built: World, versions: tuple[str, ...]) -> None:
    """Each kernel's postinst and a trigger ask for it; what a script asks for is made."""
    only_root(built)
    inside = ["?essential", "apt", "usr-is-merged"]
    base = {deb.name for deb in real_debs(KEPT / "debs", inside)}
    built.add(*(deb for deb in real_debs(KEPT / "debs", [*inside, "initramfs-tools"])
                if deb.name not in base))  # fmt: skip
    kernels = [
        built.deb(f"linux-image-{version}", depends="initramfs-tools, initcount", arch="amd64",
                  files={f"/boot/vmlinuz-{version}": "kernel\n", f"/boot/config-{version}": "CONFIG_RD_GZIP=y\n",
                         f"/lib/modules/{version}/modules.order": "",
                         f"/lib/modules/{version}/modules.builtin": ""},
                  scripts={"postinst": KERNEL.replace("$V", version)})
        for version in versions
    ]  # fmt: skip
    built.add(*kernels, built.deb("initcount", depends="initramfs-tools", files={
        "/usr/share/initramfs-tools/hooks/count": COUNT}))  # fmt: skip
    built.edit(
        "packages: [beta]", f"packages: [{', '.join(f'linux-image-{one}' for one in versions)}]"
    )
    built.write("scripts/app.sh", CHECK.replace("VERSIONS", " ".join(versions)), 0o755)
    built.build()


APT_CONF = """\
APT::Default-Release "bookworm";
APT::Get::Assume-No "true";
APT::Get::Simulate "true";
APT::Get::Download-Only "true";
APT::Install-Recommends "true";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
APT::Architectures { "riscv64"; };
Acquire::Languages { "de"; };
Dir::Bin::dpkg "/bin/false";
Dir::State::status "/dev/null";
Dir::Etc::sourceparts "/etc/apt/sources.list.d";
APT::Solver "none";
DPkg::Options { "--force-confnew"; "--refuse-downgrade"; };
DPkg::Pre-Install-Pkgs { "cat > /hooked-pkgs"; };
DPkg::Pre-Invoke { "touch /hooked-pre; exit 1"; };
DPkg::Post-Invoke { "touch /hooked-post; exit 1"; };
APT::Update::Pre-Invoke { "touch /hooked-update; exit 1"; };
APT::Update::Post-Invoke { "touch /hooked-updated"; };
APT::Update::Post-Invoke-Success { "touch /hooked-success"; };
APT::Update::Post-Invoke-Stats { "touch /hooked-stats"; };
Test::Seen "by packages";
"""


def test_configuration_in_the_image_changes_no_installation(built: World, tmp_path: Path) -> None:
    """apt's own of any kind; of dpkg's, what is left out is, and what a file holds stays."""
    only_root(built)
    built.write("apt.conf", APT_CONF)
    seen = "#!/bin/sh\nset -e\napt-config dump Test::Seen > /seen\n"
    built.add(
        built.deb("beta", "2", depends="gamma", scripts={"postinst": seen, "conffiles": "/etc/beta.conf\n"},
                  files={"/etc/beta.conf": "theirs\n", "/usr/share/doc/beta/copyright": "long\n"}),
        built.deb("alpha", "0.5"),
    )  # fmt: skip
    built.edit("packages: [beta]", "packages: [beta, alpha=0.5]")
    built.edit("layers:\n", """\
layers:
  - name: conf
    files:
      /etc/apt/apt.conf: apt.conf
      /etc/apt/apt.conf.d/99zz: apt.conf
      /etc/apt/preferences: {content: "Package: *\\nPin: origin *\\nPin-Priority: -1\\n"}
      /etc/apt/preferences.d/no: {content: "Package: beta\\nPin: version *\\nPin-Priority: -1\\n"}
      /etc/apt/sources.list: {content: "deb http://nowhere.invalid/ no main\\n"}
      /etc/apt/sources.list.d/no.sources: {content: "no source at all\\n"}
      /etc/apt/auth.conf: {content: "machine\\n"}
      /etc/dpkg/dpkg.cfg.d/docs: {content: "path-exclude=/usr/share/doc/*\\nforce-confnew\\nrefuse-downgrade\\n"}
      /etc/beta.conf: {content: "mine\\n"}
      /usr/local/bin/apt-get: {content: "#!/bin/sh\\nexit 3\\n", mode: "0755"}
      /usr/local/sbin/tar: {content: "#!/bin/sh\\nexit 3\\n", mode: "0755"}
""")  # fmt: skip
    built.write("scripts/app.sh", "#!/bin/sh\nset -eu\nmkdir -p /boot\necho k > /boot/kernel\n"
                "command -v apt-get > /script-saw\n", 0o755)  # fmt: skip
    built.build()
    with tree_of(built, tmp_path) as root:
        assert [path.name for path in root.glob("hooked*")] == []
        assert (root / "seen").read_text() == 'Test::Seen "by packages";\n'
        assert (root / "script-saw").read_text() == "/usr/local/bin/apt-get\n"
        assert (root / "etc/beta.conf").read_text() == "mine\n"
        assert not (root / "usr/share/doc/beta").exists()
        assert (root / "etc/apt/apt.conf").read_text() == APT_CONF
        assert (root / "usr/share/alpha/version").read_text() == "0.5\n"
    built.edit("      /etc/beta.conf:", """\
      /root/.dpkg.cfg: {content: "# mine\\nno-act\\n"}
      /etc/beta.conf:""")  # fmt: skip
    built.refused("/root/.dpkg.cfg: line 2: no-act: with this, dpkg installs nothing")


@pytest.mark.root
def test_essential_package_that_is_named_goes_and_a_script_that_removes_one_is_told(
    built: World,
) -> None:
    """`baseline` is essential here."""
    only_root(built)
    built.edit("packages: [alpha]", "packages: [alpha, baseline-]")
    assert built.build()["packages"] == "built"
    names = (built.root / "out/web/packages.txt").read_text()
    assert "alpha" in names
    assert "baseline" not in names
    built.write("scripts/app.sh", "#!/bin/sh\nset -e\ndpkg --purge alpha\nmkdir -p /boot\n", 0o755)
    built.refused(
        "layer app: the script specs/scripts/app.sh changed which packages are installed",
        "alpha 1 is missing", "list alpha- there",
    )  # fmt: skip
