/* SPDX-License-Identifier: ISC */
/*
 * What a predecessor had begun when it died: the read or write that the work
 * slot names, and the send to the subscriber that the fan-out's cursor names.
 * How far each got is the kernel's to say (journal.h); one commit makes it the
 * arena's. Run by the worker, once at its start, before anybody reads or writes.
 */
#include <errno.h>
#include <string.h>

#include "keepsock/log.h"
#include "worker/adopt_private.h"
#include "worker/fanout.h"
#include "worker/journal.h"

/* Where a connection's socket is. */
static int socket_of(const struct adoption *adoption, arena_ref ref)
{
	struct worker *w = adoption->worker;
	const struct passport *passport = arena_at(w->arena, ref);

	if (passport->kind == PASSPORT_CLIENT)
		return connection_at(w, ref)->fd;
	for (unsigned i = 0; i < ARENA_SHARDS_MAX; i++) {
		if (w->arena->header->shards[i].passport == ref)
			return adoption->redis_fds[i];
	}
	return -1;
}

/*
 * A connection whose position is not known can't go on: what would be read or
 * written next is not what the peer takes it for. Its socket goes, and with it
 * the connection.
 */
static void give_up(struct adoption *adoption, arena_ref ref, const char *why)
{
	struct worker *w = adoption->worker;
	const struct passport *passport = arena_at(w->arena, ref);

	log_warning("position_unknown kind=%u peer_port=%u reason=%s action=close",
		    (unsigned)passport->kind, (unsigned)passport->peer_port, log_value_str(why));
	adopt_drop_socket(adoption, ref);
}

static bool look(struct adoption *adoption, arena_ref ref, struct journal *journal)
{
	struct worker *w = adoption->worker;
	const struct passport *passport = arena_at(w->arena, ref);
	int fd = socket_of(adoption, ref);

	if (fd < 0)
		return false;
	switch (journal_look(
		fd, passport->kind == PASSPORT_CLIENT ? JOURNAL_ACCEPTED : JOURNAL_CONNECTED,
		journal)) {
	case JOURNAL_EXACT: return true;
	case JOURNAL_ENDED: give_up(adoption, ref, "it has ended"); break;
	case JOURNAL_UNREADABLE: give_up(adoption, ref, strerror(errno)); break;
	}
	return false;
}

/* --- the work slot --- */

/* Bytes that were read and not committed lie in the scratch, behind those that were kept. */
static void settle_read(struct adoption *adoption, arena_ref ref, const struct journal *journal)
{
	struct worker *w = adoption->worker;
	struct work_slot *work = &w->arena->header->work;
	struct passport *passport = arena_at(w->arena, ref);
	uint64_t end = queue_end(passport_read_queue(w->arena, passport));
	uint64_t kept = end - work->read_base, got = journal->read - end;
	struct stream_queue *in;

	if (journal->read < end || work->read_base > end || kept > ARENA_READ_SCRATCH ||
	    got > ARENA_READ_SCRATCH - kept) {
		give_up(adoption, ref, "more or less was read than could be");
		return;
	}
	passport_draft_begin(&w->draft, ref);
	in = passport->tls ? &passport_draft_tls(&w->draft)->in : &w->draft.now.in;
	if (passport->state == PASSPORT_STATE_DRAINING)
		in->done = in->end = journal->read;
	else
		queue_append(&w->draft, in, w->arena->scratch + kept, (size_t)got);
	arena_commit_add(&w->draft.commit, &work->syscall, 0);
	if (!passport_draft_commit(&w->draft))
		give_up(adoption, ref, "arena full");
}

static void settle_write(struct adoption *adoption, arena_ref ref, const struct journal *journal)
{
	struct worker *w = adoption->worker;
	struct passport *passport = arena_at(w->arena, ref);
	uint64_t sent = journal->written - passport->out.done;

	if (journal->written < passport->out.done || sent > queue_length(&passport->out)) {
		give_up(adoption, ref, "more or less was written than could be");
		return;
	}
	passport_draft_begin(&w->draft, ref);
	queue_consume(&w->draft, &w->draft.now.out, sent);
	arena_commit_add(&w->draft.commit, &w->arena->header->work.syscall, 0);
	passport_draft_commit(&w->draft);
}

static void settle_syscall(struct adoption *adoption)
{
	struct work_slot *work = &adoption->worker->arena->header->work;
	uint64_t syscall = atomic_load(&work->syscall);
	struct journal journal;

	if (!syscall)
		return;
	if (look(adoption, WORK_REF(syscall), &journal)) {
		if (WORK_KIND(syscall) == WORK_SYSCALL_READ)
			settle_read(adoption, WORK_REF(syscall), &journal);
		else
			settle_write(adoption, WORK_REF(syscall), &journal);
	}
	/* Whoever is given up is in no doubt any more. */
	arena_store(&work->syscall, 0);
}

/* --- the fan-out's cursor --- */

/* The subscriber that may or may not have got the frame; 0: nobody is in doubt. */
static arena_ref doubtful_subscriber(struct worker *w)
{
	const struct fanout_record *record = &w->arena->header->fanout;
	uint64_t cursor = atomic_load(&record->cursor);
	const struct passport *passport;
	struct subscriber entry;

	if (!record->batch || cursor == FANOUT_NONE || (cursor & FANOUT_SETTLED))
		return 0;
	entry = *hub_subscriber(&w->hub, hub_channel_at(&w->hub, (arena_ref)record->channel),
				FANOUT_INDEX(cursor));
	if (!entry.passport)
		return 0;
	passport = arena_at(w->arena, entry.passport);
	/* The position moves only once the send is counted. */
	return (uint32_t)passport->out.done == (uint32_t)cursor ? entry.passport : 0;
}

static void settle_fanout(struct adoption *adoption)
{
	struct worker *w = adoption->worker;
	arena_ref ref = doubtful_subscriber(w);
	const struct passport *passport;
	struct journal journal;

	if (!ref || !look(adoption, ref, &journal))
		return;
	passport = arena_at(w->arena, ref);
	if (journal.written < passport->out.done || queue_length(&passport->out) > 0 ||
	    journal.written - passport->out.done > fanout_frame_length(w, passport)) {
		give_up(adoption, ref, "more or less was sent than could be");
		return;
	}
	if (!fanout_adopt_sent(w, ref, journal.written - passport->out.done))
		give_up(adoption, ref, "arena full");
}

void adopt_settle(struct adoption *adoption)
{
	settle_syscall(adoption);
	settle_fanout(adoption);
}
