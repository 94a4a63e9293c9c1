"""What a spec may hold, field by field, by the manual page or policy that rules it; and what is said.

No message shows a regular expression: each pattern of the schema has a sentence for people.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.samples import IMAGE, REPO, SCHEMA, load
from tasks.errors import BuildError
from tasks.plan.passwords import debconf_identity
from tasks.spec import document
from tasks.spec.load import find_spec, spec_names
from tasks.spec.schema import validate
from tasks.stages.install import preseeds

DOCUMENT: dict[str, Any] = json.loads(SCHEMA.read_text())


REGEX = re.compile(r"\\[dsSwZu.$]|\[a-z|\[A-Z|\[0-9|\[\^|\]\*|\]\+|\)\*|\)\?|\{0,|^\^|'\^")


def patterns(schema: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each part of the schema that has a pattern, and where it stands."""
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield where, schema
        for name, value in schema.items():
            if name not in ("properties", "items", "definitions", "additionalProperties"):
                yield from patterns(value, f"{where}/{name}")
            elif name in ("properties", "definitions"):
                for field, inner in value.items():
                    here = where if name == "properties" else f"{where}/definitions"
                    yield from patterns(inner, f"{here}/{field}")
            else:
                yield from patterns(value, where + ("[]" if name == "items" else "/*"))
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from patterns(value, f"{where}/{number}")


PATTERNS = dict(patterns(DOCUMENT))


@pytest.mark.parametrize("where", PATTERNS)
def test_every_pattern_has_a_sentence_for_people(where: str) -> None:
    """Editors show it, too: yaml-language-server and VS Code know `patternErrorMessage`."""
    sentence = PATTERNS[where].get("patternErrorMessage", "")
    assert sentence.startswith("expected "), f"{where}: add a patternErrorMessage"
    assert len(sentence) > 30
    assert not REGEX.search(sentence)
    assert sentence not in (PATTERNS[where]["pattern"], "")
    assert PATTERNS[where]["pattern"][0] + PATTERNS[where]["pattern"][-1] == "^$"


# ---------------------------------------------------------------- each field by its ruling source


@dataclass(frozen=True)
class Field:
    """How a value is put into a spec, what rules it, and values that this allows and refuses."""

    put: Callable[[Any], dict[str, Any]]
    path: str
    source: str
    good: list[Any]
    bad: list[Any]


