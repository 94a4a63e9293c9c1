"""Bad input: each mistake is told in one message, ends with a status, and leaves nothing behind."""

from __future__ import annotations

import time

import pytest

from support.refusals import late, refused
from support.world import SPEC, World, says

# ---------------------------------------------------------------- command line


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["build"], ["no spec is named", "add spec=NAME; specs here: other, web"]),
        (["lock"], ["no spec is named", "add spec=NAME"]),
        (["build", "spec="], ["no spec is named", "add spec=NAME"]),
        (["build", "spec=wbe"],
         ["specs/wbe.yaml: there is no such spec", "did you mean spec=web?", "other, web"]),
        (["build", "spec=../web"],
         ["specs/../web.yaml: there is no such spec", "specs here: other, web"]),
        (["build", "sepc=web"], ["unknown variable sepc=", "did you mean spec=?", "lock, mirror"]),
        (["build", "spec=web", "color=red"], ["unknown variable color=", "variables: spec, lock"]),
        (["build", "spec=web", "lock=lastest"],
         ["lock=lastest: expected one of latest, keep, frozen"]),
        (["lock", "spec=web", "lock="], ["lock=: expected one of latest, keep, frozen"]),
        (["build", "spec=web", "mirror=nowhere"],
         ["mirror=nowhere: expected an http:, https: or file: address"]),
    ],
)  # fmt: skip
def test_command_line(fresh: World, words: list[str], parts: list[str]) -> None:
    fresh.write("other.yaml", SPEC)
    says(refused(fresh, *words), *parts)
    assert fresh.server.requests == []


# ---------------------------------------------------------------- the spec


BOMB = """\
a: &a [x, x, x, x, x, x, x, x, x]
b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]
c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]
d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]
e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]
f: &f [*e, *e, *e, *e, *e, *e, *e, *e, *e]
g: &g [*f, *f, *f, *f, *f, *f, *f, *f, *f]
h: &h [*g, *g, *g, *g, *g, *g, *g, *g, *g]
repos: *h
images: *h
"""


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        pytest.param("repos:\n  - {name: main\nimages: 5\n", ["specs/web.yaml:3:7: not YAML: expected ',' or '}'"],
                     id="unclosed"),
        pytest.param("repos:\n\t- x\n", ["specs/web.yaml:2:1: not YAML: found character '\\t'"],
                     id="tab"),
        pytest.param("images: {/: *root}\n",
                     ["specs/web.yaml:1:13: not YAML: found undefined alias 'root'"], id="alias"),
        pytest.param("images: !!python/object:os.system {}\n",
                     ["specs/web.yaml:1:9: a value with the tag '!!python/object:os.system'"], id="tag"),
        pytest.param("a: \0\n", ["specs/web.yaml: not YAML", "#x0000"], id="nul"),
        pytest.param("", ["specs/web.yaml: expected a mapping with `repos` and `images`"],
                     id="empty"),
        pytest.param("- web\n", ["specs/web.yaml: expected a mapping"], id="list"),
        pytest.param("a: b\n---\nc: d\n", ["specs/web.yaml:2:1: a second document begins here"],
                     id="two documents"),
        pytest.param("a: &a [*a]\n", ["specs/web.yaml:1:4: not YAML: found unconstructable"],
                     id="endless"),
        pytest.param("a: " + "[" * 100 + "]" * 100 + "\n",
                     ["specs/web.yaml: nested deeper than 50 levels"], id="deep"),
        pytest.param("a: " + "[" * 5000 + "]" * 5000 + "\n", ["specs/web.yaml: "], id="very deep"),
        pytest.param("#" * 2_000_000, ["specs/web.yaml: larger than 262144 bytes"], id="large"),
        pytest.param(BOMB, ["specs/web.yaml: more than 100000 values with its aliases written out"],
                     id="bomb"),
    ],
)  # fmt: skip
def test_text_that_is_no_spec(fresh: World, text: str, parts: list[str]) -> None:
    fresh.write("web.yaml", text)
    began = time.monotonic()
    says(refused(fresh, "build", "spec=web"), *parts)
    assert time.monotonic() - began < 5


