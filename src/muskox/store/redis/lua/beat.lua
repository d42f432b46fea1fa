-- beat.lua · record that a worker lives, or is gone, and forget those that were silent for long
-- ASKED  id, record as JSON or "" when it is gone, µs after which the silent are forgotten
-- RETURNS  nothing
-- May run without memory to spare.

begin()
local id, record, forgotten = unpack(ASKED)
if record == '' then
  call('HDEL', P .. 'workers', id)
  call('ZREM', P .. 'beats', id)
else
  call('HSET', P .. 'workers', id, record)
  call('ZADD', P .. 'beats', now, id)
  for _, silent in ipairs(call('ZRANGEBYSCORE', P .. 'beats', '-inf', format('(%.0f', now - forgotten), 'LIMIT', 0, 100)) do
    call('HDEL', P .. 'workers', silent)
    call('ZREM', P .. 'beats', silent)
  end
end
finish()
