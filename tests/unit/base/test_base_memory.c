/* SPDX-License-Identifier: Apache-2.0 */
/* The allocator table and the arena: alignment, limits, every call failing once, nothing leaked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/base.h"
#include "fail_alloc.h"

static int libc_again(void **state)
{
    (void)state;
    mr_allocator_set(NULL);
    return 0;
}

static void size_zero_gives_null_and_frees(void **state)
{
    struct fail_alloc fail = {0};
    void *p = NULL;

    (void)state;
    fail_alloc_use(&fail);
    assert_null(mr_alloc(0));
    assert_null(mr_alloc_zero(0));
    assert_null(mr_realloc(NULL, 0));
    assert_int_equal(fail.calls, 0);
    p = mr_alloc(10);
    assert_non_null(p);
    assert_int_equal(fail.live, 1);
    assert_null(mr_realloc(p, 0));
    assert_int_equal(fail.live, 0);
    mr_free(NULL);
}

static void a_size_no_object_can_have_is_refused_before_the_allocator(void **state)
{
    struct fail_alloc fail = {0};

    (void)state;
    fail_alloc_use(&fail);
    assert_null(mr_alloc((size_t)PTRDIFF_MAX + 1));
    assert_null(mr_alloc_zero(SIZE_MAX));
    assert_int_equal(fail.calls, 0);
    fail.fail_at = 1;
    assert_null(mr_alloc(PTRDIFF_MAX));
    assert_int_equal(fail.calls, 1);
}

static void zeroed_memory_is_zero(void **state)
{
    uint8_t *p = mr_alloc_zero(1000);

    (void)state;
    assert_non_null(p);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(p[i], 0);
    }
    mr_free(p);
}

static void realloc_keeps_the_bytes(void **state)
{
    char *p = mr_realloc(NULL, 4);

    (void)state;
    memcpy(p, "abc", 4);
    p = mr_realloc(p, 40000);
    assert_string_equal(p, "abc");
    mr_free(p);
}

static void cleanup_attribute_frees_at_the_end_of_the_scope(void **state)
{
    struct fail_alloc fail = {0};

    (void)state;
    fail_alloc_use(&fail);
    {
        mr_cleanup(mr_free_pointer) char *p = mr_alloc(8);
        assert_non_null(p);
        assert_int_equal(fail.live, 1);
    }
    assert_int_equal(fail.live, 0);
    {
        mr_cleanup(mr_free_pointer) char *nothing = NULL;
        assert_null(nothing);
    }
}

static void arena_pieces_are_aligned_and_do_not_overlap(void **state)
{
    struct mr_arena arena;
    uint8_t *pieces[500];

    (void)state;
    mr_arena_init(&arena, 1u << 24);
    for (size_t i = 0; i < MR_COUNT_OF(pieces); i++) {
        size_t n = (i * 37) % 700;
        pieces[i] = mr_arena_alloc(&arena, n);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        memset(pieces[i], (int)(i & 0xFF), n);
    }
    for (size_t i = 0; i < MR_COUNT_OF(pieces); i++) {
        for (size_t j = 0; j < (i * 37) % 700; j++) {
            assert_int_equal(pieces[i][j], i & 0xFF);
        }
    }
    mr_arena_done(&arena);
}

static void arena_gives_its_limit_and_not_one_byte_more(void **state)
{
    struct mr_arena arena;

    (void)state;
    mr_arena_init(&arena, 1000);
    assert_null(mr_arena_alloc(&arena, 1001));
    assert_non_null(mr_arena_alloc(&arena, 1000));
    assert_null(mr_arena_alloc(&arena, 1));
    mr_arena_reset(&arena);
    assert_non_null(mr_arena_alloc(&arena, 992));
    assert_null(mr_arena_alloc(&arena, 9));
    assert_non_null(mr_arena_alloc(&arena, 8));
    assert_null(mr_arena_alloc(&arena, 1));
    assert_null(mr_arena_alloc(&arena, SIZE_MAX));
    mr_arena_done(&arena);
}

static void arena_with_limit_zero_gives_only_empty_pieces(void **state)
{
    struct mr_arena arena;

    (void)state;
    mr_arena_init(&arena, 0);
    assert_null(mr_arena_alloc(&arena, 1));
    assert_non_null(mr_arena_alloc(&arena, 0));
    assert_null(mr_arena_alloc(&arena, 0));
    mr_arena_done(&arena);
}

static void arena_counts_rounded_pieces(void **state)
{
    struct mr_arena arena;

    (void)state;
    mr_arena_init(&arena, SIZE_MAX);
    assert_non_null(mr_arena_alloc(&arena, 1));
    assert_int_equal(arena.used_bytes, 16);
    assert_non_null(mr_arena_alloc(&arena, 17));
    assert_int_equal(arena.used_bytes, 48);
    assert_non_null(mr_arena_alloc(&arena, 0));
    assert_int_equal(arena.used_bytes, 64);
    mr_arena_done(&arena);
    assert_int_equal(arena.used_bytes, 0);
}

static void arena_reset_keeps_one_chunk_and_needs_no_new_memory(void **state)
{
    struct fail_alloc fail = {0};
    struct mr_arena arena;
    size_t calls = 0;

    (void)state;
    fail_alloc_use(&fail);
    mr_arena_init(&arena, 1u << 24);
    for (size_t i = 0; i < 100; i++) {
        assert_non_null(mr_arena_alloc(&arena, 1000));
    }
    assert_true(fail.live > 1);
    mr_arena_reset(&arena);
    assert_int_equal(fail.live, 1);
    assert_int_equal(arena.used_bytes, 0);
    calls = fail.calls;
    assert_non_null(mr_arena_alloc(&arena, 3000));
    assert_int_equal(fail.calls, calls);
    mr_arena_done(&arena);
    assert_int_equal(fail.live, 0);
    mr_arena_done(&arena);
    mr_arena_reset(&arena);
}

static void a_large_piece_does_not_waste_the_chunk_in_use(void **state)
{
    struct fail_alloc fail = {0};
    struct mr_arena arena;
    size_t calls = 0;
    void *large = NULL;

    (void)state;
    fail_alloc_use(&fail);
    mr_arena_init(&arena, SIZE_MAX);
    assert_non_null(mr_arena_alloc(&arena, 16));
    large = mr_arena_alloc(&arena, 10u << 20);
    assert_non_null(large);
    memset(large, 1, 10u << 20); /* ASan: all of it is ours */
    calls = fail.calls;
    assert_non_null(mr_arena_alloc(&arena, 2000));
    assert_int_equal(fail.calls, calls);
    mr_arena_done(&arena);
    assert_int_equal(fail.live, 0);
}

