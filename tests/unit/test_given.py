"""What a spec gives that no image would have, that contradicts itself, or that nobody asks for is refused and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support import samples
from tasks.errors import BuildError
from tasks.plan.entries import layer_entries
from tasks.plan.plan import late_answers, make_plan
from tasks.spec import given, zones
from tasks.stages import own
from tasks.stages.shown import locale_line

FILE = {"content": "x"}


def layer(**fields: Any) -> list[dict[str, Any]]:
    return [{"name": "app", **fields}]


@pytest.mark.parametrize("target", ["/run/x", "/tmp/a/b", "/dev/shm/x", "/proc/x", "/sys/x", "/tmp",
                                    "/run"])  # fmt: skip
def test_files_that_no_image_would_have_are_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(BuildError, match="would be in no image") as caught:
        samples.load(tmp_path, layers=layer(files={target: FILE}))
    assert "layers.app.files" in caught.value.message
    assert "boot" in caught.value.hint


@pytest.mark.parametrize("target", ["/runner", "/tmpfiles", "/devel/x", "/var/tmp/x", "/etc/sys"])
def test_names_that_only_begin_alike_are_fine(tmp_path: Path, target: str) -> None:
    assert samples.load(tmp_path, layers=layer(files={target: FILE})).layers[0].files


@pytest.mark.parametrize(
    ("fields", "target"),
    [
        ({"hostname": "a"}, "/etc/hostname"),
        ({"timezone": "Etc/UTC"}, "/etc/localtime"),
        ({"timezone": "Etc/UTC"}, "/etc/timezone"),
        ({"locale": "C.UTF-8"}, "/etc/default/locale"),
        ({"locale": "C.UTF-8"}, "/etc/locale.conf"),
        ({"root_password": "a"}, "/etc/shadow"),
        ({"hashed_root_password": "$6$a$b"}, "/etc/shadow"),
        ({"apt_sources": True}, "/etc/apt/sources.list.d/strata.sources"),
        ({"apt_sources": True}, "/etc/apt/keyrings/main.gpg"),
    ],
)
def test_a_file_and_a_field_that_make_the_same_are_refused(
    tmp_path: Path, fields: dict[str, Any], target: str
) -> None:
    with pytest.raises(BuildError, match=f"{next(iter(fields))} makes, too"):
        samples.load(tmp_path, layers=layer(files={target: FILE}), **fields)
    assert samples.load(tmp_path, layers=layer(files={target: FILE}))


@pytest.mark.parametrize("target", ["/etc/hosts", "/etc/locale.gen"])
def test_what_yields_to_the_users_file_is_no_contradiction(tmp_path: Path, target: str) -> None:
    fields = {"hostname": "a", "locale": "de_DE.UTF-8"}
    assert samples.load(tmp_path, layers=layer(files={target: FILE}), **fields)


@pytest.mark.parametrize(
    ("line", "fields", "fits"),
    [
        ("tzdata tzdata/Areas select Europe", {"timezone": "Europe/Berlin"}, True),
        ("tzdata tzdata/Areas select Asia", {"timezone": "Europe/Berlin"}, False),
        ("tzdata tzdata/Zones/Europe select Paris", {"timezone": "Europe/Berlin"}, False),
        ("tzdata tzdata/Zones/Asia select Tokyo", {"timezone": "Europe/Berlin"}, True),
        ("tzdata tzdata/Zones/Europe select Paris", {}, True),
        ("locales locales/default_environment_locale select fr_FR.UTF-8",
         {"locale": "de_DE.UTF-8"}, False),
        ("locales locales/default_environment_locale select", {"locale": "de_DE.UTF-8"}, False),
        ("locales locales/locales_to_be_generated multiselect fr_FR.UTF-8 UTF-8",
         {"locale": "de_DE.UTF-8"}, True),
        ("postfix postfix/mailname string other", {"hostname": "web"}, True),
    ],
)  # fmt: skip
def test_a_debconf_answer_that_contradicts_a_field_is_refused(
    tmp_path: Path, line: str, fields: dict[str, str], fits: bool
) -> None:
    assert (given.misanswered([line], fields) is None) == fits
    if not fits:
        with pytest.raises(BuildError, match=f"contradicts {next(iter(fields))}"):
            samples.load(tmp_path, layers=layer(debconf=[line]), **fields)


def test_a_folders_file_that_is_given_by_itself_with_other_content_is_refused(
    tmp_path: Path,
) -> None:
    (tmp_path / "some").mkdir()
    (tmp_path / "some/one").write_text("1\n")
    for content, fits in (("1\n", True), ("2\n", False)):
        files = {"/srv": "some", "/srv/one": {"content": content, "mode": "0600"}}
        spec = samples.load(tmp_path, layers=layer(files=files))
        if fits:
            assert layer_entries(spec.layers[0], spec)[-1].mode == 0o600
        else:
            with pytest.raises(BuildError, match="'/srv/one' is given twice"):
                layer_entries(spec.layers[0], spec)


ZONE = "tzdata tzdata/Zones/Europe select Berlin"


@pytest.mark.parametrize(
    ("line", "settings", "late"),
    [
        (ZONE, {}, True),
        (ZONE, {"timezone": "Europe/Berlin"}, False),
        ("tzdata tzdata/Areas select Etc", {}, False),
        ("debconf debconf/frontend select Noninteractive", {}, False),
        ("less less/add_mime_handler boolean true", {}, True),
        ("other other/x string y", {}, False),
        ("new new/x string y", {}, False),
    ],
)
def test_debconf_answers_that_nobody_asks_for(
    line: str, settings: dict[str, str], late: bool
) -> None:
    below = {"tzdata", "less", "debconf", "new"}
    assert given.unasked([line], below, {"new"}, settings) == ([line] if late else [])


def test_an_answer_that_would_be_lost_is_refused_or_told(tmp_path: Path) -> None:
    (tmp_path / "x.sh").touch()
    lock = samples.lock([samples.record("tzdata"), samples.record("less")], {"app": []})
    for fields, refused in (({}, True), ({"script": "x.sh"}, False)):
        spec = samples.load(tmp_path, layers=layer(debconf=[ZONE], **fields))
        if refused:
            with pytest.raises(BuildError, match=r"layers\.app\.debconf: tzdata tzdata/Z") as no:
                make_plan(spec, lock, samples.host(spec))
            assert "the spec's timezone" in no.value.hint
        else:
            assert make_plan(spec, lock, samples.host(spec))
            said = own.late("app", late_answers(spec, lock, 0))
            assert "app: debconf: tzdata is installed below" in said
    new = samples.lock([samples.record("less")], {"app": [samples.record("tzdata")]})
    assert late_answers(spec, new, 0) == []


# ---------------------------------------------------------------- zones


def zone_folder(tmp_path: Path, *names: str, listed: bool = True) -> Path:
    folder = tmp_path / "zoneinfo"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"TZif2...")
    folder.mkdir(exist_ok=True)
    if listed:
        text = "# version 2031z\nZ Europe/Berlin 0 - LMT\nL Europe/Berlin Old/Name\nZ Etc/UTC 0 - UTC\n"
        (folder / "tzdata.zi").write_text(text)
    (folder / "leapseconds").write_text("no zone\n")
    return folder


@pytest.mark.parametrize("listed", [True, False])
def test_a_mistyped_zone_is_known_with_near_ones(tmp_path: Path, listed: bool) -> None:
    folder = zone_folder(tmp_path, "Europe/Berlin", "Etc/UTC", "posix/Europe/Berlin", listed=listed)
    assert zones.unknown("right/Etc/UTC", folder) is None  # tzdata-legacy has it, since Debian 13
    assert zones.unknown("right/Etc/UTCC", folder) is not None
    version = "2031z" if listed else ""
    for name in ("Europe/Berln", "europe/berlin", "Asia/Berlin", "Berlin", "Europe"):
        assert zones.unknown(name, folder) == (version, ["Europe/Berlin"]), name
    assert zones.unknown("leapseconds", folder) == (version, [])
    for name in ("Europe/Berlin", "Etc/UTC", *(["Old/Name"] if listed else [])):
        assert zones.unknown(name, folder) is None


def test_a_host_without_tzdata_says_nothing_of_zones(tmp_path: Path) -> None:
    assert zones.unknown("Europe/Berln", tmp_path / "none") is None


def test_a_mistyped_zone_ends_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = zone_folder(tmp_path, "Europe/Berlin")
    monkeypatch.setattr(zones.unknown, "__defaults__", (folder,))
    with pytest.raises(BuildError, match=r"timezone: there is no zone 'Europe/Berln'") as caught:
        samples.load(tmp_path, timezone="Europe/Berln")
    assert "did you mean Europe/Berlin?" in caught.value.hint
    assert samples.load(tmp_path, timezone="Europe/Berlin")
    files = {"/usr/share/zoneinfo/Europe/Berln": FILE}
    assert samples.load(tmp_path, timezone="Europe/Berln", layers=layer(files=files))


# ---------------------------------------------------------------- locales


@pytest.mark.parametrize(
    ("locale", "line"),
    [("de_DE.UTF-8", ("de_DE.UTF-8", "UTF-8")), ("de_DE.utf8", ("de_DE.UTF-8", "UTF-8")),
     ("ca_ES.utf-8@valencia", ("ca_ES.UTF-8@valencia", "UTF-8")),
     ("de_DE.ISO-8859-15@euro", ("de_DE.ISO-8859-15@euro", "ISO-8859-15")),
     ("pl_PL", ("pl_PL", "")), ("sr_RS@latin", ("sr_RS@latin", ""))],
)  # fmt: skip
def test_a_locales_line_says_its_map_only_if_its_name_does(
    locale: str, line: tuple[str, str]
) -> None:
    assert locale_line(locale) == line
