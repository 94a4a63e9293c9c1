"""The parts of a disk that boot it: made of small trees, the same each time, read by other tools."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from support import boot_trees, disk_specs
from support.boot_trees import KERNEL, LOADERS, RELEASE, SYSTEMD_BOOT, Machine
from tasks.errors import BuildError
from tasks.formats import fat
from tasks.plan.top_jobs import BiosJob, EspJob, VerityJob
from tasks.spec.disks import MIB
from tasks.stages import bios, esp, verity

TEXTS = {"EFI/debian/grub.cfg": "search.fs_uuid 1-2 root\n"}

ESP = disk_specs.esp()
ROOT = disk_specs.filesystem("root", "/", rest=True)


def esp_job(machine: Machine, loader: str = "grub", size: int = 64 * MIB, **fields: Any) -> EspJob:
    disk = disk_specs.disk(ESP, ROOT, loader=loader, sector=fields.pop("sector", 512))
    inputs = {"loader": loader, "size": size, "sector": disk.sector, "vendor": "debian"}
    return EspJob(
        stage=machine.stage("esp", **inputs), spec="specs/web.yaml", arch="amd64",
        below=machine.below, disk=disk, size=size, serial="1a2b3c4d",
        **{"texts": TEXTS if loader == "grub" else {}, "cmdline": "root=UUID=1 ro", **fields},
    )  # fmt: skip


def made(machine: Machine, job: EspJob) -> Path:
    esp.build(job, machine.builder)
    return machine.file(job.stage)


def clean(raw: Path) -> bool:
    """What fsck.vfat(8) says of it, which changes nothing."""
    done = subprocess.run(["fsck.vfat", "-n", raw], capture_output=True, text=True)
    return done.returncode == 0


def content(raw: Path, path: str) -> bytes:
    return subprocess.run(
        ["mcopy", "-i", raw, f"::{path}", "-"], check=True, capture_output=True
    ).stdout


def test_grubs_partition(tmp_path: Path) -> None:
    machine = boot_trees.machine(tmp_path)
    boot_trees.fill(machine.tree, *LOADERS, *KERNEL)
    job = esp_job(machine)
    raw = made(machine, job)
    found = {path for path, size in fat.files(raw).items() if size >= 0}
    assert found == {
        "EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grubx64.efi", "EFI/BOOT/mmx64.efi",
        "EFI/debian/shimx64.efi", "EFI/debian/grubx64.efi", "EFI/debian/mmx64.efi",
        "EFI/debian/fbx64.efi", "EFI/debian/BOOTX64.CSV", "EFI/debian/grub.cfg"}  # fmt: skip
    assert content(raw, "EFI/BOOT/BOOTX64.EFI") == b"usr/lib/shim/shimx64.efi.signed" * 100
    assert content(raw, "EFI/BOOT/grubx64.efi") == LOADERS[-1].encode() * 100
    assert content(raw, "EFI/debian/grub.cfg").decode() == TEXTS["EFI/debian/grub.cfg"]
    assert clean(raw)
    assert raw.stat().st_size == 64 * MIB
    record = json.loads(machine.builder.cache.record(job.stage).read_text())
    assert record["facts"]["packed"]["sha256"] == hashlib.sha256(raw.read_bytes()).hexdigest()
    assert record["facts"]["private"] is False
    assert sorted(os.listdir(machine.builder.scratch)) == ["trees"]


def test_ubuntus_helpers_of_shim_have_plain_names(tmp_path: Path) -> None:
    machine = boot_trees.machine(tmp_path)
    boot_trees.fill(machine.tree, LOADERS[0], *(one.removesuffix(".signed") for one in LOADERS[1:3]),
                    LOADERS[-1])  # fmt: skip
    raw = made(machine, esp_job(machine, texts={"EFI/ubuntu/grub.cfg": "x\n"}))
    assert content(raw, "EFI/BOOT/mmx64.efi") == b"usr/lib/shim/mmx64.efi" * 100
    assert content(raw, "EFI/ubuntu/fbx64.efi") == b"usr/lib/shim/fbx64.efi" * 100
    assert "EFI/ubuntu/BOOTX64.CSV" not in fat.files(raw)


@pytest.mark.parametrize(
    ("size", "sector", "kind"),
    [(4, 512, "FAT16"), (32, 512, "FAT16"), (33, 512, "FAT32"), (64, 512, "FAT32"),
     (259, 512, "FAT32"), (300, 512, "FAT32"), (64, 4096, "FAT16"), (280, 4096, "FAT32")],
)  # fmt: skip
def test_a_partition_of_any_size_is_the_fat_that_its_clusters_make_it(
    tmp_path: Path, size: int, sector: int, kind: str
) -> None:
    machine = boot_trees.machine(tmp_path)
    boot_trees.fill(machine.tree, *LOADERS)
    raw = made(machine, esp_job(machine, size=size * MIB, sector=sector))
    said = subprocess.run(["fsck.vfat", "-n", "-v", raw], capture_output=True, text=True).stdout
    assert clean(raw), said
    boot = raw.read_bytes()[:512]
    assert (b"FAT32" in boot[82:90]) == (kind == "FAT32")
    assert int.from_bytes(boot[11:13], "little") == sector
    with raw.open("rb") as file:
        shape = fat.read_shape(file)
    assert (len(shape.chain) - 2 >= esp.FAT32) == (kind == "FAT32")
    assert len(shape.chain) - 2 >= 4085


def test_the_same_bytes_in_another_folder_at_another_time(tmp_path: Path) -> None:
    found = []
    for number in (1, 2):
        machine = boot_trees.machine(tmp_path / f"{number}")
        boot_trees.fill(machine.tree, *reversed(LOADERS) if number == 2 else LOADERS)
        found.append(made(machine, esp_job(machine)).read_bytes())
        time.sleep(2.1)  # FAT counts two seconds
    assert found[0] == found[1]


def test_systemd_boot_with_and_without_signatures(tmp_path: Path) -> None:
    machine = boot_trees.machine(tmp_path, 2)
    base = machine.builder.trees.folder / "t1"
    boot_trees.fill(base, *SYSTEMD_BOOT, *KERNEL)
    (base / "etc").mkdir()
    (base / "usr/lib/os-release").write_text(
        'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\n'
    )
    # A link of the tree's own, as Debian has it.
    (base / "etc/os-release").symlink_to("../usr/lib/os-release")
    job = esp_job(machine, "systemd-boot", cmdline="root=UUID=1 ro quiet")
    raw = made(machine, job)
    plain = f"debian/{RELEASE}"
    assert {path for path, size in fat.files(raw).items() if size >= 0} == {
        "EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi", f"{plain}/linux",
        f"{plain}/initrd.img-{RELEASE}", f"loader/entries/debian-{RELEASE}.conf"}  # fmt: skip
    entry = content(raw, f"loader/entries/debian-{RELEASE}.conf").decode()
    lines = dict(line.split(None, 1) for line in entry.splitlines())
    assert lines == {
        "title": "Debian GNU/Linux 13 (trixie)", "version": RELEASE, "sort-key": "debian",
        "options": "root=UUID=1 ro quiet", "linux": f"/{plain}/linux",
        "initrd": f"/{plain}/initrd.img-{RELEASE}"}  # fmt: skip
    boot_trees.fill(machine.tree, *LOADERS[:3], SYSTEMD_BOOT[0] + ".signed")
    raw = made(machine, esp_job(machine, "systemd-boot"))
    signed = SYSTEMD_BOOT[0].encode() + b".signed"
    assert content(raw, "EFI/BOOT/grubx64.efi") == signed * 100
    assert content(raw, "EFI/BOOT/BOOTX64.EFI") == LOADERS[0].encode() * 100
    assert content(raw, "EFI/systemd/systemd-bootx64.efi") == signed * 100
    assert clean(raw)


UKIFY = """\
#!/bin/sh
for word; do case $word in --output=*) out=${word#*=};; --cmdline=*) said=${word#*=};;
  --linux=*) cat "${word#*=}"; esac; done > /tmp/kernel
{ cat /tmp/kernel; echo "$said"; } > "$out"
touch /written
"""


def test_a_uki_is_made_by_the_trees_own_ukify_with_the_root_hash(tmp_path: Path) -> None:
    """And dracut, whose initramfs sets verity up; what they write into the tree is not kept."""
    machine = boot_trees.machine(tmp_path)
    boot_trees.fill(
        machine.tree, *KERNEL, "etc/os-release", "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
    )
    boot_trees.with_program(machine.tree, "sh", "cat", "touch")
    for name, text in (
        ("ukify", UKIFY),
        ("dracut", '#!/bin/sh\necho "$@" > /dev/.strata/part/initrd.img\n'),
    ):
        (machine.tree / "usr/bin" / name).write_text(text)
        (machine.tree / "usr/bin" / name).chmod(0o755)
    hashes = machine.stage("hashes")
    facts = {"root_hash": "ab" * 32, "uuid": "", "raw": DIGESTS, "packed": DIGESTS,
             "made_of": {"filesystem-" + "1" * 32: "2" * 64}}  # fmt: skip
    with machine.builder.cache.put(hashes, facts) as target:
        target.write_bytes(b"x")
    job = esp_job(machine, "uki", verity=hashes)
    raw = made(machine, job)
    of = {"filesystem-" + "1" * 32: "2" * 64, hashes.entry: hashlib.sha256(b"x").hexdigest()}
    record = json.loads(machine.builder.cache.record(job.stage).read_text())
    assert record["facts"]["made_of"] == of
    assert {path for path, size in fat.files(raw).items() if size >= 0} == {"EFI/BOOT/BOOTX64.EFI"}
    image = content(raw, "EFI/BOOT/BOOTX64.EFI")
    assert image == KERNEL[0].encode() * 100 + b"root=UUID=1 ro roothash=" + b"ab" * 32 + b"\n"
    assert not (machine.tree / "written").exists()
    # "root" is where a sandbox mounts a tree.
    assert sorted(os.listdir(machine.builder.trees.folder)) == ["root", "t1"]


HOSTILE = """\
#!/bin/sh
for one in uki.efi esp.img empty mke2fs.conf core.img bios.img; do
  ln -sf SECRET /dev/.strata/part/$one
