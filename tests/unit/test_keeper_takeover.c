/* SPDX-License-Identifier: ISC */
/*
 * A takeover as the keeper drives it, with this test as its master and as both
 * workers: what is said to whom in which order, and how it ends when one of them
 * refuses, hangs, dies or comes too late. Who has the arena is what its word
 * says; the test writes it where a worker would.
 */
#include "keeper_fixture.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keepsock/arena.h"
#include "keepsock/clock.h"
#include "keepsock/keeper_socket.h"

#define NUMBER   77u
#define LIMIT_MS 60000u

/* The next worker, beside the one of the fixture. */
struct next {
	struct keeper_worker worker;
	int channel, pidfd, master_end;
};

/* ---- what the test says and hears ---- */

static void order(struct test *t, uint64_t number, uint32_t limit_ms)
{
	const struct keeper_takeover takeover = {number, TAKEOVER_RELOAD, limit_ms};

	assert_int_equal(
		ipc_send(t->master, KEEPER_TAKEOVER, 0, &takeover, sizeof(takeover), NULL, 0), 0);
}

static struct keeper_taken_over expect_end(struct test *t, enum takeover_outcome outcome,
					   const char *reason)
{
	struct keeper_taken_over end;
	struct slice text;
	char why[KEEPER_REASON_MAX + 1];

	expect(t, t->master, KEEPER_TAKEN_OVER);
	assert_true(keeper_taken_over_decode(payload_of(t), &end, &text));
	(void)snprintf(why, sizeof(why), "%.*s", SLICE_ARG(text));
	if (!strstr(why, reason))
		fail_msg("ended because of \"%s\", not \"%s\"", why, reason);
	assert_int_equal(end.outcome, outcome);
	return end;
}

static void say_turn(int fd, uint32_t type)
{
	const struct keeper_turn turn = {.takeover = NUMBER};

	assert_int_equal(ipc_send(fd, type, 0, &turn, sizeof(turn), NULL, 0), 0);
}

static void expect_turn(struct test *t, int fd, uint32_t type)
{
	struct keeper_turn turn;

	expect(t, fd, type);
	assert_true(keeper_payload_take(payload_of(t), &turn, sizeof(turn)));
	assert_int_equal(turn.takeover, NUMBER);
}

static void say_frozen(struct test *t, uint32_t descriptors)
{
	const struct keeper_frozen frozen = {
		.takeover = NUMBER,
		.at_ns = clock_boottime_ns(),
		.descriptors = descriptors,
	};

	assert_int_equal(ipc_send(t->channel, KEEPER_FROZEN, 0, &frozen, sizeof(frozen), NULL, 0),
			 0);
}

static void say_committed(struct next *next, uint32_t connections)
{
	const struct keeper_committed committed = {
		.takeover = NUMBER,
		.at_ns = clock_boottime_ns(),
		.connections = connections,
		.lost = 1,
	};

	assert_int_equal(ipc_send(next->channel, KEEPER_COMMITTED, 0, &committed, sizeof(committed),
				  NULL, 0),
			 0);
}

static void set_owner(struct test *t, enum arena_owner_state state, pid_t pid)
{
	const uint64_t owner = WORK_WORD(state, pid);

	assert_int_equal(
		pwrite(t->arena, &owner, sizeof(owner), offsetof(struct arena_header, owner)),
		sizeof(owner));
}

/* ---- steps ---- */

static void meet_next(struct test *t, struct next *next)
{
	struct keeper_start start;
	struct slice rest;

	expect(t, t->master, KEEPER_WORKER);
	assert_true(keeper_payload_take(payload_of(t), &next->worker, sizeof(next->worker)));
	assert_int_equal(next->worker.flags, KEEPER_WORKER_TAKES_OVER);
	assert_true(next->worker.restarts == 5);
	next->master_end = t->message.fds[KEEPER_FD_WORKER_CHANNEL];
	next->pidfd = t->message.fds[KEEPER_FD_WORKER_PIDFD];
	receive(t, next->master_end);
	next->channel = t->message.fds[0];
	expect(t, next->channel, KEEPER_START);
	assert_true(keeper_payload_take_head(payload_of(t), &start, sizeof(start), &rest));
	assert_int_equal(start.flags, KEEPER_START_TAKEOVER);
	assert_int_equal(start.takeover, NUMBER);
	/* The arena, then those of the start. */
	assert_int_equal(t->message.nfds, 3);
	ipc_message_close_fds(&t->message);
}

