/* SPDX-License-Identifier: ISC */
/*
 * A keeper as a process, with the test as its master and as its worker. The
 * worker process it starts is the test program itself; it only gives its channel
 * to the test and lives until it is killed. Descriptors are counted in the
 * keeper's /proc/PID/fd.
 */
#ifndef KEEPSOCK_TESTS_KEEPER_FIXTURE_H
#define KEEPSOCK_TESTS_KEEPER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "keepsock/ipc.h"
#include "keepsock/keeper_messages.h"

#define DEADLINE_MS 20000
#define START_TEXT  "what the master says"
#define GENERATION  100u

struct test {
	char run_dir[64];
	pid_t keeper;
	int master;  /* the master's end */
	int channel; /* the worker's end, -1 = none */
	int last_words;
	struct keeper_worker worker;
	int worker_pidfd;
	int worker_master_end;
	int arena;
	struct ipc_message message;
	size_t keeper_fds;
};

/* main() of the worker process: with --role=worker. */
int be_worker(void);
void receive(struct test *t, int fd);
struct slice payload_of(struct test *t);
void expect(struct test *t, int fd, uint32_t type);
void expect_status(struct test *t, bool is_protected, uint32_t descriptors);
size_t count_fds(pid_t pid);
void say(struct test *t, uint32_t type, const void *payload, size_t length);
void say_count(struct test *t, uint32_t descriptors);
struct keeper_item item_of(uint32_t number);
void deposit(struct test *t, int (*pairs)[2], uint32_t from, uint32_t to);
void make_pairs(int (*pairs)[2], size_t count);
void close_pairs(int (*pairs)[2], size_t count, int which);
void deposit_arena(struct test *t);
void start_keeper(struct test *t, pid_t worker);
/* Its master is dead when it begins. */
void start_keeper_of_the_dead(struct test *t, pid_t worker);
void send_order(struct test *t);
void meet_worker(struct test *t);
void expect_start(struct test *t, bool adopt);
void start_worker(struct test *t);
void forget_worker(struct test *t);
void kill_worker(struct test *t);
struct keeper_death expect_death(struct test *t);
int set_up(void **state);
int tear_down(void **state);

#endif
