/* SPDX-License-Identifier: ISC */
/*
 * The private redis-server of the tests. It is ready when it says so on its
 * standard output, so nobody polls or sleeps; the kernel kills it if the test
 * program dies.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stddef.h>

#include <cmocka.h>

#include "keepsock/alloc.h"
#include "keepsock/clock.h"
#include "redis_server.h"

#define READY_TEXT     "Ready to accept connections"
#define READY_LIMIT_MS 30000
#define PORT_ATTEMPTS  10

struct redis_server {
	char *directory; /* this and the next owned */
	char *password;
	uint16_t port;
	pid_t pid;
	int output; /* read end of its standard output */
};

static uint16_t free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	close(fd);
	return ntohs(address.sin_port);
}

static void write_config(const struct redis_server *server)
{
	char *path = xasprintf("%s/redis.conf", server->directory);
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	fprintf(file,
		"bind 127.0.0.1\nport %u\ndir %s\nlogfile \"\"\nsave \"\"\n"
		/* no: unlike with everysec, what was answered is always written. */
		"appendonly yes\nappendfsync no\nrepl-diskless-sync-delay 0\n",
		server->port, server->directory);
	if (server->password)
		fprintf(file, "requirepass %s\n", server->password);
	assert_int_equal(fclose(file), 0);
	free(path);
}

