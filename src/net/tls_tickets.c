/* SPDX-License-Identifier: ISC */
/*
 * Session tickets' keys, see tls_tickets.h. Runs in workers.
 */
#include "net/tls_tickets.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <string.h>
#include <time.h>

#include "keepsock/secret.h"

#define TICKET_CIPHER EVP_aes_256_cbc()

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* NULL, or what is wrong with this line, which is not empty. */
static const char *add_secret(struct tls_tickets *tickets, const char *line, size_t length)
{
	if (tickets->secret_count == TLS_TICKET_SECRETS_MAX)
		return "holds more than 4 secrets";
	if (length < TLS_TICKET_SECRET_MIN)
		return "must have 32 or more characters in each line";
	if (EVP_Digest(line, length, tickets->secrets[tickets->secret_count], NULL, EVP_sha256(),
		       NULL) != 1)
		return "can't be used: OpenSSL has no SHA-256";
	tickets->secret_count++;
	return NULL;
}

const char *tls_tickets_init(struct tls_tickets *tickets, const char *secrets, int64_t lifetime)
{
	const char *problem = NULL;

	memset(tickets, 0, sizeof(*tickets));
	tickets->lifetime = lifetime;
	while (*secrets && !problem) {
		size_t length = strcspn(secrets, "\n"), next = length + (secrets[length] != '\0');

		while (length > 0 && is_space(secrets[length - 1]))
			length--;
		if (length > 0)
			problem = add_secret(tickets, secrets, length);
		secrets += next;
	}
	if (!problem && tickets->secret_count == 0)
		problem = "holds no secret";
	return problem;
}

void tls_tickets_wipe(struct tls_tickets *tickets)
{
	secret_wipe(tickets, sizeof(*tickets));
}

/* ---- keys ---- */

static bool expand(const uint8_t secret[32], int64_t lifetime, int64_t period, uint8_t what,
		   uint8_t *out, size_t size)
{
	uint8_t info[40] = "keepsock session ticket", block[EVP_MAX_MD_SIZE];
	unsigned length = 0;
	bool ok;

	for (unsigned i = 0; i < 8; i++)
		info[24 + i] = (uint8_t)((uint64_t)period >> (56 - 8 * i));
	for (unsigned i = 0; i < 7; i++)
		info[32 + i] = (uint8_t)((uint64_t)lifetime >> (48 - 8 * i));
	info[39] = what;
	ok = HMAC(EVP_sha256(), secret, 32, info, sizeof(info), block, &length) && length >= size;
	if (ok)
		memcpy(out, block, size);
	secret_wipe(block, sizeof(block));
	return ok;
}

static bool derive(const struct tls_tickets *tickets, unsigned secret, int64_t period,
		   struct tls_ticket_key *key)
{
	const uint8_t *from = tickets->secrets[secret];

	return expand(from, tickets->lifetime, period, 1, key->name, sizeof(key->name)) &&
	       expand(from, tickets->lifetime, period, 2, key->cipher, sizeof(key->cipher)) &&
	       expand(from, tickets->lifetime, period, 3, key->mac, sizeof(key->mac));
}

/* All keys that count now; periods[0] is the present. */
static bool refresh(struct tls_tickets *tickets, int64_t now)
{
	static const int64_t offsets[TLS_TICKET_PERIODS] = {0, -1, 1};
	/* One is added: 0 says that there are no keys yet. */
	int64_t period = now / tickets->lifetime + 1;

	if (tickets->period == period)
		return true;
	tickets->period = 0;
	for (unsigned i = 0; i < tickets->secret_count; i++)
		for (unsigned j = 0; j < TLS_TICKET_PERIODS; j++)
			if (!derive(tickets, i, period + offsets[j], &tickets->keys[i][j]))
				return false;
	tickets->period = period;
	return true;
}

const struct tls_ticket_key *tls_tickets_current(struct tls_tickets *tickets, int64_t now)
{
	return refresh(tickets, now) ? &tickets->keys[0][0] : NULL;
}

const struct tls_ticket_key *tls_tickets_find(struct tls_tickets *tickets, int64_t now,
					      const uint8_t name[16], bool *fresh)
{
	if (!refresh(tickets, now))
		return NULL;
	for (unsigned i = 0; i < tickets->secret_count; i++) {
		for (unsigned j = 0; j < TLS_TICKET_PERIODS; j++) {
			const struct tls_ticket_key *key = &tickets->keys[i][j];

			if (memcmp(key->name, name, sizeof(key->name)) == 0) {
				*fresh = i == 0 && j == 0;
				return key;
			}
		}
	}
	return NULL;
}

/* ---- OpenSSL's side ---- */

static bool prepare_mac(EVP_MAC_CTX *mac, const struct tls_ticket_key *key)
{
	char digest[] = "SHA256";
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)key->mac,
						  sizeof(key->mac)),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};

	return EVP_MAC_CTX_set_params(mac, params) == 1;
}

int tls_tickets_serve(struct tls_tickets *tickets, unsigned char *name, unsigned char *iv,
		      EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
	const struct tls_ticket_key *key;
	int64_t now = time(NULL);
	bool fresh = true;

	if (encrypt) {
		key = tls_tickets_current(tickets, now);
		if (!key || RAND_bytes(iv, EVP_CIPHER_get_iv_length(TICKET_CIPHER)) != 1)
			return -1;
		memcpy(name, key->name, sizeof(key->name));
		return EVP_EncryptInit_ex(cipher, TICKET_CIPHER, NULL, key->cipher, iv) == 1 &&
				       prepare_mac(mac, key)
			       ? 1
			       : -1;
	}
	key = tls_tickets_find(tickets, now, name, &fresh);
	if (!key)
		return 0;
	if (EVP_DecryptInit_ex(cipher, TICKET_CIPHER, NULL, key->cipher, iv) != 1 ||
	    !prepare_mac(mac, key))
		return -1;
	return fresh ? 1 : 2;
}
