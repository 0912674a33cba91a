/* SPDX-License-Identifier: ISC */
/*
 * Channel names: length, alphabet, private prefix and namespace. Runs in the
 * workers. It only reads names; who may do what is decided by its callers.
 */
#include "keepsock/channel_name.h"

#include "keepsock/client_protocol.h"

enum channel_verdict channel_name_check(struct slice name, size_t max_length)
{
	if (name.len == 0)
		return CHANNEL_EMPTY;
	if (name.len > max_length)
		return CHANNEL_TOO_LONG;
	if (settings_channel_namespace(name).data != NULL)
		return CHANNEL_UNKNOWN_NAMESPACE;
	for (size_t i = 0; i < name.len; i++)
		if (name.data[i] < 0x20 || name.data[i] > 0x7e)
			return CHANNEL_BAD;
	return name.data[0] == CHANNEL_PRIVATE_PREFIX ? CHANNEL_PRIVATE : CHANNEL_OK;
}

uint32_t channel_verdict_error(enum channel_verdict verdict)
{
	switch (verdict) {
	case CHANNEL_OK: return 0;
	case CHANNEL_EMPTY:
	case CHANNEL_TOO_LONG:
	case CHANNEL_BAD: return CLIENT_ERROR_BAD_REQUEST;
	case CHANNEL_UNKNOWN_NAMESPACE: return CLIENT_ERROR_UNKNOWN_CHANNEL;
	case CHANNEL_PRIVATE: return CLIENT_ERROR_PERMISSION_DENIED;
	}
	return CLIENT_ERROR_INTERNAL;
}
