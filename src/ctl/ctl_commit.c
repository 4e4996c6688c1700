/* SPDX-License-Identifier: Apache-2.0 */
/* The order of durability: records wait, a group is written, and only then stepped and answered.
 *
 * Owns:       records that wait or are under way, ledger lines until they are durable.
 * Invariants: (1) at most one append is in flight; (2) records are stepped in the order they were
 *             pushed, after they are durable; (3) a call is answered after the last of its records
 * was stepped; (4) a ledger line stays here until it is durable. Cost:       O(1) for each record,
 * one append for a group.
 */
#include "ctl/ctl_int.h"

static const char full_text[] =
    "no space left on the disk: nothing was changed; free some space and try again";

static void snapshot_answer(struct mr_ctl *ctl, int error, const char *text);

void ctl_pending_free(struct ctl_pending *pending)
{
    if (pending == NULL) return;
    mr_buf_done(&pending->bytes);
    mr_buf_done(&pending->problem);
    mr_free(pending);
}

struct ctl_pending *ctl_push(struct mr_ctl *ctl, const struct ctl_record *record,
                             struct ctl_group_call *answer)
{
    /* Only callers are refused: what an engine reports must not be lost. */
    if (answer != NULL && ctl->pending_count >= CTL_PENDING_MAX) return NULL;
    struct ctl_pending *pending = mr_alloc_zero(sizeof *pending);
    if (pending == NULL) return NULL;
    mr_buf_init(&pending->bytes, MR_RECORD_BYTES_MAX);
    ctl_record_put(&pending->bytes, record);
    if (pending->bytes.failed) {
        ctl_pending_free(pending);
        return NULL;
    }
    pending->answer = answer;
    *ctl->last = pending;
    ctl->last = &pending->next;
    ctl->pending_count++;
    return pending;
}

/* One of a call's records will not be written: the call ends when none of its records is left. */
static void answer_drop(struct mr_ctl *ctl, struct ctl_pending *pending, int error,
                        const char *text)
{
    struct ctl_group_call *answer = pending->answer;
    if (answer == NULL) return;
    if (answer->call->error == 0) {
        answer->call->error = error;
        ctl_problem(answer->call, "%s", text);
    }
    if (--answer->left > 0) return;
    ctl_answer(ctl, answer->call, answer->call->error);
    mr_free(answer);
}

/* Every call that waits is answered; what nobody waits for is said again by the engines. */
static void answer_all(struct mr_ctl *ctl, const char *text)
{
    struct ctl_pending *lists[] = {ctl->flight, ctl->first};
    ctl->flight = ctl->first = NULL;
    ctl->last = &ctl->first;
    ctl->pending_count = 0;
    for (size_t i = 0; i < MR_COUNT_OF(lists); i++) {
        while (lists[i] != NULL) {
            struct ctl_pending *next = lists[i]->next;
            answer_drop(ctl, lists[i], MR_EUNAVAILABLE, text);
            ctl_pending_free(lists[i]);
            lists[i] = next;
        }
    }
    snapshot_answer(ctl, MR_EUNAVAILABLE, text);
    ctl->snapshot_calls = ctl->snapshot_wanted;
    ctl->snapshot_wanted = NULL;
    snapshot_answer(ctl, MR_EUNAVAILABLE, text);
}

void ctl_die(struct mr_ctl *ctl, int error, struct mr_str text)
{
    if (ctl->dead) return;
    ctl->dead = true;
    answer_all(ctl, "the journal failed: whether this was taken is known after the next start");
    if (ctl->config.fatal != NULL) ctl->config.fatal(ctl->config.fatal_arg, error, text);
}

void ctl_push_event(struct mr_ctl *ctl, const struct mr_event *event, uint64_t forget)
{
    struct ctl_record record = {.kind = CTL_RECORD_EVENT, .event = *event};
    record.event.time_us = ctl->env->ops->now_us(ctl->env);
    struct ctl_pending *pending = ctl_push(ctl, &record, NULL);
    if (pending == NULL) {
        ctl_die(ctl, MR_ENO_MEMORY,
                MR_STR("an event cannot be kept; what is durable is safe, start again"));
        return;
    }
    pending->forget = forget;
    pending->is_tick = event->kind == MR_EVENT_TICK;
    ctl_commit(ctl);
}

/* --- building a group ------------------------------------------------------------------------- */

