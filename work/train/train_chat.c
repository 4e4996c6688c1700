/* SPDX-License-Identifier: Apache-2.0 */
/* A chat of one JSON line, and its tokens with a mark on those that a loss is taken on.
 *
 * Owns:       the vocabulary of a tokenizer.
 * Invariants: (1) a special token comes from the template, never from a message; (2) a loss is
 * taken on what an assistant says and on the token that ends its turn, on nothing else; (3) the
 * tokens are those that serving gives the same chat. Fails:      MR_ESYNTAX, MR_EINVALID,
 * MR_EUNSUPPORTED, MR_ENO_MEMORY. Ends:       train_tokenizer_close. Tests:
 * tests/unit/train/test_train_data.c, tests/fuzz/train/fuzz_train_chat.c
 */
#include "train.h"

#include <llama.h>
#include <yyjson.h>

#define TURN_START "<|im_start|>"
#define TURN_END   "<|im_end|>"

/* --- reading ------------------------------------------------------------------------------- */

static int message_read(yyjson_val *value, struct mr_arena *arena, struct train_message *ret,
                        struct train_problem *problem)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    yyjson_val *role = yyjson_obj_get(value, "role"), *content = yyjson_obj_get(value, "content");
    bool known = false;
    for (size_t i = 0; i < MR_COUNT_OF(roles); i++) {
        known = known || yyjson_equals_str(role, roles[i]);
    }
    if (!known) {
        return train_problem_set(problem, MR_EINVALID,
                                 "a message's \"role\" must be system, user, assistant or tool");
    }
    if (!yyjson_is_str(content)) {
        return train_problem_set(problem, MR_EINVALID, "a message's \"content\" must be a string");
    }
    ret->role = mr_str_copy(arena, (struct mr_str){yyjson_get_str(role), yyjson_get_len(role)});
    ret->content =
        mr_str_copy(arena, (struct mr_str){yyjson_get_str(content), yyjson_get_len(content)});
    if (ret->role.p == NULL || ret->content.p == NULL) {
        return train_problem_set(problem, MR_ENO_MEMORY, "out of memory");
    }
    return 0;
}

static int messages_read(yyjson_val *list, struct mr_arena *arena, struct train_chat *ret,
                         struct train_problem *problem)
{
    size_t index = 0, count = 0, answers = 0;
    yyjson_val *value = NULL;
    struct train_chat chat = {.count = yyjson_arr_size(list)};
    if (!yyjson_is_arr(list) || chat.count == 0) {
        return train_problem_set(problem, MR_EINVALID,
                                 "wants {\"messages\":[{\"role\":…,\"content\":…},…]}");
    }
    if (chat.count > MR_CHAT_MESSAGES_MAX) {
        return train_problem_set(problem, MR_ETOO_LARGE, "has more than %u messages",
                                 MR_CHAT_MESSAGES_MAX);
    }
    chat.messages = mr_arena_alloc_zero(arena, chat.count * sizeof *chat.messages);
    if (chat.messages == NULL) return train_problem_set(problem, MR_ENO_MEMORY, "out of memory");
    yyjson_arr_foreach(list, index, count, value)
    {
        int error = message_read(value, arena, &chat.messages[index], problem);
        if (error != 0) return error;
        answers += mr_str_equal(chat.messages[index].role, MR_STR("assistant"));
    }
    if (answers == 0) {
        return train_problem_set(problem, MR_EINVALID, "has no assistant message to learn from");
    }
    *ret = chat;
    return 0;
}

int train_chat_parse(struct mr_str line, struct mr_arena *arena, struct train_chat *ret,
                     struct train_problem *problem)
{
    yyjson_read_err where;
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)line.p, line.n, 0, NULL, &where);
    if (doc == NULL) {
        return train_problem_set(problem, MR_ESYNTAX, "is not JSON at byte %zu: %s", where.pos + 1,
                                 where.msg);
    }
    yyjson_val *root = yyjson_doc_get_root(doc);
    int error = messages_read(yyjson_obj_get(root, "messages"), arena, ret, problem);
    yyjson_doc_free(doc);
    return error;
}

/* --- the vocabulary ------------------------------------------------------------------------ */

struct mr_str train_default_system(struct mr_str chat_template)
{
    static const char open_mark[] = TURN_START "system";
    struct mr_str none = {0};
    const char *end = chat_template.p + chat_template.n;
    const char *test =
        chat_template.n == 0 ? NULL : memmem(chat_template.p, chat_template.n, "!= 'system'", 11);
    if (test == NULL) return none;
    const char *at = memmem(test, (size_t)(end - test), open_mark, sizeof open_mark - 1);
    if (at == NULL) return none;
    at += sizeof open_mark - 1;
    size_t left = (size_t)(end - at);
    if (left >= 2 && at[0] == '\\' && at[1] == 'n') {
        at += 2;
    } else if (left >= 1 && at[0] == '\n') {
        at += 1;
    } else {
        return none;
    }
    const char *close = memmem(at, (size_t)(end - at), TURN_END, sizeof TURN_END - 1);
    if (close == NULL) return none;
    for (const char *c = at; c < close; c++) {
        if (strchr("'\"{}\\", *c) != NULL) return none; /* it is computed, not written out */
    }
    return (struct mr_str){at, (size_t)(close - at)};
}

