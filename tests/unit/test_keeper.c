/* SPDX-License-Identifier: ISC */
/*
 * The keeper as a process, with this test as its master and as its worker: what
 * it keeps, what it hands over, whom it starts when. The worker process it
 * starts is this very program; it only gives its channel to the test and lives
 * until it is killed. Descriptors are counted in the keeper's /proc/PID/fd.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keeper_fixture.h"

#include "keepsock/arena.h"
#include "keepsock/buffer.h"
#include "keepsock/keeper.h"
#include "keepsock/keeper_messages.h"
#include "keepsock/keeper_socket.h"

/* ---- keeping ---- */

static void test_what_is_deposited_is_kept(void **state)
{
	struct test *t = *state;
	const struct keeper_item released = item_of(1);
	int pairs[3][2];
	char byte;

	start_worker(t);
	make_pairs(pairs, 3);
	deposit(t, pairs, 0, 3);
	close_pairs(pairs, 3, 0);
	say_count(t, 3);
	expect_status(t, true, 3);
	assert_int_equal(count_fds(t->keeper), t->keeper_fds + 3);
	say(t, KEEPER_RELEASE, &released, sizeof(released));
	say_count(t, 2);
	expect_status(t, true, 2);
	assert_int_equal(count_fds(t->keeper), t->keeper_fds + 2);
	/* It was the last who had it. */
	assert_int_equal(read(pairs[1][1], &byte, 1), 0);
	assert_int_equal(recv(pairs[0][1], &byte, 1, MSG_DONTWAIT), -1);
	close_pairs(pairs, 3, 1);
}

static void test_counts_that_differ(void **state)
{
	const struct keeper_hello hello = {KEEPER_PROTOCOL_VERSION, 3};
	struct test *t = *state;
	int pairs[2][2];

	start_worker(t);
	make_pairs(pairs, 2);
	deposit(t, pairs, 0, 2);
	say_count(t, 3);
	expect_status(t, false, 2);
	expect(t, t->channel, KEEPER_DEPOSIT_AGAIN);
	say(t, KEEPER_HELLO, &hello, sizeof(hello));
	deposit_arena(t);
	deposit(t, pairs, 0, 2);
	say_count(t, 2);
	expect_status(t, true, 2);
	assert_int_equal(count_fds(t->keeper), t->keeper_fds + 2);
	close_pairs(pairs, 2, 0);
	close_pairs(pairs, 2, 1);
}

/* It says nothing else from then on. */
static void assert_killed_for(struct test *t)
{
	struct keeper_death death = expect_death(t);

	assert_true(WIFSIGNALED(death.status));
	assert_int_equal(WTERMSIG(death.status), SIGKILL);
	forget_worker(t);
	meet_worker(t);
	expect_start(t, true);
}

static void test_a_worker_that_breaks_the_rules_is_killed(void **state)
{
	struct test *t = *state;
	const struct keeper_item item = item_of(0);
	const struct keeper_hello other = {KEEPER_PROTOCOL_VERSION, 4};
	const int fds[] = {t->arena, t->arena};

	start_worker(t);
	assert_int_equal(ipc_send(t->channel, KEEPER_DEPOSIT, 0, &item, sizeof(item), fds, 2), 0);
	assert_killed_for(t);
	/* Not before it has adopted. */
	assert_int_equal(ipc_send(t->channel, KEEPER_DEPOSIT, 0, &item, sizeof(item), fds, 1), 0);
	assert_killed_for(t);
	say(t, KEEPER_ADOPT_REFUSED, "no", 2);
	say(t, KEEPER_RELEASE, &item, sizeof(item) - 1);
	expect_death(t);
	forget_worker(t);
	meet_worker(t);
	expect_start(t, false);
	deposit_arena(t);
	say(t, KEEPER_HELLO, &other, sizeof(other));
	assert_killed_for(t);
	say(t, KEEPER_ADOPT_REFUSED, "no", 2);
	say(t, KEEPER_START, NULL, 0);
	expect_death(t);
	forget_worker(t);
	meet_worker(t);
	expect_start(t, false);
}

