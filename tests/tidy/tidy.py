#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the tree against our rules: tidy.py SOURCE_FOLDER BUILD_FOLDER [CLAIM...].

Prints TAP: one case for each rule, its findings behind it as remarks. exceptions.txt names what is
allowed to be over a limit; it may only shrink (see README.md).
"""
import os
import sys

import checks_build
import checks_text
from tree import Tree

FINDINGS_SHOWN = 15
EXCEPTIONS = "tests/tidy/exceptions.txt"
CHECKS = checks_text.CHECKS + checks_build.CHECKS


def exceptions_of(tree):
    """{(claim, key): value}, and the findings about lines that cannot be read."""
    table, findings = {}, []
    if EXCEPTIONS not in tree.files:
        return table, findings
    for number, line in enumerate(tree.read(EXCEPTIONS).splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) != 3 or not words[2].isdigit() or "#" not in line:
            findings.append(f"{EXCEPTIONS}:{number}: want: claim path[:function] value # why")
            continue
        table[(words[0], words[1])] = int(words[2])
    return table, findings


def without_exceptions(claim, findings, allowed, used):
    """Texts of the findings that no exception covers; used: {(claim, key): measured value}."""
    texts = []
    for finding in findings:
        if isinstance(finding, str):
            texts.append(finding)
            continue
        key, value, text = finding
        used[(claim, key)] = value
        if value > allowed.get((claim, key), -1):
            texts.append(text)
    return texts


def exceptions_only_shrink(allowed, used, claims_run):
    findings = []
    for (claim, key), value in allowed.items():
        if claim not in claims_run:
            findings.append(f"{EXCEPTIONS}: '{claim}' is no claim that takes exceptions")
        elif (claim, key) not in used:
            findings.append(f"{EXCEPTIONS}: {key} needs no exception from {claim} any more: "
                            "remove its line")
        elif used[(claim, key)] < value:
            findings.append(f"{EXCEPTIONS}: {key} is down to {used[(claim, key)]}: lower its line "
                            f"from {value}")
    return findings


def run(tree, wanted=None):
    """[(claim, findings)] in order."""
    allowed, unreadable = exceptions_of(tree)
    used, results = {}, []
    for check in CHECKS:
        claim = check.__name__
        if wanted and claim not in wanted:
            continue
        results.append((claim, without_exceptions(claim, check(tree), allowed, used)))
    if not wanted or "exceptions_only_shrink" in wanted:
        claims = {check.__name__ for check in CHECKS}
        if wanted:
            for check in CHECKS:
                if check.__name__ in {claim for claim, _ in allowed}:
                    without_exceptions(check.__name__, check(tree), allowed, used)
        results.append(("exceptions_only_shrink",
                        unreadable + exceptions_only_shrink(allowed, used, claims)))
    return results


def main():
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    tree = Tree(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]))
    results = run(tree, set(sys.argv[3:]))
    print(f"1..{len(results)}")
    for number, (claim, findings) in enumerate(results, 1):
        print(f"{'not ok' if findings else 'ok'} {number} - {claim}")
        for finding in findings[:FINDINGS_SHOWN]:
            print(f"# {finding}")
        if len(findings) > FINDINGS_SHOWN:
            print(f"# … and {len(findings) - FINDINGS_SHOWN} more")
    return 1 if any(findings for _, findings in results) else 0


if __name__ == "__main__":
    sys.exit(main())
