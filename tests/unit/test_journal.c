/* SPDX-License-Identifier: ISC */
/*
 * The kernel's word on what a killed process had read and written: processes
 * that do nothing else are killed at random moments, and what the journal says
 * is compared with what is left in the sockets. KILLS in the environment asks
 * for more of them, SEED for the same ones again.
 */
#include "worker/journal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define KILLS       400
#define CONNECTIONS 2
#define CHUNK       20000u

/* --- randomness, and the bytes that travel --- */

static uint64_t random_state;

static uint64_t next_random(void)
{
	random_state += 0x9e3779b97f4a7c15u;
	uint64_t x = random_state;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static unsigned below(unsigned n)
{
	return (unsigned)(next_random() % n);
}

/* The byte at an offset of every stream: no place looks like another. */
static uint8_t byte_at(uint64_t offset)
{
	uint64_t x = offset * 0x9e3779b97f4a7c15u;

	return (uint8_t)((x ^ x >> 29) * 0xbf58476d1ce4e5b9u >> 56);
}

/* --- connections --- */

struct pair {
	int owner, peer;
	enum journal_side side; /* of the owner */
};

static int listen_anywhere(struct sockaddr_in *address)
{
	socklen_t length = sizeof(*address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*address = (struct sockaddr_in){.sin_family = AF_INET,
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)address, sizeof(*address)), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)address, &length), 0);
	return fd;
}

static void open_pair(struct pair *pair, enum journal_side side)
{
	struct sockaddr_in address;
	int listener = listen_anywhere(&address);
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int server, small = 4096;

	/* Small buffers fill up, so that reads and writes are partial ones. */
	if (below(2))
		(void)setsockopt(client, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	if (below(2))
		(void)setsockopt(client, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
	server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(server >= 0);
	close(listener);
	pair->side = side;
	pair->owner = side == JOURNAL_ACCEPTED ? server : client;
	pair->peer = side == JOURNAL_ACCEPTED ? client : server;
}

static void close_pair(struct pair *pair)
{
	close(pair->owner);
	close(pair->peer);
}

/* --- processes --- */

/* What the peer knows when it has ended. */
struct known {
	atomic_bool stop;
	struct {
		uint64_t sent, received;
		bool differs; /* a byte was not the one of its place */
	} of[CONNECTIONS];
};

static size_t send_some(int fd, uint64_t offset)
{
	static uint8_t data[CHUNK];
	size_t length = 1 + below(below(2) ? 100 : CHUNK);
	ssize_t sent;

	for (size_t i = 0; i < length; i++)
		data[i] = byte_at(offset + i);
	sent = send(fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	return sent > 0 ? (size_t)sent : 0;
}

/* Bytes taken; *differs is set if they are not those that belong there. */
static size_t receive_some(int fd, uint64_t offset, bool *differs)
{
	static uint8_t data[CHUNK];
	ssize_t got = recv(fd, data, 1 + below(below(2) ? 100 : CHUNK), MSG_DONTWAIT);

	for (ssize_t i = 0; i < got; i++)
		*differs |= data[i] != byte_at(offset + (uint64_t)i);
	return got > 0 ? (size_t)got : 0;
}

/* Reads and writes without ever counting in a place that outlives it. */
static void run_owner(const struct pair *pairs, bool may_shut)
{
	uint64_t sent[CONNECTIONS] = {0}, received[CONNECTIONS] = {0};
	bool shut[CONNECTIONS] = {0}, differs = false;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		unsigned i = below(CONNECTIONS);

		if (below(2))
			received[i] += receive_some(pairs[i].owner, received[i], &differs);
		else if (may_shut && below(20) == 0)
			shut[i] = shutdown(pairs[i].owner, SHUT_WR) == 0;
		else if (!shut[i])
			sent[i] += send_some(pairs[i].owner, sent[i]);
	}
}

static void run_peer(const struct pair *pairs, struct known *known, bool may_shut)
{
	bool shut[CONNECTIONS] = {0};

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!atomic_load(&known->stop)) {
		unsigned i = below(CONNECTIONS);

		if (below(2))
			known->of[i].received += receive_some(pairs[i].peer, known->of[i].received,
							      &known->of[i].differs);
		else if (may_shut && below(20) == 0)
			shut[i] = shutdown(pairs[i].peer, SHUT_WR) == 0;
		else if (!shut[i])
			known->of[i].sent += send_some(pairs[i].peer, known->of[i].sent);
	}
	_exit(0);
}

static void pause_randomly(void)
{
	struct timespec time = {0, (long)below(below(2) ? 300000 : 3000000)};

	nanosleep(&time, NULL);
}

/* --- the comparison --- */

/* Takes what is left in a socket whose other side sends nothing more, until its end. */
static uint64_t drain(int fd, uint64_t offset, bool *differs)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	uint8_t data[65536];
	uint64_t total = 0;
	ssize_t got;

	while ((got = recv(fd, data, sizeof(data), MSG_DONTWAIT)) != 0) {
		if (got < 0) {
			assert_int_equal(errno, EAGAIN);
			assert_int_equal(poll(&ready, 1, 10000), 1);
			continue;
		}
		for (ssize_t i = 0; i < got; i++)
			*differs |= data[i] != byte_at(offset + total + (uint64_t)i);
		total += (uint64_t)got;
	}
	return total;
}

