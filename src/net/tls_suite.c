/* SPDX-License-Identifier: ISC */
/*
 * The table of cipher suites, see tls_suite.h. Everything that differs between
 * suites is decided here and nowhere else. PSK suites are not in it, because
 * nothing of ours sets a key for them, nor are those without a certificate.
 */
#include "net/tls_suite.h"

#include <string.h>

#include "keepsock/tls_record.h"

#define GCM_LIMIT ((uint64_t)1 << 24)
#define CCM_LIMIT ((uint64_t)1 << 23)
/* The cipher has none; this keeps the sequence far from its end. */
#define CHACHA20_LIMIT ((uint64_t)1 << 60)

const struct tls_aead tls_aeads[TLS_AEAD_COUNT] = {
	/* cipher, key, tag, ccm, explicit nonce, limit */
	[TLS_AEAD_AES_128_GCM] = {"AES-128-GCM", 16, 16, false, true, GCM_LIMIT},
	[TLS_AEAD_AES_256_GCM] = {"AES-256-GCM", 32, 16, false, true, GCM_LIMIT},
	[TLS_AEAD_CHACHA20_POLY1305] = {"ChaCha20-Poly1305", 32, 16, false, false, CHACHA20_LIMIT},
	[TLS_AEAD_AES_128_CCM] = {"AES-128-CCM", 16, 16, true, true, CCM_LIMIT},
	[TLS_AEAD_AES_256_CCM] = {"AES-256-CCM", 32, 16, true, true, CCM_LIMIT},
	[TLS_AEAD_AES_128_CCM_8] = {"AES-128-CCM", 16, 8, true, true, CCM_LIMIT},
	[TLS_AEAD_AES_256_CCM_8] = {"AES-256-CCM", 32, 8, true, true, CCM_LIMIT},
	[TLS_AEAD_ARIA_128_GCM] = {"ARIA-128-GCM", 16, 16, false, true, GCM_LIMIT},
	[TLS_AEAD_ARIA_256_GCM] = {"ARIA-256-GCM", 32, 16, false, true, GCM_LIMIT},
};

#define SUITE_1_2(id, aead, digest, name)                                \
	{                                                                \
		id, TLS_VERSION_1_2, TLS_AEAD_##aead, TLS_##digest, name \
	}
#define SUITE_1_3(id, aead, digest, name)                                \
	{                                                                \
		id, TLS_VERSION_1_3, TLS_AEAD_##aead, TLS_##digest, name \
	}

