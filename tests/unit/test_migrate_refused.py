"""fuel-agent's input that becomes no spec: the error says where it is wrong, shows no secret, and overwrites nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from support.fuel import PROVISION, SCHEMA, Change, Project, changed
from tasks.commands.fuel_agent import import_spec
from tasks.errors import BuildError
from tasks.spec.load import load_spec
from tasks.spec.model import Spec


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s.pop("repos"), "missing field 'repos'"),
        (lambda s: s.pop("image_data"), "missing field 'image_data'"),
        (lambda s: s.update(repos=[]), "repos: expected a list of at least one"),
        (lambda s: s.update(repos={}), "repos: expected a list"),
        (lambda s: s["repos"].append("deb"), "repos[4]: expected a mapping, found str"),
        (lambda s: s["repos"][1].pop("uri"), "repos[1]: missing field 'uri'"),
        (lambda s: s["repos"][1].update(uri=None), "repos[1].uri: expected a string"),
        (lambda s: s["repos"][1].update(name=""), "repos[1].name: expected a string that is not"),
        (lambda s: s["repos"][1].update(section=["main"]), "repos[1].section: expected a string"),
        (lambda s: s["repos"][1].update(type="rpm"), "repos[1].type: expected deb, found 'rpm'"),
        (lambda s: s["repos"][1].update(type="deb-src"), "repos[1].type: expected deb"),
        (lambda s: s["repos"][1].update(priority="high"), "repos[1].priority: expected a whole"),
        (lambda s: s["repos"][1].update(priority=True), "repos[1].priority: expected a whole"),
        (lambda s: s.update(packages="vim"), "packages: expected a list, found str"),
        (lambda s: s.update(packages=None), "packages: expected a list, found None"),
        (lambda s: s.update(packages=["vim", 7]), "packages[1]: expected a string"),
        (lambda s: s["image_data"].pop("/"), "image_data: missing field '/'"),
        (lambda s: s.update(image_data=[]), "image_data: expected a mapping"),
        (lambda s: s["image_data"].update(swap={}), "image_data: expected a mount point"),
        (lambda s: s["image_data"]["/"].pop("uri"), "image_data./: missing field 'uri'"),
        (lambda s: s["image_data"]["/"].update(container="xz"),
         "image_data./.container: expected gzip, raw, found 'xz'"),
        (lambda s: s["image_data"]["/boot"].update(format="iso9660"),
         "image_data./boot.format: expected ext2, ext3, ext4, xfs, found 'iso9660'"),
        (lambda s: s.update(codename=14.04), "codename: expected a string, found float"),
        (lambda s: s.update(proxies={"protocols": []}), "proxies.protocols: expected a mapping"),
        (lambda s: s.update(proxies={"direct_repo_addr_list": "10.20.0.2"}),
         "proxies.direct_repo_addr_list: expected a list"),
        (lambda s: s.update(root_password=""), "root_password: expected a string that is not"),
        (lambda s: s.update(os={"name": "Centos"}), "os.name: expected Debian or Ubuntu"),
        (lambda s: s.update(profile="centos-x86_64"), "profile: expected Debian or Ubuntu"),
        (lambda s: s.update(bootstrap={"modules": []}), "bootstrap: expected no ramdisk"),
        # From here on it is load_spec that refuses what would have been written.
        (lambda s: s["repos"][1].update(name="mos"), "repos: 'mos' stands twice"),
        (lambda s: s["repos"][1].update(uri="ftp://mirror.example.org"), "repos[1].uri: "),
        (lambda s: s["repos"][1].update(section=""), "repos.ubuntu-updates: missing"),
        (lambda s: s["repos"][1].update(priority=40000), "repos[1].priority: "),
        (lambda s: s.update(packages=["--reinstall"]), "packages[0]: "),
        (lambda s: s["image_data"]["/"].update(uri="http://env_1.img.gz"), "images./.file: "),
        (lambda s: s["image_data"]["/boot"].update(uri="file:///env_1_ubuntu.img.gz"),
         "images: file: 'env_1_ubuntu.img.gz' stands twice"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_its_place(
    project: Project, change: Change, expected: str
) -> None:
    project.write(changed(change))
    error = project.refused()
    assert f": {expected}" in error.message
    assert str(project.input) in error.message
    assert "\n" not in error.message
    assert error.hint


@pytest.mark.parametrize(
    "change",
    [
        lambda source: source.update(root_password=["s3cret"]),
        lambda source: source.update(hashed_root_password="s3cret ☃"),
        lambda source: source["repos"][0].update(uri="ftp://me:s3cret@apt.example.org"),
    ],
)
def test_an_error_shows_no_password(project: Project, change: Change) -> None:
    project.write(changed(change))
    error = project.refused()
    assert "s3cret" not in str(error)


def test_an_error_in_yaml_does_not_quote_its_line(project: Project) -> None:
    project.input = project.input.with_suffix(".yaml")
    project.input.write_text("repos: []\nroot_password: s3cret: x\n")
    error = project.refused()
    assert "not YAML: mapping values are not allowed here, line 2" in error.message
    assert "s3cret" not in str(error)


def test_an_error_names_the_spec_and_not_its_draft(project: Project) -> None:
    project.write(changed(lambda source: source.update(packages=["A"])))
    message = project.refused().message
    assert f"{project.target}: packages[0]: " in message
    assert "line" not in message


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("provision.json", b"{'repos': []}", "not JSON: "),
        ("provision.json", b"\xff\xfe\x00", "not JSON: "),
        ("provision.yaml", b"repos: [", "not YAML: "),
        ("provision.yaml", b"a: \xff", "not YAML: "),
        ("provision", b"[" * 1_500, "not YAML: "),
        ("provision.json", b"[]", "expected a mapping"),
        ("provision.yaml", b"", "expected a mapping"),
    ],
)
def test_what_is_no_mapping_is_refused(
    project: Project, name: str, text: bytes, expected: str
) -> None:
    project.input = project.input.with_name(name)
    project.input.write_bytes(text)
    assert expected in project.refused().message


def test_mount_points_that_yaml_reads_as_numbers_are_refused(project: Project) -> None:
    project.input = project.input.with_suffix(".yaml")
    project.input.write_text(
        yaml.safe_dump(changed(lambda source: source["image_data"].update({7: {}})))
    )
    assert "image_data: expected a mount point, found int" in project.refused().message


def test_a_missing_file_is_told(project: Project) -> None:
    assert "provision.json: cannot be read: No such file" in project.refused().message


def test_an_existing_spec_is_never_overwritten(project: Project) -> None:
    project.write(PROVISION)
    project.target.write_text("mine")
    assert "this spec exists" in project.refused().message
    assert project.target.read_text() == "mine"


def test_a_spec_that_appears_meanwhile_is_not_overwritten(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(PROVISION)

    def load_and_lose_the_race(path: Path, *, schema: Path) -> Spec:
        project.target.write_text("theirs")
        return load_spec(path, schema=schema)

    monkeypatch.setattr("tasks.commands.fuel_agent.load_spec", load_and_lose_the_race)
    with pytest.raises(BuildError, match="this spec exists"):
        import_spec(project.input, project.target, schema=SCHEMA)
    assert project.target.read_text() == "theirs"
    assert project.entries() == ["foo.yaml"]


def test_a_folder_that_is_missing_is_told(project: Project) -> None:
    project.write(PROVISION)
    with pytest.raises(BuildError, match=r"foo\.yaml: cannot be written: No such file"):
        import_spec(project.input, Path("/nowhere/specs/foo.yaml"), schema=SCHEMA)
