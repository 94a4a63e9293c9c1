"""fuel-agent's input becomes a spec that loads, or an error that says where it is wrong."""

from __future__ import annotations

import copy
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.commands.fuel_agent import BASE, import_spec, spec_document
from tasks.errors import BuildError
from tasks.spec.load import load_spec
from tasks.spec.model import Spec

SCHEMA = Path(__file__).parents[2] / "specs" / "spec.schema.json"


HASH = "$6$abcdefgh$0123456789ABCDEFabcdef./"


UBUNTU = "http://mirror.example.org/ubuntu"


FUEL = "http://10.20.0.2:8080/liberty-8.0/ubuntu/x86_64"


# What Nailgun gives to fa_build_image for an environment of Fuel 8 or 9.
PROVISION: dict[str, Any] = {
    "repos": [
        {"name": "ubuntu", "type": "deb", "uri": UBUNTU, "suite": "xenial",
         "section": "main universe  multiverse ", "priority": None},
        {"name": "ubuntu-updates", "type": "deb", "uri": UBUNTU, "suite": "xenial-updates",
         "section": "main universe multiverse", "priority": None},
        {"name": "mos", "type": "deb", "uri": FUEL, "suite": "mos8.0",
         "section": "main restricted", "priority": 1050},
        {"name": "Auxiliary", "type": "deb", "uri": f"{FUEL}/auxiliary", "suite": "/",
         "section": "", "priority": "1150"},
    ],
    "packages": ["linux-image-generic", "grub-pc", "openssh-server", "vim"],
    "image_data": {
        "/boot": {"container": "gzip", "format": "ext2",
                  "uri": "http://10.20.0.2:8080/targetimages/env_1_ubuntu-boot.img.gz"},
        "/": {"container": "gzip", "format": "ext4",
              "uri": "file:///var/www/nailgun/targetimages/env_1_ubuntu.img.gz?x=a/b"},
    },
    "output": "/var/www/nailgun/targetimages",
    "codename": "xenial",
    "hashed_root_password": HASH,
    "proxies": {
        "protocols": {"http": "http://proxy.example.org:3128", "https": None},
        "direct_repo_addr_list": ["10.20.0.2", "mirror.example.org", "10.20.0.2"],
    },
}  # fmt: skip


Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> dict[str, Any]:
    source = copy.deepcopy(PROVISION)
    change(source)
    return source


def convert(change: Change = lambda source: None) -> tuple[dict[str, Any], str]:
    """Return the document for a changed PROVISION, and the notes as one text."""
    document, notes = spec_document(changed(change), origin="provision.json")
    return document, "\n".join(notes)


class Project:
    """A folder with an input, and the spec that it is imported to."""

    def __init__(self, folder: Path) -> None:
        (folder / "specs").mkdir()
        self.target = folder / "specs" / "foo.yaml"
        self.input = folder / "provision.json"

    def write(self, source: object) -> None:
        self.input.write_text(json.dumps(source))

    def entries(self) -> list[str]:
        return sorted(entry.name for entry in self.target.parent.iterdir())

    def imported(self) -> Spec:
        self.notes = "\n".join(import_spec(self.input, self.target, schema=SCHEMA))
        return load_spec(self.target, schema=SCHEMA)

    def refused(self) -> BuildError:
        """Import, and return why not; nothing new may be left in specs/."""
        before = self.entries()
        with pytest.raises(BuildError) as caught:
            import_spec(self.input, self.target, schema=SCHEMA)
        assert self.entries() == before
        assert caught.value.message.startswith((str(self.input), str(self.target)))
        return caught.value


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


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
        ("provision", b"[" * 5_000, "not YAML: "),
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
