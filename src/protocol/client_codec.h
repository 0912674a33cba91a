/* SPDX-License-Identifier: ISC */
/*
 * What the files of the JSON codec share among themselves. Private to the
 * protocol room; everybody else goes through json_codec.
 */
#ifndef KEEPSOCK_CLIENT_CODEC_H
#define KEEPSOCK_CLIENT_CODEC_H

#include "keepsock/client_protocol.h"

enum client_decode_result client_command_decode(struct slice raw, struct buffer *scratch,
						struct client_command *out);
void client_reply_encode(struct buffer *out, const struct client_reply *reply);
void client_push_encode(struct buffer *out, const struct client_push *push);

#endif