/* ---- handing over ---- */

#define MANY 300u

static void expect_batch(struct test *t, size_t count, int *handed)
{
	struct slice payload;

	say(t, KEEPER_NEXT, NULL, 0);
	expect(t, t->channel, KEEPER_HAND_OVER);
	payload = payload_of(t);
	assert_int_equal(keeper_items_count(payload), count);
	assert_int_equal(t->message.nfds, count);
	for (size_t i = 0; i < count; i++) {
		struct keeper_item item = keeper_items_at(payload, i);
		uint32_t number = item.ref / 4 - 1;

		assert_true(number < MANY);
		assert_int_equal(handed[number], -1);
		assert_true(item.generation == GENERATION + number);
		assert_int_equal(item.kind, KEEPER_KIND_CLIENT);
		handed[number] = t->message.fds[i];
	}
}

static void test_everything_is_handed_over(void **state)
{
	const struct keeper_adopted adopted = {MANY, 0};
	struct keeper_hand_over_end end;
	struct test *t = *state;
	struct keeper_death death;
	static int pairs[MANY][2];
	static int handed[MANY];
	pid_t first;

	start_worker(t);
	make_pairs(pairs, MANY);
	deposit(t, pairs, 0, IPC_FDS_MAX);
	/* Sent is deposited, also by a worker that dies at once with our word unread. */
	say_count(t, 1);
	deposit(t, pairs, IPC_FDS_MAX, MANY);
	close_pairs(pairs, MANY, 0);
	first = t->worker.pid;
	kill_worker(t);
	death = expect_death(t);
	assert_int_equal(WTERMSIG(death.status), SIGKILL);
	assert_int_equal(death.descriptors, MANY);
	meet_worker(t);
	assert_true(t->worker.restarts == 6);
	expect_start(t, true);
	memset(handed, -1, sizeof(handed));
	expect_batch(t, IPC_FDS_MAX, handed);
	expect_batch(t, MANY - IPC_FDS_MAX, handed);
	say(t, KEEPER_NEXT, NULL, 0);
	expect(t, t->channel, KEEPER_HAND_OVER_END);
	assert_true(keeper_payload_take(payload_of(t), &end, sizeof(end)));
	assert_int_equal(end.descriptors, MANY);
	assert_int_equal(end.pid, first);
	assert_int_equal(end.status, death.status);
	say(t, KEEPER_ADOPTED, &adopted, sizeof(adopted));
	say_count(t, MANY);
	expect_status(t, true, MANY);
	for (uint32_t i = 0; i < MANY; i++) {
		uint32_t number;

		assert_int_equal(write(handed[i], &i, sizeof(i)), sizeof(i));
		assert_int_equal(read(pairs[i][1], &number, sizeof(number)), sizeof(number));
		assert_int_equal(number, i);
		close(handed[i]);
	}
	assert_int_equal(count_fds(t->keeper), t->keeper_fds + MANY);
	close_pairs(pairs, MANY, 1);
}

static void test_a_successor_may_refuse(void **state)
{
	struct test *t = *state;
	int pairs[2][2];
	char byte;

	start_worker(t);
	make_pairs(pairs, 2);
	deposit(t, pairs, 0, 2);
	kill_worker(t);
	expect_death(t);
	meet_worker(t);
	expect_start(t, true);
	assert_int_equal(recv(pairs[0][1], &byte, 1, MSG_DONTWAIT), -1);
	say(t, KEEPER_ADOPT_REFUSED, "no", 2);
	/* Although we have them too. */
	assert_int_equal(read(pairs[0][1], &byte, 1), 0);
	assert_int_equal(read(pairs[1][1], &byte, 1), 0);
	deposit_arena(t);
	say_count(t, 0);
	expect_status(t, true, 0);
	assert_int_equal(count_fds(t->keeper), t->keeper_fds);
	close_pairs(pairs, 2, 0);
	close_pairs(pairs, 2, 1);
}

