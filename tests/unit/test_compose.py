"""Specs of several files: include, variants, names in `${}`; each fault with its file and line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from support import samples
from tasks.errors import BuildError
from tasks.plan.entries import layer_entries
from tasks.spec.compose import Given, compose, variants_of
from tasks.spec.load import chosen_specs, load_spec, spec_names
from tasks.spec.model import Spec
from tasks.spec.origins import lines

COMMON = """\
repos: [{name: debian, uri: "${mirror}", suite: bookworm, section: main}]
base: {variant: minbase, include: [ca-certificates]}
packages: [curl, vim-tiny]
timezone: UTC
images: {/: {file: a.img, format: ext4, container: raw}}
"""


def write(folder: Path, **files: str) -> Path:
    """Files of a specs/ folder; `_` in a name stands for `/`."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def load(folder: Path, name: str = "web", variant: str = "", **variables: str) -> Spec:
    return load_spec(folder / f"{name}.yaml", schema=samples.SCHEMA, name=name,
                     given=Given(variant=variant, variables=variables))  # fmt: skip


def refused(
    folder: Path, *parts: str, name: str = "web", variant: str = "", **variables: str
) -> None:
    with pytest.raises(BuildError) as caught:
        load(folder, name, variant, **variables)
    rest = str(caught.value)
    for part in parts:
        assert part in rest, f"{part!r} is not in, or not in its place in:\n{caught.value}"
        rest = rest.partition(part)[2]


def test_lists_append_maps_merge_and_the_spec_wins(tmp_path: Path) -> None:
    write(tmp_path, common__debian=COMMON, common__more="packages: [htop]\nlocale: C.UTF-8\n",
          web="""\
include: [common/debian.yaml, common/more.yaml]
packages: [nginx-light, curl]
timezone: Europe/Berlin
base: {variant: apt}
images:
  /: {container: gzip, file: web.img.gz}
  /boot: {file: b.img, format: ext2, container: raw}
""")  # fmt: skip
    spec = load(tmp_path)
    assert spec.layers[0].packages == ("curl", "vim-tiny", "htop", "nginx-light")
    assert (spec.base.variant, spec.base.include) == ("apt", ("ca-certificates",))
    assert (spec.settings.timezone, spec.settings.locale) == ("Europe/Berlin", "C.UTF-8")
    assert [(one.mount, one.file, one.format, one.container) for one in spec.images] == [
        ("/", "web.img.gz", "ext4", "gzip"), ("/boot", "b.img", "ext2", "raw"),
    ]  # fmt: skip


def test_includes_of_includes_and_merge_keys(tmp_path: Path) -> None:
    write(tmp_path, common__base=COMMON,
          common__site="include: [base.yaml]\nx-image: &image {format: ext2}\nproxies: {http: 'http://p:1'}\n",
          web="include: [common/site.yaml]\nx-b: &b {free: 1M}\nimages: {/: {<<: *b, label: x}}\n")  # fmt: skip
    spec = load(tmp_path)
    assert spec.proxies == {"http": "http://p:1"}
    (image,) = spec.images
    assert (image.format, image.free, image.label) == ("ext4", 1 << 20, "x")


def test_words_of_a_mkfs_are_all_kept(tmp_path: Path) -> None:
    text = COMMON.replace("container: raw", "container: raw, options: ['-m', '1']")
    write(
        tmp_path, a=text, web="include: [a.yaml]\nimages: {/: {options: ['-N', '1', '-m', '1']}}\n"
    )
    assert load(tmp_path).images[0].options == ("-m", "1", "-N", "1", "-m", "1")


def test_items_that_are_no_texts_are_told(tmp_path: Path) -> None:
    write(
        tmp_path,
        common=COMMON,
        a="packages: [{x: 1}]\n",
        web="include: [common.yaml, a.yaml]\npackages: [[y]]\n",
    )
    refused(tmp_path, "a.yaml: packages[2]: expected a text, found a mapping")


