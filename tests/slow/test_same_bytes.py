"""Same lock, same bytes: whatever the folder, clock, zone, locale, umask, user, host, CPUs and disk."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from support.debs import make_deb
from support.digests import digests
from support.tally import TALLY
from support.world import World

pytestmark = pytest.mark.root


NIGHTLY = os.environ.get("STRATA_TEST_NIGHTLY", "1") == "1"


FILL = """\
#!/bin/sh
set -eu
mkdir -p /boot/efi/EFI /srv/data /opt/exact /mnt/x /home/someone
for i in $(seq 200); do
    echo $i > /boot/efi/EFI/f$i; mkdir /srv/d$i; echo $i > /srv/d$i/x; echo $i > /opt/exact/f$i
done
echo loader > /boot/efi/EFI/loader.efi; echo x > /boot/efi/EFI/ä
ln /srv/d1/x /srv/data/hard; ln -s ../d1/x /srv/data/soft; mkfifo /srv/data/fifo
dd if=/dev/zero of=/srv/data/hole bs=1 count=1 seek=5000000 2> /dev/null
mkdir /srv/names
cd /srv/names
for name in I i ı İ a Z z ä b $(printf '\\320 \\344 \\360 \\375'); do echo "$name" > "$name"; done
cp -r /usr/share/doc /opt/doc 2> /dev/null || true
useradd --system worker
chown worker /home/someone
install -m 4755 /bin/true /opt/exact/setuid
perl -e 'for my $n (qw(c a b Z I i)) { for my $f (qw(/mnt/x /opt/exact/f1)) {
    syscall(188, my $p = $f, my $k = "user.$n", my $v = "value of $n", 10, 0) == 0 or die "$f: $!";
} }'
"""


IMAGES = """\
images:
  /: {file: root.img.gz, format: ext4, label: the-root}
  /boot: {file: boot.img.zst, format: ext2, container: zstd, options: -m 1}
  /boot/efi: {file: efi.img, format: vfat, container: raw, label: EFI}
  /srv: {file: srv.img.xz, format: ext3, container: xz, level: fast, free: 4M}
  /mnt: {file: mnt.img.gz, format: ext4, pack: direct}
"""


MORE = """  /opt: {file: opt.img, format: ext4, container: raw, size: 16M, options: "-O ^64bit -b 1024 -I 128"}
  /usr/share: {file: share.img, format: ext4, container: raw, pack: direct, level: best,
               options: "-O ^metadata_csum,uninit_bg,inline_data -E stride=2 -J size=4"}
  /usr/lib: {file: lib.img.gz, format: ext2, pack: direct, size: 400M}
  /home: {file: home.img.zst, format: ext3, pack: direct, container: zstd, options: "-O metadata_csum"}
"""
"""Options and mixtures, at night."""


def spec_of(world: World, name: str, images: str, script: str = FILL) -> None:
    """A spec like `web` with other images and a script that fills them."""
    text = (world.root / "specs/web.yaml").read_text().partition("images:")[0]
    world.write("scripts/fill.sh", script, 0o755)
    text = text.replace("scripts/app.sh", "scripts/fill.sh")
    text += "hostname: box\nroot_password: secret\n"
    world.write(f"{name}.yaml", text + images)


@pytest.fixture(scope="session")
def turkish(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a locale that has an order, an encoding and an `i` of its own.

    It is made here: of a locale that a host lacks, every program makes C.
    """
    folder = tmp_path_factory.mktemp("locales")
    subprocess.run(["localedef", "--no-archive", "-i", "tr_TR", "-f", "ISO-8859-9", folder / "tr_TR"],
                   check=True)  # fmt: skip
    env = {"LOCPATH": str(folder), "LC_ALL": "tr_TR", "LANG": "tr_TR"}

    def ordered(env: dict[str, str]) -> list[str]:
        names = "\n".join("IiaZzbäı").encode("iso8859-9")
        said = subprocess.run(["sort"], input=names, env={"PATH": os.environ["PATH"], **env},
                              check=True, capture_output=True).stdout  # fmt: skip
        return said.decode("iso8859-9").split()

    assert ordered({"LC_ALL": "C"}) == sorted("IiaZzbäı")
    assert ordered(env) == ["a", "ä", "b", "I", "ı", "i", "Z", "z"]
    return env