def repo(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {"repos": [{**REPO, name: value}]}


def image(name: str, **more: Any) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {"images": {"/": {**IMAGE, **more, name: value}}}


def top(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: value}


def item(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: [value]}


def file(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {
        "layers": [{"name": "app", "files": {"/srv/x": {"content": "", name: value}}}]
    }


def user(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {"users": {"admin": {name: value}}}


def disk(name: str, **more: Any) -> Callable[[Any], dict[str, Any]]:
    files = {"web.qcow2": {"format": "qcow2"}}
    return lambda value: {"disks": {"web": {"size": "4G", "files": files, **more, name: value}}}


def partition(name: str, **more: Any) -> Callable[[Any], dict[str, Any]]:
    """A partition behind those that a disk needs."""
    needed: list[Any] = [{"name": "esp"}, {"name": "root", "mount": "/"}]
    more = {"name": "more", "size": "1M", **more}
    return lambda value: disk("partitions")([*needed, {**more, name: value}])


def config(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {"exports": {"web-oci": {"format": "oci", "config": {name: value}}}}


LONG = "a" * 63


HASH = "x" * 43


TABLE: dict[str, Field] = {
    "/packages[]": Field(
        item("packages"), "packages[0]",
        "Debian policy 5.6.1 and 5.6.12, apt-get(8), deb-version(7)",
        ["curl", "g++", "libstdc++6", "0ad", "2to3", "r-base", "python3.11", "libc6:i386", "gcc:native",
         "python3:any", "libc6:hurd-i386", "vim=2:9.0.1378-2+deb12u2", "a4=1.0~rc1", "nginx/bookworm-backports",
         "nano-", "nano+", "libc6:i386-", "linux-image-amd64=6.*", "x11=1:2:3"],
        ["a", "Curl", "curl_x", "curl ", "-curl", "+x", "curl*", "^curl$", "lib?", "task^", "curl=", "curl=a b",
         "curl=x:1", "curl/", "curl/a/b", "curl:", "curl:AMD64", "größe", "a;b", "?essential", ""],
    ),
    "/repos[]/uri": Field(
        repo("uri"), "repos[0].uri", "RFC 3986, sources.list(5)",
        ["${mirror}", "${mirror}/x", "${security_mirror}", "http://h/debian", "https://h:8443/x", "file:/srv/x",
         "file:///srv/sp%20ace", "http://[::1]:8080/x", "http://[2001:db8::1]/x", "http://user:correct%20horse@h/x",
         "http://u:p@[::1]:80/x", "http://h/home:/me/Debian_12/", "http://h/~me/x;y=1,2"],
        ["", "h/debian", "ftp://h/x", "cdrom:[Debian]/", "copy:/srv", "mirror+file:/etc/x", "tor+http://h/x",
         "HTTP://h/x", "http://h/a b", "http://h/[x]", "http://[::1/x", "file:srv", "http://h/\n"],
    ),
    "/repos[]/snapshot": Field(
        repo("snapshot"), "repos[0].snapshot", "RFC 3339, in UTC",
        ["2026-11-20", "20261120", "2026-11-20T06:00:00Z", "20261120T060000Z", "2026-11-20 06:00:00Z"],
        ["", "yesterday", "2026-11", "20.11.2026", "2026-11-20T06:00", "2026-11-20T06:00:00", "2026-11-20T06:00:00+01:00",
         "2026-11-20/../x", "2026-11-20\n"],
    ),
    "/repos[]/suite": Field(
        repo("suite"), "repos[0].suite", "sources.list(5)",
        ["bookworm", "bookworm-updates", "stable/updates", "Debian_12", "xUbuntu_24.04", "12.5", "a~b+c",
         "_x", "home:me"],
        ["", " ", "book worm", "-x", "$(ARCH)", "~x", "a[b]", "a\n", "größe"],
    ),
    "/repos[]/section": Field(
        repo("section"), "repos[0].section", "sources.list(5)",
        ["main", "main contrib non-free non-free-firmware", "main/debian-installer", " main  contrib ", "1.0",
         "_x"],
        ["main,contrib", "main;x", "-x", "main\n", "$(x)", "main [x]"],
    ),
    "/repos[]/pins[]/packages": Field(
        lambda v: {"repos": [{**REPO, "pins": [{"packages": v, "priority": 1}]}]},
        "repos[0].pins[0].packages", "apt_preferences(5)",
        ["linux-*", "src:glibc", "a b", "*", "/^lib.*x$/", "gcc:amd64"],
        ["", "a\nb", "a'b", " ", 'a"b'],
    ),
    "/definitions/files/propertyNames": Field(
        lambda value: {"layers": [{"name": "app", "files": {value: {"content": ""}}}]}, "layers[0].files",
        "path_resolution(7): any byte but NUL; Strata leaves out what ends a line",
        ["/etc/motd", "/srv/a b", "/srv/Größe ☃", "/.hidden", "/a:b", "/a'b\"c", "/a\\b", "/-x", "/srv/a=$b;c*",
         "/" + "a" * 255],
        ["etc/motd", "", "/", "/etc/", "/a\nb", "/a\0", "/a\x7f", "/a\x9bb"],
    ),
    "/definitions/owner": Field(
        file("owner"), "layers[0].files./srv/x.owner", "useradd(8) as Debian has it, chown(1)",
        ["root", "root:root", "root:Debian-exim", "Debian-snmp:Debian-snmp", "0:0", "1000", "0:4294967294",
         ":adm", "_apt:nogroup", "www.data", "samba$", "me@example", "3com", "a" * 32, "größe:ärger", "systemd-network"],
        ["", ":", "root:", "-x", "+x", "~x", "a b", "a:b:c", "a,b", "root:-x", "a" * 33, "a\n", "a$b", "$(x)"],
    ),
    "/definitions/mode": Field(
        file("mode"), "layers[0].files./srv/x.mode", "chmod(1)",
        ["0644", "644", "4755", "0", "7777"],
        ["", "0o644", "u=rw", "888", "00644", "0644 ", "0x1f", "-rw-r--r--"],
    ),
    "/definitions/account": Field(
        lambda value: {"users": {value: None}}, "users",
        "useradd(8), groupadd(8): Debian's refuse what is no portable name of POSIX, 3.437",
        ["admin", "_apt", "Debian-exim", "a", "www.data", "a" * 32],
        ["", "1st", "-x", ".x", "a b", "a:b", "a/b", "größe", "a" * 33, "a\n", "a$", "a,b"],
    ),
    "/definitions/users/*/comment": Field(
        user("comment"), "users.admin.comment", "passwd(5)",
        ["", "Ann, Room 1", "größe"], ["a:b", "a\nb", "a\0"],
    ),
    "/definitions/users/*/shell": Field(
        user("shell"), "users.admin.shell", "passwd(5), shells(5)",
        ["/bin/sh", "/usr/bin/zsh"], ["", "/", "zsh", "/a:b", "/bin/sh\n"],
    ),
    "/definitions/users/*/home": Field(
        user("home"), "users.admin.home", "passwd(5)",
        ["/home/admin", "/srv/a b", "/x"], ["", "/", "home", "/home/", "/a:b", "/a\n"],
    ),
    "/definitions/overlays[]/oneOf/1/modes/propertyNames": Field(
        lambda value: {"overlays": [{"source": "rootfs", "modes": {value: "0755"}}]},
        "overlays[0].modes", "path_resolution(7), glob(7)",
        ["/usr/local/bin/x", "/usr/local/bin/*", "/a b"], ["", "/", "a", "/a\n"],
    ),
    "/definitions/unit_names[]": Field(
        lambda value: {"services": {"enable": [value]}}, "services.enable[0]", "systemd.unit(5)",
        ["nginx", "nginx.service", "getty@tty1.service", "dev-sda.swap", "a\\x2db.mount", "1:2_3"],
        ["", "a b", "a/b", "größe", "a\n", "a;b", "a" * 256],
    ),
    "/definitions/env/propertyNames": Field(
        lambda value: {"script": "a.sh", "env": {value: "x"}}, "env", "environ(7), POSIX 8.1",
        ["A", "_x", "a1"], ["", "1a", "a-b", "a=b", "a b", "ä"],
    ),
    "/definitions/env/*": Field(
        lambda value: {"script": "a.sh", "env": {"A": value}}, "env.A",
        "environ(7): any byte but NUL", ["", "x y", "a\nb", "ä", 1, True, "$(x)"], ["a\0b"],
    ),
    "/definitions/remove[]": Field(
        lambda value: {"layers": [{"name": "app", "remove": [value]}]}, "layers[0].remove[0]",
        "glob(7)", ["/usr/share/doc/*", "/srv/a b", "/x?"], ["", "/", "usr", "/a\nb"],
    ),
    "/hostname": Field(
        top("hostname"), "hostname", "RFC 1123 2.1, hostname(7), sethostname(2): 64 bytes",
        ["web", "WEB1", "web1.example.org", "3com", "a-b", LONG, "xn--gre-7ka", "1.2"],
        ["", "-web", "web-", "web_1", "a..b", ".a", "a.", "größe", "a b", LONG + "a", "a-.b", "web\n",
         f"{LONG}.b"],
    ),
    "/timezone": Field(
        top("timezone"), "timezone", "zic(8), the tz database's Theory",
        ["UTC", "Europe/Berlin", "Etc/GMT+5", "Etc/GMT-14", "America/Argentina/Buenos_Aires",
         "America/Port-au-Prince", "GB-Eire", "EST5EDT", "posix/UTC", "NZ-CHAT"],
        ["", "/Europe/Berlin", "../UTC", "Europe/../UTC", "Europe//Berlin", "Europe/", "Euro pe", "a\n"],
    ),
    "/definitions/locale": Field(
        top("locale"), "locale", "setlocale(3), locale.gen(5)",
        ["C", "POSIX", "C.UTF-8", "en_US.utf8", "de_DE@euro", "de_DE.UTF-8", "sr_RS@latin", "eo", "ber_DZ",
         "ca_ES.UTF-8@valencia", "ja_JP.EUC-JP", "zh_TW.Big5"],
        ["", "de DE", "ca_ES@valencia.UTF-8", "de-DE", "de_DE.", "@euro", "de_DE.UTF-8\n", "../x", "$(x)"],
    ),
    "/definitions/password": Field(
        top("root_password"), "root_password", "crypt(3): any byte but NUL; a login line has no controls",
        ["x", "correct horse", "Grüße☃", "a:b", "$6$x", " x "],
        ["", "a\nb", "a\0", "\x7f", "a\tb"],
    ),
    "/definitions/hash": Field(
        top("hashed_root_password"), "hashed_root_password", "crypt(5), shadow(5)",
        ["*", "!", "!!", "!*", "*NP*", "!locked", f"$y$j9T$abc./$${HASH}", f"$gy$j9T$abc${HASH}", "$7$CU..../....x$y",
         "$2b$12$" + "x" * 53, "$6$rounds=5000$salt$" + "x" * 86, "$6$salt$" + "x" * 86, f"$5$salt${HASH}",
         "$1$salt$" + "x" * 22, "$md5,rounds=5000$GUBv0xjJ$$mSwgIswdjlTY0YxV7HBVm0", "$sha1$24680$xx$yyyyyyyy",
         "$3$$8846f7eaee8fb117ad06bdd830b7586c", "_" + "x" * 19, "ab" + "x" * 11, f"!$6$salt${'x' * 86}"],
        ["", "hunter2", "secret password", "$6$a:b$c", "$6$", "$6$a\n", "größe", "x:y", "$6$salt$ab c", "abc!"],
    ),
    "/proxies/direct[]": Field(
        lambda value: {"proxies": {"direct": [value]}}, "proxies.direct[0]",
        "apt.conf(5): Acquire::http::Proxy::HOST is one host",
        ["10.0.0.1", "apt.example.org", "host_1", "localhost", "::1"],
        ["", ".example.org", "*.example.org", "10.0.0.0/8", "http://h", "a b", "-x"],
    ),
    "/definitions/mount": Field(
        lambda value: {"images": {"/": IMAGE, value: {"file": "b", "format": "ext2"}}}, "images",
        "hier(7), mount(8), fstab(5)",
        ["/boot", "/var/lib", "/.snapshots", "/home/@data", "/srv/größe", "/my disk", "/_x", "/a.b", "/a+b~c#d%e"],
        ["boot", "", "/boot/", "//boot", "/a/../b", "/..", "/.", "/a/.", "/a=b", "/a:b", "/a\n", "/a*", "/$(x)",
         "/a'b", "/a\\b", "/a\u202eb"],
    ),
    "/images/*/file": Field(
        image("file"), "images./.file", "path_resolution(7); Strata's own, a word of SHA256SUMS",
        ["a.img", "Web_1.img.gz", "a+b.img", "web:1.img", "größe.img", "web@2=x,y~z.img", "_a", "a" * 100],
        ["", ".img", "-a", "a/b", "a b", "..", "~a", "a\n", "a*", "$(x)", "a" * 101, "a\u202eb"],
    ),
    "/version": Field(
        top("version"), "version", "os-release(5); git-describe(1)",
        ["1", "1.0", "1.0-rc1", "v2.3~beta^1+x", "git", "date", "20261127", "a_b", "a" * 64],
        ["", "-1", ".1", "1 2", "1/2", "1:2", "größe", "a" * 65, "1\n", "$(x)", '"'],
    ),
    "/definitions/label": Field(
        image("label"), "images./.label", "mke2fs(8): 16 bytes",
        ["root", "a" * 16, "My Disk #1", "größe", "-x", ".x", "a/b:c", "ä" * 8],
        ["", "a" * 17, "ä" * 9, "a\nb", "a\0", "\x7f"],
    ),
    "/definitions/uuid": Field(
        image("uuid"), "images./.uuid", "RFC 9562; mkfs.fat(8) for vfat",
        ["00000000-0000-4000-8000-00000000ABCD", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"],
        ["", "0000", "6ba7b8109dad11d180b400c04fd430c8", "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}", "1A2B-3C4D",
         "6ba7b810-9dad-11d1-80b4-00c04fd430cg"],
    ),
    "/definitions/mkfs_options/oneOf/0": Field(
        image("options"), "images./.options", "mke2fs(8); tasks/formats/",
        ["-m 1 -i 8192", "", "-E stride=16,stripe_width=64", "-O ^64bit"],
        ["-m 1; reboot", "/dev/sda", "'-m 1'", "a\nb", "-m\t1"],
    ),
    "/definitions/mkfs_options/oneOf/1[]": Field(
        lambda value: {"images": {"/": {**IMAGE, "options": ["-m", value]}}}, "images./.options[1]",
        "mke2fs(8); tasks/formats/", ["1", "0.5"], ["", "1 2", "/x", "'1'"],
    ),
    "/definitions/name": Field(
        repo("name"), "repos[0].name", "Strata's own: a word of a task, of a pin and of a file's name",
        ["main", "mos9.0-updates", "A", "a_b+c", "9", "a" * 64],
        ["", "-a", ".a", "a b", "a/b", "a:b", "a" * 65, "a\n", "größe"],
    ),
    "/definitions/path": Field(
        repo("keyring"), "repos[0].keyring", "path_resolution(7)",
        ["keys/a.gpg", "../a", "/etc/a", "a b", "größe", "-a", "a:b"], ["", "a\nb", "a\0"],
    ),
    "/definitions/proxy": Field(
        lambda value: {"proxies": {"http": value}}, "proxies.http", "apt-transport-http(1)",
        ["http://proxy:3128", "https://u:p@proxy", "socks5h://proxy:1080", "http://[::1]:3128/"],
        ["", "proxy:3128", "DIRECT", "ftp://x", "http://", "http://a b", "socks5://x"],
    ),
    "/definitions/size": Field(
        image("size"), "images./.size", "truncate(1), and fractions as systemd.syntax(7) has them",
        ["4096", "4K", "512M", "1G", "1.5G", "1T", "512MiB", "1GB", 4096],
        ["", "0", "0M", "5 GB", "1,5G", "-1G", "1.5", "1P", "G", "1e9", "half"],
    ),
    "/disks/*/size": Field(
        disk("size"), "disks.web.size", "Strata's own, and as /definitions/size",
        ["fit", "1G", "2560M", "1.5G", 4 << 30, "1048576K"],
        ["", "0", "rest", "Fit", "fit ", "5 GB", "-1G", "1P"],
    ),
    "/disks/*/slack": Field(
        disk("slack", size="fit"), "disks.web.slack", "Strata's own, and as /definitions/size",
        ["0", "1M", "1G", 0, 1 << 20], ["", "rest", "-1M", "1 M", "00"],
    ),
    "/disks/*/partitions[]/name": Field(
        partition("name"), "disks.web.partitions[2].name", "UEFI specification 5.3.3; Strata's own",
        ["data", "a b", "größe", "_x", "A.b+c-d", "9", "a" * 36],
        ["", "-a", ".a", " a", "a ", "a/b", "a:b", "a\n", "a'", "$(x)", "a" + "\u202e"],
    ),
    "/disks/*/partitions[]/size": Field(
        partition("size"), "disks.web.partitions[2].size", "Strata's own, and as /definitions/size",
        ["rest", "1M", "1.5G", 1 << 20], ["", "0", "fit", "50%", "-1M"],
    ),
    "/disks/*/partitions[]/type": Field(
        partition("type"), "disks.web.partitions[2].type",
        "the Discoverable Partitions Specification; sfdisk(8)",
        ["linux", "swap", "933ac7e1-2eb4-4f13-b844-0e14e2aef915", "933AC7E1-2EB4-4F13-B844-0E14E2AEF915"],
        ["", "home", "8300", "{933ac7e1-2eb4-4f13-b844-0e14e2aef915}", "L"],
    ),
    "/definitions/file_name": Field(
        lambda value: {"exports": {value: {"format": "tar"}}}, "exports",
        "path_resolution(7); Strata's own, a word of SHA256SUMS",
        ["web.tar", "Web_1.tar", "größe.tar", "web@2=x,y~z", "_a", "a" * 100],
        ["", ".tar", "-a", "a/b", "a b", "..", "~a", "a\n", "$(x)", "a" * 101],
    ),
    "/definitions/cmdline": Field(
        disk("cmdline"), "disks.web.cmdline",
        "kernel-command-line(7), bootparam(7); grub's and systemd-boot's own languages left out",
        ["", "quiet", "console=tty0 console=ttyS0,115200n8", "mitigations=auto,nosmt", "ip=[::1]:80",
         "module_blacklist=a,b", "a  b", "rd.luks=0", "nfsroot=10.0.0.1:/srv/%s", "quiet " * 200 + "x"],
        ["a;b", 'a="b c"', "a'b", "$x", "a\nb", "a\\b", "a|b", "a#b", "größe", " a", "{a}", "quiet " * 300 + "x"],
    ),
    "/definitions/words[]": Field(
        lambda value: {"exports": {"web-oci": {"format": "oci", "config": {"cmd": [value]}}}},
        "exports.web-oci.config.cmd[0]", "execve(2): any byte but NUL",
        ["", "a b", "$(x)", "größe", "a\nb"], ["a\0"],
    ),
    "/exports/*/config/user": Field(
        config("user"), "exports.web-oci.config.user", "the OCI image specification's config; useradd(8)",
        ["root", "0", "www-data", "1000:1000", "_apt:nogroup", "www-data:4"],
        ["", ":", "a:", ":a", "-x", "a b", "a:b:c", "größe", "a\n"],
    ),
    "/exports/*/config/env/propertyNames": Field(
        lambda value: {"exports": {"web-oci": {"format": "oci", "config": {"env": {value: "x"}}}}},
        "exports.web-oci.config.env", "environ(7), POSIX 8.1",
        ["A", "_x", "a1"], ["", "1a", "a-b", "a=b", "a b"],
    ),
    "/exports/*/config/env/*": Field(
        lambda value: {"exports": {"web-oci": {"format": "oci", "config": {"env": {"A": value}}}}},
        "exports.web-oci.config.env.A", "environ(7): any byte but NUL", ["", "x y", 1, True], ["a\0b"],
    ),
    "/exports/*/config/labels/propertyNames": Field(
        lambda value: {"exports": {"web-oci": {"format": "oci", "config": {"labels": {value: "x"}}}}},
        "exports.web-oci.config.labels", "the OCI image specification's annotations",
        ["org.opencontainers.image.vendor", "a", "io.k8s/x-y_z", "a" * 255],
        ["", ".a", "a.", "a b", "a=b", "größe", "a" * 256],
    ),
    "/exports/*/config/labels/*": Field(
        lambda value: {"exports": {"web-oci": {"format": "oci", "config": {"labels": {"a": value}}}}},
        "exports.web-oci.config.labels.a", "JSON: any text", ["", "x y", "größe"], ["a\0b"],
    ),
    "/exports/*/config/workdir": Field(
        config("workdir"), "exports.web-oci.config.workdir", "path_resolution(7)",
        ["/", "/srv/www", "/srv/a b"], ["", "srv", "./x", "/a\n"],
    ),
    "/exports/*/config/ports[]": Field(
        lambda value: {"exports": {"web-oci": {"format": "oci", "config": {"ports": [value]}}}},
        "exports.web-oci.config.ports", "the OCI image specification's ExposedPorts",
        ["80", "80/tcp", "53/udp", "9/sctp", 443, "65535"],
        ["", "0", "http", "80/icmp", "80-90", "-1", "65536", 0, 65536],
    ),
    "/definitions/debconf[]": Field(
        item("debconf"), "debconf", "debconf-set-selections(1)",
        ["a a/b string x", "a\ta/b\tselect\tx y", "a a/b boolean", "a a/b seen true", "# a comment",
         "d-i a/b multiselect x, \\\n y\nb b/c string z\n"],
        ["", "a a/b", "a a/b strnig x", "a a/b error x", "a\0b c d", "a a/b string x\x07"],
    ),
}  # fmt: skip


# The one list of packages is a definition.
TABLE["/definitions/packages[]"] = TABLE.pop("/packages[]")


def test_each_pattern_is_in_the_table() -> None:
    assert set(PATTERNS) == set(TABLE), "say which manual rules a new pattern"


def rows(which: str) -> list[Any]:
    return [pytest.param(where, value, id=f"{where}-{number}")
            for where, field in TABLE.items()
            for number, value in enumerate(getattr(field, which))]  # fmt: skip


@pytest.mark.parametrize(("where", "value"), rows("good"))
def test_what_its_manual_allows_is_allowed(tmp_path: Path, where: str, value: Any) -> None:
    assert load(tmp_path, **TABLE[where].put(value)).name == "web"


@pytest.mark.parametrize(("where", "value"), rows("bad"))
def test_what_its_manual_refuses_is_told_in_words(tmp_path: Path, where: str, value: Any) -> None:
    with pytest.raises(BuildError) as caught:
        load(tmp_path, **TABLE[where].put(value))
    message = caught.value.message
    assert message.startswith(f"{tmp_path}/web.yaml: {TABLE[where].path}"), message
    assert not REGEX.search(re.sub(r"'.*?'(?=:|$| is)", "", message, count=1)), message
    assert len(message.splitlines()) == 1
    if "password" in where and value:
        assert value not in message


# ---------------------------------------------------------------- what the filesystems take


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("vfat", ["BOOT", "boot", "A B", "A-_~!", "ABCDEFGHIJK", "X#%&'()@^`{"],
         ["ABCDEFGHIJKL", "a.b", "a:b", "a+b", "a,b", 'a"b', "a/b", "a\\b", " x", "Ä", "a;b", "[x]", "a=b", "a|b",
          "<x>", "a?", "a*"]),
        ("xfs", ["a" * 12, "a b", "ä" * 6, "a/b:c"], ["a" * 13, "ä" * 7]),
        ("btrfs", ["a" * 255, "a/b:c ä"], ["a" * 256, "ä" * 128]),
    ],
)  # fmt: skip
def test_labels_by_filesystem(tmp_path: Path, kind: str, good: list[str], bad: list[str]) -> None:
    """Tried with mkfs.fat 4.2, mkfs.xfs 6.1 and mkfs.btrfs 6.2."""
    for value in good:
        assert load(tmp_path, **image("label", format=kind)(value)).images[0].label == value
    for value in bad:
        with pytest.raises(BuildError, match=rf"images\./\.label: .*{kind}"):
            load(tmp_path, **image("label", format=kind)(value))


@pytest.mark.parametrize(("value", "good"), [("1A2B-3C4D", True), ("1A2B3C4D", False),
                         ("00000000-0000-4000-8000-00000000abcd", False)])  # fmt: skip
def test_uuid_of_vfat(tmp_path: Path, value: str, good: bool) -> None:
    if good:
        assert load(tmp_path, **image("uuid", format="vfat")(value)).images[0].uuid == "1a2b-3c4d"
        return
    with pytest.raises(BuildError, match=r"images\./\.uuid"):
        load(tmp_path, **image("uuid", format="vfat")(value))


@pytest.mark.parametrize("value", [-32768, -1, 1, 1001, 32767])
def test_priorities_that_apt_takes(tmp_path: Path, value: int) -> None:
    assert load(tmp_path, **repo("priority")(value)).repos[0].priority == value


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "no meaning to apt"), (32768, "more than 32767"), (-32769, "less than -32768"),
     ("high", "a whole number"), (1.5, "a whole number"), (True, "a whole number")],
)  # fmt: skip
def test_priorities_that_apt_refuses(tmp_path: Path, value: object, said: str) -> None:
    with pytest.raises(BuildError, match=rf"repos\[0\]\.priority: .*{said}"):
        load(tmp_path, **repo("priority")(value))


