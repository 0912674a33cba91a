/* SPDX-License-Identifier: ISC */
/*
 * For tests of the record layer: records that are given to it, each opened in memory
 * of exactly its length, and what holds of every one is asserted.
 */
#ifndef TLS_OPENING_H
#define TLS_OPENING_H

#include "keepsock/buffer.h"
#include "keepsock/slice.h"
#include "keepsock/tls_record.h"

/* Of the group, between setup_group() and teardown_group(). */
extern struct tls_ciphers *ciphers;

int setup_group(void **state);
int teardown_group(void **state);

/* As tls_craft_record(). */
void craft(struct tls_state *peer, unsigned type, struct slice content, size_t padding,
	   struct buffer *out);

/* Opens what is at the beginning of input. */
enum tls_event open_exact(struct tls_state *state, struct slice input, uint64_t now_ms,
			  struct tls_opened *opened);
void expect_refused(struct tls_state *state, struct slice input, enum tls_refusal refusal);

/* One record that peer crafts; without one, that whoever is in step with state does. */
enum tls_event give_at(struct tls_state *state, struct tls_state *peer, uint64_t now_ms,
		       unsigned type, struct slice content, struct tls_opened *opened);
enum tls_event give(struct tls_state *state, unsigned type, struct slice content,
		    struct tls_opened *opened);
void expect_given_refused(struct tls_state *state, unsigned type, struct slice content,
			  enum tls_refusal refusal);

#endif