static void push_hash_first(struct mr_ctl *ctl)
{
    struct ctl_record record = {.kind = CTL_RECORD_HASH, .hash = mr_core_hash(ctl->core)};
    struct ctl_pending *pending = mr_alloc_zero(sizeof *pending);
    if (pending == NULL) return; /* a check less */
    mr_buf_init(&pending->bytes, 64);
    ctl_record_put(&pending->bytes, &record);
    pending->next = ctl->first;
    if (ctl->first == NULL) ctl->last = &pending->next;
    ctl->first = pending;
    ctl->pending_count++;
    ctl->records_since_hash = 0;
}

/* Takes from the waiting as much as a group may hold. */
static size_t group_size(const struct mr_ctl *ctl)
{
    size_t count = 0, bytes = 0;
    for (const struct ctl_pending *p = ctl->first; p != NULL && count < MR_GROUP_RECORDS_MAX;
         p = p->next) {
        bytes += p->bytes.n;
        if (count > 0 && bytes > MR_GROUP_BYTES_MAX) break;
        count++;
    }
    return count;
}

static bool group_build(struct mr_ctl *ctl)
{
    size_t count = group_size(ctl);
    size_t lines = MR_MIN(ctl->line_count, (size_t)4 * MR_GROUP_RECORDS_MAX);
    ctl->flight_records = mr_alloc_zero((count + 1) * sizeof *ctl->flight_records);
    ctl->flight_lines = mr_alloc_zero((lines + 1) * sizeof *ctl->flight_lines);
    if (ctl->flight_records == NULL || ctl->flight_lines == NULL) return false;
    struct ctl_pending **link = &ctl->first;
    for (size_t i = 0; i < count; i++) {
        ctl->flight_records[i] =
            (struct mr_store_record){.seq = ctl->seq + 1 + i, .bytes = mr_buf_str(&(*link)->bytes)};
        link = &(*link)->next;
    }
    for (size_t i = 0; i < lines; i++) {
        ctl->flight_lines[i] =
            (struct mr_store_ledger){.entry = ctl->lines[i].entry,
                                     .bytes = {(const char *)ctl->lines[i].bytes, ctl->lines[i].n}};
    }
    ctl->flight = count > 0 ? ctl->first : NULL;
    ctl->first = count > 0 ? *link : ctl->first;
    if (count > 0) *link = NULL;
    if (ctl->first == NULL) ctl->last = &ctl->first;
    ctl->pending_count -= (uint32_t)count;
    ctl->flight_count = count;
    ctl->flight_line_count = lines;
    return true;
}

static void group_free(struct mr_ctl *ctl)
{
    mr_free(ctl->flight_records);
    mr_free(ctl->flight_lines);
    ctl->flight_records = NULL;
    ctl->flight_lines = NULL;
    ctl->flight_count = ctl->flight_line_count = 0;
}

/* --- after the append ------------------------------------------------------------------------- */

static void lines_drop(struct mr_ctl *ctl, size_t count)
{
    if (count == 0) return;
    memmove(ctl->lines, ctl->lines + count, (ctl->line_count - count) * sizeof *ctl->lines);
    ctl->line_count -= count;
}

/* The record is durable and stepped: whoever waited is told. */
static void pending_through(struct mr_ctl *ctl, struct ctl_pending *pending)
{
    struct ctl_group_call *answer = pending->answer;
    if (pending->is_tick) ctl->tick_pending = false;
    if (pending->forget != 0) {
        ctl->engine->ops->forget(ctl->engine, (struct mr_lease_id){pending->forget});
    }
    if (pending->refused != 0) ctl_batch_problem(answer, &pending->problem, pending->refused);
    if (answer != NULL && pending->refused == 0) answer->taken = true;
    if (answer != NULL && --answer->left == 0) {
        if (answer->batch) mr_buf_put_str(&answer->call->out, MR_STR("]}"));
        ctl_answer(ctl, answer->call, answer->call->error);
        mr_free(answer);
    }
}

static void group_apply(struct mr_ctl *ctl)
{
    struct ctl_pending *pending = ctl->flight;
    ctl->flight = NULL;
    while (pending != NULL) {
        struct ctl_pending *next = pending->next;
        ctl->seq++;
        ctl->records_since_snapshot++;
        ctl->bytes_since_snapshot += pending->bytes.n;
        ctl->records_since_hash++;
        ctl->applying = pending;
        int error = ctl_apply(ctl, mr_buf_str(&pending->bytes));
        ctl->applying = NULL;
        MR_ASSERT(error == 0); /* we made the record ourselves */
        pending_through(ctl, pending);
        ctl_pending_free(pending);
        pending = next;
    }
}

