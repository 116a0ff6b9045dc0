--[[ Say that this gateway lives, and count those that do. Also the probe that tells whether Redis takes writes.

  KEYS[1] gateways   a sorted set: gateway by the time it last said so
  ARGV[1] gateway    this gateway's id
  ARGV[2] lifeMs     a gateway that was silent for so long is not counted
  Returns the number of living gateways, this one included.
  The key lives twice as long as a silent gateway.
  Clock: redis TIME, never the caller's. ]]
local gateways, gateway, lifeMs = KEYS[1], ARGV[1], tonumber(ARGV[2])

local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', gateways, nowMs, gateway)
redis.call('ZREMRANGEBYSCORE', gateways, '-inf', nowMs - lifeMs)
-- From before the clock was set back.
redis.call('ZREMRANGEBYSCORE', gateways, nowMs + 1, '+inf')
redis.call('PEXPIRE', gateways, 2 * lifeMs)
return redis.call('ZCARD', gateways)