static void forget_next(struct next *next)
{
	close(next->channel);
	close(next->pidfd);
	close(next->master_end);
}

/* What comes with one NEXT: how many, and the type of what ended it. */
static uint32_t take_batch(struct test *t, struct next *next, size_t *handed, size_t *gone)
{
	*handed = *gone = 0;
	assert_int_equal(ipc_send(next->channel, KEEPER_NEXT, 0, NULL, 0, NULL, 0), 0);
	for (;;) {
		size_t items;

		receive(t, next->channel);
		if (t->message.type != KEEPER_TAKEN_BACK && t->message.type != KEEPER_HAND_OVER)
			return t->message.type;
		items = keeper_items_count(payload_of(t));
		if (t->message.type == KEEPER_TAKEN_BACK) {
			*gone += items;
			continue;
		}
		assert_int_equal(t->message.nfds, items);
		ipc_message_close_fds(&t->message);
		*handed += items;
		return KEEPER_HAND_OVER;
	}
}

static void take_all(struct test *t, struct next *next, size_t count)
{
	size_t handed, gone, all = 0;

	while (take_batch(t, next, &handed, &gone) == KEEPER_HAND_OVER)
		all += handed;
	assert_int_equal(t->message.type, KEEPER_HAND_OVER_END);
	assert_int_equal(all, count);
}

/* Up to the old one's being asked to freeze. */
static void prepare(struct test *t, struct next *next, size_t count)
{
	order(t, NUMBER, LIMIT_MS);
	meet_next(t, next);
	take_all(t, next, count);
	say_turn(next->channel, KEEPER_READY);
	expect_turn(t, t->channel, KEEPER_FREEZE);
}

/* Up to the word to take the arena. */
static void hand_over(struct test *t, struct next *next, uint32_t count)
{
	prepare(t, next, count);
	say_frozen(t, count);
	expect_turn(t, next->channel, KEEPER_COMMIT);
}

/* The next one is the slot's. */
static void settle(struct test *t, struct next *next, uint32_t count)
{
	forget_worker(t);
	t->channel = next->channel;
	t->worker_pidfd = next->pidfd;
	t->worker_master_end = next->master_end;
	t->worker = next->worker;
	say_count(t, count);
	expect_status(t, true, count);
}

static void assert_dead(int pidfd)
{
	struct pollfd poller = {.fd = pidfd, .events = POLLIN};

	assert_int_equal(poll(&poller, 1, DEADLINE_MS), 1);
}

/* The slot is as it was: another takeover works. */
static void assert_goes_on(struct test *t, uint32_t count)
{
	struct next next;

	say_count(t, count);
	prepare(t, &next, count);
	say_frozen(t, count);
	expect_turn(t, next.channel, KEEPER_COMMIT);
	say_committed(&next, count);
	expect_end(t, TAKEOVER_DONE, "");
	settle(t, &next, count);
}

#define SOME 3u

static void start_with_some(struct test *t, int pairs[SOME][2])
{
	start_worker(t);
	make_pairs(pairs, SOME);
	deposit(t, pairs, 0, SOME);
	say_count(t, SOME);
	expect_status(t, true, SOME);
	set_owner(t, ARENA_OWNER_RUNNING, t->worker.pid);
}

/* ---- the way it should go ---- */

static void test_one_takes_over_from_the_other(void **state)
{
	struct test *t = *state;
	struct keeper_taken_over end;
	int pairs[SOME][2];
	struct next next;
	pid_t old;

	start_with_some(t, pairs);
	old = t->worker.pid;
	hand_over(t, &next, SOME);
	say_committed(&next, SOME);
	end = expect_end(t, TAKEOVER_DONE, "");
	assert_int_equal(end.number, NUMBER);
	assert_int_equal(end.old_pid, old);
	assert_int_equal(end.new_pid, next.worker.pid);
	assert_int_equal(end.connections, SOME);
	assert_int_equal(end.lost, 1);
	assert_true(end.prepare_us > 0 && end.freeze_us > 0);
	expect_turn(t, t->channel, KEEPER_LEAVE);
	/* What the keeper has is what it had. */
	settle(t, &next, SOME);
	/* The end of who left is nobody's death. */
	order(t, NUMBER, LIMIT_MS);
	meet_next(t, &next);
	forget_next(&next);
	close_pairs(pairs, SOME, 0);
	close_pairs(pairs, SOME, 1);
}

