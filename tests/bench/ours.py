"""Strata in the benchmark: a checkout, the specs to measure, and the cases on them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from measure import Run, run

PROJECT = Path(__file__).resolve().parents[2]

SERVER = ["systemd-sysv", "openssh-server", "curl", "vim-tiny", "python3", "lvm2", "mdadm",
          "cloud-init", "linux-image-cloud-amd64", "initramfs-tools"]  # fmt: skip
"""The packages of specs/server.yaml."""

MORE = ["htop", "jq", "tree", "rsync", "bc", "pv", "zip", "strace", "lsof", "mtr-tiny", "tcpdump",
        "ncdu"]  # fmt: skip
"""One for each round: a package that was there in an earlier one would be a hit."""

GROWTH = ["build-essential", "git", "emacs-nox", "postgresql", "nginx-full", "php-fpm", "ruby-full",
          "default-jre-headless", "xfce4", "xorg", "samba", "bind9", "postfix", "dovecot-imapd",
          "apache2", "mariadb-server", "redis-server", "python3-numpy", "python3-requests", "golang-go",
          "texlive-latex-base", "octave", "gnuplot-nox", "imagemagick", "ffmpeg", "qemu-utils",
          "ansible", "vim-nox", "zsh", "tmux", "sqlite3", "subversion", "mercurial", "cmake", "gdb",
          "valgrind", "libvirt-clients", "nodejs", "erlang-base", "lua5.4", "ocaml-nox"]  # fmt: skip
"""What makes the lock long in the growth curves, in this order."""

REPOS = [
    {"name": "debian", "uri": "${mirror}", "suite": "bookworm", "section": "main"},
    {"name": "updates", "uri": "${mirror}", "suite": "bookworm-updates", "section": "main"},
    {"name": "security", "uri": "${security_mirror}", "suite": "bookworm-security",
     "section": "main"},
]  # fmt: skip


def spec(packages: Sequence[str], *, signed: bool = True, **more: Any) -> dict[str, Any]:
    """specs/server.yaml with these packages and what else differs."""
    repos = [{**repo, **({"keyring": "keys/bench.gpg"} if signed else {})} for repo in REPOS]
    images = {"/": {"file": "root.img.gz", "format": "ext4"},
              "/boot": {"file": "boot.img.gz", "format": "ext2"}}  # fmt: skip
    # As the rivals, which write no fstab.
    given = {"packages": list(packages), "images": images, "fstab": False}
    return {"repos": repos, **given, **more}


def top(packages: Sequence[str], content: str) -> dict[str, Any]:
    """The same with a layer of its own above it, of packages and a file."""
    layer = {
        "name": "top",
        "packages": list(packages),
        "files": {"/etc/motd": {"content": content}},
    }
    return spec(SERVER, layers=[layer])


class Checkout:
    """A checkout of Strata in `root` that builds from the mirror at `urls`."""

    def __init__(self, root: Path, urls: Mapping[str, str], keyring: Path | None) -> None:
        self.root, self.urls = root, urls
        root.mkdir(parents=True)
        for name in ("dodo.py", "tasks"):
            (root / name).symlink_to(PROJECT / name)
        (root / "specs/keys").mkdir(parents=True)
        shutil.copy(PROJECT / "specs/spec.schema.json", root / "specs/spec.schema.json")
        if keyring is not None:
            shutil.copy(keyring, root / "specs/keys/bench.gpg")
        kept = ("PATH", "HOME", "LANG")
        self.env = {name: os.environ[name] for name in kept if name in os.environ}

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a spec."""
        (self.root / f"specs/{name}.yaml").write_text(
            yaml.safe_dump(dict(content), sort_keys=False)
        )

    def argv(self, *words: str) -> list[str]:
        """The command of `./doit WORDS`, which that wrapper runs, with the mirror's addresses."""
        given = [f"{name}={value}" for name, value in self.urls.items()]
        return [sys.executable, "-m", "tasks", *words, *given]

    def lock(self, name: str) -> Path:
        """Lock a spec."""
        subprocess.run(self.argv("lock", f"spec={name}"), cwd=self.root, env=self.env, check=True)
        return self.root / f"specs/{name}.lock"

    def build(
        self, name: str, *, lock: str = "latest", cpus: str = "", every: float = 0.05,
        scratch: bool = False,
    ) -> Run:  # fmt: skip
        """Build a spec, measured; `scratch` looks at that folder, too."""
        argv = self.argv("build", f"spec={name}", f"lock={lock}")
        pinned = ["taskset", "--cpu-list", cpus] if cpus else []
        log = self.root.parent / f"{self.root.name}.log"
        return run([*pinned, *argv], cwd=self.root, env=self.env, log=log, every=every,
                   scratch=self.root / ".doit/scratch" if scratch else None)  # fmt: skip

    def tree_bytes(self, name: str) -> int:
        """The size of a spec's trees, unpacked, of the records of its last build."""
        keys = [f"{stage['stage']}-{stage['key']}.json" for stage in self.stages(name)
                if stage["stage"] != "image"]  # fmt: skip
        records = [json.loads((self.root / "cache/layers" / key).read_text()) for key in keys]
        return sum(int(record["facts"]["size"]) for record in records)

    def stages(self, name: str) -> list[dict[str, Any]]:
        """What the last build of a spec did, stage by stage, of its build.json."""
        content = json.loads((self.root / f"out/{name}/build.json").read_text())
        return list(content["stages"])

    def forget(self, *names: str) -> None:
        """Remove what was built."""
        for name in names or ("cache", "out", ".doit"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        if not names:
            for path in self.root.glob("specs/*.lock"):
                path.unlink()

    def results(self, name: str) -> dict[str, str]:
        """Result of each stage of the last build, by stage and name."""
        return {f"{stage['stage']} {stage['name']}": stage["result"] for stage in self.stages(name)}
