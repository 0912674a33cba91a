/* SPDX-License-Identifier: ISC */
/*
 * The commands and options of keepsock-bench: the parser, --help and the man
 * page docs/keepsock-bench.1.md all come from these two tables.
 */
#ifndef KEEPSOCK_BENCH_OPTIONS_TABLE_H
#define KEEPSOCK_BENCH_OPTIONS_TABLE_H

/*
 * BENCH_COMMAND(NAME, name, connections, messages, warm_up, size, in_flight, doc);
 * the numbers are the command's defaults.
 */
#define BENCH_COMMAND_TABLE(X)                                                                   \
	X(ECHO, echo, 200, 1000000, 100000, 20, 1,                                               \
	  "Sends messages to a URL that sends them back (keepsockd: /echo) and checks each "     \
	  "one. A connection sends --in-flight messages in one write and the next ones when "    \
	  "all of them have come back.")                                                         \
	X(FANOUT, fanout, 1000, 1000, 20, 128, 1,                                                \
	  "Connects subscribers to one channel, publishes to it and checks that every "          \
	  "subscriber gets every publication once and in order. The next publication is made "   \
	  "when fewer than --in-flight are still on their way to somebody, or at --rate.")       \
	X(IDLE, idle, 10000, 0, 0, 0, 100,                                                       \
	  "Opens connections, prints \"ready\" on stderr, holds them, answers pings, and tells " \
	  "the server's memory per connection.")                                                 \
	X(STORM, storm, 10000, 0, 0, 0, 100,                                                     \
	  "Opens connections as fast as the server takes them, or at --rate, with at most "      \
	  "--in-flight handshakes under way; tells connections per second.")

#define ON_ALL      (BENCH_ECHO | BENCH_FANOUT | BENCH_IDLE | BENCH_STORM)
#define ON_MESSAGES (BENCH_ECHO | BENCH_FANOUT)
#define ON_SESSIONS (BENCH_FANOUT | BENCH_IDLE | BENCH_STORM)

/* "The default depends on the command." */
#define PER_COMMAND (-1)

/*
 * BENCH_OPTION(name on the command line, member, TYPE, argument, default, min, max, commands, doc)
 * TYPE: TEXT, COUNT (min to max), FLAG, PID (repeatable).
 */
#define BENCH_OPTION_TABLE(X)                                                                     \
	X("url", url, TEXT, "URL", 0, 0, 0, ON_ALL,                                               \
	  "The WebSocket to connect to, ws://HOST:PORT/PATH, or wss:// for TLS, where the "       \
	  "server's certificate is not checked. Required.")                                       \
	X("publish-url", publish_url, TEXT, "URL", 0, 0, 0, BENCH_FANOUT,                         \
	  "Where to publish: http://HOST:PORT/api/publish for the server API, or a ws:// or "     \
	  "wss:// URL "                                                                           \
	  "whose WebSocket takes publish commands (with --raw: messages to broadcast). Without "  \
	  "it, --url. To http://HOST:PORT/api/batch, what is due goes in one call.")              \
	X("ciphersuites", ciphersuites, TEXT, "NAMES", 0, 0, 0, ON_ALL,                           \
	  "For wss://: offer TLS 1.3 only, with these suites, as OpenSSL names them and "         \
	  "separated by colons.")                                                                 \
	X("publishers", publishers, COUNT, "N", 1, 1, 4096, BENCH_FANOUT,                         \
	  "Connections that publish in turn. Of several, each one's publications keep their "     \
	  "order.")                                                                               \
	X("api-key-file", api_key_file, TEXT, "FILE", 0, 0, 0, BENCH_FANOUT,                      \
	  "A file with the API key for an http:// --publish-url.")                                \
	X("channel", channel, TEXT, "NAME", 0, 0, 0, ON_SESSIONS,                                 \
	  "The channel to subscribe to. fanout uses \"bench\" without it, idle and storm "        \
	  "subscribe to nothing.")                                                                \
	X("raw", raw, FLAG, "", 0, 0, 0, ON_SESSIONS,                                             \
	  "Speak plain WebSocket without the client protocol: subscribers only connect, and the " \
	  "server broadcasts what arrives at --publish-url.")                                     \
	X("socket-io", socket_io, FLAG, "", 0, 0, 0, ON_SESSIONS,                                 \
	  "Speak Socket.IO's protocol (version 5, WebSocket only, to answer no pings): "          \
	  "subscribers join the main namespace, the publisher emits \"publish\" and the server "  \
	  "emits \"m\" to everybody.")                                                            \
	X("recover", recover, FLAG, "", 0, 0, 0, BENCH_IDLE | BENCH_STORM,                        \
	  "Subscribe with recovery from the channel's beginning; the run fails when the server "  \
	  "does not recover everything.")                                                         \
	X("connections", connections, COUNT, "N", PER_COMMAND, 1, 1000000, ON_ALL,                \
	  "How many connections (fanout: subscribers). On loopback they are spread over several " \
	  "source addresses, so the port range is no limit.")                                     \
	X("messages", messages, COUNT, "N", PER_COMMAND, 1, 1000000000, ON_MESSAGES,              \
	  "Messages of one round: for echo over all connections, for fanout publications.")       \
	X("warm-up", warm_up, COUNT, "N", PER_COMMAND, 0, 1000000000, ON_MESSAGES,                \
	  "Messages before the first round that are not measured.")                               \
	X("size", size, COUNT, "BYTES", PER_COMMAND, 1, 16777216, ON_MESSAGES,                    \
	  "Payload of a WebSocket message: of each one echoed, or of each delivery. In a "        \
	  "delivery the client protocol's envelope is counted in, and 12 bytes number the "       \
	  "publication, so that is the least; offsets or other fields the server adds come on "   \
	  "top.")                                                                                 \
	X("in-flight", in_flight, COUNT, "N", PER_COMMAND, 1, 65536, ON_ALL,                      \
	  "echo: messages a connection sends at once. fanout: publications under way. idle and "  \
	  "storm: handshakes under way.")                                                         \
	X("rate", rate, COUNT, "N", 0, 0, 10000000, BENCH_FANOUT | BENCH_STORM,                   \
	  "fanout: publications per second, whether or not the ones before have arrived. storm: " \
	  "connections per second. 0: as fast as --in-flight allows.")                            \
	X("rounds", rounds, COUNT, "N", 1, 1, 1000, ON_MESSAGES,                                  \
	  "How often to measure, on the same connections; the figures are medians.")              \
	X("hold", hold, COUNT, "SECONDS", 0, 0, 31536000, BENCH_IDLE,                             \
	  "How long to hold the connections before the end; 0: until SIGINT or SIGTERM.")         \
	X("settle", settle, COUNT, "SECONDS", 1, 0, 3600, BENCH_IDLE,                             \
	  "Pause before each reading of the server's memory, for servers that collect garbage.")  \
	X("timeout", timeout, COUNT, "SECONDS", 30, 1, 3600, ON_ALL,                              \
	  "The run fails when nothing arrives for so long.")                                      \
	X("server-pid", server_pids, PID, "PID", 0, 0, 0, ON_ALL,                                 \
	  "A process of the server, to be given once for each of them (keepsockd: master, "       \
	  "workers, embedded Redis): its CPU time and memory become part of the result.")         \
	X("json", json, FLAG, "", 0, 0, 0, ON_ALL, "Print the result as one JSON object.")        \
	X("allow-remote", allow_remote, FLAG, "", 0, 0, 0, ON_ALL,                                \
	  "Allow a target that is not a loopback address. Never aim this program at a server "    \
	  "that is not yours.")

#endif
