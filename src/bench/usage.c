/* SPDX-License-Identifier: ISC */
/*
 * Reads what the measured server uses. The process clock is the scheduler's own
 * sum in nanoseconds, where utime and stime in /proc are cut to ticks of 10 ms.
 */
#include "usage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int clock_read_ns(clockid_t id, uint64_t *ns)
{
	struct timespec t;

	if (clock_gettime(id, &t) != 0)
		return -1;
	*ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	return 0;
}

int usage_cpu_ns(const struct usage_pids *pids, uint64_t *ns)
{
	*ns = 0;
	for (size_t i = 0; i < pids->count; i++) {
		clockid_t id;
		uint64_t one;
		int error = clock_getcpuclockid(pids->pids[i], &id);

		if (error != 0) {
			errno = error;
			return -1;
		}
		if (clock_read_ns(id, &one) != 0)
			return -1;
		*ns += one;
	}
	return 0;
}

uint64_t usage_own_cpu_ns(void)
{
	uint64_t ns = 0;

	(void)clock_read_ns(CLOCK_PROCESS_CPUTIME_ID, &ns); /* always there on Linux */
	return ns;
}

/* "Rss:    1724 kB": adds the bytes if the line is the field's; whether it was. */
static int add_field(const char *line, const char *name, uint64_t *bytes)
{
	size_t len = strlen(name);
	char *end;

	if (strncmp(line, name, len) != 0)
		return 0;
	*bytes += strtoull(line + len, &end, 10) * 1024;
	return strncmp(end, " kB", 3) == 0;
}

static int memory_of(pid_t pid, struct usage_memory *memory)
{
	char path[64], line[256];
	FILE *file;
	int found = 0;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		found += add_field(line, "Rss:", &memory->rss);
		found += add_field(line, "Pss_Anon:", &memory->own);
		found += add_field(line, "Pss_Shmem:", &memory->own);
	}
	fclose(file);
	if (found == 3)
		return 0;
	errno = EPROTO;
	return -1;
}

int usage_memory(const struct usage_pids *pids, struct usage_memory *memory)
{
	*memory = (struct usage_memory){0};
	for (size_t i = 0; i < pids->count; i++)
		if (memory_of(pids->pids[i], memory) != 0)
			return -1;
	return 0;
}
