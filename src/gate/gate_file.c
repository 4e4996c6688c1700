/* SPDX-License-Identifier: Apache-2.0 */
/* Logs and files of workloads: read piece by piece as the client takes them.
 *
 * Owns:       the reading position.
 * Invariants: (1) one call to ctl at a time; none while the client's queue is full;
 *             (2) a followed log ends only after it was read to its end once more after the
 * workload had ended: nothing that was written is missed. Never:      a whole file in memory. Cost:
 * O(bytes); a followed log that is quiet costs two calls each GATE_FOLLOW_US.
 */
#include <yyjson.h>

#include "gate_int.h"

struct file_reader {
    uint64_t id, offset;
    uint32_t run, rank;
    struct mr_str name;
    struct mr_str type;
    bool follow; /* until the workload has ended */
    bool ended;  /* it has */
    bool whole;  /* a file: all of it; a log without follow: one piece */
    bool waits;  /* for the client to take what was sent */
};

static void reader_read(struct gate_request *request);
static void reader_state(struct gate_request *request);

static void reader_drained(struct gate_request *request)
{
    struct file_reader *reader = request->own;
    if (!reader->waits) return;
    reader->waits = false;
    reader_read(request);
}

static void reader_gone(struct gate_request *request)
{
    struct mr_gate *gate = request->gate;
    gate->env->ops->timer_stop(gate->env, request->timer);
    request->timer = NULL;
}

static const struct gate_request_ops reader_ops = {.drain = reader_drained, .gone = reader_gone};

static void reader_fail(struct gate_request *request)
{
    struct mr_problem problem = gate_call_problem(request);
    if (!request->streaming) {
        gate_reply_problem(request, &problem);
        return;
    }
    /* The head said 200: all that is left is not to end the body as if it were whole. */
    gate_conn_close(request->conn, true);
}

static void reader_time(void *arg)
{
    struct gate_request *request = arg;
    request->timer = NULL;
    gate_now(request->gate);
    reader_read(request);
}

static void reader_later(struct gate_request *request)
{
    struct mr_gate *gate = request->gate;
    if (gate->draining) {
        gate_stream_end(request);
        return;
    }
    if (gate->env->ops->timer_start(gate->env, gate->now_us + GATE_FOLLOW_US, reader_time, request,
                                    &request->timer) != 0) {
        request->timer = NULL;
        gate_conn_close(request->conn, true);
    }
}

/* --- a piece --------------------------------------------------------------------------------- */

static void piece_reply(struct gate_request *request, struct mr_str piece)
{
    struct file_reader *reader = request->own;
    struct mr_str extra = MR_STR("");
    if (!reader->whole) {
        extra = gate_format(request, "x-next-offset: %llu\r\n",
                            (unsigned long long)(reader->offset + piece.n));
    }
    gate_reply(request, 200, reader->type, piece, extra);
}

static void piece_came(struct gate_request *request)
{
    struct file_reader *reader = request->own;
    struct mr_ctl_call *call = &request->call;
    struct mr_str piece = mr_buf_str(&call->out);
    /* A log that is not there yet is an empty one, as long as its workload lives. */
    bool early = reader->follow && call->error == MR_ENOT_FOUND;
    if (early) piece = MR_STR("");
    if (call->error != 0 && !early) {
        reader_fail(request);
        return;
    }
    /* Of a log that was rotated the piece may begin later than was asked for. */
    reader->offset = MR_MAX(reader->offset, call->offset);
    bool last = piece.n < call->limit;
    if (!request->streaming && !reader->follow && (last || !reader->whole)) {
        piece_reply(request, piece);
        return;
    }
    if (!request->streaming) gate_stream_begin(request, reader->type, MR_STR(""));
    reader->offset += piece.n;
    if (piece.n > 0) gate_stream_data(request, piece);
    if (last && !reader->follow) {
        gate_stream_end(request);
    } else if (piece.n == 0 && reader->ended) {
        gate_stream_end(request);
    } else if (piece.n == 0) {
        reader_state(request);
    } else if (request->conn->full) {
        reader->waits = true;
    } else {
        reader_read(request);
    }
}

static void reader_read(struct gate_request *request)
{
    const struct file_reader *reader = request->own;
    struct mr_ctl_call *call = gate_call_init(request, MR_CTL_FILE);
    call->id = reader->id;
    call->name = reader->name;
    call->offset = reader->offset;
    call->run = reader->run;
    call->rank = reader->rank;
    call->limit = GATE_PIECE_BYTES;
    gate_call_send(request, piece_came);
}

/* --- has it ended? --------------------------------------------------------------------------- */

