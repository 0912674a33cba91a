/* SPDX-License-Identifier: ISC */
/*
 * A TLS echo server by tls_handshake and tls_record alone, for tests with other
 * people's clients. It serves one connection after the other and tells on stdout
 * what happens to them, one event a line. A line of the client's may also be one
 * of these commands, which are echoed after they were done:
 *
 *	update, ask	our KeyUpdate, without and with a request
 *	big N		a line of N bytes ahead of the echo
 *	move		the program executes itself anew, with nothing but the socket,
 *			the state and what was read and not opened
 *	close		close_notify, then the end of our side
 *
 * A KeyUpdate of the client's is answered with the line "keys changed".
 *
 *	tls_echo [-c CERTIFICATE -k KEY]... [-2 SUITES] [-3 SUITES] [-g GROUPS]
 *		[-a CA_OF_CLIENTS] [-r] [-n TICKETS] [-f BYTES]
 *
 * -r: a client certificate is required. -f: how many bytes a read takes at
 * most, so that records are cut anywhere, also where the connection moves.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keepsock/buffer.h"
#include "keepsock/tls_handshake.h"
#include "keepsock/tls_record.h"

struct connection {
	int fd;
	struct tls_state state;
	struct buffer in;   /* read and not opened */
	struct buffer line; /* opened and not served */
	bool ended;
};

static struct tls_ciphers *ciphers;
static char program[4096];
static size_t read_size = 65536;

static __attribute__((noreturn)) void fail(const char *what)
{
	fprintf(stderr, "tls_echo: %s\n", what);
	exit(1);
}

