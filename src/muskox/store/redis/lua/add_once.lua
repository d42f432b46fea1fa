-- add_once.lua · store new jobs of which some have a dedup key; all of them, but for those whose key another job has
-- needs  records
-- needs  lines
-- needs  buckets
-- needs  keyed
-- needs  ties
-- needs  adding
-- needs  adding_tied
-- needs  dedup
-- ASKED  groups as add.lua has them, those with a key of one job each, and per group its rule (see dedup.lua) or false
-- RETURNS  now; the number (from 1) of a job that was to be refused, 0 when there is none, and the id of the one that
--          has its key; the numbers of those that are blocked; then number, id ("" for its own) and record ("" when it is
--          gone) of each job that was not stored

begin()
local groups, rules = ASKED[1], ASKED[2]

local function refused()
  local number = 0
  for place, group in ipairs(groups) do
    number = number + #group[8]
    local rule = rules[place]
    if rule and rule[4] == 'reject' and call('HEXISTS', P .. 'jobs:' .. group[1], group[8][1]) == 0 then
      local its = holder_of(group[1], rule[1])
      if its then return { now, number, its.id, {}, {} } end
    end
  end
end

local said = refused()
if said then return said end

local others, held, number = {}, {}, 0
for place, group in ipairs(groups) do
  if rules[place] then
    local id, v = add_once(group, rules[place], number, held)
    number = number + 1
    if id then
      others[#others + 1], others[#others + 2], others[#others + 3] = number, id, v
    end
  else
    local known = {}
    number = add_group(group, number, known, held)
    for i = 1, #known, 2 do
      others[#others + 1], others[#others + 2], others[#others + 3] = known[i], '', known[i + 1]
    end
  end
end
finish()
return { now, 0, '', held, others }
