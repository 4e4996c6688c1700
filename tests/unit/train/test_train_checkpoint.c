/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints: whole or not taken, the newest two kept, none of another recipe continued. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

#include "train.h"

#define COUNT 100u

struct place {
    char folder[64];
    float weights[COUNT], m[COUNT], v[COUNT];
    struct train_checkpoint checkpoint;
    struct train_problem problem;
};

static int place_open(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    if (place == NULL) return -1;
    (void)snprintf(place->folder, sizeof place->folder, "/tmp/train_checkpoint_XXXXXX");
    if (mkdtemp(place->folder) == NULL) return -1;
    for (size_t i = 0; i < COUNT; i++) {
        place->weights[i] = (float)i + 0.25f;
        place->m[i] = (float)i * -2.0f;
        place->v[i] = (float)i * 1e-9f;
    }
    place->checkpoint = (struct train_checkpoint){.step = 5,
                                                  .tokens = 500,
                                                  .targets = 300,
                                                  .elapsed_us = 77,
                                                  .recipe = 9,
                                                  .count = COUNT,
                                                  .held_before = 3.5,
                                                  .loss = 1.25,
                                                  .product = "own-f32",
                                                  .weights = place->weights,
                                                  .m = place->m,
                                                  .v = place->v};
    *state = place;
    return 0;
}

static int place_close(void **state)
{
    struct place *place = *state;
    DIR *dir = opendir(place->folder);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        char path[400];
        (void)snprintf(path, sizeof path, "%s/%s", place->folder, entry->d_name);
        (void)unlink(path); /* . and .. stay */
    }
    if (dir != NULL) (void)closedir(dir);
    (void)rmdir(place->folder);
    free(place);
    return 0;
}

static int write_step(struct place *place, uint64_t step)
{
    place->checkpoint.step = step;
    place->weights[0] = (float)step;
    return train_checkpoint_write(place->folder, &place->checkpoint, &place->problem);
}

static int read_into(struct place *place, float *vectors, struct train_checkpoint *ret,
                     size_t *torn)
{
    *ret = (struct train_checkpoint){.recipe = 9,
                                     .count = COUNT,
                                     .weights = vectors,
                                     .m = vectors + COUNT,
                                     .v = vectors + 2 * COUNT};
    return train_checkpoint_read(place->folder, ret, torn, &place->problem);
}

static void path_of(struct place *place, uint64_t step, char path[160])
{
    (void)snprintf(path, 160, "%s/checkpoint-%llu.mrt", place->folder, (unsigned long long)step);
}

static void what_was_written_is_read(void **state)
{
    struct place *place = *state;
    struct train_checkpoint read;
    float vectors[3 * COUNT];
    size_t torn;
    assert_int_equal(write_step(place, 5), 0);
    assert_int_equal(read_into(place, vectors, &read, &torn), 0);
    assert_int_equal(torn, 0);
    assert_int_equal(read.step, 5);
    assert_int_equal(read.tokens, 500);
    assert_int_equal(read.targets, 300);
    assert_int_equal(read.elapsed_us, 77);
    assert_true(read.held_before == 3.5);
    assert_true(read.loss == 1.25);
    assert_string_equal(read.product, "own-f32");
    assert_memory_equal(vectors, place->weights, sizeof place->weights);
    assert_memory_equal(vectors + COUNT, place->m, sizeof place->m);
    assert_memory_equal(vectors + 2 * COUNT, place->v, sizeof place->v);
}

static void the_newest_two_are_kept(void **state)
{
    struct place *place = *state;
    char path[160];
    for (uint64_t step = 8; step <= 12; step++) {
        assert_int_equal(write_step(place, step), 0);
    }
    for (uint64_t step = 8; step <= 12; step++) {
        path_of(place, step, path);
        assert_int_equal(access(path, R_OK), step >= 11 ? 0 : -1);
    }
}

