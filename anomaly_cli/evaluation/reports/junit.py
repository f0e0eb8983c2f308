"""Reports as JUnit XML: each category is a test suite, each bar a test case."""

import math
from xml.etree import ElementTree as ET

from anomaly_cli.errors import AnomalyCliError
from anomaly_cli.evaluation.metric_names import KEYS
from anomaly_cli.evaluation.reports.wording import bar_name, verdict
from anomaly_cli.evaluation.results import EvaluationReport, Gate
from anomaly_cli.files.numbers import visible


def to_junit(report: EvaluationReport) -> str:
    """Format a report as JUnit XML with the bars as test cases.

    A category without bars has one test case, `evaluated`. A category that failed has this case as
    an error, in addition to its bars.
    """
    failed = sum(not gate.is_met for gate in report.gates)
    errors = {failure.category: failure.error for failure in report.failures}
    suites = ET.Element("testsuites", name="anomaly-cli evaluate")
    rows = {row.category: row for row in report.rows}
    scopes = list(dict.fromkeys([*rows, *errors, *(gate.category for gate in report.gates)]))
    cases = 0
    for scope in scopes:
        gates = [gate for gate in report.gates if gate.category == scope]
        suite = ET.SubElement(suites, "testsuite", name=visible(scope))
        if scope in rows:
            _add_properties(suite, {name: getattr(rows[scope], name) for name in KEYS})
        for gate in gates:
            _add_case(suite, gate)
        if scope in errors:
            _add_error(suite, scope, errors[scope])
        elif not gates:
            ET.SubElement(suite, "testcase", name="evaluated", classname=visible(scope))
        count = len(suite.findall("testcase"))
        _count(suite, count, sum(not gate.is_met for gate in gates), scope in errors)
        cases += count
    _count(suites, cases, failed, len(errors))
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, "unicode") + "\n"


def _add_properties(suite: ET.Element, metrics: dict[str, float]) -> None:
    properties = ET.SubElement(suite, "properties")
    for name, value in metrics.items():
        text = f"{value:.6f}" if math.isfinite(value) else "n/a"
        ET.SubElement(properties, "property", name=name, value=text)


def _add_case(suite: ET.Element, gate: Gate) -> None:
    case = ET.SubElement(
        suite, "testcase", name=bar_name(gate), classname=visible(gate.category), time="0"
    )
    if not gate.is_met:
        text = visible(verdict(gate))
        failure = ET.SubElement(case, "failure", type="bar", message=text)
        failure.text = text


def _add_error(suite: ET.Element, category: str, error: AnomalyCliError) -> None:
    case = ET.SubElement(suite, "testcase", name="evaluated", classname=visible(category))
    text = visible(str(error))
    problem = ET.SubElement(case, "error", type=type(error).__name__, message=text)
    problem.text = text


def _count(element: ET.Element, tests: int, failures: int, errors: int) -> None:
    for name, value in {"tests": tests, "failures": failures, "errors": int(errors)}.items():
        element.set(name, str(value))