/* In the order of their numbers. */
static const struct tls_suite suites[] = {
	SUITE_1_2(0x009C, AES_128_GCM, SHA256, "AES128-GCM-SHA256"),
	SUITE_1_2(0x009D, AES_256_GCM, SHA384, "AES256-GCM-SHA384"),
	SUITE_1_2(0x009E, AES_128_GCM, SHA256, "DHE-RSA-AES128-GCM-SHA256"),
	SUITE_1_2(0x009F, AES_256_GCM, SHA384, "DHE-RSA-AES256-GCM-SHA384"),
	SUITE_1_3(0x1301, AES_128_GCM, SHA256, "TLS_AES_128_GCM_SHA256"),
	SUITE_1_3(0x1302, AES_256_GCM, SHA384, "TLS_AES_256_GCM_SHA384"),
	SUITE_1_3(0x1303, CHACHA20_POLY1305, SHA256, "TLS_CHACHA20_POLY1305_SHA256"),
	SUITE_1_3(0x1304, AES_128_CCM, SHA256, "TLS_AES_128_CCM_SHA256"),
	SUITE_1_3(0x1305, AES_128_CCM_8, SHA256, "TLS_AES_128_CCM_8_SHA256"),
	SUITE_1_2(0xC02B, AES_128_GCM, SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256"),
	SUITE_1_2(0xC02C, AES_256_GCM, SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384"),
	SUITE_1_2(0xC02F, AES_128_GCM, SHA256, "ECDHE-RSA-AES128-GCM-SHA256"),
	SUITE_1_2(0xC030, AES_256_GCM, SHA384, "ECDHE-RSA-AES256-GCM-SHA384"),
	SUITE_1_2(0xC050, ARIA_128_GCM, SHA256, "ARIA128-GCM-SHA256"),
	SUITE_1_2(0xC051, ARIA_256_GCM, SHA384, "ARIA256-GCM-SHA384"),
	SUITE_1_2(0xC052, ARIA_128_GCM, SHA256, "DHE-RSA-ARIA128-GCM-SHA256"),
	SUITE_1_2(0xC053, ARIA_256_GCM, SHA384, "DHE-RSA-ARIA256-GCM-SHA384"),
	SUITE_1_2(0xC05C, ARIA_128_GCM, SHA256, "ECDHE-ECDSA-ARIA128-GCM-SHA256"),
	SUITE_1_2(0xC05D, ARIA_256_GCM, SHA384, "ECDHE-ECDSA-ARIA256-GCM-SHA384"),
	SUITE_1_2(0xC060, ARIA_128_GCM, SHA256, "ECDHE-ARIA128-GCM-SHA256"),
	SUITE_1_2(0xC061, ARIA_256_GCM, SHA384, "ECDHE-ARIA256-GCM-SHA384"),
	SUITE_1_2(0xC09C, AES_128_CCM, SHA256, "AES128-CCM"),
	SUITE_1_2(0xC09D, AES_256_CCM, SHA256, "AES256-CCM"),
	SUITE_1_2(0xC09E, AES_128_CCM, SHA256, "DHE-RSA-AES128-CCM"),
	SUITE_1_2(0xC09F, AES_256_CCM, SHA256, "DHE-RSA-AES256-CCM"),
	SUITE_1_2(0xC0A0, AES_128_CCM_8, SHA256, "AES128-CCM8"),
	SUITE_1_2(0xC0A1, AES_256_CCM_8, SHA256, "AES256-CCM8"),
	SUITE_1_2(0xC0A2, AES_128_CCM_8, SHA256, "DHE-RSA-AES128-CCM8"),
	SUITE_1_2(0xC0A3, AES_256_CCM_8, SHA256, "DHE-RSA-AES256-CCM8"),
	SUITE_1_2(0xC0AC, AES_128_CCM, SHA256, "ECDHE-ECDSA-AES128-CCM"),
	SUITE_1_2(0xC0AD, AES_256_CCM, SHA256, "ECDHE-ECDSA-AES256-CCM"),
	SUITE_1_2(0xC0AE, AES_128_CCM_8, SHA256, "ECDHE-ECDSA-AES128-CCM8"),
	SUITE_1_2(0xC0AF, AES_256_CCM_8, SHA256, "ECDHE-ECDSA-AES256-CCM8"),
	SUITE_1_2(0xCCA8, CHACHA20_POLY1305, SHA256, "ECDHE-RSA-CHACHA20-POLY1305"),
	SUITE_1_2(0xCCA9, CHACHA20_POLY1305, SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305"),
	SUITE_1_2(0xCCAA, CHACHA20_POLY1305, SHA256, "DHE-RSA-CHACHA20-POLY1305"),
};

#define COUNT (sizeof(suites) / sizeof(suites[0]))

const struct tls_suite *tls_suite_find(unsigned id)
{
	size_t low = 0, high = COUNT;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (suites[middle].id == id)
			return &suites[middle];
		if (suites[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

const struct tls_suite *tls_suite_by_name(const char *name)
{
	for (size_t i = 0; i < COUNT; i++) {
		if (strcmp(suites[i].name, name) == 0)
			return &suites[i];
	}
	return NULL;
}

bool tls_suite_supported(unsigned suite)
{
	return tls_suite_find(suite) != NULL;
}

const char *tls_suite_name(unsigned suite)
{
	const struct tls_suite *found = tls_suite_find(suite);

	return found ? found->name : "unknown";
}

const char *tls_version_name(unsigned version)
{
	switch (version) {
	case TLS_VERSION_1_2: return "TLSv1.2";
	case TLS_VERSION_1_3: return "TLSv1.3";
	default: return "unknown";
	}
}
