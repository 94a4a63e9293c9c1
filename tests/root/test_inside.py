"""What the image's own apt, dpkg and hooks do while packages are installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.stock import initramfs_debs
from support.trees import only_root, tree_of
from support.world import World

pytestmark = pytest.mark.root


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
    built.add(*initramfs_debs())
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
