/* SPDX-License-Identifier: ISC */
/*
 * Reading the clocks. Runs in every process, on hot paths too: both are vDSO
 * calls. Nothing here may fail: a kernel without these clocks can't run us.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "keepsock/clock.h"

static struct timespec clock_read(clockid_t id)
{
	struct timespec now;

	if (clock_gettime(id, &now) != 0)
		abort();
	return now;
}

uint64_t clock_boottime_ns(void)
{
	struct timespec now = clock_read(CLOCK_BOOTTIME);

	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t clock_boottime_ms(void)
{
	return clock_boottime_ns() / 1000000u;
}

uint64_t clock_wall_ms(void)
{
	struct timespec now = clock_read(CLOCK_REALTIME);

	return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

void clock_wall_text(uint64_t wall_ms, char text[CLOCK_TEXT_SIZE])
{
	time_t seconds = (time_t)(wall_ms / 1000);
	struct tm utc;

	if (!gmtime_r(&seconds, &utc))
		memset(&utc, 0, sizeof(utc));
	(void)snprintf(text, CLOCK_TEXT_SIZE, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ",
		       utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min,
		       utc.tm_sec, (unsigned)(wall_ms % 1000));
}
