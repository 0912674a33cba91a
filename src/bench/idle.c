/* SPDX-License-Identifier: ISC */
/*
 * keepsock-bench idle: opens connections, tells what each costs the server in
 * memory, and holds them, answering pings. The kernel's socket memory is not in
 * the figure: it belongs to no process.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include "bench.h"
#include "crowd.h"
#include "keepsock/clock.h"
#include "measure.h"

struct idle {
	struct bench *bench;
	struct crowd crowd;
	struct loop_watch signals; /* SIGINT, SIGTERM */
	uint64_t until_ms;         /* 0: until a signal */
	bool interrupted;
};

static struct idle *idle_of(struct loop_watch *watch)
{
	return (struct idle *)(void *)((char *)watch - offsetof(struct idle, signals));
}

static void on_signal(struct loop_watch *watch, uint32_t events)
{
	(void)events;
	idle_of(watch)->interrupted = true;
}

static int hold_step(void *ctx)
{
	struct idle *idle = ctx;
	uint64_t now = clock_boottime_ms();

	idle->bench->loop.progress++; /* silence is what this command is about */
	if (idle->interrupted || (idle->until_ms > 0 && now >= idle->until_ms))
		return LOOP_DONE;
	if (idle->until_ms == 0 || idle->until_ms - now > LOOP_NO_WAKE)
		return LOOP_NO_WAKE;
	return (int)(idle->until_ms - now);
}

static int hold(struct idle *idle)
{
	uint64_t seconds = idle->bench->options->hold;
	sigset_t set;
	int result;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	idle->signals.on_ready = on_signal;
	idle->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (idle->signals.fd < 0 || sigprocmask(SIG_BLOCK, &set, NULL) != 0) {
		loop_fail(&idle->bench->loop, "signalfd: %s", strerror(errno));
		return -1;
	}
	idle->until_ms = seconds > 0 ? clock_boottime_ms() + seconds * 1000 : 0;
	result = loop_watch(&idle->bench->loop, &idle->signals, EPOLLIN);
	if (result == 0)
		result = loop_run(&idle->bench->loop, hold_step, idle, "the end");
	loop_unwatch(&idle->bench->loop, &idle->signals);
	return result;
}

/* Waits as told, then reads. Nothing to read without --server-pid. */
static int read_memory(struct idle *idle, struct usage_memory *memory)
{
	const struct bench_options *options = idle->bench->options;

	if (options->server_pids.count == 0)
		return 0;
	if (loop_pause(&idle->bench->loop, options->settle * 1000) != 0)
		return -1;
	if (usage_memory(&options->server_pids, memory) == 0)
		return 0;
	loop_fail(&idle->bench->loop, "--server-pid: reading its memory: %s", strerror(errno));
	return -1;
}

static void report_memory(struct idle *idle, const struct usage_memory *before,
			  const struct usage_memory *after)
{
	struct report *report = &idle->bench->report;
	double count = (double)idle->crowd.count;

	if (idle->bench->options->server_pids.count == 0)
		return;
	report_count(report, "server_memory_before", before->own);
	report_count(report, "server_memory_after", after->own);
	report_figure(report, "server_memory_bytes_per_connection",
		      ((double)after->own - (double)before->own) / count, 0);
	report_figure(report, "server_rss_bytes_per_connection",
		      ((double)after->rss - (double)before->rss) / count, 0);
}

static int run(struct idle *idle)
{
	const struct bench_options *options = idle->bench->options;
	const struct session_handler handler = {.role = "connection",
						.raw = options->raw,
						.socket_io = options->socket_io,
						.recover = options->recover,
						.channel = options->channel};
	struct usage_memory before = {0}, after = {0};

	if (read_memory(idle, &before) != 0)
		return -1;
	if (crowd_open(&idle->crowd, &idle->bench->loop, &idle->bench->target, &handler, idle,
		       (size_t)options->connections, (size_t)options->in_flight, 0) == 0 &&
	    read_memory(idle, &after) == 0) {
		report_memory(idle, &before, &after);
		report_latency(&idle->bench->report, "open", idle->crowd.latency);
		fprintf(stderr, "ready connections=%zu\n", idle->crowd.count);
		(void)hold(idle);
	}
	crowd_close(&idle->crowd);
	return loop_failed(&idle->bench->loop) ? -1 : 0;
}

int bench_idle(struct bench *bench)
{
	struct idle idle = {.bench = bench};

	return run(&idle);
}
