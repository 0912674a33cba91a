/* SPDX-License-Identifier: ISC */
/*
 * From settings and keys to verifiers, see tokens.h. Run by the worker. It logs
 * no key.
 */
#include "worker/tokens.h"

#include "keepsock/log.h"
#include "keepsock/token_settings.h"

static struct token_verifier *create(const struct token_options *options, const char *group)
{
	struct buffer error = {0};
	struct token_verifier *verifier = token_verifier_create(options, &error);

	if (!verifier)
		log_fatal("token_keys_unusable group=%s error=%s", group,
			  log_value(buffer_slice(&error)));
	buffer_free(&error);
	return verifier;
}

void tokens_open(struct worker *w)
{
	const struct token_options options = token_options_of(&w->settings, &w->start.token_keys);
	const struct token_options subscription =
		subscription_token_options_of(&w->settings, &w->start.subscription_token_keys);

	w->connection_tokens = create(&options, "token");
	w->subscription_tokens = w->settings.subscription_token.enabled
					 ? create(&subscription, "subscription_token")
					 : w->connection_tokens;
}

void tokens_close(struct worker *w)
{
	if (w->subscription_tokens != w->connection_tokens)
		token_verifier_free(w->subscription_tokens);
	token_verifier_free(w->connection_tokens);
}
