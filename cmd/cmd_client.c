/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP to the daemon, with libcurl: where it is, with which key, and what its answers mean.
 *
 * Owns:  one curl handle and the last answer.
 * Fails: with the server's own words on standard error and the exit code that fits the status.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "cmd.h"

#define ANSWER_BYTES_MAX ((size_t)256 * 1024 * 1024)
#define CONNECT_MS       3000L

static char *first_line(struct mr_buf *buf)
{
    struct mr_str rest = mr_buf_str(buf);
    struct mr_str line;
    if (!mr_str_split(&rest, '\n', &line)) return NULL;
    line = mr_str_trim(line);
    return strndup(line.p, line.n);
}

static char *url_from_home(const char *home)
{
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    mr_buf_init(&buf, 65536);
    char *path = cmd_path(home, "daemon.json");
    int error = path != NULL ? cmd_file_read(path, &buf) : MR_ENO_MEMORY;
    free(path);
    if (error != 0) return NULL;
    yyjson_doc *doc = yyjson_read((const char *)buf.p, buf.n, 0);
    const char *url = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), "url"));
    char *copy = url != NULL ? strdup(url) : NULL;
    yyjson_doc_free(doc);
    return copy;
}

static char *key_from_home(const char *home)
{
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    mr_buf_init(&buf, 65536);
    char *path = cmd_path(home, "admin.key");
    int error = path != NULL ? cmd_file_read(path, &buf) : MR_ENO_MEMORY;
    free(path);
    return error == 0 ? first_line(&buf) : NULL;
}

int cmd_client_open(struct cmd *cmd, struct cmd_client *client)
{
    const char *url = getenv("MILLRACE_URL");
    const char *key = getenv("MILLRACE_API_KEY");
    *client = (struct cmd_client){0};
    mr_buf_init(&client->body, ANSWER_BYTES_MAX);
    client->url = url != NULL && url[0] != 0 ? strdup(url) : url_from_home(cmd->home);
    client->key = key != NULL && key[0] != 0 ? strdup(key) : key_from_home(cmd->home);
    if (client->url == NULL) {
        cmd_say("millrace: no daemon runs on %s; start one with `millrace up`, or set MILLRACE_URL "
                "and MILLRACE_API_KEY",
                cmd->home);
        return CMD_UNREACHABLE;
    }
    size_t length = strlen(client->url);
    if (length > 0 && client->url[length - 1] == '/') client->url[length - 1] = 0;
    client->curl = curl_easy_init();
    return client->curl != NULL ? 0 : cmd_fail("out of memory");
}

void cmd_client_close(struct cmd_client *client)
{
    if (client->curl != NULL) curl_easy_cleanup(client->curl);
    free(client->url);
    free(client->key);
    mr_buf_done(&client->body);
    *client = (struct cmd_client){0};
}

struct transfer {
    struct cmd_client *client;
    bool (*on_bytes)(void *arg, struct mr_str bytes);
    void *arg;
};

static size_t on_write(char *bytes, size_t size, size_t count, void *arg)
{
    struct transfer *transfer = arg;
    struct mr_str chunk = {bytes, size * count};
    long status = 0;
    (void)curl_easy_getinfo(transfer->client->curl, CURLINFO_RESPONSE_CODE, &status);
    /* An error's body is kept for its text even when a stream was asked for. */
    if (transfer->on_bytes != NULL && status >= 200 && status < 300) {
        return transfer->on_bytes(transfer->arg, chunk) ? chunk.n : 0;
    }
    mr_buf_put_str(&transfer->client->body, chunk);
    return transfer->client->body.failed ? 0 : chunk.n;
}

static struct curl_slist *headers_make(const struct cmd_client *client, const char *extra)
{
    struct curl_slist *list = curl_slist_append(NULL, "Content-Type: application/json");
    char *line = NULL;
    if (client->key != NULL && asprintf(&line, "Authorization: Bearer %s", client->key) >= 0) {
        list = curl_slist_append(list, line);
        free(line);
    }
    list = curl_slist_append(list, "Expect:");
    return extra != NULL ? curl_slist_append(list, extra) : list;
}

