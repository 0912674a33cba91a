/* SPDX-License-Identifier: ISC */
/*
 * The contexts of TLS listeners: which certificate a client gets, what it may
 * offer, who is let in, and sessions that go on where another context of the same
 * secret is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "keepsock/tls_context.h"
#include "net/tls_tickets.h"
#include "settings_text.h"
#include "tls_pair.h"

#define SECRET       "0123456789abcdef0123456789abcdef"
#define OTHER_SECRET "fedcba9876543210fedcba9876543210"
#define ELEMENT      "{ certificate = \"c\"; key = \"k\"; }"

/* ---- what a test works with ---- */

struct made {
	EVP_PKEY *key;
	X509 *certificate;
};

/* Of this name and kind of key ("EC", "RSA"), signed by itself or by an authority. */
static struct made make(const char *name, const char *kind, const struct made *authority)
{
	struct made made;

	made.key = strcmp(kind, "EC") == 0 ? EVP_EC_gen("P-256") : EVP_RSA_gen((unsigned)2048);
	assert_non_null(made.key);
	made.certificate = tls_pair_certificate(made.key, name, false);
	if (authority) {
		X509_set_issuer_name(made.certificate,
				     X509_get_subject_name(authority->certificate));
		assert_true(X509_sign(made.certificate, authority->key, EVP_sha256()) > 0);
	}
	return made;
}

static struct made make_authority(void)
{
	struct made made = make("ca", "EC", NULL);
	X509_EXTENSION *extension =
		X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");

	assert_int_equal(X509_add_ext(made.certificate, extension, -1), 1);
	assert_true(X509_sign(made.certificate, made.key, EVP_sha256()) > 0);
	X509_EXTENSION_free(extension);
	return made;
}

static void drop(struct made *made)
{
	EVP_PKEY_free(made->key);
	X509_free(made->certificate);
}

/* What a BIO holds, as a string on the heap. */
static char *take_text(BIO *bio)
{
	char *data = NULL;
	long length = BIO_get_mem_data(bio, &data);
	char *text = xstrndup(data, (size_t)length);

	BIO_free(bio);
	return text;
}

static char *pem_of(X509 *certificate)
{
	BIO *bio = BIO_new(BIO_s_mem());

	assert_int_equal(PEM_write_bio_X509(bio, certificate), 1);
	return take_text(bio);
}

static char *pem_of_key(EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_mem());

	assert_int_equal(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
	return take_text(bio);
}

static struct tls_material material_of(const struct made *all, size_t count, const char *secrets)
{
	struct tls_material material = {
		.identities = xcalloc(count, sizeof(*material.identities)),
		.identity_count = count,
		.client_ca = xstrdup(""),
		.client_crl = xstrdup(""),
		.ticket_secrets = xstrdup(secrets),
	};

	for (size_t i = 0; i < count; i++) {
		material.identities[i].chain = pem_of(all[i].certificate);
		material.identities[i].key = pem_of_key(all[i].key);
	}
	return material;
}

/* A listener with so many certificates and more in its group tls. */
static void parse_tls(size_t certificates, const char *more, struct settings *s)
{
	struct buffer text = {0};

	buffer_append_str(&text, "listeners = ( { tls: { certificates = ( ");
	for (size_t i = 0; i < certificates; i++)
		buffer_append_str(&text, i > 0 ? ", " ELEMENT : ELEMENT);
	buffer_printf(&text, " ); %s }; } );", more);
	parse(buffer_cstr(&text), s);
	buffer_free(&text);
}

static struct tls_context *create(const struct settings *s, const struct tls_material *material)
{
	struct buffer error = {0};
	struct tls_context *context =
		tls_context_create(&s->listeners[0].tls, material, &error, NULL);

	if (!context)
		fail_msg("refused: %s", buffer_cstr(&error));
	assert_int_equal(error.len, 0);
	buffer_free(&error);
	return context;
}

static struct tls_context *context_of(const struct made *all, size_t count, const char *more,
				      const char *secrets)
{
	struct tls_material material = material_of(all, count, secrets);
	struct settings settings;
	struct tls_context *context;

	parse_tls(count, more, &settings);
	context = create(&settings, &material);
	tls_material_free(&material);
	settings_free(&settings);
	return context;
}

/* The pair's server is this context from now on. */
static void serve(struct tls_pair *pair, const struct tls_context *context)
{
	SSL_CTX_free(pair->server_context);
	pair->server_context = tls_context_ssl(context);
	assert_int_equal(SSL_CTX_up_ref(pair->server_context), 1);
}