/* What kills every successor is given up, so that the slot serves again. */
static void test_successors_that_die_before_they_have_adopted(void **state)
{
	struct test *t = *state;
	uint32_t delays[4];
	int pairs[1][2];
	char byte;

	start_worker(t);
	make_pairs(pairs, 1);
	deposit(t, pairs, 0, 1);
	for (int i = 0; i < 4; i++) {
		kill_worker(t);
		delays[i] = expect_death(t).next_in_ms;
		meet_worker(t);
		expect_start(t, i < 3);
	}
	assert_true(delays[1] < delays[2] && delays[2] < delays[3]);
	assert_int_equal(read(pairs[0][1], &byte, 1), 0);
	close_pairs(pairs, 1, 0);
	close_pairs(pairs, 1, 1);
}

static void test_the_cause_stands_in_the_arena(void **state)
{
	const uint64_t fault = SIGSEGV;
	struct test *t = *state;

	start_worker(t);
	assert_int_equal(
		pwrite(t->arena, &fault, sizeof(fault), offsetof(struct arena_header, fault)),
		sizeof(fault));
	kill_worker(t);
	assert_int_equal(expect_death(t).fault, SIGSEGV);
}

/* ---- a keeper that was replaced; this process is the worker ---- */

static int connect_to_keeper(struct test *t)
{
	int fd = -1;

	for (int i = 0; i < DEADLINE_MS && fd < 0; i++) {
		fd = keeper_socket_connect(t->run_dir, 3);
		if (fd < 0)
			poll(NULL, 0, 1);
	}
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
	return fd;
}

static void test_a_worker_comes_back_by_the_socket(void **state)
{
	const struct keeper_hello hello = {KEEPER_PROTOCOL_VERSION, 3};
	struct test *t = *state;
	int pairs[2][2];

	start_keeper(t, getpid());
	send_order(t);
	t->channel = connect_to_keeper(t);
	make_pairs(pairs, 2);
	say(t, KEEPER_HELLO, &hello, sizeof(hello));
	deposit_arena(t);
	deposit(t, pairs, 0, 2);
	say_count(t, 2);
	expect_status(t, true, 2);
	/* The channel breaks; the worker comes again. */
	close(t->channel);
	expect_status(t, false, 2);
	t->channel = connect_to_keeper(t);
	say(t, KEEPER_HELLO, &hello, sizeof(hello));
	deposit_arena(t);
	deposit(t, pairs, 1, 2);
	say_count(t, 1);
	expect_status(t, true, 1);
	close(t->channel);
	t->channel = -1;
	close_pairs(pairs, 2, 0);
	close_pairs(pairs, 2, 1);
}

static void assert_closed(struct test *t, int fd)
{
	struct pollfd poller = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&poller, 1, DEADLINE_MS), 1);
	assert_int_equal(ipc_receive(fd, &t->message), 0);
	close(fd);
}

static void test_visitors_that_are_not_the_worker_are_refused(void **state)
{
	const struct keeper_hello hello = {KEEPER_PROTOCOL_VERSION, 3};
	struct test *t = *state;
	int fd;

	/* Somebody else is the worker. */
	start_keeper(t, getppid());
	fd = connect_to_keeper(t);
	assert_int_equal(ipc_send(fd, KEEPER_HELLO, 0, &hello, sizeof(hello), NULL, 0), 0);
	assert_closed(t, fd);
	/* No greeting; the descriptor is not kept. */
	fd = connect_to_keeper(t);
	t->keeper_fds = count_fds(t->keeper);
	assert_int_equal(ipc_send(fd, KEEPER_ARENA, 0, NULL, 0, &t->arena, 1), 0);
	assert_closed(t, fd);
	assert_true(count_fds(t->keeper) <= t->keeper_fds);
	fd = connect_to_keeper(t);
	assert_int_equal(send(fd, "rubbish", 7, 0), 7);
	assert_closed(t, fd);
	/* The latest visitors are heard; one that says nothing has to make room. */
	fd = connect_to_keeper(t);
	for (int i = 0; i < 3; i++)
		close(connect_to_keeper(t));
	assert_closed(t, fd);
}

/* ---- the end ---- */

