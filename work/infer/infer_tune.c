/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the fastest way to run a model on this machine, and keeps what it found.
 *
 * Owns:       the result and the converted weights in the cache folder.
 * Invariants: (1) a conversion is used only if it loses no more than the stated bound and is
 *             nowhere slower than the model as shipped; (2) files appear whole (written aside, then
 *             renamed); (3) one process measures at a time, others leave.
 * Thread:     the process's only one.
 * Fails:      with a line on stderr; without a result the model as shipped is served.
 * Ends:       nothing outlives a call but files.
 * Idea:       work/infer/README.md, "Choosing by measuring".  Tests: tests/it/infer
 */
#include "infer_measure.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <llama.h>

#define TUNE_VERSION  1u /* raised when what is measured changes */
#define SAMPLE_BYTES  65536u
#define SAMPLES       64u
#define PATH_BYTES    4096u
#define FORMATS_COUNT 5u
#define GAIN_MIN      1.03 /* below it the earlier one stays: two runs shall choose alike */

struct format {
    const char *name;
    enum llama_ftype ftype;
    enum ggml_type
        embedding; /* of the token embedding, often the output too; COUNT: as ftype says */
    double bytes_per_weight;
};
/* As shipped comes first, always. F32 and the K formats never won where they were tried. */
static const struct format formats[FORMATS_COUNT] = {
    {"Q8_0", LLAMA_FTYPE_MOSTLY_Q8_0, GGML_TYPE_COUNT, 1.07},
    {"BF16 with Q8_0 embedding", LLAMA_FTYPE_MOSTLY_BF16, GGML_TYPE_Q8_0, 2.0},
    {"F16 with Q8_0 embedding", LLAMA_FTYPE_MOSTLY_F16, GGML_TYPE_Q8_0, 2.0},
    {"IQ4_NL", LLAMA_FTYPE_MOSTLY_IQ4_NL, GGML_TYPE_COUNT, 0.7},
    {"Q4_0", LLAMA_FTYPE_MOSTLY_Q4_0, GGML_TYPE_COUNT, 0.7},
};

/* --- keys ----------------------------------------------------------------------------------- */

/* The size, and samples all over the file: a changed model has changed bytes nearly everywhere. */
static uint64_t file_hash(const char *path)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    uint64_t hash = 0;
    uint8_t *bytes = mr_alloc(SAMPLE_BYTES);
    if (bytes != NULL && fstat(fd, &info) == 0) {
        hash = mr_hash_mix((uint64_t)info.st_size);
        uint64_t step = MR_MAX((uint64_t)info.st_size / SAMPLES, (uint64_t)SAMPLE_BYTES);
        for (uint64_t at = 0; at < (uint64_t)info.st_size; at += step) {
            ssize_t n = pread(fd, bytes, SAMPLE_BYTES, (off_t)at);
            if (n > 0) {
                hash = mr_hash64(bytes, (size_t)n, hash);
            }
        }
    }
    mr_free(bytes);
    (void)close(fd); /* read only */
    return hash;
}

static uint64_t cpu_hash(void)
{
    char line[8192];
    uint64_t hash = 0;
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (file == NULL) return 0;
    while (fgets(line, sizeof(line), file) != NULL && line[0] != '\n') { /* the first CPU's */
        if (strncmp(line, "model name", 10) == 0 || strncmp(line, "flags", 5) == 0 ||
            strncmp(line, "Features", 8) == 0) {
            hash = mr_hash64(line, strlen(line), hash);
        }
    }
    (void)fclose(file); /* read only */
    return hash;
}

static uint64_t settings_hash(const struct infer_config *config)
{
    char text[256];
    int n = snprintf(text, sizeof(text), "%u|%s|%s|%u|%u|%.6f|%d", TUNE_VERSION, MR_VERSION,
                     llama_version(), config->threads, config->slots, config->quality_bound,
                     config->no_convert);
    return mr_hash64(text, (size_t)MR_MAX(n, 0), cpu_hash());
}

static bool path_make(char ret[PATH_BYTES], const struct infer_config *config, const char *suffix)
{
    const char *slash = strrchr(config->model, '/');
    const char *base = slash != NULL ? slash + 1 : config->model;
    uint64_t key = file_hash(config->model) ^ settings_hash(config);
    int n = snprintf(ret, PATH_BYTES, "%s/%.64s-%016llx%s", config->cache_dir, base,
                     (unsigned long long)key, suffix);
    return n > 0 && n < (int)PATH_BYTES;
}

