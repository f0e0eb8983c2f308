"""Methods of Section 4, their scores in the paper, and entries of a comparison. Loads no torch."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from anomaly_cli.errors import ConfigError, require
from models.objective import Objective

Method = Literal["beta-vae", "factor-vae", "ad-factor-vae", "ad-beta-vae"]
# Weights of the best scores in Table 3 of the paper, and lambda of equation 7.
METHODS: dict[Method, Objective] = {
    "beta-vae": Objective(beta=4.0),
    "factor-vae": Objective(gamma=40.0),
    "ad-factor-vae": Objective(gamma=40.0, overlap=1.0),
    "ad-beta-vae": Objective(beta=4.0, overlap=1.0),
}
# Table 3 of the paper: FactorVAE score by beta of the beta-VAE, and by gamma of the other two.
TABLE_3: dict[Method, dict[float, float]] = {
    "beta-vae": {1: 0.69, 4: 0.73, 6: 0.70, 16: 0.68},
    "factor-vae": {10: 0.75, 20: 0.77, 40: 0.82, 100: 0.70},
    "ad-factor-vae": {10: 0.91, 20: 0.93, 40: 0.93, 100: 0.84},
}
TABLE_3_WORD = "table3"  # stands for all entries of Table 3


class Entry(NamedTuple):
    """A method and the weight that Table 3 varies: beta, or gamma if there is a discriminator."""

    method: Method
    weight: float

    @property
    def weight_name(self) -> Literal["beta", "gamma"]:
        """Name of the weight."""
        return weight_name(self.method)

    @property
    def label(self) -> str:
        """The entry as the user types it, such as "beta-vae:4"."""
        return f"{self.method}:{_plain(self.weight)}"

    @property
    def folder(self) -> str:
        """Name of the folder of its trainings: without the weight if it is the method's own."""
        is_own = self.weight == getattr(METHODS[self.method], self.weight_name)
        return self.method if is_own else f"{self.method}-{_plain(self.weight)}"


def weight_name(method: Method) -> Literal["beta", "gamma"]:
    """Name the weight of a method that Table 3 varies."""
    return "gamma" if METHODS[method].gamma else "beta"


def table_3_entries() -> list[Entry]:
    """List the entries of Table 3: the reference first, the others in the order of the paper.

    The reference is the best of the methods that the paper compares its own with.
    """
    reference = Entry("factor-vae", METHODS["factor-vae"].gamma)
    rows = [Entry(method, float(w)) for method, scores in TABLE_3.items() for w in scores]
    return [reference, *(entry for entry in rows if entry != reference)]


def published_score(entry: Entry, objective: Objective) -> float | None:
    """Look up the FactorVAE score in Table 3; None if the paper did not train with these weights.

    Args:
        entry: a method and its weight.
        objective: all weights of the training.
    """
    own = METHODS[entry.method]
    others = {"beta", "gamma", "overlap"} - {entry.weight_name}
    is_own = all(getattr(objective, name) == getattr(own, name) for name in others)
    return TABLE_3.get(entry.method, {}).get(entry.weight) if is_own else None


def split_entries(texts: Iterable[str]) -> list[str]:
    """Split the values of --compare at their commas.

    Raises:
        ConfigError: there is one entry alone, or none.
    """
    words = [word.strip() for text in texts for word in text.split(",")]
    require(
        len(words) > 1 or words == [TABLE_3_WORD],
        f"--compare needs two entries or more, with commas between them, such as "
        f"factor-vae,ad-factor-vae or beta-vae:1,beta-vae:4; got {', '.join(words)}",
    )
    return words


def parse_entries(texts: Iterable[str], weights: dict[Method, float]) -> tuple[Entry, ...]:
    """Read the entries of a comparison.

    Args:
        texts: METHOD, METHOD:WEIGHT, "table3", or several of these with commas between them.
        weights: weight of each method that is named without one.

    Returns:
        Each entry once, at least two. "table3" adds those that are not named beside it.

    Raises:
        ConfigError: a text is none of these, an entry is named twice, or there is only one.
    """
    words = split_entries(texts)
    entries: list[Entry] = []
    for word in words:
        if word != TABLE_3_WORD:
            entry = _parse_entry(word, weights)
            require(entry not in entries, f"--compare names {entry.label} twice")
            entries.append(entry)
    if TABLE_3_WORD in words:
        place = words.index(TABLE_3_WORD)
        entries[place:place] = [entry for entry in table_3_entries() if entry not in entries]
    return tuple(entries)


def _parse_entry(word: str, weights: dict[Method, float]) -> Entry:
    name, colon, text = word.partition(":")
    if name not in METHODS:
        from difflib import get_close_matches  # noqa: PLC0415 - `--help` needs none

        close = get_close_matches(name, [*METHODS, TABLE_3_WORD], n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        known = ", ".join([*METHODS, TABLE_3_WORD])
        raise ConfigError(f"--compare {word}: no such method; {hint}known: {known}")
    if not colon:
        return Entry(name, weights[name])
    try:
        weight = float(text) + 0.0  # -0.0 + 0.0 is 0.0
    except ValueError:
        weight = -1.0
    if not 0 <= weight < float("inf"):
        raise ConfigError(
            f"--compare {word}: the {weight_name(name)} after the colon must be a number, zero "
            f"or positive"
        )
    return Entry(name, weight)


def _plain(weight: float) -> str:
    """Write a weight without digits that say nothing: 4, 0.5."""
    return repr(float(weight)).removesuffix(".0")
