"""The .debs that a stage needs: fetched in parallel by apt, checked, and made a repository of."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, unquote

from ..builder import Builder
from ..debian import answers, apt
from ..errors import BuildError, CommandFailed
from ..host import safe
from ..host.files import remove, sync_folder
from ..host.locks import locked
from ..host.log import Log
from ..host.patience import retries, timeout
from ..host.process import apt_tool, run
from ..plan import debs
from ..plan.lockfile import OWN, Record
from ..spec.model import masked
from ..spec.words import counted
from ..store.cache import Cache
from .pool import bytes_here
from .retry import patiently


def fetch(
    records: Sequence[Record], builder: Builder, *, log: Log | None = None, folder: str = "download"
) -> None:
    """Bring the .debs of these records into the cache; `folder` of scratch is where they come.

    Raises BuildError that names the packages which no repository has any more.
    """
    cache, log = builder.cache, log or builder.log
    wanted = {record.sha256: record for record in records}
    for sha256 in list(wanted):
        if cache.has_deb(sha256):
            del wanted[sha256]
    if not wanted:
        return
    with locked(cache.debs / ".lock", waiting=log.step):
        # Looked at again: another build may have brought them meanwhile. Only now is one removed
        # that is not whole: without the lock it could be what that build has just put there.
        missing = [record for record in wanted.values() if not cache.has_deb(record.sha256)]
        for record in missing:
            remove(cache.deb(record.sha256))
        total = sum(record.size for record in missing)
        if not missing:
            return
        # They come to scratch first.
        for place in ("cache", "scratch"):
            log.need_room(place, total, f"fetching {counted(len(missing), 'package')}")
        log.step(f"fetching {counted(len(missing), 'package')}, {total / 1e6:.1f} MB")
        came_to = builder.scratch / folder
        came_to.mkdir(exist_ok=True)
        own = [record for record in missing if record.repository == OWN]
        for record in own:
            _take_own(record, builder, came_to)
        others = [record for record in missing if record.repository != OWN]
        with log.watched(total, "bytes", functools.partial(bytes_here, missing, cache, came_to)):
            if others and builder.shared is not None:
                others = builder.shared.take_debs(others, came_to, log.step)
            if others:
                _download(others, builder, came_to, log)


def _take_own(record: Record, builder: Builder, folder: Path) -> None:
    """Copy a .deb of the project into the cache; BuildError where it is not what is locked."""
    reach = builder.reach
    source = debs.sources(reach.own).get(record.sha256, reach.root / record.path)
    copy = folder / f"{record.sha256}.deb"
    try:
        descriptor = safe.inside(source, reach.root)
    except OSError as error:
        raise BuildError(
            f"{source}: {record.package} {record.version} is locked, and it cannot be read: "
            f"{error.strerror}; the cache has no copy",
            "put it there again, or lock again: lock=latest",
        ) from error
    with open(descriptor, "rb") as file, copy.open("wb") as target:
        # Not more than its record tells: who writes to it may never end.
        left = record.size + 1
        while left and (chunk := file.read(min(left, 1 << 20))):
            target.write(chunk)
            left -= len(chunk)
    if not _taken(copy, record, builder.cache):
        raise BuildError(
            f"{source}: it is not the {record.package} {record.version} that is locked: it was "
            "changed since",
            "lock again: lock=latest, or lock=keep to keep all other versions",
        )
    sync_folder(builder.cache.debs)


@contextlib.contextmanager
def fetching_ahead(records: Sequence[Record], builder: Builder) -> Iterator[None]:
    """Fetch .debs that later stages need beside what the block does, in silence.

    What fails here is asked for again by the stage that needs it, and told there.
    """
    quiet = Log(None, places=builder.log.places)

    def work() -> None:
        # A signal ends the main thread, too.
        with contextlib.suppress(BuildError, OSError, SystemExit):
            fetch(records, builder, log=quiet, folder="ahead")
        remove(builder.scratch / "ahead")

    with ThreadPoolExecutor(1) as pool:
        if records:
            pool.submit(work)
        yield


def _download(missing: Sequence[Record], builder: Builder, folder: Path, log: Log) -> None:
    reach, cache = builder.reach, builder.cache
    uris = reach.uris
    past = [place for places in reach.past.values() for place in places]
    config = folder / "apt.conf"
    config.write_text(
        apt.configuration(
            str(folder),
            arch=reach.arch,
            foreign=reach.foreign,
            proxies=reach.proxies,
            direct=reach.direct,
            timeout=timeout(),
        ),
        encoding="utf-8",
    )
    config.chmod(0o600)
    auth = folder / "auth.conf"
    auth.touch(mode=0o600)
    auth.write_text(apt.auth_conf([*uris.values(), *past]), encoding="utf-8")
    # Not in the cache itself: a killed build's scratch goes as a whole.
    came = {record.sha256: folder / f"{record.sha256}.deb" for record in missing}
    places = [*(uris[record.repository] for record in missing), *past]
    if any(not place.startswith("file:") for place in places):
        apt_tool("apt-helper")
    try:
        left, said = _fetched(missing, uris, came, builder, folder, log)
        if left:
            _from_snapshot(left, said, came, builder, folder, log)
    finally:
        sync_folder(cache.debs)


def _from_snapshot(
    lost: Sequence[Record],
    said: str,
    came: Mapping[str, Path],
    builder: Builder,
    folder: Path,
    log: Log,
) -> None:
    """Fetch .debs that repositories have dropped as they were locked; BuildError for what is lost.

    `said` is what was said of those that are lost.
    """
    reach = builder.reach
    gone = [record for record in lost if _dropped(record, reach.uris[record.repository], said)]
    left = [record for record in gone if record.repository in reach.past]
    if not left:
        raise _lost(lost, reach.uris, said, dropped=bool(gone))
    others = [record for record in lost if record not in left]
    again = ""
    for number in range(max(len(places) for places in reach.past.values())):
        uris = {name: places[number] for name, places in reach.past.items()}
        wanted = left
        left, again = _fetched(wanted, uris, came, builder, folder, log)
        _tell_found([record for record in wanted if record not in left], uris, builder)
        if not left:
            break
    if left:
        raise _lost([*left, *others], reach.uris, said, past=reach.past, again=again)
    if others:
        raise _lost(others, reach.uris, said)


def _fetched(
    wanted: Sequence[Record],
    uris: Mapping[str, str],
    came: Mapping[str, Path],
    builder: Builder,
    folder: Path,
    log: Log,
) -> tuple[list[Record], str]:
    """Fetch .debs from the addresses of their repositories; (those that lack, what was said)."""
    left = list(wanted)

    def attempt() -> None:
        nonlocal left
        failure = _fetch_into(came, left, uris, folder, folder / "apt.conf", log)
        left = [one for one in left if not _taken(came[one.sha256], one, builder.cache)]
        if left:
            raise CommandFailed("packages are missing", status=1, output=failure)

    try:
        patiently(attempt, log, "fetching packages", tries=retries())
    except CommandFailed as error:
        return left, error.output
    return [], ""


def _tell_found(found: Sequence[Record], uris: Mapping[str, str], builder: Builder) -> None:
    for name in sorted({record.repository for record in found}):
        some = [f"{one.package} {one.version}" for one in found if one.repository == name]
        more = f" and {len(some) - 5} more" if len(some) > 5 else ""
        builder.say(
            f"  {', '.join(some[:5])}{more}: repository {name} has dropped it; it came from "
            f"{masked(uris[name])}"
        )


def _dropped(record: Record, address: str, said: str) -> bool:
    """Whether a repository, at this address, has a .deb no more: it may be busy, or in error."""
    if address.startswith("file:"):
        return not os.path.lexists(_local(address, record))
    end = "/" + quote(record.path, safe="/+~:")
    return any(uri.endswith(end) for uri in answers.dropped(said))


def _local(address: str, record: Record) -> str:
    # Not joined as a Path: a path that begins with `/` must stay below the repository.
    return f"{unquote(re.sub('^file:(//)?(?=/)', '', address))}/{record.path}"


def _fetch_into(
    came: Mapping[str, Path],
    records: Sequence[Record],
    uris: Mapping[str, str],
    folder: Path,
    config: Path,
    log: Log,
) -> str:
    """Fetch .debs to the paths that `came` has by SHA-256; what was said of those that failed."""
    remote: list[str] = []
    hidden: dict[str, list[Record]] = {}
    failure = ""
    for record in records:
        address = uris[record.repository]
        if address.startswith("file:"):
            source = _local(address, record)
            try:
                with (
                    open(safe.named(Path(source)), "rb") as file,
                    came[record.sha256].open("wb") as copy,
                ):
                    shutil.copyfileobj(file, copy, 1 << 20)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise
                failure = f"{source}: {error.strerror}"
        elif apt.source_uri(address) != apt.without_user(address):
            hidden.setdefault(address, []).append(record)
        else:
            uri = f"{apt.without_user(address)}/{quote(record.path, safe='/+~:')}"
            remote += [uri, str(came[record.sha256]), f"SHA256:{record.sha256}"]
    try:
        if remote:
            _apt_helper(remote, folder, config, log)
    except CommandFailed as error:
        failure = error.output
    for address, some in hidden.items():
        try:
            by_source(address, some, came, folder, log)
        except CommandFailed as error:
            failure = error.output
    return failure


def by_source(
    address: str,
    records: Sequence[Record],
    came: Mapping[str, Path],
    folder: Path,
    log: Log,
    algorithm: str = "SHA256",
) -> None:
    """Fetch .debs of an address whose password only a source can hold: see apt.source_uri.

    An argument would show it to everybody. apt takes the index that stands here for what a
    repository said. `folder` has the apt.conf; `algorithm` is that of the records' digests.
    """
    for name in ("lists/partial", "cache", "trusted.gpg.d"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("status", "preferences"):
        (folder / name).touch()
    source = folder / "apt.sources"
    source.touch(mode=0o600)
    source.write_text(apt.source(address, "./", [], trusted=True), encoding="utf-8")
    stanzas = [
        f"Package: {one.package}\nVersion: {one.version}\nArchitecture: {one.architecture}\n"
        f"Maintainer: none\nFilename: {one.path}\nSize: {one.size}\n"
        f"{algorithm}: {one.sha256}\n"
        for one in records
    ]
    index = folder / "lists" / f"{apt.list_name(address)}_._Packages"
    index.write_text("\n".join(stanzas), encoding="utf-8")
    names = {record: folder / _downloaded_name(record) for record in records}
    try:
        for record in records:
            with contextlib.suppress(FileNotFoundError):
                came[record.sha256].unlink()
        run(
            [
                "apt-get",
                "download",
                *(f"{one.package}:{one.architecture}={one.version}" for one in records),
            ],
            log=log,
            env={"APT_CONFIG": str(folder / "apt.conf"), "TMPDIR": str(folder)},
            cwd=folder,
            what="fetching packages",
            quiet=True,
        )
    finally:
        source.unlink()
        index.unlink()
        for record, path in names.items():
            if path.exists():
                path.replace(came[record.sha256])


def _downloaded_name(record: Record) -> str:
    """As `apt-get download` calls what it fetches.

    Its ending is what follows the last dot of the path; then folders are left away.
    """
    version = record.version.replace(":", "%3a")
    name = f"{record.package}_{version}_{record.architecture}.{record.path.rpartition('.')[2]}"
    return name.rpartition("/")[2]


def _taken(path: Path, record: Record, cache: Cache) -> bool:
    """Whether what came is the .deb; it is in the cache then. apt has checked what it fetched."""
    whole = path.exists() and path.stat().st_size == record.size
    taken = whole and cache.take_deb(path, record.sha256)
    path.unlink(missing_ok=True)
    return taken


def _apt_helper(arguments: Sequence[str], folder: Path, config: Path, log: Log) -> None:
    run(
        ["apt-helper", "download-file", *arguments],
        log=log,
        env={"APT_CONFIG": str(config), "TMPDIR": str(folder)},
        cwd=folder,
        what="fetching packages",
        quiet=True,
        typed="",
    )


def _lost(
    lost: Sequence[Record],
    uris: Mapping[str, str],
    failure: str,
    *,
    dropped: bool = False,
    past: Mapping[str, Sequence[str]] | None = None,
    again: str = "",
) -> BuildError:
    """What is said of .debs that are lost; `past` is where they were looked for `again`, if so."""
    failure = _said_of(lost[0], failure)
    names = ", ".join(f"{record.package} {record.version}" for record in lost[:5])
    more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
    first = lost[0]
    hint = "otherwise check that it answers"
    if not failure or re.search("Hash Sum mismatch|unexpected size", failure):
        failure = f"what came is not what is locked {failure and f'({failure})'}".rstrip()
        hint = "otherwise use another mirror"
    if past:
        there = _said_of(first, again) or "what came is not what is locked"
        places = " and ".join(past[first.repository])
        failure += f"\n    nor from the snapshots {places}:\n    {there}"
    elif dropped:
        hint += ", or name a snapshot service that has it still: snapshot_mirror=ADDRESS"
    return BuildError(
        f"cannot fetch {names}{more} from repository {first.repository} "
        f"({masked(uris[first.repository])}):\n    {masked(failure)}",
        f"if the repository has changed since it was locked, build with lock=latest; {hint}",
    )


def _said_of(record: Record, failure: str) -> str:
    """What was said of this package, else the first that was said."""
    lines = [line.strip() for line in failure.splitlines() if "E: " in line]
    own = [line for line in lines if quote(record.path.rpartition("/")[2], safe="+~:") in line]
    return (own or lines or [failure])[0]
