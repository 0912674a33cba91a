/* SPDX-License-Identifier: ISC */
/*
 * From settings and the keys that the master read to what a token verifier is
 * made of. Used by the master, which tries them before a worker gets them, and
 * by the workers. Everything is borrowed from its arguments.
 */
#ifndef KEEPSOCK_TOKEN_SETTINGS_H
#define KEEPSOCK_TOKEN_SETTINGS_H

#include "keepsock/ipc_messages.h"
#include "keepsock/settings.h"
#include "keepsock/token.h"

/* The groups token and subscription_token have the same members and different types. */
#define TOKEN_OPTIONS_FROM(group, keys)                                                          \
	((struct token_options){                                                                 \
		.hmac = (keys)->hmac,                                                            \
		.hmac_previous = (keys)->hmac_previous,                                          \
		.hmac_previous_valid_until = (uint64_t)(group).hmac_previous_secret_valid_until, \
		.rsa = (keys)->rsa,                                                              \
		.ecdsa = (keys)->ecdsa,                                                          \
		.audience = (group).audience,                                                    \
		.audience_regex = (group).audience_regex,                                        \
		.issuer = (group).issuer,                                                        \
		.issuer_regex = (group).issuer_regex,                                            \
		.user_id_claim = (group).user_id_claim,                                          \
	})

/* Of connection tokens, and of subscription tokens unless those have a group of their own. */
static inline struct token_options token_options_of(const struct settings *s,
						    const struct ipc_keys *keys)
{
	return TOKEN_OPTIONS_FROM(s->token, keys);
}

/* Of subscription tokens when subscription_token.enabled. */
static inline struct token_options subscription_token_options_of(const struct settings *s,
								 const struct ipc_keys *keys)
{
	return TOKEN_OPTIONS_FROM(s->subscription_token, keys);
}

#undef TOKEN_OPTIONS_FROM

#endif