static void start(struct tls_pair *pair, const struct tls_context *context)
{
	tls_pair_init(pair);
	serve(pair, context);
}

/* ---- certificates ---- */

/* The common name of the certificate that a client gets who asks for host (NULL: for none). */
static const char *served(struct tls_pair *pair, const char *host)
{
	static char name[256];
	X509 *certificate;

	tls_pair_connect(pair);
	SSL_set_tlsext_host_name(pair->client, host);
	if (tls_pair_shake(pair, 0) != TLS_HANDSHAKE_DONE)
		fail_msg("the handshake failed: %s", tls_handshake_error(pair->handshake));
	certificate = SSL_get1_peer_certificate(pair->client);
	X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name,
				  sizeof(name));
	X509_free(certificate);
	return name;
}

static void test_the_certificate_is_chosen_by_name(void **state)
{
	struct made all[] = {
		make("default.example", "EC", NULL),
		make("*.wild.example", "EC", NULL),
		make("exact.wild.example", "EC", NULL),
		make("Shop.Example", "EC", NULL),
	};
	struct tls_context *context = context_of(all, COUNT(all), "", SECRET);
	struct tls_pair pair;

	(void)state;
	start(&pair, context);
	assert_string_equal(served(&pair, NULL), "default.example");
	assert_string_equal(served(&pair, "default.example"), "default.example");
	assert_string_equal(served(&pair, "unknown.example"), "default.example");
	assert_string_equal(served(&pair, "a.wild.example"), "*.wild.example");
	assert_string_equal(served(&pair, "exact.wild.example"), "exact.wild.example");
	assert_string_equal(served(&pair, "SHOP.example"), "Shop.Example");
	/* "*" is one label, and not none. */
	assert_string_equal(served(&pair, "a.b.wild.example"), "default.example");
	assert_string_equal(served(&pair, "wild.example"), "default.example");
	tls_pair_free(&pair);
	tls_context_free(context);
	for (size_t i = 0; i < COUNT(all); i++)
		drop(&all[i]);
}

/* The kind of key whose certificate a client gets that can do only that one. */
static int served_kind(struct tls_pair *pair, const char *host, const char *signatures)
{
	X509 *certificate;
	int kind;

	assert_int_equal(SSL_CTX_set1_sigalgs_list(pair->client_context, signatures), 1);
	(void)served(pair, host);
	certificate = SSL_get1_peer_certificate(pair->client);
	kind = EVP_PKEY_get_base_id(X509_get0_pubkey(certificate));
	X509_free(certificate);
	return kind;
}

static void test_one_name_may_have_a_certificate_for_each_kind_of_key(void **state)
{
	struct made all[] = {
		make("one.example", "RSA", NULL),
		make("two.example", "EC", NULL),
		make("two.example", "RSA", NULL),
		make("one.example", "EC", NULL),
	};
	struct tls_context *context = context_of(all, COUNT(all), "", SECRET);
	static const char *const hosts[] = {"one.example", "two.example", NULL};
	struct tls_pair pair;

	(void)state;
	start(&pair, context);
	for (size_t i = 0; i < COUNT(hosts); i++) {
		assert_int_equal(served_kind(&pair, hosts[i], "ECDSA+SHA256"), EVP_PKEY_EC);
		assert_string_equal(served(&pair, hosts[i]), hosts[i] ? hosts[i] : "one.example");
		assert_int_equal(served_kind(&pair, hosts[i], "RSA-PSS+SHA256"), EVP_PKEY_RSA);
		assert_string_equal(served(&pair, hosts[i]), hosts[i] ? hosts[i] : "one.example");
	}
	tls_pair_free(&pair);
	tls_context_free(context);
	for (size_t i = 0; i < COUNT(all); i++)
		drop(&all[i]);
}

static void test_what_is_told_about_a_certificate(void **state)
{
	struct made one = make("told.example", "EC", NULL);
	struct tls_context *context = context_of(&one, 1, "", SECRET);
	const struct tls_certificate_info *info;

	(void)state;
	assert_int_equal(tls_context_certificate_count(context), 1);
	info = tls_context_certificate(context, 0);
	assert_string_equal(info->key, "EC prime256v1");
	assert_string_equal(info->serial, "1234");
	assert_non_null(strstr(info->subject, "CN=told.example"));
	assert_int_equal(info->name_count, 1);
	assert_string_equal(info->names[0], "told.example");
	assert_int_equal(info->not_after - info->not_before, 3660);
	tls_context_free(context);
	drop(&one);
}

