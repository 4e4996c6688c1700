/* SPDX-License-Identifier: Apache-2.0 */
/* millrace-infer: options, environment and spec.json become one config; then serve, tune or bench.
 *
 * Owns:       the arena that the config's strings lie in.
 * Thread:     the only one.
 * Fails:      exit 1 with one line on stderr, 2 on wrong usage.
 * Ends:       main.
 */
#include "infer_int.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <llama.h>

enum { EXIT_USAGE = 2 };

static const char usage_text[] =
    "usage: millrace-infer [OPTIONS]\n"
    "Serves a GGUF model on a unix socket to Millrace's gates. Started by Millrace it takes\n"
    "everything from $MILLRACE_RUN_DIR/spec.json and the environment; by hand:\n"
    "  --model FILE          the GGUF file to serve\n"
    "  --socket PATH         the unix socket to listen on ($MILLRACE_SOCKET)\n"
    "  --name NAME           the name that it is served under; default: the file's\n"
    "  --adapter FILE        a LoRA adapter, may be repeated\n"
    "  --slots N             streams decoded at once, 1 to 64; default 16\n"
    "  --context N           tokens of the longest conversation; default: the model's\n"
    "  --threads N           compute threads; default 1\n"
    "  --itl-ms N            running streams wait no longer for their next token; default 200\n"
    "  --run-dir DIR         spec.json, ready, meter ($MILLRACE_RUN_DIR)\n"
    "  --cache-dir DIR       converted weights and measurements ($MILLRACE_CACHE_DIR)\n"
    "  --no-convert          serve the weights as they are\n"
    "  --no-tune             do not measure in the background\n"
    "  --quality-bound X     accepted rise of perplexity by a conversion; default 0.01\n"
    "  --verbose             llama.cpp's own log too\n"
    "instead of serving:\n"
    "  --tune                convert and measure now, and keep the result\n"
    "  --bench [--quick]     measure prefill and decode; --json for machines\n"
    "  --help, --version\n";

enum option_code {
    OPT_MODEL = 256,
    OPT_SOCKET,
    OPT_NAME,
    OPT_ADAPTER,
    OPT_SLOTS,
    OPT_CONTEXT,
    OPT_THREADS,
    OPT_ITL,
    OPT_RUN_DIR,
    OPT_CACHE_DIR,
    OPT_NO_CONVERT,
    OPT_NO_TUNE,
    OPT_QUALITY,
    OPT_VERBOSE,
    OPT_TUNE,
    OPT_BACKGROUND,
    OPT_BENCH,
    OPT_QUICK,
    OPT_JSON,
    OPT_HELP,
    OPT_VERSION
};

static const struct option options[] = {
    {"model", required_argument, NULL, OPT_MODEL},
    {"socket", required_argument, NULL, OPT_SOCKET},
    {"name", required_argument, NULL, OPT_NAME},
    {"adapter", required_argument, NULL, OPT_ADAPTER},
    {"slots", required_argument, NULL, OPT_SLOTS},
    {"context", required_argument, NULL, OPT_CONTEXT},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"itl-ms", required_argument, NULL, OPT_ITL},
    {"run-dir", required_argument, NULL, OPT_RUN_DIR},
    {"cache-dir", required_argument, NULL, OPT_CACHE_DIR},
    {"no-convert", no_argument, NULL, OPT_NO_CONVERT},
    {"no-tune", no_argument, NULL, OPT_NO_TUNE},
    {"quality-bound", required_argument, NULL, OPT_QUALITY},
    {"verbose", no_argument, NULL, OPT_VERBOSE},
    {"tune", no_argument, NULL, OPT_TUNE},
    {"background", no_argument, NULL, OPT_BACKGROUND},
    {"bench", no_argument, NULL, OPT_BENCH},
    {"quick", no_argument, NULL, OPT_QUICK},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0},
};

_Noreturn static void panic_print(const char *file, int line, const char *what)
{
    (void)fprintf(stderr, "millrace-infer: our mistake: %s:%d: %s\n", file, line, what);
    abort();
}

static int number_option(const char *name, const char *text, uint64_t least, uint64_t most,
                         uint32_t *ret)
{
    uint64_t value = 0;
    if (mr_str_to_u64(mr_str_from(text), &value) != 0 || value < least || value > most) {
        (void)fprintf(stderr,
                      "millrace-infer: --%s must be a whole number from %llu to %llu, not "
                      "'%s'\n",
                      name, (unsigned long long)least, (unsigned long long)most, text);
        return MR_EINVALID;
    }
    *ret = (uint32_t)value;
    return 0;
}

