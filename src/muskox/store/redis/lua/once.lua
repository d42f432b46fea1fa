-- once.lua · adding jobs of which some have a dedup key; part of the steps that do

local groups, rules = ASKED[1], ASKED[2]

-- The answer when one of the jobs was to be refused because of its key.
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

local function add_all()
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
  return { now, 0, '', held, others }
end