static CURLcode perform(struct cmd_client *client, const char *method, const char *path,
                        struct mr_str body, const char *extra, struct transfer *transfer)
{
    CURL *curl = client->curl;
    char *url = NULL;
    if (asprintf(&url, "%s%s", client->url, path) < 0) return CURLE_OUT_OF_MEMORY;
    struct curl_slist *headers = headers_make(client, extra);
    mr_buf_reset(&client->body);
    client->status = 0;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "127.0.0.1,localhost,::1");
    if (body.n > 0 || strcmp(method, "POST") == 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.n);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.n > 0 ? body.p : "");
    }
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
    CURLcode code = curl_easy_perform(curl);
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &client->status);
    curl_slist_free_all(headers);
    free(url);
    return code;
}

/* Prints what the server said and picks the exit code. */
static int refuse(struct cmd_client *client)
{
    yyjson_doc *doc = yyjson_read((const char *)client->body.p, client->body.n, 0);
    yyjson_val *error = yyjson_obj_get(yyjson_doc_get_root(doc), "error");
    const char *text = yyjson_get_str(yyjson_obj_get(error, "message"));
    const char *param = yyjson_get_str(yyjson_obj_get(error, "param"));
    bool named = param != NULL && param[0] != 0 && (text == NULL || strstr(text, param) == NULL);
    cmd_say("millrace: %s%s%s%s (HTTP %ld)", named ? param : "", named ? ": " : "",
            text != NULL ? text : "the server gave no reason",
            client->status == 401 && client->key == NULL ? "; set MILLRACE_API_KEY" : "",
            client->status);
    yyjson_doc_free(doc);
    bool refused = client->status == 401 || client->status == 403 || client->status == 429;
    return refused ? CMD_REFUSED : CMD_FAILED;
}

static int finish(struct cmd_client *client, CURLcode code, bool stopped_is_fine)
{
    if (code == CURLE_WRITE_ERROR && stopped_is_fine) return 0;
    if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
        code == CURLE_OPERATION_TIMEDOUT) {
        cmd_say("millrace: nothing answers at %s; start it with `millrace up`", client->url);
        return CMD_UNREACHABLE;
    }
    if (code != CURLE_OK) {
        cmd_say("millrace: %s: %s", client->url, curl_easy_strerror(code));
        return code == CURLE_OUT_OF_MEMORY ? CMD_FAILED : CMD_UNREACHABLE;
    }
    return client->status >= 200 && client->status < 300 ? 0 : refuse(client);
}

int cmd_call(struct cmd_client *client, const char *method, const char *path, struct mr_str body,
             const char *extra_header)
{
    struct transfer transfer = {.client = client};
    return finish(client, perform(client, method, path, body, extra_header, &transfer), false);
}

int cmd_call_stream(struct cmd_client *client, const char *method, const char *path,
                    struct mr_str body, bool (*on_bytes)(void *arg, struct mr_str bytes), void *arg)
{
    struct transfer transfer = {.client = client, .on_bytes = on_bytes, .arg = arg};
    return finish(client, perform(client, method, path, body, NULL, &transfer), true);
}

struct yyjson_doc *cmd_get_json(struct cmd_client *client, const char *path, int *ret_code)
{
    *ret_code = cmd_call(client, "GET", path, (struct mr_str){0}, NULL);
    if (*ret_code != 0) return NULL;
    yyjson_doc *doc = yyjson_read((const char *)client->body.p, client->body.n, 0);
    if (doc == NULL) *ret_code = cmd_fail("the answer of %s%s is no JSON", client->url, path);
    return doc;
}

int cmd_call_quiet(struct cmd_client *client, const char *path)
{
    struct transfer transfer = {.client = client};
    CURLcode code = perform(client, "GET", path, (struct mr_str){0}, NULL, &transfer);
    return code == CURLE_OK && client->status == 200 ? 0 : MR_ENOT_FOUND;
}

bool cmd_alive(struct cmd_client *client)
{
    struct transfer transfer = {.client = client};
    CURLcode code = perform(client, "GET", "/healthz", (struct mr_str){0}, NULL, &transfer);
    return code == CURLE_OK && client->status != 0;
}
