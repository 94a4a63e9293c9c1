"""`debconf_file`: answers in files, as debconf-get-selections(1) writes them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from support.samples import load
from tasks.errors import BuildError
from tasks.plan.passwords import debconf_identity

ANSWERS = """\
# General type of mail configuration:
# Choices: No configuration, Internet Site
postfix\tpostfix/main_mailer_type\tselect\tInternet Site

postfix\tpostfix/mailname\tstring\t
slapd\tslapd/internal/adminpw\tpassword\thunter2hunter
long\tlong/one\tstring\tfirst \\
second
"""


def write(folder: Path, text: str | bytes, name: str = "answers") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)


def test_a_files_answers_come_before_those_of_the_spec(tmp_path: Path) -> None:
    write(tmp_path, ANSWERS)
    write(tmp_path, "b b/c string d\r\n", "more")
    inline = ["postfix postfix/mailname string web"]
    (above,) = load(tmp_path, debconf_file="answers", debconf=inline).layers
    assert above.name == "packages"
    assert above.debconf == (
        "postfix\tpostfix/main_mailer_type\tselect\tInternet Site",
        "postfix\tpostfix/mailname\tstring\t",
        "slapd\tslapd/internal/adminpw\tpassword\thunter2hunter",
        "long\tlong/one\tstring\tfirst second",
        *inline,
    )
    layers = [{"name": "app", "debconf_file": ["more", "answers"]}]
    (below,) = load(tmp_path, layers=layers).layers
    assert below.debconf == ("b b/c string d", *above.debconf[:4])


def test_a_password_in_a_file_is_a_secret(tmp_path: Path) -> None:
    write(tmp_path, ANSWERS)
    spec = load(tmp_path, debconf_file="answers")
    assert "hunter2hunter" in spec.secrets
    assert "hunter2" not in repr(debconf_identity(spec.layers[0].debconf))


def test_a_key_has_what_a_file_means(tmp_path: Path) -> None:
    """Whether it stands in the file or in the spec, with tabs and comments or without."""

    def identity(text: str, **fields: Any) -> list[str]:
        write(tmp_path, text)
        return debconf_identity(load(tmp_path, debconf_file="answers", **fields).layers[0].debconf)

    first = identity("a\ta/b\tstring\tc\nd\td/e\tboolean\ttrue\n")
    assert identity("# said\n\na a/b string c\n  d d/e boolean true") == first
    assert identity("a a/b string c\n", debconf=["d d/e boolean true"]) == first
    assert identity("a a/b string c\n") != first
    assert identity("d d/e boolean true\na a/b string c\n") != first


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("# x\na a/b\n", "answers:2: 'a a/b' is not `PACKAGE QUESTION TYPE VALUE`"),
        ("\na a/b strnig c", "answers:2: 'a a/b strnig': 'strnig' is no type of debconf's"),
        ("a a/b string \\\nc\nb b/c pasword hunter2\n", "answers:3: 'b b/c pasword'"),
        ("a a/b string \x1b[0m\n", "answers:1: a control character"),
        (b"a a/b string c\n\nd d/e string \xff\n", "answers:3: not UTF-8"),
        ("# filler\n" * 120_000, "answers: larger than the 1 MiB"),
    ],
)  # fmt: skip
def test_faults_are_told_with_file_and_line(tmp_path: Path, text: str | bytes, told: str) -> None:
    write(tmp_path, text)
    with pytest.raises(BuildError, match=re.escape(told)) as refused:
        load(tmp_path, layers=[{"name": "app", "debconf_file": "answers"}])
    assert "hunter2" not in str(refused.value)


def test_no_line_of_a_file_outside_the_project_is_told(tmp_path: Path) -> None:
    os.symlink("/etc/passwd", tmp_path / "link")
    for name in ("/etc/passwd", "link", "../" * 20 + "etc/passwd"):
        with pytest.raises(
            BuildError, match=r"debconf_file: \S+ cannot be read: it is outside"
        ) as no:
            load(tmp_path / "specs", debconf_file=[name.replace("link", "../link")])
        assert "root:" not in str(no.value)


def test_what_is_no_file_is_told_with_its_field(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"web\.yaml: debconf_file: \S*no cannot be read") as no:
        load(tmp_path, debconf_file="no")
    assert "relative to the spec's folder" in no.value.hint
    layers = [{"name": "app", "debconf_file": ["."]}]
    with pytest.raises(BuildError, match=r"layers\.app\.debconf_file: \S+ cannot be read: Is a"):
        load(tmp_path, layers=layers)
    with pytest.raises(BuildError, match=r"debconf_file: expected a text or a list, found '5'"):
        load(tmp_path, debconf_file=5)


def test_an_answer_that_contradicts_a_field_is_told_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, "# x\ntzdata tzdata/Areas select Asia\n")
    with pytest.raises(BuildError, match=r"answers:2: .* contradicts timezone: 'Europe/Berlin'"):
        load(tmp_path, debconf_file="answers", timezone="Europe/Berlin")


def test_many_lines_that_go_on_are_joined_at_once(tmp_path: Path) -> None:
    write(tmp_path, "a a/b string c" + "x\\\n" * 340_000)
    assert len(load(tmp_path, debconf_file="answers").layers[0].debconf[0]) > 340_000


def test_of_the_base_they_are_told_as_its_own(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"web\.yaml: base\.debconf_file: .*none cannot be read"):
        load(tmp_path, base={"debconf_file": "none"})
    with pytest.raises(BuildError, match=r"base\.debconf: 'a b' is not `PACKAGE"):
        load(tmp_path, base={"debconf": ["a b"]})
