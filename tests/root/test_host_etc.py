"""The host's own configuration, of the system and of the user: it shows in no byte."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from support.debs import make_deb
from support.world import World
from tasks.host import etc

CHOICES = {
    "mtools.conf": "MTOOLS_LOWER_CASE=1\ndefault_codepage=866\nMTOOLS_NAME_NUMERIC_TAIL=0\n",
    "default/mtools.conf": "MTOOLS_LOWER_CASE=1\n",
    "e2fsck.conf": "[options]\n    broken\n",
    "mke2fs.conf": "[defaults]\n    blocksize = 1024\n    inode_ratio = 4096\n",
    "apt/apt.conf.d/99-choices": 'APT::FTPArchive::MD5 "false";\nDir "/nonexistent";\n',
    "apt/apt.conf": 'APT::FTPArchive::SHA256 "false";\nDir::Cache "/dev/null/x";\n',
    "dpkg/dpkg.cfg.d/choices": "path-exclude=/usr/TWO.TXT\n",
    "mmdebstrap/choices": "",
    "nsswitch.conf": "passwd: compat\n",
    "fstab": "/dev/loop0 /nowhere ext4 errors=remount-ro 0 0\n",
}


STEERING = {
    "MTOOLS_LOWER_CASE": "1", "MTOOLSRC": "/etc/mtools.conf", "MTOOLS_DATE_STRING": "x",
    "E2FSCK_CONFIG": "/etc/e2fsck.conf", "MKE2FS_CONFIG": "/etc/mke2fs.conf",
    "APT_CONFIG": "/etc/apt/apt.conf.d/99-choices", "ZSTD_CLEVEL": "1", "ZSTD_NBTHREADS": "1",
    "XZ_OPT": "-0", "XZ_DEFAULTS": "-1", "GZIP": "-1", "TAR_OPTIONS": "--mode=777",
    "POSIXLY_CORRECT": "1", "BLKID_FILE": "/dev/null", "PERL5OPT": "-Mnonexistent",
    "DPKG_ROOT": "/nowhere", "MKE2FS_DEVICE_SECTSIZE": "4096", "MKE2FS_SKIP_PROGRESS": "0",
}  # fmt: skip


# /etc as it is with these choices, for this command alone.
RUN = """
cp -a /etc/. "$0"
cp -a "$1"/. "$0"
mount --bind "$0" /etc
shift
exec "$@"
"""


def contents(root: Path) -> dict[str, str]:
    """SHA-256 of every tarball and image."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for folder in ("layers", "images") for path in root.glob(f"cache/{folder}/*-*.*")
            if path.suffix != ".json"}  # fmt: skip


@pytest.mark.root
def test_the_hosts_configuration_shows_in_no_byte(tiny: World, tmp_path: Path) -> None:
    files = {"/usr/two/TWO.TXT": "2\n", "/usr/two/Mixed.Txt": "3\n", "/usr/two/lower": "4\n"}
    tiny.add(make_deb(tiny.debs, "beta", "2", files=files))
    tiny.edit("format: ext2}", "format: ext4, container: xz}\n"
              "  /usr: {file: u.img.zst, format: ext3, pack: direct, container: zstd}\n"
              "  /usr/two: {file: t.img.gz, format: vfat}")  # fmt: skip
    tiny.build()
    first = contents(tiny.root)
    assert len(first) == 4
    other = tiny.clone(tmp_path / "other")
    choices = tmp_path / "choices"
    for name, text in CHOICES.items():
        (choices / name).parent.mkdir(parents=True, exist_ok=True)
        (choices / name).write_text(text)
    (tmp_path / "etc").mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", RUN, tmp_path / "etc", choices,
         sys.executable, "-m", "doit", "build", "spec=web", "lock=frozen"],
        cwd=other.root, env=other.environment(**STEERING), check=False, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(other.root) == first


@pytest.mark.root
def test_the_choices_would_show(tmp_path: Path) -> None:
    """Else the test above would hold whatever the tools saw: without an /etc of our own they do."""
    raw = tmp_path / "raw"
    name = tmp_path / "UPPER.TXT"
    name.write_text("x")
    (tmp_path / "etc").mkdir()
    choices = tmp_path / "choices"
    choices.mkdir()
    (choices / "mtools.conf").write_text(CHOICES["mtools.conf"])
    private = etc.make(tmp_path / "private")
    found = []
    for command in (["mdir", "-b", "-i", str(raw), "::"],
                    etc.argv(private, ["mdir", "-b", "-i", str(raw), "::"])):  # fmt: skip
        subprocess.run(["mkfs.vfat", "-C", raw, "1024"], check=True, capture_output=True)
        subprocess.run(["mcopy", "-i", raw, name, "::"], check=True)
        done = subprocess.run(["unshare", "--mount", "sh", "-ec", RUN, tmp_path / "etc", choices,
                               *command], check=True, capture_output=True, text=True)  # fmt: skip
        found.append(done.stdout.strip())
        raw.unlink()
    assert found == ["::/upper.txt", "::/UPPER.TXT"]
