/* SPDX-License-Identifier: ISC */
/*
 * The links, see peers.h. Runs in the supervisor. Whoever connects from outside
 * holds one of a few places for a few seconds until it has proven the secret and
 * said its name; nothing it sends is kept beyond one message.
 */
#include "supervisor/peers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/clock.h"
#include "keepsock/log.h"
#include "keepsock/magic.h"
#include "keepsock/secret.h"
#include "keepsock/settings.h"
#include "keepsock/text_file.h"
#include "supervisor/peer_tls.h"

#define PEERS_MAGIC  UINT32_C(0x53524550) /* "PERS" */
#define PEER_MAGIC   UINT32_C(0x52454550) /* "PEER" */
#define GUEST_MAGIC  UINT32_C(0x54535547) /* "GUST" */
#define GUESTS_MAX   16
#define GUEST_TIME_S 5
#define ERROR_MAX    120
/* Unsent bytes of a peer that does not read: it is as good as gone. */
#define OUTPUT_MAX ((size_t)64 * 1024)

/* Who has connected and not said a name yet. */
struct guest {
	uint32_t magic;
	struct peers *peers;
	struct bufferevent *stream; /* NULL = the place is free */
};

struct peer {
	uint32_t magic;
	struct peers *peers;
	struct settings_peer settings;
	char *place;
	bool dials; /* we connect to it, not it to us */
	struct bufferevent *stream;
	struct event *retry;
	bool connected; /* it has said something over this connection */
	uint64_t heard_ms;
	struct peer_beat beat;
	char error[ERROR_MAX];
};

struct peers {
	uint32_t magic;
	struct event_base *base; /* the owner's, as the next */
	const struct settings *settings;
	struct peers_callbacks callbacks;
	void *ctx;
	struct peer_tls *tls; /* owned, as all below */
	struct evconnlistener *listener;
	struct peer peers[PEERS_MAX];
	size_t count;
	struct guest guests[GUESTS_MAX];
};

static struct timeval of_ms(int64_t ms)
{
	return (struct timeval){(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)};
}

static void close_stream(struct bufferevent **stream)
{
	SSL *ssl = *stream ? bufferevent_openssl_get_ssl(*stream) : NULL;

	/* Without it the other side would wait for a goodbye that no one reads. */
	if (ssl)
		SSL_set_shutdown(ssl, SSL_RECEIVED_SHUTDOWN | SSL_SENT_SHUTDOWN);
	if (*stream)
		bufferevent_free(*stream);
	*stream = NULL;
	ERR_clear_error();
}

/* ---- one peer ---- */

static void lose_peer(struct peer *peer, const char *reason)
{
	struct peers *peers = peer->peers;
	struct timeval pause = of_ms(peers->settings->cluster.lease_renew);
	bool was_connected = peer->connected;

	close_stream(&peer->stream);
	peer->connected = false;
	if (was_connected)
		log_warning("peer_lost node=%s reason=%s", peer->settings.name,
			    log_value_str(reason));
	else if (strcmp(peer->error, reason) != 0)
		log_info("peer_unreachable node=%s place=%s reason=%s", peer->settings.name,
			 peer->place, log_value_str(reason));
	snprintf(peer->error, sizeof(peer->error), "%s", reason);
	if (peer->dials && evtimer_add(peer->retry, &pause) != 0)
		abort(); /* only out of memory */
	if (was_connected)
		peers->callbacks.on_lost(peers->ctx, (size_t)(peer - peers->peers));
}

/* True: another message may be waiting. */
static bool take_beat(struct peer *peer)
{
	struct evbuffer *input = bufferevent_get_input(peer->stream);
	struct peers *peers = peer->peers;
	char name[PEER_NAME_MAX + 1];
	struct peer_beat beat;
	size_t len;
	char *line = evbuffer_readln(input, &len, EVBUFFER_EOL_LF);
	size_t index = (size_t)(peer - peers->peers);
	bool good, first = !peer->connected;

	if (!line) {
		if (evbuffer_get_length(input) >= PEER_MESSAGE_MAX)
			lose_peer(peer, "its message is too long");
		return false;
	}
	good = peer_beat_decode(line, len, name, &beat) && strcmp(name, peer->settings.name) == 0;
	free(line);
	if (!good) {
		lose_peer(peer, "its message makes no sense, or is another node's");
		return false;
	}
	if (first)
		log_info("peer_connected node=%s state=%s epoch=%llu", peer->settings.name,
			 ha_state_name(beat.state), (unsigned long long)beat.epoch);
	peer->connected = true;
	peer->error[0] = '\0';
	peer->heard_ms = clock_boottime_ms();
	peer->beat = beat;
	if (first && !peer->dials)
		peers->callbacks.on_ready(peers->ctx, index);
	peers->callbacks.on_beat(peers->ctx, index);
	return peer->stream != NULL;
}