# ---------------------------------------------------------------- what a value means


def test_owner_of_a_group_alone_is_root(tmp_path: Path) -> None:
    assert load(tmp_path, **file("owner")(":adm")).layers[0].files[0].owner == "root:adm"


@pytest.mark.parametrize("value", ["4294967295", "0:4294967295", "99999999999"])
def test_numbers_of_owners_end_where_linux_ends(tmp_path: Path, value: str) -> None:
    with pytest.raises(BuildError, match=r"files\./srv/x\.owner: \d+ is more than 4294967294"):
        load(tmp_path, **file("owner")(value))


@pytest.mark.parametrize("target", ["/a/../b", "/a/./b", "/a//b", "//a", "/" + "a" * 256])
def test_targets_that_are_no_plain_path(tmp_path: Path, target: str) -> None:
    with pytest.raises(BuildError, match=r"layers\.app\.files: '.*(no plain absolute|longer than)"):
        load(tmp_path, layers=[{"name": "app", "files": {target: {"content": ""}}}])


def test_a_target_longer_than_a_path_may_be(tmp_path: Path) -> None:
    text = f"layers:\n- name: app\n  files:\n    ? {'/a' * 2100}\n    : motd\n"
    with pytest.raises(BuildError, match=r"layers\.app\.files: '/a.*a' is longer than Linux takes"):
        load(tmp_path, PLAIN + text)


