/* SPDX-License-Identifier: ISC */
/*
 * The files of TLS listeners: whose mode is refused, what travels to the workers
 * and back, and when a change is noticed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keepsock/alloc.h"
#include "keepsock/tls_files.h"
#include "settings_text.h"

#define OWN_SECRET "a secret of the node itself"

static char directory[] = "/tmp/keepsock-tls-XXXXXX";

static char *path_of(const char *name)
{
	return xasprintf("%s/%s", directory, name);
}

static void write_file(const char *name, const char *text, mode_t mode)
{
	char *path = path_of(name);
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, mode), 0);
	free(path);
}

static void parse_here(const char *text, struct settings *s)
{
	char *name = path_of("keepsock.conf");

	parse_as(text, name, s);
	free(name);
}

/* One plain listener, one with TLS and all files. */
static void parse_all(struct settings *s)
{
	parse_here("listeners = (\n"
		   "{ port = 1; },\n"
		   "{ port = 2; tls: { client_verify = \"optional\"; client_ca = \"ca\";\n"
		   "client_crl = \"crl\"; ticket_secret_file = \"tickets\"; certificates = (\n"
		   "{ certificate = \"a\"; key = \"a.key\"; },\n"
		   "{ certificate = \"b\"; key = \"b.key\"; } ); }; } );\n",
		   s);
	write_file("a", "chain a", 0644);
	write_file("a.key", "key a", 0600);
	write_file("b", "chain b", 0444);
	write_file("b.key", "key b", 0640);
	write_file("ca", "authority", 0644);
	write_file("crl", "list", 0644);
	write_file("tickets", "secret", 0600);
}

static void assert_complete(const struct tls_files *files)
{
	const struct tls_material *material = &files->listeners[1];

	assert_int_equal(files->count, 2);
	assert_int_equal(files->listeners[0].identity_count, 0);
	assert_int_equal(material->identity_count, 2);
	assert_string_equal(material->identities[0].chain, "chain a");
	assert_string_equal(material->identities[0].key, "key a");
	assert_string_equal(material->identities[1].chain, "chain b");
	assert_string_equal(material->identities[1].key, "key b");
	assert_string_equal(material->client_ca, "authority");
	assert_string_equal(material->client_crl, "list");
	assert_string_equal(material->ticket_secrets, "secret");
}

static void test_all_are_read_and_carried(void **state)
{
	struct tls_files files, carried;
	struct buffer error = {0}, text = {0};
	struct settings settings;
	int line = 0;

	(void)state;
	parse_all(&settings);
	assert_int_equal(tls_files_read(&settings, OWN_SECRET, &files, &error, &line), 0);
	assert_complete(&files);
	files.generation = UINT64_C(0x1122334455667788);
	tls_files_encode(&files, &text);
	assert_int_equal(tls_files_decode(buffer_slice(&text), &carried), 0);
	assert_complete(&carried);
	assert_int_equal(carried.generation, files.generation);
	assert_true(tls_material_equal(&files.listeners[1], &carried.listeners[1]));
	assert_false(tls_material_equal(&files.listeners[0], &files.listeners[1]));
	tls_files_free(&carried);

	/* Cut anywhere, or longer than it says: refused, and nothing is left. */
	for (size_t length = 0; length < text.len; length++)
		assert_int_equal(tls_files_decode(slice_from(text.data, length), &carried), -1);
	buffer_append_char(&text, 'x');
	assert_int_equal(tls_files_decode(buffer_slice(&text), &carried), -1);
	assert_null(carried.listeners);
	buffer_free(&text);
	tls_files_free(&files);
	settings_free(&settings);
}

static void test_without_a_secret_file_the_nodes_own_is_used(void **state)
{
	struct buffer error = {0};
	struct settings settings;
	struct tls_files files;

	(void)state;
	write_file("a", "chain a", 0644);
	write_file("a.key", "key a", 0600);
	parse_here(
		"listeners = ( { tls: { certificates = ( { certificate = \"a\"; key = \"a.key\"; "
		"} ); }; } );",
		&settings);
	assert_int_equal(tls_files_read(&settings, OWN_SECRET, &files, &error, NULL), 0);
	assert_string_equal(files.listeners[0].ticket_secrets, OWN_SECRET);
	assert_string_equal(files.listeners[0].client_ca, "");
	tls_files_free(&files);
	settings_free(&settings);
}

static void test_modes_that_are_refused(void **state)
{
	static const struct {
		const char *name;
		mode_t mode, good;
		int line;
	} files[] = {
		{"a", 0664, 0644, 5},       {"a", 0646, 0644, 5},       {"a.key", 0644, 0600, 5},
		{"a.key", 0604, 0600, 5},   {"b.key", 0660, 0640, 6},   {"b.key", 0602, 0640, 6},
		{"tickets", 0640, 0600, 3}, {"tickets", 0604, 0600, 3}, {"ca", 0666, 0644, 3},
	};
	struct settings settings;

	(void)state;
	parse_all(&settings);
	for (size_t i = 0; i < COUNT(files); i++) {
		char *path = path_of(files[i].name);
		struct buffer error = {0};
		struct tls_files read;
		int line = 0;

		assert_int_equal(chmod(path, files[i].mode), 0);
		assert_int_equal(tls_files_read(&settings, OWN_SECRET, &read, &error, &line), -1);
		assert_null(read.listeners);
		assert_non_null(strstr(buffer_cstr(&error), path));
		assert_non_null(strstr(buffer_cstr(&error), "chmod"));
		assert_int_equal(line, files[i].line);
		assert_int_equal(chmod(path, files[i].good), 0);
		buffer_free(&error);
		free(path);
	}
	settings_free(&settings);
}

static void test_a_change_of_each_file_is_noticed(void **state)
{
	static const char *const names[] = {"a", "a.key", "b", "b.key", "ca", "crl", "tickets"};
	struct settings settings;

	(void)state;
	parse_all(&settings);
	for (size_t i = 0; i < COUNT(names); i++) {
		uint64_t before = tls_files_stamp(&settings);
		char *path = path_of(names[i]);

		assert_int_equal(tls_files_stamp(&settings), before);
		assert_int_equal(unlink(path), 0);
		assert_int_not_equal(tls_files_stamp(&settings), before);
		write_file(names[i], "something else", 0600);
		assert_int_not_equal(tls_files_stamp(&settings), before);
		free(path);
	}
	settings_free(&settings);
}

static int make_directory(void **state)
{
	(void)state;
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	static const char *const names[] = {"a", "a.key", "b", "b.key", "ca", "crl", "tickets"};

	(void)state;
	for (size_t i = 0; i < COUNT(names); i++) {
		char *path = path_of(names[i]);

		(void)unlink(path);
		free(path);
	}
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_are_read_and_carried),
		cmocka_unit_test(test_without_a_secret_file_the_nodes_own_is_used),
		cmocka_unit_test(test_modes_that_are_refused),
		cmocka_unit_test(test_a_change_of_each_file_is_noticed),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
