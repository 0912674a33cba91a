/* SPDX-License-Identifier: ISC */
/*
 * The rings of node events: what is kept, in which order it is read, and that
 * what a process wrote before it died stays.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "keepsock/node_events.h"
#include "keepsock/node_page.h"

static int page_fd;
static struct node_event_view views[NODE_EVENTS_MAX];

static int make_page(void **state)
{
	*state = node_page_create(2, &page_fd);
	return *state ? 0 : -1;
}

static int drop_page(void **state)
{
	node_page_claim_slot(NULL, 0);
	node_page_unmap(*state);
	return close(page_fd);
}

static void test_a_new_page_has_none(void **state)
{
	assert_int_equal(node_events_read(*state, views), 0);
}

static void test_without_a_page_they_are_dropped(void **state)
{
	node_event_add(NODE_EVENT_REDIS_LOST, "to nowhere");
	assert_int_equal(node_events_read(*state, views), 0);
}

static void test_text_and_kind(void **state)
{
	node_page_claim_slot(*state, 1);
	node_event_add(NODE_EVENT_REDIS_LOST, "shard %d: %s", 3, "reset");
	assert_int_equal(node_events_read(*state, views), 1);
	assert_int_equal(views[0].kind, NODE_EVENT_REDIS_LOST);
	assert_string_equal(node_event_name(views[0].kind), "redis lost");
	assert_string_equal(views[0].text, "shard 3: reset");
	assert_int_equal(views[0].slot, 1);
	assert_int_equal(views[0].number, 1);
	assert_true(views[0].at_ms > 0);
}

static void test_a_long_text_is_cut(void **state)
{
	char text[2 * NODE_EVENT_TEXT_MAX];

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	node_page_claim_slot(*state, 0);
	node_event_add(NODE_EVENT_PURGED, "%s", text);
	assert_int_equal(node_events_read(*state, views), 1);
	assert_int_equal(strlen(views[0].text), NODE_EVENT_TEXT_MAX);
}

static void test_the_last_ones_are_kept(void **state)
{
	node_page_claim_slot(*state, 0);
	for (unsigned i = 1; i <= 3 * NODE_EVENTS_KEPT + 5; i++)
		node_event_add(NODE_EVENT_PROBE_LOST, "%u", i);
	assert_int_equal(node_events_read(*state, views), NODE_EVENTS_KEPT);
	for (unsigned i = 0; i < NODE_EVENTS_KEPT; i++)
		assert_int_equal((int)strtol(views[i].text, NULL, 10),
				 2 * NODE_EVENTS_KEPT + 6 + i);
}

static void test_all_processes_by_time(void **state)
{
	struct node_page *page = *state;

	node_page_claim_slot(page, 1);
	node_event_add(NODE_EVENT_WORKER_STARTED, "first");
	node_page_claim_slot(page, NODE_SLOT_MASTER);
	node_event_add(NODE_EVENT_WORKER_DIED, "second");
	atomic_store(&page->slot[1].events.records[0].at_ms, 1000);
	atomic_store(&page->slot[NODE_SLOT_MASTER].events.records[0].at_ms, 999);
	assert_int_equal(node_events_read(page, views), 2);
	assert_string_equal(views[0].text, "second");
	assert_int_equal(views[0].slot, NODE_SLOT_MASTER);
	assert_string_equal(views[1].text, "first");
}

static void test_what_is_being_written_is_skipped(void **state)
{
	struct node_page *page = *state;

	node_page_claim_slot(page, 0);
	node_event_add(NODE_EVENT_REDIS_BACK, "whole");
	node_event_add(NODE_EVENT_REDIS_BACK, "torn");
	atomic_store(&page->slot[0].events.records[1].number, 0);
	assert_int_equal(node_events_read(page, views), 1);
	assert_string_equal(views[0].text, "whole");
}

static void test_they_outlive_their_process(void **state)
{
	struct node_page *page = *state;
	pid_t child = fork();

	if (child == 0) {
		node_page_claim_slot(page, 0);
		node_event_add(NODE_EVENT_REDIS_LOST, "before");
		_exit(0);
	}
	assert_int_equal(waitpid(child, NULL, 0), child);
	node_page_claim_slot(page, 0);
	node_event_add(NODE_EVENT_WORKER_STARTED, "after");
	assert_int_equal(node_events_read(page, views), 2);
	assert_string_equal(views[0].text, "before");
	assert_int_equal(views[1].number, 2);
}

#define EVENT_TEST(test) cmocka_unit_test_setup_teardown(test, make_page, drop_page)

int main(void)
{
	const struct CMUnitTest tests[] = {
		EVENT_TEST(test_a_new_page_has_none),
		EVENT_TEST(test_without_a_page_they_are_dropped),
		EVENT_TEST(test_text_and_kind),
		EVENT_TEST(test_a_long_text_is_cut),
		EVENT_TEST(test_the_last_ones_are_kept),
		EVENT_TEST(test_all_processes_by_time),
		EVENT_TEST(test_what_is_being_written_is_skipped),
		EVENT_TEST(test_they_outlive_their_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
