/* SPDX-License-Identifier: ISC */
/*
 * Certificates and keys from PEM, see tls_certificate.h. Runs in the master and
 * in workers. No error text holds anything of a key.
 */
#include "net/tls_certificate.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "keepsock/alloc.h"

/* Names looked at for SNI; authorities allow about a hundred. */
#define NAMES_MAX 1000

/* For keys that are encrypted: we have no password. */
static int no_password(char *out, int size, int writing, void *ctx)
{
	(void)out;
	(void)size;
	(void)writing;
	*(bool *)ctx = true;
	return -1;
}

static BIO *open_pem(const char *pem)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);

	if (!bio)
		abort();
	ERR_clear_error();
	return bio;
}

/* Whether reading stopped because there is no other one; anything else is damage. */
static bool at_end(void)
{
	unsigned long error = ERR_peek_last_error();
	bool end =
		ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;

	ERR_clear_error();
	return end;
}

static const char *read_chain(const char *pem, struct tls_certificate *certificate)
{
	BIO *bio = open_pem(pem);
	const char *problem = NULL;
	X509 *next;

	certificate->leaf = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
	certificate->chain = sk_X509_new_null();
	if (!certificate->leaf)
		problem = "there is no readable certificate (PEM) in %C";
	while (!problem && (next = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
		if (sk_X509_push(certificate->chain, next) <= 0)
			abort();
	if (!problem && !at_end())
		problem = "a certificate after the first in %C can't be read";
	ERR_clear_error();
	BIO_free(bio);
	return problem;
}

static const char *read_key(const char *pem, struct tls_certificate *certificate)
{
	bool encrypted = false;
	BIO *bio = open_pem(pem);

	certificate->key = PEM_read_bio_PrivateKey(bio, NULL, no_password, &encrypted);
	BIO_free(bio);
	ERR_clear_error();
	if (certificate->key)
		return NULL;
	return encrypted ? "%K is encrypted: a key without a password is needed"
			 : "there is no readable private key (PEM) in %K";
}

/* ---- names ---- */

/* Only what can be a host's name: others can't be asked for by SNI. */
static void add_name(struct tls_certificate *certificate, const unsigned char *text, int length)
{
	char *name;

	if (length <= 0 || length > 255 || memchr(text, '\0', (size_t)length) ||
	    certificate->name_count >= NAMES_MAX)
		return;
	name = xstrndup((const char *)text, (size_t)length);
	for (char *p = name; *p; p++) {
		if (*p <= ' ' || *p > '~') {
			free(name);
			return;
		}
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p - 'A' + 'a');
	}
	certificate->names = xrealloc(certificate->names,
				      (certificate->name_count + 1) * sizeof(*certificate->names));
	certificate->names[certificate->name_count++] = name;
}

/* The alternative names; the common name only where there is none (RFC 6125 §6.4.4). */
static void read_names(struct tls_certificate *certificate)
{
	GENERAL_NAMES *names =
		X509_get_ext_d2i(certificate->leaf, NID_subject_alt_name, NULL, NULL);
	X509_NAME *subject = X509_get_subject_name(certificate->leaf);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	bool found = false;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type != GEN_DNS)
			continue;
		found = true;
		add_name(certificate, ASN1_STRING_get0_data(name->d.dNSName),
			 ASN1_STRING_length(name->d.dNSName));
	}
	GENERAL_NAMES_free(names);
	if (!found && at >= 0) {
		const ASN1_STRING *text =
			X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));

		add_name(certificate, ASN1_STRING_get0_data(text), ASN1_STRING_length(text));
	}
}

enum tls_name_match tls_certificate_match(const struct tls_certificate *certificate,
					  const char *host)
{
	const char *dot = strchr(host, '.');
	enum tls_name_match best = TLS_NAME_OTHER;

	for (size_t i = 0; i < certificate->name_count; i++) {
		const char *name = certificate->names[i];

		if (strcasecmp(name, host) == 0)
			return TLS_NAME_EXACT;
		/* "*" stands for the whole first label and for no more (RFC 6125 §6.4.3). */
		if (dot && dot > host && name[0] == '*' && strcasecmp(name + 1, dot) == 0)
			best = TLS_NAME_WILDCARD;
	}
	return best;
}

/* ---- what is told about it ---- */

