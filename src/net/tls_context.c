/* SPDX-License-Identifier: ISC */
/*
 * The contexts of TLS listeners, see tls_context.h. Everything that a handshake
 * needs hangs on OpenSSL's context, which lives as long as the last handshake
 * that began with it. Runs in workers, and in the master as a check.
 */
#include "keepsock/tls_context.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/buffer.h"
#include "keepsock/magic.h"
#include "keepsock/secret.h"
#include "keepsock/settings.h"
#include "keepsock/tls_handshake.h"
#include "net/tls_certificate.h"
#include "net/tls_context_offer.h"
#include "net/tls_tickets.h"

#define CONTEXT_MAGIC UINT32_C(0x544c5343) /* "TLSC" */
#define PARTS_MAGIC   UINT32_C(0x544c5350) /* "TLSP" */

/* What the callbacks need; owned by the SSL_CTX. */
struct tls_parts {
	uint32_t magic;
	struct tls_certificate *certificates; /* owned */
	size_t count;
	struct tls_tickets tickets;
};

struct tls_context {
	uint32_t magic;
	SSL_CTX *ssl; /* owned */
};

/* ---- material ---- */

static void free_secret(char *text)
{
	if (text)
		secret_wipe(text, strlen(text));
	free(text);
}

void tls_material_free(struct tls_material *material)
{
	for (size_t i = 0; i < material->identity_count; i++) {
		free(material->identities[i].chain);
		free_secret(material->identities[i].key);
	}
	free(material->identities);
	free(material->client_ca);
	free(material->client_crl);
	free_secret(material->ticket_secrets);
	memset(material, 0, sizeof(*material));
}

static bool texts_equal(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

bool tls_material_equal(const struct tls_material *a, const struct tls_material *b)
{
	if (a->identity_count != b->identity_count)
		return false;
	for (size_t i = 0; i < a->identity_count; i++) {
		if (!texts_equal(a->identities[i].chain, b->identities[i].chain) ||
		    !texts_equal(a->identities[i].key, b->identities[i].key))
			return false;
	}
	return texts_equal(a->client_ca, b->client_ca) &&
	       texts_equal(a->client_crl, b->client_crl) &&
	       texts_equal(a->ticket_secrets, b->ticket_secrets);
}

/* ---- the parts, and OpenSSL's way to them ---- */

static int parts_index = -1;
static CRYPTO_ONCE index_once = CRYPTO_ONCE_STATIC_INIT;

static void on_context_gone(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index,
			    long argument, void *context)
{
	struct tls_parts *parts = pointer;

	(void)parent;
	(void)data;
	(void)index;
	(void)argument;
	(void)context;
	if (!parts)
		return;
	MAGIC_CHECK(parts, PARTS_MAGIC);
	for (size_t i = 0; i < parts->count; i++)
		tls_certificate_free(&parts->certificates[i]);
	free(parts->certificates);
	tls_tickets_wipe(&parts->tickets);
	free(parts);
}

static void make_index(void)
{
	parts_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, on_context_gone);
}

static struct tls_parts *parts_of(const SSL_CTX *context)
{
	struct tls_parts *parts = SSL_CTX_get_ex_data(context, parts_index);

	MAGIC_CHECK(parts, PARTS_MAGIC);
	return parts;
}

/* ---- callbacks of handshakes ---- */

/* How well it fits; without a name, or with an unknown one, the first certificate is what there is.
 */
static enum tls_name_match match(const struct tls_parts *parts, size_t index, const char *host)
{
	enum tls_name_match best = TLS_NAME_OTHER;

	if (host)
		return tls_certificate_match(&parts->certificates[index], host);
	if (index == 0)
		return TLS_NAME_EXACT;
	/* One of another kind of key for the same host. */
	for (size_t i = 0; i < parts->certificates[0].name_count && best == TLS_NAME_OTHER; i++)
		best = tls_certificate_match(&parts->certificates[index],
					     parts->certificates[0].names[i]);
	return best;
}

static bool any_matches(const struct tls_parts *parts, const char *host)
{
	for (size_t i = 0; i < parts->count; i++)
		if (match(parts, i, host) != TLS_NAME_OTHER)
			return true;
	return false;
}

static bool use(SSL *ssl, const struct tls_certificate *certificate)
{
	return SSL_use_cert_and_key(ssl, certificate->leaf, certificate->key, certificate->chain,
				    1) == 1;
}

/*
 * Chooses the certificates by the name the client asked for. Of several for it,
 * those that name it exactly come before wildcards, earlier ones before later
 * ones; there may be one for each kind of key, and OpenSSL takes the one that the
 * client understands. Later calls replace earlier ones of the same kind.
 */
