/* SPDX-License-Identifier: Apache-2.0 */
/* The main of every fuzz target in the ordinary suite: saved inputs, then mutations of them.
 *
 * Each input is handed over in a block of exactly its size, so that ASan sees one byte too many.
 * Equal seeds give equal inputs. A run that dies leaves its input in ./crash_<target>.bin and says
 * how to run it again; --seconds ends the mutations early and says how many were run.
 *
 * Thread: one.
 * Fails:  with the target's signal, or 1 when an input cannot be read, 2 on wrong usage.
 * Ends:   nothing outlives main.
 * Idea:   tests/fuzz/README.md
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

#define INPUTS_MAX      4096
#define INPUT_BYTES_MAX ((size_t)1024 * 1024)
#define STACKED_MAX     5 /* mutations on top of each other */
#define CLOCK_EVERY     64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

struct input {
    uint8_t *p;
    size_t n;
};

struct replay {
    const char *name;
    struct input inputs[INPUTS_MAX];
    size_t input_count;
    uint64_t run_count; /* mutations wanted */
    uint64_t seed;
    uint64_t seconds_max; /* 0: no limit */
    bool any_folder;
    uint8_t *work; /* INPUT_BYTES_MAX bytes: the mutation being made */
    size_t work_n;
};

/* What the signal handler needs; it has no argument to carry it in. */
static struct {
    const char *name;
    const uint8_t *p;
    size_t n;
    uint64_t run;
    uint64_t seed;
    volatile sig_atomic_t saved;
} running;

/* --- when a target dies ------------------------------------------------------------------------
 */

static void put_text(const char *text)
{
    ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
    (void)ignored; /* there is nobody else to tell */
}

static void save_input(void)
{
    char path[256];
    int fd = -1;

    if (running.saved || !running.p) return;
    running.saved = 1;
    /* snprintf is not on the list of what a handler may call; glibc's works without a lock for
     * %s and %llu, and the process is dying anyway. */
    (void)snprintf(path, sizeof path, "crash_%s.bin", running.name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd >= 0) {
        ssize_t ignored = write(fd, running.p, running.n);
        (void)ignored; /* said below: the file may be short */
        (void)close(fd);
    }
    put_text("replay: ");
    put_text(running.name);
    (void)snprintf(path, sizeof path, " died in run %llu of seed %llu with %llu bytes; ",
                   (unsigned long long)running.run, (unsigned long long)running.seed,
                   (unsigned long long)running.n);
    put_text(path);
    put_text(fd >= 0 ? "the input is in ./crash_" : "the input could not be saved as ./crash_");
    put_text(running.name);
    put_text(".bin; give this program that file to run it alone\n");
}

static void on_signal(int number)
{
    save_input();
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void on_panic(const char *file, int line, const char *what)
{
    fprintf(stderr, "replay: %s:%d: %s does not hold\n", file, line, what);
}

static void catch_deaths(void)
{
    static const int numbers[] = {SIGABRT, SIGSEGV, SIGILL,  SIGBUS,
                                  SIGFPE,  SIGTRAP, SIGALRM, SIGTERM};

    mr_panic_hook_set(on_panic);
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(save_input);
    }
    for (size_t i = 0; i < MR_COUNT_OF(numbers); i++) {
        (void)signal(numbers[i], on_signal);
    }
}

/* --- running -----------------------------------------------------------------------------------
 */

static void run_one(const uint8_t *p, size_t n, uint64_t run)
{
    uint8_t *exact = malloc(MR_MAX(n, (size_t)1));

    if (!exact) {
        fprintf(stderr, "replay: out of memory for an input of %zu bytes\n", n);
        exit(1);
    }
    if (n > 0) {
        memcpy(exact, p, n);
    }
    running.p = exact;
    running.n = n;
    running.run = run;
    (void)LLVMFuzzerTestOneInput(exact, n); /* libFuzzer gives the result no meaning for us */
    running.p = NULL;
    free(exact);
}

static void input_add(struct replay *replay, uint8_t *p, size_t n)
{
    if (replay->input_count == INPUTS_MAX) {
        fprintf(stderr, "replay: more than %d inputs; keep fewer and smaller ones\n", INPUTS_MAX);
        exit(1);
    }
    replay->inputs[replay->input_count++] = (struct input){.p = p, .n = n};
}

static void file_add(struct replay *replay, const char *path)
{
    FILE *file = fopen(path, "rbe");
    uint8_t *p = malloc(INPUT_BYTES_MAX);
    size_t n = 0;

    if (!file || !p) {
        fprintf(stderr, "replay: cannot read %s: %s\n", path, strerror(errno));
        exit(1);
    }
    n = fread(p, 1, INPUT_BYTES_MAX, file);
    (void)fclose(file); /* only read from */
    input_add(replay, p, n);
}