APP = "  - name: app\n"


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        # unknown and missing fields
        ("packages: [alpha]", "pakages: [alpha]",
         ["specs/web.yaml: unknown field 'pakages'", "did you mean 'packages'?"]),
        ("format: ext2", "fromat: ext2, format: ext2",
         ["specs/web.yaml: images./boot: unknown field 'fromat' (line 13)",
          "did you mean 'format'?"]),
        ("packages: [beta]", "color: red",
         ["specs/web.yaml: layers[0]: unknown field 'color'", "fields here: name, packages"]),
        ("variant: apt", "varinat: apt",
         ["specs/web.yaml: base: unknown field 'varinat'", "did you mean 'variant'?"]),
        ("file: web.img.gz, format: ext4", "file: web.img.gz",
         ["specs/web.yaml: images./: missing field 'format'"]),
        ("name: main, ", "", ["specs/web.yaml: repos[0]: missing field 'name'"]),
        ("suite: stable, ", "", ["specs/web.yaml: repos[0]: missing field 'suite'"]),
        ("section: main, ", "", ["specs/web.yaml: repos.main: missing field 'section'"]),
        ("images:\n", "# images:\n", ["specs/web.yaml"]),
        # wrong types
        ("packages: [alpha]", "packages: alpha",
         ["specs/web.yaml: packages: expected a list, found the text 'alpha'"]),
        ("packages: [alpha]", "packages: [5]",
         ["specs/web.yaml: packages[0]: expected a text, found '5', which YAML reads as a number"]),
        ("packages: [alpha]", "packages: [alpha]\nhostname: 2024-01-01",
         ["specs/web.yaml: hostname: expected a text, found '2024-01-01'", "as a date"]),
        ("packages: [alpha]", "packages: [alpha]\nrecommends: yes please",
         ["specs/web.yaml: recommends: expected true or false, found the text 'yes please'"]),
        ("{/etc/motd: files/motd}", "{/etc/motd: {source: files/motd, mode: 0644}}",
         ["specs/web.yaml: layers[0].files./etc/motd", "mode: expected a text, found '0644', which YAML",
          "the number 420", "put it in quotes: \"0644\""]),
        ("{/etc/motd: files/motd}", "{/etc/motd: {source: files/motd, content: hello}}",
         ["specs/web.yaml: layers[0].files./etc/motd", "source", "content"]),
        ("{/etc/motd: files/motd}", "{etc/motd: files/motd}",
         ["specs/web.yaml: layers[0].files: 'etc/motd'"]),
        ("{/etc/motd: files/motd}", "{/etc/../motd: files/motd}",
         ["specs/web.yaml: layers.app.files: '/etc/../motd' is no plain absolute path"]),
        ("keyring:", "priority: high, keyring:",
         ["specs/web.yaml: repos[0].priority: expected a whole number, found the text 'high'"]),
        # values
        ("format: ext2", "format: ext5",
         ["specs/web.yaml: images./boot.format: 'ext5' is not one of ext2, ext3, ext4,", "'ext4'?"]),
        ("tool: mmdebstrap", "tool: multistrap",
         ["specs/web.yaml: base.tool: 'multistrap' is not one of mmdebstrap, debootstrap"]),
        ("tool: mmdebstrap", "tool: debootstrap",
         ["specs/web.yaml: base.variant: 'apt' is not one of debootstrap's variants: minbase"]),
        ("variant: apt", "variant: custom", ["specs/web.yaml: base.include: the variant 'custom'"]),
        ("format: ext2", "format: ext2, size: 20X", ["specs/web.yaml: images./boot.size: '20X'"]),
        ("format: ext2", "format: ext2, size: 0", ["specs/web.yaml: images./boot.size: 0"]),
        ("format: ext2", "format: ext2, size: 99999999999999G",
         ["specs/web.yaml: images./boot.size: larger than 16 TiB"]),
        ("format: ext2", "format: ext2, size: 20M, free: 5M",
         ["specs/web.yaml: images./boot: only one of size and free may be given"]),
        ("format: ext2", "format: ext2, label: a-label-too-long-for-it",
         ["specs/web.yaml: images./boot.label: ext2 takes 16 characters"]),
        ("format: ext2", "format: ext2, uuid: 1234-5678",
         ["specs/web.yaml: images./boot.uuid: '1234-5678' is not of ext2's form"]),
        ("format: ext2", "format: ext2, options: --bogus",
         ["specs/web.yaml: images./boot.options: '--bogus' is not one of the options that mke2fs",
          "-b, -C, -e", "may be given: nothing that names a file or a device"]),
        ("format: ext2", "format: btrfs, options: -r ..",
         ["specs/web.yaml: images./boot.options: '-r' is not one of the options that mkfs.btrfs"]),
        ("format: ext2", "format: xfs, options: '-l size=70m,name=new.py'",
         ["specs/web.yaml: images./boot.options: '-l name' is not one of the options that mkfs.xfs"]),
        ("format: ext2", "format: xfs, pack: direct",
         ["specs/web.yaml: images./boot.pack: direct works for ext2, ext3 and ext4 only"]),
        ("/boot: {", "boot: {", ["specs/web.yaml: images: 'boot'"]),
        ("packages: [alpha]", "packages: [alpha, 'beta; reboot']",
         ["specs/web.yaml: packages[1]: 'beta; reboot'"]),
        ("packages: [alpha]", 'packages: ["alpha\\n"]', ["specs/web.yaml: packages[0]: 'alpha\\n'"]),
        ("suite: stable,", 'suite: "stable\\n",', ["specs/web.yaml: repos[0].suite: 'stable\\n'"]),
        ("${mirror}", "ftp://example.org/debian", ["specs/web.yaml: repos[0].uri: 'ftp:"]),
        ("${mirror}", "http://example.org/../debian",
         ["specs/web.yaml: repos.main: `..` is not allowed in uri and suite"]),
        ("suite: stable,", "suite: ./,",
         ["specs/web.yaml: repos.main.section: a flat repository has no components"]),
        ("packages: [alpha]", "packages: [alpha]\ndebconf: [alpha alpha/question]",
         ["specs/web.yaml: debconf: 'alpha alpha/question' is not `PACKAGE QUESTION TYPE VALUE`"]),
        # what stands twice
        ("packages: [alpha]", "packages: [alpha]\npackages: [beta]",
         ["specs/web.yaml:6:1: 'packages' stands twice"]),
        ("format: ext2", "format: ext2, format: ext4", ["specs/web.yaml:13:", "'format' stands twice"]),
        ("\nbase:", "\n  - {name: main, uri: 'file:/srv', suite: ./}\nbase:",
         ["specs/web.yaml: repos: 'main' stands twice"]),
        (APP, APP + APP, ["specs/web.yaml: layers: 'app' stands twice"]),
        ("name: app", "name: base", ["specs/web.yaml: layers: the name 'base' is taken"]),
        ("name: app", "name: packages", ["specs/web.yaml: layers: 'packages' stands twice"]),
        ("web-boot.img.gz", "web.img.gz",
         ["specs/web.yaml: images: file: 'web.img.gz' stands twice"]),
        ("web-boot.img.gz", "build.json",
         ["specs/web.yaml: images./boot.file: 'build.json' is the name of"]),
        ("  /: {", "  /usr: {", ["specs/web.yaml: images: nothing is mounted at `/`"]),
    ],
)  # fmt: skip
def test_spec(fresh: World, old: str, new: str, parts: list[str]) -> None:
    fresh.edit(old, new)
    says(refused(fresh, "build", "spec=web"), "ERROR: " + parts[0], *parts[1:])
    assert fresh.server.requests == []