/* --- the stored result ---------------------------------------------------------------------- */

static void choice_shipped(const struct infer_config *config, struct infer_choice *ret)
{
    *ret = (struct infer_choice){.streams = true, .ubatch = INFER_BATCH_TOKENS};
    (void)snprintf(ret->file, sizeof(ret->file), "%s", config->model);
    (void)snprintf(ret->format, sizeof(ret->format), "as shipped");
    (void)snprintf(
        ret->summary, sizeof(ret->summary),
        "weights as shipped, flash attention off, a cache for each stream; not measured");
}

static bool choice_load(const struct infer_config *config, struct infer_choice *ret)
{
    char path[PATH_BYTES];
    char text[8192];
    struct stat info;
    if (config->cache_dir == NULL || !path_make(path, config, ".tune.json")) return false;
    FILE *file = fopen(path, "rbe");
    if (file == NULL) return false;
    size_t n = fread(text, 1, sizeof(text), file);
    (void)fclose(file); /* read only */
    struct infer_choice choice;
    if (infer_choice_parse((struct mr_str){text, n}, &choice) != 0) return false;
    /* What was converted may have been removed or cut off since. */
    if (stat(choice.file, &info) != 0 || (uint64_t)info.st_size != choice.file_bytes) return false;
    *ret = choice;
    return true;
}

void infer_tune_choice(const struct infer_config *config, struct infer_choice *ret_choice)
{
    if (config->no_tune || !choice_load(config, ret_choice)) {
        choice_shipped(config, ret_choice);
    }
}

static int choice_store(const struct infer_config *config, const struct infer_choice *choice)
{
    char path[PATH_BYTES];
    char part[PATH_BYTES];
    if (!path_make(path, config, ".tune.json") || !path_make(part, config, ".tune.part")) {
        return MR_EIO;
    }
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    mr_buf_init(&buf, 65536);
    infer_choice_put(&buf, choice);
    FILE *file = buf.failed ? NULL : fopen(part, "wbe");
    if (file == NULL) return MR_EIO;
    bool good = fwrite(buf.p, 1, buf.n, file) == buf.n;
    good = fflush(file) == 0 && fsync(fileno(file)) == 0 && good;
    good = fclose(file) == 0 && good;
    return good && rename(part, path) == 0 ? 0 : MR_EIO;
}

/* --- candidates ----------------------------------------------------------------------------- */

struct tune {
    const struct infer_config *config;
    struct infer_loss loss_shipped;
    struct infer_speed speed_shipped, speed_best;
    struct infer_choice best;
    double rise_best;
    uint64_t started_us;
};

static struct llama_model *model_open(const char *path)
{
    infer_log_capture(true);
    struct llama_model *model = llama_model_load_from_file(path, llama_model_default_params());
    infer_log_capture(false);
    return model;
}

static void say(const struct infer_config *config, const char *what, const struct infer_speed *s)
{
    (void)config;
    (void)fprintf(stderr,
                  "millrace-infer: tune: %-44s prefill %6.0f, decode %5.0f %5.0f %5.0f "
                  "tokens/s\n",
                  what, s->tokens_per_s[INFER_POINT_PREFILL], s->tokens_per_s[INFER_POINT_DECODE_1],
                  s->tokens_per_s[INFER_POINT_DECODE_4], s->tokens_per_s[INFER_POINT_DECODE_ALL]);
}

static int convert(const struct infer_config *config, const struct format *format,
                   const char *target)
{
    struct llama_model_quantize_params params = llama_model_quantize_default_params();
    params.nthread = (int32_t)config->threads;
    params.ftype = format->ftype;
    params.allow_requantize = true;
    if (format->embedding != GGML_TYPE_COUNT) {
        params.token_embedding_type = format->embedding;
        params.output_tensor_type = format->embedding;
    }
    infer_log_capture(true);
    uint32_t rc = llama_model_quantize(config->model, target, &params);
    infer_log_capture(false);
    return rc == 0 ? 0 : MR_EIO;
}

