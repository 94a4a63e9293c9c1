"""What is published beside images for those who ask: bills of materials, provenance, signatures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import BuildError
from ..host import safe, strict
from ..host.git import git
from ..plan.inputs import epoch_override
from ..plan.keys import checksum
from ..plan.stage import Plan
from ..spec.model import Spec, project_of
from ..store.cache import Cache
from ..store.readable import need_readable
from ..version import VERSION

if TYPE_CHECKING:
    from ..remote.signing import SecretKey
    from ..sbom.bill import Bill

BILLS = ("sbom.cdx.json", "sbom.spdx.json")

PROVENANCE = "provenance.json"

SIGNATURES = {
    **{f"{name}.sig": name for name in ("SHA256SUMS", *BILLS)},
    "provenance.intoto.jsonl": PROVENANCE,
}
"""Files of signatures, and what each signs. They are in no SHA256SUMS, which is the same signed."""

LARGEST = 1 << 30
"""Bytes of a bill that are read to be signed: one with all files of a large tree has some MB."""


class Asked(NamedTuple):
    """Of which build papers are wanted."""

    out: Path
    spec: Spec
    plan: Plan
    cache: Cache
    lock_digest: str
    signer: SecretKey | None
    progress: Callable[[str], None]


def known_files(out: Path) -> dict[str, str]:
    """The SHA-256 of each file that the last build put into a folder of out/, by its name.

    By its build.json, which is written last, so that what a killed build leaves is still known; by
    SHA256SUMS for what an older Strata published. Nothing is known where these are damaged.
    """
    try:
        known = strict.read(out / "build.json").get("files")
        if known is None:
            lines = safe.read_bytes(out / "SHA256SUMS", strict.LIST_LIMIT).decode().splitlines()
            known = {line[66:]: line[:64] for line in lines}
        files = strict.mapping(known, "files")
        return {
            name: strict.text(files, name, strict.SHA256)
            for name in files
            if all(part not in ("", ".", "..") for part in name.split("/"))
        }
    except (OSError, ValueError):
        return {}


# ---------------------------------------------------------------- bills


def bill_key(to: Asked) -> str:
    """All that the bills of a spec are made of; "" where it wants none."""
    if not to.spec.sbom:
        return ""
    return checksum(
        {
            "strata": VERSION,
            "what": to.spec.sbom,
            "name": to.spec.name,
            "version": to.plan.version,
            "lock": to.lock_digest,
            "trees": [stage.key for stage in to.plan.tree],
            "epoch": epoch_override(),
        }
    )


def known_bills(to: Asked) -> dict[str, str]:
    """The SHA-256 of the bills that out/NAME/ has, if they are still these; {} if any is not.

    They are made of the trees, which takes seconds: a build with nothing to do leaves them alone.
    """
    try:
        told = strict.read(to.out / "build.json")
        if told.get("sbom") != bill_key(to):
            return {}
        files = strict.mapping(told.get("files"), "files")
        found = {name: strict.text(files, name, strict.SHA256) for name in BILLS}
        same = all(to.cache.memory.holds(to.out / name, found[name]) for name in found)
        return found if same else {}
    except (OSError, ValueError):
        return {}


def wants_trees(to: Asked) -> bool:
    """Whether bills must be made, for which the cache must have the trees."""
    return bool(to.spec.sbom) and not known_bills(to)


def bill(to: Asked, *, files: bool = True) -> Bill:
    """What is in the trees, with the files that the spec asks for if `files`.

    BuildError where the cache lacks a tree or it cannot be read.
    """
    from ..rootfs.inventory import Every, inventory
    from ..sbom.bill import bill_of, own_files

    every = Every() if to.spec.sbom == "files" else own_files(to.plan)
    found = inventory(tarballs(to.cache, to.plan, to.spec), every if files else ())
    return bill_of(to.spec, to.plan, to.lock_digest, found, epoch_override())


def tarballs(cache: Cache, plan: Plan, spec: Spec) -> list[Path]:
    """The tarballs of the trees; BuildError where the cache lacks one or it cannot be read."""
    found = [cache.intact(stage) for stage in plan.tree]
    lacking = [stage.title for stage, one in zip(plan.tree, found, strict=True) if one is None]
    if lacking:
        raise BuildError(
            f"{spec.path}: the cache has no tree of {', '.join(lacking)}: "
            "what is in it is not known",
            f"strata base layer spec={spec.name} lock=keep makes what lacks",
        )
    paths = [one.path for one in found if one is not None]
    for path in paths:
        need_readable(path, str(path))
    return paths


def bill_text(found: Bill, form: str) -> str:
    """A bill as `cdx` or `spdx`; BuildError where the libraries are not there."""
    try:
        from ..sbom import cyclonedx, spdx

        return cyclonedx.text(found) if form == "cdx" else spdx.text(found)
    except ImportError as error:
        raise BuildError(
            f"a bill of materials needs a library that is not there: {error.name}",
            "pip install 'strata[sbom]' (./doit does it by itself)",
        ) from error


# ---------------------------------------------------------------- provenance


def provenance(to: Asked, images: Mapping[str, str], commit: str | None = None) -> str:
    """provenance.json: what the images are made of, by the SHA-256 of each file."""
    from ..sbom.provenance import statement, text_of

    if commit is None:
        commit = revision(project_of(to.spec.path, to.spec.name))
    text = _spec_digest(to.spec)
    return text_of(
        statement(to.spec, to.plan, images, lock=to.lock_digest, text=text, revision=commit)
    )


def _spec_digest(spec: Spec) -> str:
    """Of its own file; "" of one with a password, which could be guessed by it."""
    if spec.secrets:
        return ""
    return hashlib.sha256(safe.read_bytes(spec.path, strict.LIST_LIMIT)).hexdigest()


def revision(project: Path) -> str:
    """The commit that changed the project's folder last; "" unless all of it is committed."""
    try:
        status = git(project, "status", "--porcelain", "--", ".")
        if status.status != 0 or status.out.strip():
            return ""
        found = git(project, "log", "-1", "--format=%H", "--", ".")
    except BuildError:
        return ""
    return found.out.strip() if found.status == 0 else ""