@pytest.fixture(scope="session")
def kept_many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `many` keeps what its first user made."""
    return tmp_path_factory.mktemp("many")


@pytest.fixture
def many(built: World, kept_many: Path) -> World:
    """The spec `many`, built: images of each kind. What its first user made is the cache of the next."""
    spec_of(built, "many", IMAGES + MORE * NIGHTLY)
    if (kept_many / "cache").exists():
        shutil.rmtree(built.root / "cache/images")
        subprocess.run(
            ["cp", "-al", *(kept_many / "cache").iterdir(), f"{built.root}/cache"], check=True
        )
        assert set(built.build(spec="many").values()) == {"hit"}
    else:
        assert built.build(spec="many")["/srv"] == "built"
        for name in ("images", "layers"):
            subprocess.run(["cp", "-a", "--parents", f"cache/{name}", kept_many], cwd=built.root,
                           check=True)  # fmt: skip
    return built


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[str]:
    """A scratch folder on the disk, where the others are on a tmpfs."""
    with tempfile.TemporaryDirectory(dir=tmp_path, prefix="a scratch, elsewhere ") as folder:
        yield folder


def elsewhere(world: World, words: list[str], folder: Path, **env: str) -> str:
    """Run doit on a host with other disks, swap, memory in use, CPUs, limits and mounts: real ones.

    Its disk's name.
    """
    disk = folder / "swap"
    disk.write_bytes(bytes(8 << 20))
    disk.chmod(0o600)
    loop = subprocess.run(["losetup", "--find", "--show", disk], check=True, text=True,
                          capture_output=True).stdout.strip()  # fmt: skip
    try:
        subprocess.run(["mkswap", loop], check=True, capture_output=True)
        swap = subprocess.run(["swapon", "--priority", "0", loop], check=False).returncode == 0
        assert loop in Path("/proc/swaps").read_text() or not swap
        # What it has in memory is another share of it.
        ballast = bytearray(os.urandom(1 << 20) * 64)
        script = """
        hostname elsewhere; umask 077; ulimit -S -n 333; ulimit -S -s 4096
        mount -t tmpfs none /mnt
        exec taskset -c 0 "$@"
        """
        ran = subprocess.run(
            ["unshare", "--uts", "--mount", "sh", "-ec", script, "sh", sys.executable, "-m", "doit", *words],
            cwd=world.root, check=False, capture_output=True, text=True, errors="replace",
            env=world.environment(**env),
        )  # fmt: skip
        assert len(ballast) == 64 << 20
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return loop
    finally:
        subprocess.run(["swapoff", loop], check=False, capture_output=True)
        subprocess.run(["losetup", "--detach", loop], check=True)


@pytest.mark.parametrize(
    "tool", ["mmdebstrap", pytest.param("debootstrap", marks=pytest.mark.nightly)]
)
def test_same_bytes_on_another_host(
    built: World, request: pytest.FixtureRequest, tmp_path: Path, on_disk: str, turkish: dict[str, str],
    tool: str,
) -> None:  # fmt: skip
    # What a tree is packed into does not depend on what bootstrapped it.
    if tool == "mmdebstrap":
        world: World = request.getfixturevalue("many")
    else:
        world = built
        world.edit("tool: mmdebstrap, variant: apt", f"tool: {tool}, variant: minbase")
        spec_of(world, "many", "\n".join(IMAGES.splitlines()[:3]))
        world.build(spec="many")
    first = digests(world.root)

    other = world.clone(tmp_path / "another folder" / "of another length")
    elsewhere(
        other, ["build", "spec=many", "lock=frozen"], tmp_path, STRATA_SCRATCH=on_disk,
        TZ="Asia/Kathmandu", **turkish,
        USER="somebody", LOGNAME="somebody", HOME="/nonexistent", TMPDIR=str(tmp_path),
        TAPE="/dev/null", TAR_OPTIONS="--mode=777", ZSTD_CLEVEL="19", GZIP="-1", XZ_OPT="-0",
        MKE2FS_CONFIG="/dev/null", DPKG_MAINTSCRIPT_DEBUG="1",
    )  # fmt: skip
    second = digests(other.root)
    assert len([name for name in second if "/layers/" in name]) == 4
    assert len([name for name in second if "/images/" in name]) == (
        2 if tool != "mmdebstrap" else 9 if NIGHTLY else 5
    )
    assert {name for name in second if first.get(name) != second[name]} == set()
    TALLY["images"] += sum("/images/" in name for name in second)


SEEN = """\
#!/bin/sh
set -eu
cd /
# Of /proc all but processes, links and what is plain chance; of /sys all.
find /proc /sys -mindepth 1 \\( -path '/proc/[0-9]*' -o -path /proc/sys/kernel/random/uuid \\) -prune \
    -o -printf '%p %y %m %U:%G %l\\n' -type f -print 2> /dev/null |
    grep -v '^/proc/\\(self\\|thread-self\\) ' | LC_ALL=C sort > /etc/names
