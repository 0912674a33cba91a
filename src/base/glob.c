/* SPDX-License-Identifier: ISC */
/*
 * Matching of patterns, see glob.h. Run by the worker, for each of its channels
 * when a survey asks, and for the Origin of browsers. No recursion: after a '*'
 * only the latest one is ever tried again.
 */
#include "keepsock/glob.h"

/* Matches one character against what is at pattern[*at], no '*', and moves behind that. */
typedef bool match_one_fn(struct slice pattern, size_t *at, char c);

/* Index of the ']' that ends the set at pattern[at]; 0 if it does not end. */
static size_t set_end(struct slice pattern, size_t at)
{
	size_t i = at + 1;

	if (i < pattern.len && pattern.data[i] == '!')
		i++;
	/* The first character of a set may be ']' itself. */
	for (i++; i < pattern.len; i++)
		if (pattern.data[i] == ']')
			return i;
	return 0;
}

static bool set_has(struct slice set, char c)
{
	bool negated = set.data[0] == '!';
	bool found = false;

	for (size_t i = negated; i < set.len; i++) {
		unsigned char first = (unsigned char)set.data[i], last = first;

		if (i + 2 < set.len && set.data[i + 1] == '-') {
			last = (unsigned char)set.data[i + 2];
			i += 2;
		}
		if ((unsigned char)c >= first && (unsigned char)c <= last)
			found = true;
	}
	return found != negated;
}

static bool match_one(struct slice pattern, size_t *at, char c)
{
	size_t i = *at, end;

	switch (pattern.data[i]) {
	case '?': *at = i + 1; return true;
	case '[':
		end = set_end(pattern, i);
		if (end == 0)
			break;
		*at = end + 1;
		return set_has(slice_from(pattern.data + i + 1, end - i - 1), c);
	case '\\':
		if (i + 1 < pattern.len)
			i++;
		break;
	default: break;
	}
	*at = i + 1;
	return pattern.data[i] == c;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool match_one_plain(struct slice pattern, size_t *at, char c)
{
	char wanted = pattern.data[(*at)++];

	return wanted == '?' || lower(wanted) == lower(c);
}

static bool match(struct slice pattern, struct slice text, match_one_fn *match_one_at)
{
	size_t p = 0, t = 0;
	size_t star = pattern.len, retry = 0; /* the latest '*', and where its text ends */

	while (t < text.len) {
		if (p < pattern.len && pattern.data[p] == '*') {
			star = p++;
			retry = t;
		} else if (p < pattern.len && match_one_at(pattern, &p, text.data[t])) {
			t++;
		} else if (star < pattern.len) {
			p = star + 1;
			t = ++retry;
		} else {
			return false;
		}
	}
	while (p < pattern.len && pattern.data[p] == '*')
		p++;
	return p == pattern.len;
}

bool glob_match(struct slice pattern, struct slice text)
{
	return match(pattern, text, match_one);
}

bool glob_match_origin(struct slice pattern, struct slice text)
{
	return match(pattern, text, match_one_plain);
}
