/* SPDX-License-Identifier: Apache-2.0 */
/* Turns a chat into tokens through the model's own template, and tokens back into bytes.
 *
 * Owns:       the list of special tokens of a model.
 * Invariants: (1) a special token comes from the template, never from a message: a user who writes
 *             <|im_end|> writes text; (2) text between two special tokens is tokenized as a whole,
 *             whoever wrote its parts, so benign chats get the tokens that the model was trained
 * on. Fails:      MR_ENO_MEMORY, MR_EUNSUPPORTED. Ends:       infer_chat_done. Idea:       the
 * template is rendered with placeholders for the messages; what it put around them is searched for
 * special tokens, then the messages take their places. Tests: tests/unit/infer/test_infer_worker.c
 */
#include "infer_int.h"

#include <stdio.h>

#include <llama.h>

#define CHAT_TEXT_BYTES_MAX (64u * 1024u * 1024u)
#define MARK_OPEN           '\002' /* a placeholder is \002 index \003 */
#define MARK_CLOSE          '\003'

struct mr_str infer_chat_default_system(struct mr_str chat_template)
{
    struct mr_str none = {0};
    if (chat_template.n == 0) return none;
    const char *condition = memmem(chat_template.p, chat_template.n, "!= 'system'", 11);
    if (condition == NULL) return none;
    size_t left = chat_template.n - (size_t)(condition - chat_template.p);
    const char *open = memmem(condition, left, "<|im_start|>system", 18);
    if (open == NULL) return none;
    const char *at = open + 18;
    const char *end = chat_template.p + chat_template.n;
    if (end - at >= 2 && at[0] == '\\' && at[1] == 'n') {
        at += 2;
    } else if (at < end && *at == '\n') {
        at += 1;
    } else {
        return none;
    }
    const char *close = memmem(at, (size_t)(end - at), "<|im_end|>", 10);
    if (close == NULL) return none;
    struct mr_str text = {at, (size_t)(close - at)};
    /* A quote or a brace means that the text is computed; then we leave it out. */
    for (size_t i = 0; i < text.n; i++) {
        if (strchr("'\"{}\\", text.p[i]) != NULL) return none;
    }
    return text;
}

int infer_chat_prepare(struct infer_model *model)
{
    size_t capacity = 0;
    for (int pass = 0; pass < 2; pass++) {
        size_t n = 0;
        for (int32_t id = 0; id < (int32_t)model->vocab_count; id++) {
            unsigned attr = (unsigned)llama_vocab_get_attr(model->vocab, id);
            bool control = (attr & LLAMA_TOKEN_ATTR_CONTROL) != 0;
            bool user = (attr & LLAMA_TOKEN_ATTR_USER_DEFINED) != 0;
            struct mr_str text = mr_str_from(llama_vocab_get_text(model->vocab, id));
            if (!(control || (user && mr_str_starts(text, MR_STR("<|")))) || text.n < 2) {
                continue;
            }
            if (pass == 1) {
                model->specials[n] = (struct infer_special){text, id, !control};
            }
            n++;
        }
        if (pass == 0) {
            capacity = n;
            model->specials = mr_alloc_zero(MR_MAX(capacity, 1u) * sizeof(model->specials[0]));
            if (model->specials == NULL) return MR_ENO_MEMORY;
        }
    }
    model->special_count = capacity;
    model->default_system =
        infer_chat_default_system(mr_str_from(llama_model_chat_template(model->model, NULL)));
    return 0;
}

void infer_chat_done(struct infer_model *model)
{
    mr_free(model->specials);
    model->specials = NULL;
    model->special_count = 0;
}

/* Collects text up to the next special token, then tokenizes it. */
struct writer {
    const struct infer_model *model;
    struct mr_buf run; /* plain text that is not tokenized yet */
    struct mr_buf ids; /* int32_t */
    int error;
};

static void ids_put(struct writer *w, int32_t id)
{
    mr_buf_put(&w->ids, &id, sizeof(id));
}

