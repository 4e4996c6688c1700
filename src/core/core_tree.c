/* SPDX-License-Identifier: Apache-2.0 */
/* Balanced trees over the distinct free amounts of nodes, ordered by cpu, then memory, then the
 * rest.
 *
 * A treap: a binary search tree by key and a heap by a hash of the slot, so its shape depends on
 * its content alone. Each entry knows the most memory (and, in tree 1, the largest part of a
 * device) below it, and until when the freest of them is free, so that "least cpu of those with at
 * least c cpu and m memory" is one descent.
 *
 * Owns:       the links left, right and the maxima of free states; `which` says which of
 *             the two trees (0: by whole devices, 1: by part).
 * Invariants: (1) keys ascend; (2) priorities do not ascend downwards; (3) maxima are exact.
 * Never:      recursion; depth is bounded by CORE_TREE_DEPTH (2^-64 for it to be reached).
 * Cost:       O(log n) each.
 * Idea:       docs/internals/core.md   Tests: tests/unit/core/test_core_tree.c
 */
#include "core_int.h"

struct path {
    uint32_t *link[CORE_TREE_DEPTH]; /* link[i] points to the entry at depth i */
    uint32_t depth;
};

static int key_compare(const struct core_free_state *a, const struct core_free_state *b)
{
    if (a->cpu_milli != b->cpu_milli) return a->cpu_milli < b->cpu_milli ? -1 : 1;
    if (a->mem_mib != b->mem_mib) return a->mem_mib < b->mem_mib ? -1 : 1;
    if (a->whole != b->whole) return a->whole < b->whole ? -1 : 1;
    if (a->part != b->part) return a->part < b->part ? -1 : 1;
    if (a->class_of != b->class_of) return a->class_of < b->class_of ? -1 : 1;
    if (a->parts != b->parts) return a->parts < b->parts ? -1 : 1;
    if (a->until_s != b->until_s) return a->until_s < b->until_s ? -1 : 1;
    return 0;
}

static uint64_t priority_of(uint32_t state)
{
    return mr_hash_mix(state);
}

static void maxima_update(const struct mr_core *core, uint32_t which, uint32_t state)
{
    struct core_free_state *s = core_free_state(core, state);
    s->mem_max[which] = s->mem_mib;
    s->part_max[which] = s->part;
    s->until_max_s[which] = s->until_s;
    const uint32_t child[2] = {s->left[which], s->right[which]};
    for (uint32_t i = 0; i < 2; i++) {
        if (child[i] == 0) continue;
        const struct core_free_state *c = core_free_state(core, child[i]);
        s->mem_max[which] = MR_MAX(s->mem_max[which], c->mem_max[which]);
        s->part_max[which] = MR_MAX(s->part_max[which], c->part_max[which]);
        s->until_max_s[which] = MR_MAX(s->until_max_s[which], c->until_max_s[which]);
    }
}

/* Turns the entry at *link down and its child up; *link then points to the child. */
static void rotate(const struct mr_core *core, uint32_t *link, uint32_t which, bool left_child)
{
    uint32_t top = *link;
    struct core_free_state *t = core_free_state(core, top);
    uint32_t child = left_child ? t->left[which] : t->right[which];
    MR_ASSERT(child != 0);
    struct core_free_state *c = core_free_state(core, child);
    if (left_child) {
        t->left[which] = c->right[which];
        c->right[which] = top;
    } else {
        t->right[which] = c->left[which];
        c->left[which] = top;
    }
    *link = child;
    maxima_update(core, which, top);
    maxima_update(core, which, child);
}

static void path_push(struct path *path, uint32_t *link)
{
    MR_ASSERT(path->depth < CORE_TREE_DEPTH);
    path->link[path->depth++] = link;
}

void core_tree_insert(struct mr_core *core, uint32_t *root, uint32_t which, uint32_t state)
{
    MR_ASSERT(which < 2);
    struct core_free_state *s = core_free_state(core, state);
    MR_ASSERT(s->left[which] == 0 && s->right[which] == 0);
    struct path path = {.depth = 0};
    uint32_t *link = root;
    while (*link != 0) {
        path_push(&path, link);
        struct core_free_state *at = core_free_state(core, *link);
        int order = key_compare(s, at);
        MR_INVARIANT(1, order != 0);
        link = order < 0 ? &at->left[which] : &at->right[which];
    }
    *link = state;
    maxima_update(core, which, state);
    uint64_t priority = priority_of(state);
    while (path.depth > 0) {
        uint32_t *up = path.link[path.depth - 1];
        if (priority_of(*up) >= priority) break;
        bool left_child = core_free_state(core, *up)->left[which] == state;
        rotate(core, up, which, left_child);
        MR_ASSERT(*up == state);
        path.depth--;
    }
    while (path.depth > 0) {
        maxima_update(core, which, *path.link[--path.depth]);
    }
}

