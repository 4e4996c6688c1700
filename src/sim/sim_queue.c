/* SPDX-License-Identifier: Apache-2.0 */
/* What will happen, in order of time and then of arrival: a binary heap.
 *
 * Owns:       its array; an item's argument is its maker's.
 * Invariants: (1) no item is before its parent; (2) equal times leave in the order they came.
 * Cost:       O(log items) each.
 */
#include "sim/sim_int.h"

static bool before(const struct sim_item *a, const struct sim_item *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void swap(struct sim_item *a, struct sim_item *b)
{
    struct sim_item kept = *a;
    *a = *b;
    *b = kept;
}

bool sim_queue_put(struct sim_queue *queue, const struct sim_item *item)
{
    if (queue->count == queue->capacity) {
        size_t capacity = queue->capacity > 0 ? 2 * queue->capacity : 256;
        struct sim_item *items = mr_realloc(queue->items, capacity * sizeof *items);
        if (items == NULL) return false;
        queue->items = items;
        queue->capacity = capacity;
    }
    size_t at = queue->count++;
    queue->items[at] = *item;
    queue->items[at].order = queue->order++;
    while (at > 0 && before(&queue->items[at], &queue->items[(at - 1) / 2])) {
        swap(&queue->items[at], &queue->items[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    return true;
}

bool sim_queue_take(struct sim_queue *queue, struct sim_item *ret)
{
    if (queue->count == 0) return false;
    *ret = queue->items[0];
    queue->items[0] = queue->items[--queue->count];
    for (size_t at = 0;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < queue->count; child++) {
            if (before(&queue->items[child], &queue->items[least])) least = child;
        }
        if (least == at) return true;
        swap(&queue->items[at], &queue->items[least]);
        at = least;
    }
}