def test_secrets_are_not_in_messages(fresh: World) -> None:
    fresh.edit("packages: [alpha]", "root_password: [hunter2]")
    assert "hunter2" not in refused(fresh, "build", "spec=web")
    fresh.edit("root_password: [hunter2]", "proxies: 'http://me:hunter2@proxy:3128'")
    assert "hunter2" not in refused(fresh, "build", "spec=web")


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("keys/test.gpg", "keys/tset.gpg",
         ["repos.main.keyring: specs/keys/tset.gpg is missing", "no keys/tset.gpg either",
          "relative to the spec's folder"]),
        ("keys/test.gpg", "keys", ["repos.main.keyring: specs/keys is missing"]),
        ("scripts/app.sh", "scripts/apps.sh",
         ["layers.app.script: specs/scripts/apps.sh cannot be read: No such file"]),
        ("scripts/app.sh", "specs/scripts/none.sh",
         ["layers.app.script: specs/specs/scripts/none.sh cannot be read: No such file",
          "there is no specs/scripts/none.sh either"]),
        ("scripts/app.sh", "/none.sh",
         ["layers.app.script: /none.sh cannot be read: No such file"]),
        ("scripts/app.sh", "scripts", ["layers.app.script: specs/scripts is no file"]),
        ("files/motd}", "files/nothing}",
         ["layers.app.files: /etc/motd: the source specs/files/nothing cannot be read: No such",
          "there is no files/nothing either"]),
    ],
)  # fmt: skip
def test_missing_file(fresh: World, old: str, new: str, parts: list[str]) -> None:
    fresh.edit(old, new)
    before = fresh.server.requests
    says(refused(fresh, "lock", "spec=web") if "keyring" in parts[0] else late(fresh),
         "specs/web.yaml: " + parts[0], *parts[1:])  # fmt: skip
    assert before == fresh.server.requests


