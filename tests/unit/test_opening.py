"""What is no regular file in the place of one, and state of doit's that is none."""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

import support.samples as samples
from tasks.errors import BuildError
from tasks.host import safe
from tasks.host.log import Log
from tasks.plan import entries
from tasks.repos import fetch
from tasks.session import start
from tasks.spec.document import read_text
from tasks.spec.schema import read_schema


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def linked_fifo(path: Path) -> None:
    os.mkfifo(f"{path}.fifo")
    path.symlink_to(f"{path}.fifo")


HARMS: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "link to a fifo": linked_fifo,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "socket": bound,
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("read", [read_text, read_schema])
def test_what_is_no_file_is_neither_waited_for_nor_read(
    tmp_path: Path, read: Callable[[Path], bytes], harm: str
) -> None:
    path = tmp_path / "x"
    HARMS[harm](path)
    with pytest.raises(BuildError, match="x: cannot be read: it is no regular file"):
        read(path)


@pytest.mark.parametrize("harm", [*HARMS, "folder"])
def test_a_script_that_is_no_file(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "x.sh"
    path.touch()
    spec = samples.load(tmp_path, layers=[{"name": "app", "script": "x.sh"}])
    path.unlink()
    HARMS.get(harm, Path.mkdir)(path)
    with pytest.raises(BuildError, match=r"layers\.app\.script: .*x\.sh is no file"):
        entries.layer_scripts(spec.layers[0], spec)


@pytest.mark.parametrize("harm", [*HARMS, "folder"])
def test_a_package_that_is_no_file_in_a_repository_of_this_host(tmp_path: Path, harm: str) -> None:
    record = samples.record("alpha")
    path = tmp_path / record.path
    path.parent.mkdir()
    HARMS.get(harm, Path.mkdir)(path)
    came = {record.sha256: tmp_path / "came"}
    uris = {"main": f"file:{tmp_path}"}
    failure = fetch._fetch_into(came, [record], uris, tmp_path, tmp_path / "apt.conf", Log(None))
    said = "Is a directory" if harm == "folder" else "it is no regular file"
    assert failure == f"{path}: {said}"
    assert not came[record.sha256].exists()


def test_what_the_user_names_by_a_link_is_read_and_what_others_may_plant_is_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "x").write_text("text")
    link = tmp_path / "link"
    link.symlink_to("x")
    with open(safe.named(link), "rb") as file:
        assert file.read() == b"text"
    with pytest.raises(OSError, match="symbolic") as caught:
        safe.reading(link)
    assert caught.value.errno == errno.ELOOP


@pytest.mark.parametrize(
    ("statement", "sound"),
    [
        ("create table doit (task_id text primary key, task_data blob)", True),
        ("create table other (task_id text, task_data blob)", False),
        ("pragma user_version = 1", True),
        ("create table doit (task_id text)", False),
        ("create table doit (task_id text, task_data blob); insert into doit values ('a', '[1')", False),
        ("create table doit (task_id text, task_data blob); insert into doit values ('a', '{}')", True),
    ],
)  # fmt: skip
def test_state_that_doit_can_read(tmp_path: Path, statement: str, sound: bool) -> None:
    path = tmp_path / "web.sqlite3"
    database = sqlite3.connect(path)
    database.executescript(statement)
    database.close()
    assert start._sound(path) is sound


@pytest.mark.starts
def test_state_that_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "web.sqlite3"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("create table doit (task_id text primary key, task_data blob)")
    writer.execute("begin exclusive")
    assert start._sound(path)
    writer.close()