/* A handshake that has begun ends with the certificate it began with. */
static void test_replacing_leaves_a_running_handshake_alone(void **state)
{
	struct made old = make("old.example", "EC", NULL), new = make("new.example", "EC", NULL);
	struct tls_material material = material_of(&new, 1, SECRET), bad = {0};
	struct tls_context *context = context_of(&old, 1, "", SECRET);
	struct buffer error = {0};
	struct settings settings;
	struct tls_pair pair;

	(void)state;
	parse_tls(1, "", &settings);
	start(&pair, context);
	tls_pair_connect(&pair);
	/* Nobody but the handshake has the old one from here on. */
	SSL_CTX_free(pair.server_context);
	assert_true(tls_context_replace(context, &settings.listeners[0].tls, &material, &error));
	pair.server_context = tls_context_ssl(context);
	assert_int_equal(SSL_CTX_up_ref(pair.server_context), 1);
	assert_int_equal(tls_pair_shake(&pair, 0), TLS_HANDSHAKE_DONE);
	assert_non_null(SSL_get0_peer_certificate(pair.client));
	assert_int_equal(X509_cmp(SSL_get0_peer_certificate(pair.client), old.certificate), 0);
	assert_string_equal(served(&pair, NULL), "new.example");

	bad.client_ca = xstrdup("");
	assert_false(tls_context_replace(context, &settings.listeners[0].tls, &bad, &error));
	assert_true(error.len > 0);
	assert_string_equal(served(&pair, NULL), "new.example");
	buffer_free(&error);
	tls_material_free(&bad);
	tls_material_free(&material);
	settings_free(&settings);
	tls_pair_free(&pair);
	tls_context_free(context);
	drop(&old);
	drop(&new);
}

/* ---- what is offered ---- */

static void test_versions_suites_and_curves(void **state)
{
	struct made one = make("one.example", "EC", NULL);
	struct tls_context *context = context_of(
		&one, 1,
		"min_version = \"1.3\"; cipher_suites = [\"TLS_CHACHA20_POLY1305_SHA256\"]; "
		"curves = [\"P-384\"];",
		SECRET);
	struct tls_pair pair;

	(void)state;
	start(&pair, context);
	(void)served(&pair, NULL);
	assert_string_equal(SSL_get_cipher_name(pair.client), "TLS_CHACHA20_POLY1305_SHA256");
	assert_int_equal(SSL_get_negotiated_group(pair.client), NID_secp384r1);

	assert_int_equal(SSL_CTX_set_max_proto_version(pair.client_context, TLS1_2_VERSION), 1);
	tls_pair_connect(&pair);
	assert_int_equal(tls_pair_shake(&pair, 0), TLS_HANDSHAKE_FAILED);
	assert_int_equal(tls_handshake_failure(pair.handshake), TLS_HANDSHAKE_FAILURE_VERSION);
	tls_pair_free(&pair);
	tls_context_free(context);
	drop(&one);
}

/* Nobody gets anything that the record layer could not go on with. */
static void test_every_suite_that_is_offered_is_aead(void **state)
{
	struct made one = make("one.example", "EC", NULL);
	struct tls_context *context = context_of(&one, 1, "", SECRET);
	STACK_OF(SSL_CIPHER) *offered = SSL_CTX_get_ciphers(tls_context_ssl(context));
	struct tls_pair pair;

	(void)state;
	assert_true(sk_SSL_CIPHER_num(offered) >= 9);
	for (int i = 0; i < sk_SSL_CIPHER_num(offered); i++)
		assert_true(tls_suite_supported(
			SSL_CIPHER_get_protocol_id(sk_SSL_CIPHER_value(offered, i))));
	start(&pair, context);
	assert_int_equal(SSL_CTX_set_max_proto_version(pair.client_context, TLS1_2_VERSION), 1);
	assert_int_equal(SSL_CTX_set_cipher_list(pair.client_context, "ECDHE-ECDSA-AES128-SHA256"),
			 1);
	tls_pair_connect(&pair);
	assert_int_equal(tls_pair_shake(&pair, 0), TLS_HANDSHAKE_FAILED);
	assert_int_equal(tls_handshake_failure(pair.handshake),
			 TLS_HANDSHAKE_FAILURE_NO_SHARED_SUITE);
	tls_pair_free(&pair);
	tls_context_free(context);
	drop(&one);
}