static void arena_allocations_are_few(void **state)
{
    struct fail_alloc fail = {0};
    struct mr_arena arena;

    (void)state;
    fail_alloc_use(&fail);
    mr_arena_init(&arena, SIZE_MAX);
    for (size_t i = 0; i < 100000; i++) {
        assert_non_null(mr_arena_alloc(&arena, 100));
    }
    /* 11.2 MB: nine doublings to 1 MB, then one for each MB */
    assert_true(fail.calls < 24);
    mr_arena_done(&arena);
    assert_int_equal(fail.live, 0);
}

/* Each piece in its turn finds no memory: it is NULL, the arena goes on, nothing leaks. */
static void arena_survives_every_call_failing_once(void **state)
{
    bool failed_once = true;

    (void)state;
    for (size_t fail_at = 1; failed_once; fail_at++) {
        struct fail_alloc fail = {.fail_at = fail_at};
        struct mr_arena arena;
        size_t nulls = 0;

        fail_alloc_use(&fail);
        mr_arena_init(&arena, SIZE_MAX);
        for (size_t i = 0; i < 60; i++) {
            size_t used = arena.used_bytes;
            uint8_t *p = mr_arena_alloc_zero(&arena, 100 + i * 50);
            if (!p) {
                nulls++;
                assert_int_equal(arena.used_bytes, used);
                continue;
            }
            memset(p, 1, 100 + i * 50);
        }
        mr_arena_done(&arena);
        assert_int_equal(fail.live, 0);
        failed_once = fail.calls >= fail_at;
        assert_int_equal(nulls, failed_once ? 1 : 0);
    }
}

static void out_of_memory_is_null_for_every_allocating_function(void **state)
{
    struct fail_alloc fail = {.fail_at = 1, .for_ever = true};
    struct mr_arena arena;

    (void)state;
    fail_alloc_use(&fail);
    mr_arena_init(&arena, SIZE_MAX);
    assert_null(mr_alloc(1));
    assert_null(mr_alloc_zero(1));
    assert_null(mr_realloc(NULL, 1));
    assert_null(mr_arena_alloc(&arena, 1));
    assert_null(mr_arena_alloc_zero(&arena, 1));
    assert_null(mr_str_copy(&arena, MR_STR("x")).p);
    assert_null(mr_str_zero(&arena, MR_STR("x")));
    mr_arena_done(&arena);
    assert_int_equal(fail.live, 0);
}

#define CASE(name) cmocka_unit_test_teardown(name, libc_again)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(size_zero_gives_null_and_frees),
        CASE(a_size_no_object_can_have_is_refused_before_the_allocator),
        CASE(zeroed_memory_is_zero),
        CASE(realloc_keeps_the_bytes),
        CASE(cleanup_attribute_frees_at_the_end_of_the_scope),
        CASE(arena_pieces_are_aligned_and_do_not_overlap),
        CASE(arena_gives_its_limit_and_not_one_byte_more),
        CASE(arena_with_limit_zero_gives_only_empty_pieces),
        CASE(arena_counts_rounded_pieces),
        CASE(arena_reset_keeps_one_chunk_and_needs_no_new_memory),
        CASE(a_large_piece_does_not_waste_the_chunk_in_use),
        CASE(arena_allocations_are_few),
        CASE(arena_survives_every_call_failing_once),
        CASE(out_of_memory_is_null_for_every_allocating_function),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