done
"""


@pytest.mark.parametrize("program", ["ukify", "grub-mkimage"])
def test_a_program_of_the_tree_gives_no_file_of_the_host(tmp_path: Path, program: str) -> None:
    """A link in the place of what it was to make is not read, nor is anything written through it."""
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    machine = boot_trees.machine(tmp_path)
    boot_trees.fill(machine.tree, *KERNEL, "etc/os-release", "usr/lib/grub/i386-pc/boot.img",
                    "usr/lib/systemd/boot/efi/linuxx64.efi.stub")  # fmt: skip
    boot_trees.with_program(machine.tree, "sh", "ln")
    (machine.tree / "usr/bin" / program).write_text(HOSTILE.replace("SECRET", str(secret)))
    (machine.tree / "usr/bin" / program).chmod(0o755)
    with pytest.raises(BuildError, match=f"the tree's own {program} ended well and made no file"):
        {"ukify": lambda: esp.build(esp_job(machine, "uki"), machine.builder),
         "grub-mkimage": lambda: bios.build(bios_job(machine), machine.builder)}[program]()  # fmt: skip
    assert secret.read_text() == "of the host"
    assert sorted(os.listdir(machine.builder.scratch)) == ["trees"]


def bios_job(machine: Machine, config: str = "") -> BiosJob:
    modules = ("biosdisk", "part_gpt", "ext2", "normal", "search_fs_uuid")
    return BiosJob(stage=machine.stage("bios"), spec="specs/web.yaml", arch="amd64",
                   below=machine.below, config=config, modules=modules)  # fmt: skip


DIGESTS = {"md5": "0" * 32, "sha256": "0" * 64, "size": 1}


@pytest.mark.parametrize(
    ("loader", "gone", "package"),
    [
        ("grub", "usr/lib/shim/shimx64.efi.signed", "shim-signed"),
        ("grub", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", "grub-efi-amd64-signed"),
        ("systemd-boot", SYSTEMD_BOOT[0], "systemd-boot-efi"),
        ("systemd-boot", KERNEL[1], "initramfs-tools"),
        ("systemd-boot", KERNEL[0], "linux-image-amd64"),
        ("uki", "usr/bin/ukify", "systemd-ukify"),
    ],
)
def test_what_the_tree_lacks_is_named_with_its_package(
    tmp_path: Path, loader: str, gone: str, package: str
) -> None:
    machine = boot_trees.machine(tmp_path)
    boot_trees.fill(machine.tree, *LOADERS, *KERNEL, *SYSTEMD_BOOT, "usr/bin/ukify",
                    "usr/lib/systemd/boot/efi/linuxx64.efi.stub")  # fmt: skip
    (machine.tree / gone).unlink()
    with pytest.raises(BuildError) as caught:
        made(machine, esp_job(machine, loader))
    assert "specs/web.yaml: disks.server" in caught.value.message
    assert gone.partition(RELEASE)[0] in caught.value.message
    assert package in caught.value.hint
    assert sorted(os.listdir(machine.builder.scratch)) == ["trees"]


def test_a_link_of_the_tree_leads_nowhere_else(tmp_path: Path) -> None:
    """Neither by its last step nor by a folder on the way: on the host there is such a file."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "shimx64.efi.signed").write_text("of the host")
    for link, leads in (
        ("usr/lib/shim", str(secret)),
        ("usr/lib/shim/shimx64.efi.signed", f"{secret}/shimx64.efi.signed"),
        ("usr/lib/shim/shimx64.efi.signed", "../" * 40 + f"{secret}/shimx64.efi.signed"),
        ("usr/lib/shim/shimx64.efi.signed", "shimx64.efi.signed"),
    ):
        machine = boot_trees.machine(
            tmp_path / hashlib.sha256(f"{link}{leads}".encode()).hexdigest()[:8]
        )
        boot_trees.fill(machine.tree, *LOADERS)
        path = machine.tree / link
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.symlink_to(leads)
        with pytest.raises(BuildError, match=r"no file /usr/lib/shim/shimx64\.efi\.signed"):
            made(machine, esp_job(machine))


