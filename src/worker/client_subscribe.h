/* SPDX-License-Identifier: ISC */
/*
 * The subscribe command, and what every way to a subscription decides alike.
 */
#ifndef KEEPSOCK_WORKER_CLIENT_SUBSCRIBE_H
#define KEEPSOCK_WORKER_CLIENT_SUBSCRIBE_H

#include "keepsock/token.h"
#include "worker/internal.h"
#include "worker/subscribing.h"

/* No command waits longer: SDKs give up after 5 s. */
#define CLIENT_WAIT_MAX_MS 3000u

/* Boottime ms until which a command begun now may wait for Redis. */
uint64_t client_deadline(const struct worker *w);

/*
 * The enum subscription_flags of a subscription: what the namespace says, what a
 * token changes of it, and what the client asks for (NULL: the server
 * subscribes) as far as the user may.
 */
uint32_t client_subscription_flags(const struct worker *w, const struct channel_options *options,
				   struct slice user, const struct token_override *override,
				   const struct client_command *wishes);

/* Fills what recovery needs: from where, if wanted, in the namespace's mode. The flags are set. */
void client_request_recovery(struct subscribing_request *request, bool wanted,
			     struct slice since_epoch, uint64_t since_offset);

enum command_outcome client_subscribe(struct connection *c, const struct client_command *command,
				      uint16_t *close_code);

#endif