def test_preseed_lines_are_read_as_debconf_set_selections_reads_them(tmp_path: Path) -> None:
    text = "# comment\n\na a/b multiselect x, \\\n  y\n\tb b/c string  two  spaces \n"
    loaded = load(tmp_path, debconf=[text, "c c/d password hunter2"])
    assert loaded.layers[0].debconf == (
        "a a/b multiselect x,   y", "\tb b/c string  two  spaces ", "c c/d password hunter2",
    )  # fmt: skip
    assert loaded.secrets == ("hunter2",)


def test_an_answer_that_ends_in_a_backslash_takes_no_other_in(tmp_path: Path) -> None:
    given = ["a a/b password pass\\", "b b/c string x", "c c/d string y\\\n"]
    loaded = load(tmp_path, debconf=given)
    assert loaded.layers[0].debconf == (
        "a a/b password pass\\", "b b/c string x", "c c/d string y\\")  # fmt: skip
    assert loaded.secrets == ("pass\\",)
    assert preseeds(["1", "2\\", "3", "4\\\r", "5"]) == ["1\n2\\\n", "3\n4\\\r\n", "5\n"]
    assert preseeds(["1\\"]) == ["1\\\n"]


def test_a_preseed_line_is_one_key_however_it_is_spaced(tmp_path: Path) -> None:
    keys = [debconf_identity(load(tmp_path, debconf=[line]).layers[0].debconf)
            for line in ("a a/b string x  y", " a\ta/b  string\tx  y", "a a/b string x y")]  # fmt: skip
    assert keys[0] == keys[1] != keys[2]


