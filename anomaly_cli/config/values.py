"""Settings that are written as short texts, such as `image-fpr=0.05`, and their parsers."""

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from anomaly_cli.errors import ConfigError, ConfigTypeError

Config = TypeVar("Config")

RuleKind = Literal["image-fpr", "pixel-fpr", "max"]
NO_OUTLINE = math.nan  # anomalous regions end at the threshold
FORMATS = ("json", "csv", "markdown", "junit", "html")  # of reports


class ThresholdRule(NamedTuple):
    """Rule that chooses a threshold from the maps of held-out normal images."""

    kind: RuleKind
    rate: float = 0.0  # target false-positive rate, in (0, 1); 0 for "max"

    def __str__(self) -> str:
        """Write the rule as the user types it."""
        return self.kind if self.kind == "max" else f"{self.kind}={self.rate}"


class ImageScore(NamedTuple):
    """Rule that turns a map into one number: its highest value, or the mean of its highest."""

    top_share: float = 0.0  # share of the pixels, in (0, 1]; 0 is the maximum alone

    def __str__(self) -> str:
        """Write the rule as the user types it."""
        return f"top:{self.top_share:g}" if self.top_share else "max"


class Shard(NamedTuple):
    """One of several parts of a run, each of which another process or machine does."""

    number: int  # from 1 to `total`
    total: int

    def __str__(self) -> str:
        """Write the shard as the user types it."""
        return f"{self.number}/{self.total}"


DEFAULT_RULE = ThresholdRule("image-fpr", 0.05)
MAXIMUM = ImageScore()


def check_config(config: Any, kind: type[Config]) -> Config:
    """Check the type of settings from Python, and convert texts to paths.

    Args:
        config: the settings.
        kind: their expected class.

    Raises:
        ConfigTypeError: the settings are of another class. It is a TypeError too.
    """
    if not isinstance(config, kind):
        raise ConfigTypeError(f"a {kind.__name__} is expected, got {type(config).__name__}")
    texts: dict[str, Any] = {
        each.name: Path(value)
        for each in fields(config)  # type: ignore[arg-type] # every setting is a dataclass
        if "Path" in str(each.type) and isinstance(value := getattr(config, each.name), str)
    }
    return replace(config, **texts) if texts else config  # type: ignore[type-var]


def parse_threshold(text: str) -> ThresholdRule | float:
    """Read a threshold: "max", "image-fpr=RATE", "pixel-fpr=RATE" or a number.

    Raises:
        ConfigError: the text is none of these.
    """
    kind, _, rate = text.partition("=")
    try:
        if kind in {"image-fpr", "pixel-fpr"} and 0 < float(rate) < 1:
            return ThresholdRule("image-fpr" if kind == "image-fpr" else "pixel-fpr", float(rate))
        if kind == "max" and not rate:
            return ThresholdRule("max")
        if math.isfinite(float(text)):
            return float(text)
    except ValueError:
        pass
    raise ConfigError(
        f"--threshold must be a number, max, image-fpr=0.05 or pixel-fpr=0.01, got {text}"
    )


def parse_rule(text: str) -> ThresholdRule:
    """Read the rule of a threshold: "max", "image-fpr=RATE" or "pixel-fpr=RATE".

    Raises:
        ConfigError: the text is none of these.
    """
    rule = parse_threshold(text)
    if isinstance(rule, float):
        raise ConfigError(
            f"--threshold of train must be a rule (max, image-fpr=0.05 or pixel-fpr=0.01), "
            f"got the number {text}"
        )
    return rule


def parse_outline(text: str) -> float:
    """Read an outline: a map value, or "threshold" for regions that end there (`NO_OUTLINE`).

    Raises:
        ConfigError: the text is neither.
    """
    if text == "threshold":
        return NO_OUTLINE
    try:
        if math.isfinite(float(text)):
            return float(text)
    except ValueError:
        pass
    raise ConfigError(f"--outline must be a number, or threshold, got {text}")


def outline_text(outline: float) -> str:
    """Write an outline as the user types it."""
    return "threshold" if math.isnan(outline) else str(outline)


def parse_image_score(text: str) -> ImageScore:
    """Read the rule of image scores: "max" or "top:SHARE".

    Raises:
        ConfigError: the text is neither.
    """
    kind, _, share = text.partition(":")
    try:
        if kind == "top" and 0 < float(share) <= 1:
            return ImageScore(float(share))
    except ValueError:
        pass
    if text != "max":
        raise ConfigError(f"--image-score must be max or top:SHARE, such as top:0.01, got {text}")
    return ImageScore()


def parse_shard(text: str) -> Shard:
    """Read a shard, such as "3/16"; the first is 1.

    Raises:
        ConfigError: the text is no shard.
    """
    number, _, count = text.partition("/")
    if number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return Shard(int(number), int(count))
    raise ConfigError(f"--shard must be K/N with K from 1 to N, such as 3/16, got {text}")


def parse_formats(text: str) -> tuple[str, ...]:
    """Read formats of a report, such as "json,csv"; each once, in the order given.

    Raises:
        ConfigError: a format is unknown, or none is named.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in FORMATS:
            from difflib import get_close_matches  # noqa: PLC0415 - `--help` needs none

            close = get_close_matches(name, FORMATS, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ConfigError(f"--format {name} is unknown; {hint}known: {', '.join(FORMATS)}")
    if not names:
        raise ConfigError(f"--format needs at least one format; known: {', '.join(FORMATS)}")
    return names
