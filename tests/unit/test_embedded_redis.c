/* SPDX-License-Identifier: ISC */
/*
 * The embedded Redis with a real redis-server: it comes up, keeps its data,
 * comes back after a kill, moves when its port is taken, and says why when it
 * can't start.
 */
#include <arpa/inet.h>
#include <event2/event.h>
#include <ftw.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/embedded_redis.h"
#include "keepsock/ipc_messages.h"
#include "keepsock/log.h"

/* Longer than anything here takes; reached only when something hangs. */
#define DEADLINE_S 60

struct fixture {
	char directory[32];
	struct event_base *base;
	struct embedded_redis *redis;
	enum embedded_redis_event wanted;
	bool came;
	bool take_port; /* when it dies */
	int taken;      /* the socket that has its port, -1 = none */
	struct buffer detail;
};

static int connect_to_port(uint16_t port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static int listen_on_port(uint16_t port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void on_event(void *ctx, enum embedded_redis_event event, const char *detail)
{
	struct fixture *fixture = ctx;

	if (event == EMBEDDED_REDIS_LOST && fixture->take_port)
		fixture->taken = listen_on_port(embedded_redis_endpoint(fixture->redis)->port);
	if (event != fixture->wanted)
		return;
	fixture->came = true;
	buffer_reset(&fixture->detail);
	buffer_append_str(&fixture->detail, detail);
	event_base_loopbreak(fixture->base);
}

static void wait_for(struct fixture *fixture, enum embedded_redis_event event)
{
	struct timeval deadline = {.tv_sec = DEADLINE_S};

	fixture->wanted = event;
	fixture->came = false;
	event_base_loopexit(fixture->base, &deadline);
	event_base_dispatch(fixture->base);
	assert_true(fixture->came);
}

static struct embedded_redis_options options_of(struct fixture *fixture, const char *binary)
{
	return (struct embedded_redis_options){
		.binary = binary,
		.state_dir = fixture->directory,
		.run_dir = fixture->directory,
		.on_event = on_event,
		.ctx = fixture,
	};
}

static void start(struct fixture *fixture, const char *binary)
{
	const struct embedded_redis_options options = options_of(fixture, binary);
	struct buffer error = {0};

	fixture->redis = embedded_redis_start(fixture->base, &options, &error);
	if (!fixture->redis)
		fail_msg("%s", buffer_cstr(&error));
}

/* As by a master that dies: what runs goes on. */
static void leave(struct fixture *fixture)
{
	embedded_redis_free(fixture->redis);
	fixture->redis = NULL;
}

/* Kills it if it runs. */
static void end(struct fixture *fixture)
{
	pid_t pid = fixture->redis ? embedded_redis_pid(fixture->redis) : 0;

	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	leave(fixture);
}

static int make_fixture(void **state)
{
	struct fixture *fixture = xcalloc(1, sizeof(*fixture));

	*state = fixture;
	fixture->taken = -1;
	fixture->base = event_base_new();
	snprintf(fixture->directory, sizeof(fixture->directory), "test_redis.XXXXXX");
	return fixture->base && mkdtemp(fixture->directory) ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *where)
{
	(void)status;
	(void)type;
	(void)where;
	return remove(path);
}

static int drop_fixture(void **state)
{
	struct fixture *fixture = *state;

	end(fixture);
	if (fixture->taken >= 0)
		close(fixture->taken);
	event_base_free(fixture->base);
	buffer_free(&fixture->detail);
	nftw(fixture->directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	free(fixture);
	return 0;
}

/* Signs in, sends one command, and expects exactly that answer. */
static void ask(struct fixture *fixture, const char *command, const char *expected)
{
	const struct ipc_redis *endpoint = embedded_redis_endpoint(fixture->redis);
	int fd = connect_to_port(endpoint->port);
	char *text = xasprintf("AUTH %s\r\n%s\r\n", endpoint->password, command);
	char *wanted = xasprintf("+OK\r\n%s", expected);
	struct buffer answer = {0};

	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	while (answer.len < strlen(wanted)) {
		ssize_t got = read(fd, buffer_reserve(&answer, 256), 256);

		assert_true(got > 0);
		answer.len += (size_t)got;
	}
	assert_string_equal(buffer_cstr(&answer), wanted);
	buffer_free(&answer);
	free(text);
	free(wanted);
	close(fd);
}

static void test_it_answers_and_ends(void **state)
{
	struct fixture *fixture = *state;

	start(fixture, "redis-server");
	assert_string_equal(embedded_redis_state(fixture->redis), "starting");
	wait_for(fixture, EMBEDDED_REDIS_READY);
	assert_string_equal(embedded_redis_state(fixture->redis), "ready");
	assert_true(embedded_redis_pid(fixture->redis) > 0);
	ask(fixture, "CONFIG GET appendonly", "*2\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n");
	ask(fixture, "CONFIG GET maxmemory-policy",
	    "*2\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction\r\n");
	embedded_redis_stop(fixture->redis);
	wait_for(fixture, EMBEDDED_REDIS_ENDED);
	assert_int_equal(embedded_redis_pid(fixture->redis), 0);
}

static void test_strangers_are_refused(void **state)
{
	static const char refusal[] = "-NOAUTH";
	struct fixture *fixture = *state;
	char answer[sizeof(refusal)] = "";
	int fd;

	start(fixture, "redis-server");
	wait_for(fixture, EMBEDDED_REDIS_READY);
	fd = connect_to_port(embedded_redis_endpoint(fixture->redis)->port);
	assert_int_equal(write(fd, "PING\r\n", 6), 6);
	assert_int_equal(recv(fd, answer, strlen(refusal), MSG_WAITALL), (ssize_t)strlen(refusal));
	assert_string_equal(answer, refusal);
	close(fd);
}

static void test_its_files_are_private(void **state)
{
	struct fixture *fixture = *state;
	char *config = xasprintf("%s/redis.conf", fixture->directory);
	char *data = xasprintf("%s/redis", fixture->directory);
	struct stat status;

	start(fixture, "redis-server");
	assert_int_equal(stat(config, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(stat(data, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	embedded_redis_stop(fixture->redis);
	wait_for(fixture, EMBEDDED_REDIS_ENDED);
	assert_int_equal(stat(config, &status), -1);
	free(config);
	free(data);
}

static void test_it_comes_back_with_its_data(void **state)
{
	struct fixture *fixture = *state;
	struct ipc_redis before;

	start(fixture, "redis-server");
	wait_for(fixture, EMBEDDED_REDIS_READY);
	before = ipc_redis_copy(embedded_redis_endpoint(fixture->redis));
	ask(fixture, "SET k v", "+OK\r\n");
	kill(embedded_redis_pid(fixture->redis), SIGKILL);
	wait_for(fixture, EMBEDDED_REDIS_LOST);
	assert_non_null(strstr(buffer_cstr(&fixture->detail), "signal 9"));
	wait_for(fixture, EMBEDDED_REDIS_READY);
	assert_int_equal(embedded_redis_restarts(fixture->redis), 1);
	assert_true(ipc_redis_equal(&before, embedded_redis_endpoint(fixture->redis)));
	ask(fixture, "GET k", "$1\r\nv\r\n");
	ipc_redis_free(&before);
}

static void test_the_next_master_finds_the_data(void **state)
{
	struct fixture *fixture = *state;

	start(fixture, "redis-server");
	wait_for(fixture, EMBEDDED_REDIS_READY);
	ask(fixture, "SET k v", "+OK\r\n");
	embedded_redis_stop(fixture->redis);
	wait_for(fixture, EMBEDDED_REDIS_ENDED);
	leave(fixture);
	start(fixture, "redis-server");
	wait_for(fixture, EMBEDDED_REDIS_READY);
	ask(fixture, "GET k", "$1\r\nv\r\n");
}

static void test_the_next_master_adopts_it(void **state)
{
	struct fixture *fixture = *state;
	struct ipc_redis before;
	pid_t pid;

	start(fixture, "redis-server");
	wait_for(fixture, EMBEDDED_REDIS_READY);
	before = ipc_redis_copy(embedded_redis_endpoint(fixture->redis));
	pid = embedded_redis_pid(fixture->redis);
	leave(fixture);
	start(fixture, "redis-server");
	wait_for(fixture, EMBEDDED_REDIS_READY);
	assert_int_equal(embedded_redis_pid(fixture->redis), pid);
	assert_true(ipc_redis_equal(&before, embedded_redis_endpoint(fixture->redis)));
	/* It is watched: its death is mended. */
	kill(pid, SIGKILL);
	wait_for(fixture, EMBEDDED_REDIS_LOST);
	wait_for(fixture, EMBEDDED_REDIS_READY);
	assert_true(ipc_redis_equal(&before, embedded_redis_endpoint(fixture->redis)));
	ipc_redis_free(&before);
}

static void test_one_without_its_password_is_replaced(void **state)
{
	struct fixture *fixture = *state;
	char *config = xasprintf("%s/redis.conf", fixture->directory);
	pid_t pid;

	start(fixture, "redis-server");
	wait_for(fixture, EMBEDDED_REDIS_READY);
	ask(fixture, "SET k v", "+OK\r\n");
	pid = embedded_redis_pid(fixture->redis);
	leave(fixture);
	assert_int_equal(unlink(config), 0);
	start(fixture, "redis-server");
	wait_for(fixture, EMBEDDED_REDIS_READY);
	assert_int_not_equal(embedded_redis_pid(fixture->redis), pid);
	ask(fixture, "GET k", "$1\r\nv\r\n");
	free(config);
}

/* The number is somebody else's by now. */
static void test_a_stale_record_is_nobody(void **state)
{
	struct fixture *fixture = *state;
	char *record = xasprintf("%s/redis/pid", fixture->directory);
	FILE *file;

	start(fixture, "redis-server");
	wait_for(fixture, EMBEDDED_REDIS_READY);
	end(fixture);
	file = fopen(record, "we");
	assert_non_null(file);
	assert_true(fprintf(file, "%ld 12345\n", (long)getpid()) > 0);
	assert_int_equal(fclose(file), 0);
	start(fixture, "redis-server");
	wait_for(fixture, EMBEDDED_REDIS_READY);
	assert_int_not_equal(embedded_redis_pid(fixture->redis), getpid());
	free(record);
}

static void test_none_is_started_to_end_one(void **state)
{
	struct fixture *fixture = *state;
	struct embedded_redis_options options = options_of(fixture, "redis-server");
	struct buffer error = {0};

	options.only_adopt = true;
	assert_null(embedded_redis_start(fixture->base, &options, &error));
	assert_int_equal(error.len, 0);
}

static void test_it_moves_when_its_port_is_taken(void **state)
{
	struct fixture *fixture = *state;
	struct ipc_redis before;

	start(fixture, "redis-server");
	wait_for(fixture, EMBEDDED_REDIS_READY);
	before = ipc_redis_copy(embedded_redis_endpoint(fixture->redis));
	ask(fixture, "SET k v", "+OK\r\n");
	fixture->take_port = true;
	kill(embedded_redis_pid(fixture->redis), SIGKILL);
	wait_for(fixture, EMBEDDED_REDIS_READY);
	assert_true(fixture->taken >= 0);
	assert_int_not_equal(embedded_redis_endpoint(fixture->redis)->port, before.port);
	ask(fixture, "GET k", "$1\r\nv\r\n");
	ipc_redis_free(&before);
}

static void test_two_may_not_share_the_data(void **state)
{
	struct fixture *fixture = *state;
	const struct embedded_redis_options options = options_of(fixture, "redis-server");
	struct buffer error = {0};

	start(fixture, "redis-server");
	assert_null(embedded_redis_start(fixture->base, &options, &error));
	assert_non_null(strstr(buffer_cstr(&error), "in use"));
	buffer_free(&error);
}

static void test_a_missing_program_is_said(void **state)
{
	struct fixture *fixture = *state;
	const struct embedded_redis_options options = options_of(fixture, "/no/such/redis");
	struct buffer error = {0};

	assert_null(embedded_redis_start(fixture->base, &options, &error));
	assert_non_null(strstr(buffer_cstr(&error), "/no/such/redis"));
	assert_non_null(strstr(buffer_cstr(&error), "redis.embedded_binary"));
	buffer_free(&error);
}

static void write_script(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, 0700), 0);
}

static void test_a_failed_start_shows_the_log(void **state)
{
	struct fixture *fixture = *state;
	char *script = xasprintf("%s/fake", fixture->directory);

	write_script(script, "#!/bin/sh\necho the moon is full\nexit 3\n");
	start(fixture, script);
	wait_for(fixture, EMBEDDED_REDIS_FAILED);
	assert_non_null(strstr(buffer_cstr(&fixture->detail), "exit status 3"));
	assert_non_null(strstr(buffer_cstr(&fixture->detail), "the moon is full"));
	free(script);
}

/* Deaf to SIGTERM, so the second call has to use force. */
static void test_a_stubborn_one_is_killed(void **state)
{
	struct fixture *fixture = *state;
	char *script = xasprintf("%s/fake", fixture->directory);

	write_script(script, "#!/bin/sh\ntrap '' TERM\nwhile :; do kill -STOP $$; done\n");
	start(fixture, script);
	embedded_redis_stop(fixture->redis);
	assert_string_equal(embedded_redis_state(fixture->redis), "stopping");
	embedded_redis_stop(fixture->redis);
	wait_for(fixture, EMBEDDED_REDIS_ENDED);
	free(script);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_it_answers_and_ends, make_fixture,
						drop_fixture),
		cmocka_unit_test_setup_teardown(test_strangers_are_refused, make_fixture,
						drop_fixture),
		cmocka_unit_test_setup_teardown(test_its_files_are_private, make_fixture,
						drop_fixture),
		cmocka_unit_test_setup_teardown(test_it_comes_back_with_its_data, make_fixture,
						drop_fixture),
		cmocka_unit_test_setup_teardown(test_the_next_master_finds_the_data, make_fixture,
						drop_fixture),
		cmocka_unit_test_setup_teardown(test_the_next_master_adopts_it, make_fixture,
						drop_fixture),
		cmocka_unit_test_setup_teardown(test_one_without_its_password_is_replaced,
						make_fixture, drop_fixture),
		cmocka_unit_test_setup_teardown(test_a_stale_record_is_nobody, make_fixture,
						drop_fixture),
		cmocka_unit_test_setup_teardown(test_none_is_started_to_end_one, make_fixture,
						drop_fixture),
		cmocka_unit_test_setup_teardown(test_it_moves_when_its_port_is_taken, make_fixture,
						drop_fixture),
		cmocka_unit_test_setup_teardown(test_two_may_not_share_the_data, make_fixture,
						drop_fixture),
		cmocka_unit_test_setup_teardown(test_a_missing_program_is_said, make_fixture,
						drop_fixture),
		cmocka_unit_test_setup_teardown(test_a_failed_start_shows_the_log, make_fixture,
						drop_fixture),
		cmocka_unit_test_setup_teardown(test_a_stubborn_one_is_killed, make_fixture,
						drop_fixture),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
