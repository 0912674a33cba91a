/* SPDX-License-Identifier: ISC */
/*
 * Driving an event loop from a test until something has happened, with a limit
 * after which the test fails. Nothing sleeps and no time is asserted.
 */
#ifndef KEEPSOCK_TESTS_REDIS_WAIT_H
#define KEEPSOCK_TESTS_REDIS_WAIT_H

#include <stdbool.h>

#include <event2/event.h>

#define WAIT_LIMIT_S 60

static inline void wait_on_limit(evutil_socket_t fd, short what, void *over)
{
	(void)fd;
	(void)what;
	*(bool *)over = true;
}

#define WAIT_FOR(base, condition)                                                        \
	do {                                                                             \
		bool wait_over = false;                                                  \
		struct timeval wait_limit = {WAIT_LIMIT_S, 0};                           \
		struct event *wait_event = evtimer_new(base, wait_on_limit, &wait_over); \
		assert_non_null(wait_event);                                             \
		assert_int_equal(evtimer_add(wait_event, &wait_limit), 0);               \
		while (!(condition) && !wait_over)                                       \
			assert_true(event_base_loop(base, EVLOOP_ONCE) >= 0);            \
		event_free(wait_event);                                                  \
		if (!(condition))                                                        \
			fail_msg("waited in vain for: %s", #condition);                  \
	} while (0)

#endif
