"""A gate as JUnit XML, which every CI system shows: one test case a check, one a changed episode.

The dialect is the one that Jenkins, GitLab and GitHub's report actions share: ``failure`` for a regression, ``error``
for what could not be decided, and no time stamps, so that the same gate gives the same bytes.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from rdvla_bench.leaderboards.gate import Gate

CLASS = "rdvla_bench.gate"

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2


def junit(gate: Gate) -> str:
    """Return the XML text."""
    cases = [_case(check.name, check.verdict, f"{check.line} {check.advice}".strip()) for check in gate.checks]
    cases += [_case(text.partition(":")[0], "regression", text) for text in gate.changed]
    name = f"gate {gate.run.policy['name']} under {gate.run.protocol['name']}"
    return _document(name, cases, "\n".join([gate.line, *gate.notes]))


def junit_of_refusal(message: str) -> str:
    """Return the XML text of a gate that could not be asked: one error."""
    return _document("gate", [_case("gate", "undecided", message)], message)


def _document(name: str, cases: list[ET.Element], output: str) -> str:
    suite = ET.Element(
        "testsuite",
        name=_clean(name),
        tests=str(len(cases)),
        failures=str(sum(case.find("failure") is not None for case in cases)),
        errors=str(sum(case.find("error") is not None for case in cases)),
        skipped="0",
    )
    suite.extend(cases)
    _text(ET.SubElement(suite, "system-out"), output)
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _case(name: str, verdict: str, line: str) -> ET.Element:
    case = ET.Element("testcase", classname=CLASS, name=_clean(name))
    if verdict == "pass":
        _text(ET.SubElement(case, "system-out"), line)
    else:
        kind = "failure" if verdict == "regression" else "error"
        _text(ET.SubElement(case, kind, type=verdict, message=_clean(line)), line)
    return case


def _text(element: ET.Element, text: str) -> None:
    element.text = _clean(text)


def _clean(text: str) -> str:
    return _NOT_XML.sub("?", text)
