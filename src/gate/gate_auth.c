/* SPDX-License-Identifier: Apache-2.0 */
/* Who calls: a bearer key to a tenant and a role.
 *
 * Owns:       nothing; a connection keeps the text of the last key that was good.
 * Invariants: (1) a key that was revoked is refused from the next request on after the routes came;
 *             (2) the time taken tells nothing of any key: what is searched is the hash, and what
 * is compared is compared in constant time. Never:      a key in an answer or a message. Cost:
 * O(key), one SHA-256 when the connection's last key was another; O(log keys).
 */
#include "gate_int.h"

static bool bearer_of(struct mr_str header, struct mr_str *ret_key)
{
    struct mr_str rest = mr_str_trim(header), scheme;
    if (!mr_str_split(&rest, ' ', &scheme) || rest.p == NULL) return false;
    if (!mr_str_equal_nocase(scheme, MR_STR("bearer"))) return false;
    *ret_key = mr_str_trim(rest);
    return ret_key->n > 0;
}

static const struct mr_route_key *key_find(const struct mr_routes *routes, const uint8_t hash[32])
{
    size_t low = 0, high = routes->key_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = memcmp(routes->keys[middle].sha256, hash, 32);
        if (order == 0) return &routes->keys[middle];
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

static void key_remember(struct gate_conn *conn, struct mr_str header,
                         const struct mr_route_key *key)
{
    if (header.n > sizeof conn->auth) return;
    memcpy(conn->auth, header.p, header.n);
    conn->auth_n = (uint8_t)header.n;
    conn->auth_version = conn->gate->routes->version;
    conn->auth_tenant = key->tenant;
    conn->auth_role = key->role;
}

bool gate_auth(struct gate_conn *conn, const struct mr_http_request *http,
               struct gate_request *request)
{
    const struct mr_routes *routes = conn->gate->routes;
    struct mr_str header = mr_http_header_get(http, MR_STR("authorization")), text;
    uint8_t hash[32];
    if (routes == NULL || header.n == 0) return false;
    bool same = conn->auth_n > 0 && conn->auth_version == routes->version &&
                mr_secret_equal(header, (struct mr_str){conn->auth, conn->auth_n});
    if (!same) {
        if (!bearer_of(header, &text)) return false;
        conn->gate->auth_hashes++;
        mr_sha256(text.p, text.n, hash);
        const struct mr_route_key *key = key_find(routes, hash);
        if (key == NULL) return false;
        conn->auth_n = 0;
        key_remember(conn, header, key);
        request->tenant = key->tenant;
        request->admin = key->role == MR_KEY_ADMIN;
        return true;
    }
    request->tenant = conn->auth_tenant;
    request->admin = conn->auth_role == MR_KEY_ADMIN;
    return true;
}