static void plain_tokenize(struct writer *w, struct mr_str text)
{
    if (text.n == 0 || w->error != 0) {
        return;
    }
    /* A token has at least one byte; some vocabularies add a space. */
    size_t room = text.n + 8;
    if (!mr_buf_reserve(&w->ids, room * sizeof(int32_t)) || room > INT32_MAX) {
        w->error = MR_ENO_MEMORY;
        return;
    }
    /* The buffer starts aligned (malloc) and grows by whole ids. */
    int32_t *at = (int32_t *)(void *)(w->ids.p + w->ids.n);
    int32_t n =
        llama_tokenize(w->model->vocab, text.p, (int32_t)text.n, at, (int32_t)room, false, false);
    if (n < 0) {
        w->error = MR_EUNSUPPORTED;
        return;
    }
    w->ids.n += (size_t)n * sizeof(int32_t);
}

static void run_flush(struct writer *w)
{
    plain_tokenize(w, mr_buf_str(&w->run));
    mr_buf_reset(&w->run);
}

/* The longest special token that `s` starts with, or NULL. */
static const struct infer_special *special_at(const struct infer_model *model, struct mr_str s,
                                              bool user_defined_only)
{
    const struct infer_special *best = NULL;
    for (size_t i = 0; i < model->special_count; i++) {
        const struct infer_special *special = &model->specials[i];
        if (special->text.p[0] == s.p[0] && (!user_defined_only || special->user_defined) &&
            mr_str_starts(s, special->text) && (best == NULL || special->text.n > best->text.n)) {
            best = special;
        }
    }
    return best;
}

static void template_put(struct writer *w, struct mr_str s)
{
    size_t at = 0;
    while (at < s.n) {
        struct mr_str rest = {s.p + at, s.n - at};
        const struct infer_special *special = special_at(w->model, rest, false);
        if (special == NULL) {
            mr_buf_put_char(&w->run, s.p[at++]);
            continue;
        }
        run_flush(w);
        ids_put(w, special->id);
        at += special->text.n;
    }
}

static void message_put(struct writer *w, struct mr_str s)
{
    bool cuts = false;
    for (size_t i = 0; i < w->model->special_count; i++) {
        cuts |= w->model->specials[i].user_defined;
    }
    if (!cuts) {
        mr_buf_put_str(&w->run, s);
        return;
    }
    for (size_t at = 0; at < s.n; at++) {
        struct mr_str rest = {s.p + at, s.n - at};
        mr_buf_put_char(&w->run, s.p[at]);
        if (special_at(w->model, rest, true) != NULL) {
            run_flush(w); /* after its first byte: what follows cannot be that token any more */
        }
    }
}

/* Walks the rendered template; placeholders become messages. */
static void rendered_put(struct writer *w, struct mr_str text, const struct mr_str *contents,
                         size_t count)
{
    while (text.n > 0 && w->error == 0) {
        const char *mark = memchr(text.p, MARK_OPEN, text.n);
        const char *close =
            mark == NULL ? NULL : memchr(mark, MARK_CLOSE, text.n - (size_t)(mark - text.p));
        if (close == NULL) {
            template_put(w, text);
            return;
        }
        template_put(w, (struct mr_str){text.p, (size_t)(mark - text.p)});
        uint64_t index = 0;
        struct mr_str digits = {mark + 1, (size_t)(close - mark - 1)};
        if (mr_str_to_u64(digits, &index) == 0 && index < count) {
            message_put(w, contents[index]);
        }
        text = (struct mr_str){close + 1, text.n - (size_t)(close + 1 - text.p)};
    }
}

/* Without a template that we know: names, colons and lines. */
static void plain_put(struct writer *w, const struct llama_chat_message *messages,
                      const struct mr_str *contents, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        mr_buf_printf(&w->run, "%s: ", messages[i].role);
        message_put(w, contents[i]);
        mr_buf_put_char(&w->run, '\n');
    }
    mr_buf_put_str(&w->run, MR_STR("assistant:"));
}

static bool vocab_knows(const struct infer_model *model, struct mr_str text)
{
    for (size_t i = 0; i < model->special_count; i++) {
        if (mr_str_equal(model->specials[i].text, text)) return true;
    }
    return false;
}