static void copy_name(const X509_NAME *name, char *out, size_t size)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int length = 0;

	if (bio && X509_NAME_print_ex(bio, name, 0,
				      XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) >= 0)
		length = BIO_read(bio, out, (int)size - 1);
	out[length > 0 ? length : 0] = '\0';
	BIO_free(bio);
}

static int64_t seconds_of(const ASN1_TIME *time)
{
	ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
	int days = 0, seconds = 0;
	bool ok = epoch && ASN1_TIME_diff(&days, &seconds, epoch, time) == 1;

	ASN1_TIME_free(epoch);
	return ok ? (int64_t)days * 86400 + seconds : 0;
}

static void describe_key(EVP_PKEY *key, char *out, size_t size)
{
	char group[24];
	size_t length;

	if (EVP_PKEY_is_a(key, "EC") &&
	    EVP_PKEY_get_group_name(key, group, sizeof(group), &length) == 1)
		snprintf(out, size, "EC %s", group);
	else
		snprintf(out, size, "%.16s %d", EVP_PKEY_get0_type_name(key),
			 EVP_PKEY_get_bits(key));
}

static void describe(struct tls_certificate *certificate)
{
	struct tls_certificate_info *info = &certificate->info;
	BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate->leaf), NULL);
	char *text = serial ? BN_bn2hex(serial) : NULL;

	copy_name(X509_get_subject_name(certificate->leaf), info->subject, sizeof(info->subject));
	copy_name(X509_get_issuer_name(certificate->leaf), info->issuer, sizeof(info->issuer));
	snprintf(info->serial, sizeof(info->serial), "%s", text ? text : "");
	describe_key(certificate->key, info->key, sizeof(info->key));
	info->names = (const char *const *)certificate->names;
	info->name_count = certificate->name_count;
	info->not_before = seconds_of(X509_get0_notBefore(certificate->leaf));
	info->not_after = seconds_of(X509_get0_notAfter(certificate->leaf));
	for (int i = 0; i < sk_X509_num(certificate->chain); i++) {
		int64_t end = seconds_of(X509_get0_notAfter(sk_X509_value(certificate->chain, i)));

		if (end < info->not_after)
			info->not_after = end;
	}
	(void)X509_digest(certificate->leaf, EVP_sha256(), info->fingerprint, NULL);
	OPENSSL_free(text);
	BN_free(serial);
}

const char *tls_certificate_read(const struct tls_identity *identity,
				 struct tls_certificate *certificate)
{
	const char *problem;

	memset(certificate, 0, sizeof(*certificate));
	problem = read_chain(identity->chain, certificate);
	if (!problem)
		problem = read_key(identity->key, certificate);
	if (!problem && X509_check_private_key(certificate->leaf, certificate->key) != 1)
		problem = "%K is not the key of the first certificate in %C";
	ERR_clear_error();
	if (problem)
		return problem;
	read_names(certificate);
	describe(certificate);
	ERR_clear_error();
	return NULL;
}

void tls_certificate_free(struct tls_certificate *certificate)
{
	X509_free(certificate->leaf);
	EVP_PKEY_free(certificate->key);
	sk_X509_pop_free(certificate->chain, X509_free);
	for (size_t i = 0; i < certificate->name_count; i++)
		free(certificate->names[i]);
	free(certificate->names);
	memset(certificate, 0, sizeof(*certificate));
}

/* ---- of clients ---- */

int tls_certificate_add_authorities(X509_STORE *store, STACK_OF(X509_NAME) * names, const char *pem)
{
	BIO *bio = open_pem(pem);
	X509 *authority;
	int count = 0;

	while ((authority = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL))) {
		X509_NAME *name = X509_NAME_dup(X509_get_subject_name(authority));

		if (!name || X509_STORE_add_cert(store, authority) != 1 ||
		    sk_X509_NAME_push(names, name) <= 0)
			abort();
		X509_free(authority);
		count++;
	}
	BIO_free(bio);
	return at_end() ? count : -1;
}

int tls_certificate_add_revocations(X509_STORE *store, const char *pem)
{
	BIO *bio = open_pem(pem);
	X509_CRL *list;
	int count = 0;

	while ((list = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL))) {
		if (X509_STORE_add_crl(store, list) != 1)
			abort();
		X509_CRL_free(list);
		count++;
	}
	BIO_free(bio);
	return at_end() ? count : -1;
}