while read -r path rest; do
    [ -n "$rest" ] || { echo "== $path"; cat "$path" 2> /dev/null || echo refused; }
done < /etc/names > /etc/texts
uname -mns > /etc/uname
cat /proc/self/cgroup /proc/self/limits > /etc/limits
# As the hooks of initramfs-tools, cryptsetup, intel-microcode and amd64-microcode ask.
{ grep ^/dev/ /proc/swaps || echo no swap; grep -c vendor_id /proc/cpuinfo; grep -o resume= /proc/cmdline
  grep -Eo '^flags.* aes ' /proc/cpuinfo || echo no aes; ls /sys/class/* /sys/block /sys/module; } > /etc/hooks || true
"""


def test_what_packages_see_of_the_hosts_hardware_is_the_same(
    built: World, tmp_path: Path, on_disk: str
) -> None:
    """On the base that it was here: that one of another host is the same, the test above shows."""
    built.add(built.deb("beta", "2", depends="gamma", scripts={"postinst": SEEN}))
    built.doit("lock", "spec=web")
    kept = {path.name for path in built.root.glob("cache/layers/*")}
    built.doit("layer:app", "spec=web", "lock=frozen")
    first = digests(built.root)
    other = built.clone(tmp_path / "other", cache="[dl][ea][by]*/*")
    made = [path for path in other.root.glob("cache/layers/*") if path.name not in kept]
    assert len(made) == 2
    for path in made:
        path.unlink()
    words = ["layer:app", "spec=web", "lock=frozen"]
    loop = elsewhere(other, words, tmp_path, STRATA_SCRATCH=on_disk)
    second = digests(other.root)
    layers = {name for name in second if "/layers/" in name and Path(name).name not in kept}
    assert len(layers) == 1
    assert {name for name in layers if first.get(name) != second[name]} == set()

    tarball = max(
        (other.root / "cache/layers").glob("layer-*.zst"), key=lambda one: one.stat().st_mtime
    )

    def text(name: str) -> str:
        return subprocess.run(["tar", "-xOf", tarball, f"./etc/{name}"], check=True, text=True,
                              capture_output=True).stdout  # fmt: skip

    assert text("hooks").split("\n")[:4] == ["no swap", "2", "no aes", "/sys/block:"]
    names, texts = text("names"), text("texts")
    assert len(names.splitlines()) > 100
    assert "refused" not in texts
    assert set(re.findall(r"^/proc/(?!sys)(\S+) f", names, re.M)) >= {"cpuinfo", "meminfo", "swaps"}
    own = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    models = re.findall(r"^model name\s*: (.+)", Path("/proc/cpuinfo").read_text(), re.M)
    for word in (
        own,
        os.uname().release,
        Path("/proc/cmdline").read_text().strip(),
        "vda",
        loop,
        *models,
    ):
        assert word not in texts + names, word


def test_the_order_in_which_the_cache_was_filled_does_not_show(many: World) -> None:
    """Trees made in this run are read as overlays' upper directories, others from tarballs."""
    built = many
    first = digests(built.root)
    # The trees come from tarballs now, and images one by one.
    for path in built.root.glob("cache/images/*"):
        path.unlink()
    built.doit("image:/srv", "spec=many")
    built.doit("image:/", "spec=many", "lock=keep")
    built.build("lock=keep", spec="many")
    again = digests(built.root)
    web = built.json("web")
    gone = {f"cache/images/image-{stage['key']}.img.gz" for stage in web["stages"]}
    assert {name: again.get(name) for name in first.keys() - gone} == {
        name: first[name] for name in first.keys() - gone
    }
    TALLY["images"] += sum("/images/" in name for name in first.keys() - gone)


def test_no_trace_of_the_time_is_in_the_tree(many: World, tmp_path: Path) -> None:
    built = many
    now = int(time.time())
    stamp = time.gmtime(now)
    marks = [str(now // 86400), str(now)[:6], time.strftime("%Y-%m-%d", stamp),
             time.strftime("%Y%m%d", stamp), time.strftime("%d %b %Y", stamp)]  # fmt: skip
    pattern = re.compile(
        "|".join(rf"(?<![0-9A-Za-z.]){re.escape(mark)}" for mark in marks).encode()
    )
    plain = [mark.encode() for mark in marks]
    tree = tmp_path / "tree"
    tree.mkdir()
    lines = 0
    epoch = 0
    members: dict[str, float] = {}
    for stage in built.json("many")["stages"]:
        for tarball in built.root.glob(f"cache/layers/{stage['stage']}-{stage['key']}.tar.zst"):
            record = json.loads(
                tarball.with_name(f"{stage['stage']}-{stage['key']}.json").read_text()
            )
            epoch = record["facts"]["epoch"]
            assert epoch < now - 86400, "an epoch of today would hide what is of today"
            times = mtimes(tarball)
            assert {name: time for name, time in times.items() if time > epoch} == {}
            members |= times
            subprocess.run(["tar", "-C", tree, "--exclude=./dev/*", "--exclude=./mnt",
                            "--exclude=./opt", "-xf", tarball], check=True)  # fmt: skip
    for folder, _, names in os.walk(tree):
        for name in names:
            path = Path(folder, name)
            if path.is_symlink() or not path.is_file() or path == tree / "usr/share/alpha/version":
                continue
            content = path.read_bytes()
            # Where no mark is, it is found out at once; the pattern says where one would be no date.
            found = any(mark in content for mark in plain) and pattern.search(content)
            assert not found, f"{path}: {found}"
            lines += 1
    assert lines > 500, "the tree was not looked at"
    # What the script made, of each kind: today's date became the epoch, to the nanosecond.
    made = ("srv/d7", "srv/d7/x", "srv/data", "srv/data/soft", "srv/data/fifo", "srv/data/hole",
            "home/someone", "opt/exact/setuid", "boot/efi/EFI/f1")  # fmt: skip
    assert {name: members[f"./{name}"] for name in made} == dict.fromkeys(made, epoch)
    assert fat_times(built.root / "out/many/efi.img") == {epoch // 2 * 2}
    days = {line.split(":")[2] for line in (tree / "etc/shadow").read_text().splitlines()}
    assert len(days) == 1, days


def mtimes(tarball: Path) -> dict[str, float]:
    """Each member's time: folders, links and fifos have one as well."""
    with subprocess.Popen(["zstd", "-dc", tarball], stdout=subprocess.PIPE) as zstd:
        with tarfile.open(fileobj=zstd.stdout, mode="r|") as archive:
            found = {info.name: float(info.mtime) for info in archive}
        assert zstd.wait() == 0
    return found


def fat_times(image: Path) -> set[int]:
    """The seconds at which the files and folders of a vfat filesystem were made and changed.

    A directory entry is of 32 bytes: name, attributes, then times of two seconds, in UTC as mtools
    is told. The label's is mkfs.vfat's own and always the same.
    """
    entry = re.compile(rb"(?:F\d[\d ]{9}|LOADER  EFI|EFI {8}|\. {10}|\.\. {9})[\x10\x20][\s\S]{20}")
    found = set()
    entries = entry.findall(image.read_bytes())
    assert len(entries) == 200 + 1 + 1 + 2
    for one in entries:
        for at in (14, 22):
            clock, date = struct.unpack_from("<HH", one, at)
            moment = datetime(1980 + (date >> 9), date >> 5 & 15, date & 31, clock >> 11,
                              clock >> 5 & 63, (clock & 31) * 2, tzinfo=timezone.utc)  # fmt: skip
            found.add(int(moment.timestamp()))
    return found


def test_what_a_locale_cannot_write_is_no_error(tiny: World, turkish: dict[str, str]) -> None:
    """`doit why` speaks in arrows, which ISO-8859-9 lacks; so it may be with a script's output."""
    tiny.doit("build", "spec=web")
    tiny.add(make_deb(tiny.debs, "beta", "2"))
    tiny.doit("lock", "spec=web")
    tiny.env |= turkish
    done = tiny.doit("why", "spec=web", check=False)
    assert done.code == 2
    assert "packages: beta 1 \\u2192 2 (from main)" in done.out