static void test_application_protocols(void **state)
{
	static const unsigned char both[] = "\x02h2\x08http/1.1", other[] = "\x02h2";
	struct made one = make("one.example", "EC", NULL);
	struct tls_context *context = context_of(&one, 1, "", SECRET);
	const unsigned char *chosen;
	struct tls_pair pair;
	unsigned length;

	(void)state;
	start(&pair, context);
	SSL_CTX_set_alpn_protos(pair.client_context, both, sizeof(both) - 1);
	(void)served(&pair, NULL);
	SSL_get0_alpn_selected(pair.client, &chosen, &length);
	assert_true(slice_is(slice_from((const char *)chosen, length), "http/1.1"));

	SSL_CTX_set_alpn_protos(pair.client_context, other, sizeof(other) - 1);
	tls_pair_connect(&pair);
	assert_int_equal(tls_pair_shake(&pair, 0), TLS_HANDSHAKE_FAILED);
	assert_int_equal(tls_handshake_failure(pair.handshake), TLS_HANDSHAKE_FAILURE_APPLICATION);
	tls_pair_free(&pair);
	tls_context_free(context);
	drop(&one);
}

/* ---- sessions ---- */

/* Keeps the session of a first handshake with this context. */
static void get_session(struct tls_pair *pair, const struct tls_context *context)
{
	struct buffer nothing = {0};

	serve(pair, context);
	SSL_SESSION_free(pair->session);
	pair->session = NULL;
	(void)served(pair, NULL);
	tls_pair_client_read(pair, &nothing);
	pair->session = SSL_get1_session(pair->client);
	buffer_free(&nothing);
}

static bool resumes(struct tls_pair *pair, const struct tls_context *context)
{
	serve(pair, context);
	(void)served(pair, NULL);
	return SSL_session_reused(pair->client);
}

static void check_sessions(int version)
{
	struct made one = make("one.example", "EC", NULL), two = make("two.example", "EC", NULL);
	struct tls_context *first = context_of(&one, 1, "", SECRET "\n");
	/* Another node: other certificates, the same secret. */
	struct tls_context *same = context_of(&two, 1, "", SECRET);
	struct tls_context *later = context_of(&one, 1, "", OTHER_SECRET "\n" SECRET "\n");
	struct tls_context *other = context_of(&one, 1, "", OTHER_SECRET);
	struct tls_context *none = context_of(&one, 1, "ticket_lifetime = 0;", "");
	struct tls_pair pair;

	tls_pair_init(&pair);
	assert_int_equal(SSL_CTX_set_max_proto_version(pair.client_context, version), 1);
	get_session(&pair, first);
	assert_true(resumes(&pair, first));
	assert_true(resumes(&pair, same));
	assert_true(resumes(&pair, later));
	assert_false(resumes(&pair, other));
	assert_false(resumes(&pair, none));
	get_session(&pair, none);
	assert_false(resumes(&pair, first));
	tls_pair_free(&pair);
	tls_context_free(first);
	tls_context_free(same);
	tls_context_free(later);
	tls_context_free(other);
	tls_context_free(none);
	drop(&one);
	drop(&two);
}

static void test_sessions_go_on_where_the_secret_is(void **state)
{
	(void)state;
	check_sessions(TLS1_3_VERSION);
	check_sessions(TLS1_2_VERSION);
}

/* ---- certificates of clients ---- */

static char *revocation_list(const struct made *authority, const struct made *revoked)
{
	X509_CRL *list = X509_CRL_new();
	ASN1_TIME *now = X509_gmtime_adj(NULL, -10), *next = X509_gmtime_adj(NULL, 3600);
	BIO *bio = BIO_new(BIO_s_mem());

	X509_CRL_set_version(list, 1);
	X509_CRL_set_issuer_name(list, X509_get_subject_name(authority->certificate));
	X509_CRL_set1_lastUpdate(list, now);
	X509_CRL_set1_nextUpdate(list, next);
	if (revoked) {
		X509_REVOKED *entry = X509_REVOKED_new();

		X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(revoked->certificate));
		X509_REVOKED_set_revocationDate(entry, now);
		assert_int_equal(X509_CRL_add0_revoked(list, entry), 1);
	}
	assert_true(X509_CRL_sign(list, authority->key, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_bio_X509_CRL(bio, list), 1);
	X509_CRL_free(list);
	ASN1_TIME_free(now);
	ASN1_TIME_free(next);
	return take_text(bio);
}

