"""Hostile include, vars, variants and templates: told in one message, soon and within little memory."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from support import samples
from support.samples import IMAGE, REPO, SCHEMA
from support.world import PROJECT
from tasks.errors import BuildError
from tasks.plan.entries import layer_entries
from tasks.spec.compose import Given, compose, variants_of
from tasks.spec.load import load_spec
from tasks.spec.model import Spec, masked
from tasks.spec.origins import lines

LEAST = json.dumps({"repos": [REPO], "images": {"/": IMAGE}})[1:-1]


def load(folder: Path, text: str, **variables: str) -> Spec:
    """The spec of JSON's fields or of YAML's lines, in specs/ of a project."""
    (folder / "specs").mkdir(exist_ok=True)
    path = folder / "specs/web.yaml"
    path.write_text(f"{{{LEAST}, {text}}}" if not text.endswith("\n") else text)
    return load_spec(path, schema=SCHEMA, given=Given(variables=variables))


def refused(folder: Path, text: str, *parts: str, **variables: str) -> None:
    with pytest.raises(BuildError) as caught:
        load(folder, text, **variables)
    said = str(caught.value)
    assert said.startswith(f"{folder}/specs/"), said
    assert len(said) < 2000
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", said), said
    for part in parts:
        assert part in said, said


# ---------------------------------------------------------------- include


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"/proc/self/fd/{os.open(path.parent, os.O_PATH)}/{path.name}")


def _links(path: Path) -> None:
    path.with_name("a").symlink_to("/etc")
    path.symlink_to("a/passwd")


SPECIAL: dict[str, tuple[Callable[[Path], object], str]] = {
    "FIFO": (os.mkfifo, "there is no such file"),
    "socket": (_socket, "there is no such file"),
    "folder": (Path.mkdir, "there is no such file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is outside the project"),
    "loop": (lambda path: path.symlink_to(path.name), "it is outside the project"),
    "nowhere": (lambda path: path.symlink_to("nowhere"), "there is no such file"),
    "link out": (lambda path: path.symlink_to("/etc/passwd"), "it is outside the project"),
    "link out by folders": (lambda path: path.symlink_to("../../../etc/passwd"), "it is outside the project"),
    "link of links": (_links, "it is outside the project"),
    "not to be read as text": (lambda path: path.write_bytes(b"\xff\xfe\0"), "not YAML"),
    "binary": (lambda path: path.write_bytes(bytes(range(256))), "not UTF-8"),
    "large": (lambda path: path.write_bytes(b"#" * (1 << 19)), "larger than"),
    "sparse": (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 40), "larger than"),
    "lock": (lambda path: path.write_text("[]"), "expected a mapping of a spec's fields"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPECIAL)
def test_what_is_no_part_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "specs").mkdir()
    make, told = SPECIAL[name]
    make(tmp_path / "specs/part.yaml")
    refused(tmp_path, '"include": ["part.yaml"]', "part.yaml", told)


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "//etc//passwd", "../../../../../../../etc/passwd", "/proc/self/environ", "/dev/stdin",
     "specs/../../../../../../../../etc/passwd", "\x1b[2J", "a\nb", "a\0b", "n" * 100_000, "n/" * 50_000,
     "~/x", "$(touch x)", "\u202e", ".", "..", "/", " ", "-", "--help", "*", "%s%n"],
    ids=lambda name: name[:20].encode("unicode-escape").decode(),
)  # fmt: skip
def test_no_path_leads_out(tmp_path: Path, name: str) -> None:
    refused(tmp_path, f'"include": [{json.dumps(name)}]', "include[0]: ")
    # The same from below a folder, and by a link that is a folder's.
    (tmp_path / "specs/out").symlink_to("/etc")
    refused(tmp_path, f'"include": [{json.dumps(f"out/{name}")}]', "include[0]: ")


def test_parts_of_the_project_may_lie_beside_specs(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/a.yaml").write_text("packages: [aa]\n")
    for name in ("../parts/a.yaml", f"{tmp_path}/parts/a.yaml"):
        assert load(tmp_path, f'"include": ["{name}"]').layers[0].packages == ("aa",)


@pytest.mark.parametrize("fields", ["include: {a: b}", "include: a", "include: [1]", "include: [[a]]",
                                    "include: [null]", "include: ['']", "include:", "include: 2020-01-01"])  # fmt: skip
def test_include_is_a_list_of_names(tmp_path: Path, fields: str) -> None:
    refused(tmp_path, f"{fields}\n", "web.yaml:1: include: expected a list of files")


def test_variants_of_a_spec_in_a_folder_are_seen(tmp_path: Path) -> None:
    """What it includes may be relative to specs/: `check` looks at them, `prune` keeps their locks."""
    (tmp_path / "specs/team").mkdir(parents=True)
    (tmp_path / "specs/common").mkdir()
    (tmp_path / "specs/common/x.yaml").write_text(f"{{{LEAST}}}")
    path = tmp_path / "specs/team/web.yaml"
    path.write_text("include: [common/x.yaml]\nvariants: {prod: {arch: arm64}}\n")
    assert variants_of(path, tmp_path / "specs") == ["prod"]


# ---------------------------------------------------------------- vars and variants


@pytest.mark.parametrize(
    "name",
    [".*", "(?P<x>", "%s", "{0}", "{}", "{", "a.b", "a-b", "a b", "é", "\u202e", "\x1b[2J", "a\nb", "\t", "0x",
     "x" * 900, "$", "$$", "mirror.x", "vars", "__class__", "!x", "x:-y", "#x", "x[0]", "\\", "'", '"'],
    ids=lambda name: name[:10].encode("unicode-escape").decode(),
)  # fmt: skip
def test_odd_names_have_no_value(tmp_path: Path, name: str) -> None:
    marked = json.dumps(f"a ${{{name}}} b")
    for fields in (
        f'"hostname": {marked}',
        f'"layers": [{{"name": "a", "files": {{"/x": {{"content": {marked}}}}}}}]',
    ):
        refused(tmp_path, fields, "nothing gives it a value")
    refused(tmp_path, f'"vars": {{{json.dumps(name + "-")}: "x"}}', "expected a name")


def test_a_name_that_is_not_closed_is_told(tmp_path: Path) -> None:
    for text in ("${", "${x", "${mirror", "a ${mirror b", "${" * 10_000):
        refused(tmp_path, f'"vars": {{"x": "y"}}, "hostname": "{text}"', "nothing gives it a value")


@pytest.mark.parametrize(
    ("written", "text"),
    [("yes", "yes"), ("true", "true"), ("1.10", "1.10"), ("0644", "0644"), ("0x1F", "0x1F"), ("1e3", "1e3"),
     ("2026-11-20", "2026-11-20"), ("'1'", "1"), ("''", ""), (".inf", ".inf"), ("1_000", "1_000"),
     ("12:30:45", "12:30:45"), ('"\\0"', "\0"), ('"a\\nb: c\\n"', "a\nb: c\n"), ("'${y}'", "${y}"),
     ("|\n    a\n    b\n", "a\nb\n"), ("a: b", None), ("[1]", None), ("{}", None), ("", None), ("~", None), ("null", None)],
)  # fmt: skip
def test_a_value_is_the_text_that_was_written(
    tmp_path: Path, written: str, text: str | None
) -> None:
    fields = f"""\