def test_an_unknown_type_of_debconf_is_told_without_its_value(tmp_path: Path) -> None:
    """debconf-set-selections would skip the line, and exit 0."""
    with pytest.raises(BuildError) as caught:
        load(tmp_path, debconf=["a a/b pasword hunter2"])
    assert "'pasword' is no type" in caught.value.message
    assert "'password'" in caught.value.hint
    assert "hunter2" not in str(caught.value)


def test_users_of_a_socks_proxy_are_secret(tmp_path: Path) -> None:
    loaded = load(tmp_path, proxies={"http": "socks5h://me:hunter2@proxy:1080"})
    assert "hunter2" in loaded.secrets


def test_a_password_that_crypt_cannot_take(tmp_path: Path) -> None:
    assert load(tmp_path, root_password="ä" * 255).name == "web"
    with pytest.raises(BuildError, match="root_password: longer than the 511 bytes"):
        load(tmp_path, root_password="ä" * 256)


# ---------------------------------------------------------------- YAML

PLAIN = """\
repos:
  - &deb {name: main, uri: "${mirror}", suite: stable, section: main}
images:
  /: {file: a.img, format: ext4}
"""


def test_merge_keys(tmp_path: Path) -> None:
    loaded = load(tmp_path, """\
x-image: &image {format: ext4, container: raw, pack: direct}
x-small: &small {free: 1M, container: xz}
repos:
  - &deb {name: main, uri: "${mirror}", suite: stable, section: main, priority: 900}
  - {<<: *deb, name: updates, suite: stable-updates}
  - name: ours
    <<: *deb
    uri: http://h/x
images:
  /: {<<: *image, file: a.img}
  /boot: {file: b.img, <<: [*small, *image], format: ext2}
""")  # fmt: skip
    assert [(one.name, one.suite, one.uri, one.priority) for one in loaded.repos] == [
        ("main", "stable", "${mirror}", 900), ("updates", "stable-updates", "${mirror}", 900),
        ("ours", "stable", "http://h/x", 900),
    ]  # fmt: skip
    root, boot = loaded.images
    assert (root.format, root.container, root.pack) == ("ext4", "raw", "direct")
    # Its own field counts before a merged one, and of two merged ones the first.
    assert (boot.format, boot.container, boot.free, boot.pack) == ("ext2", "xz", 1 << 20, "direct")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x-a: {<<: 5}\n", ":5:11: `<<` takes a mapping"),
        ("x-a: {<<: [*deb, 5]}\n", ":5:18: `<<` takes a mapping"),
        ("x-a: {<<: *deb, <<: *deb}\n", ":5:17: '<<' stands twice"),
        ("x-a: {a: 1, <<: *deb, a: 2}\n", ":5:23: 'a' stands twice"),
        ('"<<": {a: b}\n', "unknown field '<<'"),
        ("hostname: *deb\n", "hostname: expected a text, found a mapping"),
    ],
)
def test_merge_keys_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BuildError) as caught:
        load(tmp_path, PLAIN + text)
    assert said in caught.value.message


