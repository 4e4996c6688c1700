/* SPDX-License-Identifier: Apache-2.0 */
/* Paths, methods and keys; the table against its document. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "gate_world.h"

static struct world *setup(void)
{
    struct world *w = malloc(sizeof *w);
    world_init(w, 1);
    return w;
}
static void teardown(struct world *w)
{
    world_done(w);
    free(w);
}
static int ask(struct world *w, const char *method, const char *path, const char *key,
               struct mr_conn **ret)
{
    *ret = client_open(w);
    client_ask(*ret, method, path, key, NULL);
    return client_status(*ret);
}

static void nothing_is_answered_without_a_good_key(void **state)
{
    (void)state;
    struct world *w = setup();
    struct mr_conn *c;
    size_t count;
    const struct gate_route *routes = gate_route_table(&count);
    static const char *const names[] = {"GET", "POST", "PUT", "DELETE"};
    static const char *const keys[] = {NULL, "wrong", "", "mr-user-ke", "mr-user-keyy"};
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < MR_COUNT_OF(keys); k++) {
            int status = ask(w, names[routes[i].method], routes[i].pattern, keys[k], &c);
            assert_int_equal(status, routes[i].role == GATE_ROLE_NONE ? 200 : 401);
        }
    }
    assert_int_equal(ask(w, "GET", "/no/such/path", NULL, &c), 401);
    assert_non_null(strstr(client_text(c), "invalid_api_key"));
    assert_non_null(strstr(client_text(c), "WWW-Authenticate: Bearer"));
    for (size_t op = 0; op < MR_CTL_OP_COUNT; op++)
        assert_int_equal(w->calls[op], 0);
    teardown(w);
}

static void an_administrators_call_needs_an_administrators_key(void **state)
{
    (void)state;
    struct world *w = setup();
    struct mr_conn *c;
    size_t count;
    const struct gate_route *routes = gate_route_table(&count);
    static const char *const names[] = {"GET", "POST", "PUT", "DELETE"};
    char path[128];
    for (size_t i = 0; i < count; i++) {
        if (routes[i].role != GATE_ROLE_ADMIN) continue;
        const char *id = strstr(routes[i].pattern, "{id}");
        snprintf(path, sizeof path, "%.*s%s",
                 id ? (int)(id - routes[i].pattern) : (int)strlen(routes[i].pattern),
                 routes[i].pattern, id ? "7" : "");
        assert_int_equal(ask(w, names[routes[i].method], path, WORLD_USER_KEY, &c), 403);
        assert_int_equal(w->calls[routes[i].op], 0);
        assert_int_equal(ask(w, names[routes[i].method], path, WORLD_ADMIN_KEY, &c), 200);
        assert_int_equal(w->calls[routes[i].op], 1);
        assert_true(w->last.admin);
    }
    teardown(w);
}

static void a_key_is_hashed_once_for_a_connection_until_the_routes_change(void **state)
{
    (void)state;
    struct world *w = setup();
    struct mr_conn *c = client_open(w);
    for (size_t i = 0; i < 5; i++)
        client_ask(c, "GET", "/v1/models", WORLD_USER_KEY, NULL);
    assert_int_equal(w->gate->auth_hashes, 1);
    client_ask(c, "GET", "/v1/models", WORLD_OTHER_KEY, NULL);
    client_ask(c, "GET", "/v1/models", WORLD_USER_KEY, NULL);
    assert_int_equal(w->gate->auth_hashes, 3);
    assert_int_equal(text_count(client_text(c), "200 OK"), 7);
    world_publish(w);
    client_ask(c, "GET", "/v1/models", WORLD_USER_KEY, NULL);
    assert_int_equal(w->gate->auth_hashes, 4);
    w->user_revoked = true;
    world_publish(w);
    client_clear(c);
    client_ask(c, "GET", "/v1/models", WORLD_USER_KEY, NULL);
    assert_int_equal(client_status(c), 401);
    assert_non_null(strstr(client_text(c), "revoked"));
    teardown(w);
}

static void the_key_decides_the_tenant(void **state)
{
    (void)state;
    struct world *w = setup();
    struct mr_conn *c;
    assert_int_equal(ask(w, "GET", "/api/workloads?tenant=1", WORLD_OTHER_KEY, &c), 200);
    assert_int_equal(w->last.tenant.v, 3);
    assert_false(w->last.admin);
    assert_string_equal(w->last_query, "tenant=1");
    teardown(w);
}

static void an_unknown_path_is_told_what_is_near(void **state)
{
    (void)state;
    struct world *w = setup();
    struct mr_conn *c;
    assert_int_equal(ask(w, "POST", "/v1/chat/completion", WORLD_USER_KEY, &c), 404);
    assert_non_null(strstr(client_text(c), "POST /v1/chat/completions"));
    assert_int_equal(ask(w, "GET", "/api/workloads/5/wy", WORLD_USER_KEY, &c), 404);
    assert_non_null(strstr(client_text(c), "/api/workloads/{id}/"));
    assert_int_equal(ask(w, "GET", "/v1/models/", WORLD_USER_KEY, &c), 404);
    assert_int_equal(ask(w, "GET", "//v1/models", WORLD_USER_KEY, &c), 404);
    teardown(w);
}

static void a_wrong_method_is_told_the_right_ones(void **state)
{
    (void)state;
    struct world *w = setup();
    struct mr_conn *c;
    assert_int_equal(ask(w, "GET", "/v1/chat/completions", WORLD_USER_KEY, &c), 405);
    assert_non_null(strstr(client_text(c), "Allow: POST\r\n"));
    assert_int_equal(ask(w, "PUT", "/api/workloads/5", WORLD_USER_KEY, &c), 405);
    assert_non_null(strstr(client_text(c), "Allow: GET, HEAD, DELETE\r\n"));
    assert_int_equal(ask(w, "OPTIONS", "/v1/models", WORLD_USER_KEY, &c), 405);
    teardown(w);
}

static void head_answers_as_get_without_the_body(void **state)
{
    (void)state;
    struct world *w = setup();
    struct mr_conn *c;
    assert_int_equal(ask(w, "HEAD", "/v1/models", WORLD_USER_KEY, &c), 200);
    assert_null(strstr(client_text(c), "tiny"));
    assert_null(strstr(client_text(c), "Content-Length: 0"));
    client_clear(c);
    client_ask(c, "GET", "/healthz", NULL, NULL);
    assert_int_equal(client_status(c), 200);
    teardown(w);
}

static void models_are_listed_and_found_by_their_encoded_names(void **state)
{
    (void)state;
    struct world *w = setup();
    struct mr_conn *c;
    w->models[0].name = MR_STR("ft:tiny/a b");
    w->models[1] = (struct mr_route_model){.name = MR_STR("tiny"), .service = {11}};
    w->model_count = 2;
    world_publish(w);
    static const char *const prefixes[] = {"", "/openai"};
    char path[128];
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/v1/models", prefixes[i]);
        assert_int_equal(ask(w, "GET", path, WORLD_USER_KEY, &c), 200);
        assert_non_null(strstr(client_text(c), "\"id\":\"ft:tiny/a b\""));
        assert_non_null(strstr(client_text(c), "\"object\":\"list\""));
        snprintf(path, sizeof path, "%s/v1/models/ft:tiny%%2Fa%%20b", prefixes[i]);
        assert_int_equal(ask(w, "GET", path, WORLD_USER_KEY, &c), 200);
        assert_non_null(strstr(client_text(c), "\"created\":1690000000"));
    }
    assert_int_equal(ask(w, "GET", "/v1/models/nope", WORLD_USER_KEY, &c), 404);
    assert_non_null(strstr(client_text(c), "model_not_found"));
    assert_int_equal(ask(w, "GET", "/v1/models/%zz", WORLD_USER_KEY, &c), 400);
    teardown(w);
}

static void ones_own_model_goes_before_everybodys(void **state)
{
    (void)state;
    struct world *w = setup();
    struct mr_conn *c = client_open(w);
    w->models[1] = w->models[0];
    w->models[1].owner.v = 2;
    w->models[1].service.v = 11;
    w->models[1].replica_count = 0;
    w->model_count = 2;
    world_publish(w);
    client_chat(c, WORLD_USER_KEY, "hi", "");
    assert_int_equal(client_status(c), 0); /* waits for a replica of its own */
    struct mr_conn *other = client_open(w);
    client_chat(other, WORLD_OTHER_KEY, "hi", "");
    assert_int_equal(client_status(other), 200);
    teardown(w);
}