/* A document of a batch: its own place in the answer says so, those before it may be taken. */
static void batch_full(struct mr_ctl *ctl, struct ctl_pending *pending)
{
    struct ctl_group_call *answer = pending->answer;
    struct mr_buf text;
    mr_buf_init(&text, 256);
    mr_buf_put_str(&text, mr_str_from(full_text));
    if (pending->refused != 0) {
        ctl_batch_problem(answer, &pending->problem, pending->refused);
    } else {
        ctl_batch_problem(answer, &text, MR_ENO_SPACE);
        answer->full = true;
    }
    mr_buf_done(&text);
    if (--answer->left > 0) return;
    if (answer->full && !answer->taken) { /* none was: the call as a whole is refused */
        mr_buf_reset(&answer->call->out);
        answer->call->error = MR_ENO_SPACE;
        ctl_problem(answer->call, "%s", full_text);
    } else {
        mr_buf_put_str(&answer->call->out, MR_STR("]}"));
    }
    ctl_answer(ctl, answer->call, answer->call->error);
    mr_free(answer);
}

/* Puts a group that was not written back in front; callers are told, reports wait for space. */
static void group_refuse(struct mr_ctl *ctl)
{
    struct ctl_pending *pending = ctl->flight, *kept = NULL, **last = &kept;
    ctl->flight = NULL;
    while (pending != NULL) {
        struct ctl_pending *next = pending->next;
        pending->next = NULL;
        if (pending->answer == NULL) {
            *last = pending;
            last = &pending->next;
            ctl->pending_count++;
        } else {
            if (pending->answer->batch) {
                batch_full(ctl, pending);
            } else {
                answer_drop(ctl, pending, MR_ENO_SPACE, full_text);
            }
            ctl_pending_free(pending);
        }
        pending = next;
    }
    if (kept == NULL) return;
    *last = ctl->first;
    if (ctl->first == NULL) ctl->last = last;
    ctl->first = kept;
}

static void commit_again(void *arg)
{
    struct mr_ctl *ctl = arg;
    ctl->commit_timer = NULL;
    ctl_commit(ctl);
}

static void commit_later(struct mr_ctl *ctl, uint64_t delay_us)
{
    if (ctl->commit_timer != NULL) return;
    uint64_t at_us = ctl->env->ops->now_us(ctl->env) + delay_us;
    if (ctl->env->ops->timer_start(ctl->env, at_us, commit_again, ctl, &ctl->commit_timer) != 0) {
        ctl->commit_timer = NULL;
        ctl_commit(ctl);
    }
}

static void append_failed(struct mr_ctl *ctl, int error)
{
    ctl->appending = false;
    if (error == MR_ENO_SPACE) {
        ctl->full = true;
        ctl->retries++;
        group_refuse(ctl);
        group_free(ctl);
        commit_later(ctl, CTL_RETRY_US);
    } else {
        group_free(ctl);
        ctl_die(
            ctl, error,
            error == MR_EFENCED
                ? MR_STR("another daemon leads this home now; this one ends")
                : MR_STR("the journal cannot be written; what was acknowledged is safe, look at "
                         "the disk and start again"));
    }
    ctl_stop_further(ctl);
}

static void append_done(void *arg, int error)
{
    struct mr_ctl *ctl = arg;
    MR_ASSERT(ctl->appending);
#ifdef MR_PLANT_CTL_NO_FENCE
    if (error == MR_EFENCED) error = 0; /* planted: a leader that was replaced goes on */
#endif
    if (error != 0) {
        append_failed(ctl, error);
        return;
    }
    ctl->full = false;
    ctl->commits++;
    lines_drop(ctl, ctl->flight_line_count);
    /* Still appending: what is pushed while the group is stepped waits for the next one. */
#ifndef MR_PLANT_CTL_ANSWER_EARLY
    group_apply(ctl);
#endif
    ctl->appending = false;
    group_free(ctl);
    ctl_tick_plan(ctl);
    if (ctl->routes_dirty) ctl_routes_publish(ctl);
    /* A large state is saved when twice as much was journalled again: so saving stays a part of the
     * work, however large it grows, and so does the replay after a crash. */
    if (ctl->records_since_snapshot >= ctl->config.snapshot_every_records &&
        ctl->bytes_since_snapshot / 2 >= ctl->snapshot_bytes) {
        ctl_snapshot_begin(ctl);
    }
    ctl_commit(ctl);
    ctl_stop_further(ctl);
}

