-- records.lua · how records are read and made anew; part of every step that moves jobs

local function number_of(stamp7)
  return struct.unpack('>I7', stamp7)
end

-- The parts of a record: state, stamp, head as text, result, data.
local function open_record(v)
  local a, b, c, d, e, f, g = byte(v, 9, 15)
  local head = 15 + a * 65536 + b * 256 + c
  local result = head + ((d * 256 + e) * 256 + f) * 256 + g
  return sub(v, 1, 1), sub(v, 2, 8), sub(v, 16, head), sub(v, head + 1, result), sub(v, result + 1)
end

-- The key in a head that begins at a place of a text ('': none), and where the rest of the head begins.
local function key_in(text, at)
  local mark, a, b = byte(text, at, at + 2)
  if mark ~= 193 then return '', at end
  local from = at + 3 + a * 256 + b
  return sub(text, at + 3, from - 1), from
end

local function read_head(text)
  local key, from = key_in(text, 1)
  local head = unpack_text(sub(text, from))
  for i = #head + 1, #EMPTY do head[i] = EMPTY[i] end
  head[KEY] = key
  return head
end

-- The lengths at the beginning of a record with a key of so many bytes, mark and length included, before a head of so many
-- and no result; kept in `known`, since most keys of a step are as long as others.
local function lengths_with(known, key, head)
  local text = known[key]
  if not text then
    text = struct_pack('>I3I4', key + head, 0)
    known[key] = text
  end
  return text
end

local function seal(state, stamp7, head, result, data)
  return state .. stamp7 .. middle(write_head(head), result) .. data
end

local function tell_one(queue, kind, id, head, extra)
  tell(queue, kind, { id }, head[NAME], head[ATTEMPT], extra and { extra } or nil)
end
