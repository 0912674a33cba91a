-- SPDX-License-Identifier: ISC
--
-- Forgets the last commands of clients that are gone.
--
-- KEYS  1 the slot's done hash
-- ARGV  the clients
-- Reply the number of clients that were known

return redis.call('HDEL', KEYS[1], unpack(ARGV))
