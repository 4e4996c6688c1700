/* SPDX-License-Identifier: Apache-2.0 */
/* Which replica has seen how much of a prompt's beginning.
 *
 * A prompt is cut into blocks of GATE_PREFIX_BLOCK_BYTES, and at the end of each message, since
 * that is where the next turn of a conversation goes on. A block's hash covers all before it and
 * the tenant, because caches are shared within one tenant only. A table remembers for each hash
 * which replicas were given it: a guess at what their caches hold that costs no message to ask.
 *
 * Owns:       the table of its service, for the service's life.
 * Invariants: (1) a bit set for a replica says that a prompt with that beginning went there;
 *             (2) no bit of a replica that is gone is left, so its place may be given anew.
 * Never:      growth: a set of four entries keeps the four that were used last.
 * Cost:       O(bytes of the prompt) once, O(blocks) for each choice.
 * Idea:       docs/internals/gate.md   Tests: tests/unit/gate/test_gate_prefix.c
 */
#include "gate_int.h"

#define WAYS 4u

struct gate_prefix_entry {
    uint64_t peers; /* bits */
    uint32_t tag;   /* of the hash, beside the bits that chose the set; 0: free */
    uint32_t used;  /* tick of its last use */
};

_Static_assert(sizeof(struct gate_prefix_entry) == 16, "four of them are a cache line");

_Static_assert((GATE_PREFIX_ENTRIES & (GATE_PREFIX_ENTRIES - 1)) == 0, "a power of two");

bool gate_prefix_read(struct gate_chat *chat, struct mr_tenant_id tenant)
{
    const struct mr_chat *c = &chat->chat;
    struct gate_prefix *prefix = &chat->prefix;
    size_t blocks = 0;
    for (size_t i = 0; i < c->message_count; i++) {
        blocks += c->messages[i].content.n / GATE_PREFIX_BLOCK_BYTES + 1;
    }
    blocks = MR_MIN(blocks, (size_t)GATE_PREFIX_BLOCKS_MAX);
    prefix->blocks = mr_arena_alloc(&chat->request->arena, blocks * sizeof *prefix->blocks);
    if (prefix->blocks == NULL) return false;
    uint64_t hash = mr_hash_mix(tenant.v + 1);
    for (size_t i = 0; i < c->message_count; i++) {
        struct mr_str rest = c->messages[i].content;
        hash = mr_hash_mix(hash + c->messages[i].role);
        prefix->total_bytes += rest.n;
        do {
            size_t n = MR_MIN(rest.n, (size_t)GATE_PREFIX_BLOCK_BYTES);
            if (prefix->count == blocks) break;
            hash = mr_hash64(rest.p, n, hash);
            prefix->end_bytes += n;
            prefix->blocks[prefix->count++] = (struct gate_prefix_block){hash, prefix->end_bytes};
            rest.p += n;
            rest.n -= n;
        } while (rest.n > 0);
    }
    return true;
}

static struct gate_prefix_entry *set_of(struct gate_service *service, uint64_t hash)
{
    return &service->prefixes[(hash & (GATE_PREFIX_ENTRIES / WAYS - 1)) * WAYS];
}

static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32) | 1;
}

static struct gate_prefix_entry *entry_find(struct gate_service *service, uint64_t hash)
{
    struct gate_prefix_entry *set = set_of(service, hash);
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].tag == tag_of(hash)) return &set[i];
    }
    return NULL;
}

uint64_t gate_prefix_longest(struct gate_service *service, const struct gate_prefix *prefix,
                             uint64_t among, uint64_t *ret_bytes)
{
    uint64_t have = among;
    *ret_bytes = 0;
    if (service->prefixes == NULL) return among;
    for (size_t i = 0; i < prefix->count; i++) {
        struct gate_prefix_entry *entry = entry_find(service, prefix->blocks[i].hash);
        if (entry == NULL || (entry->peers & have) == 0) break;
        have &= entry->peers;
        *ret_bytes = prefix->blocks[i].end_bytes;
    }
    return have;
}

void gate_prefix_note(struct gate_service *service, const struct gate_prefix *prefix,
                      uint64_t peer_bit)
{
    if (service->prefixes == NULL) {
        service->prefixes = mr_alloc_zero(GATE_PREFIX_ENTRIES * sizeof *service->prefixes);
        if (service->prefixes == NULL) return; /* the next chat tries again */
    }
    uint32_t tick = ++service->prefix_tick;
    for (size_t i = 0; i < prefix->count; i++) {
        uint64_t hash = prefix->blocks[i].hash;
        struct gate_prefix_entry *entry = entry_find(service, hash);
        if (entry == NULL) {
            struct gate_prefix_entry *set = set_of(service, hash);
            entry = set;
            for (size_t way = 1; way < WAYS; way++) {
                /* By age, so that a tick that wraps does no harm. */
                if (tick - set[way].used > tick - entry->used) entry = &set[way];
            }
            *entry = (struct gate_prefix_entry){.tag = tag_of(hash)};
        }
        entry->peers |= peer_bit;
        entry->used = tick;
    }
}

void gate_prefix_forget(struct gate_service *service, uint64_t peer_bit)
{
    if (service->prefixes == NULL) return;
    for (size_t i = 0; i < GATE_PREFIX_ENTRIES; i++)
        service->prefixes[i].peers &= ~peer_bit;
}
