/* SPDX-License-Identifier: Apache-2.0 */
/* What a program gets in the sandbox, what comes out, and how it ends at each of its limits. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox_box.h"

#define NOBODY 65534

static void program_runs_with_its_input_files_and_outputs(void **state)
{
    struct box box;
    (void)state;
    box_need();
    box_run(&box,
            "{\"command\":[\"sh\",\"-c\",\"cat; cat in/a.txt; echo e >&2; echo -n made > out.txt; "
            "mkdir d; echo deep > d/e; exit 7\"],"
            "\"stdin\":\"aGVsbG8K\",\"files\":{\"in/a.txt\":\"ZmlsZQo=\"},"
            "\"outputs\":[\"out.txt\",\"d/e\",\"none\"]}");
    assert_int_equal(box.exit_code, 7);
    assert_string_equal(box.out, "hello\nfile\n");
    box_want(&box, "\"kind\":\"code\",\"code\":7");
    box_want(&box, "\"stdout\":\"hello\\nfile\\n\"");
    box_want(&box, "\"stderr\":\"e\\n\"");
    box_want(&box, "\"out.txt\":\"bWFkZQ==\"");
    box_want(&box, "\"d/e\":\"ZGVlcAo=\"");
    box_want(&box, "\"missing\":[\"none\"]");
    box_want(&box, "\"truncated\":false");
}

static void code_runs_as_python_and_as_sh(void **state)
{
    struct box box;
    (void)state;
    box_need();
    box_run(&box, "{\"code\":\"import os, json\\nprint(os.getuid(), os.getcwd(), 6 * 7)\"}");
    assert_int_equal(box.exit_code, 0);
    assert_string_equal(box.out, "65534 /work 42\n");
    box_run(&box, "{\"code\":\"echo $0 $(id -u) $(hostname)\",\"language\":\"sh\"}");
    assert_string_equal(box.out, "main.sh 65534 sandbox\n");
}

static void threads_pipes_sockets_and_a_compiler_work_inside(void **state)
{
    struct box box;
    (void)state;
    box_need();
    box_run(&box,
            "{\"code\":\"import socket, subprocess, threading, multiprocessing as m, tempfile\\n"
            "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\\n"
            "c = socket.create_connection(s.getsockname()); c.sendall(b'x')\\n"
            "print(s.accept()[0].recv(1))\\n"
            "t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\\n"
            "q = m.Queue(); p = m.Process(target=q.put, args=(5,)); p.start(); print(q.get()); "
            "p.join()\\n"
            "print(subprocess.run(['sort'], input=b'b\\\\na\\\\n', capture_output=True).stdout)\\n"
            "tempfile.TemporaryFile().write(b'x')\\n\"}");
    assert_string_equal(box.out, "b'x'\nthread\n5\nb'a\\nb\\n'\n");
    assert_int_equal(box.exit_code, 0);
    if (access("/usr/bin/cc", X_OK) != 0) return;
    box_run(&box, "{\"code\":\"echo 'int main(void){return 9;}' > a.c && cc a.c -o a && ./a\","
                  "\"language\":\"sh\"}");
    assert_int_equal(box.exit_code, 9);
}

static void time_limit_ends_it_with_124(void **state)
{
    struct box box;
    (void)state;
    box_need();
    box_run(&box,
            "{\"command\":[\"sh\",\"-c\",\"echo begun; trap '' TERM; sleep 1000\"],\"time_s\":1}");
    assert_int_equal(box.exit_code, 124);
    assert_string_equal(box.out, "begun\n");
    box_want(&box, "\"kind\":\"time_limit\",\"code\":124");
    box_want(&box, "it ran into its time limit of 1 s");
}

static void memory_limit_ends_it_with_137(void **state)
{
    struct box box;
    (void)state;
    box_need();
    box_run(&box, "{\"code\":\"b = bytearray(300 << 20)\\nimport time\\ntime.sleep(30)\","
                  "\"memory\":\"64MiB\"}");
    assert_int_equal(box.exit_code, 137);
    box_want(&box, "\"kind\":\"out_of_memory\"");
    /* Spread over many processes it is the same memory. */
    box_run(&box, "{\"code\":\"import os, time\\nfor i in range(8):\\n if os.fork() == 0:\\n"
                  "  b = bytearray(os.urandom(16 << 20)); time.sleep(30)\\ntime.sleep(30)\","
                  "\"memory\":\"64MiB\"}");
    assert_int_equal(box.exit_code, 137);
    /* Shared with a child it counts once. */
    box_run(&box,
            "{\"code\":\"import os, time\\nb = bytearray(b'x') * (40 << 20)\\n"
            "if os.fork() == 0:\\n time.sleep(1)\\n os._exit(0)\\nos.wait()\\nprint('fits')\","
            "\"memory\":\"80MiB\"}");
    assert_string_equal(box.out, "fits\n");
}

static void output_flood_is_cut_and_the_program_goes_on(void **state)
{
    struct box box;
    (void)state;
    box_need();
    box_run(&box,
            "{\"command\":[\"sh\",\"-c\",\"head -c 3000000 /dev/zero | tr '\\\\0' x; exit 4\"],"
            "\"output_bytes\":1000}");
    assert_int_equal(box.exit_code, 4);
    assert_int_equal(strlen(box.out), 1000);
    box_want(&box, "\"truncated\":true");
    box_run(&box, "{\"command\":[\"sh\",\"-c\",\"head -c 1000 /dev/zero | tr '\\\\0' x\"],"
                  "\"output_bytes\":1000}");
    assert_int_equal(strlen(box.out), 1000);
    box_want(&box, "\"truncated\":false");
}

