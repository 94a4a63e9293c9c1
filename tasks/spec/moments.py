"""A moment of an archive, as `snapshot` names it and as a snapshot service's addresses have it."""

from __future__ import annotations

import datetime
import re

_TEXT = re.compile(
    r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})(?:[Tt ]([0-9]{2}):?([0-9]{2}):?([0-9]{2})[Zz])?"
)


def timestamp(given: object) -> str:
    """A date or a moment, as YAML reads it or as text, as 20261120T000000Z; ValueError for none.

    A date alone is its first second in UTC, and so is a moment without a zone in UTC, as YAML says.
    """
    if isinstance(given, datetime.datetime):
        moment = given
    elif isinstance(given, datetime.date):
        moment = datetime.datetime(given.year, given.month, given.day)
    else:
        found = _TEXT.fullmatch(str(given))
        if found is None:
            raise ValueError("it is of another form")
        moment = datetime.datetime(*(int(part or 0) for part in found.groups()))  # type: ignore[arg-type]
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.timezone.utc)
    return f"{moment.year:04}{moment:%m%dT%H%M%SZ}"


def of_seconds(seconds: int) -> str:
    """The same of seconds since 1970; ValueError or OverflowError beyond the year 9999."""
    return timestamp(datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc))


def seconds_of(stamp: str) -> int:
    """Seconds since 1970 of such a timestamp."""
    moment = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ")
    return int(moment.replace(tzinfo=datetime.timezone.utc).timestamp())