static void before_the_first_routes_it_says_starting(void **state)
{
    (void)state;
    struct world *w = setup();
    struct mr_conn *c;
    const struct mr_routes *routes = w->gate->routes;
    w->gate->routes = NULL;
    assert_int_equal(ask(w, "GET", "/healthz", NULL, &c), 503);
    assert_non_null(strstr(client_text(c), "starting"));
    assert_int_equal(ask(w, "GET", "/v1/models", WORLD_USER_KEY, &c), 503);
    assert_int_equal(ask(w, "GET", "/", NULL, &c), 200);
    w->gate->routes = routes;
    assert_int_equal(ask(w, "GET", "/healthz", NULL, &c), 200);
    teardown(w);
}

/* --- the document ---------------------------------------------------------------------------- */

static char *document(void)
{
    FILE *file = fopen(GATE_DOCUMENT, "re");
    char *text = calloc(1, 1u << 20);
    assert_non_null(file);
    assert_true(fread(text, 1, (1u << 20) - 1, file) > 1000);
    fclose(file);
    return text;
}

static void every_route_is_documented_and_every_documented_call_is_a_route(void **state)
{
    (void)state;
    static const char *const names[] = {"GET", "POST", "PUT", "DELETE"};
    char *text = document();
    size_t count, matched = 0;
    const struct gate_route *routes = gate_route_table(&count);
    for (size_t i = 0; i < count; i++) {
        const char *pattern = routes[i].pattern;
        char want[160];
        size_t n = (size_t)snprintf(want, sizeof want, "`%s ", names[routes[i].method]);
        if (strncmp(pattern, "/openai", 7) == 0) {
            assert_non_null(strstr(text, "the same under `/openai/v1`"));
            continue;
        }
        while (*pattern != 0) {
            if (*pattern == '{') {
                n += (size_t)snprintf(want + n, sizeof want - n, "%s",
                                      strncmp(pattern, "{id}", 4) == 0 ? "ID" : "NAME");
                pattern = strchr(pattern, '}') + 1;
            } else {
                want[n++] = *pattern++;
                want[n] = 0;
            }
        }
        const char *at = text;
        bool found = false;
        while (!found && (at = strstr(at, want)) != NULL) {
            at += n;
            found = *at == '`' || *at == '?';
        }
        if (!found) print_error("not documented: %s\n", want);
        assert_true(found);
        matched++;
    }
    size_t documented = 0;
    for (size_t m = 0; m < MR_COUNT_OF(names); m++) {
        char mark[16];
        snprintf(mark, sizeof mark, "`%s /", names[m]);
        documented += text_count(text, mark);
    }
    assert_int_equal(documented, matched);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_answered_without_a_good_key),
        cmocka_unit_test(an_administrators_call_needs_an_administrators_key),
        cmocka_unit_test(a_key_is_hashed_once_for_a_connection_until_the_routes_change),
        cmocka_unit_test(the_key_decides_the_tenant),
        cmocka_unit_test(an_unknown_path_is_told_what_is_near),
        cmocka_unit_test(a_wrong_method_is_told_the_right_ones),
        cmocka_unit_test(head_answers_as_get_without_the_body),
        cmocka_unit_test(models_are_listed_and_found_by_their_encoded_names),
        cmocka_unit_test(ones_own_model_goes_before_everybodys),
        cmocka_unit_test(before_the_first_routes_it_says_starting),
        cmocka_unit_test(every_route_is_documented_and_every_documented_call_is_a_route),
    };
    return cmocka_run_group_tests_name("gate_route", tests, NULL, NULL);
}