static void on_peer_read(struct bufferevent *stream, void *ctx)
{
	struct peer *peer = ctx;

	(void)stream;
	MAGIC_CHECK(peer, PEER_MAGIC);
	while (peer->stream && take_beat(peer))
		;
}

static void say_why(struct bufferevent *stream, short what, char reason[ERROR_MAX])
{
	unsigned long error = bufferevent_get_openssl_error(stream);

	if (what & BEV_EVENT_TIMEOUT)
		snprintf(reason, ERROR_MAX, "silence");
	else if ((what & BEV_EVENT_EOF) ||
		 ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		snprintf(reason, ERROR_MAX, "closed by the other side");
	else if (error)
		snprintf(reason, ERROR_MAX, "TLS: %s (is cluster.secret_file the same?)",
			 ERR_reason_error_string(error) ? ERR_reason_error_string(error) : "error");
	else
		snprintf(reason, ERROR_MAX, "%s",
			 evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
}

static void on_peer_event(struct bufferevent *stream, short what, void *ctx)
{
	struct peer *peer = ctx;
	char reason[ERROR_MAX];

	MAGIC_CHECK(peer, PEER_MAGIC);
	if (what & BEV_EVENT_CONNECTED) {
		/* Who dials speaks first: the other side learns the name by it. */
		peer->peers->callbacks.on_ready(peer->peers->ctx,
						(size_t)(peer - peer->peers->peers));
		return;
	}
	say_why(stream, what, reason);
	lose_peer(peer, reason);
}

/* Silence ends it, in either direction; so does the kernel when nothing is confirmed. */
static void set_limits(const struct peers *peers, struct bufferevent *stream)
{
	struct timeval silence = of_ms(4 * peers->settings->cluster.lease_renew);
	unsigned unconfirmed = (unsigned)(4 * peers->settings->cluster.lease_renew);
	int fd = bufferevent_getfd(stream), one = 1;

	bufferevent_set_timeouts(stream, &silence, &silence);
	bufferevent_setwatermark(stream, EV_READ, 0, PEER_MESSAGE_MAX);
	if (fd >= 0 &&
	    (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
	     setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unconfirmed, sizeof(unconfirmed)) != 0))
		log_debug("peer_socket_option error=%s", strerror(errno));
}

static struct bufferevent *new_stream(struct peers *peers, int fd, enum bufferevent_ssl_state state)
{
	SSL *ssl = peer_tls_connection(peers->tls);
	struct bufferevent *stream = ssl ? bufferevent_openssl_socket_new(
						   peers->base, fd, ssl, state,
						   BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS)
					 : NULL;

	if (!stream)
		log_fatal("peer_stream_failed");
	/* An end without a goodbye is an end. */
	bufferevent_openssl_set_allow_dirty_shutdown(stream, 1);
	return stream;
}

static bool place_address(const struct settings_host_port *place, struct sockaddr_storage *out,
			  int *len)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, place->host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(place->port);
		*len = sizeof(*v4);
		return true;
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(place->port);
	*len = sizeof(*v6);
	return inet_pton(AF_INET6, place->host, &v6->sin6_addr) == 1;
}

static void on_retry(evutil_socket_t fd, short what, void *ctx)
{
	struct peer *peer = ctx;
	struct sockaddr_storage address;
	int len;

	(void)fd;
	(void)what;
	MAGIC_CHECK(peer, PEER_MAGIC);
	peer->stream = new_stream(peer->peers, -1, BUFFEREVENT_SSL_CONNECTING);
	bufferevent_setcb(peer->stream, on_peer_read, NULL, on_peer_event, peer);
	if (!place_address(&peer->settings.place, &address, &len) ||
	    bufferevent_socket_connect(peer->stream, (struct sockaddr *)&address, len) < 0) {
		lose_peer(peer, strerror(errno));
		return;
	}
	set_limits(peer->peers, peer->stream);
	if (bufferevent_enable(peer->stream, EV_READ | EV_WRITE) < 0)
		lose_peer(peer, "the stream could not be enabled");
}

