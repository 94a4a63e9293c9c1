"""push-oci before it pushes: where to, which export, and what is said of a place or an answer that will not do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support.export_cases import case
from tasks.commands.push_oci import CAUSES, Place, chosen, explained, place, published
from tasks.errors import BuildError, CommandFailed
from tasks.spec.disks import Export


@pytest.mark.parametrize(
    ("text", "expected", "plain"),
    [
        ("registry.example.org/team/web:1.0", "registry.example.org/team/web:1.0", False),
        ("docker://registry.example.org/web", "registry.example.org/web:latest", False),
        ("127.0.0.1:5000/a/b:x_1", "127.0.0.1:5000/a/b:x_1", True),
        ("localhost/web:1", "localhost/web:1", True),
        ("localhost:5000/web", "localhost:5000/web:latest", True),
        ("[::1]:5000/web:1", "[::1]:5000/web:1", True),
        ("127.0.0.1.example.org/web:1", "127.0.0.1.example.org/web:1", False),
        ("registry:5000/web:1", "registry:5000/web:1", False),
    ],
)
def test_where_a_push_goes(text: str, expected: str, plain: bool) -> None:
    found = place(text)
    assert (str(found), found.plain) == (expected, plain)


@pytest.mark.parametrize(
    "text",
    ["web:1.0", "team/web:1.0", "registry.example.org", "registry.example.org/Web:1", "h.org/web:",
     "h.org/web:-x", "https://h.org/web", "h.org//web", "h.org/web:1 --foo", "-h.org:x/web",
     "h.org:0/web", "h.org:70000/web", "h.org/../web", "h.org/web\n", "h.org/" + "a" * 600,
     "oci:/etc/passwd"],
)  # fmt: skip
def test_what_is_no_place_in_a_registry(text: str) -> None:
    with pytest.raises(BuildError, match="no place in a registry") as caught:
        place(text)
    assert "registry.example.org/team/web:1.0" in caught.value.hint
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("text", ["user:s3cret@h.org/web:1", "h.org/web@sha256:" + "0" * 64])
def test_a_login_or_a_digest_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(BuildError, match="neither a login nor a digest") as caught:
        place(text)
    assert text not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_to_is_needed() -> None:
    with pytest.raises(BuildError, match="push-oci: where is it to go"):
        place("")


def test_which_export_is_meant(tmp_path: Path) -> None:
    spec = case(tmp_path)[0]
    assert chosen(spec, "").name == chosen(spec, "web-oci").name == "web-oci"
    for name, part in (("web.squashfs", "in another format than oci"), ("x", "has no such export")):
        with pytest.raises(BuildError, match=part) as caught:
            chosen(spec, name)
        assert caught.value.hint == "it has web-oci"
    two = replace(spec, exports=(*spec.exports, Export(name="b", format="oci", container="gzip")))
    with pytest.raises(BuildError, match="several OCI exports") as caught:
        chosen(two, "")
    assert caught.value.hint == "export= one of web-oci, b"
    with pytest.raises(BuildError, match="there is no export with format: oci"):
        chosen(replace(spec, exports=spec.exports[1:]), "")


@pytest.mark.parametrize(
    ("content", "part"),
    [(None, "nothing is published there yet"), (b"", "no image's index"), (b"[]", "no image's index"),
     (b'{"manifests": []}', "no image's index"), (b'{"manifests": [{"digest": "x"}]}', "no image's index"),
     (b'{"manifests": [{}]}', "no image's index"), (b"\xff", "no image's index")],
)  # fmt: skip
def test_nothing_that_could_be_pushed(tmp_path: Path, content: bytes | None, part: str) -> None:
    if content is not None:
        (tmp_path / "index.json").write_bytes(content)
    with pytest.raises(BuildError, match=f"^out/web/oci.*{part}") as caught:
        published(tmp_path, "out/web/oci", "web")
    assert caught.value.hint == "strata build spec=web publishes it"


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ("unauthorized: authentication required", "it wants a login"),
        ("denied: requested access to the resource is denied", "may not write team/web"),
        ("dial tcp: lookup h.org on 1.2.3.4:53: no such host", "no such host is known"),
        ("dial tcp 127.0.0.1:1: connect: connection refused", "nobody listens there"),
        ("http: server gave HTTP response to HTTPS client", "it speaks HTTP"),
        ("x509: certificate signed by unknown authority", "is not believed here"),
        ("dial tcp 10.0.0.1:443: i/o timeout", "it does not answer"),
    ],
)
def test_what_skopeo_says_is_told_in_a_line(said: str, part: str) -> None:
    error = CommandFailed("pushing failed", status=1, output=f'level=fatal msg="{said}"')
    told = explained(error, Place(host="h.org", name="team/web", tag="1"), "web")
    assert told.message.startswith("h.org/team/web:1: ")
    assert part in told.message
    assert told.hint
    assert "{" not in str(told)
    assert len(CAUSES) > 7


def test_what_nobody_knows_is_told_in_skopeos_words() -> None:
    error = CommandFailed("pushing failed", status=1, output="something new")
    assert explained(error, Place(host="h.org", name="web", tag="1"), "web") is error
