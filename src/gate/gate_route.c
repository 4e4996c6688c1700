/* SPDX-License-Identifier: Apache-2.0 */
/* Every path that is answered, in one table; what happens to all others.
 *
 * Owns:       nothing.
 * Invariants: (1) nothing but GATE_ROLE_NONE is answered without a good key, not even a 404;
 *             (2) docs/reference/http-api.md names each row (a test compares).
 * Never:      a handler for a method that the row does not name.
 * Cost:       O(rows x segments).
 * Tests:      tests/unit/gate/test_gate_route.c
 */
#include "gate_int.h"

static const struct gate_route routes[] = {
    {MR_HTTP_POST, "/v1/chat/completions", GATE_ROLE_USER, gate_handle_chat, 0},
    {MR_HTTP_POST, "/openai/v1/chat/completions", GATE_ROLE_USER, gate_handle_chat, 0},
    {MR_HTTP_GET, "/v1/models", GATE_ROLE_USER, gate_handle_models, 0},
    {MR_HTTP_GET, "/v1/models/{id}", GATE_ROLE_USER, gate_handle_model, 0},
    {MR_HTTP_GET, "/openai/v1/models", GATE_ROLE_USER, gate_handle_models, 0},
    {MR_HTTP_GET, "/openai/v1/models/{id}", GATE_ROLE_USER, gate_handle_model, 0},
    {MR_HTTP_POST, "/api/workloads", GATE_ROLE_USER, gate_handle_api, MR_CTL_SUBMIT},
    {MR_HTTP_GET, "/api/workloads", GATE_ROLE_USER, gate_handle_api, MR_CTL_QUEUE},
    {MR_HTTP_GET, "/api/workloads/{id}", GATE_ROLE_USER, gate_handle_api, MR_CTL_QUEUE},
    {MR_HTTP_DELETE, "/api/workloads/{id}", GATE_ROLE_USER, gate_handle_api, MR_CTL_CANCEL},
    {MR_HTTP_POST, "/api/workloads/{id}/scale", GATE_ROLE_USER, gate_handle_api, MR_CTL_SCALE},
    {MR_HTTP_GET, "/api/workloads/{id}/why", GATE_ROLE_USER, gate_handle_api, MR_CTL_WHY},
    {MR_HTTP_GET, "/api/workloads/{id}/when", GATE_ROLE_USER, gate_handle_api, MR_CTL_WHEN},
    {MR_HTTP_POST, "/api/whatif", GATE_ROLE_USER, gate_handle_api, MR_CTL_WHATIF},
    {MR_HTTP_GET, "/api/workloads/{id}/logs", GATE_ROLE_USER, gate_handle_logs, MR_CTL_FILE},
    {MR_HTTP_GET, "/api/workloads/{id}/files/{rest}", GATE_ROLE_USER, gate_handle_file,
     MR_CTL_FILE},
    {MR_HTTP_GET, "/api/fleet", GATE_ROLE_USER, gate_handle_api, MR_CTL_FLEET},
    {MR_HTTP_GET, "/api/timeline", GATE_ROLE_USER, gate_handle_api, MR_CTL_TIMELINE},
    {MR_HTTP_POST, "/api/nodes", GATE_ROLE_ADMIN, gate_handle_api, MR_CTL_NODE_SET},
    {MR_HTTP_POST, "/api/nodes/{id}", GATE_ROLE_ADMIN, gate_handle_api, MR_CTL_NODE},
    {MR_HTTP_POST, "/api/domains/{id}", GATE_ROLE_ADMIN, gate_handle_api, MR_CTL_DOMAIN},
    {MR_HTTP_GET, "/api/usage", GATE_ROLE_USER, gate_handle_api, MR_CTL_USAGE},
    {MR_HTTP_GET, "/api/status", GATE_ROLE_USER, gate_handle_api, MR_CTL_STATUS},
    {MR_HTTP_GET, "/api/events", GATE_ROLE_USER, gate_handle_events, 0},
    {MR_HTTP_GET, "/api/tenants", GATE_ROLE_USER, gate_handle_api, MR_CTL_TENANTS},
    {MR_HTTP_POST, "/api/tenants", GATE_ROLE_ADMIN, gate_handle_api, MR_CTL_TENANT_SET},
    {MR_HTTP_GET, "/api/reservations", GATE_ROLE_USER, gate_handle_api, MR_CTL_RESERVATIONS},
    {MR_HTTP_POST, "/api/reservations", GATE_ROLE_ADMIN, gate_handle_api, MR_CTL_RESERVE},
    {MR_HTTP_POST, "/api/keys", GATE_ROLE_ADMIN, gate_handle_api, MR_CTL_KEY_NEW},
    {MR_HTTP_DELETE, "/api/keys", GATE_ROLE_ADMIN, gate_handle_api, MR_CTL_KEY_REVOKE},
    {MR_HTTP_POST, "/api/snapshot", GATE_ROLE_ADMIN, gate_handle_api, MR_CTL_SNAPSHOT},
    {MR_HTTP_GET, "/metrics", GATE_ROLE_ADMIN, gate_handle_metrics, MR_CTL_METRICS},
    {MR_HTTP_GET, "/healthz", GATE_ROLE_NONE, gate_handle_healthz, 0},
    {MR_HTTP_GET, "/", GATE_ROLE_NONE, gate_handle_page, 0},
};
#define ROUTE_COUNT MR_COUNT_OF(routes)
#define NEAR_MAX    3u