static void compare(const struct pair *pair, const struct journal *journal, uint64_t sent,
		    uint64_t received)
{
	bool differs = false;
	uint64_t left;

	/* What is left begins where the journal says that the dead process stopped. */
	(void)shutdown(pair->peer, SHUT_WR);
	left = drain(pair->owner, journal->read, &differs);
	assert_false(differs);
	assert_int_equal(journal->read + left, sent);
	(void)shutdown(pair->owner, SHUT_WR);
	left = drain(pair->peer, received, &differs);
	assert_false(differs);
	assert_int_equal(journal->written, received + left);
}

static void kill_one(struct known *known)
{
	struct pair pairs[CONNECTIONS];
	struct journal first[CONNECTIONS], journal;
	/* Not both: what both have closed tells nothing any more. */
	bool owner_may_shut = below(4) == 0, peer_may_shut = !owner_may_shut && below(4) == 0;
	pid_t owner, peer;
	int status;

	memset(known, 0, sizeof(*known));
	for (unsigned i = 0; i < CONNECTIONS; i++)
		open_pair(&pairs[i], below(2) ? JOURNAL_ACCEPTED : JOURNAL_CONNECTED);
	owner = fork();
	if (owner == 0)
		run_owner(pairs, owner_may_shut);
	(void)next_random(); /* the two are to do different things */
	peer = fork();
	if (peer == 0)
		run_peer(pairs, known, peer_may_shut);
	assert_true(owner > 0 && peer > 0);
	pause_randomly();
	assert_int_equal(kill(owner, SIGKILL), 0);
	assert_int_equal(waitpid(owner, &status, 0), owner);
	for (unsigned i = 0; i < CONNECTIONS; i++)
		assert_int_equal(journal_look(pairs[i].owner, pairs[i].side, &first[i]),
				 JOURNAL_EXACT);
	/* Whatever the peer does meanwhile changes nothing of that. */
	pause_randomly();
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		assert_int_equal(journal_look(pairs[i].owner, pairs[i].side, &journal),
				 JOURNAL_EXACT);
		assert_int_equal(journal.read, first[i].read);
		assert_int_equal(journal.written, first[i].written);
		assert_int_equal(journal.shut, first[i].shut);
	}
	atomic_store(&known->stop, true);
	assert_int_equal(waitpid(peer, &status, 0), peer);
	assert_int_equal(status, 0);
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		assert_false(known->of[i].differs);
		compare(&pairs[i], &first[i], known->of[i].sent, known->of[i].received);
		close_pair(&pairs[i]);
	}
}

static unsigned long number_from(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text ? strtoul(text, NULL, 10) : otherwise;
}

static void processes_killed_at_random_moments(void **state)
{
	struct known *known = mmap(NULL, sizeof(*known), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned long kills = number_from("KILLS", KILLS);

	(void)state;
	assert_ptr_not_equal(known, MAP_FAILED);
	random_state = number_from("SEED", (unsigned long)time(NULL));
	print_message("SEED=%llu\n", (unsigned long long)random_state);
	for (unsigned long i = 0; i < kills; i++)
		kill_one(known);
	munmap(known, sizeof(*known));
}

/* --- what it says of connections in each state --- */

static struct journal look(const struct pair *pair)
{
	struct journal journal;

	assert_int_equal(journal_look(pair->owner, pair->side, &journal), JOURNAL_EXACT);
	return journal;
}

static void wait_readable(int fd)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&ready, 1, 10000), 1);
}