static void test_a_dead_one_that_took_over_is_replaced(void **state)
{
	struct test *t = *state;
	int pairs[SOME][2];
	struct next next;

	start_with_some(t, pairs);
	hand_over(t, &next, SOME);
	say_committed(&next, SOME);
	expect_end(t, TAKEOVER_DONE, "");
	settle(t, &next, SOME);
	kill_worker(t);
	assert_int_equal(WTERMSIG(expect_death(t).status), SIGKILL);
	meet_worker(t);
	expect_start(t, true);
	close_pairs(pairs, SOME, 0);
	close_pairs(pairs, SOME, 1);
}

/* More than a batch, and what comes and goes while it is handed over, before and behind. */
static void test_what_changes_meanwhile_is_told(void **state)
{
	enum { ALL = 300, LATE = 304 };
	static int pairs[LATE][2];
	struct test *t = *state;
	struct keeper_item gone;
	size_t handed, back;
	struct next next;

	start_worker(t);
	make_pairs(pairs, LATE);
	deposit(t, pairs, 0, IPC_FDS_MAX);
	deposit(t, pairs, IPC_FDS_MAX, ALL);
	say_count(t, ALL);
	expect_status(t, true, ALL);
	order(t, NUMBER, LIMIT_MS);
	meet_next(t, &next);
	assert_int_equal(take_batch(t, &next, &handed, &back), KEEPER_HAND_OVER);
	assert_int_equal(handed, IPC_FDS_MAX);
	/* Two that it may have or not, and two new ones, of which one goes at once. */
	for (uint32_t number = 0; number < 2; number++) {
		gone = item_of(number);
		say(t, KEEPER_RELEASE, &gone, sizeof(gone));
	}
	deposit(t, pairs, ALL, ALL + 2);
	gone = item_of(ALL);
	say(t, KEEPER_RELEASE, &gone, sizeof(gone));
	say_count(t, ALL - 1);
	expect_status(t, true, ALL - 1);
	handed = back = 0;
	for (size_t more, less; take_batch(t, &next, &more, &less) == KEEPER_HAND_OVER;) {
		handed += more;
		back += less;
	}
	/* Whatever the keeper's order is: in the end it has what is kept. */
	assert_true(back >= 3);
	assert_true(IPC_FDS_MAX + handed - (ALL - 1) <= 2);
	say_turn(next.channel, KEEPER_READY);
	expect_turn(t, t->channel, KEEPER_FREEZE);
	deposit(t, pairs, ALL + 2, LATE);
	say_frozen(t, ALL + 1);
	receive(t, next.channel);
	assert_int_equal(t->message.type, KEEPER_HAND_OVER);
	assert_int_equal(t->message.nfds, 2);
	ipc_message_close_fds(&t->message);
	assert_int_equal(take_batch(t, &next, &handed, &back), KEEPER_COMMIT);
	assert_int_equal(back, 0);
	say_committed(&next, ALL + 1);
	expect_end(t, TAKEOVER_DONE, "");
	settle(t, &next, ALL + 1);
	close_pairs(pairs, LATE, 0);
	close_pairs(pairs, LATE, 1);
}

/* ---- not now ---- */

static void test_it_waits_until_the_slot_is_protected(void **state)
{
	struct test *t = *state;
	int pairs[1][2];
	struct next next;

	start_worker(t);
	make_pairs(pairs, 1);
	say_count(t, 1);
	expect_status(t, false, 0);
	order(t, NUMBER, LIMIT_MS);
	order(t, NUMBER + 1, LIMIT_MS);
	assert_int_equal(expect_end(t, TAKEOVER_NOT_DONE, "another").number, NUMBER + 1);
	deposit(t, pairs, 0, 1);
	say_count(t, 1);
	meet_next(t, &next);
	take_all(t, &next, 1);
	forget_next(&next);
	close_pairs(pairs, 1, 0);
	close_pairs(pairs, 1, 1);
}

