-- limit.lua · put what holds for a queue
-- needs  records
-- needs  buckets
-- needs  rings
-- needs  keyed
-- ASKED  queue, whether it is only said by code, limits as text, then 0 for no limit: interval and size of its bucket,
--        concurrency; and of keys interval, size, concurrency
-- RETURNS  1 when that changed anything
-- May run without memory to spare.

begin()
local queue, declared, text = ASKED[1], ASKED[2], ASKED[3]
local its = read_limits(queue)
local said = its.text
if declared then said = its.declared == '' and '{}' or its.declared end
if text == said then
  -- Of a queue that never had any limits nothing is kept.
  if declared and its.declared == '' and call('HEXISTS', LIMITS, queue) == 1 then
    local rule = unpack_text(call('HGET', LIMITS, queue))
    rule[2] = text
    call('HSET', LIMITS, queue, pack(rule))
  end
  return 0
end

local changed = text ~= its.text and 1 or 0
if declared then its.declared = text end
know_queue(queue)
if text == '{}' and (its.declared == '' or its.declared == '{}') then
  call('HDEL', LIMITS, queue)
else
  call('HSET', LIMITS, queue, pack({
    text, its.declared, ASKED[4], ASKED[5], ASKED[6], ASKED[7], ASKED[8], ASKED[9],
  }))
end
call('HSET', META, 'limited', 1)
limited = true
if its.interval == 0 and ASKED[4] > 0 and its.empty > 0 then
  its.empty = 0
  keep_bucket(queue, its)
end
if ASKED[6] == 0 then
  call('HDEL', LIMITS, queue .. ':active')
elseif its.concurrency == 0 then
  call('HSET', LIMITS, queue .. ':active', active_of(queue))
end
if changed == 1 then
  if call('EXISTS', P .. 'keys:' .. queue) == 1 then call('HSET', LIMITS, queue .. ':walk', 0) end
  -- Nobody may have asked for a hint while a limit held all.
  call('HSET', IDLE, queue, 1)
  woken[queue] = true
end
finish()
return changed
