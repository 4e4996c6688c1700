/* SPDX-License-Identifier: Apache-2.0 */
/* Attempts to get out of the sandbox, each of which must fail in the way that is written here.
 *
 * The real millrace-sandbox runs sandbox_attempt as a program of a stranger's.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "sandbox_box.h"

static char *attempt_base64;
static char secret_path[] = "/tmp/mr-secret-XXXXXX";
static char host_pid[16], host_port[16], abstract_name[32];

/* Runs one attempt; `more` are further keys of the document. */
static void attempt(struct box *box, const char *name, const char *arg, const char *more)
{
    mr_cleanup(mr_buf_done) struct mr_buf spec;
    mr_buf_init(&spec, (size_t)16 << 20);
    mr_buf_printf(&spec, "{\"command\":[\"./attempt\",\"%s\",\"%s\"],%s\"files\":{\"attempt\":\"",
                  name, arg, more);
    mr_buf_put_str(&spec, mr_str_from(attempt_base64));
    mr_buf_put_str(&spec, MR_STR("\"}}"));
    mr_buf_put_char(&spec, 0);
    assert_false(spec.failed);
    box_run(box, (const char *)spec.p);
}

static int setup(void **state)
{
    mr_cleanup(mr_buf_done) struct mr_buf bytes, text;
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    socklen_t length = sizeof in;
    (void)state;
    mr_buf_init(&bytes, (size_t)8 << 20);
    mr_buf_init(&text, (size_t)16 << 20);
    int fd = open(TEST_ATTEMPT, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    for (;;) {
        char piece[65536];
        ssize_t n = read(fd, piece, sizeof piece);
        if (n <= 0) break;
        mr_buf_put(&bytes, piece, (size_t)n);
    }
    close(fd);
    mr_base64_put(&text, bytes.p, bytes.n);
    mr_buf_put_char(&text, 0);
    attempt_base64 = strdup((char *)text.p);
    assert_non_null(attempt_base64);
    assert_true(mkstemp(secret_path) >= 0);
    assert_int_equal(chmod(secret_path, 0666), 0);
    snprintf(host_pid, sizeof host_pid, "%d", (int)getpid());
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(listener, 4), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&in, &length), 0);
    snprintf(host_port, sizeof host_port, "%u", ntohs(in.sin_port));
    snprintf(abstract_name, sizeof abstract_name, "mr-test-%d", (int)getpid());
    memcpy(un.sun_path + 1, abstract_name, strlen(abstract_name));
    int named = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(abstract_name));
    assert_int_equal(bind(named, (struct sockaddr *)&un, length), 0);
    assert_int_equal(listen(named, 4), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(attempt_base64);
    return unlink(secret_path);
}

struct want {
    const char *name, *arg, *answer;
};

static void each_is_refused(const struct want *wants, size_t count)
{
    size_t wrong = 0;
    box_need();
    for (size_t i = 0; i < count; i++) {
        char answer[64];
        struct box box;
        attempt(&box, wants[i].name, wants[i].arg, "");
        snprintf(answer, sizeof answer, "refused %s\n", wants[i].answer);
        if (strcmp(box.out, answer) == 0) continue;
        wrong++;
        print_error("%s %s: want %s, got %s %s\n", wants[i].name, wants[i].arg, answer, box.out,
                    box.out[0] != 0 ? "" : box.result);
    }
    assert_int_equal(wrong, 0);
}

static void files_of_the_host_are_absent_or_read_only(void **state)
{
    (void)state;
    const struct want wants[] = {
        {"read_path", "/etc/shadow", "ENOENT"},
        {"read_path", "/root", "ENOENT"},
        {"read_path", "/home", "ENOENT"},
        {"read_path", "/var", "ENOENT"},
        {"read_path", secret_path, "ENOENT"},
        {"read_path", "/sys/kernel", "ENOENT"},
        {"read_path", "/proc/kcore", "ENOENT"},
        {"read_path", "/proc/sys/kernel/hostname", "ENOENT"},
        {"read_path", "/proc/sysrq-trigger", "ENOENT"},
        {"read_path", "/proc/1/root/etc/shadow", "ENOENT"},
        {"read_path", "/proc/1/environ", "ENOENT"},
        {"read_path", "/../../../etc/shadow", "ENOENT"},
        {"write_path", "/usr/bin/new", "EROFS"},
        {"write_path", "/usr/bin/env", "EACCES"},
        {"write_path", "/etc/passwd", "EROFS"},
        {"write_path", "/new", "EROFS"},
        {"write_path", "/dev/new", "EROFS"},
        {"link_host_file", "", "EXDEV"},
        {"chmod_host_file", "", "EROFS"},
        {"read_path", "/dev/mem", "ENOENT"},
        {"read_path", "/dev/kmsg", "ENOENT"},
        {"read_path", "/dev/vda", "ENOENT"},
        {"read_path", "/dev/tty", "ENOENT"},
        {"make_device", "", "EPERM"},
    };
    each_is_refused(wants, MR_COUNT_OF(wants));
}

static void processes_of_the_host_are_out_of_reach(void **state)
{
    (void)state;
    const struct want wants[] = {
        {"kill_pid", host_pid, "ESRCH"},         {"see_pid", host_pid, "ENOENT"},
        {"count_processes", "", "ENOENT"},       {"see_pid", "1", "ENOENT"},
        {"trace_warden", "", "EPERM"},           {"read_warden", "", "EPERM"},
        {"write_path", "/proc/1/mem", "ENOENT"}, {"kill_warden", "", "EPERM"},
        {"find_descriptor", "", "EBADF"},        {"find_environment", "", "ENOENT"},
        {"push_terminal", "", "ENOSYS"},
    };
    each_is_refused(wants, MR_COUNT_OF(wants));
}