void core_tree_remove(struct mr_core *core, uint32_t *root, uint32_t which, uint32_t state)
{
    MR_ASSERT(which < 2);
    struct core_free_state *s = core_free_state(core, state);
    struct path path = {.depth = 0};
    uint32_t *link = root;
    while (*link != state) {
        MR_ASSERT(*link != 0); /* it is in this tree */
        path_push(&path, link);
        struct core_free_state *at = core_free_state(core, *link);
        link = key_compare(s, at) < 0 ? &at->left[which] : &at->right[which];
    }
    while (s->left[which] != 0 && s->right[which] != 0) {
        bool left_up = priority_of(s->left[which]) > priority_of(s->right[which]);
        path_push(&path, link);
        rotate(core, link, which, left_up);
        struct core_free_state *up = core_free_state(core, *link);
        link = left_up ? &up->right[which] : &up->left[which];
        MR_ASSERT(*link == state);
    }
    *link = s->left[which] != 0 ? s->left[which] : s->right[which];
    s->left[which] = 0;
    s->right[which] = 0;
    while (path.depth > 0) {
        maxima_update(core, which, *path.link[--path.depth]);
    }
}

uint32_t core_tree_find(const struct mr_core *core, uint32_t root, uint32_t which,
                        const struct core_free_state *key)
{
    uint32_t at = root;
    while (at != 0) {
        const struct core_free_state *s = core_free_state(core, at);
        int order = key_compare(key, s);
        if (order == 0) return at;
        at = order < 0 ? s->left[which] : s->right[which];
    }
    return 0;
}

static bool subtree_may(const struct mr_core *core, uint32_t at, uint32_t which, uint64_t mem,
                        uint32_t part)
{
    if (at == 0) return false;
    const struct core_free_state *s = core_free_state(core, at);
    return s->mem_max[which] >= mem && s->part_max[which] >= part &&
           s->until_max_s[which] >= core->view_end_s;
}

uint32_t core_tree_best(const struct mr_core *core, uint32_t root, uint32_t which, uint64_t cpu,
                        uint64_t mem, uint32_t part)
{
    MR_ASSERT(which < 2);
    uint32_t stack[CORE_TREE_DEPTH];
    uint32_t depth = 0;
    uint32_t at = root;
    /* In order from the first entry with enough cpu; subtrees without enough memory are skipped,
     * so with part 0, and while no node is reserved, the first one entered holds the answer. */
    for (;;) {
        while (subtree_may(core, at, which, mem, part)) {
            const struct core_free_state *s = core_free_state(core, at);
            if (s->cpu_milli >= cpu) {
                MR_ASSERT(depth < CORE_TREE_DEPTH);
                stack[depth++] = at;
                at = s->left[which];
            } else {
                at = s->right[which];
            }
        }
        if (depth == 0) return 0;
        at = stack[--depth];
        const struct core_free_state *s = core_free_state(core, at);
        if (s->mem_mib >= mem && s->part >= part && s->until_s >= core->view_end_s) return at;
        at = s->right[which];
    }
}

void core_tree_walk_from(const struct mr_core *core, struct core_tree_walk *walk, uint32_t root,
                         uint32_t which, uint64_t cpu)
{
    walk->depth = 0;
    walk->which = which;
    for (uint32_t at = root; at != 0;) {
        const struct core_free_state *s = core_free_state(core, at);
        if (s->cpu_milli < cpu) {
            at = s->right[which];
            continue;
        }
        MR_ASSERT(walk->depth < CORE_TREE_DEPTH);
        walk->stack[walk->depth++] = at;
        at = s->left[which];
    }
}

void core_tree_walk_start(const struct mr_core *core, struct core_tree_walk *walk, uint32_t root,
                          uint32_t which)
{
    walk->depth = 0;
    walk->which = which;
    for (uint32_t at = root; at != 0; at = core_free_state(core, at)->left[which]) {
        MR_ASSERT(walk->depth < CORE_TREE_DEPTH);
        walk->stack[walk->depth++] = at;
    }
}

uint32_t core_tree_walk_next(const struct mr_core *core, struct core_tree_walk *walk)
{
    if (walk->depth == 0) return 0;
    uint32_t ret = walk->stack[--walk->depth];
    uint32_t at = core_free_state(core, ret)->right[walk->which];
    for (; at != 0; at = core_free_state(core, at)->left[walk->which]) {
        MR_ASSERT(walk->depth < CORE_TREE_DEPTH);
        walk->stack[walk->depth++] = at;
    }
    return ret;
}
