/* SPDX-License-Identifier: ISC */
/*
 * The lists of keepsock.conf, `listeners` and `namespaces`, each element of
 * which is a group with rows of its own. Runs wherever settings are parsed, as
 * a part of settings.c.
 */
#include <stdlib.h>
#include <string.h>

#include "keepsock/alloc.h"
#include "settings_private.h"

bool settings_read_element(struct settings_parser *p, const struct setting_row *rows, size_t count,
			   const config_setting_t *from, const char *except, void *base, int *lines)
{
	for (int i = 0; i < config_setting_length(from); i++) {
		const config_setting_t *child = config_setting_get_elem(from, (unsigned int)i);
		const char *name = config_setting_name(child);
		const struct setting_row *row = settings_find_row(rows, count, rows[0].group, name);

		if (!row && except && strcmp(name, except) == 0)
			continue;
		if (!row)
			return settings_fail(p, settings_line_of(child),
					     "unknown setting %s in %s, correct or remove it", name,
					     rows[0].group);
		if (!settings_read_row(p, row, child, base))
			return false;
		lines[row - rows] = settings_line_of(child);
	}
	return true;
}

/* ---- listeners ---- */

static struct settings_listener *add_listener(struct settings *s)
{
	struct settings_listener *listener;

	s->listeners = xrealloc(s->listeners, (s->listener_count + 1) * sizeof(*s->listeners));
	listener = &s->listeners[s->listener_count++];
	memset(listener, 0, sizeof(*listener));
	for (size_t i = 0; i < setting_listener_row_count; i++)
		setting_set_default(&setting_listener_rows[i], listener);
	settings_tls_set_defaults(&listener->tls);
	return listener;
}

void settings_add_default_listener(struct settings *s)
{
	add_listener(s);
}

static bool read_listener(struct settings_parser *p, const config_setting_t *from, int *lines)
{
	struct settings_listener *listener;
	const config_setting_t *tls;

	if (!config_setting_is_group(from))
		return settings_fail(p, settings_line_of(from),
				     "an element of listeners must be a group such as { address = "
				     "\"127.0.0.1\"; port = 8000; }");
	listener = add_listener(p->out);
	tls = config_setting_get_member(from, "tls");
	if (!settings_read_element(p, setting_listener_rows, setting_listener_row_count, from,
				   "tls", listener, lines) ||
	    (tls && !settings_read_tls(p, tls, &listener->tls)))
		return false;
	if (tls && listener->https_redirect_port > 0)
		return settings_fail(p, settings_line_of(from),
				     "https_redirect_port is for a listener without tls, remove "
				     "one of them");
	for (const struct settings_listener *other = p->out->listeners; other < listener; other++) {
		if (other->port == listener->port && strcmp(other->address, listener->address) == 0)
			return settings_fail(
				p, settings_line_of(from),
				"address %s and port %lld are in listeners twice, remove one",
				listener->address, (long long)listener->port);
	}
	return true;
}

bool settings_read_listeners(struct settings_parser *p, const config_setting_t *from)
{
	int count = config_setting_length(from);
	bool ok = true;
	int *lines;

	if (!config_setting_is_list(from))
		return settings_fail(p, settings_line_of(from),
				     "listeners must be a list in parentheses: ( { address = ...; "
				     "port = ...; } )");
	if (count < 1 || count > SETTINGS_LISTENERS_MAX)
		return settings_fail(p, settings_line_of(from),
				     "listeners must have 1 to %d elements, not %d",
				     SETTINGS_LISTENERS_MAX, count);
	lines = xcalloc(setting_listener_row_count, sizeof(*lines));
	for (int i = 0; ok && i < count; i++)
		ok = read_listener(p, config_setting_get_elem(from, (unsigned int)i), lines);
	free(lines);
	return ok;
}

/* ---- namespaces ---- */

static struct settings_namespace *add_namespace(struct settings *s)
{
	struct settings_namespace *new;