static _Noreturn void run_redis(const struct redis_server *server, int output, pid_t parent)
{
	char *path = xasprintf("%s/redis.conf", server->directory);

	/* Nobody reads on after the ready line: a full pipe must not stop Redis. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent || setpgid(0, 0) != 0 ||
	    fcntl(output, F_SETFL, O_NONBLOCK) != 0 || dup2(output, STDOUT_FILENO) < 0 ||
	    dup2(output, STDERR_FILENO) < 0)
		_exit(126);
	execlp("redis-server", "redis-server", path, (char *)NULL);
	_exit(127);
}

/* Reads its log up to the ready line; false when it ended before. */
static bool wait_until_ready(int output)
{
	uint64_t deadline = clock_boottime_ms() + READY_LIMIT_MS;
	char log[16384];
	size_t len = 0;

	for (;;) {
		struct pollfd poller = {.fd = output, .events = POLLIN};
		uint64_t now = clock_boottime_ms();
		ssize_t n;

		assert_true(now < deadline);
		if (poll(&poller, 1, (int)(deadline - now)) <= 0)
			continue;
		n = read(output, log + len, sizeof(log) - 1 - len);
		if (n <= 0)
			return false;
		len += (size_t)n;
		log[len] = '\0';
		if (strstr(log, READY_TEXT))
			return true;
		if (len == sizeof(log) - 1)
			len = 0;
	}
}

static bool try_start(struct redis_server *server)
{
	pid_t parent = getpid();
	int ends[2], status;

	write_config(server);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	server->pid = fork();
	assert_true(server->pid >= 0);
	if (server->pid == 0)
		run_redis(server, ends[1], parent);
	close(ends[1]);
	server->output = ends[0];
	if (wait_until_ready(server->output))
		return true;
	close(server->output);
	server->output = -1;
	assert_int_equal(waitpid(server->pid, &status, 0), server->pid);
	server->pid = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		fail_msg("redis-server is not installed");
	return false;
}

struct redis_server *redis_server_start(const char *password)
{
	struct redis_server *server = xcalloc(1, sizeof(*server));
	const char *parent = getenv("TMPDIR");
	bool started = false;

	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	server->output = -1;
	server->password = password ? xstrdup(password) : NULL;
	server->directory = xasprintf("%s/keepsock-redis.XXXXXX", parent ? parent : P_tmpdir);
	assert_non_null(mkdtemp(server->directory));
	/* Somebody else may take the port between our choice and Redis's bind(). */
	for (int i = 0; i < PORT_ATTEMPTS && !started; i++) {
		server->port = free_port();
		started = try_start(server);
	}
	assert_true(started);
	return server;
}

void redis_server_kill(struct redis_server *server)
{
	if (server->pid == 0)
		return;
	/* With the children that save and rewrite for it: they come to us when it dies. */
	assert_int_equal(kill(-server->pid, SIGKILL), 0);
	while (waitpid(-server->pid, NULL, 0) > 0)
		;
	assert_int_equal(errno, ECHILD);
	close(server->output);
	server->pid = 0;
	server->output = -1;
}

void redis_server_restart(struct redis_server *server)
{
	assert_int_equal(server->pid, 0);
	assert_true(try_start(server));
}

void redis_server_pause(struct redis_server *server)
{
	int status;

	assert_int_equal(kill(server->pid, SIGSTOP), 0);
	assert_int_equal(waitpid(server->pid, &status, WUNTRACED), server->pid);
	assert_true(WIFSTOPPED(status));
}

void redis_server_resume(struct redis_server *server)
{
	int status;

	assert_int_equal(kill(server->pid, SIGCONT), 0);
	assert_int_equal(waitpid(server->pid, &status, WCONTINUED), server->pid);
	assert_true(WIFCONTINUED(status));
}

static void run_program(char *const words[])
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		execvp(words[0], words);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void remove_directory(char *directory)
{
	char *const words[] = {(char[]){"rm"}, (char[]){"-rf"}, directory, NULL};

	run_program(words);
}

static void copy_directory(char *from, char *to)
{
	char *const words[] = {(char[]){"cp"}, (char[]){"-a"}, from, to, NULL};

	remove_directory(to);
	run_program(words);
}

void redis_server_keep_data(const struct redis_server *server, const char *name)
{
	char *from = xasprintf("%s/appendonlydir", server->directory);
	char *to = xasprintf("%s/kept-%s", server->directory, name);

	copy_directory(from, to);
	free(from);
	free(to);
}

void redis_server_put_data(const struct redis_server *server, const char *name)
{
	char *to = xasprintf("%s/appendonlydir", server->directory);
	char *from = name ? xasprintf("%s/kept-%s", server->directory, name) : NULL;

	assert_int_equal(server->pid, 0);
	if (from)
		copy_directory(from, to);
	else
		remove_directory(to);
	free(from);
	free(to);
}

static bool info_says(const struct redis_server *server, const char *text)
{
	redisReply *reply = redis_server_command(server, "INFO replication");
	bool says = strstr(reply->str, text) != NULL;

	freeReplyObject(reply);
	return says;
}

/* How much of the master's data it has. */
static long long replication_offset(const struct redis_server *server, const char *field)
{
	redisReply *reply = redis_server_command(server, "INFO replication");
	const char *at = strstr(reply->str, field);
	long long offset = at ? strtoll(at + strlen(field), NULL, 10) : -1;

	freeReplyObject(reply);
	return offset;
}

void redis_server_follow(const struct redis_server *server, const struct redis_server *master)
{
	uint64_t deadline = clock_boottime_ms() + READY_LIMIT_MS;

	if (!master) {
		redis_server_do(server, "REPLICAOF NO ONE");
		return;
	}
	redis_server_do(server, "REPLICAOF 127.0.0.1 %u", (unsigned)master->port);
	while (!info_says(server, "master_link_status:up") ||
	       replication_offset(server, "slave_repl_offset:") <
		       replication_offset(master, "master_repl_offset:"))
		assert_true(clock_boottime_ms() < deadline);
}

void redis_server_free(struct redis_server *server)
{
	if (!server)
		return;
	redis_server_kill(server);
	remove_directory(server->directory);
	free(server->directory);
	free(server->password);
	free(server);
}

uint16_t redis_server_port(const struct redis_server *server)
{
	return server->port;
}

redisContext *redis_server_connect(const struct redis_server *server)
{
	redisContext *context = redisConnect("127.0.0.1", server->port);
	struct timeval limit = {30, 0};

	assert_non_null(context);
	assert_int_equal(context->err, 0);
	assert_int_equal(redisSetTimeout(context, limit), REDIS_OK);
	if (server->password) {
		redisReply *reply = redisCommand(context, "AUTH %s", server->password);

		assert_non_null(reply);
		assert_int_equal(reply->type, REDIS_REPLY_STATUS);
		freeReplyObject(reply);
	}
	return context;
}

static redisReply *run_command(const struct redis_server *server, const char *format, va_list args)
{
	redisContext *context = redis_server_connect(server);
	redisReply *reply = redisvCommand(context, format, args);

	assert_non_null(reply);
	if (reply->type == REDIS_REPLY_ERROR)
		fail_msg("redis: %s", reply->str);
	redisFree(context);
	return reply;
}

redisReply *redis_server_command(const struct redis_server *server, const char *format, ...)
{
	va_list args;
	redisReply *reply;

	va_start(args, format);
	reply = run_command(server, format, args);
	va_end(args);
	return reply;
}

void redis_server_do(const struct redis_server *server, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	freeReplyObject(run_command(server, format, args));
	va_end(args);
}