/* ---- those who connect to us ---- */

static void on_guest_read(struct bufferevent *stream, void *ctx);

static void on_guest_event(struct bufferevent *stream, short what, void *ctx)
{
	struct guest *guest = ctx;
	char reason[ERROR_MAX];

	MAGIC_CHECK(guest, GUEST_MAGIC);
	if (what & BEV_EVENT_CONNECTED)
		return;
	say_why(stream, what, reason);
	log_info("peer_guest_left reason=%s", log_value_str(reason));
	close_stream(&guest->stream);
}

/* Peers that connect to us; NULL when the name is none of theirs. */
static struct peer *find_guest_peer(struct peers *peers, const char *name)
{
	for (size_t i = 0; i < peers->count; i++) {
		if (!peers->peers[i].dials && strcmp(peers->peers[i].settings.name, name) == 0)
			return &peers->peers[i];
	}
	return NULL;
}

/* The first message tells who it is. It is read again as that peer's. */
static void on_guest_read(struct bufferevent *stream, void *ctx)
{
	struct guest *guest = ctx;
	struct evbuffer *input = bufferevent_get_input(stream);
	struct evbuffer_ptr end = evbuffer_search_eol(input, NULL, NULL, EVBUFFER_EOL_LF);
	size_t len = evbuffer_get_length(input);
	char name[PEER_NAME_MAX + 1];
	struct peer_beat beat;
	struct peer *peer;
	const char *text;

	MAGIC_CHECK(guest, GUEST_MAGIC);
	if (end.pos < 0 && len < PEER_MESSAGE_MAX)
		return;
	text = end.pos < 0 ? NULL : (const char *)evbuffer_pullup(input, end.pos);
	peer = text && peer_beat_decode(text, (size_t)end.pos, name, &beat)
		       ? find_guest_peer(guest->peers, name)
		       : NULL;
	if (!peer) {
		log_warning("peer_guest_refused reason=\"no message, or no name, of a peer\"");
		close_stream(&guest->stream);
		return;
	}
	/* The newest connection is the peer's: it would not have made it beside a good one. */
	if (peer->stream)
		lose_peer(peer, "it has connected again");
	peer->stream = stream;
	guest->stream = NULL;
	bufferevent_setcb(stream, on_peer_read, NULL, on_peer_event, peer);
	set_limits(peer->peers, stream);
	on_peer_read(stream, peer);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
		      int len, void *ctx)
{
	struct timeval limit = {.tv_sec = GUEST_TIME_S};
	struct peers *peers = ctx;
	struct guest *guest = NULL;

	(void)listener;
	(void)address;
	(void)len;
	MAGIC_CHECK(peers, PEERS_MAGIC);
	for (size_t i = 0; i < GUESTS_MAX && !guest; i++)
		guest = peers->guests[i].stream ? NULL : &peers->guests[i];
	if (!guest) {
		log_warning("peer_guests_full");
		evutil_closesocket(fd);
		return;
	}
	guest->stream = new_stream(peers, fd, BUFFEREVENT_SSL_ACCEPTING);
	set_limits(peers, guest->stream);
	bufferevent_set_timeouts(guest->stream, &limit, &limit);
	bufferevent_setcb(guest->stream, on_guest_read, NULL, on_guest_event, guest);
	if (bufferevent_enable(guest->stream, EV_READ | EV_WRITE) < 0)
		close_stream(&guest->stream);
}

