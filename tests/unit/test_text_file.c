/* SPDX-License-Identifier: ISC */
/*
 * Small files read and written whole, files of secrets, and text that is
 * sealed in memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "keepsock/buffer.h"
#include "keepsock/sealed_text.h"
#include "keepsock/text_file.h"

static char path[] = "test_text_file.XXXXXX";

static void write_file(const char *data, size_t length, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, length), (ssize_t)length);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static int make_file(void **state)
{
	int fd;

	(void)state;
	memcpy(path + strlen(path) - 6, "XXXXXX", 6);
	fd = mkstemp(path);
	return fd < 0 ? -1 : close(fd);
}

static int drop_file(void **state)
{
	(void)state;
	return unlink(path);
}

static void test_a_file_is_read_whole(void **state)
{
	struct buffer text = {0}, error = {0};
	char data[10000];

	(void)state;
	memset(data, 'x', sizeof(data));
	write_file(data, sizeof(data), 0600);
	assert_int_equal(text_file_read(path, sizeof(data), &text, &error), 0);
	assert_int_equal(text.len, sizeof(data));
	assert_memory_equal(text.data, data, sizeof(data));
	buffer_reset(&text);
	assert_int_equal(text_file_read(path, sizeof(data) - 1, &text, &error), -1);
	assert_non_null(strstr(buffer_cstr(&error), path));
	buffer_free(&text);
	buffer_free(&error);
}

static void test_a_missing_file_is_an_error(void **state)
{
	struct buffer text = {0}, error = {0};

	(void)state;
	assert_int_equal(text_file_read("there/is/no/such/file", 10, &text, &error), -1);
	assert_non_null(strstr(buffer_cstr(&error), "there/is/no/such/file"));
	buffer_reset(&error);
	assert_null(text_file_read_secret("there/is/no/such/file", &error));
	assert_true(error.len > 0);
	buffer_free(&text);
	buffer_free(&error);
}

static void test_the_tail_of_a_file(void **state)
{
	struct buffer text = {0};

	(void)state;
	write_file("0123456789", 10, 0600);
	text_file_read_tail(path, 0, 3, &text);
	assert_string_equal(buffer_cstr(&text), "789");
	buffer_reset(&text);
	text_file_read_tail(path, 8, 100, &text);
	assert_string_equal(buffer_cstr(&text), "89");
	buffer_reset(&text);
	text_file_read_tail(path, 10, 100, &text);
	text_file_read_tail(path, 50, 100, &text);
	text_file_read_tail("there/is/no/such/file", 0, 100, &text);
	assert_int_equal(text.len, 0);
	buffer_free(&text);
}

static void assert_secret(const char *contents, size_t length, const char *expected)
{
	struct buffer error = {0};
	char *secret;

	write_file(contents, length, 0600);
	secret = text_file_read_secret(path, &error);
	assert_int_equal(secret == NULL, expected == NULL);
	assert_int_equal(error.len > 0, expected == NULL);
	if (expected)
		assert_string_equal(secret, expected);
	free(secret);
	buffer_free(&error);
}

static void test_a_secret_is_the_first_line(void **state)
{
	(void)state;
	assert_secret("key", 3, "key");
	assert_secret("key\n", 4, "key");
	assert_secret("  key\t \r\nmore\n", 14, "key");
	assert_secret("", 0, NULL);
	assert_secret("\nkey\n", 5, NULL);
	assert_secret("two words\n", 10, NULL);
	assert_secret("k\0y\n", 4, NULL);
	assert_secret("k\xc3\xa4y\n", 5, NULL);
}

static void test_a_secret_that_others_may_use_is_refused(void **state)
{
	static const mode_t modes[] = {0604, 0640, 0620, 0602, 0601, 0666};
	struct buffer error = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		write_file("geheim\n", 7, modes[i]);
		buffer_reset(&error);
		assert_null(text_file_read_secret(path, &error));
		assert_non_null(strstr(buffer_cstr(&error), "chmod"));
		assert_null(strstr(buffer_cstr(&error), "geheim"));
	}
	buffer_free(&error);
}

static void test_a_public_file_is_read_whole(void **state)
{
	static const char pem[] = "-----BEGIN PUBLIC KEY-----\r\n\tMIIB\n-----END\n";
	struct buffer error = {0};
	char *text;

	(void)state;
	write_file(pem, sizeof(pem) - 1, 0644);
	text = text_file_read_public(path, &error);
	assert_non_null(text);
	assert_string_equal(text, pem);
	assert_int_equal(error.len, 0);
	free(text);
	buffer_free(&error);
}

static void assert_not_public(const char *data, size_t length, mode_t mode, const char *reason)
{
	struct buffer error = {0};

	write_file(data, length, mode);
	assert_null(text_file_read_public(path, &error));
	assert_non_null(strstr(buffer_cstr(&error), reason));
	buffer_free(&error);
}

static void test_a_public_file_that_is_refused(void **state)
{
	static char large[TEXT_FILE_PUBLIC_LIMIT + 1];
	struct buffer error = {0};

	(void)state;
	memset(large, 'x', sizeof(large));
	assert_not_public("key\n", 4, 0664, "chmod go-w");
	assert_not_public("key\n", 4, 0646, "chmod go-w");
	assert_not_public("", 0, 0644, "must be text");
	assert_not_public("k\0y\n", 4, 0644, "must be text");
	assert_not_public("\x30\x82\x01", 3, 0644, "must be text");
	assert_not_public(large, sizeof(large), 0644, "File too large");
	assert_null(text_file_read_public("no/such/file", &error));
	assert_non_null(strstr(buffer_cstr(&error), "no/such/file"));
	buffer_free(&error);
}

static void test_a_private_file_replaces_whatever_was_there(void **state)
{
	struct buffer text = {0}, error = {0};
	struct stat status;

	(void)state;
	write_file("old and longer", 14, 0644);
	assert_int_equal(text_file_write_private(path, slice_str("new"), &error), 0);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(text_file_read(path, 100, &text, &error), 0);
	assert_string_equal(buffer_cstr(&text), "new");
	assert_int_equal(text_file_write_private("no/such/place/file", slice_str(""), &error), -1);
	assert_true(error.len > 0);
	buffer_free(&text);
	buffer_free(&error);
}

static void test_sealed_text_is_read_by_many(void **state)
{
	struct buffer text = {0};
	int fd = sealed_text_create("test", slice_str("node: { };"));

	(void)state;
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(sealed_text_read(fd, &text), 0);
	assert_int_equal(sealed_text_read(fd, &text), 0);
	assert_string_equal(buffer_cstr(&text), "node: { };node: { };");
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(errno, EPERM);
	close(fd);
	buffer_free(&text);
}

static void test_empty_sealed_text(void **state)
{
	struct buffer text = {0};
	int fd = sealed_text_create("test", slice_from(NULL, 0));

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(sealed_text_read(fd, &text), 0);
	assert_string_equal(buffer_cstr(&text), "");
	close(fd);
	buffer_free(&text);
}

static void test_text_that_is_not_sealed_is_refused(void **state)
{
	struct buffer text = {0};
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(sealed_text_read(fd, &text), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(sealed_text_read(-1, &text), -1);
	close(fd);
	buffer_free(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_file_is_read_whole, make_file, drop_file),
		cmocka_unit_test(test_a_missing_file_is_an_error),
		cmocka_unit_test_setup_teardown(test_the_tail_of_a_file, make_file, drop_file),
		cmocka_unit_test_setup_teardown(test_a_secret_is_the_first_line, make_file,
						drop_file),
		cmocka_unit_test_setup_teardown(test_a_secret_that_others_may_use_is_refused,
						make_file, drop_file),
		cmocka_unit_test_setup_teardown(test_a_public_file_is_read_whole, make_file,
						drop_file),
		cmocka_unit_test_setup_teardown(test_a_public_file_that_is_refused, make_file,
						drop_file),
		cmocka_unit_test_setup_teardown(test_a_private_file_replaces_whatever_was_there,
						make_file, drop_file),
		cmocka_unit_test(test_sealed_text_is_read_by_many),
		cmocka_unit_test(test_empty_sealed_text),
		cmocka_unit_test(test_text_that_is_not_sealed_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
