#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every check finds the fault that is planted for it, and finds nothing in a tree without one.

Prints TAP. A check without a plant here fails the last case, so that no check can be added that
never fails.
"""
import os
import subprocess
import sys
import tempfile

import checks_text
import tidy
from tree import Source, Tree

SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"
TOP = SPDX + "/* Does one thing.\n *\n * Owns: nothing.\n */\n"
LAYERS = """# module grade may include
base P0
core P0 base
proto P1 base
gate P1 base proto
cmd P2 base core proto gate
"""
# A tree that keeps every rule: what the plants are put into.
CLEAN = {
    "LAYERS": LAYERS,
    "README.md": "# Clean\n\nSee [base](src/base/README.md#the-idea).\n",
    "src/base/README.md": "# Base\n\n## The idea\n",
    "src/core/README.md": "# Core\n",
    "src/gate/README.md": "# Gate\n",
    "src/base/base.h": SPDX + "/* The ground. */\n#ifndef MR_BASE_H\n#define MR_BASE_H\n\n"
                              "int mr_one(void);\n\n#endif\n",
    "src/base/base.c": TOP + "#include \"base/base.h\"\n\nint mr_one(void)\n{\n    return 1;\n}\n",
    "src/core/core.c": TOP + "#include \"base/base.h\"\n\nint core_two(void);\n\n"
                             "int core_two(void)\n{\n    return mr_one() + mr_one();\n}\n",
    "src/gate/gate.c": TOP + "int gate_three(void);\n\nint gate_three(void)\n{\n    return 3;\n}\n",
}


def function(name, body):
    return f"int {name}(void);\n\nint {name}(void)\n{{\n{body}    return 0;\n}}\n"


SRC = "src/gate/gate_more.c"
CORE = "src/core/core_more.c"
STATEMENTS = "".join(f"    (void){i};\n" for i in range(80))
MAKE_ROOT = "/ro" + "ot/"

# claim: list of {path: text}; each of them must make that claim fail.
PLANTS = {
    "includes_follow_the_layer_table": [
        {CORE: TOP + "#include \"gate/gate.h\"\n"},
        {SRC: TOP + "#include \"core/core.h\"\n"},
        {"src/extra/extra.c": TOP},
        {SRC: TOP + "#include \"nowhere/x.h\"\n"},
    ],
    "private_headers_stay_in_their_folder_and_say_so": [
        {CORE: TOP + "#include \"base/base_int.h\"\n"},
        {"src/gate/gate_int.h": SPDX + "/* Some helpers. */\n"},
    ],
    "no_banned_function_is_called": [
        {SRC: TOP + function("gate_more", f"    {name}(0);\n")}
        for name in list(checks_text.BANNED) + list(checks_text.BANNED_IN_SRC)
    ] + [{SRC: TOP + "#include <assert.h>\n"}],
    "comments_are_between_slash_and_star": [{SRC: TOP + "int x; // why\n"}],
    "every_source_has_its_licence_line": [
        {SRC: "/* Does one thing.\n * a\n * b\n */\n"},
        {"tools/thing": "#!/bin/sh\necho\n"},
        {"src/gate/meson.build": "gate_dep = 1\n"},
    ],
    "every_source_opens_with_what_it_is": [
        {SRC: SPDX + "int x;\n"},
        {SRC: SPDX + "/* Short. */\n"},
    ],
    "lines_are_at_most_100_columns": [
        {SRC: TOP + "/* " + "x" * 95 + " */\n"},
        {SRC: TOP + "int\tx;\n"},
    ],
    "files_are_at_most_1000_lines": [{SRC: TOP + "\n" * 1000}],
    "functions_are_at_most_70_lines": [{SRC: TOP + function("gate_more", STATEMENTS)}],
    "complexity_is_at_most_15_in_core_and_30_elsewhere": [
        {CORE: TOP + function("core_more", "    if (1) return 1;\n" * 15)},
        {SRC: TOP + function("gate_more", "    if (1 && 2 || 3) return 1;\n" * 10)},
    ],
    "core_computes_without_floats": [
        {CORE: TOP + "static const double share = 1;\n"},
        {CORE: TOP + function("core_more", "    (void)(3 * 0.5);\n")},
    ],
    "core_does_not_recurse": [
        {CORE: TOP + function("core_more", "    core_more();\n")},
        {CORE: TOP + function("core_more", "    core_other();\n") + "\n" +
               function("core_other", "    core_more();\n")},
    ],
    "file_names_are_unique": [{"src/core/gate.c": TOP}],
    "every_source_folder_has_a_readme": [{"src/proto/proto.c": TOP}],
    "no_fixme_and_no_todo_without_its_issue": [
        {SRC: TOP + "/* FIX" + "ME */\n"},
        {SRC: TOP + "/* TO" + "DO: later */\n"},
    ],
    "no_path_of_one_machine_is_in_the_tree": [
        {"docs/x.md": f"Look into {MAKE_ROOT}secret\n"},
        {SRC: TOP + f"static const char *home = \"{MAKE_ROOT}home\";\n"},
    ],
    "sources_are_formatted": [{SRC: TOP + "int   x;\n"}],
    "links_in_documents_resolve": [
        {"docs/x.md": "[gone](gone.md)\n"},
        {"docs/x.md": "[gone](../README.md#no-such-heading)\n"},
    ],
    "documents_named_in_top_comments_exist": [
        {SRC: SPDX + "/* Does one thing.\n *\n * Idea: docs/internals/gone.md\n */\n"},
    ],
    "p0_archives_need_only_memory_and_strings": [
        {CORE: TOP + "#include <stdlib.h>\n\nvoid *core_more(void);\n\n"
                     "void *core_more(void)\n{\n    return malloc(1);\n}\n"},
        {CORE: TOP + "#include <stdio.h>\n\n" + function("core_more", "    puts(\"x\");\n")},
        {CORE: TOP + "void *mr_alloc(unsigned long n);\n" +
               function("core_more", "    (void)mr_alloc(1);\n")},
        {"src/base/base_more.c": TOP + "#include <time.h>\n\n" +
                                 function("mr_more", "    (void)time(0);\n")},
    ],
    "p1_archives_reach_no_clock_file_socket_or_thread": [
        {SRC: TOP + "#include <time.h>\n\n" + function("gate_more", "    (void)time(0);\n")},
        {SRC: TOP + "#include <stdio.h>\n\n" +
              function("gate_more", "    fprintf(stderr, \"%d\", 1);\n")},
        {SRC: TOP + "#include <pthread.h>\n\n" +
              function("gate_more", "    (void)pthread_self();\n    pthread_exit(0);\n")},
        {SRC: TOP + "int uv_run(void);\n" + function("gate_more", "    (void)uv_run();\n")},
        {"src/proto/proto.c": TOP, "no archive": ""},
    ],
    "pure_modules_hold_no_mutable_globals": [
        {SRC: TOP + "static int calls = 1;\n\n" + function("gate_more", "    calls++;\n")},
        {SRC: TOP + function("gate_more", "    static int calls;\n    calls++;\n")},
        {SRC: TOP + "static const char *names[] = {\"a\"};\n\n" +
              function("gate_more", "    names[0] = 0;\n")},
        {CORE: TOP + "_Thread_local int core_depth;\n"},
    ],
    "global_symbols_carry_their_modules_prefix": [
        {SRC: TOP + function("helper", "")},
        {SRC: TOP + "int counter = 1;\n"},
    ],
    "every_header_compiles_alone": [
        {"src/gate/gate_more.h": SPDX + "/* A header. */\nsize_t gate_more(void);\n"},
    ],
    "exceptions_only_shrink": [
        {tidy.EXCEPTIONS: "functions_are_at_most_70_lines src/gate/gate.c:gate_three 80 # old\n"},
        {tidy.EXCEPTIONS: "no_such_claim src/gate/gate.c 80 # old\n"},
        {tidy.EXCEPTIONS: "functions_are_at_most_70_lines src/gate/gate.c:gate_three 80\n"},
        {tidy.EXCEPTIONS: "functions_are_at_most_70_lines " + SRC + ":gate_more 90 # old\n",
         SRC: TOP + function("gate_more", STATEMENTS)},
    ],
}


def write(root, files):
    for path, text in files.items():
        if path == "no archive":
            continue
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)


def build(root, without=()):
    """What the build would leave: an archive for each module of src."""
    out = os.path.join(root, "build")
    for module in sorted(os.listdir(os.path.join(root, "src"))):
        if module in without:
            continue
        folder = os.path.join(out, "src", module)
        os.makedirs(folder, exist_ok=True)
        objects = []
        for name in sorted(os.listdir(os.path.join(root, "src", module))):
            if name.endswith(".c"):
                objects.append(os.path.join(folder, name + ".o"))
                subprocess.run(["gcc", "-w", "-fno-builtin", "-I", os.path.join(root, "src"), "-c",
                                os.path.join(root, "src", module, name), "-o", objects[-1]],
                               check=True)
        if objects:
            subprocess.run(["ar", "rc", os.path.join(folder, f"libmr_{module}.a"), *objects],
                           check=True)
    return out


def findings_in(files, claim, needs_build):
    with tempfile.TemporaryDirectory() as root:
        write(root, CLEAN)
        with open(os.path.join(os.path.dirname(__file__), "..", "..", ".clang-format"),
                  encoding="utf-8") as style:
            write(root, {".clang-format": style.read()})
        write(root, files)
        out = build(root, ("proto",) if "no archive" in files else ()) if needs_build else root
        return dict(tidy.run(Tree(root, out), {claim} if claim else None))


def the_function_counter_counts_right():
    source = Source("x.c", "static int a(int b)\n{\n    if (b && b > 1) return 1; /* if */\n"
                           "    return b ? 2 : 3;\n}\n\nstruct s {\n    int x;\n};\n\n"
                           "void *long_name(int b,\n                int c)\n{\n    for (;;) {\n"
                           "    }\n}\n")
    return source.functions() == [("a", 2, 4, 4), ("long_name", 13, 4, 2)]


def main():
    cases = []
    build_claims = {c.__name__ for c in tidy.checks_build.CHECKS}
    clean = findings_in({}, None, True)
    cases.append(("a_clean_tree_has_no_finding", not any(clean.values()),
                  [f"{claim}: {found}" for claim, found in clean.items() if found]))
    for claim, plants in PLANTS.items():
        missed = [list(plant) for plant in plants
                  if not findings_in(plant, claim, claim in build_claims).get(claim)]
        cases.append((f"{claim}__can_fail", not missed, [f"not found: {m}" for m in missed]))
    allowed = {tidy.EXCEPTIONS: f"functions_are_at_most_70_lines {SRC}:gate_more 83 # a reason\n",
               SRC: TOP + function("gate_more", STATEMENTS)}
    found = findings_in(allowed, "functions_are_at_most_70_lines", False)
    cases.append(("an_exception_covers_what_it_names", not any(found.values()), [str(found)]))
    cases.append(("the_function_counter_counts_right", the_function_counter_counts_right(), []))
    every = {c.__name__ for c in tidy.CHECKS} | {"exceptions_only_shrink"}
    cases.append(("every_check_has_a_planted_fault", every == set(PLANTS),
                  [f"without a plant: {every - set(PLANTS)}"]))
    print(f"1..{len(cases)}")
    for number, (name, passed, remarks) in enumerate(cases, 1):
        print(f"{'ok' if passed else 'not ok'} {number} - {name}")
        for remark in [] if passed else remarks:
            print(f"# {remark}")
    return 0 if all(passed for _, passed, _ in cases) else 1


if __name__ == "__main__":
    sys.exit(main())
