"""Lock → base tarball: bootstraps from the locked .debs alone, confined, with no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..builder import Builder
from ..errors import BuildError
from ..host import toolroot
from ..host.files import remove
from ..host.sandbox import DPKG_CAPABILITIES, Sandbox, step
from ..plan.job import BaseJob
from ..plan.lockfile import short_name
from ..repos.fetch import fetch, fetching_ahead
from ..repos.pool import local_repository
from ..rootfs import clean, debconf, dpkg, identities, measure, tarball
from ..rootfs.overlay import Upper
from ..spec.words import counted
from . import own
from .install import preseeds
from .status import Installing


def bootstrap_argv(given: Mapping[str, Any]) -> list[str]:
    """The command that makes a base of the stage's inputs, of which its key is made."""
    names = [
        short_name(package, architecture, given["arch"])
        for package, _version, architecture, _sha256 in given["records"]
    ]
    if given["tool"] == "mmdebstrap":
        arches = [given["arch"], *given["foreign"]]
        return _mmdebstrap_argv(
            given["variant"], arches, names, answered=bool(given.get("debconf"))
        )
    return _debootstrap_argv(given["variant"], given["arch"], given["suite"], names)


def _mmdebstrap_argv(
    variant: str, arches: Sequence[str], packages: Sequence[str], *, answered: bool
) -> list[str]:
    """`custom` with the whole closure named, since the variant's selection is locked.

    chroot/mount is skipped because /dev, /proc and /sys are there already, and because without
    CAP_SYS_ADMIN it could not mount them. No --dpkgopt and no --aptopt: they would stay in the
    image's /etc, and the overlay is volatile, so that dpkg's fsyncs cost nothing.
    """
    return [
        "mmdebstrap",
        "--verbose",  # else it keeps to itself what dpkg says
        "--mode=root",
        "--format=directory",
        f"--variant={variant}",
        f"--architectures={','.join(arches)}",
        "--skip=check/empty,check/signed-by,chroot/mount,output/dev,output/mknod,cleanup/run,"
        "cleanup/tmp",
        *(f"--include={name}" for name in packages),
        *([f"--extract-hook={ANSWER}"] if answered else []),
        "",
        "/target",
        "deb [trusted=yes] copy:/repo ./",
    ]


ANSWERS = "/answers"
ANSWER = (
    f"""for one in {ANSWERS}/*; do chroot "$1" debconf-set-selections < "$one" || exit 1; done"""
)
"""Once all packages are unpacked and before any is configured, by the tree's own debconf."""


def _debootstrap_argv(variant: str, arch: str, suite: str, packages: Sequence[str]) -> list[str]:
    """The whole closure is named, from a repository that holds nothing else."""
    argv = [
        "debootstrap",
        f"--arch={arch}",
        "--no-check-gpg",
        "--no-check-certificate",
        "--components=main",
        f"--include={','.join(packages)}",
    ]
    if variant != "-":
        argv.append(f"--variant={variant}")
    return [*argv, suite, "/target", "file:///repo", debootstrap_script(suite)]


def debootstrap_script(suite: str) -> str:
    """The suite's own script, or sid's: a newer suite than the host's debootstrap knows.

    Ubuntu's newer suites are links to its script `gutsy`, Debian's to `sid`; they differ in where
    the keyring and the default mirror are, of which neither is used here.
    """
    folder = Path("/usr/share/debootstrap/scripts")
    own = folder / suite
    return str(own if own.exists() else folder / "sid")