static void commit_now(struct mr_ctl *ctl)
{
    if (!ctl->live || ctl->appending || ctl->dead) return;
    if (ctl->first == NULL && ctl->line_count == 0) return;
    if (ctl->config.group_delay_us > 0 && !ctl->stopping && ctl->commit_timer == NULL &&
        ctl->pending_count < MR_GROUP_RECORDS_MAX && !ctl->full) {
        /* One wait for company, then whatever has come goes. */
        if (!ctl->waited) {
            ctl->waited = true;
            commit_later(ctl, ctl->config.group_delay_us);
            return;
        }
    }
    if (ctl->commit_timer != NULL) return;
    ctl->waited = false;
    /* Rarer the larger the state, so that hashing stays a small part of the work. */
    if (ctl->records_since_hash >= CTL_HASH_RECORDS + ctl->block_bytes / 4096) push_hash_first(ctl);
    if (!group_build(ctl)) {
        group_free(ctl);
        commit_later(ctl, CTL_RETRY_US);
        return;
    }
    struct mr_store_group group = {.records = ctl->flight_records,
                                   .record_count = ctl->flight_count,
                                   .ledger = ctl->flight_lines,
                                   .ledger_count = ctl->flight_line_count};
    ctl->appending = true;
#ifdef MR_PLANT_CTL_ANSWER_EARLY
    group_apply(ctl); /* planted: stepped and answered before it is durable */
#endif
    ctl->store->ops->append(ctl->store, ctl->epoch, &group, append_done, ctl);
}

static void commit_posted(struct mr_post *post)
{
    struct mr_ctl *ctl =
        (struct mr_ctl *)(void *)((char *)post - offsetof(struct mr_ctl, commit_post));
    ctl->commit_posted = false;
    commit_now(ctl);
    ctl_stop_further(ctl);
}

/* Behind the calls that have come already, so that they share one append: the first of many that
 * come together would else go alone and let the others wait for two. */
void ctl_commit(struct mr_ctl *ctl)
{
    if (!ctl->live || ctl->appending || ctl->dead || ctl->commit_posted) return;
    if (ctl->first == NULL && ctl->line_count == 0) return;
    ctl->commit_posted = true;
    ctl->commit_post.fn = commit_posted;
    ctl->env->ops->post(ctl->env, ctl->env->lane, &ctl->commit_post);
}

/* --- snapshots -------------------------------------------------------------------------------- */

/* Those who asked for the snapshot that is through, or for one that cannot be. */
static void snapshot_answer(struct mr_ctl *ctl, int error, const char *text)
{
    struct mr_ctl_call *call = ctl->snapshot_calls;
    ctl->snapshot_calls = NULL;
    while (call != NULL) {
        struct mr_ctl_call *next = (struct mr_ctl_call *)(void *)call->post.next;
        if (error == 0) {
            mr_buf_printf(&call->out, "{\"seq\":%llu}", (unsigned long long)ctl->snapshot_seq);
        } else {
            ctl_problem(call, "%s", text);
        }
        ctl_answer(ctl, call, error);
        call = next;
    }
}

static void snapshot_done(void *arg, int error)
{
    struct mr_ctl *ctl = arg;
    ctl->snapshotting = false;
    mr_buf_done(&ctl->snapshot);
    mr_buf_init(&ctl->snapshot, SIZE_MAX);
    if (error == 0) ctl->snapshots++;
    snapshot_answer(ctl, error, error == MR_ENO_SPACE ? full_text : mr_error_text(error));
    /* Without space or memory the journal goes on from the older one. */
    if (error != 0 && error != MR_ENO_SPACE && error != MR_ENO_MEMORY) {
        ctl_die(ctl, error,
                MR_STR("a snapshot cannot be written; what was acknowledged is safe, look "
                       "at the disk and start again"));
    }
    if (ctl->snapshot_wanted != NULL && !ctl->dead) {
        ctl->snapshot_calls = ctl->snapshot_wanted;
        ctl->snapshot_wanted = NULL;
        ctl_snapshot_begin(ctl);
    }
    ctl_stop_further(ctl);
}

