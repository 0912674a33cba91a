/* SPDX-License-Identifier: ISC */
/*
 * The keeper as a process, see keeper_fixture.h.
 */
#include "keeper_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keepsock/arena.h"
#include "keepsock/buffer.h"
#include "keepsock/keeper.h"

/* The worker's word to the test: its descriptor 3. */
#define STUB_CHANNEL 4711

/* ---- the worker process ---- */

int be_worker(void)
{
	const int fd = WORKER_FD_KEEPER;
	char byte;

	if (ipc_send(WORKER_FD_MASTER, STUB_CHANNEL, 0, NULL, 0, &fd, 1) < 0)
		return 1;
	close(fd);
	/* Until it is killed, or the test is gone. */
	return read(WORKER_FD_MASTER, &byte, 1) == 0 ? 7 : 1;
}

/* ---- helpers ---- */

void receive(struct test *t, int fd)
{
	struct pollfd poller = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&poller, 1, DEADLINE_MS), 1);
	assert_int_equal(ipc_receive(fd, &t->message), 1);
}

struct slice payload_of(struct test *t)
{
	struct slice payload;

	assert_int_equal(ipc_message_payload(&t->message, &payload), 0);
	return payload;
}

/* The next message of that type; statuses of no interest are passed over. */
void expect(struct test *t, int fd, uint32_t type)
{
	for (;;) {
		receive(t, fd);
		if (t->message.type == type)
			return;
		assert_int_equal(t->message.type, KEEPER_STATUS);
		ipc_message_close_fds(&t->message);
	}
}

void expect_status(struct test *t, bool is_protected, uint32_t descriptors)
{
	struct keeper_status status;

	do {
		expect(t, t->master, KEEPER_STATUS);
		assert_true(keeper_payload_take(payload_of(t), &status, sizeof(status)));
	} while (status.is_protected != is_protected || status.descriptors != descriptors);
}

size_t count_fds(pid_t pid)
{
	size_t count = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

void say(struct test *t, uint32_t type, const void *payload, size_t length)
{
	assert_int_equal(ipc_send(t->channel, type, 0, payload, length, NULL, 0), 0);
}

void say_count(struct test *t, uint32_t descriptors)
{
	const struct keeper_count count = {.descriptors = descriptors};

	say(t, KEEPER_COUNT, &count, sizeof(count));
}

struct keeper_item item_of(uint32_t number)
{
	return (struct keeper_item){(number + 1) * 4, KEEPER_KIND_CLIENT, GENERATION + number};
}

/* Deposits pairs[from .. to), of each the first end. */
void deposit(struct test *t, int (*pairs)[2], uint32_t from, uint32_t to)
{
	struct keeper_item items[IPC_FDS_MAX];
	int fds[IPC_FDS_MAX];
	size_t count = 0;

	for (uint32_t i = from; i < to; i++) {
		items[count] = item_of(i);
		fds[count++] = pairs[i][0];
	}
	assert_int_equal(ipc_send(t->channel, KEEPER_DEPOSIT, 0, items, count * sizeof(items[0]),
				  fds, count),
			 0);
}

void make_pairs(int (*pairs)[2], size_t count)
{
	for (size_t i = 0; i < count; i++)
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[i]), 0);
}

void close_pairs(int (*pairs)[2], size_t count, int which)
{
	for (size_t i = 0; i < count; i++)
		close(pairs[i][which]);
}

void deposit_arena(struct test *t)
{
	assert_int_equal(ipc_send(t->channel, KEEPER_ARENA, 0, NULL, 0, &t->arena, 1), 0);
}

/* ---- starting ---- */

/* The keeper's end of a channel that has its setup in it. */
static int make_channel(struct test *t, pid_t worker)
{
	struct keeper_setup setup = {
		.version = KEEPER_PROTOCOL_VERSION,
		.slot = 3,
		.log_level = 0,
		.restarts = 5,
		.worker = worker,
	};
	const struct keeper_setup_text text = {"a", "test", t->run_dir, "stderr"};
	struct buffer payload = {0};
	int pidfd = worker ? pidfd_open(worker, 0) : -1;
	int ends[2];

	assert_int_equal(ipc_pair(ends), 0);
	t->master = ends[0];
	keeper_setup_encode(&payload, &setup, &text);
	assert_int_equal(ipc_send(t->master, KEEPER_SETUP, 0, payload.data, payload.len, &pidfd,
				  worker ? 1 : 0),
			 0);
	buffer_free(&payload);
	if (pidfd >= 0)
		close(pidfd);
	return ends[1];
}