	s->namespaces = xrealloc(s->namespaces, (s->namespace_count + 1) * sizeof(*s->namespaces));
	new = &s->namespaces[s->namespace_count++];
	memset(new, 0, sizeof(*new));
	for (size_t i = 0; i < setting_namespace_row_count; i++)
		setting_set_default(&setting_namespace_rows[i], new);
	return new;
}

/* The last of the lines of the two settings, that of the element when it has neither. */
static int later_line(const int *lines, const size_t offsets[2], int line_of_element)
{
	const size_t start = offsetof(struct settings_namespace, options);
	int line = 0;

	for (size_t i = 0; i < setting_namespace_row_count; i++) {
		size_t offset = setting_namespace_rows[i].offset;

		if (offset >= start && lines[i] > line &&
		    (offset - start == offsets[0] || offset - start == offsets[1]))
			line = lines[i];
	}
	return line > 0 ? line : line_of_element;
}

static bool check_namespace(struct settings_parser *p, const struct settings_namespace *new,
			    const int *lines, int line)
{
	const char *problem;
	size_t offsets[2];

	if (*new->name == '\0')
		return settings_fail(p, line, "an element of namespaces needs a name");
	for (const struct settings_namespace *other = p->out->namespaces; other < new; other++) {
		if (strcmp(other->name, new->name) == 0)
			return settings_fail(p, line,
					     "namespace %s is in namespaces twice, remove one",
					     new->name);
	}
	problem = settings_find_channel_contradiction(p->out, &new->options, offsets);
	return !problem || settings_fail(p, later_line(lines, offsets, line), "namespaces.%s: %s",
					 new->name, problem);
}

static bool read_namespace(struct settings_parser *p, const config_setting_t *from)
{
	int line = settings_line_of(from);
	struct settings_namespace *new;
	int *lines;
	bool ok;

	if (!config_setting_is_group(from))
		return settings_fail(p, line,
				     "an element of namespaces must be a group such as { name = "
				     "\"chat\"; presence = true; }");
	new = add_namespace(p->out);
	lines = xcalloc(setting_namespace_row_count, sizeof(*lines));
	ok = settings_read_element(p, setting_namespace_rows, setting_namespace_row_count, from,
				   NULL, new, lines) &&
	     check_namespace(p, new, lines, line);
	free(lines);
	if (ok)
		channel_options_compile(&new->options);
	return ok;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct settings_namespace *)a)->name,
		      ((const struct settings_namespace *)b)->name);
}

bool settings_read_namespaces(struct settings_parser *p, const config_setting_t *from)
{
	int count = config_setting_length(from);

	if (!config_setting_is_list(from))
		return settings_fail(
			p, settings_line_of(from),
			"namespaces must be a list in parentheses: ( { name = ...; } )");
	if (count > SETTINGS_NAMESPACES_MAX)
		return settings_fail(p, settings_line_of(from),
				     "namespaces must have at most %d elements, not %d",
				     SETTINGS_NAMESPACES_MAX, count);
	for (int i = 0; i < count; i++) {
		if (!read_namespace(p, config_setting_get_elem(from, (unsigned int)i)))
			return false;
	}
	if (count > 0)
		qsort(p->out->namespaces, p->out->namespace_count, sizeof(*p->out->namespaces),
		      compare_names);
	return true;
}

void settings_free_lists(struct settings *s)
{
	for (size_t i = 0; i < s->listener_count; i++) {
		for (size_t j = 0; j < setting_listener_row_count; j++)
			setting_free(&setting_listener_rows[j], &s->listeners[i]);
		settings_tls_free(&s->listeners[i].tls);
	}
	free(s->listeners);
	for (size_t i = 0; i < s->namespace_count; i++) {
		for (size_t j = 0; j < setting_namespace_row_count; j++)
			setting_free(&setting_namespace_rows[j], &s->namespaces[i]);
		channel_options_free(&s->namespaces[i].options);
	}
	free(s->namespaces);
}