static int share_option(const char *text, double *ret)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 0.0 && value <= 1.0)) {
        (void)fprintf(stderr, "millrace-infer: --quality-bound must be from 0 to 1, not '%s'\n",
                      text);
        return MR_EINVALID;
    }
    *ret = value;
    return 0;
}

static int adapter_option(struct infer_config *config, const char *path)
{
    if (config->adapter_count == INFER_ADAPTERS_MAX) {
        (void)fprintf(stderr, "millrace-infer: at most %u adapters\n", INFER_ADAPTERS_MAX);
        return MR_EINVALID;
    }
    config->adapters[config->adapter_count++] = path;
    return 0;
}

static int option_take(struct infer_config *config, int code, bool *ret_background)
{
    switch ((enum option_code)code) {
    case OPT_MODEL:
        config->model = optarg;
        return 0;
    case OPT_SOCKET:
        config->socket = optarg;
        return 0;
    case OPT_NAME:
        config->name = optarg;
        return 0;
    case OPT_ADAPTER:
        return adapter_option(config, optarg);
    case OPT_SLOTS:
        return number_option("slots", optarg, 1, INFER_SLOTS_MAX, &config->slots);
    case OPT_CONTEXT:
        return number_option("context", optarg, 0, INFER_CONTEXT_MAX, &config->context);
    case OPT_THREADS:
        return number_option("threads", optarg, 1, INFER_THREADS_MAX, &config->threads);
    case OPT_ITL:
        return number_option("itl-ms", optarg, 1, INFER_ITL_MS_MAX, &config->itl_ms);
    case OPT_RUN_DIR:
        config->run_dir = optarg;
        return 0;
    case OPT_CACHE_DIR:
        config->cache_dir = optarg;
        return 0;
    case OPT_NO_CONVERT:
        config->no_convert = true;
        return 0;
    case OPT_NO_TUNE:
        config->no_tune = true;
        return 0;
    case OPT_QUALITY:
        return share_option(optarg, &config->quality_bound);
    case OPT_VERBOSE:
        config->verbose = true;
        return 0;
    case OPT_TUNE:
        config->tune = true;
        return 0;
    case OPT_BACKGROUND:
        *ret_background = true;
        return 0;
    case OPT_BENCH:
        config->bench = true;
        return 0;
    case OPT_QUICK:
        config->quick = true;
        return 0;
    case OPT_JSON:
        config->json = true;
        return 0;
    case OPT_HELP:
    case OPT_VERSION:
        break;
    }
    return MR_EINVALID;
}

static int environment_read(struct infer_config *config)
{
    config->run_dir = getenv("MILLRACE_RUN_DIR");
    config->socket = getenv("MILLRACE_SOCKET");
    config->cache_dir = getenv("MILLRACE_CACHE_DIR");
    const char *lease = getenv("MILLRACE_LEASE");
    const char *mem = getenv("MILLRACE_MEM_MIB");
    uint64_t mem_mib = 0;
    if (mem != NULL && mr_str_to_u64(mr_str_from(mem), &mem_mib) == 0) {
        config->mem_mib = (uint32_t)MR_MIN(mem_mib, (uint64_t)INFER_MEM_MIB_MAX);
    }
    if (lease != NULL && mr_str_to_u64(mr_str_from(lease), &config->lease) != 0) {
        (void)fprintf(stderr, "millrace-infer: MILLRACE_LEASE must be a number, not '%s'\n", lease);
        return MR_EINVALID;
    }
    return 0;
}

