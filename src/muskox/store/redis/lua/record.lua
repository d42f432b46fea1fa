-- record.lua · add what was counted to the cells of now, and take a sample of the queues where it is time for one
-- ASKED  per cell: queue, name, its figures; per sample: queue, its sums, its peaks, how many jobs were ever added; then
--        per size of cells: seconds, and for how many they are kept; last the µs between two samples
-- RETURNS  whether the samples were taken
--
-- A cell is { sums, peaks }, two tables of figures by name, of which the first are added up and of the others the
-- highest is kept. Cells of a moment are one hash, which goes by its time to live.

begin()
local cells, samples, sizes, apart = unpack(ASKED)

local function add(queue, name, sums, peaks)
  local field = queue .. ':' .. name
  for _, size in ipairs(sizes) do
    local at = floor(now / 1000000 / size[1]) * size[1]
    local key = P .. 'history:' .. format('%d:%.0f', size[1], at)
    local kept = call('HGET', key, field)
    local cell = kept and unpack_text(kept) or { {}, {} }
    for which, value in pairs(sums) do cell[1][which] = (cell[1][which] or 0) + value end
    for which, value in pairs(peaks) do cell[2][which] = math.max(cell[2][which] or 0, value) end
    call('HSET', key, field, pack(cell))
    if not kept then call('EXPIRE', key, size[2] + size[1]) end
  end
end

local taken = 0
for _, cell in ipairs(cells) do add(cell[1], cell[2], cell[3], {}) end
if samples[1] then
  local sampled = P .. 'sampled'
  local passed = now - tonumber(call('HGET', sampled, '') or 0)
  -- A clock that was set back far must not keep samples away for as long.
  if passed >= apart or passed < -60000000 then
    for _, sample in ipairs(samples) do
      local queue, sums, ever = sample[1], sample[2], sample[4]
      sums.added = math.max(0, ever - tonumber(call('HGET', sampled, queue) or 0))
      add(queue, '', sums, sample[3])
      call('HSET', sampled, queue, format('%.0f', ever))
    end
    call('HSET', sampled, '', format('%.0f', now))
    taken = 1
  end
end
finish()
return taken
