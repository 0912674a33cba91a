/* SPDX-License-Identifier: ISC */
/*
 * Sentinels and servers that a test plays, see sentinel_peer.h. Part of unit tests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>

#include <cmocka.h>

#include "sentinel_peer.h"

void sentinel_peer_say(struct bufferevent *connection, const char *text)
{
	assert_int_equal(bufferevent_write(connection, text, strlen(text)), 0);
}

void sentinel_peer_say_words(struct bufferevent *connection, const char *const *words, size_t n)
{
	struct evbuffer *out = bufferevent_get_output(connection);

	evbuffer_add_printf(out, "*%zu\r\n", n);
	for (size_t i = 0; i < n; i++)
		evbuffer_add_printf(out, "$%zu\r\n%s\r\n", strlen(words[i]), words[i]);
}

static void tell_master(struct sentinel_peer *peer, struct bufferevent *connection)
{
	char port[16], epoch[16];
	const char *words[] = {"name", "m", "ip", "127.0.0.1", "port", port, "config-epoch", epoch};

	if (peer->master == 0) {
		sentinel_peer_say(connection, "-ERR No such master with that name\r\n");
		return;
	}
	snprintf(port, sizeof(port), "%u", peer->master);
	snprintf(epoch, sizeof(epoch), "%u", peer->epoch);
	sentinel_peer_say_words(connection, words, 8);
}

static void answer_sentinel(struct sentinel_peer *peer, struct bufferevent *connection)
{
	peer->asked++;
	if (peer->slow) {
		peer->owed++;
	} else {
		tell_master(peer, connection);
	}
}

static void answer(struct sentinel_peer *peer, struct bufferevent *connection, const char *command,
		   const char *argument)
{
	static const char *const pong[] = {"pong", ""};
	const char *role[] = {peer->role};

	if (peer->raw) {
		sentinel_peer_say(connection, peer->raw);
	} else if (strcmp(command, "AUTH") == 0) {
		bool right = peer->password && strcmp(argument, peer->password) == 0;

		sentinel_peer_say(connection, right ? "+OK\r\n" : "-WRONGPASS invalid\r\n");
	} else if (strcmp(command, "SENTINEL") == 0) {
		answer_sentinel(peer, connection);
	} else if (strcmp(command, "SUBSCRIBE") == 0) {
		peer->subscriber = connection;
		sentinel_peer_say(connection,
				  "*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n");
	} else if (strcmp(command, "PING") == 0) {
		sentinel_peer_say_words(connection, pong, 2);
	} else if (strcmp(command, "ROLE") == 0 && peer->role) {
		peer->asked++;
		sentinel_peer_say_words(connection, role, 1);
	} else {
		sentinel_peer_say(connection, "-ERR unknown command\r\n");
	}
}

/* "*n", then "$len" and the word, n times; every command here arrives whole. */
static void on_command(struct bufferevent *connection, void *ctx)
{
	struct evbuffer *in = bufferevent_get_input(connection);
	char *head;

	while ((head = evbuffer_readln(in, NULL, EVBUFFER_EOL_CRLF_STRICT))) {
		unsigned long n = strtoul(head + 1, NULL, 10);
		char words[2][64] = {"", ""};

		free(head);
		for (unsigned long i = 0; i < n; i++) {
			char *length = evbuffer_readln(in, NULL, EVBUFFER_EOL_CRLF_STRICT);
			char *word = evbuffer_readln(in, NULL, EVBUFFER_EOL_CRLF_STRICT);

			assert_non_null(word);
			if (i < 2)
				snprintf(words[i], sizeof(words[i]), "%s", word);
			free(length);
			free(word);
		}
		answer(ctx, connection, words[0], words[1]);
	}
}

static void on_end(struct bufferevent *connection, short what, void *ctx)
{
	struct sentinel_peer *peer = ctx;

	(void)what;
	if (peer->subscriber == connection)
		peer->subscriber = NULL;
	bufferevent_disable(connection, EV_READ | EV_WRITE);
}

static void on_connection(struct evconnlistener *listener, evutil_socket_t fd,
			  struct sockaddr *address, int len, void *ctx)
{
	struct sentinel_peer *peer = ctx;
	struct sentinel_peers *all = peer->all;
	struct bufferevent *connection =
		bufferevent_socket_new(all->base, fd, BEV_OPT_CLOSE_ON_FREE);

	(void)listener;
	(void)address;
	(void)len;
	assert_true(all->count < sizeof(all->connections) / sizeof(all->connections[0]));
	all->connections[all->count++] = connection;
	bufferevent_setcb(connection, on_command, NULL, on_end, peer);
	bufferevent_enable(connection, EV_READ | EV_WRITE);
}

void sentinel_peer_start(struct sentinel_peers *all, struct sentinel_peer *peer)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);

	peer->all = all;
	peer->listener =
		evconnlistener_new_bind(all->base, on_connection, peer, LEV_OPT_CLOSE_ON_FREE, -1,
					(struct sockaddr *)&address, sizeof(address));
	assert_non_null(peer->listener);
	assert_int_equal(getsockname(evconnlistener_get_fd(peer->listener),
				     (struct sockaddr *)&address, &len),
			 0);
	peer->port = ntohs(address.sin_port);
}

void sentinel_peer_stop(struct sentinel_peer *peer)
{
	if (peer->listener)
		evconnlistener_free(peer->listener);
	peer->listener = NULL;
}

void sentinel_peers_end(struct sentinel_peers *all)
{
	for (unsigned i = 0; i < all->count; i++)
		bufferevent_free(all->connections[i]);
	all->count = 0;
}