static void test_a_slot_that_is_not_protected_in_time(void **state)
{
	struct test *t = *state;

	start_worker(t);
	say_count(t, 1);
	expect_status(t, false, 0);
	order(t, NUMBER, 50);
	assert_int_equal(expect_end(t, TAKEOVER_NOT_DONE, "protected").new_pid, 0);
	expect(t, t->channel, KEEPER_DEPOSIT_AGAIN);
	say_count(t, 0);
	expect_status(t, true, 0);
	assert_goes_on(t, 0);
}

/* ---- the next one fails before it can have the arena ---- */

enum failure { DIES, REFUSES, IS_NOT_READY, BREAKS_THE_RULES };

static void fail_early(struct test *t, struct next *next, enum failure failure)
{
	switch (failure) {
	case DIES:
		assert_int_equal(pidfd_send_signal(next->pidfd, SIGKILL, NULL, 0), 0);
		expect_end(t, TAKEOVER_NOT_DONE, "signal 9");
		break;
	case REFUSES:
		assert_int_equal(
			ipc_send(next->channel, KEEPER_ADOPT_REFUSED, 0, "too new", 7, NULL, 0), 0);
		expect_end(t, TAKEOVER_NOT_DONE, "too new");
		break;
	case IS_NOT_READY: expect_end(t, TAKEOVER_NOT_DONE, "not ready in time"); break;
	case BREAKS_THE_RULES:
		say_turn(next->channel, KEEPER_COMMITTED);
		expect_end(t, TAKEOVER_NOT_DONE, "signal 9");
		break;
	}
}

static void test_one_that_fails_while_it_prepares(void **state)
{
	static const enum failure failures[] = {DIES, REFUSES, IS_NOT_READY, BREAKS_THE_RULES};
	struct test *t = *state;
	int pairs[SOME][2];
	struct next next;

	start_with_some(t, pairs);
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
		order(t, NUMBER, failures[i] == IS_NOT_READY ? 300 : LIMIT_MS);
		meet_next(t, &next);
		fail_early(t, &next, failures[i]);
		assert_dead(next.pidfd);
		forget_next(&next);
	}
	assert_goes_on(t, SOME);
	close_pairs(pairs, SOME, 0);
	close_pairs(pairs, SOME, 1);
}

static void test_one_that_fails_when_the_other_is_frozen(void **state)
{
	static const enum failure failures[] = {DIES, REFUSES, BREAKS_THE_RULES};
	struct test *t = *state;
	int pairs[SOME + 1][2];
	struct next next;

	start_with_some(t, pairs);
	make_pairs(pairs + SOME, 1);
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
		const struct keeper_item gone = item_of(SOME);

		prepare(t, &next, SOME);
		/* Something is left to hand over, so that it is not told to take the arena. */
		deposit(t, pairs, SOME, SOME + 1);
		say_frozen(t, SOME + 1);
		receive(t, next.channel);
		assert_int_equal(t->message.type, KEEPER_HAND_OVER);
		ipc_message_close_fds(&t->message);
		fail_early(t, &next, failures[i]);
		expect_turn(t, t->channel, KEEPER_THAW);
		say_turn(t->channel, KEEPER_THAWED);
		assert_dead(next.pidfd);
		forget_next(&next);
		say(t, KEEPER_RELEASE, &gone, sizeof(gone));
		say_count(t, SOME);
	}
	assert_goes_on(t, SOME);
	close_pairs(pairs, SOME + 1, 0);
	close_pairs(pairs, SOME + 1, 1);
}

/* ---- the old one fails ---- */

static void test_one_that_does_not_freeze(void **state)
{
	struct test *t = *state;
	int pairs[SOME][2];
	struct next next;

	start_with_some(t, pairs);
	prepare(t, &next, SOME);
	expect_end(t, TAKEOVER_NOT_DONE, "did not freeze in time");
	assert_dead(next.pidfd);
	forget_next(&next);
	/* It hears both, late, and answers both; nobody minds. */
	expect_turn(t, t->channel, KEEPER_THAW);
	say_frozen(t, SOME);
	say_turn(t->channel, KEEPER_THAWED);
	assert_goes_on(t, SOME);
	close_pairs(pairs, SOME, 0);
	close_pairs(pairs, SOME, 1);
}

