"""What a spec may hold, field by field, by the manual page or policy that rules it; and what is said.

No message shows a regular expression: each pattern of the schema has a sentence for people.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.samples import PLAIN, SCHEMA, load
from support.spec_fields import TABLE, file, image, repo
from tasks.errors import BuildError
from tasks.plan.passwords import debconf_identity
from tasks.stages.install import preseeds

DOCUMENT: dict[str, Any] = json.loads(SCHEMA.read_text())


REGEX = re.compile(r"\\[dsSwZu.$]|\[a-z|\[A-Z|\[0-9|\[\^|\]\*|\]\+|\)\*|\)\?|\{0,|^\^|'\^")


def patterns(schema: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each part of the schema that has a pattern, and where it stands."""
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield where, schema
        for name, value in schema.items():
            if name not in ("properties", "items", "definitions", "additionalProperties"):
                yield from patterns(value, f"{where}/{name}")
            elif name in ("properties", "definitions"):
                for field, inner in value.items():
                    here = where if name == "properties" else f"{where}/definitions"
                    yield from patterns(inner, f"{here}/{field}")
            else:
                yield from patterns(value, where + ("[]" if name == "items" else "/*"))
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from patterns(value, f"{where}/{number}")


PATTERNS = dict(patterns(DOCUMENT))


@pytest.mark.parametrize("where", PATTERNS)
def test_every_pattern_has_a_sentence_for_people(where: str) -> None:
    """Editors show it, too: yaml-language-server and VS Code know `patternErrorMessage`."""
    sentence = PATTERNS[where].get("patternErrorMessage", "")
    assert sentence.startswith("expected "), f"{where}: add a patternErrorMessage"
    assert len(sentence) > 30
    assert not REGEX.search(sentence)
    assert sentence not in (PATTERNS[where]["pattern"], "")
    assert PATTERNS[where]["pattern"][0] + PATTERNS[where]["pattern"][-1] == "^$"


# ---------------------------------------------------------------- each field by its ruling source


def test_each_pattern_is_in_the_table() -> None:
    assert set(PATTERNS) == set(TABLE), "say which manual rules a new pattern"


def rows(which: str) -> list[Any]:
    return [pytest.param(where, value, id=f"{where}-{number}")
            for where, field in TABLE.items()
            for number, value in enumerate(getattr(field, which))]  # fmt: skip


@pytest.mark.parametrize(("where", "value"), rows("good"))
def test_what_its_manual_allows_is_allowed(tmp_path: Path, where: str, value: Any) -> None:
    assert load(tmp_path, **TABLE[where].put(value)).name == "web"


@pytest.mark.parametrize(("where", "value"), rows("bad"))
def test_what_its_manual_refuses_is_told_in_words(tmp_path: Path, where: str, value: Any) -> None:
    with pytest.raises(BuildError) as caught:
        load(tmp_path, **TABLE[where].put(value))
    message = caught.value.message
    assert message.startswith(f"{tmp_path}/web.yaml: {TABLE[where].path}"), message
    assert not REGEX.search(re.sub(r"'.*?'(?=:|$| is)", "", message, count=1)), message
    assert len(message.splitlines()) == 1
    if "password" in where and value:
        assert value not in message


# ---------------------------------------------------------------- what the filesystems take


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("vfat", ["BOOT", "boot", "A B", "A-_~!", "ABCDEFGHIJK", "X#%&'()@^`{"],
         ["ABCDEFGHIJKL", "a.b", "a:b", "a+b", "a,b", 'a"b', "a/b", "a\\b", " x", "Ä", "a;b", "[x]", "a=b", "a|b",
          "<x>", "a?", "a*"]),
        ("xfs", ["a" * 12, "a b", "ä" * 6, "a/b:c"], ["a" * 13, "ä" * 7]),
        ("btrfs", ["a" * 255, "a/b:c ä"], ["a" * 256, "ä" * 128]),
    ],
)  # fmt: skip
def test_labels_by_filesystem(tmp_path: Path, kind: str, good: list[str], bad: list[str]) -> None:
    """Tried with mkfs.fat 4.2, mkfs.xfs 6.1 and mkfs.btrfs 6.2."""
    for value in good:
        assert load(tmp_path, **image("label", format=kind)(value)).images[0].label == value
    for value in bad:
        with pytest.raises(BuildError, match=rf"images\./\.label: .*{kind}"):
            load(tmp_path, **image("label", format=kind)(value))


@pytest.mark.parametrize(("value", "good"), [("1A2B-3C4D", True), ("1A2B3C4D", False),
                         ("00000000-0000-4000-8000-00000000abcd", False)])  # fmt: skip