/* Would the converted file fit on the disk and, with the model as shipped, in memory? */
static bool format_fits(const struct tune *tune, const struct format *format, uint64_t weights)
{
    uint64_t need = (uint64_t)((double)weights * format->bytes_per_weight);
    uint64_t ram = (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    (void)tune;
    return need < ram / 2;
}

/* Converts to one format, keeps the file only if it is the best so far. */
static void format_try(struct tune *tune, const struct format *format)
{
    const struct infer_config *config = tune->config;
    char part[PATH_BYTES];
    char target[PATH_BYTES];
    char suffix[64];
    (void)snprintf(suffix, sizeof(suffix), ".%.8s%s.gguf", llama_ftype_name(format->ftype),
                   format->embedding != GGML_TYPE_COUNT ? "-e8" : "");
    for (char *c = suffix; *c != '\0'; c++) {
        *c = *c == ' ' || *c == '/' ? '_' : *c;
    }
    if (!path_make(part, config, ".convert.part") || !path_make(target, config, suffix) ||
        strlen(target) >= sizeof(tune->best.file) || convert(config, format, part) != 0) {
        (void)fprintf(stderr, "millrace-infer: tune: %s: could not be converted (%s)\n",
                      format->name, infer_log_last());
        (void)unlink(part);
        return;
    }
    struct llama_model *model = model_open(part);
    struct infer_loss *loss = mr_alloc(sizeof(*loss));
    struct infer_speed speed = {0};
    struct infer_choice choice = tune->best;
    double rise = 1e9;
    if (model != NULL && loss != NULL && infer_measure_loss(model, config->threads, loss) == 0) {
        rise = infer_choose_rise(&tune->loss_shipped, loss);
    }
    bool good = rise <= config->quality_bound &&
                infer_measure_speed(model, &choice, config->threads, config->slots, &speed) == 0;
    if (good) {
        say(config, format->name, &speed);
    } else if (rise < 1e8) {
        (void)fprintf(stderr, "millrace-infer: tune: %s loses too much: perplexity %+.2f %%\n",
                      format->name, rise * 100.0);
    }
    good = good && infer_choose_nowhere_slower(&tune->speed_shipped, &speed) &&
           infer_choose_score(&speed) > GAIN_MIN * infer_choose_score(&tune->speed_best);
    llama_model_free(model);
    mr_free(loss);
    struct stat info;
    if (!good || stat(part, &info) != 0 || rename(part, target) != 0) {
        (void)unlink(part);
        return;
    }
    if (strcmp(tune->best.file, config->model) != 0) {
        (void)unlink(tune->best.file); /* the best until now, converted by this very run */
    }
    (void)snprintf(tune->best.file, sizeof(tune->best.file), "%s", target);
    (void)snprintf(tune->best.format, sizeof(tune->best.format), "%s", format->name);
    tune->best.file_bytes = (uint64_t)info.st_size;
    tune->speed_best = speed;
    tune->rise_best = rise;
}

/* One setting other than the best's; taken when it is nowhere slower and faster on the whole. */
static void setting_try(struct tune *tune, struct llama_model *model, struct infer_choice choice,
                        const char *what)
{
    struct infer_speed speed = {0};
    const struct infer_config *config = tune->config;
    if (infer_measure_speed(model, &choice, config->threads, config->slots, &speed) != 0) {
        return;
    }
    say(config, what, &speed);
    if (infer_choose_nowhere_slower(&tune->speed_best, &speed) &&
        infer_choose_score(&speed) > GAIN_MIN * infer_choose_score(&tune->speed_best)) {
        char file[INFER_PATH_BYTES_MAX];
        memcpy(file, tune->best.file, sizeof(file));
        tune->best = choice;
        memcpy(tune->best.file, file, sizeof(file));
        tune->speed_best = speed;
    }
}

static int settings_try(struct tune *tune)
{
    struct llama_model *model = model_open(tune->best.file);
    if (model == NULL) return MR_EIO;
    static const uint32_t ubatches[] = {128, 256};
    struct infer_choice choice = tune->best;
    choice.flash_attention = 1;
    setting_try(tune, model, choice, "with flash attention");
    choice = tune->best;
    choice.streams = false;
    setting_try(tune, model, choice, "with one cache for all streams");
    for (size_t i = 0; i < MR_COUNT_OF(ubatches); i++) {
        char what[64];
        (void)snprintf(what, sizeof(what), "with %u rows at once", ubatches[i]);
        choice = tune->best;
        choice.ubatch = ubatches[i];
        setting_try(tune, model, choice, what);
    }
    llama_model_free(model);
    return 0;
}

static int shipped_measure(struct tune *tune, uint64_t *ret_weights, enum llama_ftype *ret_ftype)
{
    const struct infer_config *config = tune->config;
    choice_shipped(config, &tune->best);
    struct stat info;
    struct llama_model *model = model_open(config->model);
    if (model == NULL || stat(config->model, &info) != 0) {
        llama_model_free(model);
        return MR_EIO;
    }
    tune->best.file_bytes = (uint64_t)info.st_size;
    *ret_weights = llama_model_n_params(model);
    *ret_ftype = llama_model_ftype(model);
    int error = infer_measure_loss(model, config->threads, &tune->loss_shipped);
    if (error == 0) {
        error = infer_measure_speed(model, &tune->best, config->threads, config->slots,
                                    &tune->speed_shipped);
    }
    llama_model_free(model);
    if (error == 0) {
        (void)snprintf(tune->best.format, sizeof(tune->best.format), "%.20s as shipped",
                       llama_ftype_name(*ret_ftype));
        tune->speed_best = tune->speed_shipped;
        say(config, tune->best.format, &tune->speed_shipped);
    }
    return error;
}

static void summary_write(struct tune *tune)
{
    struct infer_choice *best = &tune->best;
    double gain = infer_choose_score(&tune->speed_best) /
                  MR_MAX(infer_choose_score(&tune->speed_shipped), 1e-9);
    char rise[64] = "";
    if (strcmp(best->file, tune->config->model) != 0) {
        (void)snprintf(rise, sizeof(rise), " at perplexity %+.2f %%", tune->rise_best * 100.0);
    }
    (void)snprintf(best->summary, sizeof(best->summary),
                   "%s, flash attention %s, %s, %u rows at once: %.2f times as shipped%s, measured "
                   "in %llu s",
                   best->format, best->flash_attention ? "on" : "off",
                   best->streams ? "a cache for each stream" : "one cache for all streams",
                   best->ubatch, gain, rise,
                   (unsigned long long)((infer_now_us() - tune->started_us) / 1000000u));
    best->measured = true;
}

static int tune_all(struct tune *tune)
{
    const struct infer_config *config = tune->config;
    uint64_t weights = 0;
    enum llama_ftype ftype = LLAMA_FTYPE_GUESSED;
    int error = shipped_measure(tune, &weights, &ftype);
    if (error != 0) return error;
    for (size_t i = 0; i < FORMATS_COUNT && !config->no_convert; i++) {
        if (formats[i].ftype != ftype && format_fits(tune, &formats[i], weights)) {
            format_try(tune, &formats[i]);
        }
    }
    error = settings_try(tune);
    if (error != 0) return error;
    summary_write(tune);
    error = choice_store(config, &tune->best);
    if (error == 0) {
        (void)fprintf(stderr, "millrace-infer: tune: %s\n", tune->best.summary);
    }
    return error;
}

void infer_tune_background(void)
{
    /* Each of these may be forbidden; then we are only less polite. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)setpriority(PRIO_PROCESS, 0, 19);
    struct sched_param param = {.sched_priority = 0};
    (void)sched_setscheduler(0, SCHED_IDLE, &param);
}

int infer_tune_run(const struct infer_config *config)
{
    char lock[PATH_BYTES];
    if (!infer_model_check(config->model, "model")) return MR_EINVALID;
    if (config->cache_dir == NULL || !path_make(lock, config, ".tune.lock")) {
        (void)fprintf(stderr, "millrace-infer: nowhere to keep the result; use --cache-dir DIR\n");
        return MR_EINVALID;
    }
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        (void)fprintf(stderr, "millrace-infer: %s cannot be written; use another --cache-dir\n",
                      lock);
        return MR_EIO;
    }
    int error = 0;
    struct infer_choice known;
    if (choice_load(config, &known)) {
        (void)fprintf(stderr,
                      "millrace-infer: already measured: %s; remove the .tune.json in %s to "
                      "measure anew\n",
                      known.summary, config->cache_dir);
        (void)unlink(lock);
    } else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        (void)fprintf(stderr, "millrace-infer: another process measures this model already\n");
        error = MR_ESTATE;
    } else {
        struct tune *tune = mr_alloc_zero(sizeof(*tune));
        error = tune == NULL ? MR_ENO_MEMORY : 0;
        if (error == 0) {
            tune->config = config;
            tune->started_us = infer_now_us();
            error = tune_all(tune);
        }
        if (error != 0) {
            (void)fprintf(stderr, "millrace-infer: tune: %s (%s)\n", mr_error_text(error),
                          infer_log_last());
        }
        mr_free(tune);
        (void)unlink(lock);
    }
    (void)close(fd);
    return error;
}