static bool says_ended(struct mr_str json)
{
    yyjson_doc *doc = yyjson_read(json.p, json.n, 0);
    yyjson_val *list = yyjson_obj_get(yyjson_doc_get_root(doc), "workloads");
    yyjson_val *ended = yyjson_obj_get(yyjson_arr_get_first(list), "ended");
    bool says = ended != NULL && !yyjson_is_null(ended);
    yyjson_doc_free(doc);
    return says;
}

static void state_came(struct gate_request *request)
{
    struct file_reader *reader = request->own;
    struct mr_ctl_call *call = &request->call;
    if (call->error != 0) {
        reader_fail(request);
        return;
    }
    bool first = !request->streaming;
    if (says_ended(mr_buf_str(&call->out))) reader->ended = true;
    if (first) gate_stream_begin(request, reader->type, MR_STR(""));
    if (first || reader->ended) {
        reader_read(request);
    } else {
        reader_later(request);
    }
}

static void reader_state(struct gate_request *request)
{
    const struct file_reader *reader = request->own;
    struct mr_ctl_call *call = gate_call_init(request, MR_CTL_QUEUE);
    call->id = reader->id;
    gate_call_send(request, state_came);
}

/* --- in -------------------------------------------------------------------------------------- */

/* A number from the query; false after an error answer. */
static bool query_number(struct gate_request *request, const struct mr_http_request *http,
                         const char *key, uint64_t max, uint64_t *ret)
{
    struct mr_str text;
    uint64_t number = 0;
    *ret = 0;
    if (!mr_http_query_get(http, mr_str_from(key), &request->arena, &text)) return true;
    if (mr_str_to_u64(text, &number) == 0 && number <= max) {
        *ret = number;
        return true;
    }
    struct mr_problem problem = {.error = MR_EINVALID, .param = mr_str_from(key)};
    problem.text =
        gate_format(request, "%s must be a number from 0 to %llu", key, (unsigned long long)max);
    gate_reply_problem(request, &problem);
    return false;
}

static struct file_reader *reader_new(struct gate_request *request,
                                      const struct mr_http_request *http)
{
    uint64_t run, rank;
    struct file_reader *reader = mr_arena_alloc_zero(&request->arena, sizeof *reader);
    if (reader == NULL) {
        struct mr_problem problem = gate_problem(MR_ENO_MEMORY, "out of memory; try again");
        gate_reply_problem(request, &problem);
        return NULL;
    }
    if (!gate_param_id(request, &reader->id)) return NULL;
    if (!query_number(request, http, "run", UINT32_MAX, &run)) return NULL;
    if (!query_number(request, http, "rank", UINT32_MAX, &rank)) return NULL;
    reader->run = (uint32_t)run;
    reader->rank = (uint32_t)rank;
    request->own = reader;
    request->ops = &reader_ops;
    return reader;
}

void gate_handle_logs(struct gate_request *request, const struct mr_http_request *http)
{
    struct mr_str text;
    struct file_reader *reader = reader_new(request, http);
    if (reader == NULL) return;
    if (!query_number(request, http, "offset", UINT64_MAX / 2, &reader->offset)) return;
    reader->type = MR_STR("text/plain; charset=utf-8");
    reader->name = MR_STR("stdout");
    if (mr_http_query_get(http, MR_STR("stream"), &request->arena, &text)) {
        bool errors = mr_str_equal(text, MR_STR("stderr"));
        if (!errors && !mr_str_equal(text, MR_STR("stdout"))) {
            struct mr_problem problem = gate_problem(MR_EINVALID, "stream is stdout or stderr");
            problem.param = MR_STR("stream");
            gate_reply_problem(request, &problem);
            return;
        }
        if (errors) reader->name = MR_STR("stderr");
    }
    if (mr_http_query_get(http, MR_STR("follow"), &request->arena, &text)) {
        reader->follow = !mr_str_equal(text, MR_STR("0")) && !mr_str_equal(text, MR_STR("false"));
    }
    /* Everything that is there, as for a file, instead of one piece and where the next begins. */
    if (mr_http_query_get(http, MR_STR("raw"), &request->arena, &text)) {
        reader->whole = !mr_str_equal(text, MR_STR("0")) && !mr_str_equal(text, MR_STR("false"));
    }
    if (reader->follow && !request->head_only) {
        reader_state(request);
    } else {
        reader->follow = false;
        reader_read(request);
    }
}

void gate_handle_file(struct gate_request *request, const struct mr_http_request *http)
{
    struct file_reader *reader = reader_new(request, http);
    if (reader == NULL) return;
    struct mr_str name = request->params[1];
    bool json = name.n > 5 && memcmp(name.p + name.n - 5, ".json", 5) == 0;
    reader->type = json ? MR_STR("application/json") : MR_STR("application/octet-stream");
    reader->name = name;
    reader->whole = true;
    reader_read(request);
}