static int on_certificate(SSL *ssl, void *argument)
{
	static const enum tls_name_match order[] = {TLS_NAME_WILDCARD, TLS_NAME_EXACT};
	const struct tls_parts *parts = parts_of(SSL_get_SSL_CTX(ssl));
	const char *host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

	(void)argument;
	if (host && !any_matches(parts, host))
		host = NULL;
	SSL_certs_clear(ssl);
	for (size_t pass = 0; pass < sizeof(order) / sizeof(order[0]); pass++)
		for (size_t i = parts->count; i-- > 0;)
			if (match(parts, i, host) == order[pass] &&
			    !use(ssl, &parts->certificates[i]))
				return 0;
	return 1;
}

/* Without it the client is not told that its name was understood. */
static int on_server_name(SSL *ssl, int *alert, void *argument)
{
	(void)alert;
	(void)argument;
	return SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) ? SSL_TLSEXT_ERR_OK
								  : SSL_TLSEXT_ERR_NOACK;
}

/* A client that insists on something else than HTTP/1.1 is told so (RFC 7301 §3.2). */
static int on_protocols(SSL *ssl, const unsigned char **out, unsigned char *out_length,
			const unsigned char *in, unsigned in_length, void *argument)
{
	static const unsigned char ours[] = "\x08http/1.1";

	(void)ssl;
	(void)argument;
	if (SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_length, ours,
				  sizeof(ours) - 1, in, in_length) == OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_OK;
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
		     EVP_MAC_CTX *mac, int encrypt)
{
	return tls_tickets_serve(&parts_of(SSL_get_SSL_CTX(ssl))->tickets, name, iv, cipher, mac,
				 encrypt);
}

/* ---- making one ---- */

struct making {
	const struct settings_tls *settings;
	const struct tls_material *material;
	SSL_CTX *ssl;
	struct buffer *error;
	int *line; /* may be NULL */
};

/* Appends text, with %C and %K as names of files; always false. */
static bool fail(struct making *m, int line, const char *what, const char *text,
		 const struct settings_certificate *certificate)
{
	buffer_printf(m->error, "tls.%s: ", what);
	for (; *text; text++) {
		if (certificate && text[0] == '%' && (text[1] == 'C' || text[1] == 'K'))
			buffer_append_str(m->error, *++text == 'C' ? certificate->certificate
								   : certificate->key);
		else
			buffer_append_char(m->error, *text);
	}
	if (m->line)
		*m->line = line;
	return false;
}

/* What OpenSSL has against it. */
static const char *openssl_reason(void)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	ERR_clear_error();
	return reason ? reason : "OpenSSL refuses";
}

static bool add_certificate(struct making *m, struct tls_parts *parts, size_t index)
{
	const struct settings_certificate *names = &m->settings->certificates[index];
	struct tls_certificate *certificate = &parts->certificates[parts->count++];
	const char *problem = tls_certificate_read(&m->material->identities[index], certificate);
	char what[48];

	snprintf(what, sizeof(what), "certificates[%zu]", index);
	if (problem)
		return fail(m, names->line, what, problem, names);
	/* For each handshake that is done again; here it says whether it can be. */
	if (SSL_CTX_use_cert_and_key(m->ssl, certificate->leaf, certificate->key,
				     certificate->chain, 1) == 1)
		return true;
	fail(m, names->line, what, "%C can't be used: ", names);
	buffer_append_str(m->error, openssl_reason());
	return false;
}

static bool add_certificates(struct making *m, struct tls_parts *parts)
{
	if (m->material->identity_count != m->settings->certificate_count)
		return fail(m, m->settings->line, "certificates", "not all of them were read",
			    NULL);
	parts->certificates = xcalloc(m->settings->certificate_count, sizeof(*parts->certificates));
	for (size_t i = 0; i < m->settings->certificate_count; i++)
		if (!add_certificate(m, parts, i))
			return false;
	SSL_CTX_set_cert_cb(m->ssl, on_certificate, NULL);
	SSL_CTX_set_tlsext_servername_callback(m->ssl, on_server_name);
	return true;
}

static bool read_client_ca(struct making *m)
{
	X509_STORE *store = SSL_CTX_get_cert_store(m->ssl);
	STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
	int count;

	if (!names)
		abort();
	count = tls_certificate_add_authorities(store, names, m->material->client_ca);
	SSL_CTX_set_client_CA_list(m->ssl, names); /* takes them over */
	if (count <= 0)
		return fail(m, m->settings->line, "client_ca",
			    count < 0 ? "it holds something that can't be read"
				      : "there is no readable certificate (PEM) in it",
			    NULL);
	if (!*m->settings->client_crl)
		return true;
	count = tls_certificate_add_revocations(store, m->material->client_crl);
	if (count <= 0)
		return fail(m, m->settings->line, "client_crl",
			    count < 0 ? "it holds something that can't be read"
				      : "there is no readable revocation list (PEM) in it",
			    NULL);
	X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	return true;
}

/*
 * Sessions that were made under other rules for clients are no good here: a
 * revoked certificate must not go on by its tickets.
 */
