/* SPDX-License-Identifier: ISC */
/*
 * The words of moves, see node_moves.h. A number's word is where its remainder
 * says, so that whoever knows the number finds it. Lock-free; a process killed at
 * any point leaves a word that says what is the case.
 */
#include "keepsock/node_moves.h"

enum { OFFERED = 1u << 2, TAKEN = 1u << 3, DONE = NODE_MOVE_OFFERER | NODE_MOVE_TAKER };

static _Atomic uint64_t *word_of(struct node_moves *moves, uint64_t number)
{
	return &moves->word[number % NODE_MOVES_MAX];
}

uint64_t node_move_offer(struct node_moves *moves)
{
	for (unsigned i = 0; i < NODE_MOVES_MAX; i++) {
		uint64_t number = atomic_fetch_add(&moves->last, 1) + 1;
		uint64_t free_word = 0;

		if (atomic_compare_exchange_strong(word_of(moves, number), &free_word,
						   number << 8 | OFFERED))
			return number;
	}
	return 0;
}

bool node_move_take(struct node_moves *moves, uint64_t number)
{
	uint64_t offered = number << 8 | OFFERED;

	return atomic_compare_exchange_strong(word_of(moves, number), &offered,
					      number << 8 | TAKEN);
}

bool node_move_taken(const struct node_moves *moves, uint64_t number)
{
	uint64_t word = atomic_load(&moves->word[number % NODE_MOVES_MAX]);

	return word >> 8 == number && (word & TAKEN);
}

bool node_move_withdraw(struct node_moves *moves, uint64_t number)
{
	uint64_t offered = number << 8 | OFFERED;

	return atomic_compare_exchange_strong(word_of(moves, number), &offered, 0) ||
	       !node_move_taken(moves, number);
}

void node_move_done(struct node_moves *moves, uint64_t number, enum node_move_end end)
{
	_Atomic uint64_t *word = word_of(moves, number);
	uint64_t now = atomic_load(word), next;

	do {
		if (now >> 8 != number || !(now & TAKEN))
			return;
		next = now | end;
		if ((next & DONE) == DONE)
			next = 0;
	} while (!atomic_compare_exchange_weak(word, &now, next));
}