def build(job: BaseJob, builder: Builder) -> None:
    """Make the base and put it into the cache."""
    stage, log = job.stage, builder.log
    if stage.inputs["tool"] == "debootstrap" and any(
        record.architecture not in ("all", job.arch) for record in job.records
    ):
        raise BuildError(
            f"{job.spec}: base.include: debootstrap knows one architecture only",
            "use base.tool: mmdebstrap",
        )
    fetch(job.records, builder)
    repository, root = builder.scratch / "base-repo", builder.scratch / "tool-root"
    remove(repository)
    remove(root)
    log.step(f"preparing {counted(len(job.records), 'package')}")
    paths = local_repository(
        repository,
        job.records,
        builder,
        suite=stage.inputs["suite"] or "",
        arch=job.arch,
        copied=True,
    )
    override = stage.inputs["epoch"]
    epoch: int = override if override is not None else dpkg.deb_epoch(paths)
    toolroot.skeleton(root)
    # One CPU bootstraps; what asks for the base needs every layer that is lacking.
    later = [
        record
        for one in job.later
        if builder.cache.get(one.stage) is None
        for record in one.records
    ]
    with builder.trees.upper(stage, []) as upper, fetching_ahead(later, builder):
        _bootstrap(job, builder, upper, epoch, root, repository)
        log.step("packing")
        if job.configured:
            text = dpkg.dpkg_status(upper.base, [upper.name])
            dpkg.check_installed(text, job.records, job.arch, "base")
        _finish(job, builder, upper, epoch)
    remove(repository)
    remove(root)


def _bootstrap(
    job: BaseJob, builder: Builder, upper: Upper, epoch: int, root: Path, repository: Path
) -> None:
    """Run the bootstrap tool, confined, from a repository of the locked .debs alone."""
    argv = bootstrap_argv(job.stage.inputs)
    binds = [*toolroot.programs(), (str(repository), "/repo")]
    if job.answers:
        answers = builder.scratch / "base-answers"
        remove(answers)
        answers.mkdir(mode=0o700)
        for number, text in enumerate(preseeds(job.answers)):
            (answers / f"{number:06}").write_text(text, encoding="utf-8")
        (root / ANSWERS.lstrip("/")).mkdir()
        binds.append((str(answers), ANSWERS))
    installing = Installing(builder.log, len(job.records))
    Sandbox(
        base=upper.base,
        mounts=[["bind", str(root), "root", ""], upper.mount("root/target")],
        root="root",
        chroots=["/target"],
        binds=binds,
        keep=DPKG_CAPABILITIES,
        arches=job.arches,
        env={
            "SOURCE_DATE_EPOCH": str(epoch),
            "TMPDIR": "/tmp",
            "HOME": "/root",
            # debootstrap would else insist on making a device node that works, which a nodev
            # target forbids; those that it needs are there already.
            "container": "lxc",
        },
    ).run(
        step(*argv, title=f"bootstrapping {counted(len(job.records), 'package')}"),
        log=builder.log,
        what=f"{job.stage.inputs['tool']} of the base",
        visit=builder.visit,
        telling=installing,
    )


def _finish(job: BaseJob, builder: Builder, upper: Upper, epoch: int) -> None:
    """Clean the tree, give it its times and put it into the cache."""
    drawn = identities.sweep(identities.Tree(upper=upper.path, epoch=epoch))
    identities.note(drawn, builder.log)
    dpkg.write_marks(upper.path, job.stage.inputs["auto"])
    clean.sweep(upper.path, (*clean.REMOVED, *clean.REMOVED_FROM_BASE))
    debconf.sweep(upper.base, upper.name, [])
    for name in ("dev", "proc", "run", "sys", "tmp"):
        _folder(upper.path / name)
    (upper.path / "tmp").chmod(0o1777)
    rare = clean.clamp_times(upper.path, epoch, upper.begun)
    if rare.sockets:
        builder.say(own.sockets("base", rare.sockets))
    facts: dict[str, Any] = measure.facts(epoch, job.records, upper.path)
    facts["drawn"] = identities.facts(drawn)
    with builder.cache.put(job.stage, facts) as target:
        tarball.pack(upper.path, target, builder.log, rare=rare, size=facts["size"])


def _folder(path: Path) -> None:
    """Make a top folder of the tree unless it is there; a link in its place may lead anywhere."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise BuildError(f"base: /{path.name} is no folder", "a package of the base replaced it")
    path.mkdir(exist_ok=True)
