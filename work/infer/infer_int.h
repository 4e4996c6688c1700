/* SPDX-License-Identifier: Apache-2.0 */
/* Private to work/infer and its tests: the parts of the inference worker and their contracts.
 *
 * Level by level: pure parts (text, prefix, plan, meter's records, sampling) know no model; lane
 * wraps one llama_context; chat and model wrap the vocabulary and the file; engine puts requests on
 * lanes; loop puts sockets on the engine. One thread owns everything.
 *
 * Idea: work/infer/README.md   Tests: tests/unit/infer
 */
#ifndef INFER_INT_H
#define INFER_INT_H

#include "base/base.h"
#include "proto/proto.h"

/* --- limits of this worker ------------------------------------------------------------------ */

#define INFER_SLOTS_MAX        64u /* streams decoded at once */
#define INFER_SLOTS_DEFAULT    16u
#define INFER_LANES_MAX        4u   /* llama contexts: one of streams, the rest of families */
#define INFER_SEQS_MAX         768u /* requests (512 by the meter) and what lies parked */
#define INFER_CONNS_MAX        64u  /* gates connected: closed at once */
#define INFER_ADAPTERS_MAX     8u
#define INFER_BATCH_TOKENS     512u                  /* rows of one llama_decode */
#define INFER_CONN_BYTES_MAX   (16u * 1024u * 1024u) /* unsent bytes of one gate: it is closed */
#define INFER_ITL_MS_DEFAULT   200u /* running streams are not held up longer than this */
#define INFER_PREFIX_MIN       16u  /* a shorter common prefix is not worth a copy */
#define INFER_FAMILY_MIN       256u /* a longer one makes two streams a family */
#define INFER_KV_BYTES_DEFAULT (768ull * 1024u * 1024u) /* of the streams; less when told so */
#define INFER_MEM_MIB_MAX      (16u * 1024u * 1024u)
#define INFER_TUNE_MIB_MIN     1536u /* below it there is no room for measuring beside serving */
#define INFER_SAMPLES          512u  /* recent latencies that percentiles are taken of */
#define INFER_PATH_BYTES_MAX   1024u /* a file name in a spec, and its zero */
#define INFER_CONTEXT_MAX      1048576u
#define INFER_THREADS_MAX      256u
#define INFER_ITL_MS_MAX       60000u
#define INFER_GRACE_MS_MAX     3600000u
#define INFER_GRACE_MS_DEFAULT 8000u /* after SIGTERM; then what still runs is cancelled */
#define INFER_UBATCH_MIN       16u
#define INFER_QUALITY_BOUND    0.01 /* greatest accepted rise of perplexity */

uint64_t infer_now_us(void); /* monotonic */

/* --- text: stop strings and whole UTF-8 (infer_text.c) ---------------------------------------- */

/* Decoded bytes go in, text that may be sent comes out: never part of a stop string, never half a
 * character. What is held back comes out at the end, so no text is lost. */
struct infer_text {
    struct mr_buf held;
    const struct mr_str *stops; /* the caller's, must outlive this */
    size_t stop_count;
    bool stopped; /* a stop string came; nothing more will be released */
};
void infer_text_init(struct infer_text *text, const struct mr_str *stops, size_t stop_count);
void infer_text_done(struct infer_text *text);
/* Appends to `ret` what may be sent now. `last`: nothing follows, so nothing is held back. */
void infer_text_push(struct infer_text *text, struct mr_str piece, bool last, struct mr_buf *ret);

/* --- prefixes (infer_prefix.c) ---------------------------------------------------------------- */

/* Number of leading tokens that are equal. O(result). */
uint32_t infer_prefix_common(const int32_t *a, uint32_t a_count, const int32_t *b,
                             uint32_t b_count);

struct infer_donor { /* a sequence whose cells might be shared */
    const int32_t *tokens;
    uint32_t token_count;
    uint32_t computed_count; /* of tokens, those that lie in the cache */
    uint32_t tenant;
    bool live; /* a request owns it; else it is parked and may be taken over */
};
struct infer_prefix_match {
    int now; /* index of the donor that shares most computed tokens, or -1 */
    uint32_t now_count;
    int later; /* index of the live donor that will share most once prefilled, or -1 */
    uint32_t later_count;
};
/* Never matches across tenants. At most `count - 1` tokens are shared: the last one is computed
 * again, because its logits are needed. O(donors x prefix). */
