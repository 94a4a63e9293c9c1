"""Good and bad values of each field of a spec, by the manual page or policy that rules it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from support.samples import IMAGE, REPO


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
