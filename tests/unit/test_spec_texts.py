"""A spec's text: merge keys, words that YAML reads as something else, encodings; and what is said."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from support.samples import PLAIN, SCHEMA, load
from tasks.errors import BuildError


def test_merge_keys(tmp_path: Path) -> None:
    loaded = load(tmp_path, """\
x-image: &image {format: ext4, container: raw, pack: direct}
x-small: &small {free: 1M, container: xz}
repos:
  - &deb {name: main, uri: "${mirror}", suite: stable, section: main, priority: 900}
  - {<<: *deb, name: updates, suite: stable-updates}
  - name: ours
    <<: *deb
    uri: http://h/x
images:
  /: {<<: *image, file: a.img}
  /boot: {file: b.img, <<: [*small, *image], format: ext2}
""")  # fmt: skip
    assert [(one.name, one.suite, one.uri, one.priority) for one in loaded.repos] == [
        ("main", "stable", "${mirror}", 900), ("updates", "stable-updates", "${mirror}", 900),
        ("ours", "stable", "http://h/x", 900),
    ]  # fmt: skip
    root, boot = loaded.images
    assert (root.format, root.container, root.pack) == ("ext4", "raw", "direct")
    # Its own field counts before a merged one, and of two merged ones the first.
    assert (boot.format, boot.container, boot.free, boot.pack) == ("ext2", "xz", 1 << 20, "direct")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x-a: {<<: 5}\n", ":5:11: `<<` takes a mapping"),
        ("x-a: {<<: [*deb, 5]}\n", ":5:18: `<<` takes a mapping"),
        ("x-a: {<<: *deb, <<: *deb}\n", ":5:17: '<<' stands twice"),
        ("x-a: {a: 1, <<: *deb, a: 2}\n", ":5:23: 'a' stands twice"),
        ('"<<": {a: b}\n', "unknown field '<<'"),
        ("hostname: *deb\n", "hostname: expected a text, found a mapping"),
    ],
)
def test_merge_keys_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BuildError) as caught:
        load(tmp_path, PLAIN + text)
    assert said in caught.value.message


def test_what_is_wrong_in_a_merged_field_is_found_where_it_is_written(tmp_path: Path) -> None:
    text = "x-image: &image\n  format: ext5\n" + PLAIN.replace("format: ext4", "<<: *image")
    with pytest.raises(BuildError, match=r"images\./\.format: 'ext5' is not one of .* \(line 2\)"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("1.10", "the number 1.1"), ("1_0", "the number 10"), ("0644", "the number 420"), ("5", "a number"),
        ("12:30:45", "the number 45045"), ("33:33", "the number 2013"), ("0x1F", "the number 31"),
        ("no", "false"), ("On", "true"), ("yes", "true"), ("true", "true"), ("2024-01-01", "a date"),
        ("~", "nothing at all"), ("null", "nothing at all"), (".inf", "the number inf"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("text", "path"),
    [("hostname: {}\n", "hostname"), ("packages: [aa, {}]\n", "packages[1]"),
     ("layers: [{{name: app, files: {{/a: {{content: x, owner: {}}}}}}}]\n",
      "layers[0].files./a.owner")],
)  # fmt: skip
def test_a_word_that_yaml_reads_as_something_else(
    tmp_path: Path, text: str, path: str, written: str, read_as: str
) -> None:
    with pytest.raises(BuildError) as caught:
        load(tmp_path, PLAIN + text.format(written))
    assert caught.value.message == (
        f"{tmp_path}/web.yaml: {path}: expected a text, found {written!r}, which YAML reads as "
        f"{read_as} (line 5)"
    )
    assert caught.value.hint == f'put it in quotes: "{written}"'


@pytest.mark.parametrize(("written", "number"), [("0100", 64), ("0x1F", 31), ("1:30", 90),
                                                 ("0b11", 3), ("1_000", 1000)])  # fmt: skip
def test_a_number_that_yaml_misreads_is_no_size(tmp_path: Path, written: str, number: int) -> None:
    text = PLAIN.replace("format: ext4", f"format: ext4, size: {written}")
    with pytest.raises(BuildError) as caught:
        load(tmp_path, text)
    assert f"images./.size: YAML reads '{written}' as {number} (line 4)" in caught.value.message
    free = PLAIN.replace("section: main", f"section: main, meta: {{size: {written}}}")
    assert load(tmp_path, free).repos[0].meta == {"size": number}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("packages: curl\n", "packages: expected a list, found the text 'curl'", "a list is `[a, b]`"),
        ("packages:\n", "packages: expected a list, found nothing", "leave the field out"),
        ("layers: {a: b}\n", "layers: expected a list, found a mapping", "Further layers"),
        ("hostname: [a]\n", "hostname: expected a text, found a list", "without `[ ]`"),
        ("recommends: 'yes'\n", "recommends: expected true or false, found the text 'yes'", "without quotes"),
        ("layers: [{name: app, files: {/a: 5}}]\n", "files./a: expected a text or a mapping, found '5'", "quotes"),
        ("layers: [{name: app, files: {/a: {mode: '1'}}}]\n", "one of source, content and template must be given", ""),
        ("layers: [{name: app, files: {/a: {source: a, content: b}}}]\n",
         "only one of source and content may be given", ""),
        ("layers: [{name: app, files: {/a: {contents: b}}}]\n", "unknown field 'contents'", "'content'?"),
        ("Packages: []\nroot-password: hunter2\n", "unknown fields 'Packages', 'root-password'",
         "'packages' for 'Packages', 'root_password' for 'root-password'"),
        ("section: main\n", "unknown field 'section' (line 5)", "`repos[]`"),
        ("container: raw\n", "unknown field 'container' (line 5)", "`images.NAME`"),
        ("frobnicate: 1\n", "unknown field 'frobnicate'", "fields here: include, vars, variants, arch, base"),
        ("arch: amd46\n", "arch: 'amd46' is not one of amd64, i386", "did you mean 'amd64'?"),
        ("yes: 1\n", ":5:1: the key 'yes' is not a string: YAML reads it as true", "put it in quotes"),
        ("1: 1\n", ":5:1: the key '1' is not a string: YAML reads it as a number", "put it in quotes"),
        ("[a]: 1\n", ":5:1: a key that is a list", "texts"),
        ("hostname: a: b\n", ":5:12: not YAML", "in quotes"),
        ("hostname: @a\n", ":5:11: not YAML", "in quotes"),
        ("\tx: 1\n", ":5:1: not YAML", "no tabs"),
        ("packages: [a\n", ":6:1: not YAML", "not closed"),
        (" x: 1\n", "not YAML", "not indented"),
        ("hostname: *web\n", ":5:11: not YAML: found undefined alias 'web'", ""),
        ("...\n---\na: b\n", ":6:1: a second document begins here", "a spec is one"),
        ("packages: !!set {a, b}\n", ":5:11: a value with the tag '!!set'", "texts, numbers"),
        ("hostname: 2024-13-01\n", ":5:11: YAML reads '2024-13-01' as a date", "quotes"),
        ("root_password: 12345\n", "root_password: expected a text, found what YAML reads as a number",
         "put it in quotes"),
        ("root_password: hunter2\nhashed_root_password: '*'\n",
         "only one of root_password and hashed_root_password may be given", ""),
    ],
)  # fmt: skip
def test_what_is_said_and_advised(tmp_path: Path, text: str, message: str, hint: str) -> None:
    with pytest.raises(BuildError) as caught:
        load(tmp_path, PLAIN + text)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "12345" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n", "---\n", "- a\n", "a\n", "null\n"])
def test_a_text_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(text)
    with pytest.raises(BuildError, match="expected a mapping with `repos` and `images`, found"):
        load(tmp_path, text or "\n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, ends: str) -> None:
    """YAML 1.1, 5.2 and 5.4: a byte order mark and any line break."""
    from tasks.spec.load import load_spec

    path = tmp_path / "web.yaml"
    text = PLAIN + 'root_password: "Grüße"\n'
    path.write_bytes(text.replace("\n", ends).encode(encoding))
    assert load_spec(path, schema=SCHEMA).settings.root_password == "Grüße"


def test_a_text_in_latin_1_is_told_by_its_line(tmp_path: Path) -> None:
    from tasks.spec.load import load_spec

    path = tmp_path / "web.yaml"
    path.write_bytes((PLAIN + "# Grüße\n").encode("latin-1"))
    with pytest.raises(BuildError) as caught:
        load_spec(path, schema=SCHEMA)
    assert caught.value.message == f"{path}:5: not UTF-8"


def test_thousands_of_faults_and_of_items_take_no_square_of_their_number(tmp_path: Path) -> None:
    began = time.process_time()
    many = ",\n ".join(f"/a{number}: 1" for number in range(2_000))
    with pytest.raises(BuildError, match=r"layers\[0\]\.files\./a0"):
        load(tmp_path, f"{PLAIN}layers: [{{name: a, files: {{{many}}}}}]\n")
    mixed = ", ".join(f"h{number}, {number}" for number in range(2_000))
    with pytest.raises(BuildError, match=r"proxies\.direct"):
        load(tmp_path, f"{PLAIN}proxies: {{direct: [{mixed}]}}\n")
    assert time.process_time() - began < 5