struct infer_prefix_match infer_prefix_find(uint32_t tenant, const int32_t *tokens, uint32_t count,
                                            const struct infer_donor *donors, size_t donor_count);

/* --- plan: how much prefill fits between two tokens (infer_plan.c) --------------------------- */

struct infer_pace {          /* exponential means of what this machine does */
    double decode_us;        /* one step of all running streams */
    double prefill_token_us; /* one prompt token */
};
void infer_pace_decode(struct infer_pace *pace, uint64_t us);
void infer_pace_prefill(struct infer_pace *pace, uint64_t us, uint32_t tokens);
/* Prompt tokens that may be computed in this step, so that running streams wait at most slo_us for
 * their next token: [INFER_CHUNK_MIN, INFER_BATCH_TOKENS]. */
#define INFER_CHUNK_MIN 16u
uint32_t infer_plan_chunk(const struct infer_pace *pace, uint32_t running, uint64_t slo_us);

struct infer_victim {
    uint8_t priority; /* 0 highest */
    uint32_t cells;   /* that its end would free */
    uint64_t arrived_us;
};
/* Who gives way when the cache is full: lowest priority, then most cells, then latest arrival. */
size_t infer_plan_victim(const struct infer_victim *victims, size_t count);

/* --- sampling (infer_sample.c) ---------------------------------------------------------------- */

struct infer_sampler {
    float temperature, top_p, presence, frequency;
    struct mr_prng prng;
    uint16_t *counts; /* of generated tokens by id; NULL without penalties */
    int32_t *seen;    /* ids with a count */
    uint32_t seen_count, vocab;
    struct infer_candidate { /* scratch for top_p */
        float p;
        int32_t id;
    } *scratch;
};
/* 0 or MR_ENO_MEMORY. */
int infer_sampler_init(struct infer_sampler *sampler, const struct mr_sampling *sampling,
                       uint32_t vocab, uint64_t fallback_seed);
void infer_sampler_done(struct infer_sampler *sampler);
/* The next token. Equal logits, settings and history give equal tokens on every machine with the
 * same expf. May change logits in place (penalties). */
int32_t infer_sampler_next(struct infer_sampler *sampler, float *logits);

/* --- recent latencies (infer_stat.c) ---------------------------------------------------------- */

struct infer_stat {
    uint32_t us[INFER_SAMPLES];
    uint32_t count; /* ever; the ring index is count % INFER_SAMPLES */
};
void infer_stat_add(struct infer_stat *stat, uint64_t us);
uint32_t infer_stat_get(const struct infer_stat *stat, uint32_t permille);

/* --- meter (infer_meter.c) -------------------------------------------------------------------- */

struct infer_meter_slot {
    enum mr_meter_state state;
    struct mr_wire_end end; /* as it will be or was sent; its text is static */
    int owner;              /* connection that was told, or -1 */
};
/* Invariants: (1) a slot is FREE, RUNNING or ENDED, in memory and in the file alike; (2) serials of
 * slots in use differ; (3) a serial is never given twice. */
struct infer_meter {
    uint8_t *map; /* MR_WIRE_UNSETTLED_MAX x MR_METER_RECORD_BYTES, in the file; or plain memory */
    bool is_file;
    uint64_t next_serial;
    struct infer_meter_slot slots[MR_WIRE_UNSETTLED_MAX];
    uint32_t used;
};
/* run_dir NULL: no file. An older file with records is kept as "meter.prev". 0 or MR_EIO. */
int infer_meter_open(struct infer_meter *meter, const char *run_dir);
void infer_meter_close(struct infer_meter *meter);
/* The slot, or -1 when MR_WIRE_UNSETTLED_MAX are in use. */
int infer_meter_begin(struct infer_meter *meter, uint32_t tenant);
void infer_meter_update(struct infer_meter *meter, int slot, const struct mr_usage *usage);
/* Keeps the end until it is settled. end->serial and tenant are filled in here. */
void infer_meter_end(struct infer_meter *meter, int slot, struct mr_wire_end *end, int owner);
bool infer_meter_settle(struct infer_meter *meter, uint64_t serial); /* false: unknown */
void infer_meter_disown(struct infer_meter *meter, int owner);       /* its connection closed */

