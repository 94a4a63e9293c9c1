"""What a tree holds of how it is booted, and the names that disks are found by."""

from __future__ import annotations

import shlex
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from support import disk_specs as disks
from support import samples
from support.disk_specs import esp, filesystem
from support.samples import record
from tasks.errors import BuildError
from tasks.plan import booting, guids
from tasks.plan.entries import Entry
from tasks.plan.lockfile import Lock, LockedRepo
from tasks.spec.disks import MIB, Disk, Partition
from tasks.spec.model import Spec

KERNELS = [
    record(f"linux-image-{name}")
    for name in ("amd64", "6.1.0-9-amd64", "6.1.0-38-cloud-amd64", "6.1.0-38-amd64-dbg")
]

LOCK = samples.lock([record("base")], {"packages": KERNELS})


def by_path(spec: Spec, lock: Lock = LOCK) -> dict[str, Entry]:
    found = booting.entries(spec, lock)
    assert len({one.target for one in found}) == len(found)
    return {one.target: one for one in found}


def verity_disk() -> Disk:
    return disks.disk(
        esp(), filesystem("root", "/"), Partition(name="root-verity", kind="verity"),
        filesystem("var", "/var", rest=True, grow=True),
        loader="uki", verity=True, cmdline="quiet")  # fmt: skip


def test_names_stay_when_content_changes_and_differ_by_what_they_name(tmp_path: Path) -> None:
    one, other = disks.disk(), disks.disk(name="other")
    spec = disks.spec_of(tmp_path, [one, other])
    found = [
        guids.disk_guid(spec, one),
        guids.disk_guid(spec, other),
        guids.partition_guid(spec, one, "esp"),
        guids.partition_guid(spec, one, "root"),
        guids.partition_guid(spec, other, "root"),
        guids.filesystem_uuid(spec, "/"),
        guids.swap_uuid(spec, "swap"),
        guids.verity_uuid(spec, one),
    ]
    assert len({*found}) == len(found)
    assert all(uuid.UUID(text).version == 5 for text in found)
    # They are in tables and files of machines out there: another namespace would be others.
    assert found[0] == "d747dae3-1ee2-5439-9f1d-a302b238089c"
    again = disks.spec_of(tmp_path, [one], hostname="x")
    assert guids.filesystem_uuid(again, "/") == guids.filesystem_uuid(spec, "/")
    assert guids.filesystem_uuid(spec, "/boot/efi").replace("-", "").lower() == guids.esp_serial(
        spec, one
    )


def test_a_uuid_of_the_spec_is_taken(tmp_path: Path) -> None:
    own = "aaaaaaaa-0000-4000-8000-00000000000a"
    spec = disks.spec_of(tmp_path, [disks.disk(esp(), filesystem("root", "/", uuid=own))])
    assert guids.filesystem_uuid(spec, "/") == own
    assert f"root=UUID={own} ro" == booting.cmdline(spec, spec.disks[0])


