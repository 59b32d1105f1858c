"""JSON as the engine reads it in metadata and in config.json: what it refuses is refused here too."""

import json
import math
import re

MOST_BYTES = 4 << 20
MOST_LEVELS = 16


def finite(text):
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


def no_number(text):
    raise ValueError(f"{text} is no number of JSON")


def whole(text):
    finite(text)  # before Python counts its digits
    return int(text)


def levels(value):
    """How deep lists and objects stand in each other."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(levels, inside), default=0)


def parse(text):
    """The value of a text. Raises ValueError."""
    if len(text.encode(errors="surrogatepass")) > MOST_BYTES:
        raise ValueError("it has more than 4 MiB")
    too_deep = ValueError(f"it has more than {MOST_LEVELS} levels")
    try:
        value = json.loads(text.removeprefix("\ufeff"), parse_int=whole, parse_float=finite,
                           parse_constant=no_number)  # fmt: skip
        if levels(value) > MOST_LEVELS:
            raise too_deep
    except RecursionError as error:
        raise too_deep from error
    if re.search("[\ud800-\udfff]", json.dumps(value, ensure_ascii=False)):
        raise ValueError("half of a surrogate pair is no letter")
    return value


def is_number(value, kinds=(int, float)):
    return isinstance(value, kinds) and not isinstance(value, bool)


def number(kind, low, high):
    """A function that gives the number of a text as `kind`, int or float; both ends belong to the range."""

    def parse_number(text):
        value = parse(text)
        if not is_number(value) or not low <= value <= high or kind(value) != value:
            raise ValueError(f"expected a {'whole ' if kind is int else ''}number from {low:.8g} to {high:.8g}")
        return kind(value)

    return parse_number
