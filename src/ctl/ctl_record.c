/* SPDX-License-Identifier: Apache-2.0 */
/* The stored form of a journal record: u8 version, u8 kind, then the kind's fields.
 *
 * Never: trusts its input. Unknown versions, kinds and values, short and long input are refused.
 * Tests: tests/fuzz/ctl/fuzz_ctl_record.c.
 */
#include "ctl/ctl_int.h"

#define RECORD_VERSION 1u

static void put_event(struct mr_buf *buf, const struct mr_event *event)
{
    struct mr_buf bytes;
    mr_buf_init(&bytes, 4096);
    mr_event_put(&bytes, event);
    mr_buf_put_bytes32(buf, mr_buf_str(&bytes));
    if (bytes.failed) buf->failed = true;
    mr_buf_done(&bytes);
}

void ctl_record_put(struct mr_buf *buf, const struct ctl_record *record)
{
    mr_buf_put_u8(buf, RECORD_VERSION);
    mr_buf_put_u8(buf, (uint8_t)record->kind);
    switch (record->kind) {
    case CTL_RECORD_EVENT:
        put_event(buf, &record->event);
        break;
    case CTL_RECORD_SUBMIT:
        put_event(buf, &record->event);
        mr_buf_put_u8(buf, record->shared);
        mr_buf_put_bytes32(buf, record->name);
        mr_buf_put_bytes32(buf, record->served_name);
        mr_buf_put_bytes32(buf, record->document);
        break;
    case CTL_RECORD_KEY:
        mr_buf_put(buf, record->key.sha256, 32);
        mr_buf_put_u32(buf, record->key.tenant);
        mr_buf_put_u8(buf, record->key.role);
        mr_buf_put_u8(buf, record->revoked);
        break;
    case CTL_RECORD_TENANT:
    case CTL_RECORD_NODE:
        put_event(buf, &record->event);
        mr_buf_put_bytes32(buf, record->name);
        break;
    case CTL_RECORD_HASH:
        mr_buf_put_u64(buf, record->hash);
        break;
    default:
        buf->failed = true;
    }
}

static int get_event(struct mr_reader *reader, struct mr_event *ret)
{
    struct mr_str bytes = mr_read_bytes32(reader);
    return reader->failed ? MR_ESYNTAX : mr_event_get(bytes, ret);
}

static bool get_bool(struct mr_reader *reader)
{
    uint8_t value = mr_read_u8(reader);
    if (value > 1) reader->failed = true;
    return value == 1;
}

static int get_fields(struct mr_reader *reader, struct ctl_record *r)
{
    int error = 0;
    switch (r->kind) {
    case CTL_RECORD_EVENT:
        error = get_event(reader, &r->event);
        break;
    case CTL_RECORD_SUBMIT:
        error = get_event(reader, &r->event);
        r->shared = get_bool(reader);
        r->name = mr_read_bytes32(reader);
        r->served_name = mr_read_bytes32(reader);
        r->document = mr_read_bytes32(reader);
        if (error == 0 && r->event.kind != MR_EVENT_SUBMIT && r->event.kind != MR_EVENT_RESERVE)
            error = MR_ESYNTAX;
        break;
    case CTL_RECORD_KEY:
        for (size_t i = 0; i < 32; i++)
            r->key.sha256[i] = mr_read_u8(reader);
        r->key.tenant = mr_read_u32(reader);
        r->key.role = mr_read_u8(reader);
        r->revoked = get_bool(reader);
        if (r->key.role >= MR_KEY_ROLE_COUNT) error = MR_ESYNTAX;
        break;
    case CTL_RECORD_TENANT:
    case CTL_RECORD_NODE:
        error = get_event(reader, &r->event);
        r->name = mr_read_bytes32(reader);
        if (error == 0 && r->event.kind != (r->kind == CTL_RECORD_NODE ? MR_EVENT_NODE_SET
                                                                       : MR_EVENT_TENANT_SET)) {
            error = MR_ESYNTAX;
        }
        break;
    case CTL_RECORD_HASH:
        r->hash = mr_read_u64(reader);
        break;
    default:
        error = MR_EUNSUPPORTED;
    }
    return error;
}

int ctl_record_get(struct mr_str bytes, struct ctl_record *ret)
{
    struct mr_reader reader = mr_reader_from(bytes);
    struct ctl_record r = {0};
    if (mr_read_u8(&reader) != RECORD_VERSION) return MR_EUNSUPPORTED;
    uint8_t kind = mr_read_u8(&reader);
    if (kind == CTL_RECORD_NONE || kind >= CTL_RECORD_KIND_COUNT) return MR_EUNSUPPORTED;
    r.kind = (enum ctl_record_kind)kind;
    int error = get_fields(&reader, &r);
    if (error != 0) return error;
    if (reader.failed || reader.n != 0) return MR_ESYNTAX;
    *ret = r;
    return 0;
}

int mr_ctl_record_check(struct mr_str bytes)
{
    struct ctl_record record;
    return ctl_record_get(bytes, &record) == 0 ? 0 : MR_ESYNTAX;
}