#define VERIFY "client_ca = \"ca\"; client_verify = "

static struct tls_context *verifier(const struct made *server, const struct made *authority,
				    const char *more, char *crl)
{
	struct tls_material material = material_of(server, 1, SECRET);
	struct settings settings;
	struct tls_context *context;

	free(material.client_ca);
	material.client_ca = pem_of(authority->certificate);
	if (crl) {
		free(material.client_crl);
		material.client_crl = crl;
	}
	parse_tls(1, more, &settings);
	context = create(&settings, &material);
	tls_material_free(&material);
	settings_free(&settings);
	return context;
}

/* Whether a client with this certificate (NULL: none) is let in. */
static bool lets_in(struct tls_pair *pair, const struct tls_context *context,
		    const struct made *client)
{
	enum tls_handshake_state state;

	serve(pair, context);
	SSL_CTX_free(pair->client_context);
	pair->client_context = SSL_CTX_new(TLS_client_method());
	if (client) {
		SSL_CTX_use_certificate(pair->client_context, client->certificate);
		SSL_CTX_use_PrivateKey(pair->client_context, client->key);
	}
	tls_pair_connect(pair);
	state = tls_pair_shake(pair, 0);
	ERR_clear_error();
	if (state == TLS_HANDSHAKE_DONE)
		return true;
	assert_int_equal(state, TLS_HANDSHAKE_FAILED);
	assert_int_equal(tls_handshake_failure(pair->handshake), TLS_HANDSHAKE_FAILURE_CERTIFICATE);
	return false;
}

static void test_clients_certificates(void **state)
{
	struct made server = make("one.example", "EC", NULL), ca = make_authority();
	struct made client = make("client", "EC", &ca), stranger = make("stranger", "EC", NULL);
	struct tls_context *required = verifier(&server, &ca, VERIFY "\"required\";", NULL);
	struct tls_context *optional = verifier(&server, &ca, VERIFY "\"optional\";", NULL);
	struct tls_context *none_revoked =
		verifier(&server, &ca, VERIFY "\"required\"; client_crl = \"crl\";",
			 revocation_list(&ca, NULL));
	struct tls_context *revoked =
		verifier(&server, &ca, VERIFY "\"required\"; client_crl = \"crl\";",
			 revocation_list(&ca, &client));
	struct tls_pair pair;

	(void)state;
	tls_pair_init(&pair);
	assert_true(lets_in(&pair, required, &client));
	assert_false(lets_in(&pair, required, &stranger));
	assert_false(lets_in(&pair, required, NULL));
	assert_true(lets_in(&pair, optional, &client));
	assert_false(lets_in(&pair, optional, &stranger));
	assert_true(lets_in(&pair, optional, NULL));
	assert_true(lets_in(&pair, none_revoked, &client));
	assert_false(lets_in(&pair, revoked, &client));
	tls_pair_free(&pair);
	tls_context_free(required);
	tls_context_free(optional);
	tls_context_free(none_revoked);
	tls_context_free(revoked);
	drop(&server);
	drop(&ca);
	drop(&client);
	drop(&stranger);
}

/* A ticket from before the revocation must not get around it. */
static void test_a_revoked_client_can_not_resume(void **state)
{
	struct made server = make("one.example", "EC", NULL), ca = make_authority();
	struct made client = make("client", "EC", &ca);
	struct tls_context *before = verifier(&server, &ca, VERIFY "\"required\";", NULL);
	struct tls_context *after =
		verifier(&server, &ca, VERIFY "\"required\"; client_crl = \"crl\";",
			 revocation_list(&ca, &client));
	struct tls_pair pair;

	(void)state;
	tls_pair_init(&pair);
	SSL_CTX_use_certificate(pair.client_context, client.certificate);
	SSL_CTX_use_PrivateKey(pair.client_context, client.key);
	get_session(&pair, before);
	assert_true(resumes(&pair, before));
	serve(&pair, after);
	tls_pair_connect(&pair);
	assert_int_equal(tls_pair_shake(&pair, 0), TLS_HANDSHAKE_FAILED);
	tls_pair_free(&pair);
	tls_context_free(before);
	tls_context_free(after);
	drop(&server);
	drop(&ca);
	drop(&client);
}

/* ---- keys of tickets ---- */

