"""Compare methods and weights that were trained with the same seeds, beside the paper's scores."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from anomaly_cli.config.objectives import METHODS, Entry, published_score
from anomaly_cli.disentangle.runs import Run
from anomaly_cli.disentangle.scoring import TITLES
from anomaly_cli.files.tables import NumberTable

CONFIDENCE = 0.95
CAVEAT = (
    "The paper does not say over how many seeds its figures are, nor for how many steps it "
    "trained; public reproductions train for 300,000. Its figures for the beta-VAE are those of "
    "Kim and Mnih."
)


class PairedDifference(NamedTuple):
    """One score of the second entry minus that of the first, over shared seeds."""

    name: str
    first: float  # mean of the first entry over the shared seeds
    second: float
    differences: tuple[float, ...]  # of each seed; NaN where one of the two is undefined
    mean: float
    low: float  # of the 95% Student t interval of the mean, NaN below two pairs
    high: float

    @property
    def pairs(self) -> int:
        """Number of pairs in which both scores are defined."""
        return sum(map(math.isfinite, self.differences))


class Spread(NamedTuple):
    """One score of an entry over its seeds; NaN if it is undefined."""

    mean: float
    deviation: float  # standard deviation, NaN below two seeds


class Summary(NamedTuple):
    """The trainings of one entry, and their differences from those of the reference."""

    entry: Entry
    runs: Sequence[Run]  # in ascending order of their seeds; empty if all failed
    spreads: Mapping[str, Spread]  # by score
    paper: float | None  # FactorVAE score of Table 3; None if the paper has none
    seeds: Sequence[int]  # shared with the reference
    differences: Sequence[PairedDifference]  # empty for the reference, and without shared seeds

    @property
    def factor_vae(self) -> Spread:
        """The FactorVAE score over the seeds."""
        return self.spreads.get("factor_vae", Spread(math.nan, math.nan))

    @property
    def difference(self) -> PairedDifference | None:
        """Difference of the FactorVAE scores."""
        return next((row for row in self.differences if row.name == "factor_vae"), None)

    @property
    def deviation(self) -> float:
        """Our FactorVAE score minus the paper's; NaN if one of the two is missing."""
        return math.nan if self.paper is None else self.factor_vae.mean - self.paper


class Comparison(NamedTuple):
    """Several entries that were trained with the same seeds."""

    summaries: Sequence[Summary]  # in the order of the entries

    @property
    def reference(self) -> Summary:
        """The first entry, from which the differences are taken."""
        return self.summaries[0]

    @property
    def compared(self) -> Sequence[Summary]:
        """All entries but the reference."""
        return self.summaries[1:]


def compare_entries(entries: Sequence[Entry], runs: Sequence[Run]) -> Comparison:
    """Summarise each entry, and compare it with the first one on the seeds that both have.

    Args:
        entries: two or more; the first is the reference.
        runs: finished trainings of these entries, in any order. Some may be missing.
    """
    ordered = sorted(runs, key=lambda run: run.seed)
    of_entries = {entry: [run for run in ordered if run.entry == entry] for entry in entries}
    reference = of_entries[entries[0]]
    return Comparison(
        [
            _summarise(entry, own, reference if entry != entries[0] else [])
            for entry, own in of_entries.items()
        ]
    )


def _summarise(entry: Entry, runs: Sequence[Run], reference: Sequence[Run]) -> Summary:
    seeds = sorted({run.seed for run in runs} & {run.seed for run in reference})
    first, second = ([run for run in own if run.seed in seeds] for own in (reference, runs))
    scores = [run.scores._asdict() for run in runs]
    objective = runs[0].objective if runs else METHODS[entry.method]
    return Summary(
        entry=entry,
        runs=runs,
        spreads={name: _spread([own[name] for own in scores]) for name in (scores or [{}])[0]},
        paper=published_score(entry, objective),
        seeds=seeds,
        differences=compare_runs(first, second) if seeds else [],
    )


def _spread(values: Sequence[float]) -> Spread:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Spread(float(np.mean(values)), deviation)


def score_table(
    comparison: Comparison, title: str, failures: Mapping[str, Exception] | None = None
) -> NumberTable:
    """Make a table of the FactorVAE scores of all entries, beside those of the paper.

    Args:
        comparison: the entries; the rows are in their order.
        title: of the table.
        failures: errors of failed trainings, by name; they are named in the notes.
    """
    reference = comparison.reference.entry.label
    rows: dict[str, Sequence[float]] = {}
    for own in comparison.summaries:
        row, paper = own.difference, math.nan if own.paper is None else own.paper
        ends = (row.mean, row.low, row.high) if row else (math.nan,) * 3
        rows[own.entry.label] = [*own.factor_vae, paper, own.deviation, *ends]
    columns = ("mean", "sd", "the paper", "deviation", f"minus {reference}", "95% low", "95% high")
    seeds = {own.entry.label: len(own.runs) for own in comparison.summaries}
    most = max(seeds.values())
    fewer = [f"{label} {count}" for label, count in seeds.items() if count < most]
    notes = [
        "After the colon: beta, or gamma of a FactorVAE.",
        f"Mean and standard deviation over {most} {'seed' if most == 1 else 'seeds'}"
        + (f" ({', '.join(fewer)})." if fewer else "."),
        "Deviation: ours minus the paper's.",
        f"Minus {reference}: mean difference on the same seeds, and its 95% Student t interval.",
        CAVEAT,
        *(f"{name} failed: {error}" for name, error in (failures or {}).items()),
    ]
    return NumberTable(title, TITLES["factor_vae"], columns, rows, tuple(notes))


def compare_runs(first: Sequence[Run], second: Sequence[Run]) -> list[PairedDifference]:
    """Compare every score, and the statistics of the last tenth of training.

    Args:
        first: runs of one entry.
        second: runs of the other, with the same seeds in the same order.
    """
    named = [(run.scores._asdict() | _last(run)) for run in (*first, *second)]
    return [
        paired_difference(
            name,
            [values[name] for values in named[: len(first)]],
            [values[name] for values in named[len(first) :]],
        )
        for name in named[0]
    ]


def _last(run: Run) -> dict[str, float]:
    """Average statistics over the last tenth of training, because one batch is noisy."""
    last = run.history[-max(1, len(run.history) // 10) :]
    names = ("reconstruction", "kl", "overlap", "shape_overlap", "empty_maps")
    return {name: float(np.mean([getattr(stats, name) for stats in last])) for name in names}


def paired_difference(
    name: str, first: Sequence[float], second: Sequence[float]
) -> PairedDifference:
    """Compute the mean difference of pairs with its 95% Student t interval.

    The interval assumes that the differences are independent draws of one normal distribution.
    """
    differences = np.subtract(second, first)
    defined = differences[np.isfinite(differences)]
    mean = float(defined.mean()) if defined.size else math.nan
    half_width = math.nan
    if defined.size > 1:
        quantile = stats.t.ppf(0.5 + CONFIDENCE / 2, defined.size - 1)
        half_width = float(quantile * defined.std(ddof=1) / math.sqrt(defined.size))
    return PairedDifference(
        name=name,
        first=float(np.mean(first)),
        second=float(np.mean(second)),
        differences=tuple(differences.tolist()),
        mean=mean,
        low=mean - half_width,
        high=mean + half_width,
    )