def test_what_is_wrong_in_a_merged_field_is_found_where_it_is_written(tmp_path: Path) -> None:
    text = "x-image: &image\n  format: ext5\n" + PLAIN.replace("format: ext4", "<<: *image")
    with pytest.raises(BuildError, match=r"images\./\.format: 'ext5' is not one of .* \(line 2\)"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("1.10", "the number 1.1"), ("1_0", "the number 10"), ("0644", "the number 420"), ("5", "a number"),
        ("12:30:45", "the number 45045"), ("33:33", "the number 2013"), ("0x1F", "the number 31"),
        ("no", "false"), ("On", "true"), ("yes", "true"), ("true", "true"), ("2024-01-01", "a date"),
        ("~", "nothing at all"), ("null", "nothing at all"), (".inf", "the number inf"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("text", "path"),
    [("hostname: {}\n", "hostname"), ("packages: [aa, {}]\n", "packages[1]"),
     ("layers: [{{name: app, files: {{/a: {{content: x, owner: {}}}}}}}]\n",
      "layers[0].files./a.owner")],
)  # fmt: skip
def test_a_word_that_yaml_reads_as_something_else(
    tmp_path: Path, text: str, path: str, written: str, read_as: str
) -> None:
    with pytest.raises(BuildError) as caught:
        load(tmp_path, PLAIN + text.format(written))
    assert caught.value.message == (
        f"{tmp_path}/web.yaml: {path}: expected a text, found {written!r}, which YAML reads as "
        f"{read_as} (line 5)"
    )
    assert caught.value.hint == f'put it in quotes: "{written}"'


@pytest.mark.parametrize(("written", "number"), [("0100", 64), ("0x1F", 31), ("1:30", 90),
                                                 ("0b11", 3), ("1_000", 1000)])  # fmt: skip
def test_a_number_that_yaml_misreads_is_no_size(tmp_path: Path, written: str, number: int) -> None:
    text = PLAIN.replace("format: ext4", f"format: ext4, size: {written}")
    with pytest.raises(BuildError) as caught:
        load(tmp_path, text)
    assert f"images./.size: YAML reads '{written}' as {number} (line 4)" in caught.value.message
    free = PLAIN.replace("section: main", f"section: main, meta: {{size: {written}}}")
    assert load(tmp_path, free).repos[0].meta == {"size": number}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("packages: curl\n", "packages: expected a list, found the text 'curl'", "a list is `[a, b]`"),
        ("packages:\n", "packages: expected a list, found nothing", "leave the field out"),
        ("layers: {a: b}\n", "layers: expected a list, found a mapping", "Further layers"),
        ("hostname: [a]\n", "hostname: expected a text, found a list", "without `[ ]`"),
        ("recommends: 'yes'\n", "recommends: expected true or false, found the text 'yes'", "without quotes"),
        ("layers: [{name: app, files: {/a: 5}}]\n", "files./a: expected a text or a mapping, found '5'", "quotes"),
        ("layers: [{name: app, files: {/a: {mode: '1'}}}]\n", "one of source, content and template must be given", ""),
        ("layers: [{name: app, files: {/a: {source: a, content: b}}}]\n",
         "only one of source and content may be given", ""),
        ("layers: [{name: app, files: {/a: {contents: b}}}]\n", "unknown field 'contents'", "'content'?"),
        ("Packages: []\nroot-password: hunter2\n", "unknown fields 'Packages', 'root-password'",
         "'packages' for 'Packages', 'root_password' for 'root-password'"),
        ("section: main\n", "unknown field 'section' (line 5)", "`repos[]`"),
        ("container: raw\n", "unknown field 'container' (line 5)", "`images.NAME`"),
        ("frobnicate: 1\n", "unknown field 'frobnicate'", "fields here: include, vars, variants, arch, base"),
        ("arch: amd46\n", "arch: 'amd46' is not one of amd64, i386", "did you mean 'amd64'?"),
        ("yes: 1\n", ":5:1: the key 'yes' is not a string: YAML reads it as true", "put it in quotes"),
        ("1: 1\n", ":5:1: the key '1' is not a string: YAML reads it as a number", "put it in quotes"),
        ("[a]: 1\n", ":5:1: a key that is a list", "texts"),
        ("hostname: a: b\n", ":5:12: not YAML", "in quotes"),
        ("hostname: @a\n", ":5:11: not YAML", "in quotes"),
        ("\tx: 1\n", ":5:1: not YAML", "no tabs"),
        ("packages: [a\n", ":6:1: not YAML", "not closed"),
        (" x: 1\n", "not YAML", "not indented"),
        ("hostname: *web\n", ":5:11: not YAML: found undefined alias 'web'", ""),
        ("...\n---\na: b\n", ":6:1: a second document begins here", "a spec is one"),
        ("packages: !!set {a, b}\n", ":5:11: a value with the tag '!!set'", "texts, numbers"),
        ("hostname: 2024-13-01\n", ":5:11: YAML reads '2024-13-01' as a date", "quotes"),
        ("root_password: 12345\n", "root_password: expected a text, found what YAML reads as a number",
         "put it in quotes"),
        ("root_password: hunter2\nhashed_root_password: '*'\n",
         "only one of root_password and hashed_root_password may be given", ""),
    ],
)  # fmt: skip
def test_what_is_said_and_advised(tmp_path: Path, text: str, message: str, hint: str) -> None:
    with pytest.raises(BuildError) as caught:
        load(tmp_path, PLAIN + text)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "12345" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n", "---\n", "- a\n", "a\n", "null\n"])