def test_uuid_of_vfat(tmp_path: Path, value: str, good: bool) -> None:
    if good:
        assert load(tmp_path, **image("uuid", format="vfat")(value)).images[0].uuid == "1a2b-3c4d"
        return
    with pytest.raises(BuildError, match=r"images\./\.uuid"):
        load(tmp_path, **image("uuid", format="vfat")(value))


@pytest.mark.parametrize("value", [-32768, -1, 1, 1001, 32767])
def test_priorities_that_apt_takes(tmp_path: Path, value: int) -> None:
    assert load(tmp_path, **repo("priority")(value)).repos[0].priority == value


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "no meaning to apt"), (32768, "more than 32767"), (-32769, "less than -32768"),
     ("high", "a whole number"), (1.5, "a whole number"), (True, "a whole number")],
)  # fmt: skip
def test_priorities_that_apt_refuses(tmp_path: Path, value: object, said: str) -> None:
    with pytest.raises(BuildError, match=rf"repos\[0\]\.priority: .*{said}"):
        load(tmp_path, **repo("priority")(value))


# ---------------------------------------------------------------- what a value means


def test_owner_of_a_group_alone_is_root(tmp_path: Path) -> None:
    assert load(tmp_path, **file("owner")(":adm")).layers[0].files[0].owner == "root:adm"


@pytest.mark.parametrize("value", ["4294967295", "0:4294967295", "99999999999"])
def test_numbers_of_owners_end_where_linux_ends(tmp_path: Path, value: str) -> None:
    with pytest.raises(BuildError, match=r"files\./srv/x\.owner: \d+ is more than 4294967294"):
        load(tmp_path, **file("owner")(value))


@pytest.mark.parametrize("target", ["/a/../b", "/a/./b", "/a//b", "//a", "/" + "a" * 256])
def test_targets_that_are_no_plain_path(tmp_path: Path, target: str) -> None:
    with pytest.raises(BuildError, match=r"layers\.app\.files: '.*(no plain absolute|longer than)"):
        load(tmp_path, layers=[{"name": "app", "files": {target: {"content": ""}}}])


def test_a_target_longer_than_a_path_may_be(tmp_path: Path) -> None:
    text = f"layers:\n- name: app\n  files:\n    ? {'/a' * 2100}\n    : motd\n"
    with pytest.raises(BuildError, match=r"layers\.app\.files: '/a.*a' is longer than Linux takes"):
        load(tmp_path, PLAIN + text)


def test_preseed_lines_are_read_as_debconf_set_selections_reads_them(tmp_path: Path) -> None:
    text = "# comment\n\na a/b multiselect x, \\\n  y\n\tb b/c string  two  spaces \n"
    loaded = load(tmp_path, debconf=[text, "c c/d password hunter2"])
    assert loaded.layers[0].debconf == (
        "a a/b multiselect x,   y", "\tb b/c string  two  spaces ", "c c/d password hunter2",
    )  # fmt: skip
    assert loaded.secrets == ("hunter2",)


def test_an_answer_that_ends_in_a_backslash_takes_no_other_in(tmp_path: Path) -> None:
    given = ["a a/b password pass\\", "b b/c string x", "c c/d string y\\\n"]
    loaded = load(tmp_path, debconf=given)
    assert loaded.layers[0].debconf == (
        "a a/b password pass\\", "b b/c string x", "c c/d string y\\")  # fmt: skip
    assert loaded.secrets == ("pass\\",)
    assert preseeds(["1", "2\\", "3", "4\\\r", "5"]) == ["1\n2\\\n", "3\n4\\\r\n", "5\n"]
    assert preseeds(["1\\"]) == ["1\\\n"]


def test_a_preseed_line_is_one_key_however_it_is_spaced(tmp_path: Path) -> None:
    keys = [debconf_identity(load(tmp_path, debconf=[line]).layers[0].debconf)
            for line in ("a a/b string x  y", " a\ta/b  string\tx  y", "a a/b string x y")]  # fmt: skip
    assert keys[0] == keys[1] != keys[2]


def test_an_unknown_type_of_debconf_is_told_without_its_value(tmp_path: Path) -> None:
    """debconf-set-selections would skip the line, and exit 0."""
    with pytest.raises(BuildError) as caught:
        load(tmp_path, debconf=["a a/b pasword hunter2"])
    assert "'pasword' is no type" in caught.value.message
    assert "'password'" in caught.value.hint
    assert "hunter2" not in str(caught.value)


def test_users_of_a_socks_proxy_are_secret(tmp_path: Path) -> None:
    loaded = load(tmp_path, proxies={"http": "socks5h://me:hunter2@proxy:1080"})
    assert "hunter2" in loaded.secrets


def test_a_password_that_crypt_cannot_take(tmp_path: Path) -> None:
    assert load(tmp_path, root_password="ä" * 255).name == "web"
    with pytest.raises(BuildError, match="root_password: longer than the 511 bytes"):
        load(tmp_path, root_password="ä" * 256)