static void assert_keeper_ends(struct test *t)
{
	struct pollfd poller = {.fd = pidfd_open(t->keeper, 0), .events = POLLIN};
	int status;

	assert_int_equal(poll(&poller, 1, DEADLINE_MS), 1);
	close(poller.fd);
	assert_int_equal(waitpid(t->keeper, &status, 0), t->keeper);
	t->keeper = 0;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_told_to_stop_it_ends_with_its_worker(void **state)
{
	struct test *t = *state;

	start_worker(t);
	assert_int_equal(ipc_send(t->master, KEEPER_STOP, 0, NULL, 0, NULL, 0), 0);
	/* It still keeps. */
	say_count(t, 1);
	expect(t, t->channel, KEEPER_DEPOSIT_AGAIN);
	kill_worker(t);
	assert_true(expect_death(t).next_in_ms == KEEPER_NO_START);
	assert_keeper_ends(t);
}

static void test_without_a_worker_it_ends_at_once(void **state)
{
	struct test *t = *state;

	start_keeper(t, 0);
	assert_int_equal(ipc_send(t->master, KEEPER_STOP, 0, NULL, 0, NULL, 0), 0);
	assert_keeper_ends(t);
}

/* Another master, by the socket; it asks for what there is. */
static int visit_as_master(struct test *t, uint32_t slot)
{
	const struct keeper_hello hello = {KEEPER_PROTOCOL_VERSION, slot};
	int fd = keeper_socket_connect(t->run_dir, 3);

	assert_true(fd >= 0);
	assert_int_equal(ipc_send(fd, KEEPER_MASTER, 0, &hello, sizeof(hello), NULL, 0), 0);
	return fd;
}

static void expect_refusal(struct test *t, int fd)
{
	struct pollfd poller = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&poller, 1, DEADLINE_MS), 1);
	assert_int_equal(ipc_receive(fd, &t->message), 0);
	close(fd);
}

/* It is told what is kept, and gets a channel to the worker that runs. */
static void test_a_master_that_dies_is_followed_by_another(void **state)
{
	struct test *t = *state;
	pid_t worker;
	struct keeper_state kept;
	const struct {
		uint64_t magic;
		uint32_t layout_version;
	} arena = {ARENA_MAGIC, 77};
	int pairs[2][2];
	int channel;
	char byte;

	assert_int_equal(pwrite(t->arena, &arena, sizeof(arena), 0), sizeof(arena));
	start_worker(t);
	worker = t->worker.pid;
	make_pairs(pairs, 2);
	deposit(t, pairs, 0, 2);
	close_pairs(pairs, 2, 0);
	say_count(t, 2);
	expect_status(t, true, 2);
	/* One that lives is not replaced, and nobody of another slot. */
	expect_refusal(t, visit_as_master(t, 3));
	close(t->master);
	expect_refusal(t, visit_as_master(t, 4));
	t->master = visit_as_master(t, 3);
	expect(t, t->master, KEEPER_STATE);
	assert_true(keeper_payload_take(payload_of(t), &kept, sizeof(kept)));
	assert_int_equal(kept.slot, 3);
	assert_int_equal(kept.worker, worker);
	assert_int_equal(kept.layout, 77);
	assert_true(kept.order > 0);
	assert_true(t->message.nfds > KEEPER_ORDER_FD_START);
	ipc_message_close_fds(&t->message);
	expect(t, t->channel, KEEPER_CHANNEL);
	assert_int_equal(t->message.nfds, 1);
	channel = t->message.fds[0];
	t->message.nfds = 0;
	expect(t, t->master, KEEPER_WORKER);
	assert_true(keeper_payload_take(payload_of(t), &t->worker, sizeof(t->worker)));
	assert_int_equal(t->worker.pid, worker);
	assert_int_equal(t->message.nfds, 2);
	/* They are each other's ends. */
	assert_int_equal(send(t->message.fds[KEEPER_FD_WORKER_CHANNEL], "x", 1, 0), 1);
	assert_int_equal(recv(channel, &byte, 1, 0), 1);
	close(channel);
	ipc_message_close_fds(&t->message);
	expect_status(t, true, 2);
	close_pairs(pairs, 2, 1);
}