/* --- what to serve, and how (infer_spec.c) ---------------------------------------------------- */

struct infer_choice {                /* what was measured to be fastest; how to open the model */
    char file[INFER_PATH_BYTES_MAX]; /* the weights to load */
    uint64_t file_bytes;             /* its size when it was measured; 0: not known */
    char format[32];                 /* "Q4_1 as shipped" */
    int flash_attention;             /* 0 or 1 */
    bool streams;                    /* unrelated sequences in a cache of their own each */
    uint32_t ubatch;                 /* rows computed at once */
    bool measured;
    char summary[256]; /* one line for people */
};

struct infer_config {
    const char *socket, *model, *name, *run_dir, *cache_dir;
    const char *adapters[INFER_ADAPTERS_MAX];
    size_t adapter_count;
    uint64_t lease;
    uint32_t slots, context, threads, itl_ms, grace_ms;
    uint32_t mem_mib;     /* that this worker may use; 0: nobody said */
    double quality_bound; /* greatest accepted rise of perplexity, as a fraction */
    bool no_convert, no_tune, verbose, tune, bench, json, quick;
};

/* Fills the fields that the spec names, the others stay. Strings lie in the arena. 0, or an error
 * and a line for people in `ret_problem`; then config is untouched. */
int infer_spec_parse(struct mr_str json, struct mr_arena *arena, struct infer_config *config,
                     char *ret_problem, size_t problem_size);
/* The stored choice. parse: 0, or an error when it is not ours, damaged or of another version. */
int infer_choice_parse(struct mr_str json, struct infer_choice *ret_choice);
void infer_choice_put(struct mr_buf *buf, const struct infer_choice *choice);

/* --- the model file (infer_model.c) ----------------------------------------------------------- */

/* Says on stderr, once, what is wrong with a file that is to be loaded and what to do. true: fine.
 */
bool infer_model_check(const char *path, const char *what);
/* Routes llama's log: warnings and errors to stderr, the rest with `verbose`. While `capture` is
 * on, errors are kept instead; infer_log_last is the last one. */
void infer_log_init(bool verbose);
void infer_log_capture(bool capture);
const char *infer_log_last(void);

struct llama_batch;
struct llama_model;
struct llama_context;
struct llama_vocab;
struct infer_model {
    struct llama_model *model;
    const struct llama_vocab *vocab;
    void *adapters[INFER_ADAPTERS_MAX]; /* struct llama_adapter_lora */
    size_t adapter_count;
    struct infer_choice choice;
    uint32_t vocab_count, context_train;
    uint64_t kv_bytes_per_token;
    bool can_trim; /* a sequence can be cut anywhere: not so for recurrent models */
    struct infer_special *specials; /* tokens that only a template may name */
    size_t special_count;
    struct mr_str default_system; /* what the template says when nobody does; into the model */
};
typedef bool (*infer_progress_fn)(float done, void *context);
/* Loads the weights and adapters that config and choice name. On failure one line on stderr. */
int infer_model_load(struct infer_model *model, const struct infer_config *config,
                     const struct infer_choice *choice, infer_progress_fn progress, void *context);
void infer_model_free(struct infer_model *model);

/* --- chat template (infer_chat.c) ------------------------------------------------------------- */

struct infer_special {
    struct mr_str text;
    int32_t id;
    bool user_defined; /* the tokenizer sees it even in plain text, so plain text is cut there */
};
/* Fills specials and default_system; infer_chat_done frees them. 0 or MR_ENO_MEMORY. */
int infer_chat_prepare(struct infer_model *model);
void infer_chat_done(struct infer_model *model);
/* The text between "system" and the end of turn that a ChatML template inserts when no message is
 * the system's; empty when it has none. Points into the template. */
struct mr_str infer_chat_default_system(struct mr_str chat_template);
/* Tokens of the prompt for this chat, in memory of mr_alloc (the caller frees). Special tokens come
 * from the template alone: what a user wrote is text, whatever it looks like. 0, MR_ENO_MEMORY, or
 * MR_EUNSUPPORTED. */