def test_what_two_parts_include_counts_once(tmp_path: Path) -> None:
    write(tmp_path, common=COMMON, a="include: [common.yaml]\npackages: [x1]\n",
          b="include: [common.yaml]\npackages: [x2]\n", web="include: [a.yaml, b.yaml, common.yaml]\n")  # fmt: skip
    spec = load(tmp_path)
    assert [repo.name for repo in spec.repos] == ["debian"]
    assert spec.layers[0].packages == ("curl", "vim-tiny", "x1", "x2")


def test_what_an_include_lacks_is_told_with_the_chain(tmp_path: Path) -> None:
    write(tmp_path, web="include: [a.yaml]\n", a="include: [b.yaml]\n", b="include: [c.yaml]\n")
    refused(tmp_path, "b.yaml: include[0]: c.yaml: there is no such file", "web.yaml →", "a.yaml")
    write(tmp_path, c="include: [a.yaml]\n")
    refused(tmp_path, "c.yaml: include[0]: a.yaml: it includes itself", "web.yaml →", "c.yaml")
    write(tmp_path, web="include: a.yaml\n")
    refused(tmp_path, "web.yaml:1: include: expected a list of files")
    write(tmp_path, web="include: [web.yaml]\n")
    refused(tmp_path, "web.yaml: include[0]: web.yaml: it includes itself")
    for name in ("/etc/passwd", "../../../../../../etc/passwd", "link.yaml"):
        (tmp_path / "link.yaml").unlink(missing_ok=True)
        (tmp_path / "link.yaml").symlink_to("/etc/passwd")
        write(tmp_path, web=f"include: [{name}]\n")
        refused(tmp_path, f"web.yaml: include[0]: {name}: it is outside the project")
    for name in ("..", "fifo", '"a\\0b"', "x" * 300):
        if not (tmp_path / "fifo").exists():
            os.mkfifo(tmp_path / "fifo")
        write(tmp_path, web=f"include: [{name}]\n")
        refused(tmp_path, "web.yaml: include[0]: ", "there is no such file")
    write(tmp_path, web="include: [a.yaml]\n", a="- 1\n")
    refused(tmp_path, "a.yaml: expected a mapping of a spec's fields, found a list")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("\nimages: {/: {formt: ext4}}\n", ["a.yaml: images./: unknown field 'formt' (line 2)", "format"]),
        ("\n\npackages: [1]\n", ["a.yaml: packages[2]: ", "(line 3)"]),
        ("pakages: [x]\n", ["a.yaml: unknown field 'pakages' (line 1)", "packages"]),
        ("a: [\n", ["a.yaml:2:1: not YAML"]),
        ("timezone: Europe/Berlni\n", ["timezone: there is no zone 'Europe/Berlni'"]),
    ],
)  # fmt: skip
def test_a_fault_of_an_included_file_is_told_with_that_files_line(
    tmp_path: Path, text: str, parts: list[str]
) -> None:
    write(tmp_path, web="include: [common.yaml, a.yaml]\n", common=COMMON, a=text)
    refused(tmp_path, *parts)


def test_a_spec_that_includes_must_be_whole_all_the_same(tmp_path: Path) -> None:
    write(tmp_path, web="include: [a.yaml]\n", a="packages: [x]\n")
    refused(tmp_path, "missing field 'repos'")


def test_variables_stand_in_any_text(tmp_path: Path) -> None:
    write(tmp_path, web=COMMON + """\
vars: {domain: example.org, port: 80, name: web, who: "${no}"}
hostname: ${name}.${domain}
layers:
  - name: app
    files:
      /etc/${name}/port: {content: "port ${port} $${HOME} $HOME $(x) ${domain}"}
""")  # fmt: skip
    spec = load(tmp_path)
    assert spec.settings.hostname == "web.example.org"
    (file,) = spec.layers[1].files
    assert (file.target, file.content) == (
        "/etc/web/port",
        "port 80 ${HOME} $HOME $(x) example.org",
    )
    assert load(tmp_path, domain="other.net").settings.hostname == "web.other.net"
    assert spec.repos[0].uri == "${mirror}"
    write(tmp_path, plain=COMMON + "layers: [{name: app, files: {/a: {content: '$${mirror}'}}}]\n")
    assert load(tmp_path, "plain").layers[1].files[0].content == "${mirror}"