/* Fields of RUN_DIR/spec.json; without such a file the options have to do. */
static int spec_read(struct infer_config *config, struct mr_arena *arena)
{
    if (config->run_dir == NULL) return 0;
    char path[4096];
    int n = snprintf(path, sizeof(path), "%s/spec.json", config->run_dir);
    FILE *file = n < 0 || (size_t)n >= sizeof(path) ? NULL : fopen(path, "rbe");
    if (file == NULL) return 0; /* the missing model is said below */
    struct mr_buf bytes;
    mr_buf_init(&bytes, MR_SPEC_BYTES_MAX + 4096u);
    size_t got = 0;
    char chunk[4096];
    while ((got = fread(chunk, 1, sizeof(chunk), file)) > 0 && !bytes.failed) {
        mr_buf_put(&bytes, chunk, got);
    }
    bool bad = ferror(file) != 0;
    (void)fclose(file); /* read only */
    char problem[256] = "cannot be read";
    int error = bad || bytes.failed
                    ? MR_EIO
                    : infer_spec_parse(mr_buf_str(&bytes), arena, config, problem, sizeof(problem));
    mr_buf_done(&bytes);
    if (error != 0) {
        (void)fprintf(stderr, "millrace-infer: %s: %s\n", path, problem);
    }
    return error;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* Without another place the results lie beside the model, or else in the run's folder. */
static const char *cache_default(const struct infer_config *config, struct mr_arena *arena)
{
    size_t n = (size_t)(base_name(config->model) - config->model);
    const char *folder = n == 0 ? "." : mr_str_zero(arena, (struct mr_str){config->model, n});
    if (folder != NULL && access(folder, W_OK) == 0) return folder;
    return config->run_dir;
}

static int config_complete(struct infer_config *config, struct mr_arena *arena)
{
    if (config->model == NULL) {
        (void)fprintf(stderr, "millrace-infer: no model; use --model FILE, or \"model\" in "
                              "$MILLRACE_RUN_DIR/spec.json\n");
        return MR_EINVALID;
    }
    if (strlen(config->model) >= INFER_PATH_BYTES_MAX) {
        (void)fprintf(stderr, "millrace-infer: the model's path is longer than %u bytes\n",
                      INFER_PATH_BYTES_MAX - 1);
        return MR_EINVALID;
    }
    if (config->socket == NULL && !config->tune && !config->bench) {
        (void)fprintf(stderr, "millrace-infer: no socket to listen on; use --socket PATH\n");
        return MR_EINVALID;
    }
    if (config->cache_dir == NULL) {
        config->cache_dir = cache_default(config, arena);
    }
    if (config->name == NULL) {
        const char *base = base_name(config->model);
        size_t n = strlen(base);
        bool gguf = n > 5 && strcmp(base + n - 5, ".gguf") == 0;
        config->name = mr_str_zero(arena, (struct mr_str){base, gguf ? n - 5 : n});
    }
    return config->name != NULL ? 0 : MR_ENO_MEMORY;
}

/* 0, or the exit code; -1: a word was answered, exit 0. */
static int options_read(int argc, char **argv, struct infer_config *config, bool *ret_background)
{
    int code = 0;
    bool adapters = false;
    optind = 1;
    while ((code = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (code == OPT_HELP) {
            (void)fputs(usage_text, stdout);
            return -1;
        }
        if (code == OPT_VERSION) {
            (void)printf("millrace-infer %s, llama.cpp %s\n", MR_VERSION, llama_version());
            return -1;
        }
        if (code == OPT_ADAPTER && !adapters) {
            adapters = true;
            config->adapter_count = 0; /* options replace what the spec says */
        }
        if (code == '?' || option_take(config, code, ret_background) != 0) {
            (void)fprintf(stderr, "millrace-infer: see millrace-infer --help\n");
            return EXIT_USAGE;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "millrace-infer: unexpected '%s'; see millrace-infer --help\n",
                      argv[optind]);
        return EXIT_USAGE;
    }
    return 0;
}

static int run(const struct infer_config *config)
{
    struct infer_choice choice;
    if (config->tune) return infer_tune_run(config);
    if (!infer_model_check(config->model, "model")) return MR_EINVALID;
    infer_tune_choice(config, &choice);
    if (config->bench) return infer_bench_run(config, &choice);
    return infer_loop_run(config, &choice);
}

int main(int argc, char **argv)
{
    mr_panic_hook_set(panic_print);
    struct infer_config config = {
        .slots = INFER_SLOTS_DEFAULT,
        .threads = 1,
        .itl_ms = INFER_ITL_MS_DEFAULT,
        .grace_ms = INFER_GRACE_MS_DEFAULT,
        .quality_bound = INFER_QUALITY_BOUND,
    };
    struct mr_arena arena;
    mr_arena_init(&arena, 4u << 20);
    bool background = false;
    /* Options once to find the run's folder, the spec, and options again: they have the last word.
     */
    int code = environment_read(&config) != 0 ? EXIT_FAILURE : 0;
    if (code == 0) {
        code = options_read(argc, argv, &config, &background);
    }
    if (code == 0) {
        code = spec_read(&config, &arena) != 0 ? EXIT_FAILURE : 0;
    }
    if (code == 0) {
        code = options_read(argc, argv, &config, &background);
    }
    if (code == 0) {
        code = config_complete(&config, &arena) != 0 ? EXIT_FAILURE : 0;
    }
    if (code == 0) {
        if (background) {
            infer_tune_background();
        }
        infer_log_init(config.verbose);
        llama_backend_init();
        code = run(&config) != 0 ? EXIT_FAILURE : 0;
        llama_backend_free();
    }
    mr_arena_done(&arena);
    return code < 0 ? 0 : code;
}
