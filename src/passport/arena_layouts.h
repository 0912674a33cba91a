/* SPDX-License-Identifier: ISC */
/*
 * The frozen tables of released layouts, one in each file arena_layout_N.c.
 * `tests/unit/test_golden_arena --freeze` writes that of today's layout.
 */
#ifndef KEEPSOCK_PASSPORT_ARENA_LAYOUTS_H
#define KEEPSOCK_PASSPORT_ARENA_LAYOUTS_H

#include "keepsock/arena_layout.h"

extern const struct arena_layout arena_layout_3;
extern const struct arena_layout arena_layout_4;
extern const struct arena_layout arena_layout_5;

#endif
