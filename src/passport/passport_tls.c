/* SPDX-License-Identifier: ISC */
/*
 * What a TLS connection's passport refers to: its record layer, and behind that
 * the facts of the peer's certificate. Run by the worker that owns the arena.
 * Must never write a byte that a committed word reaches.
 */
#include <string.h>

#include "keepsock/passport.h"
#include "keepsock/secret.h"

/* --- the certificate --- */

void passport_peer_append(struct buffer *out, const struct passport_peer *head,
			  const struct slice texts[PASSPORT_PEER_TEXTS])
{
	struct passport_peer peer = *head;

	for (int i = 0; i < PASSPORT_PEER_TEXTS; i++)
		peer.length[i] = (uint16_t)texts[i].len;
	buffer_append(out, &peer, sizeof(peer));
	for (int i = 0; i < PASSPORT_PEER_TEXTS; i++)
		buffer_append_slice(out, texts[i]);
}

static const struct passport_peer *peer_at(const struct arena *arena, arena_ref tls)
{
	if (arena_class_of(arena, tls) == ARENA_CHUNK_256)
		return NULL;
	return (const void *)((const uint8_t *)arena_at(arena, tls) + sizeof(struct passport_tls));
}

const struct passport_peer *passport_peer(const struct arena *arena,
					  const struct passport *passport)
{
	return passport->tls ? peer_at(arena, passport->tls) : NULL;
}

struct slice passport_peer_text(const struct passport_peer *peer, enum passport_peer_text which)
{
	const char *at = peer->data;

	for (unsigned i = 0; i < which; i++)
		at += peer->length[i];
	return slice_from(at, peer->length[which]);
}

size_t passport_peer_length(const struct passport_peer *peer)
{
	size_t length = sizeof(*peer);

	for (int i = 0; i < PASSPORT_PEER_TEXTS; i++)
		length += peer->length[i];
	return length;
}

/* --- the chunk --- */

static enum arena_class class_for(size_t length)
{
	enum arena_class class = ARENA_CHUNK_256;

	while (class < ARENA_CLASSES && arena_class_size(class) < length)
		class ++;
	return class;
}

arena_ref passport_tls_make(struct arena *arena, const struct passport_tls *fresh,
			    struct slice peer)
{
	enum arena_class class = class_for(sizeof(*fresh) + peer.len);
	arena_ref ref = class < ARENA_CLASSES ? arena_record_alloc(arena, class) : 0;
	uint8_t *at = ref ? arena_at(arena, ref) : NULL;

	if (!ref)
		return 0;
	memcpy(at, fresh, sizeof(*fresh));
	if (peer.len > 0)
		memcpy(at + sizeof(*fresh), peer.data, peer.len);
	return ref;
}

void passport_tls_free(struct arena *arena, arena_ref tls)
{
	secret_wipe(arena_at(arena, tls), sizeof(struct passport_tls));
	arena_record_free(arena, tls);
}

bool passport_tls_fits(const struct arena *arena, arena_ref tls)
{
	enum arena_class class = arena_class_of(arena, tls);
	const struct passport_peer *peer;

	if (class < ARENA_CHUNK_256 || class >= ARENA_CLASSES)
		return false;
	peer = peer_at(arena, tls);
	return !peer ||
	       sizeof(struct passport_tls) + passport_peer_length(peer) <= arena_class_size(class);
}
