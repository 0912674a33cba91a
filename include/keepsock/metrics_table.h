/* SPDX-License-Identifier: ISC */
/*
 * Every metric of a node, once. The node page, /metrics, `show metrics`,
 * `show workers` and the tests read this table; a metric that is not in it
 * does not exist. Included by metrics.h only.
 *
 * METRIC(name, kind, help): on the wire the name gets the prefix keepsock_,
 * in C it is METRIC_<name>. Counters end in _total and only ever grow, across
 * worker restarts too. Kinds: COUNTER and GAUGE are summed over the node's
 * processes, GAUGE_WORST shows the largest worker's value, GAUGE_LEAST the
 * smallest (so a 0/1 gauge of that kind says "all of them").
 */
#ifndef KEEPSOCK_METRICS_TABLE_H
#define KEEPSOCK_METRICS_TABLE_H

/* clang-format off */
#define METRICS_TABLE(METRIC)                                                                      \
	METRIC(connections_accepted_total, COUNTER,                                                \
	       "TCP connections accepted.")                                                        \
	METRIC(connections_open, GAUGE,                                                            \
	       "TCP connections open now.")                                                        \
	METRIC(client_connections, GAUGE,                                                          \
	       "WebSocket connections open now.")                                                  \
	METRIC(connections_refused_total, COUNTER,                                                 \
	       "Connections refused because of a limit.")                                          \
	METRIC(http_requests_total, COUNTER,                                                       \
	       "HTTP requests received, WebSocket upgrades included.")                             \
	METRIC(http_errors_total, COUNTER,                                                         \
	       "HTTP requests answered with a status of 400 or more.")                             \
	METRIC(websocket_upgrades_total, COUNTER,                                                  \
	       "HTTP connections that became WebSocket connections.")                              \
	METRIC(websocket_messages_received_total, COUNTER,                                         \
	       "WebSocket messages received, control frames not counted.")                         \
	METRIC(websocket_messages_sent_total, COUNTER,                                             \
	       "WebSocket messages sent, control frames not counted.")                             \
	METRIC(deflate_connections, GAUGE,                                                         \
	       "WebSocket connections that agreed to permessage-deflate.")                         \
	METRIC(deflate_messages_total, COUNTER,                                                    \
	       "Messages compressed; a broadcast counts once, whoever gets it.")                   \
	METRIC(deflate_input_bytes_total, COUNTER,                                                 \
	       "Bytes of the messages compressed.")                                                \
	METRIC(deflate_output_bytes_total, COUNTER,                                                \
	       "Bytes they became.")                                                               \
	METRIC(deflate_saved_bytes_total, COUNTER,                                                 \
	       "Bytes that were not sent because a compressed message went instead.")              \
	METRIC(inflate_messages_total, COUNTER,                                                    \
	       "Compressed messages received and decompressed.")                                   \
	METRIC(inflate_input_bytes_total, COUNTER,                                                 \
	       "Bytes of compressed messages received.")                                           \
	METRIC(inflate_output_bytes_total, COUNTER,                                                \
	       "Bytes they became.")                                                               \
	METRIC(inflate_refused_total, COUNTER,                                                     \
	       "Compressed messages refused: damaged, too big, or no text.")                       \
	METRIC(bytes_received_total, COUNTER,                                                      \
	       "Bytes read from client sockets.")                                                  \
	METRIC(bytes_sent_total, COUNTER,                                                          \
	       "Bytes written to client sockets.")                                                 \
	METRIC(commands_total, COUNTER,                                                            \
	       "Client protocol commands received.")                                               \
	METRIC(command_errors_total, COUNTER,                                                      \
	       "Client protocol commands answered with an error.")                                 \
	METRIC(disconnects_total, COUNTER,                                                         \
	       "Client connections that the server closed with a disconnect code.")                \
	METRIC(publications_published_total, COUNTER,                                              \
	       "Publications accepted from clients and the API and stored in Redis.")              \
	METRIC(publications_suppressed_total, COUNTER,                                             \
	       "Publications not stored because of their idempotency key or version.")            \
	METRIC(api_calls_total, COUNTER,                                                           \
	       "Calls of the HTTP API, each command of a batch by itself.")                        \
	METRIC(api_errors_total, COUNTER,                                                          \
	       "Calls of the HTTP API answered with an error code.")                               \
	METRIC(user_commands_total, COUNTER,                                                       \
	       "API commands on users that every worker of every node has carried out.")          \
	METRIC(user_commands_incomplete_total, COUNTER,                                            \
	       "API commands on users answered with error 100: not every worker confirmed it.")   \
	METRIC(surveys_incomplete_total, COUNTER,                                                  \
	       "Questions to all workers that some did not answer in time.")                      \
	METRIC(sessions_registered, GAUGE,                                                         \
	       "Sessions of this node's clients in the registry, as of the last write.")           \
	METRIC(session_writes_failed_total, COUNTER,                                               \
	       "Writes to the session registry that failed; it is written again as a whole.")      \
	METRIC(sessions_left_behind_total, COUNTER,                                                \
	       "Sessions that stay registered until their worker ends: too many left at once.")    \
	METRIC(publications_delivered_total, COUNTER,                                              \
	       "Publications received from Redis for channels with subscribers here.")             \
	METRIC(pushes_queued_total, COUNTER,                                                       \
	       "Pushes queued to client connections.")                                             \
	METRIC(slow_closed_total, COUNTER,                                                         \
	       "Client connections closed because their queue was full.")                          \
	METRIC(subscriptions, GAUGE,                                                               \
	       "Subscriptions of client connections to channels now.")                             \
	METRIC(channels, GAUGE,                                                                    \
	       "Channels with at least one subscriber, counted once per worker.")                  \
	METRIC(redis_subscription_connected, GAUGE,                                                \
	       "Subscription connections to Redis that are up.")                                   \
	METRIC(redis_subscription_reconnects_total, COUNTER,                                       \
	       "Times a subscription connection to Redis was made anew.")                          \
	METRIC(redis_probe_age_milliseconds, GAUGE_WORST,                                          \
	       "Age of the delivery probe heard last, the worst of all shards and workers.")       \
	METRIC(redis_probes_lost_total, COUNTER,                                                   \
	       "Times a subscription connection delivered nothing although Redis answered.")       \
	METRIC(redis_continuity_renewed_total, COUNTER,                                            \
	       "Times a worker learned that Redis had lost something: positions became void.")     \
	METRIC(workers_purged_total, COUNTER,                                                      \
	       "Dead workers that this node took out of Redis, counted for each shard.")           \
	METRIC(redis_commands_total, COUNTER,                                                      \
	       "Commands sent to Redis.")                                                          \
	METRIC(redis_command_errors_total, COUNTER,                                                \
	       "Commands that Redis answered with an error or that found it away.")                \
	METRIC(redis_command_timeouts_total, COUNTER,                                              \
	       "Commands that Redis did not answer in time.")                                      \
	METRIC(redis_command_connections, GAUGE,                                                   \
	       "Command connections to Redis that are up.")                                        \
	METRIC(redis_overflow_connections, GAUGE,                                                  \
	       "Command connections to Redis beyond pool_size, because all were busy.")            \
	METRIC(redis_connections_recycled_total, COUNTER,                                          \
	       "Command connections to Redis that were replaced for their age.")                   \
	METRIC(redis_unreplicated_total, COUNTER,                                                  \
	       "Publications in Redis that too few replicas confirmed in time.")                   \
	METRIC(redis_master_changes_total, COUNTER,                                                \
	       "Changes of a Redis master that Sentinels told of.")                                \
	METRIC(healthy, GAUGE_LEAST,                                                               \
	       "1 when every worker could take clients, whatever the node's role.")                \
	METRIC(role_primary, GAUGE,                                                                \
	       "1 on a node that is the primary, or has no peers.")                                \
	METRIC(role_epoch, GAUGE,                                                                  \
	       "Epoch of the node's last promotion, 0 when there was none.")                       \
	METRIC(role_fenced, GAUGE_WORST,                                                           \
	       "1 on a primary that Redis refuses because another node has been promoted.")        \
	METRIC(role_fenced_total, COUNTER,                                                         \
	       "Publications and subscriptions refused for the node's role.")                      \
	METRIC(standby_refusals_total, COUNTER,                                                    \
	       "HTTP requests answered with 503 because the node is a standby or is drained.")     \
	METRIC(drained_connections_total, COUNTER,                                                 \
	       "Client connections closed by a drain or a demotion.")                              \
	METRIC(accepts_paced_total, COUNTER,                                                       \
	       "Times a worker paused accepting for cluster.accept_rate.")                         \
	METRIC(arena_bytes_used, GAUGE,                                                            \
	       "Bytes of the workers' arenas that are in use.")                                    \
	METRIC(arena_bytes_cap, GAUGE,                                                             \
	       "Bytes that the workers' arenas may grow to.")                                      \
	METRIC(loop_lag_microseconds, GAUGE_WORST,                                                 \
	       "Lateness of the event loop, the worst of the last second and of all workers; "     \
	       "that of a loop that stands still grows.")                                          \
	METRIC(loop_lag_warnings_total, COUNTER,                                                   \
	       "Times an event loop was later than node.loop_lag_warning.")                        \
	METRIC(tls_certificates, GAUGE,                                                            \
	       "Certificates of TLS listeners in force.")                                          \
	METRIC(tls_certificate_days_left, GAUGE,                                                   \
	       "Days until the first of them expires; 0 when it has, and when there is none.")     \
	METRIC(tls_certificate_reloads_total, COUNTER,                                             \
	       "Times certificates were read again and put in force.")                             \
	METRIC(tls_certificate_errors_total, COUNTER,                                              \
	       "Times certificates that were read again were no good, the old ones staying.")      \
	METRIC(worker_restarts_total, COUNTER,                                                     \
	       "Workers that were replaced because they died.")                                    \
	METRIC(takeover_adoptions_total, COUNTER,                                                  \
	       "Workers that went on with what a dead one had left.")                              \
	METRIC(takeover_done_total, COUNTER,                                                       \
	       "Workers that were taken over from while they served: reloads, upgrades.")          \
	METRIC(takeover_failures_total, COUNTER,                                                   \
	       "Takeovers that were not done; the worker before went on, or died.")                \
	METRIC(takeover_moved_total, COUNTER,                                                      \
	       "Connections that such takeovers moved to another worker.")                         \
	METRIC(takeover_late_total, COUNTER,                                                       \
	       "Connections that followed later.")                                                 \
	METRIC(takeover_lost_total, COUNTER,                                                       \
	       "Connections that such takeovers lost.")                                            \
	METRIC(takeover_prepare_microseconds, GAUGE,                                               \
	       "Time that the last takeover prepared for while the old worker served.")            \
	METRIC(takeover_freeze_microseconds, GAUGE,                                                \
	       "Time that nobody was served in the last takeover of a worker.")                    \
	METRIC(takeover_connections_total, COUNTER,                                                \
	       "Connections that lived on in another worker.")                                     \
	METRIC(takeover_connections_lost_total, COUNTER,                                           \
	       "Connections that did not: damaged, or not deposited yet.")                         \
	METRIC(takeover_blamed_connections_total, COUNTER,                                         \
	       "Connections closed because workers died serving them again and again.")            \
	METRIC(takeover_skipped_batches_total, COUNTER,                                            \
	       "Fan-outs given up because workers died of them again and again.")                  \
	METRIC(takeover_microseconds, GAUGE_WORST,                                                 \
	       "Time from the start of the worker's adoption to its first loop turn.")             \
	METRIC(keeper_restarts_total, COUNTER,                                                     \
	       "Keepers that the master replaced because they died.")                              \
	METRIC(keeper_descriptors, GAUGE,                                                          \
	       "Descriptors that keepers hold for the next worker.")                               \
	METRIC(workers_protected, GAUGE,                                                           \
	       "Workers whose keeper holds everything that a successor needs.")                    \
	METRIC(tls_connections, GAUGE,                                                             \
	       "Connections open now whose TLS handshake is over.")                                \
	METRIC(tls_handshakes_open, GAUGE,                                                         \
	       "TLS handshakes under way.")                                                        \
	METRIC(tls_handshakes_total, COUNTER,                                                      \
	       "TLS handshakes that led to a connection.")                                         \
	METRIC(tls_handshakes_resumed_total, COUNTER,                                              \
	       "Those of them that resumed a session by a ticket.")                                \
	METRIC(tls_handshakes_timeout_total, COUNTER,                                              \
	       "TLS handshakes that took longer than handshake_timeout.")                          \
	METRIC(tls_handshakes_inherited_total, COUNTER,                                            \
	       "Those that the worker before ended, after its successor had taken over.")          \
	METRIC(tls_handshakes_dropped_total, COUNTER,                                              \
	       "TLS handshakes that were closed because they outlasted takeover.linger.")          \
	METRIC(tls_handshakes_aborted_total, COUNTER,                                              \
	       "TLS handshakes whose client went away.")                                           \
	METRIC(tls_handshakes_failed_plain_http_total, COUNTER,                                    \
	       "TLS handshakes that were HTTP requests without TLS: answered 400.")                \
	METRIC(tls_handshakes_failed_not_tls_total, COUNTER,                                       \
	       "TLS handshakes that were no TLS.")                                                 \
	METRIC(tls_handshakes_failed_version_total, COUNTER,                                       \
	       "TLS handshakes without a version in common.")                                      \
	METRIC(tls_handshakes_failed_suite_total, COUNTER,                                         \
	       "TLS handshakes without a suite or curve in common.")                               \
	METRIC(tls_handshakes_failed_certificate_total, COUNTER,                                   \
	       "TLS handshakes whose client's certificate is missing or not good.")                \
	METRIC(tls_handshakes_failed_peer_alert_total, COUNTER,                                    \
	       "TLS handshakes that the client gave up with an alert.")                            \
	METRIC(tls_handshakes_failed_alpn_total, COUNTER,                                          \
	       "TLS handshakes without an application protocol in common.")                        \
	METRIC(tls_handshakes_failed_too_long_total, COUNTER,                                      \
	       "TLS handshakes of more bytes than any needs.")                                     \
	METRIC(tls_handshakes_failed_protocol_total, COUNTER,                                      \
	       "TLS handshakes that broke the protocol in another way.")                           \
	METRIC(tls_handshakes_failed_detach_total, COUNTER,                                        \
	       "TLS handshakes that could not be detached from OpenSSL.")                          \
	METRIC(tls_records_forged_total, COUNTER,                                                  \
	       "TLS records refused that were forged or damaged; the connection ends with an alert.") \
	METRIC(tls_records_oversized_total, COUNTER,                                               \
	       "TLS records refused longer than any may be; the connection ends with an alert.")   \
	METRIC(tls_records_version_total, COUNTER,                                                 \
	       "TLS records refused of another version; the connection ends with an alert.")       \
	METRIC(tls_records_unexpected_total, COUNTER,                                              \
	       "TLS records refused of a kind that was not due; the connection ends with an alert.") \
	METRIC(tls_records_interleaved_total, COUNTER,                                             \
	       "TLS records refused in the middle of another message; the connection ends with an alert.") \
	METRIC(tls_records_malformed_total, COUNTER,                                               \
	       "TLS records refused whose content is malformed; the connection ends with an alert.") \
	METRIC(tls_records_illegal_value_total, COUNTER,                                           \
	       "TLS records refused with a value that there is not; the connection ends with an alert.") \
	METRIC(tls_records_renegotiation_total, COUNTER,                                           \
	       "TLS records refused that asked for a renegotiation; the connection ends with an alert.") \
	METRIC(tls_records_fruitless_total, COUNTER,                                               \
	       "TLS records refused after too many without data; the connection ends with an alert.") \
	METRIC(tls_records_key_update_flood_total, COUNTER,                                        \
	       "TLS records refused with too many KeyUpdates; the connection ends with an alert.") \
	METRIC(tls_records_exhausted_total, COUNTER,                                               \
	       "TLS records refused beyond what a key may open; the connection ends with an alert.") \
	METRIC(tls_records_internal_total, COUNTER,                                                \
	       "TLS records refused because OpenSSL failed; the connection ends with an alert.")   \
	METRIC(tls_alerts_received_total, COUNTER,                                                 \
	       "TLS connections that the client ended with an alert.")                             \
	METRIC(tls_truncated_total, COUNTER,                                                       \
	       "TLS connections that ended without the client's close_notify.")                    \
	METRIC(tls_key_updates_received_total, COUNTER,                                            \
	       "KeyUpdates of clients.")                                                           \
	METRIC(tls_key_updates_sent_total, COUNTER,                                                \
	       "KeyUpdates sent: asked for, or due at the limit of a key.")                        \
	METRIC(ready, GAUGE_LEAST,                                                                 \
	       "1 when every worker may take clients.")
/* clang-format on */

#endif
