"""Texts that the reports for people share."""

import math

from anomaly_cli.evaluation.results import CategoryMetrics, EvaluationReport, Gate
from anomaly_cli.files.numbers import at_least, at_most, rate_range_text, with_interval

STREAMING = (
    "Pixels were counted in histograms (streaming), so each pixel metric is known up to a range "
    "that holds the exact value for certain. A bar is met only if the low end of the range is. "
    "Intervals are wider by the range."
)
RANGES = "Ranges that hold the exact values (streaming counts)"


def exact_note(gate: Gate) -> str:
    """Format the low end of an inexact value, such as "at least 0.84990"; empty if exact."""
    is_exact = not math.isfinite(gate.value) or gate.at_least == gate.value
    return "" if is_exact else f"at least {at_least(gate.at_least)}"


def bar_name(gate: Gate) -> str:
    """Format a bar; the text is the same in every run, so that CI can track it."""
    if gate.baseline is None:
        return f"{gate.metric} >= {gate.bar:g}"
    return f"{gate.metric} >= baseline - {gate.baseline - gate.bar:.4g}"


def verdict(gate: Gate) -> str:
    """Describe the result of a bar in one line."""
    value = with_interval(gate.value, gate.interval)
    if note := exact_note(gate):
        value += f", {note},"
    if gate.baseline is None:
        relation = "reaches" if gate.is_met else "falls short of"
        return f"{gate.category}: {gate.metric} {value} {relation} {gate.bar:g}"
    old = with_interval(gate.baseline, gate.baseline_interval)
    if gate.baseline_at_most is not None and gate.baseline_at_most > gate.baseline:
        old += f", at most {at_most(gate.baseline_at_most)}"
    allowed = f"at most {gate.baseline - gate.bar:.4g} below"
    relation = "is" if gate.is_met else "is not"
    return f"{gate.category}: {gate.metric} {value} {relation} {allowed} the baseline's {old}"


def resolution_text(row: CategoryMetrics) -> str:
    """Describe the size at which pixels were compared."""
    if row.resolution is None:
        return "the size of each image"
    kept = ", masks by area" if row.mask_resizing == "area" else ""
    return f"{row.resolution} px{kept}"


def conditions(report: EvaluationReport) -> list[str]:
    """Describe how the numbers were computed, one sentence each."""
    rows = report.rows
    if not rows:
        return ["No category was evaluated."]
    maps = ", ".join(sorted({row.map for row in rows}))
    sizes = ", ".join(sorted({resolution_text(row) for row in rows}))
    scores = ", ".join(sorted({row.image_score for row in rows}))
    good = "take part" if any(row.good for row in rows) else "were left out"
    tables = ", ".join(sorted({row.table_threshold_rule for row in rows}))
    replicates = report.settings.get("replicates", 0)
    intervals = (
        f"Intervals are 95% percentile intervals of {replicates} draws of the test images, with "
        f"replacement within each defect type, seed {report.settings.get('seed')}."
        if replicates
        else "No intervals were computed."
    )
    return [
        *(
            [f"Means are of the {len(rows)} categories that were evaluated."]
            if report.failures
            else []
        ),
        f"Maps: {maps}. Pixels are compared at {sizes}.",
        *([STREAMING] if report.is_streaming else []),
        *(f"{row.category}: {row.lacks}." for row in rows if row.lacks),
        f"Normal images of the test split {good}. Image score: {scores} of the map.",
        f"IoU, precision and recall are {_threshold_text(report)}.",
        *_expected_rates(report),
        f"Tables per defect type and image are at the threshold of {tables}.",
        "What is called oracle has chosen its threshold on the test labels.",
        intervals,
    ]


def _expected_rates(report: EvaluationReport) -> list[str]:
    """Describe the range of each threshold's false-positive rate on new normal images.

    A rule keeps its rate on average over many models; one model may differ.
    """
    return [
        f"{row.category}: of new normal images the stored threshold calls "
        f"{rate_range_text(row.expected_rate_low, row.expected_rate_high)} (90% interval, by the "
        f"number of held-out ones)."
        for row in report.rows
        if math.isfinite(row.expected_rate_high)
    ]


def _threshold_text(report: EvaluationReport) -> str:
    rules = sorted({row.threshold_rule for row in report.rows if math.isfinite(row.threshold)})
    if not rules:
        return "undefined, because no threshold is stored or given"
    text = f"at the stored threshold, rule {', '.join(rules)}"
    if any(math.isfinite(row.normal_level) for row in report.rows):
        return f"{text}; regions end at the outline, or halfway up to their highest pixel"
    reaches = any(math.isfinite(row.outline) for row in report.rows)
    return f"{text}; regions end at the outline" if reaches else text
