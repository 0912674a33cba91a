/* SPDX-License-Identifier: ISC */
/*
 * Reading the clocks. Runs in every process, on hot paths too: both are vDSO
 * calls. Nothing here may fail: a kernel without these clocks can't run us.
 */
#include <stdlib.h>
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