repos: [{json.dumps(REPO)}]
images: {{/: {json.dumps(IMAGE)}}}
layers: [{{name: app, files: {{/x: {{content: "<${{v}}>"}}}}}}]
vars:
  v: {written}
"""
    if text is None:
        refused(tmp_path, fields, "")
        return
    (file,) = load(tmp_path, fields).layers[0].files
    assert file.content == f"<{text}>"


def test_values_that_name_each_other_are_not_looked_at_again(tmp_path: Path) -> None:
    spec = load(
        tmp_path,
        '"vars": {"a": "${b}${b}", "b": "${a}${a}", "c": "${c}"}, '
        '"layers": [{"name": "app", "files": {"/x": {"content": "${a} ${c}"}}}]',
    )
    assert spec.layers[0].files[0].content == "${b}${b} ${c}"


def test_a_value_adds_no_field(tmp_path: Path) -> None:
    evil = 'x"}\nroot_password: evil\nhostname: "evil'
    spec = load(
        tmp_path,
        '"vars": {"v": ""}, "layers": [{"name": "app", "files": {"/x": {"content": "${v}"}}}]',
        v=evil,
    )
    assert (spec.settings.given, spec.layers[0].files[0].content) == ({}, evil)
    refused(tmp_path, '"vars": {"v": ""}, "hostname": "${v}"', "hostname", v=evil)


@pytest.mark.parametrize(
    "name",
    ["../x", "", "a b", "x/y", "x\ny", ".", "..", "-" * 3 + "/", "\x1b", "é", "x" * 300 + "/"],
)
def test_odd_variants_are_told(tmp_path: Path, name: str) -> None:
    refused(tmp_path, f'"variants": {{{json.dumps(name)}: {{}}}}', "variants.", "expected a name")
    with pytest.raises(BuildError, match="there is no such variant") as caught:
        load_spec(
            samples.load(tmp_path / "plain").path, schema=SCHEMA, given=Given(variant=name or "?")
        )
    assert len(str(caught.value)) < 1500


# ---------------------------------------------------------------- bombs

MERGES = ('x-0: &a0 {k: 1}\n' + "".join(
    f"x-{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 30)}]}}\n" for n in range(1, 40)))  # fmt: skip
"""Few values, which 30 ** 39 merges bring."""

LAUGHS = "x-0: &a0 [1]\n" + "".join(
    f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 5)
)
"""Nine thousand values in 300 bytes."""


def bombs(folder: Path) -> None:
    """A project for each bomb; `w` writes its files."""

    def w(bomb: str, **files: str) -> None:
        (folder / bomb / "specs").mkdir(parents=True)
        for name, text in files.items():
            (folder / bomb / f"specs/{name}.yaml").write_text(text)

    w(
        "breadth",
        web=f"include: [{', '.join(f'p{n}.yaml' for n in range(99))}]\n",
        **{f"p{n}": "packages: [aa]\n" for n in range(150)},
    )
    w(
        "depth",
        web="include: [p0.yaml]\n",
        **{f"p{n}": f"include: [p{n + 1}.yaml]\n" for n in range(150)},
    )
    w(
        "tree",
        web="include: [p0.yaml]\n",
        **{
            f"p{n}": f"include: [{', '.join(f'p{m}.yaml' for m in range(n + 1, 60))}]\n"
            for n in range(60)
        },
    )
    w("same name", web=f"include: [{', '.join(['a'] * 30_000)}]\n", a="{}")
    w(
        "laughs in parts",
        web=f"include: [{', '.join(f'p{n}.yaml' for n in range(90))}]\n",
        **{f"p{n}": LAUGHS for n in range(90)},
    )
    w("merges", web=MERGES + "x: 1\n")
    w("merges at the top", web=MERGES + "<<: *a39\n")
    w("merges in a part", web="include: [a.yaml]\n", a=MERGES + "<<: *a39\n")
    w("merges in vars", web=MERGES + "vars: {<<: *a39}\nhostname: ${no}\n")
    w(
        "bytes",
        web=f"include: [{', '.join(f'p{n}.yaml' for n in range(9))}]\n",
        **{f"p{n}": "x-0: 1\n" + "#" * 250_000 for n in range(9)},
    )
    long = "x" * 100_000
    brings = f"vars: {{v: {long}}}\n"
    w("values", web=brings + "packages:\n" + "- ${v}\n" * 20_000)
    w("values in one", web=brings + "hostname: " + "${v}" * 30_000 + "\n")
    w(
        "values in keys",
        web=brings + "images:\n" + "".join(f"  /{n}${{v}}: {{}}\n" for n in range(9_000)),
    )
    w("names", web="hostname: " + "${" * 120_000 + "\n")
    w("closed names", web="hostname: " + "$${x}" * 50_000 + "${y}\n")
    plain = f"repos: [{json.dumps(REPO)}]\nimages: {{/: {json.dumps(IMAGE)}}}\n"
    w(
        "a template",
        web=plain + brings + "layers: [{name: a, files: {/x: {template: t}}}]\n",
    )
    (folder / "a template/specs/t").write_text("${v}" * 200_000)
    files = ", ".join(f"/{n}: {{template: t}}" for n in range(3_000))
    w("templates", web=plain + f"layers: [{{name: a, files: {{{files}}}}}]\n")
    (folder / "templates/specs/t").write_text("x" * 1_000_000)
    w("a device", web=plain + "layers: [{name: a, files: {/x: {template: t}}}]\n")
    (folder / "a device/specs/t").symlink_to("/dev/zero")


@pytest.mark.starts
def test_bombs(tmp_path: Path) -> None:
    """Each is refused, by a process that may have no more memory than a spec needs."""
    bombs(tmp_path)
    code = f"""
