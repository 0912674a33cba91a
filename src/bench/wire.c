/* SPDX-License-Identifier: ISC */
/*
 * TLS for keepsock-bench, see wire.h. Buffers are given back while nothing is
 * under way, so that tens of thousands of idle connections stay affordable.
 */
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>

struct ssl_ctx_st *wire_context(const char *ciphersuites, struct buffer *error)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	if (!context) {
		buffer_printf(error, "no TLS: %s", wire_error());
		return NULL;
	}
	SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
					  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* One recv() for what is there, instead of two a record. */
	SSL_CTX_set_read_ahead(context, 1);
	if (ciphersuites && (SSL_CTX_set_ciphersuites(context, ciphersuites) != 1 ||
			     SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1)) {
		buffer_printf(error, "--ciphersuites %s: %s", ciphersuites, wire_error());
		SSL_CTX_free(context);
		return NULL;
	}
	return context;
}

void wire_context_free(struct ssl_ctx_st *context)
{
	SSL_CTX_free(context);
}

static bool is_address(const char *host)
{
	struct in6_addr address;

	return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
}

bool wire_secure(struct wire *wire, struct ssl_ctx_st *context, int fd, const char *host)
{
	wire->tls = SSL_new(context);
	if (!wire->tls || SSL_set_fd(wire->tls, fd) != 1 ||
	    (!is_address(host) && SSL_set_tlsext_host_name(wire->tls, host) != 1))
		return false;
	SSL_set_connect_state(wire->tls);
	return true;
}

enum wire_handshake wire_shake_hands(struct wire *wire)
{
	int result;

	ERR_clear_error();
	result = SSL_do_handshake(wire->tls);
	if (result == 1)
		return WIRE_DONE;
	switch (SSL_get_error(wire->tls, result)) {
	case SSL_ERROR_WANT_READ: return WIRE_WANTS_READ;
	case SSL_ERROR_WANT_WRITE: return WIRE_WANTS_WRITE;
	default: return WIRE_FAILED;
	}
}

/* What a call that did not succeed means, in recv()'s words. */
static ssize_t as_errno(struct wire *wire, int result)
{
	switch (SSL_get_error(wire->tls, result)) {
	case SSL_ERROR_ZERO_RETURN: return 0;
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE: errno = EAGAIN; return -1;
	case SSL_ERROR_SYSCALL:
		if (errno != 0)
			return -1;
		/* fall through */
	default: errno = EPROTO; return -1;
	}
}

ssize_t wire_read(struct wire *wire, int fd, void *data, size_t size)
{
	size_t got;
	int result;

	if (!wire->tls)
		return recv(fd, data, size, 0);
	ERR_clear_error();
	errno = 0;
	result = SSL_read_ex(wire->tls, data, size, &got);
	return result == 1 ? (ssize_t)got : as_errno(wire, result);
}

ssize_t wire_send(struct wire *wire, int fd, const void *data, size_t length)
{
	size_t sent = 0, more;
	ssize_t failed;
	int result;

	if (!wire->tls)
		return send(fd, data, length, MSG_NOSIGNAL);
	while (sent < length) {
		ERR_clear_error();
		errno = 0;
		result = SSL_write_ex(wire->tls, (const char *)data + sent, length - sent, &more);
		if (result != 1) {
			failed = as_errno(wire, result);
			return sent > 0 && failed < 0 && errno == EAGAIN ? (ssize_t)sent : failed;
		}
		sent += more;
	}
	return (ssize_t)sent;
}

bool wire_has_more(const struct wire *wire)
{
	return wire->tls && SSL_has_pending(wire->tls) == 1;
}

void wire_end(struct wire *wire)
{
	if (wire->tls && SSL_is_init_finished(wire->tls))
		(void)SSL_shutdown(wire->tls);
	SSL_free(wire->tls);
	wire->tls = NULL;
	ERR_clear_error();
}

const char *wire_error(void)
{
	const char *reason = ERR_reason_error_string(ERR_peek_error());

	return reason ? reason : "the connection was closed";
}