static int render(struct writer *w, const struct llama_chat_message *messages,
                  const struct mr_str *contents, size_t count)
{
    const char *name = llama_model_chat_template(w->model->model, NULL);
    int32_t n = name == NULL ? -1 : llama_chat_apply_template(name, messages, count, true, NULL, 0);
    if (n < 0 && vocab_knows(w->model, MR_STR("<|im_start|>"))) {
        name = "chatml";
        n = llama_chat_apply_template(name, messages, count, true, NULL, 0);
    }
    if (n < 0) {
        plain_put(w, messages, contents, count);
        return 0;
    }
    char *text = mr_alloc((size_t)n + 1);
    if (text == NULL) return MR_ENO_MEMORY;
    (void)llama_chat_apply_template(name, messages, count, true, text, n + 1);
    rendered_put(w, (struct mr_str){text, (size_t)n}, contents, count);
    mr_free(text);
    return w->error;
}

/* Messages with placeholders for contents; the template's own system text where nobody gave one. */
static int messages_build(const struct infer_model *model, const struct mr_chat *chat,
                          struct mr_arena *arena, struct llama_chat_message **ret_messages,
                          struct mr_str **ret_contents, size_t *ret_count)
{
    bool insert = model->default_system.n > 0 &&
                  (chat->message_count == 0 || chat->messages[0].role != MR_ROLE_SYSTEM);
    size_t count = chat->message_count + (insert ? 1u : 0u);
    struct llama_chat_message *messages = mr_arena_alloc(arena, (count + 1) * sizeof(*messages));
    struct mr_str *contents = mr_arena_alloc(arena, (count + 1) * sizeof(*contents));
    if (messages == NULL || contents == NULL) return MR_ENO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        char mark[32];
        int n = snprintf(mark, sizeof(mark), "%c%zu%c", MARK_OPEN, i, MARK_CLOSE);
        struct mr_str copy = mr_str_copy(arena, (struct mr_str){mark, (size_t)n});
        size_t from = i - (insert ? 1u : 0u);
        bool own = insert && i == 0;
        enum mr_role role = own ? MR_ROLE_SYSTEM : chat->messages[from].role;
        messages[i] = (struct llama_chat_message){mr_role_name(role).p, copy.p};
        contents[i] = own ? model->default_system : chat->messages[from].content;
        if (copy.p == NULL) return MR_ENO_MEMORY;
    }
    *ret_messages = messages;
    *ret_contents = contents;
    *ret_count = count;
    return 0;
}

int infer_chat_tokens(const struct infer_model *model, const struct mr_chat *chat,
                      struct mr_str resume, int32_t **ret_tokens, uint32_t *ret_count)
{
    struct writer w = {.model = model};
    mr_buf_init(&w.run, CHAT_TEXT_BYTES_MAX);
    mr_buf_init(&w.ids, 8ull * CHAT_TEXT_BYTES_MAX);
    struct mr_arena arena;
    mr_arena_init(&arena, CHAT_TEXT_BYTES_MAX);
    struct llama_chat_message *messages = NULL;
    struct mr_str *contents = NULL;
    size_t count = 0;
    int error = messages_build(model, chat, &arena, &messages, &contents, &count);
    if (error == 0) {
        error = render(&w, messages, contents, count);
    }
    message_put(&w, resume);
    run_flush(&w);
    error = error != 0 ? error : w.error;
    if (w.run.failed || w.ids.failed) {
        error = MR_ENO_MEMORY;
    }
    size_t n = w.ids.n / sizeof(int32_t);
    int32_t bos = llama_vocab_bos(model->vocab);
    const int32_t *ids = (const int32_t *)(const void *)w.ids.p;
    bool add = error == 0 && llama_vocab_get_add_bos(model->vocab) && bos >= 0 &&
               (n == 0 || ids[0] != bos);
    int32_t *tokens = error == 0 ? mr_alloc((n + 2) * sizeof(int32_t)) : NULL;
    if (tokens != NULL) {
        tokens[0] = bos;
        if (n > 0) {
            memcpy(tokens + (add ? 1 : 0), ids, n * sizeof(int32_t));
        }
        *ret_tokens = tokens;
        *ret_count = (uint32_t)(n + (add ? 1u : 0u));
    } else if (error == 0) {
        error = MR_ENO_MEMORY;
    }
    mr_arena_done(&arena);
    mr_buf_done(&w.run);
    mr_buf_done(&w.ids);
    return error;
}

size_t infer_chat_piece(const struct infer_model *model, int32_t token, char *ret, size_t size)
{
    if (llama_vocab_is_control(model->vocab, token)) return 0;
    int32_t n = llama_token_to_piece(model->vocab, token, ret, (int32_t)size, 0, false);
    return n < 0 ? 0 : (size_t)n;
}