@pytest.mark.parametrize(
    ("partition", "table", "arch", "kind"),
    [
        (esp(), "gpt", "amd64", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
        (filesystem("r", "/"), "gpt", "amd64", "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
        (filesystem("r", "/"), "gpt", "arm64", "b921b045-1df0-41c3-af44-4c6f280d3fae"),
        (filesystem("b", "/boot"), "gpt", "amd64", guids.LINUX),
        (filesystem("b", "/boot", "vfat"), "gpt", "amd64", guids.BOOT),
        (filesystem("v", "/var"), "gpt", "amd64", "4d21b016-b534-45c2-a9fb-5c16e091fd2d"),
        (filesystem("d", "/data"), "gpt", "amd64", guids.LINUX),
        (Partition(name="s", kind="swap"), "gpt", "amd64", "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"),
        (Partition(name="s", kind="swap"), "mbr", "amd64", "82"),
        (esp(), "mbr", "amd64", "ef"),
        (filesystem("r", "/"), "mbr", "amd64", "83"),
        (Partition(name="x", kind="empty", type="0c"), "mbr", "amd64", "0c"),
    ],
)
def test_types(partition: Partition, table: str, arch: str, kind: str) -> None:
    assert guids.type_of(partition, table, arch) == kind


def test_an_mbrs_partitions_are_known_by_its_signature(tmp_path: Path) -> None:
    disk = disks.disk(table="mbr")
    spec = disks.spec_of(tmp_path, [disk])
    assert guids.part_uuid(spec, disk, "root") == guids.disk_guid(spec, disk)[:8] + "-02"


def test_grub(tmp_path: Path) -> None:
    disk = disks.disk(cmdline="console=ttyS0")
    spec = disks.spec_of(tmp_path, [disk])
    found = by_path(spec)
    assert {path for path, one in found.items() if one.kind == "file"} == {
        "/boot/grub/grub.cfg", "/etc/default/grub.d/strata.cfg", "/etc/repart.d/11-root.conf"}  # fmt: skip
    root = guids.filesystem_uuid(spec, "/")
    config = found["/boot/grub/grub.cfg"].content.decode()
    assert f"\tlinux ${{links}}vmlinuz root=UUID={root} ro console=ttyS0\n" in config
    assert "[ -e /vmlinuz ]" in config and "[ -e /boot/vmlinuz ]" in config  # noqa: PT018
    assert found["/boot/efi"].kind == "folder"
    assert booting.esp_texts(spec, disk, LOCK) == {
        "EFI/debian/grub.cfg": f"search.fs_uuid {root} root\nset prefix=($root)'/boot/grub'\n"
        "configfile $prefix/grub.cfg\n"
    }
    assert booting.bios_config(spec, disk) == (
        f"search.fs_uuid {root} root\nset prefix=($root)'/boot/grub'\n"
    )
    assert {"ext2", "part_gpt"} < {*booting.bios_modules(spec, disk)}


def test_grub_with_boot_apart_has_links_there(tmp_path: Path) -> None:
    disk = disks.disk(esp(), filesystem("boot", "/boot", "xfs"), filesystem("root", "/"))
    spec = disks.spec_of(tmp_path, [disk])
    found = by_path(spec)
    links = {path: one.content for path, one in found.items() if one.kind == "link"}
    assert links == {
        "/boot/vmlinuz": b"vmlinuz-6.1.0-38-cloud-amd64",
        "/boot/initrd.img": b"initrd.img-6.1.0-38-cloud-amd64",
    }
    assert found["/etc/kernel-img.conf"].content == b"link_in_boot = yes\n"
    config = found["/boot/grub/grub.cfg"].content.decode()
    assert "[ -e /vmlinuz ]" in config
    assert "/boot/vmlinuz" not in config
    assert "'/grub'" in booting.bios_config(spec, disk)
    assert "xfs" in booting.bios_modules(spec, disk)
    assert guids.filesystem_uuid(spec, "/boot") in booting.bios_config(spec, disk)


def test_ubuntu_looks_in_a_folder_of_its_own(tmp_path: Path) -> None:
    disk = disks.disk()
    spec = disks.spec_of(tmp_path, [disk])
    repo = LockedRepo(name="main", release="a" * 64, date="", fields={"Origin": "Ubuntu"})
    assert [*booting.esp_texts(spec, disk, replace(LOCK, repos=(repo,)))] == ["EFI/ubuntu/grub.cfg"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("quiet  console=ttyS0,115200", "quiet console=ttyS0,115200"),
        ('dyndbg="file a.c +p" x', "'dyndbg=file a.c +p' x"),
        ("a=$b;c", "'a=$b;c'"),
        ("it's", "'it'\\''s'"),
    ],
)
def test_a_command_line_in_grubs_language(text: str, words: str) -> None:
    """Whose words and single quotes are a shell's: update-grub hands them on as they are."""
    assert booting.grub_words(text) == words
    defaults = booting.grub_defaults(disks.disk(cmdline=text))
    said = subprocess.run(["sh", "-c", f'{defaults}\nprintf %s "$GRUB_CMDLINE_LINUX"'],
                          check=True, capture_output=True, text=True).stdout  # fmt: skip
    assert said == words
    assert [word.replace('"', "") for word in shlex.split(words)] == shlex.split(words)


@pytest.mark.parametrize("loader", ["systemd-boot", "uki"])
def test_kernel_install_writes_the_same_command_line(tmp_path: Path, loader: str) -> None:
    disk = disks.disk(loader=loader, cmdline="quiet")
    spec = disks.spec_of(tmp_path, [disk])
    found = by_path(spec)
    root = guids.filesystem_uuid(spec, "/")
    assert found["/etc/kernel/cmdline"].content.decode() == f"root=UUID={root} ro quiet\n"
    assert found["/etc/kernel/entry-token"].content == b"debian\n"
    assert "/boot/grub/grub.cfg" not in found


def test_a_uki_is_made_anew_for_a_new_kernel(tmp_path: Path) -> None:
    spec = disks.spec_of(tmp_path, [disks.disk(esp(mount="/efi"), loader="uki")])
    found = [one for path, one in by_path(spec).items() if path.endswith("/zz-strata-uki")]
    assert [one.mode for one in found] == [0o755, 0o755]
    text = found[0].content.decode()
    assert '"$new" /efi/EFI/BOOT/BOOTX64.EFI\n' in text
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    # Where no such partition is mounted, as in the build of an image, there is nothing to do.
    subprocess.run(["sh", "-s", "6.1.0-9-amd64"], input=text.replace("/efi", str(tmp_path)),
                   text=True, check=True)  # fmt: skip


def test_verity(tmp_path: Path) -> None:
    disk = verity_disk()
    spec = disks.spec_of(tmp_path, [disk])
    data, tree = (guids.partition_guid(spec, disk, name) for name in ("root", "root-verity"))
    assert booting.cmdline(spec, disk) == (
        f"root=/dev/mapper/root systemd.verity_root_data=PARTUUID={data} "
        f"systemd.verity_root_hash=PARTUUID={tree} ro quiet"
    )
    assert [row.mount for row in booting.rows(spec)] == ["/boot/efi", "/var"]
    assert "/etc/kernel/cmdline" not in by_path(spec)


def test_fstab(tmp_path: Path) -> None:
    swap = Partition(name="swap", kind="swap", size=1)
    root = filesystem("root", "/", rest=True, grow=True)
    data = filesystem("data", "/srv/data", "xfs")
    spec = disks.spec_of(
        tmp_path, [disks.disk(esp(), swap, root), disks.disk(esp(), data, root, name="other")]
    )

    def named(mount: str) -> str:
        return f"UUID={guids.filesystem_uuid(spec, mount)}"

    assert booting.rows(spec) == [
        (named("/"), "/", "ext4", "errors=remount-ro,x-systemd.growfs", 0, 1),
        (named("/boot/efi"), "/boot/efi", "vfat", "umask=0077", 0, 2),
        (named("/srv/data"), "/srv/data", "xfs", "defaults,x-systemd.growfs,nofail", 0, 0),
        (f"UUID={guids.swap_uuid(spec, 'swap')}", "none", "swap", "sw,nofail", 0, 0),
    ]
    assert len(named("/boot/efi")) == len("UUID=1A2B-3C4D")


def test_what_grows_is_found_by_its_type_and_its_place_among_its_like(tmp_path: Path) -> None:
    data = [filesystem(f"D {mount[1:]}", mount, grow=mount == "/b") for mount in ("/a", "/b")]
    spec = disks.spec_of(tmp_path, [disks.disk(esp(), filesystem("root", "/"), *data)])
    found = {path: one.content.decode() for path, one in by_path(spec).items() if "repart" in path}
    assert [*found] == ["/etc/repart.d/12-d-a.conf", "/etc/repart.d/13-d-b.conf"]
    assert {text.splitlines()[-1] for text in found.values()} == {f"Type={guids.LINUX}"}


def test_without_disks_there_is_nothing(tmp_path: Path) -> None:
    spec = disks.spec_of(tmp_path, [])
    assert booting.entries(spec, LOCK) == []
    assert booting.rows(spec) == []


def test_disks_of_one_tree_that_grow_in_different_ways_are_refused(tmp_path: Path) -> None:
    """The tree has one set of repart.d's files: by another's, a disk would stay as it is."""
    root = filesystem("root", "/", grow=True)
    disk = disks.disk(esp(), root)
    same = disks.disk(esp(), Partition(name="x", kind="swap", size=MIB), root, name="same")
    spec = disks.spec_of(tmp_path, [disk, same])
    assert [path for path in by_path(spec) if "repart" in path] == ["/etc/repart.d/11-root.conf"]
    typed = disks.disk(esp(), filesystem("root", "/", grow=True, type=guids.LINUX), name="typed")
    behind = disks.disk(esp(), filesystem("e", "/e"), filesystem("d", "/d", grow=True), name="a")
    beside = disks.disk(esp(), filesystem("d", "/d", grow=True), name="b")
    for one, other, name in ((disk, typed, "typed"), (behind, beside, "b")):
        with pytest.raises(BuildError, match=rf"disks\.{name}\.partitions\.\w+\.grow: ") as caught:
            by_path(disks.spec_of(tmp_path, [one, other]))
        assert "variant" in caught.value.hint
