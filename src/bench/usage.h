/* SPDX-License-Identifier: ISC */
/*
 * What processes use: CPU time in nanoseconds with all their threads, ended ones
 * too, and memory from smaps_rollup. Reads /proc and process clocks only; works
 * for any process of the same user.
 */
#ifndef KEEPSOCK_BENCH_USAGE_H
#define KEEPSOCK_BENCH_USAGE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define USAGE_PIDS_MAX 64

struct usage_pids {
	pid_t pids[USAGE_PIDS_MAX];
	size_t count;
};

/*
 * Bytes, summed over the processes. own: private and shared memory the processes
 * wrote themselves (Pss_Anon and Pss_Shmem: a page shared by n processes counts
 * as 1/n in each), without the pages of programs and libraries, whose share
 * changes with what else runs on the machine.
 */
struct usage_memory {
	uint64_t rss;
	uint64_t own;
};

/* User and system time of all of them. 0, or -1 with errno. */
int usage_cpu_ns(const struct usage_pids *pids, uint64_t *ns);

/* This process's own. */
uint64_t usage_own_cpu_ns(void);

/* 0, or -1 with errno (EPROTO: the kernel's file lacks a field). */
int usage_memory(const struct usage_pids *pids, struct usage_memory *memory);

#endif
