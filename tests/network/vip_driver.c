/* SPDX-License-Identifier: ISC */
/*
 * A VIP on strings: commands on stdin, a line each; what became of them and what
 * the handlers were told on stdout, a line each. For the tests in network
 * namespaces; never installed.
 *
 *	vip_driver INTERFACE ADDRESS ANNOUNCE_MS ANNOUNCE_EVERY_MS TICKLES_PER_SECOND
 *
 *	take UNTIL_MS · renew UNTIL_MS · disconnect · drop · announce · state
 *	peer PORT LOCAL_PORT ADDRESS   (collects)      tickle   (sends to those collected)
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <event2/event.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/vip.h"

#define TICKLES_MAX   100000
#define DISCONNECT_MS 10000

struct driver {
	struct event_base *base;
	struct vip *vip;
	struct buffer input;
	struct vip_peer *peers;
	size_t n_peers;
};

static void say(const char *line)
{
	printf("%s\n", line);
	fflush(stdout);
}

static void on_taken(void *ctx)
{
	(void)ctx;
	say("taken");
}

static void on_refused(void *ctx, const char *reason)
{
	(void)ctx;
	printf("refused %s\n", reason);
	fflush(stdout);
}

static void on_lost(void *ctx, const char *reason)
{
	(void)ctx;
	printf("lost %s\n", reason);
	fflush(stdout);
}

static void on_clean(void *ctx)
{
	(void)ctx;
	say("clean");
}

static void on_tickled(void *ctx, uint64_t sent, uint64_t failed)
{
	(void)ctx;
	printf("tickled %" PRIu64 " %" PRIu64 "\n", sent, failed);
	fflush(stdout);
}

static void add_peer(struct driver *driver, const char *line)
{
	struct vip_peer peer = {0};
	unsigned port, local_port;
	char host[64];

	if (sscanf(line, "peer %u %u %63s", &port, &local_port, host) != 3 ||
	    inet_pton(vip_address(driver->vip)->family, host, peer.address) != 1)
		log_fatal("bad_peer line=%s", line);
	peer.port = (uint16_t)port;
	peer.local_port = (uint16_t)local_port;
	driver->peers = xrealloc(driver->peers, (driver->n_peers + 1) * sizeof(*driver->peers));
	driver->peers[driver->n_peers++] = peer;
}

static void run(struct driver *driver, const char *line)
{
	uint64_t until_ms;

	if (sscanf(line, "take %" SCNu64, &until_ms) == 1) {
		vip_take(driver->vip, until_ms);
	} else if (sscanf(line, "renew %" SCNu64, &until_ms) == 1) {
		say(vip_renew(driver->vip, until_ms) ? "renewed" : "not renewed");
	} else if (strcmp(line, "drop") == 0) {
		say(vip_drop(driver->vip) ? "dropped" : "not dropped");
	} else if (strcmp(line, "disconnect") == 0) {
		vip_disconnect(driver->vip, clock_boottime_ms() + DISCONNECT_MS);
		say("disconnected");
	} else if (strcmp(line, "announce") == 0) {
		vip_announce(driver->vip);
	} else if (strcmp(line, "state") == 0) {
		printf("state %s %" PRIu64 "\n", vip_state_name(vip_state(driver->vip)),
		       vip_expires_ms(driver->vip));
		fflush(stdout);
	} else if (strncmp(line, "peer ", 5) == 0) {
		add_peer(driver, line);
	} else if (strcmp(line, "tickle") == 0) {
		printf("queued %zu\n", vip_tickle(driver->vip, driver->peers, driver->n_peers));
		fflush(stdout);
		driver->n_peers = 0;
	} else {
		log_fatal("bad_command line=%s", line);
	}
}

static void on_input(evutil_socket_t fd, short what, void *ctx)
{
	struct driver *driver = ctx;
	ssize_t len = read((int)fd, buffer_reserve(&driver->input, 4096), 4096);
	char *end;

	(void)what;
	if (len <= 0) {
		event_base_loopbreak(driver->base);
		return;
	}
	driver->input.len += (size_t)len;
	while ((end = memchr(driver->input.data, '\n', driver->input.len))) {
		*end = '\0';
		run(driver, driver->input.data);
		buffer_consume(&driver->input, (size_t)(end - driver->input.data) + 1);
	}
}

static unsigned number(const char *text)
{
	return (unsigned)strtoul(text, NULL, 10);
}

int main(int argc, char **argv)
{
	const struct vip_handlers handlers = {on_taken, on_refused, on_lost, on_clean, on_tickled};
	struct driver driver = {0};
	struct buffer error = {0};
	struct event *input;
	struct vip_spec spec = {.tickles_max = TICKLES_MAX};
	const char *wrong;

	log_init("vip_driver", -1);
	if (argc != 6)
		log_fatal("bad_arguments count=%d", argc - 1);
	wrong = settings_vip_parse(argv[2], &spec.address);
	if (wrong)
		log_fatal("bad_address reason=%s", wrong);
	spec.interface = argv[1];
	spec.announce_ms = number(argv[3]);
	spec.announce_every_ms = number(argv[4]);
	spec.tickles_per_second = number(argv[5]);
	driver.base = event_base_new();
	driver.vip = vip_open(driver.base, &spec, &handlers, NULL, &error);
	if (!driver.vip)
		log_fatal("not_opened reason=%s", buffer_cstr(&error));
	input = event_new(driver.base, STDIN_FILENO, EV_READ | EV_PERSIST, on_input, &driver);
	event_add(input, NULL);
	say("open");
	event_base_dispatch(driver.base);
	event_free(input);
	vip_close(driver.vip);
	event_base_free(driver.base);
	buffer_free(&driver.input);
	free(driver.peers);
	return 0;
}
