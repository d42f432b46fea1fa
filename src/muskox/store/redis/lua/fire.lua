-- fire.lua · use up due moments: each moves its schedule on, adds its jobs and tells the ledger, or does nothing
-- needs  records
-- needs  lines
-- needs  buckets
-- needs  rings
-- needs  keyed
-- needs  ties
-- needs  adding
-- needs  adding_tied
-- needs  dedup
-- needs  scheduled
-- ASKED  kinds of jobs: queue, name, priority, delay in µs (-1: none), attempts, max_stalls, options, "", "", ties or
--        false, its rule where it has a dedup key (see dedup.lua) or false;
--        per firing: name, version, next moment, last moment ("": as it is), jobs (number of its kind, id and data in
--        turn), entries (moment, what is told, id of the job or "", reason, missed);
--        how many entries a ledger keeps, and by overlap the reason of a skipped moment
-- RETURNS  per firing how many jobs it added, -1 where the version is another

begin()
local kinds, firings, MOST, WHY = unpack(ASKED)
local STOPPING = {
  skip = { W = true, D = true, B = true, A = true },
  queue = { W = true, D = true, B = true },
}
local chosen, added = {}, {}

-- The form in which a job's id is kept: of a UUID its bytes; see ids.py.
local function short(id)
  local digits = string.gsub(id, '-', '')
  if #id ~= 36 or #digits ~= 32 or sub(id, 9, 9) .. sub(id, 14, 14) .. sub(id, 19, 19) .. sub(id, 24, 24) ~= '----'
    or string.find(digits, '[^0-9a-f]') then
    return id
  end
  return '\255' .. string.gsub(digits, '..', function(two) return string.char(tonumber(two, 16)) end)
end

local function state_of(queue, id)
  local v = call('HGET', P .. 'jobs:' .. queue, short(id))
  return v and sub(v, 1, 1)
end

-- Choose what is added of the jobs of a firing; gives the ids of those that are skipped.
local function choose(owner, its, jobs)
  local stopping, skipped = STOPPING[its[S_OVERLAP]], {}
  local stopped = stopping and its[S_LAST_JOB] ~= '' and stopping[state_of(its[S_QUEUE], its[S_LAST_JOB])]
  for i = 1, #jobs, 3 do
    local kind, id = jobs[i], jobs[i + 1]
    local known = stopping and state_of(kinds[kind][1], id)
    if stopped and not known then
      skipped[id] = true
    else
      stopped = stopping and (not known or stopping[known])
      its[S_LAST_JOB] = id
      local these = chosen[kind]
      if not these then
        these = { ids = {}, data = {}, owners = {} }
        chosen[kind] = these
      end
      local place = #these.ids + 1
      these.ids[place], these.data[place], these.owners[place] = short(id), jobs[i + 2], owner
    end
  end
  return skipped
end

local function tell_moments(name, entries, skipped, reason)
  local ledger, texts = P .. 'ledger:' .. name, {}
  for i = math.max(1, #entries - MOST + 1), #entries do
    local moment, told, id, why, missed = unpack(entries[i])
    if skipped[id] then told, id, why = 'skipped', '', reason end
    texts[#texts + 1] = pack({ now, moment, told, id, why, missed })
  end
  if #texts > 0 and call('RPUSH', ledger, unpack(texts)) > MOST then call('LTRIM', ledger, -MOST, -1) end
end

local names, changed = {}, {}
for i, firing in ipairs(firings) do names[i] = firing[1] end
local found = read_schedules(names)
for owner, firing in ipairs(firings) do
  local name, version, next_moment, last_moment, jobs, entries = unpack(firing)
  local its = found[name]
  if its and its[S_VERSION] == version then
    added[owner] = 0
    tell_moments(name, entries, choose(owner, its, jobs), WHY[its[S_OVERLAP]])
    its[S_VERSION], its[S_NEXT] = take_stamps(1), next_moment
    if last_moment ~= '' then its[S_LAST] = last_moment end
    changed[#changed + 1] = name
    changed[#changed + 1] = its
  else
    added[owner] = -1
  end
end
keep_schedules(changed)

for kind, group in ipairs(kinds) do
  if chosen[kind] then
    local known, is_known = {}, {}
    local rule, ties, its = group[11], group[10], chosen[kind]
    if rule then
      group[10] = ties and { ties } or false
      for number, id in ipairs(its.ids) do
        group[8], group[9] = { id }, { its.data[number] }
        if add_once(group, rule, 0, {}) then known[#known + 1], known[#known + 2] = number, '' end
      end
    elseif ties then
      group[8], group[9], group[10] = its.ids, its.data, {}
      for i = 1, #its.ids do group[10][i] = ties end
      add_tied(group, 0, known, {})
    else
      group[8], group[9] = its.ids, its.data
      add_alike(group, 0, known)
    end
    for i = 1, #known, 2 do is_known[known[i]] = true end
    for number, owner in ipairs(chosen[kind].owners) do
      if not is_known[number] then added[owner] = added[owner] + 1 end
    end
  end
end

finish()
return added
