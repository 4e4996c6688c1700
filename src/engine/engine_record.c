/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of the files `start`, `exit` and `stop`.
 *
 * Each is: magic (u32), version (u32), mr_hash64 of the rest (u64), then the fields in order. A
 * decoder takes nothing that it does not know whole: other version, wrong hash, bytes left over and
 * values out of range are MR_ECORRUPT.
 *
 * Invariants: (1) decode(encode(x)) gives x;
 *             (2) no string that becomes a C string holds a zero byte.
 * Fuzz:       tests/fuzz/engine/
 */
#include "engine/engine_int.h"

#define VERSION     1u
#define MAGIC_START 0x5453524du /* "MRST" */
#define MAGIC_EXIT  0x5845524du /* "MREX" */
#define MAGIC_STOP  0x5053524du /* "MRSP" */
#define HEAD_BYTES  16u

static void head_put(struct mr_buf *buf, uint32_t magic, size_t *ret_at)
{
    *ret_at = buf->n;
    mr_buf_put_u32(buf, magic);
    mr_buf_put_u32(buf, VERSION);
    mr_buf_put_u64(buf, 0);
}

static void head_seal(struct mr_buf *buf, size_t at)
{
    if (buf->failed) return;
    uint64_t hash = mr_hash64(buf->p + at + HEAD_BYTES, buf->n - at - HEAD_BYTES, VERSION);
    for (size_t i = 0; i < 8; i++)
        buf->p[at + 8 + i] = (uint8_t)(hash >> (8 * i));
}

static bool head_get(struct mr_str bytes, uint32_t magic, struct mr_reader *ret)
{
    struct mr_reader reader = mr_reader_from(bytes);
    uint32_t got = mr_read_u32(&reader), version = mr_read_u32(&reader);
    uint64_t hash = mr_read_u64(&reader);
    if (reader.failed || got != magic || version != VERSION) return false;
    if (mr_hash64(reader.p, reader.n, VERSION) != hash) return false;
    *ret = reader;
    return true;
}

static bool is_c_string(struct mr_str s)
{
    return s.n == 0 || memchr(s.p, 0, s.n) == NULL;
}

int engine_start_check(const struct mr_engine_start *s, const char **ret_text)
{
    const char *text = NULL;
    size_t strings = 0;
    if (s->lease.v == 0 || s->workload.v == 0) text = "a lease and a workload are needed";
    if (s->tasks == 0) text = "there is no task";
    if (s->tasks > MR_TASKS_PER_NODE_MAX) text = "too many tasks on one node";
    if (s->argv_count == 0) text = "there is no command";
    if (s->argv_count > MR_ARGV_MAX) text = "too many arguments";
    if (s->env_count > ENGINE_ENV_MAX) text = "too many environment variables";
    if (s->mpi && s->node_count > 1) {
        text = "an MPI job of the local engine must lie on one node; set topology: node";
    }
    for (size_t i = 0; text == NULL && i < s->argv_count; i++) {
        if (!is_c_string(s->argv[i])) text = "an argument holds a zero byte";
        strings += s->argv[i].n;
    }
    for (size_t i = 0; text == NULL && i < s->env_count; i++) {
        bool named = s->env[i].n > 0 && s->env[i].p[0] != '=' &&
                     memchr(s->env[i].p, '=', s->env[i].n) != NULL;
        if (!is_c_string(s->env[i]) || !named) text = "an environment variable is not NAME=value";
        strings += s->env[i].n;
    }
    if (text == NULL && s->argv[0].n == 0) text = "the command is empty";
    if (text == NULL && (!is_c_string(s->work_dir) || s->work_dir.n >= PATH_MAX)) {
        text = "work_dir is no path";
    }
    if (text == NULL && strings + s->spec_json.n + s->stdin_bytes.n > ENGINE_START_BYTES_MAX / 2) {
        text = "command, environment, document and standard input are too large together";
    }
    if (text == NULL) return 0;
    *ret_text = text;
    return MR_EINVALID;
}

void engine_start_encode(struct mr_buf *buf, const struct mr_engine_start *s, struct mr_str home,
                         struct mr_str programs, struct mr_str cache_dir)
{
    size_t at;
    head_put(buf, MAGIC_START, &at);
    mr_buf_put_u64(buf, s->lease.v);
    mr_buf_put_u64(buf, s->workload.v);
    mr_buf_put_u32(buf, s->node.v);
    mr_buf_put_u32(buf, s->run);
    mr_buf_put_u32(buf, s->tasks);
    mr_buf_put_u32(buf, s->rank_first);
    mr_buf_put_u32(buf, s->world_size);
    mr_buf_put_u32(buf, s->node_rank);
    mr_buf_put_u32(buf, s->node_count);
    mr_buf_put_u64(buf, s->devices);
    mr_buf_put_u32(buf, s->cpu_milli);
    mr_buf_put_u32(buf, s->mem_mib);
    mr_buf_put_u64(buf, s->time_limit_us);
    mr_buf_put_u8(buf, s->mpi ? 1 : 0);
    mr_buf_put_u32(buf, (uint32_t)s->argv_count);
    for (size_t i = 0; i < s->argv_count; i++)
        mr_buf_put_bytes32(buf, s->argv[i]);
    mr_buf_put_u32(buf, (uint32_t)s->env_count);
    for (size_t i = 0; i < s->env_count; i++)
        mr_buf_put_bytes32(buf, s->env[i]);
    mr_buf_put_bytes32(buf, s->spec_json);
    mr_buf_put_bytes32(buf, s->stdin_bytes);
    mr_buf_put_bytes32(buf, s->work_dir);
    mr_buf_put_bytes32(buf, home);
    mr_buf_put_bytes32(buf, programs);
    mr_buf_put_bytes32(buf, cache_dir);
    head_seal(buf, at);
}

