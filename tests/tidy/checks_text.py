# SPDX-License-Identifier: Apache-2.0
"""Checks that need the text alone. Each gives a list of findings; its name is the claim."""

import os
import re
import subprocess

from tree import OURS, module_of

COLUMNS_MAX = 100
FILE_LINES_MAX = 1000
FUNCTION_LINES_MAX = 70
COMPLEXITY_MAX = {"core": 15}
COMPLEXITY_MAX_ELSEWHERE = 30
TOP_COMMENT_LINES_MIN = 3

BANNED = {
    "strcpy": "mr_buf_put_str or memcpy with a checked length",
    "strcat": "mr_buf_put_str",
    "sprintf": "mr_buf_printf, or snprintf into a sized array",
    "vsprintf": "vsnprintf",
    "strtok": "mr_str_split",
    "atoi": "mr_str_to_i64",
    "atol": "mr_str_to_i64",
    "strtol": "mr_str_to_i64",
    "strtoul": "mr_str_to_u64",
    "gets": "a reader with a limit",
    "rand": "mr_prng_next",
    "srand": "mr_prng_init",
    "time": "the time that the event or the env carries",
    "dup": "fcntl(fd, F_DUPFD_CLOEXEC, 0)",
    "system": "loop's children",
    "popen": "loop's children",
    "basename": "a split at the last '/'",
    "localtime": "mr_time_put_rfc3339",
}
BANNED_IN_SRC = {
    "exit": "an error that cmd acts on",
    "abort": "MR_ASSERT",
}
CALL = re.compile(r"(?<![\w.>])(\w+)\s*\(")


def includes_follow_the_layer_table(tree):
    layers = tree.layers()
    findings = []
    for path in tree.c_files(OURS):
        module = module_of(path)
        if module is None:
            continue
        if module not in layers:
            findings.append(f"{path}: module '{module}' is not in LAYERS: give it a line there")
            continue
        for line, included in tree.source(path).includes():
            target = included.split("/")[0]
            if "/" not in included or target == module:
                continue
            if target not in layers:
                findings.append(f'{path}:{line}: "{included}" belongs to no module of LAYERS')
            elif target not in layers[module][1]:
                findings.append(
                    f"{path}:{line}: {module} may not include {target}; it may include: "
                    f"{' '.join(sorted(layers[module][1])) or 'nothing'}"
                )
    return findings


def private_headers_stay_in_their_folder_and_say_so(tree):
    findings = []
    for path in tree.c_files(OURS):
        source = tree.source(path)
        for line, included in source.includes():
            if (
                included.endswith("_int.h")
                and "/" in included
                and included.split("/")[0] != module_of(path)
            ):
                findings.append(
                    f"{path}:{line}: {included} is private to its folder: include the "
                    "module's header"
                )
        if path.endswith("_int.h") and "rivate" not in "\n".join(source.lines[1:3]):
            findings.append(
                f"{path}:2: a private header says so in its first line: " "'Private to …'"
            )
    return findings


def no_banned_function_is_called(tree):
    findings = []
    for path in tree.c_files():
        source = tree.source(path)
        banned = dict(BANNED)
        if path.startswith("src/"):
            banned.update(BANNED_IN_SRC)
        for number, line in enumerate(source.code_lines, 1):
            for name in CALL.findall(line):
                if name in banned:
                    findings.append(f"{path}:{number}: {name}: use {banned[name]}")
        for number, line in enumerate(source.lines, 1):
            if re.match(r"\s*#\s*include\s*<assert\.h>", line):
                findings.append(f"{path}:{number}: assert.h: use MR_ASSERT or _Static_assert")
    return findings


def comments_are_between_slash_and_star(tree):
    return [
        f"{path}:{line}: // comment: write /* … */"
        for path in tree.c_files()
        for line in tree.source(path).slash_comments
    ]


def every_source_has_its_licence_line(tree):
    findings = []
    for path, text in tree.texts():
        name = os.path.basename(path)
        if not (
            name.endswith((".c", ".h", ".py", ".sh", ".mjs", ".cjs", ".js"))
            or name == "meson.build"
            or path.startswith(("tools/", ".ci/"))
        ):
            continue
        if "SPDX-License-Identifier: Apache-2.0" not in "\n".join(text.split("\n")[:3]):
            findings.append(f"{path}:1: no SPDX-License-Identifier line: see base.h for its form")
    return findings


