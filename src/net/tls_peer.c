/* SPDX-License-Identifier: ISC */
/*
 * What OpenSSL knows about a peer, copied before its object goes away. Run by
 * workers. Text from a certificate is the peer's: it is taken whole or not at
 * all, because a part of a name is another name.
 */
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "net/tls_detach.h"

/* RFC 4514, UTF-8 as it is. */
#define NAME_FORMAT (XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB)

static void take_text(const void *text, size_t length, char *out, size_t size)
{
	if (length >= size || (length > 0 && memchr(text, 0, length)))
		return;
	if (length > 0)
		memcpy(out, text, length);
	out[length] = 0;
}

static void take_name(const X509_NAME *name, char *out, size_t size)
{
	BIO *text = BIO_new(BIO_s_mem());
	char *data = NULL;
	long length;

	if (text && X509_NAME_print_ex(text, name, 0, NAME_FORMAT) >= 0) {
		length = BIO_get_mem_data(text, &data);
		if (length > 0)
			take_text(data, (size_t)length, out, size);
	}
	BIO_free(text);
}

static void take_string(const ASN1_STRING *string, char *out, size_t size)
{
	unsigned char *text = NULL;
	int length = string ? ASN1_STRING_to_UTF8(&text, string) : -1;

	if (length >= 0)
		take_text(text, (size_t)length, out, size);
	OPENSSL_free(text);
}

static void take_common_name(const X509_NAME *name, char *out, size_t size)
{
	int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);

	if (at >= 0)
		take_string(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)), out, size);
}

static void take_serial(const X509 *certificate, char *out, size_t size)
{
	BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
	char *text = number ? BN_bn2hex(number) : NULL;

	if (text)
		take_text(text, strlen(text), out, size);
	OPENSSL_free(text);
	BN_free(number);
}

static void take_alternative_names(const X509 *certificate, struct tls_peer *peer)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	bool dns = false, email = false, uri = false;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type == GEN_DNS && !dns) {
			dns = true;
			take_string(name->d.dNSName, peer->dns_name, sizeof(peer->dns_name));
		} else if (name->type == GEN_EMAIL && !email) {
			email = true;
			take_string(name->d.rfc822Name, peer->email, sizeof(peer->email));
		} else if (name->type == GEN_URI && !uri) {
			uri = true;
			take_string(name->d.uniformResourceIdentifier, peer->uri,
				    sizeof(peer->uri));
		}
	}
	GENERAL_NAMES_free(names);
}

static int64_t unix_time(const ASN1_TIME *time)
{
	ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
	int days = 0, seconds = 0;
	bool ok = epoch && ASN1_TIME_diff(&days, &seconds, epoch, time) == 1;

	ASN1_TIME_free(epoch);
	return ok ? (int64_t)days * 86400 + seconds : 0;
}

static void capture_certificate(SSL *ssl, struct tls_peer *peer)
{
	X509 *certificate = SSL_get1_peer_certificate(ssl);
	const X509_NAME *subject;
	unsigned length = sizeof(peer->fingerprint);

	if (!certificate)
		return;
	subject = X509_get_subject_name(certificate);
	peer->has_certificate = true;
	peer->verify_result = (int32_t)SSL_get_verify_result(ssl);
	take_name(subject, peer->subject, sizeof(peer->subject));
	take_name(X509_get_issuer_name(certificate), peer->issuer, sizeof(peer->issuer));
	take_common_name(subject, peer->common_name, sizeof(peer->common_name));
	take_serial(certificate, peer->serial, sizeof(peer->serial));
	take_alternative_names(certificate, peer);
	peer->not_after = unix_time(X509_get0_notAfter(certificate));
	if (X509_digest(certificate, EVP_sha256(), peer->fingerprint, &length) != 1)
		memset(peer->fingerprint, 0, sizeof(peer->fingerprint));
	X509_free(certificate);
}

void tls_peer_capture(SSL *ssl, struct tls_peer *peer)
{
	static const char label[] = "EXPORTER-Channel-Binding"; /* RFC 9266 §4.2 */
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	const unsigned char *alpn = NULL;
	unsigned alpn_length = 0;

	memset(peer, 0, sizeof(*peer));
	peer->version = (uint16_t)SSL_version(ssl);
	peer->suite = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl));
	peer->resumed = SSL_session_reused(ssl) == 1;
	SSL_get0_alpn_selected(ssl, &alpn, &alpn_length);
	take_text(alpn, alpn_length, peer->alpn, sizeof(peer->alpn));
	if (name)
		take_text(name, strlen(name), peer->server_name, sizeof(peer->server_name));
	if (SSL_export_keying_material(ssl, peer->binding, sizeof(peer->binding), label,
				       sizeof(label) - 1, NULL, 0, 0) != 1)
		memset(peer->binding, 0, sizeof(peer->binding));
	capture_certificate(ssl, peer);
	ERR_clear_error();
}
