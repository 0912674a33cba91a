/* SPDX-License-Identifier: ISC */
/*
 * What the bounds of a single row can't say: the form of particular strings.
 * Runs wherever settings are parsed; looks at one value only, never at files,
 * sockets or the network.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "keepsock/log.h"
#include "settings_private.h"

static bool is_alphanumeric(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

const char *check_host_label(const char *value)
{
	size_t len = strlen(value);

	for (size_t i = 0; i < len; i++) {
		bool inner = i > 0 && i + 1 < len;

		if (!is_alphanumeric(value[i]) && !(value[i] == '-' && inner))
			return "must be letters, digits and inner hyphens only";
	}
	return NULL;
}

const char *check_listener_when(const char *value)
{
	if (strcmp(value, "always") == 0 || strcmp(value, "primary") == 0)
		return NULL;
	return "must be always or primary";
}

const char *check_log_level(const char *value)
{
	enum log_level level;

	return log_level_parse(value, &level) ? NULL : "must be error, warning, info or debug";
}

const char *check_log_format(const char *value)
{
	enum log_format format;

	return log_format_parse(value, &format) ? NULL : "must be logfmt or json";
}

const char *check_log_target(const char *value)
{
	if (strcmp(value, "stderr") == 0 || strcmp(value, "syslog") == 0)
		return NULL;
	if (strncmp(value, "file:", 5) == 0 && value[5] != '\0')
		return NULL;
	return "must be stderr, syslog or file:PATH";
}

const char *check_redis_server(const char *value)
{
	struct settings_redis_url url;
	const char *problem;

	if (strcmp(value, "embedded") == 0)
		return NULL;
	problem = settings_redis_url_parse(value, &url);
	settings_redis_url_free(&url);
	return problem;
}

const char *check_redis_shard(const char *value)
{
	return strcmp(value, "embedded") == 0 ? "must hold URLs only" : check_redis_server(value);
}

const char *check_file_mode(const char *value)
{
	for (const char *p = value; *p; p++) {
		if (*p < '0' || *p > '7')
			return "must be octal digits such as \"0660\"";
	}
	if (strlen(value) == 4 && value[0] != '0')
		return "must not hold set-uid, set-gid or sticky bits";
	return NULL;
}

const char *check_ip_address(const char *value)
{
	struct in6_addr address;

	if (inet_pton(AF_INET, value, &address) == 1 || inet_pton(AF_INET6, value, &address) == 1)
		return NULL;
	return "must be an IPv4 or IPv6 address";
}

/* Back-references make matching take exponential time, with text that clients choose. */
static bool has_back_reference(const char *pattern)
{
	for (; *pattern; pattern++) {
		if (*pattern != '\\')
			continue;
		pattern++;
		if (*pattern >= '1' && *pattern <= '9')
			return true;
		if (*pattern == '\0')
			return false;
	}
	return false;
}

const char *check_regex(const char *value)
{
	regex_t regex;

	if (has_back_reference(value))
		return "must not hold back-references";
	if (regcomp(&regex, value, REG_EXTENDED | REG_NOSUB) != 0)
		return "must be an extended regular expression (POSIX)";
	regfree(&regex);
	return NULL;
}

const char *check_recovery_mode(const char *value)
{
	if (strcmp(value, "stream") == 0 || strcmp(value, "cache") == 0)
		return NULL;
	return "must be stream or cache";
}

const char *check_error_mode(const char *value)
{
	if (*value == '\0' || strcmp(value, "transport") == 0)
		return NULL;
	return "must be transport or empty";
}

/* Quotes and backslashes would make the name's form in JSON another one. */
const char *check_claim_name(const char *value)
{
	for (const char *p = value; *p; p++) {
		if (!is_alphanumeric(*p) && !strchr("-_.:/", *p))
			return "must be letters, digits, hyphens, underscores, dots, colons and "
			       "slashes only";
	}
	return NULL;
}

const char *check_namespace_name(const char *value)
{
	for (const char *p = value; *p; p++) {
		if (!is_alphanumeric(*p) && !strchr("-_.", *p))
			return "must be letters, digits, hyphens, underscores and dots only";
	}
	return NULL;
}

mode_t settings_admin_mode(const struct settings *s)
{
	return (mode_t)strtoul(s->admin.mode, NULL, 8);
}

const char *check_absolute_path(const char *value)
{
	return value[0] == '/' ? NULL : "must hold absolute paths";
}

const char *check_tls_version(const char *value)
{
	return strcmp(value, "1.2") == 0 || strcmp(value, "1.3") == 0 ? NULL : "must be 1.2 or 1.3";
}

const char *check_client_verify(const char *value)
{
	static const char *const values[] = {"off", "optional", "required"};

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		if (strcmp(value, values[i]) == 0)
			return NULL;
	}
	return "must be off, optional or required";
}