def every_source_opens_with_what_it_is(tree):
    findings = []
    for path in tree.c_files():
        lines = tree.source(path).lines
        if len(lines) < 2 or not lines[1].startswith("/* "):
            findings.append(f"{path}:2: no top comment: what it does, in the order of the rules")
            continue
        end = next((i for i, line in enumerate(lines[1:], 2) if "*/" in line), len(lines))
        if path.split("/")[0] in OURS and path.endswith(".c") and end - 1 < TOP_COMMENT_LINES_MIN:
            findings.append(
                f"{path}:2: the top comment has {end - 1} lines, at least "
                f"{TOP_COMMENT_LINES_MIN}: what it owns, its invariants, its cost"
            )
    return findings


def lines_are_at_most_100_columns(tree):
    findings = []
    for path, text in tree.texts():
        if not path.endswith((".c", ".h", ".py", "meson.build", ".sh")):
            continue
        for number, line in enumerate(text.split("\n"), 1):
            if len(line) > COLUMNS_MAX:
                findings.append(f"{path}:{number}: {len(line)} columns, at most {COLUMNS_MAX}")
            if "\t" in line and path.endswith((".c", ".h")):
                findings.append(f"{path}:{number}: a tab: four spaces")
    return findings


def files_are_at_most_1000_lines(tree):
    """Findings as (key, value, text), which an exception may cover."""
    findings = []
    for path in tree.c_files():
        count = len(tree.source(path).lines) - 1
        if count > FILE_LINES_MAX:
            findings.append(
                (
                    path,
                    count,
                    f"{path}: {count} lines, at most {FILE_LINES_MAX}: "
                    "split it by what belongs together",
                )
            )
    return findings


def functions_are_at_most_70_lines(tree):
    findings = []
    for path in tree.c_files():
        for name, line, count, _ in tree.source(path).functions():
            if count > FUNCTION_LINES_MAX:
                findings.append(
                    (
                        f"{path}:{name}",
                        count,
                        f"{path}:{line}: {name} has {count} lines, "
                        f"at most {FUNCTION_LINES_MAX}",
                    )
                )
    return findings


def complexity_is_at_most_15_in_core_and_30_elsewhere(tree):
    findings = []
    for path in tree.c_files():
        limit = COMPLEXITY_MAX.get(module_of(path), COMPLEXITY_MAX_ELSEWHERE)
        for name, line, _, value in tree.source(path).functions():
            if value > limit:
                findings.append(
                    (
                        f"{path}:{name}",
                        value,
                        f"{path}:{line}: {name} has complexity " f"{value}, at most {limit}",
                    )
                )
    return findings


def core_computes_without_floats(tree):
    """Equal inputs must give equal plans on every machine and compiler."""
    findings = []
    for path in tree.c_files():
        if not path.startswith("src/core/"):
            continue
        for number, line in enumerate(tree.source(path).code_lines, 1):
            if re.search(r"\b(?:float|double)\b|\b\d+\.\d", line):
                findings.append(
                    f"{path}:{number}: a floating-point number: integers in the " "smallest unit"
                )
    return findings


def core_does_not_recurse(tree):
    """The stack of a step is bounded: no function of core reaches itself."""
    calls = {}
    for path in tree.c_files():
        if path.startswith("src/core/") and path.endswith(".c"):
            for name, _, body in tree.source(path).bodies():
                calls.setdefault(name, set()).update(CALL.findall(body))
    findings = []
    for name in sorted(calls):
        reached, waiting = set(), [name]
        while waiting:
            for called in calls.get(waiting.pop(), set()):
                if called in calls and called not in reached:
                    reached.add(called)
                    waiting.append(called)
        if name in reached:
            findings.append(f"src/core: {name} can reach itself: make it a loop")
    return findings


def file_names_are_unique(tree):
    seen = {}
    findings = []
    for path in tree.c_files(OURS):
        if os.path.dirname(path) == "src/port":
            continue  # four headers, named after what they are a table of
        name = os.path.basename(path)
        if name in seen:
            findings.append(f"{path}: {seen[name]} has this name too: <module>_<part>.c")
        seen[name] = path
    return findings


def every_source_folder_has_a_readme(tree):
    folders = {os.path.dirname(path) for path in tree.c_files(OURS)}
    return [
        f"{folder}/README.md is missing: the idea before the functions"
        for folder in sorted(folders)
        if f"{folder}/README.md" not in tree.files
    ]