static void write_all(int fd, struct slice bytes)
{
	while (bytes.len > 0) {
		ssize_t n = send(fd, bytes.data, bytes.len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return;
		bytes = slice_from(bytes.data + n, bytes.len - (size_t)n);
	}
}

/* False at the end of the stream. */
static bool read_more(int fd, struct buffer *in)
{
	ssize_t n = recv(fd, buffer_reserve(in, read_size), read_size, 0);

	if (n > 0)
		in->len += (size_t)n;
	return n > 0;
}

/* ---- moving ---- */

static void give_away(const struct connection *c)
{
	int fd = memfd_create("tls_echo", 0);
	char numbers[2][16];
	char *arguments[] = {program, "-m", numbers[0], numbers[1], NULL};

	if (fd < 0 || write(fd, &c->state, sizeof(c->state)) != sizeof(c->state) ||
	    write(fd, &c->line.len, sizeof(c->line.len)) != sizeof(c->line.len) ||
	    write(fd, c->line.data, c->line.len) != (ssize_t)c->line.len ||
	    write(fd, c->in.data, c->in.len) != (ssize_t)c->in.len)
		fail("memfd");
	snprintf(numbers[0], sizeof(numbers[0]), "%d", c->fd);
	snprintf(numbers[1], sizeof(numbers[1]), "%d", fd);
	printf("moving input=%zu\n", c->in.len);
	execv(program, arguments);
	fail("execv");
}

static void take_over(int fd, struct connection *c)
{
	size_t length = 0;
	ssize_t n;

	if (lseek(fd, 0, SEEK_SET) != 0 ||
	    read(fd, &c->state, sizeof(c->state)) != sizeof(c->state) ||
	    read(fd, &length, sizeof(length)) != sizeof(length) ||
	    read(fd, buffer_reserve(&c->line, length + 1), length) != (ssize_t)length)
		fail("what was moved is not there");
	c->line.len = length;
	while ((n = read(fd, buffer_reserve(&c->in, read_size), read_size)) > 0)
		c->in.len += (size_t)n;
	close(fd);
	if (!tls_state_valid(&c->state))
		fail("the state that was moved is none");
	printf("moved input=%zu\n", c->in.len);
}

/* ---- after the handshake ---- */

static void send_sealed(struct connection *c, enum tls_seal result, struct buffer *out)
{
	if (result != TLS_SEALED)
		fail("not sealed");
	write_all(c->fd, buffer_slice(out));
	buffer_reset(out);
}

static void send_big(struct connection *c, size_t length)
{
	struct buffer data = {0}, out = {0};

	memset(buffer_reserve(&data, length), '.', length);
	data.len = length;
	buffer_append_char(&data, '\n');
	send_sealed(c, tls_record_seal(ciphers, &c->state, buffer_slice(&data), &out), &out);
	buffer_free(&data);
	buffer_free(&out);
}

static void serve_line(struct connection *c, struct slice line)
{
	struct slice word = slice_from(line.data, line.len - 1);
	struct buffer out = {0};
	bool move = slice_is(word, "move");

	if (slice_is(word, "update") || slice_is(word, "ask"))
		send_sealed(
			c,
			tls_record_seal_key_update(ciphers, &c->state, slice_is(word, "ask"), &out),
			&out);
	if (word.len > 4 && memcmp(word.data, "big ", 4) == 0)
		send_big(c, strtoul(word.data + 4, NULL, 10));
	send_sealed(c, tls_record_seal(ciphers, &c->state, line, &out), &out);
	if (slice_is(word, "close")) {
		send_sealed(c,
			    tls_record_seal_alert(ciphers, &c->state, TLS_ALERT_CLOSE_NOTIFY, &out),
			    &out);
		shutdown(c->fd, SHUT_WR);
	}
	buffer_free(&out);
	buffer_consume(&c->line, line.len);
	if (move)
		give_away(c);
}

static void serve_lines(struct connection *c)
{
	char *end;

	while (c->line.len > 0 && (end = memchr(c->line.data, '\n', c->line.len)))
		serve_line(c, slice_from(c->line.data, (size_t)(end - c->line.data) + 1));
}

static void on_event(struct connection *c, const struct tls_opened *opened)
{
	struct buffer out = {0};

	switch (opened->event) {
	case TLS_NEED_MORE: return;
	case TLS_DATA: buffer_append_slice(&c->line, opened->plaintext); return;
	case TLS_KEY_UPDATE:
		printf("key_update due=%d\n", (c->state.flags & TLS_KEY_UPDATE_DUE) != 0);
		send_sealed(c, tls_record_seal(ciphers, &c->state, SLICE("keys changed\n"), &out),
			    &out);
		buffer_free(&out);
		return;
	case TLS_IGNORED: puts("ignored"); return;
	case TLS_CLOSE_NOTIFY:
		puts("close_notify");
		if (tls_record_seal_alert(ciphers, &c->state, TLS_ALERT_CLOSE_NOTIFY, &out) ==
		    TLS_SEALED)
			write_all(c->fd, buffer_slice(&out));
		break;
	case TLS_PEER_ALERT: printf("peer_alert alert=%u\n", (unsigned)opened->alert); break;
	case TLS_REFUSED:
		printf("refused why=%s\n", tls_refusal_name(opened->refusal));
		send_sealed(c, tls_record_seal_alert(ciphers, &c->state, opened->alert, &out),
			    &out);
		break;
	}
	buffer_free(&out);
	c->ended = true;
}

/* Everything that is there, record by record; lines are served in between, as they complete. */
static void open_all(struct connection *c)
{
	static uint8_t out[TLS_RECORD_MAX];
	struct tls_opened opened;

	while (!c->ended && c->in.len > 0) {
		if (tls_record_open(ciphers, &c->state, buffer_slice(&c->in), 0, out, &opened) ==
		    TLS_NEED_MORE)
			return;
		buffer_consume(&c->in, opened.consumed);
		on_event(c, &opened);
		serve_lines(c);
	}
}

static void serve(struct connection *c)
{
	serve_lines(c);
	open_all(c);
	while (!c->ended && read_more(c->fd, &c->in))
		open_all(c);
	printf("end truncated=%d\n", (c->state.flags & TLS_CLOSE_NOTIFY_READ) == 0);
	close(c->fd);
	buffer_free(&c->in);
	buffer_free(&c->line);
	tls_state_wipe(&c->state);
}

/* ---- the handshake ---- */

static void tell_peer(const struct tls_peer *peer)
{
	printf("connected version=%s suite=%s resumed=%d alpn=%s sni=%s subject=%s verify=%d\n",
	       tls_version_name(peer->version), tls_suite_name(peer->suite), peer->resumed,
	       peer->alpn, peer->server_name, peer->subject, peer->verify_result);
}

static bool shake(struct tls_handshake *handshake, struct connection *c)
{
	enum tls_handshake_state state = TLS_HANDSHAKE_RUNNING;
	struct buffer bytes = {0}, out = {0};
	struct tls_peer peer;

	while (state == TLS_HANDSHAKE_RUNNING && read_more(c->fd, &bytes)) {
		state = tls_handshake_feed(handshake, buffer_slice(&bytes), &out);
		write_all(c->fd, buffer_slice(&out));
		buffer_reset(&bytes);
		buffer_reset(&out);
	}
	buffer_free(&bytes);
	buffer_free(&out);
	if (state != TLS_HANDSHAKE_DONE ||
	    !tls_handshake_detach(handshake, ciphers, &c->state, &peer)) {
		printf("failed why=%s error=%s\n",
		       tls_handshake_failure_name(tls_handshake_failure(handshake)),
		       tls_handshake_error(handshake));
		return false;
	}
	buffer_append_slice(&c->in, tls_handshake_rest(handshake));
	tell_peer(&peer);
	return true;
}

static int select_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_length,
			   const unsigned char *in, unsigned in_length, void *context)
{
	unsigned char *chosen;
	int result = SSL_select_next_proto(&chosen, out_length, (const uint8_t *)"\x08http/1.1", 9,
					   in, in_length);

	(void)ssl;
	(void)context;
	*out = chosen;
	return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static bool set_option(SSL_CTX *context, int option, const char *value)
{
	switch (option) {
	case 'c': return SSL_CTX_use_certificate_chain_file(context, value) == 1;
	case 'k': return SSL_CTX_use_PrivateKey_file(context, value, SSL_FILETYPE_PEM) == 1;
	case '2': return SSL_CTX_set_cipher_list(context, value) == 1;
	case '3': return SSL_CTX_set_ciphersuites(context, value) == 1;
	case 'g': return SSL_CTX_set1_groups_list(context, value) == 1;
	case 'n': return SSL_CTX_set_num_tickets(context, strtoul(value, NULL, 10)) == 1;
	case 'a':
		SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
		return SSL_CTX_load_verify_locations(context, value, NULL) == 1;
	case 'r':
		SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
				   NULL);
		return true;
	default: return false;
	}
}