static void links_are_not_followed_for_outputs(void **state)
{
    struct box box;
    (void)state;
    box_need();
    box_run(&box,
            "{\"command\":[\"sh\",\"-c\",\"ln -s /etc/passwd a; ln -s /usr d; mkfifo p; mkdir q\"],"
            "\"outputs\":[\"a\",\"d/bin/env\",\"p\",\"q\"]}");
    assert_int_equal(box.exit_code, 0);
    box_want(&box, "\"files\":{},\"missing\":[\"a\",\"d/bin/env\",\"p\",\"q\"]");
}

static void what_cannot_be_run_is_named(void **state)
{
    struct box box;
    (void)state;
    box_need();
    box_run(&box, "{\"command\":[\"no-such-program\"]}");
    assert_int_equal(box.exit_code, 127);
    box_want(&box, "program not found: no-such-program");
    box_run(&box, "{\"command\":[\"/etc/passwd\"]}");
    assert_int_equal(box.exit_code, 126);
    box_run(&box, "{\"command\":[\"sh\",\"-c\",\"kill -11 $$\"]}");
    assert_int_equal(box.exit_code, 128 + 11);
    box_want(&box, "it was killed by signal 11 (Segmentation fault)");
}

static void wrong_document_is_refused_by_name(void **state)
{
    struct box box;
    (void)state;
    box_run(&box, "{\"command\":[\"true\"],\"tiem_s\":5}");
    assert_int_equal(box.exit_code, 125);
    box_want(&box, "sandbox.tiem_s is not known");
    assert_string_equal(box.out, "");
}

/* Does any process of the machine have this word in its command line? */
static bool lives(const char *word)
{
    char command[128];
    snprintf(command, sizeof command, "%s", word);
    for (int tries = 0; tries < 200; tries++) {
        bool found = false;
        for (int pid = 2; pid < 4194304 && !found; pid++) {
            char path[48], text[4096];
            snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            if (fd < 0) {
                if (pid > 200000) break; /* numbers are small on a test machine */
                continue;
            }
            ssize_t n = read(fd, text, sizeof text);
            close(fd);
            found = n > 0 && memmem(text, (size_t)n, command, strlen(command)) != NULL;
        }
        if (!found) return false;
        usleep(10000);
    }
    return true;
}

static void nothing_outlives_the_sandbox(void **state)
{
    struct box box;
    int out;
    (void)state;
    box_need();
    box_run(
        &box,
        "{\"command\":[\"sh\",\"-c\",\"setsid sleep 98761 & (setsid sleep 98761 &); exit 3\"]}");
    assert_int_equal(box.exit_code, 3);
    assert_false(lives("98761"));
    /* Not even when the keeper is killed. */
    box_make(&box, "{\"command\":[\"sh\",\"-c\",\"echo up; setsid sleep 98762 & sleep 98762\"]}");
    pid_t pid = box_start(&box, 0, &out);
    char byte;
    assert_int_equal(read(out, &byte, 1), 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
    box_wait(&box, pid, out);
    assert_int_equal(box.exit_code, 128 + SIGKILL);
    box_remove(&box);
    assert_false(lives("98762"));
}

static void stopping_it_is_told(void **state)
{
    struct box box;
    int out;
    char byte;
    (void)state;
    box_need();
    box_make(&box, "{\"command\":[\"sh\",\"-c\",\"echo up; sleep 1000\"]}");
    pid_t pid = box_start(&box, 0, &out);
    assert_int_equal(read(out, &byte, 1), 1);
    assert_int_equal(kill(pid, SIGTERM), 0);
    box_wait(&box, pid, out);
    box_remove(&box);
    assert_int_equal(box.exit_code, 128 + SIGTERM);
    box_want(&box, "it was stopped");
}

static void works_without_privilege(void **state)
{
    struct box box;
    int out;
    (void)state;
    box_need();
    if (getuid() != 0) {
        print_message("not root: all the other cases say it\n");
        skip();
    }
    box_make(&box,
             "{\"command\":[\"sh\",\"-c\",\"id -u; ls /home /root /etc/shadow; touch /usr/x\"]}");
    pid_t pid = box_start(&box, NOBODY, &out);
    box_wait(&box, pid, out);
    box_remove(&box);
    if (box.exit_code == 98 || strstr(box.result, "forbidden here") != NULL) {
        print_message("this kernel forbids it\n");
        skip();
    }
    assert_string_equal(box.out, "65534\n");
    assert_int_equal(box.exit_code, 1);
    box_want(&box, "cannot touch '/usr/x': Read-only file system");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(program_runs_with_its_input_files_and_outputs),
        cmocka_unit_test(code_runs_as_python_and_as_sh),
        cmocka_unit_test(threads_pipes_sockets_and_a_compiler_work_inside),
        cmocka_unit_test(time_limit_ends_it_with_124),
        cmocka_unit_test(memory_limit_ends_it_with_137),
        cmocka_unit_test(output_flood_is_cut_and_the_program_goes_on),
        cmocka_unit_test(links_are_not_followed_for_outputs),
        cmocka_unit_test(what_cannot_be_run_is_named),
        cmocka_unit_test(wrong_document_is_refused_by_name),
        cmocka_unit_test(nothing_outlives_the_sandbox),
        cmocka_unit_test(stopping_it_is_told),
        cmocka_unit_test(works_without_privilege),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
