/* SPDX-License-Identifier: ISC */
/*
 * The record of the embedded Redis, see redis_record.h. Runs in the master. A
 * pid alone may be anybody's by now: the record has the time at which that
 * process began, which together are one process's own.
 */
#include "master/redis_record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/ipc_messages.h"
#include "keepsock/secret.h"
#include "keepsock/text_file.h"

#define RECORD_SIZE_MAX ((size_t)128)
#define STAT_SIZE_MAX   ((size_t)4096)
#define CONFIG_SIZE_MAX ((size_t)64 * 1024)
/* The start time is the 22nd field of /proc/PID/stat, the 20th after the name. */
#define FIELDS_TO_START 20

/* In clock ticks since boot; 0 when there is no such process. */
static uint64_t start_time_of(pid_t pid)
{
	struct buffer text = {0}, error = {0};
	char *path = xasprintf("/proc/%ld/stat", (long)pid);
	const char *at = NULL;
	uint64_t time = 0;

	/* The name may hold anything, parentheses as well: what counts is behind the last one. */
	if (text_file_read(path, STAT_SIZE_MAX, &text, &error) == 0)
		at = strrchr(buffer_cstr(&text), ')');
	for (int i = 0; at && i < FIELDS_TO_START; i++)
		at = strchr(at + 1, ' ');
	if (at)
		time = strtoull(at, NULL, 10);
	buffer_free(&text);
	buffer_free(&error);
	free(path);
	return time;
}

int redis_record_write(const char *path, pid_t pid, struct buffer *error)
{
	struct buffer text = {0};
	int result;

	buffer_printf(&text, "%ld %" PRIu64 "\n", (long)pid, start_time_of(pid));
	result = text_file_write_private(path, buffer_slice(&text), error);
	buffer_free(&text);
	return result;
}

static bool read_record(const char *path, pid_t *pid, uint64_t *time)
{
	struct buffer text = {0}, error = {0};
	bool valid = false;
	char *end = NULL;
	long number;

	if (text_file_read(path, RECORD_SIZE_MAX, &text, &error) == 0) {
		number = strtol(buffer_cstr(&text), &end, 10);
		*time = strtoull(end, NULL, 10);
		*pid = (pid_t)number;
		valid = number > 0 && number <= INT32_MAX && *time > 0;
	}
	buffer_free(&text);
	buffer_free(&error);
	return valid;
}

/* The descriptor first: what is found out after that is about this very process. */
int redis_record_find(const char *path, pid_t *pid)
{
	uint64_t time;
	int pidfd;

	if (!read_record(path, pid, &time))
		return -1;
	pidfd = pidfd_open(*pid, 0);
	if (pidfd < 0)
		return -1;
	/* Signal 0: whether it is ours, and no zombie that nobody waited for yet. */
	if (start_time_of(*pid) == time && pidfd_send_signal(pidfd, 0, NULL, 0) == 0)
		return pidfd;
	close(pidfd);
	return -1;
}

/* The rest of the line that begins with this word, heap; NULL when there is none. */
static char *value_of(const char *text, const char *word)
{
	size_t length = strlen(word);
	const char *line = text;

	while (line && *line) {
		const char *end = strchr(line, '\n');

		if (strncmp(line, word, length) == 0 && line[length] == ' ' && end)
			return xasprintf("%.*s", (int)(end - line) - (int)length - 1,
					 line + length + 1);
		line = end ? end + 1 : NULL;
	}
	return NULL;
}

bool redis_record_endpoint(const char *config_path, struct ipc_redis *endpoint)
{
	struct buffer text = {0}, error = {0};
	char *port = NULL, *password = NULL;
	unsigned long number = 0;
	bool valid;

	if (text_file_read(config_path, CONFIG_SIZE_MAX, &text, &error) == 0) {
		port = value_of(buffer_cstr(&text), "port");
		password = value_of(buffer_cstr(&text), "requirepass");
	}
	if (port)
		number = strtoul(port, NULL, 10);
	valid = number > 0 && number <= UINT16_MAX && password && password[0];
	if (valid) {
		secret_wipe(endpoint->password, strlen(endpoint->password));
		free(endpoint->password);
		endpoint->password = password;
		endpoint->port = (uint16_t)number;
	} else {
		free(password);
	}
	free(port);
	if (text.data)
		secret_wipe(text.data, text.cap);
	buffer_free(&text);
	buffer_free(&error);
	return valid;
}