def test_names_that_nothing_gives_a_value_are_told(tmp_path: Path) -> None:
    write(tmp_path, web=COMMON + "vars: {domain: x.org}\nhostname: a.${domian}\n")
    refused(tmp_path, "web.yaml:7: ${domian}: nothing gives it a value", "did you mean ${domain}?")
    write(tmp_path, web=COMMON + "hostname: a.${}\n")
    refused(tmp_path, "web.yaml:6: ${}: nothing gives it a value", "$${} stands for ${} itself")
    write(tmp_path, web=COMMON + "hostname: a.b\n")
    refused(tmp_path, "var.domain=: the spec's vars have no 'domain'", domain="x")
    write(tmp_path, web=COMMON.replace("${mirror}", "${mirrors}"))
    refused(tmp_path, "${mirrors}: nothing gives it a value", "did you mean ${mirror}?")
    write(tmp_path, web=COMMON + "vars: {domain: x.org}\n")
    refused(tmp_path, "did you mean var.domain=?", domian="x")
    write(tmp_path, web=COMMON + "vars: {a: [1]}\n")
    refused(tmp_path, "vars.a: expected a text or a number")
    write(tmp_path, web=COMMON + "vars: [1]\n")
    refused(tmp_path, "vars: expected a mapping")
    write(tmp_path, web=COMMON + "vars: {a-b: 1}\n")
    refused(tmp_path, "vars.a-b: expected a name")


def test_a_variants_fields_win_and_it_has_a_name_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, web=COMMON + """\
vars: {level: "1"}
hostname: h${level}
variants:
  prod: {packages: [monit], vars: {level: "2"}, images: {/: {free: 5M}}}
  staging: {timezone: Europe/Paris}
""")  # fmt: skip
    assert load(tmp_path).name == "web"
    assert load(tmp_path).layers[0].packages == ("curl", "vim-tiny")
    prod = load(tmp_path, variant="prod")
    assert (prod.name, prod.settings.hostname) == ("web-prod", "h2")
    assert prod.layers[0].packages == ("curl", "vim-tiny", "monit")
    assert prod.images[0].free == 5 << 20
    assert load(tmp_path, variant="staging").settings.timezone == "Europe/Paris"
    assert variants_of(tmp_path / "web.yaml", tmp_path) == ["prod", "staging"]
    refused(tmp_path, "variant=prd: there is no such variant", "did you mean prod?", variant="prd")
    write(tmp_path, web=COMMON)
    refused(tmp_path, "variant=prod: there is no such variant", "has none", variant="prod")
    write(tmp_path, web=COMMON + "variants: {prod: {include: [a.yaml]}}\n")
    refused(tmp_path, "variants.prod.include: not in a variant", variant="prod")
    write(tmp_path, web=COMMON + "variants: {prod: 1}\n")
    refused(tmp_path, "variants.prod: expected a mapping", variant="prod")


def test_specs_in_folders_and_several_at_once(tmp_path: Path) -> None:
    write(tmp_path, web=COMMON, web_two=COMMON, team__api=COMMON, common__debian="packages: [x]\n",
          files__app="images are fine\n")  # fmt: skip
    assert spec_names(tmp_path) == ["team/api", "web", "web_two"]
    assert chosen_specs(tmp_path, "all") == ["team/api", "web", "web_two"]
    assert chosen_specs(tmp_path, "web*,team/api,web") == ["web", "web_two", "team/api"]
    assert chosen_specs(tmp_path, "nope") == ["nope"]
    for text, part in (("web,nope", "'nope' is no spec here"), ("z*", "'z*' is no spec here"),
                       ("web,", "'' is no spec here")):  # fmt: skip
        with pytest.raises(BuildError, match="is no spec here") as caught:
            chosen_specs(tmp_path, text)
        assert part in str(caught.value)
    assert load(tmp_path, "team/api").name == "team/api"