static SSL_CTX *make_context(int argc, char **argv)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	int option;

	if (!context || !tls_handshake_prepare_context(context))
		fail("no context");
	/* Some suites are below the usual level. */
	SSL_CTX_set_security_level(context, 0);
	SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
	SSL_CTX_set_session_id_context(context, (const uint8_t *)"tls_echo", 8);
	SSL_CTX_set_dh_auto(context, 1);
	SSL_CTX_set_alpn_select_cb(context, select_protocol, NULL);
	while ((option = getopt(argc, argv, "c:k:2:3:g:a:rn:f:")) != -1) {
		if (option == 'f')
			read_size = strtoul(optarg, NULL, 10);
		else if (!set_option(context, option, optarg))
			fail("an option is wrong");
	}
	return context;
}

static int listen_anywhere(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 16) < 0 || getsockname(fd, (struct sockaddr *)&address, &length) < 0)
		fail(strerror(errno));
	printf("port=%u\n", (unsigned)ntohs(address.sin_port));
	return fd;
}

int main(int argc, char **argv)
{
	const char *error = "";
	ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
	SSL_CTX *context;
	int listener;

	setvbuf(stdout, NULL, _IOLBF, 0);
	ciphers = tls_ciphers_create(&error);
	if (!ciphers || length < 0)
		fail(error);
	if (argc == 4 && strcmp(argv[1], "-m") == 0) {
		struct connection c = {.fd = (int)strtol(argv[2], NULL, 10)};

		take_over((int)strtol(argv[3], NULL, 10), &c);
		serve(&c);
		tls_ciphers_free(ciphers);
		return 0;
	}
	context = make_context(argc, argv);
	listener = listen_anywhere();
	for (;;) {
		struct connection c = {.fd = accept(listener, NULL, NULL)};
		struct tls_handshake *handshake = tls_handshake_create(context);

		if (c.fd < 0 || !handshake)
			fail(strerror(errno));
		if (shake(handshake, &c)) {
			tls_handshake_free(handshake);
			serve(&c);
		} else {
			tls_handshake_free(handshake);
			close(c.fd);
		}
	}
}