#define LIFETIME ((int64_t)3600)
#define NOW      ((int64_t)1700000000 / LIFETIME * LIFETIME)

static void init_tickets(struct tls_tickets *tickets, const char *secrets)
{
	assert_null(tls_tickets_init(tickets, secrets, LIFETIME));
}

static void test_keys_follow_time_and_secret(void **state)
{
	struct tls_tickets here, there, other;
	struct tls_ticket_key key;
	bool fresh;

	(void)state;
	init_tickets(&here, SECRET);
	init_tickets(&there, SECRET "\r\n\n");
	init_tickets(&other, OTHER_SECRET);
	key = *tls_tickets_current(&here, NOW);
	assert_memory_equal(&key, tls_tickets_current(&there, NOW + LIFETIME - 1), sizeof(key));
	assert_memory_not_equal(&key, tls_tickets_current(&there, NOW + LIFETIME), sizeof(key));
	assert_memory_not_equal(&key, tls_tickets_current(&other, NOW), sizeof(key));
	/* Cipher and MAC never share bytes. */
	assert_memory_not_equal(key.cipher, key.mac, sizeof(key.mac));

	assert_non_null(tls_tickets_find(&there, NOW, key.name, &fresh));
	assert_true(fresh);
	assert_memory_equal(tls_tickets_find(&there, NOW + LIFETIME, key.name, &fresh), &key,
			    sizeof(key));
	assert_false(fresh);
	/* Of a clock that is ahead. */
	assert_non_null(tls_tickets_find(&there, NOW - 1, key.name, &fresh));
	assert_false(fresh);
	assert_null(tls_tickets_find(&there, NOW + 2 * LIFETIME, key.name, &fresh));
	assert_null(tls_tickets_find(&there, NOW - LIFETIME - 1, key.name, &fresh));
	assert_null(tls_tickets_find(&other, NOW, key.name, &fresh));
	tls_tickets_wipe(&here);
	tls_tickets_wipe(&there);
	tls_tickets_wipe(&other);
}

static void test_older_secrets_are_still_accepted(void **state)
{
	struct tls_tickets old, both;
	struct tls_ticket_key key;
	bool fresh;

	(void)state;
	init_tickets(&old, SECRET);
	init_tickets(&both, OTHER_SECRET "\n" SECRET "\n");
	key = *tls_tickets_current(&old, NOW);
	assert_memory_not_equal(&key, tls_tickets_current(&both, NOW), sizeof(key));
	assert_memory_equal(tls_tickets_find(&both, NOW, key.name, &fresh), &key, sizeof(key));
	assert_false(fresh);
	tls_tickets_wipe(&old);
	tls_tickets_wipe(&both);
}

static void test_bad_secrets(void **state)
{
	struct tls_tickets tickets;

	(void)state;
	assert_non_null(tls_tickets_init(&tickets, "", LIFETIME));
	assert_non_null(tls_tickets_init(&tickets, "\n  \r\n", LIFETIME));
	assert_non_null(tls_tickets_init(&tickets, "short", LIFETIME));
	assert_non_null(tls_tickets_init(&tickets, SECRET "\nshort", LIFETIME));
	assert_non_null(tls_tickets_init(
		&tickets, SECRET "\n" SECRET "\n" SECRET "\n" SECRET "\n" SECRET "\n", LIFETIME));
	assert_null(tls_tickets_init(&tickets, SECRET "\n" SECRET "\n" SECRET "\n" SECRET "\n",
				     LIFETIME));
	assert_int_equal(tickets.secret_count, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_certificate_is_chosen_by_name),
		cmocka_unit_test(test_one_name_may_have_a_certificate_for_each_kind_of_key),
		cmocka_unit_test(test_what_is_told_about_a_certificate),
		cmocka_unit_test(test_replacing_leaves_a_running_handshake_alone),
		cmocka_unit_test(test_versions_suites_and_curves),
		cmocka_unit_test(test_every_suite_that_is_offered_is_aead),
		cmocka_unit_test(test_application_protocols),
		cmocka_unit_test(test_sessions_go_on_where_the_secret_is),
		cmocka_unit_test(test_clients_certificates),
		cmocka_unit_test(test_a_revoked_client_can_not_resume),
		cmocka_unit_test(test_keys_follow_time_and_secret),
		cmocka_unit_test(test_older_secrets_are_still_accepted),
		cmocka_unit_test(test_bad_secrets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