/* How many it has, and one of them. */
static int children_of_keeper(const struct test *t, pid_t *one)
{
	char path[64];
	int pid, count = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)t->keeper, (int)t->keeper);
	file = fopen(path, "re");
	assert_non_null(file);
	for (*one = 0; fscanf(file, "%d", &pid) == 1; count++)
		*one = pid;
	fclose(file);
	return count;
}

/* What happened without a master is told to the next one. */
static void test_a_death_that_no_master_saw(void **state)
{
	struct test *t = *state;
	pid_t before, after;

	start_worker(t);
	before = t->worker.pid;
	close(t->master);
	kill(before, SIGKILL);
	while (children_of_keeper(t, &after) == 0 || after == before)
		;
	t->master = visit_as_master(t, 3);
	expect(t, t->master, KEEPER_STATE);
	ipc_message_close_fds(&t->message);
	assert_int_equal(expect_death(t).pid, before);
	forget_worker(t);
	meet_worker(t);
	assert_int_equal(t->worker.pid, after);
	expect_start(t, true);
}

/* The next master may look for the worker in the socket's place meanwhile. */
static void test_without_its_master_it_does_not_begin(void **state)
{
	struct test *t = *state;
	int listening = keeper_socket_listen(t->run_dir, 3);
	int status, fd;

	start_keeper_of_the_dead(t, getpid());
	assert_int_equal(waitpid(t->keeper, &status, 0), t->keeper);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	t->keeper = 0;
	fd = keeper_socket_connect(t->run_dir, 3);
	assert_true(fd >= 0);
	assert_int_equal(keeper_socket_peer(fd), getpid());
	close(fd);
	close(listening);
}

/* A worker of a keeper before it dies, when nobody has said yet what the next one gets. */
static void test_an_order_comes_while_a_start_is_due(void **state)
{
	struct test *t = *state;
	struct keeper_death death;
	pid_t foreigner = fork();

	assert_true(foreigner >= 0);
	if (foreigner == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	start_keeper(t, foreigner);
	t->worker.pid = foreigner;
	kill(foreigner, SIGKILL);
	death = expect_death(t);
	assert_int_equal(death.pid, foreigner);
	assert_in_range(death.next_in_ms, 1, 1000);
	assert_int_equal(waitpid(foreigner, NULL, 0), foreigner);
	send_order(t);
	meet_worker(t);
	expect_start(t, false);
	/* The start that was due has happened. */
	(void)poll(NULL, 0, (int)death.next_in_ms * 3);
	assert_int_equal(children_of_keeper(t, &foreigner), 1);
	assert_int_equal(foreigner, t->worker.pid);
}

int main(int argc, char **argv)
{
#define WITH_KEEPER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		WITH_KEEPER(test_what_is_deposited_is_kept),
		WITH_KEEPER(test_counts_that_differ),
		WITH_KEEPER(test_a_worker_that_breaks_the_rules_is_killed),
		WITH_KEEPER(test_everything_is_handed_over),
		WITH_KEEPER(test_a_successor_may_refuse),
		WITH_KEEPER(test_successors_that_die_before_they_have_adopted),
		WITH_KEEPER(test_the_cause_stands_in_the_arena),
		WITH_KEEPER(test_a_worker_comes_back_by_the_socket),
		WITH_KEEPER(test_visitors_that_are_not_the_worker_are_refused),
		WITH_KEEPER(test_told_to_stop_it_ends_with_its_worker),
		WITH_KEEPER(test_without_a_worker_it_ends_at_once),
		WITH_KEEPER(test_a_master_that_dies_is_followed_by_another),
		WITH_KEEPER(test_a_death_that_no_master_saw),
		WITH_KEEPER(test_without_its_master_it_does_not_begin),
		WITH_KEEPER(test_an_order_comes_while_a_start_is_due),
	};

	if (argc > 1 && strcmp(argv[1], "--role=worker") == 0)
		return be_worker();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
