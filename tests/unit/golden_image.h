/* SPDX-License-Identifier: ISC */
/*
 * What every image of a golden arena holds, and the tools that make the files of a
 * new layout: the image, and its frozen table of fields.
 */
#ifndef GOLDEN_IMAGE_H
#define GOLDEN_IMAGE_H

#include "keepsock/passport.h"
#include "keepsock/tls_record.h"
#include "keepsock/websocket.h"

enum {
	SUBSCRIBERS = 40,
	NEWS_OFFSET = 41,
	NEWS_SEQUENCE = 990,
	START_SEQUENCE = 977,
	GENERATION = 1000, /* of the last passport made before those of the image */
	CHILD_PID = 4711,
};

static const char request[] = "GET /connection/websocket HTTP/1.1\r\nHost: a\r\nUpg";
static const char message[] = "{\"id\":7,\"publish\":{\"channel\":\"news\",\"data\":{}}}";
static const char fragment[] = "{\"id\":8,\"rpc";
static const char redis_input[] = "*3\r\n$7\r\nmessage\r\n$4";
static const char frame[] = "\x81\x05hello";
static const char info[] = "{\"role\":\"reader\"}";
static const char ciphertext[] = "\x17\x03\x03\x00\x20 the first bytes of it";
static const char sealed[] = "\x17\x03\x03\x00\x02xy";

static const struct tls_state record_layer = {
	.version = TLS_VERSION_1_3,
	.suite = 0x1301,
	.max_plaintext = TLS_PLAINTEXT_MAX,
	.flags = TLS_KEY_UPDATE_DUE,
	.fruitless = 3,
	.key_updates_until = 4000,
	.read = {.sequence = 7, .secret = "read secret", .key = "read key", .iv = "read iv"},
	.write = {.sequence = 8, .secret = "write secret", .key = "write key", .iv = "write iv"},
};

static const struct passport_peer certificate = {
	.not_after = 1800000000,
	.fingerprint = "fingerprint",
	.verify_result = 10,
};
static const struct slice peer_texts[PASSPORT_PEER_TEXTS] = {
	[PASSPORT_PEER_SUBJECT] = {"CN=anna", 7},
	[PASSPORT_PEER_URI] = {"urn:anna", 8},
};

static const struct websocket_reader reader = {
	.message_opcode = WEBSOCKET_TEXT,
	.frame_opcode = WEBSOCKET_CONTINUATION,
	.payload_remaining = 3,
	.message_length = sizeof(fragment) - 1 + 3,
	.mask = {1, 2, 3, 4},
	.mask_phase = 2,
};
static const uint64_t sequences[] = {991, 992};

/* Writes the image of the layout of today, compressed. 0, or 1 with the reason on stderr. */
int golden_image_write(const char *path);

/* Prints the frozen table of the layout of today, as C; 0. */
int golden_layout_print(void);

#endif
