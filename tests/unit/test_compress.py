"""One read gives the compressed image and every digest, the same for any number of threads."""

from __future__ import annotations

import errno
import hashlib
import lzma
import resource
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tasks.errors import BuildError
from tasks.formats.compress import (
    CONTAINERS,
    GZIP_LEVELS,
    LEVELS,
    Digests,
    compress,
    digests,
    piped,
)
from tasks.plan.containers import GZIP_TOOL
from tasks.plan.tools import MODULES

pytestmark = pytest.mark.starts

MIB = 1 << 20


NOISE = Random(1).randbytes(100_000)


def content(size: int) -> bytes:
    """Noise at the start, across the first boundary of blocks, and at the end; zeros between."""
    data = bytearray(size)
    for at in (0, MIB - 50_000, size - len(NOISE)):
        data[max(0, at) : at + len(NOISE)] = NOISE
    return bytes(data[:size])


def unpacked(container: str, path: Path) -> bytes:
    if container == "gzip":
        member = zlib.decompressobj(31)
        data = member.decompress(path.read_bytes())
        assert member.eof
        assert member.unused_data == b""
        return data
    if container == "zstd":
        command = ["zstd", "-q", "-d", "-c", str(path)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return lzma.decompress(path.read_bytes()) if container == "xz" else path.read_bytes()


def digests_of(data: bytes) -> Digests:
    md5, sha256 = hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest()
    return Digests(md5=md5, sha256=sha256, size=len(data))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of several blocks of gzip, which are of 1 MiB."""
    path = tmp_path_factory.mktemp("source") / "image"
    path.write_bytes(content(5 * MIB))
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of more than one block or job of every compressor: xz's is of 24 MiB."""
    path = tmp_path_factory.mktemp("large") / "image"
    path.write_bytes(content(26 * MIB))
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "packed"


SIZES = (0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB)
"""By day each with the first level, and one with each of the others."""


@pytest.mark.parametrize(("level", "size"), [
    pytest.param(level, size, marks=() if level == LEVELS[0] or size == MIB + 1 else pytest.mark.nightly)
    for level in LEVELS for size in SIZES
])  # fmt: skip
@pytest.mark.parametrize("container", CONTAINERS)
def test_roundtrip_and_digests(tmp_path: Path, container: str, level: str, size: int) -> None:
    source, target = tmp_path / "image", tmp_path / "packed"
    source.write_bytes(content(size))
    packed = compress(source, target, container=container, level=level)
    assert unpacked(container, target) == content(size)
    assert packed.raw == digests_of(content(size)) == digests(source)
    assert packed.container == digests_of(target.read_bytes()) == digests(target)


@pytest.mark.parametrize(
    ("container", "level"),
    [("gzip", level) for level in LEVELS] + [("zstd", "fast"), ("xz", "fast")],
)
def test_threads_do_not_change_the_bytes(
    tmp_path: Path, request: pytest.FixtureRequest, container: str, level: str
) -> None:
    source = request.getfixturevalue("source" if container == "gzip" else "large")
    packed = [
        compress(source, tmp_path / str(n), container=container, level=level, threads=n)
        for n in (1, 2, 5)
    ]
    assert packed[0] == packed[1] == packed[2]
    assert unpacked(container, tmp_path / "5") == source.read_bytes()


def test_gzip_header_holds_no_time_no_name_no_system(source: Path, target: Path) -> None:
    compress(source, target, container="gzip")
    assert target.read_bytes()[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


@pytest.mark.parametrize("level", LEVELS)
def test_gzip_blocks_look_back_a_whole_window(tmp_path: Path, target: Path, level: str) -> None:
    source = tmp_path / "image"
    source.write_bytes(NOISE[:30_000] * 150)
    library, number = GZIP_LEVELS[level]
    in_one_go = len(library.compress(source.read_bytes(), level=number, wbits=31))
    packed = compress(source, target, container="gzip", level=level)
    assert packed.container.size < 1.01 * in_one_go


def test_key_names_what_deflates_at_each_level() -> None:
    modules = {level: MODULES[name] for level, name in GZIP_TOOL.items()}
    assert modules == {level: library.__name__.partition(".")[0]
                       for level, (library, _number) in GZIP_LEVELS.items()}  # fmt: skip


@pytest.mark.parametrize("first", [b"", bytes(2 * MIB)])
def test_zeros_may_follow_anything(tmp_path: Path, target: Path, first: bytes) -> None:
    source, noise, zeros = tmp_path / "image", (NOISE * 11)[:MIB], bytes(3 * MIB)
    ends_in_zeros = noise[:-500] + bytes(500)
    source.write_bytes(first + ends_in_zeros + zeros + noise + zeros + noise)
    compress(source, target, container="gzip")
    assert unpacked("gzip", target) == source.read_bytes()


@pytest.mark.parametrize("container", ["gzip", "zstd", "xz"])
def test_higher_levels_are_smaller(tmp_path: Path, container: str) -> None:
    source = Path(subprocess.__file__)
    fast, default, best = (
        compress(source, tmp_path / level, container=container, level=level).container.size
        for level in LEVELS
    )
    assert best <= default < fast
    assert best < default or container == "xz"  # whose levels differ beyond 8 MiB


def test_raw_keeps_holes_also_at_the_end(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "image"
    with source.open("wb") as file:
        file.seek(3 * MIB + 70_000)
        file.write(NOISE)
        file.truncate(9 * MIB)
    compress(source, target, container="raw")
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 < len(NOISE) + 3 * 65536


def test_progress_counts_the_bytes_read(source: Path, target: Path) -> None:
    seen: list[int] = []
    compress(source, target, container="gzip", level="fast", progress=seen.append)
    assert seen == [n * MIB for n in range(1, 6)]


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit, OSError])
def test_exception_leaves_no_thread(
    source: Path, target: Path, container: str, exception: type[BaseException]
) -> None:
    def interrupt(done: int) -> None:
        if done == 2 * MIB:
            assert target.exists()
            raise exception

    threads = threading.active_count()
    with pytest.raises(exception):
        compress(source, target, container=container, level="best", progress=interrupt)
    assert threading.active_count() == threads


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let writing fail beyond `size` bytes, as on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("container", CONTAINERS)
def test_failing_write_is_an_oserror(source: Path, target: Path, container: str) -> None:
    with pytest.raises(OSError, match="File too large"), file_size_limit(50_000):
        compress(source, target, container=container, level="fast")


@pytest.mark.parametrize(("container", "level"), [("zip", "fast"), ("gzip", "9")])
def test_unknown_container_or_level(source: Path, target: Path, container: str, level: str) -> None:
    with pytest.raises(ValueError, match="not one of"):
        compress(source, target, container=container, level=level)
    assert not target.exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", "status 3"),
        ("cat; exit 3", "status 3"),
        ("kill -KILL $$", "status -9"),
        ("exec 0<&-; exit 0", "did not read all"),
    ],
)
def test_failing_command_is_a_build_error(script: str, message: str) -> None:
    command = ["sh", "-c", script]
    with pytest.raises(BuildError, match=message), piped(bytearray().extend, command) as write:
        write(NOISE)  # more than a pipe holds


def test_failing_reader_of_the_output_ends_the_command() -> None:
    def full(_: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"), piped(full, ["cat"]) as write:
        write(bytes(100 * MIB))


def test_interrupt_ends_a_command_that_hangs() -> None:
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt), piped(bytearray().extend, ["sleep", "60"]):
        raise KeyboardInterrupt
    assert time.monotonic() - begin < 30


def test_a_link_in_the_place_of_what_is_compressed_is_not_followed(tmp_path: Path) -> None:
    """A cache may be a folder where others write, and what it leads to be root's alone."""
    (tmp_path / "secret").write_text("root's\n")
    (tmp_path / "entry").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        compress(tmp_path / "entry", tmp_path / "packed", container="raw")