static int is_input(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);
    /* notes on how to reproduce lie beside the inputs */
    return entry->d_name[0] != '.' && !(n > 4 && strcmp(entry->d_name + n - 4, ".txt") == 0);
}

/* In the order of the names, so that a run does not depend on the file system. */
static void folder_add(struct replay *replay, const char *path)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, is_input, alphasort);

    if (count < 0) {
        fprintf(stderr, "replay: cannot list %s: %s\n", path, strerror(errno));
        exit(1);
    }
    for (int i = 0; i < count; i++) {
        char file[4096];
        (void)snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
        file_add(replay, file);
        free(entries[i]);
    }
    free(entries);
    replay->any_folder = true;
}

/* --- mutations ---------------------------------------------------------------------------------
 */

static void work_insert(struct replay *replay, size_t at, const uint8_t *p, size_t n)
{
    n = MR_MIN(n, INPUT_BYTES_MAX - replay->work_n);
    if (n == 0) return;
    memmove(replay->work + at + n, replay->work + at, replay->work_n - at);
    memcpy(replay->work + at, p, n);
    replay->work_n += n;
}

static void work_erase(struct replay *replay, size_t at, size_t n)
{
    memmove(replay->work + at, replay->work + at + n, replay->work_n - at - n);
    replay->work_n -= n;
}

/* A length that is mostly small and sometimes anything up to `max` (> 0). */
static size_t length_pick(struct mr_prng *prng, size_t max)
{
    size_t small = (size_t)1 << mr_prng_below(prng, 6);
    small = MR_MIN(max, small);
    return 1 + (size_t)mr_prng_below(prng, mr_prng_chance(prng, 100) ? max : small);
}

/* Numbers at which decoders change their mind, little- or big-endian, 1, 2, 4 or 8 bytes wide. */
static void mutate_number(struct replay *replay, struct mr_prng *prng)
{
    static const uint64_t numbers[] = {0,          1,          0x7F,       0x80,
                                       0xFF,       0x100,      0x7FFF,     0x8000,
                                       0xFFFF,     0x10000,    0x7FFFFFFF, 0x80000000,
                                       0xFFFFFFFF, UINT64_MAX, INT64_MAX,  (uint64_t)INT64_MAX + 1};
    uint64_t number = numbers[mr_prng_below(prng, MR_COUNT_OF(numbers))];
    size_t width = (size_t)1 << mr_prng_below(prng, 4);
    bool big = mr_prng_chance(prng, 500);
    size_t at = 0;

    if (replay->work_n < width) return;
    at = (size_t)mr_prng_below(prng, replay->work_n - width + 1);
    for (size_t i = 0; i < width; i++) {
        replay->work[at + (big ? width - 1 - i : i)] = (uint8_t)(number >> (8 * i));
    }
}

static void mutate_insert(struct replay *replay, struct mr_prng *prng)
{
    static const char *const pieces[] = {"\"",      "{",    "}",
                                         "[",       "]",    ":",
                                         ",",       "\r\n", "\r\n\r\n",
                                         "\\u0000", "null", "1e309",
                                         "-0",      "=",    "%00",
                                         "&",       "\xFF", "\xF4\x8F\xBF\xBF",
                                         "../",     " ",    "18446744073709551616"};
    uint8_t bytes[64];
    size_t n = 0;
    size_t at = (size_t)mr_prng_below(prng, replay->work_n + 1);

    if (mr_prng_chance(prng, 500)) {
        const char *piece = pieces[mr_prng_below(prng, MR_COUNT_OF(pieces))];
        work_insert(replay, at, (const uint8_t *)piece, strlen(piece));
        return;
    }
    n = 1 + (size_t)mr_prng_below(prng, sizeof bytes);
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (uint8_t)mr_prng_next(prng);
    }
    work_insert(replay, at, bytes, n);
}

/* A piece of another saved input comes in here. */
static void mutate_splice(struct replay *replay, struct mr_prng *prng)
{
    const struct input *other = &replay->inputs[mr_prng_below(prng, replay->input_count)];
    size_t n = 0;
    size_t from = 0;

    if (other->n == 0) return;
    n = length_pick(prng, other->n);
    from = (size_t)mr_prng_below(prng, other->n - n + 1);
    work_insert(replay, (size_t)mr_prng_below(prng, replay->work_n + 1), other->p + from, n);
}

static void mutate_duplicate(struct replay *replay, struct mr_prng *prng)
{
    uint8_t bytes[256];
    size_t n = length_pick(prng, MR_MIN(replay->work_n, sizeof bytes));
    size_t from = (size_t)mr_prng_below(prng, replay->work_n - n + 1);

    memcpy(bytes, replay->work + from, n);
    work_insert(replay, from, bytes, n);
}

