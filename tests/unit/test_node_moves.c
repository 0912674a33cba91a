/* SPDX-License-Identifier: ISC */
/*
 * Whose a moving connection is: of an offer and everything that can be done with
 * it exactly one end comes out as the owner, whoever asks and however late.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "keepsock/node_moves.h"

static void test_taken(void **state)
{
	struct node_moves moves = {0};
	uint64_t number = node_move_offer(&moves);

	(void)state;
	assert_int_not_equal(number, 0);
	assert_false(node_move_taken(&moves, number));
	assert_true(node_move_take(&moves, number));
	assert_true(node_move_taken(&moves, number));
	assert_false(node_move_take(&moves, number));
	assert_false(node_move_withdraw(&moves, number));
	node_move_done(&moves, number, NODE_MOVE_TAKER);
	node_move_done(&moves, number, NODE_MOVE_TAKER);
	assert_true(node_move_taken(&moves, number));
	node_move_done(&moves, number, NODE_MOVE_OFFERER);
	assert_false(node_move_taken(&moves, number));
	assert_int_equal(moves.word[number % NODE_MOVES_MAX], 0);
}

static void test_withdrawn(void **state)
{
	struct node_moves moves = {0};
	uint64_t number = node_move_offer(&moves);

	(void)state;
	/* A successor may ask again, and even after another move has its word. */
	assert_true(node_move_withdraw(&moves, number));
	assert_true(node_move_withdraw(&moves, number));
	assert_false(node_move_take(&moves, number));
	moves.last = number + NODE_MOVES_MAX - 1;
	assert_int_equal(node_move_offer(&moves), number + NODE_MOVES_MAX);
	assert_true(node_move_withdraw(&moves, number));
	assert_false(node_move_take(&moves, number));
	node_move_done(&moves, number, NODE_MOVE_OFFERER);
	assert_true(node_move_take(&moves, number + NODE_MOVES_MAX));
}

static void test_there_are_only_so_many(void **state)
{
	struct node_moves moves = {0};
	uint64_t last = 0;

	(void)state;
	for (unsigned i = 0; i < NODE_MOVES_MAX; i++) {
		uint64_t number = node_move_offer(&moves);

		assert_true(number > last);
		last = number;
	}
	assert_int_equal(node_move_offer(&moves), 0);
	assert_true(node_move_withdraw(&moves, last - 3));
	assert_true(node_move_offer(&moves) > last);
	assert_int_equal(node_move_offer(&moves), 0);
}

enum { RACES = 20000 };

struct race {
	struct node_moves moves;
	_Atomic uint64_t offered;
	_Atomic unsigned withdrawn;
	uint64_t taken;
};

static void *take_all(void *arg)
{
	struct race *race = arg;

	for (uint64_t seen = 0; seen < RACES;) {
		uint64_t number = atomic_load(&race->offered);

		if (number == seen)
			continue;
		if (node_move_take(&race->moves, number)) {
			race->taken++;
			node_move_done(&race->moves, number, NODE_MOVE_TAKER);
		}
		seen = number;
	}
	return NULL;
}

/* Offerer and taker at the same time: never both, never neither. */
static void test_both_at_once(void **state)
{
	struct race race = {0};
	uint64_t back = 0;
	pthread_t taker;

	(void)state;
	assert_int_equal(pthread_create(&taker, NULL, take_all, &race), 0);
	for (uint64_t i = 0; i < RACES; i++) {
		uint64_t number = node_move_offer(&race.moves);

		assert_int_equal(number, i + 1);
		atomic_store(&race.offered, number);
		if (node_move_withdraw(&race.moves, number))
			back++;
		else
			node_move_done(&race.moves, number, NODE_MOVE_OFFERER);
	}
	assert_int_equal(pthread_join(taker, NULL), 0);
	assert_int_equal(back + race.taken, RACES);
	for (unsigned i = 0; i < NODE_MOVES_MAX; i++)
		assert_int_equal(race.moves.word[i], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taken),
		cmocka_unit_test(test_withdrawn),
		cmocka_unit_test(test_there_are_only_so_many),
		cmocka_unit_test(test_both_at_once),
	};

	return cmocka_run_group_tests_name("moves of a node", tests, NULL, NULL);
}
