"""Settings that packages and scripts are shown while they are installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..host.sandbox import Step
from ..plan.settings import BUILT_IN
from .files import unpack_step
from .inside import shell

LOCALES = "locales/locales_to_be_generated"


def shown_env(shown: Mapping[str, str]) -> dict[str, str]:
    """The environment in which packages and scripts see these settings.

    Messages stay English, since we read what apt and dpkg say of a full disk: LANGUAGE rules them
    alone, gettext(3), and nothing that a package sets up is made of it.
    """
    found = {}
    if "timezone" in shown:
        found["TZ"] = shown["timezone"]
    if "locale" in shown:
        found |= {"LC_ALL": "", "LANG": shown["locale"], "LANGUAGE": "en"}
    return found


def shown_steps(shown: Mapping[str, str], answered: bool) -> list[Step]:
    """The commands that let packages and scripts see settings, before any is installed.

    The packages tzdata and locales take up what files say. Where debconf has an answer of the
    user's instead of locale.gen (`answered`), the locale is in it, too: see `with_locale`.
    """
    steps = [unpack_step("shown.tar", f"showing {', '.join(sorted(shown))}")]
    locale = shown.get("locale", "")
    if locale and generated(locale) and not answered:
        steps.append(shell("add-locale", *locale_line(locale), "now"))
    return steps


def with_locale(answers: Sequence[str], below: Sequence[str], locale: str) -> tuple[str, ...]:
    """debconf's answers, which name the locale beside those that the user has it generate.

    The same ones, where there is no such answer among them or in those of the layers below.
    """
    said = [line.split(None, 3) for line in (*below, *answers)]
    values = [words[3] if len(words) > 3 else "" for words in said if words[1] == LOCALES]
    name, charmap = locale_line(locale)
    # One without a character set is added later, when the tree has the table of these.
    if not values or not charmap or not generated(locale):
        return tuple(answers)
    line = f"{name} {charmap}"
    wanted = [one.strip() for one in values[-1].split(",") if one.strip()]
    if line not in wanted and "All locales" not in wanted:
        wanted.append(line)
    return (*answers, f"locales {LOCALES} multiselect {', '.join(wanted)}")


def generated(locale: str) -> bool:
    """Whether a locale must be generated: libc has the others."""
    return locale not in BUILT_IN


def locale_line(locale: str) -> tuple[str, str]:
    """A line of locale.gen(5): the locale and its character map, "" where its name has none.

    glibc takes LANG=de_DE.utf8 for de_DE.UTF-8; localedef(1) and locale.gen only the latter.
    """
    name, _, rest = locale.partition(".")
    charmap, at, modifier = rest.partition("@")
    if charmap.lower() in ("utf8", "utf-8"):
        charmap = "UTF-8"
    return (f"{name}.{charmap}{at}{modifier}" if charmap else locale), charmap