@pytest.mark.parametrize("size", [1, 8])
def test_a_partition_that_is_too_small_says_what_it_takes(tmp_path: Path, size: int) -> None:
    machine = boot_trees.machine(tmp_path)
    boot_trees.fill(machine.tree, *SYSTEMD_BOOT, *KERNEL)
    (machine.tree / KERNEL[1]).write_bytes(os.urandom((size + 1) * MIB if size > 1 else 1000))
    with pytest.raises(BuildError) as caught:
        made(machine, esp_job(machine, "systemd-boot", size * MIB))
    takes = re.search(r"take (\d+) MiB", caught.value.message)
    assert takes is not None
    # And that is enough.
    raw = made(machine, esp_job(machine, "systemd-boot", int(takes[1]) * MIB))
    assert clean(raw)


def test_a_file_without_end_is_not_copied(tmp_path: Path) -> None:
    machine = boot_trees.machine(tmp_path)
    boot_trees.fill(machine.tree, *SYSTEMD_BOOT, *KERNEL)
    os.truncate(machine.tree / KERNEL[0], 1 << 42)
    began = time.monotonic()
    with pytest.raises(BuildError, match="does not hold the systemd-boot loader"):
        made(machine, esp_job(machine, "systemd-boot"))
    assert time.monotonic() - began < 60