static void fork_keeper(struct test *t, int channel)
{
	t->keeper = fork();
	assert_true(t->keeper >= 0);
	if (t->keeper == 0) {
		if (t->master >= 0)
			close(t->master);
		_exit(keeper_main(channel, 0, NULL));
	}
	close(channel);
}

void start_keeper(struct test *t, pid_t worker)
{
	fork_keeper(t, make_channel(t, worker));
}

void start_keeper_of_the_dead(struct test *t, pid_t worker)
{
	int channel = make_channel(t, worker);

	close(t->master);
	t->master = -1;
	fork_keeper(t, channel);
}

void send_order(struct test *t)
{
	const struct keeper_order order = {.number = 9};
	int program = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	const int fds[] = {program, t->arena, t->arena};
	struct buffer payload = {0};

	buffer_append(&payload, &order, sizeof(order));
	buffer_append_str(&payload, START_TEXT);
	assert_int_equal(ipc_send(t->master, KEEPER_ORDER, 0, payload.data, payload.len, fds, 3),
			 0);
	buffer_free(&payload);
	close(program);
}

/* The keeper started a worker, whose channel is ours now. */
void meet_worker(struct test *t)
{
	expect(t, t->master, KEEPER_WORKER);
	assert_int_equal(t->message.nfds, 2);
	assert_true(keeper_payload_take(payload_of(t), &t->worker, sizeof(t->worker)));
	assert_true(t->worker.order == 9);
	t->worker_master_end = t->message.fds[KEEPER_FD_WORKER_CHANNEL];
	t->worker_pidfd = t->message.fds[KEEPER_FD_WORKER_PIDFD];
	receive(t, t->worker_master_end);
	assert_int_equal(t->message.type, STUB_CHANNEL);
	t->channel = t->message.fds[0];
}

/* What it was started with: the arena first if it is to adopt. */
void expect_start(struct test *t, bool adopt)
{
	struct keeper_start start;
	struct slice rest;

	expect(t, t->channel, KEEPER_START);
	assert_true(keeper_payload_take_head(payload_of(t), &start, sizeof(start), &rest));
	assert_int_equal(start.version, KEEPER_PROTOCOL_VERSION);
	assert_int_equal(start.flags, adopt ? KEEPER_START_ADOPT : 0);
	assert_true(start.restarts == t->worker.restarts);
	assert_int_equal(t->worker.flags, adopt ? KEEPER_WORKER_ADOPTS : 0);
	assert_true(slice_is(rest, START_TEXT));
	assert_int_equal(t->message.nfds, adopt ? 3 : 2);
	ipc_message_close_fds(&t->message);
}

void start_worker(struct test *t)
{
	start_keeper(t, 0);
	send_order(t);
	meet_worker(t);
	expect_start(t, false);
	assert_true(t->worker.restarts == 5);
	deposit_arena(t);
	say_count(t, 0);
	expect_status(t, true, 0);
	t->keeper_fds = count_fds(t->keeper);
}

void forget_worker(struct test *t)
{
	close(t->channel);
	close(t->worker_pidfd);
	close(t->worker_master_end);
	t->channel = t->worker_pidfd = t->worker_master_end = -1;
}

void kill_worker(struct test *t)
{
	assert_int_equal(pidfd_send_signal(t->worker_pidfd, SIGKILL, NULL, 0), 0);
	forget_worker(t);
}

struct keeper_death expect_death(struct test *t)
{
	struct keeper_death death;

	expect(t, t->master, KEEPER_DEATH);
	assert_true(keeper_payload_take(payload_of(t), &death, sizeof(death)));
	assert_int_equal(death.pid, t->worker.pid);
	ipc_message_close_fds(&t->message);
	return death;
}

int set_up(void **state)
{
	struct test *t = calloc(1, sizeof(*t));

	if (!t)
		return -1;
	snprintf(t->run_dir, sizeof(t->run_dir), "/tmp/keepsock-test-XXXXXX");
	if (!mkdtemp(t->run_dir))
		return -1;
	t->channel = t->worker_pidfd = t->worker_master_end = t->master = -1;
	t->arena = memfd_create("arena", MFD_CLOEXEC);
	*state = t;
	return t->arena >= 0 ? ftruncate(t->arena, 1 << 20) : -1;
}

int tear_down(void **state)
{
	struct test *t = *state;
	char path[96];

	if (t->worker_pidfd >= 0)
		kill_worker(t);
	if (t->keeper > 0) {
		kill(t->keeper, SIGKILL);
		waitpid(t->keeper, NULL, 0);
	}
	if (t->master >= 0)
		close(t->master);
	close(t->arena);
	snprintf(path, sizeof(path), "%s/keeper-3.sock", t->run_dir);
	unlink(path);
	rmdir(t->run_dir);
	free(t);
	return 0;
}
