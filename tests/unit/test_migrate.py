"""fuel-agent's input becomes a spec that loads, and what it has no place for is told."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.fuel import FUEL, HASH, PROVISION, SCHEMA, UBUNTU, Change, Project, changed, convert
from tasks.commands.fuel_agent import BASE, import_spec


def test_everything_that_a_spec_knows_is_taken_over(project: Project) -> None:
    project.write(PROVISION)
    spec = project.imported()
    assert spec.arch == "amd64"
    assert [(repo.name, repo.uri, repo.suite, repo.section, repo.priority)
            for repo in spec.repos] == [
        ("ubuntu", UBUNTU, "xenial", "main universe multiverse", None),
        ("ubuntu-updates", UBUNTU, "xenial-updates", "main universe multiverse", None),
        ("mos", FUEL, "mos8.0", "main restricted", 1050),
        ("Auxiliary", f"{FUEL}/auxiliary", "./", "", 1150),
    ]  # fmt: skip
    assert not any(repo.trusted for repo in spec.repos)
    assert spec.repos[3].flat
    assert [layer.packages for layer in spec.layers] == [tuple(PROVISION["packages"])]
    assert spec.settings.hashed_root_password == HASH
    assert spec.proxies == {"http": "http://proxy.example.org:3128"}
    assert spec.direct == ("10.20.0.2", "mirror.example.org")
    assert [(image.mount, image.file, image.format, image.container) for image in spec.images] == [
        ("/", "env_1_ubuntu.img.gz", "ext4", "gzip"),
        ("/boot", "env_1_ubuntu-boot.img.gz", "ext2", "gzip"),
    ]


def test_base_is_what_debootstrap_installs_without_a_variant(project: Project) -> None:
    project.write(PROVISION)
    base = project.imported().base
    assert (base.tool, base.variant) == ("mmdebstrap", "important")
    assert base.include == ("ca-certificates", "apt-transport-https")


def test_the_document_does_not_share_the_base_of_the_next_one() -> None:
    convert()[0]["base"]["include"].append("vim")
    assert "vim" not in BASE["include"]


def test_the_text_has_modeline_origin_and_a_fixed_order(project: Project) -> None:
    project.write(dict(reversed(PROVISION.items())))
    project.imported()
    lines = project.target.read_text().splitlines()
    assert lines[0] == "# yaml-language-server: $schema=spec.schema.json"
    assert lines[1].startswith("# Imported from ")
    assert "provision.json" in lines[1]
    assert [line.partition(":")[0] for line in lines[2:] if line[0] not in " -"] == [
        "arch", "base", "repos", "packages", "hashed_root_password", "proxies", "images",
    ]  # fmt: skip
    document = yaml.safe_load(project.target.read_text())
    assert list(document["repos"][2]) == ["name", "uri", "suite", "section", "priority"]
    assert list(document["repos"][3]) == ["name", "uri", "suite", "priority"]
    assert list(document["images"]) == ["/", "/boot"]


def test_a_file_name_cannot_break_out_of_its_comment(project: Project) -> None:
    project.input = project.input.with_name("a\nrecommends: true\x85b.json")
    project.write(PROVISION)
    assert project.imported().recommends is False


def test_yaml_is_read_as_well(project: Project) -> None:
    project.input = project.input.with_suffix(".yaml")
    project.input.write_text(yaml.safe_dump(PROVISION))
    assert project.imported().repos[0].name == "ubuntu"


def test_json_may_be_indented_with_tabs(project: Project) -> None:
    project.input.write_text(json.dumps(PROVISION, indent="\t"))
    assert project.imported().repos[0].name == "ubuntu"


@pytest.mark.parametrize(
    ("change", "mode"),
    [
        (lambda source: None, 0o600),
        (lambda source: source.pop("hashed_root_password"), 0o644),
        (lambda source: source.update(hashed_root_password=None, root_password="s3cret"), 0o600),
        (lambda source: (source.pop("hashed_root_password"),
                         source["repos"][0].update(uri="https://me:s3cret@apt.example.org")),
         0o600),
    ],
)  # fmt: skip
def test_a_spec_with_a_password_is_private(project: Project, change: Change, mode: int) -> None:
    project.write(changed(change))
    project.imported()
    assert project.target.stat().st_mode & 0o777 == mode
    assert ("its mode is 0600" in project.notes) == (mode == 0o600)
    assert "s3cret" not in project.notes


def test_the_hash_wins_over_the_password() -> None:
    document, notes = convert(lambda source: source.update(root_password="s3cret"))
    assert document["hashed_root_password"] == HASH
    assert "root_password" not in document
    assert "root_password: left out" in notes


def test_no_password_means_locked_and_not_the_one_everybody_knows() -> None:
    document, notes = convert(lambda source: source.pop("hashed_root_password"))
    assert not {"root_password", "hashed_root_password"} & set(document)
    assert "root stays locked" in notes
    assert "root_password" not in convert()[1]


def test_repositories_stay_in_order_when_the_first_has_the_codename() -> None:
    document, notes = convert()
    assert [repo["name"] for repo in document["repos"]] == [
        "ubuntu", "ubuntu-updates", "mos", "Auxiliary",
    ]  # fmt: skip
    assert "codename" not in notes


def test_the_repository_of_the_codename_is_put_first() -> None:
    document, notes = convert(lambda source: source["repos"].insert(0, source["repos"].pop(2)))
    assert [repo["name"] for repo in document["repos"]] == [
        "ubuntu", "mos", "ubuntu-updates", "Auxiliary",
    ]  # fmt: skip
    assert "codename: mos, the first repository and" in notes
    assert "has not the suite 'xenial'; ubuntu is first now." in notes


def test_a_codename_that_no_repository_has_changes_nothing_but_is_told() -> None:
    document, notes = convert(lambda source: source.update(codename="trusty"))
    assert document["repos"][0]["name"] == "ubuntu"
    assert "has not the suite 'trusty'; ubuntu stays first" in notes


def test_repositories_that_may_need_a_keyring_are_named_others_first() -> None:
    (note,) = [line for line in convert()[1].splitlines() if "keyring" in line]
    assert note.endswith("mos, Auxiliary, ubuntu.")


@pytest.mark.parametrize("value", [None, ...])
def test_codename_output_type_priority_and_proxies_may_be_absent(value: object) -> None:
    def change(source: dict[str, Any]) -> None:
        for fields, names in ((source, ("codename", "output", "proxies")),
                              (source["repos"][0], ("type", "priority")),
                              (source["repos"][3], ("section",))):  # fmt: skip
            for name in names:
                fields[name] = value
                if value is ...:
                    del fields[name]

    document, _notes = convert(change)
    assert "proxies" not in document
    assert "priority" not in document["repos"][0]


def test_packages_in_one_string_come_apart() -> None:
    document, _notes = convert(lambda source: source.update(packages=["vim  curl", "mc"]))
    assert document["packages"] == ["vim", "curl", "mc"]


def test_absent_packages_are_fuel_agents_for_trusty_only(project: Project) -> None:
    document, notes = convert(lambda source: source.pop("packages"))
    assert "packages" not in document
    assert "packages: absent" in notes
    assert "of no use for xenial" in notes

    def trusty(source: dict[str, Any]) -> None:
        del source["packages"], source["codename"]
        source["repos"][0]["suite"] = "trusty"

    project.write(changed(trusty))
    packages = project.imported().layers[0].packages
    assert {"linux-image-generic-lts-trusty", "grub-pc", "cloud-init"} < set(packages)
    assert list(packages) == sorted(packages)
    assert "written out" in project.notes


def test_packages_that_fuel_agent_configured_are_told() -> None:
    notes = convert(lambda source: source["packages"].append("mcollective"))[1]
    assert "disabled or configured mcollective after" in notes
    assert "disabled" not in convert()[1]


def test_the_place_of_images_and_metadata_is_told() -> None:
    (note,) = [line for line in convert()[1].splitlines() if line.startswith("output: ")]
    assert "/var/www/nailgun/targetimages" in note
    assert note.endswith("provisions from env_1_ubuntu.yaml.")


def test_fields_that_nobody_knows_are_told_with_their_place() -> None:
    def change(source: dict[str, Any]) -> None:
        source["cluster_id"] = 1
        source["repos"][2]["key"] = "none"
        source["image_data"]["/"]["compress_format"] = "xz"
        source["proxies"]["protocols"]["ftp"] = "ftp://proxy.example.org"

    document, notes = convert(change)
    assert [line.partition(": ")[0] for line in notes.splitlines() if "left out" in line] == [
        "repos[2].key", "image_data./.compress_format", "proxies.protocols.ftp", "cluster_id",
    ]  # fmt: skip
    assert document == convert()[0]


def test_meta_of_a_repository_is_kept() -> None:
    document, notes = convert(lambda source: source["repos"][0].update(meta={"by": ["me"]}))
    assert document["repos"][0]["meta"] == {"by": ["me"]}
    assert "repos[0].meta" not in notes


def test_a_proxy_without_a_scheme_gets_one() -> None:
    document, notes = convert(
        lambda source: source["proxies"]["protocols"].update(https="192.0.2.1:8080")
    )
    assert document["proxies"]["https"] == "http://192.0.2.1:8080"
    assert "proxies.protocols.https: `http://` was put in front." in notes


def test_the_example_of_the_manual_is_true(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    manual = (SCHEMA.parent.parent / "docs" / "migrating.md").read_text()
    given, _, made = manual.partition("## Example\n")[2].partition("\nbecomes\n")
    project.input.write_text(given)
    monkeypatch.chdir(project.input.parent)
    notes = import_spec(Path("provision.json"), project.target, schema=SCHEMA)
    assert (
        project.target.read_text()
        == textwrap.dedent(made.partition("\nwith notes")[0]).strip() + "\n"
    )
    assert [note.partition(":")[0] for note in notes] == ["repos", "root_password", "output"]