static void test_counts_that_differ_when_it_is_frozen(void **state)
{
	struct test *t = *state;
	int pairs[SOME][2];
	struct next next;

	start_with_some(t, pairs);
	prepare(t, &next, SOME);
	say_frozen(t, SOME + 1);
	expect_end(t, TAKEOVER_NOT_DONE, "differ");
	expect_turn(t, t->channel, KEEPER_THAW);
	assert_dead(next.pidfd);
	forget_next(&next);
	close_pairs(pairs, SOME, 0);
	close_pairs(pairs, SOME, 1);
}

static void test_one_that_deposits_everything_anew(void **state)
{
	const struct keeper_hello hello = {KEEPER_PROTOCOL_VERSION, 3};
	struct test *t = *state;
	int pairs[SOME][2];
	struct next next;

	start_with_some(t, pairs);
	order(t, NUMBER, LIMIT_MS);
	meet_next(t, &next);
	say(t, KEEPER_HELLO, &hello, sizeof(hello));
	expect_end(t, TAKEOVER_NOT_DONE, "anew");
	assert_dead(next.pidfd);
	forget_next(&next);
	deposit_arena(t);
	deposit(t, pairs, 0, SOME);
	assert_goes_on(t, SOME);
	close_pairs(pairs, SOME, 0);
	close_pairs(pairs, SOME, 1);
}

/* Before anybody was told to take it, the arena is the dead one's. */
static void test_the_old_one_dies_first(void **state)
{
	struct test *t = *state;
	int pairs[SOME][2];
	struct next next;

	start_with_some(t, pairs);
	prepare(t, &next, SOME);
	kill_worker(t);
	expect_end(t, TAKEOVER_WORKER_DIED, "died");
	assert_int_equal(WTERMSIG(expect_death(t).status), SIGKILL);
	assert_dead(next.pidfd);
	forget_next(&next);
	meet_worker(t);
	expect_start(t, true);
	close_pairs(pairs, SOME, 0);
	close_pairs(pairs, SOME, 1);
}

/* ---- after it was told to take the arena ---- */

static void test_the_old_one_dies_frozen(void **state)
{
	struct test *t = *state;
	int pairs[SOME][2];
	struct next next;

	start_with_some(t, pairs);
	hand_over(t, &next, SOME);
	kill_worker(t);
	say_committed(&next, SOME);
	expect_end(t, TAKEOVER_DONE, "");
	t->channel = next.channel;
	t->worker_pidfd = next.pidfd;
	t->worker_master_end = next.master_end;
	t->worker = next.worker;
	say_count(t, SOME);
	expect_status(t, true, SOME);
	close_pairs(pairs, SOME, 0);
	close_pairs(pairs, SOME, 1);
}

static void test_the_next_one_dies_without_having_taken_it(void **state)
{
	struct test *t = *state;
	int pairs[SOME][2];
	struct next next;

	start_with_some(t, pairs);
	hand_over(t, &next, SOME);
	assert_int_equal(pidfd_send_signal(next.pidfd, SIGKILL, NULL, 0), 0);
	expect_turn(t, t->channel, KEEPER_THAW);
	say_turn(t->channel, KEEPER_THAWED);
	expect_end(t, TAKEOVER_NOT_DONE, "signal 9");
	forget_next(&next);
	assert_goes_on(t, SOME);
	close_pairs(pairs, SOME, 0);
	close_pairs(pairs, SOME, 1);
}

/* The old one, asked to go on, sees that it has lost the arena, and leaves. */
static void test_the_next_one_dies_when_it_has_taken_it(void **state)
{
	struct test *t = *state;
	struct keeper_death death;
	int pairs[SOME][2];
	struct next next;

	start_with_some(t, pairs);
	hand_over(t, &next, SOME);
	set_owner(t, ARENA_OWNER_RUNNING, next.worker.pid);
	assert_int_equal(pidfd_send_signal(next.pidfd, SIGABRT, NULL, 0), 0);
	expect_turn(t, t->channel, KEEPER_THAW);
	kill_worker(t);
	expect_end(t, TAKEOVER_WORKER_DIED, "had the arena");
	death = expect_death(t);
	/* How the one ended that had it. */
	assert_true(WIFSIGNALED(death.status) && WTERMSIG(death.status) == SIGABRT);
	forget_next(&next);
	meet_worker(t);
	expect_start(t, true);
	close_pairs(pairs, SOME, 0);
	close_pairs(pairs, SOME, 1);
}