def test_the_whole_is_shown_with_where_each_value_is_from(tmp_path: Path) -> None:
    write(tmp_path, common__debian=COMMON, web="""\
include: [common/debian.yaml]
vars: {n: "1"}
x-a: &a {owner: www-data}
packages: [nginx-light]
hostname: h${n}
layers:
  - name: app
    files: {/a: {<<: *a, content: "1\\n2"}, /b: {content: "yes", mode: "0600"}}
""")  # fmt: skip
    whole, _stamp = compose(tmp_path / "web.yaml", Given(), [tmp_path])
    found = list(lines(whole, str))
    assert yaml.safe_load("\n".join(text for text, _origin in found)) == whole.values
    origins = {text.strip(): origin.removeprefix(f"{tmp_path}/") for text, origin in found}
    assert origins["- curl"] == "common/debian.yaml:3"
    assert origins["- nginx-light"] == "web.yaml:4"
    assert origins["hostname: h1"] == "web.yaml:5"
    assert origins["timezone: UTC"] == "common/debian.yaml:4"
    assert origins["owner: www-data"] == "web.yaml:3"
    assert origins["content: 'yes'"] == "web.yaml:8"


def test_templates(tmp_path: Path) -> None:
    write(tmp_path, web=COMMON + """\
vars: {domain: example.org}
hostname: web1
layers: [{name: app, files: {/etc/x: {template: files/x.in, owner: www-data}}}]
""")  # fmt: skip
    (tmp_path / "files").mkdir()
    source = tmp_path / "files/x.in"
    source.write_text("a ${domain} ${hostname} ${timezone}\n$1 $(date) $${HOME} ${arch}/${spec}\n")
    source.chmod(0o755)
    (entry,) = layer_entries(load(tmp_path).layers[1], load(tmp_path))
    assert entry.content == b"a example.org web1 UTC\n$1 $(date) ${HOME} amd64/web\n"
    assert (entry.kind, entry.mode, entry.owner) == ("file", 0o755, "www-data")

    def broken(*parts: str) -> None:
        spec = load(tmp_path)
        with pytest.raises(BuildError) as caught:
            layer_entries(spec.layers[1], spec)
        for part in parts:
            assert part in str(caught.value)

    source.write_text("a\n${domian}\n")
    broken(f"{source}:2: ${{domian}}: nothing gives it a value", "did you mean ${domain}?")
    source.write_text("a\nb ${open\n")
    broken(f"{source}:2: ${{open", "nothing gives it a value")
    source.write_bytes(b"\xff")
    broken("a template is text in UTF-8")
    source.write_bytes(b"x" * (1 << 20) + b"y")
    broken("larger than the 1048576 bytes of a template")
    source.unlink()
    broken("the template", "cannot be read: No such file")
    os.mkfifo(source)
    broken("the template", "cannot be read")
    source.unlink()
    source.mkdir()
    broken("the template", "cannot be read")


def test_bombs_end_soon(tmp_path: Path) -> None:
    wide = "".join(f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" if n else "x-0: &a0 [1]\n"
                   for n in range(9))  # fmt: skip
    write(tmp_path, web="include: [a.yaml]\n", a=wide + COMMON)
    refused(tmp_path, "values with its aliases written out")
    deep = "".join(
        f"x-{n}: &a{n} {{a: *a{n - 1}}}\n" if n else "x-0: &a0 {a: 1}\n" for n in range(60)
    )
    write(tmp_path, a=deep + COMMON)
    refused(tmp_path, "nested deeper than 50 levels")
