"""What YAML says is what is built, however it is written; and a text is validated once."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from support.samples import IMAGE, REPO, SCHEMA, load
from tasks.errors import BuildError
from tasks.host import safe
from tasks.spec import document
from tasks.spec.load import load_spec
from tasks.spec.model import File, Layer, Spec

# ---------------------------------------------------------------- YAML


PLAIN = """\
repos:
  - {name: main, uri: "${mirror}", suite: stable, section: main}
layers:
  - name: app
    packages: [one, two]
    files: {/etc/motd: {content: "Grüße\\n"}}
images:
  /: {file: a.img.gz, format: ext4}
  /boot: {file: b.img.gz, format: ext2}
"""


SAME = {
    "other order": """\
images: {/boot: {format: ext2, file: b.img.gz}, /: {format: ext4, file: a.img.gz}}
layers: [{packages: [one, two], name: app, files: {/etc/motd: {content: "Grüße\\n"}}}]
repos: [{section: main, suite: stable, uri: '${mirror}', name: main}]
""",
    "anchors": PLAIN.replace("packages: [one, two]", "packages: &list [one, two]").replace(
        "- name: app", "- &app\n    name: app"
    ),
    "block scalar": PLAIN.replace('{/etc/motd: {content: "Grüße\\n"}}',
                                  "\n      /etc/motd:\n        content: |\n          Grüße"),
    "markers and comments": "%YAML 1.1\n---\n# a comment\n" + PLAIN + "...\n",
    "CRLF": PLAIN.replace("\n", "\r\n"),
    "byte order mark": "\ufeff" + PLAIN,
    "slash after the address": PLAIN.replace("${mirror}", "${mirror}/"),
    "JSON": json.dumps(
        {
            "repos": [REPO],
            "layers": [{"name": "app", "packages": ["one", "two"],
                        "files": {"/etc/motd": {"content": "Grüße\n"}}}],
            "images": {"/": IMAGE, "/boot": {"file": "b.img.gz", "format": "ext2"}},
        },
        indent=2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_ways_to_write_the_same_spec(tmp_path: Path, name: str) -> None:
    expected = load(tmp_path, PLAIN)
    assert expected.layers == (
        Layer(name="app", packages=("one", "two"),
              files=(File(target="/etc/motd", source=None, content="Grüße\n", owner="root:root",
                          mode=None),)),
    )  # fmt: skip
    assert load(tmp_path, SAME[name]) == expected


def test_alias_stands_for_what_its_anchor_names(tmp_path: Path) -> None:
    text = PLAIN.replace("[one, two]", "&list [one, two]").replace(
        "images:", "  - {name: next, packages: *list}\nimages:"
    )
    assert [layer.packages for layer in load(tmp_path, text).layers] == [("one", "two")] * 2


@pytest.mark.parametrize(
    ("text", "packages"),
    [
        ('["no", "on", "1e3"]', ("no", "on", "1e3")),
        ("[7zip, 0ad, 2to3]", ("7zip", "0ad", "2to3")),
        ("[g++, libstdc++6, 'nano-', vim=2:9.0.1378-2+deb12u2]",
         ("g++", "libstdc++6", "nano-", "vim=2:9.0.1378-2+deb12u2")),
        ("[]", ()),
    ],
)  # fmt: skip
def test_package_names_that_yaml_might_misread(
    tmp_path: Path, text: str, packages: tuple[str, ...]
) -> None:
    (layer,) = load(tmp_path, PLAIN.replace("[one, two]", text)).layers
    assert layer.packages == packages


@pytest.mark.parametrize("text", ["[no]", "[1]", "[2024-01-01]", "[~]", "[1.5]"])
def test_what_yaml_reads_as_something_else_than_a_name_is_refused(
    tmp_path: Path, text: str
) -> None:
    with pytest.raises(BuildError, match=r"layers\[0\]\.packages\[0\]"):
        load(tmp_path, PLAIN.replace("[one, two]", text))


def test_aliases_of_aliases_are_counted_before_they_are_written_out(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
    )
    with pytest.raises(BuildError, match="more than 100000 values"):
        load(tmp_path, bomb + PLAIN)


# ---------------------------------------------------------------- the schema's memory


def test_a_text_is_validated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    def validate(given: document.Document, schema: bytes, *, where: Path) -> None:
        seen.append(schema)

    monkeypatch.setattr("tasks.spec.load.validate", validate)
    schema = tmp_path / "schema.json"
    schema.write_bytes(SCHEMA.read_bytes())
    path = tmp_path / "web.yaml"

    def again(text: str) -> Spec:
        path.write_text(text)
        return load_spec(path, schema=schema, validated=tmp_path / "validated")

    assert again(PLAIN) == again(PLAIN)
    assert len(seen) == 1
    again(PLAIN + "# changed\n")
    assert len(seen) == 2
    schema.write_bytes(SCHEMA.read_bytes() + b"\n")
    again(PLAIN)
    assert len(seen) == 3


def test_a_bad_text_stays_bad(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(PLAIN + "surprise: 1\n")
    for _attempt in range(2):
        with pytest.raises(BuildError, match="surprise"):
            load_spec(path, schema=SCHEMA, validated=tmp_path / "validated")


@pytest.mark.parametrize("kind", ["file", "executable", "link", "folder", "fifo"])
def test_what_a_commit_brings_counts_for_no_validation(tmp_path: Path, kind: str) -> None:
    path, validated = tmp_path / "web.yaml", tmp_path / "validated"
    path.write_text(PLAIN)
    load_spec(path, schema=SCHEMA, validated=validated)
    (stamp,) = validated.iterdir()
    assert safe.noted(stamp)
    path.write_text(PLAIN + "surprise: 1\n")
    text = path.read_bytes() + b"\0" + SCHEMA.read_bytes()
    planted = validated / hashlib.sha256(text).hexdigest()
    if kind in ("file", "executable"):
        planted.touch()
        planted.chmod(0o644 if kind == "file" else 0o700)
    elif kind == "link":
        planted.symlink_to(stamp)
    elif kind == "folder":
        planted.mkdir(mode=0o500)
    else:
        os.mkfifo(planted, 0o400)
    with pytest.raises(BuildError, match="surprise"):
        load_spec(path, schema=SCHEMA, validated=validated)
    assert not safe.noted(planted)
    assert not safe.noted(validated / "missing" / "stamp")


def test_a_stamp_that_a_commit_brought_is_made_anew(tmp_path: Path) -> None:
    path, validated = tmp_path / "web.yaml", tmp_path / "validated"
    path.write_text(PLAIN)
    load_spec(path, schema=SCHEMA, validated=validated)
    (stamp,) = validated.iterdir()
    stamp.chmod(0o644)
    load_spec(path, schema=SCHEMA, validated=validated)
    assert safe.noted(stamp)