def no_fixme_and_no_todo_without_its_issue(tree):
    fixme, todo = "FIX" + "ME", "TO" + "DO"
    findings = []
    for path in tree.c_files():
        for number, line in enumerate(tree.source(path).lines, 1):
            if re.search(rf"\b{fixme}\b", line):
                findings.append(f"{path}:{number}: {fixme}: mend it or open an issue")
            if re.search(rf"\b{todo}\b(?!\(#\d+\))", line):
                findings.append(f"{path}:{number}: {todo} without an issue: {todo}(#12)")
    return findings


def no_path_of_one_machine_is_in_the_tree(tree):
    # Put together here, so that this file does not hold one itself. A bare /wo(r)k is the
    # sandbox's.
    words = re.compile(
        r"(?<![\w.}*)\]>$-])/(?:"
        + "|".join(["wo" + r"rk/(?:main|shared|\.)", "ro" + "ot/", "tmp/" + "wt/"])
        + ")"
    )
    findings = []
    for path, text in tree.texts():
        for number, line in enumerate(text.split("\n"), 1):
            match = words.search(line)
            if match:
                findings.append(f"{path}:{number}: '{match.group(0)}' is a path of one machine")
    return findings


def sources_are_formatted(tree):
    files = tree.c_files()
    if not files:
        return []
    done = subprocess.run(
        ["clang-format-19", "--dry-run", *files], cwd=tree.root, capture_output=True, text=True
    )
    differ = set(re.findall(r"^(\S+?):\d+:\d+: (?:warning|error): code should", done.stderr, re.M))
    if done.returncode != 0 and not differ:
        return [f"clang-format-19 failed: {done.stderr[:300]}"]
    return [f"{path}: differs from .clang-format: run `make format`" for path in sorted(differ)]


def anchors(text):
    """The fragments that a document's headings can be reached by, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+\s+(.*?)\s*#*$", text, re.M):
        plain = re.sub(r"[`*_]|\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        found.add(re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-"))
    return found


def links_in_documents_resolve(tree):
    findings = []
    for path in tree.files:
        if not path.endswith(".md"):
            continue
        text = re.sub(
            r"^```.*?^```",
            lambda m: "\n" * m.group(0).count("\n"),
            tree.read(path),
            flags=re.M | re.S,
        )
        for match in re.finditer(r"\[[^\]\n]*\]\(([^)\s]+)\)", text):
            target, _, fragment = match.group(1).partition("#")
            line = text.count("\n", 0, match.start()) + 1
            if re.match(r"[a-z]+:", target):
                continue
            full = os.path.normpath(os.path.join(os.path.dirname(path), target)) if target else path
            on_disk = os.path.join(tree.root, full)
            if not os.path.exists(on_disk):
                findings.append(f"{path}:{line}: {target} does not exist")
            elif fragment and full.endswith(".md") and fragment not in anchors(tree.read(full)):
                findings.append(f"{path}:{line}: {full} has no heading '#{fragment}'")
    return findings


def documents_named_in_top_comments_exist(tree):
    findings = []
    for path in tree.c_files():
        head = "\n".join(tree.source(path).lines[:30])
        for named in re.findall(r"\b((?:docs|tests|src|cmd|work)/[\w./-]+\w)", head):
            if "." in os.path.basename(named) and not os.path.exists(
                os.path.join(tree.root, named)
            ):
                findings.append(f"{path}: its top comment names {named}, which does not exist")
    return findings


CHECKS = [
    includes_follow_the_layer_table,
    private_headers_stay_in_their_folder_and_say_so,
    no_banned_function_is_called,
    comments_are_between_slash_and_star,
    every_source_has_its_licence_line,
    every_source_opens_with_what_it_is,
    lines_are_at_most_100_columns,
    files_are_at_most_1000_lines,
    functions_are_at_most_70_lines,
    complexity_is_at_most_15_in_core_and_30_elsewhere,
    core_computes_without_floats,
    core_does_not_recurse,
    file_names_are_unique,
    every_source_folder_has_a_readme,
    no_fixme_and_no_todo_without_its_issue,
    no_path_of_one_machine_is_in_the_tree,
    sources_are_formatted,
    links_in_documents_resolve,
    documents_named_in_top_comments_exist,
]