def test_a_text_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(text)
    with pytest.raises(BuildError, match="expected a mapping with `repos` and `images`, found"):
        load(tmp_path, text or "\n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, ends: str) -> None:
    """YAML 1.1, 5.2 and 5.4: a byte order mark and any line break."""
    from tasks.spec.load import load_spec

    path = tmp_path / "web.yaml"
    text = PLAIN + 'root_password: "Grüße"\n'
    path.write_bytes(text.replace("\n", ends).encode(encoding))
    assert load_spec(path, schema=SCHEMA).settings.root_password == "Grüße"


def test_a_text_in_latin_1_is_told_by_its_line(tmp_path: Path) -> None:
    from tasks.spec.load import load_spec

    path = tmp_path / "web.yaml"
    path.write_bytes((PLAIN + "# Grüße\n").encode("latin-1"))
    with pytest.raises(BuildError) as caught:
        load_spec(path, schema=SCHEMA)
    assert caught.value.message == f"{path}:5: not UTF-8"


def test_a_schema_that_is_gone_is_told(tmp_path: Path) -> None:
    from tasks.spec.load import load_spec

    (tmp_path / "web.yaml").write_text(PLAIN)
    for content in (None, "{"):
        schema = tmp_path / "spec.schema.json"
        if content:
            schema.write_text(content)
        with pytest.raises(BuildError, match=r"spec\.schema\.json: (cannot be read|no JSON)"):
            load_spec(tmp_path / "web.yaml", schema=schema)


# ---------------------------------------------------------------- names of specs


def test_names_of_specs(tmp_path: Path) -> None:
    names = ["web.v1", "My Web", "größe", "-x", "WEB"]
    for name in [*names, ".web", ".#web"]:
        (tmp_path / f"{name}.yaml").write_text(PLAIN)
    assert spec_names(tmp_path) == sorted(names)
    for name in names:
        assert find_spec(tmp_path, name) == tmp_path / f"{name}.yaml"


@pytest.mark.parametrize(
    ("given", "hint"),
    [("web.yaml", "spec=web?"), ("specs/web.yaml", "spec=web?"), ("specs/web", "spec=web?"),
     ("web.lock", "spec=web?"), ("wbe", "spec=web?"), ("Web", "spec=web?"),
     ("old", "old.yml is there: rename it to old.yaml"), ("nothing", "specs here: web"),
     ("../web", "spec=web?")],
)  # fmt: skip
def test_a_spec_that_is_not_there(tmp_path: Path, given: str, hint: str) -> None:
    (tmp_path / "web.yaml").write_text(PLAIN)
    (tmp_path / "old.yml").write_text(PLAIN)
    with pytest.raises(BuildError, match="there is no such spec") as caught:
        find_spec(tmp_path, given)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "schema",
    ["[" * 100_000, "{" * 10, "[]", "1", '{"$ref": "#"}', '{"$ref": "#/definitions/none"}',
     '{"type": "nothing"}', '{"type": 5}', '{"properties": 5}', '{"required": 5}',
     '{"properties": {"a": {"pattern": "("}}}',
     '{"additionalProperties": ' + '{"not": ' * 5000 + "{}" + "}" * 5001],
    ids=lambda text: str(text)[:40],
)  # fmt: skip
def test_a_schema_that_is_none_is_told(tmp_path: Path, schema: str) -> None:
    given = document.parse(tmp_path / "web.yaml", b"a: b\n")
    where = tmp_path / "schema.json"
    with pytest.raises(BuildError) as caught:
        validate(given, schema.encode(), where=where)
    assert caught.value.message.startswith(f"{where}: ")
    assert "restore it" in caught.value.hint


def test_thousands_of_faults_and_of_items_take_no_square_of_their_number(tmp_path: Path) -> None:
    began = time.process_time()
    many = ",\n ".join(f"/a{number}: 1" for number in range(2_000))
    with pytest.raises(BuildError, match=r"layers\[0\]\.files\./a0"):
        load(tmp_path, f"{PLAIN}layers: [{{name: a, files: {{{many}}}}}]\n")
    mixed = ", ".join(f"h{number}, {number}" for number in range(2_000))
    with pytest.raises(BuildError, match=r"proxies\.direct"):
        load(tmp_path, f"{PLAIN}proxies: {{direct: [{mixed}]}}\n")
    assert time.process_time() - began < 5