static void a_torn_one_gives_way_to_the_older_at_every_length(void **state)
{
    struct place *place = *state;
    struct train_checkpoint read;
    float vectors[3 * COUNT];
    struct mr_str whole;
    char path[160];
    size_t torn;
    assert_int_equal(write_step(place, 1), 0);
    assert_int_equal(write_step(place, 2), 0);
    path_of(place, 2, path);
    assert_int_equal(train_file_read(path, 1u << 20, &whole, &place->problem), 0);
    for (size_t n = 0; n < whole.n; n += n < 200 ? 1 : 37) {
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(whole.p, 1, n, file), n);
        assert_int_equal(fclose(file), 0);
        assert_int_equal(read_into(place, vectors, &read, &torn), 0);
        assert_int_equal(torn, 1);
        assert_int_equal(read.step, 1);
        assert_true(vectors[0] == 1.0f);
    }
    mr_free((void *)(uintptr_t)whole.p);
}

static void a_flipped_bit_anywhere_is_found(void **state)
{
    struct place *place = *state;
    struct mr_str whole;
    char path[160];
    assert_int_equal(write_step(place, 3), 0);
    path_of(place, 3, path);
    assert_int_equal(train_file_read(path, 1u << 20, &whole, &place->problem), 0);
    char *bytes = malloc(whole.n);
    assert_non_null(bytes);
    for (size_t i = 0; i < whole.n; i++) {
        struct train_checkpoint read = {0};
        memcpy(bytes, whole.p, whole.n);
        bytes[i] = (char)(bytes[i] ^ (1 << (i % 8)));
        assert_true(train_checkpoint_decode((struct mr_str){bytes, whole.n}, &read) < 0);
        assert_int_equal(read.step, 0); /* untouched */
    }
    free(bytes);
    mr_free((void *)(uintptr_t)whole.p);
}

static void another_recipe_is_not_continued(void **state)
{
    struct place *place = *state;
    struct train_checkpoint read;
    float vectors[3 * COUNT] = {0};
    size_t torn;
    place->checkpoint.recipe = 10;
    assert_int_equal(write_step(place, 4), 0);
    assert_int_equal(read_into(place, vectors, &read, &torn), MR_ESTATE);
    assert_true(vectors[1] == 0.0f);
    assert_non_null(strstr(place->problem.text, "delete them"));
}

static void an_empty_or_missing_folder_has_none(void **state)
{
    struct place *place = *state;
    struct train_checkpoint read;
    float vectors[3 * COUNT];
    size_t torn;
    assert_int_equal(read_into(place, vectors, &read, &torn), MR_ENOT_FOUND);
    assert_int_equal(rmdir(place->folder), 0);
    assert_int_equal(read_into(place, vectors, &read, &torn), MR_ENOT_FOUND);
    assert_int_equal(write_step(place, 1), MR_ENOT_FOUND);
    assert_non_null(strstr(place->problem.text, place->folder));
}

static void a_full_disk_is_told_and_leaves_the_older(void **state)
{
    struct place *place = *state;
    if (access("/dev/full", W_OK) != 0) {
        print_message("no /dev/full\n");
        skip();
    }
    char link_path[160];
    (void)snprintf(link_path, sizeof link_path, "%s/checkpoint-7.mrt.part", place->folder);
    assert_int_equal(write_step(place, 6), 0);
    assert_int_equal(symlink("/dev/full", link_path), 0);
    assert_int_equal(write_step(place, 7), MR_ENO_SPACE);
    assert_non_null(strstr(place->problem.text, "No space left"));
    struct train_checkpoint read;
    float vectors[3 * COUNT];
    size_t torn;
    assert_int_equal(read_into(place, vectors, &read, &torn), 0);
    assert_int_equal(read.step, 6);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, place_open, place_close)
    const struct CMUnitTest tests[] = {
        CASE(what_was_written_is_read),
        CASE(the_newest_two_are_kept),
        CASE(a_torn_one_gives_way_to_the_older_at_every_length),
        CASE(a_flipped_bit_anywhere_is_found),
        CASE(another_recipe_is_not_continued),
        CASE(an_empty_or_missing_folder_has_none),
        CASE(a_full_disk_is_told_and_leaves_the_older),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