static bool set_session_scope(struct making *m)
{
	const char *parts[] = {m->settings->client_verify, m->material->client_ca,
			       m->material->client_crl};
	uint8_t digest[EVP_MAX_MD_SIZE];
	struct buffer text = {0};
	unsigned length = 0;
	bool ok;

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		buffer_append(&text, parts[i], strlen(parts[i]) + 1);
	ok = EVP_Digest(text.data, text.len, digest, &length, EVP_sha256(), NULL) == 1 &&
	     SSL_CTX_set_session_id_context(m->ssl, digest, SSL_MAX_SID_CTX_LENGTH) == 1;
	buffer_free(&text);
	return ok || fail(m, m->settings->line, "client_verify", openssl_reason(), NULL);
}

static bool set_clients(struct making *m)
{
	int mode = SSL_VERIFY_NONE;

	if (strcmp(m->settings->client_verify, "off") != 0) {
		mode = SSL_VERIFY_PEER;
		if (strcmp(m->settings->client_verify, "required") == 0)
			mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
		if (!read_client_ca(m))
			return false;
	}
	SSL_CTX_set_verify(m->ssl, mode, NULL);
	return set_session_scope(m);
}

static bool set_tickets(struct making *m, struct tls_parts *parts)
{
	int64_t lifetime = (m->settings->ticket_lifetime + 999) / 1000;
	const char *problem;

	if (lifetime == 0) {
		SSL_CTX_set_options(m->ssl, SSL_OP_NO_TICKET);
		return SSL_CTX_set_num_tickets(m->ssl, 0) == 1;
	}
	problem = tls_tickets_init(&parts->tickets, m->material->ticket_secrets, lifetime);
	if (problem)
		return fail(m, m->settings->line, "ticket_secret_file", problem, NULL);
	SSL_CTX_set_timeout(m->ssl, (long)lifetime);
	if (SSL_CTX_set_tlsext_ticket_key_evp_cb(m->ssl, on_ticket) == 1 &&
	    SSL_CTX_set_num_tickets(m->ssl, 1) == 1)
		return true;
	return fail(m, m->settings->line, "ticket_lifetime", openssl_reason(), NULL);
}

static bool set_offer(struct making *m)
{
	const char *what = NULL;
	struct buffer why = {0};
	bool ok = tls_context_set_offer(m->ssl, m->settings, &what, &why);

	if (!ok)
		fail(m, m->settings->line, what, buffer_cstr(&why), NULL);
	buffer_free(&why);
	return ok;
}

static SSL_CTX *make(struct making *m)
{
	struct tls_parts *parts;

	(void)CRYPTO_THREAD_run_once(&index_once, make_index);
	ERR_clear_error();
	m->ssl = SSL_CTX_new(TLS_server_method());
	if (!m->ssl)
		abort();
	parts = xcalloc(1, sizeof(*parts));
	parts->magic = PARTS_MAGIC;
	if (SSL_CTX_set_ex_data(m->ssl, parts_index, parts) != 1 ||
	    !tls_handshake_prepare_context(m->ssl))
		abort();
	SSL_CTX_set_options(m->ssl, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_alpn_select_cb(m->ssl, on_protocols, NULL);
	if (set_offer(m) && add_certificates(m, parts) && set_clients(m) && set_tickets(m, parts))
		return m->ssl;
	SSL_CTX_free(m->ssl);
	ERR_clear_error();
	return NULL;
}

struct tls_context *tls_context_create(const struct settings_tls *settings,
				       const struct tls_material *material, struct buffer *error,
				       int *line)
{
	struct making m = {
		.settings = settings, .material = material, .error = error, .line = line};
	SSL_CTX *made = make(&m);
	struct tls_context *context;

	if (!made)
		return NULL;
	context = xcalloc(1, sizeof(*context));
	context->magic = CONTEXT_MAGIC;
	context->ssl = made;
	return context;
}

void tls_context_free(struct tls_context *context)
{
	if (!context)
		return;
	MAGIC_CHECK(context, CONTEXT_MAGIC);
	SSL_CTX_free(context->ssl);
	context->magic = 0;
	free(context);
}

bool tls_context_replace(struct tls_context *context, const struct settings_tls *settings,
			 const struct tls_material *material, struct buffer *error)
{
	struct making m = {.settings = settings, .material = material, .error = error};
	SSL_CTX *made = make(&m);

	if (!made)
		return false;
	SSL_CTX_free(context->ssl);
	context->ssl = made;
	return true;
}

SSL_CTX *tls_context_ssl(const struct tls_context *context)
{
	return context->ssl;
}

size_t tls_context_certificate_count(const struct tls_context *context)
{
	return parts_of(context->ssl)->count;
}

const struct tls_certificate_info *tls_context_certificate(const struct tls_context *context,
							   size_t index)
{
	return &parts_of(context->ssl)->certificates[index].info;
}
