#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is written is what the program does: the reference of the verbs, completion, the exit
codes."""

import os
import subprocess

from cloud import MILLRACE, ROOT, require, script


def the_reference_of_the_verbs_is_what_help_says():
    made = subprocess.run(
        [os.path.join(ROOT, "tools", "cli-reference"), MILLRACE],
        text=True,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    with open(os.path.join(ROOT, "docs", "reference", "cli.md"), encoding="utf-8") as f:
        require(f.read() == made, "run: tools/cli-reference > docs/reference/cli.md")


def bash_completes_verbs_and_options():
    completion = subprocess.run(
        [MILLRACE, "completion", "bash"], text=True, stdout=subprocess.PIPE, check=True
    ).stdout
    asks = (
        'COMP_WORDS=(millrace qu); COMP_CWORD=1; _millrace; echo "${COMPREPLY[@]}"\n'
        'COMP_WORDS=(millrace up --li); COMP_CWORD=2; _millrace; echo "${COMPREPLY[@]}"\n'
    )
    out = subprocess.run(
        ["bash"], input=completion + asks, text=True, stdout=subprocess.PIPE, check=True
    ).stdout.split()
    require(out == ["queue", "--listen"], f"{out}")


script(the_reference_of_the_verbs_is_what_help_says, bash_completes_verbs_and_options)