void ctl_snapshot_begin(struct mr_ctl *ctl)
{
    if (ctl->snapshotting || ctl->dead) return;
    mr_buf_reset(&ctl->snapshot);
    ctl_state_save(ctl, &ctl->snapshot);
    if (ctl->snapshot.failed) { /* later again */
        snapshot_answer(ctl, MR_ENO_MEMORY, "no memory for a snapshot");
        return;
    }
    ctl->snapshotting = true;
    ctl->snapshot_bytes = ctl->snapshot.n;
    ctl->records_since_snapshot = 0;
    ctl->bytes_since_snapshot = 0;
    ctl->snapshot_seq = ctl->seq;
    ctl->store->ops->snapshot_put(ctl->store, ctl->epoch, ctl->seq, mr_buf_str(&ctl->snapshot),
                                  snapshot_done, ctl);
}

/* A snapshot that is under way may be of an older state: its end begins another. */
void ctl_snapshot_call(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    struct mr_ctl_call **list = ctl->snapshotting ? &ctl->snapshot_wanted : &ctl->snapshot_calls;
    call->post.next = (struct mr_post *)(void *)*list;
    *list = call;
    ctl_snapshot_begin(ctl);
}

/* --- time ------------------------------------------------------------------------------------- */

static void tick(void *arg)
{
    struct mr_ctl *ctl = arg;
    ctl->tick_timer = NULL;
    if (ctl->tick_pending || ctl->dead || !ctl->live) return;
    ctl->tick_pending = true;
    struct mr_event event = {.kind = MR_EVENT_TICK};
    ctl_push_event(ctl, &event, 0);
}

void ctl_tick_plan(struct mr_ctl *ctl)
{
    uint64_t wake_us = mr_core_wake_us(ctl->core);
    if (ctl->tick_pending || (ctl->tick_timer != NULL && ctl->tick_at_us == wake_us)) return;
    ctl->env->ops->timer_stop(ctl->env, ctl->tick_timer);
    ctl->tick_timer = NULL;
    ctl->tick_at_us = wake_us;
    if (wake_us == UINT64_MAX || ctl->stopping) return;
    if (ctl->env->ops->timer_start(ctl->env, wake_us, tick, ctl, &ctl->tick_timer) != 0) {
        ctl->tick_timer = NULL;
    }
}

/* --- the end ---------------------------------------------------------------------------------- */

void ctl_stop_further(struct mr_ctl *ctl)
{
    if (!ctl->stopping || ctl->ended || ctl->stop_timer != NULL) return;
    if (ctl->appending || ctl->snapshotting || ctl->commit_posted) return;
    if (ctl->forecasts > 0) return;
    /* On a full disk what waits is said again by the engines after the next start. */
    if ((ctl->first != NULL || ctl->line_count > 0) && !ctl->full && !ctl->dead) {
        commit_now(ctl);
        if (ctl->appending) return;
    }
    if (!ctl->final_snapshot && !ctl->dead) {
        ctl->final_snapshot = true;
        if (!ctl->full) ctl_snapshot_begin(ctl);
        if (ctl->snapshotting) return;
    }
    ctl->ended = ctl->dead = true;
    ctl->env->ops->timer_stop(ctl->env, ctl->commit_timer);
    ctl->commit_timer = NULL;
    answer_all(ctl, "Millrace is stopping");
    if (ctl->stopped != NULL) ctl->stopped(ctl->stopped_arg);
}

static void stop_first(void *arg)
{
    struct mr_ctl *ctl = arg;
    ctl->stop_timer = NULL;
    ctl_stop_further(ctl);
}

void mr_ctl_stop(struct mr_ctl *ctl, void (*done)(void *arg), void *arg)
{
    ctl->stopped = done;
    ctl->stopped_arg = arg;
    ctl->stopping = true;
    ctl->env->ops->timer_stop(ctl->env, ctl->commit_timer);
    ctl->commit_timer = NULL;
    ctl->env->ops->timer_stop(ctl->env, ctl->tick_timer);
    ctl->tick_timer = NULL;
    /* done must not come within this call. */
    uint64_t now_us = ctl->env->ops->now_us(ctl->env);
    if (ctl->env->ops->timer_start(ctl->env, now_us, stop_first, ctl, &ctl->stop_timer) != 0) {
        ctl_stop_further(ctl);
    }
}