int infer_chat_tokens(const struct infer_model *model, const struct mr_chat *chat,
                      struct mr_str resume, int32_t **ret_tokens, uint32_t *ret_count);
/* The bytes of one token; empty for control tokens. At most `size`. */
size_t infer_chat_piece(const struct infer_model *model, int32_t token, char *ret, size_t size);

/* --- lanes (infer_lane.c) --------------------------------------------------------------------- */

struct infer_seq { /* tokens, and where their keys and values lie */
    uint32_t tenant;
    int32_t *tokens;
    uint32_t token_count, token_capacity;
    uint32_t computed_count;       /* leading tokens whose cells lie in the lane */
    struct infer_lane *lane;       /* NULL: none */
    int32_t id;                    /* in that lane */
    struct infer_request *request; /* NULL: parked, kept for the next prompt that starts alike */
    uint8_t *saved;                /* the cells in host memory, when evicted */
    size_t saved_bytes;
    uint32_t saved_count;  /* tokens that `saved` holds */
    uint32_t shared_count; /* leading tokens whose cells another sequence had first */
    uint64_t touched;      /* order of use */
    uint32_t take;         /* rows in the batch being built */
    bool used;
};

/* One llama_context. Either each id has a cache of its own (streams), or all ids share one (a
 * family); see README.md for when which is faster. */
struct infer_lane {
    struct llama_context *ctx;
    bool unified;
    uint32_t ids;
    uint32_t cells; /* of each stream, or of the whole when unified */
    struct infer_seq *by_id[INFER_SLOTS_MAX + 1];
};
int infer_lane_open(struct infer_lane *lane, const struct infer_model *model,
                    const struct infer_config *config, bool unified, uint32_t ids, uint32_t cells);
void infer_lane_close(struct infer_lane *lane);
int32_t infer_lane_free_id(const struct infer_lane *lane); /* lowest, or -1 */
void infer_lane_attach(struct infer_lane *lane, struct infer_seq *seq, int32_t id);
/* Removes the sequence's cells; its tokens stay. */
void infer_lane_detach(struct infer_seq *seq);
/* Cuts the sequence's cells down to `count` tokens (to none when the model cannot be cut). */
void infer_lane_trim(struct infer_seq *seq, uint32_t count);
/* `seq`, just attached and empty, gets the first `count` tokens' cells of `donor`, same lane. */
void infer_lane_fork(struct infer_seq *donor, struct infer_seq *seq, uint32_t count);
/* Cells to host memory and back. save keeps them in the lane too. 0, MR_ENO_MEMORY, MR_EINTERNAL.
 */
int infer_lane_save(struct infer_seq *seq);
int infer_lane_restore(struct infer_seq *seq); /* into an empty one; frees `saved` on success */
void infer_lane_saved_drop(struct infer_seq *seq);
/* Cells in use, shared ones once; an estimate, llama_decode has the last word. */
uint32_t infer_lane_used(const struct infer_lane *lane);
/* The parked sequence that was used longest ago, or NULL. */
struct infer_seq *infer_lane_parked(const struct infer_lane *lane);
uint32_t infer_lane_running(const struct infer_lane *lane); /* sequences with a request */

/* --- engine (infer_engine.c, infer_admit.c, infer_step.c) ------------------------------------- */

struct infer_request {
    bool used;
    struct infer_seq *seq;
    uint32_t tenant;
    uint32_t stream; /* the owner's name for it */
    int owner;       /* connection, or -1 when it is gone */
    uint8_t priority;
    uint64_t arrived_us, admitted_us, first_us, last_us;
    uint64_t order;       /* of arrival */
    int64_t credit;       /* tokens that may still be sent */
    uint32_t held_tokens; /* decoded, text not sent yet */
    uint32_t prompt_count, max_tokens;
    struct mr_usage usage;
    struct infer_sampler sampler;
    struct infer_text text;
    struct mr_arena arena; /* stop strings */
    struct mr_str stops[MR_CHAT_STOPS_MAX];
    int meter_slot;
    bool running; /* has a place in a lane */
};