static void on_accept_error(struct evconnlistener *listener, void *ctx)
{
	(void)listener;
	(void)ctx;
	/* It goes on listening: descriptors come free again. */
	log_warning("peer_accept_failed error=%s",
		    evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
}

/* ---- from outside ---- */

void peers_send(struct peers *peers, size_t index, const struct peer_beat *beat)
{
	struct peer *peer = &peers->peers[index];
	struct buffer text = {0};

	if (!peer->stream || (!peer->dials && !peer->connected))
		return;
	if (evbuffer_get_length(bufferevent_get_output(peer->stream)) > OUTPUT_MAX)
		return; /* it does not read; the time limit ends it */
	peer_beat_encode(&text, peers->settings->node.name, beat);
	if (bufferevent_write(peer->stream, text.data, text.len) < 0)
		log_error("peer_send_failed node=%s", peer->settings.name);
	buffer_free(&text);
}

size_t peers_count(const struct peers *peers)
{
	return peers ? peers->count : 0;
}

void peers_get_view(const struct peers *peers, size_t index, struct peer_view *view)
{
	const struct peer *peer = &peers->peers[index];

	*view = (struct peer_view){
		.name = peer->settings.name,
		.place = peer->place,
		.connected = peer->connected,
		.heard_ms = peer->heard_ms,
		.beat = peer->beat,
		.error = peer->error,
	};
}

static bool start_listening(struct peers *peers, struct buffer *error)
{
	const char *text = peers->settings->cluster.peer_listen;
	struct settings_host_port place;
	struct sockaddr_storage address;
	const char *problem = settings_address_port_parse(text, &place);
	int len;

	if (problem) {
		buffer_printf(error, "cluster.peer_listen %s", problem);
		return false;
	}
	if (place_address(&place, &address, &len))
		peers->listener = evconnlistener_new_bind(
			peers->base, on_accept, peers,
			LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE,
			GUESTS_MAX, (struct sockaddr *)&address, len);
	free(place.host);
	if (!peers->listener) {
		buffer_printf(error, "cluster.peer_listen: cannot listen on %s: %s", text,
			      strerror(errno));
		return false;
	}
	evconnlistener_set_error_cb(peers->listener, on_accept_error);
	return true;
}

static bool add_peer(struct peers *peers, const char *text, struct buffer *error)
{
	struct timeval at_once = {0, 0};
	struct peer *peer = &peers->peers[peers->count];
	const char *problem = settings_peer_parse(text, &peer->settings);

	if (problem) {
		buffer_printf(error, "cluster.peers %s", problem);
		return false;
	}
	peers->count++;
	peer->magic = PEER_MAGIC;
	peer->peers = peers;
	peer->place = xasprintf("%s:%u", peer->settings.place.host, peer->settings.place.port);
	peer->dials = strcmp(peers->settings->node.name, peer->settings.name) < 0;
	peer->retry = evtimer_new(peers->base, on_retry, peer);
	if (!peer->retry || (peer->dials && evtimer_add(peer->retry, &at_once) != 0))
		abort(); /* only out of memory */
	return true;
}

static bool make_tls(struct peers *peers, struct buffer *error)
{
	char *secret = text_file_read_secret(peers->settings->cluster.secret_file, error);

	if (!secret)
		return false;
	peers->tls = peer_tls_create(secret, error);
	secret_wipe(secret, strlen(secret));
	free(secret);
	return peers->tls != NULL;
}

struct peers *peers_create(struct event_base *base, const struct settings *settings,
			   const struct peers_callbacks *callbacks, void *ctx, struct buffer *error)
{
	struct peers *peers = xcalloc(1, sizeof(*peers));
	const struct settings_list *list = &settings->cluster.peers;

	peers->magic = PEERS_MAGIC;
	peers->base = base;
	peers->settings = settings;
	peers->callbacks = *callbacks;
	peers->ctx = ctx;
	for (size_t i = 0; i < GUESTS_MAX; i++)
		peers->guests[i] = (struct guest){GUEST_MAGIC, peers, NULL};
	if (list->count == 0)
		return peers;
	if (make_tls(peers, error) && start_listening(peers, error)) {
		size_t i = 0;

		while (i < list->count && add_peer(peers, list->items[i], error))
			i++;
		if (i == list->count)
			return peers;
	}
	peers_free(peers);
	return NULL;
}

void peers_free(struct peers *peers)
{
	if (!peers)
		return;
	MAGIC_CHECK(peers, PEERS_MAGIC);
	for (size_t i = 0; i < peers->count; i++) {
		close_stream(&peers->peers[i].stream);
		event_free(peers->peers[i].retry);
		free(peers->peers[i].place);
		settings_peer_free(&peers->peers[i].settings);
	}
	for (size_t i = 0; i < GUESTS_MAX; i++)
		close_stream(&peers->guests[i].stream);
	if (peers->listener)
		evconnlistener_free(peers->listener);
	peer_tls_free(peers->tls);
	peers->magic = 0;
	free(peers);
}