static int strings_get(struct mr_reader *reader, struct mr_arena *arena, uint32_t max,
                       const struct mr_str **ret, size_t *ret_count)
{
    uint32_t count = mr_read_u32(reader);
    /* Each takes four bytes at least: a count that cannot be is found before memory is taken. */
    if (reader->failed || count > max || count > reader->n / 4) return MR_ECORRUPT;
    struct mr_str *table = mr_arena_alloc(arena, (count + 1) * sizeof *table);
    if (table == NULL) return MR_ENO_MEMORY;
    for (uint32_t i = 0; i < count; i++)
        table[i] = mr_read_bytes32(reader);
    *ret = table;
    *ret_count = count;
    return reader->failed ? MR_ECORRUPT : 0;
}

int engine_start_decode(struct mr_str bytes, struct mr_arena *arena, struct engine_order *ret)
{
    struct mr_reader reader;
    struct engine_order order = {0};
    struct mr_engine_start *s = &order.s;
    const char *text;
    if (!head_get(bytes, MAGIC_START, &reader)) return MR_ECORRUPT;
    s->lease.v = mr_read_u64(&reader);
    s->workload.v = mr_read_u64(&reader);
    s->node.v = mr_read_u32(&reader);
    s->run = mr_read_u32(&reader);
    s->tasks = mr_read_u32(&reader);
    s->rank_first = mr_read_u32(&reader);
    s->world_size = mr_read_u32(&reader);
    s->node_rank = mr_read_u32(&reader);
    s->node_count = mr_read_u32(&reader);
    s->devices = mr_read_u64(&reader);
    s->cpu_milli = mr_read_u32(&reader);
    s->mem_mib = mr_read_u32(&reader);
    s->time_limit_us = mr_read_u64(&reader);
    uint8_t mpi = mr_read_u8(&reader);
    s->mpi = mpi == 1;
    if (mpi > 1) return MR_ECORRUPT;
    int error = strings_get(&reader, arena, MR_ARGV_MAX, &s->argv, &s->argv_count);
    if (error == 0) error = strings_get(&reader, arena, ENGINE_ENV_MAX, &s->env, &s->env_count);
    if (error != 0) return error;
    s->spec_json = mr_read_bytes32(&reader);
    s->stdin_bytes = mr_read_bytes32(&reader);
    s->work_dir = mr_read_bytes32(&reader);
    order.home = mr_read_bytes32(&reader);
    order.programs = mr_read_bytes32(&reader);
    order.cache_dir = mr_read_bytes32(&reader);
    if (reader.failed || reader.n != 0 || engine_start_check(s, &text) != 0) return MR_ECORRUPT;
    if (order.home.n == 0 || order.home.n > ENGINE_HOME_BYTES_MAX || !is_c_string(order.home) ||
        order.programs.n >= PATH_MAX || !is_c_string(order.programs) ||
        order.cache_dir.n >= PATH_MAX || !is_c_string(order.cache_dir)) {
        return MR_ECORRUPT;
    }
    *ret = order;
    return 0;
}

void engine_exit_encode(struct mr_buf *buf, const struct engine_end *end)
{
    size_t at;
    head_put(buf, MAGIC_EXIT, &at);
    mr_buf_put_u8(buf, (uint8_t)end->kind);
    mr_buf_put_u32(buf, (uint32_t)end->code);
    mr_buf_put_u64(buf, end->ran_us);
    mr_buf_put_bytes32(buf, mr_str_from(end->text));
    head_seal(buf, at);
}

int engine_exit_decode(struct mr_str bytes, struct engine_end *ret)
{
    struct mr_reader reader;
    if (!head_get(bytes, MAGIC_EXIT, &reader)) return MR_ECORRUPT;
    uint8_t kind = mr_read_u8(&reader);
    int32_t code = (int32_t)mr_read_u32(&reader);
    uint64_t ran_us = mr_read_u64(&reader);
    struct mr_str text = mr_read_bytes32(&reader);
    if (reader.failed || reader.n != 0 || kind >= ENGINE_EXIT_COUNT || !is_c_string(text) ||
        text.n >= ENGINE_TEXT_BYTES_MAX) {
        return MR_ECORRUPT;
    }
    *ret = (struct engine_end){.kind = (enum engine_exit_kind)kind, .code = code, .ran_us = ran_us};
    if (text.n > 0) memcpy(ret->text, text.p, text.n);
    return 0;
}

void engine_stop_encode(struct mr_buf *buf, const struct engine_stop *stop)
{
    size_t at;
    head_put(buf, MAGIC_STOP, &at);
    mr_buf_put_u64(buf, stop->grace_us);
    mr_buf_put_u64(buf, stop->deadline_us);
    head_seal(buf, at);
}

int engine_stop_decode(struct mr_str bytes, struct engine_stop *ret)
{
    struct mr_reader reader;
    if (!head_get(bytes, MAGIC_STOP, &reader)) return MR_ECORRUPT;
    struct engine_stop stop = {.grace_us = mr_read_u64(&reader)};
    stop.deadline_us = mr_read_u64(&reader);
    if (reader.failed || reader.n != 0) return MR_ECORRUPT;
    *ret = stop;
    return 0;
}
