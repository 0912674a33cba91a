/* SPDX-License-Identifier: ISC */
/*
 * Versions, suites and curves from the settings into OpenSSL's context, see
 * tls_context_offer.h. A suite that the record layer could not carry on with is
 * never offered.
 */
#include "net/tls_context_offer.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>

#include "keepsock/buffer.h"
#include "keepsock/settings.h"
#include "keepsock/tls_record.h"
#include "net/tls_suite.h"

static const char *const default_suites[] = {
	"TLS_AES_128_GCM_SHA256",       "TLS_AES_256_GCM_SHA384",
	"TLS_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256",
	"ECDHE-RSA-AES128-GCM-SHA256",  "ECDHE-ECDSA-AES256-GCM-SHA384",
	"ECDHE-RSA-AES256-GCM-SHA384",  "ECDHE-ECDSA-CHACHA20-POLY1305",
	"ECDHE-RSA-CHACHA20-POLY1305",
};

static const char *const default_curves[] = {"X25519", "P-256", "P-384"};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int version_of(const char *text)
{
	return strcmp(text, "1.3") == 0 ? TLS1_3_VERSION : TLS1_2_VERSION;
}

static void append_name(struct buffer *list, const char *name)
{
	if (list->len > 0)
		buffer_append_char(list, ':');
	buffer_append_str(list, name);
}

/* Sorts the names by version; false with why. */
static bool sort_suites(const char *const *names, size_t count, struct buffer *old,
			struct buffer *new, struct buffer *why)
{
	for (size_t i = 0; i < count; i++) {
		const struct tls_suite *suite = tls_suite_by_name(names[i]);

		if (!suite) {
			buffer_printf(why,
				      "%s is no AEAD suite with a certificate that OpenSSL names "
				      "so, remove it",
				      names[i]);
			return false;
		}
		append_name(suite->version == TLS_VERSION_1_3 ? new : old, names[i]);
	}
	return true;
}

/* A suite may be known to us and not to this OpenSSL: its lists skip such ones without a word. */
static bool check_suites(SSL_CTX *context, const char *const *names, size_t count,
			 struct buffer *why)
{
	STACK_OF(SSL_CIPHER) *have = SSL_CTX_get_ciphers(context);

	for (size_t i = 0; i < count; i++) {
		bool found = false;

		for (int j = 0; j < sk_SSL_CIPHER_num(have) && !found; j++)
			found = strcmp(SSL_CIPHER_get_name(sk_SSL_CIPHER_value(have, j)),
				       names[i]) == 0;
		if (!found) {
			buffer_printf(why, "this OpenSSL does not offer %s, remove it", names[i]);
			return false;
		}
	}
	return true;
}

/* Every version that is allowed needs a suite. */
static bool apply_suites(SSL_CTX *context, const struct settings_tls *settings, struct buffer *old,
			 struct buffer *new, struct buffer *why)
{
	bool wants_old = version_of(settings->min_version) == TLS1_2_VERSION;
	bool wants_new = version_of(settings->max_version) == TLS1_3_VERSION;

	if ((wants_old && old->len == 0) || (wants_new && new->len == 0)) {
		buffer_printf(why, "there is none of TLS %s, add one or change %s",
			      wants_old && old->len == 0 ? "1.2" : "1.3",
			      wants_old && old->len == 0 ? "min_version" : "max_version");
		return false;
	}
	if ((new->len > 0 || !wants_old) &&
	    SSL_CTX_set_ciphersuites(context, buffer_cstr(new)) != 1) {
		buffer_append_str(why, "OpenSSL refuses those of TLS 1.3");
		return false;
	}
	/* Without any of 1.2 in the list OpenSSL keeps its own, which 1.3 never uses. */
	if (old->len > 0 && SSL_CTX_set_cipher_list(context, buffer_cstr(old)) != 1) {
		buffer_append_str(why, "OpenSSL refuses those of TLS 1.2");
		return false;
	}
	return true;
}

static bool set_suites(SSL_CTX *context, const struct settings_tls *settings, struct buffer *why)
{
	const struct settings_list *list = &settings->cipher_suites;
	const char *const *names = list->count ? (const char *const *)list->items : default_suites;
	size_t count = list->count ? list->count : COUNT(default_suites);
	struct buffer old = {0}, new = {0};
	bool ok = sort_suites(names, count, &old, &new, why) &&
		  apply_suites(context, settings, &old, &new, why) &&
		  check_suites(context, names, count, why);

	buffer_free(&old);
	buffer_free(&new);
	return ok;
}

/* One by one first, so that the wrong one can be named. */
static bool set_curves(SSL_CTX *context, const struct settings_tls *settings, struct buffer *why)
{
	const struct settings_list *list = &settings->curves;
	const char *const *names = list->count ? (const char *const *)list->items : default_curves;
	size_t count = list->count ? list->count : COUNT(default_curves);
	struct buffer all = {0};
	bool ok = true;

	for (size_t i = 0; i < count && ok; i++) {
		ok = !strchr(names[i], ':') && SSL_CTX_set1_groups_list(context, names[i]) == 1;
		if (!ok)
			buffer_printf(why, "OpenSSL knows no group %s, correct or remove it",
				      names[i]);
		append_name(&all, names[i]);
	}
	if (ok && SSL_CTX_set1_groups_list(context, buffer_cstr(&all)) != 1) {
		buffer_append_str(why, "OpenSSL refuses the list: is one in it twice?");
		ok = false;
	}
	buffer_free(&all);
	return ok;
}

bool tls_context_set_offer(SSL_CTX *context, const struct settings_tls *settings,
			   const char **setting, struct buffer *why)
{
	bool ok;

	*setting = "min_version";
	ok = SSL_CTX_set_min_proto_version(context, version_of(settings->min_version)) == 1 &&
	     SSL_CTX_set_max_proto_version(context, version_of(settings->max_version)) == 1 &&
	     SSL_CTX_set_dh_auto(context, 1) == 1;
	if (!ok)
		buffer_append_str(why, "OpenSSL has not these versions");
	if (ok) {
		*setting = "cipher_suites";
		ok = set_suites(context, settings, why);
	}
	if (ok) {
		*setting = "curves";
		ok = set_curves(context, settings, why);
	}
	ERR_clear_error();
	return ok;
}