static void check_states(enum journal_side side)
{
	struct pair pair;
	char data[100];

	open_pair(&pair, side);
	assert_int_equal(look(&pair).read, 0);
	assert_int_equal(look(&pair).written, 0);
	assert_int_equal(write(pair.peer, "hello", 5), 5);
	assert_int_equal(shutdown(pair.peer, SHUT_WR), 0);
	wait_readable(pair.owner);
	while (!look(&pair).peer_fin)
		;
	assert_int_equal(look(&pair).read, 0);
	assert_int_equal(read(pair.owner, data, 2), 2);
	assert_int_equal(look(&pair).read, 2);
	assert_int_equal(read(pair.owner, data, 100), 3);
	assert_int_equal(look(&pair).read, 5);
	/* The FIN itself, read, is no byte either. */
	assert_int_equal(read(pair.owner, data, 100), 0);
	assert_int_equal(look(&pair).read, 5);
	assert_int_equal(write(pair.owner, "goodbye", 7), 7);
	assert_int_equal(look(&pair).written, 7);
	assert_false(look(&pair).shut);
	close_pair(&pair);
}

static void counts_neither_syn_nor_fin(void **state)
{
	(void)state;
	check_states(JOURNAL_ACCEPTED);
	check_states(JOURNAL_CONNECTED);
}

static void check_own_fin(enum journal_side side)
{
	struct pair pair;
	char data[100];

	open_pair(&pair, side);
	assert_int_equal(write(pair.owner, "goodbye", 7), 7);
	assert_int_equal(shutdown(pair.owner, SHUT_WR), 0);
	assert_true(look(&pair).shut);
	assert_int_equal(look(&pair).written, 7);
	assert_int_equal(recv(pair.peer, data, 7, MSG_WAITALL), 7);
	assert_int_equal(look(&pair).written, 7);
	assert_int_equal(write(pair.peer, "more", 4), 4);
	assert_int_equal(recv(pair.owner, data, 4, MSG_WAITALL), 4);
	assert_int_equal(look(&pair).read, 4);
	assert_false(look(&pair).peer_fin);
	close_pair(&pair);
}

static void our_own_end_is_no_byte(void **state)
{
	(void)state;
	check_own_fin(JOURNAL_ACCEPTED);
	check_own_fin(JOURNAL_CONNECTED);
}

static void a_reset_connection_has_ended(void **state)
{
	const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
	struct journal journal;
	struct pair pair;

	(void)state;
	open_pair(&pair, JOURNAL_ACCEPTED);
	assert_int_equal(setsockopt(pair.peer, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)),
			 0);
	close(pair.peer);
	wait_readable(pair.owner);
	assert_int_equal(journal_look(pair.owner, pair.side, &journal), JOURNAL_ENDED);
	close(pair.owner);
}

static void closed_by_both_it_has_ended(void **state)
{
	struct journal journal;
	struct pair pair;

	(void)state;
	open_pair(&pair, JOURNAL_ACCEPTED);
	assert_int_equal(shutdown(pair.owner, SHUT_WR), 0);
	close(pair.peer);
	wait_readable(pair.owner);
	while (journal_look(pair.owner, pair.side, &journal) != JOURNAL_ENDED)
		;
	close(pair.owner);
}

static void other_sockets_are_not_readable(void **state)
{
	struct journal journal;
	int pair[2];

	(void)state;
	assert_int_equal(journal_look(-1, JOURNAL_ACCEPTED, &journal), JOURNAL_UNREADABLE);
	assert_int_equal(errno, EBADF);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(journal_look(pair[0], JOURNAL_ACCEPTED, &journal), JOURNAL_UNREADABLE);
	close(pair[0]);
	close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_neither_syn_nor_fin),
		cmocka_unit_test(our_own_end_is_no_byte),
		cmocka_unit_test(a_reset_connection_has_ended),
		cmocka_unit_test(closed_by_both_it_has_ended),
		cmocka_unit_test(other_sockets_are_not_readable),
		cmocka_unit_test(processes_killed_at_random_moments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
