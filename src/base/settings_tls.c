/* SPDX-License-Identifier: ISC */
/*
 * The group `tls` of a listener, with its list of certificates. Runs wherever
 * settings are parsed, as a part of settings.c. What the files hold, and whether
 * OpenSSL knows the suites and curves, is not looked at here (tls_context.h).
 */
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "settings_private.h"

#define LIST "certificates"

void settings_tls_set_defaults(struct settings_tls *tls)
{
	for (size_t i = 0; i < setting_tls_row_count; i++)
		setting_set_default(&setting_tls_rows[i], tls);
}

static bool read_certificate(struct settings_parser *p, const config_setting_t *from,
			     struct settings_tls *tls)
{
	int lines[2] = {0}, line = settings_line_of(from);
	struct settings_certificate *new;

	_Static_assert(sizeof(lines) / sizeof(lines[0]) == 0
#define CERTIFICATE_SETTING(name, type, default_text, min, max, check, change, doc) +1
#include "keepsock/settings_table.h"
		       ,
		       "a line for each row");
	if (!config_setting_is_group(from))
		return settings_fail(p, line,
				     "an element of listeners.tls." LIST
				     " must be a group such as { certificate = \"chain.pem\"; key "
				     "= \"key.pem\"; }");
	new = &tls->certificates[tls->certificate_count++];
	for (size_t i = 0; i < setting_certificate_row_count; i++)
		setting_set_default(&setting_certificate_rows[i], new);
	new->line = line;
	if (!settings_read_element(p, setting_certificate_rows, setting_certificate_row_count, from,
				   NULL, new, lines))
		return false;
	if (*new->certificate &&*new->key)
		return true;
	return settings_fail(p, line, "an element of listeners.tls." LIST " needs %s",
			     *new->certificate ? "a key" : "a certificate");
}

static bool read_certificates(struct settings_parser *p, const config_setting_t *from,
			      struct settings_tls *tls)
{
	int count = from ? config_setting_length(from) : 0;

	if (!from)
		return settings_fail(p, tls->line,
				     "tls needs " LIST " = ( { certificate = ...; key = ...; } );");
	if (!config_setting_is_list(from))
		return settings_fail(p, settings_line_of(from),
				     "listeners.tls." LIST
				     " must be a list in parentheses: ( { certificate = ...; key = "
				     "...; } )");
	if (count < 1 || count > SETTINGS_CERTIFICATES_MAX)
		return settings_fail(p, settings_line_of(from),
				     "listeners.tls." LIST " must have 1 to %d elements, not %d",
				     SETTINGS_CERTIFICATES_MAX, count);
	tls->certificates = xcalloc((size_t)count, sizeof(*tls->certificates));
	for (int i = 0; i < count; i++) {
		if (!read_certificate(p, config_setting_get_elem(from, (unsigned int)i), tls))
			return false;
	}
	return true;
}

/* NULL, or what is wrong, with the offsets of the two settings it is about. */
static const char *find_contradiction(const struct settings_tls *tls, size_t offsets[2])
{
	bool verify = strcmp(tls->client_verify, "off") != 0;
	const struct {
		bool found;
		size_t offsets[2];
		const char *text;
	} all[] = {
#define OFFSETS(a, b) {offsetof(struct settings_tls, a), offsetof(struct settings_tls, b)}
		{strcmp(tls->min_version, tls->max_version) > 0, OFFSETS(min_version, max_version),
		 "min_version must not be above max_version"},
		{verify && !*tls->client_ca, OFFSETS(client_verify, client_ca),
		 "client_verify needs client_ca, or nobody could be verified"},
		{!verify && *tls->client_ca, OFFSETS(client_ca, client_verify),
		 "client_ca needs client_verify = \"optional\" or \"required\""},
		{*tls->client_crl && !*tls->client_ca, OFFSETS(client_crl, client_ca),
		 "client_crl needs client_ca"},
		{*tls->ticket_secret_file && tls->ticket_lifetime == 0,
		 OFFSETS(ticket_secret_file, ticket_lifetime),
		 "ticket_secret_file needs a ticket_lifetime"},
		{tls->hsts_subdomains && tls->hsts_max_age == 0,
		 OFFSETS(hsts_subdomains, hsts_max_age), "hsts_subdomains needs a hsts_max_age"},
#undef OFFSETS
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (all[i].found) {
			memcpy(offsets, all[i].offsets, sizeof(all[i].offsets));
			return all[i].text;
		}
	}
	return NULL;
}

static bool check_group(struct settings_parser *p, const struct settings_tls *tls, const int *lines)
{
	size_t offsets[2];
	const char *problem = find_contradiction(tls, offsets);
	int line = 0;

	if (!problem)
		return true;
	for (size_t i = 0; i < setting_tls_row_count; i++) {
		size_t offset = setting_tls_rows[i].offset;

		if ((offset == offsets[0] || offset == offsets[1]) && lines[i] > line)
			line = lines[i];
	}
	return settings_fail(p, line ? line : tls->line, "listeners.tls: %s", problem);
}

bool settings_read_tls(struct settings_parser *p, const config_setting_t *from,
		       struct settings_tls *tls)
{
	int *lines;
	bool ok;

	tls->line = settings_line_of(from);
	if (!config_setting_is_group(from))
		return settings_fail(p, tls->line, "tls must be a group: tls: { ... };");
	tls->enabled = true;
	lines = xcalloc(setting_tls_row_count, sizeof(*lines));
	ok = settings_read_element(p, setting_tls_rows, setting_tls_row_count, from, LIST, tls,
				   lines) &&
	     read_certificates(p, config_setting_get_member(from, LIST), tls) &&
	     check_group(p, tls, lines);
	free(lines);
	return ok;
}

void settings_tls_free(struct settings_tls *tls)
{
	for (size_t i = 0; i < setting_tls_row_count; i++)
		setting_free(&setting_tls_rows[i], tls);
	for (size_t i = 0; i < tls->certificate_count; i++) {
		for (size_t j = 0; j < setting_certificate_row_count; j++)
			setting_free(&setting_certificate_rows[j], &tls->certificates[i]);
	}
	free(tls->certificates);
}

bool settings_uses_tls(const struct settings *s)
{
	for (size_t i = 0; i < s->listener_count; i++) {
		if (s->listeners[i].tls.enabled)
			return true;
	}
	return false;
}