const struct gate_route *gate_route_table(size_t *ret_count)
{
    *ret_count = ROUTE_COUNT;
    return routes;
}

static const char *method_name(enum mr_http_method method)
{
    static const char *const names[MR_HTTP_METHOD_COUNT] = {
        "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "?",
    };
    return names[method];
}

/* --- matching -------------------------------------------------------------------------------- */

/* Number of leading segments that agree; *ret_all when the whole path does. Raw parameters go to
 * `params` (room for 2). */
static size_t pattern_match(struct mr_str pattern, struct mr_str path, struct mr_str *params,
                            size_t *ret_params, bool *ret_all)
{
    size_t agreed = 0, count = 0;
    struct mr_str want, got;
    *ret_all = false;
    for (;;) {
        bool more_want = pattern.p != NULL && mr_str_split(&pattern, '/', &want);
        bool more_got = path.p != NULL;
        if (more_want && mr_str_equal(want, MR_STR("{rest}"))) {
            if (!more_got || path.n == 0) return agreed;
            params[count++] = path;
            *ret_params = count;
            *ret_all = true;
            return agreed + 1;
        }
        more_got = more_got && mr_str_split(&path, '/', &got);
        if (!more_want || !more_got) {
            *ret_all = !more_want && !more_got;
            *ret_params = count;
            return agreed;
        }
        if (mr_str_equal(want, MR_STR("{id}"))) {
            if (got.n == 0) return agreed;
            params[count++] = got;
        } else if (!mr_str_equal(want, got)) {
            return agreed;
        }
        agreed++;
    }
}

static bool method_fits(const struct gate_route *route, enum mr_http_method method)
{
    return route->method == method || (method == MR_HTTP_HEAD && route->method == MR_HTTP_GET);
}

/* --- what is not there ----------------------------------------------------------------------- */

static void reply_not_found(struct gate_request *request, const struct mr_http_request *http)
{
    mr_cleanup(mr_buf_done) struct mr_buf text;
    size_t scores[ROUTE_COUNT], params_count;
    struct mr_str params[2];
    bool all;
    mr_buf_init(&text, 4096);
    mr_buf_printf(&text, "there is no %s %.*s; near it: ", method_name(http->method),
                  (int)MR_MIN(http->path.n, 200u), http->path.p);
    for (size_t i = 0; i < ROUTE_COUNT; i++) {
        scores[i] =
            pattern_match(mr_str_from(routes[i].pattern), http->path, params, &params_count, &all);
    }
    for (size_t n = 0; n < NEAR_MAX; n++) {
        size_t best = 0;
        for (size_t i = 1; i < ROUTE_COUNT; i++) {
            if (scores[i] > scores[best]) best = i;
        }
        mr_buf_printf(&text, "%s%s %s", n > 0 ? ", " : "", method_name(routes[best].method),
                      routes[best].pattern);
        scores[best] = 0;
    }
    mr_buf_put_str(&text, MR_STR(". All of them: docs/reference/http-api.md"));
    struct mr_problem problem = {.error = MR_ENOT_FOUND,
                                 .text = mr_str_copy(&request->arena, mr_buf_str(&text))};
    gate_reply_problem(request, &problem);
}