# ---------------------------------------------------------------- all of them


class Papers(NamedTuple):
    """What is to be written, the SHA-256 of what stays, and what build.json keeps of both."""

    texts: dict[str, str]
    sums: dict[str, str]
    told: dict[str, Any]


def papers(to: Asked, images: Mapping[str, str]) -> Papers:
    """All but signatures; `images` are the SHA-256 of these by their files."""
    found = Papers({}, {}, {})
    if to.spec.sbom:
        found.told["sbom"] = bill_key(to)
        found.sums.update(known_bills(to))
        if not found.sums:
            to.progress("publish: reading the trees for the bills of materials")
            made = bill(to)
            found.texts.update(
                {f"sbom.{form}.json": bill_text(made, form) for form in ("cdx", "spdx")}
            )
    if to.spec.provenance:
        _add_provenance(to, images, found)
    return found


def _add_provenance(to: Asked, images: Mapping[str, str], found: Papers) -> None:
    """With the commit of which the images were published first; nothing is asked of git again.

    Else each commit to other files would be a new statement on the same images.
    """
    key = checksum(provenance(to, images, ""))
    commit, sha256 = _known_provenance(to, key)
    if commit:
        found.sums[PROVENANCE] = sha256
    else:
        commit = revision(project_of(to.spec.path, to.spec.name))
        found.texts[PROVENANCE] = provenance(to, images, commit)
    found.told["provenance"] = {"key": key, "commit": commit}


def _known_provenance(to: Asked, key: str) -> tuple[str, str]:
    """The commit and SHA-256 of the one in out/NAME/, both "" if it is another or has none."""
    try:
        told = strict.read(to.out / "build.json")
        known = strict.mapping(told.get("provenance"), "provenance")
        commit = strict.text(known, "commit", "[0-9a-f]{40,64}")
        sha256 = strict.text(strict.mapping(told.get("files"), "files"), PROVENANCE, strict.SHA256)
        same = known.get("key") == key and to.cache.memory.holds(to.out / PROVENANCE, sha256)
        return (commit, sha256) if same else ("", "")
    except (OSError, ValueError):
        return "", ""


def signatures(
    to: Asked, texts: Mapping[str, str], sums: Mapping[str, str], before: Mapping[str, str]
) -> tuple[dict[str, bytes], dict[str, str]]:
    """(to be written, SHA-256 of all): signatures of SHA256SUMS and of the papers.

    Without a key those of an earlier build stay, as long as what they sign is the same; `before`
    has the files of out/NAME/ as that build published them.
    """
    there = {**sums, "SHA256SUMS": hashlib.sha256(texts["SHA256SUMS"].encode()).hexdigest()}
    if to.signer is None:
        return {}, dict(_still_good(to, sums, before))
    made: dict[str, bytes] = {}
    for name, subject in SIGNATURES.items():
        if subject not in there:
            continue
        if subject in texts:
            payload = texts[subject].encode()
        else:
            payload = safe.read_bytes(to.out / subject, LARGEST)
            if hashlib.sha256(payload).hexdigest() != there[subject]:
                raise BuildError(f"{to.out / subject}: it changed while it was signed")
        made[name] = _signed(name, payload, to.signer)
    return made, {name: hashlib.sha256(raw).hexdigest() for name, raw in made.items()}


def _signed(name: str, payload: bytes, key: SecretKey) -> bytes:
    if name.endswith(".sig"):
        return key.signature(payload)
    from ..sbom.provenance import envelope

    return envelope(payload, key).encode("ascii")


def _still_good(
    to: Asked, sums: Mapping[str, str], before: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """The signatures of an earlier build that are of what this one publishes, too.

    By its build.json, which it wrote last: a killed one may have left any of the files.
    """
    listed = {name: sha256 for name, sha256 in before.items() if name not in SIGNATURES}
    for name, subject in SIGNATURES.items():
        # SHA256SUMS is made of all others, and of nothing else.
        same = (
            listed == sums if subject == "SHA256SUMS" else listed.get(subject) == sums.get(subject)
        )
        try:
            if same and name in before and to.cache.memory.holds(to.out / name, before[name]):
                yield name, before[name]
        except OSError:
            continue