static void mutate(struct replay *replay, struct mr_prng *prng)
{
    size_t n = 0;
    uint64_t kind = mr_prng_below(prng, 8);

    if (replay->work_n == 0 || kind == 0) {
        mutate_insert(replay, prng);
    } else if (kind == 1) {
        replay->work[mr_prng_below(prng, replay->work_n)] ^=
            (uint8_t)(1u << mr_prng_below(prng, 8));
    } else if (kind == 2) {
        replay->work[mr_prng_below(prng, replay->work_n)] = (uint8_t)mr_prng_next(prng);
    } else if (kind == 3) {
        mutate_number(replay, prng);
    } else if (kind == 4) {
        n = length_pick(prng, replay->work_n);
        work_erase(replay, (size_t)mr_prng_below(prng, replay->work_n - n + 1), n);
    } else if (kind == 5) {
        mutate_duplicate(replay, prng);
    } else if (kind == 6) {
        replay->work_n = (size_t)mr_prng_below(prng, replay->work_n + 1);
    } else {
        mutate_splice(replay, prng);
    }
}

static uint64_t now_seconds(void)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
    return (uint64_t)now.tv_sec;
}

static uint64_t run_mutations(struct replay *replay)
{
    struct mr_prng prng;
    uint64_t ends = now_seconds() + replay->seconds_max;
    uint64_t run = 0;

    mr_prng_init(&prng, replay->seed);
    for (run = 0; run < replay->run_count; run++) {
        const struct input *base = &replay->inputs[mr_prng_below(&prng, replay->input_count)];
        uint64_t stacked = 1 + mr_prng_below(&prng, STACKED_MAX);

        if (replay->seconds_max > 0 && run % CLOCK_EVERY == 0 && now_seconds() >= ends) break;
        memcpy(replay->work, base->p, base->n);
        replay->work_n = base->n;
        for (uint64_t i = 0; i < stacked; i++) {
            mutate(replay, &prng);
        }
        run_one(replay->work, replay->work_n, run + 1);
    }
    return run;
}

/* --- main --------------------------------------------------------------------------------------
 */

static uint64_t number_from(const char *text)
{
    uint64_t value = 0;
    if (mr_str_to_u64(mr_str_from(text), &value) != 0) {
        fprintf(stderr, "replay: '%s' is not a number\n", text ? text : "");
        exit(2);
    }
    return value;
}

static void arguments_read(struct replay *replay, int argc, char **argv)
{
    bool runs_given = false;

    for (int i = 1; i < argc; i++) {
        struct stat status;

        if (strcmp(argv[i], "--runs") == 0) {
            replay->run_count = number_from(argv[++i]);
            runs_given = true;
        } else if (strcmp(argv[i], "--seed") == 0) {
            replay->seed = number_from(argv[++i]);
        } else if (strcmp(argv[i], "--seconds") == 0) {
            replay->seconds_max = number_from(argv[++i]);
        } else if (argv[i][0] == '-') {
            fprintf(stderr, "usage: %s [--runs N] [--seed N] [--seconds N] FILE|FOLDER...\n",
                    replay->name);
            exit(2);
        } else if (stat(argv[i], &status) == 0 && S_ISDIR(status.st_mode)) {
            folder_add(replay, argv[i]);
        } else {
            file_add(replay, argv[i]);
        }
    }
    /* Files alone are somebody looking at one input. */
    if (!runs_given && replay->input_count > 0 && !replay->any_folder) {
        replay->run_count = 0;
    }
}

int main(int argc, char **argv)
{
    static struct replay replay = {.run_count = 20000, .seed = 1};
    const char *slash = strrchr(argv[0], '/');
    uint64_t runs = 0;

    replay.name = slash ? slash + 1 : argv[0];
    replay.work = malloc(INPUT_BYTES_MAX);
    if (!replay.work) return 1;
    if (LLVMFuzzerInitialize) {
        (void)LLVMFuzzerInitialize(&argc, &argv); /* libFuzzer ignores the result too */
    }
    arguments_read(&replay, argc, argv);
    running.name = replay.name;
    running.seed = replay.seed;
    catch_deaths();
    for (size_t i = 0; i < replay.input_count; i++) {
        run_one(replay.inputs[i].p, replay.inputs[i].n, 0);
    }
    if (replay.input_count == 0) {
        run_one(NULL, 0, 0);
        input_add(&replay, calloc(1, 1), 0);
    }
    runs = run_mutations(&replay);
    printf("%s: %zu saved inputs and %llu of %llu mutations of them (seed %llu)\n", replay.name,
           replay.input_count, (unsigned long long)runs, (unsigned long long)replay.run_count,
           (unsigned long long)replay.seed);
    for (size_t i = 0; i < replay.input_count; i++) {
        free(replay.inputs[i].p);
    }
    free(replay.work);
    return 0;
}
