"""Which settings packages look at: found in their scripts, shown to them, and keyed only there."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import samples
from support.debs import make_deb
from support.samples import record
from support.trees import only_root, tree_of
from support.world import World
from tasks.errors import BuildError
from tasks.plan import lockfile, reads
from tasks.plan.keys import resolution_inputs
from tasks.plan.plan import make_plan
from tasks.stages.shown import LOCALES, with_locale

H, T, L = "hostname", "timezone", "locale"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # As Debian's own packages ask: postfix, slapd, krb5-config, dma, nullmailer, mariadb, bacula.
        ("myhostname=$(hostname --fqdn 2>/dev/null || echo '')", {H}),
        ("DOMAIN=`hostname -d 2>/dev/null` || true", {H}),
        ("my $fqdn = `hostname --fqdn 2>/dev/null`;", {H}),
        ("db_get shared/mailname", {H}),
        ("mariadb-install-db --user=mysql", {H}),
        (". /usr/share/bacula-common/common-functions.dpkg", {H}),
        ("make-ssl-cert generate-default-snakeoil", {H}),
        ("    configure_version $VERSION $2", {T, L}),
        ("eval `locale`", {L}),
        ("w=$(locale width 2>/dev/null) || return 0", {L}),
        # And as others may.
        ("/bin/hostname", {H}), ("n=`uname -n`", {H}), ("uname -a", {H}), ("cat /etc/hostname", {H}),
        ("use Sys::Hostname;", {H}), ("socket.gethostname()", {H}), ('echo "$HOSTNAME"', {H}),
        ("grep x /etc/hosts", {H}), ("cat /proc/sys/kernel/hostname", {H}), ("hostnamectl", {H}),
        ("read zone < /etc/timezone", {T}), ("readlink /etc/localtime", {T}), ("echo ${TZ:-UTC}", {T}),
        ("case $LANG in de*) ;; esac", {L}), (". /etc/default/locale", {L}), ("echo $LC_TIME", {L}),
        ("locale-gen", {L}), ("cat /etc/locale.gen", {L}),
        # The environment, in any language.
        ('os.environ["LANG"]', {L}), ("os.environ.get('TZ')", {T}), ("ENV['TZ'] || 1", {T}),
        ("print $ENV{LANG};", {L}), ("$ENV{'TZ'}", {T}), ('getenv("TZ")', {T}), ("@ENV{qw(A TZ)}", {T}),
        ("process.env.LC_ALL", {L}), ('ENVIRON["HOSTNAME"]', {H}), ("puts $::env(TZ)", {T}),
        ("printenv LANG", {L}), ("x=$(printenv TZ)", {T}), ("printenv HOSTNAME", {H}),
        ("[ -v TZ ] || exit", {T}), ("declare -p LANG", {H, T, L}), ("echo ${LANG:=C}", {L}),
        ("grep ^LANG= /x", {L}), ("if ($ENV{LANG} eq 'C')", {L}), ("if ENV['TZ'] == 'x'", {T}),
        ("env | grep x", {H, T, L}), ("printenv > /x", {H, T, L}), ("v=$(env)", {H, T, L}),
        ("set | grep x", {H, T, L}), ("export -p", {H, T, L}), ("cat /proc/self/environ", {H, T, L}),
        # A name and a zone, in any language.
        ("uname -m -n", {H}), ("uname -s --nodename", {H}), ("require('os').hostname()", {H}),
        ('php_uname("n")', {H}), ("use POSIX qw(uname);", {H}), ("(POSIX::uname())[1]", {H}),
        ("platform.uname()", {H}), ("Etc.uname[:nodename]", {H}), ("sysctl -n kernel.hostname", {H}),
        ("date +%Z", {T}), ("x=$(date)", {T}), ("LC_ALL=C date -R > /x", {T}), ("/bin/date -d @0 +%H", {T}),
        ("my @now = localtime(0);", {T}), ("time.strftime('%Z')", {T}), ("Time.now.zone", {T}),
        ("printf '%(%Z)T' 0", {T}), ("time.tzname[0]", {T}), ("new Date(0).getTimezoneOffset()", {T}),
        # What only looks alike.
        ("# the hostname, $TZ and locale", set()), ("  # $LANG", set()),
        ("hostname=$1; echo $hostname ${hostname}", set()), ("> /etc/hosts.allow", set()),
        ("uname -r", set()), ("LC_ALL=C sort", set()), ("LANG=C date", {T}),
        ("ls /usr/share/locale /usr/lib/locale/x", set()), ("touch /usr/share/zoneinfo/x", set()),
        ("unset LANG LC_ALL; export LC_ALL", set()), ("export LANG=C TZ=UTC", set()),
        ("$ENV{LC_ALL} = 'C'; delete $ENV{LANG};", set()), ("os.environ['TZ'] = 'UTC'", set()),
        ('env "LANG=C" sort', set()), ("env -i sort", set()), ("#!/usr/bin/env python3", set()),
        ("date -u +%F", set()), ("TZ=UTC date", set()), ("date +%s", set()), ("x.$(date +%Y%m%d-%H%M%S)", set()), ("up to date", set()), ("MacBook (Intl.)", set()),
        ("uname -s -r -m", set()),
        ("date -u +%FT%TZ", set()), ("url.hostname", set()), ("sed s/@HOSTNAME@/$1/", set()),
        ("db_get foo/hostname", set()), ("--hostname x", set()), ("#!/bin/sh\nexit 0", set()),
    ],
)  # fmt: skip
def test_what_a_script_looks_at(text: str, found: set[str]) -> None:
    assert reads.of_text(text.encode()) == found


@pytest.mark.parametrize("packing", ["xz", "gzip", "zstd", "none"])
def test_scripts_of_a_deb(tmp_path: Path, packing: str) -> None:
    scripts = {"postinst": "hostname", "config": "locale", "postrm": "cat /etc/timezone"}
    made = make_deb(tmp_path / "made", "alpha", scripts=scripts)
    folder = tmp_path / "unpacked"
    subprocess.run(["dpkg-deb", "-R", made, folder], check=True)
    path = tmp_path / "alpha.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--uniform-compression", "-Z", packing, "-b",
                    folder, path], check=True, capture_output=True)  # fmt: skip
    # What is removed with the package keeps nothing of a setting.
    assert reads.of_deb(path, "alpha") == {H, L}
    assert reads.of_deb(path, "locales") == set()


def test_what_is_no_deb_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.deb"
    good = make_deb(tmp_path / "made", "alpha", scripts={"postinst": "true"}).read_bytes()
    for content in (b"", b"x" * 100, good[:100], good.replace(b"control.tar", b"contrib.tar")):
        path.write_bytes(content)
        with pytest.raises(BuildError, match="maintainer scripts cannot be read"):
            reads.of_deb(path, "alpha")


# ---------------------------------------------------------------- keys

SPEC: dict[str, Any] = {
    "packages": ["one"],
    "layers": [{"name": "app", "packages": ["two"]}, {"name": "top", "packages": ["three"]}],
    "hostname": "web",
    "timezone": "Etc/UTC",
}


def keys(
    tmp_path: Path, found: Mapping[str, Sequence[str]], hostname: str = "web",
    words: Mapping[str, tuple[str, ...] | None] = {}, scripts: Mapping[str, list[str]] = {},
) -> dict[str, str]:  # fmt: skip
    """Each stage's key, where these layers' packages look at these settings."""
    spec = samples.load(tmp_path, **{**SPEC, "hostname": hostname})
    spec = replace(spec, layers=tuple(
        replace(one, reads=words.get(one.name)) for one in spec.layers))  # fmt: skip
    lock = samples.lock([record("apt")], {"packages": [record("one")], "app": [record("two")],
                                          "top": [record("three")]})  # fmt: skip
    lock = replace(lock, layers=tuple(
        replace(one, reads=dict.fromkeys(found.get(one.name, ()), ("x",)))
        for one in lock.layers))  # fmt: skip
    host = samples.host(spec, settings={"hostname": hostname}, reads=scripts)
    return {stage.name: stage.key for stage in make_plan(spec, lock, host).stages}


def redone(one: Mapping[str, str], other: Mapping[str, str]) -> set[str]:
    return {name for name in one if one[name] != other[name]} - {"/"}


@pytest.mark.parametrize(
    ("found", "words", "scripts", "changed"),
    [
        ({}, {}, {}, {"settings"}),
        ({"packages": [T, L], "app": [T]}, {}, {}, {"settings"}),
        ({"app": [H]}, {}, {}, {"app", "top", "settings"}),
        ({"packages": [H]}, {}, {}, {"packages", "app", "top", "settings"}),
        ({}, {"top": (H,)}, {}, {"top", "settings"}),
        ({"top": [T]}, {"top": (H,)}, {}, {"top", "settings"}),
        ({"app": [H]}, {"app": ()}, {}, {"settings"}),
        ({}, {}, {"top": [H]}, {"top", "settings"}),
        ({}, {"top": ()}, {"top": [H]}, {"settings"}),
    ],
)
def test_a_setting_is_in_the_keys_of_what_looks_at_it(
    tmp_path: Path, found: Mapping[str, list[str]], words: Mapping[str, tuple[str, ...]],
    scripts: Mapping[str, list[str]], changed: set[str],
) -> None:  # fmt: skip
    before, after = (keys(tmp_path, found, name, words, scripts) for name in ("web", "other"))
    assert redone(before, after) == changed


def test_reads_of_no_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="reads: it is of the layer `packages`"):
        samples.load(tmp_path, reads=[H])
    with pytest.raises(BuildError, match="reads"):
        samples.load(tmp_path, packages=["alpha"], reads=["password"])
    assert samples.load(tmp_path, packages=["alpha"], reads=[H]).layers[0].reads == (H,)


def test_a_lock_keeps_what_was_found_and_older_ones_are_read(tmp_path: Path) -> None:
    lock = samples.lock([record("apt")], {"app": [record("one")]})
    old = lockfile.dump(lock)
    assert "reads" not in old
    assert lockfile.parse(old, where="x") == lock
    found = replace(
        lock, scan=lockfile.SCAN, layers=(replace(lock.layers[0], reads={H: ("one",)}),)
    )
    assert lockfile.parse(lockfile.dump(found), where="x") == found
    for bad in ('{"password": ["one"]}', '{"hostname": "one"}', '{"hostname": ["One/.."]}', "[]"):
        text = lockfile.dump(found).replace('{"hostname": ["one"]}', bad)
        with pytest.raises(BuildError, match="not a lock that Strata wrote"):
            lockfile.parse(text, where="x")


def test_a_spec_with_settings_needs_a_lock_that_says_what_reads_them(tmp_path: Path) -> None:
    plain, named = (samples.load(tmp_path, packages=["alpha"], **more)
                    for more in ({}, {"hostname": "a"}))  # fmt: skip
    other = samples.load(tmp_path, packages=["alpha"], hostname="b", timezone="Etc/UTC")
    assert resolution_inputs(plain) != resolution_inputs(named)
    assert resolution_inputs(named) == resolution_inputs(other)
    password = samples.load(tmp_path, packages=["alpha"], root_password="x")
    assert resolution_inputs(plain) == resolution_inputs(password)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([], None),
        (["tzdata tzdata/Areas select Etc"], None),
        (["locales locales/locales_to_be_generated multiselect fr_FR.UTF-8 UTF-8"],
         "fr_FR.UTF-8 UTF-8, de_DE.UTF-8 UTF-8"),
        (["locales locales/locales_to_be_generated multiselect de_DE.UTF-8 UTF-8, C.UTF-8 UTF-8"],
         "de_DE.UTF-8 UTF-8, C.UTF-8 UTF-8"),
        (["locales locales/locales_to_be_generated multiselect All locales"], "All locales"),
        (["locales locales/locales_to_be_generated multiselect"], "de_DE.UTF-8 UTF-8"),
    ],
)  # fmt: skip
def test_a_users_own_locales_are_generated_beside_the_specs(
    answers: list[str], expected: str | None
) -> None:
    here = tuple(answers)
    for one, below in ((here, ()), ((), here)):
        given = with_locale(one, below, "de_DE.UTF-8")
        if expected is None:
            assert given == one
        else:
            assert given[-1] == f"locales {LOCALES} multiselect {expected}"
    assert with_locale(here, (), "") == here
    assert with_locale(here, (), "C.UTF-8") == here


# ---------------------------------------------------------------- real builds

SEES = """
{ uname -n; cat /etc/hostname; hostname -f; hostname -d; cat /etc/timezone; readlink /etc/localtime
  echo "$TZ"; echo "$LANG"; echo "[${LC_ALL-}]"; cat /etc/default/locale; cat /etc/generated
} > /seen
"""


# What no scan finds: an image's own tools, asked in a roundabout way.
HIDDEN = 'host=host; cat "/proc/sys/kernel/${host}name" > "/${DPKG_MAINTSCRIPT_PACKAGE}-saw"'


SHOWN = ["web.example.org", "web.example.org", "web.example.org", "example.org", "Europe/Berlin",
         "/usr/share/zoneinfo/Europe/Berlin", "Europe/Berlin", "de_DE.UTF-8", "[]",
         "LANG=de_DE.UTF-8", "de_DE.UTF-8 UTF-8"]  # fmt: skip


@pytest.mark.root
def test_packages_see_what_they_look_at_and_others_stay(built: World, tmp_path: Path) -> None:
    only_root(built)
    generate = "#!/bin/sh\ngrep -v '^#' /etc/locale.gen > /etc/generated\n"
    tools = {"/usr/share/zoneinfo/Europe/Berlin": "TZif", "/usr/sbin/locale-gen": generate}
    built.add(built.deb("alpha", "2", files=tools, scripts={"postinst": HIDDEN}),
              built.deb("beta", "2", depends="gamma", scripts={"postinst": SEES}))  # fmt: skip
    built.write("scripts/app.sh", "#!/bin/sh\nset -eu\nuname -n > /script-saw\n", 0o755)
    built.edit("images:", "hostname: web.example.org\ntimezone: Europe/Berlin\n"
               "locale: de_DE.UTF-8\nimages:")  # fmt: skip
    built.build()
    lock = lockfile.parse((built.root / "specs/web.lock").read_text(), where="")
    assert [dict(one.reads) for one in lock.layers] == [
        {}, dict.fromkeys((H, L, T), ("beta",))]  # fmt: skip
    with tree_of(built, tmp_path) as root:
        assert (root / "seen").read_text().splitlines() == SHOWN
        assert (root / "script-saw").read_text() == "web.example.org\n"
        assert (root / "alpha-saw").read_text() == "localhost\n"
        assert (root / "etc/hostname").read_text() == "web.example.org\n"
    # Of a package that nobody looks into, a spec's word counts; and what is not read is not redone.
    built.edit("hostname: web.example.org", "hostname: other")
    why = built.doit("why", "spec=web", check=False).text
    assert "hostname, which it looks at: web.example.org → other" in why
    assert "layer   packages" not in why
    assert built.build() == {"base": "hit", "packages": "hit", "app": "built",
                             "settings": "built", "/": "built"}  # fmt: skip
    built.edit("packages: [alpha]\n", "packages: [alpha]\nreads: [hostname]\n")
    assert built.build("lock=frozen")["packages"] == "built"
    with tree_of(built, tmp_path) as root:
        assert (root / "alpha-saw").read_text() == "other\n"
        assert (root / "seen").read_text().startswith("other\nother\n")


@pytest.mark.root
def test_a_moved_repository_has_only_new_packages_looked_at(built: World) -> None:
    built.edit("images:", "hostname: web\nimages:")
    built.doit("lock", "spec=web")
    before = (built.root / "specs/web.lock").read_text()
    assert '"reads": {}' in before
    for deb in built.root.glob("cache/debs/*.deb"):
        deb.unlink()
    built.add(built.deb("beta", "2", depends="gamma", scripts={"postinst": "hostname > /x"}))
    built.server.clear()
    built.doit("lock", "spec=web")
    fetched = [path for _method, path, _status in built.server.requests if path.endswith(".deb")]
    assert [path.rpartition("/")[2] for path in fetched] == ["beta_2_all.deb"]
    assert '"reads": {"hostname": ["beta"]}' in (built.root / "specs/web.lock").read_text()
    # A base sees none of it: told, since the bootstrap tool configures it.
    built.edit("variant: apt}", "variant: apt, include: [beta]}")
    text = built.doit("lock", "spec=web").text
    assert "base: the scripts of beta look at hostname, which a base is not shown" in text


@pytest.mark.root
def test_an_older_lock_is_stale_where_the_spec_has_settings(built: World) -> None:
    built.edit("images:", "hostname: web\nimages:")
    text = built.doit("build", "spec=web", "lock=frozen", check=False)
    assert text.code != 0
    assert re.search(r"lock=frozen, and the lock is older than the spec", text.text)