static void networks_of_the_host_are_out_of_reach(void **state)
{
    (void)state;
    const struct want wants[] = {
        {"connect_host", host_port, "ECONNREFUSED"},
        {"connect_world", "", "ENETUNREACH"},
        {"connect_abstract", abstract_name, "ECONNREFUSED"},
        {"open_socket", "2", "ENOSYS"},  /* raw */
        {"open_socket", "16", "ENOSYS"}, /* netlink */
        {"open_socket", "17", "ENOSYS"}, /* packet */
        {"open_socket", "40", "ENOSYS"}, /* to a hypervisor */
        {"open_socket", "38", "ENOSYS"}, /* kernel's ciphers */
    };
    each_is_refused(wants, MR_COUNT_OF(wants));
}

static void no_power_comes_back(void **state)
{
    (void)state;
    const struct want wants[] = {
        {"mount_tmpfs", "", "EPERM"}, {"remount_usr", "", "EPERM"},
        {"umount_work", "", "EPERM"}, {"unshare_user", "", "EPERM"},
        {"clone_user", "", "ENOSYS"}, {"clone3_call", "", "ENOSYS"},
        {"setns_own", "", "EPERM"},   {"chroot_out", "", "EPERM"},
        {"pivot", "", "EPERM"},       {"become_root", "", "EINVAL"},
        {"set_user_id", "", "EPERM"}, {"raise_capabilities", "", "EPERM"},
        {"raise_limit", "", "EPERM"},
    };
    each_is_refused(wants, MR_COUNT_OF(wants));
}

static void dangerous_system_calls_are_refused(void **state)
{
    static const struct {
        long number;
        const char *answer;
    } calls[] = {
        {SYS_bpf, "EPERM"},
        {SYS_perf_event_open, "EPERM"},
        {SYS_keyctl, "EPERM"},
        {SYS_add_key, "EPERM"},
        {SYS_request_key, "EPERM"},
        {SYS_io_uring_setup, "EPERM"},
        {SYS_userfaultfd, "EPERM"},
        {SYS_open_by_handle_at, "EPERM"},
        {SYS_name_to_handle_at, "EPERM"},
        {SYS_kexec_load, "EPERM"},
        {SYS_init_module, "EPERM"},
        {SYS_finit_module, "EPERM"},
        {SYS_swapon, "EPERM"},
        {SYS_reboot, "EPERM"},
        {SYS_sethostname, "EPERM"},
        {SYS_settimeofday, "EPERM"},
        {SYS_clock_settime, "EPERM"},
        {SYS_personality, "EPERM"},
        {SYS_syslog, "EPERM"},
        {SYS_acct, "EPERM"},
        {SYS_quotactl, "EPERM"},
        {SYS_fanotify_init, "EPERM"},
        {SYS_pidfd_getfd, "EPERM"},
        {SYS_seccomp, "EPERM"},
        {SYS_fsopen, "EPERM"},
        {SYS_open_tree, "EPERM"},
        {SYS_mount_setattr, "EPERM"},
        {SYS_memfd_create, "ENOSYS"},
        {SYS_shmget, "ENOSYS"},
        {SYS_msgget, "ENOSYS"},
        {SYS_vmsplice, "ENOSYS"},
        {999, "ENOSYS"},
    };
    struct want wants[MR_COUNT_OF(calls)];
    char numbers[MR_COUNT_OF(calls)][16];
    (void)state;
    for (size_t i = 0; i < MR_COUNT_OF(calls); i++) {
        snprintf(numbers[i], sizeof numbers[i], "%ld", calls[i].number);
        wants[i] = (struct want){"system_call", numbers[i], calls[i].answer};
    }
    each_is_refused(wants, MR_COUNT_OF(wants));
}

static void calls_of_another_architecture_end_the_program(void **state)
{
    struct box box;
    (void)state;
    box_need();
    attempt(&box, "old_architecture", "", "");
    assert_int_equal(box.exit_code, 128 + 31);
    assert_string_equal(box.out, "");
    box_want(&box, "\"kind\":\"signal\"");
}

static void fork_bomb_ends_at_its_limit(void **state)
{
    struct box box;
    (void)state;
    box_need();
    attempt(&box, "fork_bomb", "64", "\"processes\":64,");
    assert_string_equal(box.out, "63 processes, then refused EAGAIN\n");
    attempt(&box, "fork_bomb", "5", "\"processes\":5,");
    assert_string_equal(box.out, "4 processes, then refused EAGAIN\n");
}

static void giant_files_end_at_the_disk_limit(void **state)
{
    struct box box;
    (void)state;
    box_need();
    attempt(&box, "giant_file", "", "\"disk\":\"32MiB\",");
    assert_string_equal(box.out, "refused ENOSPC\n");
}

static void memory_is_counted_however_deep_it_lies(void **state)
{
    struct box box;
    (void)state;
    box_need();
    attempt(&box, "deep_memory", "200", "\"processes\":300,\"memory\":\"160MiB\",");
    assert_int_equal(box.exit_code, 137);
    box_want(&box, "\"kind\":\"out_of_memory\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_the_host_are_absent_or_read_only),
        cmocka_unit_test(processes_of_the_host_are_out_of_reach),
        cmocka_unit_test(networks_of_the_host_are_out_of_reach),
        cmocka_unit_test(no_power_comes_back),
        cmocka_unit_test(dangerous_system_calls_are_refused),
        cmocka_unit_test(calls_of_another_architecture_end_the_program),
        cmocka_unit_test(fork_bomb_ends_at_its_limit),
        cmocka_unit_test(giant_files_end_at_the_disk_limit),
        cmocka_unit_test(memory_is_counted_however_deep_it_lies),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