def test_what_is_private_stays_so(tmp_path: Path) -> None:
    machine = boot_trees.machine(tmp_path, private=True)
    boot_trees.fill(machine.tree, *LOADERS)
    raw = made(machine, esp_job(machine))
    assert raw.stat().st_mode & 0o777 == 0o640


# ---------------------------------------------------------------- BIOS and verity


def test_grubs_core_for_bios(tmp_path: Path) -> None:
    found = []
    for number in (1, 2):
        machine = boot_trees.machine(tmp_path / f"{number}")
        boot_trees.with_program(machine.tree, "grub-mkimage")
        shutil.copytree("/usr/lib/grub/i386-pc", machine.tree / "usr/lib/grub/i386-pc")
        job = bios_job(machine, "search.fs_uuid 1-2 root\n")
        bios.build(job, machine.builder)
        found.append(machine.file(job.stage).read_bytes())
        assert sorted(os.listdir(machine.builder.scratch)) == ["trees"]
    assert found[0] == found[1]
    assert len(found[0]) % 512 == 0
    assert found[0][:512] == Path("/usr/lib/grub/i386-pc/boot.img").read_bytes()
    assert found[0][510:512] == b"\x55\xaa"
    # Room for all of it, but for the table, in what lies before the first partition of an MBR.
    assert 20_000 < len(found[0]) < MIB - 512


def test_a_tree_without_grub_for_bios(tmp_path: Path) -> None:
    machine = boot_trees.machine(tmp_path)
    job = bios_job(machine)
    with pytest.raises(BuildError, match=r"no file /usr/lib/grub/i386-pc/boot\.img") as caught:
        bios.build(job, machine.builder)
    assert "add grub-pc-bin to packages" in caught.value.hint


def verity_job(machine: Machine, data: bytes) -> VerityJob:
    filesystem = machine.stage("root")
    facts = {"uuid": "", "raw": DIGESTS, "packed": DIGESTS}
    with machine.builder.cache.put(filesystem, facts) as target:
        target.write_bytes(data)
    return VerityJob(stage=machine.stage("hashes"), spec="specs/web.yaml", arch="amd64",
                     below=machine.below, filesystem=filesystem,
                     uuid="12345678-1234-5234-8234-123456789abc", salt="5a" * 32)  # fmt: skip


def test_a_hash_tree_is_the_same_each_time_and_verifies(tmp_path: Path) -> None:
    data = hashlib.shake_256(b"data").digest(3 * MIB)
    found = []
    for number in (1, 2):
        machine = boot_trees.machine(tmp_path / f"{number}")
        job = verity_job(machine, data)
        verity.build(job, machine.builder)
        raw = machine.file(job.stage)
        record = json.loads(machine.builder.cache.record(job.stage).read_text())
        found.append((raw.read_bytes(), record["facts"]["root_hash"]))
        assert machine.file(job.filesystem).read_bytes() == data
    assert found[0] == found[1]
    good = ["veritysetup", "verify", machine.file(job.filesystem), raw, found[0][1]]
    assert subprocess.run(good, capture_output=True).returncode == 0
    bad = tmp_path / "bad.img"
    bad.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert subprocess.run([*good[:2], bad, *good[3:]], capture_output=True).returncode != 0


def test_a_filesystem_of_part_of_a_block_is_refused(tmp_path: Path) -> None:
    machine = boot_trees.machine(tmp_path)
    with pytest.raises(BuildError, match="not of whole blocks of 4096"):
        verity.build(verity_job(machine, bytes(4096 * 3 + 512)), machine.builder)
