/* SPDX-License-Identifier: Apache-2.0 */
/* YAML to JSON, with libyaml's events: a workload file becomes the document that the API takes.
 *
 * Owns:  the parser for the length of one call.
 * Fails: with line and column. Anchors, tags of types and more than one document are refused: a
 *        workload file needs none of them, and each is a way to be surprised.
 */
#include <stdio.h>
#include <yaml.h>

#include "cmd.h"

#define DEPTH_MAX 32u

enum place { PLACE_TOP, PLACE_LIST, PLACE_KEY, PLACE_VALUE };

struct converter {
    struct mr_buf *json;
    struct mr_buf *problem;
    enum place place[DEPTH_MAX + 1];
    bool first[DEPTH_MAX + 1];
    uint32_t depth;
    uint32_t documents;
};

static int complain(struct converter *c, const yaml_mark_t *mark, const char *text)
{
    mr_buf_printf(c->problem, "line %zu, column %zu: %s", mark->line + 1, mark->column + 1, text);
    return MR_ESYNTAX;
}

/* The comma, and what a key or a value turns the place into. */
static void separate(struct converter *c)
{
    enum place place = c->place[c->depth];
    if ((place == PLACE_LIST || place == PLACE_KEY) && !c->first[c->depth]) {
        mr_buf_put_char(c->json, ',');
    }
    c->first[c->depth] = false;
}

static void value_done(struct converter *c)
{
    if (c->place[c->depth] == PLACE_VALUE) c->place[c->depth] = PLACE_KEY;
}

static bool is_number(struct mr_str s)
{
    size_t i = s.n > 0 && s.p[0] == '-' ? 1 : 0;
    size_t digits = 0, points = 0;
    /* "007" is a string in JSON's eyes, and so for us. */
    if (i + 1 < s.n && s.p[i] == '0' && s.p[i + 1] != '.') return false;
    for (; i < s.n; i++) {
        if (s.p[i] >= '0' && s.p[i] <= '9') {
            digits++;
        } else if (s.p[i] == '.' && points == 0 && digits > 0 && i + 1 < s.n) {
            points++;
        } else {
            return false;
        }
    }
    return digits > 0 && digits < 18;
}

static void scalar(struct converter *c, const yaml_event_t *event)
{
    struct mr_str s = {(const char *)event->data.scalar.value, event->data.scalar.length};
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    separate(c);
    if (c->place[c->depth] == PLACE_KEY) {
        mr_json_put_string(c->json, s);
        mr_buf_put_char(c->json, ':');
        c->place[c->depth] = PLACE_VALUE;
        return;
    }
    if (plain && (s.n == 0 || mr_str_equal(s, MR_STR("null")) || mr_str_equal(s, MR_STR("~")))) {
        mr_buf_put_str(c->json, MR_STR("null"));
    } else if (plain && (mr_str_equal(s, MR_STR("true")) || mr_str_equal(s, MR_STR("false")) ||
                         is_number(s))) {
        mr_buf_put_str(c->json, s);
    } else {
        mr_json_put_string(c->json, s);
    }
    value_done(c);
}

static int open_level(struct converter *c, const yaml_event_t *event, char bracket)
{
    if (c->place[c->depth] == PLACE_KEY) {
        return complain(c, &event->start_mark, "a key must be plain text");
    }
    if (c->depth == DEPTH_MAX) return complain(c, &event->start_mark, "nested too deeply");
    separate(c);
    mr_buf_put_char(c->json, bracket);
    c->depth++;
    c->first[c->depth] = true;
    c->place[c->depth] = bracket == '{' ? PLACE_KEY : PLACE_LIST;
    return 0;
}

static void close_level(struct converter *c, char bracket)
{
    mr_buf_put_char(c->json, bracket);
    c->depth--;
    value_done(c);
}

/* What would say more than the text itself does. */
static int refuse_extras(struct converter *c, const yaml_event_t *event, const void *anchor,
                         const void *tag)
{
    if (anchor != NULL) {
        return complain(c, &event->start_mark, "anchors (&name) are not supported");
    }
    if (tag != NULL) {
        return complain(c, &event->start_mark,
                        "tags (!type) are not supported; quotes make text of a value");
    }
    return 0;
}

static int take_event(struct converter *c, const yaml_event_t *event)
{
    int error;
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (c->documents++ > 0) {
            return complain(c, &event->start_mark, "only one document to a file");
        }
        return 0;
    case YAML_ALIAS_EVENT:
        return complain(c, &event->start_mark, "aliases (*name) are not supported");
    case YAML_SCALAR_EVENT:
        error = refuse_extras(c, event, event->data.scalar.anchor, event->data.scalar.tag);
        if (error == 0) scalar(c, event);
        return error;
    case YAML_SEQUENCE_START_EVENT:
        error = refuse_extras(c, event, event->data.sequence_start.anchor,
                              event->data.sequence_start.tag);
        return error != 0 ? error : open_level(c, event, '[');
    case YAML_SEQUENCE_END_EVENT:
        close_level(c, ']');
        return 0;
    case YAML_MAPPING_START_EVENT:
        error = refuse_extras(c, event, event->data.mapping_start.anchor,
                              event->data.mapping_start.tag);
        return error != 0 ? error : open_level(c, event, '{');
    case YAML_MAPPING_END_EVENT:
        close_level(c, '}');
        return 0;
    default:
        return 0;
    }
}

int cmd_yaml_to_json(struct mr_str yaml, struct mr_buf *json, struct mr_buf *problem)
{
    yaml_parser_t parser;
    struct converter c = {.json = json, .problem = problem};
    bool done = false;
    int error = 0;
    if (!yaml_parser_initialize(&parser)) return MR_ENO_MEMORY;
    yaml_parser_set_input_string(&parser, (const unsigned char *)yaml.p, yaml.n);
    while (!done && error == 0) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            const char *text = parser.problem != NULL ? parser.problem : "not YAML";
            error = complain(&c, &parser.problem_mark, text);
            break;
        }
        done = event.type == YAML_STREAM_END_EVENT;
        error = take_event(&c, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    if (error == 0 && json->n == 0) {
        mr_buf_printf(problem, "the file is empty");
        error = MR_ESYNTAX;
    }
    return error == 0 && json->failed ? MR_ETOO_LARGE : error;
}