def test_missing_keyring_where_it_goes_into_the_image(fresh: World) -> None:
    fresh.doit("lock", "spec=web")
    fresh.edit("packages: [alpha]", "apt_sources: true\npackages: [alpha]")
    (fresh.root / "specs/keys/test.gpg").unlink()
    for words in (["keys"], ["why"], ["build", "lock=frozen"]):
        told = fresh.doit(*words, "spec=web", check=False)
        assert told.code != 0
        assert "Traceback" not in told.text
        assert "repos.main.keyring: specs/keys/test.gpg is missing" in told.text
    assert "Traceback" not in fresh.doit("list", "spec=web", check=False).text


@pytest.mark.parametrize("name", ["..", ".", "../web", "nothing"])
def test_clean_removes_what_a_spec_made_and_nothing_else(fresh: World, name: str) -> None:
    kept = fresh.root / "out/other/file"
    kept.parent.mkdir(parents=True)
    kept.touch()
    before = sorted(path for path in fresh.root.rglob("*") if ".doit" not in path.parts)
    fresh.doit("clean", "build", f"spec={name}", check=False)
    assert sorted(path for path in fresh.root.rglob("*") if ".doit" not in path.parts) == before


# ---------------------------------------------------------------- layers and images


@pytest.mark.root
@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("file: web.img.gz, format: ext4", "file: web.img.gz, format: ext4, size: 20M",
         ["image:/: failed", "specs/web.yaml: images./.size: 20.0 MiB of ext4 do not hold the tree",
          "make size larger"]),
        ("format: ext2", "format: ext2, size: 8K", ["image:/boot: failed", "images./boot.size: "]),
        ("file: web.img.gz, format: ext4", "file: web.img.gz, format: vfat",
         ["image:/: failed", "specs/web.yaml: images./.format: vfat cannot hold /",
          "use another format"]),
        ("  /boot: {", "  /data: {",
         ["image:/data: failed", "specs/web.yaml: images./data: the tree has no directory /data"]),
        ("format: ext2", "format: ext2, options: -b 3",
         ["image:/boot: failed", "image /boot failed (exit status 1)", "invalid block size - 3"]),
        ("{/etc/motd: files/motd}", "{/etc/motd: {source: files/motd, owner: nobodyelse}}",
         ["layer:app: failed", "layers.app.files: owner 'nobodyelse': the image has no"]),
        ("packages: [alpha]", "packages: [alpha]\ntimezone: Europe/Berlin",
         ["layer:settings: failed", "timezone: the image has no zone Europe/Berlin", "tzdata"]),
        ("scripts/app.sh", "scripts/bad.sh",
         ["layer:app: failed", "layer app failed (exit status 3)", "what went wrong",
          "the whole output is in out/web/log/layer-app.log"]),
    ],
)  # fmt: skip
def test_stage(built: World, old: str, new: str, parts: list[str]) -> None:
    built.write("scripts/bad.sh", "#!/bin/sh\necho what went wrong >&2\nexit 3\n", 0o755)
    built.edit(old, new)
    says(late(built), *parts)