/* Its last word says that it served: its death is that of the slot's worker. */
static void test_the_next_one_serves_and_dies(void **state)
{
	struct test *t = *state;
	int pairs[SOME][2];
	struct next next;

	start_with_some(t, pairs);
	hand_over(t, &next, SOME);
	set_owner(t, ARENA_OWNER_RUNNING, next.worker.pid);
	say_committed(&next, SOME);
	assert_int_equal(pidfd_send_signal(next.pidfd, SIGKILL, NULL, 0), 0);
	expect_end(t, TAKEOVER_DONE, "");
	expect_turn(t, t->channel, KEEPER_LEAVE);
	forget_worker(t);
	t->worker = next.worker;
	expect_death(t);
	forget_next(&next);
	meet_worker(t);
	expect_start(t, true);
	close_pairs(pairs, SOME, 0);
	close_pairs(pairs, SOME, 1);
}

/* Asked back because the next one hangs; whoever has the arena decides. */
static void test_the_next_one_hangs(void **state)
{
	struct test *t = *state;
	int pairs[SOME][2];
	struct next next;

	start_with_some(t, pairs);
	hand_over(t, &next, SOME);
	expect_turn(t, t->channel, KEEPER_THAW);
	say_turn(t->channel, KEEPER_THAWED);
	expect_end(t, TAKEOVER_NOT_DONE, "did not serve in time");
	assert_dead(next.pidfd);
	forget_next(&next);
	/* It was only slow: the old one leaves. */
	hand_over(t, &next, SOME);
	expect_turn(t, t->channel, KEEPER_THAW);
	kill_worker(t);
	say_committed(&next, SOME);
	expect_end(t, TAKEOVER_DONE, "");
	t->channel = next.channel;
	t->worker_pidfd = next.pidfd;
	t->worker_master_end = next.master_end;
	t->worker = next.worker;
	say_count(t, SOME);
	expect_status(t, true, SOME);
	close_pairs(pairs, SOME, 0);
	close_pairs(pairs, SOME, 1);
}

/* ---- the node stops ---- */

static void test_the_node_stops_meanwhile(void **state)
{
	struct test *t = *state;
	int pairs[SOME][2];
	struct next next;

	start_with_some(t, pairs);
	order(t, NUMBER, LIMIT_MS);
	meet_next(t, &next);
	assert_int_equal(ipc_send(t->master, KEEPER_STOP, 0, NULL, 0, NULL, 0), 0);
	expect_end(t, TAKEOVER_NOT_DONE, "the node stops");
	assert_dead(next.pidfd);
	forget_next(&next);
	order(t, NUMBER + 1, LIMIT_MS);
	expect_end(t, TAKEOVER_NOT_DONE, "the node stops");
	close_pairs(pairs, SOME, 0);
	close_pairs(pairs, SOME, 1);
}

int main(int argc, char **argv)
{
#define WITH_KEEPER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		WITH_KEEPER(test_one_takes_over_from_the_other),
		WITH_KEEPER(test_a_dead_one_that_took_over_is_replaced),
		WITH_KEEPER(test_what_changes_meanwhile_is_told),
		WITH_KEEPER(test_it_waits_until_the_slot_is_protected),
		WITH_KEEPER(test_a_slot_that_is_not_protected_in_time),
		WITH_KEEPER(test_one_that_fails_while_it_prepares),
		WITH_KEEPER(test_one_that_fails_when_the_other_is_frozen),
		WITH_KEEPER(test_one_that_does_not_freeze),
		WITH_KEEPER(test_counts_that_differ_when_it_is_frozen),
		WITH_KEEPER(test_one_that_deposits_everything_anew),
		WITH_KEEPER(test_the_old_one_dies_first),
		WITH_KEEPER(test_the_old_one_dies_frozen),
		WITH_KEEPER(test_the_next_one_dies_without_having_taken_it),
		WITH_KEEPER(test_the_next_one_dies_when_it_has_taken_it),
		WITH_KEEPER(test_the_next_one_serves_and_dies),
		WITH_KEEPER(test_the_next_one_hangs),
		WITH_KEEPER(test_the_node_stops_meanwhile),
	};

	if (argc > 1 && strcmp(argv[1], "--role=worker") == 0)
		return be_worker();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