static bool special_find(const struct llama_vocab *vocab, const char *text, uint32_t *ret)
{
    llama_token token;
    if (llama_tokenize(vocab, text, (int32_t)strlen(text), &token, 1, false, true) != 1)
        return false;
    *ret = (uint32_t)token;
    return true;
}

int train_tokenizer_open(const char *path, struct train_tokenizer *ret,
                         struct train_problem *problem)
{
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    struct train_tokenizer tokenizer = {.model = llama_model_load_from_file(path, params)};
    if (tokenizer.model == NULL) {
        return train_problem_set(problem, MR_EINVALID, "%s: its vocabulary cannot be read", path);
    }
    const struct llama_vocab *vocab = llama_model_get_vocab(tokenizer.model);
    tokenizer.vocab = vocab;
    tokenizer.add_bos = llama_vocab_get_add_bos(vocab);
    tokenizer.bos = (uint32_t)llama_vocab_bos(vocab);
    if (!special_find(vocab, TURN_START, &tokenizer.turn_start) ||
        !special_find(vocab, TURN_END, &tokenizer.turn_end)) {
        llama_model_free(tokenizer.model);
        return train_problem_set(problem, MR_EUNSUPPORTED,
                                 "%s: its vocabulary has no %s and %s; only models with a ChatML "
                                 "template are trained here",
                                 path, TURN_START, TURN_END);
    }
    tokenizer.default_system =
        train_default_system(mr_str_from(llama_model_chat_template(tokenizer.model, NULL)));
    *ret = tokenizer;
    return 0;
}

void train_tokenizer_close(struct train_tokenizer *tokenizer)
{
    llama_model_free(tokenizer->model);
    *tokenizer = (struct train_tokenizer){0};
}

/* --- tokens -------------------------------------------------------------------------------- */

struct writer {
    const struct llama_vocab *vocab;
    struct mr_buf *ids, *wanted;
    int error;
};

static void id_put(struct writer *writer, uint32_t id, bool wanted)
{
    mr_buf_put(writer->ids, &id, sizeof id);
    mr_buf_put_u8(writer->wanted, wanted ? 1 : 0);
}

static void text_put(struct writer *writer, struct mr_str text, bool wanted)
{
    size_t room = text.n + 8; /* a token has at least one byte; some vocabularies add a space */
    if (text.n == 0 || writer->error != 0) return;
    if (room > INT32_MAX || !mr_buf_reserve(writer->ids, room * sizeof(uint32_t))) {
        writer->error = MR_ENO_MEMORY;
        return;
    }
    llama_token *at = (llama_token *)(void *)(writer->ids->p + writer->ids->n);
    int32_t n =
        llama_tokenize(writer->vocab, text.p, (int32_t)text.n, at, (int32_t)room, false, false);
    if (n < 0) {
        writer->error = MR_EUNSUPPORTED;
        return;
    }
    writer->ids->n += (size_t)n * sizeof(uint32_t);
    for (int32_t i = 0; i < n; i++) {
        mr_buf_put_u8(writer->wanted, wanted ? 1 : 0);
    }
}

/* An assistant's words are tokenized by themselves, since serving generates them behind the rest.
 */
static void turn_put(struct writer *writer, const struct train_tokenizer *tokenizer,
                     struct mr_str role, struct mr_str content)
{
    bool wanted = mr_str_equal(role, MR_STR("assistant"));
    mr_cleanup(mr_buf_done) struct mr_buf text;
    mr_buf_init(&text, TRAIN_LINE_BYTES_MAX * 2u);
    mr_buf_put_str(&text, role);
    mr_buf_put_char(&text, '\n');
    if (!wanted) mr_buf_put_str(&text, content);
    if (text.failed) {
        writer->error = MR_ENO_MEMORY;
    }
    id_put(writer, tokenizer->turn_start, false);
    text_put(writer, mr_buf_str(&text), false);
    if (wanted) text_put(writer, content, true);
    id_put(writer, tokenizer->turn_end, wanted);
    text_put(writer, MR_STR("\n"), false);
}

int train_chat_tokenize(const struct train_tokenizer *tokenizer, const struct train_chat *chat,
                        struct mr_buf *ids, struct mr_buf *wanted)
{
    struct writer writer = {.vocab = tokenizer->vocab, .ids = ids, .wanted = wanted};
    if (tokenizer->add_bos) id_put(&writer, tokenizer->bos, false);
    if (tokenizer->default_system.n > 0 &&
        !mr_str_equal(chat->messages[0].role, MR_STR("system"))) {
        turn_put(&writer, tokenizer, MR_STR("system"), tokenizer->default_system);
    }
    for (size_t i = 0; i < chat->count; i++) {
        turn_put(&writer, tokenizer, chat->messages[i].role, chat->messages[i].content);
    }
    if (ids->failed || wanted->failed) return MR_ENO_MEMORY;
    return writer.error;
}