static void reply_not_allowed(struct gate_request *request, const struct mr_http_request *http)
{
    mr_cleanup(mr_buf_done) struct mr_buf allow;
    struct mr_str params[2];
    size_t params_count;
    bool all;
    mr_buf_init(&allow, 256);
    mr_buf_put_str(&allow, MR_STR("Allow: "));
    for (size_t i = 0; i < ROUTE_COUNT; i++) {
        (void)pattern_match(mr_str_from(routes[i].pattern), http->path, params, &params_count,
                            &all); /* only `all` is asked for */
        if (!all) continue;
        if (allow.n > strlen("Allow: ")) mr_buf_put_str(&allow, MR_STR(", "));
        mr_buf_put_str(&allow, mr_str_from(method_name(routes[i].method)));
        if (routes[i].method == MR_HTTP_GET) mr_buf_put_str(&allow, MR_STR(", HEAD"));
    }
    struct mr_problem problem = {.error = MR_EINVALID};
    problem.text = gate_format(request, "%s is not possible here; %.*s", method_name(http->method),
                               MR_STR_ARG(mr_buf_str(&allow)));
    mr_buf_put_str(&allow, MR_STR("\r\n"));
    gate_reply_problem_extra(request, &problem, 405, mr_buf_str(&allow));
}

static void reply_no_key(struct gate_request *request, const struct mr_http_request *http)
{
    struct mr_problem problem = {.error = MR_EUNAUTHENTICATED, .code = MR_STR("invalid_api_key")};
    if (request->gate->routes == NULL) {
        problem = gate_problem(MR_EUNAVAILABLE, "starting: try again in a moment");
        gate_reply_problem(request, &problem);
        return;
    }
    bool given = mr_http_header_get(http, MR_STR("authorization")).n > 0;
    problem.text = given ? MR_STR("the API key is not known here, or was revoked")
                         : MR_STR("no API key was given; send the header \"Authorization: Bearer "
                                  "KEY\"");
    gate_reply_problem_extra(request, &problem, 401, MR_STR("WWW-Authenticate: Bearer\r\n"));
}

/* --- in -------------------------------------------------------------------------------------- */

static bool params_decode(struct gate_request *request, const struct mr_str *params, size_t count)
{
    request->param_count = count;
    for (size_t i = 0; i < count; i++) {
        if (mr_http_percent_decode(&request->arena, params[i], &request->params[i]) != 0) {
            struct mr_problem problem = gate_problem(
                MR_EINVALID, "the path holds a percent sign that two hex digits do not follow");
            gate_reply_problem(request, &problem);
            return false;
        }
    }
    return true;
}

void gate_route(struct gate_request *request, const struct mr_http_request *http)
{
    struct mr_str params[2] = {{0}};
    size_t params_count = 0;
    bool path_known = false, all = false;
    const struct gate_route *found = NULL;
    for (size_t i = 0; i < ROUTE_COUNT && found == NULL; i++) {
        (void)pattern_match(mr_str_from(routes[i].pattern), http->path, params, &params_count,
                            &all); /* only `all` is asked for */
        path_known |= all;
        if (all && method_fits(&routes[i], http->method)) found = &routes[i];
    }
    bool open = found != NULL && found->role == GATE_ROLE_NONE;
    if (!open && !gate_auth(request->conn, http, request)) {
        reply_no_key(request, http);
        return;
    }
    if (found == NULL) {
        if (path_known) {
            reply_not_allowed(request, http);
        } else {
            reply_not_found(request, http);
        }
        return;
    }
    if (request->gate->draining && !open) {
        struct mr_problem problem = gate_problem(MR_EUNAVAILABLE, "stopping: try again soon");
        gate_reply_problem(request, &problem);
        return;
    }
    if (found->role == GATE_ROLE_ADMIN && !request->admin) {
        struct mr_problem problem =
            gate_problem(MR_EFORBIDDEN, "this call needs an administrator's key");
        gate_reply_problem(request, &problem);
        return;
    }
    request->route = found;
    if (params_decode(request, params, params_count)) found->handle(request, http);
}

bool gate_param_id(struct gate_request *request, uint64_t *ret)
{
    if (mr_str_to_u64(request->params[0], ret) == 0 && *ret != 0) return true;
    struct mr_problem problem = {.error = MR_ENOT_FOUND, .param = MR_STR("id")};
    problem.text = gate_format(request, "\"%.*s\" is no id; ids are numbers from 1 on",
                               (int)MR_MIN(request->params[0].n, 100u), request->params[0].p);
    gate_reply_problem(request, &problem);
    return false;
}