import sys, time; sys.path[:0] = [{str(PROJECT)!r}]
from pathlib import Path
from tasks.spec.load import load_spec
from tasks.plan.entries import layer_entries
from tasks.errors import BuildError
from tasks.spec.schema import load_jsonschema
load_jsonschema()
import yaml
for folder in sorted(Path({str(tmp_path)!r}).iterdir()):
    began = time.process_time()
    try:
        spec = load_spec(folder / "specs/web.yaml", schema=Path({str(SCHEMA)!r}))
        for layer in spec.layers:
            layer_entries(layer, spec)
        print(folder.name, "ACCEPTED")
    except BuildError as error:
        text = str(error)
        assert str(folder) in text and len(text) < 4000, text[:5000]
    except BaseException as error:
        print(folder.name, type(error), str(error)[:200])
    if time.process_time() - began > 4:
        print(folder.name, "took", time.process_time() - began)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (500 << 20, 500 << 20)),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---------------------------------------------------------------- templates and secrets


@pytest.mark.parametrize(
    "name", ["FIFO", "socket", "folder", "loop", "nowhere", "device", "binary", "sparse"]
)
def test_what_is_no_template_is_told(tmp_path: Path, name: str) -> None:
    spec = load(tmp_path, '"layers": [{"name": "a", "files": {"/x": {"template": "part.yaml"}}}]')
    SPECIAL[name][0](tmp_path / "specs/part.yaml")
    with pytest.raises(BuildError, match=r"part\.yaml"):
        layer_entries(load_spec(spec.path, schema=SCHEMA).layers[0], spec)


@pytest.mark.parametrize(
    "secret",
    ["it's", 'a"b\\c', "a: b # c", "ünï cödé", "- x", "'quoted'", "123", "null", "x" * 61 + '"é\\', "%s", "***", "&a *b"],
    ids=lambda secret: secret[:12],
)  # fmt: skip
def test_show_has_no_secret_in_any_dress(tmp_path: Path, secret: str) -> None:
    """YAML writes a text with quotes of its own: what is secret is gone before."""
    fields = (
        '"vars": {"pw": "none"}, "root_password": "${pw}", '
        '"debconf": ["aa aa/pw password ${pw}"], "packages": ["aa"]'
    )
    spec = load(tmp_path, fields, pw=secret)
    assert secret in spec.secrets
    given = Given(variables={"pw": secret})
    whole, _stamp = compose(spec.path, given, [spec.path.parent])
    text = "\n".join(text for text, _origin in lines(whole, lambda one: masked(one, spec.secrets)))
    shown = yaml.safe_load(text)
    assert (shown["root_password"], shown["debconf"]) == ("***", ["aa aa/pw password ***"])
    for dress in (secret, json.dumps(secret), secret.replace("'", "''")):
        assert dress in ("***", "null") or dress not in text
