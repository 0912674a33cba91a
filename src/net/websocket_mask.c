/* SPDX-License-Identifier: ISC */
/*
 * XOR with the masking key (RFC 6455 §5.3), sixteen bytes at a time. Used by
 * workers for every byte a client sends and by keepsock-bench for every byte it
 * sends. Touches exactly len bytes of either side.
 */
#include "keepsock/websocket.h"

#include <string.h>

typedef uint8_t mask_block __attribute__((vector_size(16)));

unsigned websocket_mask(uint8_t *out, const uint8_t *in, size_t len, const uint8_t mask[4],
			unsigned phase)
{
	uint8_t turned[sizeof(mask_block)];
	mask_block block, data;
	size_t i = 0;

	for (unsigned k = 0; k < sizeof(turned); k++)
		turned[k] = mask[(phase + k) & 3];
	memcpy(&block, turned, sizeof(block));
	for (; len - i >= sizeof(block); i += sizeof(block)) {
		memcpy(&data, in + i, sizeof(data));
		data ^= block;
		memcpy(out + i, &data, sizeof(data));
	}
	for (; i < len; i++)
		out[i] = in[i] ^ turned[i & 3];
	return (unsigned)((phase + len) & 3);
}