struct infer_sink { /* where answers go */
    void (*tokens)(void *context, const struct infer_request *request, uint32_t count,
                   struct mr_str text);
    void (*end)(void *context, const struct infer_request *request, const struct mr_wire_end *end);
    /* false: the owner cannot take more now; do not decode for it. */
    bool (*can_take)(void *context, int owner);
    void *context;
};

struct infer_engine {
    struct infer_config config;
    struct infer_model model;
    struct infer_lane lanes[INFER_LANES_MAX];
    size_t lane_count;
    uint32_t context_tokens, stream_cells;
    uint64_t kv_bytes_max, host_bytes_max; /* all lanes together; cells of evicted sequences */
    struct infer_request requests[MR_WIRE_UNSETTLED_MAX];
    struct infer_seq seqs[INFER_SEQS_MAX];
    struct infer_meter meter;
    struct infer_sink sink;
    struct infer_pace pace;
    struct infer_stat ttft, itl;
    struct mr_wire_stats totals;
    struct mr_buf out; /* scratch: text to send */
    struct llama_batch *batch;
    uint64_t orders, ticks, saved_bytes;
    uint64_t decode_us; /* of this step, over all lanes */
    uint32_t running, waiting;
    uint32_t evictions; /* since start */
    char note[256];     /* text of the last refusal */
    bool ready;
};
/* config is copied, its strings are not. The engine is large: heap only. */
int infer_engine_new(const struct infer_config *config, const struct infer_sink *sink,
                     struct infer_engine **ret_engine);
int infer_engine_load(struct infer_engine *engine, const struct infer_choice *choice,
                      infer_progress_fn progress, void *context);
/* The same model by another choice (weights, cache); nothing may run or wait. On failure nothing is
 * loaded, and it may be called again. */
int infer_engine_reload(struct infer_engine *engine, const struct infer_choice *choice);
void infer_engine_free(struct infer_engine *engine);
/* Takes a request or answers its END at once through `ret_refused` (serial 0): then the result is
 * the error and nothing else will come. 0: sink.end will be called exactly once, later. */
int infer_engine_submit(struct infer_engine *engine, int owner, uint32_t stream,
                        const struct mr_wire_submit *submit, struct mr_wire_end *ret_refused);
struct infer_request *infer_engine_find(struct infer_engine *engine, int owner, uint32_t stream);
void infer_engine_cancel(struct infer_engine *engine, struct infer_request *request);
/* Its connection closed: cancels all of the owner's requests; their ENDs stay unsettled. */
void infer_engine_disown(struct infer_engine *engine, int owner);
/* One round: admit, prefill some, decode one token for each stream. false: nothing could be done.
 */
bool infer_engine_step(struct infer_engine *engine);
void infer_engine_stats(struct infer_engine *engine, struct mr_wire_stats *ret);

/* Inside the engine. */
struct infer_seq *infer_engine_seq_new(struct infer_engine *engine);
void infer_engine_seq_drop(struct infer_engine *engine, struct infer_seq *seq);
bool infer_engine_room(struct infer_engine *engine, struct infer_lane *lane); /* drops one parked */
void infer_engine_evict(struct infer_engine *engine, struct infer_request *request);
/* One lane of which all ids share cells; opened when first needed. NULL: no memory for it. */
struct infer_lane *infer_engine_family(struct infer_engine *engine);
void infer_engine_finish(struct infer_engine *engine, struct infer_request *request,
                         enum mr_finish finish, int error, struct mr_str text);
bool infer_engine_may_decode(struct infer_engine *engine, const struct infer_request *request);
void infer_admit(struct infer_engine *engine);
bool infer_step_lane(struct infer_engine *engine, struct infer_lane *lane, uint32_t *chunk_left);
int infer_step_init(struct infer_engine *engine);
void infer_step_done(struct infer_engine *engine);

/* --- the programs ----------------------------------------------------------------------------- */

int infer_loop_run(const struct infer_config *config, const struct infer_choice *choice);
int infer_bench_run(const struct infer_config *config, const struct infer_choice *choice);
int infer_tune_run(const struct infer_config *config);
/* Makes this process the least important one; it dies with the one that started it. */
void infer_tune_background(void);
/* What an earlier measurement chose for this model on this machine, or the model as shipped. */
void infer_tune_choice(const struct infer_config *config, struct infer_choice *ret_choice);

#endif
