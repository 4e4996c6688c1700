#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The harness is tested too: what tools/test counts, and what a fuzz replay does when a target
dies.

Prints TAP. A harness that calls a failure a pass would make every other test worthless.
"""
import contextlib
import glob
import importlib.machinery
import importlib.util
import io
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True  # tools/test has no suffix, its cache would lie beside it

CMOCKA = """[==========] Running 4 test(s).
[ RUN      ] one_is_one
[       OK ] one_is_one
[ RUN      ] two_is_two
[  ERROR   ] --- 0x2 != 0x3
[  FAILED  ] two_is_two
[ RUN      ] three_needs_a_gpu
[  SKIPPED ] three_needs_a_gpu
[ RUN      ] four_is_four
[       OK ] four_is_four
[==========] 4 test(s) run.
[  PASSED  ] 2 test(s).
[  SKIPPED ] 1 test(s), listed below:
[  SKIPPED ] three_needs_a_gpu
[  FAILED  ] 1 test(s), listed below:
[  FAILED  ] two_is_two
"""
TAP = """1..4
ok 1 - a_claim
not ok 2 - another_claim
# file.c:3: what was found
# file.c:4: and more
ok 3 - a_third # SKIP no node here
ok 4 - a_fourth
"""
TARGET = """
#include "base/base.h"
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    STATEMENT
    return 0;
}
"""


def tools_test():
    loader = importlib.machinery.SourceFileLoader("tools_test", os.path.join(ROOT, "tools", "test"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("tools_test", loader))
    loader.exec_module(module)
    return module


HARNESS = tools_test()


def counted(output, code, timed_out=False):
    """(passed, names that failed, names that were skipped) of one program's end."""
    results = HARNESS.Results()
    with contextlib.redirect_stdout(io.StringIO()):
        HARNESS.collect(results, "t", output, code, timed_out)
    return (results.passed, [name for name, _ in results.failed],
            [name for name, _ in results.skipped])


def cmocka_cases_are_counted_each_once():
    assert counted(CMOCKA, 1) == (2, ["t: two_is_two"], ["t: three_needs_a_gpu"])


def tap_cases_are_counted_with_their_reasons():
    results = HARNESS.Results()
    with contextlib.redirect_stdout(io.StringIO()):
        HARNESS.collect(results, "t", TAP, 1)
    assert results.passed == 2
    assert results.failed == [("t: another_claim", "file.c:3: what was found (and more, above)")]
    assert results.skipped == [("t: a_third", "no node here")]


def a_program_without_cases_is_one_case():
    assert counted("some words\n", 0) == (1, [], [])
    assert counted("some words\n", 1) == (0, ["t"], [])


def exit_code_77_is_one_skip_with_its_last_line_as_reason():
    results = HARNESS.Results()
    HARNESS.collect(results, "t", "looking\nno GPU here\n", 77)
    assert (results.passed, results.failed, results.skipped) == (0, [], [("t", "no GPU here")])


def a_crash_behind_passed_cases_is_a_failure():
    passed = "[==========] Running 2 test(s).\n[       OK ] one_is_one\n"
    assert counted(passed, -11) == (1, ["t"], [])
    assert counted(passed, 66) == (1, ["t"], [])


def a_failed_case_behind_exit_code_0_is_a_failure():
    assert counted(TAP, 0)[1] == ["t: another_claim"]
    assert counted(CMOCKA, 0)[1] == ["t: two_is_two"]


def a_program_that_was_stopped_is_a_failure():
    assert counted("ok 1 - a_claim\n", 0, timed_out=True) == (1, ["t"], [])


def an_unknown_step_is_wrong_usage():
    done = subprocess.run([os.path.join(ROOT, "tools", "test"), "unti"], capture_output=True)
    assert done.returncode == 2


def built_target(folder, statement):
    source = os.path.join(folder, "target.c")
    program = os.path.join(folder, "fuzz_target")
    with open(source, "w", encoding="utf-8") as file:
        file.write(TARGET.replace("STATEMENT", statement))
    subprocess.run(["gcc", "-g", "-w", "-D_GNU_SOURCE", "-fsanitize=address", "-I",
                    os.path.join(ROOT, "src"), source,
                    os.path.join(ROOT, "tests", "fuzz", "replay.c"),
                    *glob.glob(os.path.join(ROOT, "src", "base", "*.c")), "-o", program],
                   check=True)
    return program


def replay(program, *arguments):
    return subprocess.run([program, *arguments], cwd=os.path.dirname(program), capture_output=True,
                          text=True, errors="replace")


def a_replay_finds_a_planted_fault_and_keeps_its_input():
    faults = {
        "over-read": "volatile uint8_t last = size > 40 ? data[size] : 0; (void)last;",
        "panic": "MR_ASSERT(size < 40);",
        "signal": "if (size > 40) { __builtin_trap(); }",
    }
    for name, statement in faults.items():
        with tempfile.TemporaryDirectory() as folder:
            program = built_target(folder, statement)
            first = replay(program, "--runs", "5000")
            kept = os.path.join(folder, "crash_fuzz_target.bin")
            assert first.returncode != 0, f"{name} was not found"
            assert "died in run" in first.stderr, first.stderr
            assert os.path.getsize(kept) >= 40, f"{name}: the input was not kept"
            assert replay(program, kept).returncode != 0, f"{name}: its input does not repeat it"


def a_replay_is_the_same_every_time_for_a_seed():
    with tempfile.TemporaryDirectory() as folder:
        program = built_target(folder, "extern int dprintf(int fd, const char *format, ...);"
                                       "static uint64_t h; h = mr_hash64(data, size, h);"
                                       "dprintf(2, \"%016llx\\n\", (unsigned long long)h);")
        with open(os.path.join(folder, "seed"), "wb") as file:
            file.write(b"GET / HTTP/1.1\r\n\r\n")
        runs = [replay(program, "--runs", "300", "--seed", seed, "seed").stderr
                for seed in ("7", "7", "8")]
        assert len(runs[0].splitlines()) == 301, runs[0][:300]
        assert runs[0] == runs[1]
        assert runs[0] != runs[2]


CASES = [
    cmocka_cases_are_counted_each_once,
    tap_cases_are_counted_with_their_reasons,
    a_program_without_cases_is_one_case,
    exit_code_77_is_one_skip_with_its_last_line_as_reason,
    a_crash_behind_passed_cases_is_a_failure,
    a_failed_case_behind_exit_code_0_is_a_failure,
    a_program_that_was_stopped_is_a_failure,
    an_unknown_step_is_wrong_usage,
    a_replay_finds_a_planted_fault_and_keeps_its_input,
    a_replay_is_the_same_every_time_for_a_seed,
]


def main():
    failed = 0
    print(f"1..{len(CASES)}")
    for number, case in enumerate(CASES, 1):
        try:
            case()
            print(f"ok {number} - {case.__name__}")
        except (AssertionError, subprocess.CalledProcessError) as error:
            failed += 1
            print(f"not ok {number} - {case.__name__}\n# {error!r}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
